//! A connection that sends as a real client does: so many units in flight, so long a wait for an ack, the same again
//! on a new connection. It keeps its own record; tests judge by that.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{forward, lumberjack, marked, relp, syslog};
use crate::wire::frame_of;

/// Between looks at a socket that had nothing.
const GLANCE: Duration = Duration::from_millis(1);
/// Before a connection that was lost is made again.
const RETRY: Duration = Duration::from_millis(50);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Weir's frames.
    Frames,
    /// Syslog lines.
    Lines,
    /// Syslog with octet counting.
    Counted,
    /// Forward, PackedForward chunks with acks.
    Forward,
    /// Lumberjack v2.
    Lumberjack,
    /// RELP.
    Relp,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// What it speaks.
    pub speaks: Speaks,
    /// Messages in a unit.
    pub unit: usize,
    /// Units in flight.
    pub window: usize,
    /// Bytes of a message's text, at least [`marked::TEXT_BYTES_MIN`].
    pub text_bytes: usize,
    /// How long it waits for an ack, or for a sign of life.
    pub deadline: Option<Duration>,
    /// It sends again what was not acked.
    pub resends: bool,
    /// A unit is due this often, whatever happened before; zero: as fast as it goes.
    pub every: Duration,
}

impl Client {
    fn new(speaks: Speaks, unit: usize, window: usize, deadline: Option<Duration>) -> Client {
        Client {
            speaks,
            unit,
            window,
            text_bytes: 200,
            deadline,
            resends: true,
            every: Duration::ZERO,
        }
    }

    /// Weir's own framing: no acks.
    pub fn frames() -> Client {
        Client::new(Speaks::Frames, 64, 1, None)
    }

    /// rsyslog's omfwd or loggen: no acks.
    pub fn syslog(speaks: Speaks) -> Client {
        Client::new(speaks, 64, 1, None)
    }

    /// Fluentd's out_forward with `require_ack_response`: one chunk, 190 s.
    pub fn fluentd() -> Client {
        let deadline = Duration::from_secs(190);
        Client::new(Speaks::Forward, 256, 1, Some(deadline))
    }

    /// npm's `@fluent-org/logger`: small batches, half a second, and nothing is sent again.
    pub fn npm_forward() -> Client {
        Client {
            resends: false,
            ..Client::new(Speaks::Forward, 10, 1, Some(Duration::from_millis(500)))
        }
    }

    /// Beats: two windows of 2048, 30 s without any ACK.
    pub fn beats() -> Client {
        let deadline = Duration::from_secs(30);
        Client::new(Speaks::Lumberjack, 2048, 2, Some(deadline))
    }

    /// librelp: 128 messages, 90 s while that window is full.
    pub fn librelp() -> Client {
        Client::new(Speaks::Relp, 1, 128, Some(Duration::from_secs(90)))
    }

    /// With other units.
    pub fn unit(mut self, messages: usize) -> Client {
        self.unit = messages;
        self
    }

    /// With a unit due this often.
    pub fn every(mut self, every: Duration) -> Client {
        self.every = every;
        self
    }

    /// With another window.
    pub fn window(mut self, units: usize) -> Client {
        self.window = units;
        self
    }

    fn has_acks(&self) -> bool {
        !matches!(
            self.speaks,
            Speaks::Frames | Speaks::Lines | Speaks::Counted
        )
    }
}

/// What a sender knows.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Numbers below this were begun to be sent, from the first on.
    pub made: u64,
    /// Those that were acked to it; of a protocol without acks: none.
    pub acked: Vec<u64>,
    /// Units that were sent, resent ones counted again.
    pub units: u64,
    /// Units in flight when its wait was over.
    pub timed_out: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Milliseconds from a unit's last byte to its ack.
    pub ack_ms: Vec<u32>,
    /// An answer that no server may give, or a connection that could not be made.
    pub fault: Option<String>,
}

