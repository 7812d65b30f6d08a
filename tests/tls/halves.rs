//! Records that never come whole: they take their time and their memory, and no more.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use weir_testkit::http::Client as Browser;
use weir_testkit::numbered::numbered;
use weir_testkit::{until, Authority, Distributor};

use super::client::{Client, Manner};
use super::names::ask;
use super::{distributor, Payloads};

/// The header of a record of application data, and what a client has of it that stops there.
pub(super) fn half(of: u16, len: usize) -> Vec<u8> {
    let [high, low] = of.to_be_bytes();
    let mut bytes = vec![23, 3, 3, high, low];
    bytes.resize(len, 0x5a);
    bytes
}

/// Connections at `emitters` that were refused for that reason.
fn refused(distributor: &Distributor, reason: &str) -> u64 {
    let mut browser = Browser::connect(distributor.http.expect("a port"));
    browser.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let series = format!("weir_tls_refused_total{{port=\"emitters\",reason=\"{reason}\"}} ");
    let body = browser.answer().body;
    let line = body.lines().find_map(|line| line.strip_prefix(&series));
    line.map_or(0, |count| count.parse().expect("a number"))
}

/// Its connection is closed within this time.
fn ends_within(client: &mut Client, time: Duration) {
    let from = Instant::now();
    let socket = &mut client.0.sock;
    socket.set_read_timeout(Some(time)).expect("a time");
    let mut rest = Vec::new();
    // Tickets come first; a reset is an end as well.
    let is_over = match socket.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(is_over, "open after {:?}", from.elapsed());
}

