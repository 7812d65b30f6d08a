//! Packets that are divided: each of their messages goes its own way, as if it had come alone. Shares are then exact
//! to a message, whatever the packets' sizes.
//!
//! ```text
//! packet of k messages -> tree, k times one -> lane of frames or batches: its frames
//!                                           `-> lane of records: one record of its messages
//! ```
//!
//! All of it is taken in, or nothing. So there is room for all before the first message is routed, and no lane leaves
//! the choice before the last one is: a lane may be beyond its window by a packet, as with a unit.

use super::counters::Reason;
use super::lane::Layout;
use super::receipts::Ticket;
use super::shard::{Engine, LaneState};
use super::tree::UnitSize;
use super::units::{Unit, UnitRefused};
use super::{room, LaneId, Memory};
use weir_protocol::{frame, Form};

/// Kept for the next packet; most fit.
const ROUTES_KEPT: usize = 8192;

/// Messages that may be routed one by one.
pub trait Divisible: Unit {
    /// What a record of some messages has beside them, in bytes, at most.
    fn part_bytes_max(&self) -> usize;
    /// Appends a record of the messages whose numbers `is_in` names, 0 being the first. There is one at least.
    fn write_part(&mut self, is_in: impl Fn(usize) -> bool, out: &mut Vec<u8>);
}

/// Reused: where the messages of a packet go.
#[derive(Default)]
pub(super) struct Routes {
    /// The lane of each.
    leaves: Vec<u32>,
    /// How many each lane gets.
    counts: Vec<u32>,
}

impl<M: Memory> Engine<M> {
    /// Takes in a unit message by message: each goes to the lane that is due. With a ticket,
    /// [`Engine::next_receipt`] tells when all of them are through.
    ///
    /// # Errors
    /// Nothing was taken in.
    pub fn ingest_divided(
        &mut self,
        unit: &mut impl Divisible,
        ticket: Option<Ticket>,
    ) -> Result<(), UnitRefused> {
        let messages = unit.messages();
        if messages == 0 {
            return Ok(());
        }
        self.has_room_divided(unit)?;
        let mut routes = std::mem::take(&mut self.routes);
        let outcome = match self.route_each(messages, &mut routes) {
            true => {
                self.append_each(unit, &routes);
                self.finish_each(ticket, &routes);
                Ok(())
            }
            false => Err(UnitRefused::Stalled),
        };
        routes.leaves.clear();
        if routes.leaves.capacity() <= ROUTES_KEPT {
            self.routes = routes;
        }
        outcome
    }

    /// Whether all of a unit fits wherever its messages go.
    fn has_room_divided(&mut self, unit: &impl Divisible) -> Result<(), UnitRefused> {
        let (bytes, max) = (unit.bytes_max(), self.config.largest());
        if bytes > max {
            self.counters.count(Reason::UnitTooLong);
            return Err(UnitRefused::TooLong { bytes, max });
        }
        let up = self.lanes.iter().filter(|slot| slot.state == LaneState::Up);
        let (lanes, records) = up.fold((0, 0), |(lanes, records), slot| {
            let is_record = slot.lane.setup().layout == Layout::Records;
            (lanes + 1, records + usize::from(is_record))
        });
        let parts = lanes.min(unit.messages() as usize); // in memory
        let more_bytes = records.min(parts).saturating_sub(1) * unit.part_bytes_max();
        let bytes = bytes + more_bytes + self.http_description_bytes(unit.messages());
        let buffer_bytes = self.config.buffer_bytes;
        // Each lane's last buffer may be begun.
        let needed = self.ingest_floor + room::for_unit(bytes, buffer_bytes) + parts;
        let idle = self.pool.total().saturating_sub(lanes);
        if needed > idle {
            self.counters.count(Reason::UnitTooLong);
            let left = idle.saturating_sub(self.ingest_floor + parts);
            let max = room::unit_bytes(left, buffer_bytes);
            return Err(UnitRefused::TooLong { bytes, max });
        }
        let is_ready = self.rerouting.is_idle() && !self.stalled;
        if !is_ready && !self.can_ingest()
            || self.full_lanes >= self.full_lanes_max
            || self.pool.free() < needed
        {
            return Err(UnitRefused::Stalled);
        }
        Ok(())
    }

    /// False: no lane takes any. Nothing changes between two messages, so that is known with the first.
    fn route_each(&mut self, messages: u32, routes: &mut Routes) -> bool {
        routes.counts.clear();
        routes.counts.resize(self.lanes.len(), 0);
        for _ in 0..messages {
            let Some(leaf) = self.tree.route(UnitSize::ONE) else {
                return false;
            };
            routes.leaves.push(leaf);
            routes.counts[leaf as usize] += 1;
        }
        true
    }

    fn append_each(&mut self, unit: &mut impl Divisible, routes: &Routes) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut bytes = 0;
        let is_record = |engine: &Self, leaf: u32| {
            engine.lanes[leaf as usize].lane.setup().layout == Layout::Records
        };
        if routes.lanes().any(|(leaf, _)| !is_record(self, leaf)) {
            unit.write_frames(&mut scratch);
            let mut rest = scratch.as_slice();
            for leaf in &routes.leaves {
                let Ok(Some(len)) = frame::peek(rest, u32::MAX) else {
                    break;
                };
                let (frame, after) = rest.split_at(len);
                rest = after;
                if is_record(self, *leaf) {
                    continue;
                }
                bytes += len;
                self.sample_posted(LaneId(*leaf), frame);
                self.append_frame(LaneId(*leaf), frame);
            }
        }
        for (leaf, count) in routes.lanes() {
            if !is_record(self, leaf) {
                self.note_form(LaneId(leaf), count, Form::Json);
                continue;
            }
            scratch.clear();
            unit.write_part(
                |message| routes.leaves.get(message) == Some(&leaf),
                &mut scratch,
            );
            bytes += scratch.len();
            let lane = &mut self.lanes[leaf as usize].lane;
            lane.append_unit(&mut self.memory, &mut self.pool, &scratch, count, None);
        }
        self.counters.received_bytes += bytes as u64;
        self.keep_scratch(scratch);
    }

    fn finish_each(&mut self, ticket: Option<Ticket>, routes: &Routes) {
        for (leaf, count) in routes.lanes() {
            // Counted before a lane may leave the choice: they were due by the weights so far.
            self.counters.received += count;
            if let Some(ticket) = ticket {
                let slot = &mut self.lanes[leaf as usize];
                let last = slot.lane.appended();
                self.receipts.open(ticket, &mut slot.tickets, last, count);
            }
            self.mark_dirty(LaneId(leaf));
        }
        for (leaf, _) in routes.lanes() {
            self.check_full(LaneId(leaf));
        }
    }
}

impl Routes {
    /// The lanes that get something, and how many messages.
    fn lanes(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let counts = self.counts.iter().zip(0..);
        let some = counts.filter(|(count, _)| **count > 0);
        some.map(|(count, leaf)| (leaf, u64::from(*count)))
    }
}
