//! What is shown of an analyzer, and of all: the shapes of the answers, which `note.rs` fills in.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::track::Buckets;
use weir_engine::{Balance, Counters};

/// How an analyzer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Every shard reaches it.
    Up,
    /// Some shards do not reach it.
    Partly,
    /// Its window is full on one shard or more.
    Full,
    /// It gets nothing new.
    Draining,
    /// The operator threw it out.
    Ejected,
    /// It is gone, and its messages are on their way to others.
    Rerouting,
    /// It cannot be reached.
    Offline,
}

impl Standing {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Up => "up",
            Standing::Partly => "partly",
            Standing::Full => "full",
            Standing::Draining => "draining",
            Standing::Ejected => "ejected",
            Standing::Rerouting => "re-routing",
            Standing::Offline => "offline",
        }
    }
}

/// How an analyzer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Weir's own protocol, a link per shard.
    Native,
    /// A reference client, one link.
    Reference,
    /// Over HTTP.
    Http,
}

/// A group of analyzers over HTTP whose members a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// Its id.
    pub id: Arc<str>,
    /// Members that its name stands for.
    pub found: usize,
    /// Of those: are analyzers here, and checked.
    pub taken: usize,
    /// Of those: get messages.
    pub up: usize,
    /// Most analyzers of all kinds that a shard serves.
    pub analyzers_max: usize,
    /// That there are more than have a place, and what allows more.
    pub problem: Option<String>,
}

/// An analyzer over HTTP, as configured and as its health was seen last.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpStatus {
    /// Its id.
    pub id: Arc<str>,
    /// Where it is: `http://host:port/path`.
    pub endpoint: String,
    /// Configured.
    pub weight: f64,
    /// None before the first check.
    pub is_healthy: Option<bool>,
    /// End of the last check, ms since 1970.
    pub last_health_check: Option<u64>,
    /// Checks that failed since one did not.
    pub consecutive_failures: u64,
    /// The operator threw it out; it stays out until it is resumed.
    pub ejected: bool,
    /// Times that it was taken out for a while because it refused everything.
    pub ejections: u64,
    /// What was wrong at the last check.
    pub error: Option<String>,
}

/// A weight on its way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RampStatus {
    /// Which analyzer.
    pub analyzer: Arc<str>,
    /// At its begin.
    pub from: f64,
    /// At its end.
    pub to: f64,
    /// In milliseconds.
    pub remaining_ms: u64,
    /// The analyzer's own weights do not count.
    pub pin: bool,
    /// After a recovery, rather than by an order.
    pub is_slow_start: bool,
}

/// One analyzer, all shards added up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its id, or the address of a reference client.
    pub id: Arc<str>,
    /// Whom the certificate names that it has shown.
    pub certificate: Option<Arc<str>>,
    /// How it is connected.
    pub kind: Kind,
    /// What it speaks.
    pub protocol: &'static str,
    /// What its ACKs prove: `durable`, they are on a disk; `acked`, it has the messages; `weak`, its kernel has them.
    pub acks: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// Weight in the roster; what was configured, or the last known, when it is not in it. During a slow start
    /// what that leads to.
    pub weight: f64,
    /// Weight in force while it is on its way.
    pub ramp_weight: Option<f64>,
    /// The operator holds the weight.
    pub pinned: bool,
    /// Its weight is on its way.
    pub ramping: bool,
    /// Part of all weights in force, 0 to 1.
    pub target_share: f64,
    /// Part of the messages of the last seconds, 0 to 1; none when there were none.
    pub recent_share: Option<f64>,
    /// Messages ACKed per second, over the last seconds.
    pub acked_rate: f64,
    /// Median ACK latency of the last seconds, in seconds.
    pub p50: Option<f64>,
    /// 99th percentile of it.
    pub p99: Option<f64>,
    /// Sent and not ACKed, in messages.
    pub in_flight: u64,
    /// Not sent, in messages.
    pub queued: u64,
    /// Arena that it holds, in bytes.
    pub held_bytes: u64,
    /// Shards that reach it.
    pub lanes: usize,
    /// Of those: its window is full.
    pub lanes_full: usize,
    /// Messages taken from it when a link ended.
    pub rerouted: u64,
    /// Since the start: given, ACKed, due, error, bound.
    #[serde(flatten)]
    pub share: RowShare,
    /// When messages were last given to it, or when it came; ms since 1970.
    pub last_distribution: u64,
    /// POSTs, or health checks, that failed since one did not.
    pub consecutive_failures: u64,
    /// Over HTTP: where.
    pub endpoint: Option<String>,
    /// Over HTTP: when its health was seen last, ms since 1970.
    pub last_health_check: Option<u64>,
    /// Over HTTP: what was wrong then, or why it was given up since.
    pub error: Option<String>,
    /// ACK latencies since it was first seen.
    #[serde(skip)]
    pub latencies: Buckets,
}

/// One analyzer since the start, as the run report has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowShare {
    /// Messages given, re-routed ones included.
    pub assigned: u64,
    /// Messages ACKed.
    pub acked: u64,
    /// Part of what was due to anybody.
    pub due_share: f64,
    /// Part of what was given out.
    pub real_share: f64,
    /// Given less due, in messages.
    pub share_error: f64,
    /// What the error may be.
    pub share_bound: f64,
}

impl Row {
    /// It is in the roster.
    pub fn is_online(&self) -> bool {
        !matches!(
            self.standing,
            Standing::Offline | Standing::Rerouting | Standing::Ejected
        )
    }
}

/// All shards added up.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// The law.
    pub balance: Balance,
    /// Everything that is counted.
    pub counters: Counters,
    /// Emitters connected.
    pub emitters: usize,
    /// Analyzer connections.
    pub links: usize,
    /// HTTP clients connected.
    pub http_connections: usize,
}

/// Name of an analyzer by its number; the number itself when it came and went between two looks.
pub(super) fn name_of(names: &BTreeMap<u32, Arc<str>>, analyzer: u32) -> Arc<str> {
    let name = names.get(&analyzer);
    name.map_or_else(|| analyzer.to_string().into(), Arc::clone)
}
