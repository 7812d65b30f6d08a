//! What a distributor says: its books.

use super::{sha256_hex, Fault, Heading, Run};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Run report of a distributor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distributor {
    /// Schema.
    #[serde(rename = "certificate")]
    pub heading: Heading,
    /// When.
    pub run: Run,
    /// Random number of the run, 16 hexadecimal digits; native analyzers see it in every WELCOME.
    pub instance: String,
    /// Every setting that was in force, by name.
    pub configuration: BTreeMap<String, String>,
    /// SHA-256 of the configuration as [`configuration_digest`] takes it.
    pub configuration_sha256: String,
    /// How it ended.
    pub ending: Ending,
    /// The books.
    pub ledger: Ledger,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// In one word.
    pub outcome: Outcome,
    /// Messages sent and not ACKed.
    pub abandoned_in_flight: u64,
    /// Messages taken in and not sent.
    pub abandoned_queued: u64,
    /// Bytes read from emitters that were not routed: in no book.
    pub unrouted_bytes: u64,
    /// Emitters that had closed and were not read to their end: they do not know.
    #[serde(default)]
    pub unfinished_emitters: u64,
}

/// How a run ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It runs; a live ledger.
    Running,
    /// Every message that was taken in is ACKed.
    Clean,
    /// It drained, and messages or bytes were left at the deadline.
    Abandoned,
    /// A second signal ended it, and messages or bytes were left.
    EndedAtOnce,
    /// A shard failed; the books are those of the last reports.
    Failed,
}

/// The books of all shards: the same structure live and at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Sum of the shards.
    pub total: Books,
    /// Each shard.
    pub shards: Vec<ShardBooks>,
    /// Shares against weights, all shards added up, by analyzer.
    pub analyzers: Vec<Share>,
    /// Links that were up, and of each shard the last that had ended: what identities of messages name.
    #[serde(default)]
    pub links: Vec<LinkBooks>,
}

/// One link, as a shard fed it. Message n of `assigned` has the identity (instance, shard, epoch, n), unless it came from
/// a link that had died: then it keeps that of its first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkBooks {
    /// Index of the shard.
    pub shard: u16,
    /// Names the link among all of this run.
    pub epoch: u64,
    /// Id (native) or address; null when it is gone.
    pub analyzer: Option<String>,
    /// Messages given to it, re-routed ones included.
    pub assigned: u64,
    /// Of those: ACKed.
    pub acked: u64,
    /// It had ended.
    pub ended: bool,
}

/// One set of books, in messages unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Books {
    /// Taken in whole.
    pub received: u64,
    /// Their bytes, frame headers included.
    pub received_bytes: u64,
    /// ACKed by an analyzer.
    pub acked: u64,
    /// Sent, not ACKed.
    pub in_flight: u64,
    /// Not sent, those that wait to be re-routed included.
    pub queued: u64,
    /// Given up, by reason. Empty: no policy drops today.
    pub dropped: BTreeMap<String, u64>,
    /// Given to another analyzer because theirs died; a message may count more than once.
    pub rerouted: u64,
    /// Of those: had been sent, so the dead analyzer may have seen them.
    pub duplicates_possible: u64,
    /// Connections refused or closed and words ignored, by reason. No messages.
    pub refused: BTreeMap<String, u64>,
    /// Datagrams that the kernel dropped: never received, and in no other number here.
    #[serde(default)]
    pub lost_before_receipt: u64,
    /// Emitter connections accepted.
    pub emitters: u64,
    /// Analyzer links that came up.
    pub links_up: u64,
    /// Analyzer links that went down.
    pub links_down: u64,
}

/// Books of one shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardBooks {
    /// Index of the shard.
    pub shard: u16,
    /// Its books.
    pub books: Books,
    /// Farthest that an analyzer may be from its exact share while one table is in force, in
    /// messages: twice the largest certificate that the tree had.
    pub share_bound: f64,
    /// Changes of weights or membership.
    pub tables: u64,
    /// Times that an analyzer's window became full, or ceased to be.
    pub availability_changes: u64,
}

/// One analyzer's share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Id (native) or address.
    pub analyzer: String,
    /// Present weight; null when it is gone.
    pub weight: Option<f64>,
    /// Messages given to it, re-routed ones included.
    pub assigned: u64,
    /// Of those: ACKed.
    pub acked: u64,
    /// What was due to it by the weights in force at each message, in messages.
    pub target: f64,
    /// `target` of the sum of all targets, 0 to 1.
    pub target_share: f64,
    /// `assigned` of the sum of all, 0 to 1.
    pub real_share: f64,
    /// `assigned` less `target`, in messages.
    pub error: f64,
    /// What the error may be, in messages.
    pub bound: f64,
}

impl Books {
    /// Messages given up, for whatever reason.
    pub fn dropped_messages(&self) -> u64 {
        self.dropped
            .values()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// received = acked + in flight + queued + dropped.
    pub fn holds(&self) -> bool {
        let accounted = [self.in_flight, self.queued, self.dropped_messages()]
            .into_iter()
            .try_fold(self.acked, u64::checked_add);
        accounted == Some(self.received)
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Books) {
        let Books {
            received,
            received_bytes,
            acked,
            in_flight,
            queued,
            dropped,
            rerouted,
            duplicates_possible,
            refused,
            lost_before_receipt,
            emitters,
            links_up,
            links_down,
        } = other;
        for (mine, theirs) in [
            (&mut self.received, received),
            (&mut self.received_bytes, received_bytes),
            (&mut self.acked, acked),
            (&mut self.in_flight, in_flight),
            (&mut self.queued, queued),
            (&mut self.rerouted, rerouted),
            (&mut self.duplicates_possible, duplicates_possible),
            (&mut self.lost_before_receipt, lost_before_receipt),
            (&mut self.emitters, emitters),
            (&mut self.links_up, links_up),
            (&mut self.links_down, links_down),
        ] {
            *mine = mine.saturating_add(*theirs);
        }
        for (mine, theirs) in [(&mut self.dropped, dropped), (&mut self.refused, refused)] {
            for (reason, count) in theirs {
                let mine = mine.entry(reason.clone()).or_default();
                *mine = mine.saturating_add(*count);
            }
        }
    }
}

impl Share {
    /// The error is one that the tree may make. A broken number is not.
    pub fn is_in_bound(&self) -> bool {
        (self.assigned as f64 - self.target).abs() <= self.bound
    }
}

/// SHA-256 of `name=value` lines in the order of the names, each with its line end.
pub fn configuration_digest(configuration: &BTreeMap<String, String>) -> String {
    let lines: String = configuration
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    // Reading from memory cannot fail.
    sha256_hex(&mut lines.as_bytes()).unwrap_or_default()
}

impl Distributor {
    pub(super) fn check(&self) -> Result<(), Fault> {
        let digest = configuration_digest(&self.configuration);
        if digest != self.configuration_sha256 {
            let (field, value) = ("configuration_sha256", &self.configuration_sha256);
            let allowed = format!("{digest}, the digest of configuration");
            return Err(Fault::new(field, value, allowed));
        }
        let is_hex = self.instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        if self.instance.len() != 16 || !is_hex {
            return Err(Fault::new(
                "instance",
                &self.instance,
                "16 hexadecimal digits",
            ));
        }
        Ok(())
    }
}
