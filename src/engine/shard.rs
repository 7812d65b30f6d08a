//! The engine of one shard: takes received bytes in, gives ranges to send out, balances its books.
//!
//! ```text
//! ingest(emitter, bytes)  ->  elements -> tree -> lanes          stalls when no lane can take more
//! next_dirty, transmit    <-  ranges to send, per lane
//! sent, released, acked   ->  what became of them
//! link_down, reroute      ->  un-ACKed messages back through the tree
//! apply_roster            ->  lanes and weights
//! ```
//!
//! Order of calls in a turn of the event loop: completions (any order), `reroute`, `ingest` of what
//! is pending, then `next_dirty`/`transmit` until nothing is left.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::accounts::{Accounts, LaneDue};
use super::ack_units::AckWindow;
use super::assembler::{Assembler, Spares};
use super::counters::{Balance, Counters, LaneReport};
use super::described::Whence;
use super::divided::Routes;
use super::ended::{Ended, EndedList};
use super::forms::Forms;
use super::lane::{Lane, Transmit};
use super::moves::Tried;
use super::pace::Pace;
use super::partial::Evicted;
use super::receipts::{Ranges, Receipts};
use super::reroute::Rerouting;
use super::samples::Samples;
use super::tombstones::Tombstones;
use super::tree::{self, Tree, LEAF_COUNT_MAX};
use super::unpacking::Unpacking;
use super::{room, BufferPool, LaneId, LinkEpoch, Memory};
use weir_source::{render, Stream};

/// One origin kept beside the arena for so many bytes of it: at 32 bytes each, an eighth of it.
/// Messages of this size and more never lose theirs.
const ORIGIN_PER_ARENA_BYTES: usize = 256;
/// One run of forms for so many bytes: at 24 bytes each, a fifth of it.
const FORMS_PER_ARENA_BYTES: usize = 128;
/// One range of a ticket for so many bytes: at 24 bytes each, three eighths of it.
const RANGE_PER_ARENA_BYTES: usize = 64;

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
    /// Largest unit in bytes; less than the largest frame counts as that.
    pub unit_bytes_max: u32,
    /// Most bytes of arena that one lane may hold.
    pub window_bytes: u64,
    /// Most messages that one lane may have un-ACKed.
    pub window_messages: u64,
    /// Most bytes of partial frames, all emitters together.
    pub partial_bytes_max: usize,
    /// Policy for full lanes.
    pub on_slow: OnSlow,
}

impl EngineConfig {
    /// Bytes of the largest thing that goes to one lane as a whole.
    pub(super) fn largest(&self) -> usize {
        self.frame_bytes_max.max(self.unit_bytes_max) as usize
    }
}

/// What an analyzer wishes of a link: what is un-ACKed at most, within the distributor's own limits, and how it is told
/// of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages.
    pub messages: u64,
    /// Bytes of batch buffers; exceeded by a buffer and a frame at most.
    pub bytes: u64,
    /// It asks what messages are and where they came from, see `weir_protocol::described`.
    pub described: bool,
}

impl Window {
    /// No wish.
    pub const ANY: Window = Window {
        messages: u64::MAX,
        bytes: u64::MAX,
        described: false,
    };
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

/// A lane's part of what was routed since the last change of weights or membership.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Its weight; those of the others count as well.
    pub weight: f64,
    /// Messages that it was given.
    pub given: u64,
    /// It is out of the choice until it ACKs.
    pub full: bool,
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
    pub(super) dirty: bool,
    pub(super) weight: f64,
    pub(super) window_messages: u64,
    /// What its analyzer wishes, in buffers.
    pub(super) window_buffers: usize,
    pub(super) analyzer: u32,
    /// Shard that owns the link.
    pub(super) home: u16,
    /// Last message known to be written to the socket (or handed over).
    pub(super) written: u64,
    /// Last message that came here by a re-route.
    pub(super) rerouted: u64,
    /// Messages given to it before the last change of the table.
    pub(super) assigned_before: u64,
    /// What is due to it.
    pub(super) due: LaneDue,
    /// Of the messages that are through in order: refused, here or moved on.
    pub(super) refused_in_order: u64,
    /// Messages that are in another lane by now and whose place here has not been passed.
    pub(super) moved_open: u64,
    /// What was moved here because others refused it.
    pub(super) tried: VecDeque<Tried>,
    /// What its messages are, where it is a lane of frames.
    pub(super) forms: Forms,
    /// Who waits for the ACK of which.
    pub(super) tickets: Ranges,
    /// How long its ACKs take.
    pub(super) pace: Pace,
    /// Last message that is presumed to have arrived, see [`Engine::presumed`].
    pub(super) presumed: u64,
    /// Its analyzer asked for patience: as if its window were full.
    pub(super) paused: bool,
    /// Messages that were through before older ones; for links over HTTP that die.
    pub(super) through: VecDeque<PassedRange>,
    /// Once its link is gone: what its analyzer had ACKed. A re-route moves the lane's own count on.
    pub(super) acked_at_end: Option<u64>,
}

