//! `weir distributor`: takes messages from emitters, gives each to one analyzer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::values;
use crate::audit::{self, Closing};
use crate::certificate::{self, Stamp};
use crate::engine::{Balance, Counters, OnSlow, Reason};
use crate::protocol::frame::{FRAME_BYTES_MAX_DEFAULT, FRAME_HEADER_BYTES};
use crate::protocol::Dialect;
use crate::shard::{Config, Distributor, ShardReport, StartError, Stopper};

/// Lines about shares at exit; a certificate has all.
const SHARES_PRINTED_MAX: usize = 64;
/// How often the law is checked over all shards.
const LAW_EVERY: Duration = Duration::from_secs(1);

/// Takes messages from emitters and gives each to exactly one analyzer, in proportion to weights.
///
/// SIGTERM or SIGINT: tell emitters to go, read on until they close, for --farewell at most, deliver
/// what was taken in, wait for ACKs up to --drain-timeout, print the conservation line. A second
/// signal ends at once.
///
/// Exit status: 0 nothing was abandoned, 1 it could not run, 2 usage, 3 messages were abandoned.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where emitters connect
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        value_parser = values::address,
        help_heading = "Sockets"
    )]
    pub emitters: SocketAddr,
    /// Where analyzers connect. Whoever reaches this port is given messages
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8081",
        value_parser = values::address,
        help_heading = "Sockets"
    )]
    pub analyzers: SocketAddr,
    /// What reference clients speak, when it is not to be guessed: typed or compact
    #[arg(long, value_name = "DIALECT", default_value = "auto", value_parser = dialect, help_heading = "Sockets")]
    pub dialect: PinnedDialect,
    /// Most emitter connections, all shards together; 0: as many as the descriptor limit allows
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::number(0..=usize::MAX), help_heading = "Sockets")]
    pub max_connections: usize,

    /// Cores to pin shards to, such as 0-3 or 0,2; default: all, one shard each
    #[arg(long, value_name = "LIST", value_parser = cores, help_heading = "Cores")]
    pub cores: Option<CoreList>,
    /// Number of shards; when there are more than cores, none is pinned
    #[arg(long, value_name = "N", value_parser = values::number(1..=1024_u16), help_heading = "Cores")]
    pub shards: Option<u16>,
    /// Longest time that sparse traffic is gathered before it is sent on; 0s: never wait
    #[arg(long, value_name = "TIME", default_value = "500us", value_parser = latency_budget, help_heading = "Cores")]
    pub latency_budget: Duration,

    /// Memory per shard for messages on their way: sent and not ACKed, or not sent. Serves one
    /// analyzer for every six batch buffers
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes, help_heading = "Memory")]
    pub arena: u64,
    /// Size of a batch buffer, the unit of that memory
    #[arg(long, value_name = "BYTES", default_value = "128KiB", value_parser = values::bytes, help_heading = "Memory")]
    pub batch_bytes: u64,
    /// Memory per shard for receiving, shared by all its emitters; a power of two, or the next lower
    #[arg(long, value_name = "BYTES", default_value = "4MiB", value_parser = values::bytes, help_heading = "Memory")]
    pub ingress: u64,
    /// Most memory per shard for frames that have not arrived whole
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes, help_heading = "Memory")]
    pub partial_bytes: u64,
    /// Largest frame, header included
    #[arg(long, value_name = "BYTES", default_value_t = u64::from(FRAME_BYTES_MAX_DEFAULT), value_parser = max_frame, help_heading = "Memory")]
    pub max_frame: u64,

    /// Most memory that one analyzer may hold per shard; an equal share of the arena if that is
    /// less, and never less than two batch buffers
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = values::bytes, help_heading = "Delivery")]
    pub window: u64,
    /// Most messages that one analyzer may leave un-ACKed per shard
    #[arg(long, value_name = "N", default_value_t = 1 << 24, value_parser = values::number(1..=1_u64 << 28), help_heading = "Delivery")]
    pub window_messages: u64,
    /// What to do with the share of an analyzer whose window is full: spill it to the others, or
    /// wait for it: then its shard takes nothing in until it ACKs
    #[arg(long, value_name = "POLICY", default_value = "spill", value_parser = on_slow, help_heading = "Delivery")]
    pub on_slow: OnSlow,
    /// Give an analyzer up that makes no ACK progress for this long (rule: docs/PROTOCOL.md)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive_duration, help_heading = "Delivery")]
    pub ack_timeout: Duration,
    /// Give a peer up whose host does not answer for this long (TCP_USER_TIMEOUT)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = peer_timeout, help_heading = "Delivery")]
    pub peer_timeout: Duration,
    /// How long SIGTERM lets emitters finish: it half-closes their connections and reads on until
    /// they close. Who has closed by then is read to its end, the others are cut off
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::duration, help_heading = "Delivery")]
    pub farewell: Duration,
    /// How long SIGTERM waits for ACKs, the farewell included
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration, help_heading = "Delivery")]
    pub drain_timeout: Duration,

    /// Write the books as JSON when it ends, for `weir audit`: received, ACKed, in flight, queued,
    /// dropped; shares against weights
    #[arg(long, value_name = "FILE", help_heading = "Ledger")]
    pub certificate: Option<PathBuf>,

    /// Sends of at least this size are zero-copy, but not to this host and not to where the kernel
    /// copies all the same; 0: never, and the arena is not locked in memory
    #[arg(long, value_name = "BYTES", default_value = "16KiB", value_parser = values::bytes, help_heading = "Kernel")]
    pub zero_copy: u64,
    /// Zero-copy to analyzers on this host as well, where the kernel always copies: for tests
    #[arg(long, help_heading = "Kernel")]
    pub zero_copy_loopback: bool,
    /// Do without kernel features, a list of defer-taskrun, incremental, min-wait, send-zc: for tests
    /// and for kernels where one is faulty
    #[arg(
        long,
        value_name = "FEATURES",
        value_delimiter = ',',
        help_heading = "Kernel"
    )]
    pub without: Vec<String>,
}

