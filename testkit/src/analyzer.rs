//! An analyzer: one connection, read and checked by a thread of its own, ACKed as told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::decode::Decoder;
use crate::inputs::marked;
use crate::numbered::check_numbered;
use crate::socket;
use crate::wait::POLL;
use crate::wire::{self, Dialect, FRAME_HEADER_BYTES};

/// How often the thread looks whether it shall do something else.
const GLANCE: Duration = Duration::from_millis(20);

/// Which ACKs to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// All that was read, after each read.
    All,
    /// Every n-th message, as reference clients do; never a remainder.
    Every(u64),
    /// None.
    Never,
}

/// What its messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// Numbered frames, each checked byte by byte; only the numbers are kept.
    Numbers,
    /// Text, which is kept with its severity.
    Texts,
    /// Text with a mark in it ([`crate::inputs::marked`]); only the numbers are kept.
    Marked,
    /// The same; what has no mark is counted as read and nothing more.
    MarkedAmongStrangers,
}

/// How an analyzer connects and what it does then.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it speaks.
    pub dialect: Dialect,
    /// The weight of its first word.
    pub weight: f64,
    /// Native only.
    pub id: String,
    /// Native only: the shard to ask for.
    pub shard: Option<u16>,
    /// Which ACKs to send at first.
    pub acks: Acks,
    /// Begin to read at once.
    pub reading: bool,
    /// What it takes for a message.
    pub payloads: Payloads,
    /// Messages a second that it can take; none: all that comes.
    pub per_second: Option<u32>,
}

impl Options {
    /// One named `a` that reads numbered messages and ACKs all.
    pub fn new(dialect: Dialect, weight: f64) -> Options {
        Options {
            dialect,
            weight,
            id: "a".into(),
            shard: None,
            acks: Acks::All,
            reading: true,
            payloads: Payloads::Numbers,
            per_second: None,
        }
    }

    /// With this name.
    pub fn id(mut self, id: &str) -> Options {
        self.id = id.into();
        self
    }

    /// At this shard.
    pub fn shard(mut self, shard: usize) -> Options {
        self.shard = Some(u16::try_from(shard).expect("small"));
        self
    }

    /// With these ACKs.
    pub fn acks(mut self, acks: Acks) -> Options {
        self.acks = acks;
        self
    }

    /// One that does not read before it is told to.
    pub fn not_reading(mut self) -> Options {
        self.reading = false;
        self
    }

    /// One of messages that carry a mark.
    pub fn marked(mut self) -> Options {
        self.payloads = Payloads::Marked;
        self
    }

    /// One of messages that carry a mark, and of others.
    pub fn strangers(mut self) -> Options {
        self.payloads = Payloads::MarkedAmongStrangers;
        self
    }

    /// One that takes so many messages a second.
    pub fn per_second(mut self, messages: u32) -> Options {
        self.per_second = Some(messages);
        self
    }

    /// One of messages that are text.
    pub fn texts(mut self) -> Options {
        self.payloads = Payloads::Texts;
        self
    }
}

/// What the thread and the test both see.
struct State {
    acks: Acks,
    reading: bool,
    closing: bool,
    /// Messages read.
    read: u64,
    ids: Vec<u64>,
    texts: Vec<(u8, String)>,
    /// Messages ACKed; those are the first of `ids`.
    acked: u64,
    redelivered: u64,
    drain_heard: bool,
    goodbye_heard: bool,
    ended: bool,
}

/// A running one; closes when dropped.
pub struct Analyzer {
    state: Arc<Mutex<State>>,
    stream: TcpStream,
    dialect: Dialect,
    /// Shard at the other end of a native link.
    pub shard: u16,
    thread: Option<JoinHandle<()>>,
}

impl Analyzer {
    /// Connects and says its first word; a native link waits for its WELCOME.
    pub fn connect(addr: SocketAddr, options: &Options) -> Analyzer {
        let mut stream = socket::connect(addr);
        let Options {
            dialect, weight, ..
        } = *options;
        let word = wire::first_word(dialect, weight, &options.id, options.shard);
        stream.write_all(&word).expect("writes");
        let mut shard = 0;
        if dialect == Dialect::Native {
            let (welcome, reason) = socket::read_welcome(&mut stream);
            assert_eq!((welcome.status, reason.as_str()), (0, ""));
            shard = welcome.shard_index;
        }
        let state = Arc::new(Mutex::new(State {
            acks: options.acks,
            reading: options.reading,
            closing: false,
            read: 0,
            ids: Vec::new(),
            texts: Vec::new(),
            acked: 0,
            redelivered: 0,
            drain_heard: false,
            goodbye_heard: false,
            ended: false,
        }));
        stream.set_read_timeout(Some(GLANCE)).expect("option");
        let job = Job {
            stream: stream.try_clone().expect("clone"),
            dialect,
            payloads: options.payloads,
            per_second: options.per_second,
            decoder: Decoder::new(dialect),
            state: Arc::clone(&state),
            held: Vec::new(),
        };
        let thread = Some(std::thread::spawn(move || job.run()));
        Analyzer {
            state,
            stream,
            dialect,
            shard,
            thread,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the reading thread found a fault")
    }

    /// Messages read.
    pub fn read(&self) -> usize {
        usize::try_from(self.state().read).expect("fits")
    }

    /// Messages read that carry a number.
    pub fn read_numbered(&self) -> usize {
        self.state().ids.len()
    }

    /// Severity and payload of what was read, in order ([`Payloads::Texts`]).
    pub fn texts(&self) -> Vec<(u8, String)> {
        self.state().texts.clone()
    }

    /// What was read, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.state().ids.clone()
    }

