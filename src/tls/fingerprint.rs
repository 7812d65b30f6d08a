//! SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` writes it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate's DER.
    pub fn of(der: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(der).into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, byte) in self.0.iter().enumerate() {
            let colon = if nth == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let allowed = || "allowed: 64 hexadecimal digits, colons between pairs or not".to_owned();
        let digits: String = text.chars().filter(|sign| *sign != ':').collect();
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(allowed());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| allowed())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| allowed())?;
        }
        Ok(Fingerprint(bytes))
    }
}
