//! Re-route: what a dead lane has not seen ACKed goes back through the tree to the living.
//!
//! ```text
//! link_down -> jobs -> staged -> tree -> living lane -> reported when written
//!              newest   one       |
//!              first    message   `- nobody living, or no room: wait, emitters feel it
//! ```
//!
//! While anything is under way nothing new is taken in, so re-routed messages overtake fresh ones.
//!
//! Messages may need more room in their new lanes than they had in the old one: they spread over
//! more tails, and on native links each carries its origin. When no buffer is free, more messages
//! are staged until their buffers are. What is staged stays bounded even if all analyzers die again
//! and again without an ACK, because the newest dead lanes are emptied first: they hold the very
//! messages that the buffers freed last were used for.

use std::collections::VecDeque;

use super::described::{moved, record_of};
use super::lane::{Lane, LaneUnit, Layout};
use super::origins::Origin;
use super::receipts::Ticket;
use super::shard::{lane_id, Engine, LaneSlot, LaneState, Passed, PassedRange, Rerouted};
use super::tree::UnitSize;
use super::{room, LaneId, LinkEpoch, Memory};
use weir_protocol::frame;
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::record::{frame_header, split_entry, wrap_parts, Record};
use weir_protocol::Form;
use weir_source::render;

/// Kept for the next re-route; most frames fit.
const STAGED_BYTES_KEPT: usize = 64 * 1024;
/// Reports that may wait for a slow socket; beyond, the oldest is given out early.
const MOVED_MAX: usize = 1024;

struct Job {
    lane: LaneId,
    report: Rerouted,
    /// Messages that the dead analyzer had been sent.
    sent_before: u64,
}

/// All moved, not yet all written: what living lanes must have written.
struct Moved {
    report: Rerouted,
    targets: Vec<(LaneId, LinkEpoch, u64)>,
}

/// One message, or the messages of one record.
#[derive(Clone, Copy, Debug, PartialEq)]
struct StagedUnit {
    /// Identity of the first.
    origin: Origin,
    messages: u64,
    /// Bytes.
    len: usize,
    is_record: bool,
    /// A frame that may be described.
    is_described: bool,
    /// A frame that came by HTTP.
    form: Form,
    ticket: Option<Ticket>,
}

/// Messages out of a dead lane and not yet in a living one, oldest first.
#[derive(Default)]
struct Staged {
    units: VecDeque<StagedUnit>,
    /// Messages in them.
    messages: u64,
    /// Their frames and records, behind `read` bytes of others that are in their lanes.
    bytes: Vec<u8>,
    read: usize,
    /// The first unit, where it is not what its bytes say any more.
    first: Option<Vec<u8>>,
}

impl Staged {
    fn push_back(&mut self, unit: StagedUnit) {
        self.messages += unit.messages;
        self.units.push_back(unit);
    }

    fn front(&self) -> Option<(StagedUnit, &[u8])> {
        let unit = *self.units.front()?;
        let bytes = &self.bytes[self.read..self.read + unit.len];
        Some((unit, self.first.as_deref().unwrap_or(bytes)))
    }

    /// An entry of Fluent Forward that is staged first becomes JSON: its new lane has no place for it as it came. Its
    /// bytes then.
    fn render_first(&mut self, frame_bytes_max: usize) -> usize {
        let len = self.front().map_or(0, |(_, bytes)| bytes.len());
        if let Some((_, bytes)) = self.front().filter(|(unit, _)| unit.is_record) {
            self.first = rendered(bytes, frame_bytes_max).or(self.first.take());
        }
        self.first.as_ref().map_or(len, Vec::len)
    }

    fn pop_front(&mut self) {
        let Some(unit) = self.units.pop_front() else {
            return;
        };
        self.messages -= unit.messages;
        self.read += unit.len;
        self.first = None;
        if self.read > self.bytes.len() / 2 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
    }

    fn len_bytes(&self) -> usize {
        self.bytes.len() - self.read
    }
}

/// The record of an entry of Fluent Forward as the record of a message of JSON. `None`: it is another.
pub(super) fn rendered(bytes: &[u8], frame_bytes_max: usize) -> Option<Vec<u8>> {
    let (record, _) = Record::parse(bytes)?;
    let frame = record.frame().filter(|_| record.form() == Form::Entry)?;
    let (header, payload) = frame.split_first_chunk::<{ FRAME_HEADER_BYTES as usize }>()?;
    let (tag, entry) = split_entry(payload)?;
    let mut json = Vec::new();
    let bytes_max = frame_bytes_max - header.len();
    let mut context = render::Context::default();
    render::entry(&mut context, tag, entry, bytes_max, &mut json);
    let header = frame_header(header.len() + json.len(), header[header.len() - 1]);
    let mut record = Vec::new();
    wrap_parts(Form::Json, &header, &json, &mut record);
    Some(record)
}

