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

/// Bytes of a vector that every x86-64 and AArch64 has.
const VECTOR: usize = 16;

/// It is UTF-8. Most messages are ASCII, and to see that is a third of the work: the folds become vector instructions as
/// they stand.
#[inline]
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok()
}

#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let fold = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte);
    let (vectors, rest) = bytes.as_chunks::<VECTOR>();
    // What is behind the vectors is the end of the last one.
    let Some(mut all) = bytes.last_chunk::<VECTOR>().copied() else {
        return fold(rest) < 0x80;
    };
    for vector in vectors {
        for (all, byte) in all.iter_mut().zip(vector) {
            *all |= byte;
        }
    }
    fold(&all) < 0x80
}

/// Number of a syslog PRI at the beginning of a message: facility times 8, and severity. At most 191.
#[inline]
pub fn pri_of(message: &[u8]) -> Option<u8> {
    // Each message is asked: three patterns are less than a loop.
    let digits = match *message {
        [b'<', ones, b'>', ..] => [b'0', b'0', ones],
        [b'<', tens, ones, b'>', ..] => [b'0', tens, ones],
        [b'<', hundreds, tens, ones, b'>', ..] => [hundreds, tens, ones],
        _ => return None,
    };
    let [hundreds, tens, ones] = digits.map(|digit| u16::from(digit.wrapping_sub(b'0')));
    let number = 100 * hundreds + 10 * tens + ones;
    let is_number = hundreds < 10 && tens < 10 && ones < 10 && number <= 191;
    is_number.then(|| number.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_is_seen_as_such() {
        for len in 0..80 {
            let mut text = vec![b'a'; len];
            assert!(is_text(&text) && is_ascii(&text), "{len}");
            for at in 0..len {
                text[at] = 0xff;
                assert!(!is_text(&text) && !is_ascii(&text), "{at} of {len}");
                text[at] = b'a';
            }
            text.extend_from_slice("\u{e9}".as_bytes());
            assert!(is_text(&text) && !is_ascii(&text), "{len}");
        }
    }

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
