//! An answer's bytes.

use std::io::Write;

use super::rate::RateHeaders;
use super::{Clients, Stage};
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::Reason;
use weir_http as http;
use weir_http::{HttpError, PacketError};
use weir_http::{DATE_BYTES, TIMESTAMP_BYTES, UUID_BYTES};
use weir_protocol::foreign::{self, Foreign};
use weir_protocol::frame;

/// What a client under pressure is told to wait, in seconds.
const RETRY_AFTER: &str = "1";
/// Headers of an answer: ten that any may have, and those that it is given (Retry-After).
const HEADERS_MAX: usize = 12;
/// Headers of an answer that a web page of another site may read.
const EXPOSED: &str = "Retry-After, Preference-Applied, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy";

impl<I: Io> Clients<I> {
    pub(super) fn on_http_error(&mut self, cx: &mut Context<I>, slot: Slot, error: &HttpError) {
        self.asked_ns = cx.now_ns;
        if let Some(client) = self.table.get_mut(slot) {
            client.is_head = false; // not known
                                    // Of the request before, behind a proxy of another client.
            client.rate = None;
        }
        self.answer_http_error(cx, slot, error);
    }

    /// Who speaks no HTTP at all is told in the answer, and its operator perhaps does not see that: said here as
    /// well, once.
    pub(super) fn warn_of_stranger(
        &mut self,
        cx: &Context<I>,
        slot: Slot,
        error: &HttpError,
        bytes: &[u8],
    ) {
        if !matches!(error.error, "bad_method" | "proxy_header") {
            return;
        }
        let peer = self.table.get(slot).and_then(|client| client.peer);
        let foreign = foreign::recognize(bytes);
        if foreign == Some(Foreign::Tls) {
            self.refuse(Reason::TlsOnPlainPort.as_str());
        }
        let kind = foreign.map_or("bad_method", Foreign::as_str);
        let Some(tail) = cx.shared.notice("http", peer, kind, cx.now_ns) else {
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

    pub(super) fn answer_http_error(&mut self, cx: &mut Context<I>, slot: Slot, error: &HttpError) {
        self.refuse(error.error);
        if let Some(client) = self.table.get_mut(slot) {
            client.keep_alive &= !error.close;
        }
        let text = http::reason(error.status);
        self.answer_error(cx, slot, error.status, text, &error.detail, &[]);
    }

    /// A packet that was taken: 200, 202. `is_async`: its client had wished for more, and for this otherwise.
    pub(super) fn answer_packet(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        answer: PacketAnswer,
        is_async: bool,
    ) {
        let PacketAnswer {
            status,
            word,
            packet,
            messages,
        } = answer;
        let client = self.table.get_mut(slot);
        let warning = client.and_then(|client| client.warning.take());
        let headers: &[_] = match (status, is_async) {
            (200, _) => &[("Preference-Applied", "wait=acked")],
            (_, true) => &[("Preference-Applied", "respond-async")],
            _ => &[],
        };
        self.answer_body(cx, slot, status, headers, |out, answering| {
            let packet = std::str::from_utf8(&packet).unwrap_or_default();
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
        cx: &mut Context<I>,
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
        self.answer_body(cx, slot, status, headers, |out, answering| {
            let Answering { worker, time } = answering;
            let body = serde_json::json!({
                "error": error, "detail": detail, "worker": worker, "timestamp": time,
            });
            let _ = write!(out, "{body}");
        });
    }

    /// Appends an answer; the connection closes behind it unless it is kept alive.
    pub(super) fn answer_body(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        status: u16,
        headers: &[(&str, &str)],
        write_body: impl FnOnce(&mut Vec<u8>, Answering),
    ) {
        let now = self.time_text(cx);
        let date = self.date();
        *self.report.responses.entry(status).or_default() += 1;
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let answering = Answering {
            worker: cx.index,
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
        self.body = body;
        if !client.keep_alive {
            client.stage = Stage::Closing;
        }
    }

    /// The wall clock, read once a turn.
    pub(super) fn time_text(&mut self, cx: &mut Context<I>) -> [u8; TIMESTAMP_BYTES] {
        if self.stamp_ns != cx.now_ns {
            self.stamp_ns = cx.now_ns;
            let unix_ms = cx.io.unix_ms();
            self.stamp = http::iso8601(unix_ms);
            let unix_s = unix_ms / 1000;
            if self.date_s != unix_s {
                self.date_s = unix_s;
                self.date = http::http_date(unix_s);
            }
        }
        self.stamp
    }

    /// Header Date of the time that [`Clients::time_text`] has read.
    fn date(&self) -> [u8; DATE_BYTES] {
        self.date
    }

    pub(super) fn refuse_packet(&mut self, cx: &mut Context<I>, slot: Slot, error: &PacketError) {
        self.refuse(error.error);
        self.answer_body(cx, slot, error.status, &[], |out, answering| {
            let Answering { worker, time } = answering;
            let more = format!("\"worker\":{worker},\"timestamp\":\"{time}\"");
            error.write_json(&more, out);
        });
    }
}

/// What is said of a packet that was taken.
#[derive(Clone, Copy)]
pub(super) struct PacketAnswer {
    pub(super) status: u16,
    pub(super) word: &'static str,
    pub(super) packet: [u8; UUID_BYTES],
    pub(super) messages: u32,
}

/// What every answer says beside its content.
#[derive(Clone, Copy)]
pub(super) struct Answering<'a> {
    pub(super) worker: u16,
    pub(super) time: &'a str,
}
