//! One emitter thread: its share of the connections and of the schedule. How it ends: `worker/close.rs`, what came of it:
//! `worker/summary.rs`; peers that are silent: `worker/silent.rs`.

mod close;
mod secure;
mod silent;
mod summary;

use super::acked::Unacked;
use super::addresses::Addresses;
use super::connection::{Connection, Farewell, State, Wrote};
use super::schedule::{part, Schedule};
use super::{Options, Report};
use crate::payload::{self, Numbered};
use crate::peers::{self, Peers};
use crate::shapes::{Deck, Shape};
use crate::socket::Socket;
use crate::unix_ns;
use mio::{Events, Interest, Poll, Token};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use weir_clock::Limit;
use weir_ledger::run_report::Stream;
use weir_protocol::frame::{encode_header, FRAME_HEADER_BYTES};
use weir_tls::Connector;

/// Handshakes at a time: more than a listener's backlog would only be dropped and retried.
const CONNECTING_MAX: usize = 256;
/// The schedule starts when every connection has been tried, or after this long.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// An address that has not answered by then is left for another one; a peer timeout if that is less.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// After a signal: what was due has this long.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
/// How soon a connection that has no address to go to looks again.
const NO_ADDRESS_PAUSE: Duration = Duration::from_millis(50);
/// After the duration: what is due and blocked has this long.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// How often the stop flag is looked at when nothing happens.
const POLL_MAX: Duration = Duration::from_millis(50);
/// epoll counts in milliseconds; shorter waits are slept.
const POLL_STEP: Duration = Duration::from_millis(1);
/// How often connections that are on their way out are looked at.
const LEAVE_CHECK_EVERY: Duration = Duration::from_millis(10);
const EVENTS_MAX: usize = 1_024;

/// One thread's work.
pub struct Worker {
    is_numbered: bool,
    has_checksum: bool,
    duration: Option<Duration>,
    has_count: bool,
    addresses: Arc<Addresses>,
    peers: Arc<Peers>,
    tls: Option<Arc<Connector>>,
    /// Looks at peers so far.
    peers_version: u64,
    stop: Arc<AtomicBool>,
    schedule: Schedule,
    connections: Vec<Connection>,
    /// Connections that can be written to and have something due.
    ready: VecDeque<usize>,
    /// When to connect again.
    waiting: BinaryHeap<Reverse<(Instant, usize)>>,
    connecting: usize,
    /// Until when they may, and which attempt that was.
    connecting_until: VecDeque<(Instant, usize, u64)>,
    /// The same of those that wait for a WELCOME.
    welcome_until: VecDeque<(Instant, usize, u64)>,
    /// The same of handshakes of TLS.
    securing_until: VecDeque<(Instant, usize, u64)>,
    untried: usize,
    poll: Poll,
    events: Events,
    deck: Deck,
    /// The group that is written. Where all messages are alike it is filled once; numbers are written over.
    scratch: Vec<u8>,
    report: Report,
    has_warned: bool,
    /// Connections whose end the peer's kernel has yet to confirm.
    leaving: Vec<usize>,
    next_leave_check: Instant,
    /// Messages are ACKed.
    is_acked: bool,
    /// Nothing new is sent; only what is not ACKed still needs a connection.
    is_closing: bool,
}

