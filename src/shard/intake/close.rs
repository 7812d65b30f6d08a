//! Emitters' places, and how their connections end.

use std::net::Shutdown;
use std::sync::atomic::Ordering;

use super::{Emitter, Intake};
use crate::admission::ListenerKind;
use crate::certified::in_words;
use crate::context::Context;
use crate::inputs::{Taken, EMITTERS};
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::{Evicted, Ingest, Reason};
use weir_protocol::text::Time;

/// Emitters without a place whose last chunks wait to be taken in, about 10 MB. Beyond, they keep their places.
const GONE_MAX: usize = 65_536;

impl<I: Io> Intake<I> {
    /// A place among all connections, and among those of its input; a broken one makes room if there is none.
    pub(super) fn take_place(&mut self, cx: &mut Context<I>, input: usize) -> bool {
        let most = cx.config.connections_max;
        while cx.shared.emitters.fetch_add(1, Ordering::Relaxed) >= most {
            cx.shared.emitters.fetch_sub(1, Ordering::Relaxed);
            if !self.forget_broken(cx, |_| true) {
                self.say_full(cx, input, most, "--max-connections");
                return false;
            }
        }
        while !cx.shared.places()[input].enter() {
            if !self.forget_broken(cx, |emitter| emitter.input == input) {
                cx.shared.emitters.fetch_sub(1, Ordering::Relaxed);
                let most = cx.shared.places()[input].connections_max();
                self.say_full(cx, input, most, "max_connections of this input");
                return false;
            }
        }
        true
    }

    /// The first time that somebody is refused for want of a place.
    fn say_full(&self, cx: &Context<I>, input: usize, most: usize, limit: &str) {
        let refused = &self.inputs[input].refused;
        if !refused
            .iter()
            .any(|(reason, _)| *reason == Reason::ConnectionLimit)
        {
            let (shard, at) = (cx.index, at_input(cx, input));
            log::warn!("shard {shard}: emitter{at} refused: {most} are connected ({limit})");
        }
    }

    /// The socket of this emitter is closed; what it has sent may still wait to be taken in. Somebody else may
    /// come.
    fn give_place_back(&mut self, cx: &mut Context<I>, slot: Slot) {
        let gone = self.table.len() - self.placed;
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if !emitter.has_place || (emitter.pending > 0 && gone >= GONE_MAX) {
            return;
        }
        emitter.has_place = false;
        self.placed -= 1;
        self.inputs[emitter.input].connections -= 1;
        leave_place(cx, emitter.input);
        if let Some(customer) = emitter.counted {
            cx.shared.admission.leave(ListenerKind::Emitters, customer);
        }
    }

    /// Closes the broken connection that was found first, of these addresses; what it had sent is lost. False:
    /// there is none.
    pub(super) fn forget_broken(
        &mut self,
        cx: &mut Context<I>,
        is_wanted: impl Fn(&Emitter<I::Socket>) -> bool,
    ) -> bool {
        let emitters = &self.table;
        let found = self.broken.iter().position(|slot| {
            let emitter = emitters.get(*slot);
            emitter.is_some_and(|emitter| emitter.has_place && is_wanted(emitter))
        });
        let Some(slot) = found.and_then(|index| self.broken.remove(index)) else {
            return false;
        };
        cx.engine.counters.count(Reason::ResetUnread);
        if let Some(emitter) = self.table.get_mut(slot) {
            emitter.ended = true;
            self.inputs[emitter.input].refuse(Reason::ResetUnread);
        }
        self.close_if_finished(cx, slot);
        true
    }

