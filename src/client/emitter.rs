//! The emitter: numbered messages on many connections, at a rate that does not depend on how fast
//! they are taken.
//!
//! ```text
//!   thread:  schedule --groups due--> connections --write--> sockets
//!                                     ^                        |
//!                                     +---- readiness (mio) ---+
//! ```
//!
//! A group is one write of `batch` messages. With a rate, group g is due at a fixed time and belongs
//! to connection g mod n, blocked or not: its messages carry the time at which they were due, so a
//! delay anywhere shows in what analyzers measure.

mod acked;
mod addresses;
mod connection;
mod http;
mod schedule;
mod worker;

use super::peers::Peers;
use super::shapes::{Deck, Severities, SeverityCounts, Sizes};
use addresses::Addresses;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use weir_ledger::run_report::{self, AckedBy, Emitter, Heading, Kind, Run, Sent, Stamp, Stream};
use weir_tls::Connector;
use worker::Worker;

/// Open files besides the connections: standard streams, epoll, the log.
const FILES_BESIDES: u64 = 32;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Distributors' emitter addresses, as [`weir_discover::Targets`] reads them; or where it takes HTTP.
    pub addr: String,
    /// Who is asked for names; empty: the system.
    pub nameservers: Vec<SocketAddr>,
    /// A distributor whose host does not answer for this long is given up.
    pub peer_timeout: Duration,
    /// Speak TLS with distributors.
    pub tls: Option<Arc<Connector>>,
    /// Path to post to: HTTP instead of frames.
    pub http: Option<String>,
    /// Messages per second over all connections; 0: as fast as it can.
    pub rate: f64,
    /// How long to send; `None`: for ever.
    pub duration: Option<Duration>,
    /// How many messages to send; `None`: no limit.
    pub count: Option<u64>,
    /// Payload bytes of the messages.
    pub sizes: Sizes,
    /// Emitter id.
    pub id: String,
    /// Connections, at least 1.
    pub connections: u32,
    /// Threads, at least 1.
    pub threads: u32,
    /// Messages per write, at least 1.
    pub batch: u32,
    /// Severities of the messages.
    pub severities: Severities,
    /// Payloads end with a checksum: see [`super::payload`].
    pub checksum: bool,
    /// Wait for ACKs, keep at most so many bytes of messages that have none, and send them again where a connection
    /// breaks.
    pub acked: Option<u64>,
    /// Where to write the run report at the end.
    pub report: Option<PathBuf>,
}

impl Options {
    /// What the command line has by default, without a duration.
    pub fn new(addr: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            nameservers: Vec::new(),
            peer_timeout: super::PEER_TIMEOUT,
            tls: None,
            http: None,
            rate: 100.0,
            duration: None,
            count: None,
            sizes: Sizes::Fixed(256),
            id: id.into(),
            connections: 1,
            threads: 1,
            batch: 1,
            severities: Severities::all(3),
            checksum: false,
            acked: None,
            report: None,
        }
    }

    /// Smallest payload that carries a number, and a checksum if there is to be one, on every connection.
    pub fn numbered_bytes_min(&self) -> usize {
        let longest = format!("{}/{}", self.id, self.connections - 1);
        match self.checksum {
            true => super::payload::bytes_min_checked(longest.as_bytes()),
            false => super::payload::bytes_min(longest.as_bytes()),
        }
    }

    /// Drawn lengths always leave room for a number.
    fn is_numbered(&self) -> bool {
        match self.sizes {
            Sizes::Fixed(bytes) => bytes as usize >= self.numbered_bytes_min(),
            Sizes::LogNormal { .. } => true,
        }
    }

    /// What a thread deals its messages from.
    fn deck(&self, thread: u64) -> Deck {
        let bytes_min = u32::try_from(self.numbered_bytes_min()).unwrap_or(u32::MAX);
        let seed = super::payload::stream_hash(self.id.as_bytes()) ^ thread;
        Deck::new(self.sizes, &self.severities, bytes_min, seed)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Emitter id.
    pub id: String,
    /// Messages given to the kernel whole.
    pub messages: u64,
    /// Their frames' bytes.
    pub bytes: u64,
    /// How many of each severity.
    pub severities: SeverityCounts,
    /// From the first due message to the end.
    pub elapsed: Duration,
    /// Connections that were ever open.
    pub connected: u64,
    /// Connections that broke while open.
    pub broken: u64,
    /// Connections on which something came back: whoever is there is no distributor.
    pub answered: u64,
    /// Connections that the distributor asked to go, and that went: nothing is lost, but what
    /// `lost_max` says if it did not confirm the end within a second.
    pub farewells: u64,
    /// Connections that were opened again.
    pub reconnects: u64,
    /// Messages partly written when their connection broke, and sent again whole. Their receiver
    /// discards the part, so they are no duplicates.
    pub resent: u64,
    /// Of an acked emitter: messages that analyzers have ACKed.
    pub acked: u64,
    /// Of an acked emitter: messages that it gave to a kernel and that were not ACKed at its end.
    pub unacked: u64,
    /// Which distributor ACKed how many, by its instance.
    pub acked_by: BTreeMap<u64, u64>,
    /// Messages that may have been in a socket buffer when their connection broke, and so be lost. An
    /// estimate: the peer's buffer is taken to be as large as this side's. What a distributor that
    /// died had already read is not in it.
    pub lost_max: u64,
    /// HTTP: messages in packets that the distributor refused for good.
    pub refused: u64,
    /// Messages that were due and not sent: no connection, or blocked at the end.
    pub unsent: u64,
    /// Connections whose end the peer did not confirm.
    pub unconfirmed: u64,
    /// Of an acked emitter: connections that were given up because no WELCOME came.
    pub welcome_timeouts: u64,
    /// Time that connections could not write, added up: a socket was full, or an acked link waited for its WELCOME, its
    /// window or its memory.
    pub blocked: Duration,
}

