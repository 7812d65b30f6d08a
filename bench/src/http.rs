//! A small blocking HTTP client: requests as bytes, answers by status.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::net::connect_within;

/// A connection or an answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
pub struct HttpClient {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl HttpClient {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = connect_within(address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Sends a request and waits for its answer's status. An answer that comes before the request is
    /// out counts.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        let sent = self.stream.write_all(request);
        self.answer().or_else(|error| sent.and(Err(error)))
    }

    fn answer(&mut self) -> io::Result<u16> {
        loop {
            if let Some(status) = take_answer(&mut self.unread) {
                return Ok(status);
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.unread.extend_from_slice(&bytes[..len]),
            }
        }
    }
}

/// Takes the first whole answer out of `bytes`; its status.
pub fn take_answer(bytes: &mut Vec<u8>) -> Option<u16> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let all = end + length.unwrap_or(0);
    let status = head.get(9..12)?.parse().ok()?;
    if bytes.len() < all {
        return None;
    }
    bytes.drain(..all);
    Some(status)
}

/// `POST /logs` with JSON; `headers` end with CR LF each.
pub fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /logs HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The same with the body's length.
pub fn post_whole(headers: &str, body: &[u8]) -> Vec<u8> {
    post(
        &format!("Content-Length: {}\r\n{headers}", body.len()),
        body,
    )
}
