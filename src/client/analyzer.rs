//! The analyzer: one link per shard on native, a single one otherwise; one thread per link.
//!
//! ```text
//!   discovery --distributors--> supervisor --a group for each--> first link
//!   link 0 --WELCOME: 4 shards--> supervisor --spawns--> links 1, 2, 3 of that group
//!   link:  read -> parse -> tally (count, check order, record) -> ACK
//! ```

mod acks;
mod certify;
mod downstream;
mod group;
mod http;
mod inbox;
mod link;
mod link_error;
mod streams;
mod supervisor;
mod tally;

pub use tally::{Counts, RECORD_BYTES};

use super::backoff::Random;
use group::Owners;
use hdrhistogram::Histogram;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use supervisor::Supervisor;
use weir_discover::Watcher;
use weir_ledger::journal::Journal;
use weir_protocol::WeightText;
use weir_sink::{detect, Dialect};
use weir_tls::{Connector, Served};

/// As the reference analyzers do.
const VARY_EVERY_MESSAGES: u64 = 5_000;
/// Longer delays count as this long: a minute, in microseconds.
const DELAY_MAX_US: u64 = 60_000_000;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Distributors' analyzer addresses, as [`weir_discover::Targets`] reads them; with `http`, where to listen.
    pub addr: String,
    /// Who is asked for names; empty: the system.
    pub nameservers: Vec<SocketAddr>,
    /// A distributor whose host does not answer for this long is given up.
    pub peer_timeout: Duration,
    /// Speak TLS with distributors.
    pub tls: Option<Arc<Connector>>,
    /// With `http`: speak TLS there, with this certificate.
    pub served: Option<Arc<Served>>,
    /// Take packets over HTTP instead of a link.
    pub http: bool,
    /// First weight.
    pub weight: f64,
    /// Name, the same on all links.
    pub id: String,
    /// What a native link shows to be given messages; empty: nothing.
    pub token: Vec<u8>,
    /// Messages per ACK.
    pub ack_every: u32,
    /// ACK a remainder when idle; native links always do.
    pub ack_remainder: bool,
    /// Think time per message.
    pub delay: Duration,
    /// Log progress every second.
    pub verbose: bool,
    /// What to speak.
    pub dialect: Dialect,
    /// Ask what each message is and where it came from; native links only.
    pub forms: bool,
    /// Change the weight every 5,000 messages.
    pub vary_weight: bool,
    /// Change the weight once, so long after the first message.
    pub weight_after: Option<(Duration, f64)>,
    /// Where to append records.
    pub record: Option<PathBuf>,
    /// Stop after this many messages.
    pub count: Option<u64>,
    /// Connect again when a link ends.
    pub reconnect: bool,
    /// Where to write the run report at the end.
    pub report: Option<PathBuf>,
    /// Directory of the journals; beside the run report when that is given and this is not.
    pub journal: Option<PathBuf>,
}

impl Options {
    /// What the command line has by default.
    pub fn new(addr: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            nameservers: Vec::new(),
            peer_timeout: super::PEER_TIMEOUT,
            tls: None,
            served: None,
            http: false,
            weight: 0.25,
            id: id.into(),
            token: Vec::new(),
            ack_every: 10,
            ack_remainder: true,
            delay: Duration::ZERO,
            verbose: false,
            dialect: Dialect::Native,
            forms: false,
            vary_weight: false,
            weight_after: None,
            record: None,
            count: None,
            reconnect: true,
            report: None,
            journal: None,
        }
    }

    /// Where journals go, if there are any.
    pub fn journal_dir(&self) -> Option<PathBuf> {
        let beside = self.report.as_ref().map(|path| {
            let mut name = path.clone().into_os_string();
            name.push(".journal");
            PathBuf::from(name)
        });
        self.journal.clone().or(beside)
    }

    /// A journal of its own for each link, or for all of HTTP; none if there is no directory for them.
    fn open_journal(&self) -> io::Result<Option<Journal>> {
        let dialect = match self.dialect {
            _ if self.http => 3,
            Dialect::Native => 0,
            Dialect::Typed => 1,
            Dialect::Compact => 2,
        };
        let dir = self.journal_dir();
        dir.map(|dir| Journal::open(&dir, &self.id, dialect))
            .transpose()
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Analyzer id.
    pub id: String,
    /// Over all links.
    pub counts: Counts,
    /// Links that ended and were opened again.
    pub reconnects: u64,
    /// Links open at the same time, at most.
    pub links: usize,
    /// Weight at the end; over HTTP it is the distributor's to know.
    pub weight: Option<f64>,
}

impl Report {
    /// Messages per second from the first to the last.
    pub fn rate(&self) -> f64 {
        let seconds = self
            .counts
            .span
            .map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        if seconds > 0.0 {
            self.counts.messages as f64 / seconds
        } else {
            0.0
        }
    }

