//! What an emitter says: which messages of which stream left it.

use super::{Fault, Heading, Run};
use serde::{Deserialize, Serialize};

/// Run report of an emitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emitter {
    /// Schema.
    #[serde(rename = "certificate")]
    pub heading: Heading,
    /// When.
    pub run: Run,
    /// Emitter id.
    pub id: String,
    /// Messages carry numbers. If not, they are counted and cannot be followed one by one.
    pub numbered: bool,
    /// Totals of all connections.
    pub sent: Sent,
    /// Of an acked emitter: the distributors that it met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acked_by: Vec<AckedBy>,
    /// One for each connection; connecting again goes on with the same stream.
    pub streams: Vec<Stream>,
}

/// Totals of an emitter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// Messages that the kernel took whole.
    pub messages: u64,
    /// Their bytes, frame headers included.
    pub bytes: u64,
    /// Connections that were ever open.
    pub connected: u64,
    /// Connections that broke while open.
    pub broken: u64,
    /// Connections that the distributor asked to go, and that went with nothing left behind.
    pub farewells: u64,
    /// Connections that were opened again.
    pub reconnects: u64,
    /// Messages that were due and never given to the kernel whole.
    pub unsent: u64,
    /// Connections whose end the distributor did not confirm.
    pub unconfirmed: u64,
    /// Of an acked emitter: messages that analyzers have ACKed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked: Option<u64>,
    /// Of an acked emitter: connections that were given up because no WELCOME came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub welcome_timeouts: Option<u64>,
}

/// What a distributor ACKed to an emitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckedBy {
    /// Of the distributor's run: 16 hexadecimal digits.
    pub instance: String,
    /// Messages.
    pub messages: u64,
}

/// Messages of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// `<emitter-id>/<connection>`.
    pub stream: String,
    /// Given to the kernel whole.
    pub given: Vec<Span>,
    /// Of those: may have been in a socket buffer when their connection broke.
    pub maybe_lost: Vec<Span>,
    /// Partly written when a connection broke, and sent again whole. Their receiver discards the
    /// part, so they are no duplicates.
    pub resent: Vec<Span>,
    /// Sent again because no answer came, or one that does not say whether they were taken: they may have come
    /// twice. Over HTTP, and of an acked emitter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maybe_twice: Vec<Span>,
}

/// Sequence numbers from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span(pub u64, pub u64);

impl Span {
    /// How many.
    pub fn messages(self) -> u64 {
        self.1 - self.0 + 1
    }
}

impl Stream {
    /// Messages given.
    pub fn messages(&self) -> u64 {
        self.given.iter().map(|span| span.messages()).sum()
    }
}

impl Emitter {
    pub(super) fn check(&self) -> Result<(), Fault> {
        let mut messages = 0u64;
        for (index, stream) in self.streams.iter().enumerate() {
            let lists = [
                ("given", &stream.given),
                ("maybe_lost", &stream.maybe_lost),
                ("resent", &stream.resent),
                ("maybe_twice", &stream.maybe_twice),
            ];
            for (name, spans) in lists {
                check_spans(&format!("streams[{index}].{name}"), spans)?;
            }
            for span in &stream.maybe_lost {
                let inside = |given: &Span| given.0 <= span.0 && span.1 <= given.1;
                if !stream.given.iter().any(inside) {
                    let field = format!("streams[{index}].maybe_lost");
                    let value = format!("[{}, {}]", span.0, span.1);
                    return Err(Fault::new(field, value, "a range within one of given"));
                }
            }
            messages = messages.saturating_add(stream.messages());
        }
        if messages != self.sent.messages {
            let allowed = format!("{messages}, the sum of streams[].given");
            return Err(Fault::new("sent.messages", self.sent.messages, allowed));
        }
        Ok(())
    }
}

/// Ascending, apart, not empty, from 1.
fn check_spans(field: &str, spans: &[Span]) -> Result<(), Fault> {
    let mut least = 1;
    for Span(first, last) in spans {
        if *first < least || last < first || *last == u64::MAX {
            let value = format!("[{first}, {last}]");
            let allowed = format!("ascending ranges [first, last], here from {least} on");
            return Err(Fault::new(field, value, allowed));
        }
        least = last + 1;
    }
    Ok(())
}
