//! Sockets that a manager passes: `LISTEN_FDS`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::manager::{activated, listener, passing};
use weir_testkit::process::run_command;
use weir_testkit::{
    assert_exactly_once, numbered, socket, until, until_read, Analyzer, Dialect, Distributor,
    Emitter, Options,
};

/// Emitter connections that each shard has accepted.
fn accepted(distributor: &Distributor) -> Vec<u64> {
    let http = distributor.http.expect("--http");
    let text = get(http, "/metrics");
    let lines = text.lines();
    let of_shards = lines.filter(|line| line.starts_with("weir_shard_emitters_accepted_total{"));
    let last = |line: &str| line.rsplit(' ').next().map(str::to_owned);
    let numbers = of_shards.filter_map(last);
    numbers.map(|n| n.parse().expect("a number")).collect()
}

fn get(http: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(http).expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

fn spread(distributor: &Distributor, connections: u64) -> Vec<u64> {
    let streams: Vec<TcpStream> = (0..connections)
        .map(|_| {
            // One after the other, as they come in life: a burst would find every shard awake.
            std::thread::sleep(Duration::from_millis(1));
            TcpStream::connect(distributor.emitters).expect("connects")
        })
        .collect();
    until("all are accepted", || {
        accepted(distributor).iter().sum::<u64>() == connections
    });
    drop(streams);
    accepted(distributor)
}

#[test]
fn shards_share_one_socket_evenly() {
    let (emitters, e) = listener();
    let (analyzers, a) = listener();
    let sockets = [("emitters", e), ("analyzers", a)];
    let distributor =
        Distributor::start_command(activated(&sockets, "--shards 3 --http 127.0.0.1:0"));
    assert_eq!(distributor.emitters, emitters);
    assert_eq!(distributor.analyzers, analyzers);
    let shards = spread(&distributor, 300);
    println!("300 connections, one socket: {shards:?}");
    assert!(
        shards.iter().all(|n| *n >= 50),
        "half of a share: {shards:?}"
    );

    let options = |shard| Options::new(Dialect::Native, 1.0).shard(shard);
    let links: Vec<Analyzer> = (0..3)
        .map(|shard| Analyzer::connect(analyzers, &options(shard)))
        .collect();
    Emitter::start(emitters, 0..5_000, 50).join();
    let links: Vec<&Analyzer> = links.iter().collect();
    until_read(&links, 5_000);
    assert_exactly_once(&links, 0..5_000);
    distributor.stop().assert_clean();
}

/// Several sockets on one port, as systemd makes them with ReusePort=.
fn reuseport(count: usize) -> (SocketAddr, Vec<OwnedFd>) {
    let mut at = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        socket.set_reuse_port(true).expect("option");
        socket.bind(&at.into()).expect("binds");
        socket.listen(128).expect("listens");
        at = socket.local_addr().expect("bound").as_socket().expect("IP");
        sockets.push(socket.into());
    }
    (at, sockets)
}

#[test]
fn a_socket_for_each_shard_is_served_by_it_alone() {
    let (at, sockets) = reuseport(2);
    let sockets: Vec<(&str, OwnedFd)> = sockets.into_iter().map(|s| ("emitters", s)).collect();
    let flags = "--shards 2 --http 127.0.0.1:0 --analyzers 127.0.0.1:0";
    let distributor = Distributor::start_command(activated(&sockets, flags));
    assert_eq!(distributor.emitters, at);
    let shards = spread(&distributor, 200);
    println!("200 connections, a socket each: {shards:?}");
    assert!(shards.iter().all(|n| *n >= 50), "{shards:?}");
    distributor.stop().assert_clean();
}

/// Ids of those who knock, above all others.
const KNOCKS: u64 = 1_000_000;

