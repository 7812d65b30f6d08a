//! Everything that a distributor can be told, and which values go together. Each setting is defined once, as a field
//! of [`Config`], [`HttpConfig`] or [`Protection`]: flag, help, range, default, value, name in run reports. Keys of
//! `weir.toml`, variables and the schema are made of the flags.
//!
//! ```text
//!   settings     what a definition says                               (settings.rs: read this first)
//!   Config       shards, memory, time-outs, Admin                     (here)
//!   HttpConfig   listener, limits of a request, pushes and health     (http.rs)
//!   HttpAnalyzer id, weight and Place                                 (analyzer.rs, delivery.rs, request.rs, endpoint.rs)
//!   Url          where a distributor's HTTP is, for who asks it  (url.rs)
//!   WantedWeight id, weight and pin (weights.rs)
//!   Protection   RateLimit, AllowList per listener, Token, Cors       (protection.rs)
//!   Hosts        names that it answers to                             (hosts.rs)
//!   values       bytes, times, numbers, with units                    (values.rs; of single flags: flags.rs)
//!   Sizing       shards by cores and CPU quota; memory as a sum (sizing.rs)
//!   Input        one more place where emitters connect               (input.rs; input_options.rs, conflicts.rs)
//!   listeners    apart from each other (apart.rs), and no analyzers (own.rs)
//! ```
#![forbid(unsafe_code)]

mod analyzer;
mod apart;
mod conflicts;
mod credential;
mod delivery;
mod endpoint;
mod flags;
mod group;
mod hosts;
mod http;
mod input;
mod input_options;
mod local;
mod own;
mod protection;
mod report_file;
mod request;
mod secret;
mod settings;
mod sizing;
mod tls;
mod url;
pub mod values;
mod weights;

pub use analyzer::{HttpAnalyzer, HTTP_ID_BYTES_MAX};
pub use credential::{secret_file, secret_path, CREDENTIAL};
pub use delivery::{
    Delivery, DeliveryOption, Place, Scheme, DELIVERY_OPTIONS, SCHEMES, TLS_OPTIONS,
};
pub use endpoint::Endpoint;
pub use flags::{CoreList, OrAuto, OrOff};
pub use group::{Discover, Members, WeightIs, GROUP_ID_BYTES_MAX};
pub use hosts::{Hosts, Stranger};
pub use http::{check_analyzers, HttpConfig, Joined, HTTP_ANALYZERS_MAX, HTTP_HEAD_TIMEOUT};
pub use input::{
    Framing, Input, Secrets, Speaks, Transport, ANY, INPUTS_MAX, INPUT_NAME_BYTES_MAX,
    RECEIVE_BUFFER_BYTES,
};
pub use input_options::{InputOption, OptionKind, INPUT_OPTIONS};
pub use local::{ExecOptions, FileOptions, Local, LOCAL_OPTIONS};
pub use own::OwnListeners;
pub use protection::{
    token_text, AllowList, Cors, LimitBy, Protection, ProxyHeader, RateLimit, Token,
};
pub use report_file::{report_file, with_instance};
pub use request::{REQUESTS, REQUEST_OPTIONS};
pub use secret::Secret;
pub use sizing::{MemoryNeed, Sizing, DATAGRAM_BUFFERS, DATAGRAM_BYTES_MAX};
pub use tls::{AnalyzerIds, OwnTls, TlsConfig, TlsMode, TlsPort};
pub use url::Url;
pub use weights::{check_weights, WantedWeight};

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, FromArgMatches};
use log::LevelFilter;
use weir_engine::{AckWindow, EngineConfig, OnSlow};
use weir_protocol::frame::{FRAME_BYTES_MAX_DEFAULT, FRAME_HEADER_BYTES};
use weir_sink::{Dialect, UNACKED_MESSAGES_MAX};
use weir_tls::KeyLogger;

use settings::{settings, Reported};

