//! Load whose every message has a name: `t0`, `t1`, ... by TCP and `h0`, `h1`, ... by HTTP.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use weir_testkit::http::{Client, HttpAnalyzer};
use weir_testkit::wire::frame_of;
use weir_testkit::FrameSink;

/// Messages of one packet.
const PACKET: u64 = 5;

/// Both kinds, each on one connection that must last.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// Packets that were told to come later.
    too_many: Arc<AtomicU64>,
    tcp: JoinHandle<u64>,
    http: JoinHandle<u64>,
}

impl Load {
    /// About so many messages a second, a fifth of them by HTTP.
    pub fn start(emitters: SocketAddr, http: SocketAddr, rate: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let too_many = Arc::new(AtomicU64::new(0));
        let tcp = {
            let stop = Arc::clone(&stop);
            let mut stream = TcpStream::connect(emitters).expect("a listener");
            std::thread::spawn(move || {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut bytes = Vec::new();
                    for _ in 0..(rate * 4 / 5 / 200).max(1) {
                        bytes.extend(frame_of(3, format!("t{sent}").as_bytes()));
                        sent += 1;
                    }
                    stream.write_all(&bytes).expect("the connection lasts");
                    std::thread::sleep(Duration::from_millis(5));
                }
                sent
            })
        };
        let http = {
            let (stop, too_many) = (Arc::clone(&stop), Arc::clone(&too_many));
            let mut client = Client::connect(http);
            let pause = Duration::from_micros(1_000_000 * PACKET * 5 / rate);
            std::thread::spawn(move || {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.post_packet(&packet(sent..sent + PACKET));
                    match answer.status {
                        202 => sent += PACKET,
                        429 => {
                            assert!(answer.head.contains("Retry-After: "), "{answer:?}");
                            too_many.fetch_add(1, Ordering::Relaxed);
                        }
                        503 => assert!(answer.head.contains("Retry-After: "), "{answer:?}"),
                        _ => panic!("{answer:?}"),
                    }
                    std::thread::sleep(pause);
                }
                sent
            })
        };
        Load {
            stop,
            too_many,
            tcp,
            http,
        }
    }

    /// Packets that were told to come later, so far.
    pub fn too_many(&self) -> u64 {
        self.too_many.load(Ordering::Relaxed)
    }

    /// Both connections still work.
    pub fn assert_goes_on(&self) {
        assert!(!self.tcp.is_finished(), "the TCP connection broke");
        assert!(!self.http.is_finished(), "the HTTP connection broke");
    }

    /// Ends; the names of all messages that were taken.
    pub fn end(self) -> BTreeSet<String> {
        self.assert_goes_on();
        self.stop.store(true, Ordering::Relaxed);
        let tcp = self.tcp.join().expect("the TCP connection lasts");
        let http = self.http.join().expect("the HTTP connection lasts");
        let named = |letter, sent| (0..sent).map(move |n| format!("{letter}{n}"));
        named('t', tcp).chain(named('h', http)).collect()
    }
}

fn packet(numbers: std::ops::Range<u64>) -> String {
    let message = |n: u64| format!("{{\"level\":\"info\",\"message\":\"h{n}\"}}");
    let messages: Vec<String> = numbers.map(message).collect();
    let messages = messages.join(",");
    format!("{{\"emitterId\":\"load\",\"messages\":[{messages}]}}")
}

/// Name of a message. One that came by HTTP is its JSON for a TCP analyzer, and stays that when it is
/// re-routed from there to an analyzer over HTTP.
fn name(text: String) -> String {
    if !text.starts_with('{') {
        return text;
    }
    let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    message["message"].as_str().expect("text").to_owned()
}

/// Everything that was taken has arrived, and nothing else has. How many came more than once.
pub fn assert_all_arrived(
    taken: &BTreeSet<String>,
    sinks: &[&FrameSink],
    analyzers: &[&HttpAnalyzer],
) -> usize {
    let by_tcp = sinks.iter().flat_map(|sink| sink.frames());
    let by_tcp = by_tcp.map(|(_, payload)| payload);
    let by_http = analyzers.iter().flat_map(|analyzer| analyzer.messages());
    let arrived: Vec<String> = by_tcp.chain(by_http).map(name).collect();
    let all: BTreeSet<String> = arrived.iter().cloned().collect();
    let missing: Vec<&String> = taken.difference(&all).take(10).collect();
    assert!(missing.is_empty(), "missing, such as {missing:?}");
    let strangers: Vec<&String> = all.difference(taken).take(10).collect();
    assert!(strangers.is_empty(), "strangers, such as {strangers:?}");
    arrived.len() - all.len()
}