/// Re-routes under way. At most one per lane.
#[derive(Default)]
pub(super) struct Rerouting {
    jobs: Vec<Job>,
    staged: Staged,
    /// The tree's choice for the message that is staged first, while it waits for a buffer.
    chosen: Option<(LaneId, LinkEpoch)>,
    moved: VecDeque<Moved>,
}

impl Rerouting {
    /// Every message has found its new lane.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Messages in no lane.
    pub(super) fn staged(&self) -> u64 {
        self.staged.messages
    }

    /// What is staged makes room for units that are moved while their lane lives; to be given back with
    /// [`Rerouting::step_back`].
    pub(super) fn step_aside(&mut self) -> Waiting {
        let staged = std::mem::take(&mut self.staged);
        Waiting(staged, self.chosen.take())
    }

    /// The units that were moved are placed.
    pub(super) fn step_back(&mut self, Waiting(staged, chosen): Waiting) {
        debug_assert!(
            self.staged.units.is_empty(),
            "moved units are placed at once"
        );
        self.staged = staged;
        self.chosen = chosen;
    }

    /// A unit that is moved while its lane lives; to be placed at once. Nothing else is staged.
    pub(super) fn stage(&mut self, unit: LaneUnit, ticket: Option<Ticket>) {
        self.staged.bytes.extend_from_slice(&unit.bytes);
        self.staged.push_back(StagedUnit {
            origin: unit.origin,
            messages: unit.messages,
            len: unit.bytes.len(),
            is_record: true,
            is_described: false,
            form: Form::Raw,
            ticket,
        });
    }

    /// A lane's messages are still being moved.
    pub(super) fn empties(&self, lane: LaneId) -> bool {
        self.jobs.iter().any(|job| job.lane == lane)
    }
}

/// Messages out of dead lanes that wait until a move is done.
pub(super) struct Waiting(Staged, Option<(LaneId, LinkEpoch)>);

/// Origins beside the bytes of lanes that cannot carry them, as far as there is room.
struct OriginsKept {
    room: usize,
    kept: usize,
    lost: u64,
}

impl OriginsKept {
    /// The unit appended last to a lane was first delivered as `origin`.
    fn keep(&mut self, lane: &mut Lane, messages: u64, origin: Origin) {
        if lane.setup().layout == Layout::Batches {
            return;
        }
        if self.kept < self.room {
            lane.keep_origin(messages, origin);
            self.kept += 1;
        } else {
            self.lost += messages;
        }
    }
}

impl LaneSlot {
    /// A record of these messages, the oldest that are left, whose messages fared differently.
    fn is_cut(&mut self, first: u64, last: u64) -> bool {
        let through = self.was_passed(first);
        match through.or_else(|| self.through.front().copied()) {
            Some(through) => {
                through.first <= last
                    && (first, last) != (first.max(through.first), last.min(through.last))
            }
            None => false,
        }
    }

    /// Message `first`, the oldest that is left, was ACKed or refused out of order.
    fn was_passed(&mut self, first: u64) -> Option<PassedRange> {
        let is_past = |through: &PassedRange| through.last < first;
        while self.through.front().is_some_and(is_past) {
            self.through.pop_front();
        }
        let through = self.through.front().copied();
        through.filter(|through| through.first <= first)
    }
}

impl<M: Memory> Engine<M> {
    pub(super) fn start_reroute(&mut self, lane: LaneId, now_ns: u64) {
        let slot = &self.lanes[lane.0 as usize];
        let passed = [Passed::Acked, Passed::Refused, Passed::Moved];
        let through: u64 = passed.map(|passed| slot.out_of_order(passed)).iter().sum();
        let unacked = slot.lane.unacked();
        if unacked == 0 {
            return;
        }
        let report = Rerouted {
            epoch: slot.lane.setup().epoch,
            analyzer: slot.analyzer,
            messages: unacked - through,
            detected_ns: now_ns,
        };
        let sent_before = slot.lane.submitted() - slot.lane.acked() - through;
        self.rerouting.jobs.push(Job {
            lane,
            report,
            sent_before,
        });
    }