/// `auto`, or a dialect.
#[derive(Clone, Copy, Debug)]
pub struct PinnedDialect(pub Option<Dialect>);

/// Cores in the order in which shards take them.
#[derive(Clone, Debug)]
pub struct CoreList(pub Vec<usize>);

impl Args {
    /// The configuration that the flags describe.
    pub fn config(&self) -> Config {
        let present: Vec<usize> = core_affinity::get_core_ids()
            .unwrap_or_default()
            .iter()
            .map(|core| core.id)
            .collect();
        let wanted = self.cores.as_ref().map_or(present, |list| list.0.clone());
        let shards = self.shards.map_or(wanted.len().max(1), usize::from);
        let cores = if shards > wanted.len() {
            Vec::new()
        } else {
            wanted[..shards].to_vec()
        };
        let usize_of = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let u32_of = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Config {
            emitters: self.emitters,
            analyzers: self.analyzers,
            shards,
            cores,
            arena_bytes: usize_of(self.arena),
            batch_bytes: u32_of(self.batch_bytes),
            ingress_bytes: usize_of(self.ingress),
            frame_bytes_max: u32_of(self.max_frame),
            window_bytes: self.window,
            window_messages: self.window_messages,
            partial_bytes_max: usize_of(self.partial_bytes),
            on_slow: self.on_slow,
            latency_budget: self.latency_budget,
            zero_copy_bytes: usize_of(self.zero_copy),
            zero_copy_loopback: self.zero_copy_loopback,
            ack_timeout: self.ack_timeout,
            farewell: self.farewell,
            peer_timeout: self.peer_timeout,
            connections_max: self.max_connections,
            dialect: self.dialect.0,
            without: self.without.clone(),
            instance: instance(),
        }
    }
}

