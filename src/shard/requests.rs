//! Requests of HTTP clients, and the answers to them.
//!
//! ```text
//! POST /logs -> packet -> engine -> 202 queued      wait=acked: receipt -> 200 acked
//!     `- bad body 4xx   `- no room 503
//! the rest  -> question to the control side -> reply
//! ```

use std::borrow::Cow;
use std::io::Write;

use super::callers::RateHeaders;
use super::clients::{Clients, Stage, HELD_BYTES_MAX};
use super::operator::{Question, Reply, ASKED_HEADERS};
use super::port::Io;
use super::slab::{token, untoken, Kind, Slot};
use super::worker::{Phase, Worker};
use weir_config::Cors;
use weir_engine::{Unit, UnitRefused};
use weir_http as http;
use weir_http::{BodyKind, HttpError, Packet, PacketError, Request};
use weir_http::{DATE_BYTES, TIMESTAMP_BYTES, UUID_BYTES};
use weir_protocol::foreign::{self, Foreign};
use weir_protocol::frame;

/// What a client under pressure is told to wait, in seconds.
const RETRY_AFTER: &str = "1";
/// Body of a request that the control side answers: a thousand of them may wait.
const QUESTION_BODY_BYTES_MAX: usize = 64 * 1024;
/// Headers of an answer: ten that any may have, and those that it is given (Retry-After).
const HEADERS_MAX: usize = 12;
/// Headers of an answer that a web page of another site may read.
const EXPOSED: &str = "Retry-After, Preference-Applied, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy";
/// How much of a client's word an error repeats.
const SHOWN_CHARS_MAX: usize = 60;
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

impl<I: Io> Worker<I> {
    pub(super) fn on_request(&mut self, slot: Slot, request: &Request) {
        self.clients.report.requests += 1;
        self.clients.asked_ns = self.now_ns;
        let is_running = self.phase == Phase::Running;
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        client.keep_alive = request.keep_alive && is_running;
        client.http10 = request.http10;
        client.is_head = request.method == "HEAD";
        client.is_stranger = false;
        client.rate = None;
        client.warning = None;
        let cors = &self.live.protection.cors;
        client.allowed_origin = match cors {
            Cors::Off => None,
            _ => cors.allowed(request.origin).map(Into::into),
        };
        let is_logs = request.method == "POST" && request.path.trim_end_matches('/') == "/logs";
        if !self.admits_request(slot, request, is_logs) {
            return;
        }
        let Some(hops) = self.hops_of(slot, request) else {
            return;
        };
        match is_logs {
            true => self.on_logs(slot, request, hops),
            false => self.ask_control(slot, request),
        }
    }

