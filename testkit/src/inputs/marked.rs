//! Text messages that carry a number, wherever it ends up once the text was rendered.

const MARK: &[u8] = b"#weir:";
const DIGITS: usize = 12;

/// Bytes of the mark: the shortest text.
pub const TEXT_BYTES_MIN: usize = MARK.len() + DIGITS;

/// A text of so many bytes with the number `id`; at least [`TEXT_BYTES_MIN`].
pub fn text(id: u64, bytes: usize) -> String {
    let mut text = format!("#weir:{id:012}");
    assert!(bytes >= text.len(), "a mark has {} bytes", text.len());
    text.extend(std::iter::repeat_n('.', bytes - text.len()));
    text
}

/// The number in a message, whatever stands around its text.
pub fn find(message: &[u8]) -> Option<u64> {
    let at = message.windows(MARK.len()).position(|part| part == MARK)?;
    let digits = message.get(at + MARK.len()..)?.get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_a_rendered_message() {
        let around = format!("{{\"log\":\"{}\",\"tag\":\"t\"}}", text(77, 40));
        assert_eq!(find(around.as_bytes()), Some(77));
        assert_eq!(find(b"#weir:12"), None, "cut");
        assert_eq!(find(b"nothing"), None);
        assert_eq!(text(1, TEXT_BYTES_MIN).len(), TEXT_BYTES_MIN);
    }
}
