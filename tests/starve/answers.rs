//! Answers that nobody reads: what waits for their readers is bounded, in the distributor and in the kernel.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use weir_testkit::{until, Analyzer, Dialect, Distributor, Options};

const MEMORY: usize = 1 << 20;
/// What the kernel may have beyond: an answer that was just sent, of each client, and what was not looked at.
const SLACK: usize = 3 << 20;
const CLIENTS: usize = 60;

/// A client that asks on and on, and reads nothing.
fn deaf(address: SocketAddr, requests: &[u8]) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(2048).expect("an option");
    socket.connect(&address.into()).expect("a listener");
    socket.set_nonblocking(true).expect("an option");
    let _ = (&socket).write(requests);
    socket
}

/// Bytes that the kernel has for the peers of a local port, by its own table.
fn queued(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let of_port = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?.rsplit_once(':')?.1;
        let queues = fields.nth(2)?;
        let is_its = u16::from_str_radix(local, 16) == Ok(port);
        let bytes = usize::from_str_radix(queues.split_once(':')?.0, 16).ok()?;
        is_its.then_some(bytes)
    });
    of_port.sum()
}

fn health(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).expect("a listener");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("an option");
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn what_the_kernel_holds_for_who_does_not_read_is_bounded() {
    let flags = "--shards 1 --http 127.0.0.1:0 --http-body 64KiB --http-inflated 64KiB --http-head 4KiB --http-memory 1MiB";
    let distributor = Distributor::start(flags);
    let http = distributor.http.expect("it listens");
    let _analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Native, 1.0));
    let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let deaf: Vec<_> = (0..CLIENTS).map(|_| deaf(http, &requests)).collect();
    let mut most = 0;
    let began = Instant::now();
    let mut served = 0;
    while began.elapsed() < Duration::from_secs(6) {
        most = most.max(queued(http.port()));
        assert!(health(http), "others are served");
        served += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("at most {most} bytes with the kernel, {served} others served");
    assert!(most > 50_000, "hardly anything was asked: {most}");
    assert!(most <= MEMORY + SLACK, "{most} bytes with the kernel");
    let mut metrics = String::new();
    until("it is counted", || {
        let mut stream = TcpStream::connect(http).expect("a listener");
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        metrics.clear();
        stream.write_all(request).is_ok()
            && stream.read_to_string(&mut metrics).is_ok()
            && metrics.contains("answers_not_read")
    });
    for name in ["weir_http_unread_bytes", "weir_shard_links_unread_bytes"] {
        assert!(metrics.contains(name), "{name}");
    }
    drop(deaf);
}

/// The parts of requests of who never finishes: they go, not whoever comes.
#[test]
fn requests_that_never_end_keep_nobody_out() {
    let flags = "--shards 1 --http 127.0.0.1:0 --http-body 64KiB --http-inflated 64KiB --http-head 4KiB --http-memory 512KiB";
    let distributor = Distributor::start(flags);
    let http = distributor.http.expect("it listens");
    let options = Options::new(Dialect::Native, 1.0).not_reading();
    let _analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    let begin = |address: SocketAddr| {
        let mut stream = TcpStream::connect(address).expect("a listener");
        let head = "POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n";
        let _ = stream.write_all(&[head.as_bytes(), &[b' '; 50_000]].concat());
        stream
    };
    let hogs: Vec<_> = (0..15).map(|_| begin(http)).collect();
    let text = "x".repeat(55_000);
    let body = format!(r#"{{"emitterId":"e","messages":[{{"level":"info","message":"{text}"}}]}}"#);
    for _ in 0..20 {
        let mut client = TcpStream::connect(http).expect("a listener");
        let head = format!("POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let request = head + &body;
        // In pieces, so that it is held for a while.
        for piece in request.as_bytes().chunks(5000) {
            client.write_all(piece).expect("it is read");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 202", "who comes is served");
    }
    drop(hogs);
}
