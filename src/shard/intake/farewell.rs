//! Emitters that are asked to go: at their age, and at SIGTERM.
//!
//! What they send after that is read: at their age without a limit, at SIGTERM until the graceful close is over.

use std::net::Shutdown;
use std::time::Duration;

use super::Intake;
use crate::context::Context;
use crate::farewell::{Spread, Turn};
use crate::port::Io;
use crate::slab::Slot;

/// Connections whose age is looked at in one housekeeping, at least; of more a tenth, so that each is looked at
/// once a second.
const LOOKS: usize = 1024;
const LOOKS_PART: usize = 10;

impl<I: Io> Intake<I> {
    /// Asks an emitter to finish and close, once; what it sends until then is read. Who is answered gets a word for
    /// that, and its answers behind it.
    pub(super) fn bid_farewell(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        if emitter.socket.is_none() || emitter.is_dismissed {
            return;
        }
        emitter.is_dismissed = true;
        cx.engine.counters.farewells += 1;
        if self.say_farewell(cx, slot) {
            return;
        }
        if cx.engine.is_answered(slot.index()) {
            self.leave(cx, slot);
            return;
        }
        let emitter = self.table.get(slot);
        if let Some(socket) = emitter.and_then(|emitter| emitter.socket.as_ref()) {
            cx.io.shutdown(socket, Shutdown::Write);
        }
    }

    /// All of them are asked to go, evenly over a time.
    pub(crate) fn begin_farewells(&mut self, cx: &mut Context<I>, time: Duration) {
        self.spread = Some(Spread::new(self.table.len(), time, cx.awake_ns));
        self.go_on_with_farewells(cx);
    }

    /// Those whose turn it is.
    pub(crate) fn go_on_with_farewells(&mut self, cx: &mut Context<I>) {
        let Some(mut spread) = self.spread.take() else {
            return;
        };
        loop {
            match spread.next(&self.table, cx.awake_ns) {
                Turn::Of(slot) => self.bid_farewell(cx, slot),
                Turn::Later => {
                    self.spread = Some(spread);
                    return;
                }
                Turn::Over => return,
            }
        }
    }

    /// Those that are as old as they may become are asked to go.
    pub(crate) fn look_at_ages(&mut self, cx: &mut Context<I>) {
        let limit = cx.live.max_connection_age;
        let places = self.table.places();
        if limit.is_zero() || places == 0 {
            return;
        }
        for _ in 0..(places / LOOKS_PART).max(LOOKS).min(places) {
            self.next_age = (self.next_age + 1) % places;
            let Some(slot) = self.table.slot_at(self.next_age) else {
                continue;
            };
            let emitter = self.table.get(slot);
            let is_over = emitter.is_some_and(|emitter| {
                !emitter.is_dismissed && emitter.age.is_over(limit, cx.awake_ns)
            });
            if is_over {
                cx.engine.counters.farewells_at_age += 1;
                self.bid_farewell(cx, slot);
            }
        }
    }
}
