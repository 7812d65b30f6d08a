//! Listening sockets: each shard has its own on the same port, the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that the kernel completes before they are accepted; capped by net.core.somaxconn.
pub const LISTEN_BACKLOG: i32 = 16_384;

/// How long a port may be in use before that is an error.
const PORT_PATIENCE: Duration = Duration::from_secs(1);

/// `shards` listeners on one address. With port 0 the kernel chooses a port, the same for all.
///
/// # Errors
/// EADDRINUSE also when another distributor listens there, though SO_REUSEPORT would let two share
/// the port and its connections unnoticed.
pub(super) fn listen(
    address: SocketAddr,
    shards: usize,
    peer_timeout: Duration,
) -> io::Result<Vec<TcpListener>> {
    let exclusive = bound_patiently(address)?;
    exclusive.listen(1)?;
    let address = exclusive
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("not an IP address"))?;
    drop(exclusive);
    (0..shards)
        .map(|_| {
            let socket = bound(address, true)?;
            watch_peers(&socket, peer_timeout)?;
            socket.listen(LISTEN_BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

/// A distributor that was killed leaves its port to the kernel, which closes its rings when it gets
/// round to it: a restart may have to wait a moment.
fn bound_patiently(address: SocketAddr) -> io::Result<Socket> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        match bound(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// Accepted sockets inherit it: a peer whose host is gone is found out, also when nothing is sent to
/// it, as to emitters nothing is.
fn watch_peers(socket: &Socket, timeout: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(timeout / 2)
        .with_interval(timeout / 4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(timeout))
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shards_share_a_port_and_nobody_else_may() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = listen(any, 3, Duration::from_secs(10)).expect("free port");
        let ports: Vec<_> = listeners
            .iter()
            .map(|l| l.local_addr().expect("bound").port())
            .collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
        let again = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        let refused = listen(again, 1, Duration::from_secs(10)).expect_err("in use");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
