//! What HTTP, protection and the admin listener can be told; `Config` has the rest.
//!
//! ```text
//!   HttpConfig   listener, limits of a request, HttpAnalyzer ..., pushes and health
//!   Protection   RateLimit, AllowList per listener, Token, Cors      (protection.rs)
//!   Hosts        names that it answers to                            (hosts.rs)
//!   Admin        path or address
//! ```

mod apart;
mod hosts;
mod own;
mod protection;

pub use hosts::{Hosts, Stranger};
pub use own::OwnListeners;
pub use protection::{token_text, AllowList, Cors, Protection, RateLimit, Token};

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Accept, Config, StartError};
use crate::engine::tree::UNIT_MAX;
use crate::protocol::text::check_name;
use crate::protocol::valid_weight;

/// Most HTTP analyzers: each has connections and a health check in every shard.
pub const HTTP_ANALYZERS_MAX: usize = 256;
/// Longest id of an HTTP analyzer, in bytes; shortest: 1.
pub const HTTP_ID_BYTES_MAX: usize = 256;
/// Time that the head of a request has, when the whole request has more.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What Weir adds to a message on its way: id, time, source, metadata. For an emitter's id of 60 bytes.
const ADDED_BYTES: usize = 192;
/// The arena has room for so many of the largest packets, and some buffers more.
const PACKETS_IN_ARENA: usize = 5;
const SPARE_BUFFERS: usize = 16;
/// Longest path of an endpoint, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Longest name in the DNS.
const HOST_BYTES_MAX: usize = 253;

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

/// Everything about HTTP. Limits hold per shard unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Where HTTP emitters connect; none: there is no such listener.
    pub listen: Option<SocketAddr>,
    /// Largest body of a request as it is sent, in bytes: more is answered with 413.
    pub body_bytes_max: usize,
    /// Largest body after decompression, in bytes.
    pub inflated_bytes_max: usize,
    /// Largest head: request line and headers together, in bytes.
    pub head_bytes_max: usize,
    /// Most messages of a packet.
    pub messages_max: usize,
    /// Most memory for requests that have not arrived whole, in bytes.
    pub memory_bytes_max: usize,
    /// Time that a whole request has from its first byte; see [`HttpConfig::head_timeout`].
    pub request_timeout: Duration,
    /// A connection without a request is closed after this long.
    pub idle_timeout: Duration,
    /// Most connections, all shards together; 0: as many as descriptors allow.
    pub connections_max: usize,
    /// Analyzers that packets are pushed to: ids differ, at most [`HTTP_ANALYZERS_MAX`].
    pub analyzers: Vec<HttpAnalyzer>,
    /// Connections to each analyzer, per shard.
    pub pool_connections: u16,
    /// Size of packets that messages which came by TCP are joined to.
    pub joined: Joined,
    /// Time that a push has, connecting included.
    pub push_timeout: Duration,
    /// Tries after the first, before the packet goes to another analyzer.
    pub push_retries: u32,
    /// Pause before the first retry; doubles with each, with jitter.
    pub backoff: Duration,
    /// Pause between two health checks of an analyzer.
    pub health_interval: Duration,
    /// Time that a health check has.
    pub health_timeout: Duration,
    /// Time in which an analyzer that came back gets to its whole weight; zero: at once.
    pub slow_start: Duration,
    /// Folder for packets that an analyzer refuses for good; none: they go on to other analyzers.
    pub refused: Option<PathBuf>,
    /// Most bytes of such packets, per shard.
    pub refused_bytes_max: u64,
    /// Most bytes of such packets that are kept in memory when there is no folder, all shards together.
    pub refused_memory_bytes_max: usize,
    /// Packets that an analyzer refuses for good, and takes none, before it is taken out for a while; 0:
    /// that is never done.
    pub eject_refusals: u64,
    /// How long it is out the first time.
    pub eject_time: Duration,
}

/// Messages that came one by one are joined to packets of at most this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Bytes of JSON; a single message may have more.
    pub bytes_max: usize,
    /// Messages.
    pub messages_max: usize,
}

