//! Flags of `weir distributor`. Each is also a key of `weir.toml`, in a table named after its heading,
//! and a variable of the environment: one definition, this one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use log::LevelFilter;

use super::{http, protection};
use crate::cli::config::Origins;
use crate::cli::values;
use crate::config::{Accept, Config};
use crate::engine::OnSlow;
use crate::protocol::frame::{FRAME_BYTES_MAX_DEFAULT, FRAME_HEADER_BYTES};
use crate::protocol::Dialect;

/// Largest frame that may be allowed, in bytes.
const FRAME_BYTES_MAX: u64 = 64 << 20;
/// Kernel features that have a fallback.
const FEATURES: [&str; 4] = ["defer-taskrun", "incremental", "min-wait", "send-zc"];

/// Takes messages from emitters and gives each to exactly one analyzer, in proportion to weights.
///
/// SIGTERM or SIGINT: tell emitters to go, read on until they close, for --farewell at most, deliver
/// what was taken in, wait for ACKs up to --drain-timeout, print the conservation line. A second
/// signal ends at once. SIGHUP: read the file of --config again and take over what can change while it
/// runs.
///
/// Exit status: 0 nothing was abandoned, 1 it could not run, 2 usage, 3 messages were abandoned.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Read settings from this file; flags and the environment go before it (`weir config --default`
    /// prints one)
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config: Option<PathBuf>,

    /// Where emitters connect
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        value_parser = values::address,
        help_heading = "Sockets"
    )]
    pub emitters: SocketAddr,
    /// Where analyzers connect. Whoever reaches this port is given messages, unless
    /// --analyzer-token-file or --allow-analyzers says otherwise
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8081",
        value_parser = values::address,
        help_heading = "Sockets"
    )]
    pub analyzers: SocketAddr,
    /// What reference clients speak, when it is not to be guessed
    #[arg(long, value_name = "DIALECT", default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "typed", "compact"]).map(dialect), help_heading = "Sockets")]
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
    /// Which shard takes a connection: any (the kernel spreads them by their addresses), or the one on the
    /// core where the connection's packets come in. For hosts whose interface has a queue and an interrupt
    /// for each shard's core (from Linux 6.2 on, before it has no effect; --cores must pin the shards)
    #[arg(long, value_name = "POLICY", default_value = "spread", value_parser = PossibleValuesParser::new(["spread", "local"]).map(accept), help_heading = "Cores")]
    pub accept: Accept,
    /// Longest time that a message waits for those of other connections, when traffic is sparse. For the next
    /// ones of its own connection it may wait four times as long, if that sends one in every such time. 0s:
    /// never wait
    #[arg(long, value_name = "TIME", default_value = "500us", value_parser = values::duration_within(Duration::ZERO..=Duration::from_millis(50)), help_heading = "Cores")]
    pub latency_budget: Duration,
    /// Before a shard sleeps it looks into the interface's queues itself for this long, instead of waiting
    /// for the interrupt (NAPI busy polling, Linux 6.9). Only for connections through an interface that has
    /// such queues: on loopback it does nothing. With --latency-budget 0s; 0s: never
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = values::duration_within(Duration::ZERO..=Duration::from_millis(10)), help_heading = "Cores")]
    pub busy_poll: Duration,

    /// Memory per shard for messages on their way: sent and not ACKed, or not sent. Serves one
    /// analyzer for every six batch buffers
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes, help_heading = "Memory")]
    pub arena: u64,
    /// Size of a batch buffer, the unit of that memory
    #[arg(long, value_name = "BYTES", default_value = "128KiB", value_parser = values::bytes_within(4 << 10..=1 << 30), help_heading = "Memory")]
    pub batch_bytes: u64,
    /// Memory per shard for receiving, shared by all its emitters; a power of two, or the next lower
    #[arg(long, value_name = "BYTES", default_value = "4MiB", value_parser = values::bytes, help_heading = "Memory")]
    pub ingress: u64,
    /// Most memory per shard for frames that have not arrived whole
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes, help_heading = "Memory")]
    pub partial_bytes: u64,
    /// Largest frame, header included
    #[arg(long, value_name = "BYTES", default_value = values::show_bytes(u64::from(FRAME_BYTES_MAX_DEFAULT)), value_parser = values::bytes_within(u64::from(FRAME_HEADER_BYTES)..=FRAME_BYTES_MAX), help_heading = "Memory")]
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
    #[arg(long, value_name = "POLICY", default_value = "spill", value_parser = PossibleValuesParser::new(["spill", "wait"]).map(on_slow), help_heading = "Delivery")]
    pub on_slow: OnSlow,
    /// Give an analyzer up that makes no ACK progress for this long (rule: docs/PROTOCOL.md)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive_duration, help_heading = "Delivery")]
    pub ack_timeout: Duration,
    /// Give a peer up whose host does not answer for this long (TCP_USER_TIMEOUT)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration_within(Duration::from_secs(4)..=Duration::from_secs(3600)), help_heading = "Delivery")]
    pub peer_timeout: Duration,
    /// Close an emitter whose frame has not arrived whole this long after its first byte. The time in which
    /// nothing is taken in, because no analyzer can, does not count
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = values::duration_within(Duration::from_secs(1)..=Duration::from_secs(86400)), help_heading = "Delivery")]
    pub frame_timeout: Duration,
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
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_parser = values::boolean, help_heading = "Kernel")]
    pub zero_copy_loopback: bool,
    /// Do without kernel features, a list of defer-taskrun, incremental, min-wait, send-zc: for tests
    /// and for kernels where one is faulty
    #[arg(
        long,
        value_name = "FEATURES",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(FEATURES),
        help_heading = "Kernel"
    )]
    pub without: Vec<String>,

    /// Least severe log lines that are written; RUST_LOG wins
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]).map(level), help_heading = "Logging")]
    pub log_level: LevelFilter,

    #[command(flatten)]
    #[allow(missing_docs)] // clap would take it for the help of the program
    pub http: http::HttpArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub protection: protection::ProtectionArgs,

    /// Where the values come from.
    #[arg(skip)]
    pub origins: Origins,
}

