//! What goes over the wire, byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use weir_testkit::{until, Acks, Analyzer, Dialect, Distributor, Options};

use super::{analyzer, distributor};

fn connect(distributor: &Distributor) -> TcpStream {
    let stream = TcpStream::connect(distributor.input("forward")).expect("it listens");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a socket");
    stream
}

/// `["app", [[1, {"n": number}] ...], {"chunk": id}]`.
fn chunk(numbers: std::ops::Range<u8>, id: &[u8]) -> Vec<u8> {
    let count = 0x90 | numbers.len() as u8;
    let mut out = vec![0x93, 0xa3, b'a', b'p', b'p', count];
    for number in numbers {
        out.extend_from_slice(&[0x92, 1, 0x81, 0xa1, b'n', number]);
    }
    out.extend_from_slice(b"\x81\xa5chunk");
    out.push(0xa0 | id.len() as u8);
    out.extend_from_slice(id);
    out
}

fn ack(id: &[u8]) -> Vec<u8> {
    [b"\x81\xa3ack", &[0xa0 | id.len() as u8][..], id].concat()
}

fn json(number: u8) -> String {
    format!("{{\"n\":{number},\"@timestamp\":\"1970-01-01T00:00:01.000000000Z\",\"tag\":\"app\"}}")
}

fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).expect("an answer");
    read
}

#[test]
fn a_chunk_is_acked_when_an_analyzer_has_acked_all_of_it() {
    let distributor = distributor("");
    let analyzer = analyzer(&distributor);
    analyzer.set_acks(Acks::Never);
    let mut stream = connect(&distributor);
    let id = b"XXXXXXXXXXXXXXXXXXXXXX==\n";
    stream.write_all(&chunk(0..3, id)).expect("written");
    until("they are at the analyzer", || analyzer.read() == 3);
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a socket");
    assert!(stream.read(&mut [0]).is_err(), "nobody has ACKed them");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    analyzer.set_acks(Acks::All);
    // What it had read it ACKs with the next that it reads.
    stream.write_all(&chunk(3..4, b"2")).expect("written");
    let both = [ack(id), ack(b"2")].concat();
    assert_eq!(read(&mut stream, both.len()), both);
    let expected: Vec<(u8, String)> = (0..4).map(|number| (3, json(number))).collect();
    assert_eq!(analyzer.texts(), expected);
    drop(stream);
    distributor.stop().assert_clean();
}

#[test]
fn an_input_that_acks_what_is_received_does_not_wait() {
    let distributor = distributor("&ack=received");
    let analyzer = analyzer(&distributor);
    analyzer.set_acks(Acks::Never);
    let mut stream = connect(&distributor);
    for round in 0..20 {
        stream.write_all(&chunk(0..2, b"a")).expect("written");
        assert_eq!(read(&mut stream, 7), ack(b"a"), "round {round}");
    }
    // No message, no chunk: nothing is said of them.
    stream.write_all(&[0xc0]).expect("written");
    stream
        .write_all(b"\x92\xa1t\x91\x92\x01\x80")
        .expect("written");
    stream.write_all(&chunk(0..0, b"b")).expect("written");
    assert_eq!(read(&mut stream, 7), ack(b"b"));
    until("all are there", || analyzer.read() == 41);
    analyzer.set_acks(Acks::All);
}

