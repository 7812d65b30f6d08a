//! The event loop of a shard: read this first.
//!
//! ```text
//! turn:   1 wait         gather completions, as long as that pays (gather.rs); none when busy
//!         2 dispatch     accept, receive -> engine, ACK -> engine, send results
//!         3 mail         rosters, links, batches and ACKs from other shards
//!         4 re-route     messages of dead links
//!         5 resume       chunks that had to wait for room
//!         6 send         every lane that got something; flush the mesh
//!         7 housekeeping a few times a second
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::clients::Clients;
use super::emitters::{Emitter, PendingChunk};
use super::gather::Gather;
use super::links::Connection;
use super::mesh::{Inbox, Mesh};
use super::places::{places_of, Places};
use super::port::Io;
use super::posts::Posts;
use super::shared::{HttpReport, Live, Pace, ShardReport, Shared, Stop};
use super::slab::{bare, token, untoken, Kind, Slab, Slot};
use crate::port::{Completion, Wait, Wake};
use weir_clock::Awake;
use weir_config::Config;
use weir_engine::{Engine, LaneId, LinkEpoch, Registrar, Roster};

/// Completions handled before sends go out: bounds the time that a batch waits for its send.
pub const TURN_COMPLETIONS: usize = 512;
/// Ends of links that are seen to in a turn. Each costs a system call and lines of tables, 20 us in all: a
/// thousand at once must not hold up what living ones get.
const TURN_ENDS: usize = 64;
/// While more and more links end, what has arrived is read first, for so long: messages do not queue behind them.
const ENDS_WAIT_NS: u64 = 5_000_000;
/// A turn that brought this many bytes is followed by the next at once: there is more.
const BUSY_BYTES: usize = 32 * 1024;
/// HTTP clients ask again as soon as they are answered: for so long after a request nothing is gathered.
const ASKED_NS: u64 = 500_000;
/// Longest sleep: housekeeping is due then.
const TICK: Duration = Duration::from_millis(100);
/// The same while a handshake is under way: dialects are told apart by 50 ms of silence.
pub(super) const TICK_HANDSHAKE: Duration = Duration::from_millis(10);

/// How far this shard is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Has told the emitters to go, and reads on until they have.
    Farewell,
    /// Takes nothing new from emitters and clients; waits for ACKs, of analyzers that come now as well.
    Draining,
    /// Has nothing left; waits for the other shards.
    Drained,
}

/// A zero-copy send whose buffer the kernel may still read.
pub(super) struct ZeroCopySend {
    pub(super) link: Slot,
    pub(super) lane: LaneId,
    pub(super) segment: u64,
}

/// Where a shard accepts connections.
pub struct Listeners<L> {
    /// None: the farewell's time for new ones is over.
    pub emitters: Option<L>,
    /// Until the end: also while draining, whoever can ACK may come.
    pub analyzers: L,
    /// Not everybody wants HTTP.
    pub http: Option<L>,
    /// The emitters' socket stays open when this process ends: who is not accepted waits for the next one.
    pub outlives: bool,
}

/// One shard. Lives on its thread, owns everything that it touches.
pub struct Worker<I: Io> {
    pub(super) index: u16,
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    /// What it stands on.
    pub io: I,
    /// What decides.
    pub engine: Engine<I::Memory>,
    /// The way to the other shards.
    pub mesh: I::Mesh,
    pub(super) listeners: Option<Listeners<I::Listener>>,

    pub(super) emitters: Slab<Emitter<I::Socket>>,
    /// Received, not yet taken by the engine. Bounded by the receive memory.
    pub(super) pending: VecDeque<PendingChunk>,
    /// Emitters whose receive ended and must be started again.
    pub(super) rearm: VecDeque<Slot>,
    /// Of those: their connections broke, and not all is read that they had sent.
    pub(super) broken: VecDeque<Slot>,
    /// Emitters that have a place among `--max-connections`.
    pub(super) emitters_placed: usize,

    pub(super) links: Slab<Connection<I>>,
    /// Those of them that have not spoken.
    pub(super) places: Places,
    /// The links that are up.
    pub(super) links_up: BTreeMap<LinkEpoch, Slot>,
    pub(super) links_counted: u64,
    /// Sent on them and not acknowledged, as of the last look.
    pub(super) links_unread_bytes: u64,
    /// Ids that were refused because others have them, and of which that was said.
    pub(super) told_in_use: BTreeSet<Arc<str>>,
    /// Full lanes of other shards' links: what was ACKed, and since when it has been that.
    pub(super) remote_full: BTreeMap<LinkEpoch, (u64, u64)>,
    /// Links that may have something to send.
    pub(super) pump: Vec<Slot>,
    pub(super) zero_copy_sends: Slab<ZeroCopySend>,

