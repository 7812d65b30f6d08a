//! The outer value of a message on the wire: which mode it is, and what its options say.
//!
//! ```text
//! Message        [tag, time, record, option?]
//! Forward        [tag, [entry, ...], option?]
//! PackedForward  [tag, bytes of entries, option?]          packed bytes: gzip or zstd
//! ```

use super::shape::{self, Entry};
use super::ForwardError;
use crate::Coding;
use std::ops::Range;
use weir_protocol::msgpack::{take_array, take_head, take_map, take_string, take_value, Head};

/// Bytes of the longest chunk id. Fluent Bit takes no longer one either.
pub const CHUNK_BYTES_MAX: usize = 511;
/// Bytes of the longest tag.
pub const TAG_BYTES_MAX: usize = 4096;

/// A whole outer value. Ranges are of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer<'a> {
    pub tag: &'a [u8],
    pub body: Body,
    pub options: Options<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Time and record, and the severity that the record says.
    Message(Range<usize>, u8),
    /// So many entries, as values.
    Entries(u32, Range<usize>),
    /// Entries, one behind the other.
    Packed(Range<usize>),
    /// The same, compressed.
    Compressed(Coding, Range<usize>),
    /// A mark of a group, alone.
    Group,
    /// No shape that is known.
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    pub chunk: Option<&'a [u8]>,
    pub compressed: Option<&'a [u8]>,
    /// Metrics or traces.
    pub is_not_logs: bool,
}

/// What a compressed body begins with: entries begin with the head of an array.
pub fn coding_of(body: &[u8]) -> Option<Coding> {
    match body {
        [0x1f, 0x8b, ..] => Some(Coding::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Coding::Zstd),
        _ => None,
    }
}

impl<'a> Outer<'a> {
    /// Reads a whole value.
    pub fn read(whole: &'a [u8]) -> Result<Outer<'a>, ForwardError> {
        let mut rest = whole;
        let Some(values) = take_array(&mut rest) else {
            return Err(ForwardError::NoArray);
        };
        let other = Outer {
            tag: &[],
            body: Body::Other,
            options: Options::default(),
        };
        let Some(tag) = take_string(&mut rest).filter(|_| values >= 2) else {
            return Ok(other);
        };
        if tag.len() > TAG_BYTES_MAX {
            return Err(ForwardError::Tag { bytes: tag.len() });
        }
        let at = |rest: &[u8]| whole.len() - rest.len();
        let mut before_option = 2;
        let second = rest;
        let body = match take_head(&mut rest) {
            Some(Head::Str(len) | Head::Bin(len)) => {
                let bytes = at(rest)..at(rest) + len as usize;
                let packed = whole.get(bytes.clone()).unwrap_or_default();
                rest = whole.get(bytes.end..).unwrap_or_default();
                match coding_of(packed) {
                    Some(coding) => Body::Compressed(coding, bytes),
                    None => Body::Packed(bytes),
                }
            }
            Some(Head::Array(entries)) => {
                let from = at(rest);
                rest = second;
                take_value(&mut rest);
                Body::Entries(entries, from..at(rest))
            }
            _ => {
                before_option = 3;
                rest = second;
                match shape::pair(second).filter(|_| values >= 3) {
                    Some((len, entry, severity)) => {
                        let from = at(rest);
                        rest = rest.get(len..).unwrap_or_default();
                        match entry {
                            Entry::Message(_) => Body::Message(from..at(rest), severity),
                            Entry::Group | Entry::Other => Body::Group,
                        }
                    }
                    None => {
                        let _ = (take_value(&mut rest), take_value(&mut rest));
                        Body::Other
                    }
                }
            }
        };
        let options = match values > before_option {
            true => Options::read(&mut rest)?,
            false => Options::default(),
        };
        options.check(&body)?;
        Ok(Outer { tag, body, options })
    }
}

impl<'a> Options<'a> {
    /// Of the value that `rest` begins with. Anything but a map says nothing: old versions of Docker send nil.
    pub fn read(rest: &mut &'a [u8]) -> Result<Options<'a>, ForwardError> {
        let mut options = Options::default();
        let Some(pairs) = take_map(rest) else {
            return Ok(options);
        };
        for _ in 0..pairs {
            let (Some(key), Some(value)) = (take_value(rest), take_value(rest)) else {
                break;
            };
            match take_string(&mut &*key) {
                Some(b"chunk") => options.chunk = Some(chunk_of(value)?),
                Some(b"compressed") => options.compressed = take_string(&mut &*value),
                Some(b"fluent_signal") => {
                    options.is_not_logs = !matches!(take_head(&mut &*value), Some(Head::Uint(0)));
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// Whether a body is what is said of it.
    fn check(&self, body: &Body) -> Result<(), ForwardError> {
        match (self.compressed, body) {
            (None | Some(b"text" | b"gzip" | b"zstd"), Body::Compressed(..)) => Ok(()),
            (None | Some(b"text"), _) => Ok(()),
            // Of an empty body, or of none, nothing has to be unpacked.
            (Some(b"gzip" | b"zstd"), Body::Packed(bytes)) if bytes.is_empty() => Ok(()),
            (Some(b"gzip"), Body::Packed(_)) => {
                Err(ForwardError::NotCompressed { as_said: "gzip" })
            }
            (Some(b"zstd"), Body::Packed(_)) => {
                Err(ForwardError::NotCompressed { as_said: "zstd" })
            }
            (Some(b"gzip" | b"zstd"), _) => Ok(()),
            (Some(_), _) => Err(ForwardError::Compression),
        }
    }
}

fn chunk_of(value: &[u8]) -> Result<&[u8], ForwardError> {
    let Some(id) = take_string(&mut &*value) else {
        return Err(ForwardError::ChunkIsNoText);
    };
    match id.len() {
        0..=CHUNK_BYTES_MAX => Ok(id),
        bytes => Err(ForwardError::Chunk { bytes }),
    }
}
