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

use super::clients::{Client, Stage};
use super::port::Io;
use super::slab::Slot;
use super::worker::Worker;
use weir_http::HttpError;

/// After so many bytes of answers the kernel is asked how many of them are not read: a system call.
const LOOK_BYTES: usize = 4096;
/// When room is made, this part of all is made beyond what is wanted.
const SPARE_PART: usize = 64;

/// Answers of one client that the kernel has.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Those that the client had not acknowledged at the last look.
    bytes: usize,
    /// Given to the kernel since then.
    new_bytes: usize,
    /// In all, and acknowledged of them.
    sent: u64,
    read: u64,
    /// Since when there are some.
    since_ns: u64,
    /// When some of them were acknowledged last.
    progress_ns: u64,
}

impl Unread {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the client read last, if it has something to read.
    pub(super) fn waits_since_ns(&self) -> Option<u64> {
        (self.bytes > 0).then_some(self.progress_ns)
    }

    fn look(&mut self, unread: usize, now_ns: u64) {
        let read = self.sent.saturating_sub(unread as u64);
        if self.bytes == 0 {
            self.since_ns = now_ns;
        }
        if self.bytes == 0 || read > self.read {
            self.progress_ns = now_ns;
        }
        self.read = read;
        self.bytes = unread;
        self.new_bytes = 0;
    }
}

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

impl<I: Io> Worker<I> {
    /// The kernel has taken so many bytes of answers to this client.
    pub(super) fn note_sent(&mut self, slot: Slot, bytes: usize) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        client.unread.sent += bytes as u64;
        client.unread.new_bytes += bytes;
        if client.unread.new_bytes >= LOOK_BYTES {
            self.look_at_answers(slot);
        }
    }

    /// Asks the kernel for answers that are not read, of all clients that may have some.
    pub(super) fn look_at_all_answers(&mut self) {
        for slot in self.clients.table.slots() {
            let client = self.clients.table.get(slot);
            let may_have = client.is_some_and(|client| {
                client.unread.bytes + client.unread.new_bytes + client.sending_bytes > 0
            });
            if may_have {
                self.look_at_answers(slot);
            }
        }
        self.relieve();
    }

    fn look_at_answers(&mut self, slot: Slot) {
        let now_ns = self.awake_ns;
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let Some(socket) = &client.socket else {
            return;
        };
        client.unread.look(self.io.unread_bytes(socket), now_ns);
        self.clients.count_held(slot);
    }

    /// All clients together hold too much.
    pub(super) fn holds_too_much(&self) -> bool {
        self.clients.held_bytes > self.config.http.memory_bytes_max
    }

    /// While all hold too much, those that cost most give it up.
    pub(super) fn relieve(&mut self) {
        if !self.holds_too_much() {
            return;
        }
        let most = self.config.http.memory_bytes_max;
        let enough = most - most / SPARE_PART;
        let now_ns = self.awake_ns;
        let clients = self.clients.table.iter();
        let costs = clients.filter_map(|(slot, client)| {
            let bytes = client.held_bytes();
            let may_go = bytes > 0 && client.stage != Stage::Gone;
            may_go.then(|| (client.cost(now_ns), bytes, slot.index()))
        });
        let mut costs: BinaryHeap<_> = costs.collect();
        while self.clients.held_bytes > enough {
            let Some((_, _, index)) = costs.pop() else {
                return;
            };
            if let Some(slot) = self.clients.table.slot_at(index) {
                self.give_up_held(slot);
            }
        }
    }

    /// Of this client only the request in hand is served any more; or nothing, if it does not read.
    fn give_up_held(&mut self, slot: Slot) {
        let Some(client) = self.clients.table.get_mut(slot) else {
            return;
        };
        let (requests, answers) = client.held_parts();
        if answers > requests {
            self.clients.refuse("answers_not_read");
            self.abort(slot);
            return;
        }
        let is_ready = client.stage == Stage::Ready;
        if is_ready && client.reader.buffered() > 0 {
            let error = memory_full(self.config.http.memory_bytes_max);
            self.answer_http_error(slot, &error);
        } else if !client.input.is_empty() {
            // Requests behind the one in hand, or behind answers that nobody reads, are not served.
            client.keep_alive = false;
            client.drop_input();
            if is_ready {
                client.stage = Stage::Closing;
            }
            self.clients.refuse("http_memory_full");
        }
        self.conclude(slot);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_is_not_late_and_who_has_read_all_holds_nothing() {
        let mut unread = Unread {
            sent: 1000,
            ..Unread::default()
        };
        unread.look(1000, 5);
        assert_eq!((unread.bytes(), unread.waits_since_ns()), (1000, Some(5)));
        unread.look(1000, 7);
        assert_eq!(unread.waits_since_ns(), Some(5), "it has read nothing");
        // As much as it reads comes behind.
        unread.sent = 1600;
        unread.look(1000, 9);
        assert_eq!((unread.waits_since_ns(), unread.since_ns), (Some(9), 5));
        unread.look(0, 10);
        assert_eq!((unread.bytes(), unread.waits_since_ns()), (0, None));
        unread.sent = 1700;
        unread.look(100, 20);
        assert_eq!((unread.waits_since_ns(), unread.since_ns), (Some(20), 20));
    }
}
