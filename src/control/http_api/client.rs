//! The other side of the admin API: `weir ctl`, `weir top` and `weir tap` speak it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_config::Url;
use weir_http::{HeadWriter, ResponseReader};
use weir_tls::Connector;

/// Answers come within this; a tap's pieces are not bound by it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a body, and of a chunk of a stream: a status of 10,000 analyzers.
const BODY_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 8 * 1024;

/// Where the admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// `http://host:port`, or `https://`.
    Http(Url),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return text.parse().map(Target::Http);
        }
        if text.is_empty() || text.contains("://") {
            return Err(
                "allowed: the path of a Unix socket, http://host:port, or https://host:port".into(),
            );
        }
        // The distributor's own --admin takes HOST:PORT; a socket of such a name is ./HOST:PORT.
        let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !text.contains('/') && matches!(port, Some(Ok(_))) {
            return format!("http://{text}").parse().map(Target::Http);
        }
        Ok(Target::Unix(text.into()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => path.display().fmt(f),
            Target::Http(url) => url.fmt(f),
        }
    }
}

/// Asks one distributor.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it is.
    pub target: Target,
    /// The text of its token, for TCP.
    pub token: Option<String>,
    /// For `https://`.
    pub tls: Option<Secured>,
}

/// How TLS is spoken with one distributor.
#[derive(Clone, Debug)]
pub struct Secured {
    /// What makes the connection.
    pub connector: Arc<Connector>,
    /// Whose certificate is expected, as the operator wrote it.
    pub host: Option<String>,
}

/// A socket of either kind.
pub trait Socket: Read + Write {}
impl<T: Read + Write> Socket for T {}

impl Client {
    /// Asks and reads the whole answer: status and body.
    ///
    /// # Errors
    /// Nobody answers, or not in HTTP.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let answer = self.begin(method, path, body, Some(PATIENCE));
        let answer = answer.and_then(|reply| Ok((reply.status, reply.body()?)));
        answer.map_err(|error| self.in_words(error))
    }

    /// Asks; the answer is read in pieces, without a limit on the time between them.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn stream(&self, path: &str) -> io::Result<Reply<Box<dyn Socket>>> {
        let reply = self.begin("GET", path, b"", None);
        reply.map_err(|error| self.in_words(error))
    }

    /// A time-out of the socket is an errno that says something else; and an end of the stream does not say whose.
    fn in_words(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none() {
            let perhaps = match &self.target {
                Target::Http(url) if !url.is_secure => "; perhaps that port speaks TLS: https://",
                _ => "",
            };
            let text = format!(
                "{}: it closed before its answer was whole{perhaps}",
                self.target
            );
            return io::Error::new(io::ErrorKind::UnexpectedEof, text);
        }
        let is_late = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        if !is_late {
            return error;
        }
        let (whom, seconds) = (&self.target, PATIENCE.as_secs());
        let text = format!(
            "{whom}: no answer within {seconds} s: something listens there and does not speak"
        );
        io::Error::new(io::ErrorKind::TimedOut, text)
    }

    fn begin(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        patience: Option<Duration>,
    ) -> io::Result<Reply<Box<dyn Socket>>> {
        let (mut socket, host, prefix) = self.connect(patience)?;
        let mut request = Vec::new();
        let mut head = HeadWriter::request(&mut request, method, &prefix, path);
        head.header("Host", &host);
        if let Some(token) = &self.token {
            head.header("Authorization", &format!("Bearer {token}"));
        }
        head.header("Content-Type", "application/json");
        head.length(body.len());
        head.header("Connection", "close");
        head.end();
        request.extend_from_slice(body);
        socket.write_all(&request)?;
        Reply::within(socket, patience)
    }

    fn connect(&self, patience: Option<Duration>) -> io::Result<(Box<dyn Socket>, String, String)> {
        let named = |name: String| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"))
        };
        match &self.target {
            Target::Unix(path) => {
                let name = path.display().to_string();
                let socket = UnixStream::connect(path).map_err(named(name))?;
                socket.set_read_timeout(patience)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok((Box::new(socket), "weir".into(), String::new()))
            }
            Target::Http(url) => {
                let endpoint = &url.endpoint;
                let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
                let addresses = addresses.map_err(named(url.to_string()))?;
                let mut failure = io::Error::other("no address");
                for address in addresses {
                    match self.connect_to(address, url.is_secure, patience) {
                        Ok(socket) => {
                            return Ok((socket, endpoint.authority(), endpoint.path.clone()))
                        }
                        Err(error) => failure = error,
                    }
                }
                Err(named(url.to_string())(failure))
            }
        }
    }

    fn connect_to(
        &self,
        address: SocketAddr,
        is_secure: bool,
        patience: Option<Duration>,
    ) -> io::Result<Box<dyn Socket>> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        if !is_secure {
            socket.set_read_timeout(patience)?;
            return Ok(Box::new(socket));
        }
        let Some(tls) = &self.tls else {
            return Err(io::Error::other("nothing is known of how TLS is spoken"));
        };
        let mut stream = tls.connector.connect(socket, tls.host.as_deref())?;
        stream.handshake(PATIENCE, || false)?;
        stream.get_ref().set_read_timeout(patience)?;
        Ok(Box::new(stream))
    }
}

