//! The link byte by byte, spoken by a peer that knows nothing but `docs/PROTOCOL.md`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use weir_testkit::{until, Distributor, Program};

const MAGIC: [u8; 4] = [0xC5, 0x4D, 0x49, 0x54];
/// Longer than answers are gathered, shorter than any time-out.
const QUIET: Duration = Duration::from_millis(300);

struct Link(TcpStream);

impl Link {
    fn connect(distributor: &Distributor) -> Link {
        let socket = TcpStream::connect(distributor.emitters).expect("it listens");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time-out");
        Link(socket)
    }

    /// With its HELLO said and its WELCOME read.
    fn greeted(distributor: &Distributor) -> Link {
        let mut link = Link::connect(distributor);
        link.write(&hello(9));
        let welcome: [u8; 32] = link.read();
        assert_eq!(welcome[..6], [&MAGIC[..], &[1, 0]].concat(), "{welcome:?}");
        link
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it is read");
    }

    fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("an answer");
        bytes
    }

    fn ack(&mut self) -> u64 {
        let word: [u8; 9] = self.read();
        assert_eq!(word[0], 1, "{word:?}");
        u64::from_be_bytes(word[1..].try_into().expect("8 bytes"))
    }

    fn assert_silent(&mut self) {
        self.0.set_read_timeout(Some(QUIET)).expect("a time-out");
        let mut byte = [0];
        let read = self.0.read(&mut byte);
        assert!(read.is_err(), "{read:?} {byte:?}");
        self.0
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time-out");
    }

    /// All that still comes.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

fn hello(session: u64) -> Vec<u8> {
    let mut hello = [&MAGIC[..], &[1, 0, 0, 2]].concat();
    hello.extend(session.to_be_bytes());
    hello.extend([0; 16]);
    hello.extend(b"e1");
    hello
}

fn batch(first: u64, count: u32, flags: u8) -> Vec<u8> {
    let frame = [0, 0, 0, 7, 1, b'h', b'i'];
    let mut batch = vec![0x10, flags, 0, 0];
    batch.extend(count.to_be_bytes());
    batch.extend((count * frame.len() as u32).to_be_bytes());
    batch.extend([0; 4]);
    batch.extend(first.to_be_bytes());
    batch.extend(frame.repeat(count as usize));
    batch
}

fn distributor() -> Distributor {
    Distributor::start("--cores 0 --shards 1")
}

fn analyzer(distributor: &Distributor) -> Program {
    let line = format!("analyzer --addr {} --id a1", distributor.analyzers);
    let program = Program::start(&line);
    distributor.wait_lanes(1);
    program
}

#[test]
fn an_ack_comes_when_the_analyzer_has_acked_and_not_before() {
    let distributor = distributor();
    let mut link = Link::greeted(&distributor);
    link.write(&batch(1, 3, 2));
    link.assert_silent();
    let _analyzer = analyzer(&distributor);
    assert_eq!(link.ack(), 3);
    link.write(&batch(4, 1, 0));
    assert_eq!(link.ack(), 4, "gathered, and given out");
    link.0.shutdown(Shutdown::Write).expect("open");
    assert!(link.rest().is_empty(), "nothing is open: it is closed");
}

#[test]
fn who_shuts_down_still_gets_the_acks_of_all() {
    let distributor = distributor();
    let mut link = Link::greeted(&distributor);
    link.write(&batch(1, 100, 0));
    link.0.shutdown(Shutdown::Write).expect("open");
    link.assert_silent();
    let _analyzer = analyzer(&distributor);
    assert_eq!(link.ack(), 100);
    assert!(link.rest().is_empty());
}

#[test]
fn a_shutdown_says_drain_and_gives_the_acks_that_it_owes() {
    let distributor = Distributor::start("--cores 0 --shards 1 --drain-timeout 20s");
    let mut link = Link::greeted(&distributor);
    link.write(&batch(1, 5, 0));
    until("the messages", || {
        link.assert_silent();
        true
    });
    distributor.terminate();
    assert_eq!(link.read::<1>(), [0x11], "DRAIN");
    link.0.shutdown(Shutdown::Write).expect("open");
    let line = format!("analyzer --addr {} --id a1", distributor.analyzers);
    let _analyzer = Program::start(&line);
    assert_eq!(link.ack(), 5);
    assert!(link.rest().is_empty());
    distributor.wait().assert_clean();
}

#[test]
fn faults_close_the_connection_and_are_counted_by_name() {
    let distributor = distributor();
    let _analyzer = analyzer(&distributor);
    let faulty: [(&str, Vec<u8>); 6] = [
        ("a kind", vec![0x77]),
        ("flags", batch(1, 1, 8)),
        ("no messages", {
            let mut none = batch(1, 1, 0);
            none[7] = 0;
            none
        }),
        ("a gap", [batch(1, 2, 0), batch(4, 1, 0)].concat()),
        ("a body that is too long", {
            let mut long = batch(1, 2, 0);
            long[11] += 1;
            long
        }),
        ("number 0", batch(0, 1, 0)),
    ];
    for (what, bytes) in &faulty {
        let mut link = Link::greeted(&distributor);
        link.write(bytes);
        let began = Instant::now();
        link.rest();
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{what}: it goes on"
        );
    }
    // Bytes of a HELLO that is none are answered with why.
    let mut link = Link::connect(&distributor);
    link.write(&[&MAGIC[..], &[2]].concat());
    let answer = link.rest();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("protocol version 2"), "{text}");
    assert_eq!(answer[5], 1, "refused");
    let ended = distributor.stop();
    assert_eq!(
        ended.count("stream_malformed"),
        faulty.len() as u64 + 1,
        "{ended:#?}"
    );
}

