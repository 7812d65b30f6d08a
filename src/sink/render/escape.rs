//! Strings of JSON, looked at sixteen bytes at a time.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;
/// base64 is written in pieces of so many bytes, a multiple of 3.
const PIECE_BYTES: usize = 48;

/// A top bit for each of eight bytes that needs an escape: below a space, `"`, `\`. The lowest that is set is right;
/// others may be set by what is borrowed from them.
fn special(word: u64) -> u64 {
    let below = |word: u64, end: u64| word.wrapping_sub(ONES * end);
    let is_quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let is_backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    (below(word, 0x20) | is_quote | is_backslash) & !word & TOPS
}

/// The first byte from `from` on that needs an escape.
fn next_special(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let word = |eight: &[u8]| {
        eight
            .first_chunk()
            .map_or(0, |eight| u64::from_le_bytes(*eight))
    };
    let first = |found: u64| found.trailing_zeros() as usize / 8;
    let mut at = from;
    let sixteens = rest.chunks_exact(16);
    let mut left = sixteens.remainder();
    for sixteen in sixteens {
        let (low, high) = sixteen.split_at(8);
        let (low, high) = (special(word(low)), special(word(high)));
        if low | high != 0 {
            return Some(
                at + if low != 0 {
                    first(low)
                } else {
                    8 + first(high)
                },
            );
        }
        at += 16;
    }
    if let Some((eight, rest)) = left.split_at_checked(8) {
        let found = special(word(eight));
        if found != 0 {
            return Some(at + first(found));
        }
        (at, left) = (at + 8, rest);
    }
    let is_special = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
    left.iter().position(is_special).map(|found| at + found)
}

/// Appends `text` between quotes, with escapes (RFC 8259, 7).
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    inner(text.as_bytes(), out);
    out.push(b'"');
}

fn inner(bytes: &[u8], out: &mut Vec<u8>) {
    let mut plain = 0;
    while let Some(at) = next_special(bytes, plain) {
        out.extend_from_slice(&bytes[plain..at]);
        escape(bytes[at], out);
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Appends `bytes` as base64 between quotes.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for piece in bytes.chunks(PIECE_BYTES) {
        let mut text = [0; PIECE_BYTES / 3 * 4];
        let len = STANDARD.encode_slice(piece, &mut text).unwrap_or_default();
        out.extend_from_slice(&text[..len]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_come_back(text in "[ -~\\n\\t\\x00-\\x1fäß€😀\\x7f]{0,60}") {
            let mut out = Vec::new();
            string(&text, &mut out);
            let back: String = serde_json::from_slice(&out).expect("a string");
            prop_assert_eq!(back, text);
        }
    }
}