    pub(super) clients: Clients<I::Socket>,
    pub(super) posts: Posts<I::Socket>,
    /// What protects this shard now; the operator may change it.
    pub(super) live: Arc<Live>,
    pub(super) live_number: u64,

    /// Shard 0 keeps the roster.
    pub(super) registrar: Option<Registrar>,
    /// A table that the other shards do not have yet.
    pub(super) new_roster: Option<Arc<Roster>>,
    /// The registrar has taken changes that no table has yet.
    pub(super) roster_changed: bool,
    /// Ends of links, of their receives and their sends: two of each link at most.
    pub(super) ends: VecDeque<Completion>,
    /// Links that ended in this turn: the engine hears of all of them at once.
    pub(super) ended: Vec<LinkEpoch>,
    pub(super) roster: Arc<Roster>,
    pub(super) roster_applied_ns: u64,
    /// Names of analyzers, also of some that are gone.
    pub(super) names: BTreeMap<u32, Arc<str>>,

    pub(super) phase: Phase,
    /// When the farewell began.
    pub(super) farewell_ns: u64,
    pub(super) now_ns: u64,
    /// The time by which peers are judged: real time less what this shard did not run. Every time-out goes
    /// by it, and every mark that one is counted from.
    pub(super) awake_ns: u64,
    awake: Awake,
    /// The same for frames that arrive: it stands still also while emitters are not read from.
    frames_ns: u64,
    /// When draining ends, once its deadline has passed.
    pub(super) ends_ns: Option<u64>,
    /// When the first of the links that are over was noticed.
    ends_since_ns: u64,
    pub(super) turn_bytes: usize,
    pub(super) gather: Gather,
    /// A completion is due that should not wait for company: more is there already, or a send was
    /// started that has more behind it.
    pub(super) hurry: bool,
    pub(super) next_tick_ns: u64,
    pub(super) next_second_ns: u64,
    pub(super) stalled_since_ns: Option<u64>,
    /// Emitters may still be accepted: so many requests have not ended.
    pub(super) accepting: u32,
    /// Accepts that failed, by their tokens: they are tried again at the next housekeeping.
    pub(super) accept_retry: Vec<u64>,
    pub(super) pace: Pace,
    /// When lanes were sent last.
    sent_ns: u64,
}

/// One turn is `handle`, `conclude_turn`, `finished`: the kernel's shards and the simulator's both
/// call nothing else.
impl<I: Io> Worker<I> {
    /// A shard that has not started yet. Shard 0 keeps the roster.
    pub fn new(
        index: u16,
        config: Arc<Config>,
        shared: Arc<Shared>,
        io: I,
        arena: I::Memory,
        mesh: I::Mesh,
        listeners: Listeners<I::Listener>,
    ) -> Worker<I> {
        let now_ns = io.now_ns();
        let engine = Engine::new(config.engine(index), arena);
        let address_most = config.protection.connections_per_address_max;
        let seed = config.instance ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Worker {
            index,
            places: Places::new(places_of(engine.lanes_max()), address_most),
            engine,
            clients: Clients::new(&config, seed),
            posts: Posts::new(!seed, config.instance),
            live: shared.live().1,
            live_number: shared.live().0,
            config,
            shared,
            io,
            mesh,
            listeners: Some(listeners),
            emitters: Slab::new(),
            pending: VecDeque::new(),
            rearm: VecDeque::new(),
            broken: VecDeque::new(),
            emitters_placed: 0,
            links: Slab::new(),
            links_up: BTreeMap::new(),
            links_counted: 0,
            links_unread_bytes: 0,
            told_in_use: BTreeSet::new(),
            pump: Vec::new(),
            zero_copy_sends: Slab::new(),
            remote_full: BTreeMap::new(),
            registrar: (index == 0).then(Registrar::default),
            new_roster: None,
            roster_changed: false,
            ends: VecDeque::new(),
            ended: Vec::new(),
            roster: Arc::default(),
            roster_applied_ns: now_ns,
            names: BTreeMap::new(),
            phase: Phase::Running,
            farewell_ns: 0,
            now_ns,
            awake_ns: now_ns,
            awake: Awake::new(now_ns),
            frames_ns: 0,
            ends_ns: None,
            ends_since_ns: now_ns,
            turn_bytes: 0,
            gather: Gather::default(),
            hurry: false,
            next_tick_ns: now_ns,
            next_second_ns: now_ns,
            stalled_since_ns: None,
            accepting: 0,
            accept_retry: Vec::new(),
            pace: Pace::default(),
            sent_ns: 0,
        }
    }

