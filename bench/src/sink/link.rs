//! One connection of an analyzer: read, decoded, ACKed; and how such connections come to be.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::EpollFlags;
use weir_testkit::wire::{first_word, Dialect, Welcome, WELCOME_BYTES};

use crate::net::{connect_within, is_would_block, Poller};
use crate::secured::{Pki, Socket};
use crate::wire::Decoder;

/// First size of a link's buffer, and so the most bytes of one read; it doubles for a frame that
/// does not fit. A process with many links makes them smaller.
const READ_LEN: usize = 256 * 1024;
const READ_LEN_MIN: usize = 16 * 1024;
/// Memory for all buffers together that [`read_len`] aims at.
const READ_LEN_ALL: usize = 64 << 20;
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const WELCOME_PATIENCE: Duration = Duration::from_secs(5);

pub struct Link {
    pub stream: Socket,
    pub analyzer: usize,
    pub decoder: Decoder,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that belong to a frame still to be completed.
    filled: usize,
    pub acked: u64,
    /// ACK bytes that the socket did not take.
    unsent: Vec<u8>,
    /// It works on what it read: no read until its timer.
    pub is_thinking: bool,
    /// Its ACK timer runs.
    pub is_ack_due: bool,
}

/// Buffer of one link when a process may have so many.
pub fn read_len(links: usize) -> usize {
    (READ_LEN_ALL / links.max(1)).clamp(READ_LEN_MIN, READ_LEN)
}

impl Link {
    pub fn new(stream: Socket, analyzer: usize, decoder: Decoder, read_len: usize) -> Self {
        Self {
            stream,
            analyzer,
            decoder,
            buffer: vec![0; read_len],
            filled: 0,
            acked: 0,
            unsent: Vec::new(),
            is_thinking: false,
            is_ack_due: false,
        }
    }

    /// Messages decoded and not ACKed.
    pub fn owed(&self) -> u64 {
        self.decoder.ackable() - self.acked
    }

    /// One recv behind what is there already; false at the end of the stream.
    pub fn read(&mut self) -> io::Result<bool> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        // Through TLS less comes at once; as without it, what is there is ACKed together.
        loop {
            let before = self.filled;
            if !self.read_once()? {
                return Ok(false);
            }
            let waiting = self.stream.waiting_bytes();
            let has_room = self.buffer.len() - self.filled >= READ_LEN / 4;
            let goes_on = self.stream.is_secured() && self.filled > before && has_room;
            if waiting == 0 && !goes_on {
                return Ok(true);
            }
            if waiting > 0 {
                self.buffer.resize(self.filled + waiting, 0);
            }
        }
    }

    fn read_once(&mut self) -> io::Result<bool> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.filled += n;
                Ok(true)
            }
            Err(e) if is_would_block(&e) => Ok(true),
            // Closed, with or without a word.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Hands every whole message to `on_frame`; the rest waits for the next read.
    pub fn decode(&mut self, on_frame: impl FnMut(&[u8])) -> io::Result<()> {
        let used = self.decoder.decode(&self.buffer[..self.filled], on_frame)?;
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(())
    }

    pub fn ack(&mut self, token: usize, poller: &Poller) -> io::Result<()> {
        self.acked = self.decoder.ackable();
        let blocked = self.is_owing();
        self.decoder.put_ack(&mut self.unsent);
        if blocked {
            return Ok(());
        }
        self.write_unsent()?;
        if self.is_owing() {
            self.watch(token, poller)?;
        }
        Ok(())
    }

    /// ACK bytes wait for the socket.
    fn is_owing(&self) -> bool {
        !self.unsent.is_empty() || self.stream.unsent_bytes() > 0
    }

    /// What the socket did not take before.
    pub fn flush(&mut self, token: usize, poller: &Poller) -> io::Result<()> {
        // A peer that is gone shows at the next read.
        if !self.is_owing() || !self.stream.send_unsent().unwrap_or(false) {
            return Ok(());
        }
        if !self.unsent.is_empty() {
            self.write_unsent()?;
        }
        match self.is_owing() {
            true => Ok(()),
            false => self.watch(token, poller),
        }
    }

    /// Waits for what it can use now: bytes unless it thinks, room if an ACK waits.
    pub fn watch(&self, token: usize, poller: &Poller) -> io::Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, !self.is_thinking);
        flags.set(EpollFlags::EPOLLOUT, self.is_owing());
        poller.modify(&self.stream, token as u64, flags)
    }

    /// A peer that is gone shows at the next read, so it is no error here.
    fn write_unsent(&mut self) -> io::Result<()> {
        match self.stream.write(&self.unsent) {
            Ok(n) => drop(self.unsent.drain(..n)),
            Err(e) if is_would_block(&e) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.unsent.clear();
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// The first link asks for any shard and learns how many there are; one more for each other.
pub fn native_streams(
    analyzers: SocketAddr,
    pki: Option<&Arc<Pki>>,
    weight: f64,
    id: &str,
) -> io::Result<Vec<Socket>> {
    let (first, welcome) = native_link(analyzers, pki, None, weight, id)?;
    let mut streams = vec![first];
    for shard in (0..welcome.shard_count).filter(|s| *s != welcome.shard_index) {
        streams.push(native_link(analyzers, pki, Some(shard), weight, id)?.0);
    }
    Ok(streams)
}

fn native_link(
    analyzers: SocketAddr,
    pki: Option<&Arc<Pki>>,
    shard: Option<u16>,
    weight: f64,
    id: &str,
) -> io::Result<(Socket, Welcome)> {
    let mut stream = Socket::of(connect_within(analyzers, CONNECT_PATIENCE)?, pki)?;
    stream.set_read_timeout(Some(WELCOME_PATIENCE))?;
    stream.write_all(&first_word(Dialect::Native, weight, id, shard))?;
    let mut answer = [0; WELCOME_BYTES];
    stream.read_exact(&mut answer).map_err(|e| {
        io::Error::new(
            e.kind(),
            format!(
                "no native welcome from {analyzers} ({e}): a relay speaks only --dialect compact"
            ),
        )
    })?;
    let welcome = Welcome::decode(&answer)?;
    let mut reason = vec![0; usize::from(welcome.reason_bytes)];
    stream.read_exact(&mut reason)?;
    if welcome.status != 0 {
        let reason = String::from_utf8_lossy(&reason);
        return Err(io::Error::other(format!(
            "link to {} refused: {reason}",
            shard.map_or("any shard".to_owned(), |shard| format!("shard {shard}"))
        )));
    }
    Ok((stream, welcome))
}
