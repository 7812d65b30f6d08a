//! Requests of HTTP clients.
//!
//! ```text
//! POST /logs -> packet -> engine -> 202 queued      wait=acked: receipt -> 200 acked
//!     `- bad body 4xx   `- no room 503
//! the rest  -> question to the control side -> reply
//! ```

use std::borrow::Cow;

use super::answer::PacketAnswer;
use super::preferences::{shown, Preferences};
use super::{AckWait, Clients, Stage};
use crate::context::Context;
use crate::operator::Question;
use crate::port::Io;
use crate::slab::{token, Kind, Slot};
use weir_config::Cors;
use weir_engine::{Divisible, Unit, UnitRefused};
use weir_http as http;
use weir_http::{Ask, BodyKind, Packet, PacketError, Request, TIMESTAMP_BYTES};
use weir_source::SourceError;

/// Body of a request that the control side answers: a thousand of them may wait.
const QUESTION_BODY_BYTES_MAX: usize = 64 * 1024;
/// One request's packet, in both of its forms.
struct PacketUnit<'a, 'b> {
    packet: &'a http::Packet<'b>,
}

impl Unit for PacketUnit<'_, '_> {
    fn messages(&self) -> u32 {
        u32::try_from(self.packet.message_count()).unwrap_or(u32::MAX)
    }

    fn bytes_max(&self) -> usize {
        self.packet.bytes_max()
    }

    fn write_frames(&mut self, out: &mut Vec<u8>) {
        self.packet.write_frames(out);
    }

    fn write_record(&mut self, out: &mut Vec<u8>) {
        self.packet.write_record(out);
    }
}

impl Divisible for PacketUnit<'_, '_> {
    fn part_bytes_max(&self) -> usize {
        self.packet.envelope_bytes_max()
    }

    fn write_part(&mut self, is_in: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
        self.packet.write_part(is_in, out);
    }
}

impl<I: Io> Clients<I> {
    pub(super) fn on_request(&mut self, cx: &mut Context<I>, slot: Slot, request: &Request) {
        self.report.requests += 1;
        self.asked_ns = cx.now_ns;
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        client.keep_alive = request.keep_alive && !client.is_dismissed;
        client.http10 = request.http10;
        client.is_head = request.method == "HEAD";
        client.is_stranger = false;
        client.rate = None;
        client.warning = None;
        let cors = &cx.live.protection.cors;
        client.allowed_origin = match cors {
            Cors::Off => None,
            _ => cors.allowed(request.origin).map(Into::into),
        };
        let is_logs = request.method == "POST" && request.path.trim_end_matches('/') == "/logs";
        if !self.admits_request(cx, slot, request, is_logs) {
            return;
        }
        let Some(hops) = self.hops_of(cx, slot, request) else {
            return;
        };
        match is_logs {
            true => self.on_logs(cx, slot, request, hops),
            false => self.ask_control(cx, slot, request),
        }
    }

    /// A packet: whole to one lane, or each message to its own; or not at all.
    fn on_logs(&mut self, cx: &mut Context<I>, slot: Slot, request: &Request, hops: u8) {
        if !request.has_length {
            self.refuse("length_missing");
            let detail =
                "headers Content-Length and Transfer-Encoding are missing, so the body is empty; \
                          allowed: one of them";
            self.answer_error(cx, slot, 411, "Length required", detail, &[]);
            return;
        }
        let preferences = match Preferences::of(request) {
            Ok(preferences) => preferences,
            Err(detail) => {
                self.refuse("bad_query");
                self.answer_error(cx, slot, 400, "Invalid query", &detail, &[]);
                return;
            }
        };
        if preferences.waits && cx.engine.has_weak_acks() {
            self.refuse("weak_acks");
            let detail = SourceError::WeakAcks.to_string();
            self.answer_error(cx, slot, 409, "No such ACKs", &detail, &[]);
            return;
        }
        let now = self.time_text(cx);
        let repaired = http::without_lone_surrogates(request.body);
        let (body, surrogates) = match &repaired {
            Some((body, count)) => (body.as_slice(), *count),
            None => (request.body, 0),
        };
        let mut packet = match read_packet(request, body, &now, self) {
            Ok(packet) => packet,
            Err(error) => {
                self.refuse_packet(cx, slot, &error);
                return;
            }
        };
        packet.hops = hops;
        let mut unit = PacketUnit { packet: &packet };
        let messages = unit.messages();
        let next_ticket = self.tickets_counted + 1;
        let wants_ack = preferences.waits;
        let ticket = wants_ack.then_some(next_ticket);
        let divides = preferences.divides(request);
        let taken = match divides {
            true => cx.engine.ingest_divided(&mut unit, ticket),
            false => cx.engine.ingest_unit(&mut unit, ticket),
        };
        if let Err(refused) = taken {
            self.refuse_unit(cx, slot, refused);
            return;
        }
        self.report.packets += 1;
        self.report.divided += u64::from(divides);
        self.report.messages += u64::from(messages);
        if surrogates > 0 || packet.unknown_levels().is_some() {
            self.warn_of(slot, &packet, surrogates);
        }
        if wants_ack && messages > 0 {
            let wait = AckWait {
                packet: packet.id(),
                messages,
                ticket: next_ticket,
                is_async: preferences.is_async,
            };
            self.wait_for_ack(slot, wait, cx.awake_ns);
            return;
        }
        let (status, word) = if wants_ack {
            (200, "acked")
        } else {
            (202, "queued")
        };
        let answer = PacketAnswer {
            status,
            word,
            packet: packet.id(),
            messages,
        };
        self.answer_packet(cx, slot, answer, false);
    }

