//! The analyzers: n of them in one event loop, each with one reference connection or one native
//! link per shard. A link is read once a readiness, checked, and ACKed cumulatively, as the policy says.
//!
//! ```text
//! read -> check -> think (reads nothing)  -> ACK now | ACK when --ack-every are owed | after --ack-delay-us
//! ```
//!
//! For peers that connect to their targets, as proxies and log servers do, the sink listens instead: one
//! address for each analyzer, any number of connections to it, no ACKs.

mod args;
mod link;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use nix::sys::epoll::EpollFlags;

pub use args::{weights_of, Dialect, SinkArgs};

use weir::runtime::hold_port;
use weir_testkit::wire;

use crate::check::Tally;
use crate::net::{connect_within, is_would_block, listen, mono_ns, Poller};
use crate::outlet::{Receiver, Speaks};
use crate::secured::Socket;
use crate::wire::Decoder;
use link::{native_streams, read_len, Link, CONNECT_PATIENCE};

/// Tokens of listeners; below are links.
const LISTENER_TOKEN: u64 = 1 << 32;
/// Tries to find one port that is free on every analyzer's address.
const PORT_TRIES: usize = 20;

/// What connections to a listening sink carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Frames, as the emitters sent them.
    Frames,
    /// Syslog, lines or counted.
    Syslog,
    /// A protocol with answers of its own.
    Outlet(Speaks),
}

/// Receives the sequence numbers of a read before they are ACKed (see [`crate::analyzers`]).
pub type Journal = Box<dyn FnMut(&[u64]) -> io::Result<()> + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Thought,
    Ack,
}

/// A set of analyzers in one event loop. See [`crate::drive`] for who calls what.
pub struct Sink {
    links: Vec<Option<Link>>,
    listeners: Vec<TcpListener>,
    stream: Stream,
    /// What arrived so far.
    pub tally: Tally,
    args: SinkArgs,
    journal: Option<Journal>,
    sequences: Vec<u64>,
    /// Messages of links that are closed, flagged as redelivered.
    redelivered_closed: u64,
    /// Something is owed that the next idle moment pays.
    is_owing: bool,
    /// Links that end their thinking, or whose ACK is due: (CLOCK_MONOTONIC ns, link, which).
    timers: BinaryHeap<Reverse<(u64, usize, Timer)>>,
}

impl Sink {
    /// Connects every link (blocking). Tokens are the link numbers from 0.
    pub fn connect(args: &SinkArgs, analyzers: SocketAddr, poller: &Poller) -> io::Result<Self> {
        let mut links = Vec::new();
        let read_len = read_len(args.weights.len());
        for (analyzer, weight) in args.weights.iter().enumerate() {
            if args.dialect == Dialect::Native {
                let id = format!("{}-{analyzer}", args.id_prefix);
                for stream in native_streams(analyzers, args.pki.as_ref(), *weight, &id)? {
                    links.push(Link::new(
                        stream,
                        analyzer,
                        Decoder::of(wire::Dialect::Native),
                        read_len,
                    ));
                }
                continue;
            }
            let stream = connect_within(analyzers, CONNECT_PATIENCE)?;
            let mut stream = Socket::of(stream, args.pki.as_ref())?;
            let dialect = match args.dialect {
                Dialect::Typed => wire::Dialect::Typed,
                _ => wire::Dialect::Compact,
            };
            stream.write_all(&wire::first_word(dialect, *weight, "", None))?;
            links.push(Link::new(stream, analyzer, Decoder::of(dialect), read_len));
        }
        for (token, link) in links.iter().enumerate() {
            link.stream.set_nonblocking(true)?;
            poller.add(&link.stream, token as u64, EpollFlags::EPOLLIN)?;
        }
        let links = links.into_iter().map(Some).collect();
        Ok(Self::new(args, Stream::Frames, links, Vec::new()))
    }

    /// Listens on 127.0.1.1, 127.0.1.2, ... with one port, an address for each weight: some peers take
    /// a list of hosts, but only one port.
    pub fn listen(args: &SinkArgs, stream: Stream, poller: &Poller) -> io::Result<Self> {
        let mut result = Err(io::Error::other("no try made"));
        for _ in 0..PORT_TRIES {
            let (address, _held) = hold_port()?;
            let port = address.port();
            result = (0..args.weights.len())
                .map(|n| listen(SocketAddr::from((address_of(n), port))))
                .collect();
            if result.is_ok() {
                break;
            }
        }
        let listeners: Vec<TcpListener> = result?;
        for (n, listener) in listeners.iter().enumerate() {
            poller.add(listener, LISTENER_TOKEN + n as u64, EpollFlags::EPOLLIN)?;
        }
        Ok(Self::new(args, stream, Vec::new(), listeners))
    }

    fn new(
        args: &SinkArgs,
        stream: Stream,
        links: Vec<Option<Link>>,
        listeners: Vec<TcpListener>,
    ) -> Self {
        Self {
            links,
            listeners,
            stream,
            tally: Tally::new(args.weights.len()),
            args: args.clone(),
            journal: None,
            sequences: Vec::new(),
            redelivered_closed: 0,
            is_owing: false,
            timers: BinaryHeap::new(),
        }
    }

    /// Where a listening sink takes connections, by analyzer.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Hands the sequence numbers of each read to `journal` before the ACK goes out.
    pub fn set_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// A new tally: the next trial begins.
    pub fn forget(&mut self) {
        self.tally = Tally::new(self.args.weights.len());
    }

    /// Links that are still open.
    pub fn open_links(&self) -> usize {
        self.links.iter().flatten().count()
    }