/// Messages of a lane that an analyzer has answered, while older ones are open.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassedRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) passed: Passed,
}

/// What became of messages of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// The analyzer has them.
    Acked,
    /// It refused them for good, and they are kept elsewhere.
    Refused,
    /// It refused them, and they are in another lane, see [`Engine::move_on`].
    Moved,
}

impl PassedRange {
    fn messages(&self) -> u64 {
        self.last + 1 - self.first
    }
}

impl LaneSlot {
    /// Messages that its analyzer has ACKed, in order or not.
    pub(super) fn acked(&self) -> u64 {
        let out_of_order = || self.out_of_order(Passed::Acked);
        let acked = || self.lane.acked() - self.refused_in_order + out_of_order();
        self.acked_at_end.unwrap_or_else(acked)
    }

    /// Messages that its analyzer has refused for good, in order or not; until its re-route begins.
    pub(super) fn refused(&self) -> u64 {
        self.refused_in_order + self.moved_open + self.out_of_order(Passed::Refused)
    }

    pub(super) fn out_of_order(&self, passed: Passed) -> u64 {
        let through = self.through.iter();
        let kind = through.filter(|through| through.passed == passed);
        kind.map(PassedRange::messages).sum()
    }

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
    /// The lanes that are up.
    pub(super) lane_by_epoch: BTreeMap<LinkEpoch, LaneId>,
    /// Of each emitter: what has not arrived whole, and what it speaks.
    pub(super) assemblers: Vec<Assembler>,
    pub(super) streams: Vec<Stream>,
    /// See [`Engine::bad_bytes`].
    pub(super) bad_bytes: Vec<u8>,
    pub(super) partial_bytes: usize,
    /// The time by which partial frames age.
    pub(super) frames_ns: u64,
    pub(super) evicted: Vec<Evicted>,
    pub(super) rerouting: Rerouting,
    pub(super) dirty: VecDeque<LaneId>,
    /// Lanes that are full and have a weight.
    pub(super) full_lanes: usize,
    /// Origins that reference lanes keep beside their bytes, and how many they may.
    pub(super) origins_kept: usize,
    pub(super) origins_max: usize,
    /// Runs of forms in all lanes, and how many there may be.
    pub(super) forms_kept: usize,
    pub(super) forms_max: usize,
    /// So many full lanes stop receiving: one when everybody waits for the slowest.
    pub(super) full_lanes_max: usize,
    pub(super) window_buffers: usize,
    /// Buffers that must be free before another message is taken in: room for the largest frame,
    /// and for the tails that a re-route opens.
    pub(super) ingest_floor: usize,
    /// Buffers that must be free to resume receiving: well above the floor where it stopped, or it
    /// would stop again at once.
    pub(super) resume_level: usize,
    pub(super) stalled: bool,
    pub(super) roster_epoch: u64,
    pub(super) tombstones: Tombstones,
    /// Lane and weight, as the tree was told last.
    pub(super) table: Vec<(u32, f64)>,
    pub(super) table_changes: TableChanges,
    pub(super) ended: EndedList,
    pub(super) accounts: Accounts,
    pub(super) receipts: Receipts,
    pub(super) unpacking: Unpacking,
    /// Ranges of tickets in all lanes stop receiving beyond so many.
    pub(super) ranges_max: usize,
    pub(super) samples: Samples,
    /// Where bytes come from, while somebody asks.
    pub(super) whence: Whence,
    /// A lane that is up has an analyzer that asks.
    pub(super) has_described: bool,
    /// Reused: the bytes of a unit, of a record.
    pub(super) scratch: Vec<u8>,
    /// An entry as JSON, on its way into a lane.
    pub(super) rendered: Vec<u8>,
    /// For what assemblers hold.
    pub(super) spares: Spares,
    pub(super) render_context: render::Context,
    /// Lanes of records: what takes entries as they come.
    pub(super) record_lanes: usize,
    pub(super) routes: Routes,
    /// What this shard has counted.
    pub counters: Counters,
}