impl Worker {
    /// Worker `index` of `workers`.
    pub fn new(
        options: &Options,
        index: u32,
        workers: u32,
        addresses: Arc<Addresses>,
        peers: Arc<Peers>,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let (index, workers) = (u64::from(index), u64::from(workers));
        let all = u64::from(options.connections);
        let count = part(all, index, workers);
        let first = (0..index).map(|i| part(all, i, workers)).sum::<u64>();
        let total = total_messages(options).map(|total| part(total, index, workers));
        let rate = options.rate * count as f64 / all as f64;
        let deck = options.deck(index);
        let frame_bytes_min = (FRAME_HEADER_BYTES + deck.bytes_min()) as usize;
        let seed = unix_ns();
        let connection = |i| {
            let stream_name = format!("{}/{}", options.id, first + i).into_bytes();
            let seed = seed ^ (first + i) << 32;
            let mut connection = Connection::new(stream_name, i, frame_bytes_min, seed);
            connection.acked = options.acked.map(|kept_bytes| {
                let session = session_of(&options.id, seed);
                Box::new(Unacked::new(&options.id, session, kept_bytes, all))
            });
            connection
        };
        let now = Instant::now();
        Ok(Self {
            is_numbered: options.is_numbered(),
            has_checksum: options.checksum,
            duration: options.duration,
            has_count: options.count.is_some(),
            addresses,
            peers_version: peers.version(),
            peers,
            tls: options.tls.clone(),
            stop,
            schedule: Schedule::new(rate, options.batch, total),
            connections: (0..count).map(connection).collect(),
            ready: VecDeque::new(),
            waiting: (0..count as usize).map(|i| Reverse((now, i))).collect(),
            connecting: 0,
            connecting_until: VecDeque::new(),
            welcome_until: VecDeque::new(),
            securing_until: VecDeque::new(),
            untried: count as usize,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            scratch: filled_frames(&mut deck.clone(), options.batch),
            deck,
            report: Report::default(),
            has_warned: false,
            leaving: Vec::new(),
            next_leave_check: now,
            is_acked: options.acked.is_some(),
            is_closing: false,
        })
    }

    /// Sends everything, closes everything.
    pub fn run(&mut self) -> io::Result<(Report, Vec<Stream>)> {
        self.connect_all()?;
        let start = Instant::now();
        let start_unix_ns = unix_ns();
        let mut stopping: Option<Limit> = None;
        loop {
            self.start_connecting()?;
            self.check_peers();
            self.check_leaving();
            if stopping.is_none() && self.is_stopped() {
                stopping = Some(Limit::new(STOP_PATIENCE));
            }
            if stopping.is_none() {
                self.hand_out(start.elapsed());
            }
            self.write_ready(start_unix_ns);
            let is_finished = match &mut stopping {
                Some(limit) => !self.owes() || limit.is_over(),
                None => self.is_finished(start.elapsed()),
            };
            if is_finished {
                break;
            }
            self.wait(start)?;
        }
        self.report.elapsed = start.elapsed();
        match self.is_acked {
            true => self.close_acked()?,
            false => self.close_all()?,
        }
        let report = self.summary();
        Ok((report, self.streams()))
    }

