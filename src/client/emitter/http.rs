//! The emitter over HTTP: each connection is a thread that posts one packet after the other, on the same schedule.
//!
//! ```text
//!   group due --> packet of `batch` messages --POST /logs--> 202  counted
//!                                     ^                      429, 503, broken: the same packet again
//!                                     '----- back-off -------'
//!                                                            other 4xx: refused, counted, the next one
//! ```
//!
//! A packet whose connection breaks before its answer is sent again, so it may arrive twice; HTTP has nothing that
//! would tell. The run report names it (`maybe_twice`), and one that was never answered (`maybe_lost`).

use super::addresses::Addresses;
use super::connection::push_span;
use super::schedule::Schedule;
use super::worker::total_messages;
use super::{Options, Report};
use crate::backoff::Backoff;
use crate::payload::{self, Numbered};
use crate::peers::{self, Peer, Peers};
use crate::shapes::{Deck, SeverityCounts};
use crate::socket::Socket;
use crate::{is_wait, unix_ns};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use weir_clock::Limit;
use weir_http::{iso8601, level_of, reason, ResponseReader};
use weir_ledger::run_report::{Span, Stream};

/// Most connections: each has a thread.
const CONNECTIONS_MAX: u32 = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer may take this long: with `?wait=acked` an analyzer has to ACK first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the stop flag is looked at while nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After the duration: what was due has this long.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// A connection posts one packet after the other. One that is so late at the end was held up, and counts as not sent.
const LATE: Duration = Duration::from_millis(500);

/// What all connections share.
struct Shared {
    options: Options,
    addresses: Addresses,
    peers: Arc<Peers>,
    schedule: Schedule,
    start: Instant,
    start_unix_ns: u64,
    /// Without a rate: the next group that nobody has.
    next_group: AtomicU64,
    stop: Arc<AtomicBool>,
    has_warned: AtomicBool,
}

/// Sends until the duration or the count is over, or `stop` is raised.
///
/// # Errors
/// The name has no address, or a thread cannot be started.
pub(super) fn run(options: &Options, stop: &Arc<AtomicBool>) -> io::Result<(Report, Vec<Stream>)> {
    let connections = options.connections;
    if connections > CONNECTIONS_MAX {
        let text =
            format!("--connections {connections}: allowed with --http: 1 to {CONNECTIONS_MAX}");
        return Err(io::Error::other(text));
    }
    let shared = Arc::new(Shared {
        options: options.clone(),
        addresses: Addresses::start(&options.addr, &options.nameservers, unix_ns(), stop)?,
        peers: Peers::start(options.peer_timeout)?,
        schedule: Schedule::new(options.rate, options.batch, total_messages(options)),
        start: Instant::now(),
        start_unix_ns: unix_ns(),
        next_group: AtomicU64::new(0),
        stop: Arc::clone(stop),
        has_warned: AtomicBool::new(false),
    });
    let posters = (0..connections).map(|index| {
        let mut poster = Poster::new(Arc::clone(&shared), index, connections);
        let name = format!("post-{index}");
        thread::Builder::new().name(name).spawn(move || {
            poster.run();
            poster.finish()
        })
    });
    let posters = posters.collect::<io::Result<Vec<_>>>()?;
    let (mut report, mut streams) = (Report::default(), Vec::new());
    for poster in posters {
        let ended = poster.join();
        let (part, stream) = ended.map_err(|_| io::Error::other("an emitter thread panicked"))?;
        report.add(&part);
        streams.push(stream);
    }
    report.elapsed = shared.start.elapsed();
    Ok((report, streams))
}

/// One connection.
struct Poster {
    shared: Arc<Shared>,
    connections: u64,
    /// The next group of the schedule that is this connection's.
    next_group: u64,
    stream_name: String,
    next_sequence: u64,
    deck: Deck,
    payload: Vec<u8>,
    body: Vec<u8>,
    socket: Option<Socket<TcpStream>>,
    /// Of the socket.
    peer: Option<Peer>,
    backoff: Backoff,
    /// Ranges that a 2xx answered, or that nothing answered.
    given: Vec<Span>,
    /// Of them: that nothing answered.
    maybe_lost: Vec<Span>,
    /// Of them: sent again though they may have been taken.
    maybe_twice: Vec<Span>,
    report: Report,
}

