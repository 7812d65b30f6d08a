//! Lanes come with the roster and go with their links; windows divide the arena among them.

use std::collections::VecDeque;

use super::accounts::LaneDue;
use super::counters::Reason;
use super::ended::Ended;
use super::forms::Forms;
use super::lane::{Lane, LaneSetup, Layout};
use super::pace::Pace;
use super::receipts::Ranges;
use super::roster::{Entry, Reach, Roster};
use super::shard::{lane_id, Engine, LaneSlot, LaneState, Window};
use super::tree::LEAF_COUNT_MAX;
use super::{room, LaneId, LinkEpoch, Memory};

impl<M: Memory> Engine<M> {
    /// Takes over a roster, unless it is older than the present one. `own_link` names this shard's
    /// link of an analyzer that has one to each, and what it wants un-ACKed at most, if it has one.
    pub fn apply_roster(
        &mut self,
        roster: &Roster,
        own_link: impl Fn(&Entry) -> Option<(LinkEpoch, Window)>,
    ) -> bool {
        if roster.epoch <= self.roster_epoch {
            return false;
        }
        self.roster_epoch = roster.epoch;
        for slot in &mut self.lanes {
            slot.weight = 0.0;
        }
        let mut lanes_left = self.lanes_max();
        for entry in &roster.entries {
            let reach = match entry.reach {
                Reach::SingleLink { home, epoch } => Some((epoch, home, Window::ANY)),
                Reach::LinkPerShard | Reach::Http { .. } => {
                    own_link(entry).map(|(epoch, window)| (epoch, self.config.shard, window))
                }
            };
            let Some((epoch, home, window)) = reach else {
                continue;
            };
            if self.tombstones.contains(epoch) {
                continue;
            }
            let setup = LaneSetup {
                shard: self.config.shard,
                epoch,
                layout: entry.sink.facts().layout,
                described: window.described,
            };
            if lanes_left == 0 {
                self.counters.count(Reason::TooManyAnalyzers);
                continue;
            }
            lanes_left -= 1;
            if let Some(lane) = self.find_or_open(setup, entry.analyzer, home, window) {
                self.name_account(entry.analyzer, &entry.name);
                self.lanes[lane.0 as usize].weight = entry.effective_weight();
            }
        }
        let takes_records =
            |slot: &&LaneSlot| slot.weight > 0.0 && slot.lane.setup().layout == Layout::Records;
        self.record_lanes = self.lanes.iter().filter(takes_records).count();
        self.size_windows();
        self.set_tree();
        self.find_described();
        true
    }

    /// Number of the newest roster.
    pub fn roster_epoch(&self) -> u64 {
        self.roster_epoch
    }

    /// The lane that feeds a link.
    pub fn lane_of(&self, epoch: LinkEpoch) -> Option<LaneId> {
        self.lane_by_epoch.get(&epoch).copied()
    }

    /// Shard that owns the link which a lane feeds, and the link.
    pub fn destination(&self, lane: LaneId) -> (u16, LinkEpoch) {
        let slot = &self.lanes[lane.0 as usize];
        (slot.home, slot.lane.setup().epoch)
    }

