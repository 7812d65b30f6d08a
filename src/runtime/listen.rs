//! Listening sockets.
//!
//! ```text
//! own                  each shard its own on the same port, the kernel spreads connections
//! passed, one a shard  the same, but whoever passed them keeps them open: nobody is refused meanwhile
//! passed, fewer        shards accept from one socket, one connection each in turn
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use weir_config::Accept;

use crate::secured::SecuredPort;
use crate::uring::parse_release;

/// Connections that the kernel completes before they are accepted; capped by net.core.somaxconn.
pub const LISTEN_BACKLOG: i32 = 16_384;

/// Bytes of answers to one HTTP client that the kernel takes. On a path with a round trip of 50 ms that is 1.3 MB/s.
const UNREAD_BYTES: usize = 64 * 1024;

/// As the kernel's int: -1.
const NO_CORE: usize = usize::MAX;

/// How long a port may be in use before that is an error.
const PORT_PATIENCE: Duration = Duration::from_secs(1);

/// Listening sockets that whoever started the distributor opened for it; empty: it opens its own. All of
/// one kind listen on the same address, and there are at most as many as shards.
#[derive(Debug, Default)]
pub struct Passed {
    /// Where emitters connect.
    pub emitters: Vec<TcpListener>,
    /// Where analyzers connect.
    pub analyzers: Vec<TcpListener>,
    /// Where HTTP clients connect.
    pub http: Vec<TcpListener>,
    /// Where emitters connect to inputs, by the names of these.
    pub inputs: BTreeMap<String, Vec<TcpListener>>,
}

/// A shard's listening socket.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    /// Other shards accept from it as well.
    pub(super) is_shared: bool,
    /// TLS is spoken there.
    pub(super) secured: Option<Arc<SecuredPort>>,
}

/// Gives passed sockets to shards: shard i gets the i-th, or shares one.
///
/// # Errors
/// More sockets than shards: connections to the rest would never be accepted. They listen on different
/// addresses. Descriptors ran out.
pub(super) fn divide_passed(
    passed: Vec<TcpListener>,
    shards: usize,
    peer_timeout: Duration,
) -> io::Result<Vec<Listener>> {
    let sockets = passed.len();
    if sockets > shards {
        return Err(io::Error::other(format!(
            "{sockets} sockets were passed, at most one for each of {shards} shards allowed"
        )));
    }
    let mut at = None;
    for socket in &passed {
        let address = socket.local_addr()?;
        if *at.get_or_insert(address) != address {
            return Err(io::Error::other(format!(
                "a socket that was passed listens on {address}, all must listen on the same address"
            )));
        }
        // The ring polls by itself; of a socket that never blocks, an accept would fail at once.
        socket.set_nonblocking(false)?;
        watch_peers(SockRef::from(socket), peer_timeout)?;
    }
    let listener = |shard: usize| {
        let is_shared = shard >= sockets || shard + sockets < shards;
        let socket = passed[shard % sockets].try_clone()?;
        Ok(Listener {
            socket,
            is_shared,
            secured: None,
        })
    };
    (0..shards).map(listener).collect()
}

/// `shards` listeners on one address. With port 0 the kernel chooses a port, the same for all.
///
/// # Errors
/// EADDRINUSE also when another distributor listens there, though SO_REUSEPORT would let two share
/// the port and its connections unnoticed.
pub(super) fn listen(
    address: SocketAddr,
    shards: usize,
    peer_timeout: Duration,
) -> io::Result<Vec<Listener>> {
    let exclusive = bound_patiently(address, Type::STREAM)?;
    exclusive.listen(1)?;
    let address = exclusive
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("not an IP address"))?;
    drop(exclusive);
    (0..shards)
        .map(|_| {
            let socket = bound(address, true, Type::STREAM)?;
            watch_peers(SockRef::from(&socket), peer_timeout)?;
            socket.listen(LISTEN_BACKLOG)?;
            Ok(Listener {
                socket: socket.into(),
                is_shared: false,
                secured: None,
            })
        })
        .collect()
}

/// Accepted sockets inherit it: the kernel takes so much of what their peers do not read, as much again for its
/// own records, and no more. The rest stays in this process and is counted there.
///
/// # Errors
/// The kernel refuses.
pub(super) fn bound_unread(listeners: &[Listener]) -> io::Result<()> {
    listeners
        .iter()
        .try_for_each(|listener| SockRef::from(&listener.socket).set_send_buffer_size(UNREAD_BYTES))
}

/// The first kernel that heeds SO_INCOMING_CPU among sockets that share a port.
const INCOMING_CPU_MIN: (u32, u32) = (6, 2);

/// Why `accept` has no effect on a kernel of this release, if it has none.
pub(super) fn not_heeded(accept: Accept, release: &str) -> Option<String> {
    let is_old = parse_release(release).is_some_and(|version| version < INCOMING_CPU_MIN);
    let (major, minor) = INCOMING_CPU_MIN;
    (accept == Accept::Local && is_old).then(|| {
        format!(
            "--accept local has no effect: kernel {release} spreads connections over the shards as with --accept spread; it takes Linux {major}.{minor} or later"
        )
    })
}

/// Tells the kernel whether each shard shall have the connections whose packets come in on its core, by
/// SO_INCOMING_CPU; where that has no effect, see [`not_heeded`]. A passed socket can have a core from an earlier distributor, which `Spread` takes back.
///
/// # Errors
/// `Local` with shards that share a socket, or the kernel refuses.
pub(super) fn place(listeners: &[Listener], accept: Accept, cores: &[usize]) -> io::Result<()> {
    for (shard, listener) in listeners.iter().enumerate() {
        let core = match accept {
            Accept::Spread => NO_CORE,
            Accept::Local if listener.is_shared => {
                return Err(io::Error::other(format!(
                    "--accept local: shards share a socket that was passed; it takes one for each of {} shards, or --accept spread",
                    listeners.len()
                )))
            }
            Accept::Local => cores[shard],
        };
        SockRef::from(&listener.socket).set_cpu_affinity(core)?;
    }
    Ok(())
}