/// Runs until a signal.
pub fn run(args: &Args) -> ExitCode {
    let started = Stamp::now();
    if let Some(path) = &args.certificate {
        if let Err(error) = certificate::check_writable("--certificate", path) {
            eprintln!("weir: {error}");
            return ExitCode::from(1);
        }
    }
    let mut signals = match Signals::new([SIGTERM, SIGINT]) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("weir: signals cannot be handled: {error}");
            return ExitCode::from(1);
        }
    };
    let config = args.config();
    let distributor = match Distributor::start(config.clone()) {
        Ok(distributor) => distributor,
        Err(error) => {
            eprintln!("weir: {error}");
            let usage = matches!(error, StartError::Config(_));
            return ExitCode::from(if usage { 2 } else { 1 });
        }
    };
    log::info!(
        "ready emitters={} analyzers={} shards={} memory_bytes={} {}",
        distributor.emitters,
        distributor.analyzers,
        distributor.reports().len(),
        distributor.memory_bytes(),
        distributor.features(),
    );
    let handle = signals.handle();
    let stopper = distributor.stopper();
    let drain_timeout = args.drain_timeout;
    let waiter = std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            log::info!("draining for at most {drain_timeout:?}; a second signal ends at once");
            stopper.drain(drain_timeout);
        }
        let at_once = signals.next().is_some();
        if at_once {
            stopper.stop_now();
        }
        at_once
    });
    let watch = Watch::start(distributor.stopper());
    let stopper = distributor.stopper();
    let joined = distributor.join();
    let is_broken = watch.end();
    handle.close();
    let closing = Closing {
        started,
        at_once: waiter.join().unwrap_or(false),
        failed: joined.is_err() || is_broken,
    };
    let (reports, failure) = match joined {
        Ok(reports) => (reports, None),
        Err(error) => (stopper.reports(), Some(error)),
    };
    let mut code = match failure {
        None => conclude(&reports),
        Some(error) => {
            eprintln!("weir: {error}");
            ExitCode::from(1)
        }
    };
    if let Some(path) = &args.certificate {
        let written = certificate::write(path, &audit::certificate(&config, &reports, closing));
        if let Err(error) = written {
            eprintln!("weir: --certificate {error}");
            code = ExitCode::from(1);
        }
    }
    if is_broken {
        code = ExitCode::from(1);
    }
    code
}

/// Checks the law over the sum of all shards, once a second, for as long as they run.
struct Watch {
    over: Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watch {
    fn start(stopper: Stopper) -> Watch {
        let (over, is_over) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || loop {
            if let Err(balance) = audit::check_law(&stopper.balances()) {
                // What goes on with broken books loses messages and does not know it.
                eprintln!("weir: sum of all shards: {balance}");
                stopper.stop_now();
                return true;
            }
            if is_over.recv_timeout(LAW_EVERY) != Err(RecvTimeoutError::Timeout) {
                return false;
            }
        });
        Watch { over, thread }
    }

    /// Ends; whether the law was broken.
    fn end(self) -> bool {
        // Nobody listens when it was broken.
        let _ = self.over.send(());
        self.thread.join().unwrap_or(true)
    }
}

/// The last lines: what was counted, and whether the books balance.
fn conclude(reports: &[ShardReport]) -> ExitCode {
    let mut balance = Balance::default();
    let mut counters = Counters::default();
    for report in reports {
        balance.add(&report.balance);
        counters.add(&report.counters);
    }
    print_counters(&counters);
    let shares = audit::ledger(reports).analyzers;
    for share in shares.iter().take(SHARES_PRINTED_MAX) {
        println!(
            "share {}: {:.3} % of {:.3} % due, {} messages, off by {:+.2} (bound {:.2})",
            share.analyzer.escape_debug(),
            share.real_share * 100.0,
            share.target_share * 100.0,
            share.assigned,
            share.error,
            share.bound,
        );
    }
    if shares.len() > SHARES_PRINTED_MAX {
        let more = shares.len() - SHARES_PRINTED_MAX;
        println!("share of {more} more analyzers: see --certificate");
    }
    println!("{balance}");
    if !balance.holds() {
        return ExitCode::from(1);
    }
    let unrouted: u64 = reports.iter().map(|report| report.unrouted_bytes).sum();
    let unfinished: u64 = reports
        .iter()
        .map(|report| report.unfinished_emitters)
        .sum();
    if balance.open() + unrouted + unfinished == 0 {
        return ExitCode::SUCCESS;
    }
    println!(
        "abandoned: {} sent and not acknowledged, {} not sent, {unrouted} bytes read and not routed, {unfinished} emitters that had closed not read to their end",
        balance.in_flight, balance.queued
    );
    ExitCode::from(3)
}

