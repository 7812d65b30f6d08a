//! One link to the distributor: connect, greet, read, ACK, leave; and again when it breaks.

use super::acks::Acks;
use super::downstream::{Downstream, Heard};
use super::group::{Group, NotAdmitted};
use super::inbox::{Filled, Inbox};
use super::link_error::{reference, LinkError};
use super::tally::{Counts, Tally};
use super::Shared;
use crate::backoff::Backoff;
use crate::socket::Socket;
use crate::{peers, unix_ns};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use weir_clock::Limit;
use weir_protocol::foreign;
use weir_protocol::native::{Hello, NativeError, Welcome, SHARD_NONE};
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

/// How often the same failure is a warning.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How often a link whose distributor another group has looks whether that is still so.
const DOUBLE_EVERY: Duration = Duration::from_millis(500);

/// One shard's link, with what outlives its connections.
pub struct Link {
    shard: Option<u16>,
    is_first: bool,
    shared: Arc<Shared>,
    group: Arc<Group>,
    stop: Arc<AtomicBool>,
    tally: Tally,
    backoff: Backoff,
    has_connected: bool,
    /// What was wrong, as it was said last, and when.
    said: Option<(String, Instant)>,
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
    /// Another group has this distributor's links.
    Double,
}

impl Link {
    /// A link to `shard`; `None`: the first one, which takes the shard it is given.
    pub fn new(
        shard: Option<u16>,
        shared: Arc<Shared>,
        group: Arc<Group>,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let options = &shared.options;
        let tally = Tally::new(options.record.as_deref(), options.open_journal()?)?;
        let backoff = Backoff::new(unix_ns() ^ u64::from(shard.unwrap_or(u16::MAX)) << 48);
        let is_first = shard.is_none();
        Ok(Self {
            shard,
            is_first,
            shared,
            group,
            stop,
            tally,
            backoff,
            has_connected: false,
            said: None,
        })
    }

    /// Keeps the link open until the analyzer leaves.
    pub fn run(&mut self) -> Counts {
        while !self.is_over() {
            match self.connect_and_serve() {
                Ok(End::Left | End::ShardGone) => break,
                Ok(End::Double) if self.group.has_left() => break,
                Ok(End::Double) => {
                    self.wait(DOUBLE_EVERY);
                    continue;
                }
                Ok(End::Closed) => log::warn!("{}: the distributor closed the link", self.name()),
                Err(LinkError::Record(error)) => {
                    self.shared.fail(error);
                    break;
                }
                Err(error) if self.has_connected || self.shared.options.reconnect => {
                    self.warn(&error);
                }
                Err(error) => {
                    let name = &self.group.name;
                    self.shared
                        .fail(io::Error::other(format!("{name}: {error}")));
                    break;
                }
            }
            if !self.shared.options.reconnect {
                break;
            }
            if self.group.has_left() && self.group.live() == 0 {
                break;
            }
            let wait = self.backoff.wait();
            self.wait(wait);
        }
        self.tally.counts
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.shared.over.load(Ordering::Acquire)
    }

    fn name(&self) -> String {
        let id = &self.shared.options.id;
        let of = match self.group.is_plain() {
            true => id.clone(),
            false => format!("{id} at {}", self.group.name),
        };
        match self.shard {
            Some(shard) => format!("{of} shard {shard}"),
            None => of,
        }
    }

