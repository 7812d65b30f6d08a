//! Emitters that wait for their next turn: what they have packed, or a unit that was held whole, is more than the work of
//! one (`engine/unpacking.rs`). Others go on meanwhile.
//!
//! ```text
//! engine.ingest -> held: not read from                                          -> waiting, in a round
//!                    `-> queued: it is large, and another's large part is there -> queued, in order
//! each turn, first of all: those that wait, as long as work is left of it
//! ```
//!
//! First of all, because who comes new in each turn would take all of its work otherwise.

use std::collections::VecDeque;

use super::Intake;
use crate::context::Context;
use crate::inputs::Taken;
use crate::port::Io;
use crate::slab::{bare, token, Kind, Slot};

/// Who waits for a turn.
#[derive(Default)]
pub(super) struct Turns {
    waiting: VecDeque<Slot>,
    queued: VecDeque<Slot>,
}

impl<I: Io> Intake<I> {
    /// Emitters wait for a turn.
    pub(crate) fn has_turns(&self) -> bool {
        !self.turns.waiting.is_empty() || !self.turns.queued.is_empty()
    }

    /// An emitter waits for its next turn. Until then it is not read from.
    pub(super) fn wait_for_turn(&mut self, cx: &mut Context<I>, slot: Slot, is_queued: bool) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        emitter.is_waiting = true;
        emitter.pending += 1;
        if emitter.receiving {
            cx.io
                .cancel(token(Kind::EmitterReceive, slot), bare(Kind::Cancel));
        }
        match is_queued {
            true => self.turns.queued.push_back(slot),
            false => self.turns.waiting.push_back(slot),
        }
    }

    /// A turn begins.
    #[inline]
    pub(super) fn take_turns(&mut self, cx: &mut Context<I>) {
        cx.engine.begin_turn();
        if self.has_turns() {
            self.take_some_turns(cx);
        }
    }

    #[cold]
    fn take_some_turns(&mut self, cx: &mut Context<I>) {
        if !cx.engine.is_unpacking() {
            if let Some(slot) = self.turns.queued.pop_front() {
                self.turns.waiting.push_front(slot);
            }
        }
        for _ in 0..self.turns.waiting.len() {
            let may_go_on = self.pending.is_empty() && cx.engine.has_turn();
            if !may_go_on || !cx.engine.can_ingest() {
                return;
            }
            if let Some(slot) = self.turns.waiting.pop_front() {
                self.take_turn(cx, slot);
            }
        }
    }

    /// An emitter goes on with what it has sent.
    fn take_turn(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        emitter.is_waiting = false;
        emitter.pending -= 1;
        if !emitter.is_unread() {
            let (input, before) = (emitter.input, Taken::of(&cx.engine.counters));
            if cx.engine.asks_whence() {
                self.say_whence(cx, slot);
            }
            let ingested = cx.engine.ingest(slot.index(), &[]);
            self.inputs[input].take(before, &cx.engine.counters);
            if self.on_ingested(cx, slot, ingested).is_some() {
                // No lane took it.
                self.wait_for_turn(cx, slot, false);
            }
            self.close_evicted(cx);
        }
        self.end_of_turn(cx, slot);
    }

    /// It is read from again, or goes, if nothing of it waits any more.
    fn end_of_turn(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if emitter.is_waiting {
            return;
        }
        if emitter.is_leaving {
            self.leave(cx, slot);
        } else if !emitter.ended && !emitter.receiving && !emitter.is_paused() {
            self.rearm.push_back(slot);
        }
        self.close_if_finished(cx, slot);
    }
}
