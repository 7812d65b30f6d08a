//! One emitter connection: its socket, what the socket has not taken, and what is owed to it.
//!
//! ```text
//!   Waiting --time--> Connecting --writable--> Open --all sent--> Closing --EOF--> Closed
//!      ^                  |  `- with TLS: Securing --handshake done-- Open       (the same from there)
//!      ^                  |                     | |
//!      +---- back-off ----+------ broken -------+ EOF
//!      ^                                          v
//!      +------------- back-off --------------- Leaving
//! ```
//!
//! An end of stream while it is open is the distributor's request to go: what is being written is
//! finished, this side is shut down, and the next number goes out on the next connection.

mod acked;

use super::acked::Unacked;
use crate::backoff::Backoff;
use crate::peers::Peer;
use crate::shapes::SeverityCounts;
use crate::socket::Socket;
use mio::net::TcpStream;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use weir_ledger::run_report::Span;
use weir_protocol::foreign::{self, Foreign};
use weir_protocol::frame::FRAME_HEADER_BYTES;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For the next attempt to connect.
    Waiting,
    /// For the handshake.
    Connecting,
    /// For the end of the handshake of TLS.
    Securing,
    /// Can be written to.
    Open,
    /// Everything is written; the peer has not closed yet.
    Closing,
    /// The peer asked to go; what it may still get is on its way.
    Leaving,
    /// Over.
    Closed,
}

/// How a write went.
#[derive(Debug)]
pub enum Wrote {
    /// The socket took everything.
    All,
    /// It is full; readiness will tell.
    Blocked,
    /// It broke.
    Broken(io::Error),
}

/// How a farewell goes.
#[derive(Debug)]
pub enum Farewell {
    /// Bytes are under way, or the peer's kernel has not confirmed the last of them.
    Pending,
    /// The peer's kernel has everything.
    Gone,
    /// It is not known what the peer's kernel has.
    Unconfirmed {
        /// Messages that may have been in the socket's buffer.
        lost_max: u64,
    },
    /// It broke.
    Broken(io::Error),
}

/// Bytes that are read at a time: a few ACKs, or what tells who else is there.
const READ_BYTES: usize = 2 * foreign::LOOK_BYTES;
/// Ranges of a stream that are kept apart; beyond, later ones become one with the last.
const SPANS_MAX: usize = 1_024;
/// After the peer asked to go: how long the rest of what is being written may take.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);
/// After this side is shut down: how long the peer's confirmation may take.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// A connection that was open for so long was to a distributor.
const LASTED: Duration = Duration::from_secs(2);

/// One connection.
pub struct Connection {
    /// `<emitter-id>/<number>`.
    pub stream_name: Vec<u8>,
    /// Where it is.
    pub state: State,
    /// Present unless waiting or closed.
    pub socket: Option<Socket<TcpStream>>,
    /// Where the socket is connected to, or was last.
    pub addr: Option<SocketAddr>,
    /// Of the present socket, once it is open.
    pub peer: Option<Peer>,
    /// Attempts to connect so far.
    pub attempts: u64,
    /// Addresses that did not answer, one after the other without a wait.
    pub tried: usize,
    /// Number of the next message.
    pub next_sequence: u64,
    /// Groups that are due here and not written.
    pub owed: u64,
    /// Next group of the schedule that is this connection's.
    pub next_group: u64,
    /// In the worker's ready queue.
    pub is_queued: bool,
    /// Was open before.
    pub has_connected: bool,
    /// First attempt to connect has had an outcome.
    pub was_tried: bool,
    /// Whole messages that sockets of this connection took.
    pub messages: u64,
    /// Their frames' bytes.
    pub bytes: u64,
    /// Time it could not write, up to the last time that it could.
    blocked: Duration,
    /// For attempts to connect.
    pub backoff: Backoff,
    /// Messages are ACKed here: those that are not.
    pub acked: Option<Box<Unacked>>,
    /// The distributor asked to go, by a word.
    is_asked_to_go: bool,
    /// Messages that may have been in a socket buffer when it broke.
    pub maybe_lost: Vec<Span>,
    /// Messages that were partly written when it broke, and sent again.
    pub resent: Vec<Span>,
    /// The peer has closed its side, and that is not the end yet.
    pub is_peer_done: bool,
    /// When a farewell is given up.
    leave_by: Option<Instant>,
    /// The peer sent something on the present or the last socket.
    pub is_answered: bool,
    /// Since when it is open, and taken in.
    opened_at: Option<Instant>,
    /// This side is shut down.
    is_shut: bool,
    /// Of the shortest message.
    frame_bytes_min: usize,
    /// What the socket did not take, from the start of a message on.
    unsent: Vec<u8>,
    /// Messages in it that are not taken whole.
    unsent_messages: u64,
    /// How much of `unsent` it did take.
    unsent_at: usize,
    /// Whole messages that the present socket took.
    messages_here: u64,
    blocked_since: Option<Instant>,
}

