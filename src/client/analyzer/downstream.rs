//! What the distributor sends on a link, as messages, whichever dialect it is in.

use crate::protocol::frame::{self, FrameError};
use crate::protocol::native::{BatchCursor, BatchHeader, LinkWord, NativeError};
use crate::protocol::Dialect;

/// The analyzer's own limit on a frame: it bounds the read buffer, whatever the distributor allows.
const FRAME_BYTES_MAX: u32 = 64 << 20;

/// Incremental parser of one link's downstream.
pub enum Downstream {
    /// Frames and nothing else.
    Frames,
    /// Batches; the one being walked.
    Native(Option<(BatchHeader, BatchCursor)>),
}

/// One thing the distributor said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A message.
    Message {
        /// Header and payload.
        frame: &'a [u8],
        /// It was sent before, on another link.
        redelivered: bool,
    },
    /// ACK at once, the distributor shuts down.
    Drain,
    /// The link is over.
    Goodbye,
}

impl Downstream {
    /// For a link after its first word or WELCOME.
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Native => Self::Native(None),
            Dialect::Typed | Dialect::Compact => Self::Frames,
        }
    }

    /// Takes the next thing off `bytes`; `None`: read more.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Heard<'a>>, NativeError> {
        match self {
            Self::Frames => next_frame(bytes).map_err(NativeError::Frame),
            Self::Native(batch) => next_native(batch, bytes),
        }
    }
}

fn next_frame<'a>(bytes: &mut &'a [u8]) -> Result<Option<Heard<'a>>, FrameError> {
    let Some(length) = frame::peek(bytes, FRAME_BYTES_MAX)? else {
        return Ok(None);
    };
    let Some((frame, rest)) = bytes.split_at_checked(length) else {
        return Ok(None);
    };
    *bytes = rest;
    Ok(Some(Heard::Message {
        frame,
        redelivered: false,
    }))
}

fn next_native<'a>(
    batch: &mut Option<(BatchHeader, BatchCursor)>,
    bytes: &mut &'a [u8],
) -> Result<Option<Heard<'a>>, NativeError> {
    loop {
        if let Some((header, cursor)) = batch {
            if let Some(message) = cursor.next(bytes)? {
                let redelivered = header.redelivered;
                return Ok(Some(Heard::Message {
                    frame: message.frame,
                    redelivered,
                }));
            }
            if cursor.left_count() > 0 {
                return Ok(None);
            }
            *batch = None;
        }
        let Some((word, used)) = LinkWord::decode(bytes)? else {
            return Ok(None);
        };
        *bytes = &bytes[used..];
        match word {
            LinkWord::Drain => return Ok(Some(Heard::Drain)),
            LinkWord::Goodbye => return Ok(Some(Heard::Goodbye)),
            LinkWord::Batch(header) => {
                *batch = Some((header, BatchCursor::new(&header, FRAME_BYTES_MAX)));
            }
        }
    }
}
