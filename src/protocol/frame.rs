//! Frames: one message each, the same bytes from emitter to analyzer.
//!
//! ```text
//!   0        4          5                    total_length
//!   +--------+----------+--------------------+
//!   | u32 BE | severity | payload            |   total_length counts the 5-byte header
//!   +--------+----------+--------------------+
//! ```

use std::fmt;

/// Length word and severity byte.
pub const FRAME_HEADER_BYTES: u32 = 5;
/// Largest frame by default: 1 MiB, header included.
pub const FRAME_BYTES_MAX_DEFAULT: u32 = 1 << 20;
/// Largest frame whose first byte is 0, as no other protocol's is.
pub const FRAME_FIRST_BYTE_BYTES_MAX: u32 = (1 << 24) - 1;

const LENGTH_BYTES: usize = 4;
const _: () = assert!(FRAME_HEADER_BYTES < FRAME_BYTES_MAX_DEFAULT);
const _: () = assert!(size_of::<usize>() >= size_of::<u32>());

/// A length word that cannot start a frame. The connection it came on is closed: after it, nothing
/// tells where the next frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Shorter than its own header.
    TooShort {
        /// The length word.
        length: u32,
    },
    /// Longer than the limit.
    TooLong {
        /// The length word.
        length: u32,
        /// The limit it broke.
        max: u32,
    },
}

impl FrameError {
    /// The length word.
    pub fn length(&self) -> u32 {
        match self {
            Self::TooShort { length } | Self::TooLong { length, .. } => *length,
        }
    }

    /// Metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "frame_too_short",
            Self::TooLong { .. } => "frame_too_long",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { length } => {
                write!(
                    f,
                    "frame length {length} is below the {FRAME_HEADER_BYTES}-byte header"
                )
            }
            Self::TooLong { length, max } => {
                write!(f, "frame length {length} is above the limit of {max} bytes")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Total length of the frame that starts `buf`, header included; the frame itself may still be
/// incomplete. `None` while the length word is.
#[inline]
pub fn peek(buf: &[u8], max: u32) -> Result<Option<usize>, FrameError> {
    let Some(word) = buf.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*word);
    if length < FRAME_HEADER_BYTES {
        return Err(FrameError::TooShort { length });
    }
    if length > max {
        return Err(FrameError::TooLong { length, max });
    }
    Ok(Some(length as usize))
}

/// The header of a frame with `payload_len` bytes of payload.
///
/// # Panics
/// If the frame's length does not fit its u32.
#[inline]
pub fn encode_header(payload_len: u32, severity: u8) -> [u8; FRAME_HEADER_BYTES as usize] {
    let total = payload_len
        .checked_add(FRAME_HEADER_BYTES)
        .expect("frame length fits a u32");
    let [a, b, c, d] = total.to_be_bytes();
    [a, b, c, d, severity]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_round_trips() {
        assert_eq!(encode_header(2, 1), [0, 0, 0, 7, 1]);
        assert_eq!(peek(&[0, 0, 0, 7, 1, b'h', b'i'], 100), Ok(Some(7)));
        assert_eq!(peek(&[0, 0, 0, 5], 100), Ok(Some(5)));
    }

    #[test]
    fn limits_are_exact() {
        assert_eq!(
            peek(&[0, 0, 0, 4], 100),
            Err(FrameError::TooShort { length: 4 })
        );
        assert_eq!(peek(&[0, 0, 0, 100], 100), Ok(Some(100)));
        assert_eq!(
            peek(&[0, 0, 0, 101], 100),
            Err(FrameError::TooLong {
                length: 101,
                max: 100
            })
        );
        assert_eq!(
            peek(&[255; 4], u32::MAX),
            Ok(Some(u32::MAX as usize)),
            "no limit of its own beyond the one given"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..16), max: u32) {
            match peek(&bytes, max) {
                Ok(None) => prop_assert!(bytes.len() < 4),
                Ok(Some(length)) => prop_assert!(length >= 5 && length <= max as usize),
                Err(error) => prop_assert!(!error.as_str().is_empty()),
            }
        }
    }
}
