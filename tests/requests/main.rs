//! Analyzers that take requests in formats of their own, on real sockets. The servers are `receiver.py`: Elasticsearch,
//! a collector, Loki and Splunk are in no package here. It has parsers of its own and shares nothing with Weir.

mod formats;
mod identity;
mod secrets;
mod wrong;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use weir_testkit::receiver::Receiver;
use weir_testkit::wire::frame_of;
use weir_testkit::{until, Distributor};

/// A distributor with these analyzers, each of weight 1, whose lanes are up.
fn distributor(urls: &[String], flags: &str) -> Distributor {
    let analyzers: Vec<String> = (1..)
        .zip(urls)
        .map(|(number, url)| format!("--analyzer a{number}=1@{url}"))
        .collect();
    let distributor = Distributor::start(&format!(
        "--shards 1 --http 127.0.0.1:0 --health-interval 100ms {} {flags}",
        analyzers.join(" ")
    ));
    until("all analyzers are up", || {
        distributor.lines("analyzer up").len() >= urls.len()
    });
    distributor
}

/// Sends texts as frames of these severities.
fn send<'a>(emitters: SocketAddr, texts: impl IntoIterator<Item = (u8, &'a [u8])>) {
    let mut stream = TcpStream::connect(emitters).expect("connects");
    let mut bytes = Vec::new();
    for (severity, text) in texts {
        bytes.extend(frame_of(severity, text));
    }
    stream.write_all(&bytes).expect("writes");
}

/// So many texts, each another.
fn texts(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("message {number}"))
        .collect()
}

/// Sends so many of them.
fn send_texts(distributor: &Distributor, texts: &[String]) {
    send(
        distributor.emitters,
        texts.iter().map(|text| (3, text.as_bytes())),
    );
}
