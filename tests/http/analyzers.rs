//! Analyzers over HTTP.

use std::time::{Duration, Instant};
use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::{until, PATIENCE};

use crate::rig::Rig;

#[test]
fn packets_arrive_whole_with_their_headers() {
    let rig = Rig::start("--shards 1");
    let analyzer = HttpAnalyzer::start("a1", "ok");
    rig.up(&analyzer, 1.0);
    let mut client = Client::connect(rig.http);
    for first in 0..100 {
        let answer = client.post_packet(&packet("web-1", first * 10..first * 10 + 7));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    until("all are there", || analyzer.received().len() == 100);
    let received = analyzer.received();
    assert!(received.iter().all(|packet| packet.messages.len() == 7));
    let mut ids: Vec<&str> = received
        .iter()
        .map(|packet| packet.packet_id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100, "each packet has an id of its own");
    assert!(received.iter().all(|packet| packet.emitter == "web-1"));
    assert!(received
        .iter()
        .all(|packet| packet.content_type == "application/json"));
    let reports = rig.stop();
    assert_eq!(reports[0].balance.acked, 700);
}

/// Sends packets of numbered messages from 0 on, `sizes` in turn, over four connections; a packet that is
/// refused is sent again. Returns how many messages were taken in.
fn send_numbers(rig: &Rig, messages: u64, size_max: u64, mut at: impl FnMut(u64)) -> u64 {
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(rig.http)).collect();
    let (mut first, mut packets) = (0, 0);
    let mut progress = Instant::now();
    while first < messages {
        assert!(
            progress.elapsed() < PATIENCE,
            "{first} of {messages} were taken"
        );
        let size = (packets * 7 % size_max + 1).min(messages - first);
        let client = &mut clients[packets as usize % 4];
        let answer = client.post_packet(&packet("e", first..first + size));
        match answer.status {
            202 => {
                first += size;
                packets += 1;
                progress = Instant::now();
                at(first);
            }
            503 => std::thread::sleep(Duration::from_millis(20)),
            _ => panic!("{answer:?}"),
        }
    }
    first
}

fn numbers(messages: impl IntoIterator<Item = String>) -> Vec<u64> {
    let parse = |message: String| message.parse().expect("a number");
    messages.into_iter().map(parse).collect()
}

/// All of them, and how often one came twice.
fn assert_none_missing(mut got: Vec<u64>, messages: u64) -> usize {
    let count = got.len();
    got.sort_unstable();
    got.dedup();
    assert!(
        got.iter().copied().eq(0..messages),
        "{} of {messages}",
        got.len()
    );
    count - got.len()
}

#[test]
fn failed_posts_are_sent_again() {
    for mode in ["flaky", "close"] {
        let rig = Rig::start("--shards 2 --http-backoff 20ms --http-pool 3 --http-retries 20");
        let analyzer = HttpAnalyzer::start("a1", mode);
        rig.up(&analyzer, 1.0);
        send_numbers(&rig, 2000, 9, |_| {});
        let all = || rig.sum(|report| report.balance.acked) == 2000;
        until("all are ACKed", all);
        assert_none_missing(numbers(analyzer.messages()), 2000);
        let failures = rig.sum(|report| report.http_analyzers[0].failures);
        assert_eq!(failures > 0, mode == "flaky", "{mode}: {failures}");
        rig.stop();
    }
}

#[test]
fn what_an_analyzer_cannot_take_goes_to_another() {
    let rig = Rig::start("--shards 2 --http-backoff 10ms");
    let (bad, good) = (
        HttpAnalyzer::start("bad", "fail"),
        HttpAnalyzer::start("good", "ok"),
    );
    rig.up(&bad, 1.0);
    rig.up(&good, 1.0);
    send_numbers(&rig, 3000, 16, |_| {});
    until("all are ACKed", || {
        rig.sum(|report| report.balance.acked) == 3000
    });
    assert_none_missing(numbers(good.messages()), 3000);
    until("it is out of the roster", || {
        rig.operator
            .reports()
            .iter()
            .all(|report| report.roster.entries.len() == 1)
    });
    rig.stop();
}

