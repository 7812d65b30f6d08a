//! A server of RELP, Lumberjack 2, Forward or syslog with a habit, good or bad. Written from the specifications.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_testkit::inputs::marked;

/// Between looks at a socket that had nothing.
const GLANCE: Duration = Duration::from_millis(2);
/// Before a server that resets what is idle does so.
const QUIET: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Relp,
    Lumberjack,
    Forward,
    Syslog,
    /// Syslog with counted bytes.
    Counted,
}

impl Speaks {
    pub fn scheme(self) -> &'static str {
        match self {
            Speaks::Relp => "relp",
            Speaks::Lumberjack => "lumberjack",
            Speaks::Forward => "forward",
            Speaks::Syslog => "syslog",
            Speaks::Counted => "syslog-octet",
        }
    }

    /// It acks nothing: what arrived is all that can be known.
    fn is_weak(self) -> bool {
        matches!(self, Speaks::Syslog | Speaks::Counted)
    }
}

/// What it does with what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Acks all, at once.
    Acks,
    /// Acks what was never sent.
    Wrong,
    /// Two acks in one write.
    Two,
    /// Acks byte by byte.
    Split,
    /// Lumberjack: each message of a window by an ack of its own.
    Each,
    /// Reads, and never acks.
    Never,
    /// Says that it lives for a second, and acks then.
    Slow,
    /// Acks all, and resets the connection when it has nothing more to ack.
    Resets,
    /// Does not read.
    Deaf,
    /// RELP: refuses every third message.
    Refuses,
    /// RELP: refuses all.
    RefusesAll,
    /// RELP: says goodbye after 50 messages.
    Closes,
    /// RELP: says no goodbye.
    Rude,
}

/// One message, or what is acked as one.
struct Item {
    /// To be acked by this number,
    number: u32,
    /// or by this name.
    chunk: String,
    /// Its window ends with it.
    is_last: bool,
    marks: Vec<u64>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    /// Connections that brought something.
    connections: AtomicU64,
    /// Connections are to be cut, with a reset.
    cuts: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    read: Vec<u64>,
    acked: Vec<u64>,
    refused: Vec<u64>,
    /// Chunks of Forward, by their ids.
    chunks: Vec<(String, Vec<u64>)>,
}

pub struct Server {
    pub address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(speaks: Speaks, habit: Habit) -> Server {
        Server::at(([127, 0, 0, 1], 0).into(), speaks, habit)
    }

