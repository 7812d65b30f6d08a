//! Sockets of inputs without connections: one a shard on the same port. The kernel gives all datagrams of one sender's port to
//! the same shard.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{SockRef, Type};
use weir_config::Input;

use crate::listen::{bound, bound_patiently};
use crate::uring::force_receive_buffer;

/// `shards` sockets on the address of an input, and where that is. With port 0 the kernel chooses a port, the same for all.
///
/// # Errors
/// EADDRINUSE also when another distributor listens there, as in [`crate::listen::listen`].
pub(super) fn open(input: &Input, shards: usize) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let exclusive = bound_patiently(input.listen, Type::DGRAM)?;
    let address = exclusive
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("not an IP address"))?;
    drop(exclusive);
    let bytes = input.receive_buffer_bytes();
    let mut granted = u32::MAX;
    let mut sockets = Vec::new();
    for _ in 0..shards {
        let socket = OwnedFd::from(bound(address, true, Type::DGRAM)?);
        granted = granted.min(give_receive_buffer(&socket, bytes)?);
        sockets.push(socket);
    }
    // Who has written no number is told by the doctor.
    if granted < bytes && input.receive_buffer_bytes.is_some() {
        log::warn!(
            "--input {}: receive_buffer: {bytes} bytes were asked for, the kernel gives {granted}: raise net.core.rmem_max, or give CAP_NET_ADMIN",
            input.name()
        );
    }
    Ok((address, sockets))
}

/// Asks for memory for datagrams that wait; how many bytes the kernel gave, by the measure of the question: it keeps
/// twice as much, for its own records.
fn give_receive_buffer(socket: &OwnedFd, bytes: u32) -> io::Result<u32> {
    let reference = SockRef::from(socket);
    if force_receive_buffer(socket, bytes).is_err() {
        reference.set_recv_buffer_size(bytes as usize)?;
    }
    let kept = reference.recv_buffer_size()? / 2;
    Ok(u32::try_from(kept).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn input(address: SocketAddr) -> Input {
        let text = format!("syslog@{address}?transport=udp&receive_buffer=64KiB");
        text.parse().expect("an input")
    }

    #[test]
    fn all_shards_share_a_port_and_nobody_else_may() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, sockets) = open(&input(any), 3).expect("a free port");
        assert_eq!(sockets.len(), 3);
        for socket in &sockets {
            let local = SockRef::from(socket).local_addr().expect("bound");
            assert_eq!(local.as_socket(), Some(address));
            assert_eq!(give_receive_buffer(socket, 64 << 10).ok(), Some(64 << 10));
        }
        let refused = open(&input(address), 1).expect_err("in use");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        UdpSocket::bind(address).expect_err("in use");
    }
}
