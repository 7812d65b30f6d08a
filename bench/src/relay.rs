//! The floor: what moving the bytes costs a single thread when it does nothing else.
//!
//! ```text
//! emitter --recv 64 KiB--> [buffer] --send--> analyzer       one recv and one send a readiness
//!                             |
//!                             '-- short send: the rest waits at the analyzer, the emitters that
//!                                 want it leave the epoll set until it is written
//! ```
//!
//! It balances connections, not messages, ACKs nothing and loses whatever a dead analyzer held. It
//! listens on the same two ports as Weir, so the same load and sink run against both. Nothing is
//! parsed; `--unit` keeps the streams that share an analyzer from being cut inside a message, by
//! arithmetic on the length alone.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::epoll::EpollFlags;

use crate::net::{event_buffer, is_would_block, listen, pin, Poller};

/// Bytes asked of one recv.
const RECEIVE_LEN: usize = 64 * 1024;
/// ACKs and hellos are read into this and forgotten.
const DISCARD_LEN: usize = 4096;

const EMITTER_LISTENER: u64 = u64::MAX;
const ANALYZER_LISTENER: u64 = u64::MAX - 1;
/// Lowest bit of a token: set for analyzers. The rest is the index.
const ANALYZER_BIT: u64 = 1;

/// Arguments of `weir-bench relay`.
#[derive(Debug, Clone, clap::Args)]
pub struct RelayArgs {
    /// Where emitters connect
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub emitters: SocketAddr,
    /// Where analyzers connect; what they send (hello, ACKs) is read and thrown away
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub analyzers: SocketAddr,
    /// Pin the relay to this core
    #[arg(long)]
    pub core: Option<usize>,
    /// Forward multiples of this many bytes only (the message size), so that emitters sharing an
    /// analyzer are never cut inside a message; 1 forwards whatever recv returned
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub unit: u32,
}

/// Runs until the process is killed.
pub fn run(args: &RelayArgs) -> io::Result<()> {
    if let Some(core) = args.core {
        pin(&[core])?;
    }
    crate::net::allow_connections(10_000).or_else(|_| crate::net::allow_connections(1_000))?;
    let mut relay = Relay::new(args)?;
    crate::say(format_args!(
        "ready emitters={} analyzers={}",
        args.emitters, args.analyzers
    ));
    relay.run()
}

struct Emitter {
    stream: TcpStream,
    analyzer: usize,
    /// Start of a message whose end has not come; shorter than one unit.
    carry: Vec<u8>,
}

struct Analyzer {
    stream: TcpStream,
    /// What a short send left over. At most one receive buffer: nobody is read meanwhile.
    pending: Vec<u8>,
    /// Emitters out of the epoll set until `pending` is written.
    parked: Vec<usize>,
}

struct Relay {
    poller: Poller,
    emitter_listener: TcpListener,
    analyzer_listener: TcpListener,
    emitters: Vec<Option<Emitter>>,
    emitters_free: Vec<usize>,
    analyzers: Vec<Option<Analyzer>>,
    /// Analyzers alive, the next to be given an emitter in front.
    rotation: VecDeque<usize>,
    /// Emitters that came, or were left over, while no analyzer was there.
    unassigned: Vec<usize>,
    buffer: Vec<u8>,
    unit: usize,
}

