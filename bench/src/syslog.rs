//! Syslog streams (RFC 6587) for peers that speak no frames, and the stamp as text for streams that
//! may hold no arbitrary bytes.
//!
//! ```text
//! line      <14>1 2026-01-01T00:00:00Z bench weir - - - ~weir:<intended, 16 hex><sequence, 16 hex> filler LF
//! counted   <length of what follows in decimal> SP <14>1 ... filler
//! ```

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::wire::{Stamp, StreamError, MESSAGE_LEN_MAX};

/// Header of every message (RFC 5424): user.info, no structured data.
pub const HEADER: &[u8] = b"<14>1 2026-01-01T00:00:00Z bench weir - - - ";
const MARK: &[u8] = b"~weir:";
static MARK_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
/// Mark and two numbers of 16 hexadecimal digits.
pub const TEXT_STAMP_LEN: usize = MARK.len() + 32;
/// Smallest line: header, stamp, LF.
pub const LINE_LEN_MIN: usize = HEADER.len() + TEXT_STAMP_LEN + 1;
/// Whatever a peer puts in front of the message, the stamp begins within so many bytes.
const SEARCHED: usize = 512;

/// The stamp in text, to be overwritten by [`write_text_stamp`].
pub fn put_text_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    out.extend_from_slice(MARK);
    out.extend_from_slice(&hex(stamp.intended_ns));
    out.extend_from_slice(&hex(stamp.sequence));
}

/// Overwrites the stamp that begins at the start of `at`.
pub fn write_text_stamp(at: &mut [u8], stamp: Stamp) {
    at[MARK.len()..MARK.len() + 16].copy_from_slice(&hex(stamp.intended_ns));
    at[MARK.len() + 16..TEXT_STAMP_LEN].copy_from_slice(&hex(stamp.sequence));
}

/// `None` when there is no stamp near the start: somebody else's message, or a cut one.
pub fn read_text_stamp(message: &[u8]) -> Option<Stamp> {
    let near = &message[..message.len().min(SEARCHED)];
    let at = MARK_FINDER.find(near)? + MARK.len();
    let digits = message.get(at..at + 32)?;
    Some(Stamp {
        intended_ns: unhex(&digits[..16])?,
        sequence: unhex(&digits[16..])?,
    })
}

/// Stamps are written and read once a message, and a load that costs more than the system under test measures itself:
/// eight digits at a time.
fn hex(n: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&hex_of_half((n >> 32) as u32));
    out[8..].copy_from_slice(&hex_of_half(n as u32)); // the lower half
    out
}

const ONES: u64 = 0x0101_0101_0101_0101;

fn hex_of_half(n: u32) -> [u8; 8] {
    let mut x = u64::from(n);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = ((x + 6 * ONES) >> 4) & ONES;
    (x + u64::from(b'0') * ONES + is_letter * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

fn unhex(digits: &[u8]) -> Option<u64> {
    let (high, low) = (digits.first_chunk()?, digits.last_chunk()?);
    Some(u64::from(unhex_half(*high)?) << 32 | u64::from(unhex_half(*low)?))
}

/// `None`: they are no lower-case digits.
fn unhex_half(digits: [u8; 8]) -> Option<u32> {
    let x = u64::from_be_bytes(digits);
    let mut n = (x & (0x0f * ONES)) + 9 * ((x >> 6) & ONES);
    n = (n | n >> 4) & 0x00ff_00ff_00ff_00ff;
    n = (n | n >> 8) & 0x0000_ffff_0000_ffff;
    let n = (n | n >> 16) as u32; // what is above was moved down
    (hex_of_half(n) == digits).then_some(n)
}

/// Length of the message at the start of a stream, and of its text within: a digit begins a counted
/// message, anything else ends with LF. `None` while part of it is still to come.
pub fn next_message(bytes: &[u8]) -> Result<Option<(usize, std::ops::Range<usize>)>, StreamError> {
    if !bytes.first().is_some_and(u8::is_ascii_digit) {
        return match memchr::memchr(b'\n', bytes) {
            Some(end) => Ok(Some((end + 1, 0..end))),
            None if bytes.len() > MESSAGE_LEN_MAX => Err(StreamError::SyslogLength),
            None => Ok(None),
        };
    }
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let count = std::str::from_utf8(&bytes[..digits])
        .ok()
        .and_then(|t| t.parse().ok());
    match (count, bytes.get(digits)) {
        (Some(n), Some(b' ')) if n <= MESSAGE_LEN_MAX => {
            let end = digits + 1 + n;
            Ok((bytes.len() >= end).then_some((end, digits + 1..end)))
        }
        (Some(n), None) if digits < 8 => {
            let _: usize = n;
            Ok(None)
        }
        _ => Err(StreamError::SyslogLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        intended_ns: 0x0123_4567_89ab_cdef,
        sequence: u64::MAX,
    };

    #[test]
    fn digits_are_those_of_the_library() {
        let mut n = 1_u64;
        for _ in 0..10_000 {
            n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ 1;
            let text = format!("{n:016x}");
            assert_eq!(hex(n), text.as_bytes());
            assert_eq!(unhex(text.as_bytes()), Some(n));
        }
        for at in 0..16 {
            for odd in 0..=255_u8 {
                let mut text = *b"0123456789abcdef";
                text[at] = odd;
                let is_digit = odd.is_ascii_digit() || (b'a'..=b'f').contains(&odd);
                assert_eq!(unhex(&text).is_some(), is_digit, "{odd:x} at {at}");
            }
        }
    }

    #[test]
    fn a_text_stamp_comes_back_behind_any_header() {
        let mut line = HEADER.to_vec();
        put_text_stamp(
            &mut line,
            Stamp {
                intended_ns: 0,
                sequence: 0,
            },
        );
        write_text_stamp(&mut line[HEADER.len()..], STAMP);
        line.extend_from_slice(b" and more");
        assert_eq!(read_text_stamp(&line), Some(STAMP));
        assert_eq!(read_text_stamp(&line[..line.len() - 10]), None, "cut");
        assert_eq!(read_text_stamp(b"<14>hello"), None);
    }

    #[test]
    fn lines_and_counted_messages_are_told_apart_at_any_cut() {
        let stream = b"<14>one\n11 <14>two\nhalf<14>three\n";
        let expected: [&[u8]; 3] = [b"<14>one", b"<14>two\nhal", b"f<14>three"];
        for cut in 0..stream.len() {
            let (mut held, mut got) = (Vec::new(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                held.extend_from_slice(part);
                while let Some((len, text)) = next_message(&held).expect("valid") {
                    got.push(held[text].to_vec());
                    held.drain(..len);
                }
            }
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_bad_count_is_an_error() {
        for bad in [&b"12x<14>"[..], b"99999999 <14>", b"123456789"] {
            assert_eq!(next_message(bad), Err(StreamError::SyslogLength));
        }
    }
}
