//! Emitters that are not read to their end: whose frames take too long or too much, and who is gone while nobody
//! takes messages.
//!
//! ```text
//! nobody takes messages -> receive memory is full -> receives end, their sockets are not watched
//!   a few times a second, of those   broken or ended, nothing unread   closed
//!                                    broken, something unread          closed when its place is wanted
//!                                    ended, something unread           kept: the peer believes that all is well
//! an emitter is held (it has as much un-ACKed as it may, or ACKs are late for it) -> its socket is not watched
//!   once a second                    broken or ended, nothing unread   read from: there is its end and nothing else
//!                                    broken, something unread          closed: nothing of that was ACKed
//! ```

use super::Intake;
use crate::context::Context;
use crate::port::{Io, Left};
use crate::slab::Slot;
use weir_engine::Reason;

/// Sockets that are looked at in one turn: a system call each.
const LOOKS: usize = 1024;

impl<I: Io> Intake<I> {
    /// Looks at sockets that nobody reads from.
    pub(crate) fn look_at_unread(&mut self, cx: &mut Context<I>) {
        for _ in 0..self.rearm.len().min(LOOKS) {
            let Some(slot) = self.rearm.pop_front() else {
                return;
            };
            let Some(emitter) = self.table.get_mut(slot) else {
                continue;
            };
            let socket = emitter.socket.as_ref().filter(|_| !emitter.ended);
            match socket.map(|socket| cx.io.left_of(socket)) {
                Some(Left::Nothing) => {
                    emitter.ended = true;
                    self.close_if_finished(cx, slot);
                    continue;
                }
                Some(Left::Remains) if !emitter.is_broken => {
                    emitter.is_broken = true;
                    self.broken.push_back(slot);
                }
                _ => {}
            }
            self.rearm.push_back(slot);
        }
    }

    /// Looks at who is held: who is gone has no place.
    fn look_at_held(&mut self, cx: &mut Context<I>) {
        let emitters = self.table.iter();
        let held = emitters.filter(|(_, emitter)| {
            emitter.is_held && !emitter.ended && !emitter.receiving && !emitter.is_waiting
        });
        let held: Vec<Slot> = held.map(|(slot, _)| slot).collect();
        let first = self.next_held % held.len().max(1);
        self.next_held = first + LOOKS.min(held.len());
        for slot in held.iter().cycle().skip(first).take(LOOKS.min(held.len())) {
            self.look_at_one_held(cx, *slot);
        }
    }

    /// Who is held is not late: the rest of its frame may have come, and nobody reads it.
    fn excuse_held(&self, cx: &mut Context<I>) {
        let held = self.table.iter().filter(|(_, emitter)| emitter.is_held);
        for (slot, _) in held {
            cx.engine.restart_frame_time(slot.index());
        }
    }

    fn look_at_one_held(&mut self, cx: &mut Context<I>, slot: Slot) {
        let emitter = self.table.get_mut(slot);
        let Some((emitter, left)) = emitter.and_then(|emitter| {
            let left = cx.io.left_of(emitter.socket.as_ref()?);
            Some((emitter, left))
        }) else {
            return;
        };
        match left {
            Left::Open => {}
            Left::Nothing => {
                emitter.is_held = false;
                self.rearm.push_back(slot);
            }
            // Who waits for no ACKs is read to its end when it is held no more.
            Left::Remains if emitter.answers.is_none() => {}
            Left::Remains => {
                emitter.broke();
                self.count_unread(cx, slot);
                self.close_if_finished(cx, slot);
            }
        }
    }

    fn count_unread(&mut self, cx: &mut Context<I>, slot: Slot) {
        cx.engine.counters.count(Reason::ResetUnread);
        self.refuse(slot, Reason::ResetUnread);
    }

    /// Frames that take too long to arrive.
    pub(crate) fn check_frames(&mut self, cx: &mut Context<I>) {
        self.look_at_held(cx);
        self.excuse_held(cx);
        self.check_headers(cx);
        self.take_quiet(cx);
        let limit = cx.config.frame_timeout.as_nanos();
        cx.engine
            .evict_overdue(u64::try_from(limit).unwrap_or(u64::MAX));
        self.close_evicted(cx);
    }
}