    /// The same is said once in a while: a replica may be away for hours.
    fn warn(&mut self, error: &LinkError) {
        let (text, now) = (error.to_string(), Instant::now());
        let is_old = |(said, at): &(String, Instant)| *said == text && now - *at < SAY_AGAIN;
        if self.said.as_ref().is_some_and(is_old) {
            log::debug!("{}: {text}", self.name());
            return;
        }
        log::warn!("{}: {text}", self.name());
        self.said = Some((text, now));
    }

    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_over() {
            thread::sleep(IDLE.min(until - Instant::now().min(until)));
        }
    }

    fn connect_and_serve(&mut self) -> Result<End, LinkError> {
        if self.is_first && !self.group.is_plain() && self.group.live() == 0 {
            if let Some(end) = self.probe()? {
                return Ok(end);
            }
        }
        let connected = self.connect();
        if connected.is_err() {
            self.group.release(&self.shared.owners);
        }
        let (stream, addr) = connected?;
        let opened_at = Instant::now();
        let mut session = Session::new(self, stream, addr);
        let end = match session.greet() {
            Ok(None) => session.serve(),
            Ok(Some(end)) => Ok(end),
            Err(error) => Err(error),
        };
        let end = end.map_err(|error| session.explained(error));
        let was_useful = session.acks.processed_sequence() > 0 || opened_at.elapsed() >= LASTED;
        session.dismiss();
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
        log::info!("{}: connected to {}", self.name(), self.group.name);
    }

    /// To the distributor of this group: an address that answers, and which one that is.
    fn connect(&self) -> io::Result<(Socket<TcpStream>, SocketAddr)> {
        let mut last = None;
        let peer_timeout = self.shared.options.peer_timeout;
        for addr in self.group.addrs(&self.stop)? {
            match TcpStream::connect_timeout(&addr, PEER_PATIENCE.min(peer_timeout)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(IDLE))?;
                    stream.set_write_timeout(Some(PEER_PATIENCE))?;
                    peers::watch(&socket2::SockRef::from(&stream), peer_timeout)?;
                    match self.secure(stream) {
                        Ok(stream) => return Ok((stream, addr)),
                        Err(error) => {
                            let text = format!("{addr}: {error}");
                            last = Some(io::Error::new(error.kind(), text));
                        }
                    }
                }
                Err(error) => {
                    let text = format!("{addr}: {error}");
                    last = Some(io::Error::new(error.kind(), text));
                }
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no address")))
    }

    /// TLS on a connection, if it is spoken.
    fn secure(&self, stream: TcpStream) -> io::Result<Socket<TcpStream>> {
        let tls = self.shared.options.tls.as_ref();
        let mut socket = Socket::begin(stream, tls, self.group.host())?;
        if let Some(stream) = socket.secured() {
            stream.handshake(PEER_PATIENCE, || self.is_over())?;
        }
        Ok(socket)
    }

    /// Asks who is there before a link takes the place of another group's.
    fn probe(&mut self) -> Result<Option<End>, LinkError> {
        if self.shared.options.dialect != Dialect::Native {
            return Ok(None);
        }
        let (stream, addr) = self.connect()?;
        let mut session = Session::new(self, stream, addr);
        let instance = session.ask_instance();
        let instance = instance.map_err(|error| session.explained(error))?;
        match self.group.reserve(&self.shared.owners, instance) {
            Ok(()) => Ok(None),
            Err(why) => Ok(Some(self.double(&why))),
        }
    }

    fn double(&self, why: &NotAdmitted) -> End {
        if self.group.note_double() {
            log::info!("{}: {why}", self.name());
        }
        End::Double
    }
}

