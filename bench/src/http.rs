//! A small blocking HTTP client: requests as bytes, answers by status.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir::http::ResponseReader;

use crate::net::connect_within;

/// A connection or an answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
pub struct HttpClient {
    pub stream: TcpStream,
    reader: ResponseReader,
    unread: Vec<u8>,
}

impl HttpClient {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = connect_within(address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            reader: ResponseReader::new(),
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
            let mut input = &self.unread[..];
            let answer = self.reader.next(&mut input).map_err(io::Error::other)?;
            let taken = self.unread.len() - input.len();
            self.unread.drain(..taken);
            if let Some(answer) = answer {
                return Ok(answer.head.status);
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.unread.extend_from_slice(&bytes[..len]),
            }
        }
    }
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
