//! The kernel as a shard's ground: requests on the data ring, options and addresses by system call.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::listen::Listener;
use super::mesh::GlommioMesh;
use crate::uring::{datagrams_dropped, left_of, peer_has_ended, unread_bytes};
use crate::uring::{Arena, Ring, SendVector};
use weir_clock::monotonic_ns;
use weir_protocol::memory::Span;
use weir_shard::port::{Chunk, Completion, Datagram, Group, Io, Left};

/// Connections that a turn takes of each listener. Each costs some 30 us, its peer's first words included.
const ACCEPTS: u32 = 16;
/// Most datagrams that are thrown away at once: a sender that goes on shall not hold up the end.
const DISCARDED_MAX: u32 = 1 << 20;

impl Io for Ring {
    type Socket = OwnedFd;
    type Listener = Listener;
    type Memory = Arena;
    type Vector = SendVector;
    type Mesh = GlommioMesh;

    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    fn enters(&self) -> u64 {
        self.enters
    }

    fn accept(&mut self, listener: &Listener, token: u64) {
        Ring::accept(self, listener.socket.as_raw_fd(), token);
    }

    fn accepts_at_once(listener: &Listener) -> u32 {
        // Shards that share a socket are woken in the order of their requests: each has one, so that each gets
        // its turn.
        match listener.is_shared {
            true => 1,
            false => ACCEPTS,
        }
    }

    fn accepted(&mut self, completion: &Completion) -> io::Result<OwnedFd> {
        Ring::accepted(self, completion)
    }

    #[inline]
    fn receive(&mut self, socket: &OwnedFd, group: Group, token: u64) {
        Ring::receive(self, socket.as_raw_fd(), group, token);
    }

    fn receive_once(&mut self, socket: &OwnedFd, group: Group, token: u64) {
        Ring::receive_once(self, socket.as_raw_fd(), group, token);
    }

    #[inline]
    fn chunk(&mut self, group: Group, completion: &Completion) -> Option<Chunk> {
        Ring::chunk(self, group, completion)
    }

    #[inline]
    fn bytes_of(&self, group: Group, chunk: Chunk) -> &[u8] {
        Ring::bytes_of(self, group, chunk)
    }

    #[inline]
    fn release(&mut self, group: Group, chunk: Chunk) {
        Ring::release(self, group, chunk);
    }

    #[inline]
    fn receive_datagrams(&mut self, socket: &OwnedFd, token: u64) {
        Ring::receive_datagrams(self, socket.as_raw_fd(), token);
    }

    #[inline]
    fn datagram_of(&self, chunk: Chunk) -> Datagram<'_> {
        Ring::datagram_of(self, chunk)
    }

    fn datagrams_dropped(&self, socket: &OwnedFd) -> u32 {
        datagrams_dropped(socket)
    }

    fn discard_datagrams(&self, socket: &OwnedFd) -> u32 {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let socket = SockRef::from(socket);
        let is_there = |_: &u32| socket.recv_with_flags(&mut [], flags).is_ok();
        let count = (0..DISCARDED_MAX).take_while(is_there).count();
        u32::try_from(count).unwrap_or(DISCARDED_MAX)
    }

    fn zero_copy(&self) -> bool {
        Ring::zero_copy(self)
    }

    fn send(
        &mut self,
        socket: &OwnedFd,
        spans: impl Iterator<Item = (usize, Span)>,
        vector: &mut SendVector,
        token: u64,
    ) {
        Ring::send(self, socket.as_raw_fd(), spans, vector, token);
    }

    fn send_zero_copy(&mut self, socket: &OwnedFd, span: Span, token: u64) {
        Ring::send_zero_copy(self, socket.as_raw_fd(), span, token);
    }

    fn send_bytes(&mut self, socket: &OwnedFd, bytes: Vec<u8>, token: u64) {
        Ring::send_bytes(self, socket.as_raw_fd(), bytes, token);
    }

    fn sent_bytes(&mut self, token: u64) -> Vec<u8> {
        Ring::sent_bytes(self, token)
    }

    fn append(&mut self, file: &OwnedFd, bytes: Vec<u8>, token: u64) {
        Ring::append(self, file.as_raw_fd(), bytes, token);
    }

    fn file_bytes(&self, file: &OwnedFd) -> u64 {
        let state = rustix::fs::fstat(file);
        state.map_or(u64::MAX, |state| u64::try_from(state.st_size).unwrap_or(0))
    }

    fn connect(&mut self, address: SocketAddr, token: u64) -> io::Result<OwnedFd> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let socket = OwnedFd::from(socket);
        Ring::connect(self, socket.as_raw_fd(), address, token);
        Ok(socket)
    }

    fn adopt(&mut self, stream: OwnedFd) -> io::Result<OwnedFd> {
        Ok(stream)
    }

    fn connected(&mut self, token: u64) {
        Ring::connected(self, token);
    }

    fn send_now(&mut self, socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        SockRef::from(socket).send_with_flags(bytes, flags)
    }

    fn cancel(&mut self, target: u64, token: u64) {
        Ring::cancel(self, target, token);
    }

    fn arm_wake(&mut self, token: u64) {
        Ring::arm_wake(self, token);
    }

    fn quiesce(&mut self) {
        Ring::quiesce(self);
    }

    fn peer(&self, socket: &OwnedFd) -> Option<SocketAddr> {
        internet(SockRef::from(socket).peer_addr())
    }

    fn is_on_this_host(&self, socket: &OwnedFd) -> bool {
        let local = internet(SockRef::from(socket).local_addr()).map(|address| address.ip());
        let peer = self.peer(socket).map(|address| address.ip());
        peer.is_some() && (peer == local || peer.is_some_and(|peer| peer.is_loopback()))
    }

    /// Time-outs come from the listener, see `listen.rs`.
    fn prepare_link(&self, socket: &OwnedFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        // The kernel's ACK of an analyzer's few bytes travels with the next batch.
        socket.set_tcp_quickack(false)
    }

    fn peer_has_ended(&self, socket: &OwnedFd) -> bool {
        peer_has_ended(socket)
    }

    fn left_of(&self, socket: &OwnedFd) -> Left {
        left_of(socket)
    }

    fn unread_bytes(&self, socket: &OwnedFd) -> usize {
        unread_bytes(socket)
    }

    fn drop_unsent_on_close(&self, socket: &OwnedFd) {
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    fn shutdown(&self, socket: &OwnedFd, how: Shutdown) {
        let _ = SockRef::from(socket).shutdown(how);
    }
}

fn internet(address: io::Result<SockAddr>) -> Option<SocketAddr> {
    address.ok().and_then(|address| address.as_socket())
}
