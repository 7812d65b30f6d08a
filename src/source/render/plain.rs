//! What JSON strings hold as it is: looked for many bytes at a time.

/// Bytes that are looked at together: a vector of every x86-64 and AArch64.
const VECTOR: usize = 16;

/// ASCII with nothing to escape. All of it is looked at, and the verdict is read once: most strings are plain, and a
/// branch for each vector costs more than the few that end early save.
#[inline]
pub fn is_plain(bytes: &[u8]) -> bool {
    match bytes.last_chunk() {
        Some(last) => is_plain_long(bytes, last),
        None => is_plain_short(bytes),
    }
}

#[inline(never)]
fn is_plain_long(bytes: &[u8], last: &[u8; VECTOR]) -> bool {
    let (vectors, _) = bytes.as_chunks::<VECTOR>();
    // What is behind the vectors is the end of `last`. These loops become vector instructions as they stand.
    let odd = last.iter().fold(0, |odd, byte| odd | is_odd(*byte));
    let vectors = vectors.as_flattened().iter();
    vectors.fold(odd, |odd, byte| odd | is_odd(*byte)) == 0
}

/// A space and a quote change places by this bit. Then what is below [`ODD`] is below a space, a quote, or not ASCII, which
/// is negative.
const TURN: u8 = 0x02;
const ODD: i8 = 0x21;

#[inline(always)]
fn is_odd(byte: u8) -> u8 {
    u8::from((byte ^ TURN).cast_signed() < ODD) | u8::from(byte == b'\\')
}

/// Of less than a vector: as two words, which may overlap.
#[inline(always)]
fn is_plain_short(bytes: &[u8]) -> bool {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        return escapes_in(first) | escapes_in(last) | (first | last) & HIGH == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        let both = u64::from(first) | u64::from(last) << 32;
        return escapes_in(both) | both & HIGH == 0;
    }
    bytes.iter().all(|byte| is_odd(*byte) == 0)
}

/// Copies ASCII with nothing to escape to where it has just enough room. False: it is not all that, and what is there is
/// nothing.
#[inline(always)]
pub(super) fn copy_plain(text: &[u8], to: &mut [u8]) -> bool {
    if text.len() >= VECTOR {
        to.copy_from_slice(text);
        return is_plain(text);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        if let Some(to) = to.first_chunk_mut() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut() {
            *to = *last;
        }
    } else {
        for (to, byte) in to.iter_mut().zip(text) {
            *to = *byte;
        }
    }
    is_plain_short(text)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// The high bit of each byte that JSON wants escaped; bits above the lowest of them may be wrong.
#[inline(always)]
fn escapes_in(word: u64) -> u64 {
    let below = |word: u64, byte: u8| word.wrapping_sub(u64::from(byte) * ONES) & !word;
    let is_low = below(word ^ (u64::from(TURN) * ONES), ODD.cast_unsigned());
    let is_backslash = below(word ^ (u64::from(b'\\') * ONES), 1);
    (is_low | is_backslash) & HIGH
}

/// Bytes before the first one that JSON wants escaped.
#[inline]
fn plain_run(bytes: &[u8]) -> usize {
    let first = |found: u64| found.trailing_zeros() as usize / 8;
    let (vectors, rest) = bytes.as_chunks::<VECTOR>();
    for (at, vector) in vectors.iter().enumerate() {
        let (words, _) = vector.as_chunks::<8>();
        let [low, high] = [words[0], words[1]].map(|word| escapes_in(u64::from_le_bytes(word)));
        if low | high != 0 {
            let within = if low != 0 {
                first(low)
            } else {
                8 + first(high)
            };
            return VECTOR * at + within;
        }
    }
    let at = bytes.len() - rest.len();
    let (words, rest) = rest.as_chunks::<8>();
    if let [word] = words {
        let found = escapes_in(u64::from_le_bytes(*word));
        if found != 0 {
            return at + first(found);
        }
    }
    let is_escaped = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let found = rest.iter().position(is_escaped);
    found.map_or(bytes.len(), |at| bytes.len() - rest.len() + at)
}

/// Appends text between quotes, with what JSON wants escaped (RFC 8259, 7). False: that is no UTF-8, and nothing is
/// appended.
#[inline]
pub fn write_text(text: &[u8], out: &mut Vec<u8>) -> bool {
    if is_plain(text) {
        write_plain(text, out);
        return true;
    }
    write_unplain_text(text, out)
}

/// The same, of what [`is_plain`] has said not to be plain.
#[inline(never)]
pub fn write_unplain_text(text: &[u8], out: &mut Vec<u8>) -> bool {
    let is_text = simdutf8::basic::from_utf8(text).is_ok();
    if is_text {
        write_odd(text, out);
    }
    is_text
}

/// The same of what is UTF-8.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    match is_plain(text.as_bytes()) {
        true => write_plain(text.as_bytes(), out),
        false => write_odd(text.as_bytes(), out),
    }
}

/// Appends ASCII with nothing to escape between quotes.
#[inline]
pub(super) fn write_plain(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Appends UTF-8 between quotes.
pub(super) fn write_odd(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let (plain, odd) = rest.split_at(plain_run(rest));
        out.extend_from_slice(plain);
        let Some((odd, behind)) = odd.split_first() else {
            break;
        };
        write_escaped(*odd, out);
        rest = behind;
    }
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_come_back(text in "[ -~\\n\\t\\x00-\\x1fäß€😀\\x7f]{0,60}") {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            let back: String = serde_json::from_slice(&out).expect("a string");
            prop_assert_eq!(back, text);
        }
    }

    #[test]
    fn what_is_odd_is_found_at_every_place_of_every_length() {
        for len in 0..80 {
            let text = vec![b'x'; len];
            assert!(is_plain(&text) && plain_run(&text) == len);
            let mut copy = vec![0; len];
            assert!(copy_plain(&text, &mut copy) && copy == text);
            for at in 0..len {
                for odd in 0..=255 {
                    let mut text = text.clone();
                    text[at] = odd;
                    let is_escaped = odd < 0x20 || odd == b'"' || odd == b'\\';
                    let run = if is_escaped { at } else { len };
                    assert_eq!(plain_run(&text), run, "{odd:x} at {at} of {len}");
                    let plain = odd < 0x80 && !is_escaped;
                    assert_eq!(is_plain(&text), plain, "{odd:x} at {at} of {len}");
                    assert_eq!(
                        copy_plain(&text, &mut copy),
                        plain,
                        "{odd:x} at {at} of {len}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_first_of_several_counts() {
        for first in 0..24 {
            for second in first..24 {
                let mut text = vec![0xff; 24];
                (text[second], text[first]) = (b'!', b'"');
                assert_eq!(plain_run(&text), first, "and ! at {second}");
                text[second] = 0x1f;
                assert_eq!(plain_run(&text), first, "and 1f at {second}");
            }
        }
    }
}
