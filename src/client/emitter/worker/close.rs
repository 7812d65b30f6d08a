//! How a thread ends: what is encoded still goes out, and its end is confirmed, or all of it is ACKed.

use super::{Worker, LEAVE_CHECK_EVERY, POLL_MAX};
use std::io;
use std::time::Duration;
use weir_clock::Limit;

/// After the end: without progress for this long, the peer is taken to be stuck.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

impl Worker {
    /// Writes what is encoded, then half-closes and waits for the peer to close: only then has it
    /// read everything.
    pub(super) fn close_all(&mut self) -> io::Result<()> {
        let mut limit = Limit::new(CLOSE_PATIENCE);
        let mut last_left = u64::MAX;
        loop {
            let mut left = 0;
            for connection in &mut self.connections {
                if connection.can_write() {
                    connection.shut_down();
                }
                let is_open = connection.is_open();
                left += u64::from(is_open) + connection.unsent_messages() * u64::from(is_open);
            }
            if left == 0 {
                return Ok(());
            }
            if left < last_left {
                (last_left, limit) = (left, Limit::new(CLOSE_PATIENCE));
            }
            if limit.is_over() {
                return Ok(());
            }
            self.handle_events(Some(if self.leaving.is_empty() {
                POLL_MAX
            } else {
                LEAVE_CHECK_EVERY
            }))?;
            self.check_peers();
            self.check_leaving();
        }
    }

    /// Waits for the ACKs of all that was sent, on another connection where one breaks.
    pub(super) fn close_acked(&mut self) -> io::Result<()> {
        let mut limit = Limit::new(CLOSE_PATIENCE);
        let mut last_left = u64::MAX;
        self.is_closing = true;
        loop {
            self.start_connecting()?;
            self.check_peers();
            self.check_leaving();
            let mut left = 0;
            for connection in &mut self.connections {
                let unacked = connection.unacked_messages();
                if unacked == 0 && connection.is_open() {
                    connection.close();
                }
                left += unacked;
            }
            if left == 0 || limit.is_over() {
                return Ok(());
            }
            if left < last_left {
                (last_left, limit) = (left, Limit::new(CLOSE_PATIENCE));
            }
            self.handle_events(Some(LEAVE_CHECK_EVERY))?;
        }
    }
}
