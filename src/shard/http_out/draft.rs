//! A request of a sink's own format: head and body, written once, straight behind each other.
//!
//! ```text
//! POST <path> HTTP/1.1 ... Content-Length:      70812 \r\n\r\n <body>
//!                                          ^ room for ten digits, filled in at the end
//! ```

use std::io::Write;

use super::bytes::as_json;
use crate::hops::HEADER as HOPS_HEADER;
use crate::spare::Spare;
use crate::HttpTarget;
use weir_engine::Origin;
use weir_http as http;
use weir_http::PacketBuilder;
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::record::{frame_header, Record};
use weir_protocol::Form;
use weir_sink::outlet::Message;
use weir_sink::request::{Body, Context, Format, MessageId, Moment};

/// Room for a head, and for the message that is found not to fit.
const SLACK_BYTES: usize = 16 << 10;
/// Digits of a body's length, and of a number of distributors.
const LENGTH_DIGITS: usize = 10;
const HOPS_DIGITS: usize = 3;

/// What a request is made with, whatever is in it.
pub(super) struct Making<'a> {
    pub(super) target: &'a HttpTarget,
    pub(super) format: Format,
    /// What this distributor calls itself.
    pub(super) via: &'a str,
    /// Whose answers are asked for by number; empty: nobody's.
    pub(super) channel: &'a str,
    /// This run.
    pub(super) instance: u64,
    pub(super) unix_ms: u64,
}

/// A request that is being made.
pub(super) struct Draft<'a> {
    making: &'a Making<'a>,
    at: Moment,
    request: Vec<u8>,
    body: Body<'a>,
    context: Context,
    hops: u8,
    /// It may be full.
    is_bounded: bool,
    /// Behind the room for their digits.
    length_end: usize,
    hops_end: usize,
}

impl<'a> Draft<'a> {
    /// With nothing in it, and room for messages of about so many bytes.
    pub(super) fn new(making: &'a Making<'a>, bytes: usize, spare: &mut Spare) -> Draft<'a> {
        let options = &*making.target.request;
        let most = bytes.saturating_add(bytes / 2).min(options.body_bytes);
        let mut request = spare.take(most + SLACK_BYTES);
        let hops_end = open_head(&mut request, making, options.method, &options.path);
        let content_type = match options.content_type.as_str() {
            "" => making.format.content_type(),
            own => own,
        };
        let length_end = close_head(&mut request, making, content_type);
        Draft {
            making,
            at: Moment {
                unix_ms: making.unix_ms,
                text: http::iso8601(making.unix_ms),
            },
            body: Body::begin(making.format, options, &mut request),
            request,
            context: Context::default(),
            hops: 0,
            is_bounded: true,
            length_end,
            hops_end,
        }
    }

    /// Takes whatever is pushed: what was a request once, and is made anew.
    pub(super) fn unbounded(self) -> Draft<'a> {
        Draft {
            is_bounded: false,
            ..self
        }
    }

    /// Messages in it.
    pub(super) fn messages(&self) -> u64 {
        self.body.messages()
    }

    /// Appends the messages of a record whose first has this identity, but for those that `is_in` says have arrived,
    /// by their number in the record. False: it is full and stays as it was; nothing is too large for an empty one.
    pub(super) fn push(
        &mut self,
        record: &Record<'_>,
        origin: Origin,
        is_in: impl Fn(u64) -> bool,
    ) -> bool {
        let options = &*self.making.target.request;
        let (mark, len) = (self.body, self.request.len());
        let may_be_full = self.is_bounded && mark.messages() > 0;
        let more = record.messages() as u64; // from a u32
        if may_be_full && mark.messages() + more > options.body_messages {
            return false;
        }
        let mut number = 0;
        record.each(|severity, form, payload| {
            let message = Message {
                severity,
                form,
                payload,
            };
            let id = MessageId {
                instance: self.making.instance,
                shard: origin.shard,
                epoch: origin.epoch.0,
                sequence: origin.sequence + number,
            };
            if !is_in(number) {
                self.body.push(
                    &message,
                    &id,
                    &self.at,
                    &mut self.context,
                    &mut self.request,
                );
            }
            number += 1;
        });
        if may_be_full && self.body.bytes(&self.request) > options.body_bytes {
            self.request.truncate(len);
            self.body = mark;
            return false;
        }
        self.hops = self.hops.max(record.hops());
        true
    }

    /// Nothing is to be sent.
    pub(super) fn discard(self, spare: &mut Spare) {
        spare.give(self.request);
    }

    /// Its bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.body.end(&mut self.request);
        let bytes = self.request.len() - (self.length_end + 4);
        fill(&mut self.request[..self.length_end], LENGTH_DIGITS, bytes);
        let hops = usize::from(self.hops.saturating_add(1));
        fill(&mut self.request[..self.hops_end], HOPS_DIGITS, hops);
        self.request
    }
}