    /// The peer broke the protocol: whole messages before are kept, the rest is not read.
    pub(super) fn reject(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        kind: &'static str,
        why: &str,
    ) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        let socket = emitter.socket.as_ref();
        let peer = emitter.address(cx);
        let name = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let name = name + &in_words(emitter.certificate.as_deref());
        let address = peer.map(|peer| peer.ip());
        let input = &cx.shared.places()[emitter.input].name;
        if let Some(tail) = cx.shared.notice(input, address, kind, cx.now_ns) {
            let at = at_input(cx, emitter.input);
            log::warn!("shard {}: emitter {name}{at} closed: {why}{tail}", cx.index);
        }
        // Ends the receive, and that closes the connection.
        if let Some(socket) = socket {
            cx.io.shutdown(socket, Shutdown::Both);
        }
        emitter.ended = true;
        emitter.rejected = true;
    }

    /// Closes whose partial frame had to go.
    pub(super) fn close_evicted(&mut self, cx: &mut Context<I>) {
        while let Some(Evicted { emitter, reason }) = cx.engine.next_evicted() {
            let Some(slot) = self.table.slot_at(emitter) else {
                continue;
            };
            let why = match reason {
                Reason::FrameTimeout => {
                    let limit = Time(cx.config.frame_timeout);
                    format!("a frame has not arrived whole within {limit} (--frame-timeout)")
                }
                _ => {
                    let limit = cx.config.partial_bytes_max;
                    format!("others need room, and of the {limit} bytes for partial frames (--partial-bytes) its own has taken most for longest")
                }
            };
            self.refuse(slot, reason);
            self.reject(cx, slot, reason.as_str(), &why);
            self.close_if_finished(cx, slot);
        }
    }

    /// The source of a stream that has ended as streams do hears of it, once. False: its last element waits for a lane.
    fn end_stream(&mut self, cx: &mut Context<I>, slot: Slot) -> bool {
        let Some(emitter) = self.table.get_mut(slot) else {
            return true;
        };
        if !emitter.has_eof || emitter.pending > 0 || emitter.rejected || emitter.is_over {
            return true;
        }
        if !self.settle(cx, slot) {
            self.ending.push_back(slot);
            return false;
        }
        let emitter = self.table.get(slot);
        let Some(emitter) = emitter.filter(|it| !it.rejected && it.pending == 0) else {
            return true;
        };
        let (input, before) = (emitter.input, Taken::of(&cx.engine.counters));
        if cx.engine.asks_whence() {
            self.say_whence(cx, slot);
        }
        let ended = cx.engine.emitter_ended(slot.index());
        self.inputs[input].take(before, &cx.engine.counters);
        if let Ingest::Stalled { .. } = ended {
            self.ending.push_back(slot);
            return false;
        }
        if let Some(emitter) = self.table.get_mut(slot) {
            emitter.has_eof = false;
        }
        true
    }

    pub(super) fn close_if_finished(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if !emitter.ended || emitter.receiving {
            return;
        }
        if !self.end_stream(cx, slot) || self.is_still_answered(cx, slot) {
            return;
        }
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if emitter.socket.is_some() {
            self.say_certified(cx, slot, "down");
        }
        if let Some(emitter) = self.table.get_mut(slot) {
            emitter.socket = None;
        }
        self.give_place_back(cx, slot);
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if emitter.pending == 0 {
            let input = emitter.input;
            let has_sent = emitter.rejected || emitter.is_broken;
            if !has_sent && !cx.engine.emitter_was_heard(slot.index()) {
                self.inputs[input].refuse(Reason::Probe);
                cx.engine.counters.count(Reason::Probe);
            }
            cx.engine.emitter_closed(slot.index());
            let gone = self.table.remove(slot);
            self.answered -= usize::from(gone.is_some_and(|gone| gone.answers.is_some()));
        }
    }
}

/// Somebody else may come in place of a connection of this input.
pub(super) fn leave_place<I: Io>(cx: &Context<I>, input: usize) {
    cx.shared.emitters.fetch_sub(1, Ordering::Relaxed);
    cx.shared.places()[input].leave();
}

/// Behind the word emitter in a line of the log: which input, if it is not the port of `--emitters`.
fn at_input<I: Io>(cx: &Context<I>, input: usize) -> String {
    match input {
        EMITTERS => String::new(),
        _ => format!(" of input {}", cx.shared.places()[input].name),
    }
}
