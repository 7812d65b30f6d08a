//! Emitters that are not read to their end: whose frames take too long or too much, and who is gone while nobody
//! takes messages.
//!
//! ```text
//! nobody takes messages -> receive memory is full -> receives end, their sockets are not watched
//!   a few times a second, of those   broken or ended, nothing unread   closed
//!                                    broken, something unread          closed when its place is wanted
//!                                    ended, something unread           kept: the peer believes that all is well
//! ```

use super::Intake;
use crate::context::Context;
use crate::port::{Io, Left};

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

    /// Frames that take too long to arrive.
    pub(crate) fn check_frames(&mut self, cx: &mut Context<I>) {
        self.check_headers(cx);
        self.take_quiet(cx);
        let limit = cx.config.frame_timeout.as_nanos();
        cx.engine
            .evict_overdue(u64::try_from(limit).unwrap_or(u64::MAX));
        self.close_evicted(cx);
    }
}
