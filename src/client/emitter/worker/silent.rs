//! Peers that do not answer: which are given up, and where their connections go next.

use super::{State, Worker};
use crate::peers;
use std::cmp::Reverse;
use std::io;
use std::time::{Duration, Instant};

/// Who takes an acked connection and has not said WELCOME by then is left for another one; a peer timeout if that is
/// less. Nothing was sent to it, so nothing is lost by going.
const WELCOME_PATIENCE: Duration = Duration::from_secs(3);

impl Worker {
    /// Gives up handshakes that take too long, and open connections whose host is silent.
    pub(super) fn check_peers(&mut self) {
        let now = Instant::now();
        self.check_welcomes(now);
        self.check_handshakes(now);
        while let Some((until, index, attempt)) = self.connecting_until.front().copied() {
            let connection = &self.connections[index];
            let is_over = connection.state != State::Connecting || connection.attempts != attempt;
            if !is_over && now < until {
                break;
            }
            self.connecting_until.pop_front();
            if !is_over {
                let why = "no answer to the request to connect";
                self.broken(index, &io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        let version = self.peers.version();
        if version == std::mem::replace(&mut self.peers_version, version) {
            return;
        }
        let (look, patience) = (self.peers.newest(), self.peers.patience());
        for index in 0..self.connections.len() {
            let peer = self.connections[index].peer.as_mut();
            if peer.is_some_and(|peer| peer.is_gone(&look, patience)) {
                self.broken(index, &peers::gone(patience));
            }
        }
    }

    fn check_welcomes(&mut self, now: Instant) {
        while let Some((until, index, attempt)) = self.welcome_until.front().copied() {
            let connection = &self.connections[index];
            let is_over = !connection.awaits_welcome() || connection.attempts != attempt;
            if !is_over && now < until {
                break;
            }
            self.welcome_until.pop_front();
            if !is_over {
                self.report.welcome_timeouts += 1;
                let seconds = self.welcome_patience().as_secs_f64();
                let why = format!(
                    "it took the connection and did not say WELCOME within {seconds} s: it is no distributor, or it \
                     takes nothing in (no analyzers, or they are full)"
                );
                self.broken(index, &io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }

    /// How long a WELCOME may take.
    pub(super) fn welcome_patience(&self) -> Duration {
        WELCOME_PATIENCE.min(self.peers.patience())
    }

    /// Its connection cannot be made, or broke: it waits for another attempt, or goes to another address at once.
    pub(super) fn broken(&mut self, index: usize, error: &io::Error) {
        let connection = &mut self.connections[index];
        let was = connection.state;
        let was_open = connection.is_open();
        let was_taken_in = was_open && !connection.awaits_welcome();
        self.connecting -= usize::from(matches!(was, State::Connecting | State::Securing));
        self.report.broken += u64::from(was_open);
        self.report.answered += u64::from(connection.is_answered);
        let breakage = connection.broke();
        self.report.lost_max += breakage.lost_max;
        self.report.resent += breakage.resent;
        self.addresses.ask();
        let addr = connection.addr;
        if let Some(addr) =
            addr.filter(|_| !was_taken_in || error.kind() == io::ErrorKind::TimedOut)
        {
            connection.tried += 1;
            if self.addresses.failed(addr, connection.tried) && !was_taken_in {
                if was_open && !std::mem::replace(&mut self.has_warned, true) {
                    log::warn!("{addr}: {error}; the next address");
                } else {
                    log::debug!("connection to {addr} cannot be made: {error}; the next address");
                }
                self.waiting.push(Reverse((Instant::now(), index)));
                return;
            }
        }
        connection.tried = 0;
        self.untried -= usize::from(!std::mem::replace(&mut connection.was_tried, true));
        self.connect_later(index);
        if !std::mem::replace(&mut self.has_warned, true) {
            let addr = addr.map_or_else(|| self.addresses.text(), |addr| addr.to_string());
            let what = match was_open {
                false => "cannot be made",
                true => "broke",
            };
            log::warn!("connection to {addr} {what}: {error}; connecting again with back-off");
        }
    }
}
