//! A connection whose messages are ACKed.

use super::super::acked::Heard;
use super::{Connection, Farewell, State, Wrote};
use crate::shapes::SeverityCounts;
use std::io;
use std::time::{Duration, Instant};

/// After this side is shut down: how long the last ACKs may take.
const LAST_ACKS_PATIENCE: Duration = Duration::from_secs(10);

impl Connection {
    /// Of an acked link: HELLO, and batches as far as the window goes; without `begins` only the rest of one.
    pub(super) fn flush_acked(&mut self, begins: bool, sent: &mut SeverityCounts) -> Wrote {
        let (Some(acked), Some(socket)) = (&mut self.acked, &mut self.socket) else {
            return Wrote::Broken(io::ErrorKind::NotConnected.into());
        };
        let written = match acked.write(socket, begins, sent) {
            Ok(written) => written,
            Err(error) => return Wrote::Broken(error),
        };
        self.messages += written.messages;
        self.messages_here += written.messages;
        self.bytes += written.bytes;
        let is_blocked = written.is_blocked;
        self.note_held(is_blocked);
        match is_blocked {
            true => Wrote::Blocked,
            false => Wrote::All,
        }
    }

    /// Time without a WELCOME, room in the window, in the memory or in the socket is time that it could not write.
    pub(super) fn note_held(&mut self, is_blocked: bool) {
        match is_blocked || self.acked.as_ref().is_some_and(|acked| acked.is_held()) {
            true => {
                self.blocked_since.get_or_insert_with(Instant::now);
            }
            false => self.unblocked(),
        }
    }

    /// It is open, and its distributor has not said WELCOME: whatever is there has not taken it in.
    pub fn awaits_welcome(&self) -> bool {
        let acked = self.acked.as_ref();
        self.state == State::Open && acked.is_some_and(|acked| acked.awaits_welcome())
    }

    /// Takes what came on an acked link.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(acked) = &mut self.acked else {
            return Ok(());
        };
        match acked.heard(bytes)? {
            Heard::Nothing => {}
            Heard::Drain => self.is_asked_to_go = true,
        }
        // What the socket did not take is looked at when it is written.
        if !acked.is_held() && !acked.wants_to_write() {
            self.unblocked();
        }
        Ok(())
    }

    /// The same of an acked link: the batch in hand, then ACKs until there are no more. What has none goes to
    /// another distributor.
    pub(super) fn leave_acked(&mut self, now: Instant, sent: &mut SeverityCounts) -> Farewell {
        let is_late = self.leave_by.is_some_and(|by| now >= by);
        let is_within = |it: &Self| {
            it.acked
                .as_ref()
                .is_some_and(|acked| acked.is_within_batch())
        };
        if is_within(self) && !self.is_peer_done {
            match self.flush_acked(false, sent) {
                Wrote::Broken(error) => return Farewell::Broken(error),
                Wrote::Blocked if is_late => {
                    let why = "the distributor asked to go and reads no more";
                    return Farewell::Broken(io::Error::other(why));
                }
                Wrote::Blocked => return Farewell::Pending,
                Wrote::All => {}
            }
        }
        if !self.is_shut {
            self.shut_write_side();
            self.leave_by = Some(now + LAST_ACKS_PATIENCE);
        }
        let is_acked = self.acked.as_ref().is_none_or(|acked| !acked.has_open());
        if is_acked || self.is_peer_done || is_late {
            self.rest();
            return Farewell::Gone;
        }
        Farewell::Pending
    }
}
