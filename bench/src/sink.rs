//! The analyzers: n of them in one event loop, each with one compact connection or one native
//! link per shard. A link is read once a readiness, checked, and ACKed once, cumulatively.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::epoll::EpollFlags;

use crate::check::Tally;
use crate::net::{connect_within, is_would_block, mono_ns, Poller};
use crate::wire::{compact_hello, native_hello, Decoder, Welcome, SHARD_ANY, WELCOME_LEN};

/// First size of a link's buffer, and so the most bytes of one read; it doubles for a frame that
/// does not fit.
const READ_LEN: usize = 256 * 1024;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const WELCOME_PATIENCE: Duration = Duration::from_secs(5);

/// What the links speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// f32 weight, 31-bit ACK words; one connection an analyzer
    Compact,
    /// Batches and u64 ACKs; one link per shard
    Native,
}

/// Shape of the sink; shared by `sink`, `load-sink` and the scenarios.
#[derive(Debug, Clone, clap::Args)]
pub struct SinkArgs {
    /// One analyzer for each weight in the list
    #[arg(long, value_delimiter = ',', default_value = "0.4,0.3,0.2,0.1", value_parser = weight)]
    pub weights: Vec<f64>,
    /// What the analyzers speak
    #[arg(long, value_enum, default_value = "compact")]
    pub dialect: Dialect,
    /// ACK when this many messages are owed (and whenever the sink is idle); 0 ACKs every read
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub ack_every: u64,
    /// Native analyzers are named <prefix>-<n>
    #[arg(long, default_value = "sink")]
    pub id_prefix: String,
}

fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(w) if w.is_finite() && w >= 0.0 => Ok(w),
        _ => Err("a weight is a finite number, 0 or more".into()),
    }
}

struct Link {
    stream: TcpStream,
    analyzer: usize,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that belong to a frame still to be completed.
    filled: usize,
    acked: u64,
    /// ACK bytes that the socket did not take.
    unsent: Vec<u8>,
}

/// Receives the sequence numbers of a read before they are ACKed (see [`crate::analyzers`]).
pub type Journal = Box<dyn FnMut(&[u64]) -> io::Result<()> + Send>;

/// A set of analyzers in one event loop. See [`crate::drive`] for who calls what.
pub struct Sink {
    links: Vec<Option<Link>>,
    /// What arrived so far.
    pub tally: Tally,
    ack_every: u64,
    journal: Option<Journal>,
    sequences: Vec<u64>,
    /// Messages of links that are closed, flagged as redelivered.
    redelivered_closed: u64,
}

impl Sink {
    /// Connects every link (blocking). Tokens are the link numbers from 0.
    pub fn connect(args: &SinkArgs, analyzers: SocketAddr, poller: &Poller) -> io::Result<Self> {
        let mut links = Vec::new();
        for (analyzer, weight) in args.weights.iter().enumerate() {
            match args.dialect {
                Dialect::Compact => {
                    let mut stream = connect_within(analyzers, CONNECT_PATIENCE)?;
                    stream.write_all(&compact_hello(*weight))?;
                    links.push(Link::new(stream, analyzer, Decoder::compact()));
                }
                Dialect::Native => {
                    let id = format!("{}-{analyzer}", args.id_prefix);
                    for stream in native_streams(analyzers, *weight, &id)? {
                        links.push(Link::new(stream, analyzer, Decoder::native()));
                    }
                }
            }
        }
        for (token, link) in links.iter().enumerate() {
            link.stream.set_nonblocking(true)?;
            poller.add(&link.stream, token as u64, EpollFlags::EPOLLIN)?;
        }
        Ok(Self {
            links: links.into_iter().map(Some).collect(),
            tally: Tally::new(args.weights.len()),
            ack_every: args.ack_every,
            journal: None,
            sequences: Vec::new(),
            redelivered_closed: 0,
        })
    }

    /// Hands the sequence numbers of each read to `journal` before the ACK goes out.
    pub fn set_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// Links that are still open.
    pub fn open_links(&self) -> usize {
        self.links.iter().flatten().count()
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

    /// One read and one ACK. A broken stream is an error, an ended one closes the link.
    pub fn on_ready(&mut self, token: usize, poller: &Poller) -> io::Result<()> {
        let Some(link) = self.links[token].as_mut() else {
            return Ok(());
        };
        if !link.unsent.is_empty() {
            link.flush(token, poller)?;
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
        let decoded = link.decoder.decode(&link.buffer[..link.filled], |frame| {
            let sequence = tally.count(analyzer, frame, now_ns);
            if keep_sequences {
                sequences.extend(sequence);
            }
        });
        link.consume(decoded?);
        if let Some(journal) = &mut self.journal {
            journal(sequences)?;
        }
        if link.decoder.ackable() - link.acked > self.ack_every.saturating_sub(1) {
            link.ack(token, poller)?;
        }
        Ok(())
    }

    /// ACKs what `--ack-every` still holds back.
    pub fn on_idle(&mut self, poller: &Poller) -> io::Result<()> {
        for (token, link) in self.links.iter_mut().enumerate() {
            if let Some(link) = link.as_mut().filter(|l| l.decoder.ackable() > l.acked) {
                link.ack(token, poller)?;
            }
        }
        Ok(())
    }
}

impl Link {
    fn new(stream: TcpStream, analyzer: usize, decoder: Decoder) -> Self {
        let buffer = vec![0; READ_LEN];
        Self {
            stream,
            analyzer,
            decoder,
            buffer,
            filled: 0,
            acked: 0,
            unsent: Vec::new(),
        }
    }

    /// One recv behind what is there already; false at the end of the stream.
    fn read(&mut self) -> io::Result<bool> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.filled += n;
                Ok(true)
            }
            Err(e) if is_would_block(&e) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn consume(&mut self, used: usize) {
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
    }

    fn ack(&mut self, token: usize, poller: &Poller) -> io::Result<()> {
        self.acked = self.decoder.ackable();
        let blocked = !self.unsent.is_empty();
        self.decoder.put_ack(&mut self.unsent);
        if blocked {
            return Ok(());
        }
        self.write_unsent()?;
        if !self.unsent.is_empty() {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            poller.modify(&self.stream, token as u64, flags)?;
        }
        Ok(())
    }

    fn flush(&mut self, token: usize, poller: &Poller) -> io::Result<()> {
        self.write_unsent()?;
        if self.unsent.is_empty() {
            poller.modify(&self.stream, token as u64, EpollFlags::EPOLLIN)?;
        }
        Ok(())
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
fn native_streams(analyzers: SocketAddr, weight: f64, id: &str) -> io::Result<Vec<TcpStream>> {
    let (first, welcome) = native_link(analyzers, SHARD_ANY, weight, id)?;
    let mut streams = vec![first];
    for shard in (0..welcome.shard_count).filter(|s| *s != welcome.shard_index) {
        streams.push(native_link(analyzers, shard, weight, id)?.0);
    }
    Ok(streams)
}

fn native_link(
    analyzers: SocketAddr,
    shard: u16,
    weight: f64,
    id: &str,
) -> io::Result<(TcpStream, Welcome)> {
    let mut stream = connect_within(analyzers, CONNECT_PATIENCE)?;
    stream.set_read_timeout(Some(WELCOME_PATIENCE))?;
    stream.write_all(&native_hello(shard, weight, id))?;
    let mut answer = [0; WELCOME_LEN];
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
    if welcome.is_refused {
        let reason = String::from_utf8_lossy(&reason);
        return Err(io::Error::other(format!(
            "link to shard {shard} refused: {reason}"
        )));
    }
    Ok((stream, welcome))
}