/// One packet, ready to be sent again.
struct Packet {
    messages: u64,
    first: u64,
    bytes: u64,
    severities: SeverityCounts,
    /// The kernel took all of it at some time, and nothing said that the distributor did not.
    maybe_taken: bool,
}

impl Packet {
    fn span(&self) -> Span {
        Span(self.first, self.first + self.messages - 1)
    }
}

/// What came of a packet.
enum Outcome {
    Taken,
    /// Not to be sent again.
    Refused(u16),
    /// To be sent again, later.
    Busy(u16),
}

impl Poster {
    fn new(shared: Arc<Shared>, index: u32, connections: u32) -> Poster {
        let stream_name = format!("{}/{index}", shared.options.id);
        Poster {
            connections: connections.into(),
            next_group: index.into(),
            next_sequence: 1,
            deck: shared.options.deck(index.into()),
            payload: Vec::new(),
            body: Vec::new(),
            socket: None,
            peer: None,
            backoff: Backoff::new(
                shared.start_unix_ns ^ payload::stream_hash(stream_name.as_bytes()),
            ),
            given: Vec::new(),
            maybe_lost: Vec::new(),
            maybe_twice: Vec::new(),
            report: Report::default(),
            stream_name,
            shared,
        }
    }

    fn run(&mut self) {
        self.post_all();
        self.note_unsent();
    }

    fn post_all(&mut self) {
        while let Some((group, due)) = self.take_group() {
            if !self.wait_until(due) {
                self.next_group = group;
                return;
            }
            let due_unix_ns = match self.shared.schedule.is_paced() {
                true => self.shared.start_unix_ns + due.as_nanos() as u64,
                false => unix_ns(),
            };
            let mut packet = self.compose(self.shared.schedule.messages(group), due_unix_ns);
            if !self.deliver(&mut packet) {
                return;
            }
        }
    }

    /// What was due here and never taken.
    fn note_unsent(&mut self) {
        let (schedule, now) = (&self.shared.schedule, self.shared.start.elapsed());
        let groups = (self.next_group..).step_by(usize::try_from(self.connections).unwrap_or(1));
        let late = groups.take_while(|group| {
            let is_due = schedule.due(*group) + LATE <= now;
            schedule.is_paced() && is_due && schedule.messages(*group) > 0
        });
        self.report.unsent += late.map(|group| schedule.messages(group)).sum::<u64>();
    }

    fn finish(mut self) -> (Report, Stream) {
        self.socket = None;
        let stream = Stream {
            stream: self.stream_name,
            given: self.given,
            maybe_lost: self.maybe_lost,
            resent: Vec::new(),
            maybe_twice: self.maybe_twice,
        };
        (self.report, stream)
    }

    /// The next group and when it is due, counted from the start.
    fn take_group(&mut self) -> Option<(u64, Duration)> {
        let schedule = &self.shared.schedule;
        let group = match schedule.is_paced() {
            true => self.next_group,
            false => self.shared.next_group.fetch_add(1, Ordering::Relaxed),
        };
        let due = schedule.due(group);
        if schedule.messages(group) == 0 || self.is_over() {
            return None;
        }
        self.next_group = group + self.connections;
        Some((group, due))
    }

    fn is_over(&self) -> bool {
        let duration = self.shared.options.duration;
        let patience = match self.shared.schedule.is_paced() {
            true => END_PATIENCE,
            false => Duration::ZERO,
        };
        self.shared.stop.load(Ordering::Acquire)
            || duration.is_some_and(|duration| self.shared.start.elapsed() >= duration + patience)
    }