impl<M: Memory> Engine<M> {
    /// An engine over `memory`, which must have the buffers that `config` says.
    ///
    /// # Panics
    /// When the arena cannot hold two of the largest frames: see [`EngineConfig`].
    pub fn new(config: EngineConfig, memory: M) -> Engine<M> {
        let frame_buffers = room::for_message(config.largest(), config.buffer_bytes);
        assert!(
            config.buffer_bytes >= room::BUFFER_BYTES_MIN,
            "batch buffers of at least 4 KiB"
        );
        assert!(
            config.buffers as usize >= 4 * frame_buffers + 8,
            "arena too small for the largest frame"
        );
        let arena_bytes = config.buffers as usize * config.buffer_bytes as usize;
        let mut engine = Engine {
            config,
            memory,
            pool: BufferPool::new(config.buffers, config.buffer_bytes),
            tree: Tree::new(u64::from(config.shard)),
            lanes: Vec::new(),
            lane_by_epoch: BTreeMap::new(),
            assemblers: Vec::new(),
            streams: Vec::new(),
            bad_bytes: Vec::new(),
            partial_bytes: 0,
            frames_ns: 0,
            evicted: Vec::new(),
            rerouting: Rerouting::default(),
            dirty: VecDeque::new(),
            full_lanes: 0,
            origins_kept: 0,
            origins_max: arena_bytes / ORIGIN_PER_ARENA_BYTES,
            forms_kept: 0,
            forms_max: arena_bytes / FORMS_PER_ARENA_BYTES,
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
            accounts: Accounts::default(),
            receipts: Receipts::default(),
            unpacking: Unpacking::default(),
            ranges_max: arena_bytes / RANGE_PER_ARENA_BYTES,
            samples: Samples::default(),
            whence: Whence::default(),
            has_described: false,
            scratch: Vec::new(),
            rendered: Vec::new(),
            spares: Spares::default(),
            render_context: render::Context::default(),
            record_lanes: 0,
            routes: Routes::default(),
            counters: Counters::default(),
        };
        engine.size_windows();
        engine
    }

    /// Turned against the engines of other replicas: see [`crate::tree::phase`]. For one that has no analyzer yet.
    #[must_use]
    pub fn of_instance(mut self, instance: u64) -> Engine<M> {
        assert!(
            self.lanes.is_empty(),
            "analyzers are owed something already"
        );
        self.tree = Tree::new(tree::phase(self.config.shard, instance));
        self
    }

    /// What connections with answers are granted from now on.
    pub fn granting(mut self, window: AckWindow) -> Self {
        self.receipts.units.window = window;
        self
    }

    /// Most analyzers that an arena of this size can serve: each has a window of two buffers, which
    /// it may exceed by one, and others fill while it ACKs. Lanes that
    /// are down do not count, they hold buffers only until they are empty.
    pub fn lanes_max(&self) -> usize {
        lanes_of(self.pool.total())
    }