impl Default for Joined {
    /// Below the 100 kB that a body may have by default in Express, the Node reference's server.
    fn default() -> Joined {
        Joined {
            bytes_max: 64 << 10,
            messages_max: 1000,
        }
    }
}

impl Default for HttpConfig {
    /// The flags' defaults, but no listener.
    fn default() -> HttpConfig {
        HttpConfig {
            listen: None,
            body_bytes_max: 1 << 20,
            inflated_bytes_max: 8 << 20,
            head_bytes_max: 16 << 10,
            messages_max: 10_000,
            memory_bytes_max: 64 << 20,
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            connections_max: 0,
            analyzers: Vec::new(),
            pool_connections: 8,
            joined: Joined::default(),
            push_timeout: Duration::from_secs(5),
            push_retries: 3,
            backoff: Duration::from_secs(1),
            health_interval: Duration::from_secs(5),
            health_timeout: Duration::from_secs(3),
            slow_start: Duration::from_secs(30),
            refused: None,
            refused_bytes_max: 1 << 30,
            refused_memory_bytes_max: 16 << 20,
            eject_refusals: 100,
            eject_time: Duration::from_secs(30),
        }
    }
}

/// Largest batch buffer in bytes: more than any frame needs, and than one send takes.
const BATCH_BYTES_MAX: u32 = 1 << 30;

impl HttpConfig {
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

/// Not too many, and each id once.
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
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!(
            "--http-analyzer {}: two analyzers have this id, each must have its own",
            pair[0]
        )),
        None => Ok(()),
    }
}

/// An analyzer that packets are pushed to.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnalyzer {
    id: String,
    endpoint: Endpoint,
    weight: f64,
}

impl HttpAnalyzer {
    /// An analyzer with valid parts.
    ///
    /// # Errors
    /// What is allowed: an id of 1 to 256 bytes without control characters, a finite weight from 0.
    pub fn new(id: &str, endpoint: Endpoint, weight: f64) -> Result<HttpAnalyzer, String> {
        let fits = (1..=HTTP_ID_BYTES_MAX).contains(&id.len());
        if !fits {
            return Err(format!(
                "allowed: an id of 1 to {HTTP_ID_BYTES_MAX} bytes without control characters"
            ));
        }
        check_name(id)?;
        let weight = valid_weight(weight).ok_or_else(|| {
            "allowed: a weight that is a finite number, 0 or more (0.25)".to_owned()
        })?;
        Ok(HttpAnalyzer {
            id: id.to_owned(),
            endpoint,
            weight,
        })
    }

    /// Its name in tables, logs and metrics.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its share relative to the others'; finite, 0 or more.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

impl fmt::Display for HttpAnalyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}@{}", self.id, self.weight, self.endpoint)
    }
}

impl FromStr for HttpAnalyzer {
    type Err = String;

    /// `ID=WEIGHT@http://host:port[/path]`. An id may have any of these signs in it.
    fn from_str(text: &str) -> Result<HttpAnalyzer, String> {
        let allowed = || {
            "allowed: ID=WEIGHT@http://host:port[/path] (a1=0.4@http://10.0.0.1:4001)".to_owned()
        };
        let at = text
            .rfind("@http://")
            .or_else(|| text.rfind("@https://"))
            .ok_or_else(allowed)?;
        let (id, weight) = text[..at].rsplit_once('=').ok_or_else(allowed)?;
        let endpoint = text[at + 1..].parse()?;
        let weight = weight.parse().map_err(|_| allowed())?;
        HttpAnalyzer::new(id, endpoint, weight)
    }
}

/// Base address of an HTTP analyzer: `http://host:port[/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or IP address, without brackets.
    pub host: String,
    /// Port; 80 when none was given.
    pub port: u16,
    /// What `/logs` and `/health` are appended to: empty, or from its `/` on, none at its end.
    pub path: String,
}

