//! One link to the distributor: connect, greet, read, ACK, leave; and again when it breaks.

use super::acks::Acks;
use super::downstream::{Downstream, Heard};
use super::inbox::{Filled, Inbox};
use super::tally::{Counts, Tally};
use super::Shared;
use crate::backoff::Backoff;
use crate::{resolve, unix_ns};
use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use weir_clock::Limit;
use weir_protocol::foreign;
use weir_protocol::native::{Hello, NativeError, Welcome};
use weir_protocol::WeightText;
use weir_sink::{ControlWord, Dialect};

/// A read that brings nothing for this long makes the link idle: its remainder is ACKed.
const IDLE: Duration = Duration::from_millis(20);
/// Connect, WELCOME, and any single write.
const PEER_PATIENCE: Duration = Duration::from_secs(5);
/// After DRAIN: idle reads in a row that mean nothing more is under way (200 ms).
const QUIET_READS: u32 = 10;
/// After DRAIN: what is not processed by then is left to other analyzers.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// After the last ACK: how long the peer may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// A connection that was open for so long was to a distributor: the back-off starts anew.
const LASTED: Duration = Duration::from_secs(2);
/// Sleeping less than this costs more than it sleeps.
const THINK_MIN: Duration = Duration::from_millis(1);

/// One shard's link, with what outlives its connections.
pub struct Link {
    shard: Option<u16>,
    is_first: bool,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    tally: Tally,
    backoff: Backoff,
    has_connected: bool,
}

/// Why a connection ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// This analyzer is leaving.
    Left,
    /// The distributor closed or said goodbye.
    Closed,
    /// The distributor has no such shard any more.
    ShardGone,
}

