//! The engine of one shard: takes received bytes in, gives ranges to send out, balances its books.
//!
//! ```text
//! ingest(emitter, bytes)  ->  frames -> tree -> lanes            stalls when no lane can take more
//! next_dirty, transmit    <-  ranges to send, per lane
//! sent, released, acked   ->  what became of them
//! link_down, reroute      ->  un-ACKed messages back through the tree
//! apply_roster            ->  lanes and weights
//! ```
//!
//! Order of calls in a turn of the event loop: completions (any order), `reroute`, `ingest` of what
//! is pending, then `next_dirty`/`transmit` until nothing is left.

use super::assembler::Assembler;
use super::counters::{Balance, Counters, LaneReport, Reason};
use super::ended::{Ended, EndedList};
use super::lane::{Lane, LaneSetup, Transmit};
use super::reroute::Rerouting;
use super::roster::{Entry, Reach, Roster, Tombstones};
use super::tree::{Tree, LEAF_COUNT_MAX};
use super::{BufferPool, LaneId, LinkEpoch, Memory};
use crate::protocol::frame::{self, FrameError};

/// What a full analyzer does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSlow {
    /// Its share flows around it while its window is full.
    Spill,
    /// Strict proportion: everybody waits for it.
    Wait,
}

/// Fixed facts of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Index of this shard.
    pub shard: u16,
    /// Batch buffers in the arena.
    pub buffers: u32,
    /// Bytes of each; at least 4 KiB.
    pub buffer_bytes: u32,
    /// Largest frame in bytes, header included.
    pub frame_bytes_max: u32,
    /// Most bytes of arena that one lane may hold.
    pub window_bytes: u64,
    /// Most messages that one lane may have un-ACKed.
    pub window_messages: u64,
    /// Most bytes of partial frames, all emitters together.
    pub partial_bytes_max: usize,
    /// Policy for full lanes.
    pub on_slow: OnSlow,
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingest {
    /// All taken.
    Taken,
    /// Only this many bytes were taken, fewer than were offered; offer the rest again when
    /// [`Engine::can_ingest`].
    Stalled {
        /// Bytes that were taken.
        taken: usize,
    },
    /// The stream cannot be followed: close it. Whole frames before were taken.
    BadFrame {
        /// What is wrong.
        error: FrameError,
        /// Where in the stream the frame starts, in bytes.
        offset: u64,
    },
    /// The memory for partial frames is full: close it. Whole frames before were taken.
    PartialMemoryFull,
}

/// A dead lane's messages have all been written to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rerouted {
    /// The link that died.
    pub epoch: LinkEpoch,
    /// The analyzer that died.
    pub analyzer: u32,
    /// Messages re-routed.
    pub messages: u64,
    /// When its death was seen.
    pub detected_ns: u64,
}

/// How often what the tree chooses from has changed. Between two moments with equal numbers one
/// table was in force, and the bound of `docs/SHARES.md` holds for all that was routed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableChanges {
    /// Weights or membership.
    pub tables: u64,
    /// Lanes that became full, or ceased to be.
    pub availability: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    Free,
    Up,
    /// Its link is gone; its messages are being re-routed.
    Down,
}

pub(super) struct LaneSlot {
    pub(super) lane: Lane,
    pub(super) state: LaneState,
    pub(super) full: bool,
    /// In the dirty list.
    dirty: bool,
    pub(super) weight: f64,
    window_messages: u64,
    pub(super) analyzer: u32,
    /// Shard that owns the link.
    home: u16,
    /// Last message known to be written to the socket (or handed over).
    pub(super) written: u64,
    /// Last message that came here by a re-route.
    pub(super) rerouted: u64,
    /// Messages given to it before the last change of the table.
    assigned_before: u64,
}

impl LaneSlot {
    /// It takes messages for this link.
    pub(super) fn feeds(&self, epoch: LinkEpoch) -> bool {
        self.state == LaneState::Up && self.lane.setup().epoch == epoch
    }
}

