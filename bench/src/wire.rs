//! Streams as the bench needs them: frames with its stamp inside, taken apart whoever sends them.
//!
//! ```text
//! frame     [u32 total_length][u8 severity][u64 intended_ns][u32 magic][u64 sequence][filler ...]
//!           '------ header, 5 bytes ------''----------- stamp, 20 bytes -----------'
//! ```

use std::fmt;

use weir_testkit::decode::{self, frames};
use weir_testkit::wire::{Dialect, WireError, FRAME_BYTES_MAX, FRAME_HEADER_BYTES};

use crate::outlet::Receiver;
use crate::syslog::{next_message, read_text_stamp};

/// Intended send time, magic, sequence number.
pub const STAMP_LEN: usize = 20;
/// Smallest message the load can send: it has to hold the stamp.
pub const MESSAGE_LEN_MIN: usize = FRAME_HEADER_BYTES + STAMP_LEN;
/// The distributor's default maximum; anything longer is a broken stream.
pub const MESSAGE_LEN_MAX: usize = FRAME_BYTES_MAX;

const STAMP_MAGIC: u32 = 0x7765_6972;

/// A stream that cannot be read any further. The link that meets it is closed and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamError {
    /// Of a distributor, or of a peer that passes frames through.
    Wire(WireError),
    /// A syslog message whose count is no number, or over the maximum; or a line over it.
    SyslogLength,
    /// What a receiver of Forward, Lumberjack, RELP or HTTP cannot read.
    Outlet,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(f),
            Self::Outlet => f.write_str(
                "what came is no packet of its protocol, or not as the distributor writes them",
            ),
            Self::SyslogLength => write!(
                f,
                "a syslog message's length is no number up to {MESSAGE_LEN_MAX}"
            ),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<WireError> for StreamError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<StreamError> for std::io::Error {
    fn from(error: StreamError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// What the load writes into each payload and the sink checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the schedule wanted the message sent (CLOCK_MONOTONIC); 0 when there is no schedule.
    pub intended_ns: u64,
    /// Unique over the whole run, counting from 0.
    pub sequence: u64,
}

impl Stamp {
    /// Overwrites the stamp in a frame that [`lay_frames`] made.
    pub fn write(self, frame: &mut [u8]) {
        frame[5..13].copy_from_slice(&self.intended_ns.to_be_bytes());
        frame[17..25].copy_from_slice(&self.sequence.to_be_bytes());
    }

    /// `None` for a frame that the bench did not send. A frame made of an HTTP message, and a syslog
    /// message, hold the stamp as text.
    pub fn read(frame: &[u8]) -> Option<Self> {
        match frame.get(FRAME_HEADER_BYTES..MESSAGE_LEN_MIN) {
            Some(stamp) if stamp[8..12] == STAMP_MAGIC.to_be_bytes() => Some(Self {
                intended_ns: be_u64(&stamp[..8]),
                sequence: be_u64(&stamp[12..]),
            }),
            _ => read_text_stamp(frame),
        }
    }
}

/// `count` frames of `size` bytes each, header included, ready to be stamped.
pub fn lay_frames(size: usize, count: usize) -> Vec<u8> {
    assert!(
        (MESSAGE_LEN_MIN..=MESSAGE_LEN_MAX).contains(&size),
        "checked by the arguments"
    );
    let mut frame = vec![b'x'; size];
    frame[..4].copy_from_slice(&(size as u32).to_be_bytes());
    frame[4] = 3;
    frame[13..17].copy_from_slice(&STAMP_MAGIC.to_be_bytes());
    Stamp {
        intended_ns: 0,
        sequence: 0,
    }
    .write(&mut frame);
    frame.repeat(count)
}

fn be_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("8 bytes"))
}

/// Takes the stream of one link apart and knows what may be ACKed.
#[derive(Debug)]
pub enum Decoder {
    /// From a distributor, which gets ACKs.
    Link(decode::Decoder),
    /// The same frames from a peer that knows no ACK.
    Frames,
    /// Lines or counted messages from a peer that speaks syslog.
    Syslog,
    /// A protocol with answers of its own.
    Outlet(Receiver),
}

impl Decoder {
    /// Of an analyzer's new link.
    pub fn of(dialect: Dialect) -> Self {
        Self::Link(decode::Decoder::new(dialect))
    }

    /// Hands every whole frame to `on_frame` and returns how many bytes were used up. The rest
    /// has to come again, with more behind it.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        mut on_frame: impl FnMut(&[u8]),
    ) -> Result<usize, StreamError> {
        match self {
            Self::Link(link) => Ok(link.decode(bytes, |message| on_frame(message.frame))?),
            Self::Frames => Ok(frames(bytes, on_frame)?),
            Self::Outlet(receiver) => receiver.decode(bytes, on_frame),
            Self::Syslog => {
                let mut used = 0;
                while let Some((len, text)) = next_message(&bytes[used..])? {
                    on_frame(&bytes[used..][text]);
                    used += len;
                }
                Ok(used)
            }
        }
    }

    /// Highest sequence number that an ACK may carry now.
    pub fn ackable(&self) -> u64 {
        match self {
            Self::Link(link) => link.ackable(),
            Self::Outlet(receiver) => receiver.received(),
            Self::Frames | Self::Syslog => 0,
        }
    }

    /// Messages that came flagged as redelivered.
    pub fn redelivered(&self) -> u64 {
        match self {
            Self::Link(link) => link.redelivered(),
            Self::Frames | Self::Syslog | Self::Outlet(_) => 0,
        }
    }

    /// Appends the cumulative ACK of everything ackable.
    pub fn put_ack(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Link(link) => link.put_ack(out),
            Self::Outlet(receiver) => receiver.take_answers(out),
            Self::Frames | Self::Syslog => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_comes_back_and_a_foreign_frame_has_none() {
        let mut frame = lay_frames(64, 1);
        let stamp = Stamp {
            intended_ns: 77,
            sequence: 1 << 40,
        };
        stamp.write(&mut frame);
        assert_eq!(Stamp::read(&frame), Some(stamp));
        frame[13] ^= 1;
        assert_eq!(Stamp::read(&frame), None);
        assert_eq!(Stamp::read(&[0, 0, 0, 7, 1, 0x68, 0x69]), None);
    }
}