    /// How many messages of each form there were; nothing where that was not asked for.
    fn forms_json(&self) -> String {
        let [raw, json, syslog, line] = self.counts.forms;
        if raw + json + syslog + line == 0 {
            return String::new();
        }
        format!(r#","forms":{{"raw":{raw},"json":{json},"syslog":{syslog},"line":{line}}}"#)
    }

    /// One line for programs to read.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"id":{},"messages":{},"bytes":{},"out_of_order":{},"duplicates":{},"redelivered":{},"unnumbered":{},"unchecked":{},"reconnects":{},"weight":{},"sound":{},"corrupt":{},"severities":{}{}}}"#,
            super::json_string(&self.id),
            self.counts.messages,
            self.counts.bytes,
            self.counts.order_violations,
            self.counts.duplicates,
            self.counts.redelivered,
            self.counts.unnumbered,
            self.counts.unchecked,
            self.reconnects,
            self.weight
                .map_or("null".into(), |weight| WeightText(weight).to_string()),
            self.counts.sound,
            self.counts.corrupt,
            self.counts.severities.to_json(),
            self.forms_json(),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            messages,
            bytes,
            order_violations,
            duplicates,
            redelivered,
            ..
        } = self.counts;
        write!(
            f,
            "{}: Processed {messages} messages, {bytes} bytes, ",
            self.id
        )?;
        write!(f, "{:.0} messages/s", self.rate())?;
        if let Some(weight) = self.weight {
            write!(f, ", weight {}", WeightText(weight))?;
        }
        write!(f, "; ")?;
        write!(
            f,
            "{order_violations} out of order, {duplicates} duplicates, "
        )?;
        write!(
            f,
            "{redelivered} redelivered, {} unnumbered, ",
            self.counts.unnumbered
        )?;
        write!(
            f,
            "{} unchecked; {} reconnects",
            self.counts.unchecked, self.reconnects
        )?;
        if self.counts.sound + self.counts.corrupt > 0 {
            let (sound, corrupt) = (self.counts.sound, self.counts.corrupt);
            write!(
                f,
                "; {sound} with a right checksum, {corrupt} with a wrong one"
            )?;
        }
        if self.counts.severities.seen().count() > 1 {
            write!(f, "; {}", self.counts.severities)?;
        }
        Ok(())
    }
}

/// State that the links of one analyzer share.
struct Shared {
    options: Options,
    /// Which group has which distributor.
    owners: Owners,
    /// None for a single distributor that has a plain name.
    watcher: Option<Watcher>,
    weight_bits: AtomicU64,
    messages: AtomicU64,
    /// How late messages were when they were processed, in microseconds; the newest of every read,
    /// since the last line of progress.
    delays_us: Mutex<Histogram<u64>>,
    reconnects: AtomicU64,
    /// When `weight_after` is due; set by the first message, taken by the link that says it.
    weight_due: Mutex<Option<Instant>>,
    /// `weight_after` is taken, or there is none: nobody need look at `weight_due`.
    is_weight_settled: AtomicBool,
    /// The count is reached or a link failed for good.
    over: AtomicBool,
    failure: Mutex<Option<io::Error>>,
    random: Mutex<Random>,
    /// Names this run, so that nobody takes another program of the same id for it.
    instance: u64,
}

impl Shared {
    fn new(options: &Options, watcher: Option<Watcher>) -> Self {
        Self {
            options: options.clone(),
            owners: Owners::default(),
            watcher,
            weight_bits: AtomicU64::new(options.weight.to_bits()),
            messages: AtomicU64::new(0),
            delays_us: Mutex::new(delays_us()),
            reconnects: AtomicU64::new(0),
            weight_due: Mutex::new(None),
            is_weight_settled: AtomicBool::new(options.weight_after.is_none()),
            over: AtomicBool::new(false),
            failure: Mutex::new(None),
            random: Mutex::new(Random::new(super::unix_ns())),
            instance: instance(),
        }
    }

    fn weight(&self) -> f64 {
        f64::from_bits(self.weight_bits.load(Ordering::Relaxed))
    }

