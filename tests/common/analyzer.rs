//! An analyzer: one connection, read and checked by a thread of its own, ACKed as told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wire::{self, Dialect};

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

#[derive(Clone, Debug)]
pub struct Options {
    pub dialect: Dialect,
    pub weight: f64,
    /// Native only.
    pub id: String,
    /// Native only: the shard to ask for.
    pub shard: Option<u16>,
    pub acks: Acks,
    /// Begin to read at once.
    pub reading: bool,
}

impl Options {
    pub fn new(dialect: Dialect, weight: f64) -> Options {
        Options {
            dialect,
            weight,
            id: "a".into(),
            shard: None,
            acks: Acks::All,
            reading: true,
        }
    }

    pub fn id(mut self, id: &str) -> Options {
        self.id = id.into();
        self
    }

    pub fn shard(mut self, shard: usize) -> Options {
        self.shard = Some(u16::try_from(shard).expect("small"));
        self
    }

    pub fn acks(mut self, acks: Acks) -> Options {
        self.acks = acks;
        self
    }

    pub fn not_reading(mut self) -> Options {
        self.reading = false;
        self
    }
}

/// What the thread and the test both see.
struct State {
    acks: Acks,
    reading: bool,
    closing: bool,
    ids: Vec<u64>,
    /// Messages ACKed; those are the first of `ids`.
    acked: u64,
    redelivered: u64,
    drain_heard: bool,
    goodbye_heard: bool,
    ended: bool,
}

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
        let mut stream = wire::connect(addr);
        let Options {
            dialect, weight, ..
        } = *options;
        let word = wire::first_word(dialect, weight, &options.id, options.shard);
        stream.write_all(&word).expect("writes");
        let mut shard = 0;
        if dialect == Dialect::Native {
            let welcome = wire::read_welcome(&mut stream);
            assert_eq!((welcome.status, welcome.reason.as_str()), (0, ""));
            shard = welcome.shard_index;
        }
        let state = Arc::new(Mutex::new(State {
            acks: options.acks,
            reading: options.reading,
            closing: false,
            ids: Vec::new(),
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
        self.state().ids.len()
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

    pub fn acked(&self) -> u64 {
        self.state().acked
    }

    /// Messages that came marked as redelivered (native).
    pub fn redelivered(&self) -> u64 {
        self.state().redelivered
    }

    pub fn drain_heard(&self) -> bool {
        self.state().drain_heard
    }

    pub fn goodbye_heard(&self) -> bool {
        self.state().goodbye_heard
    }

    /// The distributor has closed the connection.
    pub fn has_ended(&self) -> bool {
        self.state().ended
    }

    pub fn set_acks(&self, acks: Acks) {
        self.state().acks = acks;
    }

    pub fn set_reading(&self, reading: bool) {
        self.state().reading = reading;
    }

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

    /// No message with a smaller id came after one with a larger: what one emitter sends on a link
    /// stays in order.
    pub fn assert_in_order(&self) {
        assert!(self.state().ids.is_sorted(), "out of order");
    }

    fn end(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.closing = true;
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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
    state: Arc<Mutex<State>>,
    /// Read and not yet understood.
    held: Vec<u8>,
}

impl Job {
    fn run(mut self) {
        let mut bytes = vec![0; 64 * 1024];
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
                std::thread::sleep(super::POLL);
                continue;
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) => self.held.extend_from_slice(&bytes[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            self.understand();
            self.ack();
        }
        self.state.lock().expect("the test goes on").ended = true;
    }

    fn understand(&mut self) {
        let mut state = self.state.lock().expect("the test goes on");
        let mut at = 0;
        loop {
            let rest = &self.held[at..];
            let used = match self.dialect {
                Dialect::Native => native_word(rest, &mut state),
                _ => whole_frame(rest).inspect(|len| {
                    let id = wire::check_numbered(&rest[..*len]);
                    state.ids.push(id);
                }),
            };
            match used {
                Some(used) => at += used,
                None => break,
            }
        }
        drop(state);
        self.held.drain(..at);
    }

    fn ack(&mut self) {
        let sequence = {
            let mut state = self.state.lock().expect("the test goes on");
            let read = state.ids.len() as u64;
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

fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let len = bytes.first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    assert!(len >= 5, "a frame of {len} bytes");
    (bytes.len() >= len).then_some(len)
}

/// Takes a whole word with its body off the start of `bytes`.
fn native_word(bytes: &[u8], state: &mut State) -> Option<usize> {
    match *bytes.first()? {
        wire::DRAIN => {
            state.drain_heard = true;
            Some(1)
        }
        wire::GOODBYE => {
            state.goodbye_heard = true;
            Some(1)
        }
        wire::BATCH => batch(bytes, state),
        other => panic!("unknown word {other:#x} from the distributor"),
    }
}

fn batch(bytes: &[u8], state: &mut State) -> Option<usize> {
    let header = bytes.first_chunk::<{ wire::BATCH_HEADER_BYTES }>()?;
    let u32_at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("4"));
    let (count, body_bytes) = (u32_at(4), u32_at(8) as usize);
    let first = u64::from_be_bytes(header[16..24].try_into().expect("8"));
    let mut body = bytes[header.len()..].get(..body_bytes)?;
    let next = state.ids.len() as u64 + 1;
    assert_eq!(first, next, "batches follow each other");
    let redelivered = header[1] & 1 != 0;
    for _ in 0..count {
        if redelivered {
            state.redelivered += 1;
            body = &body[8..];
        }
        let len = whole_frame(body).expect("the body holds whole frames");
        state.ids.push(wire::check_numbered(&body[..len]));
        body = &body[len..];
    }
    assert!(body.is_empty(), "the body ends with its last frame");
    Some(header.len() + body_bytes)
}
