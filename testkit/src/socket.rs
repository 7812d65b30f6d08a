//! Plain sockets that give up after [`PATIENCE`].

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::wire::{self, WELCOME_BYTES};
use crate::PATIENCE;

/// A connection whose reads and writes end after [`PATIENCE`].
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connects");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option");
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
    let glance = Duration::from_millis(100);
    stream.set_read_timeout(Some(glance)).expect("an option");
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&bytes[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(_) => assert!(Instant::now() < deadline, "the peer does not close"),
        }
    }
}

/// Reads a WELCOME and its reason, and not one byte more.
pub fn read_welcome(stream: &mut TcpStream) -> (wire::Welcome, String) {
    let mut fixed = [0; WELCOME_BYTES];
    stream.read_exact(&mut fixed).expect("a WELCOME");
    let welcome = wire::Welcome::decode(&fixed).expect("of version 1");
    let mut reason = vec![0; usize::from(welcome.reason_bytes)];
    stream.read_exact(&mut reason).expect("its reason");
    (welcome, String::from_utf8(reason).expect("text"))
}
