//! Datagrams: how a multishot recvmsg writes them, and what only a system call says of their sockets.
//!
//! ```text
//! buffer  | header 16 | who sent it, 28 | the datagram, as much of it as has room ...    |
//!           lengths,    sockaddr_in or
//!           flags       sockaddr_in6
//! ```

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use io_uring::types::RecvMsgOut;
use weir_shard::port::Datagram;

/// Bytes that the kernel writes before each datagram.
pub(super) const BEFORE_BYTES: u32 = 16 + NAME_BYTES;
/// An address of either kind.
const NAME_BYTES: u32 = size_of::<libc::sockaddr_in6>() as u32;

/// What every receive of datagrams asks for: who sent it.
pub(super) struct MessageHeader(Box<libc::msghdr>);

impl MessageHeader {
    pub(super) fn new() -> MessageHeader {
        // SAFETY: a plain C struct of integers and pointers, for which zero is valid.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = NAME_BYTES;
        MessageHeader(header)
    }

    /// Read by the kernel when the request is submitted. It does not move.
    pub(super) fn address(&self) -> *const libc::msghdr {
        &*self.0
    }

    /// The datagram that a receive has written. One that is none is empty, and from nobody.
    #[inline]
    pub(super) fn read<'a>(&self, received: &'a [u8]) -> Datagram<'a> {
        let Ok(out) = RecvMsgOut::parse(received, &self.0) else {
            return Datagram {
                from: None,
                bytes: &[],
                is_cut: false,
            };
        };
        let from = BEFORE_BYTES as usize - NAME_BYTES as usize;
        let name = received.get(from..BEFORE_BYTES as usize);
        Datagram {
            from: name.and_then(address),
            bytes: received.get(BEFORE_BYTES as usize..).unwrap_or_default(),
            is_cut: out.is_payload_truncated(),
        }
    }
}

/// The address in a `sockaddr`.
fn address(name: &[u8]) -> Option<IpAddr> {
    let (family, rest) = name.split_first_chunk()?;
    match libc::c_int::from(u16::from_ne_bytes(*family)) {
        // Behind the port.
        libc::AF_INET => {
            let v4: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
            Some(Ipv4Addr::from(v4).into())
        }
        // Behind port and flow.
        libc::AF_INET6 => {
            let v6: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
            Some(Ipv6Addr::from(v6).into())
        }
        _ => None,
    }
}

/// Datagrams that the kernel has dropped at this socket since it was opened (SO_MEMINFO, Linux 4.12): what SO_RXQ_OVFL counts.
/// It wraps. 0 when unknown.
pub fn datagrams_dropped(fd: &impl AsRawFd) -> u32 {
    /// SK_MEMINFO_DROPS.
    const DROPS: usize = 8;
    let mut info = [0_u32; DROPS + 1];
    let mut len = size_of::<[u32; DROPS + 1]>() as libc::socklen_t; // 36
                                                                    // SAFETY: the kernel writes at most `len` bytes into `info`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    };
    match result {
        0 => info[DROPS],
        _ => 0,
    }
}

/// Asks for memory for what waits at a socket, whatever net.core.rmem_max says.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub fn force_receive_buffer(fd: &impl AsRawFd, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel reads one int.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t, // 4
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_either_kind() {
        let v4 = [2, 0, 0x12, 0x34, 192, 0, 2, 1];
        assert_eq!(address(&v4), Some([192, 0, 2, 1].into()));
        let v6 = [
            &[10, 0, 0x12, 0x34, 0, 0, 0, 0][..],
            &Ipv6Addr::LOCALHOST.octets(),
            &[0; 4],
        ]
        .concat();
        assert_eq!(v6.len(), NAME_BYTES as usize);
        assert_eq!(address(&v6), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(address(&[1, 0, 1, 2]), None, "a path");
        assert_eq!(address(&v4[..5]), None);
        assert_eq!(address(&[]), None);
    }
}
