//! Requests: what servers take by HTTP that were not written for Weir.
//!
//! ```text
//!   records of a lane --Body::push--> body of one POST --------------> Elasticsearch, a collector, Loki, Splunk
//!                                                       <--Reply::feed-- its answer, where the status is not all
//!                       Verdict: taken, item by item, partly, later
//! ```
//!
//! A format says where a POST goes, joins messages to its body, and reads the body of its answer. It knows no socket,
//! no lane and no clock. It is one file here, one line in each `match` below, and one of `sinks!`. The pool of
//! connections is `src/shard/http_out`.

mod bulk;
mod hec;
mod loki;
mod object;
mod otlp;
mod scan;

use std::fmt;
use std::time::Duration;

use crate::outlet::Message;
use crate::Sink;

pub use weir_source::render::Context;

pub use bulk::BulkReply;
pub use hec::{write_ack_poll, AckPollReply, AckReply};
pub use otlp::{OtlpJsonReply, OtlpReply};

/// Makes the facts of a sink whose messages go as requests.
macro_rules! facts {
    ($($module:ident $name:literal;)+) => {
        $(
            pub(crate) mod $module {
                use crate::{Acks, Facts, Layout, Links, Mute, Told};
                pub(crate) static FACTS: Facts = Facts {
                    name: $name,
                    layout: Layout::Records,
                    links: Links::Pool,
                    acks: Acks::PerItem,
                    told: Told::NOTHING,
                };
                pub(crate) type Words = Mute;
            }
        )+
    };
}

facts! {
    ndjson_sink "ndjson";
    array_sink "json";
    bulk_sink "elasticsearch";
    otlp_sink "otlp";
    loki_sink "loki";
    hec_sink "hec";
}

/// Most bytes of an answer's body that is read as a whole: what OTLP and HEC say in it is short.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Most characters of a server's words that are shown.
const SHOWN_MAX: usize = 200;

/// How OTLP is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Protocol buffers.
    #[default]
    Protobuf,
    /// JSON.
    Json,
}

/// What a sink of requests is told. Options of an analyzer's URL.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestOptions {
    /// Method of the request.
    pub method: &'static str,
    /// Path and query of the request; empty: the format's own.
    pub path: String,
    /// Content type; empty: the format's own.
    pub content_type: String,
    /// Header lines with their ends, secrets among them: they stand in each request.
    pub headers: Vec<u8>,
    /// Data stream or index.
    pub index: String,
    /// Each document has an id of its own.
    pub has_ids: bool,
    /// How OTLP is written.
    pub encoding: Encoding,
    /// Labels of a stream, as pairs of JSON without brackets.
    pub labels: String,
    /// The level is a label, too.
    pub level_label: bool,
    /// Kind of source.
    pub sourcetype: String,
    /// A request is through when the indexers say so, and not when it is answered.
    pub indexer_acks: bool,
    /// How long indexers may take to say so; then it is sent again.
    pub ack_timeout: Duration,
    /// Most bytes of a body; one message may have more.
    pub body_bytes: usize,
    /// Most messages of a body; a packet that came as one may have more.
    pub body_messages: u64,
}

impl Default for RequestOptions {
    fn default() -> Self {
        RequestOptions {
            method: "POST",
            path: String::new(),
            content_type: String::new(),
            headers: Vec::new(),
            index: String::new(),
            has_ids: true,
            encoding: Encoding::Protobuf,
            labels: r#""job":"weir""#.to_owned(),
            level_label: true,
            sourcetype: String::new(),
            indexer_acks: false,
            ack_timeout: Duration::from_secs(60),
            body_bytes: 1 << 20,
            body_messages: 5000,
        }
    }
}

impl fmt::Debug for RequestOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestOptions")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &format_args!("{} bytes", self.headers.len()))
            .field("index", &self.index)
            .field("body_bytes", &self.body_bytes)
            .field("body_messages", &self.body_messages)
            .finish_non_exhaustive()
    }
}

/// Who a message is, wherever it goes: as native links and `weir audit` call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId {
    /// Random number of the distributor's run.
    pub instance: u64,
    /// Shard that routed it first.
    pub shard: u16,
    /// Link that it was first routed to.
    pub epoch: u64,
    /// Its number there.
    pub sequence: u64,
}

impl MessageId {
    /// Appends it as text: `<instance in 16 hexadecimal digits>-<shard>-<epoch>-<sequence>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_lane(out);
        decimal(out, self.sequence);
    }

    /// What all messages of a lane have in common: all but the number.
    fn write_lane(&self, out: &mut Vec<u8>) {
        let digit = |nibble: u64| b"0123456789abcdef"[usize::try_from(nibble & 15).unwrap_or(0)];
        for shift in (0..16).rev() {
            out.push(digit(self.instance >> (4 * shift)));
        }
        for number in [u64::from(self.shard), self.epoch] {
            out.push(b'-');
            decimal(out, number);
        }
        out.push(b'-');
    }
}

