//! Load and sink against each other and against small servers, on real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::Drive;
use crate::load::{Format, Gaps, LoadArgs};
use crate::sink::{Dialect, SinkArgs, Stream};

const PATIENCE: Duration = Duration::from_secs(5);

fn one_analyzer() -> SinkArgs {
    SinkArgs {
        weights: vec![1.0],
        ..SinkArgs::default()
    }
}

/// Sends `load` straight into a listening sink; what arrived is exact.
#[track_caller]
fn pour(load: &LoadArgs) -> Drive {
    let mut drive = Drive::new().expect("epoll");
    let stream = match load.format {
        Format::Frame => Stream::Frames,
        _ => Stream::Syslog,
    };
    let addresses = drive
        .attach_listening_sink(&one_analyzer(), stream)
        .expect("listens");
    drive.attach_load(load, addresses[0]).expect("connects");
    drive.start().expect("starts");
    drive
        .run_until(PATIENCE, Drive::is_all_delivered)
        .expect("runs");
    let sink = drive.sink.as_ref().expect("attached");
    let total = load.messages.expect("counted");
    assert_eq!(drive.sent(), total);
    assert_eq!(
        (
            sink.tally.set.missing(total),
            sink.tally.set.duplicates(),
            sink.tally.foreign
        ),
        (0, 0, 0)
    );
    drive
}

#[test]
fn every_format_arrives_in_the_firehose_and_in_the_open_loop() {
    for format in [Format::Frame, Format::Lf, Format::Octet] {
        for rate in [None, Some(200_000)] {
            pour(&LoadArgs {
                format,
                rate,
                connections: 7,
                messages: Some(20_011),
                ..LoadArgs::default()
            });
        }
    }
}

#[test]
fn lengths_bursts_and_poisson_gaps_lose_nothing_and_keep_the_rate() {
    let load = LoadArgs {
        size: "lognormal:400,1.2".parse().expect("valid"),
        schedule: Gaps::Poisson,
        rate: Some(50_000),
        burst: 20,
        connections: 16,
        messages: Some(25_000),
        ..LoadArgs::default()
    };
    let began = Instant::now();
    let drive = pour(&load);
    let seconds = began.elapsed().as_secs_f64();
    assert!(
        (0.4..3.0).contains(&seconds),
        "half a second was asked for: {seconds}"
    );
    let tally = &drive.sink.as_ref().expect("attached").tally;
    assert_eq!(tally.latency_ns.len(), 25_000, "each has an intended time");
}

#[test]
fn connections_come_and_go_without_a_loss() {
    for rate in [None, Some(20_000)] {
        let messages = if rate.is_some() { 10_000 } else { 2_000_000 };
        let load = LoadArgs {
            rate,
            churn: 300.0,
            connections: 8,
            messages: Some(messages),
            ..LoadArgs::default()
        };
        let drive = pour(&load);
        let churned = drive.load.as_ref().expect("attached").churned();
        assert!(churned > 10, "{churned} connections renewed");
    }
}

#[test]
fn what_comes_too_late_is_not_within_the_limit() {
    let mut drive = pour(&LoadArgs {
        rate: Some(10_000),
        messages: Some(1_000),
        ..LoadArgs::default()
    });
    let tally = &mut drive.sink.as_mut().expect("attached").tally;
    let all = tally.within(60_000_000_000);
    assert_eq!(all, 1_000);
    assert!(tally.within(1) < all, "nothing arrives within a nanosecond");
}

