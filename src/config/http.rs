//! What HTTP can be told: the listener, limits of a request, pushes and health.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_engine::tree::UNIT_MAX;

use crate::settings::settings;
use crate::{flags, values, Config, HttpAnalyzer, Local, OrOff};

/// Most HTTP analyzers: each has connections and a health check in every shard.
pub const HTTP_ANALYZERS_MAX: usize = 256;
/// Members that a group of HTTP analyzers is expected to have, where connections are provided for.
const GROUP_MEMBERS: usize = 16;
/// Time that the head of a request has, when the whole request has more.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What Weir adds to a message on its way: id, time, source, metadata. For an emitter's id of 60 bytes.
const ADDED_BYTES: usize = 192;

settings! {
/// Everything about HTTP. Limits hold per shard unless said otherwise.
#[derive(clap::Args, Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Where HTTP emitters connect; off: nowhere
    #[arg(id = "http", long = "http", value_name = "ADDR", default_value = "127.0.0.1:3000", value_parser = flags::listen, help_heading = "Sockets")]
    pub listen: OrOff<SocketAddr> as "http",

    /// Largest body of a request, as it is sent. Packets of that size go through, up to a fifth of --arena
    #[arg(id = "http_body", long = "http-body", value_name = "BYTES", default_value = "1MiB", value_parser = values::bytes_within::<usize>(1 << 10..=1 << 30), help_heading = "HTTP")]
    pub body_bytes_max: usize as "http_body_bytes_max",
    /// Largest body after decompression; --http-body if that is more
    #[arg(id = "http_inflated", long = "http-inflated", value_name = "BYTES", default_value = "8MiB", value_parser = values::bytes_within::<usize>(1 << 10..=4 << 30), help_heading = "HTTP")]
    pub inflated_bytes_max: usize as "http_inflated_bytes_max",
    /// Largest head of a request: its line and its headers together
    #[arg(id = "http_head", long = "http-head", value_name = "BYTES", default_value = "16KiB", value_parser = values::bytes_within::<usize>(1 << 10..=1 << 20), help_heading = "HTTP")]
    pub head_bytes_max: usize as "http_head_bytes_max",
    /// Most messages of a packet
    #[arg(id = "http_messages", long = "http-messages", value_name = "N", default_value_t = 10_000, value_parser = values::number(1..=UNIT_MAX as usize), help_heading = "HTTP")]
    pub messages_max: usize as "http_messages_max",
    /// Most memory per shard for requests that have not arrived whole; at least --http-inflated and
    /// --http-head together
    #[arg(id = "http_memory", long = "http-memory", value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes_within::<usize>(16 << 10..=64 << 30), help_heading = "HTTP")]
    pub memory_bytes_max: usize as "http_memory_bytes_max",
    /// Time that a whole request has; its head has 10s of it at most
    #[arg(id = "http_request_timeout", long = "http-request-timeout", value_name = "TIME", default_value = "30s", value_parser = values::duration_within(Duration::from_millis(100)..=Duration::from_secs(3600)), help_heading = "HTTP")]
    pub request_timeout: Duration as "http_request_timeout",
    /// Close a connection that has had no request for this long
    #[arg(id = "http_idle_timeout", long = "http-idle-timeout", value_name = "TIME", default_value = "75s", value_parser = values::duration_within(Duration::from_millis(100)..=Duration::from_secs(3600)), help_heading = "HTTP")]
    pub idle_timeout: Duration as "http_idle_timeout",
    /// Most HTTP connections, all shards together; 0: as many as the descriptor limit allows, a quarter
    /// of it if --max-connections is 0 as well
    #[arg(id = "max_http_connections", long = "max-http-connections", value_name = "N", default_value_t = 0, value_parser = values::number(0..=usize::MAX), help_heading = "HTTP")]
    pub connections_max: usize as "http_connections_max",

    /// An analyzer to connect to; give one flag for each. http:// takes packets of JSON (a1=0.4@http://10.0.0.1:4001).
    /// Other programs take what they always do: forward:// relp:// lumberjack:// syslog:// syslog-octet://, files and
    /// programs of this host file:///path exec:program (docs/OUTLETS.md), es+http:// otlp+http:// loki+http://
    /// hec+http:// http+ndjson:// http+json:// (docs/DELIVERY.md). With dns+ or dnssrv+ a group: each address of the name is an analyzer of this weight, or with
    /// /group they share it (pool=0.4/group@dns+http://analyzers:4001)
    #[arg(
        id = "http_analyzer",
        long = "http-analyzer",
        visible_alias = "analyzer",
        value_name = "ID=WEIGHT@URL",
        value_delimiter = '\n',
        help_heading = "HTTP delivery"
    )]
    pub analyzers: Vec<HttpAnalyzer> as "http_analyzers",
    /// Ask this nameserver for the names of HTTP analyzers, and not those of the system (127.0.0.1:8600; port 53
    /// when left out); names are then taken as absolute
    #[arg(id = "nameserver", long = "nameserver", value_name = "ADDR", value_delimiter = ',', value_parser = values::nameserver, help_heading = "HTTP delivery")]
    pub nameservers: Vec<SocketAddr>,
    /// Connections to each HTTP analyzer, per shard
    #[arg(id = "http_pool", long = "http-pool", value_name = "N", default_value_t = 8, value_parser = values::number(1..=1024_u16), help_heading = "HTTP delivery")]
    pub pool_connections: u16 as "http_pool_connections",
    #[command(flatten)]
    #[allow(missing_docs)] // clap would take it for the help of the program
    pub joined: Joined,
    /// Time that an HTTP analyzer has to answer a push, connecting included
    #[arg(id = "http_timeout", long = "http-timeout", value_name = "TIME", default_value = "5s", value_parser = values::duration_within(Duration::from_millis(10)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub push_timeout: Duration as "http_push_timeout",
    /// Tries after the first one, before a packet goes to another analyzer
    #[arg(id = "http_retries", long = "http-retries", value_name = "N", default_value_t = 3, value_parser = values::number(0..=100_u32), help_heading = "HTTP delivery")]
    pub push_retries: u32 as "http_push_retries",
    /// Pause before the first of these tries; doubles with each, with jitter
    #[arg(id = "http_backoff", long = "http-backoff", value_name = "TIME", default_value = "1s", value_parser = values::duration_within(Duration::from_millis(1)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub backoff: Duration as "http_backoff",
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
    /// they are kept in memory, see --dead-letter-memory. Under systemd with StateDirectory= the default is there
    #[arg(id = "dead_letter_dir", long = "dead-letter-dir", value_name = "DIR|off", default_value = "off", value_parser = flags::dead_letter_dir, help_heading = "HTTP delivery")]
    pub dead_letter_dir: OrOff<PathBuf>,
    /// Most bytes of them, per shard; what does not fit any more is kept in memory
    #[arg(id = "dead_letter_max", long = "dead-letter-max", value_name = "BYTES", default_value = "1GiB", value_parser = values::bytes_within::<u64>(1 << 10..=1 << 50), help_heading = "HTTP delivery")]
    pub dead_letter_bytes_max: u64,
    /// Most memory, all shards together, for packets that every HTTP analyzer refuses and that are in no
    /// file (weir ctl dead-letters). When it is full the oldest goes, and is counted. 0: none is kept
    #[arg(id = "dead_letter_memory", long = "dead-letter-memory", value_name = "BYTES", default_value = "16MiB", value_parser = values::bytes_within::<usize>(0..=64 << 30), help_heading = "HTTP delivery")]
    pub dead_letter_memory_bytes_max: usize,
    /// Take an HTTP analyzer out for --eject-time that has refused so many packets for good and taken none,
    /// while another took more than it refused; never more than half of all analyzers, nor the last: when
    /// others die meanwhile, it comes back with its next health check. 0: never
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = values::number(0..=1_000_000_000_u64), help_heading = "HTTP delivery")]
    pub eject_refusals: u64,
    /// How long it is out the first time; the n-th time in a row n times as long, ten times at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration_within(Duration::from_millis(100)..=Duration::from_secs(3600)), help_heading = "HTTP delivery")]
    pub eject_time: Duration,
}
}

