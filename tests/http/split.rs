//! Packets that are divided: each message goes its own way, and an answer that waits waits for all.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rig::Rig;
use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::{until, FrameSink, Random};

const JSON: &str = "Content-Type: application/json\r\n";
const LINES: &str = "Content-Type: application/x-ndjson\r\nX-Emitter-ID: e\r\n";
/// Shares of a shard are within this many messages of exact: docs/SHARES.md.
const BOUND: f64 = 2.68;
/// In `cargo test`; `WEIR_SPLIT_MESSAGES` says another number.
const MESSAGES: u64 = 20_000;
/// Largest packet.
const MESSAGES_MAX: u64 = 500;

/// Packets of 1 to 500 until there are so many messages; each is answered when all of it is ACKed.
fn post_packets(http: SocketAddr, messages: u64, seed: u64) -> u64 {
    let mut client = Client::connect(http);
    let mut random = Random::new(seed);
    let mut sent = 0;
    while sent < messages {
        let count = 1 + random.below(MESSAGES_MAX);
        let answer = client.post(
            "/logs?split=true&wait=acked",
            JSON,
            &packet("e", sent..sent + count),
        );
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["messageCount"].as_u64(), Some(count));
        sent += count;
    }
    sent
}

/// Shares of so many messages in packets, over both shards, towards analyzers of both kinds.
fn shares_are_exact(messages: u64) {
    const SHARDS: usize = 2;
    let rig = Rig::start(&format!("--shards {SHARDS} --http-messages 500"));
    let http = HttpAnalyzer::start("h", "ok");
    rig.up(&http, 2.0);
    let sinks: Vec<FrameSink> = [1.0, 3.0, 0.5].map(|weight| rig.sink(weight)).into();
    let posters: Vec<_> = (0..4)
        .map(|seed| {
            let address = rig.http;
            std::thread::spawn(move || post_packets(address, messages / 4, seed))
        })
        .collect();
    let sent: u64 = posters
        .into_iter()
        .map(|poster| poster.join().expect("answers"))
        .sum();
    until("reports have all of it", || {
        rig.sum(|report| report.http.messages) == sent
    });
    let got = [
        (2.0, http.messages().len()),
        (1.0, sinks[0].frames().len()),
        (3.0, sinks[1].frames().len()),
        (0.5, sinks[2].frames().len()),
    ];
    assert_eq!(
        got.iter().map(|(_, count)| *count as u64).sum::<u64>(),
        sent,
        "each once"
    );
    for (weight, count) in got {
        let due = sent as f64 * weight / 6.5;
        let off = (count as f64 - due).abs();
        assert!(
            off <= BOUND * SHARDS as f64,
            "weight {weight}: {count} of {sent}, {due:.2} due"
        );
    }
    let divided = rig.sum(|report| report.http.divided);
    assert_eq!(divided, rig.sum(|report| report.http.packets));
    rig.stop();
}

#[test]
fn shares_of_divided_packets_are_exact() {
    let messages = std::env::var("WEIR_SPLIT_MESSAGES");
    shares_are_exact(messages.map_or(MESSAGES, |text| text.parse().expect("a number of messages")));
}