/// Engine of one shard.
pub struct Engine<M> {
    pub(super) config: EngineConfig,
    pub(super) memory: M,
    pub(super) pool: BufferPool,
    pub(super) tree: Tree,
    pub(super) lanes: Vec<LaneSlot>,
    assemblers: Vec<Assembler>,
    partial_bytes: usize,
    pub(super) rerouting: Rerouting,
    dirty: Vec<LaneId>,
    /// Lanes that are full and have a weight.
    full_lanes: usize,
    /// So many full lanes stop receiving: one when everybody waits for the slowest.
    full_lanes_max: usize,
    window_buffers: usize,
    /// Buffers that must be free before another message is taken in: room for the largest frame,
    /// and for the tails that a re-route opens.
    ingest_floor: usize,
    /// Buffers that must be free to resume receiving: well above the floor where it stopped, or it
    /// would stop again at once.
    resume_level: usize,
    stalled: bool,
    roster_epoch: u64,
    tombstones: Tombstones,
    /// Lane and weight, as the tree was told last.
    table: Vec<(u32, f64)>,
    table_changes: TableChanges,
    ended: EndedList,
    /// What this shard has counted.
    pub counters: Counters,
}

impl<M: Memory> Engine<M> {
    /// An engine over `memory`, which must have the buffers that `config` says.
    ///
    /// # Panics
    /// When the arena cannot hold two of the largest frames: see [`EngineConfig`].
    pub fn new(config: EngineConfig, memory: M) -> Engine<M> {
        let frame_buffers = Lane::buffers_for(config.frame_bytes_max as usize, config.buffer_bytes);
        assert!(
            config.buffer_bytes >= 4096,
            "batch buffers of at least 4 KiB"
        );
        assert!(
            config.buffers as usize >= 4 * frame_buffers + 8,
            "arena too small for the largest frame"
        );
        let mut engine = Engine {
            config,
            memory,
            pool: BufferPool::new(config.buffers, config.buffer_bytes),
            tree: Tree::new(u64::from(config.shard)),
            lanes: Vec::new(),
            assemblers: Vec::new(),
            partial_bytes: 0,
            rerouting: Rerouting::default(),
            dirty: Vec::new(),
            full_lanes: 0,
            full_lanes_max: if config.on_slow == OnSlow::Wait {
                1
            } else {
                usize::MAX
            },
            window_buffers: 0,
            ingest_floor: 0,
            resume_level: 0,
            stalled: false,
            roster_epoch: 0,
            tombstones: Tombstones::default(),
            table: Vec::new(),
            table_changes: TableChanges::default(),
            ended: EndedList::default(),
            counters: Counters::default(),
        };
        engine.size_windows();
        engine
    }

    /// Most analyzers that an arena of this size can serve: each may need two buffers. Lanes that
    /// are down do not count, they hold buffers only until they are empty.
    pub fn lanes_max(&self) -> usize {
        (self.pool.total() / 4).clamp(1, LEAF_COUNT_MAX / 2)
    }

    /// The bytes behind the batch buffers.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    // Ingress ---------------------------------------------------------------------------------

    /// An emitter connected; `emitter` is the index of its connection.
    pub fn emitter_opened(&mut self, emitter: usize) {
        if self.assemblers.len() <= emitter {
            self.assemblers.resize_with(emitter + 1, Assembler::default);
        }
        self.assemblers[emitter] = Assembler::default();
    }

    /// An emitter is gone. A frame that it left unfinished is counted and forgotten: it was never
    /// taken in.
    pub fn emitter_closed(&mut self, emitter: usize) {
        if self.forget_carried(emitter) > 0 {
            self.counters.count(Reason::FrameCutOff);
        }
        self.assemblers[emitter] = Assembler::default();
    }