    /// A packet: whole to one lane, or not at all.
    fn on_logs(&mut self, slot: Slot, request: &Request, hops: u8) {
        if !request.has_length {
            self.clients.refuse("length_missing");
            let detail =
                "headers Content-Length and Transfer-Encoding are missing, so the body is empty; \
                          allowed: one of them";
            self.answer_error(slot, 411, "Length required", detail, &[]);
            return;
        }
        let wants_ack = match wants_ack(request) {
            Ok(wants_ack) => wants_ack,
            Err(detail) => {
                self.clients.refuse("bad_query");
                self.answer_error(slot, 400, "Invalid query", &detail, &[]);
                return;
            }
        };
        let now = self.time_text();
        let repaired = http::without_lone_surrogates(request.body);
        let (body, surrogates) = match &repaired {
            Some((body, count)) => (body.as_slice(), *count),
            None => (request.body, 0),
        };
        let mut packet = match read_packet(request, body, &now, &mut self.clients) {
            Ok(packet) => packet,
            Err(error) => {
                self.refuse_packet(slot, &error);
                return;
            }
        };
        packet.hops = hops;
        let mut unit = PacketUnit { packet: &packet };
        let messages = unit.messages();
        let next_ticket = self.clients.tickets_counted + 1;
        let ticket = wants_ack.then_some(next_ticket);
        match self.engine.ingest_unit(&mut unit, ticket) {
            Ok(()) => {}
            Err(UnitRefused::Stalled) => {
                self.clients.refuse("no_room");
                let detail = "analyzers do not keep up, or none is connected: try again later";
                self.answer_error(slot, 503, "Service unavailable", detail, &[]);
                return;
            }
            Err(UnitRefused::TooMany { messages, max }) => {
                self.clients.refuse("packet_too_long");
                let detail = format!("{messages} messages in a packet, allowed: {max}");
                self.answer_error(slot, 413, "Packet too large", &detail, &[]);
                return;
            }
            Err(UnitRefused::TooLong { bytes, max }) => {
                self.clients.refuse("packet_too_long");
                let detail = format!(
                    "the packet takes {bytes} bytes as it is passed on, allowed: {max}: what --http-body and --http-messages admit, a fifth of --arena at most"
                );
                self.answer_error(slot, 413, "Packet too large", &detail, &[]);
                return;
            }
        }
        self.clients.report.packets += 1;
        self.clients.report.messages += u64::from(messages);
        if surrogates > 0 || packet.unknown_levels().is_some() {
            self.warn_of(slot, &packet, surrogates);
        }
        if wants_ack && messages > 0 {
            if let Some(client) = self.clients.table.get_mut(slot) {
                self.clients.tickets_counted = next_ticket;
                self.clients.tickets.insert(next_ticket, slot);
                client.stage = Stage::Ack {
                    ticket: next_ticket,
                    packet: packet.id(),
                    messages,
                };
                client.since_ns = self.awake_ns;
            }
            return;
        }
        let (status, word) = if wants_ack {
            (200, "acked")
        } else {
            (202, "queued")
        };
        self.answer_packet(slot, status, word, &packet.id(), messages);
    }

    /// What was taken in otherwise than it was meant, or sent.
    fn warn_of(&mut self, slot: Slot, packet: &Packet, surrogates: usize) {
        let mut warnings = Vec::new();
        if let Some((count, level)) = packet.unknown_levels() {
            self.clients.report.unknown_levels += count as u64;
            let level = shown(level);
            warnings.push(format!(
                "{count} of the messages have a level that is not known, such as {level}: taken as info"
            ));
        }
        if surrogates > 0 {
            self.clients.report.surrogates_repaired += surrogates as u64;
            warnings.push(format!(
                "{surrogates} surrogates that stood alone: replaced by U+FFFD"
            ));
        }
        if let Some(client) = self.clients.table.get_mut(slot) {
            client.warning = Some(warnings.join("; ").into());
        }
    }

    fn refuse_packet(&mut self, slot: Slot, error: &PacketError) {
        self.clients.refuse(error.error);
        self.answer_body(slot, error.status, &[], |out, answering| {
            let Answering { worker, time } = answering;
            let more = format!("\"worker\":{worker},\"timestamp\":\"{time}\"");
            error.write_json(&more, out);
        });
    }

    /// Packets all of whose messages have been ACKed, or refused.
    pub(super) fn answer_receipts(&mut self) {
        while let Some(receipt) = self.engine.next_receipt() {
            let ticket = receipt.ticket;
            let Some(slot) = self.clients.tickets.remove(&ticket) else {
                continue;
            };
            let client = self.clients.table.get(slot);
            let waits = |stage| matches!(stage, Stage::Ack { ticket: own, .. } if own == ticket);
            if !client.is_some_and(|client| waits(client.stage)) {
                continue;
            }
            match receipt.is_refused {
                true => self.answer_waiting(slot, 422, "refused"),
                false => self.answer_waiting(slot, 200, "acked"),
            }
        }
    }

