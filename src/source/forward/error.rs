//! Why a connection is not followed any further.

use super::{CHUNK_BYTES_MAX, TAG_BYTES_MAX};
use crate::SourceError;
use std::fmt;
use weir_protocol::msgpack::MsgpackError;

/// Why a connection is not followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardError {
    /// Its bytes are no MessagePack.
    Msgpack(MsgpackError),
    /// An outer value that is no array.
    NoArray,
    /// Its tag is too long.
    Tag {
        /// Its bytes.
        bytes: usize,
    },
    /// Its chunk id is too long.
    Chunk {
        /// Its bytes.
        bytes: usize,
    },
    /// Its chunk id is neither text nor bytes.
    ChunkIsNoText,
    /// A compression that is not known.
    Compression,
    /// A body that is not compressed as its option says.
    NotCompressed {
        /// What it says.
        as_said: &'static str,
    },
    /// Entries that do not end with their body.
    Entries,
    /// The listener has a shared key, and the client did not say it.
    NoPing,
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Msgpack(error) => error.fmt(f),
            Self::NoArray => f.write_str("an outer value is no array; Forward has [tag, ...]"),
            Self::Tag { bytes } => {
                write!(f, "a tag of {bytes} bytes is above the limit of {TAG_BYTES_MAX} bytes")
            }
            Self::Chunk { bytes } => write!(
                f,
                "a chunk id of {bytes} bytes is above the limit of {CHUNK_BYTES_MAX} bytes"
            ),
            Self::ChunkIsNoText => f.write_str("the option chunk is neither text nor bytes"),
            Self::Compression => {
                f.write_str("the option compressed is none of: text, gzip, zstd")
            }
            Self::NotCompressed { as_said } => {
                write!(f, "the option compressed is {as_said}, and the entries are not")
            }
            Self::Entries => f.write_str("the entries of a chunk do not end where the chunk does"),
            Self::NoPing => f.write_str(
                "this input has a shared key, and the first value was no PING; allowed: clients with shared_key",
            ),
        }
    }
}

impl From<ForwardError> for SourceError {
    fn from(error: ForwardError) -> SourceError {
        SourceError::Forward { error }
    }
}