settings! {
/// Messages that came one by one are joined to packets of at most this size.
#[derive(clap::Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Messages that came by TCP are joined to packets of at most so many bytes of JSON for HTTP analyzers; a
    /// single message may have more. Below what the analyzers take (Express: 100 kB)
    #[arg(id = "http_joined_bytes", long = "http-joined-bytes", value_name = "BYTES", default_value = "64KiB", value_parser = values::bytes_within::<usize>(1 << 10..=64 << 20), help_heading = "HTTP delivery")]
    pub bytes_max: usize as "http_joined_bytes_max",
    /// And of at most so many messages
    #[arg(id = "http_joined_messages", long = "http-joined-messages", value_name = "N", default_value_t = 1000, value_parser = values::number(1..=65_536_usize), help_heading = "HTTP delivery")]
    pub messages_max: usize as "http_joined_messages_max",
}
}

impl Default for HttpConfig {
    /// As [`Config::default`].
    fn default() -> HttpConfig {
        Config::default().http
    }
}

impl HttpConfig {
    /// HTTP analyzers that connections are provided for; a group counts as 16.
    pub fn analyzers_expected(&self) -> usize {
        let count = |analyzer: &HttpAnalyzer| match analyzer.members() {
            Some(_) => GROUP_MEMBERS,
            None => 1,
        };
        let all: usize = self.analyzers.iter().map(count).sum();
        all.min(HTTP_ANALYZERS_MAX)
    }

