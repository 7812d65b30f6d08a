//! Run reports: what each program says at its end about the messages that went through it.
//!
//! ```text
//! emitter      which messages of which stream were given to the kernel, which of them may be lost
//! distributor  the books: received = acked + in flight + queued + dropped, per shard and in total
//! analyzer     how much came, and in which journals it is written message by message
//! ```
//!
//! One JSON file each, described field by field in `docs/LEDGER.md`. Numbers are exact: u64 in
//! messages, bytes or nanoseconds, f64 only for shares. A program that reads run reports goes by
//! `certificate.version`; a field that this version does not know is refused, not ignored.

mod analyzer;
mod distributor;
mod emitter;
mod file;

pub use analyzer::{Analyzer, JournalFile, Journaled, Received};
pub use distributor::{
    configuration_digest, Books, Distributor, Ending, Ledger, LinkBooks, Outcome, ShardBooks, Share,
};
pub use emitter::{AckedBy, Emitter, Sent, Span, Stream};
pub use file::{check_writable, sha256_hex, write};

use serde::{Deserialize, Serialize};
use std::fmt;

pub use weir_clock::{is_rfc3339, rfc3339, Stamp};

/// Version of the schema that this build writes and reads.
pub const VERSION: u32 = 5;

/// Which program wrote a run report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `weir distributor`.
    Distributor,
    /// `weir emitter`.
    Emitter,
    /// `weir analyzer`.
    Analyzer,
}

/// What kind of run report, and by which version of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heading {
    /// See [`VERSION`].
    pub version: u32,
    /// Which program.
    pub kind: Kind,
}

impl Heading {
    /// Of a run report that is written now.
    pub fn new(kind: Kind) -> Heading {
        Heading {
            version: VERSION,
            kind,
        }
    }
}

/// When a program ran, and which build of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Version of Weir.
    pub weir: String,
    /// Start, RFC 3339 in UTC.
    pub started: String,
    /// End, RFC 3339 in UTC; may lie before the start if the clock was set.
    pub ended: String,
    /// Start, CLOCK_MONOTONIC in nanoseconds.
    pub started_mono_ns: u64,
    /// End, CLOCK_MONOTONIC in nanoseconds.
    pub ended_mono_ns: u64,
}

impl Run {
    /// From `started` until now.
    pub fn until_now(started: Stamp) -> Run {
        let ended = Stamp::now();
        Run {
            weir: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(started.unix_ns),
            ended: rfc3339(ended.unix_ns),
            started_mono_ns: started.mono_ns,
            ended_mono_ns: ended.mono_ns,
        }
    }

    fn check(&self) -> Result<(), Fault> {
        for (name, value) in [("run.started", &self.started), ("run.ended", &self.ended)] {
            if !is_rfc3339(value) {
                let allowed = "a time such as 2026-11-22T03:28:30.000000000Z";
                return Err(Fault::new(name, value, allowed));
            }
        }
        if self.ended_mono_ns < self.started_mono_ns {
            let allowed = format!("run.started_mono_ns ({}) or more", self.started_mono_ns);
            return Err(Fault::new("run.ended_mono_ns", self.ended_mono_ns, allowed));
        }
        Ok(())
    }
}

/// Any run report.
#[derive(Clone, Debug, PartialEq)]
pub enum RunReport {
    /// Of a distributor.
    Distributor(Box<Distributor>),
    /// Of an emitter.
    Emitter(Box<Emitter>),
    /// Of an analyzer.
    Analyzer(Box<Analyzer>),
}

/// What is wrong with a run report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field, such as `ledger.total.received`; `.` for the whole.
    pub field: String,
    /// What stands there, or what a parser said of it.
    pub value: String,
    /// What may stand there; empty when the value says it.
    pub allowed: String,
}

