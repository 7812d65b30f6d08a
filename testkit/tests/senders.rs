//! Senders of other protocols against servers that do what they are told: their records are what tests judge by.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_testkit::inputs::{relp, Client, Sender, Speaks};

/// Acks units of these bytes each, as `ack` says, but closes at once for the first so many connections.
fn server(
    unit_bytes: usize,
    closes: usize,
    ack: fn(&[u8]) -> Vec<u8>,
) -> (SocketAddr, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let mut units = Vec::new();
        for _ in 0..closes {
            let (mut stream, _) = listener.accept().expect("a sender");
            let mut unit = vec![0; unit_bytes];
            stream.read_exact(&mut unit).expect("a unit");
            units.push(unit);
        }
        let (mut stream, _) = listener.accept().expect("a sender");
        let mut unit = vec![0; unit_bytes];
        while stream.read_exact(&mut unit).is_ok() {
            stream.write_all(&ack(&unit)).expect("it reads");
            units.push(unit.clone());
        }
        units
    });
    (address, thread)
}

fn bytes_of(client: Client, ids: std::ops::Range<u64>) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let sender = Sender::start(listener.local_addr().expect("bound"), client, ids);
    let (mut stream, _) = listener.accept().expect("a sender");
    let patience = Some(Duration::from_millis(200));
    stream.set_read_timeout(patience).expect("an option");
    let mut bytes = Vec::new();
    let _ = read_until_silent(&mut stream, &mut bytes);
    drop((stream, listener));
    drop(sender);
    bytes.len()
}

fn read_until_silent(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            len => bytes.extend_from_slice(&part[..len]),
        }
    }
}

fn forward_ack(chunk: &[u8]) -> Vec<u8> {
    // Its id has 24 bytes and ends the chunk.
    [&b"\x81\xa3ack\xb8"[..], &chunk[chunk.len() - 24..]].concat()
}

#[test]
fn a_chunk_without_an_ack_is_sent_again_under_its_id() {
    let client = Client::fluentd().unit(3);
    let unit_bytes = bytes_of(client, 0..3);
    let (address, server) = server(unit_bytes, 2, forward_ack);
    let record = Sender::start(address, client, 0..6).join();
    assert_eq!(record.fault, None);
    assert_eq!(record.acked, [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        (record.units, record.reconnects, record.timed_out),
        (4, 2, 0)
    );
    let units = server.join().expect("no panic");
    assert_eq!(units[0], units[1]);
    assert_eq!(units[1], units[2]);
    assert_ne!(units[2], units[3]);
}

#[test]
fn who_does_not_resend_gives_up_at_its_deadline() {
    let client = Client::npm_forward();
    let unit_bytes = bytes_of(client, 0..10);
    let (address, server) = server(unit_bytes, 0, |_| Vec::new());
    let sender = Sender::start(address, client, 0..10);
    server.join().expect("the sender closes");
    let record = sender.finish();
    assert_eq!((record.timed_out, record.acked.len()), (1, 0));
}

#[test]
fn a_window_is_acked_in_parts_and_a_sign_of_life_is_none() {
    let client = Client::beats().unit(4).window(1);
    let unit_bytes = bytes_of(client, 0..4);
    let (address, server) = server(unit_bytes, 0, |_| {
        b"2A\0\0\0\x002A\0\0\0\x022A\0\0\0\x04".to_vec()
    });
    let record = Sender::start(address, client, 0..8).join();
    assert_eq!(record.fault, None);
    assert_eq!(record.acked, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((record.units, record.ack_ms.len()), (2, 2));
    server.join().expect("no panic");
}

#[test]
fn an_ack_of_what_was_not_sent_is_a_fault() {
    for (client, ack) in [
        (Client::beats().unit(4), &b"2A\0\0\0\x05"[..]),
        (Client::fluentd().unit(4), b"\x81\xa3ack\xa1x"),
        (Client::fluentd().unit(4), b"\x80"),
        (Client::syslog(Speaks::Lines).unit(4), b"hello"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let sender = Sender::start(listener.local_addr().expect("bound"), client, 0..8);
        let (mut stream, _) = listener.accept().expect("a sender");
        stream.read_exact(&mut [0; 300]).expect("a unit");
        stream.write_all(ack).expect("it reads");
        let record = sender.join();
        let is_syslog = client.speaks == Speaks::Lines;
        assert!(record.fault.is_some() || is_syslog, "{record:?}");
    }
}

/// A session of RELP: open, messages each with a transaction of its own, answers in order.
#[test]
fn relp_opens_and_numbers_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a sender");
        let mut open = vec![0; relp::open().len()];
        stream.read_exact(&mut open).expect("open");
        stream.write_all(b"1 rsp 6 200 OK\n").expect("it reads");
        let (mut held, mut answered, mut part) = (Vec::new(), 0, [0; 4096]);
        while answered < 300 {
            let len = stream.read(&mut part).expect("messages");
            held.extend_from_slice(&part[..len]);
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                let line = String::from_utf8(line).expect("text");
                answered += 1;
                let number = answered + 1;
                assert!(line.starts_with(&format!("{number} syslog ")), "{line}");
                let answer = format!("{number} rsp 6 200 OK\n");
                stream.write_all(answer.as_bytes()).expect("it reads");
            }
        }
    });
    let record = Sender::start(address, Client::librelp(), 0..300).join();
    assert_eq!(record.fault, None);
    assert_eq!((record.acked.len(), record.units), (300, 300));
    server.join().expect("no panic");
}