    /// Full lanes whose link is on another shard: the link, that shard, messages ACKed so far.
    pub fn full_lanes_of_others(&self) -> impl Iterator<Item = (LinkEpoch, u16, u64)> + '_ {
        let others = |slot: &&LaneSlot| {
            slot.full && slot.state == LaneState::Up && slot.home != self.config.shard
        };
        let full = self.lanes.iter().filter(others);
        full.map(|slot| (slot.lane.setup().epoch, slot.home, slot.lane.acked()))
    }

    /// The lane has something to send.
    pub fn has_unsent(&self, lane: LaneId) -> bool {
        let slot = &self.lanes[lane.0 as usize];
        slot.state == LaneState::Up && slot.lane.has_unsent()
    }

    /// The lane may take nothing more until it ACKs.
    pub fn is_full(&self, lane: LaneId) -> bool {
        self.lanes[lane.0 as usize].full
    }

    /// A link is gone, see [`Engine::links_down`].
    pub fn link_down(&mut self, epoch: LinkEpoch, now_ns: u64) {
        self.links_down(&[epoch], now_ns);
    }

    /// Links are gone: their lanes take nothing more, their un-ACKed messages go to the others with the
    /// next [`Engine::reroute`]. The tree, the windows and the dues of all lanes are seen to once, however
    /// many links there are.
    pub fn links_down(&mut self, epochs: &[LinkEpoch], now_ns: u64) {
        let down = epochs
            .iter()
            .filter_map(|epoch| self.take_down(*epoch, now_ns));
        let down: Vec<LaneId> = down.collect();
        if down.is_empty() {
            return;
        }
        self.set_tree();
        self.close_accounts(&down);
        for lane in down {
            self.start_reroute(lane, now_ns);
            self.settle(lane);
        }
        self.size_windows();
    }

    /// The lane of a link that is gone, if it was up.
    fn take_down(&mut self, epoch: LinkEpoch, now_ns: u64) -> Option<LaneId> {
        self.tombstones.insert(epoch);
        let lane = self.lane_of(epoch)?;
        let slot = &mut self.lanes[lane.0 as usize];
        slot.state = LaneState::Down;
        self.lane_by_epoch.remove(&epoch);
        slot.weight = 0.0;
        slot.acked_at_end = Some(slot.acked());
        let mut ended = Ended {
            epoch,
            analyzer: slot.analyzer,
            assigned: slot.lane.appended(),
            acked: slot.acked(),
            refused: slot.refused(),
            detected_ns: now_ns,
            rerouted_ns: None,
        };
        ended.rerouted_ns = (ended.left() == 0).then_some(now_ns);
        self.ended.push(ended);
        slot.full = false;
        Some(lane)
    }

    /// A lane that is down and empty is forgotten.
    pub(super) fn settle(&mut self, lane: LaneId) {
        let slot = &mut self.lanes[lane.0 as usize];
        let gone = slot.state == LaneState::Down && slot.lane.is_empty();
        if gone && !self.rerouting.empties(lane) {
            slot.state = LaneState::Free;
        }
    }

    /// Takes a lane out of the choice while its window is full, and back in.
    pub(super) fn check_full(&mut self, lane: LaneId) {
        if self.turn_full(lane) {
            self.settle_dues();
            self.count_full();
        }
    }

    /// True when that changed; dues are to be settled then.
    fn turn_full(&mut self, lane: LaneId) -> bool {
        let slot = &mut self.lanes[lane.0 as usize];
        if slot.state != LaneState::Up {
            return false;
        }
        let window_buffers = self.window_buffers.min(slot.window_buffers);
        let is_used_up = slot.lane.segments() > window_buffers || slot.lane.message_window_full();
        let full = is_used_up || slot.paused;
        if full == slot.full {
            return false;
        }
        slot.full = full;
        self.tree.set_available(lane.0, !full);
        self.table_changes.availability += 1;
        true
    }

    /// Lanes that are full and would be chosen otherwise.
    pub(super) fn count_full(&mut self) {
        let full = |slot: &&LaneSlot| slot.full && slot.weight > 0.0;
        self.full_lanes = self.lanes.iter().filter(full).count();
    }

    pub(super) fn has_open_lane(&self) -> bool {
        let open = |slot: &LaneSlot| slot.state == LaneState::Up && !slot.full && slot.weight > 0.0;
        self.lanes.iter().any(open)
    }

    pub(super) fn find_or_open(
        &mut self,
        setup: LaneSetup,
        analyzer: u32,
        home: u16,
        window: Window,
    ) -> Option<LaneId> {
        if let Some(lane) = self.lane_of(setup.epoch) {
            return Some(lane);
        }
        let window_messages = window.messages.min(self.config.window_messages).max(1);
        let window_buffers = window.bytes / u64::from(self.config.buffer_bytes);
        let mut lane = Lane::new(setup);
        lane.set_message_window(window_messages);
        let slot = LaneSlot {
            lane,
            state: LaneState::Up,
            full: false,
            dirty: false,
            weight: 0.0,
            window_messages,
            window_buffers: usize::try_from(window_buffers).unwrap_or(usize::MAX),
            analyzer,
            home,
            written: 0,
            rerouted: 0,
            assigned_before: 0,
            due: LaneDue::default(),
            refused_in_order: 0,
            moved_open: 0,
            tried: VecDeque::new(),
            forms: Forms::default(),
            tickets: Ranges::default(),
            pace: Pace::default(),
            presumed: 0,
            paused: false,
            through: VecDeque::new(),
            acked_at_end: None,
        };
        if let Some(free) = self
            .lanes
            .iter()
            .position(|slot| slot.state == LaneState::Free)
        {
            let dirty = self.lanes[free].dirty;
            self.lanes[free] = LaneSlot { dirty, ..slot };
            self.lane_by_epoch.insert(setup.epoch, lane_id(free));
            return Some(lane_id(free));
        }
        // Each lane that is down holds a buffer, so only an arena of millions comes here.
        if self.lanes.len() >= LEAF_COUNT_MAX {
            self.counters.count(Reason::TooManyAnalyzers);
            return None;
        }
        self.lanes.push(slot);
        let lane = lane_id(self.lanes.len() - 1);
        self.lane_by_epoch.insert(setup.epoch, lane);
        Some(lane)
    }

    /// Divides the arena among the lanes in use, so that one that is stuck cannot starve the others,
    /// and so that receiving can resume whenever none of them is full.
    pub(super) fn size_windows(&mut self) {
        let used = self
            .lanes
            .iter()
            .filter(|slot| slot.state == LaneState::Up)
            .count()
            .max(1);
        let buffers_for = |bytes| room::for_message(bytes, self.config.buffer_bytes);
        let largest_buffers = buffers_for(self.config.largest());
        let frame_buffers = buffers_for(self.config.frame_bytes_max as usize);
        self.ingest_floor = largest_buffers + used.min(self.pool.total() / 4) + 2;
        self.resume_level = self.ingest_floor + self.pool.total() / 16;
        let share = self.pool.total().saturating_sub(self.resume_level) / used;
        let wanted = self.config.window_bytes / u64::from(self.config.buffer_bytes);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        // A lane is full when it is beyond this, and the frame that takes it there may be large; but
        // many lanes on a small arena need their windows more than room for the largest frame.
        let window = share.min(wanted);
        // With one buffer, a client that ACKs every tenth message could be full before the tenth.
        self.window_buffers = (window - frame_buffers.min(window / 2)).max(2);
        let mut turned = false;
        for lane in 0..self.lanes.len() {
            turned |= self.turn_full(lane_id(lane));
        }
        if turned {
            self.settle_dues();
            self.count_full();
        }
    }

    pub(super) fn set_tree(&mut self) {
        let leaves: Vec<(u32, f64)> = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.state == LaneState::Up)
            .map(|(lane, slot)| (lane_id(lane).0, slot.weight))
            .collect();
        self.tree.set_weights(&leaves);
        for (leaf, _) in &leaves {
            let full = self.lanes[*leaf as usize].full;
            self.tree.set_available(*leaf, !full);
        }
        self.settle_dues();
        self.note_bound();
        if leaves == self.table {
            return;
        }
        self.table = leaves;
        self.table_changes.tables += 1;
        for slot in &mut self.lanes {
            slot.assigned_before = slot.lane.appended();
        }
        self.count_full();
    }
}