/// A request whose body is `body`, to another path of the same server.
pub(super) fn question(making: &Making<'_>, path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    let hops_end = open_head(&mut request, making, "POST", path);
    let length_end = close_head(&mut request, making, "application/json");
    request.extend_from_slice(body);
    fill(&mut request[..length_end], LENGTH_DIGITS, body.len());
    fill(&mut request[..hops_end], HOPS_DIGITS, 1);
    request
}

/// The first lines of a head. Where the number of distributors ends.
fn open_head(out: &mut Vec<u8>, making: &Making<'_>, method: &str, path: &str) -> usize {
    let (host, via) = (&making.target.host, making.via);
    // Into memory, which does not fail.
    let _ = write!(
        out,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir/{}\r\nVia: 1.1 {via}\r\n{HOPS_HEADER}: {:HOPS_DIGITS$}",
        env!("CARGO_PKG_VERSION"),
        ""
    );
    out.len()
}

/// The others. Where the body's length ends, four bytes before the body.
fn close_head(out: &mut Vec<u8>, making: &Making<'_>, content_type: &str) -> usize {
    let _ = write!(out, "\r\nContent-Type: {content_type}\r\n");
    if !making.channel.is_empty() {
        let _ = write!(out, "X-Splunk-Request-Channel: {}\r\n", making.channel);
    }
    out.extend_from_slice(&making.target.request.headers);
    let _ = write!(out, "Content-Length: {:LENGTH_DIGITS$}", "");
    let end = out.len();
    out.extend_from_slice(b"\r\n\r\n");
    end
}

/// Writes a number into the room that ends `head`, from its right; spaces before it are none of the value.
fn fill(head: &mut [u8], digits: usize, number: usize) {
    let text = number.to_string();
    debug_assert!(text.len() <= digits, "bodies are below 4 GiB");
    let at = head.len() - text.len();
    head[at..].copy_from_slice(text.as_bytes());
}

/// Messages of records as one packet of Weir's, as people read it: those of them that `is_in` does not name, by their
/// number in all of the records.
pub(super) fn packet_of<'r>(
    records: impl Iterator<Item = &'r [u8]>,
    ids: &mut impl http::Ids,
    unix_ms: u64,
    is_in: impl Fn(u64) -> bool,
) -> Vec<u8> {
    let now = http::iso8601(unix_ms);
    let mut builder = PacketBuilder::new(usize::MAX, usize::MAX);
    let (mut frame, mut number) = (Vec::new(), 0);
    for (record, _) in records.filter_map(Record::parse) {
        record.each(|severity, form, payload| {
            number += 1;
            if is_in(number - 1) {
                return;
            }
            frame.clear();
            let frame_bytes = FRAME_HEADER_BYTES as usize + payload.len();
            frame.extend_from_slice(&frame_header(frame_bytes, severity));
            frame.extend_from_slice(payload);
            match form {
                Form::Json if http::is_piece(payload) => builder.push_piece(&frame),
                Form::Entry => match as_json(&frame) {
                    Some(json) => builder.push_piece(&json),
                    None => builder.push(&frame, ids.next(), &now),
                },
                _ => builder.push(&frame, ids.next(), &now),
            };
        });
    }
    let packet = builder.finish(ids.next(), &now);
    packet.map_or_else(Vec::new, |packet| packet.body)
}
