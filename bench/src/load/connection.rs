//! One emitter connection: its socket, what the socket did not take, and over HTTP the answers.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;

use weir::http::ResponseReader;

use super::units::Around;
use super::window::Window;
use crate::net::is_would_block;
use crate::secured::Socket;

/// Sent bytes at the front of a backlog are cut off when they are so many: moving the rest costs
/// less than once a write then.
const SENT_LEN_MAX: usize = 256 * 1024;
pub struct Connection {
    pub stream: Socket,
    /// Composed bytes, the first `sent` of them gone.
    backlog: Vec<u8>,
    sent: usize,
    /// HTTP: messages in each request without an answer yet, oldest first.
    asked: VecDeque<u32>,
    reader: ResponseReader,
    /// What is open, of protocols that ack.
    pub window: Option<Window>,
    around: Around,
}

/// What answers said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Messages in packets answered 2xx.
    pub taken: u64,
    /// Messages in packets answered otherwise: 503 under pressure.
    pub refused: u64,
}

impl Connection {
    pub fn new(stream: Socket) -> Self {
        Self {
            stream,
            backlog: Vec::new(),
            sent: 0,
            asked: VecDeque::new(),
            reader: ResponseReader::new(),
            window: None,
            around: Around::default(),
        }
    }

    /// Begins to connect. Bytes that are written before that is through wait in the backlog.
    pub fn reopen(&mut self, peer: SocketAddr) -> io::Result<()> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(peer),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&peer.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
            Err(e) => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("cannot connect to {peer}: {e}"),
                ))
            }
        }
        // The old one closes here: all its bytes are the kernel's, and nothing unread resets it.
        self.stream = Socket::Plain(socket.into());
        Ok(())
    }

    /// Bytes that the socket did not take.
    pub fn backlog_len(&self) -> usize {
        self.backlog.len() - self.sent + self.stream.unsent_bytes()
    }

    /// All is sent and answered.
    pub fn is_idle(&self) -> bool {
        let is_acked = self.window.as_ref().is_none_or(Window::is_empty);
        self.backlog_len() == 0 && self.asked.is_empty() && is_acked
    }

    /// Another unit may be sent.
    pub fn has_room(&self) -> bool {
        self.window.as_ref().is_none_or(Window::has_room)
    }

    /// One read, and the acks in it.
    pub fn read_acks(&mut self) -> io::Result<()> {
        match &mut self.window {
            Some(window) => window.read(&mut self.stream),
            None => Ok(()),
        }
    }

    /// Remembers a request of so many messages.
    pub fn expect_answer(&mut self, messages: u32) {
        self.asked.push_back(messages);
    }

    /// Writes `messages` messages, and keeps what is not taken.
    pub fn send(&mut self, bytes: &[u8], messages: u64) -> io::Result<()> {
        if let Some(window) = &mut self.window {
            window.wrap(messages, bytes, &mut self.around);
        }
        let Around {
            head,
            tail,
            is_instead,
        } = &self.around;
        let body = if *is_instead { &[][..] } else { bytes };
        let mut taken = match self.backlog_len() {
            0 => write_some(&mut self.stream, head, body, tail)?,
            _ => 0,
        };
        for part in [head, body, tail] {
            let of_part = taken.min(part.len());
            self.backlog.extend_from_slice(&part[of_part..]);
            taken -= of_part;
        }
        Ok(())
    }

    /// Writes what was kept.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.backlog_len() == 0 || !self.stream.send_unsent()? {
            return Ok(());
        }
        self.sent += write_some(&mut self.stream, &[], &self.backlog[self.sent..], &[])?;
        if self.sent == self.backlog.len() {
            self.backlog.clear();
            self.sent = 0;
        } else if self.sent > SENT_LEN_MAX {
            self.backlog.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// HTTP: one read, and the answers in it.
    pub fn read_answers(&mut self) -> io::Result<Answers> {
        let mut bytes = [0; 16 * 1024];
        let len = match self.stream.read(&mut bytes) {
            Ok(0) => {
                return Err(io::Error::other(
                    "the distributor closed an HTTP connection",
                ));
            }
            Ok(len) => len,
            Err(e) if is_would_block(&e) => 0,
            Err(e) => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("HTTP connection lost: {e}"),
                ))
            }
        };
        let (mut answers, mut input) = (Answers::default(), &bytes[..len]);
        let broken = |error| io::Error::other(format!("the peer's answers are not HTTP: {error}"));
        while let Some(answer) = self.reader.next(&mut input).map_err(broken)? {
            let messages = u64::from(self.asked.pop_front().unwrap_or(0));
            match answer.head.status {
                200..=299 => answers.taken += messages,
                _ => answers.refused += messages,
            }
        }
        Ok(answers)
    }
}

/// Bytes taken; 0 when the socket is full, or not connected yet.
fn write_some(stream: &mut Socket, head: &[u8], body: &[u8], tail: &[u8]) -> io::Result<usize> {
    let written = match head.is_empty() && tail.is_empty() {
        true => stream.write(body),
        false => stream.write_vectored(&[head, body, tail].map(IoSlice::new)),
    };
    match written {
        Err(e) if is_would_block(&e) || e.kind() == io::ErrorKind::NotConnected => Ok(0),
        Err(e) => Err(io::Error::new(
            e.kind(),
            format!("emitter connection lost: {e}"),
        )),
        sent => sent,
    }
}