    fn connect_all(&mut self) -> io::Result<()> {
        let mut limit = Limit::new(START_PATIENCE);
        while self.untried > 0 && !self.is_stopped() && !limit.is_over() {
            self.start_connecting()?;
            self.check_peers();
            self.handle_events(Some(POLL_MAX))?;
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Nothing is left to send, or no time to send it in.
    fn is_finished(&self, elapsed: Duration) -> bool {
        let is_time_over = self.duration.is_some_and(|duration| elapsed >= duration);
        let end = self.duration.map(|duration| duration + END_PATIENCE);
        if is_time_over && !self.schedule.is_paced() {
            return true;
        }
        if !self.has_count && end.is_some_and(|end| elapsed >= end) {
            return true;
        }
        !self.schedule.has_next() && !self.has_backlog()
    }

    /// Groups are due and not written.
    fn owes(&self) -> bool {
        self.connections.iter().any(|c| c.owed > 0)
    }

    fn has_backlog(&self) -> bool {
        self.connections
            .iter()
            .any(|c| c.owed > 0 || c.unsent_messages() > 0)
    }

    fn start_connecting(&mut self) -> io::Result<()> {
        while self.connecting < CONNECTING_MAX {
            match self.waiting.peek() {
                Some(Reverse((at, _))) if *at <= Instant::now() => {}
                _ => return Ok(()),
            }
            let Some(Reverse((_, index))) = self.waiting.pop() else {
                return Ok(());
            };
            self.connect(index)?;
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> io::Result<()> {
        if self.is_closing && self.connections[index].unacked_messages() == 0 {
            self.connections[index].close();
            return Ok(());
        }
        let now = Instant::now();
        let Some(addr) = self.addresses.next() else {
            self.waiting.push(Reverse((now + NO_ADDRESS_PAUSE, index)));
            return Ok(());
        };
        let connection = &mut self.connections[index];
        connection.addr = Some(addr);
        connection.attempts += 1;
        match mio::net::TcpStream::connect(addr) {
            Ok(mut socket) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .register(&mut socket, Token(index), interest)?;
                connection.socket = Some(socket.into());
                connection.state = State::Connecting;
                self.connecting += 1;
                let until = now + CONNECT_PATIENCE.min(self.peers.patience());
                let attempt = connection.attempts;
                self.connecting_until.push_back((until, index, attempt));
            }
            Err(error) => self.broken(index, &error),
        }
        Ok(())
    }

    fn connect_later(&mut self, index: usize) {
        let again = Instant::now() + self.connections[index].wait_before_connect();
        self.waiting.push(Reverse((again, index)));
    }

    /// Goes on with a farewell.
    fn leave(&mut self, index: usize) {
        let sent = &mut self.report.severities;
        match self.connections[index].leave(Instant::now(), sent) {
            Farewell::Pending => return,
            Farewell::Broken(error) => return self.broken(index, &error),
            Farewell::Gone => {}
            Farewell::Unconfirmed { lost_max } => self.report.lost_max += lost_max,
        }
        log::debug!("connection {index} left as the distributor asked");
        self.report.farewells += 1;
        self.connect_later(index);
    }

    /// Looks at the connections that are on their way out, now and then: the kernel does not tell
    /// of every step.
    fn check_leaving(&mut self) {
        let now = Instant::now();
        if self.leaving.is_empty() || now < self.next_leave_check {
            return;
        }
        self.next_leave_check = now + LEAVE_CHECK_EVERY;
        for index in std::mem::take(&mut self.leaving) {
            match self.connections[index].state {
                State::Leaving => self.leave(index),
                State::Closing => self.confirm(index),
                _ => {}
            }
            let state = self.connections[index].state;
            if matches!(state, State::Leaving | State::Closing) {
                self.leaving.push(index);
            }
        }
    }

    /// Everything is sent, and the peer has closed: over once its kernel has confirmed it.
    fn confirm(&mut self, index: usize) {
        match self.connections[index].is_confirmed() {
            Ok(true) => self.connections[index].close(),
            Ok(false) => {}
            Err(error) => self.broken(index, &error),
        }
    }

    /// Gives groups that are due to their connections.
    fn hand_out(&mut self, now: Duration) {
        if !self.schedule.is_paced() {
            return;
        }
        // The schedule is bounded by the duration, not by when this loop last looked.
        while let Some(group) = self.schedule.take(now) {
            let index = (group % self.connections.len() as u64) as usize;
            self.connections[index].owed += 1;
            self.queue(index);
        }
    }

    /// Puts a connection in the ready queue if it can be written to and has something due.
    fn queue(&mut self, index: usize) {
        let has_work = !self.schedule.is_paced() && self.schedule.has_next();
        let connection = &mut self.connections[index];
        if connection.can_write() && !connection.is_queued && (has_work || connection.owed > 0) {
            connection.is_queued = true;
            self.ready.push_back(index);
        }
    }

    /// One group for each ready connection.
    fn write_ready(&mut self, start_unix_ns: u64) {
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else {
                return;
            };
            self.connections[index].is_queued = false;
            self.write_group(index, start_unix_ns);
            self.queue(index);
        }
    }

    fn write_group(&mut self, index: usize, start_unix_ns: u64) {
        if !self.connections[index].can_write() {
            return;
        }
        let Some((group, due_unix_ns)) = self.take_group(index, start_unix_ns) else {
            return;
        };
        let messages = self.schedule.messages(group);
        let bytes = self.compose(index, messages, due_unix_ns);
        let connection = &mut self.connections[index];
        if let Wrote::Broken(error) =
            connection.write(&self.scratch[..bytes], &mut self.report.severities)
        {
            self.broken(index, &error);
        }
    }

    /// The connection's next group and when its messages were due.
    fn take_group(&mut self, index: usize, start_unix_ns: u64) -> Option<(u64, u64)> {
        if !self.schedule.is_paced() {
            return self
                .schedule
                .take(Duration::ZERO)
                .map(|group| (group, unix_ns()));
        }
        let count = self.connections.len() as u64;
        let connection = &mut self.connections[index];
        connection.owed = connection.owed.checked_sub(1)?;
        let group = connection.next_group;
        connection.next_group += count;
        Some((
            group,
            start_unix_ns + self.schedule.due(group).as_nanos() as u64,
        ))
    }

    /// Puts the next messages of a connection into `scratch`; their bytes.
    fn compose(&mut self, index: usize, messages: u64, due_unix_ns: u64) -> usize {
        let connection = &mut self.connections[index];
        let first = connection.next_sequence;
        connection.next_sequence += messages;
        let mut end = 0;
        for sequence in first..first + messages {
            let shape = self.deck.deal();
            let start = end;
            end += (FRAME_HEADER_BYTES + shape.bytes) as usize;
            if self.deck.is_varied() {
                fill_frame(&mut self.scratch, start, shape);
            }
            let payload = &mut self.scratch[start + FRAME_HEADER_BYTES as usize..end];
            if self.is_numbered {
                let numbered = Numbered {
                    stream: &connection.stream_name,
                    sequence,
                    due_unix_ns,
                    has_checksum: self.has_checksum,
                };
                payload::encode(payload, numbered);
            }
            if self.has_checksum {
                payload::seal(shape.severity, payload);
            }
        }
        end
    }

    /// Waits for readiness, for the next group, or for the next attempt to connect.
    fn wait(&mut self, start: Instant) -> io::Result<()> {
        let now = Instant::now();
        let due = self.schedule.next_due().map(|due| start + due);
        let due = due.filter(|_| self.schedule.is_paced() && !self.is_stopped());
        let connect = self.waiting.peek().map(|Reverse((at, _))| *at);
        let connect = connect.filter(|_| self.connecting < CONNECTING_MAX);
        let until = [due, connect]
            .into_iter()
            .flatten()
            .min()
            .map_or(now + POLL_MAX, |at| at);
        let wait = until.saturating_duration_since(now).min(POLL_MAX);
        if !self.ready.is_empty() || wait.is_zero() {
            return self.handle_events(Some(Duration::ZERO));
        }
        if wait < POLL_STEP {
            thread::sleep(wait);
            return self.handle_events(Some(Duration::ZERO));
        }
        // epoll rounds up: a millisecond early is made up for by the sleep above.
        self.handle_events(Some(wait - wait.min(POLL_STEP / 2)))
    }

    fn handle_events(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, timeout);
        for event in &events {
            self.handle(
                event.token().0,
                event.is_readable() || event.is_read_closed(),
            );
        }
        self.events = events;
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn handle(&mut self, index: usize, is_readable: bool) {
        if self.connections[index].state == State::Connecting {
            self.handle_connecting(index);
        }
        if self.connections[index].state == State::Securing {
            self.handle_securing(index);
        }
        let state = self.connections[index].state;
        let is_read = match state {
            State::Open | State::Closing => true,
            State::Leaving => self.is_acked,
            _ => false,
        };
        if is_readable && is_read {
            self.handle_readable(index);
        }
        if self.connections[index].is_open() {
            if let Err(error) = self.connections[index].settle() {
                self.broken(index, &error);
            }
        }
        if self.connections[index].state == State::Leaving {
            self.leave(index);
        }
        let connection = &mut self.connections[index];
        if connection.wants_to_flush() {
            if let Wrote::Broken(error) = connection.flush(&mut self.report.severities) {
                self.broken(index, &error);
            }
        }
        self.queue(index);
    }

    /// An end of stream confirms a half-closed connection, and asks an open one to go.
    fn handle_readable(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let was_awaited = connection.awaits_welcome();
        let is_closed = connection.is_peer_closed();
        if was_awaited && !connection.awaits_welcome() {
            connection.is_taken_in();
            if let Some(addr) = connection.addr {
                self.addresses.worked(addr);
            }
        }
        match is_closed {
            Ok(false) if connection.state == State::Open && connection.takes_leave() => {
                connection.start_leaving(Instant::now());
                self.leaving.push(index);
            }
            Ok(false) => {}
            Ok(true) if connection.is_peer_done => {}
            Ok(true) if self.is_acked && connection.takes_leave() => {
                connection.start_leaving(Instant::now());
                connection.is_peer_done = true;
                self.leaving.push(index);
            }
            Ok(true) if self.is_acked && connection.state == State::Leaving => {
                connection.is_peer_done = true;
            }
            Ok(true) if self.is_acked && connection.state == State::Open => {
                let error = io::Error::other("the distributor closed it");
                self.broken(index, &error);
            }
            Ok(true) if connection.state == State::Closing => {
                connection.is_peer_done = true;
                self.leaving.push(index);
                self.confirm(index);
            }
            Ok(true) => {
                connection.start_leaving(Instant::now());
                self.leaving.push(index);
            }
            Err(error) => self.broken(index, &error),
        }
    }

    fn handle_connecting(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(socket) = connection.socket.as_ref().map(Socket::get_ref) else {
            return;
        };
        let is_connected = match (socket.take_error(), socket.peer_addr()) {
            (Ok(Some(error)) | Err(error), _) => return self.broken(index, &error),
            (_, Ok(_)) => true,
            (_, Err(error)) if error.kind() == io::ErrorKind::NotConnected => false,
            (_, Err(error)) => return self.broken(index, &error),
        };
        if !is_connected {
            return;
        }
        // Best effort: without the first only latency suffers; that the second is missing, the books tell later.
        let _ = socket.set_nodelay(true);
        let _ = peers::keep_alive(&socket2::SockRef::from(socket), self.peers.patience());
        match self.tls {
            None => self.opened(index),
            Some(_) => self.secure(index),
        }
    }

    /// TCP and TLS are done.
    fn opened(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if let Some(addr) = connection.addr.filter(|_| connection.acked.is_none()) {
            self.addresses.worked(addr);
        }
        self.connecting -= 1;
        self.untried -= usize::from(!connection.was_tried);
        if connection.has_connected {
            self.report.reconnects += 1;
        } else {
            self.report.connected += 1;
        }
        connection.opened();
        if connection.awaits_welcome() {
            let attempt = connection.attempts;
            let until = Instant::now() + self.welcome_patience();
            self.welcome_until.push_back((until, index, attempt));
        }
    }
}

/// Names a stream of numbers among all of all emitters, now and later.
fn session_of(id: &str, seed: u64) -> u64 {
    let id = payload::stream_hash(id.as_bytes());
    payload::stream_hash(&[id.to_be_bytes(), seed.to_be_bytes()].concat())
}

/// The lower of the count and what rate and duration come to.
pub fn total_messages(options: &Options) -> Option<u64> {
    let timed = options.duration.filter(|_| options.rate > 0.0);
    let timed = timed.map(|duration| (options.rate * duration.as_secs_f64()).round() as u64);
    match (options.count, timed) {
        (Some(count), Some(timed)) => Some(count.min(timed)),
        (count, timed) => count.or(timed),
    }
}

/// `batch` frames with filler for payload, when all are alike.
fn filled_frames(deck: &mut Deck, batch: u32) -> Vec<u8> {
    let mut frames = Vec::new();
    if !deck.is_varied() {
        for _ in 0..batch {
            let end = frames.len();
            fill_frame(&mut frames, end, deck.deal());
        }
    }
    frames
}

/// A frame at `start`, with filler for payload; `frames` grows if need be.
fn fill_frame(frames: &mut Vec<u8>, start: usize, shape: Shape) {
    let end = start + (FRAME_HEADER_BYTES + shape.bytes) as usize;
    if frames.len() < end {
        frames.resize(end, 0);
    }
    let (header, payload) = frames[start..end].split_at_mut(FRAME_HEADER_BYTES as usize);
    header.copy_from_slice(&encode_header(shape.bytes, shape.severity));
    payload::fill(payload);
}
