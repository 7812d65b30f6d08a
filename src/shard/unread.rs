//! Emitters that are not read to their end: whose frames take too long or too much, and who is gone while nobody
//! takes messages.
//!
//! ```text
//! nobody takes messages -> receive memory is full -> receives end, their sockets are not watched
//!   a few times a second, of those   broken or ended, nothing unread   closed
//!                                    broken, something unread          closed when its place is wanted
//!                                    ended, something unread           kept: the peer believes that all is well
//! ```

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::admission::Door;
use super::port::Io;
use super::slab::Slot;
use super::worker::Worker;
use crate::port::Left;
use weir_engine::{Evicted, Reason};
use weir_protocol::text::Time;

/// Sockets that are looked at in one turn: a system call each.
const LOOKS: usize = 1024;
/// Emitters without a place whose last chunks wait to be taken in, about 10 MB. Beyond, they keep their places.
const GONE_MAX: usize = 65_536;

impl<I: Io> Worker<I> {
    /// A place among all connections; a broken one makes room if there is none.
    pub(super) fn take_place(&mut self) -> bool {
        let most = self.config.connections_max;
        while self.shared.emitters.fetch_add(1, Ordering::Relaxed) >= most {
            self.shared.emitters.fetch_sub(1, Ordering::Relaxed);
            if !self.forget_broken(|_| true) {
                return false;
            }
        }
        true
    }

    /// The socket of this emitter is closed; what it has sent may still wait to be taken in. Somebody else may
    /// come.
    pub(super) fn give_place_back(&mut self, slot: Slot) {
        let gone = self.emitters.len() - self.emitters_placed;
        let Some(emitter) = self.emitters.get_mut(slot) else {
            return;
        };
        if !emitter.has_place || (emitter.pending > 0 && gone >= GONE_MAX) {
            return;
        }
        emitter.has_place = false;
        self.emitters_placed -= 1;
        self.shared.emitters.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = emitter.counted {
            self.shared.admission.leave(Door::Emitters, address);
        }
    }

    /// Looks at sockets that nobody reads from.
    pub(super) fn look_at_unread(&mut self) {
        for _ in 0..self.rearm.len().min(LOOKS) {
            let Some(slot) = self.rearm.pop_front() else {
                return;
            };
            let Some(emitter) = self.emitters.get_mut(slot) else {
                continue;
            };
            let socket = emitter.socket.as_ref().filter(|_| !emitter.ended);
            match socket.map(|socket| self.io.left_of(socket)) {
                Some(Left::Nothing) => {
                    emitter.ended = true;
                    self.close_if_finished(slot);
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

    /// Closes the broken connection that was found first, of these addresses; what it had sent is lost. False:
    /// there is none.
    pub(super) fn forget_broken(&mut self, is_wanted: impl Fn(Option<IpAddr>) -> bool) -> bool {
        let emitters = &self.emitters;
        let found = self.broken.iter().position(|slot| {
            let emitter = emitters.get(*slot);
            emitter.is_some_and(|emitter| emitter.has_place && is_wanted(emitter.counted))
        });
        let Some(slot) = found.and_then(|index| self.broken.remove(index)) else {
            return false;
        };
        self.engine.counters.count(Reason::ResetUnread);
        if let Some(emitter) = self.emitters.get_mut(slot) {
            emitter.ended = true;
        }
        self.close_if_finished(slot);
        true
    }

    /// Frames that take too long to arrive.
    pub(super) fn check_frames(&mut self) {
        let limit = self.config.frame_timeout.as_nanos();
        self.engine
            .evict_overdue(u64::try_from(limit).unwrap_or(u64::MAX));
        self.close_evicted();
    }

    /// Closes whose partial frame had to go.
    pub(super) fn close_evicted(&mut self) {
        while let Some(Evicted { emitter, reason }) = self.engine.next_evicted() {
            let Some(slot) = self.emitters.slot_at(emitter) else {
                continue;
            };
            let why = match reason {
                Reason::FrameTimeout => {
                    let limit = Time(self.config.frame_timeout);
                    format!("a frame has not arrived whole within {limit} (--frame-timeout)")
                }
                _ => {
                    let limit = self.config.partial_bytes_max;
                    format!("others need room, and of the {limit} bytes for partial frames (--partial-bytes) its own has taken most for longest")
                }
            };
            self.reject(slot, reason.as_str(), &why);
            self.close_if_finished(slot);
        }
    }
}