    /// A client is answered when its packet has been ACKed.
    fn wait_for_ack(&mut self, slot: Slot, wait: AckWait, since_ns: u64) {
        if let Some(client) = self.table.get_mut(slot) {
            self.tickets_counted = wait.ticket;
            self.tickets.insert(wait.ticket, slot);
            client.stage = Stage::Ack(wait);
            client.since_ns = since_ns;
        }
    }

    /// The engine does not take a packet.
    fn refuse_unit(&mut self, cx: &mut Context<I>, slot: Slot, refused: UnitRefused) {
        let (reason, status, error, detail) = match refused {
            UnitRefused::Stalled => (
                "no_room",
                503,
                "Service unavailable",
                "analyzers do not keep up, or none is connected: try again later".to_owned(),
            ),
            UnitRefused::TooMany { messages, max } => (
                "packet_too_long",
                413,
                "Packet too large",
                format!("{messages} messages in a packet, allowed: {max}"),
            ),
            UnitRefused::TooLong { bytes, max } => (
                "packet_too_long",
                413,
                "Packet too large",
                format!(
                    "the packet takes {bytes} bytes as it is passed on, allowed: {max}: what --http-body and --http-messages admit, a fifth of --arena at most"
                ),
            ),
        };
        self.refuse(reason);
        self.answer_error(cx, slot, status, error, &detail, &[]);
    }

    /// What was taken in otherwise than it was meant, or sent.
    fn warn_of(&mut self, slot: Slot, packet: &Packet, surrogates: usize) {
        let mut warnings = Vec::new();
        if let Some((count, level)) = packet.unknown_levels() {
            self.report.unknown_levels += count as u64;
            let level = shown(level);
            warnings.push(format!(
                "{count} of the messages have a level that is not known, such as {level}: taken as info"
            ));
        }
        if surrogates > 0 {
            self.report.surrogates_repaired += surrogates as u64;
            warnings.push(format!(
                "{surrogates} surrogates that stood alone: replaced by U+FFFD"
            ));
        }
        if let Some(client) = self.table.get_mut(slot) {
            client.warning = Some(warnings.join("; ").into());
        }
    }

    fn ask_control(&mut self, cx: &mut Context<I>, slot: Slot, request: &Request) {
        let bytes = request.body.len();
        if bytes > QUESTION_BODY_BYTES_MAX {
            self.refuse("question_too_long");
            let detail =
                format!("a body of {bytes} bytes on this path; allowed: {QUESTION_BODY_BYTES_MAX}");
            self.answer_error(cx, slot, 413, "Body too large", &detail, &[]);
            return;
        }
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let question = Question {
            shard: cx.index,
            token: token(Kind::HttpReceive, slot),
            ask: Ask {
                worker: cx.index,
                peer: client.caller,
                is_stranger: client.is_stranger,
                ..Ask::of(request)
            },
            keep_alive: client.keep_alive,
        };
        client.stage = Stage::Control { streams: false };
        client.since_ns = cx.awake_ns;
        if cx.shared.control_port.ask(question).is_err() {
            if let Some(client) = self.table.get_mut(slot) {
                client.stage = Stage::Ready;
            }
            self.refuse("control_busy");
            let detail = "nobody answers this path now: only POST /logs is served";
            self.answer_error(cx, slot, 503, "Service unavailable", detail, &[]);
        }
    }
}

fn read_packet<'a, I: Io>(
    request: &Request,
    body: &'a [u8],
    now: &[u8; TIMESTAMP_BYTES],
    clients: &mut Clients<I>,
) -> Result<Packet<'a>, PacketError> {
    let (ids, limits) = (&mut clients.ids, &clients.packet_limits);
    match http::body_kind(request.content_type)? {
        BodyKind::Packet => http::parse_packet(body, now, ids, limits),
        BodyKind::Lines => {
            let emitter = emitter_of_lines(request)?;
            http::parse_ndjson(body, emitter.as_deref(), now, ids, limits)
        }
    }
}

/// Who sends lines: header X-Emitter-ID, else `?emitterId=`.
///
/// # Errors
/// 400: one of them is there twice. Which of two was meant is not guessed, as with a field of a packet.
fn emitter_of_lines<'a>(request: &Request<'a>) -> Result<Option<Cow<'a, str>>, PacketError> {
    let mut headers = request.headers("x-emitter-id");
    let header = headers.next();
    let mut parameters = http::parameters(request.query).filter(|(name, _)| *name == "emitterId");
    let parameter = parameters.next().and_then(|(_, value)| value);
    let twice = if headers.next().is_some() {
        "header X-Emitter-ID"
    } else if parameters.next().is_some() {
        "query emitterId"
    } else {
        return Ok(header.map(Cow::Borrowed).or(parameter));
    };
    Err(PacketError::emitter_id(format!(
        "{twice} is there twice; allowed: once"
    )))
}