    /// Answers a client that waits for its packet's ACK, and goes on with what it has sent since.
    pub(super) fn answer_waiting(&mut self, slot: Slot, status: u16, word: &str) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let Stage::Ack {
            packet, messages, ..
        } = client.stage
        else {
            return;
        };
        client.stage = Stage::Ready;
        client.since_ns = self.awake_ns;
        match word {
            "refused" => {
                let packet = std::str::from_utf8(&packet).unwrap_or_default();
                let detail = format!(
                    "an analyzer refuses packet {packet}; the distributor has set it aside"
                );
                self.answer_error(slot, status, "Packet refused", &detail, &[]);
            }
            _ => self.answer_packet(slot, status, word, &packet, messages),
        }
        self.serve(slot);
    }

    fn ask_control(&mut self, slot: Slot, request: &Request) {
        let bytes = request.body.len();
        if bytes > QUESTION_BODY_BYTES_MAX {
            self.clients.refuse("question_too_long");
            let detail =
                format!("a body of {bytes} bytes on this path; allowed: {QUESTION_BODY_BYTES_MAX}");
            self.answer_error(slot, 413, "Body too large", &detail, &[]);
            return;
        }
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let question = Question {
            shard: self.index,
            token: token(Kind::HttpReceive, slot),
            peer: client.caller,
            is_stranger: client.is_stranger,
            method: request.method.to_owned(),
            path: request.path.to_owned(),
            query: request.query.to_owned(),
            headers: ASKED_HEADERS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), request.header(name)?.to_owned())))
                .collect(),
            body: request.body.to_vec(),
            keep_alive: client.keep_alive,
        };
        client.stage = Stage::Control { streams: false };
        client.since_ns = self.awake_ns;
        if self.shared.desk.ask(question).is_err() {
            if let Some(client) = self.clients.table.get_mut(slot) {
                client.stage = Stage::Ready;
            }
            self.clients.refuse("control_busy");
            let detail = "nobody answers this path now: only POST /logs is served";
            self.answer_error(slot, 503, "Service unavailable", detail, &[]);
        }
    }

    /// What the control side has answered.
    pub(super) fn take_replies(&mut self) {
        let own = usize::from(self.index);
        if !self.shared.desk.has_replies(own) {
            return;
        }
        for reply in self.shared.desk.take_replies(own) {
            self.on_reply(reply);
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        let (_, slot) = untoken(reply.token);
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let Stage::Control { .. } = client.stage else {
            return;
        };
        if reply.is_newest && !client.has_sent_all() {
            // A slow link: it gets the next one that it has time for.
            self.clients.report.states_left_out += 1;
            return;
        }
        if client.out.len() > HELD_BYTES_MAX {
            // A stream that nobody reads.
            self.clients.refuse("answers_not_read");
            self.abort(slot);
            return;
        }
        if client.stage == (Stage::Control { streams: false }) {
            let status = status_of(&reply.bytes);
            *self.clients.report.responses.entry(status).or_default() += 1;
        }
        match client.rate.take() {
            // Of the first piece.
            Some(rate) => append_with_headers(&mut client.out, &reply.bytes, &rate.lines()),
            None => client.out.extend_from_slice(&reply.bytes),
        }
        client.since_ns = self.awake_ns;
        client.stage = match (reply.is_last, client.keep_alive) {
            (false, _) => Stage::Control { streams: true },
            (true, true) => Stage::Ready,
            (true, false) => Stage::Closing,
        };
        self.serve(slot);
    }

    pub(super) fn on_http_error(&mut self, slot: Slot, error: &HttpError) {
        self.clients.asked_ns = self.now_ns;
        if let Some(client) = self.clients.table.get_mut(slot) {
            client.is_head = false; // not known
        }
        self.answer_http_error(slot, error);
    }

    /// Who speaks no HTTP at all is told in the answer, and its operator perhaps does not see that: said here as
    /// well, once.
    pub(super) fn warn_of_stranger(&self, slot: Slot, error: &HttpError, bytes: &[u8]) {
        if !matches!(error.error, "bad_method" | "proxy_header") {
            return;
        }
        let peer = self.clients.table.get(slot).and_then(|client| client.peer);
        let foreign = foreign::recognize(bytes);
        let kind = foreign.map_or("bad_method", Foreign::as_str);
        let Some(tail) = self.shared.notice("http", peer, kind, self.now_ns) else {
            return;
        };
        let what = match foreign {
            Some(foreign) => foreign.sentence(),
            None => match frame::peek(bytes, frame::FRAME_BYTES_MAX_DEFAULT) {
                Ok(Some(length)) => format!(
                    "a message of {length} bytes? Emitters have a port of their own (--emitters)"
                ),
                _ => error.detail.clone(),
            },
        };
        let from = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        log::warn!("HTTP client {from} refused: {what}{tail}");
    }

    pub(super) fn answer_http_error(&mut self, slot: Slot, error: &HttpError) {
        self.clients.refuse(error.error);
        if let Some(client) = self.clients.table.get_mut(slot) {
            client.keep_alive &= !error.close;
        }
        let text = http::reason(error.status);
        self.answer_error(slot, error.status, text, &error.detail, &[]);
    }

    fn answer_packet(
        &mut self,
        slot: Slot,
        status: u16,
        word: &str,
        packet: &[u8; UUID_BYTES],
        messages: u32,
    ) {
        let client = self.clients.table.get_mut(slot);
        let warning = client.and_then(|client| client.warning.take());
        let applied = [("Preference-Applied", "wait=acked")];
        let headers = match status {
            200 => &applied[..],
            _ => &[],
        };
        self.answer_body(slot, status, headers, |out, answering| {
            let packet = std::str::from_utf8(packet).unwrap_or_default();
            let Answering { worker, time } = answering;
            let _ = write!(
                out,
                "{{\"success\":true,\"packetId\":\"{packet}\",\"messageCount\":{messages},\"status\":\"{word}\",\"worker\":{worker},\"timestamp\":\"{time}\""
            );
            if let Some(warning) = warning {
                let _ = write!(out, ",\"warning\":{}", serde_json::json!(warning));
            }
            out.push(b'}');
        });
    }

    /// 503 tells when to come again, unless `headers` say otherwise.
    pub(super) fn answer_error(
        &mut self,
        slot: Slot,
        status: u16,
        error: &str,
        detail: &str,
        headers: &[(&str, &str)],
    ) {
        let headers = match (status, headers) {
            (503, []) => &[("Retry-After", RETRY_AFTER)],
            _ => headers,
        };
        self.answer_body(slot, status, headers, |out, answering| {
            let Answering { worker, time } = answering;
            let body = serde_json::json!({
                "error": error, "detail": detail, "worker": worker, "timestamp": time,
            });
            let _ = write!(out, "{body}");
        });
    }

    /// Appends an answer; the connection closes behind it unless it is kept alive.
    fn answer_body(
        &mut self,
        slot: Slot,
        status: u16,
        headers: &[(&str, &str)],
        write_body: impl FnOnce(&mut Vec<u8>, Answering),
    ) {
        let now = self.time_text();
        let date = self.date();
        *self.clients.report.responses.entry(status).or_default() += 1;
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let mut body = std::mem::take(&mut self.clients.body);
        body.clear();
        let answering = Answering {
            worker: self.index,
            time: std::str::from_utf8(&now).unwrap_or_default(),
        };
        write_body(&mut body, answering);
        // On the stack: every packet has its answer.
        let origin = client.allowed_origin.as_deref();
        let stays = client.http10 && client.keep_alive;
        let date = std::str::from_utf8(&date).unwrap_or_default();
        let own = [
            Some(("Date", date)),
            Some(("X-Content-Type-Options", "nosniff")),
            origin.map(|origin| ("Access-Control-Allow-Origin", origin)),
            origin.map(|_| ("Access-Control-Expose-Headers", EXPOSED)),
            origin.map(|_| ("Vary", "Origin")),
            stays.then_some(("Connection", "keep-alive")),
        ];
        let rate = client.rate.as_deref().map(RateHeaders::lines);
        let mut lines = [("", ""); HEADERS_MAX];
        let own = own.into_iter().flatten().chain(rate.into_iter().flatten());
        let all = headers.iter().copied().chain(own);
        let count = lines
            .iter_mut()
            .zip(all)
            .map(|(line, header)| *line = header)
            .count();
        let headers = &lines[..count];
        let (out, keep_alive) = (&mut client.out, client.keep_alive);
        if client.is_head {
            let len = body.len();
            http::respond_head(out, status, "application/json", headers, len, keep_alive);
        } else {
            http::respond(out, status, "application/json", headers, &body, keep_alive);
        }
        self.clients.body = body;
        if !client.keep_alive {
            client.stage = Stage::Closing;
        }
    }

    /// The wall clock, read once a turn.
    fn time_text(&mut self) -> [u8; TIMESTAMP_BYTES] {
        if self.clients.stamp_ns != self.now_ns {
            self.clients.stamp_ns = self.now_ns;
            let unix_ms = self.io.unix_ms();
            self.clients.stamp = http::iso8601(unix_ms);
            let unix_s = unix_ms / 1000;
            if self.clients.date_s != unix_s {
                self.clients.date_s = unix_s;
                self.clients.date = http::http_date(unix_s);
            }
        }
        self.clients.stamp
    }

    /// Header Date of the time that [`Worker::time_text`] has read.
    fn date(&self) -> [u8; DATE_BYTES] {
        self.clients.date
    }
}