/// What a broken connection leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breakage {
    /// Messages that may have been in the socket's buffer.
    pub lost_max: u64,
    /// Messages that will be sent again whole.
    pub resent: u64,
}

impl Connection {
    /// Not yet connected. `first_group` is its first in the schedule.
    pub fn new(stream_name: Vec<u8>, first_group: u64, frame_bytes_min: usize, seed: u64) -> Self {
        Self {
            stream_name,
            state: State::Waiting,
            socket: None,
            addr: None,
            peer: None,
            attempts: 0,
            tried: 0,
            next_sequence: 1,
            owed: 0,
            next_group: first_group,
            is_queued: false,
            has_connected: false,
            was_tried: false,
            messages: 0,
            bytes: 0,
            blocked: Duration::ZERO,
            backoff: Backoff::new(seed),
            acked: None,
            is_asked_to_go: false,
            maybe_lost: Vec::new(),
            resent: Vec::new(),
            is_peer_done: false,
            leave_by: None,
            is_answered: false,
            opened_at: None,
            is_shut: false,
            frame_bytes_min,
            unsent: Vec::new(),
            unsent_messages: 0,
            unsent_at: 0,
            messages_here: 0,
            blocked_since: None,
        }
    }

    /// Open, and the socket took everything so far; of an acked link: there is room for more that is not ACKed.
    pub fn can_write(&self) -> bool {
        let has_room = match &self.acked {
            Some(acked) => acked.has_room(),
            None => self.unsent.is_empty(),
        };
        self.state == State::Open && has_room
    }

    /// Something waits that the socket may take.
    pub fn wants_to_flush(&self) -> bool {
        let waits = match &self.acked {
            Some(acked) => acked.wants_to_write(),
            None => !self.unsent.is_empty(),
        };
        self.state == State::Open && waits
    }

    /// The kernel may take more of what TLS has sealed.
    ///
    /// # Errors
    /// The connection broke.
    pub fn settle(&mut self) -> io::Result<()> {
        self.socket.as_mut().map_or(Ok(()), Socket::settle)
    }

