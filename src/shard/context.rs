//! What every part of a shard works with: the ground that it stands on, the engine, the mesh, the settings, the time.
//!
//! ```text
//! turn (shard.rs) --- part.on_something(&mut cx, ...) --> the part changes its own fields, and starts requests
//!                 `<-- what it means for another part ----'  as a value: the turn passes it on
//! ```
//!
//! A part never sees another part, so it may hold one of its connections while it uses all of this
//! ([ADR 0042](../../docs/adr/0042-a-shard-is-made-of-parts.md)).

use std::sync::Arc;
use std::time::Duration;

use super::gather::Gather;
use super::mesh::{Mesh, Message};
use super::port::Io;
use super::shared::{Live, Shared};
use weir_clock::Awake;
use weir_config::Config;
use weir_engine::{Change, Engine, LinkEpoch, Roster};

/// Housekeeping while a handshake is under way: dialects are told apart by 50 ms of silence.
pub(super) const TICK_HANDSHAKE: Duration = Duration::from_millis(10);

/// How far a shard is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Has told the emitters to go, and reads on until they have.
    GracefulClose,
    /// Takes nothing new from emitters and clients; waits for ACKs, of analyzers that come now as well.
    Draining,
    /// Has nothing left; waits for the other shards.
    Drained,
}

/// See the head of this file.
pub struct Context<I: Io> {
    pub(super) index: u16,
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    /// What the shard stands on.
    pub io: I,
    /// What decides.
    pub engine: Engine<I::Memory>,
    /// The way to the other shards.
    pub mesh: I::Mesh,
    /// What protects this shard now; the operator may change it.
    pub(super) live: Arc<Live>,
    live_number: u64,
    /// The analyzers and weights that it routes by.
    pub(super) roster: Arc<Roster>,
    pub(super) phase: Phase,
    pub(super) now_ns: u64,
    /// The time by which peers are judged: real time less what this shard did not run. Every time-out goes
    /// by it, and every mark that one is counted from.
    pub(super) awake_ns: u64,
    awake: Awake,
    /// When housekeeping is due.
    pub(super) next_tick_ns: u64,
    /// Bytes of emitters and clients that this turn has brought.
    pub(super) turn_bytes: usize,
    pub(super) gather: Gather,
    /// A completion is due that should not wait for company: more is there already, or a send was
    /// started that has more behind it.
    pub(super) hurry: bool,
    /// Links that ended in this turn: the engine hears of all of them at once.
    pub(super) ended: Vec<LinkEpoch>,
    links_counted: u64,
}

/// Time between two turns.
#[derive(Default, Clone, Copy)]
pub(super) struct Passed {
    pub(super) real_ns: u64,
    /// Of it: while the shard ran, or waited.
    pub(super) awake_ns: u64,
}

impl<I: Io> Context<I> {
    pub(super) fn new(
        index: u16,
        config: Arc<Config>,
        shared: Arc<Shared>,
        io: I,
        arena: I::Memory,
        mesh: I::Mesh,
    ) -> Context<I> {
        let now_ns = io.now_ns();
        let (live_number, live) = shared.live();
        Context {
            index,
            engine: Engine::new(config.engine(index), arena)
                .of_instance(config.instance)
                .granting(config.ack_window()),
            config,
            shared,
            io,
            mesh,
            live,
            live_number,
            roster: Arc::default(),
            phase: Phase::Running,
            now_ns,
            awake_ns: now_ns,
            awake: Awake::new(now_ns),
            next_tick_ns: now_ns,
            turn_bytes: 0,
            gather: Gather::default(),
            hurry: false,
            ended: Vec::new(),
            links_counted: 0,
        }
    }

    /// Most analyzers that this shard serves, and what sets this limit.
    pub(super) fn analyzers_max(&self) -> (usize, &'static str) {
        let (by_arena, by_descriptors) = (self.engine.lanes_max(), self.config.analyzers_max);
        match by_descriptors > 0 && by_descriptors < by_arena {
            true => (
                by_descriptors,
                "descriptors are left for no more (RLIMIT_NOFILE, LimitNOFILE in the unit)",
            ),
            false => (by_arena, "the arena serves no more (--arena)"),
        }
    }

    /// A turn begins; `is_full`: with all the completions that one takes.
    pub(super) fn begin_turn(&mut self, is_full: bool) -> Passed {
        let last_ns = std::mem::replace(&mut self.now_ns, self.io.now_ns());
        self.turn_bytes = 0;
        self.hurry = is_full;
        let within_ns = self.next_tick_ns.saturating_sub(self.awake.seen_ns());
        let before_ns = self.awake_ns;
        self.awake_ns = self.awake.look(self.now_ns, within_ns, !is_full);
        Passed {
            real_ns: self.now_ns - last_ns,
            awake_ns: self.awake_ns - before_ns,
        }
    }

    /// This turn came as soon as it was to come, and what had arrived before it is handled.
    pub(super) fn has_caught_up(&self) -> bool {
        self.awake.has_caught_up()
    }

    /// Peers may be judged in this turn: see [`Awake::may_judge`].
    pub(super) fn may_judge(&self) -> bool {
        self.awake.may_judge()
    }

    /// Housekeeping is due within `time`. Sooner, never later: a stream of connections must not keep it waiting.
    pub(super) fn tick_within(&mut self, time: Duration) {
        let soon_ns = self.now_ns + time.as_nanos() as u64; // a constant below a second
        self.next_tick_ns = self.next_tick_ns.min(soon_ns);
    }

    /// Takes over what the operator has changed.
    pub(super) fn look_at_settings(&mut self) {
        if self.shared.live_changes() != self.live_number {
            (self.live_number, self.live) = self.shared.live();
        }
    }

    /// Emitters are read from.
    pub(super) fn takes_in(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::GracefulClose)
    }

    /// The number of one more link.
    pub(super) fn next_link(&mut self) -> LinkEpoch {
        self.links_counted += 1;
        LinkEpoch::new(self.index, self.links_counted)
    }

    /// An analyzer that this shard connects to is down, and all shards shall know.
    pub(super) fn say_down(&mut self, generation: u64, name: &Arc<str>, why: &str) {
        self.shared.names.http_down(name, why);
        // A roster that is on its way has it still: no shard opens a link to it again.
        self.shared.control_port.forget_target(generation);
        let change = Change::HttpDown { generation };
        self.mesh.post(0, Message::Change(change));
    }

    /// The lanes of all links that ended in this turn. What the engine does for each table it does once:
    /// a thousand deaths at once must not stop the others ([ADR 0020](../../docs/adr/0020-deaths-of-a-turn.md)).
    pub(super) fn end_links(&mut self) {
        if !self.ended.is_empty() {
            let ended = std::mem::take(&mut self.ended);
            self.engine.links_down(&ended, self.now_ns);
        }
    }

    pub(super) fn latency_budget_ns(&self) -> u64 {
        u64::try_from(self.config.latency_budget.as_nanos()).unwrap_or(u64::MAX)
    }
}
