//! The admin token: compared in constant time, never shown.

use std::fmt;

use sha2::{Digest, Sha256};

/// Shorter ones can be guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// What `Authorization: Bearer ...` must carry.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// From the text of a file; white space around it does not count.
    ///
    /// # Errors
    /// It is too short, or has characters that no header carries.
    pub fn new(text: &str) -> Result<Token, String> {
        let text = text.trim();
        if text.len() < TOKEN_BYTES_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "admin token of {} bytes: allowed: {TOKEN_BYTES_MIN} printable ASCII characters or more, without spaces (openssl rand -hex 32)",
                text.len()
            ));
        }
        Ok(Token(digest(text)))
    }

    /// Whether a request carries it. Digests are compared, all of each, so that the time tells nothing
    /// of the token.
    pub fn is_carried_by(&self, authorization: Option<&str>) -> bool {
        let given = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let given = digest(given.unwrap_or_default());
        let differences = self
            .0
            .iter()
            .zip(given)
            .fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differences) == 0
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let token = Token::new(" 0123456789abcdef\n").expect("long enough");
        assert!(token.is_carried_by(Some("Bearer 0123456789abcdef")));
        assert!(token.is_carried_by(Some("bearer  0123456789abcdef")));
        for bad in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer ",
            "Bearer",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "",
        ] {
            assert!(!token.is_carried_by(Some(bad)), "{bad}");
        }
        assert!(!token.is_carried_by(None));
        assert_eq!(format!("{token:?}"), "Token(..)");
        for bad in ["", "short", "0123456789 abcdef"] {
            assert!(Token::new(bad).is_err(), "{bad}");
        }
    }
}
