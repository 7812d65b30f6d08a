//! What a socket says about its peer, by system calls of their own.

use std::os::fd::AsRawFd;

use weir_shard::port::Left;

/// What is left of this connection; all of it when that is not known.
pub fn left_of(fd: &impl AsRawFd) -> Left {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one element, which the kernel writes to.
    if unsafe { libc::poll(&mut poll, 1, 0) } != 1 {
        return Left::Open;
    }
    let mut unread: libc::c_int = 0;
    // SAFETY: the ioctl writes one int.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut unread) } != 0 {
        return Left::Open;
    }
    match unread {
        0 => Left::Nothing,
        _ if poll.revents & libc::POLLERR != 0 => Left::Remains,
        _ => Left::Open,
    }
}

/// The peer's FIN has arrived (TCP_INFO): CLOSE_WAIT and the states behind it. False when unknown.
pub fn peer_has_ended(fd: &impl AsRawFd) -> bool {
    const TIME_WAIT: u8 = 6;
    const CLOSE: u8 = 7;
    const CLOSE_WAIT: u8 = 8;
    const LAST_ACK: u8 = 9;
    const CLOSING: u8 = 11;
    let mut info = [0u8; 8]; // the state is the first byte
    let mut len = info.len() as libc::socklen_t; // eight
                                                 // SAFETY: the kernel writes at most `len` bytes into `info`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut len,
        )
    };
    let ended = [TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING];
    result == 0 && ended.contains(&info[0])
}

/// Bytes that the peer's kernel has not acknowledged (TIOCOUTQ); zero when unknown.
pub fn unread_bytes(fd: &impl AsRawFd) -> usize {
    let mut pending: libc::c_int = 0;
    // SAFETY: the ioctl writes one int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &mut pending) };
    if result == 0 {
        usize::try_from(pending).unwrap_or(0)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_peer_that_has_closed_is_known_before_it_is_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut peer = TcpStream::connect(address).expect("listened on");
        let (socket, _) = listener.accept().expect("connected");
        io::Write::write_all(&mut peer, b"unread").expect("sent");
        assert!(!peer_has_ended(&socket));
        peer.shutdown(Shutdown::Write).expect("half-closed");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !peer_has_ended(&socket) {
            assert!(Instant::now() < deadline, "its FIN was sent over loopback");
        }
        assert!(!peer_has_ended(&peer), "the other side has not closed");
    }

    #[test]
    fn what_is_left_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let accepted = |bytes: &[u8], reset: bool| {
            let mut peer = TcpStream::connect(address).expect("listened on");
            let (socket, _) = listener.accept().expect("connected");
            io::Write::write_all(&mut peer, bytes).expect("sent");
            assert_eq!(left_of(&socket), Left::Open);
            if reset {
                let at_once = Some(Duration::ZERO);
                SockRef::from(&peer).set_linger(at_once).expect("an option");
            }
            socket
        };
        for (bytes, reset, left) in [
            (&b""[..], false, Left::Nothing),
            (b"unread", false, Left::Open),
            (b"", true, Left::Nothing),
            (b"unread", true, Left::Remains),
        ] {
            let mut socket = accepted(bytes, reset);
            let deadline = Instant::now() + Duration::from_secs(10);
            while !peer_has_ended(&socket) {
                assert!(Instant::now() < deadline, "its end was sent over loopback");
            }
            assert_eq!(left_of(&socket), left, "{bytes:?}, reset: {reset}");
            let mut read = [0; 6];
            if left != Left::Nothing {
                io::Read::read_exact(&mut socket, &mut read).expect("still there");
                assert_eq!(left_of(&socket), Left::Nothing);
            }
        }
    }
}