/// The arena has room for so many of the largest packets, and some buffers more.
const PACKETS_IN_ARENA: usize = 5;
const SPARE_BUFFERS: usize = 16;
/// Largest frame that may be allowed, in bytes.
const FRAME_BYTES_MAX: u64 = 64 << 20;
/// Kernel features that have a fallback.
const FEATURES: [&str; 4] = ["defer-taskrun", "incremental", "min-wait", "send-zc"];
/// Largest batch buffer in bytes: more than any frame needs, and than one send takes.
const BATCH_BYTES_MAX: u32 = 1 << 30;

/// Where operators connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// A Unix socket; its permissions protect it.
    Path(PathBuf),
    /// A TCP address; never without [`Protection::admin_token`].
    Tcp(SocketAddr),
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Admin::Path(path) => path.display().fmt(f),
            Admin::Tcp(address) => address.fmt(f),
        }
    }
}

/// Which shard takes a connection of an emitter or an HTTP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Any: the kernel chooses by a hash of the addresses.
    Spread,
    /// The one on the core where the first packet came in; if there is none, any. The network stack's
    /// work for the connection and the shard's are then on one core, without a wake-up between cores.
    Local,
}

settings! {
/// Everything that a distributor can be told, flag by flag.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
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
    /// One more place where emitters connect, for what others speak; give one flag for each. Behind ? come options
    /// (syslog@0.0.0.0:514?allow=10.0.0.0/8), see docs/INPUTS.md
    #[arg(
        id = "input",
        long = "input",
        value_name = "PROTOCOL@ADDR",
        value_delimiter = '\n',
        help_heading = "Sockets"
    )]
    pub inputs: Vec<Input>,
    /// One port for everything that an emitter may speak, told by its first bytes; or off
    #[arg(long, value_name = "ADDR", default_value = "off", value_parser = flags::listen, help_heading = "Sockets")]
    pub any: OrOff<SocketAddr>,
    /// What reference clients speak, when it is not to be guessed
    #[arg(long, value_name = "DIALECT", default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "typed", "compact"]).map(flags::dialect), help_heading = "Sockets")]
    pub dialect: OrAuto<Dialect>,
    /// Most emitter connections, all shards together; 0: as many as the descriptor limit allows
    #[arg(id = "max_connections", long = "max-connections", value_name = "N", default_value_t = 0, value_parser = values::number(0..=usize::MAX), help_heading = "Sockets")]
    pub connections_max: usize,

    /// Cores to pin shards to, such as 0-3 or 0,2; default: all, one shard each, unless a CPU quota is less
    #[arg(id = "cores", long = "cores", value_name = "LIST", value_parser = flags::cores, help_heading = "Cores")]
    pub core_list: Option<CoreList> as _,
    /// Number of shards; when there are more than cores, none is pinned. Default: one for each core, or the CPU
    /// quota of the control group rounded up where that is less; then none is pinned
    #[arg(id = "shards", long = "shards", value_name = "N", value_parser = values::number(1..=1024_u16), help_heading = "Cores")]
    pub shard_count: Option<u16> as _,
    /// Number of shards; more than cores are not pinned.
    #[arg(skip)]
    pub shards: usize,
    /// Cores to pin shards to, one each; empty: none is pinned.
    #[arg(skip)]
    pub cores: Vec<usize>,
    /// Why there are so many shards, and why there.
    #[arg(skip)]
    pub sizing: Sizing as _,
    /// Which shard takes a connection: any (the kernel spreads them by their addresses), or the one on the
    /// core where the connection's packets come in. For hosts whose interface has a queue and an interrupt
    /// for each shard's core (from Linux 6.2 on, before it has no effect; --cores must pin the shards)
    #[arg(long, value_name = "POLICY", default_value = "spread", value_parser = PossibleValuesParser::new(["spread", "local"]).map(flags::accept), help_heading = "Cores")]
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
    #[arg(id = "arena", long = "arena", value_name = "BYTES", default_value = "64MiB", value_parser = values::size, help_heading = "Memory")]
    pub arena_bytes: usize,
    /// Size of a batch buffer, the unit of that memory
    #[arg(long, value_name = "BYTES", default_value = "128KiB", value_parser = values::bytes_within::<u32>(4 << 10..=1 << 30), help_heading = "Memory")]
    pub batch_bytes: u32,
    /// Memory per shard for receiving, shared by all its emitters; a power of two, or the next lower
    #[arg(id = "ingress", long = "ingress", value_name = "BYTES", default_value = "4MiB", value_parser = values::size, help_heading = "Memory")]
    pub ingress_bytes: usize,
    /// Most memory per shard for frames that have not arrived whole, and as much again for TLS records
    #[arg(id = "partial_bytes", long = "partial-bytes", value_name = "BYTES", default_value = "64MiB", value_parser = values::size, help_heading = "Memory")]
    pub partial_bytes_max: usize,
    /// Largest frame, header included
    #[arg(id = "max_frame", long = "max-frame", value_name = "BYTES", default_value = values::show_bytes(u64::from(FRAME_BYTES_MAX_DEFAULT)), value_parser = values::bytes_within::<u32>(u64::from(FRAME_HEADER_BYTES)..=FRAME_BYTES_MAX), help_heading = "Memory")]
    pub frame_bytes_max: u32,

    /// Most memory that one analyzer may hold per shard; an equal share of the arena if that is
    /// less, and never less than two batch buffers
    #[arg(id = "window", long = "window", value_name = "BYTES", default_value = "16MiB", value_parser = values::bytes, help_heading = "Delivery")]
    pub window_bytes: u64,
    /// Most messages that one analyzer may leave un-ACKed per shard
    #[arg(long, value_name = "N", default_value_t = 1 << 24, value_parser = values::number(1..=1_u64 << 28), help_heading = "Delivery")]
    pub window_messages: u64,
    /// Most batches that a connection of an emitter with ACKs may have un-ACKed; fewer are granted once most of the
    /// 262,144 of a shard are
    #[arg(long, value_name = "N", default_value_t = AckWindow::DEFAULT.units, value_parser = values::number(1..=65_536_u32), help_heading = "Delivery")]
    pub acked_window_batches: u32,
    /// Most bytes in them; one batch may have more, alone
    #[arg(id = "acked_window", long = "acked-window", value_name = "BYTES", default_value = values::show_bytes(AckWindow::DEFAULT.bytes), value_parser = values::bytes_within::<u64>(64 << 10..=1 << 30), help_heading = "Delivery")]
    pub acked_window_bytes: u64,
    /// What to do with the share of an analyzer whose window is full: spill it to the others, or
    /// wait for it: then its shard takes nothing in until it ACKs
    #[arg(long, value_name = "POLICY", default_value = "spill", value_parser = PossibleValuesParser::new(["spill", "wait"]).map(flags::on_slow), help_heading = "Delivery")]
    pub on_slow: OnSlow,
    /// A weight that is wanted for an analyzer, also for one that is not there yet; give one flag for each. It counts
    /// in place of the weight that the analyzer comes with; with pin also against what it says later (a1=0.4,pin)
    #[arg(
        id = "wanted_weight",
        long = "wanted-weight",
        value_name = "ID=WEIGHT[,pin]",
        value_delimiter = '\n',
        help_heading = "Delivery"
    )]
    pub weights: Vec<WantedWeight> as "wanted_weights",
    /// Give an analyzer up that makes no ACK progress for this long (rule: docs/PROTOCOL.md)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::positive_duration, help_heading = "Delivery")]
    pub ack_timeout: Duration,
    /// Towards emitters that wait for acks, an analyzer that has been sent everything, whose host has it all, and that has
    /// been silent for this long counts as having ACKed it. For reference analyzers, which ACK every tenth message and
    /// never the rest. Nothing else changes: its messages are re-routed when it dies. 0s: never
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = flags::ack_presume, help_heading = "Delivery")]
    pub ack_presume: Duration,
    /// Give a peer up whose host does not answer for this long (TCP_USER_TIMEOUT)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration_within(Duration::from_secs(4)..=Duration::from_secs(3600)), help_heading = "Delivery")]
    pub peer_timeout: Duration,
    /// Close an emitter whose frame, or TLS record, has not arrived whole this long after its first byte. The time in which
    /// nothing is taken in, because no analyzer can, does not count, nor that in which it is held because ACKs are missing
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = values::duration_within(Duration::from_secs(1)..=Duration::from_secs(86400)), help_heading = "Delivery")]
    pub frame_timeout: Duration,
    /// How long SIGTERM lets emitters finish: it half-closes their connections and reads on until
    /// they close. Who has closed by then is read to its end, the others are cut off
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::duration, help_heading = "Delivery")]
    pub graceful_close: Duration,
    /// How long SIGTERM waits for ACKs, the graceful close included
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration, help_heading = "Delivery")]
    pub drain_timeout: Duration as _,

    /// Ask a connection of an emitter or of an HTTP client to go when it is so old, so that connections spread
    /// over all distributors behind one name; each has 90 to 110 % of it, by chance. An emitter's is
    /// half-closed and read on, and never cut off; a client's next answer says Connection: close. 0s: never
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = flags::connection_age, help_heading = "Delivery")]
    pub max_connection_age: Duration,
    /// Time over which SIGTERM asks emitters and HTTP clients to go, one after the other, so that they do not
    /// all come to the other distributors at once. With --graceful-close, which the last one has, at most
    /// --drain-timeout. 0s: all at once
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = values::duration_within(Duration::ZERO..=Duration::from_secs(3600)), help_heading = "Delivery")]
    pub farewell_spread: Duration,

    /// Write the books as JSON when it ends, for `weir audit`: received, ACKed, in flight, queued,
    /// dropped; shares against weights. {instance} in the file's name stands for the number of the run, so
    /// that the next one does not write over it
    #[arg(long, value_name = "FILE", value_parser = report_file(), help_heading = "Ledger")]
    pub report: Option<PathBuf> as _,

    /// Sends of at least this size are zero-copy, but not to this host and not to where the kernel
    /// copies all the same; 0: never, and the arena is not locked in memory
    #[arg(id = "zero_copy", long = "zero-copy", value_name = "BYTES", default_value = "16KiB", value_parser = values::size, help_heading = "Kernel")]
    pub zero_copy_bytes: usize,
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

    /// Take over what changes in the file of --config, and in the token files that it names, without SIGHUP: within
    /// a second, also when a link on the way to it is swapped, as Kubernetes changes a ConfigMap
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_parser = values::boolean, help_heading = "Configuration")]
    pub watch_config: bool,

    /// Least severe log lines that are written; RUST_LOG wins
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]).map(flags::level), help_heading = "Logging")]
    pub log_level: LevelFilter as _,

    #[command(flatten)]
    #[allow(missing_docs)] // clap would take it for the help of the program
    pub http: HttpConfig,
    /// Where operators connect: the path of a Unix socket, an address (which needs
    /// --admin-token-file), or off. Under systemd with RuntimeDirectory=: admin.sock in there
    #[arg(long, value_name = "PATH|ADDR", default_value = "off", value_parser = flags::admin, help_heading = "Sockets")]
    pub admin: OrOff<Admin>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub protection: Protection,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub tls: TlsConfig,

    /// Most analyzers that a shard serves; 0: as many as its arena does. What descriptors leave, no setting.
    #[arg(skip)]
    pub analyzers_max: usize as _,
    /// Random number of this run.
    #[arg(skip)]
    pub instance: u64 as _,
}
}