/// The beginning of ids that was written last, and where it stands in the body.
#[derive(Clone, Copy, Debug)]
struct Before {
    shard: u16,
    epoch: u64,
    at: usize,
    len: usize,
}

/// What is said of every message of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// The same as RFC 3339 has it: `2026-11-29T12:00:00.000Z`.
    pub text: [u8; 24],
}

/// What a sink of requests writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Lines,
    /// A JSON array of objects.
    Array,
    /// Elasticsearch, OpenSearch: actions and documents.
    Bulk,
    /// OpenTelemetry, as protocol buffers.
    Otlp,
    /// OpenTelemetry, as JSON.
    OtlpJson,
    /// Grafana Loki.
    Loki,
    /// Splunk's HTTP event collector.
    Hec,
}

/// What an answer with a status of 2xx says of the messages of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All are through.
    Taken,
    /// The same, with a remark that somebody should read.
    TakenBut(String),
    /// Each has a status of its own; in the order of the request. And what was said of the first that is not through.
    Items(Vec<Run>, String),
    /// So many were dropped, and the others are through; which they are is not said. And why.
    Partly(u64, String),
    /// They are through when this number is acked.
    Later(u64),
    /// These numbers are acked.
    Acked(Vec<u64>),
    /// What was said cannot be read.
    Unreadable(String),
    /// It does not do what it is configured for.
    Misfit(String),
}

/// Items that follow each other and have the same status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many.
    pub items: u64,
    /// Their status, as of HTTP.
    pub status: u16,
}

/// Reads the body of one answer, in any pieces.
#[derive(Debug)]
pub enum Reply {
    /// Of `_bulk`.
    Bulk(BulkReply),
    /// Of OTLP as protocol buffers.
    Otlp(OtlpReply),
    /// Of OTLP as JSON.
    OtlpJson(OtlpJsonReply),
    /// Of HEC, with the number of an ack.
    Ack(AckReply),
    /// Of a question which numbers are acked.
    AckPoll(AckPollReply),
}

impl Reply {
    /// Takes the next bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        match self {
            Reply::Bulk(reply) => reply.feed(bytes),
            Reply::Otlp(reply) => reply.0.feed(bytes),
            Reply::OtlpJson(reply) => reply.0.feed(bytes),
            Reply::Ack(reply) => reply.0.feed(bytes),
            Reply::AckPoll(reply) => reply.0.feed(bytes),
        }
    }

    /// The body has ended. `messages`: so many were in the request.
    pub fn end(self, messages: u64) -> Verdict {
        match self {
            Reply::Bulk(reply) => reply.end(),
            Reply::Otlp(reply) => reply.end(messages),
            Reply::OtlpJson(reply) => reply.end(messages),
            Reply::Ack(reply) => reply.end(),
            Reply::AckPoll(reply) => reply.end(),
        }
    }
}

/// The bytes of a short body; of a longer one, nothing.
#[derive(Debug, Default)]
pub struct Short {
    bytes: Vec<u8>,
    is_long: bool,
}

impl Short {
    fn feed(&mut self, bytes: &[u8]) {
        if self.is_long || self.bytes.len() + bytes.len() > REPLY_BYTES_MAX {
            self.is_long = true;
            self.bytes = Vec::new();
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What came, or why it is not kept.
    fn whole(&self) -> Result<&[u8], String> {
        match self.is_long {
            true => Err(format!("its body has more than {REPLY_BYTES_MAX} bytes")),
            false => Ok(&self.bytes),
        }
    }
}

impl Format {
    /// Of a sink; none: it takes no such requests.
    pub fn of(sink: Sink, options: &RequestOptions) -> Option<Format> {
        Some(match (sink, options.encoding) {
            (Sink::Ndjson, _) => Format::Lines,
            (Sink::Json, _) => Format::Array,
            (Sink::Elasticsearch, _) => Format::Bulk,
            (Sink::Otlp, Encoding::Protobuf) => Format::Otlp,
            (Sink::Otlp, Encoding::Json) => Format::OtlpJson,
            (Sink::Loki, _) => Format::Loki,
            (Sink::Hec, _) => Format::Hec,
            _ => return None,
        })
    }

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Lines | Format::Bulk => "application/x-ndjson",
            Format::Array | Format::OtlpJson | Format::Loki | Format::Hec => "application/json",
            Format::Otlp => "application/x-protobuf",
        }
    }

    /// Whether this status of a whole request says that its receiver is not what it is configured as: what is wrong with
    /// a single message is said otherwise.
    pub fn blames_itself(self, status: u16) -> bool {
        // Of a missing index, channel, pipeline; documents and events of Weir are well formed.
        matches!(self, Format::Bulk | Format::Hec) && status == 400
    }