fn print_counters(counters: &Counters) {
    println!(
        "emitters {}, bytes received {}, receives {}, stalls {} ({:.3} s)",
        counters.emitters_accepted,
        counters.received_bytes,
        counters.receives,
        counters.stalls,
        counters.stalled_ns as f64 / 1e9,
    );
    println!(
        "links up {} and down {}, re-routed {} (duplicates possible {}, identities lost {}), batches handed over {}",
        counters.links_up,
        counters.links_down,
        counters.rerouted,
        counters.duplicates_possible,
        counters.identities_lost,
        counters.handed_over,
    );
    println!(
        "sends {} ({} zero-copy, {} of them copied), kernel entries {}",
        counters.sends, counters.sends_zero_copy, counters.zero_copy_copied, counters.enters,
    );
    for reason in Reason::ALL
        .into_iter()
        .filter(|reason| counters.of(*reason) > 0)
    {
        println!("{} {}", reason.as_str(), counters.of(reason));
    }
}

/// Random enough to tell one run from the next: the kernel's own UUID source.
fn instance() -> u64 {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let hex: String = uuid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(16)
        .collect();
    u64::from_str_radix(&hex, 16).unwrap_or(0)
}

fn dialect(text: &str) -> Result<PinnedDialect, String> {
    match text {
        "auto" => Ok(PinnedDialect(None)),
        "typed" => Ok(PinnedDialect(Some(Dialect::Typed))),
        "compact" => Ok(PinnedDialect(Some(Dialect::Compact))),
        _ => Err("allowed: auto, typed, compact".into()),
    }
}

fn on_slow(text: &str) -> Result<OnSlow, String> {
    match text {
        "spill" => Ok(OnSlow::Spill),
        "wait" => Ok(OnSlow::Wait),
        _ => Err("allowed: spill, wait".into()),
    }
}

fn latency_budget(text: &str) -> Result<Duration, String> {
    let budget = values::duration(text)?;
    if budget > Duration::from_millis(50) {
        return Err("allowed: 0s to 50ms".into());
    }
    Ok(budget)
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    if duration.is_zero() {
        return Err("allowed: more than 0s".into());
    }
    Ok(duration)
}

fn peer_timeout(text: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    let allowed = Duration::from_secs(4)..=Duration::from_secs(3600);
    if !allowed.contains(&duration) {
        return Err("allowed: 4s to 1h".into());
    }
    Ok(duration)
}

fn max_frame(text: &str) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if !(u64::from(FRAME_HEADER_BYTES)..=64 << 20).contains(&bytes) {
        return Err(format!("allowed: {FRAME_HEADER_BYTES} bytes to 64MiB"));
    }
    Ok(bytes)
}

/// `0-3`, `0,2`, `0-1,4`: each core once, and present.
fn cores(text: &str) -> Result<CoreList, String> {
    let allowed = || "allowed: numbers and ranges, such as 0-3 or 0,2".to_owned();
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| allowed())?;
        let last: usize = last.trim().parse().map_err(|_| allowed())?;
        if first > last || last > 4095 {
            return Err(allowed());
        }
        list.extend(first..=last);
    }
    let present: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect();
    for (index, core) in list.iter().enumerate() {
        if !present.contains(core) {
            return Err(format!(
                "core {core} is not available here (available: {present:?})"
            ));
        }
        if list[..index].contains(core) {
            return Err(format!("core {core} is named twice"));
        }
    }
    Ok(CoreList(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists() {
        assert_eq!(cores("0").map(|list| list.0), Ok(vec![0]));
        for bad in ["", "x", "3-1", "0,0", "99999", "0-", "4000"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_out_of_range_say_what_is_allowed() {
        for (parsed, word) in [
            (latency_budget("1s").map(drop), "50ms"),
            (positive_duration("0s").map(drop), "more than 0s"),
            (peer_timeout("1s").map(drop), "4s to 1h"),
            (max_frame("4").map(drop), "5 bytes"),
            (on_slow("drop").map(drop), "spill, wait"),
            (dialect("native").map(drop), "auto, typed, compact"),
        ] {
            let error = parsed.expect_err(word);
            assert!(error.contains(word), "{error}");
        }
    }
}