#[test]
fn a_request_that_is_refused_before_it_was_sent_whole_is_sent_again() {
    let rig = Rig::start(
        "--shards 1 --http-backoff 20ms --http-pool 1 --max-frame 2MiB --http-body 2MiB",
    );
    let analyzer = HttpAnalyzer::start("a1", "early");
    rig.up(&analyzer, 1.0);
    let long = "x".repeat(1_900_000);
    let body = format!("{{\"emitterId\":\"e\",\"messages\":[{{\"message\":\"{long}\"}}]}}");
    let answer = Client::connect(rig.http).post_packet(&body);
    assert_eq!(answer.status, 202, "{answer:?}");
    until("it is ACKed", || {
        rig.sum(|report| report.balance.acked) == 1
    });
    assert_eq!(analyzer.messages(), [long]);
    assert_eq!(rig.sum(|report| report.counters.links_down), 0);
    let failures = rig.sum(|report| report.http_analyzers[0].failures);
    assert_eq!(failures, 2, "no more than it refused");
    rig.stop();
}

#[test]
fn messages_change_their_form_between_tcp_and_http() {
    // To HTTP first, from there by TCP, from there by HTTP again.
    let rig = Rig::start("--shards 1 --http-backoff 10ms --http-retries 0");
    let failing = HttpAnalyzer::start("failing", "fail");
    rig.up(&failing, 1.0);
    let mut client = Client::connect(rig.http);
    let sink = {
        for first in 0..20 {
            let answer = client.post_packet(&packet("e", first * 5..first * 5 + 5));
            assert!([202, 503].contains(&answer.status), "{answer:?}");
            if answer.status == 503 {
                break;
            }
        }
        rig.silent_sink(1.0)
    };
    let taken = rig.sum(|report| report.balance.received);
    assert!(taken >= 5, "one packet was taken at least");
    until("all by TCP", || sink.frames().len() as u64 == taken);
    for (severity, payload) in sink.frames() {
        let message: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
        assert_eq!((severity, message["level"].as_str()), (3, Some("info")));
    }
    let good = HttpAnalyzer::start("good", "ok");
    rig.up(&good, 1.0);
    drop(sink);
    until("all are ACKed", || {
        rig.sum(|report| report.balance.acked) == taken
    });
    // Each is the message that it was, not text that holds its JSON.
    assert_none_missing(numbers(good.messages()), taken);
    rig.stop();
}

/// The whole of it: `WEIR_FULL=1 cargo test --release --test http -- million --nocapture`.
#[test]
fn a_million_messages_one_analyzer_killed_and_back() {
    let messages = if std::env::var_os("WEIR_FULL").is_some() {
        1_000_000
    } else {
        20_000
    };
    let rig = Rig::start("--shards 2 --http-backoff 50ms");
    let weights = [0.4, 0.3, 0.2, 0.1];
    let mut analyzers: Vec<HttpAnalyzer> = (1..=4)
        .map(|number| HttpAnalyzer::start(&format!("a{number}"), "ok"))
        .collect();
    for (analyzer, weight) in analyzers.iter().zip(weights) {
        rig.up(analyzer, weight);
    }
    let mut victim = analyzers.remove(1);
    let (mut killed, mut back) = (false, false);
    send_numbers(&rig, messages, 64, |sent| {
        if !killed && sent > messages / 3 {
            killed = true;
            victim.kill();
        }
        if !back && sent > messages * 2 / 3 {
            back = true;
            victim.restart("ok");
            rig.up(&victim, 0.3);
        }
    });
    until("all are ACKed", || {
        rig.sum(|report| report.balance.acked) == messages
    });
    let reports = rig.operator.reports();
    let ledger = weir::control::view::books::ledger(&reports);
    for share in &ledger.analyzers {
        println!(
            "{}: {} messages, {:.1} its target, off by {:+.1}, bound {:.1}",
            share.analyzer, share.assigned, share.target, share.error, share.bound
        );
        assert!(share.error.abs() <= share.bound, "{share:?}");
    }
    analyzers.push(victim);
    let got = analyzers.iter().flat_map(HttpAnalyzer::messages);
    let twice = assert_none_missing(numbers(got), messages);
    println!("{messages} messages, {twice} twice");
    rig.stop();
}