    /// How the body of an answer with 2xx to so many messages is read; none: the status is all.
    pub fn reply(self, options: &RequestOptions, messages: u64) -> Option<Reply> {
        match self {
            Format::Lines | Format::Array | Format::Loki => None,
            Format::Bulk => Some(Reply::Bulk(BulkReply::new(messages))),
            Format::Otlp => Some(Reply::Otlp(OtlpReply::default())),
            Format::OtlpJson => Some(Reply::OtlpJson(OtlpJsonReply::default())),
            Format::Hec if options.indexer_acks => Some(Reply::Ack(AckReply::default())),
            Format::Hec => None,
        }
    }
}

/// The body of one request, at the end of `out`.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    format: Format,
    options: &'a RequestOptions,
    /// Where it begins.
    start: usize,
    messages: u64,
    /// Severity of the stream that is open.
    severity: u8,
    /// Ids begin as they did before, nearly always.
    before: Option<Before>,
}

impl<'a> Body<'a> {
    /// Begins one.
    pub fn begin(format: Format, options: &'a RequestOptions, out: &mut Vec<u8>) -> Body<'a> {
        let start = out.len();
        match format {
            Format::Lines | Format::Bulk | Format::Hec => {}
            Format::Array => out.push(b'['),
            Format::Otlp => otlp::begin(out),
            Format::OtlpJson => out.extend_from_slice(otlp::JSON_OPEN),
            Format::Loki => out.extend_from_slice(loki::OPEN),
        }
        Body {
            format,
            options,
            start,
            messages: 0,
            severity: 0,
            before: None,
        }
    }

    /// Messages in it.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes of it so far.
    pub fn bytes(&self, out: &[u8]) -> usize {
        out.len() - self.start
    }

    /// Appends a message. `context`: what was rendered before may be rendered once.
    #[inline]
    pub fn push(
        &mut self,
        message: &Message<'_>,
        id: &MessageId,
        at: &Moment,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) {
        let is_first = self.messages == 0;
        let comma = |out: &mut Vec<u8>| {
            if !is_first {
                out.push(b',');
            }
        };
        match self.format {
            Format::Lines => {
                object::write(message, at, context, out);
                out.push(b'\n');
            }
            Format::Array => {
                comma(out);
                object::write(message, at, context, out);
            }
            Format::Bulk => {
                bulk::open(out, self.options);
                if self.options.has_ids {
                    self.write_id(id, out);
                }
                bulk::write(message, at, self.options, context, out);
            }
            Format::Otlp => otlp::write(message, at, context, out),
            Format::OtlpJson => {
                comma(out);
                otlp::write_json(message, at, context, out);
            }
            Format::Loki => {
                let is_new =
                    is_first || (self.options.level_label && self.severity != message.severity);
                self.severity = message.severity;
                loki::write(
                    message,
                    id,
                    at,
                    (is_first, is_new),
                    self.options,
                    context,
                    out,
                );
            }
            Format::Hec => hec::write(message, at, self.options, context, out),
        }
        self.messages += 1;
    }

    fn write_id(&mut self, id: &MessageId, out: &mut Vec<u8>) {
        let same = |before: &Before| before.shard == id.shard && before.epoch == id.epoch;
        if let Some(Before { at, len, .. }) = self.before.filter(same) {
            out.extend_from_within(at..at + len);
        } else {
            let at = out.len();
            id.write_lane(out);
            let (shard, epoch, len) = (id.shard, id.epoch, out.len() - at);
            self.before = Some(Before {
                shard,
                epoch,
                at,
                len,
            });
        }
        decimal(out, id.sequence);
    }

    /// Ends it.
    pub fn end(self, out: &mut Vec<u8>) {
        match self.format {
            Format::Lines | Format::Bulk | Format::Hec => {}
            Format::Array => out.push(b']'),
            Format::Otlp => otlp::end(self.start, out),
            Format::OtlpJson => out.extend_from_slice(otlp::JSON_CLOSE),
            Format::Loki if self.messages == 0 => out.extend_from_slice(b"]}"),
            Format::Loki => out.extend_from_slice(loki::CLOSE),
        }
    }
}

/// The digits of 0 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0u8;
    while number < 100 {
        pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1;
    }
    pairs
};

/// Appends a number: two digits with each division.
fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let pair = |number: u64| PAIRS[usize::try_from(number % 100).unwrap_or(0)];
    while number > 9 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&pair(number));
        number /= 100;
    }
    if number > 0 || at == digits.len() {
        at -= 1;
        digits[at] = pair(number)[1];
    }
    out.extend_from_slice(&digits[at..]);
}

/// A severity's word.
fn level_of(severity: u8) -> &'static str {
    match severity {
        0 => "fatal",
        1 => "error",
        2 => "warn",
        4 => "debug",
        5 => "trace",
        _ => "info",
    }
}

/// The beginning of what a server said, to be shown.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(SHOWN_MAX).collect();
    format!("{text:?}")
}

#[cfg(test)]
mod tests;
