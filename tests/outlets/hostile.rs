//! Receivers that mean harm: answers that do not end, that are huge, early, of others, or half. Each stands in a pool with
//! one that does as it should. That one gets every message, memory stays where it was, and the log names who did what.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_testkit::process::field;
use weir_testkit::until;

use super::server::{Habit, Server, Speaks};
use super::{distributor, send};

const MESSAGES: u64 = 1000;
/// What an attack may add to the distributor's memory: buffers of connections, and not what was sent to it.
const MEMORY_MORE: u64 = 32 << 20;

/// The answer to an `open` of RELP.
const LET_IN: &[u8] = b"1 rsp 37 200 OK\nrelp_version=0\ncommands=syslog\n";

/// What it writes.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// First this, then that for ever.
    Endless(&'static [u8], &'static [u8]),
    /// A few bytes now and then, for ever.
    Drips(&'static [u8], &'static [u8]),
    /// Nothing more, and a reset.
    Resets(&'static [u8]),
    /// The same before it has read anything. What was sent meanwhile must not be what this acks: a receiver that lies is
    /// believed.
    Early(&'static [u8]),
    /// This at each first word, and a close.
    Leaves(&'static [u8]),
}

/// Serves one attack on every connection.
struct Hostile {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Hostile {
    fn start(attack: Attack) -> Hostile {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let hostile = Hostile {
            address: listener.local_addr().expect("an address"),
            stop: Arc::default(),
            written: Arc::default(),
            connections: Arc::default(),
        };
        let stop = Arc::clone(&hostile.stop);
        let (written, connections) = (
            Arc::clone(&hostile.written),
            Arc::clone(&hostile.connections),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
                std::thread::spawn(move || serve(stream, attack, &stop, &written));
            }
        });
        hostile
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Messages have come. A health check that is a connection says nothing, and gets nothing; RELP is let in.
fn provoked(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        let read = match stream.read(&mut bytes) {
            Ok(read @ 1..) => &bytes[..read],
            _ => return false,
        };
        let is_relp = read.starts_with(b"1 open ");
        if !is_relp {
            return !read.windows(7).any(|word| word == b" close ");
        }
        if stream.write_all(LET_IN).is_err() {
            return false;
        }
    }
}

fn serve(mut stream: TcpStream, attack: Attack, stop: &AtomicBool, written: &AtomicU64) {
    let patience = Some(Duration::from_secs(1));
    let _ = stream.set_write_timeout(patience);
    match attack {
        Attack::Early(_) => {}
        Attack::Leaves(word) => {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(word);
            return;
        }
        _ if provoked(&mut stream) => {}
        _ => return,
    }
    // What comes is read and thrown away, so that nobody waits for room.
    let mut rest = stream.try_clone().expect("a descriptor");
    let reads = std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(1..) = rest.read(&mut bytes) {}
    });
    let mut put = |bytes: &[u8]| {
        let is_written = stream.write_all(bytes).is_ok() && !stop.load(Ordering::Relaxed);
        written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        is_written
    };
    match attack {
        Attack::Endless(first, then) => {
            let many = then.repeat((64 << 10) / then.len());
            if put(first) {
                while put(&many) {}
            }
        }
        Attack::Drips(first, then) => {
            if put(first) {
                while put(then) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        Attack::Early(bytes) | Attack::Resets(bytes) | Attack::Leaves(bytes) => {
            put(bytes);
        }
    }
    let linger = Some(Duration::ZERO);
    let _ = socket2::SockRef::from(&stream).set_linger(linger);
    let _ = stream.shutdown(std::net::Shutdown::Read);
    drop(stream);
    let _ = reads.join();
}

/// All of these in one pool with one that does as it should: that one has all in the end, and the log says what was
/// done to it.
fn survives(attacks: &[(&str, Attack, &str)]) {
    let good = Server::start(Speaks::Forward, Habit::Acks);
    let mut analyzers = vec![format!("good=1@forward://{}", good.address)];
    let mut hostile = Vec::new();
    for (number, (url, attack, said)) in attacks.iter().enumerate() {
        let it = Hostile::start(*attack);
        let url = url.replace("AT", &it.address.to_string());
        analyzers.push(format!("bad{number}=1@{url}"));
        hostile.push((format!("bad{number}"), *said, it));
    }
    let flags = "--http 127.0.0.1:0 --http-timeout 300ms --http-backoff 20ms --http-retries 1 --health-timeout 500ms";
    let distributor = distributor(&analyzers, flags);
    // Who resets before it has read anything is healthy by chance, for a moment.
    let calm = hostile.iter().zip(attacks);
    let calm = calm.filter(|(_, (_, attack, _))| !matches!(attack, Attack::Early(_)));
    let calm: Vec<&str> = calm.map(|((who, _, _), _)| who.as_str()).collect();
    until("all but those have been up", || {
        let ups = distributor.lines("analyzer up ");
        let ids: BTreeSet<&str> = ups.iter().map(|line| field(line, "analyzer")).collect();
        ids.contains("good") && calm.iter().all(|who| ids.contains(who))
    });
    let (before, begun) = (distributor.rss(), Instant::now());
    send(&distributor, 0, MESSAGES);
    let mut most = before;
    until("the other has all", || {
        most = most.max(distributor.rss());
        let there: BTreeSet<u64> = good.acked().into_iter().collect();
        there.len() as u64 == MESSAGES
    });
    eprintln!("{:?}, {} KiB more", begun.elapsed(), (most - before) >> 10);
    let mut sent = MESSAGES;
    for (who, said, it) in &hostile {
        // Of many like lines within a second the log has one: any of the kind will do. Who was too slow for its time, on a
        // busy machine, gets more, and so another chance.
        until(&format!("{who}: {said}"), || {
            let is_said = !distributor.lines(said).is_empty();
            if !is_said {
                send(&distributor, sent, 20);
                sent += 20;
                std::thread::sleep(Duration::from_millis(300));
            }
            is_said
        });
        let written = it.written.load(Ordering::Relaxed) >> 10;
        let connections = it.connections.load(Ordering::Relaxed);
        eprintln!("{who}: {written} KiB on {connections} connections: {said}");
    }
    assert!(most - before < MEMORY_MORE, "{} bytes more", most - before);
    distributor.stop().assert_clean();
}

#[test]
fn answers_of_streams_that_do_not_end() {
    const FORWARD: &str = "forward://AT?timeout=1s";
    const RELP: &str = "relp://AT?timeout=1s";
    const LUMBERJACK: &str = "lumberjack://AT?timeout=1s";
    const LONG: &[u8] = b"\x81\xa3ack\xdb\xff\xff\xff\xff";
    const WIDE: &[u8] = b"\xdd\xff\xff\xff\xff";
    const LEAVES: &[u8] = b"1 rsp 37 200 OK\nrelp_version=0\ncommands=syslog\n0 serverclose 0\n";
    const BEYOND: &[u8] = b"2A\xff\xff\xff\xff";
    survives(&[
        (FORWARD, Attack::Endless(LONG, b"a"), "no ack of Forward"),
        (FORWARD, Attack::Endless(WIDE, b"\xc0"), "no ack of Forward"),
        (FORWARD, Attack::Endless(b"", b"\x91"), "no ack of Forward"),
        (
            FORWARD,
            Attack::Endless(b"", b"\x81\xa3foo\x01"),
            "no ack of Forward",
        ),
        (
            FORWARD,
            Attack::Drips(b"\x81\xa3ack\xda\x0f\0", b"a"),
            "no ack within 1s",
        ),
        (FORWARD, Attack::Resets(b"\x81\xa3a"), "reset"),
        (FORWARD, Attack::Early(b"\x81\xa3ack\xa4Yw=="), "reset"),
        (
            RELP,
            Attack::Endless(b"2 rsp 999999999 200", b"a"),
            "none of RELP",
        ),
        (
            RELP,
            Attack::Endless(b"2 rsp 60000 200 OK\n", b"a"),
            "none of RELP",
        ),
        (RELP, Attack::Endless(b"", b"2"), "none of RELP"),
        (
            RELP,
            Attack::Endless(b"", b"0 hint 0\n"),
            "it answers 0 hint",
        ),
        (
            RELP,
            Attack::Drips(b"2 rsp 300 200 OK", b"a"),
            "no ack within 1s",
        ),
        (RELP, Attack::Resets(b"2 rs"), "reset"),
        (RELP, Attack::Leaves(LEAVES), "it said goodbye"),
        (
            LUMBERJACK,
            Attack::Endless(b"", b"\xff"),
            "no ack of Lumberjack 2",
        ),
        (
            LUMBERJACK,
            Attack::Endless(BEYOND, BEYOND),
            "it acks message 4294967295",
        ),
        (LUMBERJACK, Attack::Resets(b"2A\0\0"), "reset"),
        (LUMBERJACK, Attack::Early(BEYOND), "reset"),
    ]);
}

#[test]
fn answers_to_requests_that_do_not_end() {
    const ES: &str = "es+http://AT";
    const LOKI: &str = "loki+http://AT";
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    const LONG: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n";
    const NEGATIVE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n";
    const MOVED: &[u8] =
        b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
    const SPACES: &[u8] = b"4\r\n    \r\n";
    // More items than were sent.
    let items = Attack::Endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{\"items\":[ \r\n",
        b"1f\r\n{\"create\":{\"status\":201}},     \r\n",
    );
    let attacks = [
        (
            ES,
            Attack::Endless(HEAD, b"X-A: b\r\n"),
            "longer than 16384 bytes",
        ),
        (ES, Attack::Endless(b"", b"H"), "is no HTTP/1.1 answer"),
        (
            ES,
            Attack::Endless(b"", CONTINUE),
            "more than 8 interim answers",
        ),
        (ES, Attack::Endless(NEGATIVE, b"x"), "nothing tells where"),
        (ES, Attack::Drips(LONG, b" "), "at most 67108864"),
        (ES, Attack::Resets(b"HTTP/1.1 200 O"), "POST failed"),
        (ES, items, "POST failed"),
        (ES, Attack::Drips(CHUNKED, SPACES), "POST failed"),
        (ES, Attack::Resets(MOVED), "302"),
        (
            "otlp+http://AT",
            Attack::Endless(CHUNKED, SPACES),
            "POST failed",
        ),
        // A head of 200 is the ACK of Loki, and its body is thrown away.
        (
            LOKI,
            Attack::Endless(HEAD, b"X-A: b\r\n"),
            "longer than 16384 bytes",
        ),
        (LOKI, Attack::Endless(b"", b"H"), "is no HTTP/1.1 answer"),
        (
            LOKI,
            Attack::Endless(b"", CONTINUE),
            "more than 8 interim answers",
        ),
    ];
    // A refused packet goes to each analyzer once, and a slow refusal takes its time: few in a pool.
    for attacks in attacks.chunks(4) {
        survives(attacks);
    }
}
