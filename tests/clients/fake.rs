//! The other end: accepts emitters and reads frames; accepts analyzers, sends messages, reads
//! control words.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use weir::client::payload::{self, Numbered};
use weir::protocol::frame;
use weir::protocol::native::{BatchHeader, HelloReader, Welcome};
use weir::sink::detect::{Detection, Detector};
use weir::sink::{Control, Decoder, Dialect};

pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("address").to_string();
    (listener, addr)
}

/// A message as an emitter meant it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub stream: String,
    pub sequence: u64,
    pub due_unix_ns: u64,
    pub severity: u8,
    pub frame_bytes: usize,
}

/// Reads an emitter's connection to its end, `read_bytes` at a time. Whole frames only.
pub fn read_frames(mut stream: TcpStream, read_bytes: usize) -> Vec<Vec<u8>> {
    let (mut held, mut frames) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; read_bytes];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        held.extend_from_slice(&buffer[..count]);
        let mut at = 0;
        while let Some(length) = frame::peek(&held[at..], 1 << 20).expect("frame") {
            let Some(frame) = held[at..].get(..length) else {
                break;
            };
            frames.push(frame.to_vec());
            at += length;
        }
        held.drain(..at);
    }
    frames
}

pub fn message(frame: &[u8]) -> Message {
    let numbered = payload::parse(&frame[5..]).expect("numbered");
    Message {
        stream: String::from_utf8(numbered.stream.to_vec()).expect("UTF-8"),
        sequence: numbered.sequence,
        due_unix_ns: numbered.due_unix_ns,
        severity: frame[4],
        frame_bytes: frame.len(),
    }
}

/// A numbered frame.
pub fn numbered_frame(stream: &str, sequence: u64, due_unix_ns: u64) -> Vec<u8> {
    let mut payload = vec![0; 96];
    payload::fill(&mut payload);
    let stream = stream.as_bytes();
    payload::encode(
        &mut payload,
        Numbered {
            stream,
            sequence,
            due_unix_ns,
            has_checksum: false,
        },
    );
    [&frame::encode_header(96, 3)[..], &payload].concat()
}

/// An analyzer's connection, seen from the distributor.
pub struct Analyzer {
    pub stream: TcpStream,
    pub dialect: Dialect,
    pub weight: f64,
    pub id: String,
    pub shard: Option<u16>,
    decoder: Decoder,
    /// Read and not decoded.
    held: Vec<u8>,
    /// Messages sent on this link.
    pub sent: u64,
    pub write_bytes: usize,
}

