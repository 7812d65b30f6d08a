//! What a shipper reads while it waits, and when the distributor stops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::site::Site;
use weir_testkit::until;

const PATIENCE: Duration = Duration::from_secs(20);
const WINDOW: &[u8] = b"2W\0\0\0\x022J\0\0\0\x07\0\0\0\x02{}2J\0\0\0\x08\0\0\0\x02{}";
const ALIVE: &[u8] = b"2A\0\0\0\0";

fn connect(site: &Site) -> TcpStream {
    let stream = TcpStream::connect(site.input).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).expect("an answer");
    assert_eq!(
        bytes.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .expect("it ends in good order");
    assert_eq!(rest.escape_ascii().to_string(), "");
}

#[test]
fn a_window_that_waits_gets_signs_of_life() {
    let site = Site::start("lumberjack");
    site.sink.set_acks(false);
    let mut stream = connect(&site);
    stream.write_all(WINDOW).expect("it reads");
    let began = Instant::now();
    for _ in 0..2 {
        expect(&mut stream, ALIVE);
    }
    let took = began.elapsed();
    assert!((5..15).contains(&took.as_secs()), "two in {took:?}");
    site.sink.set_acks(true);
    expect(&mut stream, b"2A\0\0\0\x08");
    site.messages(2);
}

#[test]
fn a_window_is_acked_before_a_stop_ends_its_connection() {
    let site = Site::start("lumberjack");
    site.sink.set_acks(false);
    let mut stream = connect(&site);
    let mut idle = connect(&site);
    idle.write_all(b"2W\0\0\0\0").expect("it reads");
    expect(&mut idle, ALIVE);
    stream.write_all(WINDOW).expect("it reads");
    until("both events", || site.sink.frames().len() == 2);
    site.distributor.terminate();
    expect_end(&mut idle);
    site.sink.set_acks(true);
    let mut told = Vec::new();
    stream
        .read_to_end(&mut told)
        .expect("it ends in good order");
    while let Some(rest) = told.strip_prefix(ALIVE) {
        told = rest.to_vec();
    }
    assert_eq!(told, b"2A\0\0\0\x08");
    site.distributor.wait().assert_clean();
}

const OPENED: &[u8] = b"1 rsp 56 200 OK\nrelp_version=0\nrelp_software=weir\ncommands=syslog\n";

#[test]
fn relp_is_told_of_a_stop_behind_its_last_answer() {
    let site = Site::start("relp");
    site.sink.set_acks(false);
    let mut stream = connect(&site);
    stream
        .write_all(b"1 open 0\n2 syslog 5 <11>a\n3 sysl")
        .expect("it reads");
    expect(&mut stream, OPENED);
    until("the message", || site.sink.frames().len() == 1);
    site.distributor.terminate();
    site.sink.set_acks(true);
    expect(&mut stream, b"2 rsp 6 200 OK\n0 serverclose 0\n");
    expect_end(&mut stream);
    drop(stream);
    site.distributor.wait().assert_clean();
}

#[test]
fn close_is_answered_last_and_a_second_open_ends_the_session() {
    let site = Site::start("relp");
    let mut stream = connect(&site);
    stream
        .write_all(b"1 open 0\n2 syslog 5 <11>a\n3 close 0\n")
        .expect("it reads");
    expect(&mut stream, OPENED);
    expect(&mut stream, b"2 rsp 6 200 OK\n3 rsp 0\n0 serverclose 0\n");
    expect_end(&mut stream);

    let mut stream = connect(&site);
    stream.write_all(b"1 open 0\n2 open 0\n").expect("it reads");
    expect(&mut stream, OPENED);
    expect(
        &mut stream,
        b"2 rsp 32 500 this session is open already\n0 serverclose 0\n",
    );
    expect_end(&mut stream);
    site.messages(1);
}

#[test]
fn a_compressed_frame_that_grows_without_end_closes_its_own_connection_only() {
    let site = Site::start("lumberjack");
    let mut other = connect(&site);
    let mut stream = connect(&site);
    // 17 MiB of zeros in 17 KiB.
    let bomb = weir_testkit::pack::deflated(&vec![0; 17 << 20], true);
    let mut bytes = b"2W\0\0\0\x012C".to_vec();
    bytes.extend_from_slice(&u32::try_from(bomb.len()).expect("small").to_be_bytes());
    bytes.extend_from_slice(&bomb);
    let _ = stream.write_all(&bytes);
    site.distributor
        .wait_log("it inflates to more than 16777216 bytes");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"", "no ACK");
    other.write_all(WINDOW).expect("it reads");
    expect(&mut other, b"2A\0\0\0\x08");
    site.messages(2);
}

#[test]
fn version_1_is_refused_by_name() {
    let site = Site::start("lumberjack");
    let mut stream = connect(&site);
    stream.write_all(b"1W\0\0\0\x01").expect("it reads");
    expect_end(&mut stream);
    site.distributor
        .wait_log("version 1 of Lumberjack is not spoken here");
    let ended = site.distributor.stop();
    // It is at the right port, and is not told of another one.
    let reasons = ["stream_malformed", "foreign_protocol"];
    assert_eq!(reasons.map(|reason| ended.count(reason)), [1, 0]);
}
