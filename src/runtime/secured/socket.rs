//! A connection as the shard holds it: plain, or with TLS around it.

use std::collections::VecDeque;
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use socket2::SockRef;

use super::halves::Half;
use weir_protocol::memory::Span;
use weir_tls::{Peer, Session, Wire};

/// Closed when dropped.
pub enum Socket {
    /// Bytes go as they are.
    Plain(OwnedFd),
    /// They go through TLS.
    Secured(Owner),
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Socket {
        Socket::Plain(fd)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Plain(fd) => fd.as_fd(),
            Socket::Secured(owner) => owner.0.fd.as_fd(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Of the one who holds the connection: when it goes, the peer is told that nothing more comes. What is under way in
/// the ring may keep the connection itself for a little longer.
pub struct Owner(pub(super) Arc<Secured>);

impl Owner {
    /// Whom the peer's certificate names; none: it has shown none, or was not asked.
    pub(crate) fn certificate(&self) -> Option<Peer> {
        match self.0.is_link {
            true => None,
            false => self.0.lock().session.peer(),
        }
    }

    /// What TLS came to nothing or broke for.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(AsRef::as_ref)
    }

    /// See [`Secured::say_end`].
    pub(crate) fn say_end(&self) {
        self.0.say_end();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.say_end();
        let mut stream = self.0.lock();
        stream.is_left = true;
        if !stream.session.is_established() {
            // What waits for the rest of its handshake ends with it.
            let _ = SockRef::from(&self.0.fd).shutdown(Shutdown::Both);
        }
    }
}

/// A connection with TLS around it. One shard at a time has it. Where it has moved to another while a send was under way,
/// the shard of that send looks at it once more: the lock is waited for then, and at no other time.
pub(super) struct Secured {
    pub(super) fd: OwnedFd,
    /// What its port is called in logs, or the analyzer that it leads to.
    pub(super) port: String,
    /// It leads to an analyzer.
    pub(super) is_link: bool,
    /// Where its peer is, as long as that could be asked.
    pub(super) peer: Option<IpAddr>,
    /// What TLS came to nothing or broke for, in words.
    pub(super) failure: OnceLock<Box<str>>,
    stream: Mutex<Stream>,
}

/// What a connection has of TLS.
pub(super) struct Stream {
    pub(super) session: Session,
    /// Plain bytes that came together with the end of the handshake.
    pub(super) early: Vec<u8>,
    pub(super) out: Outgoing,
    /// What it keeps of a record that has not come whole.
    pub(super) half: Half,
    /// Nothing more can be sent.
    pub(super) is_broken: bool,
    /// The peer was told that nothing more comes; it may still send.
    pub(super) has_said_end: bool,
    /// Nobody holds it any more.
    pub(super) is_left: bool,
}

/// What goes out, in the order of its records' numbers.
#[derive(Default)]
pub(super) struct Outgoing {
    /// A send is in a ring, and nothing may overtake it.
    pub(super) is_under_way: bool,
    /// In that of this shard ([`Send::shard`]).
    pub(super) by: u64,
    /// Sealed already, and goes before anything else.
    pub(super) wire: Wire,
    /// What the shard sends.
    pub(super) send: Option<Send>,
}

/// One send of the shard's.
pub(super) struct Send {
    /// The shard that has asked for it, and its token. A number of [`Sending`](super::send::Sending).
    pub(super) shard: u64,
    pub(super) token: u64,
    pub(super) source: Source,
    /// Bytes that it has in all.
    pub(super) total: usize,
}

/// Where the bytes of a send are that are not sealed yet.
pub(super) enum Source {
    /// In arenas: number of the shard, and span.
    Spans(VecDeque<(usize, Span)>),
    /// In memory, from here on.
    Bytes(Vec<u8>, usize),
}

/// Where the other end is, while that can be asked.
pub(super) fn peer_of(fd: &OwnedFd) -> Option<IpAddr> {
    let peer = SockRef::from(fd).peer_addr().ok()?.as_socket()?;
    Some(peer.ip().to_canonical())
}

impl Secured {
    pub(super) fn new(fd: OwnedFd, session: Session, port: &str, peer: Option<IpAddr>) -> Secured {
        Secured {
            fd,
            peer,
            port: port.to_owned(),
            is_link: false,
            failure: OnceLock::new(),
            stream: Mutex::new(Stream {
                session,
                early: Vec::new(),
                out: Outgoing::default(),
                half: Half::default(),
                is_broken: false,
                has_said_end: false,
                is_left: false,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that nothing more comes, if that can be said at once.
    pub(super) fn say_end(&self) {
        let mut stream = self.lock();
        let Stream {
            session,
            out,
            has_said_end,
            ..
        } = &mut *stream;
        if out.is_under_way || out.send.is_some() || *has_said_end {
            return;
        }
        session.end(&mut out.wire);
        let wire = std::mem::take(&mut out.wire);
        if !wire.is_empty() {
            // Whoever does not read does not need to know.
            let _ = send_now(&self.fd, wire.bytes());
        }
        *has_said_end = true;
    }
}

/// As much as the kernel takes at once.
pub(crate) fn send_now(fd: impl AsFd, bytes: &[u8]) -> std::io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    SockRef::from(&fd).send_with_flags(bytes, flags)
}