    /// Bytes of a packet that is as large as the other limits admit, as it is passed on.
    pub fn packet_bytes(&self) -> usize {
        let added = self.messages_max.saturating_mul(ADDED_BYTES);
        self.inflated_bytes_max.saturating_add(added)
    }

    /// Time that the head of a request has from its first byte.
    pub fn head_timeout(&self) -> Duration {
        self.request_timeout.min(HTTP_HEAD_TIMEOUT)
    }

    /// Values that do not go together.
    ///
    /// # Errors
    /// The flag, the value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let (body, memory) = (self.body_bytes_max, self.memory_bytes_max);
        if self.inflated_bytes_max < body {
            let inflated = self.inflated_bytes_max;
            return Err(format!(
                "--http-inflated {inflated}: at least the {body} of --http-body allowed"
            ));
        }
        let least = self.inflated_bytes_max.saturating_add(self.head_bytes_max);
        if memory < least {
            return Err(format!(
                "--http-memory {memory}: at least {least} allowed, --http-inflated and --http-head together"
            ));
        }
        let (messages, most) = (self.messages_max, UNIT_MAX as usize);
        if !(1..=most).contains(&messages) {
            return Err(format!("--http-messages {messages}: 1 to {most} allowed"));
        }
        check_analyzers(&self.analyzers)
    }
}

fn path_of(analyzer: &HttpAnalyzer) -> Option<&Path> {
    match analyzer.delivery().local() {
        Some(Local::File(file)) => Some(&file.path),
        _ => None,
    }
}

/// Not too many, and each id and each file once.
///
/// # Errors
/// The flag, the value and what is allowed.
pub fn check_analyzers(analyzers: &[HttpAnalyzer]) -> Result<(), String> {
    let count = analyzers.len();
    if count > HTTP_ANALYZERS_MAX {
        return Err(format!(
            "--http-analyzer: {count} analyzers, at most {HTTP_ANALYZERS_MAX} allowed"
        ));
    }
    let mut ids: Vec<&str> = analyzers.iter().map(HttpAnalyzer::id).collect();
    ids.sort_unstable();
    let mut files: Vec<&Path> = analyzers.iter().filter_map(path_of).collect();
    files.sort_unstable();
    if let Some(pair) = files.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!(
            "--http-analyzer file://{}: two analyzers have this file, each must have its own",
            pair[0].display()
        ));
    }
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!(
            "--http-analyzer {}: two analyzers have this id, each must have its own",
            pair[0]
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn analyzers_differ_and_are_not_too_many() {
        let named = |id: usize| format!("a{id}=1@http://h").parse().expect("valid");
        let mut analyzers: Vec<HttpAnalyzer> = (0..HTTP_ANALYZERS_MAX).map(named).collect();
        assert_eq!(check_analyzers(&analyzers), Ok(()));
        analyzers[5] = named(200);
        assert!(check_analyzers(&analyzers).is_err_and(|why| why.contains("a200")));
        analyzers[5] = named(5);
        analyzers.push(named(HTTP_ANALYZERS_MAX));
        assert!(check_analyzers(&analyzers).is_err_and(|why| why.contains("257")));
    }

    #[test]
    fn limits_of_requests_go_together() {
        let good = HttpConfig::default();
        assert_eq!(good.check(), Ok(()));
        let inflated = HttpConfig {
            inflated_bytes_max: good.body_bytes_max - 1,
            ..good.clone()
        };
        assert!(inflated
            .check()
            .is_err_and(|why| why.contains("--http-inflated")));
        let least = good.inflated_bytes_max + good.head_bytes_max;
        let memory = HttpConfig {
            memory_bytes_max: least,
            ..good.clone()
        };
        assert_eq!(memory.check(), Ok(()));
        let memory = HttpConfig {
            memory_bytes_max: least - 1,
            ..good.clone()
        };
        assert!(memory
            .check()
            .is_err_and(|why| why.contains("--http-memory")));
        let short = HttpConfig {
            request_timeout: Duration::from_secs(2),
            ..good.clone()
        };
        assert_eq!(short.head_timeout(), Duration::from_secs(2));
        assert_eq!(good.head_timeout(), HTTP_HEAD_TIMEOUT);
    }
}
