//! Emitters on real sockets.

use crate::fake::{listen, message, read_frames, Message, Running, PATIENCE};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use weir::client::emitter::{self, Options, Report};
use weir::client::shapes::{Severities, Sizes};

fn start(options: &Options) -> Running<Report> {
    let options = options.clone();
    Running::start(move |stop| emitter::run(&options, &stop).expect("emitter"))
}

/// Accepts `count` connections and reads each to its end.
fn read_all(listener: &TcpListener, count: usize, read_bytes: usize) -> Vec<Vec<Vec<u8>>> {
    let accept = |_| listener.accept().expect("accept").0;
    let readers: Vec<_> = (0..count)
        .map(accept)
        .map(|stream| thread::spawn(move || read_frames(stream, read_bytes)))
        .collect();
    readers
        .into_iter()
        .map(|reader| reader.join().expect("reader"))
        .collect()
}

fn messages(connections: &[Vec<Vec<u8>>]) -> Vec<Vec<Message>> {
    connections
        .iter()
        .map(|frames| frames.iter().map(|f| message(f)).collect())
        .collect()
}

fn options(addr: &str, count: u64) -> Options {
    let mut options = Options::new(addr, "e1");
    options.rate = 0.0;
    options.count = Some(count);
    options
}

/// Closes with a reset, so that what is in flight is lost.
fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("linger");
}

#[test]
fn every_message_arrives_once_and_in_order() {
    let (listener, addr) = listen();
    let mut options = options(&addr, 1003);
    (options.connections, options.threads, options.batch) = (5, 2, 7);
    options.severities = Severities::all(4);
    let emitter = start(&options);
    let connections = messages(&read_all(&listener, 5, 4096));
    let report = emitter.join();
    assert_eq!((report.messages, report.bytes), (1003, 1003 * 261));
    assert!(report.is_success() && report.reconnects == 0, "{report}");
    let mut streams = BTreeMap::new();
    for connection in &connections {
        for (message, sequence) in connection.iter().zip(1..) {
            assert_eq!((message.sequence, message.severity), (sequence, 4));
            assert_eq!(
                (message.frame_bytes, &message.stream),
                (261, &connection[0].stream)
            );
            *streams.entry(message.stream.clone()).or_insert(0) += 1;
        }
    }
    assert_eq!(
        streams.keys().collect::<Vec<_>>(),
        ["e1/0", "e1/1", "e1/2", "e1/3", "e1/4"]
    );
    assert_eq!(streams.values().sum::<i32>(), 1003);
}

#[test]
fn a_reader_of_single_bytes_gets_everything() {
    let (listener, addr) = listen();
    let emitter = start(&options(&addr, 200));
    let connections = messages(&read_all(&listener, 1, 1));
    assert!(connections[0].iter().map(|m| m.sequence).eq(1..=200));
    assert!(emitter.join().is_success());
}

#[test]
fn messages_carry_the_time_they_were_due() {
    let (listener, addr) = listen();
    let mut options = Options::new(&addr, "e1");
    options.rate = 2000.0;
    options.duration = Some(Duration::from_millis(500));
    options.batch = 5;
    options.connections = 2;
    let emitter = start(&options);
    let connections = messages(&read_all(&listener, 2, 4096));
    let report = emitter.join();
    assert_eq!((report.messages, report.unsent), (1000, 0), "{report}");
    assert!(
        report.elapsed > Duration::from_millis(490),
        "{:?}",
        report.elapsed
    );
    let mut due: Vec<_> = connections
        .iter()
        .flatten()
        .map(|m| m.due_unix_ns)
        .collect();
    due.sort_unstable();
    let groups: Vec<_> = due.chunks(5).collect();
    assert!(
        groups.iter().all(|group| group[0] == group[4]),
        "a group is due at one time"
    );
    assert!(groups
        .windows(2)
        .all(|pair| pair[1][0] - pair[0][0] == 2_500_000));
}

