//! Flags of the HTTP listener and of pushes to HTTP analyzers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::values;
use crate::config::{HttpAnalyzer, HttpConfig, Joined};
use crate::engine::tree::UNIT_MAX;

/// An address, or `off`.
#[derive(Clone, Copy, Debug)]
pub struct Listen(pub Option<SocketAddr>);

/// A folder, or `off`.
#[derive(Clone, Debug)]
pub struct RefusedDir(pub Option<PathBuf>);

/// How HTTP emitters are served, and how packets get to HTTP analyzers.
#[derive(clap::Args, Clone, Debug)]
pub struct HttpArgs {
    /// Where HTTP emitters connect; off: nowhere
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000", value_parser = listen, help_heading = "Sockets")]
    pub http: Listen,

    /// Largest body of a request, as it is sent. Packets of that size go through, up to a fifth of --arena
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = values::bytes_within(1 << 10..=1 << 30), help_heading = "HTTP")]
    pub http_body: u64,
    /// Largest body after decompression; --http-body if that is more
    #[arg(long, value_name = "BYTES", default_value = "8MiB", value_parser = values::bytes_within(1 << 10..=4 << 30), help_heading = "HTTP")]
    pub http_inflated: u64,
    /// Largest head of a request: its line and its headers together
    #[arg(long, value_name = "BYTES", default_value = "16KiB", value_parser = values::bytes_within(1 << 10..=1 << 20), help_heading = "HTTP")]
    pub http_head: u64,
    /// Most messages of a packet
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = values::number(1..=UNIT_MAX as usize), help_heading = "HTTP")]
    pub http_messages: usize,
    /// Most memory per shard for requests that have not arrived whole; at least --http-inflated and
    /// --http-head together
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes_within(16 << 10..=64 << 30), help_heading = "HTTP")]
    pub http_memory: u64,
    /// Time that a whole request has; its head has 10s of it at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration_within(Duration::from_millis(100)..=Duration::from_secs(3600)), help_heading = "HTTP")]
    pub http_request_timeout: Duration,
    /// Close a connection that has had no request for this long
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = values::duration_within(Duration::from_millis(100)..=Duration::from_secs(3600)), help_heading = "HTTP")]
    pub http_idle_timeout: Duration,
    /// Most HTTP connections, all shards together; 0: as many as the descriptor limit allows, a quarter
    /// of it if --max-connections is 0 as well
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = values::number(0..=usize::MAX), help_heading = "HTTP")]
    pub max_http_connections: usize,

    /// An analyzer to push packets to; give one flag for each (a1=0.4@http://10.0.0.1:4001)
    #[arg(
        long,
        value_name = "ID=WEIGHT@URL",
        value_delimiter = '\n',
        help_heading = "HTTP delivery"
    )]
    pub http_analyzer: Vec<HttpAnalyzer>,
    /// Connections to each HTTP analyzer, per shard
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = values::number(1..=1024_u16), help_heading = "HTTP delivery")]
    pub http_pool: u16,
    /// Messages that came by TCP are joined to packets of at most so many bytes of JSON for HTTP analyzers; a
    /// single message may have more. Below what the analyzers take (Express: 100 kB)
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = values::bytes_within(1 << 10..=64 << 20), help_heading = "HTTP delivery")]
    pub http_joined_bytes: u64,
    /// And of at most so many messages
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = values::number(1..=65_536_usize), help_heading = "HTTP delivery")]
    pub http_joined_messages: usize,
    /// Time that an HTTP analyzer has to answer a push, connecting included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration_within(Duration::from_millis(10)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub http_timeout: Duration,
    /// Tries after the first one, before a packet goes to another analyzer
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = values::number(0..=100_u32), help_heading = "HTTP delivery")]
    pub http_retries: u32,
    /// Pause before the first of these tries; doubles with each, with jitter
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::duration_within(Duration::from_millis(1)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub http_backoff: Duration,
    /// Pause between two health checks of an HTTP analyzer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration_within(Duration::from_millis(100)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub health_interval: Duration,
    /// Time that a health check has
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = values::duration_within(Duration::from_millis(10)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub health_timeout: Duration,
    /// Time in which an HTTP analyzer that came back gets to its whole weight; 0s: at once
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration_within(Duration::ZERO..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub slow_start: Duration,
    /// Folder for packets that every HTTP analyzer refuses: a line of JSON each, counted as dropped. off:
    /// they are kept in memory, see --refused-memory. Under systemd with StateDirectory= the default is there
    #[arg(long, value_name = "DIR|off", default_value = "off", value_parser = refused_dir, help_heading = "HTTP delivery")]
    pub refused_dir: RefusedDir,
    /// Most bytes of them, per shard; what does not fit any more is kept in memory
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = values::bytes_within(1 << 10..=1 << 50), help_heading = "HTTP delivery")]
    pub refused_max: u64,
    /// Most memory, all shards together, for packets that every HTTP analyzer refuses and that are in no
    /// file (weir ctl refused). When it is full the oldest goes, and is counted. 0: none is kept
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = values::bytes_within(0..=64 << 30), help_heading = "HTTP delivery")]
    pub refused_memory: u64,
    /// Take an HTTP analyzer out for --eject-time that has refused so many packets for good and taken none,
    /// while another took more than it refused; never more than half of all analyzers, nor the last: when
    /// others die meanwhile, it comes back with its next health check. 0: never
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = values::number(0..=1_000_000_000_u64), help_heading = "HTTP delivery")]
    pub eject_refusals: u64,
    /// How long it is out the first time; the n-th time in a row n times as long, ten times at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration_within(Duration::from_millis(100)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub eject_time: Duration,
}

impl HttpArgs {
    /// The configuration that the flags describe.
    pub fn config(&self) -> HttpConfig {
        let usize_of = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        HttpConfig {
            listen: self.http.0,
            body_bytes_max: usize_of(self.http_body),
            inflated_bytes_max: usize_of(self.http_inflated.max(self.http_body)),
            head_bytes_max: usize_of(self.http_head),
            messages_max: self.http_messages,
            memory_bytes_max: usize_of(self.http_memory),
            request_timeout: self.http_request_timeout,
            idle_timeout: self.http_idle_timeout,
            connections_max: self.max_http_connections,
            analyzers: self.http_analyzer.clone(),
            pool_connections: self.http_pool,
            joined: Joined {
                bytes_max: usize_of(self.http_joined_bytes),
                messages_max: self.http_joined_messages,
            },
            push_timeout: self.http_timeout,
            push_retries: self.http_retries,
            backoff: self.http_backoff,
            health_interval: self.health_interval,
            health_timeout: self.health_timeout,
            slow_start: self.slow_start,
            refused: self.refused_dir.0.clone(),
            refused_bytes_max: self.refused_max,
            refused_memory_bytes_max: usize_of(self.refused_memory),
            eject_refusals: self.eject_refusals,
            eject_time: self.eject_time,
        }
    }
}

fn refused_dir(text: &str) -> Result<RefusedDir, String> {
    match text {
        "off" => Ok(RefusedDir(None)),
        _ if text.contains('/') => Ok(RefusedDir(Some(text.into()))),
        _ => Err("allowed: the path of a folder, with a / in it (./refused), or off".to_owned()),
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    match text {
        "off" => Ok(Listen(None)),
        _ => values::address(text)
            .map(|address| Listen(Some(address)))
            .map_err(|why| format!("{why}, or off")),
    }
}
