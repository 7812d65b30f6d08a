//! Everything that is shown of a distributor, made from its shards' reports and from the state before.
//!
//! ```text
//! reports, a few times a second --> State::note --> rows, totals, events --> answers, metrics, page
//! ```
//!
//! Pure: time comes in as an argument, so that every answer can be tested without a distributor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::digest;
use super::events::EventLog;
use super::posts::PostTotals;
use super::rates::Rates;
use super::row::{GroupStatus, HttpStatus, Kind, RampStatus, Row, Totals};
use super::track::{Buckets, LaneTrack};
use weir_engine::{Entry, LinkEpoch, Reach, Wanted};
use weir_ledger::run_report::{Ledger, Stamp};
use weir_shard::port::TlsCounts;
use weir_shard::{HttpAnalyzerReport, RefusedCounts, ShardReport};
use weir_sink::Sink;
use weir_tls::LinkCertificate;

/// Nobody can be given anything.
pub const NOBODY: &str =
    "no analyzer is connected that takes messages: they wait, and emitters with them";
/// A shard turns ten times a second even when nothing happens.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What is known of one analyzer beyond its lanes' lives.
pub(super) struct Known {
    pub(super) kind: Kind,
    /// What it speaks; none: it never was in the roster.
    pub(super) sink: Option<Sink>,
    pub(super) weight: f64,
    pub(super) assigned: u64,
    pub(super) last_distribution_ms: u64,
    pub(super) rerouted: u64,
    /// Latencies of links that are gone.
    pub(super) gone: Buckets,
    /// When it was last in the roster, or had messages.
    pub(super) seen_ns: u64,
}

/// What one shard did not say itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Pulse {
    pub(super) turns: u64,
    /// For so long it was seen not to turn.
    pub(super) still_ns: u64,
    pub(super) stalls: u64,
    pub(super) stalled_since_ns: Option<u64>,
}

/// The distributor at one moment. See the head of this file.
pub struct State {
    /// When the distributor began.
    pub started: Stamp,
    /// Size of a batch buffer, the unit of the arena.
    pub buffer_bytes: u64,
    /// When the reports were taken.
    pub now: Stamp,
    /// Newest report of each shard.
    pub reports: Vec<ShardReport>,
    /// Number of the run, 16 hexadecimal digits; empty where nobody needs to tell runs apart.
    pub instance: String,
    /// By name; those that left a while ago, and those that were never reached, included.
    pub rows: Vec<Row>,
    /// All shards.
    pub totals: Totals,
    /// The books, as the run report has them.
    pub ledger: Ledger,
    /// The last seconds.
    pub rates: Rates,
    /// What happened.
    pub events: EventLog,
    /// Configured analyzers over HTTP.
    pub http: Vec<HttpStatus>,
    /// Groups of them, whose members come and go.
    pub groups: Vec<GroupStatus>,
    /// POSTs to them.
    pub posts: PostTotals,
    /// Packets that nobody took and that are kept in memory.
    pub refused: RefusedCounts,
    /// Whom the certificates of analyzers name, by the names of the analyzers.
    pub certificates: BTreeMap<Arc<str>, Arc<str>>,
    /// Why shards gave up analyzers over HTTP that have not come up since, by the names of the analyzers.
    pub why_down: BTreeMap<Arc<str>, Arc<str>>,
    /// Certificates that analyzers are shown, or trusted by, that TLS is spoken to: by their ids, or their groups'.
    pub link_certificates: BTreeMap<String, Vec<LinkCertificate>>,
    /// TLS at the admin API's port, where it is spoken there.
    pub admin_tls: Option<TlsCounts>,
    /// Weights that the configuration wants.
    pub wanted: Arc<[Wanted]>,
    /// Of ids, weights and pins: [`super::digest::of`].
    pub weights_digest: u64,
    /// Why the configuration was not taken when it was read last.
    pub config_problem: Option<String>,
    /// Weights on their way.
    pub ramps: Vec<RampStatus>,
    /// The distributor is on its way out.
    pub draining: bool,
    /// What slows everything down, if anything does; see [`super::bottleneck::find`].
    pub bottleneck: Option<String>,
    pub(super) lanes: BTreeMap<(u16, LinkEpoch), (Arc<str>, LaneTrack)>,
    pub(super) known: BTreeMap<Arc<str>, Known>,
    pub(super) ended: BTreeSet<(u16, LinkEpoch)>,
    pub(super) names: BTreeMap<u32, Arc<str>>,
    pub(super) pulses: Vec<Pulse>,
    /// What the digest is of: a roster by its number, and a table.
    digested: Option<(u64, Arc<[Wanted]>)>,
}

impl State {
    /// Of a distributor that began at `started`.
    pub fn new(started: Stamp, buffer_bytes: u64) -> State {
        State {
            started,
            buffer_bytes,
            now: started,
            reports: Vec::new(),
            instance: String::new(),
            rows: Vec::new(),
            totals: Totals::default(),
            ledger: Ledger::default(),
            rates: Rates::default(),
            events: EventLog::default(),
            http: Vec::new(),
            groups: Vec::new(),
            posts: PostTotals::default(),
            refused: RefusedCounts::default(),
            certificates: BTreeMap::new(),
            why_down: BTreeMap::new(),
            link_certificates: BTreeMap::new(),
            admin_tls: None,
            wanted: Arc::default(),
            weights_digest: digest::of(&[], &[]),
            config_problem: None,
            digested: None,
            ramps: Vec::new(),
            draining: false,
            bottleneck: None,
            lanes: BTreeMap::new(),
            known: BTreeMap::new(),
            ended: BTreeSet::new(),
            names: BTreeMap::new(),
            pulses: Vec::new(),
        }
    }

