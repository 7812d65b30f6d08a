//! What HTTP clients hold, in this process and in the kernel, and who goes when that is too much.
//!
//! ```text
//! --http-memory >= parts of requests + requests behind + answers not sent + answers sent and not read
//! ```
//!
//! An answer that the kernel has taken is not gone: until the client acknowledges it, it is memory of this host,
//! though none of this process. How much the kernel takes of one connection is bounded by its send buffer
//! (`listen.rs`); all of it together is counted here.
//!
//! What a client holds costs its bytes times its age. When all hold too much, those that cost most go, never the
//! one that has just begun: as with frames that have not arrived whole (`engine/partial.rs`).

use std::collections::BinaryHeap;

use super::{Client, Clients, Stage};
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_http::HttpError;

/// After so many bytes of answers the kernel is asked how many of them are not read: a system call.
const LOOK_BYTES: usize = 4096;
/// When room is made, this part of all is made beyond what is wanted.
const SPARE_PART: usize = 64;

impl<S> Client<S> {
    /// What it holds of requests, and of answers.
    fn held_parts(&self) -> (usize, usize) {
        let requests = self.reader.buffered() + self.input.len();
        let answers = self.out.len() + self.sending_bytes + self.unread.bytes();
        (requests, answers)
    }

    pub(super) fn held_bytes(&self) -> usize {
        let (requests, answers) = self.held_parts();
        requests + answers
    }

    /// Bytes times their age.
    fn cost(&self, now_ns: u64) -> u128 {
        let cost = |bytes: usize, since_ns: u64| {
            bytes as u128 * u128::from(now_ns.saturating_sub(since_ns))
        };
        let (requests, answers) = self.held_parts();
        let answers_since_ns = match (self.sending_bytes, self.unread.bytes()) {
            (0, 0) => self.since_ns,
            (0, _) => self.unread.since_ns,
            (_, 0) => self.sending_since_ns,
            _ => self.unread.since_ns.min(self.sending_since_ns),
        };
        cost(requests, self.since_ns) + cost(answers, answers_since_ns)
    }
}

impl<I: Io> Clients<I> {
    /// The kernel has taken so many bytes of answers to this client.
    pub(super) fn note_sent(&mut self, cx: &mut Context<I>, slot: Slot, bytes: usize) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        client.unread.sent += bytes as u64;
        client.unread.new_bytes += bytes;
        if client.unread.new_bytes >= LOOK_BYTES {
            self.look_at_answers(cx, slot);
        }
    }

    /// Asks the kernel for answers that are not read, of all clients that may have some.
    pub(super) fn look_at_all_answers(&mut self, cx: &mut Context<I>) {
        for slot in self.table.slots() {
            let client = self.table.get(slot);
            let may_have = client.is_some_and(|client| {
                client.unread.bytes + client.unread.new_bytes + client.sending_bytes > 0
            });
            if may_have {
                self.look_at_answers(cx, slot);
            }
        }
        self.relieve(cx);
    }

    fn look_at_answers(&mut self, cx: &mut Context<I>, slot: Slot) {
        let now_ns = cx.awake_ns;
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let Some(socket) = &client.socket else {
            return;
        };
        client.unread.look(cx.io.unread_bytes(socket), now_ns);
        self.count_held(slot);
    }

    /// All clients together hold too much.
    pub(super) fn holds_too_much(&self, cx: &Context<I>) -> bool {
        self.held_bytes > cx.config.http.memory_bytes_max
    }

    /// While all hold too much, those that cost most give it up.
    pub(super) fn relieve(&mut self, cx: &mut Context<I>) {
        if !self.holds_too_much(cx) {
            return;
        }
        let most = cx.config.http.memory_bytes_max;
        let enough = most - most / SPARE_PART;
        let now_ns = cx.awake_ns;
        let clients = self.table.iter();
        let costs = clients.filter_map(|(slot, client)| {
            let bytes = client.held_bytes();
            let may_go = bytes > 0 && client.stage != Stage::Gone;
            may_go.then(|| (client.cost(now_ns), bytes, slot.index()))
        });
        let mut costs: BinaryHeap<_> = costs.collect();
        while self.held_bytes > enough {
            let Some((_, _, index)) = costs.pop() else {
                return;
            };
            if let Some(slot) = self.table.slot_at(index) {
                self.give_up_held(cx, slot);
            }
        }
    }

    /// Of this client only the request in hand is served any more; or nothing, if it does not read.
    fn give_up_held(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(client) = self.table.get_mut(slot) else {
            return;
        };
        let (requests, answers) = client.held_parts();
        if answers > requests {
            self.refuse("answers_not_read");
            self.abort(cx, slot);
            return;
        }
        let is_ready = client.stage == Stage::Ready;
        if is_ready && client.reader.buffered() > 0 {
            let error = memory_full(cx.config.http.memory_bytes_max);
            self.answer_http_error(cx, slot, &error);
        } else if !client.input.is_empty() {
            // Requests behind the one in hand, or behind answers that nobody reads, are not served.
            client.keep_alive = false;
            client.drop_input();
            if is_ready {
                client.stage = Stage::Closing;
            }
            self.refuse("http_memory_full");
        }
        self.conclude(cx, slot);
    }
}

fn memory_full(limit: usize) -> HttpError {
    HttpError {
        status: 503,
        error: "http_memory_full",
        detail: format!(
            "clients hold more than {limit} bytes (--http-memory), and this one most for longest"
        ),
        close: true,
    }
}