impl Endpoint {
    /// `host:port`, as a Host header and a resolver take it.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let allowed = || "allowed: http://host:port[/path]".to_owned();
        if text.starts_with("https://") {
            return Err("https is not spoken to analyzers, allowed: http://host:port[/path] (of a TLS proxy beside the analyzer)".into());
        }
        let rest = text.strip_prefix("http://").ok_or_else(allowed)?;
        if rest.contains(['?', '#']) {
            return Err("no query and no fragment, allowed: http://host:port[/path]".into());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("no user and no password, allowed: http://host:port[/path]".into());
        }
        let (host, port) = host_and_port(authority).ok_or_else(allowed)?;
        let path = path.trim_end_matches('/');
        // Without an @ the end of an id is where the last one is.
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'@';
        if path.len() > PATH_BYTES_MAX || !path.bytes().all(fits) {
            return Err(format!(
                "allowed: a path of at most {PATH_BYTES_MAX} bytes of visible ASCII without @ (%20 for a space, %40 for an @)"
            ));
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if !(1..=HOST_BYTES_MAX).contains(&host.len()) || !host.bytes().all(is_name) {
                return None;
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        None if port.is_empty() => 80,
        _ => return None,
    };
    (port > 0).then_some((host, port))
}

impl Config {
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
    pub fn check(&self) -> Result<(), StartError> {
        let refuse = |text: String| Err(StartError::Config(text));
        if self.shards == 0 || self.shards > 1024 {
            return refuse(format!("--shards {}: 1 to 1024 allowed", self.shards));
        }
        self.check_apart().map_err(StartError::Config)?;
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
        self.check_listeners().map_err(StartError::Config)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, port, path, shown) in [
            ("http://a:1", "a", 1, "", "http://a:1"),
            ("http://a-b.c_d", "a-b.c_d", 80, "", "http://a-b.c_d:80"),
            (
                "http://1.2.3.4:65535/",
                "1.2.3.4",
                65535,
                "",
                "http://1.2.3.4:65535",
            ),
            (
                "http://[::1]:9/x/y/",
                "::1",
                9,
                "/x/y",
                "http://[::1]:9/x/y",
            ),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
            assert_eq!(endpoint.path, path);
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint));
        }
        for (bad, why) in [
            ("https://a:1", "https"),
            ("http://u:p@a:1", "user"),
            ("http://a:1/?x", "query"),
            ("http://a:1#x", "fragment"),
            ("http://a:1/ä", "visible ASCII"),
            ("http://a:1/a b", "visible ASCII"),
            ("http://a:1/a@b", "without @"),
            ("http://", "host:port"),
            ("http://:1", "host:port"),
            ("http://a:0", "host:port"),
            ("http://a:", "host:port"),
            ("http://a:+1", "host:port"),
            ("http://a:65536", "host:port"),
            ("http://::1:80", "host:port"),
            ("http://[::g]:80", "host:port"),
            ("http://[::1]80", "host:port"),
            ("http://a b:1", "host:port"),
            ("a:1", "http://"),
            ("", "http://"),
        ] {
            let error = bad.parse::<Endpoint>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
        let long = format!("http://a/{}", "x".repeat(PATH_BYTES_MAX));
        assert!(long.parse::<Endpoint>().is_err());
    }

    #[test]
    fn analyzers_are_what_their_text_says() {
        for id in ["a1", "a=1", "a@b", "http://10.0.0.1:9", "ü x", "a=1@http"] {
            let text = format!("{id}=0.25@http://h:80/p");
            let analyzer: HttpAnalyzer = text.parse().expect(&text);
            assert_eq!((analyzer.id(), analyzer.weight()), (id, 0.25));
            assert_eq!(analyzer.to_string(), text);
        }
        for (bad, why) in [
            ("a1", "ID=WEIGHT@"),
            ("a1@http://h", "ID=WEIGHT@"),
            ("a1=x@http://h", "ID=WEIGHT@"),
            ("a1=-1@http://h", "0 or more"),
            ("a1=NaN@http://h", "0 or more"),
            ("=1@http://h", "an id of 1 to 256"),
            ("a\nb=1@http://h", "control"),
            ("a1=1@https://h", "https"),
        ] {
            let error = bad.parse::<HttpAnalyzer>().expect_err(bad);
            assert!(
                error.contains(why) && error.contains("allowed"),
                "{bad}: {error}"
            );
        }
        let long = format!("{}=1@http://h", "x".repeat(HTTP_ID_BYTES_MAX + 1));
        assert!(long.parse::<HttpAnalyzer>().is_err());
    }

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