impl Analyzer {
    /// Accepts one and reads its first word or HELLO; a native one is still to be welcomed.
    pub fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_nodelay(true).expect("nodelay");
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("timeout");
        let mut detector = Detector::new(None);
        let mut hello = HelloReader::default();
        let mut byte = [0];
        loop {
            let detection = match stream.read(&mut byte) {
                Ok(0) => panic!("closed before its first word"),
                Ok(_) => detector.feed(&mut &byte[..]).expect("first word"),
                Err(_) => detector.on_silence().expect("first word"),
            };
            match detection {
                Detection::NeedMore => {}
                Detection::Analyzer { weight: None, .. } => break,
                Detection::Analyzer {
                    sink,
                    weight: Some(weight),
                } => {
                    let dialect = sink.dialect().expect("it connected");
                    return Self::new(stream, dialect, weight, String::new(), None);
                }
            }
        }
        loop {
            if let Some(hello) = hello.next(&mut &byte[..]) {
                let hello = hello.expect("HELLO");
                let (weight, id, shard) = (hello.weight, hello.id.to_string(), hello.shard);
                return Self::new(stream, Dialect::Native, weight, id, shard);
            }
            stream.read_exact(&mut byte).expect("HELLO");
        }
    }

    fn new(
        stream: TcpStream,
        dialect: Dialect,
        weight: f64,
        id: String,
        shard: Option<u16>,
    ) -> Self {
        let decoder = Decoder::new(dialect.into());
        let (held, sent, write_bytes) = (Vec::new(), 0, usize::MAX);
        Self {
            stream,
            dialect,
            weight,
            id,
            shard,
            decoder,
            held,
            sent,
            write_bytes,
        }
    }

    /// Welcomes a native analyzer to `shard` of `shard_count`; others need no welcome.
    pub fn welcomed(mut self, shard_count: u16, shard_index: u16) -> Self {
        if self.dialect == Dialect::Native {
            let mut bytes = Vec::new();
            Welcome {
                refused: None,
                shard_count,
                shard_index,
                instance: 1,
                link_epoch: 7,
            }
            .encode(&mut bytes);
            self.write(&bytes);
        }
        self
    }

    pub fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(self.write_bytes.min(bytes.len().max(1))) {
            self.stream.write_all(chunk).expect("write");
        }
    }

    /// Sends messages of `stream`, in one batch if native.
    pub fn send(&mut self, stream: &str, sequences: impl IntoIterator<Item = u64>) {
        let frames = sequences
            .into_iter()
            .map(|n| (n, numbered_frame(stream, n, 1)));
        let frames: Vec<_> = frames.collect();
        self.send_frames(&frames, false);
    }

    /// Sends them marked as redelivered.
    pub fn redeliver(&mut self, stream: &str, sequences: impl IntoIterator<Item = u64>) {
        let frames = sequences
            .into_iter()
            .map(|n| (n, numbered_frame(stream, n, 1)));
        let frames: Vec<_> = frames.collect();
        self.send_frames(&frames, true);
    }

    fn send_frames(&mut self, frames: &[(u64, Vec<u8>)], redelivered: bool) {
        let mut body = Vec::new();
        for (sequence, frame) in frames {
            if redelivered {
                body.extend_from_slice(&sequence.to_be_bytes());
            }
            body.extend_from_slice(frame);
        }
        if self.dialect == Dialect::Native {
            let header = BatchHeader {
                redelivered,
                origin_shard: 0,
                count: frames.len() as u32,
                body_bytes: body.len() as u32,
                first_sequence: self.sent + 1,
                origin_epoch: 7,
            };
            self.write(&header.encode());
        }
        self.sent += frames.len() as u64;
        self.write(&body);
    }

    /// The next control word; `None`: closed, or nothing within `patience`.
    pub fn hear_within(&mut self, patience: Duration) -> Option<Control> {
        let deadline = Instant::now() + patience;
        loop {
            let mut bytes = &self.held[..];
            let control = self.decoder.next(&mut bytes);
            let left = bytes.to_vec();
            self.held = left;
            if let Some(control) = control {
                return Some(control.expect("control word"));
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.held.extend_from_slice(&buffer[..count]),
                Err(_) if Instant::now() < deadline => {}
                Err(_) => return None,
            }
        }
    }

    pub fn hear(&mut self) -> Control {
        self.hear_within(PATIENCE).expect("a control word")
    }

    /// Hears until the ACK of `sequence`; every word before it.
    pub fn hear_until_ack(&mut self, sequence: u64) -> Vec<Control> {
        let mut heard = Vec::new();
        loop {
            let control = self.hear();
            heard.push(control);
            match control {
                Control::Ack(raw) if raw == sequence => return heard,
                Control::Ack(raw) => assert!(raw < sequence, "ACK {raw} before {sequence}"),
                _ => {}
            }
        }
    }
}

/// Something that runs until it is told to stop.
pub struct Running<T> {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<T>,
}

impl<T: Send + 'static> Running<T> {
    pub fn start(run: impl FnOnce(Arc<AtomicBool>) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let raised = stop.clone();
        Self {
            stop,
            thread: thread::spawn(move || run(raised)),
        }
    }

    pub fn raise_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub fn join(self) -> T {
        self.thread.join().expect("no panic")
    }

    pub fn stop(self) -> T {
        self.raise_stop();
        self.join()
    }
}
