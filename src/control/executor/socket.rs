//! A socket of the executor: one that it connects, or one that was accepted.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use weir_clock::Limit;

use super::time::within;

/// glommio 0.9 takes a socket that is there already in this form only. It looks at neither its family nor its state,
/// so it takes Unix sockets as well, and those that listen.
pub use glommio_socket2::Socket as Existing;

/// See the head of this file.
pub struct Socket(TcpStream);

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
        Ok(Socket(TcpStream::connect(address).await?))
    }

    /// One that is connected.
    pub fn of(existing: Existing) -> Socket {
        Socket(TcpStream::from(existing))
    }

    /// One of a pair.
    pub fn of_unix(socket: UnixStream) -> Socket {
        Socket::of(socket.into())
    }

    /// Bytes that have come; 0: no more will.
    pub fn poll_read(&mut self, cx: &mut Context, out: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }

    /// Waits for bytes; 0: no more will come.
    ///
    /// # Errors
    /// As `recv(2)`.
    pub async fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, out)).await
    }

    /// Writes what the kernel takes at once.
    ///
    /// # Errors
    /// As `send(2)`.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut self.0).poll_write(cx, bytes)).await
    }

    /// Writes all; each piece must be taken within `patience`.
    ///
    /// # Errors
    /// As `send(2)`; `TimedOut`.
    pub async fn write_all(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = within(&mut Limit::new(patience), self.write(rest)).await;
            match written.ok_or(io::ErrorKind::TimedOut)?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                len => rest = &rest[len..],
            }
        }
        Ok(())
    }
}

/// Waits until a listening socket has a connection. glommio has no such wait for a socket that is there already; but
/// reading from one waits for the same, and fails when it comes.
pub async fn has_connection(listening: Existing) {
    let _ = Socket::of(listening).read(&mut [0]).await;
}
