//! Connections whose first bytes may be several protocols': they are waited for [`WAIT_NS`], then what is there decides.
//!
//! A connection that has sent nothing is no such one: it may stay silent for as long as it likes.

use super::{First, Intake};
use crate::context::Context;
use crate::inputs::Taken;
use crate::port::Io;
use crate::slab::Slot;

/// How long more first bytes are waited for, where those that came could be several protocols'.
const WAIT_NS: u64 = 1_000_000_000;

impl<I: Io> Intake<I> {
    /// Bytes were taken of a connection that had not said what it speaks.
    #[cold]
    pub(super) fn note_first(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if !cx.engine.is_undecided(slot.index()) {
            emitter.first = First::Told;
        } else if emitter.first == First::Unheard {
            emitter.first = First::Several;
            self.undecided.push_back((slot, cx.awake_ns));
        }
    }

    /// Those that were waited for long enough.
    pub(crate) fn settle_undecided(&mut self, cx: &mut Context<I>) {
        while let Some((slot, since_ns)) = self.undecided.front().copied() {
            let is_over = cx.awake_ns.saturating_sub(since_ns) >= WAIT_NS;
            if !is_over || !self.settle(cx, slot) {
                return;
            }
            self.undecided.pop_front();
        }
    }

    /// What is there decides. False: no lane can take what it turns out to be.
    pub(super) fn settle(&mut self, cx: &mut Context<I>, slot: Slot) -> bool {
        let Some(emitter) = self.table.get(slot) else {
            return true;
        };
        if emitter.first == First::Told || emitter.rejected || emitter.pending > 0 {
            return true;
        }
        let (input, before) = (emitter.input, Taken::of(&cx.engine.counters));
        if cx.engine.asks_whence() {
            self.say_whence(cx, slot);
        }
        let ingested = cx.engine.decide_now(slot.index());
        self.inputs[input].take(before, &cx.engine.counters);
        let is_taken = self.on_ingested(cx, slot, ingested).is_none();
        self.close_evicted(cx);
        is_taken
    }
}
