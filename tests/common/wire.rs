//! The wire formats, written by hand from `docs/PROTOCOL.md`, so that a mistake in the product's own
//! encoders does not hide itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Typed,
    Compact,
    Native,
}

pub const DIALECTS: [Dialect; 3] = [Dialect::Typed, Dialect::Compact, Dialect::Native];

pub const MAGIC: [u8; 4] = [0xD7, 0x45, 0x49, 0x52];
pub const WELCOME_BYTES: usize = 32;
pub const BATCH: u8 = 0x10;
pub const DRAIN: u8 = 0x11;
pub const GOODBYE: u8 = 0x12;
pub const BATCH_HEADER_BYTES: usize = 32;

/// A frame.
pub fn frame(severity: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(5 + payload.len()).expect("small");
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(severity);
    frame.extend_from_slice(payload);
    frame
}

/// Appends a frame that carries `id` and can be checked.
pub fn put_numbered(out: &mut Vec<u8>, id: u64, payload_bytes: usize) {
    assert!(payload_bytes >= 8, "an id has 8 bytes");
    let length = u32::try_from(5 + payload_bytes).expect("small");
    out.extend_from_slice(&length.to_be_bytes());
    out.push(severity_of(id));
    out.extend_from_slice(&id.to_be_bytes());
    out.resize(out.len() + payload_bytes - 8, b'.');
}

pub fn numbered(id: u64, payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_numbered(&mut out, id, payload_bytes);
    out
}

fn severity_of(id: u64) -> u8 {
    (id % 251) as u8
}

/// The id in a numbered frame whose every byte is as it was sent.
pub fn check_numbered(frame: &[u8]) -> u64 {
    let id = u64::from_be_bytes(frame[5..13].try_into().expect("8 bytes"));
    assert_eq!(frame[4], severity_of(id), "severity of message {id}");
    let filler = &frame[13..];
    assert!(filler.iter().all(|b| *b == b'.'), "payload of message {id}");
    id
}

/// First word of a reference client, HELLO of a native one.
pub fn first_word(dialect: Dialect, weight: f64, id: &str, shard: Option<u16>) -> Vec<u8> {
    match dialect {
        Dialect::Typed => weight.to_be_bytes().to_vec(),
        Dialect::Compact => (weight as f32).to_be_bytes().to_vec(),
        Dialect::Native => hello(1, weight, id, shard),
    }
}

pub fn hello(version: u8, weight: f64, id: &str, shard: Option<u16>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[version, 0]);
    out.extend_from_slice(&shard.unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&[0; 8 + 4 + 2]);
    out.extend_from_slice(&u16::try_from(id.len()).expect("short").to_be_bytes());
    out.extend_from_slice(id.as_bytes());
    out
}

/// ACK of everything up to `sequence`.
pub fn ack(dialect: Dialect, sequence: u64) -> Vec<u8> {
    let low = sequence as u32;
    match dialect {
        Dialect::Typed => [&[0][..], &low.to_be_bytes()].concat(),
        Dialect::Compact => (low | 1 << 31).to_be_bytes().to_vec(),
        Dialect::Native => [&[1][..], &sequence.to_be_bytes()].concat(),
    }
}

/// A change of weight.
pub fn weight(dialect: Dialect, weight: f64) -> Vec<u8> {
    match dialect {
        Dialect::Typed => [&[1][..], &(weight as f32).to_be_bytes()].concat(),
        Dialect::Compact => (weight as f32).to_be_bytes().to_vec(),
        Dialect::Native => [&[2][..], &weight.to_be_bytes()].concat(),
    }
}

/// A connection whose reads and writes end after [`PATIENCE`].
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("connects");
    stream.set_nodelay(true).expect("socket option");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("socket option");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("socket option");
    stream
}

/// Writes byte by byte, each in a segment of its own as far as the kernel goes along.
pub fn write_slowly(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).expect("writes");
        std::thread::yield_now();
    }
}

/// Reads what comes until the peer closes, which it must.
pub fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("socket option");
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&bytes[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(_) => assert!(Instant::now() < deadline, "the peer does not close"),
        }
    }
}

/// A WELCOME: status, shard count, shard index, reason.
pub struct Welcome {
    pub status: u8,
    pub shard_count: u16,
    pub shard_index: u16,
    pub reason: String,
}

/// Reads a WELCOME and not one byte more.
pub fn read_welcome(stream: &mut TcpStream) -> Welcome {
    let mut fixed = [0; WELCOME_BYTES];
    stream.read_exact(&mut fixed).expect("a WELCOME");
    assert_eq!(fixed[..4], MAGIC);
    assert_eq!(fixed[4], 1, "version");
    let u16_at = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let mut reason = vec![0; usize::from(u16_at(10))];
    stream.read_exact(&mut reason).expect("its reason");
    Welcome {
        status: fixed[5],
        shard_count: u16_at(6),
        shard_index: u16_at(8),
        reason: String::from_utf8(reason).expect("text"),
    }
}
