//! The kernel as a shard's ground: requests on the data ring, options and addresses by system call.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::listen::Listener;
use super::mesh::GlommioMesh;
use super::secured::{is_plain, send_now, HalvesLimit, Notice, Socket, Tls, OPENED};
use crate::uring::{datagrams_dropped, left_of, peer_has_ended, unread_bytes};
use crate::uring::{Arena, Ring, SendVector};
use weir_clock::monotonic_ns;
use weir_protocol::memory::Span;
use weir_shard::port::{Chunk, Completion, Datagram, Group, Io, Left, TlsCounts, Wait};
use weir_tls::{Peer, SecuredLink};

/// Connections that a turn takes of each listener. Each costs some 30 us, its peer's first words included.
const ACCEPTS: u32 = 16;
/// Most datagrams that are thrown away at once: a sender that goes on shall not hold up the end.
const DISCARDED_MAX: u32 = 1 << 20;

/// The data ring, and TLS between it and the shard.
pub(super) struct Kernel {
    ring: Ring,
    tls: Box<Tls>,
    /// In this turn completions go through TLS; otherwise it takes so many more.
    is_secured: bool,
    left: usize,
}

impl Kernel {
    pub(super) fn new(
        ring: Ring,
        notice: Notice,
        handshakes: usize,
        halves: HalvesLimit,
    ) -> Kernel {
        let tls = Box::new(Tls::new(notice, handshakes, halves));
        Kernel {
            ring,
            tls,
            is_secured: false,
            left: 0,
        }
    }

    /// Submits what is queued and waits; not when there is something to do already.
    ///
    /// # Errors
    /// As of [`Ring::wait`].
    pub(super) fn wait(&mut self, wait: Wait) -> io::Result<()> {
        match self.tls.has_work() {
            true => self.ring.look(),
            false => self.ring.wait(Wait {
                timeout: self.tls.wait_max(wait.timeout),
                ..wait
            }),
        }
    }

    /// A turn begins, which takes at most `max` completions of the ring. True: there are as many.
    #[inline]
    pub(super) fn begin_turn(&mut self, max: usize) -> bool {
        let is_full = self.ring.ready() >= max;
        self.is_secured = self.tls.is_used();
        match self.is_secured {
            true => self.tls.begin_turn(&mut self.ring, max),
            false => self.left = max,
        }
        is_full
    }

    /// Moves what is next in this turn into `out`; over TLS piece by piece. False: that was all.
    #[inline]
    pub(super) fn next(&mut self, out: &mut Vec<Completion>) -> bool {
        match self.is_secured {
            true => self.tls.next(&mut self.ring, out, monotonic_ns()),
            false => self.ring.drain(out, std::mem::take(&mut self.left)),
        }
        !out.is_empty()
    }

    fn tls(&mut self) -> (&mut Tls, &mut Ring) {
        (&mut self.tls, &mut self.ring)
    }
}