#[test]
fn the_schedule_does_not_wait_for_a_blocked_reader() {
    let (listener, addr) = listen();
    let mut options = Options::new(&addr, "e1");
    (options.rate, options.batch, options.sizes) = (100_000.0, 100, Sizes::Fixed(1000));
    options.count = Some(60_000);
    let emitter = start(&options);
    let (stream, _) = listener.accept().expect("accept");
    thread::sleep(Duration::from_millis(900)); // 60 MB were due, far more than sockets hold
    let frames = read_frames(stream, 65_536);
    let report = emitter.join();
    assert_eq!(frames.len(), 60_000);
    assert!(report.blocked > Duration::from_millis(200), "{report}");
    let (first, last) = (message(&frames[0]), message(&frames[59_999]));
    let span = Duration::from_nanos(last.due_unix_ns - first.due_unix_ns);
    assert_eq!(
        span,
        Duration::from_millis(599),
        "due as planned, whenever sent"
    );
}

#[test]
fn a_broken_connection_is_replaced_and_the_loss_is_bounded() {
    let (listener, addr) = listen();
    let emitter = start(&options(&addr, 50_000));
    let (mut stream, _) = listener.accept().expect("accept");
    let mut head = vec![0; 261 * 100 + 130];
    stream.read_exact(&mut head).expect("read");
    reset(stream);
    let rest = messages(&read_all(&listener, 1, 65_536)).remove(0);
    let report = emitter.join();
    assert_eq!(
        (report.messages, report.broken, report.reconnects),
        (50_000, 1, 1),
        "{report}"
    );
    assert!(rest
        .windows(2)
        .all(|pair| pair[1].sequence == pair[0].sequence + 1));
    assert_eq!(rest.last().map(|m| m.sequence), Some(50_000));
    let lost = rest[0].sequence - 101;
    assert!(
        lost <= report.lost_max,
        "{lost} lost, at most {} announced",
        report.lost_max
    );
}

#[test]
fn an_emitter_waits_for_its_distributor() {
    let (listener, addr) = listen();
    drop(listener);
    let emitter = start(&options(&addr, 100));
    thread::sleep(Duration::from_millis(150));
    let listener = TcpListener::bind(&addr).expect("bind");
    assert_eq!(read_all(&listener, 1, 4096)[0].len(), 100);
    let report = emitter.join();
    assert_eq!(
        (report.messages, report.connected, report.reconnects),
        (100, 1, 0),
        "{report}"
    );
}

#[test]
fn stop_ends_with_whole_messages() {
    let (listener, addr) = listen();
    let mut options = options(&addr, 0);
    (options.count, options.batch) = (None, 64);
    let emitter = start(&options);
    let reader = thread::spawn(move || read_all(&listener, 1, 65_536).remove(0).len() as u64);
    thread::sleep(Duration::from_millis(100));
    let report = emitter.stop();
    assert!(report.is_success() && report.messages > 0, "{report}");
    assert_eq!(reader.join().expect("reader"), report.messages);
}

#[test]
fn small_payloads_go_without_numbers() {
    let (listener, addr) = listen();
    for payload_bytes in [0, 10] {
        let mut options = options(&addr, 20);
        options.sizes = Sizes::Fixed(payload_bytes);
        let emitter = start(&options);
        let frames = read_all(&listener, 1, 4096).remove(0);
        assert_eq!(emitter.join().messages, 20);
        assert!(frames.iter().all(|f| f.len() == payload_bytes as usize + 5));
    }
}

#[test]
fn a_stuck_distributor_is_reported_not_waited_for_for_ever() {
    let (listener, addr) = listen();
    let emitter = start(&options(&addr, 1));
    let held = listener.accept().expect("accept");
    let start = Instant::now();
    let report = emitter.join();
    assert!(start.elapsed() < PATIENCE * 2);
    assert_eq!((report.messages, report.unconfirmed), (1, 1));
    assert!(!report.is_success());
    drop(held);
}