/// Why a connection broke. All but `Record` are answered by connecting again.
#[derive(Debug)]
enum LinkError {
    Io(io::Error),
    Protocol(NativeError),
    Refused(String),
    /// What answers is no distributor, or not at this port.
    Stranger(String),
    /// Records cannot be written, so nothing may be ACKed: the analyzer ends.
    Record(io::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Protocol(error) => write!(f, "the distributor broke the protocol: {error}"),
            Self::Refused(reason) => write!(f, "the distributor refused: {reason}"),
            Self::Stranger(why) => {
                write!(
                    f,
                    "what answers there is no distributor's analyzers' port: {why}"
                )
            }
            Self::Record(error) => write!(f, "cannot write records: {error}"),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<NativeError> for LinkError {
    fn from(error: NativeError) -> Self {
        Self::Protocol(error)
    }
}

impl Link {
    /// A link to `shard`; `None`: the first one, which takes the shard it is given.
    pub fn new(shard: Option<u16>, shared: Arc<Shared>, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let options = &shared.options;
        let tally = Tally::new(options.record.as_deref(), options.open_journal()?)?;
        let backoff = Backoff::new(unix_ns() ^ u64::from(shard.unwrap_or(u16::MAX)) << 48);
        let is_first = shard.is_none();
        Ok(Self {
            shard,
            is_first,
            shared,
            stop,
            tally,
            backoff,
            has_connected: false,
        })
    }

    /// Keeps the link open until the analyzer leaves.
    pub fn run(&mut self) -> Counts {
        while !self.is_over() {
            match self.connect_and_serve() {
                Ok(End::Left | End::ShardGone) => break,
                Ok(End::Closed) => log::warn!("{}: the distributor closed the link", self.name()),
                Err(LinkError::Record(error)) => {
                    self.shared.fail(error);
                    break;
                }
                Err(error) if self.has_connected || self.shared.options.reconnect => {
                    log::warn!("{}: {error}", self.name());
                }
                Err(error) => {
                    let addr = &self.shared.options.addr;
                    self.shared
                        .fail(io::Error::other(format!("{addr}: {error}")));
                    break;
                }
            }
            if !self.shared.options.reconnect {
                break;
            }
            self.wait_before_reconnect();
        }
        self.tally.counts
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.shared.over.load(Ordering::Acquire)
    }

    fn name(&self) -> String {
        match self.shard {
            Some(shard) => format!("{} shard {shard}", self.shared.options.id),
            None => self.shared.options.id.clone(),
        }
    }

    fn wait_before_reconnect(&mut self) {
        let until = Instant::now() + self.backoff.wait();
        while Instant::now() < until && !self.is_over() {
            thread::sleep(IDLE.min(until - Instant::now().min(until)));
        }
    }

    fn connect_and_serve(&mut self) -> Result<End, LinkError> {
        let stream = connect(&self.shared.options.addr)?;
        let opened_at = Instant::now();
        let mut session = Session::new(self, stream);
        let end = match session.greet() {
            Ok(None) => session.serve(),
            Ok(Some(end)) => Ok(end),
            Err(error) => Err(error),
        };
        let end = end.map_err(|error| session.explained(error));
        let was_useful = session.acks.processed_sequence() > 0 || opened_at.elapsed() >= LASTED;
        if was_useful {
            self.backoff.reset();
        }
        // What was received and not ACKed goes to others: they will see it flagged.
        self.tally.write_records().map_err(LinkError::Record)?;
        end
    }

    fn connected(&mut self) {
        if std::mem::replace(&mut self.has_connected, true) {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        log::info!("{}: connected to {}", self.name(), self.shared.options.addr);
    }
}

/// How journals number dialects.
fn connect(addr: &str) -> io::Result<TcpStream> {
    let mut last = None;
    for addr in resolve(addr)? {
        match TcpStream::connect_timeout(&addr, PEER_PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(IDLE))?;
                stream.set_write_timeout(Some(PEER_PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no address")))
}

/// A native link was not welcomed: distributors that know no such links do so.
fn reference(why: &str) -> LinkError {
    let hint =
        "if that is the analyzers' port of a distributor other than Weir, try --dialect compact";
    LinkError::Io(io::Error::other(format!("{why}; {hint}")))
}

/// One connection of a link.
struct Session<'a> {
    link: &'a mut Link,
    stream: TcpStream,
    inbox: Inbox,
    downstream: Downstream,
    acks: Acks,
    /// Think time owed; slept off in lumps.
    think: Duration,
    /// Set once the analyzer is leaving: what is left for what is under way.
    leaving: Option<Limit>,
}

/// What a WELCOME came to, unless it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Welcomed {
    Accepted,
    ShardGone,
}

/// How far a stretch of work got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worked {
    /// Everything that had arrived.
    All,
    /// The count is reached, or there is no time for more.
    Enough,
    /// To the distributor's drain: what is processed wants its ACK before anything else.
    Drain,
    /// To the distributor's goodbye.
    Goodbye,
}

impl<'a> Session<'a> {
    fn new(link: &'a mut Link, stream: TcpStream) -> Self {
        let options = &link.shared.options;
        let acks = Acks::new(options.dialect, options.ack_every, options.ack_remainder);
        let downstream = Downstream::new(options.dialect);
        Self {
            link,
            stream,
            inbox: Inbox::default(),
            downstream,
            acks,
            think: Duration::ZERO,
            leaving: None,
        }
    }

    fn dialect(&self) -> Dialect {
        self.link.shared.options.dialect
    }

    /// First word, or HELLO and WELCOME. An end when there will be no messages.
    fn greet(&mut self) -> Result<Option<End>, LinkError> {
        let weight = self.link.shared.weight();
        if self.dialect() == Dialect::Native {
            return self.greet_native(weight);
        }
        self.say(weir_sink::encode_first_weight(self.dialect(), weight))?;
        self.link.connected();
        Ok(None)
    }

    fn greet_native(&mut self, weight: f64) -> Result<Option<End>, LinkError> {
        let id = self.link.shared.options.id.clone();
        let token = self.link.shared.options.token.clone();
        let shard = self.link.shard;
        let hello = Hello {
            shard,
            weight,
            window_bytes: 0,
            window_messages: 0,
            id: &id,
            token: &token,
            instance: Some(self.link.shared.instance),
        };
        let mut bytes = Vec::new();
        hello.encode(&mut bytes)?;
        self.stream.write_all(&bytes)?;
        let mut limit = Limit::new(PEER_PATIENCE);
        loop {
            match self.take_welcome()? {
                Some(Welcomed::Accepted) => break,
                Some(Welcomed::ShardGone) => return Ok(Some(End::ShardGone)),
                None => {}
            }
            let filled = self.inbox.fill(&mut self.stream);
            match filled.map_err(|error| reference(&format!("{error} instead of a WELCOME")))? {
                Filled::Data => {}
                Filled::Idle if self.link.is_over() => return Ok(Some(End::Left)),
                Filled::Idle if !limit.is_over() => {}
                Filled::Idle => return Err(reference("no WELCOME came")),
                Filled::Closed => return Err(reference("closed before WELCOME")),
            }
        }
        self.link.connected();
        Ok(None)
    }

    /// Before the first message, bytes that are none tell who is there.
    fn explained(&self, error: LinkError) -> LinkError {
        let LinkError::Protocol(broken) = &error else {
            return error;
        };
        if self.acks.processed_sequence() > 0 {
            return error;
        }
        let unread = self.inbox.unread();
        match (foreign::recognize(unread), broken) {
            (Some(foreign), _) => LinkError::Stranger(foreign.sentence()),
            (None, NativeError::Magic) if self.dialect() == Dialect::Native => {
                reference("no WELCOME came, but something else")
            }
            _ => error,
        }
    }

    /// What the WELCOME says, once it has come. The supervisor learns how many shards there are only
    /// after it knows which of them the first link has.
    fn take_welcome(&mut self) -> Result<Option<Welcomed>, LinkError> {
        let Some((welcome, used)) = Welcome::decode(self.inbox.unread())? else {
            return Ok(None);
        };
        let link = &mut *self.link;
        let is_gone = link.shard.is_some_and(|shard| shard >= welcome.shard_count);
        let refused = welcome.refused.map(str::to_owned);
        let (shard_count, shard) = (welcome.shard_count, welcome.shard_index);
        self.inbox.consume(used);
        match refused {
            Some(reason) if !is_gone => return Err(LinkError::Refused(reason)),
            None if link.is_first => {
                link.shard = Some(shard);
                link.shared
                    .first_shard
                    .store(shard.into(), Ordering::Release);
            }
            _ => {}
        }
        link.shared
            .shard_count
            .store(shard_count.into(), Ordering::Release);
        Ok(Some(if is_gone {
            Welcomed::ShardGone
        } else {
            Welcomed::Accepted
        }))
    }

    /// Messages until the link or the analyzer ends.
    fn serve(&mut self) -> Result<End, LinkError> {
        // The read that brought the WELCOME may have brought messages too.
        if self.work()? == Worked::Goodbye {
            return Ok(End::Closed);
        }
        loop {
            if self.link.is_over() {
                return self.leave();
            }
            if self.link.shared.options.weight_after.is_some() {
                let due = self.link.shared.weight_due(Instant::now());
                self.change_weight(due)?;
            }
            match self.inbox.fill(&mut self.stream)? {
                Filled::Data => match self.work()? {
                    Worked::Goodbye => return Ok(End::Closed),
                    Worked::All | Worked::Enough | Worked::Drain => {}
                },
                Filled::Idle => {
                    let due = self.acks.due_when_idle();
                    self.ack(due)?;
                }
                Filled::Closed => return Ok(End::Closed),
            }
        }
    }

    /// Processes what has arrived, and ACKs.
    fn work(&mut self) -> Result<Worked, LinkError> {
        let before = self.acks.processed_sequence();
        let mut worked;
        loop {
            worked = self.work_until_pause()?;
            let now = Instant::now();
            self.link.tally.worked_at(now);
            if let Some(delay_ns) = self.link.tally.delay_ns(unix_ns) {
                self.link.shared.note_delay(delay_ns);
            }
            let due = self.acks.due(now);
            self.ack(due)?;
            match worked {
                Worked::Drain => {
                    let due = self.acks.flush();
                    self.ack(due)?;
                }
                Worked::All if self.think >= THINK_MIN => self.think(),
                Worked::All | Worked::Enough | Worked::Goodbye => break,
            }
        }
        self.count(self.acks.processed_sequence() - before)?;
        Ok(worked)
    }

    /// Until nothing whole is unread, or it is time to think.
    fn work_until_pause(&mut self) -> Result<Worked, LinkError> {
        let options = &self.link.shared.options;
        let (delay, is_counted) = (options.delay, options.count.is_some());
        if !delay.is_zero() && self.has_no_time(delay) {
            return Ok(Worked::Enough);
        }
        let mut unread = self.inbox.unread();
        let unread_before = unread.len();
        let mut worked = Worked::All;
        while self.think < THINK_MIN {
            match self.downstream.next(&mut unread)? {
                Some(Heard::Message { frame, redelivered }) => {
                    if is_counted && !self.link.shared.claim() {
                        worked = Worked::Enough;
                        break;
                    }
                    self.link.tally.take(frame, redelivered);
                    self.acks.processed();
                    self.think += delay;
                }
                Some(Heard::Drain) => {
                    worked = Worked::Drain;
                    break;
                }
                Some(Heard::Goodbye) => {
                    worked = Worked::Goodbye;
                    break;
                }
                None => break,
            }
        }
        let used = unread_before - unread.len();
        self.inbox.consume(used);
        Ok(worked)
    }

    /// Asked at most `every` after the last time.
    fn has_no_time(&mut self, every: Duration) -> bool {
        match &mut self.leaving {
            Some(limit) => limit.left_after(every.max(Limit::SLICE)).is_zero(),
            None => self.link.is_over(),
        }
    }

    /// Sleeps the think time owed; what the sleep overshot is taken off the next.
    fn think(&mut self) {
        let from = Instant::now();
        thread::sleep(self.think);
        self.think = self.think.saturating_sub(from.elapsed());
    }

    /// Adds to the analyzer's total, which may call for another weight.
    fn count(&mut self, messages: u64) -> Result<(), LinkError> {
        let shared = &self.link.shared;
        let to = match shared.options.count {
            Some(_) => shared.messages.load(Ordering::Relaxed), // claimed one by one
            None => shared.messages.fetch_add(messages, Ordering::Relaxed) + messages,
        };
        let varied = shared.varied_weight(to - messages.min(to), to);
        self.change_weight(varied)
    }

    fn change_weight(&mut self, weight: Option<f64>) -> Result<(), LinkError> {
        let Some(weight) = weight else { return Ok(()) };
        log::debug!("{}: weight {}", self.link.name(), WeightText(weight));
        self.say(weir_sink::encode_weight(self.dialect(), weight))
    }

    /// Records first: what an ACK covers must survive the death of this process.
    fn ack(&mut self, due: Option<u64>) -> Result<(), LinkError> {
        let Some(sequence) = due else { return Ok(()) };
        self.link.tally.write_records().map_err(LinkError::Record)?;
        log::debug!("{}: ACK {sequence}", self.link.name());
        self.say(weir_sink::encode_ack(self.dialect(), sequence))
    }

    fn say(&mut self, word: ControlWord) -> Result<(), LinkError> {
        Ok(self.stream.write_all(word.as_bytes())?)
    }

    /// Asks for nothing new, processes what is under way, ACKs it, closes.
    fn leave(&mut self) -> Result<End, LinkError> {
        if !self.link.shared.over.load(Ordering::Acquire) {
            self.say(weir_sink::encode_drain(self.dialect()))?;
            self.drain()?;
        }
        let due = self.acks.flush();
        self.ack(due)?;
        if self.dialect() == Dialect::Native {
            self.say(weir_sink::encode_goodbye(self.acks.processed_sequence()))?;
        }
        self.close();
        Ok(End::Left)
    }

    fn drain(&mut self) -> Result<(), LinkError> {
        self.leaving = Some(Limit::new(DRAIN_PATIENCE));
        let mut quiet = 0;
        if self.work()? != Worked::All {
            return Ok(());
        }
        while quiet < QUIET_READS && !self.has_no_time(IDLE) {
            match self.inbox.fill(&mut self.stream)? {
                Filled::Data => {
                    quiet = 0;
                    if self.work()? != Worked::All {
                        return Ok(());
                    }
                }
                Filled::Idle => {
                    quiet += 1;
                    let due = self.acks.due_when_idle();
                    self.ack(due)?;
                }
                Filled::Closed => return Ok(()),
            }
        }
        Ok(())
    }

    /// Half-closes, and reads until the peer has closed: closing with unread bytes would reset the
    /// connection, and the reset could overtake the last ACK.
    fn close(&mut self) {
        let mut limit = Limit::new(CLOSE_PATIENCE);
        let mut is_open = self.stream.shutdown(Shutdown::Write).is_ok();
        while is_open && !limit.is_over() {
            let unread = self.inbox.unread().len();
            self.inbox.consume(unread);
            is_open = !matches!(
                self.inbox.fill(&mut self.stream),
                Ok(Filled::Closed) | Err(_)
            );
        }
    }
}