/// A part that an analyzer over HTTP gets is the packet with fewer messages, under an id of its own.
#[test]
fn lines_are_divided_when_they_are_waited_for_and_packets_when_that_is_asked() {
    let rig = Rig::start("--shards 1");
    let analyzers = ["a", "b"].map(|name| HttpAnalyzer::start(name, "ok"));
    for analyzer in &analyzers {
        rig.up(analyzer, 1.0);
    }
    let lines: String = (0..10)
        .map(|n| format!("{{\"message\":\"{n}\"}}\n"))
        .collect();
    let json = packet("e", 0..10);
    let mut client = Client::connect(rig.http);
    for (target, headers, body, parts) in [
        ("/logs?wait=acked", LINES, &lines, 2),
        ("/logs?split=true&wait=acked", JSON, &json, 2),
        ("/logs?split=true", LINES, &lines, 2),
        ("/logs?wait=acked&split=false", LINES, &lines, 1),
        ("/logs?wait=acked", JSON, &json, 1),
        ("/logs", LINES, &lines, 1),
    ] {
        let before = analyzers
            .each_ref()
            .map(|analyzer| analyzer.received().len());
        let answer = client.post(target, headers, body);
        let status = if target.contains("wait") { 200 } else { 202 };
        assert_eq!(answer.status, status, "{target}: {answer:?}");
        let news = || {
            let new = analyzers.iter().zip(before);
            new.flat_map(|(analyzer, before)| analyzer.received().split_off(before))
                .collect::<Vec<_>>()
        };
        until("all of it is there", || {
            news()
                .iter()
                .map(|packet| packet.messages.len())
                .sum::<usize>()
                == 10
        });
        let news = news();
        assert_eq!(news.len(), parts, "{target} {headers}: {news:?}");
        assert!(news.iter().all(|packet| packet.emitter == "e"), "{news:?}");
        let id = answer.json()["packetId"]
            .as_str()
            .expect("an id")
            .to_owned();
        let is_whole = |packet: &weir_testkit::http::Received| packet.packet_id == id;
        assert_eq!(news.iter().any(is_whole), parts == 1, "{id}: {news:?}");
        assert!(
            parts == 1 || news[0].packet_id != news[1].packet_id,
            "{news:?}"
        );
        let sizes: Vec<usize> = news.iter().map(|packet| packet.messages.len()).collect();
        assert!(
            parts == 1 || sizes.iter().all(|size| (4..=6).contains(size)),
            "{sizes:?}"
        );
    }
    rig.stop();
}

/// A refusal of some is told with its number, when the others are through.
#[test]
fn what_is_refused_of_a_divided_packet_is_counted_in_the_answer() {
    let rig = Rig::start("--shards 1 --http-backoff 1h");
    let analyzers = ["a", "b"].map(|name| HttpAnalyzer::start(name, "picky"));
    for analyzer in &analyzers {
        rig.up(analyzer, 1.0);
    }
    let mut client = Client::connect(rig.http);
    let answer = client.post("/logs?split=true&wait=acked", JSON, &packet("e", 5..11));
    assert_eq!(answer.status, 422, "{answer:?}");
    let said = answer.json();
    let [messages, refused, open] =
        ["messageCount", "refused", "notAcked"].map(|name| said[name].as_u64().expect("a number"));
    assert!(
        messages == 6 && open == 0 && (2..=4).contains(&refused),
        "{answer:?}"
    );
    let detail = said["detail"].as_str().expect("text");
    let begins = format!("analyzers refuse {refused} of 6 messages of packet ");
    let ends = format!("{} are ACKed, 0 are on their way", 6 - refused);
    assert!(
        detail.starts_with(&begins) && detail.ends_with(&ends),
        "{detail}"
    );
    until("the books say so", || {
        rig.sum(|report| report.balance.dropped) == refused
            && rig.sum(|report| report.balance.acked) == 6 - refused
    });
    rig.stop();
}

/// Time that runs out says how many are not ACKed.
#[test]
fn one_analyzer_that_does_not_ack_holds_the_answer_up_with_its_messages_alone() {
    let rig = Rig::start("--shards 1 --http-request-timeout 400ms");
    let silent = rig.silent_sink(1.0);
    let _good = rig.sink(3.0);
    let mut client = Client::connect(rig.http);
    let answer = client.post("/logs?split=true&wait=acked", JSON, &packet("e", 0..100));
    assert_eq!(answer.status, 504, "{answer:?}");
    let open = answer.json()["notAcked"].as_u64().expect("a number");
    assert!((23..=27).contains(&open), "{answer:?}");
    silent.set_acks(true);
    until("it is delivered", || {
        rig.sum(|report| report.balance.acked) == 100
    });
    std::thread::sleep(Duration::from_millis(100));
    let answer = client.post("/logs?split=true&wait=acked", JSON, &packet("e", 0..100));
    assert_eq!(answer.status, 200, "{answer:?}");
    rig.stop();
}