/// A response, whole or, if it is chunked, its pieces as they come.
pub struct Reply<R> {
    /// Status code.
    pub status: u16,
    socket: R,
    reader: ResponseReader,
    is_chunked: bool,
    /// What has come of the body and was not given out; of a chunked one whole chunks.
    pieces: VecDeque<Vec<u8>>,
    /// The chunk, or the body, that is on its way.
    open: Vec<u8>,
    is_over: bool,
    /// When all of it is to be there.
    until: Option<Instant>,
}

impl<R: Read> Reply<R> {
    /// Reads a response up to its body.
    ///
    /// # Errors
    /// The socket, or what came is no HTTP response.
    pub fn read(socket: R) -> io::Result<Reply<R>> {
        Reply::within(socket, None)
    }

    /// The same. All of it, the body included, is to come within `patience`, and not only each piece: whoever sends a
    /// byte now and then would keep this side for ever.
    fn within(socket: R, patience: Option<Duration>) -> io::Result<Reply<R>> {
        let mut reply = Reply {
            status: 0,
            socket,
            reader: ResponseReader::new(),
            is_chunked: false,
            pieces: VecDeque::new(),
            open: Vec::new(),
            is_over: false,
            until: patience.map(|patience| Instant::now() + patience),
        };
        while reply.status == 0 {
            reply.more()?;
        }
        Ok(reply)
    }

    /// The whole body.
    ///
    /// # Errors
    /// The socket, or it is larger than 16 MiB.
    pub fn body(mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            for piece in self.pieces.drain(..) {
                body.extend(piece);
            }
            let len = body.len() + self.open.len();
            if len > BODY_BYTES_MAX {
                let text = format!("body of {len} bytes or more: at most {BODY_BYTES_MAX}");
                return Err(invalid(text));
            }
            if self.is_over {
                body.append(&mut self.open);
                return Ok(body);
            }
            self.more()?;
        }
    }

    /// The next chunk of a chunked body; none: it is over.
    ///
    /// # Errors
    /// The socket, or what came is not chunked.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.is_chunked {
            return Err(invalid("the response is not chunked"));
        }
        while self.pieces.is_empty() && !self.is_over {
            self.more()?;
        }
        // The last chunk is empty.
        Ok(self.pieces.pop_front().filter(|piece| !piece.is_empty()))
    }

    /// Waits for more bytes.
    fn more(&mut self) -> io::Result<()> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut some = [0; READ_BYTES];
        let len = loop {
            match self.socket.read(&mut some) {
                // A signal of the same process, such as the shards' timers.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let answer = match len {
            0 => Some(self.reader.end().ok_or(io::ErrorKind::UnexpectedEof)?),
            len => {
                let (pieces, open) = (&mut self.pieces, &mut self.open);
                let is_chunked = &mut self.is_chunked;
                let sink = |data: &[u8], is_chunk_end| {
                    open.extend_from_slice(data);
                    if is_chunk_end {
                        *is_chunked = true;
                        pieces.push_back(std::mem::take(open));
                    }
                };
                let read = self.reader.read(&mut &some[..len], BODY_BYTES_MAX, sink);
                read.map_err(|error| invalid(error.detail))?
            }
        };
        let head = match &answer {
            Some(answer) => Some(answer.head.clone()),
            None => self.reader.answer_head(),
        };
        if let (0, Some(head)) = (self.status, head) {
            self.status = head.status;
            self.is_chunked |= self.reader.is_chunked();
        }
        self.is_over = answer.is_some();
        Ok(())
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte each 20 ms, for ever.
    struct Trickle<'a>(std::iter::Cycle<std::str::Bytes<'a>>);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(20));
            to[0] = self.0.next().ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(1)
        }
    }

    #[test]
    fn who_sends_a_byte_now_and_then_is_not_waited_for_for_ever() {
        let patience = Some(Duration::from_millis(500));
        let began = Instant::now();
        let head = Reply::within(Trickle("HTTP/1.1 200 OK\r\nX: ".bytes().cycle()), patience);
        assert_eq!(
            head.err().map(|error| error.kind()),
            Some(io::ErrorKind::TimedOut)
        );
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
