//! MessagePack, as far as Fluent Forward needs it: heads of values, values that are skipped, values that are read.
//!
//! ```text
//! 82        a3 61 62 63   c3     a1 78   92 01 02        {"abc": true, "x": [1, 2]}
//! map of 2  str of 3 "abc" true  "x"     array of 2
//! ```
//!
//! [`Skip`] finds the end of a value that may not be whole yet. It counts the values that are owed and keeps no stack,
//! so no depth and no declared length can cost it anything. [`Head`] reads one head; what follows it is the caller's.
//! Specification: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use std::fmt;

/// Bytes that are no MessagePack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsgpackError {
    /// The one byte that begins no value.
    NeverUsed,
}

impl fmt::Display for MsgpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverUsed => f.write_str("0xc1 begins no MessagePack value"),
        }
    }
}

impl std::error::Error for MsgpackError {}

/// What a value begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// Nil.
    Nil,
    /// True or false.
    Bool(bool),
    /// An integer from 0 on.
    Uint(u64),
    /// One below 0, or one that is signed and may be.
    Int(i64),
    /// A float of either width.
    Float(f64),
    /// Text of so many bytes.
    Str(u32),
    /// So many bytes.
    Bin(u32),
    /// So many values.
    Array(u32),
    /// So many pairs of values.
    Map(u32),
    /// A type of its own, of so many bytes.
    Ext {
        /// Which.
        kind: i8,
        /// Bytes behind the head.
        bytes: u32,
    },
}

/// Bytes of the longest head.
pub const HEAD_BYTES_MAX: usize = 9;

impl Head {
    /// The head at the beginning of `bytes`, and its own bytes: those of a string or an element are not among them.
    /// `None`: it is not whole.
    ///
    /// # Errors
    /// No value begins so.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, MsgpackError> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let short = match *first {
            byte @ 0x00..=0x7f => Head::Uint(u64::from(byte)),
            byte @ 0x80..=0x8f => Head::Map(u32::from(byte & 0x0f)),
            byte @ 0x90..=0x9f => Head::Array(u32::from(byte & 0x0f)),
            byte @ 0xa0..=0xbf => Head::Str(u32::from(byte & 0x1f)),
            byte @ 0xe0..=0xff => Head::Int(i64::from(byte.cast_signed())),
            0xc0 => Head::Nil,
            0xc1 => return Err(MsgpackError::NeverUsed),
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            wide => return Ok(Head::read_wide(wide, rest)),
        };
        Ok(Some((short, 1)))
    }

    #[inline]
    fn read_wide(first: u8, rest: &[u8]) -> Option<(Head, usize)> {
        let byte = || rest.first().copied();
        let two = || rest.first_chunk().map(|two| u16::from_be_bytes(*two));
        let four = || rest.first_chunk().map(|four| u32::from_be_bytes(*four));
        let eight = || rest.first_chunk().map(|eight| u64::from_be_bytes(*eight));
        let ext = |at: usize, bytes: u32| {
            let kind = rest.get(at)?.cast_signed();
            Some((Head::Ext { kind, bytes }, at + 2))
        };
        let len = |bytes: usize| match bytes {
            1 => byte().map(u32::from),
            2 => two().map(u32::from),
            _ => four(),
        };
        match first {
            0xd9..=0xdb => {
                let bytes = 1 << (first - 0xd9);
                Some((Head::Str(len(bytes)?), 1 + bytes))
            }
            0xc4..=0xc6 => {
                let bytes = 1 << (first - 0xc4);
                Some((Head::Bin(len(bytes)?), 1 + bytes))
            }
            0xc7..=0xc9 => {
                let bytes = 1 << (first - 0xc7);
                ext(bytes, len(bytes)?)
            }
            0xca => Some((Head::Float(f64::from(f32::from_bits(four()?))), 5)),
            0xcb => Some((Head::Float(f64::from_bits(eight()?)), 9)),
            0xcc => Some((Head::Uint(u64::from(byte()?)), 2)),
            0xcd => Some((Head::Uint(u64::from(two()?)), 3)),
            0xce => Some((Head::Uint(u64::from(four()?)), 5)),
            0xcf => Some((Head::Uint(eight()?), 9)),
            0xd0 => Some((Head::Int(i64::from(byte()?.cast_signed())), 2)),
            0xd1 => Some((Head::Int(i64::from(two()?.cast_signed())), 3)),
            0xd2 => Some((Head::Int(i64::from(four()?.cast_signed())), 5)),
            0xd3 => Some((Head::Int(eight()?.cast_signed()), 9)),
            0xd4..=0xd8 => ext(0, 1 << (first - 0xd4)),
            0xdc => Some((Head::Array(u32::from(two()?)), 3)),
            0xdd => Some((Head::Array(four()?), 5)),
            0xde => Some((Head::Map(u32::from(two()?)), 3)),
            _ => Some((Head::Map(four()?), 5)),
        }
    }

    /// Bytes of its own that follow it.
    #[inline]
    pub fn body_bytes(self) -> usize {
        match self {
            Head::Str(bytes) | Head::Bin(bytes) | Head::Ext { bytes, .. } => bytes as usize,
            _ => 0,
        }
    }

    /// Values that follow it.
    #[inline]
    pub fn values(self) -> u64 {
        match self {
            Head::Array(values) => u64::from(values),
            Head::Map(pairs) => 2 * u64::from(pairs),
            _ => 0,
        }
    }
}

