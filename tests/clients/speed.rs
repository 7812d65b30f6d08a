//! How fast the clients are. Measured by hand, in a release build:
//! `cargo test --release --test clients speed -- --ignored --nocapture --test-threads 1`

use crate::fake::{listen, numbered_frame, Analyzer, Running};
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};
use weir::client::{analyzer, emitter};
use weir::protocol::control::Control;
use weir::protocol::native::BatchHeader;
use weir::protocol::Dialect;

/// CPU time of this thread's name is not measured: pin the process to one core to see a core's rate.
#[test]
#[ignore = "measures"]
fn emitter_rate() {
    for connections in [1, 64] {
        let (listener, addr) = listen();
        let mut options = emitter::Options::new(addr, "e1");
        (options.rate, options.batch, options.connections) = (0.0, 64, connections);
        options.duration = Some(Duration::from_secs(3));
        let running = Running::start(move |stop| emitter::run(&options, &stop).expect("emitter"));
        let sinks: Vec<_> = (0..connections)
            .map(|_| listener.accept().expect("accept").0)
            .map(|mut stream| {
                thread::spawn(move || {
                    let mut buffer = vec![0; 256 << 10];
                    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
                })
            })
            .collect();
        for sink in sinks {
            sink.join().expect("sink");
        }
        println!("{connections} connections: {}", running.join());
    }
}

#[test]
#[ignore = "measures"]
fn ten_thousand_connections() {
    const CONNECTIONS: u32 = 9_000; // both ends are in this process
    let (listener, addr) = listen();
    let mut options = emitter::Options::new(addr, "e1");
    (options.rate, options.connections) = (40_000.0, CONNECTIONS);
    options.duration = Some(Duration::from_secs(3));
    let running = Running::start(move |stop| emitter::run(&options, &stop).expect("emitter"));
    let mut sinks = Vec::new();
    for _ in 0..CONNECTIONS {
        sinks.push(listener.accept().expect("accept").0);
    }
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    for mut sink in sinks {
        while let Ok(count @ 1..) = sink.read(&mut buffer) {
            bytes += count;
        }
    }
    let report = running.join();
    println!("{report}");
    assert_eq!((report.messages, bytes), (120_000, 120_000 * 261));
}

#[test]
#[ignore = "measures"]
fn analyzer_rate() {
    const MESSAGES: u64 = 4_000_000;
    for dialect in [Dialect::Native, Dialect::Compact] {
        let (listener, addr) = listen();
        let mut options = analyzer::Options::new(addr, "a1");
        (options.dialect, options.ack_every) = (dialect, 10_000);
        options.count = None;
        let running = Running::start(move |stop| analyzer::run(&options, &stop).expect("analyzer"));
        let mut link = Analyzer::accept(&listener).welcomed(1, 0);
        let chunks: Vec<_> = (0..MESSAGES / 1000).step_by(1).collect();
        let started = Instant::now();
        let mut stream = link.stream.try_clone().expect("clone");
        let sender = thread::spawn(move || {
            let mut body = Vec::new();
            for chunk in chunks {
                body.clear();
                for n in chunk * 1000 + 1..=chunk * 1000 + 1000 {
                    let mut frame = numbered_frame("e1/0", n, 1);
                    frame.resize(261, b'.');
                    frame[..4].copy_from_slice(&261u32.to_be_bytes());
                    body.extend_from_slice(&frame);
                }
                if dialect == Dialect::Native {
                    let header = BatchHeader {
                        redelivered: false,
                        origin_shard: 0,
                        count: 1000,
                        body_bytes: body.len() as u32,
                        first_sequence: chunk * 1000 + 1,
                        origin_epoch: 7,
                    };
                    stream.write_all(&header.encode()).expect("write");
                }
                stream.write_all(&body).expect("write");
            }
        });
        while link.hear() != Control::Ack(MESSAGES) {}
        println!("{dialect}: {:?} for {MESSAGES} messages", started.elapsed());
        sender.join().expect("sender");
        running.raise_stop();
        drop(link);
        println!("{}", running.join());
    }
}
