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

/// One value of the metrics, summed over its series.
fn metric(address: SocketAddr, name: &str, label: &str) -> f64 {
    let mut text = String::new();
    let mut stream = TcpStream::connect(address).expect("a listener");
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("it is read");
    stream.read_to_string(&mut text).expect("an answer");
    let is_its = |line: &&str| line.starts_with(name) && line.contains(label);
    let values = text.lines().filter(is_its).filter_map(|line| {
        let (_, value) = line.rsplit_once(' ')?;
        value.parse::<f64>().ok()
    });
    values.sum()
}

/// An open page whose machine sleeps: its stream of events is left out while the last is not read, never grows beyond
/// what one client may hold, and is closed after the time that a reader has.
#[test]
fn a_stream_of_events_that_nobody_reads_is_bounded_and_closed() {
    // Analyzers that are not there: each is a row of the view.
    let rows: Vec<_> = (0..64)
        .map(|n| format!("--http-analyzer row-{n:0>40}=1@http://127.0.0.1:9"))
        .collect();
    let distributor = Distributor::start(&format!(
        "--shards 1 --http 127.0.0.1:0 --http-request-timeout 3s {}",
        rows.join(" ")
    ));
    let http = distributor.http.expect("it listens");
    let stream = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let began = Instant::now();
    let deaf: Vec<_> = (0..4).map(|_| deaf(http, stream)).collect();
    let (mut held, mut with_kernel) = (0.0_f64, 0);
    until("all are closed", || {
        held = held.max(metric(http, "weir_http_held_bytes", ""));
        with_kernel = with_kernel.max(queued(http.port()));
        metric(http, "weir_http_refused_total", "answers_not_read") >= 4.0
    });
    let took = began.elapsed();
    println!("{held} bytes held, {with_kernel} with the kernel, closed within {took:?}");
    assert!(with_kernel > 0, "nothing was sent");
    assert!(held <= 4.0 * 256.0 * 1024.0, "{held} bytes held");
    assert!(
        with_kernel <= 4 * (256 << 10),
        "{with_kernel} with the kernel"
    );
    assert!(
        took >= Duration::from_secs(3),
        "they have the time of a reader"
    );
    let left_out = metric(http, "weir_http_states_left_out_total", "");
    assert!(left_out > 0.0, "newer views wait for no slow reader");
    // Reset: the next read of each ends.
    for socket in deaf {
        socket.set_nonblocking(false).expect("an option");
        let time = Some(Duration::from_secs(5));
        socket.set_read_timeout(time).expect("an option");
        let mut rest = Vec::new();
        match (&socket).read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
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