/// How far a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// So many bytes.
    Whole(usize),
    /// At least so many bytes; fewer are there.
    Needs(u64),
}

/// Looks for the end of a value whose bytes come one after the other. What it has seen it does not look at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    at: u64,
    /// Values that begin at `at` or behind it.
    owed: u64,
}

impl Default for Skip {
    fn default() -> Skip {
        Skip::new(1)
    }
}

impl Skip {
    /// Before so many values.
    #[inline]
    pub fn new(values: u64) -> Skip {
        Skip {
            at: 0,
            owed: values,
        }
    }

    /// Goes on in `bytes`: the same as last time, and maybe more behind them.
    ///
    /// # Errors
    /// One of its values is none.
    #[inline]
    pub fn go_on(&mut self, bytes: &[u8]) -> Result<Skipped, MsgpackError> {
        self.go_on_within(bytes, u64::MAX)
    }

    /// The same. It ends where more than `max` bytes are needed, and looks at nothing behind: so that it does not
    /// matter how many of the bytes are there already.
    ///
    /// # Errors
    /// One of its values is none.
    #[inline]
    pub fn go_on_within(&mut self, bytes: &[u8], max: u64) -> Result<Skipped, MsgpackError> {
        let there = bytes.len() as u64;
        let (mut at, mut owed) = (self.at, self.owed);
        while owed > 0 && at.saturating_add(owed) <= max {
            let rest = match usize::try_from(at) {
                Ok(at) => bytes.get(at..).unwrap_or_default(),
                Err(_) => &[],
            };
            let Some(first) = rest.first() else {
                break;
            };
            match *first {
                byte @ 0xa0..=0xbf => at += 1 + u64::from(byte & 0x1f),
                0x00..=0x7f | 0xe0..=0xff => at += 1,
                byte @ 0x80..=0x8f => {
                    at += 1;
                    owed += 2 * u64::from(byte & 0x0f);
                }
                0xd9 if rest.len() > 1 => at += 2 + u64::from(rest[1]),
                0xda if rest.len() > 2 => {
                    at += 3 + u64::from(u16::from_be_bytes([rest[1], rest[2]]));
                }
                _ => match Head::read(rest)? {
                    Some((head, used)) => {
                        at += (used + head.body_bytes()) as u64;
                        // Of 2^32 maps of 2^32 pairs within each other the sum would not fit; nor would their heads
                        // fit into any memory.
                        owed = owed.saturating_add(head.values());
                    }
                    None => {
                        (self.at, self.owed) = (at, owed);
                        return Ok(Skipped::Needs(at.saturating_add(owed).max(there + 1)));
                    }
                },
            }
            owed -= 1;
        }
        (self.at, self.owed) = (at, owed);
        if owed == 0 && at <= there.min(max) {
            return Ok(Skipped::Whole(usize::try_from(at).unwrap_or(usize::MAX)));
        }
        Ok(Skipped::Needs(at.saturating_add(owed)))
    }
}

