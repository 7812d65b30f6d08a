//! What the distributor sends on a link, as messages, whichever dialect it is in.

use weir_protocol::frame::{self, FrameError};
use weir_protocol::native::{BatchCursor, BatchHeader, LinkWord, NativeError};
use weir_sink::Dialect;

/// The analyzer's own limit on a frame: it bounds the read buffer, whatever the distributor allows.
const FRAME_BYTES_MAX: u32 = 64 << 20;

/// Incremental parser of one link's downstream.
pub enum Downstream {
    /// Frames and nothing else.
    Frames,
    /// Batches.
    Native(Batches),
}

/// Batches of one native link.
#[derive(Default)]
pub struct Batches {
    /// The one being walked.
    open: Option<(BatchHeader, BatchCursor)>,
    /// Messages of the batches so far: ACKs count them, so both sides must agree on their number.
    announced: u64,
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
            Dialect::Native => Self::Native(Batches::default()),
            Dialect::Typed | Dialect::Compact => Self::Frames,
        }
    }

    /// Takes the next thing off `bytes`; `None`: read more.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Heard<'a>>, NativeError> {
        match self {
            Self::Frames => next_frame(bytes).map_err(NativeError::Frame),
            Self::Native(batches) => batches.next(bytes),
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

impl Batches {
    fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Heard<'a>>, NativeError> {
        loop {
            if let Some((header, cursor)) = &mut self.open {
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
                self.open = None;
            }
            let Some((word, used)) = LinkWord::decode(bytes)? else {
                return Ok(None);
            };
            *bytes = &bytes[used..];
            match word {
                LinkWord::Drain => return Ok(Some(Heard::Drain)),
                LinkWord::Goodbye => return Ok(Some(Heard::Goodbye)),
                LinkWord::Batch(header) => self.start(header)?,
            }
        }
    }

    fn start(&mut self, header: BatchHeader) -> Result<(), NativeError> {
        let (expected, found) = (self.announced + 1, header.first_sequence);
        if found != expected {
            return Err(NativeError::BatchSequence { expected, found });
        }
        self.announced += u64::from(header.count);
        self.open = Some((header, BatchCursor::new(&header, FRAME_BYTES_MAX)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_must_follow_one_another() {
        let frame = [0, 0, 0, 5, 0];
        let header = BatchHeader {
            redelivered: false,
            origin_shard: 0,
            count: 1,
            body_bytes: 5,
            first_sequence: 1,
            origin_epoch: 1,
        };
        let mut downstream = Downstream::new(Dialect::Native);
        let mut hear = |first_sequence| {
            let header = BatchHeader {
                first_sequence,
                ..header
            }
            .encode();
            let bytes = [&header[..], &frame].concat();
            downstream
                .next(&mut &bytes[..])
                .map(|heard| heard.is_some())
        };
        assert_eq!(hear(1), Ok(true));
        assert_eq!(hear(2), Ok(true));
        assert_eq!(
            hear(4),
            Err(NativeError::BatchSequence {
                expected: 3,
                found: 4
            })
        );
    }
}
