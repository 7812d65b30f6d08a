//! The analyzer: one link per shard on native, a single one otherwise; one thread per link.
//!
//! ```text
//!   supervisor --spawns--> link 0 --WELCOME: 4 shards--> supervisor --spawns--> links 1, 2, 3
//!   link:  read -> parse -> tally (count, check order, record) -> ACK
//! ```

mod acks;
mod certify;
mod downstream;
mod http;
mod inbox;
mod link;
mod streams;
mod tally;

pub use tally::{Counts, RECORD_BYTES};

use super::backoff::Random;
use hdrhistogram::Histogram;
use link::Link;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use weir_ledger::journal::Journal;
use weir_protocol::WeightText;
use weir_sink::{detect, Dialect};

/// How often the supervisor looks at its links.
const SUPERVISE_EVERY: Duration = Duration::from_millis(10);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
const PROGRESS_EVERY_VERBOSE: Duration = Duration::from_secs(1);
/// As the reference analyzers do.
const VARY_EVERY_MESSAGES: u64 = 5_000;
/// Longer delays count as this long: a minute, in microseconds.
const DELAY_MAX_US: u64 = 60_000_000;
/// More shards than any machine has; what a WELCOME says is bounded by it.
const LINKS_MAX: u16 = 1_024;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Distributor's analyzer address; with `http`, where to listen.
    pub addr: String,
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
            http: false,
            weight: 0.25,
            id: id.into(),
            token: Vec::new(),
            ack_every: 10,
            ack_remainder: true,
            delay: Duration::ZERO,
            verbose: false,
            dialect: Dialect::Native,
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

    /// One line for programs to read.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"id":{},"messages":{},"bytes":{},"out_of_order":{},"duplicates":{},"redelivered":{},"unnumbered":{},"unchecked":{},"reconnects":{},"weight":{},"sound":{},"corrupt":{},"severities":{}}}"#,
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
    /// Shards of the distributor, 0 until a WELCOME has told.
    shard_count: AtomicU64,
    /// Shard of the first link, `u64::MAX` until a WELCOME has told.
    first_shard: AtomicU64,
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
    fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            shard_count: AtomicU64::new(0),
            first_shard: AtomicU64::new(u64::MAX),
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

    /// A new weight, when messages `from..to` crossed a multiple of 5,000.
    fn varied_weight(&self, from: u64, to: u64) -> Option<f64> {
        if !self.options.vary_weight || from / VARY_EVERY_MESSAGES == to / VARY_EVERY_MESSAGES {
            return None;
        }
        let unit = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unit();
        let weight = self.options.weight * (0.8 + 0.4 * unit);
        self.weight_bits.store(weight.to_bits(), Ordering::Relaxed);
        Some(weight)
    }

    /// The weight of `weight_after`, once, when its time has come.
    fn weight_due(&self, now: Instant) -> Option<f64> {
        let (after, weight) = self.options.weight_after?;
        if self.is_weight_settled.load(Ordering::Acquire)
            || self.messages.load(Ordering::Relaxed) == 0
        {
            return None;
        }
        let mut due = self
            .weight_due
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_due = now >= *due.get_or_insert(now + after);
        if !is_due || self.is_weight_settled.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.weight_bits.store(weight.to_bits(), Ordering::Relaxed);
        Some(weight)
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
    let shared = Arc::new(Shared::new(options));
    let mut supervisor = Supervisor {
        shared,
        stop: stop.clone(),
        links: BTreeMap::new(),
        opened: BTreeSet::new(),
        peak: 0,
    };
    supervisor.spawn(None)?;
    let mut counts = supervisor.watch()?;
    for (_, link) in std::mem::take(&mut supervisor.links) {
        counts.add(&joined(link)?);
    }
    let shared = &supervisor.shared;
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
        links: supervisor.peak,
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

struct Supervisor {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    /// By shard; `None` is the first link, which takes the shard it is given.
    links: BTreeMap<Option<u16>, JoinHandle<Counts>>,
    /// Shards that had a link: without `reconnect` they get no second one.
    opened: BTreeSet<u16>,
    peak: usize,
}

impl Supervisor {
    fn spawn(&mut self, shard: Option<u16>) -> io::Result<()> {
        let mut link = Link::new(shard, self.shared.clone(), self.stop.clone())?;
        let name = shard.map_or("link".into(), |shard| format!("link-{shard}"));
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || link.run())?;
        self.links.insert(shard, thread);
        self.opened.extend(shard);
        self.peak = self.peak.max(self.links.len());
        Ok(())
    }

    /// Until it is over: links to every shard, progress in the log. Counts of links that ended.
    fn watch(&mut self) -> io::Result<Counts> {
        let mut counts = Counts::default();
        let verbose = self.shared.options.verbose;
        let every = if verbose {
            PROGRESS_EVERY_VERBOSE
        } else {
            PROGRESS_EVERY
        };
        let (mut next_progress, mut logged) = (Instant::now() + every, 0);
        while !self.stop.load(Ordering::Acquire) && !self.shared.over.load(Ordering::Acquire) {
            for (_, link) in self.links.extract_ended() {
                counts.add(&joined(link)?);
            }
            if self.links.is_empty() && !self.shared.options.reconnect {
                break;
            }
            if !self.links.contains_key(&None) && self.shared.options.reconnect {
                self.shared.first_shard.store(u64::MAX, Ordering::Release);
                self.spawn(None)?;
            }
            self.open_missing()?;
            if Instant::now() >= next_progress {
                logged = self.log_progress(logged, every);
                next_progress += every;
            }
            thread::sleep(SUPERVISE_EVERY);
        }
        Ok(counts)
    }

    /// A link to each shard that has none, once a WELCOME told how many there are.
    fn open_missing(&mut self) -> io::Result<()> {
        let shard_count = self.shared.shard_count.load(Ordering::Acquire);
        let first = self.shared.first_shard.load(Ordering::Acquire);
        let shard_count = u16::try_from(shard_count)
            .unwrap_or(LINKS_MAX)
            .min(LINKS_MAX);
        for shard in 0..shard_count {
            let has_link = u64::from(shard) == first || self.links.contains_key(&Some(shard));
            let had_link = self.opened.contains(&shard) && !self.shared.options.reconnect;
            if !has_link && !had_link {
                self.spawn(Some(shard))?;
            }
        }
        Ok(())
    }

    fn log_progress(&self, logged: u64, every: Duration) -> u64 {
        let messages = self.shared.messages.load(Ordering::Relaxed);
        if messages > logged || self.shared.options.verbose {
            let rate = (messages - logged) as f64 / every.as_secs_f64();
            let (id, weight) = (&self.shared.options.id, WeightText(self.shared.weight()));
            let delays = self.shared.take_delays();
            log::info!("{id}: Processed {messages} messages, {rate:.0}/s, weight {weight}{delays}");
        }
        messages
    }
}

fn joined(link: JoinHandle<Counts>) -> io::Result<Counts> {
    link.join()
        .map_err(|_| io::Error::other("a link thread panicked"))
}

/// Takes the links out whose threads have ended.
trait ExtractEnded {
    fn extract_ended(&mut self) -> Vec<(Option<u16>, JoinHandle<Counts>)>;
}

impl ExtractEnded for BTreeMap<Option<u16>, JoinHandle<Counts>> {
    fn extract_ended(&mut self) -> Vec<(Option<u16>, JoinHandle<Counts>)> {
        let ended: Vec<_> = self
            .iter()
            .filter(|(_, l)| l.is_finished())
            .map(|(s, _)| *s)
            .collect();
        ended
            .into_iter()
            .filter_map(|shard| self.remove_entry(&shard))
            .collect()
    }
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
        let shared = Shared::new(&Options::new("x", "a"));
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
        let shared = Shared::new(&Options::new("x", "a"));
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
