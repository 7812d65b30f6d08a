//! Moves: what one analyzer over HTTP refused goes to another, while its link stays.
//!
//! ```text
//! lane of A   [ open | refused | open ]      its place stays until all before it is through
//!                        `--> tree, without those that refused it --> lane of B, C or D
//! ```
//!
//! A move is a re-route of one unit: its messages count for both analyzers, its ticket and its identity go
//! along. A lane knows what was moved to it and who has refused that already, so that nobody is asked
//! twice. What is moved again because a link died has lost this knowledge: links do not die of refusals.
//!
//! A refused unit holds up its lane, and a full lane can hold up the refused units of others and a re-route. So that
//! they do not wait for each other, a move waits for neither: it goes past a re-route that has no room, and when all
//! other lanes of records are full one of them takes up to twice its window.

use super::lane::{LaneUnit, Layout};
use super::reroute::rendered;
use super::shard::{lane_id, Engine, LaneSlot, LaneState};
use super::tree::UnitSize;
use super::{room, LaneId, Memory, Origin};
use weir_protocol::described::ABOUT_HEAD_BYTES;

/// Messages of a lane that were moved there, and by whom they had been refused.
pub(super) struct Tried {
    first: u64,
    last: u64,
    /// Numbers of analyzers.
    analyzers: Vec<u32>,
    rounds: u32,
}

/// What is to be moved out of a lane.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Its first message, as the lane numbers them from 1.
    pub first: u64,
    /// How many.
    pub messages: u64,
    /// Rounds that were made before: everybody is asked once in each. More than the unit came with makes
    /// everybody but the present analyzer eligible again.
    pub rounds: u32,
}

/// What came of a [`Move`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// It is in another lane.
    Moved,
    /// There are others, and none has room now.
    NoRoom,
    /// Each analyzer that takes messages has refused it, or there is no memory to ask another with.
    Nowhere,
}

impl LaneSlot {
    /// Forgets who refused messages that are through.
    pub(super) fn forget_tried(&mut self) {
        let acked = self.lane.acked();
        while self.tried.front().is_some_and(|tried| tried.last <= acked) {
            self.tried.pop_front();
        }
    }

    fn tried(&self, message: u64) -> Option<&Tried> {
        let mut tried = self.tried.iter();
        tried.find(|tried| (tried.first..=tried.last).contains(&message))
    }
}

impl<M: Memory> Engine<M> {
    /// Rounds that a message had made when it was moved to this lane.
    pub fn rounds(&self, lane: LaneId, message: u64) -> u32 {
        let tried = self.lanes[lane.0 as usize].tried(message);
        tried.map_or(0, |tried| tried.rounds)
    }

    /// The last message of those that were moved to this lane together with this one, if it was moved.
    pub fn moved_until(&self, lane: LaneId, message: u64) -> Option<u64> {
        let tried = self.lanes[lane.0 as usize].tried(message);
        tried.map(|tried| tried.last)
    }

    /// The analyzer of a lane of records refused a unit, or a part of one: another gets it, none twice in a
    /// round. Nothing for a lane that is down, whose messages go to others all the same.
    pub fn move_on(&mut self, lane: LaneId, what: Move) -> Onward {
        let slot = &self.lanes[lane.0 as usize];
        if slot.state != LaneState::Up {
            return Onward::NoRoom;
        }
        let known = slot.tried(what.first);
        let known = known.filter(|tried| tried.rounds >= what.rounds);
        let mut tried = known.map_or_else(Vec::new, |tried| tried.analyzers.clone());
        if !tried.contains(&slot.analyzer) {
            tried.push(slot.analyzer);
        }
        let is_left = |slot: &LaneSlot| {
            slot.state == LaneState::Up && slot.weight > 0.0 && !tried.contains(&slot.analyzer)
        };
        if !self.lanes.iter().any(is_left) {
            return Onward::Nowhere;
        }
        let mut units = slot.lane.units_of(&self.memory, what.first, what.messages);
        for unit in &mut units {
            // Where it goes is not known yet: in a form that all lanes have.
            if let Some(json) = rendered(&unit.bytes, self.config.frame_bytes_max as usize) {
                unit.bytes = json;
            }
        }
        let bytes = |unit: &LaneUnit| {
            let said = ABOUT_HEAD_BYTES * unit.messages as usize; // in memory
            room::bytes_moved(unit.bytes.len() + said, unit.messages)
        };
        let bytes: usize = units.iter().map(bytes).sum();
        if self.pool.free() < room::for_unit(bytes, self.config.buffer_bytes) {
            // Buffers of a dead lane may be free only when this one goes on.
            return match self.rerouting.is_idle() {
                true => Onward::NoRoom,
                false => Onward::Nowhere,
            };
        }
        let Some(chosen) = self.route_without(&tried, what.messages) else {
            return Onward::NoRoom;
        };
        let before = self.lanes[chosen.0 as usize].lane.appended();
        let waiting = self.rerouting.step_aside();
        for unit in units {
            let last = unit.first + unit.messages - 1;
            let tickets = &mut self.lanes[lane.0 as usize].tickets;
            let ticket = self.receipts.take_within(tickets, unit.first, last);
            self.rerouting.stage(unit, ticket);
            self.place(chosen);
        }
        self.rerouting.step_back(waiting);
        self.lanes[lane.0 as usize].moved_open += what.messages;
        let slot = &mut self.lanes[chosen.0 as usize];
        if slot.lane.setup().layout == Layout::Records {
            slot.tried.push_back(Tried {
                first: before + 1,
                last: slot.lane.appended(),
                analyzers: tried,
                rounds: what.rounds,
            });
        }
        self.mark_dirty(chosen);
        self.check_full(chosen);
        Onward::Moved
    }