/// A running one.
pub struct Sender {
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Record>>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    /// Sends messages with these numbers, and ends when all are acked.
    pub fn start(addr: SocketAddr, client: Client, ids: Range<u64>) -> Sender {
        let stop = Arc::new(AtomicBool::new(false));
        let record = Arc::new(Mutex::new(Record {
            made: ids.start,
            ..Record::default()
        }));
        let job = Job {
            addr,
            client,
            end: ids.end,
            next: ids.start,
            open: VecDeque::new(),
            again: VecDeque::new(),
            link: None,
            due: Instant::now(),
            stop: Arc::clone(&stop),
            record: Arc::clone(&record),
        };
        let thread = Some(std::thread::spawn(move || job.run()));
        Sender {
            stop,
            record,
            thread,
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("the sender goes on")
    }

    /// Messages that were acked so far.
    pub fn acked(&self) -> usize {
        self.record().acked.len()
    }

    /// Numbers below this were begun to be sent.
    pub fn made(&self) -> u64 {
        self.record().made
    }

    /// It makes nothing more, waits for the acks of what is out, and says what it knows.
    pub fn finish(mut self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        self.joined()
    }

    /// All of its numbers are through.
    pub fn join(mut self) -> Record {
        self.joined()
    }

    fn joined(&mut self) -> Record {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
        self.record().clone()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Unit {
    ids: Range<u64>,
    /// Of a window: so many from its front.
    acked: u64,
    /// Chunk id of Forward, transaction of RELP.
    key: String,
    /// Bytes of the connection after which it is written.
    end: u64,
    /// It was written then.
    written: Option<Instant>,
}

struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    at: usize,
    /// Bytes that were ever put into `out`, and into the socket.
    put: u64,
    written: u64,
    read: Vec<u8>,
    txnr: u32,
    is_open: bool,
    /// Answers reset the clock.
    heard: Instant,
}

struct Job {
    addr: SocketAddr,
    client: Client,
    end: u64,
    next: u64,
    open: VecDeque<Unit>,
    /// Of connections before.
    again: VecDeque<Range<u64>>,
    link: Option<Link>,
    /// When the next unit is.
    due: Instant,
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Record>>,
}

impl Job {
    fn run(mut self) {
        loop {
            let is_over = self.next == self.end || self.stop.load(Ordering::Relaxed);
            let is_flushed = self
                .link
                .as_ref()
                .is_none_or(|link| link.at == link.out.len());
            if is_over && self.open.is_empty() && self.again.is_empty() && is_flushed {
                return;
            }
            if self.link.is_none() && !self.connect() {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(RETRY);
                continue;
            }
            let made = self.make();
            match self.exchange() {
                Ok(moved) if made || moved => {}
                Ok(_) => std::thread::sleep(GLANCE),
                Err(Lost::Connection) => self.lose(),
                Err(Lost::Fault(what)) => {
                    self.note(|record| record.fault = Some(what));
                    return;
                }
            }
            if self.is_late() {
                let units = self.open.len() as u64;
                self.note(|record| record.timed_out += units);
                self.lose();
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record.lock().expect("no panic while held"));
    }

    fn connect(&mut self) -> bool {
        let Ok(stream) = TcpStream::connect_timeout(&self.addr, CONNECT_PATIENCE) else {
            return false;
        };
        if stream.set_nodelay(true).is_err() || stream.set_nonblocking(true).is_err() {
            return false;
        }
        let is_relp = self.client.speaks == Speaks::Relp;
        let out = if is_relp { relp::open() } else { Vec::new() };
        self.link = Some(Link {
            stream,
            put: out.len() as u64,
            out,
            at: 0,
            written: 0,
            read: Vec::new(),
            txnr: 1,
            is_open: !is_relp,
            heard: Instant::now(),
        });
        true
    }

    /// The connection is of no use any more.
    fn lose(&mut self) {
        self.link = None;
        let open = std::mem::take(&mut self.open);
        if self.client.resends && self.client.has_acks() {
            let open = open
                .into_iter()
                .map(|unit| unit.ids.start + unit.acked..unit.ids.end);
            let before = std::mem::take(&mut self.again);
            self.again = open.chain(before).collect();
        }
        self.note(|record| record.reconnects += 1);
        std::thread::sleep(RETRY);
    }

    /// Puts the next unit out, if there is one and room for it.
    fn make(&mut self) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let is_full = self.open.len() >= self.client.window || link.at < link.out.len();
        if is_full || !link.is_open || self.due > Instant::now() {
            return false;
        }
        let ids = match self.again.pop_front() {
            Some(ids) => ids,
            None if self.stop.load(Ordering::Relaxed) || self.next == self.end => return false,
            None => {
                let last = (self.next + self.client.unit as u64).min(self.end);
                let ids = self.next..last;
                self.next = last;
                ids
            }
        };
        // On schedule: what was held up is made up for.
        self.due += self.client.every;
        link.out.clear();
        link.at = 0;
        // As long as Fluentd's, and the same again when it is sent again.
        let key = match self.client.speaks {
            Speaks::Relp => {
                link.txnr = relp::next(link.txnr);
                link.txnr.to_string()
            }
            _ => format!("{:0>24}", ids.start),
        };
        put_unit(&mut link.out, &self.client, &ids, &key, link.txnr);
        link.put += link.out.len() as u64;
        let end = link.put;
        let made = self.next;
        self.note(|record| {
            record.made = made;
            record.units += 1;
        });
        if self.client.has_acks() {
            self.open.push_back(Unit {
                ids,
                acked: 0,
                key,
                end,
                written: None,
            });
        }
        true
    }

    fn exchange(&mut self) -> Result<bool, Lost> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let mut moved = false;
        if link.at < link.out.len() {
            match link.stream.write(&link.out[link.at..]) {
                Ok(0) => return Err(Lost::Connection),
                Ok(len) => {
                    link.at += len;
                    link.written += len as u64;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err(Lost::Connection),
            }
            let (written, now) = (link.written, Instant::now());
            let whole = self.open.iter_mut().filter(|unit| unit.end <= written);
            whole.for_each(|unit| {
                unit.written.get_or_insert(now);
            });
        }
        let mut bytes = [0; 4096];
        match link.stream.read(&mut bytes) {
            Ok(0) => return Err(Lost::Connection),
            Ok(len) => {
                link.read.extend_from_slice(&bytes[..len]);
                link.heard = Instant::now();
                moved = true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(moved),
            Err(_) => return Err(Lost::Connection),
        }
        self.hear()?;
        Ok(moved)
    }

    fn hear(&mut self) -> Result<(), Lost> {
        loop {
            let Some(link) = &mut self.link else {
                return Ok(());
            };
            let used = match self.client.speaks {
                Speaks::Frames | Speaks::Lines | Speaks::Counted => {
                    return Err(Lost::Fault("a client without acks was written to".into()));
                }
                Speaks::Forward => forward::read_ack(&link.read)
                    .map(|ack| ack.map(|(id, used)| (Heard::Key(id.to_owned()), used))),
                Speaks::Lumberjack => lumberjack::read_ack(&link.read)
                    .map(|ack| ack.map(|number| (Heard::Prefix(number), lumberjack::ACK_BYTES))),
                Speaks::Relp => relp::read(&link.read)
                    .map(|said| said.map(|said| (Heard::of(&said), said.used))),
            };
            let Some((heard, used)) = used.map_err(Lost::Fault)? else {
                return Ok(());
            };
            link.read.drain(..used);
            self.take(heard)?;
        }
    }

    fn take(&mut self, heard: Heard) -> Result<(), Lost> {
        match heard {
            Heard::Opened => {
                if let Some(link) = &mut self.link {
                    link.is_open = true;
                }
            }
            Heard::Closing => return Err(Lost::Connection),
            Heard::Bad(what) => return Err(Lost::Fault(what)),
            Heard::Prefix(number) => {
                let Some(unit) = self.open.front_mut() else {
                    let is_life = number == 0;
                    let fault = Lost::Fault(format!("an ACK of {number}, and no window is open"));
                    return if is_life { Ok(()) } else { Err(fault) };
                };
                let (number, count) = (u64::from(number), unit.ids.end - unit.ids.start);
                if number > count || number != 0 && number < unit.acked {
                    let what = format!("an ACK of {number} in a window of {count}");
                    return Err(Lost::Fault(what));
                }
                let before = unit.acked;
                unit.acked = before.max(number);
                let ids = unit.ids.start + before..unit.ids.start + unit.acked;
                self.note(|record| record.acked.extend(ids));
                if number == count {
                    self.through();
                }
            }
            Heard::Key(key) => {
                let Some(unit) = self.open.front().filter(|unit| unit.key == key) else {
                    let what = format!("an ack of {key}, which is not the oldest");
                    return Err(Lost::Fault(what));
                };
                let ids = unit.ids.clone();
                self.note(|record| record.acked.extend(ids));
                self.through();
            }
        }
        Ok(())
    }

    /// The oldest unit is acked.
    fn through(&mut self) {
        let Some(unit) = self.open.pop_front() else {
            return;
        };
        let took = unit.written.map_or(Duration::ZERO, |at| at.elapsed());
        let ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        self.note(|record| record.ack_ms.push(ms));
    }

    /// It has waited for as long as it does.
    fn is_late(&self) -> bool {
        let (Some(deadline), Some(link)) = (self.client.deadline, &self.link) else {
            return false;
        };
        // librelp looks at its clock only while its window is full.
        let waits = match self.client.speaks {
            Speaks::Relp => self.open.len() >= self.client.window,
            _ => true,
        };
        let oldest = self.open.front().and_then(|unit| unit.written);
        waits && oldest.is_some_and(|at| at.max(link.heard).elapsed() > deadline)
    }
}

enum Lost {
    Connection,
    Fault(String),
}

enum Heard {
    /// A unit, by its name.
    Key(String),
    /// So many events of the oldest window.
    Prefix(u32),
    Opened,
    Closing,
    Bad(String),
}

impl Heard {
    fn of(said: &relp::Said<'_>) -> Heard {
        match said.command {
            "serverclose" => Heard::Closing,
            "rsp" if !said.data.starts_with("200") => Heard::Bad(format!("{said:?}")),
            "rsp" if said.txnr == 1 => Heard::Opened,
            "rsp" => Heard::Key(said.txnr.to_string()),
            _ => Heard::Bad(format!("{said:?}")),
        }
    }
}

fn put_unit(out: &mut Vec<u8>, client: &Client, ids: &Range<u64>, key: &str, txnr: u32) {
    let texts: Vec<String> = ids
        .clone()
        .map(|id| marked::text(id, client.text_bytes))
        .collect();
    let line = |text: &str| format!("{}{text}", syslog::HEADER);
    match client.speaks {
        Speaks::Frames => texts
            .iter()
            .for_each(|text| out.extend(frame_of(3, text.as_bytes()))),
        Speaks::Lines => texts
            .iter()
            .for_each(|text| syslog::put_line(out, line(text).as_bytes())),
        Speaks::Counted => texts
            .iter()
            .for_each(|text| syslog::put_counted(out, line(text).as_bytes())),
        Speaks::Forward => {
            out.extend(forward::chunk("app", texts.iter().map(String::as_str), key));
        }
        Speaks::Lumberjack => {
            out.extend(lumberjack::window(texts.iter().map(String::as_str)));
        }
        Speaks::Relp => texts
            .iter()
            .for_each(|text| relp::put_frame(out, txnr, "syslog", line(text).as_bytes())),
    }
}