    /// Moves messages of dead lanes to living ones, as far as these have room. Cheap when there is
    /// nothing to do.
    pub fn reroute(&mut self) {
        while self.stage_next() && self.place_staged() {}
    }

    /// A re-route whose last message has been written to its new analyzer's socket.
    pub fn next_rerouted(&mut self) -> Option<Rerouted> {
        let moved = self.rerouting.moved.front()?;
        let lanes = &self.lanes;
        let written = moved.targets.iter().all(|(lane, epoch, sequence)| {
            let slot = &lanes[lane.0 as usize];
            !slot.feeds(*epoch) || slot.written >= *sequence
        });
        if !written && self.rerouting.moved.len() <= MOVED_MAX {
            return None;
        }
        self.rerouting.moved.pop_front().map(|moved| moved.report)
    }

    /// Sees to it that a message is staged. False: all dead lanes are empty.
    fn stage_next(&mut self) -> bool {
        if !self.rerouting.staged.units.is_empty() {
            return true;
        }
        while let Some(job) = self.rerouting.jobs.last() {
            if self.stage_from(job.lane) {
                return true;
            }
            self.finish_job();
        }
        false
    }

    /// Takes the oldest message out of a dead lane, or its oldest record. False: it is empty.
    fn stage_from(&mut self, dead: LaneId) -> bool {
        loop {
            let staged = &mut self.rerouting.staged;
            let slot = &mut self.lanes[dead.0 as usize];
            let setup = slot.lane.setup();
            let before = staged.bytes.len();
            let first = slot.lane.acked() + 1;
            let Some(origin) = slot.lane.unacked_front(&mut self.memory, &mut staged.bytes) else {
                return false;
            };
            let messages = slot.lane.pop_unacked(&self.memory, &mut self.pool);
            self.origins_kept -= slot.lane.forget_origins();
            let form = slot.forms.of(first);
            self.forms_kept -= slot.forms.forget(slot.lane.acked());
            if slot.is_cut(first, first + messages - 1) {
                self.stage_parts(dead, first, messages, before, origin);
                if self.rerouting.staged.units.is_empty() {
                    continue;
                }
                return true;
            }
            let last = first + messages - 1;
            let ticket = self.receipts.take(&mut slot.tickets, last);
            if let Some(through) = slot.was_passed(first) {
                staged.bytes.truncate(before);
                match through.passed {
                    Passed::Refused => self.counters.dropped += messages,
                    Passed::Acked => self.counters.acked += messages,
                    Passed::Moved => slot.moved_open -= messages,
                }
                if let Some(ticket) = ticket {
                    let is_refused = through.passed == Passed::Refused;
                    self.receipts.settle(ticket, messages, is_refused);
                }
                continue;
            }
            staged.push_back(StagedUnit {
                origin,
                messages,
                len: staged.bytes.len() - before,
                is_record: setup.layout == Layout::Records,
                is_described: setup.described,
                form,
                ticket,
            });
            debug_assert!(self.rerouting.staged.len_bytes() <= 3 * self.staged_enough());
            return true;
        }
    }

    /// Of a record whose messages fared differently: stages those that are open, as records of their own.
    fn stage_parts(&mut self, dead: LaneId, first: u64, messages: u64, at: usize, origin: Origin) {
        let staged = &mut self.rerouting.staged;
        let bytes = staged.bytes.split_off(at);
        let record = Record::parse(&bytes).map(|(record, _)| record);
        let record = record.expect("a record that this engine wrote");
        let (mut next, end) = (first, first + messages);
        while next < end {
            let slot = &mut self.lanes[dead.0 as usize];
            let through = slot.was_passed(next);
            let last = match through {
                Some(through) => through.last,
                None => slot.through.front().map_or(u64::MAX, |next| next.first - 1),
            };
            let last = last.min(end - 1);
            let count = last + 1 - next;
            let ticket = match through.map(|through| through.passed) {
                Some(Passed::Moved) => None,
                _ => self.receipts.take_within(&mut slot.tickets, next, last),
            };
            match through.map(|through| through.passed) {
                Some(Passed::Moved) => slot.moved_open -= count,
                Some(passed) => {
                    let is_refused = passed == Passed::Refused;
                    match is_refused {
                        true => self.counters.dropped += count,
                        false => self.counters.acked += count,
                    }
                    if let Some(ticket) = ticket {
                        self.receipts.settle(ticket, count, is_refused);
                    }
                }
                None => {
                    let mut part = Vec::new();
                    let from = usize::try_from(next - first).unwrap_or(usize::MAX);
                    let to = from + usize::try_from(count).unwrap_or(0);
                    record.write_part(from..to, &mut part);
                    let origin = Origin {
                        sequence: origin.sequence + (next - first),
                        ..origin
                    };
                    let unit = LaneUnit {
                        first: next,
                        messages: count,
                        origin,
                        bytes: part,
                    };
                    self.rerouting.stage(unit, ticket);
                }
            }
            next = last + 1;
        }
    }