    /// The records of messages that a lane of records keeps, one behind the other; a part of a record is one
    /// of its own.
    pub fn records_of(&self, lane: LaneId, first: u64, messages: u64) -> Vec<u8> {
        let lane = &self.lanes[lane.0 as usize].lane;
        let units = lane.units_of(&self.memory, first, messages);
        units.into_iter().flat_map(|unit| unit.bytes).collect()
    }

    /// The same, each with the identity of its first message.
    pub fn identified_records_of(
        &self,
        lane: LaneId,
        first: u64,
        messages: u64,
    ) -> Vec<(Origin, Vec<u8>)> {
        let lane = &self.lanes[lane.0 as usize].lane;
        let units = lane.units_of(&self.memory, first, messages);
        units
            .into_iter()
            .map(|unit| (unit.origin, unit.bytes))
            .collect()
    }

    /// The identity of a record's first message, by the message's number in the lane.
    pub fn origin_of(&self, lane: LaneId, message: u64) -> Origin {
        self.lanes[lane.0 as usize].lane.origin_of(message)
    }

    /// The next `messages` messages of the lane are in another one: their place here is passed.
    pub fn moved_past(&mut self, lane: LaneId, messages: u64, now_ns: u64) {
        if self.advance(lane, messages, now_ns).is_some() {
            let slot = &mut self.lanes[lane.0 as usize];
            slot.refused_in_order += messages;
            slot.moved_open -= messages;
        }
    }

    /// The analyzer of a lane asked for patience, or it is over: meanwhile others get its share, as if its
    /// window were full.
    pub fn set_paused(&mut self, lane: LaneId, paused: bool) {
        self.lanes[lane.0 as usize].paused = paused;
        self.check_full(lane);
    }

    /// The tree's choice among those that are not in `tried`.
    fn route_without(&mut self, tried: &[u32], messages: u64) -> Option<LaneId> {
        let hides = |slot: &LaneSlot| {
            slot.state == LaneState::Up && !slot.full && tried.contains(&slot.analyzer)
        };
        let lanes = self.lanes.iter().enumerate();
        let hidden: Vec<usize> = lanes
            .filter(|(_, slot)| hides(slot))
            .map(|(lane, _)| lane)
            .collect();
        self.set_hidden(&hidden, true);
        let unit = u32::try_from(messages).ok().and_then(UnitSize::new);
        // No other was taken in, and no more single ones are joined.
        let unit = unit.unwrap_or(UnitSize::MAX);
        let mut chosen = self.tree.route(unit).map(LaneId);
        if chosen.is_none() {
            let overfull = self.may_be_overfilled(tried);
            self.set_hidden(&overfull, false);
            chosen = self.tree.route(unit).map(LaneId);
            self.set_hidden(&overfull, true);
        }
        if chosen.is_some() {
            self.counters.rerouted += messages;
        }
        self.set_hidden(&hidden, false);
        chosen
    }

    /// Full lanes of records, not in `tried`, that have less than twice their window.
    fn may_be_overfilled(&self, tried: &[u32]) -> Vec<usize> {
        let takes_more = |slot: &LaneSlot| {
            let window = self.window_buffers.min(slot.window_buffers);
            slot.state == LaneState::Up
                && slot.full
                && !slot.paused
                && slot.lane.setup().layout == Layout::Records
                && slot.lane.segments() <= 2 * window
                && slot.lane.unacked() < 2 * slot.window_messages
                && !tried.contains(&slot.analyzer)
        };
        let lanes = self.lanes.iter().enumerate();
        let more = lanes.filter(|(_, slot)| takes_more(slot));
        more.map(|(lane, _)| lane).collect()
    }

    /// Takes lanes out of the choice and back in; what is due to whom follows.
    fn set_hidden(&mut self, lanes: &[usize], hidden: bool) {
        for lane in lanes {
            self.lanes[*lane].full = hidden;
            self.tree.set_available(lane_id(*lane).0, !hidden);
            self.table_changes.availability += 1;
        }
        self.settle_dues();
    }
}
