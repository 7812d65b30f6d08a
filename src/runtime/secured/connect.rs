//! Connections that the shard makes: its connect completes when TLS is established.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::accept::{Stage, Whose};
use super::requests::Request;
use super::socket::{Owner, Secured, Socket};
use super::{told, Tls};
use crate::uring::Ring;
use weir_shard::port::Completion;
use weir_tls::SecuredLink;

impl Tls {
    /// Connects a new socket, and begins with TLS on it.
    ///
    /// # Errors
    /// The settings of the link do not go together.
    pub(crate) fn connect(
        &mut self,
        ring: &mut Ring,
        fd: OwnedFd,
        link: &SecuredLink,
        address: SocketAddr,
        token: u64,
    ) -> std::io::Result<Socket> {
        let session = link.session().map_err(std::io::Error::other)?;
        let peer = Some(address.ip());
        let mut connection = Secured::new(fd, session, link.label(), peer);
        connection.is_link = true;
        let connection = Arc::new(connection);
        let raw = self.requests.add(Request::Connect {
            connection: Arc::clone(&connection),
            token,
        });
        ring.connect(connection.fd.as_raw_fd(), address, raw);
        Ok(Socket::Secured(Owner(connection)))
    }

    pub(super) fn on_connect(&mut self, ring: &mut Ring, completion: Completion) {
        ring.connected(completion.token);
        let Some(Request::Connect { connection, token }) = self.requests.remove(completion.token)
        else {
            return;
        };
        if completion.result < 0 || connection.lock().is_left {
            self.told.push(told(token, completion.result.min(0), 0));
            return;
        }
        let began = {
            let mut guard = connection.lock();
            let stream = &mut *guard;
            stream.session.begin(&mut stream.out.wire)
        };
        if let Err(failure) = began {
            self.refuse(&connection, &failure);
            self.told.push(told(token, -libc::ECONNABORTED, 0));
            return;
        }
        self.pump(ring, &connection);
        self.shake(ring, Whose::Link(token), Stage::Shaking(connection));
    }

    /// Ends the handshake of a connect, if it is one.
    pub(super) fn cancel_link(&mut self, token: u64) -> bool {
        let Some(number) = self.handshakes.of_link(token) else {
            return false;
        };
        self.end_handshake(number);
        self.told.push(told(token, -libc::ECANCELED, 0));
        true
    }
}
