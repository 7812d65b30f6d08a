//! What a report holds, as `--json` writes it and `diff` reads it. `bench/report.schema.json` says
//! the same for other programs.
//!
//! ```text
//! Report -- Fingerprint, Conditions
//!    |----- Series: one system under one load       scenario, label, parameters, x
//!    |         '--- Run: once, or one side of a pair    counts, CPU, latencies, samples over time
//!    '----- Summary: one metric of one series       median, min..max, ratio to another series
//! ```
//!
//! Two series belong to each other when their scenario is the same, and lie on one curve when
//! label and scenario are the same and `x` differs. Run n of one series and run n of another of the
//! same scenario ran next to each other: they are a pair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram::Latency;
use crate::fingerprint::Fingerprint;

/// Counts up when a field changes its meaning or goes; a new optional field leaves it.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that one command measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// The subcommand.
    pub kind: String,
    /// One line for people.
    pub title: String,
    /// The command line, a word each.
    pub command: Vec<String>,
    /// RFC 3339, UTC.
    pub started: String,
    /// From there to the writing of the report.
    pub wall_seconds: f64,
    /// False when the command ended with exit status 1: something was lost, or a bound was missed.
    pub passed: bool,
    /// Under what the figures were taken.
    pub conditions: Conditions,
    /// On what.
    pub fingerprint: Fingerprint,
    /// What was measured, in the order of the tables.
    pub series: Vec<Series>,
    /// What it comes to.
    pub summaries: Vec<Summary>,
    /// Whatever a reader must know and no figure says.
    pub notes: Vec<String>,
}

/// Under what the figures were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Cores of the system under test; empty when it was not pinned or is not ours.
    pub system_cores: Vec<usize>,
    /// Cores of load and analyzers; empty when they were not pinned.
    pub load_cores: Vec<usize>,
    /// The interface between them: "lo", or the name of a veth or NIC.
    pub interface: String,
    /// What that means for the figures.
    pub network: String,
    /// Load average over one minute, before the first run. More than a few tenths: the host was busy.
    pub load_average_before: Option<f64>,
}

/// A parameter: a number where it is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    /// Yes or no.
    Flag(bool),
    /// A count or a size.
    Whole(u64),
    /// Any other number.
    Number(f64),
    /// Anything else.
    Text(String),
}

/// Where a series lies on a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abscissa {
    /// What varies: "analyzers", "emitters", "offered rate".
    pub name: String,
    /// How much of it.
    pub value: f64,
}

/// One system under one load, measured once or more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// The load: "firehose", "trickle". Series of one scenario are compared.
    pub scenario: String,
    /// The system under test.
    pub label: String,
    /// The load and the system in detail.
    pub parameters: BTreeMap<String, Parameter>,
    /// Its place on a curve, if it is a point of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<Abscissa>,
    /// Share that each analyzer shall get, sum 1; empty if nobody promised any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_shares: Vec<f64>,
    /// One for each repetition, in order; warm-up is not among them.
    pub runs: Vec<Run>,
    /// Why there are no runs, or fewer: what the system said when it did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What the system does not do: ACKs, weights per message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One run. A figure that nobody took is absent, not 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// When the load started, in seconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_unix_seconds: Option<f64>,
    /// Length of the measured part.
    pub wall_seconds: f64,
    /// Messages in the whole run.
    pub messages: Messages,
    /// Delivered over the measured part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<f64>,
    /// Share that each analyzer got, sum 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<f64>,
    /// CPU time of the system under test, over the measured part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Messages that one receive of the system under test brought; over the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_receive: Option<f64>,
    /// Bytes of one send of the system under test; over the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_send: Option<f64>,
    /// Kernel entries of its data path over messages; over the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_calls_per_message: Option<f64>,
    /// Sends that asked for zero copy, and how many of them the kernel copied all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_copy: Option<ZeroCopy>,
    /// Distributions of times; the first is the one that a reader looks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<Latency>,
    /// The run over time, in order, without gaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// Figures that only this kind of report has, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
    /// What happened: the last line of the system, an exit status that is not 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Counts of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Messages {
    /// Handed to a socket.
    pub sent: u64,
    /// Received at least once.
    pub received: u64,
    /// Never received.
    pub lost: u64,
    /// Received again after the first time.
    pub twice: u64,
    /// Frames that nobody sent: a corrupted stream, or another sender.
    pub foreign: u64,
}

/// CPU time for each delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// User and system time, all threads, by the process's CPU clock (nanoseconds).
    pub ns_per_message: f64,
    /// The part in user mode. The split is by ticks of 10 ms: a hint.
    pub user_ns_per_message: f64,
    /// The part in the kernel.
    pub system_ns_per_message: f64,
    /// Beside it, by nobody's clock: time of ksoftirqd/N of the system's cores, over the same messages.
    /// Absent where the host does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ksoftirqd_ns_per_message: Option<f64>,
}

