//! Any form of a message as what an analyzer takes.
//!
//! ```text
//!                 Fluent record (fluent.rs)   JSON object (json.rs)   syslog (text.rs)
//!   JSON object   its pairs                   as it came              its text behind a header
//!   other text    {"message": text, "severity": n}, and "facility"    as it came, or behind a header
//!                 where it begins with a PRI
//! ```

pub(crate) mod fluent;
pub(crate) mod json;
pub(crate) mod text;

/// Number of a syslog PRI at the beginning of a message: facility times 8, and severity. At most 191.
pub fn pri_of(message: &[u8]) -> Option<u8> {
    let rest = message.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let digits = &rest[..end];
    if !(1..=3).contains(&end) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0u16, |number, digit| number * 10 + u16::from(digit - b'0'));
    u8::try_from(number).ok().filter(|number| *number <= 191)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pri_is_one() {
        for (text, pri) in [
            ("<0>x", Some(0)),
            ("<13>1 -", Some(13)),
            ("<191>", Some(191)),
            ("<192>", None),
            ("<>", None),
            ("<1234>", None),
            ("<12", None),
            ("<1a>", None),
            ("<#>", None),
            ("13>", None),
            ("", None),
        ] {
            assert_eq!(pri_of(text.as_bytes()), pri, "{text}");
        }
    }
}