    /// False when it is over before.
    fn wait_until(&self, due: Duration) -> bool {
        while !self.is_over() {
            let left = due.saturating_sub(self.shared.start.elapsed());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(LOOK_EVERY));
        }
        false
    }

    /// Puts the next messages into `body`.
    fn compose(&mut self, messages: u64, due_unix_ns: u64) -> Packet {
        let mut packet = Packet {
            messages,
            first: self.next_sequence,
            bytes: 0,
            severities: SeverityCounts::default(),
            maybe_taken: false,
        };
        let options = &self.shared.options;
        let time = iso8601(due_unix_ns / 1_000_000);
        let time = std::str::from_utf8(&time).unwrap_or_default(); // digits
        self.body.clear();
        self.body.extend_from_slice(b"{\"emitterId\":");
        self.body
            .extend_from_slice(crate::json_string(&options.id).as_bytes());
        self.body.extend_from_slice(b",\"messages\":[");
        for n in 0..messages {
            let shape = self.deck.deal();
            self.payload.clear();
            self.payload.resize(shape.bytes as usize, 0);
            payload::fill(&mut self.payload);
            if options.is_numbered() {
                let numbered = Numbered {
                    stream: self.stream_name.as_bytes(),
                    sequence: packet.first + n,
                    due_unix_ns,
                    has_checksum: options.checksum,
                };
                payload::encode(&mut self.payload, numbered);
            }
            if options.checksum {
                payload::seal(shape.severity, &mut self.payload);
            }
            packet.severities.note(shape.severity);
            packet.bytes += u64::from(shape.bytes);
            let separator = if n == 0 { "" } else { "," };
            let level = level_of(shape.severity);
            let head = format!(r#"{separator}{{"timestamp":"{time}","level":"{level}","message":"#);
            self.body.extend_from_slice(head.as_bytes());
            let text = crate::json_string(&String::from_utf8_lossy(&self.payload));
            self.body.extend_from_slice(text.as_bytes());
            self.body.push(b'}');
        }
        self.body.extend_from_slice(b"]}");
        self.next_sequence += messages;
        packet
    }

    /// Until the packet is taken or refused; false when it is over before.
    fn deliver(&mut self, packet: &mut Packet) -> bool {
        loop {
            let was_maybe_taken = packet.maybe_taken;
            match self.post(packet) {
                Ok(Outcome::Taken) => {
                    self.backoff.reset();
                    self.note_given(packet);
                    if was_maybe_taken {
                        push_span(&mut self.maybe_twice, packet.span());
                    }
                    return true;
                }
                Ok(Outcome::Refused(status)) => {
                    self.report.refused += packet.messages;
                    if was_maybe_taken {
                        self.note_in_doubt(packet);
                    }
                    self.warn(&format!(
                        "{status} {}: the packet is not sent again",
                        reason(status)
                    ));
                    return true;
                }
                Ok(Outcome::Busy(status)) => {
                    // These say that nothing of it was taken; others may come from a proxy between.
                    packet.maybe_taken =
                        was_maybe_taken || !matches!(status, 408 | 425 | 429 | 503);
                    self.warn(&format!(
                        "{status} {}: the packet is sent again",
                        reason(status)
                    ));
                }
                Err(error) => {
                    self.shared.addresses.ask();
                    if self.socket.take().is_some() {
                        self.report.broken += 1;
                        self.report.resent += packet.messages;
                    }
                    self.warn(&format!("{error}; connecting again with back-off"));
                }
            }
            let again = self.shared.start.elapsed() + self.backoff.wait();
            if !self.wait_until(again) {
                match packet.maybe_taken {
                    true => self.note_in_doubt(packet),
                    false => self.report.unsent += packet.messages,
                }
                return false;
            }
        }
    }

    /// It may be lost, have come once, or more often.
    fn note_in_doubt(&mut self, packet: &Packet) {
        self.note_given(packet);
        self.report.lost_max += packet.messages;
        push_span(&mut self.maybe_lost, packet.span());
        push_span(&mut self.maybe_twice, packet.span());
    }

    fn note_given(&mut self, packet: &Packet) {
        self.report.messages += packet.messages;
        self.report.bytes += packet.bytes;
        self.report.severities.add(&packet.severities);
        push_span(&mut self.given, packet.span());
    }

    fn warn(&self, what: &str) {
        if !self.shared.has_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: {what}; further ones are counted only",
                self.shared.options.addr
            );
        }
    }

    /// Sends the packet once, and reads the answer.
    fn post(&mut self, packet: &mut Packet) -> io::Result<Outcome> {
        if self.socket.is_none() {
            self.socket = Some(self.connect()?);
        }
        let options = &self.shared.options;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: weir-emitter/{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            options.http.as_deref().unwrap_or("/logs"),
            options.addr,
            env!("CARGO_PKG_VERSION"),
            self.body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(&self.body);
        self.write(&request)?;
        packet.maybe_taken = true;
        self.read_answer()
    }

    /// The whole request, unless the peer's host is gone.
    fn write(&mut self, mut request: &[u8]) -> io::Result<()> {
        let mut limit = Limit::new(ANSWER_TIMEOUT);
        while !request.is_empty() {
            let Some(socket) = &mut self.socket else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            match socket.write(request) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    request = &request[count..];
                    limit = Limit::new(ANSWER_TIMEOUT);
                }
                Err(error) if is_wait(&error) && !limit.is_over() => self.check_peer()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn check_peer(&mut self) -> io::Result<()> {
        if self.shared.stop.load(Ordering::Acquire) {
            return Err(io::Error::other("stopped while an answer was due"));
        }
        let peers = &self.shared.peers;
        let is_gone = |peer: &mut Peer| peer.is_gone(&peers.newest(), peers.patience());
        match self.peer.as_mut().is_some_and(is_gone) {
            true => Err(peers::gone(peers.patience())),
            false => Ok(()),
        }
    }

    fn read_answer(&mut self) -> io::Result<Outcome> {
        let (mut reader, mut bytes) = (ResponseReader::new(), [0; 4096]);
        let mut limit = Limit::new(ANSWER_TIMEOUT);
        let answer = loop {
            let Some(socket) = &mut self.socket else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            let count = match socket.read(&mut bytes) {
                Ok(0) => match reader.closed() {
                    Some(answer) => break answer,
                    None => return Err(io::Error::other("closed without an answer")),
                },
                Ok(count) => count,
                Err(error) if is_wait(&error) && !limit.is_over() => {
                    self.check_peer()?;
                    continue;
                }
                Err(error) if is_wait(&error) => {
                    let text = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(error) => return Err(error),
            };
            let mut input = &bytes[..count];
            let read = reader.next(&mut input);
            let read = read.map_err(|error| {
                io::Error::other(format!("the answer is no HTTP/1.1: {}", error.detail))
            })?;
            if let Some(answer) = read {
                break answer;
            }
        };
        if !answer.reusable {
            self.socket = None;
        }
        Ok(match answer.head.status {
            200..=299 => Outcome::Taken,
            408 | 425 | 429 | 500..=599 => Outcome::Busy(answer.head.status),
            status => Outcome::Refused(status),
        })
    }

    /// TLS on a connection, if it is spoken.
    fn secure(&self, socket: TcpStream, addr: SocketAddr) -> io::Result<Socket<TcpStream>> {
        let host = self.shared.addresses.host_of(addr);
        let tls = self.shared.options.tls.as_ref();
        let mut socket = Socket::begin(socket, tls, host.as_deref())?;
        if let Some(stream) = socket.secured() {
            let stop = &self.shared.stop;
            stream.handshake(CONNECT_TIMEOUT, || stop.load(Ordering::Acquire))?;
        }
        Ok(socket)
    }

    /// To the address whose turn it is; to the others, if it does not answer.
    fn connect(&mut self) -> io::Result<Socket<TcpStream>> {
        let patience = CONNECT_TIMEOUT.min(self.shared.peers.patience());
        let mut tried = 0;
        loop {
            let addresses = &self.shared.addresses;
            let Some(addr) = addresses.next() else {
                let text = format!("{}: nothing is found yet", addresses.text());
                return Err(io::Error::other(text));
            };
            match TcpStream::connect_timeout(&addr, patience) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_read_timeout(Some(LOOK_EVERY))?;
                    socket.set_write_timeout(Some(LOOK_EVERY))?;
                    let patience = self.shared.peers.patience();
                    peers::keep_alive(&socket2::SockRef::from(&socket), patience)?;
                    self.peer = Some(Peer::new(socket.local_addr()?, socket.peer_addr()?));
                    let secured = self.secure(socket, addr);
                    let addresses = &self.shared.addresses;
                    let socket = match secured {
                        Ok(socket) => socket,
                        Err(error) => {
                            addresses.failed(addr, tried + 1);
                            let text = format!("{addr}: {error}");
                            return Err(io::Error::new(error.kind(), text));
                        }
                    };
                    addresses.worked(addr);
                    match self.report.connected {
                        0 => self.report.connected = 1,
                        _ => self.report.reconnects += 1,
                    }
                    return Ok(socket);
                }
                Err(error) => {
                    tried += 1;
                    if !addresses.failed(addr, tried) {
                        let text = format!("{addr}: {error}");
                        return Err(io::Error::new(error.kind(), text));
                    }
                }
            }
        }
    }
}
