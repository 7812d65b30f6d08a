//! Hosts that vanish: which connections' bytes nobody acknowledges.
//!
//! ```text
//!   thread "peers":  /proc/net/tcp, tcp6  --once or twice a second-->  Unanswered: connections with retries under way
//!   connection:      in it for the whole peer timeout, without an answer between:  its peer is gone
//! ```
//!
//! TCP_USER_TIMEOUT alone cannot be had on an emitter's connection: Linux also ends one whose peer answers and has no
//! room for that long (tcp_probe_timer), which is what a distributor does when its analyzers cannot keep up. What the
//! connection held would be lost. So the kernel's books are read instead: `retrnsmt` counts transmissions since the
//! last acknowledgement, the column after the user id window probes without an answer. Both fall back to 0 with any
//! answer ([ADR 0054](../../docs/adr/0054-a-full-window-is-no-dead-host.md)).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

/// How often the kernel's books are read at least; an eighth of the peer timeout if that is less. Twice as often where
/// reading takes less than a twentieth of the time, which it does but on hosts with very many connections.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
const LOOK_PART: u32 = 20;
/// How often the thread looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(100);
const BOOKS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Both ends of a connection.
type Ends = [(IpAddr, u16); 2];

/// The kernel asks an idle peer whether it is there, and ends the connection when none of the questions is answered
/// within `timeout`.
///
/// # Errors
/// The socket does not take the options.
pub fn keep_alive(socket: &SockRef<'_>, timeout: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(timeout / 2)
        .with_interval(timeout / 4)
        .with_retries(2);
    socket.set_tcp_keepalive(&keepalive)
}

/// The same, and bytes under way that nobody acknowledges. Not for connections whose peer may be slow to read: see the
/// head of this file.
///
/// # Errors
/// As [`keep_alive`].
pub fn watch(socket: &SockRef<'_>, timeout: Duration) -> io::Result<()> {
    keep_alive(socket, timeout)?;
    socket.set_tcp_user_timeout(Some(timeout))
}

/// What a look at the kernel's books found.
#[derive(Debug)]
pub struct Unanswered {
    at: Instant,
    /// Retries under way, or window probes without an answer; never 0.
    counts: HashMap<Ends, u32>,
}

/// The newest look, for any number of connections.
pub struct Peers {
    patience: Duration,
    newest: Mutex<Arc<Unanswered>>,
    version: AtomicU64,
    is_over: Arc<AtomicBool>,
}

impl Peers {
    /// Starts the thread that looks. `patience`: how long a peer may be silent.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(patience: Duration) -> io::Result<Arc<Peers>> {
        let peers = Arc::new(Peers {
            patience,
            newest: Mutex::new(Arc::new(Unanswered {
                at: Instant::now(),
                counts: HashMap::new(),
            })),
            version: AtomicU64::new(0),
            is_over: Arc::new(AtomicBool::new(false)),
        });
        let (of_thread, is_over) = (Arc::downgrade(&peers), Arc::clone(&peers.is_over));
        let seldom = (patience / 8).min(LOOK_EVERY_MAX);
        let often = seldom / 2;
        thread::Builder::new().name("peers".into()).spawn(move || {
            let mut pause = often;
            loop {
                let until = Instant::now() + pause;
                while Instant::now() < until {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    thread::sleep(SLICE.min(pause));
                }
                let Some(peers) = of_thread.upgrade() else { return };
                let began = Instant::now();
                if let Err(error) = peers.look() {
                    log::warn!(
                        "{error}: a host that vanishes while bytes are on their way to it is noticed late, by the \
                         kernel's own limit (net.ipv4.tcp_retries2)"
                    );
                    return;
                }
                pause = (began.elapsed() * LOOK_PART).clamp(often, seldom);
            }
        })?;
        Ok(peers)
    }

    fn look(&self) -> io::Result<()> {
        let (at, mut counts) = (Instant::now(), HashMap::new());
        for (path, number) in BOOKS.into_iter().zip(0..) {
            match fs::read_to_string(path) {
                Ok(text) => counts.extend(unanswered(&text)),
                // A host without IPv6 has no second one.
                Err(error) if number > 0 && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
            }
        }
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::new(Unanswered { at, counts });
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Another number: there is a newer look.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest look.
    pub fn newest(&self) -> Arc<Unanswered> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&newest)
    }

    /// How long a peer may be silent.
    pub fn patience(&self) -> Duration {
        self.patience
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// One connection's peer.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    ends: Ends,
    /// Silent since that look, with so many retries at the last.
    silent: Option<(Instant, u32)>,
}

