//! Who may change anything: the admin token, see [`Token`].

use super::response::Response;
use crate::core::Core;
use weir_config::Token;
use weir_http::Ask;
use weir_ledger::run_report::Stamp;

/// The client has the token.
pub fn may(core: &Core, ask: &Ask) -> bool {
    let token = core.token();
    token.is_some_and(|token| is_carried(&token, ask.header("authorization")))
}

/// It has not.
pub fn forbidden(ask: &Ask) -> Response {
    let text = "Authorization: the admin token is missing or wrong; allowed: Bearer and the text of --admin-token-file";
    Response::error(401, ask, Stamp::now(), text).with("WWW-Authenticate", "Bearer")
}

/// Whether a request carries the token, as `Authorization: Bearer ...`.
fn is_carried(token: &Token, authorization: Option<&str>) -> bool {
    let given = authorization.and_then(|value| {
        let (scheme, given) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
    });
    given.is_some_and(|given| token.accepts(given.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_as_a_bearer_is_taken() {
        let token = Token::from_file_text(b"0123456789abcdef\n").expect("valid");
        for taken in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef "] {
            assert!(is_carried(&token, Some(taken)), "{taken}");
        }
        for refused in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "",
        ] {
            assert!(!is_carried(&token, Some(refused)), "{refused:?}");
        }
        assert!(!is_carried(&token, None));
    }
}
