//! Numbered payloads: what lets an analyzer see loss, duplicates, order and delay.
//!
//! ```text
//!   web-1/0 1042 1795305132065000000 #.....................8f3c0a9be1d27745
//!   |       |    |                   ||                    |
//!   |       |    |                   ||                    checksum, if there is the mark
//!   |       |    |                   |filler up to the size asked for
//!   |       |    |                   mark of a checksum, or filler
//!   |       |    intended send time, nanoseconds since 1970
//!   |       number on this connection, from 1
//!   emitter id / connection: the stream
//! ```
//!
//! The checksum is FNV-1a with 64 bits, in 16 hex digits, of the severity and all bytes before it. It finds a
//! payload that was changed, cut, or swapped with another's; it is no protection against forgery.

const FILLER: u8 = b'.';
/// Behind the last number: the payload ends with a checksum.
const CHECKSUM_MARK: u8 = b'#';
/// Hex digits of a checksum.
const CHECKSUM_BYTES: usize = 16;
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
    /// The payload ends with a checksum: see [`is_sound`].
    pub has_checksum: bool,
}

/// The smallest payload that carries any number of `stream`.
pub fn bytes_min(stream: &[u8]) -> usize {
    stream.len() + 2 * (1 + NUMBER_BYTES_MAX) + 1
}

/// The smallest one that carries a checksum as well.
pub fn bytes_min_checked(stream: &[u8]) -> usize {
    bytes_min(stream) + 1 + CHECKSUM_BYTES
}

/// Fills `payload` completely, filler included.
pub fn fill(payload: &mut [u8]) {
    payload.fill(FILLER);
}

/// Writes a number over the start of a filled `payload`, which may carry an earlier one.
///
/// With [`Numbered::has_checksum`], [`seal`] must follow.
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
    if numbered.has_checksum {
        payload[at + 1] = CHECKSUM_MARK;
    }
}

/// Writes the checksum over the end of a payload whose number was encoded with a mark.
///
/// # Panics
/// If `payload` is smaller than [`bytes_min_checked`].
pub fn seal(severity: u8, payload: &mut [u8]) {
    let (body, end) = payload.split_at_mut(payload.len() - CHECKSUM_BYTES);
    end.copy_from_slice(&checksum(severity, body));
}

/// Is a payload with a mark what it was when it was sealed?
pub fn is_sound(severity: u8, payload: &[u8]) -> bool {
    match payload.split_last_chunk::<CHECKSUM_BYTES>() {
        Some((body, end)) => checksum(severity, body) == *end,
        None => false,
    }
}

fn checksum(severity: u8, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = fnv(fnv(FNV_BASIS, &[severity]), body);
    std::array::from_fn(|at| {
        let digit = hash >> (60 - 4 * at) & 0xf;
        b"0123456789abcdef"[digit as usize] // below 16
    })
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
    let (due_unix_ns, rest) = take_number(rest)?;
    Some(Numbered {
        stream,
        sequence,
        due_unix_ns,
        has_checksum: rest.first() == Some(&CHECKSUM_MARK),
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
    fnv(FNV_BASIS, stream)
}

const FNV_BASIS: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a with 64 bits, from `hash` on.
#[inline]
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(hash, step)
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
            has_checksum: false,
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
            has_checksum: false,
        };
        encode(&mut payload, long);
        assert_eq!(parse(&payload), Some(long));
        let short = Numbered {
            stream,
            sequence: 1,
            due_unix_ns: 2,
            has_checksum: false,
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
    fn a_checksum_finds_each_changed_byte_and_another_severity() {
        let stream = b"e/0";
        let mut payload = vec![0; bytes_min_checked(stream) + 9];
        fill(&mut payload);
        let numbered = Numbered {
            stream,
            sequence: 7,
            due_unix_ns: 9,
            has_checksum: true,
        };
        encode(&mut payload, numbered);
        seal(3, &mut payload);
        assert_eq!(parse(&payload), Some(numbered));
        assert!(is_sound(3, &payload));
        assert!(!is_sound(2, &payload));
        assert!(!is_sound(3, &payload[..payload.len() - 1]), "cut");
        for at in 0..payload.len() {
            payload[at] ^= 1;
            assert!(!is_sound(3, &payload), "byte {at}");
            payload[at] ^= 1;
        }
        // In the next message of the same buffer a shorter number leaves filler, a longer one no mark.
        encode(
            &mut payload,
            Numbered {
                sequence: u64::MAX,
                due_unix_ns: u64::MAX,
                ..numbered
            },
        );
        seal(3, &mut payload);
        assert!(is_sound(3, &payload));
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
            let numbered = Numbered { stream: &stream, sequence, due_unix_ns, has_checksum: false };
            encode(&mut payload, numbered);
            prop_assert_eq!(parse(&payload), Some(numbered));
        }

        #[test]
        fn any_bytes_are_safe(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&payload);
        }
    }
}
