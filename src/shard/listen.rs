//! Listening sockets: each shard has its own on the same port, the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel completes before they are accepted; capped by net.core.somaxconn.
const BACKLOG: i32 = 16_384;

/// `shards` listeners on one address. With port 0 the kernel chooses a port, the same for all.
///
/// # Errors
/// EADDRINUSE also when another distributor listens there, though SO_REUSEPORT would let two share
/// the port and its connections unnoticed.
pub(super) fn listen(address: SocketAddr, shards: usize) -> io::Result<Vec<TcpListener>> {
    let exclusive = bound(address, false)?;
    exclusive.listen(1)?;
    let address = exclusive
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("not an IP address"))?;
    drop(exclusive);
    (0..shards)
        .map(|_| {
            let socket = bound(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
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
        let listeners = listen(any, 3).expect("free port");
        let ports: Vec<_> = listeners
            .iter()
            .map(|l| l.local_addr().expect("bound").port())
            .collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
        let again = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        let refused = listen(again, 1).expect_err("in use");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