    /// Counts one message before it is processed; false when the analyzer's count is reached.
    fn claim(&self) -> bool {
        let count = self.options.count.unwrap_or(u64::MAX);
        let claimed = self
            .messages
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |m| {
                (m < count).then_some(m + 1)
            });
        if claimed.map_or(true, |before| before + 1 == count) {
            self.over.store(true, Ordering::Release);
        }
        claimed.is_ok()
    }

    /// A distributor has lost all its links: is it still there?
    fn ask_discovery(&self) {
        if let Some(watcher) = &self.watcher {
            watcher.ask();
        }
    }

    /// The weight may change.
    fn has_other_weights(&self) -> bool {
        self.options.vary_weight || self.options.weight_after.is_some()
    }

    /// Takes a new weight when messages `from..to` crossed a multiple of 5,000. Each distributor is told by one of its
    /// links.
    fn vary_weight(&self, from: u64, to: u64) {
        if !self.options.vary_weight || from / VARY_EVERY_MESSAGES == to / VARY_EVERY_MESSAGES {
            return;
        }
        let unit = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unit();
        let weight = self.options.weight * (0.8 + 0.4 * unit);
        self.weight_bits.store(weight.to_bits(), Ordering::Relaxed);
    }

    /// Takes the weight of `weight_after`, once, when its time has come.
    fn note_weight_due(&self, now: Instant) {
        let Some((after, weight)) = self.options.weight_after else {
            return;
        };
        if self.is_weight_settled.load(Ordering::Acquire)
            || self.messages.load(Ordering::Relaxed) == 0
        {
            return;
        }
        let mut due = self
            .weight_due
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_due = now >= *due.get_or_insert(now + after);
        if is_due && !self.is_weight_settled.swap(true, Ordering::AcqRel) {
            self.weight_bits.store(weight.to_bits(), Ordering::Relaxed);
        }
    }

    fn note_delay(&self, delay_ns: u64) {
        let mut delays_us = self
            .delays_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        delays_us.saturating_record((delay_ns / 1_000).max(1));
    }

    /// Percentiles since the last call, as text; empty without a message.
    fn take_delays(&self) -> String {
        let mut delays_us = self
            .delays_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if delays_us.is_empty() {
            return String::new();
        }
        let [p50, p99] = [0.5, 0.99].map(|share| delays_us.value_at_quantile(share));
        delays_us.reset();
        format!(", delay p50 {p50} us, p99 {p99} us")
    }

    fn fail(&self, error: io::Error) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.over.store(true, Ordering::Release);
    }
}

/// A number that no other run has: by chance, and by the seed that differs per process.
fn instance() -> u64 {
    let state = RandomState::new();
    state.hash_one((super::unix_ns(), std::process::id()))
}

/// Two digits, up to a minute.
fn delays_us() -> Histogram<u64> {
    Histogram::new_with_bounds(1, DELAY_MAX_US, 2).expect("constant bounds are valid")
}

/// Receives until `stop` is raised, the count is reached, or (without `reconnect`) every link ended.
pub fn run(options: &Options, stop: &Arc<AtomicBool>) -> io::Result<Report> {
    if options.http {
        let started = certify::check_paths(options)?;
        let report = http::run(options, stop)?;
        certify::write(options, &report, started)?;
        return Ok(report);
    }
    check_weights(options)?;
    let started = certify::check_paths(options)?;
    let mut supervisor = Supervisor::new(options, stop)?;
    let counts = supervisor.run()?;
    let shared = supervisor.shared();
    if let Some(error) = shared
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        return Err(error);
    }
    let report = Report {
        id: options.id.clone(),
        counts,
        reconnects: shared.reconnects.load(Ordering::Relaxed),
        links: supervisor.peak(),
        weight: Some(shared.weight()),
    };
    certify::write(options, &report, started)?;
    Ok(report)
}

/// What a dialect cannot carry is not sent: it would be read as something else.
fn check_weights(options: &Options) -> io::Result<()> {
    let dialect = options.dialect;
    let later = options.weight_after.map(|(_, weight)| weight);
    for weight in [Some(options.weight), later].into_iter().flatten() {
        if dialect != Dialect::Native && !detect::is_plausible(weight) {
            let weight = WeightText(weight);
            let why = format!("weight {weight} in dialect {dialect}: allowed 0, or 2^-20 to 2^20; native links carry any");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_weight_has_hundreds_of_digits() {
        let report = Report {
            id: "a".into(),
            counts: Counts::default(),
            reconnects: 0,
            links: 1,
            weight: Some(1e308),
        };
        let (text, json) = (report.to_string(), report.to_json());
        assert!(text.contains(", weight 1e308;"), "{text}");
        assert!(json.contains(r#""weight":1e308,"#), "{json}");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["weight"], 1e308);
    }

    #[test]
    fn more_delays_than_32_bits_count_are_told() {
        let shared = Shared::new(&Options::new("x", "a"), None);
        let mut delays_us = shared.delays_us.lock().expect("not poisoned");
        delays_us.saturating_record_n(1, u64::from(u32::MAX));
        delays_us.saturating_record_n(5_000, u64::from(u32::MAX));
        drop(delays_us);
        shared.note_delay(5_000_000);
        let told = shared.take_delays();
        assert!(told.contains("p50 5"), "more than half are late: {told}");
    }

    #[test]
    fn delays_are_told_once() {
        let shared = Shared::new(&Options::new("x", "a"), None);
        assert_eq!(shared.take_delays(), "");
        for delay_us in 1..=100 {
            shared.note_delay(delay_us * 1_000);
        }
        assert_eq!(shared.take_delays(), ", delay p50 50 us, p99 99 us");
        assert_eq!(shared.take_delays(), "");
        shared.note_delay(u64::MAX);
        assert!(shared.take_delays().contains("p50 60"), "a minute at most");
    }
}