    /// It has a socket whose end is not settled.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Closing | State::Leaving)
    }

    /// Messages that are encoded and not taken whole.
    pub fn unsent_messages(&self) -> u64 {
        match self.acked {
            Some(_) => self.next_sequence - 1 - self.messages,
            None => self.unsent_messages,
        }
    }

    /// Messages that are encoded and not ACKed, where they are ACKed.
    pub fn unacked_messages(&self) -> u64 {
        self.acked.as_ref().map_or(0, |acked| acked.messages())
    }

    /// The distributor has asked to go since this was asked last.
    pub fn takes_leave(&mut self) -> bool {
        std::mem::take(&mut self.is_asked_to_go)
    }

    /// Writes whole messages; keeps what the socket does not take. `sent` counts what it does.
    pub fn write(&mut self, frames: &[u8], sent: &mut SeverityCounts) -> Wrote {
        assert!(self.can_write());
        if let Some(acked) = &mut self.acked {
            let count = whole_frames(frames, |_| ()).messages;
            acked.push(self.next_sequence - count, frames);
            return self.flush_acked(true, sent);
        }
        let (taken, wrote) = self.write_some(frames);
        let whole = whole_frames(&frames[..taken], |severity| sent.note(severity));
        self.took(whole);
        if taken < frames.len() {
            let rest = &frames[whole.bytes..];
            self.unsent.extend_from_slice(rest);
            self.unsent_messages = whole_frames(rest, |_| ()).messages;
            self.unsent_at = taken - whole.bytes;
        }
        wrote
    }

    /// Writes what was kept.
    pub fn flush(&mut self, sent: &mut SeverityCounts) -> Wrote {
        if self.acked.is_some() {
            return self.flush_acked(true, sent);
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        let (taken, wrote) = self.write_some(&unsent[self.unsent_at..]);
        let end = self.unsent_at + taken;
        let whole = whole_frames(&unsent[..end], |severity| sent.note(severity));
        self.took(whole);
        self.unsent_messages -= whole.messages;
        unsent.drain(..whole.bytes);
        self.unsent_at = end - whole.bytes;
        self.unsent = unsent;
        wrote
    }

    fn took(&mut self, whole: Whole) {
        self.messages += whole.messages;
        self.messages_here += whole.messages;
        self.bytes += whole.bytes as u64;
    }

    fn write_some(&mut self, bytes: &[u8]) -> (usize, Wrote) {
        let Some(socket) = &mut self.socket else {
            return (0, Wrote::Broken(io::ErrorKind::NotConnected.into()));
        };
        let mut taken = 0;
        while taken < bytes.len() {
            match socket.write(&bytes[taken..]) {
                Ok(0) => return (taken, Wrote::Broken(io::ErrorKind::WriteZero.into())),
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return (taken, Wrote::Blocked);
                }
                Err(error) => return (taken, Wrote::Broken(error)),
            }
        }
        self.unblocked();
        (taken, Wrote::All)
    }

    /// Time that it could not write; until now, if it still cannot.
    pub fn blocked(&self) -> Duration {
        let since = self.blocked_since.map(|since| since.elapsed());
        self.blocked + since.unwrap_or_default()
    }

    fn unblocked(&mut self) {
        if let Some(since) = self.blocked_since.take() {
            self.blocked += since.elapsed();
        }
    }

    /// Whether the peer has closed its side.
    ///
    /// # Errors
    /// The connection broke, or the peer sent something that a distributor does not say here.
    pub fn is_peer_closed(&mut self) -> io::Result<bool> {
        let mut answer = [0; READ_BYTES];
        loop {
            let Some(socket) = &mut self.socket else {
                return Ok(true);
            };
            match socket.read(&mut answer) {
                Ok(0) => return Ok(true),
                Ok(bytes) if self.acked.is_some() => self.hear(&answer[..bytes])?,
                Ok(bytes) => {
                    self.is_answered = true;
                    return Err(io::Error::other(no_distributor(&answer[..bytes])));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Handshake complete.
    pub fn opened(&mut self) {
        self.state = State::Open;
        self.has_connected = true;
        self.was_tried = true;
        self.messages_here = 0;
        let ends = self
            .socket
            .as_ref()
            .map(Socket::get_ref)
            .and_then(|socket| Some((socket.local_addr().ok()?, socket.peer_addr().ok()?)));
        self.peer = ends.map(|(local, remote)| Peer::new(local, remote));
        self.opened_at = None;
        self.is_answered = false;
        self.is_peer_done = false;
        self.is_shut = false;
        self.leave_by = None;
        self.is_asked_to_go = false;
        if let Some(acked) = &mut self.acked {
            acked.opened();
            self.note_held(false);
        } else {
            self.is_taken_in();
        }
    }

    /// The distributor has taken it in: it is open, and the WELCOME of an acked link was read.
    pub fn is_taken_in(&mut self) {
        self.tried = 0;
        self.opened_at = Some(Instant::now());
    }

    /// The socket is gone; the message that it had taken in part will be sent again from its start.
    pub fn broke(&mut self) -> Breakage {
        let lost_max = self.note_maybe_lost();
        self.socket = None;
        self.peer = None;
        self.state = State::Waiting;
        self.unblocked();
        let resent = u64::from(self.unsent_at > 0);
        if resent > 0 {
            let cut = self.messages + 1;
            push_span(&mut self.resent, Span(cut, cut));
        }
        self.unsent_at = 0;
        Breakage { lost_max, resent }
    }

    /// What the socket's buffer may hold now is noted as possibly lost; how much.
    pub fn note_maybe_lost(&mut self) -> u64 {
        if self.acked.is_some() {
            return 0; // It is kept.
        }
        let buffered = self.socket.as_ref().map_or(0, send_buffer_bytes);
        let in_buffer_max = buffered.div_ceil(self.frame_bytes_min) as u64;
        let lost_max = self.messages_here.min(in_buffer_max) * u64::from(self.is_open());
        if lost_max > 0 {
            let span = Span(self.messages - lost_max + 1, self.messages);
            push_span(&mut self.maybe_lost, span);
        }
        lost_max
    }

    /// How long to wait before the next attempt to connect. That a connection opened says nothing of who is
    /// there: only one that has lasted starts the back-off anew.
    pub fn wait_before_connect(&mut self) -> Duration {
        let opened_at = self.opened_at.take();
        if opened_at.is_some_and(|at| at.elapsed() >= LASTED) {
            self.backoff.reset();
        }
        self.backoff.wait()
    }

    /// Tells the peer that this was all.
    pub fn shut_down(&mut self) {
        self.state = State::Closing;
        self.shut_write_side();
    }

    fn shut_write_side(&mut self) {
        self.is_shut = true;
        if let Some(socket) = &mut self.socket {
            // Fails only on a socket that is broken already: reading will tell.
            let _ = socket.shut_write();
        }
    }

    /// The peer asked to go: nothing new from here on.
    pub fn start_leaving(&mut self, now: Instant) {
        self.state = State::Leaving;
        self.is_peer_done = self.acked.is_none();
        self.leave_by = Some(now + LEAVE_PATIENCE);
    }

    /// Goes on with leaving. After [`Farewell::Gone`] and [`Farewell::Unconfirmed`] the connection
    /// waits for its next attempt to connect.
    pub fn leave(&mut self, now: Instant, sent: &mut SeverityCounts) -> Farewell {
        if self.acked.is_some() {
            return self.leave_acked(now, sent);
        }
        if !self.unsent.is_empty() {
            match self.flush(sent) {
                Wrote::All => {}
                Wrote::Broken(error) => return Farewell::Broken(error),
                Wrote::Blocked if self.leave_by.is_some_and(|by| now >= by) => {
                    let why = "the distributor asked to go and reads no more";
                    return Farewell::Broken(io::Error::other(why));
                }
                Wrote::Blocked => return Farewell::Pending,
            }
        }
        if !self.is_shut {
            self.shut_write_side();
            self.leave_by = Some(now + FAREWELL_PATIENCE);
        }
        match self.is_confirmed() {
            Err(error) => Farewell::Broken(error),
            Ok(true) => {
                self.rest();
                Farewell::Gone
            }
            Ok(false) if self.leave_by.is_some_and(|by| now >= by) => {
                let lost_max = self.note_maybe_lost();
                self.rest();
                Farewell::Unconfirmed { lost_max }
            }
            Ok(false) => Farewell::Pending,
        }
    }

    /// Both sides are closed, and the peer's kernel has confirmed every byte: only then does a
    /// socket forget its peer without an error.
    pub fn is_confirmed(&self) -> io::Result<bool> {
        let Some(socket) = self.socket.as_ref().map(Socket::get_ref) else {
            return Ok(true);
        };
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Without a socket, until the next attempt to connect.
    fn rest(&mut self) {
        self.unblocked();
        self.peer = None;
        self.socket = None;
        self.state = State::Waiting;
    }

    /// The peer has read everything and closed.
    pub fn close(&mut self) {
        self.unblocked();
        self.state = State::Closed;
        self.socket = None;
    }
}

/// What is wrong with a peer that answers.
fn no_distributor(answer: &[u8]) -> String {
    let why = match foreign::recognize(answer) {
        Some(Foreign::Text) | None => answer.escape_ascii().take(200).map(char::from).collect(),
        Some(foreign) => foreign.sentence(),
    };
    format!("what answers there is no distributor's emitters' port (its --emitters, 8080 by default): {why}")
}

/// Whole frames at the start of some bytes.
#[derive(Clone, Copy)]
pub struct Whole {
    /// How many.
    pub messages: u64,
    /// Their bytes.
    pub bytes: usize,
}

/// Walks frames from their first byte on; `each` gets the severity of each whole one.
pub fn whole_frames(bytes: &[u8], mut each: impl FnMut(u8)) -> Whole {
    let mut whole = Whole {
        messages: 0,
        bytes: 0,
    };
    while let Some(&[a, b, c, d, severity]) = bytes[whole.bytes..].first_chunk() {
        let frame_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
        let end = whole.bytes + frame_bytes.max(FRAME_HEADER_BYTES as usize);
        if end > bytes.len() {
            break;
        }
        each(severity);
        whole.messages += 1;
        whole.bytes = end;
    }
    whole
}

/// Adds a range behind or into the last one.
pub fn push_span(spans: &mut Vec<Span>, span: Span) {
    let is_full = spans.len() >= SPANS_MAX;
    match spans.last_mut() {
        Some(last) if is_full || span.0 <= last.1.saturating_add(1) => {
            *last = Span(last.0.min(span.0), last.1.max(span.1));
        }
        _ => spans.push(span),
    }
}

/// What this side's kernel may have held, and as much again for the peer's, which it cannot know; and what was sealed
/// and had not come as far.
fn send_buffer_bytes(socket: &Socket<TcpStream>) -> usize {
    let kernel = socket2::SockRef::from(socket.get_ref()).send_buffer_size();
    2 * kernel.unwrap_or(0) + socket.unsent_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use weir_protocol::frame::encode_header;

    const FRAME: usize = 1000;

    /// Distinct frames: message n is filled with n.
    fn frames(numbers: std::ops::Range<usize>) -> Vec<u8> {
        let mut all = Vec::with_capacity(numbers.len() * FRAME);
        for number in numbers {
            all.extend(encode_header(FRAME as u32 - FRAME_HEADER_BYTES, 3));
            all.resize(
                all.len() + FRAME - FRAME_HEADER_BYTES as usize,
                (number % 251) as u8,
            );
        }
        all
    }

    fn pair() -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let stream = std::net::TcpStream::connect(listener.local_addr().expect("addr"));
        let stream = stream.expect("connect");
        stream.set_nonblocking(true).expect("nonblocking");
        let mut connection = Connection::new(b"e/0".to_vec(), 0, FRAME, 1);
        connection.socket = Some(TcpStream::from_std(stream).into());
        connection.opened();
        (connection, listener.accept().expect("accept").0)
    }

    /// Distinct frames, written until the socket is full; how many.
    fn fill(connection: &mut Connection) -> u64 {
        for written in (0..).step_by(7) {
            let frames = frames(written..written + 7);
            if !matches!(
                connection.write(&frames, &mut SeverityCounts::default()),
                Wrote::All
            ) {
                return written as u64 + 7;
            }
        }
        unreachable!()
    }

    #[test]
    fn what_the_socket_refused_follows_later_and_whole() {
        let (mut connection, peer) = pair();
        let written = fill(&mut connection);
        assert!(!connection.can_write());
        assert_eq!(connection.messages + connection.unsent_messages(), written);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            (&peer).read_to_end(&mut all).expect("read");
            all
        });
        while !matches!(connection.flush(&mut SeverityCounts::default()), Wrote::All) {
            std::thread::yield_now();
        }
        assert_eq!(
            (connection.messages, connection.unsent_messages()),
            (written, 0)
        );
        connection.shut_down();
        let all = reader.join().expect("reader");
        assert!(all == frames(0..written as usize));
        assert_eq!(connection.bytes, all.len() as u64);
    }

    #[test]
    fn a_broken_connection_sends_the_cut_message_again() {
        const FRAMES: usize = 40_000; // far more than the sockets hold
        let (mut connection, mut peer) = pair();
        let frames = frames(0..FRAMES);
        let mut sent = SeverityCounts::default();
        assert!(matches!(
            connection.write(&frames, &mut sent),
            Wrote::Blocked
        ));
        let (mut read, at_first) = (vec![0; 3_000_000], connection.messages);
        while connection.messages < at_first + 2 {
            peer.read_exact(&mut read).expect("read");
            assert!(matches!(connection.flush(&mut sent), Wrote::Blocked));
        }
        let messages = connection.messages;
        assert_eq!(sent.seen().collect::<Vec<_>>(), [(3, messages)]);
        assert_eq!(messages + connection.unsent_messages(), FRAMES as u64);
        let was_cut = connection.unsent_at > 0;
        drop(peer);
        let breakage = connection.broke();
        assert_eq!(breakage.resent, u64::from(was_cut));
        assert!(breakage.lost_max > 0 && breakage.lost_max <= messages);
        assert_eq!(
            (connection.state, connection.unsent_at),
            (State::Waiting, 0)
        );
        assert!(
            connection.unsent == frames[messages as usize * FRAME..],
            "whole messages only"
        );
    }
}