/// Reads to the end of the stream, after asking for it once `asked_at` bytes have come.
fn read_and_ask(mut stream: TcpStream, asked_at: usize) -> Vec<Vec<u8>> {
    let mut head = vec![0; asked_at];
    stream.read_exact(&mut head).expect("read");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half-closed");
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .expect("the emitter closes its side");
    drop(stream);
    let all = [head, rest].concat();
    assert_eq!(all.len() % 261, 0, "whole messages");
    all.chunks(261).map(<[u8]>::to_vec).collect()
}

#[test]
fn an_emitter_that_is_asked_to_go_loses_nothing() {
    let (listener, addr) = listen();
    let dir = std::env::temp_dir().join(format!("weir-farewell-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("e1.json");
    let mut options = options(&addr, 120_000);
    options.batch = 100;
    options.report = Some(path.clone());
    let emitter = start(&options);
    let (stream, _) = listener.accept().expect("accept");
    // In the middle of a message: what is being written comes whole.
    let mut all = messages(&[read_and_ask(stream, 261 * 1000 + 17)]).remove(0);
    let (stream, _) = listener.accept().expect("it comes back");
    all.extend(messages(&[read_and_ask(stream, 261 * 500)]).remove(0));
    all.extend(messages(&read_all(&listener, 1, 65_536)).remove(0));
    let report = emitter.join();
    let sequences: Vec<u64> = all.iter().map(|message| message.sequence).collect();
    assert_eq!(
        sequences,
        (1..=120_000).collect::<Vec<_>>(),
        "all, in order"
    );
    assert_eq!(
        (report.farewells, report.broken, report.reconnects),
        (2, 0, 2),
        "{report}"
    );
    assert_eq!((report.lost_max, report.resent), (0, 0), "{report}");
    let json = std::fs::read(&path).expect("a run report");
    let parsed = weir::ledger::run_report::RunReport::parse(&json);
    let Ok(weir::ledger::run_report::RunReport::Emitter(run_report)) = parsed else {
        panic!("{parsed:?}");
    };
    assert_eq!(run_report.sent.farewells, 2);
    assert_eq!(run_report.streams[0].messages(), 120_000);
    assert!(run_report.streams[0].maybe_lost.is_empty());
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_distributor_that_asks_and_then_reads_nothing_is_left_after_a_second() {
    let (listener, addr) = listen();
    // So little room that the emitter's kernel keeps most of what it took.
    let small = socket2::SockRef::from(&listener).set_recv_buffer_size(4096);
    small.expect("a small buffer");
    let mut options = options(&addr, 2_000);
    options.rate = 500.0;
    let emitter = start(&options);
    let (stream, _) = listener.accept().expect("accept");
    thread::sleep(Duration::from_millis(200)); // about 26 kB
    let asked = Instant::now();
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half-closed");
    let (next, _) = listener.accept().expect("it comes back");
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    let rest = messages(&[read_frames(next, 65_536)]).remove(0);
    let report = emitter.join();
    assert_eq!((report.farewells, report.broken), (1, 0), "{report}");
    let first = rest[0].sequence;
    assert!(
        first > 1 && report.lost_max >= first - 1,
        "{first}: {report:?}"
    );
    assert_eq!(rest.last().map(|message| message.sequence), Some(2_000));
    drop(stream);
}

#[test]
fn a_broken_farewell_is_a_broken_connection() {
    let (listener, addr) = listen();
    // Not all of it fits the kernels' buffers, so nothing can be confirmed before the reset.
    let small = socket2::SockRef::from(&listener).set_recv_buffer_size(4096);
    small.expect("a small buffer");
    let emitter = start(&options(&addr, 50_000));
    let (mut stream, _) = listener.accept().expect("accept");
    let mut head = vec![0; 261];
    stream.read_exact(&mut head).expect("read");
    // The emitter fills the buffers and is blocked.
    thread::sleep(Duration::from_millis(300));
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half-closed");
    reset(stream);
    let rest = messages(&read_all(&listener, 1, 65_536)).remove(0);
    let report = emitter.join();
    assert_eq!((report.farewells, report.broken), (0, 1), "{report}");
    let lost = rest[0].sequence - 2;
    assert!(lost <= report.lost_max, "{lost} of {}", report.lost_max);
}