impl Default for Config {
    /// What an empty command line says, for one shard that is not pinned.
    fn default() -> Config {
        static DEFAULT: LazyLock<Config> = LazyLock::new(|| {
            let none: [&str; 0] = [];
            let command = Config::augment_args(clap::Command::new("weir").no_binary_name(true));
            let matches = command.try_get_matches_from(none);
            let config = matches.and_then(|matches| Config::from_arg_matches(&matches));
            // Tests parse each default.
            let config = config.expect("flags take their defaults");
            Config {
                shards: 1,
                ..config
            }
        });
        DEFAULT.clone()
    }
}

impl Config {
    /// Reads what the flags only name: this machine's cores, the CPU quota, token files, certificates. `before`: what is in
    /// force, when it is read again.
    ///
    /// # Errors
    /// The flag, the value and what is allowed.
    pub fn resolve(&mut self, before: Option<&Config>) -> Result<(), String> {
        let core_list = self.core_list.as_ref().map(|list| &list.0[..]);
        let quota = weir_host::cpu_quota(&weir_host::Host::here());
        let present = flags::present_cores();
        self.sizing = Sizing::new(&present, core_list, self.shard_count, quota.as_ref());
        self.shards = self.sizing.shards;
        self.cores.clone_from(&self.sizing.cores);
        let http = &mut self.http;
        http.inflated_bytes_max = http.inflated_bytes_max.max(http.body_bytes_max);
        for input in &mut self.inputs {
            let resolved = input.resolve();
            resolved.map_err(|why| format!("--input {input}: {why}"))?;
        }
        let key_log = self.tls.tls_key_log.as_deref().map(KeyLogger::new);
        let key_log = key_log.transpose();
        let key_log = key_log.map_err(|unusable| format!("--tls-key-log {unusable}"))?;
        for analyzer in &mut self.http.analyzers {
            let same = |other: &&HttpAnalyzer| other.id() == analyzer.id();
            let before = before.and_then(|it| it.http.analyzers.iter().find(same));
            let link = before.and_then(|before| before.delivery().link().cloned());
            let resolved = analyzer.resolve(key_log.as_ref(), link.as_deref());
            resolved.map_err(|why| format!("--analyzer {analyzer}: {why}"))?;
        }
        self.read_tls(before)
            .map_err(|unusable| format!("TLS: {unusable}"))?;
        self.protection.resolve()
    }