    /// Starts to accept.
    pub fn start(&mut self) {
        self.start_accepts();
        self.io.arm_wake(bare(Kind::Wake));
    }

    /// First half of a turn: what the requests have come to.
    pub fn handle(&mut self, completions: &mut Vec<Completion>) {
        let last_ns = std::mem::replace(&mut self.now_ns, self.io.now_ns());
        self.turn_bytes = 0;
        self.hurry = completions.len() >= TURN_COMPLETIONS;
        let within_ns = self.next_tick_ns.saturating_sub(self.awake.seen_ns());
        let before_ns = self.awake_ns;
        self.awake_ns = self.awake.look(self.now_ns, within_ns, !self.hurry);
        if self.stalled_since_ns.is_none() {
            self.frames_ns += self.awake_ns - before_ns;
            self.engine.set_frames_time(self.frames_ns);
        }
        let ended_before = self.ends.len();
        for completion in completions.drain(..) {
            self.dispatch(completion);
        }
        let received = self.engine.counters.received;
        self.gather.turn(self.now_ns - last_ns, received);
        if ended_before == 0 {
            self.ends_since_ns = self.now_ns;
        }
        let more_end = self.ends.len() > ended_before;
        if !more_end || self.now_ns - self.ends_since_ns >= ENDS_WAIT_NS {
            self.see_to_ends();
        }
    }

    /// Some of the links that are over; the others have their turns next, without a wait.
    fn see_to_ends(&mut self) {
        for _ in 0..TURN_ENDS {
            let Some(completion) = self.ends.pop_front() else {
                return;
            };
            match untoken(completion.token) {
                (Some(Kind::LinkSend), slot) => self.on_link_send(slot, completion),
                (_, slot) => self.on_link_end(slot, &completion),
            }
        }
    }

    /// Second half of a turn: what other shards said, then everything that follows from both. True
    /// when housekeeping was due.
    pub fn conclude_turn(&mut self, inbox: &mut Inbox<I::Socket>) -> bool {
        for (from, message) in inbox.drain(..) {
            self.on_message(from, message);
        }
        self.take_orders();
        self.take_replies();
        self.broadcast_roster();
        self.end_links();
        self.engine.reroute();
        self.resume_pending();
        self.answer_receipts();
        if !self.holds_sends() {
            self.sent_ns = self.now_ns;
            self.send_dirty();
            self.send_posts();
        }
        self.send_answers();
        self.mesh.flush();
        let due = self.now_ns >= self.next_tick_ns;
        if due {
            self.housekeeping();
        }
        self.end_links();
        self.note_turn();
        due
    }

    fn note_turn(&mut self) {
        let turn_ns = self.io.now_ns().saturating_sub(self.now_ns);
        self.pace.turns += 1;
        self.pace.busy_ns += turn_ns;
        self.pace.longest_ns = self.pace.longest_ns.max(turn_ns);
    }

    /// The last words and the last report.
    pub fn end(&mut self) -> ShardReport {
        self.say_goodbye();
        let report = self.report();
        self.listeners = None;
        self.cancel_receives();
        self.io.quiesce();
        report
    }

    /// Ends the receives under way, each by its token: of all requests only these are many.
    fn cancel_receives(&mut self) {
        let emitters = self.emitters.slots().into_iter();
        let links = self.links.slots().into_iter();
        let clients = self.clients.table.slots().into_iter();
        let emitters = emitters.map(|slot| token(Kind::EmitterReceive, slot));
        let links = links.map(|slot| token(Kind::LinkReceive, slot));
        let clients = clients.map(|slot| token(Kind::HttpReceive, slot));
        for receive in emitters.chain(links).chain(clients) {
            self.io.cancel(receive, bare(Kind::Cancel));
        }
    }

