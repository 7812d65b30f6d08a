//! Units of several messages: a packet that came over HTTP goes whole to one lane, in the form that the
//! lane has.
//!
//! ```text
//! packet of k messages -> tree, k at once -> lane of frames or batches: k frames
//!                                        `-> lane of records: one record
//! ```

use super::counters::Reason;
use super::lane::Layout;
use super::receipts::{Receipt, Ticket, TicketState};
use super::shard::Engine;
use super::tree::{UnitSize, UNIT_MAX};
use super::{room, LaneId, Memory};
use weir_protocol::{frame, Form};

/// Messages that are routed together.
pub trait Unit {
    /// How many.
    fn messages(&self) -> u32;
    /// Neither of the two forms is longer than this, in bytes.
    fn bytes_max(&self) -> usize;
    /// Appends one frame for each message.
    fn write_frames(&mut self, out: &mut Vec<u8>);
    /// Appends the record that an HTTP analyzer's lane keeps.
    fn write_record(&mut self, out: &mut Vec<u8>);
}

/// Why a unit was not taken in. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitRefused {
    /// No lane can take it now.
    Stalled,
    /// It has more messages than the tree can count.
    TooMany {
        /// How many.
        messages: u32,
        /// What is allowed.
        max: u32,
    },
    /// It may be longer than the largest unit, in bytes.
    TooLong {
        /// How long it may be.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
}

/// Kept for the next unit; most fit.
pub(super) const SCRATCH_BYTES_KEPT: usize = 64 * 1024;

impl<M: Memory> Engine<M> {
    /// Takes in a unit: all of its messages go to one lane. With a ticket, [`Engine::next_receipt`]
    /// tells when all of them are through.
    ///
    /// # Errors
    /// Nothing was taken in.
    pub fn ingest_unit(
        &mut self,
        unit: &mut impl Unit,
        ticket: Option<Ticket>,
    ) -> Result<(), UnitRefused> {
        let (bytes, max) = (unit.bytes_max(), self.config.largest());
        if bytes > max {
            self.counters.count(Reason::UnitTooLong);
            return Err(UnitRefused::TooLong { bytes, max });
        }
        let messages = unit.messages();
        if messages == 0 {
            return Ok(());
        }
        let Some(size) = UnitSize::new(messages) else {
            self.counters.count(Reason::UnitTooLong);
            let max = UNIT_MAX;
            return Err(UnitRefused::TooMany { messages, max });
        };
        // Checked without `can_ingest`, which would hold TCP emitters up until the resume level.
        let is_ready = self.rerouting.is_idle() && !self.stalled;
        let bytes = bytes + self.http_description_bytes(messages);
        let needed = self.ingest_floor + room::for_unit(bytes, self.config.buffer_bytes);
        if !is_ready && !self.can_ingest()
            || self.full_lanes >= self.full_lanes_max
            || self.pool.free() < needed
        {
            return Err(UnitRefused::Stalled);
        }
        let Some(leaf) = self.tree.route(size) else {
            return Err(UnitRefused::Stalled);
        };
        let messages = u64::from(messages);
        let mut scratch = std::mem::take(&mut self.scratch);
        let slot = &mut self.lanes[leaf as usize];
        let is_record = slot.lane.setup().layout == Layout::Records;
        if is_record {
            unit.write_record(&mut scratch);
            slot.lane
                .append_unit(&mut self.memory, &mut self.pool, &scratch, messages, None);
        } else {
            unit.write_frames(&mut scratch);
            let mut rest = scratch.as_slice();
            while let Ok(Some(len)) = frame::peek(rest, u32::MAX) {
                let (frame, after) = rest.split_at(len);
                self.append_frame(LaneId(leaf), frame);
                rest = after;
            }
        }
        let slot = &mut self.lanes[leaf as usize];
        self.counters.received += messages;
        self.counters.received_bytes += scratch.len() as u64;
        if let Some(ticket) = ticket {
            let last = slot.lane.appended();
            self.receipts
                .open(ticket, &mut slot.tickets, last, messages);
        }
        if !is_record {
            self.note_form(LaneId(leaf), messages, Form::Json);
            self.sample_posted(LaneId(leaf), first_frame(&scratch));
        }
        self.keep_scratch(scratch);
        self.mark_dirty(LaneId(leaf));
        self.check_full(LaneId(leaf));
        Ok(())
    }

    /// Copies a frame behind the tail of a lane of frames or batches. Not into its callers: the short way of a copy
    /// is compiled into the loop of each source, and how often it is elsewhere must not change that.
    #[inline(never)]
    pub(super) fn append_frame(&mut self, lane: LaneId, frame: &[u8]) {
        if self.is_described(lane) {
            return self.append_described_frame(lane, frame);
        }
        let lane = &mut self.lanes[lane.0 as usize].lane;
        if !lane.append_here(&mut self.memory, &[], frame) {
            lane.append(&mut self.memory, &mut self.pool, frame, None);
        }
    }

    /// A ticket that nothing is open of.
    pub fn next_receipt(&mut self) -> Option<Receipt> {
        self.receipts.next_done()
    }

    /// How far a ticket has come. Nothing is open of one that is done.
    pub fn ticket_state(&self, ticket: Ticket) -> TicketState {
        self.receipts.state(ticket)
    }

    /// Tickets that are not done.
    pub fn receipts_waiting(&self) -> usize {
        self.receipts.waiting()
    }

    pub(super) fn keep_scratch(&mut self, mut scratch: Vec<u8>) {
        scratch.clear();
        if scratch.capacity() <= SCRATCH_BYTES_KEPT {
            self.scratch = scratch;
        }
    }
}

fn first_frame(frames: &[u8]) -> &[u8] {
    match frame::peek(frames, u32::MAX) {
        Ok(Some(len)) => frames.get(..len).unwrap_or_default(),
        _ => &[],
    }
}