/// `auto`, or a dialect.
#[derive(Clone, Copy, Debug)]
pub struct PinnedDialect(pub Option<Dialect>);

/// Cores in the order in which shards take them.
#[derive(Clone, Debug)]
pub struct CoreList(pub Vec<usize>);

impl Args {
    /// The configuration that the flags describe. Reads the token files.
    ///
    /// # Errors
    /// The flag, the value and what is allowed.
    pub fn config(&self) -> Result<Config, String> {
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
        Ok(Config {
            emitters: self.emitters,
            analyzers: self.analyzers,
            shards,
            cores,
            accept: self.accept,
            arena_bytes: usize_of(self.arena),
            batch_bytes: u32_of(self.batch_bytes),
            ingress_bytes: usize_of(self.ingress),
            frame_bytes_max: u32_of(self.max_frame),
            window_bytes: self.window,
            window_messages: self.window_messages,
            partial_bytes_max: usize_of(self.partial_bytes),
            on_slow: self.on_slow,
            latency_budget: self.latency_budget,
            busy_poll: self.busy_poll,
            zero_copy_bytes: usize_of(self.zero_copy),
            zero_copy_loopback: self.zero_copy_loopback,
            ack_timeout: self.ack_timeout,
            farewell: self.farewell,
            peer_timeout: self.peer_timeout,
            frame_timeout: self.frame_timeout,
            connections_max: self.max_connections,
            analyzers_max: 0,
            dialect: self.dialect.0,
            without: self.without.clone(),
            admin: self.protection.admin.0.clone(),
            http: self.http.config(),
            protection: self.protection.config()?,
            instance: instance(),
        })
    }
}

/// Tells one run from the next: from the kernel's random source, without a file, because a hardened service
/// may see none of /proc/sys. With the process's number and the time if that fails.
fn instance() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => {
            crate::ledger::certificate::Stamp::now().mono_ns ^ (u64::from(std::process::id()) << 40)
        }
    }
}

/// One of the values that the parser lets through.
fn dialect(text: String) -> PinnedDialect {
    PinnedDialect(match text.as_str() {
        "typed" => Some(Dialect::Typed),
        "compact" => Some(Dialect::Compact),
        _ => None,
    })
}

fn accept(text: String) -> Accept {
    match text.as_str() {
        "local" => Accept::Local,
        _ => Accept::Spread,
    }
}

fn on_slow(text: String) -> OnSlow {
    match text.as_str() {
        "wait" => OnSlow::Wait,
        _ => OnSlow::Spill,
    }
}

fn level(text: String) -> LevelFilter {
    text.parse().unwrap_or(LevelFilter::Info)
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    if duration.is_zero() {
        return Err("allowed: more than 0s".into());
    }
    Ok(duration)
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
            (positive_duration("0s").map(drop), "more than 0s"),
            (cores("3-1").map(drop), "0-3 or 0,2"),
        ] {
            let error = parsed.expect_err(word);
            assert!(error.contains(word), "{error}");
        }
    }
}