    /// Links that the other side has ended.
    pub fn closed_links(&self) -> usize {
        self.links.len() - self.open_links()
    }

    /// Messages that a native distributor flagged as redelivered.
    pub fn redelivered(&self) -> u64 {
        let open: u64 = self
            .links
            .iter()
            .flatten()
            .map(|l| l.decoder.redelivered())
            .sum();
        open + self.redelivered_closed
    }

    /// One read and, if the policy says so, one ACK. A broken stream is an error, an ended one closes
    /// the link.
    pub fn on_ready(&mut self, token: u64, poller: &Poller) -> io::Result<()> {
        if token >= LISTENER_TOKEN {
            return self.accept((token - LISTENER_TOKEN) as usize, poller);
        }
        let token = token as usize;
        let Some(link) = self.links[token].as_mut() else {
            return Ok(());
        };
        link.flush(token, poller)?;
        if link.is_thinking {
            return Ok(());
        }
        if !link.read()? {
            self.redelivered_closed += link.decoder.redelivered();
            self.links[token] = None;
            return Ok(());
        }
        let (tally, sequences, analyzer) = (&mut self.tally, &mut self.sequences, link.analyzer);
        let now_ns = mono_ns();
        sequences.clear();
        let keep_sequences = self.journal.is_some();
        let mut messages = 0;
        link.decode(|frame| {
            let sequence = tally.count(analyzer, frame, now_ns);
            messages += 1;
            if keep_sequences {
                sequences.extend(sequence);
            }
        })?;
        if let Some(journal) = &mut self.journal {
            journal(sequences)?;
        }
        if self.args.think_us > 0 && messages > 0 {
            link.is_thinking = true;
            link.watch(token, poller)?;
            let thought_ns = now_ns + messages * self.args.think_us * 1000;
            self.timers
                .push(Reverse((thought_ns, token, Timer::Thought)));
            return Ok(());
        }
        self.ack_by_policy(token, now_ns, poller)
    }

    /// ACKs now, sets the timer, or leaves it to the next idle moment.
    fn ack_by_policy(&mut self, token: usize, now_ns: u64, poller: &Poller) -> io::Result<()> {
        let Some(link) = self.links[token].as_mut().filter(|l| l.owed() > 0) else {
            return Ok(());
        };
        let (every, delay_us) = (self.args.ack_every, self.args.ack_delay_us);
        let is_enough = match every {
            0 => delay_us == 0,
            n => link.owed() >= n,
        };
        if is_enough {
            return link.ack(token, poller);
        }
        if delay_us == 0 {
            self.is_owing = true;
        } else if !link.is_ack_due {
            link.is_ack_due = true;
            self.timers
                .push(Reverse((now_ns + delay_us * 1000, token, Timer::Ack)));
        }
        Ok(())
    }

    /// When [`Sink::on_timer`] wants to be called.
    pub fn timer_ns(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((due_ns, ..))| *due_ns)
    }

    /// Ends what was thought, and sends the ACKs that are due.
    pub fn on_timer(&mut self, now_ns: u64, poller: &Poller) -> io::Result<()> {
        while self.timer_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            let Some(Reverse((_, token, timer))) = self.timers.pop() else {
                break;
            };
            let Some(link) = self.links[token].as_mut() else {
                continue;
            };
            if timer == Timer::Thought {
                link.is_thinking = false;
                link.watch(token, poller)?;
                self.ack_by_policy(token, now_ns, poller)?;
                continue;
            }
            link.is_ack_due = false;
            // What it still thinks about waits for the thought.
            if link.owed() > 0 && !link.is_thinking {
                link.ack(token, poller)?;
            }
        }
        Ok(())
    }

    /// ACKs what `--ack-every` still holds back.
    pub fn on_idle(&mut self, poller: &Poller) -> io::Result<()> {
        if !self.is_owing {
            return Ok(());
        }
        self.is_owing = false;
        for (token, link) in self.links.iter_mut().enumerate() {
            if let Some(link) = link.as_mut().filter(|l| !l.is_thinking && l.owed() > 0) {
                link.ack(token, poller)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self, analyzer: usize, poller: &Poller) -> io::Result<()> {
        let stream = match self.listeners[analyzer].accept() {
            Ok((stream, _)) => stream,
            Err(e) if is_would_block(&e) || e.kind() == io::ErrorKind::ConnectionAborted => {
                return Ok(())
            }
            Err(e) => return Err(e),
        };
        stream.set_nonblocking(true)?;
        let stream = match &self.args.pki {
            Some(pki) => pki.answer(stream)?,
            None => Socket::Plain(stream),
        };
        let decoder = match self.stream {
            Stream::Frames => Decoder::Frames,
            Stream::Syslog => Decoder::Syslog,
            Stream::Outlet(speaks) => Decoder::Outlet(Receiver::new(speaks)),
        };
        let token = self.links.len();
        poller.add(&stream, token as u64, EpollFlags::EPOLLIN)?;
        // A proxy opens one for each emitter.
        let read_len = read_len(token.next_power_of_two());
        self.links
            .push(Some(Link::new(stream, analyzer, decoder, read_len)));
        Ok(())
    }
}

fn address_of(analyzer: usize) -> Ipv4Addr {
    let host = analyzer as u32 + 1;
    // Host parts of 1 to 254 only: 127.0.1.255 is followed by 127.0.2.1.
    Ipv4Addr::from(0x7F00_0100 + (host - 1) / 254 * 256 + (host - 1) % 254 + 1)
}