    /// What was read and ACKed.
    pub fn acked_ids(&self) -> Vec<u64> {
        let state = self.state();
        state.ids[..usize::try_from(state.acked).expect("fits")].to_vec()
    }

    /// Messages ACKed.
    pub fn acked(&self) -> u64 {
        self.state().acked
    }

    /// Messages that came marked as redelivered (native).
    pub fn redelivered(&self) -> u64 {
        self.state().redelivered
    }

    /// The distributor said DRAIN (native).
    pub fn drain_heard(&self) -> bool {
        self.state().drain_heard
    }

    /// The distributor said GOODBYE (native).
    pub fn goodbye_heard(&self) -> bool {
        self.state().goodbye_heard
    }

    /// The distributor has closed the connection.
    pub fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Other ACKs from now on.
    pub fn set_acks(&self, acks: Acks) {
        self.state().acks = acks;
    }

    /// Whether it reads from now on.
    pub fn set_reading(&self, reading: bool) {
        self.state().reading = reading;
    }

    /// Says another weight.
    pub fn set_weight(&self, weight: f64) {
        self.write(&wire::weight(self.dialect, weight));
    }

    /// Any control bytes.
    pub fn write(&self, bytes: &[u8]) {
        let mut stream = &self.stream;
        stream.write_all(bytes).expect("writes");
    }

    /// Closes at once; what was read and ACKed until then.
    pub fn close(mut self) -> (Vec<u64>, Vec<u64>) {
        self.end();
        (self.ids(), self.acked_ids())
    }

    /// Ends as a process that is killed with something unread: by a reset. What was read and ACKed until then.
    pub fn reset(mut self) -> (Vec<u64>, Vec<u64>) {
        let options = socket2::SockRef::from(&self.stream);
        options.set_linger(Some(Duration::ZERO)).expect("option");
        self.state().closing = true;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no fault");
        }
        let read = (self.ids(), self.acked_ids());
        // Both of its descriptors are gone with it, and nobody was told of an end before.
        drop(self);
        read
    }

    /// No message with a smaller id came after one with a larger: what one emitter sends on a link
    /// stays in order.
    pub fn assert_in_order(&self) {
        assert!(self.state().ids.is_sorted(), "out of order");
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if let Ok(mut state) = self.state.lock() {
            state.closing = true;
        }
        // What it has read is ACKed before it goes: a test that has seen all messages arrive wants clean books.
        let _ = self.stream.shutdown(Shutdown::Read);
        let _ = thread.join();
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Drop for Analyzer {
    fn drop(&mut self) {
        self.end();
    }
}

struct Job {
    stream: TcpStream,
    dialect: Dialect,
    payloads: Payloads,
    per_second: Option<u32>,
    decoder: Decoder,
    state: Arc<Mutex<State>>,
    /// Read and not yet understood.
    held: Vec<u8>,
}

impl Job {
    fn run(mut self) {
        // Who is slow reads little at once, and ACKs as it goes.
        let read_bytes = if self.per_second.is_some() { 4 } else { 64 };
        let mut bytes = vec![0; read_bytes * 1024];
        loop {
            let (reading, closing) = {
                let state = self.state.lock().expect("the test goes on");
                (state.reading, state.closing)
            };
            if closing {
                return;
            }
            if !reading {
                self.ack();
                std::thread::sleep(POLL);
                continue;
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) => self.held.extend_from_slice(&bytes[..n]),
                // Interrupted by a timer of the shards, where they run in this process.
                Err(e) if is_to_be_tried_again(e.kind()) => {}
                Err(_) => break,
            }
            let before = self.decoder.ackable();
            self.understand();
            self.work(self.decoder.ackable() - before);
            self.ack();
        }
        self.state.lock().expect("the test goes on").ended = true;
    }

    /// Takes its time for so many messages.
    fn work(&self, messages: u64) {
        if let Some(per_second) = self.per_second {
            let took = Duration::from_secs(messages) / per_second;
            std::thread::sleep(took);
        }
    }

    fn understand(&mut self) {
        let mut guard = self.state.lock().expect("the test goes on");
        let state = &mut *guard;
        let used = self.decoder.decode(&self.held, |message| {
            state.read += 1;
            match self.payloads {
                Payloads::Numbers => state.ids.push(check_numbered(message.frame)),
                Payloads::Marked => {
                    let id = marked::find(message.frame);
                    state.ids.push(id.expect("a mark"));
                }
                Payloads::MarkedAmongStrangers => state.ids.extend(marked::find(message.frame)),
                Payloads::Texts => {
                    let text = message.frame[FRAME_HEADER_BYTES..].to_vec();
                    let text = String::from_utf8(text).expect("UTF-8");
                    state.texts.push((message.frame[4], text));
                }
            }
        });
        let used = used.unwrap_or_else(|error| panic!("{error}"));
        state.redelivered = self.decoder.redelivered();
        state.drain_heard = self.decoder.is_drain_heard();
        state.goodbye_heard = self.decoder.is_goodbye_heard();
        drop(guard);
        self.held.drain(..used);
    }

    fn ack(&mut self) {
        let sequence = {
            let mut state = self.state.lock().expect("the test goes on");
            let read = self.decoder.ackable();
            let sequence = match state.acks {
                Acks::All => read,
                Acks::Every(n) => read / n * n,
                Acks::Never => 0,
            };
            if sequence <= state.acked {
                return;
            }
            state.acked = sequence;
            sequence
        };
        // A link that is being closed takes no ACK; the distributor tells by its books.
        let _ = self.stream.write_all(&wire::ack(self.dialect, sequence));
    }
}

fn is_to_be_tried_again(error: ErrorKind) -> bool {
    matches!(
        error,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
