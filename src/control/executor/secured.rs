//! A socket of the executor with TLS around it, or without: what a health check speaks through.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use weir_clock::Limit;
use weir_tls::{SecuredLink, Session, Wire};

use super::socket::Socket;
use super::time::within;

/// How long a verdict is waited for.
const VERDICT_PATIENCE: Duration = Duration::from_millis(200);
/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// See the head of this file.
pub struct Stream {
    socket: Socket,
    tls: Option<Tls>,
}

struct Tls {
    session: Session,
    wire: Wire,
    /// Opened and not read.
    plain: Vec<u8>,
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
            return Ok(Stream { socket, tls: None });
        };
        let tls = Tls {
            session: link.session().map_err(refused)?,
            wire: Wire::default(),
            plain: Vec::new(),
        };
        let mut stream = Stream {
            socket,
            tls: Some(tls),
        };
        stream.shake(patience).await?;
        Ok(stream)
    }

    async fn shake(&mut self, patience: Duration) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        tls.session.begin(&mut tls.wire).map_err(refused)?;
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
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits for bytes; 0: no more will come.
    ///
    /// # Errors
    /// As `recv(2)`; what TLS has against them, in words.
    pub async fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.read(out).await;
        };
        while tls.plain.is_empty() && !tls.session.has_ended() {
            // A check reads what answers it: nothing that it must say takes long.
            if tls.more(&mut self.socket, Duration::from_secs(1)).await? == 0 {
                break;
            }
        }
        let len = tls.plain.len().min(out.len());
        out[..len].copy_from_slice(&tls.plain[..len]);
        tls.plain.drain(..len);
        Ok(len)
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
        let plain = &mut self.plain;
        let mut put = |bytes: &[u8]| plain.extend_from_slice(bytes);
        let opened = self
            .session
            .open(&mut some[..len], &mut put, &mut self.wire);
        // An alert says why, also when nothing else can be said.
        let flushed = self.flush(socket, patience).await;
        opened.map_err(refused)?;
        flushed?;
        Ok(len)
    }
}

fn refused(failure: weir_tls::Failure) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("TLS: {}", failure.of_url()),
    )
}
