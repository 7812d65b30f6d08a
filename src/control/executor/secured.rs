//! A socket of the executor with TLS around it, or without: what a health check speaks through, and operators.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_clock::Limit;
use weir_config::TlsMode;
use weir_tls::{begins_tls, Failure, FailureKind, SecuredLink, Session, Wire};

use super::socket::Socket;
use super::time::within;
use crate::admin_port::AdminPort;

/// How long a verdict is waited for.
const VERDICT_PATIENCE: Duration = Duration::from_millis(200);
/// Bytes that are read at once.
const READ_BYTES: usize = 4096;
const CLOSED_IN_HANDSHAKE: &str =
    "it closed in the handshake of TLS, without a word; is TLS spoken at that port?";
const NO_TLS: &str = "it speaks no TLS, and this port requires it (--admin-tls)";

/// See the head of this file.
pub struct Stream {
    socket: Socket,
    tls: Option<Tls>,
    /// Read when it was looked for TLS, and not of it.
    first: Vec<u8>,
}

struct Tls {
    session: Session,
    wire: Wire,
    /// To a server that a URL names.
    is_link: bool,
    /// Opened and not read.
    plain: Vec<u8>,
    /// The stream ended, and close_notify did not come.
    is_cut: bool,
}

impl Stream {
    /// Connects, and is through with the handshake where `link` asks for TLS.
    ///
    /// # Errors
    /// As `connect(2)`; what TLS has against it, in words.
    pub async fn connect(
        address: SocketAddr,
        link: Option<&SecuredLink>,
        patience: Duration,
    ) -> io::Result<Stream> {
        let socket = Socket::connect(address).await?;
        let Some(link) = link else {
            return Ok(Stream::plain(socket));
        };
        let tls = Tls {
            session: link.session().map_err(refused_link)?,
            wire: Wire::default(),
            is_link: true,
            plain: Vec::new(),
            is_cut: false,
        };
        let mut stream = Stream {
            socket,
            tls: Some(tls),
            first: Vec::new(),
        };
        stream.shake(patience).await?;
        Ok(stream)
    }

    /// One without TLS.
    pub fn plain(socket: Socket) -> Stream {
        Stream {
            socket,
            tls: None,
            first: Vec::new(),
        }
    }

