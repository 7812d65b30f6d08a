//! What a lane is made of.

use crate::origins::Origin;
use crate::{BufferId, LinkEpoch};
use weir_sink::Layout;

/// One batch buffer in use by a lane.
#[derive(Debug)]
pub(super) struct Segment {
    pub(crate) buffer: BufferId,
    /// Where the first message (or batch) that starts here starts.
    pub(crate) start: u32,
    /// Number of that message.
    pub(crate) first: u64,
    /// Bytes filled.
    pub(crate) filled: u32,
    /// Bytes given out by `transmit`.
    pub(crate) transmitted: u32,
    /// Last message that ends here or before.
    pub(crate) ended: u64,
    /// Last message with bytes here: the segment is needed until its ACK.
    pub(crate) through: u64,
    /// Kernel operations that may still read it.
    pub(crate) holds: u32,
}

/// A batch whose header is not written yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenBatch {
    pub(crate) header_at: u32,
    pub(crate) first: u64,
    /// Set for re-routed messages: each is preceded by its origin's sequence.
    pub(crate) origin: Option<(u16, LinkEpoch)>,
}

/// Position of the next un-ACKed message of a dead lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// Number of the segment, counted from the lane's start.
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    pub(crate) sequence: u64,
    pub(crate) batch_left: u32,
    pub(crate) origin: Option<(u16, LinkEpoch)>,
    pub(crate) started: bool,
}

/// Fixed facts of a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneSetup {
    pub(crate) shard: u16,
    pub(crate) epoch: LinkEpoch,
    pub(crate) layout: Layout,
    /// Its analyzer asked what messages are: its frames may be described.
    pub(crate) described: bool,
}

/// A record on its way to another lane.
pub(crate) struct LaneUnit {
    /// Number of its first message in the lane that it comes from.
    pub(crate) first: u64,
    pub(crate) messages: u64,
    /// Identity of the first.
    pub(crate) origin: Origin,
    pub(crate) bytes: Vec<u8>,
}