impl Report {
    /// Connected at least once, to a distributor; all that was due was sent, nothing was refused, and every open
    /// connection was read to its end.
    pub fn is_success(&self) -> bool {
        let is_sent = self.unsent == 0 && self.refused == 0;
        let is_heard = self.unconfirmed == 0 && self.unacked == 0;
        self.connected > 0 && is_sent && is_heard && self.answered == 0
    }

    fn is_acked(&self) -> bool {
        self.acked + self.unacked > 0
    }

    /// Messages per second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// One line for programs to read.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"id":{},"messages":{},"bytes":{},"seconds":{:.3},"connected":{},"broken":{},"answered":{},"farewells":{},"reconnects":{},"resent":{},"acked":{},"unacked":{},"lost_max":{},"refused":{},"unsent":{},"unconfirmed":{},"welcome_timeouts":{},"blocked_seconds":{:.3},"severities":{}}}"#,
            super::json_string(&self.id),
            self.messages,
            self.bytes,
            self.elapsed.as_secs_f64(),
            self.connected,
            self.broken,
            self.answered,
            self.farewells,
            self.reconnects,
            self.resent,
            self.acked,
            self.unacked,
            self.lost_max,
            self.refused,
            self.unsent,
            self.unconfirmed,
            self.welcome_timeouts,
            self.blocked.as_secs_f64(),
            self.severities.to_json(),
        )
    }

    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.severities.add(&other.severities);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.connected += other.connected;
        self.broken += other.broken;
        self.answered += other.answered;
        self.farewells += other.farewells;
        self.reconnects += other.reconnects;
        self.resent += other.resent;
        self.acked += other.acked;
        self.unacked += other.unacked;
        for (instance, messages) in &other.acked_by {
            *self.acked_by.entry(*instance).or_default() += messages;
        }
        self.lost_max += other.lost_max;
        self.refused += other.refused;
        self.unsent += other.unsent;
        self.unconfirmed += other.unconfirmed;
        self.welcome_timeouts += other.welcome_timeouts;
        self.blocked += other.blocked;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "{}: Sent {} messages, {} bytes",
            self.id, self.messages, self.bytes
        )?;
        write!(f, " in {seconds:.1} s, {:.0} messages/s; ", self.rate())?;
        write!(
            f,
            "{} connections, {} reconnects, ",
            self.connected, self.reconnects
        )?;
        write!(f, "blocked {:.1} s", self.blocked.as_secs_f64())?;
        if self.answered > 0 {
            write!(
                f,
                "; {} connections were answered: that is no distributor's emitters' port",
                self.answered
            )?;
        }
        if self.severities.seen().count() > 1 {
            write!(f, "; {}", self.severities)?;
        }
        if self.farewells > 0 {
            write!(f, "; {} connections left as asked", self.farewells)?;
        }
        if self.is_acked() {
            write!(f, "; {} ACKed, {} not", self.acked, self.unacked)?;
            write!(f, "; {} connections broke, ", self.broken)?;
            write!(f, "{} messages sent again", self.resent)?;
        } else if self.broken > 0 {
            write!(
                f,
                "; {} connections broke: up to about {} messages",
                self.broken, self.lost_max
            )?;
            write!(
                f,
                " in flight lost, {} partly written sent again",
                self.resent
            )?;
        }
        if self.refused > 0 {
            write!(f, "; {} messages refused", self.refused)?;
        }
        if self.unsent > 0 {
            write!(f, "; {} messages due but not sent", self.unsent)?;
        }
        if self.welcome_timeouts > 0 {
            let count = self.welcome_timeouts;
            write!(f, "; {count} connections got no WELCOME in time")?;
        }
        if self.unconfirmed > 0 {
            write!(
                f,
                "; {} connections not read to their end",
                self.unconfirmed
            )?;
        }
        Ok(())
    }
}

