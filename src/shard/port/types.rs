//! What goes through the port: completions, received bytes, and how long to wait.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// IORING_CQE_F_MORE.
const MORE: u32 = 1 << 1;
/// IORING_CQE_F_NOTIF.
const NOTIF: u32 = 1 << 3;

/// Which receive memory a socket uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Emitters' streams.
    Ingress,
    /// Analyzers' control streams.
    Control,
    /// HTTP clients, and answers of analyzers over HTTP: handled at once, never held back.
    Http,
    /// Datagrams: each takes a whole buffer.
    Datagrams,
}

/// One datagram, as it lies in receive memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it, as it says; none where that is no address of IP.
    pub from: Option<IpAddr>,
    /// What it holds, as much of it as had room.
    pub bytes: &'a [u8],
    /// It held more.
    pub is_cut: bool,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The request's token.
    pub token: u64,
    /// Bytes, descriptor, or negated errno.
    pub result: i32,
    /// What else the kernel says of it, as in `struct io_uring_cqe`.
    pub flags: u32,
}

impl Completion {
    /// A completion that no kernel posted: for the simulator.
    pub fn simulated(token: u64, result: i32, more: bool, release: bool) -> Completion {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        Completion {
            token,
            result,
            flags: flag(more, MORE) | flag(release, NOTIF),
        }
    }

    /// More completions of the same request will come (multishot, or a zero-copy notification).
    #[inline]
    pub fn more(&self) -> bool {
        self.flags & MORE != 0
    }

    /// The kernel lets go of a zero-copy buffer; not a send's result.
    pub fn is_release(&self) -> bool {
        self.flags & NOTIF != 0
    }

    /// For a release: the kernel copied after all.
    pub fn was_copied(&self) -> bool {
        const NOTIF_USAGE_ZC_COPIED: u32 = 1 << 31;
        self.result as u32 & NOTIF_USAGE_ZC_COPIED != 0 // bit pattern, not a number
    }

    /// The result as a count, or the error.
    ///
    /// # Errors
    /// The errno that the kernel reported.
    pub fn count(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// Bytes that a receive put into a provided buffer. Must be given back with `release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a chunk that is not released leaks receive memory"]
pub struct Chunk {
    buffer: u16,
    offset: u32,
    len: u32,
}

impl Chunk {
    /// `len` bytes of a buffer from `offset` on.
    pub fn new(buffer: u16, offset: u32, len: u32) -> Chunk {
        Chunk {
            buffer,
            offset,
            len,
        }
    }

    /// Its buffer, and where in the buffer it starts.
    pub fn place(self) -> (u16, u32) {
        (self.buffer, self.offset)
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// True when no byte is left.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The same chunk without its first `n` bytes; still to be released once.
    pub fn skip(self, n: usize) -> Chunk {
        assert!(n <= self.len(), "cannot skip more than the chunk holds");
        let n = n as u32; // fits: n <= len
        Chunk {
            offset: self.offset + n,
            len: self.len - n,
            ..self
        }
    }
}

/// What is left of a connection that nobody reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it; or the peer has closed in good order and what it sent is still to be read.
    Open,
    /// It broke (a reset, a host that is gone), and the peer had sent what is not read.
    Remains,
    /// It has ended and there is nothing to read.
    Nothing,
}

/// Ranges that one send can gather.
pub const SEND_RANGES_MAX: usize = 16;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Gather completions for this long, zero to return with the first.
    pub gather: Duration,
    /// Return after this long whatever happens.
    pub timeout: Duration,
}

/// What a port with TLS has counted, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsCounts {
    /// What the port is called: `emitters`, `analyzers`, `http`, or the name of an input.
    pub port: String,
    /// Handshakes that are under way.
    pub under_way: u64,
    /// Handshakes that were done.
    pub established: u64,
    /// Those of them that a ticket shortened.
    pub resumed: u64,
    /// Streams that ended without close_notify: perhaps somebody has cut them.
    pub truncated: u64,
    /// Connections that came to nothing, by why; none that never happened.
    pub refused: Vec<(&'static str, u64)>,
    /// Certificates that are shown now: serial number, hexadecimal, and when it ends, in seconds since 1970.
    pub certificates: Vec<(String, i64)>,
}
