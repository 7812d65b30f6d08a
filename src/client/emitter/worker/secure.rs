//! Handshakes of TLS: a connection is open once its distributor has shown who it is, and lets this side in.

use super::{State, Worker};
use crate::socket::Socket;
use std::time::{Duration, Instant};

/// Longest handshake of TLS: as long as a distributor waits for it.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

impl Worker {
    /// TCP is done.
    pub(super) fn secure(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(Socket::Plain(socket)) = connection.socket.take() else {
            return;
        };
        let host = connection
            .addr
            .and_then(|addr| self.addresses.host_of(addr));
        connection.state = State::Securing;
        match Socket::begin(socket, self.tls.as_ref(), host.as_deref()) {
            Ok(socket) => connection.socket = Some(socket),
            Err(error) => return self.broken(index, &error),
        }
        let until = Instant::now() + HANDSHAKE_PATIENCE;
        let attempt = connection.attempts;
        self.securing_until.push_back((until, index, attempt));
        self.handle_securing(index);
    }

    /// Goes on with a handshake.
    pub(super) fn handle_securing(&mut self, index: usize) {
        let socket = self.connections[index].socket.as_mut();
        let Some(stream) = socket.and_then(Socket::secured) else {
            return;
        };
        match stream.progress() {
            Ok(true) => self.opened(index),
            Ok(false) => {}
            Err(error) => self.broken(index, &error),
        }
    }

    /// Gives up handshakes that take too long; goes on with those whose server says nothing more.
    pub(super) fn check_handshakes(&mut self, now: Instant) {
        while let Some((until, index, attempt)) = self.securing_until.front().copied() {
            let connection = &self.connections[index];
            let is_over = connection.state != State::Securing || connection.attempts != attempt;
            if !is_over && now < until {
                break;
            }
            self.securing_until.pop_front();
            if !is_over {
                self.broken(index, &weir_tls::timed_out(HANDSHAKE_PATIENCE));
            }
        }
        for at in 0..self.securing_until.len() {
            let (_, index, attempt) = self.securing_until[at];
            let connection = &mut self.connections[index];
            let is_under_way =
                connection.state == State::Securing && connection.attempts == attempt;
            let stream = connection.socket.as_mut().and_then(Socket::secured);
            if is_under_way && stream.is_some_and(|stream| stream.is_ready()) {
                self.opened(index);
            }
        }
    }
}