    /// Whether [`Engine::ingest`] can take anything now.
    pub fn can_ingest(&mut self) -> bool {
        if !self.rerouting.is_idle() || self.full_lanes >= self.full_lanes_max {
            self.stalled = true;
            return false;
        }
        let level = if self.stalled {
            self.resume_level
        } else {
            self.ingest_floor
        };
        let ok = self.pool.free() >= level && self.has_open_lane();
        self.stalled = !ok;
        ok
    }

    /// Takes in what an emitter sent: each whole frame goes to one lane.
    pub fn ingest(&mut self, emitter: usize, data: &[u8]) -> Ingest {
        if (self.stalled || !self.rerouting.is_idle()) && !self.can_ingest() {
            return Ingest::Stalled { taken: 0 };
        }
        let mut rest = data;
        let outcome = self.ingest_frames(emitter, &mut rest);
        let taken = data.len() - rest.len();
        self.assemblers[emitter].advance(taken);
        match outcome {
            Ok(()) => Ingest::Taken,
            Err(Refusal::Stall) => {
                self.stalled = true;
                Ingest::Stalled { taken }
            }
            Err(Refusal::Frame(error)) => {
                self.counters.count(match error {
                    FrameError::TooShort { .. } => Reason::FrameTooShort,
                    FrameError::TooLong { .. } => Reason::FrameTooLong,
                });
                let offset = self.assemblers[emitter].offset() - self.forget_carried(emitter);
                Ingest::BadFrame { error, offset }
            }
            Err(Refusal::PartialMemory) => {
                self.counters.count(Reason::PartialMemoryFull);
                self.forget_carried(emitter);
                Ingest::PartialMemoryFull
            }
        }
    }

    /// The stream is not followed any more: its partial frame makes room. Returns the frame's bytes.
    fn forget_carried(&mut self, emitter: usize) -> u64 {
        let carried = self.assemblers[emitter].carried().len();
        self.partial_bytes -= carried;
        self.assemblers[emitter].clear();
        carried as u64
    }

    fn ingest_frames(&mut self, emitter: usize, rest: &mut &[u8]) -> Result<(), Refusal> {
        if !self.assemblers[emitter].carried().is_empty() {
            self.finish_carried(emitter, rest)?;
        }
        let max = self.config.frame_bytes_max;
        while let Some(len) = frame::peek(rest, max).map_err(Refusal::Frame)? {
            let Some((frame, after)) = rest.split_at_checked(len) else {
                break;
            };
            self.route(frame)?;
            *rest = after;
        }
        if !rest.is_empty() {
            let bytes = rest.len();
            self.carry(emitter, rest, bytes)?;
        }
        Ok(())
    }

    /// Completes the carried frame from `rest` and routes it, if it is complete. When no lane can
    /// take it, its last bytes stay in `rest`: what stays there is what the caller offers again.
    fn finish_carried(&mut self, emitter: usize, rest: &mut &[u8]) -> Result<(), Refusal> {
        let (offered, carried_before) = (*rest, self.assemblers[emitter].carried().len());
        self.carry(emitter, rest, 4)?;
        let carried = self.assemblers[emitter].carried();
        let Some(len) =
            frame::peek(carried, self.config.frame_bytes_max).map_err(Refusal::Frame)?
        else {
            return Ok(());
        };
        self.carry(emitter, rest, len)?;
        if self.assemblers[emitter].carried().len() < len {
            return Ok(());
        }
        let mut assembler = std::mem::take(&mut self.assemblers[emitter]);
        let routed = self.route(assembler.carried());
        if routed.is_ok() {
            self.partial_bytes -= len;
            assembler.clear();
        } else {
            self.partial_bytes -= len - carried_before;
            assembler.truncate(carried_before);
            *rest = offered;
        }
        self.assemblers[emitter] = assembler;
        routed
    }

    fn carry(&mut self, emitter: usize, rest: &mut &[u8], want: usize) -> Result<(), Refusal> {
        let before = rest.len();
        let missing = want.saturating_sub(self.assemblers[emitter].carried().len());
        if self.partial_bytes + missing.min(before) > self.config.partial_bytes_max {
            return Err(Refusal::PartialMemory);
        }
        self.assemblers[emitter].fill(rest, want);
        self.partial_bytes += before - rest.len();
        Ok(())
    }

