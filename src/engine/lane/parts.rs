//! What a lane is made of.

use super::Origin;
use crate::engine::{BufferId, LinkEpoch};

/// One batch buffer in use by a lane.
#[derive(Debug)]
pub(super) struct Segment {
    pub(in crate::engine) buffer: BufferId,
    /// Where the first message (or batch) that starts here starts.
    pub(in crate::engine) start: u32,
    /// Number of that message.
    pub(in crate::engine) first: u64,
    /// Bytes filled.
    pub(in crate::engine) filled: u32,
    /// Bytes given out by `transmit`.
    pub(in crate::engine) transmitted: u32,
    /// Last message that ends here or before.
    pub(in crate::engine) ended: u64,
    /// Last message with bytes here: the segment is needed until its ACK.
    pub(in crate::engine) through: u64,
    /// Kernel operations that may still read it.
    pub(in crate::engine) holds: u32,
}

/// A batch whose header is not written yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenBatch {
    pub(in crate::engine) header_at: u32,
    pub(in crate::engine) first: u64,
    /// Set for re-routed messages: each is preceded by its origin's sequence.
    pub(in crate::engine) origin: Option<(u16, LinkEpoch)>,
}

/// Position of the next un-ACKed message of a dead lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// Number of the segment, counted from the lane's start.
    pub(in crate::engine) segment: u64,
    pub(in crate::engine) offset: u32,
    pub(in crate::engine) sequence: u64,
    pub(in crate::engine) batch_left: u32,
    pub(in crate::engine) origin: Option<(u16, LinkEpoch)>,
    pub(in crate::engine) started: bool,
}

/// Fixed facts of a lane.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct LaneSetup {
    pub(in crate::engine) shard: u16,
    pub(in crate::engine) epoch: LinkEpoch,
    pub(in crate::engine) form: Form,
}

/// What the bytes of a lane are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Form {
    /// Frames, one behind the other: the reference dialects.
    Frames,
    /// Batches of frames: native links.
    Batches,
    /// Records: analyzers over HTTP.
    Records,
}

/// A record on its way to another lane.
pub(in crate::engine) struct LaneUnit {
    /// Number of its first message in the lane that it comes from.
    pub(in crate::engine) first: u64,
    pub(in crate::engine) messages: u64,
    /// Identity of the first.
    pub(in crate::engine) origin: Origin,
    pub(in crate::engine) bytes: Vec<u8>,
}
