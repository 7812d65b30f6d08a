//! What all threads of a distributor share: stop, reports, arenas. Nothing on the hot path.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::admission::{network_of, Admission};
use super::inputs::{allow_lists, places, InputReport, Place};
use super::names::Names;
use super::operator::ControlPort;
use super::refused::RefusedMemory;
use super::tap::Tap;
use crate::port::{TlsCounts, Wake};
use weir_clock::notices::{self, Notices};
use weir_config::{AllowList, Config, HttpConfig, Protection};
use weir_engine::{Account, Balance, Counters, Ended, LaneReport, Port, Roster, TableChanges};

/// How far the distributor is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It runs.
    No,
    /// It takes nothing new and waits for ACKs, up to the deadline.
    Drain,
    /// It ends at once.
    Now,
}

/// State of one shard, published about ten times a second.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// Index of the shard.
    pub shard: u16,
    /// Conservation law.
    pub balance: Balance,
    /// Counters since start.
    pub counters: Counters,
    /// Lanes in use.
    pub lanes: Vec<LaneReport>,
    /// What each analyzer was given and what was due to it, since the start.
    pub accounts: Vec<Account>,
    /// The last links that ended, oldest first; a few at most.
    pub ended: Vec<Ended>,
    /// How often what its tree chooses from has changed.
    pub table_changes: TableChanges,
    /// The roster that its tree follows.
    pub roster: Arc<Roster>,
    /// CLOCK_MONOTONIC when that roster was applied.
    pub roster_applied_ns: u64,
    /// Weights that are pinned and drains by the operator, also of analyzers that are away. Of shard 0.
    pub kept: (usize, usize),
    /// Most analyzers that it serves, and what sets this limit.
    pub analyzers_max: (usize, &'static str),
    /// Emitters connected.
    pub emitters: usize,
    /// What came at each place where emitters connect: `--emitters`, then the inputs.
    pub inputs: Vec<InputReport>,
    /// Of those: get ACKs.
    pub emitters_answered: usize,
    /// Batches of theirs that are not ACKed to them.
    pub ack_units: usize,
    /// Analyzer connections.
    pub links: usize,
    /// Bytes sent to analyzers over TCP that their hosts have not acknowledged; looked at once a second.
    pub links_unread_bytes: u64,
    /// Batch buffers free now, fewest ever free, in all.
    pub buffers: (usize, usize, usize),
    /// Bytes that were read from emitters and wait for room, whole messages or not.
    pub unrouted_bytes: u64,
    /// Emitters that had closed when the graceful close was over, and are not read to their end yet.
    pub unfinished_emitters: u64,
    /// Receiving is stopped: nobody can take more.
    pub stalled: bool,
    /// Shares are within this many messages of exact, for single messages (see docs/SHARES.md).
    pub share_bound: f64,
    /// The largest that this ever was.
    pub share_bound_max: f64,
    /// How fast its event loop turns.
    pub pace: Pace,
    /// Of each port where TLS is spoken.
    pub tls: Vec<TlsCounts>,
    /// Its side towards HTTP clients.
    pub http: HttpReport,
    /// Its side towards analyzers over HTTP, those of the roster; behind them the last links that ended.
    pub http_analyzers: Vec<HttpAnalyzerReport>,
}

/// Time of the event loop, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Turns.
    pub turns: u64,
    /// Nanoseconds spent in them, waits left out.
    pub busy_ns: u64,
    /// The longest turn in nanoseconds.
    pub longest_ns: u64,
}

/// HTTP clients of one shard, since the start.
#[derive(Clone, Debug, Default)]
pub struct HttpReport {
    /// Open now.
    pub connections: usize,
    /// Accepted.
    pub accepted: u64,
    /// Whole requests read.
    pub requests: u64,
    /// Packets taken in.
    pub packets: u64,
    /// Of those: whose messages went their own ways.
    pub divided: u64,
    /// Messages in packets.
    pub messages: u64,
    /// Of those: with a level that is not known, taken as info.
    pub unknown_levels: u64,
    /// Lone surrogates in packets that were replaced.
    pub surrogates_repaired: u64,
    /// States of event streams that were left out, because their client had not taken the one before.
    pub states_left_out: u64,
    /// Responses by status.
    pub responses: BTreeMap<u16, u64>,
    /// Requests and connections refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Requests that wait for the ACK of their packet.
    pub waiting: usize,
    /// Connections asked to go because of their age.
    pub farewells_at_age: u64,
    /// Bytes of requests that have not arrived whole, and of responses that are not sent.
    pub held_bytes: u64,
    /// Of them: of responses that were sent, and that clients have not acknowledged.
    pub unread_bytes: u64,
}

/// One shard's connections to one analyzer over HTTP.
#[derive(Clone, Debug, Default)]
pub struct HttpAnalyzerReport {
    /// Number of the analyzer, see `Roster`.
    pub analyzer: u32,
    /// Open connections.
    pub connections: usize,
    /// POSTs under way.
    pub in_flight: usize,
    /// POSTs sent.
    pub posts: u64,
    /// Of those: failed, and tried again or given up.
    pub failures: u64,
    /// Failed since the last success.
    pub consecutive_failures: u64,
    /// POSTs that it took.
    pub acked: u64,
    /// POSTs that it refused for good, and that were set aside.
    pub refused: u64,
}

