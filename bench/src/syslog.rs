//! Syslog streams (RFC 6587) for peers that speak no frames, and the stamp as text for streams that
//! may hold no arbitrary bytes.
//!
//! ```text
//! line      <14>1 2026-01-01T00:00:00Z bench weir - - - ~weir:<intended, 16 hex><sequence, 16 hex> filler LF
//! counted   <length of what follows in decimal> SP <14>1 ... filler
//! ```

use crate::wire::{Stamp, StreamError, MESSAGE_LEN_MAX};

/// Header of every message (RFC 5424): user.info, no structured data.
pub const HEADER: &[u8] = b"<14>1 2026-01-01T00:00:00Z bench weir - - - ";
const MARK: &[u8] = b"~weir:";
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
    let at = memchr::memmem::find(near, MARK)? + MARK.len();
    let digits = message.get(at..at + 32)?;
    Some(Stamp {
        intended_ns: unhex(&digits[..16])?,
        sequence: unhex(&digits[16..])?,
    })
}

fn hex(n: u64) -> [u8; 16] {
    let mut out = [0; 16];
    for (i, digit) in out.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(n >> (60 - 4 * i)) as usize & 15];
    }
    out
}

fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |n, digit| {
        Some(n << 4 | u64::from((*digit as char).to_digit(16)?))
    })
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