/// A distributor that was killed leaves its port to the kernel, which closes its rings when it gets
/// round to it: a restart may have to wait a moment.
pub(super) fn bound_patiently(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        match bound(address, false, kind) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// Accepted sockets inherit it: a peer whose host is gone is found out, also when nothing is sent to
/// it, as to emitters nothing is.
fn watch_peers(socket: SockRef<'_>, timeout: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(timeout / 2)
        .with_interval(timeout / 4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(timeout))
}

/// A free port of loopback, and what holds it: a socket that is bound and never listens. While it lives the kernel gives
/// the port to nobody else, neither to who asks here nor to a connection, and whoever sets SO_REUSEADDR, as servers do,
/// can listen there.
///
/// # Errors
/// No port is free.
pub fn hold_port() -> io::Result<(SocketAddr, Socket)> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = bound(any, false, Type::STREAM)?;
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or_else(|| io::Error::other("not an IP address"))?;
    Ok((address, socket))
}

pub(super) fn bound(address: SocketAddr, shared: bool, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    // Of datagrams it would let two processes have one port.
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::TcpStream;

    #[test]
    fn ports_that_are_held_differ_and_are_for_one_listener_each() {
        let held: Vec<(SocketAddr, Socket)> =
            (0..200).map(|_| hold_port().expect("free")).collect();
        let different: BTreeSet<SocketAddr> = held.iter().map(|(address, _)| *address).collect();
        assert_eq!(different.len(), held.len());
        let plain = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        for (address, _) in held.iter().take(10) {
            let refused = plain.bind(&(*address).into()).expect_err("held");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{address}");
            let refused = TcpStream::connect(address).expect_err("nobody listens");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(address).expect("beside the holder");
            TcpStream::connect(address).expect("a listener");
            let (_, from) = listener.accept().expect("it came");
            assert!(!different.contains(&from), "{from}");
            TcpListener::bind(address).expect_err("one listener");
        }
    }

    #[test]
    fn all_shards_share_a_port_and_nobody_else_may() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = listen(any, 3, Duration::from_secs(10)).expect("free port");
        let ports: Vec<_> = listeners
            .iter()
            .map(|l| l.socket.local_addr().expect("bound").port())
            .collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
        let again = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        let refused = listen(again, 1, Duration::from_secs(10)).expect_err("in use");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    fn sockets(count: usize) -> Vec<TcpListener> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = listen(any, count, Duration::from_secs(10)).expect("free port");
        listeners.into_iter().map(|l| l.socket).collect()
    }

    #[test]
    fn passed_sockets_are_divided_and_those_that_are_shared_are_known() {
        for (passed, shards, shared) in [
            (1, 1, vec![false]),
            (1, 3, vec![true, true, true]),
            (2, 3, vec![true, false, true]),
            (2, 2, vec![false, false]),
        ] {
            let divided = divide_passed(sockets(passed), shards, Duration::from_secs(10));
            let divided = divided.expect("descriptors");
            let is_shared: Vec<bool> = divided.iter().map(|l| l.is_shared).collect();
            assert_eq!(is_shared, shared, "{passed} sockets, {shards} shards");
        }
    }

    #[test]
    fn a_kernel_that_does_not_heed_the_core_is_named() {
        let why = |release| not_heeded(Accept::Local, release);
        let text = why("6.1.0-21-amd64").expect("too old");
        let words = ["--accept local", "6.1.0-21-amd64", "Linux 6.2"];
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(why("6.2.0"), None);
        assert_eq!(why("6.12.1"), None);
        assert_eq!(why("unknown"), None);
        assert_eq!(not_heeded(Accept::Spread, "6.1.0"), None);
    }

    #[test]
    fn a_core_from_an_earlier_run_is_taken_back() {
        let peers = Duration::from_secs(10);
        let listeners = divide_passed(sockets(2), 2, peers).expect("descriptors");
        let core = |shard: usize| SockRef::from(&listeners[shard].socket).cpu_affinity();
        place(&listeners, Accept::Local, &[0, 3]).expect("one each");
        assert_eq!((core(0).ok(), core(1).ok()), (Some(0), Some(3)));
        place(&listeners, Accept::Spread, &[0, 3]).expect("always");
        assert_eq!((core(0).ok(), core(1).ok()), (Some(NO_CORE), Some(NO_CORE)));
    }

    #[test]
    fn shards_that_share_a_socket_cannot_have_the_connections_of_their_core() {
        let listeners = divide_passed(sockets(1), 2, Duration::from_secs(10)).expect("descriptors");
        let refused = place(&listeners, Accept::Local, &[0, 1]).expect_err("shared");
        assert!(
            refused.to_string().contains("one for each of 2 shards"),
            "{refused}"
        );
        place(&listeners, Accept::Spread, &[0, 1]).expect("always");
    }

    #[test]
    fn passed_sockets_that_nobody_would_accept_from_are_refused() {
        let refused = |passed, shards| {
            let divided = divide_passed(passed, shards, Duration::from_secs(10));
            divided.map(drop).expect_err("refused").to_string()
        };
        let text = refused(sockets(3), 2);
        assert!(
            text.contains("3 sockets") && text.contains("2 shards"),
            "{text}"
        );
        let mut two_ports = sockets(1);
        two_ports.extend(sockets(1));
        let text = refused(two_ports, 2);
        assert!(text.contains("same address"), "{text}");
    }
}