    /// Gives one frame to one lane.
    #[inline]
    fn route(&mut self, frame: &[u8]) -> Result<(), Refusal> {
        if self.pool.free() < self.ingest_floor || self.full_lanes >= self.full_lanes_max {
            return Err(Refusal::Stall);
        }
        let Some(leaf) = self.tree.route(1) else {
            return Err(Refusal::Stall);
        };
        let slot = &mut self.lanes[leaf as usize];
        if !slot.lane.append_here(&mut self.memory, frame) {
            slot.lane
                .append(&mut self.memory, &mut self.pool, frame, None);
            self.mark_dirty(LaneId(leaf));
            self.check_full(LaneId(leaf));
        }
        self.counters.received += 1;
        self.counters.received_bytes += frame.len() as u64;
        Ok(())
    }

    pub(super) fn mark_dirty(&mut self, lane: LaneId) {
        let slot = &mut self.lanes[lane.0 as usize];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(lane);
        }
    }

    // Egress ----------------------------------------------------------------------------------

    /// A lane that got messages since it was last returned here.
    pub fn next_dirty(&mut self) -> Option<LaneId> {
        let lane = self.dirty.pop()?;
        self.lanes[lane.0 as usize].dirty = false;
        Some(lane)
    }

    /// The next range of `lane` to put on the wire. `hold`: the kernel will read it until
    /// [`Engine::released`]; without, it may be read until it is ACKed.
    pub fn transmit(&mut self, lane: LaneId, now_ns: u64, hold: bool) -> Option<Transmit> {
        let slot = &mut self.lanes[lane.0 as usize];
        if slot.state != LaneState::Up {
            return None;
        }
        slot.lane.transmit(&mut self.memory, now_ns, hold)
    }

    /// Everything transmitted so far is written to the socket, or handed over.
    pub fn written(&mut self, lane: LaneId) {
        let slot = &mut self.lanes[lane.0 as usize];
        slot.written = slot.lane.submitted();
    }

    /// One more kernel operation reads the segment: the rest of a send that was cut short.
    pub fn held_again(&mut self, lane: LaneId, segment: u64) {
        self.lanes[lane.0 as usize].lane.hold(segment);
    }

    /// A kernel operation has let go of the segment.
    pub fn released(&mut self, lane: LaneId, segment: u64) {
        self.lanes[lane.0 as usize]
            .lane
            .released(segment, &mut self.pool);
        // The ACK may have come first: then it is this that opens the window.
        self.check_full(lane);
        self.settle(lane);
    }

    /// The next `messages` messages of the lane are ACKed. Nothing for a lane that is down: they
    /// are on their way to others already.
    pub fn acked(&mut self, lane: LaneId, messages: u64, now_ns: u64) {
        let slot = &mut self.lanes[lane.0 as usize];
        if slot.state != LaneState::Up {
            return;
        }
        slot.lane.ack(messages, now_ns, &mut self.pool);
        slot.lane.set_message_window(slot.window_messages);
        self.counters.acked += messages;
        self.check_full(lane);
    }

    // Lanes -----------------------------------------------------------------------------------

    /// Takes over a roster, unless it is older than the present one. `own_link` names this shard's
    /// link of a native analyzer, and the most messages that it wants un-ACKed, if it has one.
    pub fn apply_roster(
        &mut self,
        roster: &Roster,
        own_link: impl Fn(&Entry) -> Option<(LinkEpoch, u64)>,
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
                Reach::SingleLink { home, epoch } => Some((epoch, home, u64::MAX)),
                Reach::LinkPerShard => {
                    own_link(entry).map(|(epoch, messages)| (epoch, self.config.shard, messages))
                }
            };
            let Some((epoch, home, messages)) = reach else {
                continue;
            };
            if self.tombstones.contains(epoch) {
                continue;
            }
            let native = entry.reach == Reach::LinkPerShard;
            let setup = LaneSetup {
                shard: self.config.shard,
                epoch,
                native,
            };
            if lanes_left == 0 {
                self.counters.count(Reason::TooManyAnalyzers);
                continue;
            }
            lanes_left -= 1;
            if let Some(lane) = self.find_or_open(setup, entry.analyzer, home, messages) {
                self.lanes[lane.0 as usize].weight = entry.effective_weight();
            }
        }
        self.size_windows();
        self.set_tree();
        true
    }

    /// Number of the newest roster.
    pub fn roster_epoch(&self) -> u64 {
        self.roster_epoch
    }

    /// The lane that feeds a link.
    pub fn lane_of(&self, epoch: LinkEpoch) -> Option<LaneId> {
        let mut lanes = self.lanes.iter();
        lanes.position(|slot| slot.feeds(epoch)).map(lane_id)
    }

    /// Shard that owns the link which a lane feeds, and the link.
    pub fn destination(&self, lane: LaneId) -> (u16, LinkEpoch) {
        let slot = &self.lanes[lane.0 as usize];
        (slot.home, slot.lane.setup().epoch)
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

    /// A link is gone: its lane takes nothing more, its un-ACKed messages go to the others with the
    /// next [`Engine::reroute`].
    pub fn link_down(&mut self, epoch: LinkEpoch, now_ns: u64) {
        self.tombstones.insert(epoch);
        let Some(lane) = self.lane_of(epoch) else {
            return;
        };
        let slot = &mut self.lanes[lane.0 as usize];
        slot.state = LaneState::Down;
        slot.weight = 0.0;
        let (assigned, acked) = (slot.lane.appended(), slot.lane.acked());
        self.ended.push(Ended {
            epoch,
            analyzer: slot.analyzer,
            assigned,
            acked,
            detected_ns: now_ns,
            rerouted_ns: (assigned == acked).then_some(now_ns),
        });
        slot.full = false;
        self.set_tree();
        self.start_reroute(lane, now_ns);
        self.settle(lane);
        self.size_windows();
    }

    /// Both sides of the conservation law, now.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance {
            received: self.counters.received,
            acked: self.counters.acked,
            queued: self.rerouting.staged(),
            ..Balance::default()
        };
        for slot in &self.lanes {
            let lane = &slot.lane;
            if slot.state == LaneState::Up {
                balance.in_flight += lane.submitted() - lane.acked();
                balance.queued += lane.appended() - lane.submitted();
            } else {
                balance.queued += lane.unacked();
            }
        }
        balance
    }

    /// State of each lane in use.
    pub fn lane_reports(&self) -> impl Iterator<Item = LaneReport> + '_ {
        let used = self
            .lanes
            .iter()
            .filter(|slot| slot.state != LaneState::Free);
        used.map(|slot| LaneReport {
            epoch: slot.lane.setup().epoch,
            analyzer: slot.analyzer,
            assigned: slot.lane.appended(),
            assigned_before: slot.assigned_before,
            acked: slot.lane.acked(),
            in_flight: slot.lane.submitted().saturating_sub(slot.lane.acked()),
            queued: slot.lane.appended() - slot.lane.submitted().max(slot.lane.acked()),
            full: slot.full,
            down: slot.state == LaneState::Down,
            held_bytes: slot.lane.segments() as u64 * u64::from(self.config.buffer_bytes),
            latency_us: slot.lane.ledger().latency_us().clone(),
        })
    }

    /// Shares stay within this many messages of exact, see docs/SHARES.md.
    pub fn share_bound(&self) -> f64 {
        self.tree.bound()
    }

    /// How often what the tree chooses from has changed.
    pub fn table_changes(&self) -> TableChanges {
        self.table_changes
    }

    /// The last links that ended, oldest first.
    pub fn ended(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter()
    }

    /// What [`Engine::next_rerouted`] returned was written at `now_ns`.
    pub fn note_rerouted(&mut self, rerouted: &Rerouted, now_ns: u64) {
        self.ended.rerouted(rerouted.epoch, now_ns);
    }

    /// Batch buffers free now, fewest ever free, in all.
    pub fn buffers(&self) -> (usize, usize, usize) {
        (self.pool.free(), self.pool.free_min(), self.pool.total())
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
        let slot = &mut self.lanes[lane.0 as usize];
        if slot.state != LaneState::Up {
            return;
        }
        let full = slot.lane.segments() > self.window_buffers || slot.lane.message_window_full();
        if full == slot.full {
            return;
        }
        slot.full = full;
        self.tree.set_available(lane.0, !full);
        self.table_changes.availability += 1;
        self.count_full();
    }

    /// Lanes that are full and would be chosen otherwise.
    fn count_full(&mut self) {
        let full = |slot: &&LaneSlot| slot.full && slot.weight > 0.0;
        self.full_lanes = self.lanes.iter().filter(full).count();
    }

    fn has_open_lane(&self) -> bool {
        let open = |slot: &LaneSlot| slot.state == LaneState::Up && !slot.full && slot.weight > 0.0;
        self.lanes.iter().any(open)
    }

    fn find_or_open(
        &mut self,
        setup: LaneSetup,
        analyzer: u32,
        home: u16,
        window_messages: u64,
    ) -> Option<LaneId> {
        if let Some(lane) = self.lane_of(setup.epoch) {
            return Some(lane);
        }
        let window_messages = window_messages.min(self.config.window_messages).max(1);
        let mut lane = Lane::new(setup);
        lane.set_message_window(window_messages);
        let slot = LaneSlot {
            lane,
            state: LaneState::Up,
            full: false,
            dirty: false,
            weight: 0.0,
            window_messages,
            analyzer,
            home,
            written: 0,
            rerouted: 0,
            assigned_before: 0,
        };
        if let Some(free) = self
            .lanes
            .iter()
            .position(|slot| slot.state == LaneState::Free)
        {
            let dirty = self.lanes[free].dirty;
            self.lanes[free] = LaneSlot { dirty, ..slot };
            return Some(lane_id(free));
        }
        // Each lane that is down holds a buffer, so only an arena of millions comes here.
        if self.lanes.len() >= LEAF_COUNT_MAX {
            self.counters.count(Reason::TooManyAnalyzers);
            return None;
        }
        self.lanes.push(slot);
        Some(lane_id(self.lanes.len() - 1))
    }

    /// Divides the arena among the lanes in use, so that one that is stuck cannot starve the others,
    /// and so that receiving can resume whenever none of them is full.
    fn size_windows(&mut self) {
        let used = self
            .lanes
            .iter()
            .filter(|slot| slot.state == LaneState::Up)
            .count()
            .max(1);
        let frame_buffers = Lane::buffers_for(
            self.config.frame_bytes_max as usize,
            self.config.buffer_bytes,
        );
        self.ingest_floor = frame_buffers + used.min(self.pool.total() / 4) + 2;
        self.resume_level = self.ingest_floor + self.pool.total() / 16;
        let share = self.pool.total().saturating_sub(self.resume_level) / used;
        let wanted = self.config.window_bytes / u64::from(self.config.buffer_bytes);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        // A lane is full when it is beyond this, and the frame that takes it there may be large; but
        // many lanes on a small arena need their windows more than room for the largest frame.
        let window = share.min(wanted);
        self.window_buffers = (window - frame_buffers.min(window / 2)).max(1);
        for lane in 0..self.lanes.len() {
            self.check_full(lane_id(lane));
        }
    }

    fn set_tree(&mut self) {
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

/// Why ingest ends early.
enum Refusal {
    Stall,
    Frame(FrameError),
    PartialMemory,
}

pub(super) fn lane_id(index: usize) -> LaneId {
    LaneId(u32::try_from(index).expect("few lanes"))
}