    /// Seconds since the start.
    pub fn uptime_s(&self) -> f64 {
        self.now.mono_ns.saturating_sub(self.started.mono_ns) as f64 / 1e9
    }

    /// Shard 0 keeps the roster, so its table is never older than another's.
    pub fn entries(&self) -> &[Entry] {
        let first = self.reports.first();
        first.map_or(&[], |report| &report.roster.entries)
    }

    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| *entry.name == *name)
    }

    /// A shard whose loop stands still, and for how many seconds.
    pub fn stuck(&self) -> Option<(usize, f64)> {
        let mut pulses = self.pulses.iter().enumerate();
        let is_stuck = |pulse: &Pulse| u128::from(pulse.still_ns) > STUCK_AFTER.as_nanos();
        let (shard, pulse) = pulses.find(|(_, pulse)| is_stuck(pulse))?;
        Some((shard, pulse.still_ns as f64 / 1e9))
    }

    /// Why messages should not be sent here, if they should not: the process itself.
    pub fn unhealthy(&self) -> Option<String> {
        if let Some((shard, seconds)) = self.stuck() {
            return Some(format!("shard {shard} has not turned for {seconds:.0} s"));
        }
        if self.draining {
            return Some("the distributor is shutting down".into());
        }
        let broken = !self.totals.balance.holds();
        broken.then(|| self.totals.balance.to_string())
    }

    /// As [`State::unhealthy`], or some shard has nobody to give a message to.
    pub fn unready(&self) -> Option<String> {
        self.unhealthy().or_else(|| self.nobody())
    }

    /// Shards without an analyzer that takes messages, if there are any: their emitters wait, however many analyzers
    /// the other shards have.
    pub fn nobody(&self) -> Option<String> {
        let entries = self.entries().iter();
        let takers: Vec<&Entry> = entries
            .filter(|entry| entry.effective_weight() > 0.0)
            .collect();
        if takers.is_empty() {
            return Some(NOBODY.to_owned());
        }
        // One with a single link gets its batches from all shards, one over HTTP has connections to each.
        if takers
            .iter()
            .any(|entry| entry.reach != Reach::LinkPerShard)
        {
            return None;
        }
        let takers: BTreeSet<u32> = takers.iter().map(|entry| entry.analyzer).collect();
        let is_without = |report: &&ShardReport| {
            let mut lanes = report.lanes.iter();
            !lanes.any(|lane| !lane.down && takers.contains(&lane.analyzer))
        };
        let without = self.reports.iter().filter(is_without);
        let shards: Vec<String> = without.map(|report| report.shard.to_string()).collect();
        let (what, have) = match shards.len() {
            0 => return None,
            1 => ("shard", "has"),
            _ => ("shards", "have"),
        };
        Some(format!(
            "{what} {} of {} {have} no analyzer that takes messages: they wait there, and emitters with them",
            shards.join(", "),
            self.reports.len()
        ))
    }

    /// The digest follows the roster and the table; it is made anew when one of them is another.
    pub(super) fn note_digest(&mut self) {
        let epoch = self.reports.first().map_or(0, |first| first.roster.epoch);
        let is_same =
            |(of, table): &(u64, Arc<[Wanted]>)| *of == epoch && Arc::ptr_eq(table, &self.wanted);
        if !self.digested.as_ref().is_some_and(is_same) {
            self.weights_digest = digest::of(self.entries(), &self.wanted);
            self.digested = Some((epoch, Arc::clone(&self.wanted)));
        }
    }

    /// POSTs to an analyzer over HTTP since it came in, all shards added up; since the start: [`State::posts`].
    pub fn posts_now(&self, id: &str) -> HttpAnalyzerReport {
        let analyzer = self.entry(id).map(|entry| entry.analyzer);
        let reports = self.reports.iter();
        let posts = reports.flat_map(|report| &report.http_analyzers);
        let mine = posts.filter(|posts| Some(posts.analyzer) == analyzer);
        mine.fold(HttpAnalyzerReport::default(), |sum, one| {
            HttpAnalyzerReport {
                analyzer: one.analyzer,
                connections: sum.connections + one.connections,
                in_flight: sum.in_flight + one.in_flight,
                posts: sum.posts + one.posts,
                failures: sum.failures + one.failures,
                consecutive_failures: sum.consecutive_failures.max(one.consecutive_failures),
                acked: sum.acked + one.acked,
                refused: sum.refused + one.refused,
            }
        })
    }

    /// When the oldest message that is not ACKed was first seen in its lane, in ms since 1970: up to
    /// half a second after it was routed. A re-routed message counts from its re-route. None: no
    /// message waits.
    pub fn oldest_ms(&self) -> Option<u64> {
        let tracks = self.lanes.values();
        tracks.filter_map(|(_, track)| track.oldest_ms()).min()
    }
}

impl Known {
    pub(super) fn new(kind: Kind, now_ms: u64) -> Known {
        Known {
            kind,
            sink: None,
            weight: 0.0,
            assigned: 0,
            last_distribution_ms: now_ms,
            rerouted: 0,
            gone: Buckets::default(),
            seen_ns: 0,
        }
    }
}