impl Relay {
    fn new(args: &RelayArgs) -> io::Result<Self> {
        let poller = Poller::new()?;
        let emitter_listener = listen(args.emitters)?;
        let analyzer_listener = listen(args.analyzers)?;
        poller.add(&emitter_listener, EMITTER_LISTENER, EpollFlags::EPOLLIN)?;
        poller.add(&analyzer_listener, ANALYZER_LISTENER, EpollFlags::EPOLLIN)?;
        Ok(Self {
            poller,
            emitter_listener,
            analyzer_listener,
            emitters: Vec::new(),
            emitters_free: Vec::new(),
            analyzers: Vec::new(),
            rotation: VecDeque::new(),
            unassigned: Vec::new(),
            buffer: vec![0; RECEIVE_LEN],
            unit: args.unit as usize,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = event_buffer();
        loop {
            let count = self.poller.wait(&mut events)?;
            for event in &events[..count] {
                match event.data() {
                    EMITTER_LISTENER => self.accept_emitters()?,
                    ANALYZER_LISTENER => self.accept_analyzers()?,
                    token if token & ANALYZER_BIT != 0 => {
                        self.serve_analyzer((token >> 1) as usize, event.events())?;
                    }
                    token => self.forward((token >> 1) as usize)?,
                }
            }
        }
    }

    /// The hot path: one recv, one send.
    fn forward(&mut self, index: usize) -> io::Result<()> {
        let Some(emitter) = self.emitters[index].as_mut() else {
            return Ok(());
        };
        let Some(analyzer) = self.analyzers[emitter.analyzer].as_mut() else {
            return self.park_unassigned(index);
        };
        if !analyzer.pending.is_empty() {
            analyzer.parked.push(index);
            return self.poller.remove(&emitter.stream);
        }

        let carried = emitter.carry.len();
        self.buffer[..carried].copy_from_slice(&emitter.carry);
        let filled = match emitter.stream.read(&mut self.buffer[carried..]) {
            Ok(0) => return self.drop_emitter(index),
            Ok(n) => carried + n,
            Err(e) if is_would_block(&e) => return Ok(()),
            Err(_) => return self.drop_emitter(index),
        };
        let whole = filled - filled % self.unit;
        emitter.carry.clear();
        emitter.carry.extend_from_slice(&self.buffer[whole..filled]);
        if whole == 0 {
            return Ok(());
        }

        let sent = match analyzer.stream.write(&self.buffer[..whole]) {
            Ok(n) => n,
            Err(e) if is_would_block(&e) => 0,
            Err(_) => {
                let dead = emitter.analyzer;
                return self.drop_analyzer(dead);
            }
        };
        if sent < whole {
            analyzer
                .pending
                .extend_from_slice(&self.buffer[sent..whole]);
            analyzer.parked.push(index);
            self.poller.remove(&emitter.stream)?;
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            self.poller
                .modify(&analyzer.stream, analyzer_token(emitter.analyzer), flags)?;
        }
        Ok(())
    }

    fn serve_analyzer(&mut self, index: usize, flags: EpollFlags) -> io::Result<()> {
        let Some(analyzer) = self.analyzers[index].as_mut() else {
            return Ok(());
        };
        if flags.contains(EpollFlags::EPOLLOUT) && !analyzer.pending.is_empty() {
            match analyzer.stream.write(&analyzer.pending) {
                Ok(n) => drop(analyzer.pending.drain(..n)),
                Err(e) if is_would_block(&e) => {}
                Err(_) => return self.drop_analyzer(index),
            }
            if analyzer.pending.is_empty() {
                self.poller
                    .modify(&analyzer.stream, analyzer_token(index), EpollFlags::EPOLLIN)?;
                for emitter in std::mem::take(&mut analyzer.parked) {
                    watch_emitter(&self.poller, &self.emitters, emitter)?;
                }
            }
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            let mut discard = [0; DISCARD_LEN];
            match analyzer.stream.read(&mut discard) {
                Ok(0) => return self.drop_analyzer(index),
                Err(e) if !is_would_block(&e) => return self.drop_analyzer(index),
                _ => {}
            }
        }
        Ok(())
    }

    fn accept_emitters(&mut self) -> io::Result<()> {
        while let Some(stream) = accept(&self.emitter_listener)? {
            let emitter = Some(Emitter {
                stream,
                analyzer: 0,
                carry: Vec::new(),
            });
            let index = match self.emitters_free.pop() {
                Some(index) => {
                    self.emitters[index] = emitter;
                    index
                }
                None => {
                    self.emitters.push(emitter);
                    self.emitters.len() - 1
                }
            };
            self.assign(index)?;
        }
        Ok(())
    }

    fn accept_analyzers(&mut self) -> io::Result<()> {
        while let Some(stream) = accept(&self.analyzer_listener)? {
            let index = self.analyzers.len();
            self.poller
                .add(&stream, analyzer_token(index), EpollFlags::EPOLLIN)?;
            let analyzer = Analyzer {
                stream,
                pending: Vec::new(),
                parked: Vec::new(),
            };
            self.analyzers.push(Some(analyzer));
            self.rotation.push_back(index);
        }
        if !self.rotation.is_empty() {
            for emitter in std::mem::take(&mut self.unassigned) {
                self.assign(emitter)?;
            }
        }
        Ok(())
    }

    /// Gives an emitter that is not in the epoll set to the next analyzer in turn.
    fn assign(&mut self, index: usize) -> io::Result<()> {
        let Some(next) = self.rotation.pop_front() else {
            self.unassigned.push(index);
            return Ok(());
        };
        self.rotation.push_back(next);
        if let Some(emitter) = self.emitters[index].as_mut() {
            emitter.analyzer = next;
        }
        watch_emitter(&self.poller, &self.emitters, index)
    }

    fn park_unassigned(&mut self, index: usize) -> io::Result<()> {
        if let Some(emitter) = &self.emitters[index] {
            self.poller.remove(&emitter.stream)?;
        }
        self.assign(index)
    }

    /// Closing the socket takes it out of the epoll set.
    fn drop_emitter(&mut self, index: usize) -> io::Result<()> {
        self.emitters[index] = None;
        self.emitters_free.push(index);
        Ok(())
    }

    fn drop_analyzer(&mut self, index: usize) -> io::Result<()> {
        self.rotation.retain(|i| *i != index);
        let parked = self.analyzers[index]
            .take()
            .map(|a| a.parked)
            .unwrap_or_default();
        for emitter in parked {
            self.assign(emitter)?;
        }
        Ok(())
    }
}

fn analyzer_token(index: usize) -> u64 {
    (index as u64) << 1 | ANALYZER_BIT
}

fn watch_emitter(poller: &Poller, emitters: &[Option<Emitter>], index: usize) -> io::Result<()> {
    match &emitters[index] {
        Some(emitter) => poller.add(&emitter.stream, (index as u64) << 1, EpollFlags::EPOLLIN),
        None => Ok(()),
    }
}

/// The next pending connection, nonblocking, or `None`.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(e) if is_would_block(&e) || e.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
        Err(e) => Err(e),
    }
}
