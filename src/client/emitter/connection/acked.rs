//! A connection whose messages are ACKed.

use super::super::acked::Heard;
use super::{Connection, Farewell, Wrote};
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
        if written.is_blocked || !acked.has_room() {
            self.blocked_since.get_or_insert_with(Instant::now);
        } else {
            self.unblocked();
        }
        match written.is_blocked {
            true => Wrote::Blocked,
            false => Wrote::All,
        }
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
