//! Samples of what passes: the message that opens a batch or a buffer, or a packet's first. Plain appends
//! behind these are not looked at, so that sampling costs them nothing.

use super::shard::Engine;
use super::{LaneId, Memory};
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_source::render;

/// Payload kept of a sample, in bytes.
const PAYLOAD_BYTES_MAX: usize = 1024;

/// A message that was routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of the analyzer that it went to.
    pub analyzer: u32,
    /// As in its frame.
    pub severity: u8,
    /// Bytes of its payload.
    pub bytes: u64,
    /// The first of them, 1 KiB at most.
    pub payload: Vec<u8>,
}

/// Samples that wait, and how many more are wanted.
#[derive(Default)]
pub(super) struct Samples {
    wanted: usize,
    taken: Vec<Sample>,
}

impl<M: Memory> Engine<M> {
    /// The samples since the last call; at most `wanted` more are taken until the next.
    pub fn take_samples(&mut self, wanted: usize) -> Vec<Sample> {
        self.samples.wanted = wanted;
        std::mem::take(&mut self.samples.taken)
    }

    #[inline]
    pub(super) fn sample(&mut self, lane: LaneId, frame: &[u8]) {
        if self.samples.wanted > 0 {
            self.take_sample(lane, frame);
        }
    }

    /// The same of an entry, which is shown as JSON.
    #[inline]
    pub(super) fn sample_entry(&mut self, lane: LaneId, severity: u8, tag: &[u8], entry: &[u8]) {
        if self.samples.wanted > 0 {
            let mut frame = vec![0, 0, 0, 0, severity];
            render::entry(
                &mut self.render_context,
                tag,
                entry,
                PAYLOAD_BYTES_MAX,
                &mut frame,
            );
            self.take_sample(lane, &frame);
        }
    }

    #[cold]
    fn take_sample(&mut self, lane: LaneId, frame: &[u8]) {
        let header = FRAME_HEADER_BYTES as usize; // 5
        let (Some(severity), Some(payload)) = (frame.get(header - 1), frame.get(header..)) else {
            return;
        };
        self.samples.wanted -= 1;
        self.samples.taken.push(Sample {
            analyzer: self.lanes[lane.0 as usize].analyzer,
            severity: *severity,
            bytes: payload.len() as u64,
            payload: payload[..payload.len().min(PAYLOAD_BYTES_MAX)].to_vec(),
        });
    }
}