#[test]
fn a_broken_chunk_is_closed_and_nothing_of_it_is_delivered() {
    let distributor = distributor("");
    let analyzer = analyzer(&distributor);
    let mut broken = connect(&distributor);
    let mut other = connect(&distributor);
    // The last of three entries ends within its chunk.
    let mut entries = chunk(0..3, b"")[6..24].to_vec();
    entries.pop();
    let body = [
        &[0x93, 0xa1, b't', 0xc4, 17][..],
        &entries,
        b"\x81\xa5chunk\xa1x",
    ]
    .concat();
    broken.write_all(&body).expect("written");
    assert_eq!(broken.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    let said = distributor.wait_log("of input forward closed");
    assert!(said.contains("do not end where the chunk does"), "{said}");
    other.write_all(&chunk(7..8, b"1")).expect("written");
    assert_eq!(read(&mut other, 7), ack(b"1"));
    assert_eq!(analyzer.texts(), [(3, json(7))]);
    drop((broken, other));
    let ended = distributor.stop();
    assert_eq!(ended.count("stream_malformed"), 1);
}

#[test]
fn a_chunk_that_is_larger_than_what_is_held_comes_through_one_entry_at_a_time() {
    const ENTRIES: usize = 4000;
    let distributor = distributor("&unit_bytes=4KiB");
    let analyzer = analyzer(&distributor);
    let mut stream = connect(&distributor);
    let entries = [0x92, 1, 0x81, 0xa1, b'n', 5].repeat(ENTRIES);
    let mut body = vec![0x93, 0xa3, b'a', b'p', b'p', 0xc6];
    body.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    body.extend_from_slice(&entries);
    body.extend_from_slice(b"\x81\xa5chunk\xa1x");
    for _ in 0..2 {
        stream.write_all(&body).expect("written");
        assert_eq!(read(&mut stream, 7), ack(b"x"));
    }
    assert_eq!(analyzer.read(), 2 * ENTRIES);
    assert!(analyzer.texts().iter().all(|text| *text == (3, json(5))));
    drop(stream);
    distributor.stop().assert_clean();
}

/// An analyzer that ACKs every tenth message and a sender with one in flight wait for each other. Two shards: the
/// analyzer's only link is on one of them, and what the other gave it is presumed there as well.
#[test]
fn one_in_flight_goes_on_with_an_analyzer_that_acks_every_tenth() {
    let distributor = Distributor::start(
        "--shards 2 --ack-presume 200ms --input forward@127.0.0.1:0?name=forward",
    );
    let tenth = Options::new(Dialect::Compact, 1.0)
        .texts()
        .acks(Acks::Every(10));
    let analyzer = Analyzer::connect(distributor.analyzers, &tenth);
    distributor.wait_lanes(1);
    let mut senders: Vec<TcpStream> = (0..6).map(|_| connect(&distributor)).collect();
    for number in 0..4 {
        for sender in &mut senders {
            sender
                .write_all(&chunk(number..number + 1, b"1"))
                .expect("written");
        }
        for sender in &mut senders {
            assert_eq!(read(sender, 7), ack(b"1"), "number {number}");
        }
    }
    until("all are there", || analyzer.read() == 24);
    assert_eq!(analyzer.acked(), 20);
    // What was presumed and never ACKed is still the distributor's: it goes to another when its analyzer dies.
    let other = Options::new(Dialect::Compact, 1.0).texts().acks(Acks::All);
    drop(analyzer);
    let other = Analyzer::connect(distributor.analyzers, &other);
    until("the rest was re-routed", || other.read() == 4);
    drop(senders);
    distributor.stop().assert_clean();
}

/// A sender whose connection breaks sends again what has no ack; while that is on its way it goes to nobody twice.
#[test]
fn a_chunk_that_comes_again_on_another_connection_is_delivered_once() {
    let distributor = distributor("");
    let analyzer = analyzer(&distributor);
    analyzer.set_acks(Acks::Never);
    let mut first = connect(&distributor);
    first.write_all(&chunk(0..3, b"again")).expect("written");
    until("they are at the analyzer", || analyzer.read() == 3);
    let mut neighbour = connect(&distributor);
    neighbour
        .write_all(&chunk(0..3, b"again"))
        .expect("written");
    until("a neighbour's chunk is its own", || analyzer.read() == 6);
    drop(first);
    std::thread::sleep(Duration::from_millis(300));
    let mut second = connect(&distributor);
    second.write_all(&chunk(0..3, b"again")).expect("written");
    analyzer.set_acks(Acks::All);
    second.write_all(&chunk(3..4, b"2")).expect("written");
    let both = [ack(b"again"), ack(b"2")].concat();
    assert_eq!(read(&mut second, both.len()), both);
    assert_eq!(read(&mut neighbour, 11), ack(b"again"));
    assert_eq!(analyzer.read(), 7);
    drop((second, neighbour));
    distributor.stop().assert_clean();
}