/// Connects again and again, one message each, and waits each time until the distributor has read it to its
/// end and closed. Nobody is let down: no connection is refused or reset, none is left without an end.
fn knock(at: SocketAddr, ids: &AtomicU64, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let mut stream = socket::connect(at);
        let text = "a connection in the time of a restart";
        stream.write_all(&numbered::numbered(id, 50)).expect(text);
        stream.shutdown(Shutdown::Write).expect(text);
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(end.is_ok(), "{text}: message {id}: {end:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The listening socket is the test's, so nobody could be *refused* here (`scripts/systemd-test.sh` shows that with a
/// real systemd). What counts: all who connect are served, by the old process or by the new one.
#[test]
fn who_connects_during_a_restart_is_served() {
    let (emitters, e) = listener();
    let (analyzers, a) = listener();
    let sockets = [("emitters", e), ("analyzers", a)];
    let start = || Distributor::start_command(activated(&sockets, "--shards 2 --http off"));
    let over = Arc::new(AtomicBool::new(false));
    let ids = Arc::new(AtomicU64::new(KNOCKS));
    let knocking: Vec<_> = (0..4)
        .map(|_| {
            let (over, ids) = (Arc::clone(&over), Arc::clone(&ids));
            std::thread::spawn(move || knock(emitters, &ids, &over))
        })
        .collect();
    let mut received = 0;
    let mut read = Vec::new();
    for round in 0..4 {
        let running = start();
        let analyzer = Analyzer::connect(analyzers, &Options::new(Dialect::Compact, 1.0));
        let now = round * 1000..round * 1000 + 500;
        Emitter::start(emitters, now.clone(), 50).join();
        // What waited for this process as well.
        let wanted = now.start.saturating_sub(500)..now.end;
        until("what was sent is read", || {
            let ids = analyzer.ids();
            wanted.clone().all(|id| ids.contains(&id))
        });
        if round == 3 {
            over.store(true, Ordering::Relaxed);
            until("who knocks is served", || {
                knocking.iter().all(JoinHandle::is_finished)
            });
        }
        let ended = running.stop();
        assert_eq!(ended.count("accept_failed"), 0, "{ended:#?}");
        received += ended.assert_clean().received;
        read.extend(analyzer.close().0);
        if round < 3 {
            // Nobody accepts now: these wait in the socket for the next process.
            let later = now.end..now.end + 500;
            Emitter::start(emitters, later, 50).join();
        }
    }
    for knocking in knocking {
        knocking.join().expect("served each time");
    }
    let knocks = ids.load(Ordering::Relaxed) - KNOCKS;
    println!("{knocks} connections beside, three restarts");
    assert!(knocks > 100, "{knocks}");
    assert_eq!(received, 3500 + knocks);
    read.sort_unstable();
    let wanted: Vec<u64> = (0..3500).chain(KNOCKS..KNOCKS + knocks).collect();
    assert!(
        read == wanted,
        "each message once: {} of {}",
        read.len(),
        wanted.len()
    );
}

#[test]
fn what_is_passed_to_another_process_is_not_taken() {
    let (passed, e) = listener();
    let sockets = [("emitters", e)];
    let flags = "--shards 1 --http off --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0";
    let distributor = Distributor::start_command(passing(&sockets, "1", flags));
    assert_ne!(distributor.emitters, passed);
    TcpStream::connect(distributor.emitters).expect("its own");
    distributor.stop().assert_clean();
}

#[test]
fn sockets_that_are_not_passed_are_opened() {
    let (http, h) = listener();
    let flags = "--shards 2 --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0";
    let distributor = Distributor::start_command(activated(&[("http", h)], flags));
    assert_eq!(distributor.http, Some(http));
    let live = get(http, "/health/live");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    distributor.stop().assert_clean();
}

#[test]
fn the_admin_socket_can_be_passed_and_stays() {
    let scratch = weir_testkit::Scratch::new("admin");
    let path = scratch.path("admin.sock");
    let socket = std::os::unix::net::UnixListener::bind(&path).expect("free");
    let flags = "--shards 1 --http off --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0";
    let sockets = [("admin", OwnedFd::from(socket))];
    let distributor = Distributor::start_command(activated(&sockets, flags));
    let text = path.to_str().expect("UTF-8");
    let status = weir_testkit::process::run(&["ctl", "--admin", text, "status"]);
    assert!(status.status.success(), "{status:?}");
    distributor.stop().assert_clean();
    assert!(path.exists(), "it is the manager's");
}

/// What it says when it refuses to start, and its exit status.
fn refused(sockets: &[(&str, OwnedFd)], flags: &str) -> (Option<i32>, String) {
    let output = run_command(&mut activated(sockets, flags));
    let text = String::from_utf8(output.stderr).expect("text");
    (output.status.code(), text)
}

#[test]
fn an_address_that_was_written_down_must_be_the_sockets() {
    let (at, e) = listener();
    let (code, text) = refused(&[("emitters", e)], "--emitters 127.0.0.1:9 --shards 1");
    assert_eq!(code, Some(2), "{text}");
    for word in ["--emitters 127.0.0.1:9", &at.to_string(), "ListenStream="] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (_, h) = listener();
    let (code, text) = refused(&[("http", h)], "--http off --shards 1");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--http off"), "{text}");
    // The same address is no contradiction.
    let (at, e) = listener();
    let flags = format!("--shards 1 --http off --analyzers 127.0.0.1:0 --emitters {at}");
    let distributor = Distributor::start_command(activated(&[("emitters", e)], &flags));
    distributor.stop().assert_clean();
}

#[test]
fn sockets_that_cannot_be_used_are_named() {
    let (_, e) = listener();
    let (code, text) = refused(&[("weir.socket", e)], "--shards 1");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("weir.socket") && text.contains("emitters, analyzers, http, admin"));

    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("free port");
    let (code, text) = refused(&[("http", udp.into())], "--shards 1");
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("descriptor 3") && text.contains("ListenStream="),
        "{text}"
    );

    let (_, sockets) = reuseport(3);
    let sockets: Vec<(&str, OwnedFd)> = sockets.into_iter().map(|s| ("emitters", s)).collect();
    let (code, text) = refused(&sockets, "--shards 2 --http off");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("3 sockets") && text.contains("2 shards"),
        "{text}"
    );
}

#[test]
fn a_socket_outlives_the_distributor() {
    let (at, e) = listener();
    let flags = "--shards 1 --http off --analyzers 127.0.0.1:0";
    let sockets = [("emitters", e)];
    Distributor::start_command(activated(&sockets, flags))
        .stop()
        .assert_clean();
    TcpStream::connect(at).expect("waits in the backlog");
    drop(sockets);
    let free = TcpListener::bind(at);
    assert!(free.is_ok(), "nobody else holds it: {free:?}");
}
