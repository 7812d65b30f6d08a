//! What arrives: bytes of an analyzer, the end of its stream, a link from another shard.

use std::io;
use std::sync::Arc;

use super::connection::{HandOverFacts, Stage};
use super::Links;
use crate::context::Context;
use crate::mesh::HandOver;
use crate::port::{Completion, Group, Io};
use crate::slab::{token, untoken, Kind, Slot};

/// Ends of links that are seen to in a turn. Each costs a system call and lines of tables, 20 us in all: a
/// thousand at once must not hold up what living ones get.
const TURN_ENDS: usize = 64;
/// While more and more links end, what has arrived is read first, for so long: messages do not queue behind them.
const ENDS_WAIT_NS: u64 = 5_000_000;

impl<I: Io> Links<I> {
    #[inline]
    pub(crate) fn on_receive(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let Some(chunk) = cx.io.chunk(Group::Control, &completion) else {
            self.ends.push_back(completion);
            return;
        };
        let Some(connection) = self.table.get_mut(slot) else {
            cx.io.release(Group::Control, chunk);
            return;
        };
        connection.receiving = completion.more();
        let bytes = cx.io.bytes_of(Group::Control, chunk);
        if connection.is_up() {
            let counters = &mut cx.engine.counters;
            let heard = connection.hear(bytes, &cx.io, cx.awake_ns, counters);
            cx.io.release(Group::Control, chunk);
            if let Some(over) = connection.heed(cx, heard) {
                self.close_link(cx, slot, &over.why, over.reason);
            }
        } else {
            // The first words, once for each connection.
            let bytes = bytes.to_vec();
            cx.io.release(Group::Control, chunk);
            self.on_first_bytes(cx, slot, &bytes);
        }
        if !completion.more() {
            self.after_receive(cx, slot);
        }
    }

    /// Some of the links that are over; the others have their turns next, without a wait. While more and more end,
    /// living ones go first.
    pub(crate) fn see_to_ends(&mut self, cx: &mut Context<I>, ended_before: usize) {
        if ended_before == 0 {
            self.ends_since_ns = cx.now_ns;
        }
        let more_end = self.ends.len() > ended_before;
        if more_end && cx.now_ns - self.ends_since_ns < ENDS_WAIT_NS {
            return;
        }
        for _ in 0..TURN_ENDS {
            let Some(completion) = self.ends.pop_front() else {
                return;
            };
            match untoken(completion.token) {
                (Some(Kind::LinkSend), slot) => self.on_send(cx, slot, completion),
                (_, slot) => self.on_end(cx, slot, &completion),
            }
        }
    }

    /// A send failed: that has its turn with the ends.
    pub(crate) fn on_failed_send(&mut self, completion: Completion) {
        self.ends.push_back(completion);
    }

    /// Ends that have not been seen to.
    pub(crate) fn ends(&self) -> usize {
        self.ends.len()
    }

    /// A receive has brought nothing: the stream has ended, or the receive alone.
    fn on_end(&mut self, cx: &mut Context<I>, slot: Slot, completion: &Completion) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        connection.receiving = completion.more();
        let why = |error: &io::Error| cx.io.why(&connection.socket, error);
        if let Some(why) = end_of_stream(completion, why) {
            self.close_link(cx, slot, &why, None);
        }
        if !completion.more() {
            self.after_receive(cx, slot);
        }
    }

    fn on_first_bytes(&mut self, cx: &mut Context<I>, slot: Slot, mut bytes: &[u8]) {
        let now_ns = cx.awake_ns;
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        match &mut connection.stage {
            Stage::Detecting {
                detector,
                first_byte_ns,
                last_byte_ns,
            } => {
                first_byte_ns.get_or_insert(now_ns);
                *last_byte_ns = now_ns;
                let found = detector.feed(&mut bytes);
                self.on_detection(cx, slot, found, bytes);
            }
            Stage::Greeting { .. } => self.on_greeting(cx, slot, bytes),
            Stage::Leaving { hand_over, .. } => hand_over.unread.extend_from_slice(bytes),
            Stage::Up | Stage::Settling | Stage::Closing => {}
        }
    }

    /// The receive has ended: go on as the stage demands.
    fn after_receive(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        match connection.stage {
            Stage::Detecting { .. } | Stage::Greeting { .. } => self.receive_once(cx, slot),
            Stage::Leaving { .. } => self.hand_over(cx, slot),
            Stage::Up => {
                connection.receiving = true;
                let token = token(Kind::LinkReceive, slot);
                cx.io.receive(&connection.socket, Group::Control, token);
            }
            Stage::Settling | Stage::Closing => self.reap(cx, slot),
        }
    }

    /// Another shard accepted a connection that belongs here.
    pub(crate) fn on_hand_over(&mut self, cx: &mut Context<I>, hand_over: HandOver<I::Socket>) {
        let HandOver {
            socket,
            sink,
            name,
            instance,
            weight,
            window,
            unread,
        } = hand_over;
        let certificate = cx.certificate_of(&socket);
        let address = Arc::clone(&name);
        let slot = self.insert_connection(cx, socket, Stage::Settling, address, certificate);
        let facts = HandOverFacts {
            sink,
            name,
            instance,
            weight,
            window,
            unread,
        };
        self.bring_up(cx, slot, facts);
        self.after_receive(cx, slot);
    }
}

/// Why a receive that brought nothing means the end, if it does.
fn end_of_stream(completion: &Completion, words: impl Fn(&io::Error) -> String) -> Option<String> {
    match completion.count() {
        Ok(_) => Some("closed by the analyzer".to_owned()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => None,
            _ => Some(words(&error)),
        },
    }
}