#[test]
fn more_than_the_window_closes_the_connection() {
    let distributor = Distributor::start("--cores 0 --shards 1 --drain-timeout 1s");
    // A compact client that ACKs nothing.
    let mut analyzer = TcpStream::connect(distributor.analyzers).expect("it listens");
    analyzer.write_all(&1f32.to_be_bytes()).expect("it is read");
    distributor.wait_lanes(1);
    let mut link = Link::greeted(&distributor);
    for number in 1..=257 {
        link.write(&batch(number, 1, 0));
    }
    assert!(link.rest().is_empty());
    distributor.wait_log("257 batches with 1799 bytes would be un-ACKed");
    distributor.terminate();
    drop(analyzer);
    let ended = distributor.wait();
    assert_eq!(ended.count("window_exceeded"), 1, "{ended:#?}");
}

#[test]
fn the_window_is_a_setting() {
    let flags = "--acked-window-batches 3 --acked-window 64KiB --drain-timeout 1s";
    let distributor = Distributor::start(&format!("--cores 0 --shards 1 {flags}"));
    // A compact client that ACKs nothing.
    let mut analyzer = TcpStream::connect(distributor.analyzers).expect("it listens");
    analyzer.write_all(&1f32.to_be_bytes()).expect("it is read");
    distributor.wait_lanes(1);
    let mut link = Link::connect(&distributor);
    link.write(&hello(9));
    let welcome: [u8; 32] = link.read();
    let number = |at: usize, bytes: usize| {
        let bytes = &welcome[at..at + bytes];
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    assert_eq!((number(16, 4), number(24, 8)), (3, 65_536));
    for first in 1..=4 {
        link.write(&batch(first, 1, 0));
    }
    assert!(link.rest().is_empty());
    distributor.wait_log("its WELCOME allowed 3 batches and 65536 bytes");
    distributor.terminate();
    drop(analyzer);
    assert_eq!(distributor.wait().count("window_exceeded"), 1);
    for (wrong, allowed) in [
        ("--acked-window-batches=0", "1..=65536"),
        ("--acked-window-batches=65537", "1..=65536"),
        ("--acked-window=1KiB", "64KiB to 1GiB"),
        ("--acked-window=2GiB", "64KiB to 1GiB"),
        ("--max-connection-age=-1s", "1s to 720h, or 0s for never"),
        (
            "--max-connection-age=900000h",
            "1s to 720h, or 0s for never",
        ),
    ] {
        let output = weir_testkit::process::run(&["distributor", wrong]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() != Some(0) && said.contains(allowed),
            "{wrong}: {said}"
        );
    }
}

#[test]
fn a_broken_link_loses_nothing_and_a_resent_batch_is_flagged() {
    let distributor = distributor();
    let _analyzer = analyzer(&distributor);
    let mut first = Link::greeted(&distributor);
    first.write(&batch(1, 2, 0));
    drop(first);
    let mut second = Link::greeted(&distributor);
    second.write(&batch(1, 2, 1 + 2));
    assert_eq!(second.ack(), 2);
    second.write(&batch(3, 1, 2));
    assert_eq!(second.ack(), 3);
    drop(second);
    let ended = distributor.stop();
    assert_eq!(ended.duplicates_possible(), 2, "{ended:#?}");
    assert_eq!(ended.assert_clean().received, 5);
}

#[test]
fn an_emitter_at_the_analyzers_port_is_told_where_it_is() {
    let distributor = distributor();
    let mut socket = TcpStream::connect(distributor.analyzers).expect("it listens");
    socket.write_all(&hello(9)).expect("it is read");
    let _ = socket.read(&mut [0; 64]);
    distributor.wait_log("a Weir emitter that waits for ACKs");
}

#[test]
fn a_hello_that_cannot_be_met_is_told_what_is_wrong_with_it() {
    let distributor = distributor();
    for (at, byte, why) in [
        (4, 2, "protocol version 2, this build speaks 1"),
        (5, 1, "unknown flags 0x01"),
        (7, 0, "id of 0 bytes, 1 to 255 allowed"),
        (32, b'\n', "id is not UTF-8 without control characters"),
    ] {
        let mut hello = hello(9);
        hello[at] = byte;
        let mut link = Link::connect(&distributor);
        link.write(&hello);
        let welcome = link.rest();
        assert_eq!(welcome[5], 1, "refused: {welcome:?}");
        let reason = String::from_utf8_lossy(&welcome[32..]);
        // It has the right port, so nothing is said of ports.
        assert!(reason.starts_with(why), "{reason}");
    }
}

#[test]
fn who_ends_within_a_batch_is_let_go_once_what_came_before_is_acked() {
    let distributor = distributor();
    let mut link = Link::greeted(&distributor);
    link.write(&batch(1, 2, 0));
    let cut = batch(3, 10, 0);
    link.write(&cut[..cut.len() / 2]);
    link.0.shutdown(Shutdown::Write).expect("open");
    link.assert_silent();
    let _analyzer = analyzer(&distributor);
    assert_eq!(link.ack(), 2);
    let began = Instant::now();
    assert!(link.rest().is_empty(), "half a batch has no ACK");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "not closed after {took:?}");
}
