//! Senders that wait for an ACK wait for so long and no longer; then they send again what is on its way already, and an
//! overload doubles. So nothing is taken in that would be answered too late: while ACKs take long, their place is not
//! read from, and they wait in their sockets, which costs them nothing.
//!
//! ```text
//! ACKs take a quarter of the deadline   no connection of the place is read from
//!           an eighth                   all are read from again
//! ```
//!
//! A quarter, because what is seen lags: in an overload of two to one what comes now waits twice as long as what is
//! ACKed now, and half of the deadline is for what is read already and for the way.

use super::{Emitter, Intake};
use crate::context::Context;
use crate::port::Io;
use crate::slab::Slot;
use weir_engine::Reason;
use weir_source::AckMode;

impl<I: Io> Intake<I> {
    /// Looks how long ACKs take, and who is not read from because of that.
    pub(crate) fn look_at_deadlines(&mut self, cx: &mut Context<I>) {
        let shared = cx.shared.clone();
        let places = shared.places();
        let deadline_ns = |index: usize| match places[index].port.ack {
            AckMode::Acked => places[index].port.deadline_ns,
            AckMode::Received => 0,
        };
        if (0..self.late.len()).all(|index| deadline_ns(index) == 0) {
            return;
        }
        let pace_ns = cx.engine.ack_pace_ns(cx.awake_ns);
        for index in 0..self.late.len() {
            let deadline_ns = deadline_ns(index);
            let is_late = match self.late[index] {
                false => deadline_ns > 0 && pace_ns >= deadline_ns / 4,
                true => pace_ns >= deadline_ns / 8,
            };
            if is_late != self.late[index] {
                self.late[index] = is_late;
                self.set_late(cx, index, is_late);
            }
        }
    }

    /// Whether the place of an emitter is not read from.
    pub(super) fn is_late(&self, slot: Slot) -> bool {
        let emitter = self.table.get(slot);
        emitter.is_some_and(|emitter| self.late[emitter.input])
    }

    fn set_late(&mut self, cx: &mut Context<I>, input: usize, is_late: bool) {
        if is_late {
            self.count(cx, input, Reason::AcksLate);
        }
        let of_input = |emitter: &Emitter<I::Socket>| emitter.input == input;
        let emitters = self.table.iter();
        let emitters = emitters.filter(|(_, emitter)| of_input(emitter));
        let slots: Vec<Slot> = emitters.map(|(slot, _)| slot).collect();
        for slot in slots {
            match is_late {
                true => self.hold(cx, slot),
                false => self.go_on_reading(cx, slot),
            }
        }
    }
}
