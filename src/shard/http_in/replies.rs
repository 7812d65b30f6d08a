//! Answers that came later: of analyzers that have ACKed a packet, and of the control side.

use std::io::Write;

use super::answer::{Answering, PacketAnswer};
use super::{AckWait, Clients, Stage, HELD_BYTES_MAX};
use crate::context::Context;
use crate::operator::Reply;
use crate::port::Io;
use crate::slab::{untoken, Slot};
use weir_engine::{Receipt, TicketState};
use weir_protocol::text::Time;

impl<I: Io> Clients<I> {
    /// Packets all of whose messages have been ACKed, or refused.
    pub(crate) fn answer_receipts(&mut self, cx: &mut Context<I>) {
        while let Some(Receipt { ticket, refused }) = cx.engine.next_receipt() {
            let Some(slot) = self.tickets.remove(&ticket) else {
                continue;
            };
            let client = self.table.get(slot);
            let waits = |stage| matches!(stage, Stage::Ack(wait) if wait.ticket == ticket);
            if client.is_some_and(|client| waits(client.stage)) {
                let state = TicketState { open: 0, refused };
                self.answer_waiting(cx, slot, state);
            }
        }
    }

    /// Time has run out for a client that waits for its packet's ACK.
    pub(super) fn answer_late_ack(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get(slot) else {
            return;
        };
        if let Stage::Ack(wait) = client.stage {
            self.tickets.remove(&wait.ticket);
            let state = cx.engine.ticket_state(wait.ticket);
            self.answer_waiting(cx, slot, state);
        }
    }

    /// Answers a client that waits for its packet's ACK, and goes on with what it has sent since.
    fn answer_waiting(&mut self, cx: &mut Context<I>, slot: Slot, state: TicketState) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let Stage::Ack(wait) = client.stage else {
            return;
        };
        client.stage = Stage::Ready;
        client.since_ns = cx.awake_ns;
        let taken = |status, word| PacketAnswer {
            status,
            word,
            packet: wait.packet,
            messages: wait.messages,
        };
        match state {
            TicketState { refused: 1.., .. } => self.answer_refused(cx, slot, &wait, state),
            TicketState { open: 0, .. } => {
                self.answer_packet(cx, slot, taken(200, "acked"), false);
            }
            _ if wait.is_async => self.answer_packet(cx, slot, taken(202, "queued"), true),
            _ => self.answer_not_acked(cx, slot, &wait, state),
        }
        self.serve(cx, slot);
    }

    /// Analyzers have refused some of a packet for good: whoever sends it again sends those again.
    fn answer_refused(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        wait: &AckWait,
        state: TicketState,
    ) {
        let TicketState { open, refused } = state;
        let (packet, messages) = (text_of(wait), wait.messages);
        let acked = u64::from(messages) - refused - open;
        let detail = format!(
            "analyzers refuse {refused} of {messages} messages of packet {packet}; the distributor has set them aside; {acked} are ACKed, {open} are on their way"
        );
        self.answer_fault(cx, slot, (422, "Packet refused"), &detail, wait, state);
    }

    /// Some of a packet are not ACKed in time.
    fn answer_not_acked(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        wait: &AckWait,
        state: TicketState,
    ) {
        let TicketState { open, .. } = state;
        let (packet, messages) = (text_of(wait), wait.messages);
        let limit = Time(cx.live.http.request_timeout);
        let detail = format!(
            "{open} of {messages} messages of packet {packet} are not ACKed within {limit} (--http-request-timeout); they are not lost and will still be delivered; a retry makes duplicates"
        );
        self.answer_fault(cx, slot, (504, "Not ACKed in time"), &detail, wait, state);
    }

    fn answer_fault(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        (status, error): (u16, &str),
        detail: &str,
        wait: &AckWait,
        state: TicketState,
    ) {
        self.answer_body(cx, slot, status, &[], |out, answering| {
            let Answering { worker, time } = answering;
            let body = serde_json::json!({
                "error": error, "detail": detail, "packetId": text_of(wait), "messageCount": wait.messages,
                "notAcked": state.open, "refused": state.refused, "worker": worker, "timestamp": time,
            });
            let _ = write!(out, "{body}");
        });
    }

    /// What the control side has answered.
    pub(crate) fn take_replies(&mut self, cx: &mut Context<I>) {
        let own = usize::from(cx.index);
        if !cx.shared.control_port.has_replies(own) {
            return;
        }
        for reply in cx.shared.control_port.take_replies(own) {
            self.on_reply(cx, reply);
        }
    }

    fn on_reply(&mut self, cx: &mut Context<I>, reply: Reply) {
        let (_, slot) = untoken(reply.token);
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let Stage::Control { .. } = client.stage else {
            return;
        };
        if reply.is_newest && !client.has_sent_all() {
            // A slow link: it gets the next one that it has time for.
            self.report.states_left_out += 1;
            return;
        }
        if client.out.len() > HELD_BYTES_MAX {
            // A stream that nobody reads.
            self.refuse("answers_not_read");
            self.abort(cx, slot);
            return;
        }
        if client.stage == (Stage::Control { streams: false }) {
            let status = status_of(&reply.bytes);
            *self.report.responses.entry(status).or_default() += 1;
        }
        match client.rate.take() {
            // Of the first piece.
            Some(rate) => append_with_headers(&mut client.out, &reply.bytes, &rate.lines()),
            None => client.out.extend_from_slice(&reply.bytes),
        }
        client.since_ns = cx.awake_ns;
        client.stage = match (reply.is_last, client.keep_alive) {
            (false, _) => Stage::Control { streams: true },
            (true, true) => Stage::Ready,
            (true, false) => Stage::Closing,
        };
        self.serve(cx, slot);
    }
}

/// The id of a packet.
fn text_of(wait: &AckWait) -> &str {
    std::str::from_utf8(&wait.packet).unwrap_or_default()
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
