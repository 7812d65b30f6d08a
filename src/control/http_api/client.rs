//! The other side of the admin API: `weir ctl`, `weir top` and `weir tap` speak it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::http::{self, Reply};
use weir_config::Endpoint;
use weir_http::HeadWriter;

/// Answers come within this; a tap's pieces are not bound by it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// `http://host:port`.
    Http(Endpoint),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        if text.starts_with("http://") {
            return text.parse().map(Target::Http);
        }
        if text.is_empty() || text.contains("://") {
            return Err("allowed: the path of a Unix socket, or http://host:port".into());
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
            Target::Http(endpoint) => endpoint.fmt(f),
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

    /// A time-out of the socket is an errno that says something else.
    fn in_words(&self, error: io::Error) -> io::Error {
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
        http::read_response(socket)
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
            Target::Http(endpoint) => {
                let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
                let addresses = addresses.map_err(named(endpoint.to_string()))?;
                let mut failure = io::Error::other("no address");
                for address in addresses {
                    match TcpStream::connect_timeout(&address, PATIENCE) {
                        Ok(socket) => {
                            socket.set_read_timeout(patience)?;
                            socket.set_write_timeout(Some(PATIENCE))?;
                            let host = endpoint.authority();
                            return Ok((Box::new(socket), host, endpoint.path.clone()));
                        }
                        Err(error) => failure = error,
                    }
                }
                Err(named(endpoint.to_string())(failure))
            }
        }
    }
}