impl Cpu {
    /// `user_share`: 0 to 1.
    pub fn split(ns_per_message: f64, user_share: f64) -> Self {
        let user_ns_per_message = ns_per_message * user_share;
        Self {
            ns_per_message,
            user_ns_per_message,
            system_ns_per_message: ns_per_message - user_ns_per_message,
            ksoftirqd_ns_per_message: None,
        }
    }

    /// The same with the time of ksoftirqd.
    pub fn with_ksoftirqd(self, ns_per_message: Option<f64>) -> Self {
        Self {
            ksoftirqd_ns_per_message: ns_per_message,
            ..self
        }
    }

    /// Process and ksoftirqd together.
    pub fn sum_ns_per_message(&self) -> Option<f64> {
        self.ksoftirqd_ns_per_message
            .map(|ns| ns + self.ns_per_message)
    }
}

/// Zero-copy sends, and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroCopy {
    /// Sends that asked for it.
    pub sends: u64,
    /// Of those: copied by the kernel. On loopback and veth all of them.
    pub copied: u64,
}

/// An interval of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Begin, since the load started.
    pub start_seconds: f64,
    /// Length.
    pub seconds: f64,
    /// Messages received in it.
    pub received: u64,
    /// Times of the messages received in it: HdrHistogram V2, compressed, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<String>,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Cost.
    Lower,
    /// Yield.
    Higher,
    /// Neither: told, not judged.
    Neither,
}

/// A figure with its unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// The figure.
    pub value: f64,
    /// "ns", "bytes", "messages/s"; empty for a plain number.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
}

/// A table of parameters or values, by name.
pub fn named<T, const N: usize>(pairs: [(&str, T); N]) -> BTreeMap<String, T> {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// How late an open loop itself was, 99th percentile: real minus intended time of sending.
pub fn load_lag(p99_ns: u64) -> (String, Value) {
    let value = Value {
        value: p99_ns as f64,
        unit: "ns".into(),
        better: Better::Neither,
    };
    ("load lag p99".into(), value)
}

/// Part of a latency above which the load's own lag is a warning.
const LAG_PART_MAX: f64 = 0.25;

/// What to say when the load was late by a large part of what was measured.
pub fn lag_warning(lag_p99_ns: u64, p99_ns: u64) -> Option<String> {
    (lag_p99_ns as f64 > LAG_PART_MAX * p99_ns as f64).then(|| {
        format!(
            "the load itself was late by {:.3} ms (p99), more than a quarter of the latency's p99 of {:.3} ms: \
             this latency is also the load's",
            lag_p99_ns as f64 / 1e6,
            p99_ns as f64 / 1e6
        )
    })
}

/// So many bytes: the fewer the better.
pub fn bytes(value: f64) -> Value {
    Value {
        value,
        unit: "bytes".into(),
        better: Better::Lower,
    }
}

/// A number of things.
pub fn count(number: u64, better: Better) -> Value {
    Value {
        value: number as f64,
        unit: String::new(),
        better,
    }
}

/// One metric of one series over its runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Of the series.
    pub scenario: String,
    /// Of the series.
    pub label: String,
    /// Of the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<Abscissa>,
    /// Name of the metric.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// Runs that have it.
    pub runs: usize,
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// Beside another series of the scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// This series over the base, pair by pair. If min..max straddles 1, they are not told apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// Label of the base series.
    pub base: String,
    /// Ratio of the two medians.
    pub of_medians: f64,
    /// Pairs.
    pub pairs: usize,
    /// Median of the ratios of the pairs.
    pub median: f64,
    /// The lowest of them.
    pub min: f64,
    /// The highest of them.
    pub max: f64,
    /// Two-sided sign test over the pairs; with fewer than 6 it cannot come below 0.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_test_p: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_is_late_by_a_quarter_of_the_latency_is_told() {
        assert_eq!(lag_warning(250, 1000), None);
        let warning = lag_warning(2_510_000, 10_000_000).expect("more than a quarter");
        assert!(
            warning.contains("2.510 ms") && warning.contains("10.000 ms"),
            "{warning}"
        );
    }

    #[test]
    fn ksoftirqd_is_beside_the_process_and_in_the_sum() {
        let cpu = Cpu::split(100.0, 0.5);
        assert_eq!(cpu.sum_ns_per_message(), None, "not seen is not 0");
        let cpu = cpu.with_ksoftirqd(Some(8.0));
        assert_eq!(cpu.sum_ns_per_message(), Some(108.0));
        assert_eq!(cpu.ns_per_message, 100.0);
    }
}