fn is_open(client: &mut Client) -> bool {
    let socket = &mut client.0.sock;
    let glance = Some(Duration::from_millis(10));
    socket.set_read_timeout(glance).expect("a time");
    let mut tickets = [0; 4096];
    loop {
        match socket.read(&mut tickets) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn half_a_record_has_the_time_of_a_frame() {
    let authority = Authority::new("half");
    let flags = format!(
        "{} --emitters-tls required --frame-timeout 1s --http 127.0.0.1:0",
        authority.pair("localhost").flags()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let manner = Manner::new(&authority.ca(), None);
    let connect = || manner.connect(distributor.emitters).expect("let in");
    let (mut idle, mut slow) = (connect(), connect());
    idle.send(&numbered(1, 60)).expect("let in");
    let behind = manner.connect_with(distributor.emitters, &half(0x4000, 300));
    let mut halves = [connect(), connect(), connect(), behind.expect("let in")];
    let [begun, header, dripping, _] = &mut halves;
    begun.0.sock.write_all(&half(0x4000, 9000)).expect("sent");
    header.0.sock.write_all(&half(0x4000, 3)).expect("sent");
    let from = Instant::now();
    // Whole records, each in two parts: none takes long.
    let mut id = 2;
    let mut is_cut = false;
    while from.elapsed() < Duration::from_secs(3) {
        let byte = half(0x4000, 9000)[usize::from(is_cut)];
        let _ = dripping.0.sock.write(&[byte]);
        is_cut = true;
        slow.0
            .conn
            .writer()
            .write_all(&numbered(id, 60))
            .expect("room");
        let mut record = Vec::new();
        slow.0.conn.write_tls(&mut record).expect("sealed");
        let (first, rest) = record.split_at(30);
        slow.0.sock.write_all(first).expect("open");
        std::thread::sleep(Duration::from_millis(200));
        slow.0.sock.write_all(rest).expect("open");
        id += 1;
    }
    for client in &mut halves {
        ends_within(client, Duration::from_secs(5));
    }
    assert_eq!(refused(&distributor, "record_timeout"), 4);
    distributor.wait_log("a record has not come whole within 1 s (--frame-timeout)");
    for client in [&mut idle, &mut slow] {
        client.send(&numbered(id, 60)).expect("open");
        id += 1;
    }
    until("what the others sent", || analyzer.read() as u64 == id - 1);
    idle.finish().expect("the end");
    slow.finish().expect("the end");
    drop(analyzer);
    distributor.stop().assert_clean();
}

#[test]
fn halves_of_records_take_the_memory_of_frames_together() {
    let authority = Authority::new("halves");
    let flags = format!(
        "{} --emitters-tls required --max-frame 64KiB --partial-bytes 1MiB --http 127.0.0.1:0",
        authority.pair("localhost").flags()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    let manner = Manner::new(&authority.ca(), None);
    let connect = || manner.connect(distributor.emitters).expect("let in");
    let memory = distributor.rss();
    let bytes = half(0x4000, 16_000);
    let mut crowd = Vec::new();
    for _ in 0..400 {
        let mut client = connect();
        client.0.sock.write_all(&bytes).expect("sent");
        crowd.push(client);
    }
    // 65 of them have room at most; memory that has grown for the rest of one counts as it is.
    until("most to be ended", || {
        refused(&distributor, "record_memory_full") >= 334
    });
    let more = distributor.rss().saturating_sub(memory);
    println!("{more} bytes more");
    let open = crowd.iter_mut().map(is_open).filter(|it| *it).count();
    assert!((50..=66).contains(&open), "{open} are open");
    distributor
        .wait_log("of the 1048576 bytes for records that have not come whole (--partial-bytes)");
    let mut honest = connect();
    for id in 1..=100 {
        honest.send(&numbered(id, 60_000)).expect("let in");
    }
    until("what an honest one sent", || analyzer.read() == 100);
    honest.finish().expect("the end");
    drop(crowd);
    drop(analyzer);
    distributor.stop().assert_clean();
}

/// Messages of 16,000 bytes from here on, until no more is taken at once.
fn fill(client: &mut Client, ids: &mut u64, most: usize) {
    let patience = Some(Duration::from_millis(150));
    client.0.sock.set_write_timeout(patience).expect("a time");
    client.0.sock.set_read_timeout(patience).expect("a time");
    let until = Instant::now() + Duration::from_millis(800);
    for _ in 0..most {
        *ids += 1;
        let sent = client.send(&numbered(*ids, 16_000));
        if sent.is_err() || Instant::now() > until {
            return;
        }
    }
}

#[test]
fn what_waits_here_for_room_is_not_late() {
    let authority = Authority::new("waiting");
    let flags = format!(
        "{} --emitters-tls required --frame-timeout 4s --peer-timeout 60s --arena 16MiB --http 127.0.0.1:0",
        authority.pair("localhost").flags()
    );
    let (distributor, analyzer) = distributor(&flags, Payloads::Numbered);
    analyzer.set_reading(false);
    let manner = Manner::new(&authority.ca(), None);
    let connect = || manner.connect(distributor.emitters).expect("let in");
    let mut honest = connect();
    honest.send(&numbered(1, 60)).expect("let in");
    // The arena is full, and nothing more is taken in.
    let taken = || {
        let body = ask(&distributor, "/metrics");
        let line = |line: &str| line.starts_with("weir_shard_received_messages_total");
        body.lines().find(|it| line(it)).map(str::to_owned)
    };
    let (mut filler, mut ids, mut last) = (connect(), 1000, None);
    loop {
        fill(&mut filler, &mut ids, 48);
        std::thread::sleep(Duration::from_millis(500));
        let now = taken();
        if now == last {
            break;
        }
        last = now;
    }
    let mut record = Vec::new();
    honest
        .0
        .conn
        .writer()
        .write_all(&numbered(2, 60))
        .expect("room");
    honest.0.conn.write_tls(&mut record).expect("sealed");
    let (begin, rest) = record.split_at(20);
    honest.0.sock.write_all(begin).expect("open");
    // What is opened has no room any more: the rest waits as it came.
    let others: Vec<_> = (0..3)
        .map(|_| {
            let mut other = connect();
            fill(&mut other, &mut ids, 400);
            other
        })
        .collect();
    honest.0.sock.write_all(rest).expect("open");
    honest.send(&numbered(3, 60)).expect("open");
    std::thread::sleep(Duration::from_secs(6));
    assert!(is_open(&mut honest), "{:#?}", distributor.lines("closed"));
    analyzer.set_reading(true);
    until("what it sent", || {
        let ids = analyzer.ids();
        (1..=3).all(|id| ids.contains(&id))
    });
    drop((honest, filler, others, analyzer));
    distributor.stop();
}