    pub fn at(address: SocketAddr, speaks: Speaks, habit: Habit) -> Server {
        let listener = TcpListener::bind(address).expect("a port");
        if speaks.is_weak() {
            // Less than the distributor's lag: what the kernel has when it dies is sent to others.
            let options = socket2::SockRef::from(&listener);
            options.set_recv_buffer_size(16 << 10).expect("set");
        }
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            while !of_thread.stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let state = Arc::clone(&of_thread);
                        std::thread::spawn(move || {
                            let connection = Connection::new(stream, speaks, habit, state);
                            connection.serve();
                        });
                    }
                    Err(_) => std::thread::sleep(GLANCE),
                }
            }
        });
        Server {
            address,
            state,
            thread: Some(thread),
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.state.records.lock().expect("no panic")
    }

    /// Numbers of what it acked; of syslog: of what it read.
    pub fn acked(&self) -> Vec<u64> {
        self.records().acked.clone()
    }

    pub fn read(&self) -> Vec<u64> {
        self.records().read.clone()
    }

    pub fn refused(&self) -> Vec<u64> {
        self.records().refused.clone()
    }

    /// Ids of chunks that were read, and the numbers in each, in order.
    pub fn chunks(&self) -> Vec<(String, Vec<u64>)> {
        self.records().chunks.clone()
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Resets all connections.
    pub fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody listens there any more, and connections are reset.
    pub fn kill(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Connection {
    stream: TcpStream,
    speaks: Speaks,
    habit: Habit,
    state: Arc<State>,
    bytes: Vec<u8>,
    /// Of a window: messages that are to come.
    left: u32,
    items: u64,
    waiting: Vec<Item>,
    cuts: u64,
    read_at: Instant,
}

impl Connection {
    fn new(stream: TcpStream, speaks: Speaks, habit: Habit, state: Arc<State>) -> Connection {
        stream.set_nonblocking(true).expect("set");
        stream.set_nodelay(true).expect("set");
        let cuts = state.cuts.load(Ordering::Relaxed);
        Connection {
            stream,
            speaks,
            habit,
            state,
            bytes: Vec::new(),
            left: 0,
            items: 0,
            waiting: Vec::new(),
            cuts,
            read_at: Instant::now(),
        }
    }

    fn is_cut(&self) -> bool {
        self.state.stop.load(Ordering::Relaxed)
            || self.state.cuts.load(Ordering::Relaxed) != self.cuts
    }

    fn serve(mut self) {
        let mut chunk = vec![0; 64 << 10];
        let mut said_ns = Instant::now();
        let begun = said_ns;
        while !self.is_cut() {
            if self.habit == Habit::Deaf {
                std::thread::sleep(GLANCE);
                continue;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    self.bytes.extend_from_slice(&chunk[..read]);
                    while let Some(item) = self.take() {
                        self.answer(item);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let is_quiet = self.items > 0 && self.read_at.elapsed() > QUIET;
                    if self.habit == Habit::Resets && is_quiet {
                        break;
                    }
                    self.flush(2, begun.elapsed() > Duration::from_secs(1));
                    let is_due = said_ns.elapsed() > Duration::from_millis(100);
                    if self.habit == Habit::Slow && is_due && self.speaks == Speaks::Lumberjack {
                        said_ns = Instant::now();
                        self.write(b"2A\0\0\0\0");
                    }
                    std::thread::sleep(GLANCE);
                }
                Err(_) => return,
            }
        }
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// The next whole message, or chunk of messages.
    fn take(&mut self) -> Option<Item> {
        let item = match self.speaks {
            Speaks::Relp => self.take_relp()?,
            Speaks::Lumberjack => self.take_lumberjack()?,
            Speaks::Forward => self.take_chunk()?,
            Speaks::Syslog => {
                let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
                self.take_text(0, true, 0..end, end + 1)
            }
            Speaks::Counted => {
                let space = self.bytes.iter().position(|byte| *byte == b' ')?;
                let digits = String::from_utf8_lossy(&self.bytes[..space]).into_owned();
                let len: usize = digits.parse().expect("a length");
                let end = space + 1 + len;
                self.bytes.get(..end)?;
                self.take_text(0, true, space + 1..end, end)
            }
        };
        if self.items == 0 {
            self.state.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.items += 1;
        self.read_at = Instant::now();
        let mut records = self.state.records.lock().expect("no panic");
        records.read.extend(&item.marks);
        if self.speaks == Speaks::Forward {
            let chunk = (item.chunk.clone(), item.marks.clone());
            records.chunks.push(chunk);
        }
        Some(item)
    }

    /// Of `used` bytes, the message at `text`.
    fn take_text(&mut self, number: u32, is_last: bool, text: Range<usize>, used: usize) -> Item {
        let marks = marked::find(&self.bytes[text]).into_iter().collect();
        self.bytes.drain(..used);
        Item {
            number,
            chunk: String::new(),
            is_last,
            marks,
        }
    }

    fn take_relp(&mut self) -> Option<Item> {
        loop {
            let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
            let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
            let mut words = line.splitn(4, ' ');
            let number: u32 = words.next()?.parse().expect("a number");
            let command = words.next()?.to_owned();
            let len: usize = words.next()?.parse().expect("a length");
            if len == 0 {
                self.bytes.drain(..end + 1);
                assert_eq!(command, "close", "{line}");
                if self.habit != Habit::Rude {
                    self.write(format!("{number} rsp 0\n").as_bytes());
                }
                continue;
            }
            let head = format!("{number} {command} {len} ").len();
            let used = head + len + 1;
            let data = self.bytes.get(head..used)?;
            assert_eq!(data.last(), Some(&b'\n'), "{line}");
            if command != "open" {
                assert_eq!(command, "syslog");
                return Some(self.take_text(number, true, head..head + len, used));
            }
            assert!(data.starts_with(b"relp_version=0\n"), "{line}");
            self.bytes.drain(..used);
            let offers = "200 OK\nrelp_version=0\ncommands=syslog";
            let answer = format!("{number} rsp {} {offers}\n", offers.len());
            self.write(answer.as_bytes());
        }
    }

    fn take_lumberjack(&mut self) -> Option<Item> {
        loop {
            let kind = self.bytes.get(..2)?.to_vec();
            let word = |at: usize| {
                let four = self.bytes.get(at..at + 4)?;
                Some(u32::from_be_bytes(four.try_into().expect("four")))
            };
            match &kind[..] {
                b"2W" => {
                    assert_eq!(self.left, 0, "the window before is whole");
                    self.left = word(2)?;
                    assert!((1..=2048).contains(&self.left), "{}", self.left);
                    self.bytes.drain(..6);
                }
                b"2J" => {
                    let (number, len) = (word(2)?, word(6)? as usize);
                    let data = self.bytes.get(10..10 + len)?;
                    let object: serde_json::Value = serde_json::from_slice(data).expect("JSON");
                    assert!(object.is_object(), "{object}");
                    self.left -= 1;
                    return Some(self.take_text(number, self.left == 0, 10..10 + len, 10 + len));
                }
                b"2C" => {
                    let len = word(2)? as usize;
                    let packed = self.bytes.get(6..6 + len)?.to_vec();
                    let mut plain = Vec::new();
                    let mut reader = flate2::read::ZlibDecoder::new(&packed[..]);
                    reader.read_to_end(&mut plain).expect("zlib");
                    self.bytes.splice(..6 + len, plain);
                }
                other => panic!("no frame of Lumberjack 2: {other:?}"),
            }
        }
    }

    /// A chunk of Forward: its tag, its entries packed, and options.
    fn take_chunk(&mut self) -> Option<Item> {
        let mut rest = &self.bytes[..];
        // What is cut off is no value yet.
        let chunk = rmpv::decode::read_value_ref(&mut rest).ok()?;
        let used = self.bytes.len() - rest.len();
        let parts = chunk.to_owned();
        let parts = parts.as_array().expect("an array");
        assert_eq!(parts.len(), 3, "{parts:?}");
        assert!(parts[0].is_str(), "a tag: {:?}", parts[0]);
        let option = |name: &str| {
            let options = parts[2].as_map().expect("options").iter();
            let mut found = options.filter(|(key, _)| key.as_str() == Some(name));
            found.next().map(|(_, value)| value.clone()).expect(name)
        };
        let mut entries = parts[1].as_slice().expect("packed entries");
        let mut marks = Vec::new();
        while !entries.is_empty() {
            let entry = rmpv::decode::read_value(&mut entries).expect("an entry");
            marks.extend(marked::find(entry.to_string().as_bytes()));
        }
        assert_eq!(option("size").as_u64(), Some(marks.len() as u64));
        let item = Item {
            number: 0,
            chunk: option("chunk").as_str().expect("text").to_owned(),
            is_last: true,
            marks,
        };
        self.bytes.drain(..used);
        Some(item)
    }

    fn answer(&mut self, item: Item) {
        match self.habit {
            Habit::Wrong if self.speaks == Speaks::Forward => {
                self.write(&chunk_ack("bm90IHlvdXJz"));
            }
            Habit::Wrong => self.write_ack(item.number + 7, 200),
            Habit::Refuses if self.items.is_multiple_of(3) => self.refuse(&item),
            Habit::RefusesAll => self.refuse(&item),
            Habit::Never | Habit::Deaf => {}
            Habit::Two | Habit::Slow => {
                self.waiting.push(item);
                self.flush(2, false);
            }
            Habit::Closes if self.items == 50 => {
                self.ack(vec![item]);
                self.write(b"0 serverclose 0\n");
            }
            _ => self.ack(vec![item]),
        }
    }

    /// Answers what waits: `Two`, as soon as two do; `Slow`, when a second is over.
    fn flush(&mut self, least: usize, is_late: bool) {
        let acks = |it: &&Item| self.speaks != Speaks::Lumberjack || it.is_last;
        let ready = self.waiting.iter().filter(acks).count();
        let may = match self.habit {
            Habit::Two => ready >= least || is_late,
            _ => is_late,
        };
        if may && ready > 0 {
            let items = std::mem::take(&mut self.waiting);
            self.ack(items);
        }
    }

    /// By one write.
    fn ack(&mut self, items: Vec<Item>) {
        let mut out = Vec::new();
        for item in &items {
            match self.speaks {
                Speaks::Relp => {
                    out.extend_from_slice(format!("{} rsp 6 200 OK\n", item.number).as_bytes());
                }
                Speaks::Lumberjack if item.is_last || self.habit == Habit::Each => {
                    out.extend_from_slice(b"2A");
                    out.extend_from_slice(&item.number.to_be_bytes());
                }
                Speaks::Forward => out.extend_from_slice(&chunk_ack(&item.chunk)),
                Speaks::Lumberjack | Speaks::Syslog | Speaks::Counted => {}
            }
        }
        let marks = items.iter().flat_map(|item| &item.marks);
        // Before the ack leaves: what is acked is in the record.
        let mut records = self.state.records.lock().expect("no panic");
        records.acked.extend(marks);
        drop(records);
        match self.habit {
            Habit::Split => out.chunks(1).for_each(|byte| {
                self.write(byte);
                std::thread::sleep(Duration::from_micros(100));
            }),
            _ => self.write(&out),
        }
    }

    fn refuse(&mut self, item: &Item) {
        let mut records = self.state.records.lock().expect("no panic");
        records.refused.extend(&item.marks);
        drop(records);
        self.write_ack(item.number, 500);
    }

    fn write_ack(&mut self, number: u32, status: u16) {
        let bytes = match self.speaks {
            Speaks::Relp => format!("{number} rsp 6 {status} OK\n").into_bytes(),
            _ => [&b"2A"[..], &(number + 4096).to_be_bytes()].concat(),
        };
        self.write(&bytes);
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_cut() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(GLANCE),
                Err(_) => return,
            }
        }
    }
}

/// `{"ack": id}`
fn chunk_ack(id: &str) -> Vec<u8> {
    let mut out = b"\x81\xa3ack".to_vec();
    weir_testkit::inputs::forward::put_str(&mut out, id);
    out
}