    /// One that was accepted, through with the handshake where its first bytes are of TLS. Waits for these, and for each
    /// piece of what follows, for as long as the caller lets it.
    ///
    /// `has_spoken`: whether its first bytes have come.
    ///
    /// # Errors
    /// As `recv(2)`; what TLS has against it ([`failure_of`]), also that it does not speak TLS, and must.
    pub async fn accept(
        mut socket: Socket,
        port: &AdminPort,
        patience: Duration,
        has_spoken: &Cell<bool>,
    ) -> io::Result<Stream> {
        let mut first = vec![0; READ_BYTES];
        let mut len = 0;
        let is_tls = loop {
            match socket.read(&mut first[len..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => len += more,
            }
            has_spoken.set(true);
            if let Some(is_tls) = begins_tls(&first[..len]) {
                break is_tls;
            }
        };
        if !is_tls {
            first.truncate(len);
            return match port.mode {
                TlsMode::Required => Err(refused(Failure::new(FailureKind::Plain, NO_TLS))),
                _ => Ok(Stream {
                    first,
                    ..Stream::plain(socket)
                }),
            };
        }
        let session = Session::server(Arc::clone(&port.served.served().config));
        let mut tls = Tls {
            session: session.map_err(refused)?,
            wire: Wire::default(),
            is_link: false,
            plain: Vec::new(),
            is_cut: false,
        };
        let mut opened = tls.open(&mut first[..len]);
        loop {
            // An alert says why, also when nothing else can be said.
            let flushed = tls.flush(&mut socket, patience).await;
            opened?;
            flushed?;
            if tls.session.is_established() {
                port.established(tls.session.is_resumed());
                break;
            }
            let len = socket.read(&mut first).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            opened = tls.open(&mut first[..len]);
        }
        Ok(Stream {
            socket,
            tls: Some(tls),
            first: Vec::new(),
        })
    }

    /// Says that nothing more comes: servers call a stream that ends without it cut, and rsyslog writes two lines of each.
    pub async fn end(&mut self, patience: Duration) {
        if let Some(tls) = &mut self.tls {
            tls.session.end(&mut tls.wire);
            // It is gone already: nobody to tell.
            let _ = tls.flush(&mut self.socket, patience).await;
        }
    }

    async fn shake(&mut self, patience: Duration) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        tls.session.begin(&mut tls.wire).map_err(refused_link)?;
        loop {
            tls.flush(&mut self.socket, patience).await?;
            if tls.session.is_established() {
                // In TLS 1.3 a server judges the client's certificate behind the handshake. Most give tickets then.
                let more = tls.more(&mut self.socket, patience);
                return match within(&mut Limit::new(VERDICT_PATIENCE), more).await {
                    Some(Err(why)) => Err(why),
                    _ => Ok(()),
                };
            }
            if tls.more(&mut self.socket, patience).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    CLOSED_IN_HANDSHAKE,
                ));
            }
        }
    }

    /// Waits for bytes; 0: no more will come.
    ///
    /// # Errors
    /// As `recv(2)`; what TLS has against them, in words.
    pub async fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.first.is_empty() {
            return Ok(take(&mut self.first, out));
        }
        let Some(tls) = &mut self.tls else {
            return self.socket.read(out).await;
        };
        while tls.plain.is_empty() && !tls.session.has_ended() {
            // A check reads what answers it: nothing that it must say takes long.
            if tls.more(&mut self.socket, Duration::from_secs(1)).await? == 0 {
                tls.is_cut = !tls.session.has_ended();
                break;
            }
        }
        Ok(take(&mut tls.plain, out))
    }

    /// It was over TLS, and ended without close_notify: perhaps somebody has cut it.
    pub fn is_cut(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_cut)
    }

    /// Writes all; each piece must be taken within `patience`.
    ///
    /// # Errors
    /// As `send(2)`; `TimedOut`.
    pub async fn write_all(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.socket.write_all(bytes, patience).await;
        };
        tls.session.seal(bytes, &mut tls.wire).map_err(refused)?;
        tls.flush(&mut self.socket, patience).await
    }
}

impl Tls {
    async fn flush(&mut self, socket: &mut Socket, patience: Duration) -> io::Result<()> {
        socket.write_all(self.wire.bytes(), patience).await?;
        self.wire.clear();
        Ok(())
    }

    /// Reads some and opens it; how many bytes came.
    async fn more(&mut self, socket: &mut Socket, patience: Duration) -> io::Result<usize> {
        let mut some = [0; READ_BYTES];
        let len = socket.read(&mut some).await?;
        let opened = self.open(&mut some[..len]);
        // An alert says why, also when nothing else can be said.
        let flushed = self.flush(socket, patience).await;
        opened?;
        flushed?;
        Ok(len)
    }

    fn open(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let is_first = self.is_link && self.session.version() == "none";
        let plain = is_first.then(|| Failure::of_plain_answer(bytes));
        if let Some(plain) = plain.flatten() {
            return Err(refused_link(plain));
        }
        let plain = &mut self.plain;
        let mut put = |bytes: &[u8]| plain.extend_from_slice(bytes);
        let opened = self.session.open(bytes, &mut put, &mut self.wire);
        opened.map_err(|failure| match self.is_link {
            true => refused_link(failure),
            false => refused(failure),
        })
    }
}

/// Moves what fits.
fn take(from: &mut Vec<u8>, out: &mut [u8]) -> usize {
    let len = from.len().min(out.len());
    out[..len].copy_from_slice(&from[..len]);
    from.drain(..len);
    len
}

/// What TLS has against a connection, as an error of I/O.
#[derive(Debug)]
struct Refused(Failure);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS: {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// What TLS has against it, if the error is of that.
pub fn failure_of(error: &io::Error) -> Option<&Failure> {
    let refused = error.get_ref()?.downcast_ref::<Refused>()?;
    Some(&refused.0)
}

fn refused_link(failure: Failure) -> io::Error {
    refused(failure.of_url())
}

fn refused(failure: Failure) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Refused(failure))
}