/// One connection of a link.
struct Session<'a> {
    link: &'a mut Link,
    stream: Socket<TcpStream>,
    addr: SocketAddr,
    /// The group counts it.
    is_admitted: bool,
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
    Double,
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
    fn new(link: &'a mut Link, stream: Socket<TcpStream>, addr: SocketAddr) -> Self {
        let options = &link.shared.options;
        let acks = Acks::new(options.dialect, options.ack_every, options.ack_remainder);
        let downstream = Downstream::new(options.dialect);
        Self {
            link,
            stream,
            addr,
            is_admitted: false,
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
        self.link.group.is_news(weight);
        if self.dialect() == Dialect::Native {
            return self.greet_native(weight);
        }
        // Nobody says who is there: each group is a distributor.
        let instance = self.link.group.number();
        self.admit(instance)?;
        self.say(weir_sink::encode_first_weight(self.dialect(), weight))?;
        self.link.connected();
        Ok(None)
    }

    /// Counts this link among those of its group, if it leads to the same distributor.
    fn admit(&mut self, instance: u64) -> Result<(), LinkError> {
        let owners = &self.link.shared.owners;
        let admitted = self.link.group.admit(owners, self.addr, instance);
        admitted.map_err(LinkError::NotAdmitted)?;
        self.is_admitted = true;
        Ok(())
    }

    /// It is over.
    fn dismiss(&mut self) {
        let was_admitted = std::mem::replace(&mut self.is_admitted, false);
        self.link.group.release(&self.link.shared.owners);
        if was_admitted && self.link.group.dismiss(&self.link.shared.owners) {
            self.link.shared.ask_discovery();
        }
    }

    fn say_hello(&mut self, shard: Option<u16>, weight: f64) -> Result<(), LinkError> {
        let shared = &self.link.shared;
        let hello = Hello {
            shard,
            weight,
            window_bytes: 0,
            window_messages: 0,
            id: &shared.options.id,
            token: &shared.options.token,
            instance: Some(shared.instance),
            forms: shared.options.forms,
        };
        let mut bytes = Vec::new();
        hello.encode(&mut bytes)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Who is there. The link is refused with that, and nothing else happens.
    fn ask_instance(&mut self) -> Result<u64, LinkError> {
        let weight = self.link.shared.weight();
        self.say_hello(Some(SHARD_NONE), weight)?;
        let mut limit = Limit::new(PEER_PATIENCE);
        loop {
            if let Some((welcome, _)) = Welcome::decode(self.inbox.unread())? {
                return Ok(welcome.instance);
            }
            self.read_welcome(&mut limit)?;
        }
    }

    /// More of a WELCOME; false when the analyzer is over.
    fn read_welcome(&mut self, limit: &mut Limit) -> Result<bool, LinkError> {
        let filled = self.inbox.fill(&mut self.stream);
        match filled.map_err(|error| reference(&format!("{error} instead of a WELCOME")))? {
            Filled::Data => Ok(true),
            Filled::Idle if self.link.is_over() => Ok(false),
            Filled::Idle if !limit.is_over() => Ok(true),
            Filled::Idle => Err(reference("no WELCOME came")),
            Filled::Closed => Err(reference("closed before WELCOME")),
        }
    }

    fn greet_native(&mut self, weight: f64) -> Result<Option<End>, LinkError> {
        self.say_hello(self.link.shard, weight)?;
        let mut limit = Limit::new(PEER_PATIENCE);
        loop {
            match self.take_welcome()? {
                Some(Welcomed::Accepted) => break,
                Some(Welcomed::ShardGone) => return Ok(Some(End::ShardGone)),
                Some(Welcomed::Double) => return Ok(Some(End::Double)),
                None => {}
            }
            if !self.read_welcome(&mut limit)? {
                return Ok(Some(End::Left));
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
        let is_gone = self
            .link
            .shard
            .is_some_and(|shard| shard >= welcome.shard_count);
        let refused = welcome.refused.map(str::to_owned);
        let (shard_count, shard) = (welcome.shard_count, welcome.shard_index);
        let instance = welcome.instance;
        self.inbox.consume(used);
        if is_gone {
            // Of another distributor it would say nothing about this one.
            let (group, owners) = (&self.link.group, &self.link.shared.owners);
            let same = group.check_same(owners, self.addr, instance);
            same.map_err(LinkError::NotAdmitted)?;
            group.set_shards(shard_count);
            return Ok(Some(Welcomed::ShardGone));
        }
        if let Some(reason) = refused {
            return Err(LinkError::Refused(reason));
        }
        match self.admit(instance) {
            Err(LinkError::NotAdmitted(why @ NotAdmitted::Double { .. })) => {
                self.link.double(&why);
                return Ok(Some(Welcomed::Double));
            }
            other => other?,
        }
        let link = &mut *self.link;
        if link.is_first {
            link.shard = Some(shard);
            link.group
                .first_shard
                .store(shard.into(), Ordering::Release);
        }
        link.group.set_shards(shard_count);
        Ok(Some(Welcomed::Accepted))
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
            self.link.shared.note_weight_due(Instant::now());
            self.tell_weight()?;
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
        let asks_forms = options.forms;
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
                    match asks_forms {
                        false => self.link.tally.take(frame, redelivered),
                        true => self.link.tally.take_described(frame, redelivered)?,
                    }
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
        shared.vary_weight(to - messages.min(to), to);
        self.tell_weight()
    }

    /// Tells the distributor the weight, if none of its links has.
    fn tell_weight(&mut self) -> Result<(), LinkError> {
        if !self.link.shared.has_other_weights() {
            return Ok(());
        }
        let weight = self.link.shared.weight();
        if !self.link.group.is_news(weight) {
            return Ok(());
        }
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
        let mut is_open = self.stream.shut_write().is_ok();
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