impl Peer {
    /// Of a connection between these.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Peer {
        Peer {
            ends: [local, remote].map(|end| (end.ip(), end.port())),
            silent: None,
        }
    }

    /// It has not acknowledged anything for `patience`, counted between looks: a program that was stopped meanwhile
    /// finds its peers as they are.
    pub fn is_gone(&mut self, look: &Unanswered, patience: Duration) -> bool {
        let Some(count) = look.counts.get(&self.ends).copied() else {
            self.silent = None;
            return false;
        };
        let since = match self.silent {
            // Fewer than before: it has answered in between.
            Some((since, before)) if count >= before => since,
            _ => look.at,
        };
        self.silent = Some((since, count));
        look.at.saturating_duration_since(since) >= patience
    }
}

/// What to say of one that is gone.
pub fn gone(patience: Duration) -> io::Error {
    let text = format!("its host has not answered for {} s", patience.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Connections with retries or window probes under way, out of /proc/net/tcp (proc(5)).
fn unanswered(text: &str) -> impl Iterator<Item = (Ends, u32)> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (words.next()?, words.next()?);
        let retries = words.nth(3)?;
        let probes = words.nth(1)?;
        let count = u32::from_str_radix(retries, 16).ok()? + probes.parse::<u32>().ok()?;
        match count {
            0 => None,
            count => Some(([end(local)?, end(remote)?], count)),
        }
    })
}

/// `0100007F:1F90`: words of an address as this host's numbers, and a port.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn retries_and_probes_are_found_and_nothing_else() {
        let text = format!(
            "{HEAD}\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
             1: 0100007F:9C40 0200007F:1F90 01 00000100:00000000 01:00000030 00000003     0        0 2 3 0 20 4 30 10 -1\n\
             2: 0100007F:9C41 0200007F:1F90 01 00000100:00000000 04:00000030 00000000     0        2 2 3 0 20 4 30 10 -1\n\
             3: 0100007F:9C42 0200007F:1F90 01 00000100:00000000 04:00000030 00000000     0        0 2 3 0 20 4 30 10 -1\n\
             cut 0100007F\n"
        );
        let told: Vec<_> = unanswered(&text).collect();
        let ends = |port| {
            let ip = |last| IpAddr::from([127, 0, 0, last]);
            [(ip(1), port), (ip(2), 8080)]
        };
        assert_eq!(told, [(ends(40_000), 3), (ends(40_001), 2)]);
        let v6 = end("00000000000000000000000001000000:1F90");
        assert_eq!(v6, Some(("::1".parse().expect("an address"), 8080)));
    }

    #[test]
    fn a_peer_is_gone_after_the_whole_time_without_an_answer() {
        let (local, remote) = (
            SocketAddr::from(([10, 0, 0, 1], 5)),
            SocketAddr::from(([10, 0, 0, 2], 6)),
        );
        let mut peer = Peer::new(local, remote);
        let (start, patience) = (Instant::now(), Duration::from_secs(4));
        let mut look = |seconds, count: Option<u32>| {
            let ends = [local, remote].map(|end| (end.ip(), end.port()));
            let counts = count.into_iter().map(|count| (ends, count)).collect();
            let at = start + Duration::from_secs(seconds);
            peer.is_gone(&Unanswered { at, counts }, patience)
        };
        assert!(!look(0, Some(1)) && !look(3, Some(2)));
        assert!(!look(4, Some(1)), "fewer retries: it answered");
        assert!(!look(7, Some(3)) && !look(8, None), "an answer");
        assert!(!look(9, Some(1)) && !look(12, Some(4)));
        assert!(look(13, Some(5)));
    }

    #[test]
    fn the_books_of_this_kernel_can_be_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let text = fs::read_to_string(BOOKS[0]).expect("procfs");
        let local = stream.local_addr().expect("address");
        let remote = stream.peer_addr().expect("address");
        // Both ends: Linux gives one port to connections of several programs when their peers differ.
        let is_mine = |line: &&str| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let mut next = || end(words.next()?);
            next() == Some((local.ip(), local.port()))
                && next() == Some((remote.ip(), remote.port()))
        };
        // Once or more: while others come and go a line may be read twice.
        let mine: Vec<&str> = text.lines().filter(is_mine).collect();
        assert!(!mine.is_empty(), "{local} to {remote}: {text}");
        assert_eq!(&text.lines().next().expect("a head")[..15], &HEAD[..15]);
        keep_alive(&SockRef::from(&stream), Duration::from_secs(4)).expect("options");
        watch(&SockRef::from(&stream), Duration::from_secs(4)).expect("options");
    }
}