/// Takes one analyzer of `dialect`, sends it `messages` stamped frames at once, and returns the bytes
/// of its control stream with the time of each read, until it has been silent for a second.
fn distribute(
    dialect: Dialect,
    sink: SinkArgs,
    messages: u64,
) -> (Vec<u8>, Vec<(Duration, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let peer = thread::spawn(move || {
        let (mut link, _) = listener.accept().expect("the sink connects");
        let hello = if dialect == Dialect::Typed { 8 } else { 4 };
        link.read_exact(&mut vec![0; hello]).expect("hello");
        let mut frames = crate::wire::lay_frames(64, messages as usize);
        for (sequence, frame) in frames.chunks_exact_mut(64).enumerate() {
            crate::wire::Stamp {
                intended_ns: 0,
                sequence: sequence as u64,
            }
            .write(frame);
        }
        link.write_all(&frames).expect("sent");
        let began = Instant::now();
        link.set_read_timeout(Some(Duration::from_secs(1)))
            .expect("set");
        let (mut bytes, mut times) = (Vec::new(), Vec::new());
        let mut buffer = [0; 4096];
        while let Ok(len) = link.read(&mut buffer) {
            if len == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..len]);
            times.push((began.elapsed(), len));
        }
        (bytes, times)
    });
    let mut drive = Drive::new().expect("epoll");
    drive
        .attach_sink(
            &SinkArgs {
                dialect,
                weights: vec![1.0],
                ..sink
            },
            address,
        )
        .expect("connects");
    drive
        .run_until(PATIENCE, |d| {
            d.sink.as_ref().is_some_and(|s| s.open_links() == 0)
        })
        .expect("runs until the peer closes");
    assert_eq!(drive.delivered(), messages);
    peer.join().expect("no panic")
}

#[test]
fn typed_analyzers_ack_in_words_of_five_bytes() {
    let (bytes, _) = distribute(Dialect::Typed, SinkArgs::default(), 10);
    assert_eq!(bytes.len() % 5, 0, "{bytes:?}");
    assert_eq!(bytes[bytes.len() - 5..], [0, 0, 0, 0, 10]);
}

#[test]
fn a_delayed_ack_comes_once_and_late() {
    let sink = SinkArgs {
        ack_delay_us: 200_000,
        ..SinkArgs::default()
    };
    let (bytes, times) = distribute(Dialect::Compact, sink, 10);
    assert_eq!(bytes, [0x80, 0, 0, 10], "one word for all");
    assert!(times[0].0 >= Duration::from_millis(190), "{times:?}");
}

#[test]
fn a_thinking_analyzer_acks_when_it_is_through() {
    let sink = SinkArgs {
        think_us: 30_000,
        ..SinkArgs::default()
    };
    let (bytes, times) = distribute(Dialect::Compact, sink, 10);
    assert_eq!(bytes[bytes.len() - 4..], [0x80, 0, 0, 10]);
    let last = times.last().expect("an ACK").0;
    assert!(
        last >= Duration::from_millis(290),
        "10 messages of 30 ms: {times:?}"
    );
}

/// Answers 202 and 503 in turn, as long as somebody asks.
fn refuse_every_second() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("the load connects");
        let (mut bytes, mut buffer, mut count) = (Vec::new(), [0; 65536], 0);
        while let Ok(len) = client.read(&mut buffer) {
            if len == 0 {
                return;
            }
            bytes.extend_from_slice(&buffer[..len]);
            while let Some(end) = memchr::memmem::find(&bytes, b"]}") {
                bytes.drain(..end + 2);
                count += 1;
                let status = if count % 2 == 0 {
                    "503 Busy"
                } else {
                    "202 Accepted"
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                client.write_all(answer.as_bytes()).expect("answered");
            }
        }
    });
    address
}

#[test]
fn packets_that_are_refused_are_counted() {
    let load = LoadArgs {
        http: true,
        connections: 1,
        packet: 5,
        rate: Some(2_000),
        messages: Some(500),
        ..LoadArgs::default()
    };
    let mut drive = Drive::new().expect("epoll");
    drive
        .attach_load(&load, refuse_every_second())
        .expect("connects");
    drive.start().expect("starts");
    drive
        .run_until(PATIENCE, Drive::is_load_finished)
        .expect("runs");
    let answers = drive.load.as_ref().expect("attached").answers();
    assert_eq!((answers.taken, answers.refused), (250, 250));
}
