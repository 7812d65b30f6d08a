//! The shape of a load, as the command line says it.

use std::sync::Arc;

use super::compose::Format;
use super::schedule::Gaps;
use super::sizes::Sizes;
use crate::secured::Pki;

/// Connections that one process can open: ports of one address are the limit.
const CONNECTIONS_MAX: i64 = 28_000;

/// Bytes of a chunk of Forward, about: a Fluent Bit that flushes each second has such.
const CHUNK_LEN: usize = 64 * 1024;
/// Events of a window of Lumberjack: Beats' `bulk_max_size`.
const WINDOW_MESSAGES: u64 = 2048;

/// Shape of the load; shared by `load`, `load-sink` and the scenarios.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// Emitter connections, up to 28,000 (the ephemeral ports of one address)
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub connections: u32,
    /// Bytes of one message on the wire, header included; or lognormal:MEDIAN,SIGMA (lengths as log
    /// lines have them, clamped); or file:PATH (its lines are the payloads, behind the stamp)
    #[arg(long, default_value = "256")]
    pub size: Sizes,
    /// Messages in one write (firehose only; Forward has chunks of 64 KiB, Lumberjack windows of 2048)
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub per_write: u32,
    /// Open loop: messages per second over all connections, sent on schedule whatever happens.
    /// Without it: firehose
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Open loop: gaps between the sends of each emitter
    #[arg(long, value_enum, default_value = "constant")]
    pub schedule: Gaps,
    /// Open loop: so many messages at once, in one write of one emitter, at the same intended time;
    /// the rate stays
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub burst: u32,
    /// Connections closed and opened again per second, in turn, each with nothing left to send
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND", value_parser = per_second)]
    pub churn: f64,
    /// What the emitters speak
    #[arg(long, value_enum, default_value = "frame")]
    pub format: Format,
    /// The same as --format http; --emitters is then where the distributor takes HTTP
    #[arg(long)]
    pub http: bool,
    /// HTTP: messages in a packet
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub packet: u32,
    /// Seed of gaps and lengths
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Open loop: send what is due once in so many microseconds and sleep between; 0 sends each
    /// message at its own time and spins for it
    #[arg(long, default_value_t = 0, value_name = "US")]
    pub tick_us: u64,
    /// Firehose into a sink of the same process: pause while this many messages are under way, so
    /// that socket buffers stay in the cache; 0 fills every socket buffer there is
    #[arg(long, default_value_t = 0, value_name = "MESSAGES")]
    pub in_flight: u64,
    /// Stop after this many messages
    #[arg(long, conflicts_with = "seconds")]
    pub messages: Option<u64>,
    /// Stop after this many seconds [default: 5]
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Number of the first message; keeps several loads into one sink apart
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub first_sequence: u64,
    /// TLS, and whose
    #[arg(skip)]
    pub pki: Option<Arc<Pki>>,
}

fn per_second(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.0..=10_000.0).contains(&n) => Ok(n),
        _ => Err("allowed are 0 to 10000 connections a second".into()),
    }
}

impl Default for LoadArgs {
    /// The firehose: 64 connections, 256 B, 64 messages a write, without an end.
    fn default() -> Self {
        Self {
            connections: 64,
            size: Sizes::default(),
            per_write: 64,
            rate: None,
            schedule: Gaps::Constant,
            burst: 1,
            churn: 0.0,
            format: Format::Frame,
            http: false,
            packet: 10,
            seed: 1,
            tick_us: 0,
            in_flight: 0,
            messages: None,
            seconds: None,
            first_sequence: 0,
            pki: None,
        }
    }
}

impl LoadArgs {
    /// What goes on the wire.
    pub fn format(&self) -> Format {
        match self.http {
            true => Format::Http,
            false => self.format,
        }
    }

    /// Messages of one write: of a burst in an open loop, whole packets over HTTP, whole units of Forward and Lumberjack.
    pub fn unit(&self) -> u64 {
        let messages = match self.rate {
            Some(_) => self.burst,
            None => self.per_write,
        };
        match (self.format(), self.rate) {
            (Format::Http, _) => u64::from(messages.max(self.packet)),
            (Format::Forward, None) => (CHUNK_LEN / self.size.typical()).max(1) as u64,
            (Format::Lumberjack, None) => WINDOW_MESSAGES,
            _ => u64::from(messages),
        }
    }

    pub fn duration_ns(&self) -> u64 {
        (self.seconds.unwrap_or(5.0) * 1e9) as u64
    }

    /// Messages to send; a firehose limited by time has no number.
    pub fn total(&self) -> u64 {
        match (self.messages, self.rate) {
            (Some(messages), _) => messages,
            (None, Some(rate)) => (rate as f64 * self.duration_ns() as f64 / 1e9) as u64,
            (None, None) => u64::MAX,
        }
    }

    /// One line for a report.
    pub fn describe(&self) -> String {
        let pace = match self.rate {
            Some(rate) => format!(
                "{rate}/s offered, {:?} gaps, {} at once",
                self.schedule,
                self.unit()
            ),
            None => format!(
                "unpaced, {} a write{}",
                self.unit(),
                match self.in_flight {
                    0 => String::new(),
                    n => format!(", {n} messages under way at most"),
                }
            ),
        };
        let churn = match self.churn {
            n if n > 0.0 => format!(", {n} connections/s renewed"),
            _ => String::new(),
        };
        format!(
            "{} connections{}, {:?}, size {}, {}{churn}",
            self.connections,
            if self.pki.is_some() { " with TLS" } else { "" },
            self.format(),
            self.size,
            pace.to_lowercase()
        )
    }
}