impl Io for Kernel {
    type Socket = Socket;
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
        self.ring.enters
    }

    fn tls_counts(&self) -> Vec<TlsCounts> {
        self.tls.counts()
    }

    fn accept(&mut self, listener: &Listener, token: u64) {
        let fd = listener.socket.as_raw_fd();
        match &listener.secured {
            None => self.ring.accept(fd, token),
            Some(port) => {
                let at_once = Kernel::accepts_at_once(listener);
                let (tls, ring) = self.tls();
                tls.accept(ring, port, fd, at_once, token);
            }
        }
    }

    fn accepts_at_once(listener: &Listener) -> u32 {
        // Shards that share a socket are woken in the order of their requests: each has one, so that each gets
        // its turn.
        match listener.is_shared {
            true => 1,
            false => ACCEPTS,
        }
    }

    fn accepted(&mut self, completion: &Completion) -> io::Result<Socket> {
        completion.count()?;
        match completion.flags & OPENED {
            0 => self.ring.accepted(completion).map(Socket::Plain),
            _ => {
                let taken = self.tls.take_accepted(completion);
                taken.ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    #[inline]
    fn receive(&mut self, socket: &Socket, group: Group, token: u64) {
        match socket {
            Socket::Plain(fd) => self.ring.receive(fd.as_raw_fd(), group, token),
            Socket::Secured(owner) => {
                let (tls, ring) = self.tls();
                tls.receive(ring, owner, group, token, false);
            }
        }
    }

    fn receive_once(&mut self, socket: &Socket, group: Group, token: u64) {
        match socket {
            Socket::Plain(fd) => self.ring.receive_once(fd.as_raw_fd(), group, token),
            Socket::Secured(owner) => {
                let (tls, ring) = self.tls();
                tls.receive(ring, owner, group, token, true);
            }
        }
    }

    #[inline]
    fn chunk(&mut self, group: Group, completion: &Completion) -> Option<Chunk> {
        match completion.flags & OPENED {
            0 => self.ring.chunk(group, completion),
            _ => self.tls.take_chunk(completion),
        }
    }

    #[inline]
    fn bytes_of(&self, group: Group, chunk: Chunk) -> &[u8] {
        match is_plain(chunk) {
            true => self.tls.bytes_of(chunk),
            false => self.ring.bytes_of(group, chunk),
        }
    }

    #[inline]
    fn release(&mut self, group: Group, chunk: Chunk) {
        match is_plain(chunk) {
            true => self.tls.release(chunk),
            false => self.ring.release(group, chunk),
        }
    }

    #[inline]
    fn receive_datagrams(&mut self, socket: &Socket, token: u64) {
        self.ring.receive_datagrams(socket.as_raw_fd(), token);
    }

    #[inline]
    fn datagram_of(&self, chunk: Chunk) -> Datagram<'_> {
        self.ring.datagram_of(chunk)
    }

    fn datagrams_dropped(&self, socket: &Socket) -> u32 {
        datagrams_dropped(socket)
    }

    fn discard_datagrams(&self, socket: &Socket) -> u32 {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let socket = SockRef::from(socket);
        let is_there = |_: &u32| socket.recv_with_flags(&mut [], flags).is_ok();
        let count = (0..DISCARDED_MAX).take_while(is_there).count();
        u32::try_from(count).unwrap_or(DISCARDED_MAX)
    }

    /// What is sealed is a copy already.
    fn zero_copy(&self, socket: &Socket) -> bool {
        matches!(socket, Socket::Plain(_)) && self.ring.zero_copy()
    }

    fn send(
        &mut self,
        socket: &Socket,
        spans: impl Iterator<Item = (usize, Span)>,
        vector: &mut SendVector,
        token: u64,
    ) {
        match socket {
            Socket::Plain(fd) => self.ring.send(fd.as_raw_fd(), spans, vector, token),
            Socket::Secured(owner) => {
                let (tls, ring) = self.tls();
                tls.send_spans(ring, owner, spans, token);
            }
        }
    }

    fn send_zero_copy(&mut self, socket: &Socket, span: Span, token: u64) {
        self.ring.send_zero_copy(socket.as_raw_fd(), span, token);
    }

    fn send_bytes(&mut self, socket: &Socket, bytes: Vec<u8>, token: u64) {
        match socket {
            Socket::Plain(fd) => self.ring.send_bytes(fd.as_raw_fd(), bytes, token),
            Socket::Secured(owner) => {
                let (tls, ring) = self.tls();
                tls.send_bytes(ring, owner, bytes, token);
            }
        }
    }

    fn sent_bytes(&mut self, token: u64) -> Vec<u8> {
        let sealed = self.tls.sent_bytes(token);
        sealed.unwrap_or_else(|| self.ring.sent_bytes(token))
    }

    fn append(&mut self, file: &Socket, bytes: Vec<u8>, token: u64) {
        self.ring.append(file.as_raw_fd(), bytes, token);
    }

    fn file_bytes(&self, file: &Socket) -> u64 {
        let state = rustix::fs::fstat(file);
        state.map_or(u64::MAX, |state| u64::try_from(state.st_size).unwrap_or(0))
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        link: Option<&Arc<SecuredLink>>,
        token: u64,
    ) -> io::Result<Socket> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let socket = OwnedFd::from(socket);
        if let Some(link) = link {
            let (tls, ring) = self.tls();
            return tls.connect(ring, socket, link, address, token);
        }
        self.ring.connect(socket.as_raw_fd(), address, token);
        Ok(Socket::Plain(socket))
    }

    fn adopt(&mut self, stream: OwnedFd) -> io::Result<Socket> {
        Ok(Socket::Plain(stream))
    }

    fn connected(&mut self, token: u64) {
        self.ring.connected(token);
    }

    fn send_now(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        match socket {
            Socket::Plain(fd) => send_now(fd, bytes),
            Socket::Secured(owner) => {
                let (tls, ring) = self.tls();
                tls.send_now(ring, owner, bytes)
            }
        }
    }

    fn cancel(&mut self, target: u64, token: u64) {
        let (tls, ring) = self.tls();
        if !tls.cancel(ring, target, token) {
            ring.cancel(target, token);
        }
    }

    fn arm_wake(&mut self, token: u64) {
        self.ring.arm_wake(token);
    }

    fn quiesce(&mut self) {
        self.ring.quiesce();
    }

    fn certificate(&self, socket: &Socket) -> Option<Peer> {
        match socket {
            Socket::Plain(_) => None,
            Socket::Secured(owner) => owner.certificate(),
        }
    }

    fn why(&self, socket: &Socket, error: &io::Error) -> String {
        let said = match socket {
            Socket::Secured(owner) => owner.failure(),
            Socket::Plain(_) => None,
        };
        said.map_or_else(|| error.to_string(), |said| format!("TLS: {said}"))
    }

    fn peer(&self, socket: &Socket) -> Option<SocketAddr> {
        internet(SockRef::from(socket).peer_addr())
    }

    fn is_on_this_host(&self, socket: &Socket) -> bool {
        let local = internet(SockRef::from(socket).local_addr()).map(|address| address.ip());
        let peer = self.peer(socket).map(|address| address.ip());
        peer.is_some() && (peer == local || peer.is_some_and(|peer| peer.is_loopback()))
    }

    /// Time-outs come from the listener, see `listen.rs`.
    fn prepare_link(&self, socket: &Socket) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        // The kernel's ACK of an analyzer's few bytes travels with the next batch.
        socket.set_tcp_quickack(false)
    }

    fn peer_has_ended(&self, socket: &Socket) -> bool {
        peer_has_ended(socket)
    }

    fn left_of(&self, socket: &Socket) -> Left {
        left_of(socket)
    }

    fn unread_bytes(&self, socket: &Socket) -> usize {
        unread_bytes(socket)
    }

    fn drop_unsent_on_close(&self, socket: &Socket) {
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    fn shutdown(&self, socket: &Socket, how: Shutdown) {
        if let (Socket::Secured(owner), Shutdown::Write | Shutdown::Both) = (socket, how) {
            owner.say_end();
        }
        let _ = SockRef::from(socket).shutdown(how);
    }
}

fn internet(address: io::Result<SockAddr>) -> Option<SocketAddr> {
    address.ok().and_then(|address| address.as_socket())
}