/// Shared by the shards and by whoever started them.
pub struct Shared {
    stop: AtomicU8,
    /// CLOCK_MONOTONIC in nanoseconds when draining ends.
    deadline_ns: AtomicU64,
    /// Emitters connected, on all shards.
    pub(super) emitters: AtomicUsize,
    /// Where emitters connect: `--emitters`, then the inputs.
    places: Vec<Place>,
    /// Shards that have nothing left to wait for.
    pub(super) drained: AtomicUsize,
    /// The newest of each: whoever reads takes a handle, so that no shard waits for a reader.
    reports: Vec<Mutex<Arc<ShardReport>>>,
    pub(super) wakes: Vec<Arc<Wake>>,
    /// Where control and shards leave things for each other.
    pub(super) control_port: ControlPort,
    /// Limits over all shards.
    pub(super) admission: Admission,
    /// Who is called what.
    pub(super) names: Names,
    /// What may change while the shards run, and how often it has.
    live: Mutex<Arc<Live>>,
    live_changes: AtomicU64,
    /// Messages that somebody wants to see.
    pub(super) tap: Tap,
    /// Packets that nobody took.
    pub(super) refused: RefusedMemory,
    /// What was said about which peer.
    notices: Mutex<Notices>,
}

/// Settings that the operator may change while the shards run; each shard looks a few times a second.
#[derive(Clone, Debug)]
pub struct Live {
    /// Who may connect, and how often.
    pub protection: Protection,
    /// Who may connect to each place where emitters do, see [`allow_lists`].
    pub allow_inputs: Vec<AllowList>,
    /// Of each place whose clients must know something: what its new connections are held to, see
    /// [`crate::secret_ports`].
    pub secret_ports: Vec<Option<Arc<Port>>>,
    /// Of HTTP: only the time-outs are read from here.
    pub http: HttpConfig,
    /// Age at which connections of emitters and clients are asked to go; zero: none.
    pub max_connection_age: Duration,
    /// Time over which they are asked to go at SIGTERM.
    pub farewell_spread: Duration,
}

impl Shared {
    /// For `shards` shards; those that sleep have their wake-up in `wakes`.
    pub fn new(config: &Config, wakes: Vec<Arc<Wake>>) -> Shared {
        let shards = config.shards;
        let live = Live {
            protection: config.protection.clone(),
            allow_inputs: allow_lists(config),
            // As the places have them.
            secret_ports: Vec::new(),
            http: config.http.clone(),
            max_connection_age: config.max_connection_age,
            farewell_spread: config.farewell_spread,
        };
        Shared {
            stop: AtomicU8::new(0),
            deadline_ns: AtomicU64::new(u64::MAX),
            emitters: AtomicUsize::new(0),
            places: places(config),
            drained: AtomicUsize::new(0),
            reports: (0..shards).map(|_| Mutex::default()).collect(),
            wakes,
            control_port: ControlPort::new(shards),
            admission: Admission::new(),
            names: Names::default(),
            live: Mutex::new(Arc::new(live)),
            live_changes: AtomicU64::new(0),
            tap: Tap::default(),
            refused: RefusedMemory::new(config.http.dead_letter_memory_bytes_max),
            notices: Mutex::default(),
        }
    }

    /// Where emitters connect, by their numbers.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// A report for each of them, before anything has come.
    pub(super) fn input_reports(&self) -> Vec<InputReport> {
        self.places.iter().map(Place::report).collect()
    }

    /// Whether to say this of a peer now, and if so what to say behind it; see [`notices`]. Whoever asks writes the
    /// line itself: lines are limited by the place that writes them.
    pub fn notice(
        &self,
        port: &str,
        peer: Option<IpAddr>,
        kind: &'static str,
        now_ns: u64,
    ) -> Option<String> {
        let notices = self.notices.lock();
        let mut notices = notices.unwrap_or_else(PoisonError::into_inner);
        let unsaid = notices.note(port, peer.map(network_of), kind, now_ns);
        unsaid.map(notices::tail)
    }

    /// The settings, and their number.
    pub(super) fn live(&self) -> (u64, Arc<Live>) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        (self.live_changes(), Arc::clone(&live))
    }

    /// Other settings since the one of this number.
    pub(super) fn live_changes(&self) -> u64 {
        self.live_changes.load(Ordering::Acquire)
    }

    pub(super) fn set_live(&self, live: Live) {
        let mut current = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(live);
        self.live_changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn stop(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Now,
        }
    }

    /// Asks for more of a stop than before; less is ignored.
    pub fn ask(&self, stop: Stop, deadline_ns: u64) {
        if stop == Stop::Drain && self.stop() == Stop::No {
            self.deadline_ns.store(deadline_ns, Ordering::Release);
        }
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
        for wake in &self.wakes {
            wake.wake();
        }
    }

    /// What ends a shard's wait.
    pub fn wake(&self, shard: usize) -> Arc<Wake> {
        Arc::clone(&self.wakes[shard])
    }

    pub(super) fn deadline_ns(&self) -> u64 {
        self.deadline_ns.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, shard: usize, report: ShardReport) {
        let mut report = Arc::new(report);
        let slot = self.reports[shard].lock();
        std::mem::swap(
            &mut *slot.unwrap_or_else(PoisonError::into_inner),
            &mut report,
        );
    }

    /// A part of each shard's newest report.
    pub fn reports<T>(&self, part: impl Fn(&ShardReport) -> T) -> Vec<T> {
        let newest = |report: &Mutex<Arc<ShardReport>>| {
            Arc::clone(&report.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.reports
            .iter()
            .map(|report| part(&newest(report)))
            .collect()
    }
}