/// Bytes of the value at the beginning of `bytes`. `None`: it is not whole, or none.
#[inline]
pub fn len_of(bytes: &[u8]) -> Option<usize> {
    // What nearly all values of a record are.
    let len = match *bytes {
        [0x00..=0x7f | 0xe0..=0xff, ..] => 1,
        [head @ 0xa0..=0xbf, ..] => 1 + usize::from(head & 0x1f),
        [0xd9, len, ..] => 2 + usize::from(len),
        [0xda, high, low, ..] => 3 + usize::from(u16::from_be_bytes([high, low])),
        _ => return len_of_any(bytes),
    };
    (len <= bytes.len()).then_some(len)
}

#[inline(never)]
fn len_of_any(bytes: &[u8]) -> Option<usize> {
    match Skip::default().go_on(bytes) {
        Ok(Skipped::Whole(bytes)) => Some(bytes),
        _ => None,
    }
}

/// Takes the head at the beginning of `bytes` off. `None`: there is none, or not the whole of it.
#[inline]
pub fn take_head(bytes: &mut &[u8]) -> Option<Head> {
    let (head, used) = Head::read(bytes).ok().flatten()?;
    *bytes = bytes.get(used..)?;
    Some(head)
}

/// Takes a whole value off.
#[inline]
pub fn take_value<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_at_checked(len_of(bytes)?)?;
    *bytes = rest;
    Some(value)
}

/// Takes a string off, text or bytes: real senders write either. `None`: the next value is another, and stays.
#[inline]
pub fn take_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    match **bytes {
        [0xa0..=0xbf | 0xd9 | 0xda, ..] => take_short_text(bytes),
        _ => take_any_string(bytes),
    }
}

