//! TLS around a socket, for programs with threads or with readiness.
//!
//! ```text
//! write(plain) --sealed--> socket       what the socket does not take is kept, and goes first: at most 64 KiB of plain
//! read(plain) <--opened--- socket
//! end() ------close_notify------> socket
//! ```
//!
//! The socket may block, have a timeout, or be non-blocking: `WouldBlock` and `TimedOut` are passed on, and nothing is
//! lost by them. Between calls a connection that is idle holds no buffers.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::failure::{Failure, FailureKind};
use crate::session::Session;
use crate::wire::Wire;

/// Plain bytes that are sealed at a time.
const SEALED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the wire that are read at a time: at least a small record, at most four large ones.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;
/// A server of TLS 1.3 that asks for a certificate judges it after the handshake, and says nothing when it is content.
/// Those that give tickets say so by them; the others are believed after this.
const VERDICT_PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// Where bytes are on their way through. One for each thread: connections that are idle need none.
    static PASSING: RefCell<(Vec<u8>, Wire)> = const { RefCell::new((Vec::new(), Wire::new())) };
}

/// See the head of this file.
pub struct Stream<S: Read + Write> {
    socket: S,
    session: Session,
    /// Sealed, and from `unsent_at` on not taken by the socket.
    unsent: Vec<u8>,
    unsent_at: usize,
    /// Opened, and from `opened_at` on not asked for.
    opened: Vec<u8>,
    opened_at: usize,
    /// Something has come.
    is_answered: bool,
    /// Why nothing more can be read, once what was opened before it is asked for.
    failed: Option<Failure>,
    is_ended: bool,
    established_at: Option<Instant>,
}

impl<S: Read + Write> fmt::Debug for Stream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl<S: Read + Write> Stream<S> {
    /// The socket.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// What is known of the connection.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sealed bytes that the socket has not taken.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len() - self.unsent_at
    }

    /// Bytes that were opened, and that nobody has asked for yet: no readiness of the socket tells of them.
    pub fn waiting_bytes(&self) -> usize {
        self.opened.len() - self.opened_at
    }

    /// Both sides know each other, and as far as can be known the server lets this side in.
    pub fn is_ready(&self) -> bool {
        let is_late = |at: Instant| at.elapsed() >= VERDICT_PATIENCE;
        self.session.is_established()
            && (!self.session.awaits_verdict() || self.established_at.is_some_and(is_late))
    }
}