/// What every answer says beside its content.
#[derive(Clone, Copy)]
struct Answering<'a> {
    worker: u16,
    time: &'a str,
}

fn read_packet<'a, S>(
    request: &Request,
    body: &'a [u8],
    now: &[u8; TIMESTAMP_BYTES],
    clients: &mut Clients<S>,
) -> Result<Packet<'a>, PacketError> {
    let (ids, limits) = (&mut clients.ids, &clients.packet_limits);
    match http::body_kind(request.content_type)? {
        BodyKind::Packet => http::parse_packet(body, now, ids, limits),
        BodyKind::Lines => {
            let header = request.header("x-emitter-id").map(Cow::Borrowed);
            let emitter = header.or_else(|| http::parameter(request.query, "emitterId"));
            http::parse_ndjson(body, emitter.as_deref(), now, ids, limits)
        }
    }
}

/// Whether the client wants its answer when an analyzer has ACKed the packet: `Prefer: wait=acked` (RFC 7240)
/// or `?wait=acked`.
///
/// # Errors
/// The query asks for something else; what is allowed. A client that misspells what it asks for would go on as
/// if it had got it. Preferences that are not known are ignored, as RFC 7240 wants it, but for `wait` itself.
fn wants_ack(request: &Request) -> Result<bool, String> {
    let mut wait = None;
    for (name, value) in http::parameters(request.query) {
        let Some(value) = value else {
            let name = shown(name);
            return Err(format!(
                "query {name}: its value is not UTF-8 in percent encoding"
            ));
        };
        match (name, &*value) {
            ("wait", _) if wait.is_some() => return Err("query wait is there twice".to_owned()),
            ("wait", "acked") => wait = Some(true),
            ("wait", "queued") => wait = Some(false),
            ("wait", value) => return Err(format!("query wait={}: {WAITS}", shown(value))),
            ("emitterId", _) => {}
            (name, _) => {
                let name = shown(name);
                return Err(format!("query {name}: not known; allowed: wait, emitterId"));
            }
        }
    }
    for preference in request
        .headers("prefer")
        .flat_map(|value| value.split([',', ';']))
    {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        let value = value.trim().trim_matches('"');
        // A number of seconds is what RFC 7240 has under this name.
        let is_time = value.bytes().all(|byte| byte.is_ascii_digit());
        match value {
            _ if !name.trim().eq_ignore_ascii_case("wait") => {}
            "acked" => wait = wait.or(Some(true)),
            "queued" => wait = wait.or(Some(false)),
            _ if is_time => {}
            value => return Err(format!("header Prefer: wait={}: {WAITS}", shown(value))),
        }
    }
    Ok(wait.unwrap_or(false))
}

const WAITS: &str = "allowed: acked, queued";

/// A client's word in an error: quoted, cut.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{text:?}")
}

/// Appends a response with more headers behind its first line.
fn append_with_headers(out: &mut Vec<u8>, response: &[u8], headers: &[(&str, &str)]) {
    let line = response.windows(2).position(|two| two == b"\r\n");
    let (first, rest) = response.split_at(line.map_or(0, |end| end + 2));
    out.extend_from_slice(first);
    if !first.is_empty() {
        for (name, value) in headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    out.extend_from_slice(rest);
}

/// Status of a response; 0 when it is none.
fn status_of(response: &[u8]) -> u16 {
    let digits = response
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