/// Takes a text of less than 64 KiB off. `None`: the next value is another, and stays.
#[inline(always)]
pub fn take_short_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = match *bytes {
        [head @ 0xa0..=0xbf, rest @ ..] => (usize::from(head & 0x1f), rest),
        [0xd9, len, rest @ ..] => (usize::from(*len), rest),
        [0xda, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    let (text, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    Some(text)
}

#[inline(never)]
fn take_any_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = *bytes;
    let (Head::Str(len) | Head::Bin(len)) = take_head(&mut rest)? else {
        return None;
    };
    let (string, rest) = rest.split_at_checked(len as usize)?;
    *bytes = rest;
    Some(string)
}

/// Takes a map's head off: its pairs. `None`: the next value is another, and stays.
#[inline]
pub fn take_map(bytes: &mut &[u8]) -> Option<u32> {
    let (pairs, rest) = match *bytes {
        [head @ 0x80..=0x8f, rest @ ..] => (u32::from(head & 0x0f), rest),
        [0xde, a, b, rest @ ..] => (u32::from(u16::from_be_bytes([*a, *b])), rest),
        [0xdf, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
        _ => return None,
    };
    *bytes = rest;
    Some(pairs)
}

/// Takes an array's head off: its values. `None`: the next value is another, and stays.
#[inline]
pub fn take_array(bytes: &mut &[u8]) -> Option<u32> {
    let (values, rest) = match *bytes {
        [head @ 0x90..=0x9f, rest @ ..] => (u32::from(head & 0x0f), rest),
        [0xdc, a, b, rest @ ..] => (u32::from(u16::from_be_bytes([*a, *b])), rest),
        [0xdd, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
        _ => return None,
    };
    *bytes = rest;
    Some(values)
}

/// Appends text, with the shortest head.
pub fn write_str(out: &mut Vec<u8>, text: &[u8]) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let [.., high, low] = len.to_be_bytes();
    match len {
        0..=31 => out.push(0xa0 | low),
        32..=0xff => out.extend_from_slice(&[0xd9, low]),
        0x100..=0xffff => out.extend_from_slice(&[0xda, high, low]),
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// Appends bytes, with the shortest head.
pub fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let [.., high, low] = len.to_be_bytes();
    match len {
        0..=0xff => out.extend_from_slice(&[0xc4, low]),
        0x100..=0xffff => out.extend_from_slice(&[0xc5, high, low]),
        _ => {
            out.push(0xc6);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Appends a whole number from 0 on.
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    let [.., high, low] = value.to_be_bytes();
    match value {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend_from_slice(&[0xcc, low]),
        0x100..=0xffff => out.extend_from_slice(&[0xcd, high, low]),
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&value.to_be_bytes()[4..]);
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Appends a whole number.
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    match u64::try_from(value) {
        Ok(value) => write_uint(out, value),
        Err(_) if value >= -32 => out.push(value.to_be_bytes()[7]),
        Err(_) => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every head of the specification.
    const HEADS: &[(&[u8], Head)] = &[
        (&[0x00], Head::Uint(0)),
        (&[0x7f], Head::Uint(127)),
        (&[0xe0], Head::Int(-32)),
        (&[0xff], Head::Int(-1)),
        (&[0x80], Head::Map(0)),
        (&[0x8f], Head::Map(15)),
        (&[0x90], Head::Array(0)),
        (&[0x9f], Head::Array(15)),
        (&[0xa0], Head::Str(0)),
        (&[0xbf], Head::Str(31)),
        (&[0xc0], Head::Nil),
        (&[0xc2], Head::Bool(false)),
        (&[0xc3], Head::Bool(true)),
        (&[0xc4, 7], Head::Bin(7)),
        (&[0xc5, 1, 2], Head::Bin(0x102)),
        (&[0xc6, 1, 2, 3, 4], Head::Bin(0x0102_0304)),
        (&[0xc7, 8, 0], Head::Ext { kind: 0, bytes: 8 }),
        (
            &[0xc8, 1, 0, 0xff],
            Head::Ext {
                kind: -1,
                bytes: 256,
            },
        ),
        (&[0xc9, 0, 0, 0, 3, 5], Head::Ext { kind: 5, bytes: 3 }),
        (&[0xca, 0x3f, 0xc0, 0, 0], Head::Float(1.5)),
        (&[0xcb, 0xbf, 0xf8, 0, 0, 0, 0, 0, 0], Head::Float(-1.5)),
        (&[0xcc, 0xff], Head::Uint(255)),
        (&[0xcd, 0xff, 0xff], Head::Uint(65_535)),
        (&[0xce, 0xff, 0xff, 0xff, 0xff], Head::Uint(u32::MAX as u64)),
        (
            &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            Head::Uint(u64::MAX),
        ),
        (&[0xd0, 0x80], Head::Int(-128)),
        (&[0xd1, 0x80, 0], Head::Int(-32_768)),
        (&[0xd2, 0xff, 0xff, 0xff, 0xfe], Head::Int(-2)),
        (&[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0], Head::Int(i64::MIN)),
        (&[0xd4, 1], Head::Ext { kind: 1, bytes: 1 }),
        (&[0xd5, 1], Head::Ext { kind: 1, bytes: 2 }),
        (&[0xd6, 0xff], Head::Ext { kind: -1, bytes: 4 }),
        (&[0xd7, 0], Head::Ext { kind: 0, bytes: 8 }),
        (&[0xd8, 0], Head::Ext { kind: 0, bytes: 16 }),
        (&[0xd9, 200], Head::Str(200)),
        (&[0xda, 1, 0], Head::Str(256)),
        (&[0xdb, 0, 1, 0, 0], Head::Str(65_536)),
        (&[0xdc, 0, 16], Head::Array(16)),
        (&[0xdd, 0, 0, 0, 2], Head::Array(2)),
        (&[0xde, 0, 16], Head::Map(16)),
        (&[0xdf, 0, 0, 0, 1], Head::Map(1)),
    ];

    #[test]
    fn every_head_is_read_and_none_before_it_is_whole() {
        for (bytes, head) in HEADS {
            assert_eq!(
                Head::read(bytes),
                Ok(Some((*head, bytes.len()))),
                "{bytes:x?}"
            );
            for cut in 0..bytes.len() {
                assert_eq!(Head::read(&bytes[..cut]), Ok(None), "{cut} of {bytes:x?}");
            }
        }
        assert_eq!(Head::read(&[0xc1]), Err(MsgpackError::NeverUsed));
        let firsts: std::collections::BTreeSet<u8> =
            HEADS.iter().map(|(bytes, _)| bytes[0]).collect();
        for first in 0xc0..=0xdf {
            assert!(first == 0xc1 || firsts.contains(&first), "{first:x}");
        }
    }

    #[test]
    fn a_value_ends_where_it_ends_in_any_split() {
        // {"a": [1, {"b": nil}, ext], "": bin}, then another value.
        let value = [
            0x82, 0xa1, 0x61, 0x93, 1, 0x81, 0xa1, 0x62, 0xc0, 0xc7, 3, 9, 1, 2, 3, 0xa0, 0xc4, 2,
            0xc1, 0xc1,
        ];
        let stream = [&value[..], &[0xc0]].concat();
        assert_eq!(len_of(&stream), Some(value.len()));
        let mut skip = Skip::default();
        let mut last = 0;
        for cut in 0..value.len() {
            let Ok(Skipped::Needs(needs)) = skip.go_on(&stream[..cut]) else {
                panic!("{cut}")
            };
            assert!(
                needs > cut as u64 && needs <= value.len() as u64,
                "{needs} at {cut}"
            );
            assert!(needs >= last, "it never needs less than it said");
            last = needs;
        }
        assert_eq!(skip.go_on(&stream), Ok(Skipped::Whole(value.len())));
    }

    #[test]
    fn what_is_declared_costs_nothing() {
        // 2^32 - 1 pairs in each other, half a million times.
        let bomb = [0xdf, 0xff, 0xff, 0xff, 0xff].repeat(500_000);
        assert!(
            matches!(Skip::default().go_on(&bomb), Ok(Skipped::Needs(needs)) if needs > 1 << 50)
        );
        let deep = [vec![0x91; 1 << 20], vec![0xc0]].concat();
        assert_eq!(len_of(&deep), Some(deep.len()));
        assert_eq!(
            Skip::default().go_on(&[0xdb, 0xff, 0xff, 0xff, 0xff]),
            Ok(Skipped::Needs(5 + 0xffff_ffff))
        );
        assert_eq!(
            Skip::default().go_on(&[0x92, 0xc1]),
            Err(MsgpackError::NeverUsed)
        );
    }

    #[test]
    fn text_has_the_shortest_head() {
        for len in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            let (text, mut out) = (vec![b'x'; len], Vec::new());
            write_str(&mut out, &text);
            let mut rest = &out[..];
            assert_eq!(take_string(&mut rest), Some(&text[..]));
            assert!(rest.is_empty());
            let head = match len {
                0..=31 => 1,
                32..=255 => 2,
                256..=65_535 => 3,
                _ => 5,
            };
            assert_eq!(out.len(), head + len);
        }
    }

    proptest! {
        /// Another reader finds the same.
        #[test]
        fn whole_numbers_are_what_another_reader_finds(value: i64, unsigned: u64) {
            let mut out = Vec::new();
            write_int(&mut out, value);
            prop_assert_eq!(rmpv::decode::read_value(&mut &out[..]).expect("a value").as_i64(), Some(value));
            out.clear();
            write_uint(&mut out, unsigned);
            prop_assert_eq!(rmpv::decode::read_value(&mut &out[..]).expect("a value").as_u64(), Some(unsigned));
        }

        #[test]
        fn no_bytes_make_it_panic_or_promise_what_it_has(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            match Skip::default().go_on(&bytes) {
                Ok(Skipped::Whole(whole)) => {
                    prop_assert!(whole <= bytes.len());
                    prop_assert_eq!(len_of(&bytes[..whole]), Some(whole));
                }
                Ok(Skipped::Needs(needs)) => prop_assert!(needs > bytes.len() as u64),
                Err(MsgpackError::NeverUsed) => prop_assert!(bytes.contains(&0xc1)),
            }
        }
    }
}