    /// Moves what is staged first to a living lane. False: no room, or nobody alive.
    fn place_staged(&mut self) -> bool {
        let Some((unit, bytes)) = self.rerouting.staged.front() else {
            return true;
        };
        let len = bytes.len();
        let Some(chosen) = self.chosen_lane(unit.messages) else {
            return false;
        };
        let lane = &self.lanes[chosen.0 as usize].lane;
        let is_record = lane.setup().layout == Layout::Records;
        let said = self.moved_description_bytes(chosen, unit.messages);
        let needed = if unit.is_record || is_record {
            let len = match is_record {
                true => len,
                false => {
                    let frame_bytes_max = self.config.frame_bytes_max as usize;
                    self.rerouting.staged.render_first(frame_bytes_max)
                }
            };
            let bytes = room::bytes_moved(len + said, unit.messages);
            room::for_unit(bytes, self.config.buffer_bytes)
        } else {
            lane.buffers_needed(len + said, self.config.buffer_bytes)
        };
        while self.pool.free() < needed {
            if !self.free_by_staging() {
                let epoch = self.lanes[chosen.0 as usize].lane.setup().epoch;
                self.rerouting.chosen = Some((chosen, epoch));
                return false;
            }
        }
        self.place(chosen);
        self.counters.rerouted += unit.messages;
        self.mark_dirty(chosen);
        self.check_full(chosen);
        true
    }

    /// Moves what is staged first to the end of a lane, in the form that the lane has.
    pub(super) fn place(&mut self, chosen: LaneId) {
        let Some((unit, bytes)) = self.rerouting.staged.front() else {
            return;
        };
        let slot = &mut self.lanes[chosen.0 as usize];
        let lane = &mut slot.lane;
        let (memory, pool) = (&mut self.memory, &mut self.pool);
        let becomes_record = lane.setup().layout == Layout::Records;
        let described = (unit.is_described, lane.setup().described);
        let frame_max = self.config.frame_bytes_max;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut kept = OriginsKept {
            room: self.origins_max - self.origins_kept,
            kept: 0,
            lost: 0,
        };
        let mut form = unit.form;
        match (unit.is_record, becomes_record) {
            (false, false) => {
                let changed = moved(bytes, described, &mut form, frame_max);
                let frame = changed.as_deref().unwrap_or(bytes);
                lane.append(memory, pool, frame, Some(unit.origin));
                kept.keep(lane, 1, unit.origin);
            }
            (false, true) => {
                record_of(bytes, described.0, described.1, form, &mut scratch);
                lane.append(memory, pool, &scratch, None);
                kept.keep(lane, 1, unit.origin);
            }
            (true, true) => {
                let record = Record::parse(bytes).map(|(record, _)| record);
                let stripped = record.filter(|record| record.is_described() && !described.1);
                if let Some(frame) = stripped.and_then(|record| record.frame()) {
                    record_of(frame, true, false, form, &mut scratch);
                }
                let record = if scratch.is_empty() {
                    bytes
                } else {
                    &scratch[..]
                };
                lane.append_unit(memory, pool, record, unit.messages, None);
                kept.keep(lane, unit.messages, unit.origin);
            }
            (true, false) => {
                let record = Record::parse(bytes).map(|(record, _)| record);
                let record = record.expect("a record that this engine wrote");
                let keeps = described.1 && record.is_described();
                match record.frame().filter(|_| keeps) {
                    Some(frame) => scratch.extend_from_slice(frame),
                    None => record.write_frames(&mut scratch),
                }
                form = record.form();
                let mut rest = scratch.as_slice();
                let mut origin = unit.origin;
                while let Ok(Some(len)) = frame::peek(rest, u32::MAX) {
                    let (frame, after) = rest.split_at(len);
                    let changed = moved(frame, (keeps, described.1), &mut form, frame_max);
                    let frame = changed.as_deref().unwrap_or(frame);
                    lane.append(memory, pool, frame, Some(origin));
                    kept.keep(lane, 1, origin);
                    origin.sequence += 1;
                    rest = after;
                }
            }
        }
        self.origins_kept += kept.kept;
        self.counters.identities_lost += kept.lost;
        slot.rerouted = slot.lane.appended();
        if let Some(ticket) = unit.ticket {
            let last = slot.rerouted;
            self.receipts
                .place(ticket, &mut slot.tickets, last, unit.messages);
        }
        if !becomes_record {
            self.note_form(chosen, unit.messages, form);
        }
        self.keep_scratch(scratch);
        self.rerouting.staged.pop_front();
    }

