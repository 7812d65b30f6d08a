//! Everything that a distributor can be told, and which values go together. What the command line, the
//! environment and files say becomes a [`Config`].
//!
//! ```text
//!   Config       shards, memory, time-outs, Admin                     (here)
//!   HttpConfig   listener, limits of a request, pushes and health     (http.rs)
//!   HttpAnalyzer id, weight and Endpoint                              (endpoint.rs)
//!   Protection   RateLimit, AllowList per listener, Token, Cors       (protection.rs)
//!   Hosts        names that it answers to                             (hosts.rs)
//!   listeners    apart from each other (apart.rs), and no analyzers (own.rs)
//! ```
#![forbid(unsafe_code)]

mod apart;
mod endpoint;
mod hosts;
mod http;
mod own;
mod protection;

pub use endpoint::{Endpoint, HttpAnalyzer, HTTP_ID_BYTES_MAX};
pub use hosts::{Hosts, Stranger};
pub use http::{check_analyzers, HttpConfig, Joined, HTTP_ANALYZERS_MAX, HTTP_HEAD_TIMEOUT};
pub use own::OwnListeners;
pub use protection::{token_text, AllowList, Cors, Protection, RateLimit, Token};

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use weir_engine::{EngineConfig, OnSlow};
use weir_protocol::control::UNACKED_MESSAGES_MAX;
use weir_protocol::Dialect;

/// The arena has room for so many of the largest packets, and some buffers more.
const PACKETS_IN_ARENA: usize = 5;
const SPARE_BUFFERS: usize = 16;
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

/// Everything that a distributor can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where emitters connect.
    pub emitters: SocketAddr,
    /// Where analyzers connect.
    pub analyzers: SocketAddr,
    /// Number of shards; more than cores are not pinned.
    pub shards: usize,
    /// Cores to pin shards to, one each; empty: none is pinned.
    pub cores: Vec<usize>,
    /// Which shard takes a connection of an emitter or an HTTP client.
    pub accept: Accept,
    /// Bytes of egress arena per shard.
    pub arena_bytes: usize,
    /// Bytes of a batch buffer.
    pub batch_bytes: u32,
    /// Bytes of receive memory per shard.
    pub ingress_bytes: usize,
    /// Largest frame in bytes, header included.
    pub frame_bytes_max: u32,
    /// Most bytes of arena per analyzer and shard.
    pub window_bytes: u64,
    /// Most messages un-ACKed per analyzer and shard.
    pub window_messages: u64,
    /// Most bytes of partial frames per shard.
    pub partial_bytes_max: usize,
    /// Policy for an analyzer whose window is full.
    pub on_slow: OnSlow,
    /// Longest time that sparse traffic is gathered.
    pub latency_budget: Duration,
    /// Longest time that a shard polls the interface's queues before it sleeps; zero: never.
    pub busy_poll: Duration,
    /// Sends of at least this many bytes are zero-copy where that works; 0: never.
    pub zero_copy_bytes: usize,
    /// To analyzers on this host as well, for tests.
    pub zero_copy_loopback: bool,
    /// A link that makes no ACK progress for this long is given up.
    pub ack_timeout: Duration,
    /// How long emitters have to go when the distributor stops.
    pub farewell: Duration,
    /// A peer whose kernel does not answer for this long is given up.
    pub peer_timeout: Duration,
    /// Time that a frame has from its first byte to its last, while emitters are read from.
    pub frame_timeout: Duration,
    /// Most emitter connections, all shards together; 0: as many as descriptors allow.
    pub connections_max: usize,
    /// Most analyzers that a shard serves; 0: as many as its arena does.
    pub analyzers_max: usize,
    /// Dialect of reference clients, when it is not to be guessed.
    pub dialect: Option<Dialect>,
    /// Kernel features to do without.
    pub without: Vec<String>,
    /// Where operators connect; none: nowhere.
    pub admin: Option<Admin>,
    /// Everything about HTTP.
    pub http: HttpConfig,
    /// Who may connect, and how often.
    pub protection: Protection,
    /// Random number of this run.
    pub instance: u64,
}

impl Config {
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
            !protection.allow_emitters.is_empty(),
            "whoever reaches this port can send messages; --allow-emitters limits it to networks",
        );
        warn(
            "--analyzers",
            self.analyzers,
            !protection.allow_analyzers.is_empty() || protection.analyzer_token.is_some(),
            "whoever reaches this port is given messages; --allow-analyzers limits it to networks, --analyzer-token-file to those with a token",
        );
        if let Some(http) = self.http.listen {
            warn(
                "--http",
                http,
                !protection.allow_http.is_empty(),
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
        self.check_listeners()
    }

    fn check_listeners(&self) -> Result<(), String> {
        if let (Some(Admin::Tcp(address)), None) = (&self.admin, &self.protection.admin_token) {
            return Err(format!(
                "--admin {address}: a TCP address needs --admin-token-file; allowed without: the path of a Unix socket"
            ));
        }
        self.http.check()?;
        let own = OwnListeners::of(self);
        self.http.analyzers.iter().try_for_each(|analyzer| {
            let checked = own.check_endpoint(analyzer.endpoint());
            checked.map_err(|why| format!("--http-analyzer {analyzer}: {why}"))
        })
    }
}