impl<S: Read + Write> Stream<S> {
    /// On a socket that is connected; a client says its first words. If the socket is not ready for them, they wait.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn begin(socket: S, session: Session) -> io::Result<Stream<S>> {
        let mut stream = Stream {
            socket,
            session,
            unsent: Vec::new(),
            unsent_at: 0,
            opened: Vec::new(),
            opened_at: 0,
            is_answered: false,
            failed: None,
            is_ended: false,
            established_at: None,
        };
        with_passing(|_, wire| {
            stream.session.begin(wire).map_err(failed)?;
            stream.send(wire)
        })?;
        Ok(stream)
    }

    /// Goes on with the handshake as far as the socket lets it. True: it is done.
    ///
    /// # Errors
    /// It comes to nothing; what was wrong is a [`Failure`] within.
    pub fn progress(&mut self) -> io::Result<bool> {
        loop {
            if self.is_ready() {
                self.send_unsent()?;
                return Ok(true);
            }
            match self.exchange(&mut []) {
                Ok(Some(_)) => {}
                Ok(None) => return Err(self.closed_early()),
                Err(error) if is_wait(&error) => return Ok(self.is_ready()),
                Err(error) => return Err(error),
            }
            if let Some(failure) = self.failed.take() {
                return Err(failed(failure));
            }
        }
    }

    /// The whole handshake, on a socket that blocks. It should have a timeout: that is how often `is_stopped` is asked.
    ///
    /// # Errors
    /// As [`Stream::progress`]; it took longer than `patience`; it was stopped.
    pub fn handshake(
        &mut self,
        patience: Duration,
        is_stopped: impl Fn() -> bool,
    ) -> io::Result<()> {
        let until = Instant::now() + patience;
        while !self.progress()? {
            if is_stopped() {
                return Err(io::Error::other("stopped while a handshake was under way"));
            }
            if Instant::now() >= until {
                return Err(timed_out(patience));
            }
        }
        Ok(())
    }

    /// Sends what the socket did not take before. False: it does not take all of it now.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn send_unsent(&mut self) -> io::Result<bool> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        let sent = send_some(&mut self.socket, &self.unsent[self.unsent_at..]);
        self.unsent_at += sent.count;
        if self.unsent_at == self.unsent.len() {
            (self.unsent, self.unsent_at) = (Vec::new(), 0);
        }
        sent.ended.map_or(Ok(()), Err)?;
        Ok(self.unsent.is_empty())
    }

    /// Says that nothing more comes (close_notify); then the socket may be closed for writing, once
    /// [`Stream::send_unsent`] says that it has everything.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn end(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_ended, true) {
            return Ok(());
        }
        with_passing(|_, wire| {
            self.session.end(wire);
            self.send(wire)
        })
    }

    /// Behind what waits already.
    fn send(&mut self, wire: &Wire) -> io::Result<()> {
        let mut bytes = wire.bytes();
        if self.unsent.is_empty() {
            let sent = send_some(&mut self.socket, bytes);
            sent.ended.map_or(Ok(()), Err)?;
            bytes = &bytes[sent.count..];
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }

    /// Sends what waits, and receives. Who refuses this side says why before it closes: that counts, and not that
    /// nothing can be sent to it any more.
    fn exchange(&mut self, to: &mut [u8]) -> io::Result<Option<usize>> {
        let sent = self.send_unsent();
        match (self.receive(to), sent) {
            (Err(error), Err(broken)) if is_wait(&error) => Err(broken),
            (received, _) => received,
        }
    }

    /// Reads from the socket once and opens what came, into `to` as far as that has room: so many bytes are in it. None: it
    /// is over.
    fn receive(&mut self, to: &mut [u8]) -> io::Result<Option<usize>> {
        with_passing(|buffer, wire| {
            buffer.resize(READ_BYTES_MAX, 0);
            let wanted = match to.len() {
                0 => READ_BYTES_MAX,
                room => room.clamp(READ_BYTES_MIN, READ_BYTES_MAX),
            };
            let count = loop {
                match self.socket.read(&mut buffer[..wanted]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            let bytes = &mut buffer[..count];
            if bytes.is_empty() {
                return Ok(None);
            }
            let is_first = !std::mem::replace(&mut self.is_answered, true);
            // Later ones begin anywhere in a record.
            let plain = is_first.then(|| Failure::of_plain_answer(bytes));
            if let Some(failure) = plain.flatten() {
                self.failed = Some(failure);
                return Ok(Some(0));
            }
            let (opened, mut filled) = (&mut self.opened, 0);
            let mut take = |plain: &[u8]| {
                let (fits, rest) = plain.split_at(plain.len().min(to.len() - filled));
                to[filled..filled + fits.len()].copy_from_slice(fits);
                filled += fits.len();
                opened.extend_from_slice(rest);
            };
            let done = self.session.open(bytes, &mut take, wire);
            self.failed = done.err();
            if self.session.is_established() {
                self.established_at.get_or_insert_with(Instant::now);
            }
            // With a failure an alert goes out; who does not take it does not need to know.
            match (self.send(wire), &self.failed) {
                (Err(error), None) if filled == 0 => Err(error),
                _ => Ok(Some(filled)),
            }
        })
    }

    fn closed_early(&self) -> io::Error {
        let why = match self.is_answered {
            true => "it closed the connection within the handshake; its log says why, if it is a distributor",
            false => "it closed the connection without a word of TLS: is TLS spoken at that port?",
        };
        failed(Failure::new(FailureKind::Closed, why))
    }
}

/// The peer is told that this was no accident, if the socket takes it at once.
impl<S: Read + Write> Drop for Stream<S> {
    fn drop(&mut self) {
        if self.session.is_established() && self.failed.is_none() {
            let _ = self.end();
        }
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let waiting = &self.opened[self.opened_at..];
            if !waiting.is_empty() || to.is_empty() {
                let count = waiting.len().min(to.len());
                to[..count].copy_from_slice(&waiting[..count]);
                self.opened_at += count;
                if self.opened_at == self.opened.len() {
                    self.opened_at = 0;
                    match to.len() < READ_BYTES_MIN {
                        true => self.opened = Vec::new(), // a small reader: there may be many of them
                        false => self.opened.clear(),
                    }
                }
                return Ok(count);
            }
            if let Some(failure) = self.failed.clone() {
                return Err(failed(failure));
            }
            if self.session.has_ended() {
                return Ok(0);
            }
            match self.exchange(to)? {
                Some(0) => {}
                Some(filled) => return Ok(filled),
                None => return Err(cut_off()),
            }
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    /// At most 64 KiB. What it says is sealed, and the socket takes it before anything that comes later.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if !self.send_unsent()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = &bytes[..bytes.len().min(SEALED_BYTES_MAX)];
        with_passing(|_, wire| {
            self.session.seal(bytes, wire).map_err(failed)?;
            self.send(wire)
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.send_unsent()? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// How much a socket took, and whether it is broken.
struct Sent {
    count: usize,
    ended: Option<io::Error>,
}

fn send_some(socket: &mut impl Write, bytes: &[u8]) -> Sent {
    let mut sent = Sent {
        count: 0,
        ended: None,
    };
    while sent.count < bytes.len() {
        match socket.write(&bytes[sent.count..]) {
            Ok(0) => {
                sent.ended = Some(io::ErrorKind::WriteZero.into());
                break;
            }
            Ok(count) => sent.count += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_wait(&error) => break,
            Err(error) => {
                sent.ended = Some(error);
                break;
            }
        }
    }
    sent
}

fn with_passing<T>(work: impl FnOnce(&mut Vec<u8>, &mut Wire) -> io::Result<T>) -> io::Result<T> {
    PASSING.with_borrow_mut(|(buffer, wire)| {
        wire.clear();
        work(buffer, wire)
    })
}

fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn failed(failure: Failure) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, failure)
}

/// A handshake that took too long.
pub fn timed_out(patience: Duration) -> io::Error {
    let text = format!(
        "its handshake of TLS took longer than {} s: is TLS spoken at that port?",
        patience.as_secs()
    );
    io::Error::new(
        io::ErrorKind::TimedOut,
        Failure::new(FailureKind::Timeout, text),
    )
}

/// A stream that ended without a word.
fn cut_off() -> io::Error {
    let why = "it closed the connection without saying so (no close_notify): it died, or somebody between cut it off";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

#[cfg(test)]
mod tests;