    /// Every setting by its name, in base units: for run reports, and for operators.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        self.report("", &mut texts);
        texts
    }

    /// What the engine of a shard is told.
    pub fn engine(&self, shard: u16) -> EngineConfig {
        let buffers = self.arena_bytes / self.batch_bytes as usize;
        EngineConfig {
            shard,
            buffers: u32::try_from(buffers).unwrap_or(u32::MAX),
            buffer_bytes: self.batch_bytes,
            frame_bytes_max: self.frame_bytes_max,
            unit_bytes_max: self.packet_bytes_max(),
            window_bytes: self.window_bytes,
            window_messages: self
                .window_messages
                .min((UNACKED_MESSAGES_MAX - 1) / self.shards as u64),
            partial_bytes_max: self.partial_bytes_max,
            on_slow: self.on_slow,
        }
    }

    /// What a connection of an emitter with ACKs is granted.
    pub fn ack_window(&self) -> AckWindow {
        AckWindow {
            units: self.acked_window_batches,
            bytes: self.acked_window_bytes,
        }
    }

    /// Bytes of the largest packet that comes over HTTP, as it is passed on: what the limits of a request admit,
    /// and a fifth of the arena at most.
    pub fn packet_bytes_max(&self) -> u32 {
        if self.http.listen.is_none() {
            return self.frame_bytes_max;
        }
        let batch = self.batch_bytes as usize;
        let buffers = (self.arena_bytes / batch.max(1)).saturating_sub(SPARE_BUFFERS);
        let room = (buffers / PACKETS_IN_ARENA * batch).saturating_sub(64);
        let bytes = self.http.packet_bytes().min(room);
        u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .max(self.frame_bytes_max)
    }

    /// What an operator may not have meant: listeners that other hosts reach and that nothing
    /// protects. One sentence each; the distributor starts all the same.
    pub fn warnings(&self) -> Vec<String> {
        let is_open = |address: IpAddr| !address.to_canonical().is_loopback();
        let protection = &self.protection;
        let mut warnings = Vec::new();
        let mut warn = |flag: &str, address: SocketAddr, protected: bool, who: &str| {
            if is_open(address.ip()) && !protected {
                warnings.push(format!("{flag} {address}: {who}"));
            }
        };
        warn(
            "--emitters",
            self.emitters,
            !protection.allow_emitters.is_empty() || self.lets_in_by_certificate("emitters"),
            "whoever reaches this port can send messages; --allow-emitters limits it to networks",
        );
        warn(
            "--analyzers",
            self.analyzers,
            !protection.allow_analyzers.is_empty()
                || protection.analyzer_token.is_some()
                || self.lets_in_by_certificate("analyzers"),
            "whoever reaches this port is given messages; --allow-analyzers limits it to networks, --analyzer-token-file to those with a token",
        );
        if let Some(http) = self.http.listen {
            warn(
                "--http",
                http,
                !protection.allow_http.is_empty() || self.lets_in_by_certificate("http"),
                "whoever reaches this port can send messages and read statistics; --allow-http limits it to networks",
            );
            let (admitted, taken) = (self.http.packet_bytes(), self.packet_bytes_max() as usize);
            if admitted > taken {
                let (inflated, messages) = (self.http.inflated_bytes_max, self.http.messages_max);
                warnings.push(format!(
                    "--http-body, --http-inflated {inflated} and --http-messages {messages}: a packet may have {admitted} bytes as it is passed on, and one of more than {taken} is refused, a fifth of --arena; allowed: a larger --arena, or less of the others"
                ));
            }
        }
        warnings.extend(self.tls_warnings());
        warnings
    }

    /// What can be said of the values before anything is bound.
    ///
    /// # Errors
    /// Values that do not go together, by their flags.
    pub fn check(&self) -> Result<(), String> {
        let refuse = Err;
        if self.shards == 0 || self.shards > 1024 {
            return refuse(format!("--shards {}: 1 to 1024 allowed", self.shards));
        }
        self.check_apart()?;
        if self.accept == Accept::Local && self.cores.len() < self.shards {
            let shards = self.shards;
            return refuse(format!(
                "--accept local: {shards} shards are not pinned, each must have a core of its own (--cores, --shards)"
            ));
        }
        if !(4096..=BATCH_BYTES_MAX).contains(&self.batch_bytes) {
            return refuse(format!(
                "--batch-bytes {}: at least 4096 allowed, and at most {BATCH_BYTES_MAX}",
                self.batch_bytes
            ));
        }
        let frame_buffers =
            (self.frame_bytes_max as usize + 64).div_ceil(self.batch_bytes as usize);
        let least = (4 * frame_buffers + 16) * self.batch_bytes as usize;
        if self.arena_bytes < least {
            return refuse(format!(
                "--arena {}: at least {least} bytes for frames of {} and batches of {}",
                self.arena_bytes, self.frame_bytes_max, self.batch_bytes
            ));
        }
        let most = u64::from(self.batch_bytes) * u64::from(u32::MAX);
        if self.arena_bytes as u64 > most {
            return refuse(format!(
                "--arena {}: at most {most} allowed, 2^32 - 1 batches of {}",
                self.arena_bytes, self.batch_bytes
            ));
        }
        if self.partial_bytes_max < self.frame_bytes_max as usize {
            return refuse(format!(
                "--partial-bytes {}: at least one frame of --max-frame {}",
                self.partial_bytes_max, self.frame_bytes_max
            ));
        }
        self.check_farewell()?;
        self.check_listeners()
    }

    /// Everybody is asked to go before draining ends.
    fn check_farewell(&self) -> Result<(), String> {
        let (spread, close, drain) = (
            self.farewell_spread,
            self.graceful_close,
            self.drain_timeout,
        );
        if spread.is_zero() || spread + close <= drain {
            return Ok(());
        }
        let [shown, close, drain, most] =
            [spread, close, drain, drain.saturating_sub(close)].map(values::show_duration);
        Err(format!(
            "--farewell-spread {shown}: with --graceful-close {close} it does not fit into --drain-timeout {drain}; allowed: at most {most}, or a longer --drain-timeout"
        ))
    }

    fn check_listeners(&self) -> Result<(), String> {
        if let (Some(Admin::Tcp(address)), None) = (&self.admin, &self.protection.admin_token) {
            return Err(format!(
                "--admin {address}: a TCP address needs --admin-token-file; allowed without: the path of a Unix socket"
            ));
        }
        self.http.check()?;
        self.check_inputs()?;
        self.check_tls()?;
        self.check_lags()?;
        check_weights(&self.weights)?;
        let own = OwnListeners::of(self);
        let alone = self
            .http
            .analyzers
            .iter()
            .filter(|it| it.members().is_none() && it.delivery().local().is_none());
        { alone }.try_for_each(|analyzer| {
            let checked = own.check_endpoint(&analyzer.place().endpoint);
            checked.map_err(|why| format!("--http-analyzer {analyzer}: {why}"))
        })
    }
}
