//! What HTTP can be told: the listener, limits of a request, pushes and health.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use weir_engine::tree::UNIT_MAX;

use crate::HttpAnalyzer;

/// Most HTTP analyzers: each has connections and a health check in every shard.
pub const HTTP_ANALYZERS_MAX: usize = 256;
/// Time that the head of a request has, when the whole request has more.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What Weir adds to a message on its way: id, time, source, metadata. For an emitter's id of 60 bytes.
const ADDED_BYTES: usize = 192;

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