    /// The analyzers and weights that it routes by.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// What HTTP clients have brought so far.
    pub fn http_report(&self) -> &HttpReport {
        &self.clients.report
    }

    /// When housekeeping is due next.
    pub fn next_tick_ns(&self) -> u64 {
        self.next_tick_ns
    }

    /// What ends this shard's wait from another thread.
    pub fn wake(&self) -> &Arc<Wake> {
        &self.shared.wakes[usize::from(self.index)]
    }

    /// How long the next wait may be.
    pub fn next_wait(&mut self) -> Wait {
        if self.has_work() {
            return Wait {
                gather: Duration::ZERO,
                timeout: Duration::ZERO,
            };
        }
        let now_ns = self.io.now_ns();
        let busy = self.turn_bytes >= BUSY_BYTES || self.hurry || self.is_asked(now_ns);
        let mut until_ns = self.next_tick_ns;
        if self.engine.has_dirty() || !self.pump.is_empty() || self.posts.is_waiting() {
            until_ns = until_ns.min(self.sent_ns + self.latency_budget_ns());
        }
        let until_tick = until_ns.saturating_sub(now_ns);
        Wait {
            gather: if busy {
                Duration::ZERO
            } else {
                Duration::from_nanos(self.gather.wait_ns(self.latency_budget_ns()))
            },
            timeout: Duration::from_nanos(until_tick),
        }
    }

    /// HTTP clients have asked a moment ago.
    fn is_asked(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.clients.asked_ns) < ASKED_NS
    }

    /// Turns come quickly only because HTTP clients are answered at once: analyzers get what these have
    /// sent in fewer and larger sends, within the latency budget all the same.
    fn holds_sends(&self) -> bool {
        self.phase == Phase::Running
            && self.is_asked(self.now_ns)
            && self.now_ns.saturating_sub(self.sent_ns) < self.latency_budget_ns()
            && !self.engine.is_rerouting()
    }

    fn latency_budget_ns(&self) -> u64 {
        u64::try_from(self.config.latency_budget.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Something can be done without a completion.
    pub fn has_work(&mut self) -> bool {
        self.mesh.has_mail()
            || self.mesh.is_busy()
            || !self.ends.is_empty()
            || (self.registrar.is_some() && self.shared.desk.has_slips())
            || self.shared.desk.has_replies(usize::from(self.index))
            || (self.shared.stop() != Stop::No && self.phase == Phase::Running)
            || self.shared.stop() == Stop::Now
            || (self.phase == Phase::Drained && self.all_drained())
            || (!self.pending.is_empty() && self.engine.can_ingest())
    }

    #[inline]
    fn dispatch(&mut self, completion: Completion) {
        let (kind, slot) = untoken(completion.token);
        match kind {
            Some(Kind::EmitterReceive) => self.on_emitter_receive(slot, completion),
            Some(Kind::LinkReceive) => self.on_link_receive(slot, completion),
            Some(Kind::LinkSend) if completion.result < 0 => self.ends.push_back(completion),
            Some(Kind::LinkSend) => self.on_link_send(slot, completion),
            Some(Kind::ZeroCopySend) => self.on_zero_copy(slot, completion),
            Some(Kind::AcceptEmitter) => self.on_accept_emitter(completion),
            Some(Kind::AcceptAnalyzer) => self.on_accept_analyzer(completion),
            Some(Kind::HttpReceive) => self.on_http_receive(slot, completion),
            Some(Kind::HttpSend) => self.on_http_sent(slot, completion),
            Some(Kind::AcceptHttp) => self.on_accept_http(completion),
            Some(Kind::PostConnect) => self.on_post_connected(slot, completion),
            Some(Kind::PostReceive) => self.on_post_receive(slot, completion),
            Some(Kind::PostSend) => self.on_post_sent(slot, completion),
            Some(Kind::SetAside) => self.on_set_aside(slot, completion),
            Some(Kind::Wake) => self.io.arm_wake(bare(Kind::Wake)),
            Some(Kind::Cancel) | None => {}
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

    /// When housekeeping is due next.
    pub(super) fn schedule_tick(&mut self) {
        let tick = if !self.places.is_empty() || self.phase != Phase::Running {
            TICK_HANDSHAKE
        } else {
            TICK
        };
        self.next_tick_ns = self.now_ns + tick.as_nanos() as u64; // a constant below a second
    }
}
