//! What a shard stands on: sockets, memory that the kernel knows, a clock, and the way to the other
//! shards. The kernel is one such ground (`src/runtime`), the simulator another (`src/sim`); the
//! shard is the same on both.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use weir_engine::{Memory, Span};
use weir_tls::{Peer, SecuredLink};

use crate::mesh::Mesh;

mod types;
mod wake;

pub use types::{Chunk, Completion, Datagram, Group, Left, TlsCounts, Wait, SEND_RANGES_MAX};
pub use wake::Wake;

/// Requests are only started here; each ends with one completion or more that carry its token.
pub trait Io {
    /// A connection, a socket of datagrams, or a file; closed when dropped.
    type Socket;
    /// A listening socket; closed when dropped.
    type Listener;
    /// The egress arena.
    type Memory: Memory;
    /// What a gathering send needs to stay alive until it has completed.
    type Vector: Default;
    /// The way to the other shards.
    type Mesh: Mesh<Self::Socket>;

    /// Nanoseconds on a clock that never goes back.
    fn now_ns(&self) -> u64;
    /// Milliseconds since 1970, by the wall clock.
    fn unix_ms(&self) -> u64;
    /// Messages that a new link of a reference client counts as ACKed already.
    fn first_link_number(&self) -> u64 {
        0
    }
    /// Kernel entries so far.
    fn enters(&self) -> u64;
    /// Of each port where TLS is spoken; TLS is below the shard, see `src/runtime/secured`.
    fn tls_counts(&self) -> Vec<TlsCounts> {
        Vec::new()
    }

    /// Accepts one connection, see [`Io::accepted`].
    fn accept(&mut self, listener: &Self::Listener, token: u64);
    /// Accepts to have under way: what a turn takes of a crowd that comes at once.
    fn accepts_at_once(listener: &Self::Listener) -> u32;
    /// The connection that an accept's completion brought. To be called once for each.
    ///
    /// # Errors
    /// What the accept failed with, EMFILE for instance.
    fn accepted(&mut self, completion: &Completion) -> io::Result<Self::Socket>;

    /// Receives into `group` until the stream ends, an error, ENOBUFS, or the kernel's whim.
    fn receive(&mut self, socket: &Self::Socket, group: Group, token: u64);
    /// Receives once.
    fn receive_once(&mut self, socket: &Self::Socket, group: Group, token: u64);
    /// The bytes that a receive's completion brought; none at the end of the stream. Each chunk must
    /// be released.
    fn chunk(&mut self, group: Group, completion: &Completion) -> Option<Chunk>;
    /// A chunk's bytes.
    fn bytes_of(&self, group: Group, chunk: Chunk) -> &[u8];
    /// Gives a chunk's memory back.
    fn release(&mut self, group: Group, chunk: Chunk);

    /// Receives datagrams into [`Group::Datagrams`] until an error, ENOBUFS, or the kernel's whim.
    fn receive_datagrams(&mut self, socket: &Self::Socket, token: u64);
    /// The datagram that a chunk of [`Group::Datagrams`] holds.
    fn datagram_of(&self, chunk: Chunk) -> Datagram<'_>;
    /// Datagrams that the kernel has dropped at this socket since it was opened. It wraps.
    fn datagrams_dropped(&self, socket: &Self::Socket) -> u32;
    /// Throws away the datagrams that wait at this socket; how many those were.
    fn discard_datagrams(&self, socket: &Self::Socket) -> u32;

    /// Whether zero-copy sends are possible on this connection.
    fn zero_copy(&self, socket: &Self::Socket) -> bool;
    /// Sends spans of shards' arenas one after the other. The completion tells how many bytes went,
    /// and that the memory is not read any more.
    fn send(
        &mut self,
        socket: &Self::Socket,
        spans: impl Iterator<Item = (usize, Span)>,
        vector: &mut Self::Vector,
        token: u64,
    );
    /// Sends a span of the own arena without a copy: the result comes first, the release of the
    /// memory later.
    fn send_zero_copy(&mut self, socket: &Self::Socket, span: Span, token: u64);
    /// Sends bytes that lie outside the arenas. The completion tells how many went;
    /// [`Io::sent_bytes`] is to be called then.
    fn send_bytes(&mut self, socket: &Self::Socket, bytes: Vec<u8>, token: u64);
    /// The bytes of a send that has completed, to be used again.
    fn sent_bytes(&mut self, token: u64) -> Vec<u8>;
    /// Appends bytes to a file. The completion tells how many were written; [`Io::sent_bytes`] is to
    /// be called then.
    fn append(&mut self, file: &Self::Socket, bytes: Vec<u8>, token: u64);
    /// How long a file is, in bytes.
    fn file_bytes(&self, file: &Self::Socket) -> u64;
    /// A new socket that connects to a server; [`Io::connected`] is to be called when the request
    /// completes. With `link` that is when TLS is established on it.
    ///
    /// # Errors
    /// There is no socket to be had.
    fn connect(
        &mut self,
        address: SocketAddr,
        link: Option<&Arc<SecuredLink>>,
        token: u64,
    ) -> io::Result<Self::Socket>;
    /// A stream that somebody else has connected.
    ///
    /// # Errors
    /// There is no such thing here.
    fn adopt(&mut self, stream: OwnedFd) -> io::Result<Self::Socket>;
    /// A connect has completed.
    fn connected(&mut self, token: u64);
    /// Sends at once, outside the requests, as much as fits.
    ///
    /// # Errors
    /// As of send(2), EAGAIN when nothing fits.
    fn send_now(&mut self, socket: &Self::Socket, bytes: &[u8]) -> io::Result<usize>;

    /// Cancels a request; it completes with ECANCELED, unless it had completed already.
    fn cancel(&mut self, target: u64, token: u64);
    /// Makes the shard's wake-up end its wait, once.
    fn arm_wake(&mut self, token: u64);
    /// Ends everything that is under way.
    fn quiesce(&mut self);

    /// Whom the peer's certificate names, which was verified when the connection came; none: it has shown none.
    fn certificate(&self, _socket: &Self::Socket) -> Option<Peer> {
        None
    }
    /// Why a request on this connection has failed, in words: what TLS came to nothing for, or what the kernel says.
    fn why(&self, _socket: &Self::Socket, error: &io::Error) -> String {
        error.to_string()
    }
    /// Address of the peer, when it still has one.
    fn peer(&self, socket: &Self::Socket) -> Option<SocketAddr>;
    /// The peer is reached without a network device.
    fn is_on_this_host(&self, socket: &Self::Socket) -> bool;
    /// Makes a connection fit for batches and ACKs.
    ///
    /// # Errors
    /// What the kernel says; the connection works all the same.
    fn prepare_link(&self, socket: &Self::Socket) -> io::Result<()>;
    /// The peer has closed, or half-closed: what it sent can be read to its end.
    fn peer_has_ended(&self, socket: &Self::Socket) -> bool;
    /// What is left of a connection that nobody reads from.
    fn left_of(&self, socket: &Self::Socket) -> Left;
    /// Bytes sent that the peer's kernel has not acknowledged; zero when unknown.
    fn unread_bytes(&self, socket: &Self::Socket) -> usize;
    /// When the connection closes, what it still has to send is dropped.
    fn drop_unsent_on_close(&self, socket: &Self::Socket);
    /// Shuts one or both directions down.
    fn shutdown(&self, socket: &Self::Socket, how: Shutdown);
}