    /// The bytes behind the batch buffers.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    pub(super) fn mark_dirty(&mut self, lane: LaneId) {
        let slot = &mut self.lanes[lane.0 as usize];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push_back(lane);
        }
    }

    // Egress ----------------------------------------------------------------------------------

    /// A lane that got messages since it was last returned here: the one that got its first of them before all others.
    pub fn next_dirty(&mut self) -> Option<LaneId> {
        let lane = self.dirty.pop_front()?;
        self.lanes[lane.0 as usize].dirty = false;
        Some(lane)
    }

    /// Some lane got messages that were not asked for since.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How many lanes [`Engine::next_dirty`] would return.
    pub fn dirty_lanes(&self) -> usize {
        self.dirty.len()
    }

    /// What is in the lanes may stay there for a moment: no lane is full, there are buffers for more, and no
    /// message looks for another lane.
    pub fn is_at_ease(&self) -> bool {
        let has_room = self.pool.free() >= self.resume_level && !self.stalled;
        has_room && self.full_lanes == 0 && self.rerouting.is_idle()
    }

    /// Messages of dead lanes are on their way to others.
    pub fn is_rerouting(&self) -> bool {
        !self.rerouting.is_idle()
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
        if let Some(last) = self.advance(lane, messages, now_ns) {
            self.counters.acked += messages;
            let tickets = &mut self.lanes[lane.0 as usize].tickets;
            self.receipts.acked(tickets, last);
        }
    }

    /// The next `messages` messages of the lane are presumed to have arrived ([`Link::presume`](crate::Link::presume)):
    /// their senders hear that they are ACKed. They stay un-ACKed, and are re-routed if the link dies.
    pub fn presumed(&mut self, lane: LaneId, messages: u64) {
        let slot = &mut self.lanes[lane.0 as usize];
        let last = slot.lane.submitted().min(slot.lane.acked() + messages);
        slot.presumed = last;
        self.counters.presumed += messages;
        self.receipts.acked(&mut slot.tickets, last);
    }

    /// The next `messages` messages of the lane were refused by the analyzer for good, and are kept
    /// elsewhere: they are dropped from here. Nothing for a lane that is down.
    pub fn refused(&mut self, lane: LaneId, messages: u64, now_ns: u64) {
        if let Some(last) = self.advance(lane, messages, now_ns) {
            let slot = &mut self.lanes[lane.0 as usize];
            slot.refused_in_order += messages;
            self.counters.dropped += messages;
            self.receipts.refused(&mut slot.tickets, last);
        }
    }

    /// The next `messages` messages of a lane that is up are through. The last of them.
    #[inline]
    pub(super) fn advance(&mut self, lane: LaneId, messages: u64, now_ns: u64) -> Option<u64> {
        let slot = &mut self.lanes[lane.0 as usize];
        if slot.state != LaneState::Up {
            return None;
        }
        slot.lane.ack(messages, now_ns, &mut self.pool);
        self.origins_kept -= slot.lane.forget_origins();
        self.forms_kept -= slot.forms.forget(slot.lane.acked());
        slot.lane.set_message_window(slot.window_messages);
        slot.forget_tried();
        let through = slot.lane.acked();
        self.check_full(lane);
        Some(through)
    }

    /// Messages of the lane that were ACKed, refused or moved out of order, `skipped` behind the oldest
    /// that is none of it: they are not re-routed when its link goes down. To be called just before that,
    /// in order.
    pub fn through(&mut self, lane: LaneId, skipped: u64, messages: u64, passed: Passed) {
        let slot = &mut self.lanes[lane.0 as usize];
        let first = slot.lane.acked() + skipped + 1;
        slot.through.push_back(PassedRange {
            first,
            last: first + messages - 1,
            passed,
        });
    }

    /// Both sides of the conservation law, now.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance {
            received: self.counters.received,
            acked: self.counters.acked,
            dropped: self.counters.dropped,
            queued: self.rerouting.staged(),
            ..Balance::default()
        };
        for slot in &self.lanes {
            let lane = &slot.lane;
            if slot.state == LaneState::Up {
                balance.in_flight += lane.submitted() - lane.acked() - slot.moved_open;
                balance.queued += lane.appended() - lane.submitted();
            } else {
                balance.queued += lane.unacked() - slot.moved_open;
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
            acked: slot.acked(),
            in_flight: (slot.lane.submitted()).saturating_sub(slot.lane.acked() + slot.moved_open),
            queued: slot.lane.appended() - slot.lane.submitted().max(slot.lane.acked()),
            full: slot.full,
            down: slot.state == LaneState::Down,
            held_bytes: slot.lane.segments() as u64 * u64::from(self.config.buffer_bytes),
            latency_us: Arc::clone(slot.lane.ledger().latency_us()),
        })
    }

    /// Messages of the largest unit that was routed.
    pub fn unit_max(&self) -> u32 {
        self.tree.unit_max()
    }

    /// Shares stay within this many messages of exact, see docs/SHARES.md: a multiple of the largest
    /// unit that was routed.
    pub fn share_bound(&self) -> f64 {
        self.tree.bound() * f64::from(self.unit_max())
    }

    /// What each lane that is up has been given since the last change of the table.
    pub fn shares(&self) -> impl Iterator<Item = Share> + '_ {
        let up = |slot: &&LaneSlot| slot.state == LaneState::Up;
        self.lanes.iter().filter(up).map(|slot| Share {
            weight: slot.weight,
            given: slot.lane.appended() - slot.assigned_before,
            full: slot.full,
        })
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
}

/// Most analyzers that an arena of so many buffers can serve, see [`Engine::lanes_max`].
pub fn lanes_of(buffers: usize) -> usize {
    (buffers / 6).clamp(1, LEAF_COUNT_MAX / 2)
}

pub(super) fn lane_id(index: usize) -> LaneId {
    LaneId(u32::try_from(index).expect("few lanes"))
}
