//! Numbered payloads: what lets an analyzer see loss, duplicates, order and delay.
//!
//! ```text
//!   web-1/0 1042 1795305132065000000 ......................
//!   |       |    |                   |
//!   |       |    |                   filler up to the size asked for
//!   |       |    intended send time, nanoseconds since 1970
//!   |       number on this connection, from 1
//!   emitter id / connection: the stream
//! ```

const FILLER: u8 = b'.';
/// Digits of the largest u64.
const NUMBER_BYTES_MAX: usize = 20;
/// Longest stream name; an id leaves room for the connection number.
const STREAM_BYTES_MAX: usize = 255;
/// Longest emitter id.
pub const ID_BYTES_MAX: usize = 200;

/// What a numbered payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered<'a> {
    /// `<emitter-id>/<connection>`.
    pub stream: &'a [u8],
    /// Number on that connection, from 1.
    pub sequence: u64,
    /// When it was meant to be sent, nanoseconds since 1970.
    pub due_unix_ns: u64,
}

/// The smallest payload that carries any number of `stream`.
pub fn bytes_min(stream: &[u8]) -> usize {
    stream.len() + 2 * (1 + NUMBER_BYTES_MAX) + 1
}

/// Fills `payload` completely, filler included.
pub fn fill(payload: &mut [u8]) {
    payload.fill(FILLER);
}

/// Writes a number over the start of a filled `payload`, which may carry an earlier one.
///
/// # Panics
/// If `payload` is smaller than [`bytes_min`].
pub fn encode(payload: &mut [u8], numbered: Numbered<'_>) {
    let mut at = numbered.stream.len();
    let bytes_min = bytes_min(numbered.stream);
    payload[..at].copy_from_slice(numbered.stream);
    for number in [numbered.sequence, numbered.due_unix_ns] {
        payload[at] = b' ';
        at += 1 + put_number(&mut payload[at + 1..], number);
    }
    payload[at] = b' ';
    payload[at + 1..bytes_min].fill(FILLER);
}

/// Decimal digits of `number` at the start of `out`; how many.
fn put_number(out: &mut [u8], mut number: u64) -> usize {
    let mut digits = [0; NUMBER_BYTES_MAX];
    let mut first = NUMBER_BYTES_MAX;
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let used = &digits[first..];
    out[..used.len()].copy_from_slice(used);
    used.len()
}

/// The number in `payload`, if it has one.
#[inline]
pub fn parse(payload: &[u8]) -> Option<Numbered<'_>> {
    let head = &payload[..payload.len().min(STREAM_BYTES_MAX + 1)];
    let end = head.iter().position(|&b| b == b' ')?;
    let stream = &payload[..end];
    if !stream.contains(&b'/') {
        return None;
    }
    let (sequence, rest) = take_number(&payload[end + 1..])?;
    let (due_unix_ns, _) = take_number(rest)?;
    Some(Numbered {
        stream,
        sequence,
        due_unix_ns,
    })
}

/// A number and what follows the space behind it.
#[inline]
fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (at, &byte) in bytes.iter().take(NUMBER_BYTES_MAX + 1).enumerate() {
        match byte {
            b'0'..=b'9' => {
                number = number
                    .checked_mul(10)?
                    .checked_add(u64::from(byte - b'0'))?;
            }
            b' ' if at > 0 => return Some((number, &bytes[at + 1..])),
            _ => return None,
        }
    }
    None
}

/// FNV-1a of a stream name: the stream's key in tables and record files.
#[inline]
pub fn stream_hash(stream: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    stream.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn looks_as_documented() {
        let mut payload = vec![0; 64];
        fill(&mut payload);
        let numbered = Numbered {
            stream: b"web-1/0",
            sequence: 1042,
            due_unix_ns: 1_795_305,
        };
        encode(&mut payload, numbered);
        assert!(payload.starts_with(b"web-1/0 1042 1795305 ......."));
        assert_eq!(parse(&payload), Some(numbered));
    }

    #[test]
    fn a_shorter_number_leaves_nothing_of_a_longer_one() {
        let stream = b"e/0";
        let mut payload = vec![0; bytes_min(stream)];
        fill(&mut payload);
        let long = Numbered {
            stream,
            sequence: u64::MAX,
            due_unix_ns: u64::MAX,
        };
        encode(&mut payload, long);
        assert_eq!(parse(&payload), Some(long));
        let short = Numbered {
            stream,
            sequence: 1,
            due_unix_ns: 2,
        };
        encode(&mut payload, short);
        assert_eq!(parse(&payload), Some(short));
        assert!(payload[8..].iter().all(|&b| b == FILLER), "{payload:?}");
    }

    #[test]
    fn other_payloads_are_not_numbered() {
        for payload in [
            "",
            "hello",
            "a b c d",
            "a/0 x 1 ",
            "a/0 1 2",
            "a/0 1  2 ",
            "a/0 ",
        ] {
            assert_eq!(parse(payload.as_bytes()), None, "{payload:?}");
        }
        assert_eq!(parse(b"a/0 18446744073709551616 1 "), None, "above u64");
    }

    #[test]
    fn hash_is_fnv_1a() {
        assert_eq!(stream_hash(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(stream_hash(b"foobar"), 0x8594_4171_F739_67E8);
    }

    proptest! {
        #[test]
        fn round_trips(sequence: u64, due_unix_ns: u64, connection in 0u32..10_000, spare in 0usize..9) {
            let stream = format!("emitter/{connection}").into_bytes();
            let mut payload = vec![0; bytes_min(&stream) + spare];
            fill(&mut payload);
            let numbered = Numbered { stream: &stream, sequence, due_unix_ns };
            encode(&mut payload, numbered);
            prop_assert_eq!(parse(&payload), Some(numbered));
        }

        #[test]
        fn any_bytes_are_safe(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&payload);
        }
    }
}
