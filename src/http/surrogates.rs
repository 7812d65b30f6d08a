//! Surrogates that stand alone: a string was cut in the middle of a character, and its program wrote the half.
//!
//! ```text
//!   "\ud83d\ude00"     one character in two halves
//!   "cut \ud83d"       half of one: some readers take it, others refuse the whole packet
//!   "cut \ufffd"       what Unicode has for such a case
//! ```

/// Bytes of `\u` and its four digits.
const ESCAPE_BYTES: usize = 6;

/// A body with U+FFFD in place of each surrogate that stands alone, of the same length, and their number;
/// `None` if there is none.
pub fn without_lone_surrogates(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let is_surrogate = |at: usize| {
        matches!(
            body.get(at + 2..at + 4),
            Some([b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F'])
        )
    };
    if !memchr::memmem::find_iter(body, b"\\u").any(is_surrogate) {
        return None;
    }
    let (mut repaired, mut count) = (Vec::new(), 0);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &body[at..]) {
        at += found;
        match (unit(body, at), unit(body, at + ESCAPE_BYTES)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 2 * ESCAPE_BYTES,
            (Some(0xD800..=0xDFFF), _) => {
                if count == 0 {
                    repaired.extend_from_slice(body);
                }
                count += 1;
                repaired[at + 2..at + ESCAPE_BYTES].copy_from_slice(b"fffd");
                at += ESCAPE_BYTES;
            }
            // What is escaped may be a backslash.
            _ => at = (at + 2).min(body.len()),
        }
    }
    (count > 0).then_some((repaired, count))
}

/// The UTF-16 unit that is escaped at a place.
fn unit(body: &[u8], at: usize) -> Option<u32> {
    let digits = body.get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(text: &str) -> Option<String> {
        let (bytes, _) = without_lone_surrogates(text.as_bytes())?;
        Some(String::from_utf8(bytes).expect("UTF-8"))
    }

    #[test]
    fn halves_are_replaced_and_whole_characters_stay() {
        for (text, expected) in [
            (r"cut \ud83d", r"cut \ufffd"),
            (r"\uDE00\ud83d\ude00\uD800", r"\ufffd\ud83d\ude00\ufffd"),
            (r"\ud83d\ud83d\ude00", r"\ufffd\ud83d\ude00"),
            (r"\\ud800 \\\ud800", r"\\ud800 \\\ufffd"),
        ] {
            assert_eq!(repaired(text).as_deref(), Some(expected), "{text}");
        }
        for whole in [
            "",
            "plain",
            r"\u00e9 \ud83d\ude00 \n",
            r"\\ud800",
            r"\ud8",
            r"\ud83d\ude00\",
            r"\u",
        ] {
            assert_eq!(repaired(whole), None, "{whole}");
        }
    }
}