/// Sends until the duration or the count is over, or `stop` is raised; then closes cleanly.
pub fn run(options: &Options, stop: &Arc<AtomicBool>) -> io::Result<Report> {
    if let Some(path) = &options.report {
        run_report::check_writable("--report", path)?;
    }
    let started = Stamp::now();
    allow_open_files(u64::from(options.connections) + FILES_BESIDES)?;
    if !options.is_numbered() {
        let least = options.numbered_bytes_min();
        if options.checksum {
            let why = format!(
                "--checksum: payloads of {least} bytes and more have room for one; see --size"
            );
            return Err(io::Error::other(why));
        }
        log::warn!(
            "payloads are too small to carry a number: analyzers cannot check order or duplicates (--size {least} or \
             more can)"
        );
    }
    let (mut report, streams) = match options.http {
        Some(_) => http::run(options, stop)?,
        None => stream_frames(options, stop)?,
    };
    report.id.clone_from(&options.id);
    if let Some(path) = &options.report {
        run_report::write(path, &certify(options, &report, streams, started))?;
    }
    Ok(report)
}

/// Frames over TCP, from as many threads as are wanted.
fn stream_frames(options: &Options, stop: &Arc<AtomicBool>) -> io::Result<(Report, Vec<Stream>)> {
    let addresses = Addresses::start(&options.addr, &options.nameservers, super::unix_ns(), stop)?;
    let (addresses, peers) = (Arc::new(addresses), Peers::start(options.peer_timeout)?);
    let threads = options.threads.min(options.connections);
    let workers = (0..threads).map(|index| {
        let mut worker = Worker::new(
            options,
            index,
            threads,
            Arc::clone(&addresses),
            Arc::clone(&peers),
            Arc::clone(stop),
        )?;
        thread::Builder::new()
            .name(format!("emitter-{index}"))
            .spawn(move || worker.run())
    });
    let workers = workers.collect::<io::Result<Vec<_>>>()?;
    let (mut report, mut streams) = (Report::default(), Vec::new());
    for worker in workers {
        let (part, its_streams) = worker
            .join()
            .map_err(|_| io::Error::other("an emitter thread panicked"))??;
        report.add(&part);
        streams.extend(its_streams);
    }
    Ok((report, streams))
}

fn acked_by(report: &Report) -> Vec<AckedBy> {
    let by = report.acked_by.iter();
    by.map(|(instance, messages)| AckedBy {
        instance: format!("{instance:016x}"),
        messages: *messages,
    })
    .collect()
}

fn certify(options: &Options, report: &Report, streams: Vec<Stream>, started: Stamp) -> Emitter {
    Emitter {
        heading: Heading::new(Kind::Emitter),
        run: Run::until_now(started),
        id: options.id.clone(),
        numbered: options.is_numbered(),
        sent: Sent {
            messages: report.messages,
            bytes: report.bytes,
            connected: report.connected,
            broken: report.broken,
            farewells: report.farewells,
            reconnects: report.reconnects,
            unsent: report.unsent,
            unconfirmed: report.unconfirmed,
            acked: options.acked.map(|_| report.acked),
            welcome_timeouts: options.acked.map(|_| report.welcome_timeouts),
        },
        acked_by: acked_by(report),
        streams,
    }
}

/// Raises the soft limit of open files towards the hard one.
fn allow_open_files(needed: u64) -> io::Result<()> {
    let (soft, hard) = rlimit::Resource::NOFILE.get()?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(io::Error::other(format!(
            "{needed} open files are needed and the hard limit is {hard}: raise it (ulimit -Hn \
             {needed}, or LimitNOFILE={needed} in a unit) or use fewer --connections"
        )));
    }
    rlimit::Resource::NOFILE.set(needed, hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_files_are_refused_with_need_and_limit() {
        let (_, hard) = rlimit::Resource::NOFILE.get().expect("limits");
        if hard == u64::MAX {
            return;
        }
        let error = allow_open_files(hard + 1)
            .expect_err("above the hard limit")
            .to_string();
        assert!(error.contains(&(hard + 1).to_string()) && error.contains(&hard.to_string()));
        allow_open_files(hard.min(2_000)).expect("within the hard limit");
    }

    #[test]
    fn numbering_needs_room() {
        let mut options = Options::new("x", "e1");
        options.sizes = Sizes::Fixed(options.numbered_bytes_min() as u32);
        assert!(options.is_numbered());
        options.connections = 11; // one digit more
        assert!(!options.is_numbered());
    }
}