    fn chosen_lane(&mut self, messages: u64) -> Option<LaneId> {
        if let Some((lane, epoch)) = self.rerouting.chosen.take() {
            let slot = &self.lanes[lane.0 as usize];
            if slot.feeds(epoch) && slot.weight > 0.0 {
                return Some(lane);
            }
        }
        let unit = u32::try_from(messages).ok().and_then(UnitSize::new);
        // No other was taken in.
        self.tree.route(unit.unwrap_or(UnitSize::MAX)).map(LaneId)
    }

    /// Bytes that are staged at most while living lanes may still ACK something; three times this
    /// in all.
    fn staged_enough(&self) -> usize {
        let largest_buffers = room::for_message(self.config.largest(), self.config.buffer_bytes);
        (largest_buffers + 1) * self.config.buffer_bytes as usize
    }

    /// Stages another message, so that its buffer may become free. False: wait for an ACK, or for
    /// the kernel.
    fn free_by_staging(&mut self) -> bool {
        let enough = self.staged_enough();
        let holds = |slot: &LaneSlot| slot.state == LaneState::Up && slot.lane.segments() > 0;
        if self.rerouting.staged.len_bytes() >= enough && self.lanes.iter().any(holds) {
            return false;
        }
        let lanes = &self.lanes;
        let mut newest_first = self.rerouting.jobs.iter().rev().map(|job| job.lane);
        let newest = newest_first.find(|lane| lanes[lane.0 as usize].lane.unacked() > 0);
        match newest {
            Some(lane) if !lanes[lane.0 as usize].lane.front_is_held() => self.stage_from(lane),
            _ => false,
        }
    }

    /// The newest dead lane is empty, and nothing is staged.
    fn finish_job(&mut self) {
        let Some(job) = self.rerouting.jobs.pop() else {
            return;
        };
        self.counters.duplicates_possible += job.sent_before;
        let waits = |slot: &LaneSlot| slot.state == LaneState::Up && slot.rerouted > slot.written;
        let lanes = self.lanes.iter().enumerate();
        let targets = lanes
            .filter(|(_, slot)| waits(slot))
            .map(|(lane, slot)| (lane_id(lane), slot.lane.setup().epoch, slot.rerouted))
            .collect();
        let report = job.report;
        self.rerouting.moved.push_back(Moved { report, targets });
        let staged = &mut self.rerouting.staged;
        if staged.bytes.capacity() > STAGED_BYTES_KEPT {
            *staged = Staged::default();
        }
        self.settle(job.lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_messages_keep_their_order_and_little_memory() {
        let origin = |sequence| Origin {
            shard: 0,
            epoch: LinkEpoch(1),
            sequence,
        };
        let mut staged = Staged::default();
        let (mut pushed, mut popped) = (0, 0);
        for round in 0..200_u64 {
            // More and more, then fewer and fewer.
            let pushes = if round < 100 { 7 } else { 1 };
            for _ in 0..pushes {
                pushed += 1;
                let len = 5 + pushed as usize % 90;
                staged.push_back(StagedUnit {
                    origin: origin(pushed),
                    messages: 1,
                    len,
                    is_record: false,
                    is_described: false,
                    form: Form::Raw,
                    ticket: None,
                });
                staged.bytes.resize(staged.bytes.len() + len, pushed as u8);
            }
            for _ in 0..4 {
                let Some((front, frame)) = staged.front() else {
                    continue;
                };
                popped += 1;
                assert_eq!(front.origin, origin(popped));
                assert_eq!(frame, vec![popped as u8; 5 + popped as usize % 90]);
                staged.pop_front();
                let open: usize = staged.units.iter().map(|unit| unit.len).sum();
                assert_eq!(staged.len_bytes(), open);
                assert!(staged.bytes.len() <= 2 * open, "at most half of it is read");
            }
        }
        while staged.front().is_some() {
            staged.pop_front();
        }
        assert_eq!((staged.len_bytes(), staged.bytes.len()), (0, 0));
        staged.pop_front();
    }
}
