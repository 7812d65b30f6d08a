//! Answers that came later: of analyzers that have ACKed a packet, and of the control side.

use super::{Clients, Stage, HELD_BYTES_MAX};
use crate::context::Context;
use crate::operator::Reply;
use crate::port::Io;
use crate::slab::{untoken, Slot};

impl<I: Io> Clients<I> {
    /// Packets all of whose messages have been ACKed, or refused.
    pub(crate) fn answer_receipts(&mut self, cx: &mut Context<I>) {
        while let Some(receipt) = cx.engine.next_receipt() {
            let ticket = receipt.ticket;
            let Some(slot) = self.tickets.remove(&ticket) else {
                continue;
            };
            let client = self.table.get(slot);
            let waits = |stage| matches!(stage, Stage::Ack { ticket: own, .. } if own == ticket);
            if !client.is_some_and(|client| waits(client.stage)) {
                continue;
            }
            match receipt.is_refused {
                true => self.answer_waiting(cx, slot, 422, "refused"),
                false => self.answer_waiting(cx, slot, 200, "acked"),
            }
        }
    }

    /// Answers a client that waits for its packet's ACK, and goes on with what it has sent since.
    pub(super) fn answer_waiting(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        status: u16,
        word: &str,
    ) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let Stage::Ack {
            packet, messages, ..
        } = client.stage
        else {
            return;
        };
        client.stage = Stage::Ready;
        client.since_ns = cx.awake_ns;
        match word {
            "refused" => {
                let packet = std::str::from_utf8(&packet).unwrap_or_default();
                let detail = format!(
                    "an analyzer refuses packet {packet}; the distributor has set it aside"
                );
                self.answer_error(cx, slot, status, "Packet refused", &detail, &[]);
            }
            _ => self.answer_packet(cx, slot, status, word, &packet, messages),
        }
        self.serve(cx, slot);
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