impl Fault {
    /// `value` stands in `field`, where `allowed` may stand.
    pub fn new(
        field: impl Into<String>,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Fault {
        Fault {
            field: field.into(),
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {}: {}", self.field, self.value)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

/// What every run report begins with; the rest is not looked at yet.
#[derive(Deserialize)]
struct Probe {
    certificate: ProbeHeading,
}

#[derive(Deserialize)]
struct ProbeHeading {
    version: u64,
    kind: Kind,
}

impl RunReport {
    /// Reads a run report and checks what can be checked in it alone. That its books balance is for
    /// the audit to say.
    ///
    /// # Errors
    /// Not JSON, another version, a field missing, unknown or out of range.
    pub fn parse(bytes: &[u8]) -> Result<RunReport, Fault> {
        let probe: Probe = from_json(bytes)?;
        // What is new may be absent: those of 1 to 4 are read as before.
        let version = probe.certificate.version;
        if !(1..=u64::from(VERSION)).contains(&version) {
            let allowed = format!("1 to {VERSION}");
            return Err(Fault::new("certificate.version", version, allowed));
        }
        Ok(match probe.certificate.kind {
            Kind::Distributor => {
                let distributor: Distributor = from_json(bytes)?;
                distributor.run.check()?;
                distributor.check()?;
                RunReport::Distributor(Box::new(distributor))
            }
            Kind::Emitter => {
                let emitter: Emitter = from_json(bytes)?;
                emitter.run.check()?;
                emitter.check()?;
                RunReport::Emitter(Box::new(emitter))
            }
            Kind::Analyzer => {
                let analyzer: Analyzer = from_json(bytes)?;
                analyzer.run.check()?;
                RunReport::Analyzer(Box::new(analyzer))
            }
        })
    }
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Fault::new(error.path().to_string(), error.inner(), ""))?;
    json.end().map_err(|error| Fault::new(".", error, ""))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitter() -> Emitter {
        Emitter {
            heading: Heading::new(Kind::Emitter),
            run: Run::until_now(Stamp::now()),
            id: "e1".into(),
            numbered: true,
            sent: Sent {
                messages: 10,
                bytes: 1000,
                ..Sent::default()
            },
            acked_by: vec![AckedBy {
                instance: "0123456789abcdef".into(),
                messages: 7,
            }],
            streams: vec![Stream {
                stream: "e1/0".into(),
                given: vec![Span(1, 10)],
                maybe_lost: vec![Span(3, 4)],
                resent: vec![Span(5, 5)],
                maybe_twice: vec![Span(6, 7)],
            }],
        }
    }

    fn json(emitter: &Emitter) -> String {
        serde_json::to_string(emitter).expect("plain data")
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let emitter = emitter();
        let read = RunReport::parse(json(&emitter).as_bytes());
        assert_eq!(read, Ok(RunReport::Emitter(Box::new(emitter))));
    }

    #[test]
    fn faults_name_field_value_and_what_is_allowed() {
        let good = json(&emitter());
        let cases = [
            (
                "\"messages\":10",
                "\"messages\":-10",
                ["sent.messages", "-10", "u64"],
            ),
            (
                "\"messages\":10,",
                "",
                ["sent", "missing field", "messages"],
            ),
            (
                "\"version\":5",
                "\"version\":6",
                ["certificate.version", "6", "allowed: 1 to 5"],
            ),
            (
                "\"emitter\"",
                "\"printer\"",
                ["certificate.kind", "printer", "distributor"],
            ),
            (
                "[3,4]",
                "[4,3]",
                ["streams[0].maybe_lost", "[4, 3]", "allowed"],
            ),
            (
                "[3,4]",
                "[3,11]",
                ["streams[0].maybe_lost", "[3, 11]", "given"],
            ),
            ("[1,10]", "[1,9]", ["sent.messages", "10", "9"]),
            (
                "\"numbered\"",
                "\"numbred\"",
                ["numbred", "unknown field", "numbered"],
            ),
            ("}]}", "}", ["EOF", "", ""]),
            (
                "2026",
                "yesterday 2026",
                ["run.started", "yesterday", "allowed: a time"],
            ),
        ];
        for (from, to, words) in cases {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let fault = RunReport::parse(bad.as_bytes()).expect_err(to).to_string();
            for word in words {
                assert!(fault.contains(word), "{to}: {fault}");
            }
        }
    }
}
