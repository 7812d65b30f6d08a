//! What analyzers over HTTP answer, and what it costs.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use weir::shard::RefusedPackets;

use crate::rig::Rig;
use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::until;

fn acked(rig: &Rig) -> u64 {
    rig.sum(|report| report.balance.acked)
}

fn dropped(rig: &Rig) -> u64 {
    rig.sum(|report| report.balance.dropped)
}

fn downs(rig: &Rig) -> u64 {
    rig.sum(|report| report.counters.links_down)
}

fn failures(rig: &Rig) -> u64 {
    let of = |report: &weir::shard::ShardReport| {
        let failures = report.http_analyzers.iter().map(|posts| posts.failures);
        failures.sum()
    };
    rig.sum(of)
}

/// `messages` messages of `bytes` letters.
fn packet_of(messages: usize, bytes: usize) -> String {
    let message = format!("{{\"message\":\"{}\"}}", "x".repeat(bytes));
    let all = vec![message; messages].join(",");
    format!("{{\"emitterId\":\"e\",\"messages\":[{all}],\"extra\":{{\"size\":7}}}}")
}

fn post(rig: &Rig, body: &str) -> u16 {
    let mut client = Client::connect(rig.http);
    let headers = "Content-Type: application/json\r\n";
    client.post("/logs?wait=acked", headers, body).status
}

fn kept(rig: &Rig) -> RefusedPackets {
    rig.operator.refused()
}

/// Pauses that no test outlives: what is tried again after one fails.
const NO_RETRY: &str = "--http-backoff 1h";

#[test]
fn what_one_refuses_another_takes() {
    let rig = Rig::start(&format!("--shards 2 {NO_RETRY}"));
    let picky = HttpAnalyzer::start("picky", "picky");
    let missing = HttpAnalyzer::start("missing", "status=404");
    let good = HttpAnalyzer::start("good", "ok");
    for analyzer in [&picky, &missing, &good] {
        rig.up(analyzer, 1.0);
    }
    let mut client = Client::connect(rig.http);
    for first in 0..200 {
        let answer = client.post_packet(&packet("e", first * 5..first * 5 + 5));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    assert_eq!(post(&rig, &packet("e", 1005..1010)), 200);
    until("all are ACKed", || acked(&rig) == 1005);
    assert_eq!((dropped(&rig), downs(&rig), failures(&rig)), (0, 0, 0));
    let mut got: Vec<u64> = [&picky, &missing, &good]
        .iter()
        .flat_map(|analyzer| analyzer.messages())
        .map(|message| message.parse().expect("a number"))
        .collect();
    got.sort_unstable();
    let wanted: Vec<u64> = (0..1000).chain(1005..1010).collect();
    assert_eq!(got, wanted, "each once");
    assert!(kept(&rig).packets.is_empty());
    rig.stop();
}

#[test]
fn what_all_refuse_is_kept_in_memory_and_costs_nobody_anything() {
    let rig = Rig::start(&format!("--shards 2 {NO_RETRY} --dead-letter-memory 2000"));
    let analyzers = ["a", "b", "c"].map(|name| HttpAnalyzer::start(name, "picky"));
    for analyzer in &analyzers {
        rig.up(analyzer, 1.0);
    }
    assert_eq!(post(&rig, &packet("e", 5..8)), 422);
    assert_eq!(post(&rig, &packet("e", 10..13)), 200);
    let first = kept(&rig);
    let [one] = first.packets.iter().collect::<Vec<_>>()[..] else {
        panic!("{first:?}");
    };
    assert_eq!((one.status, one.messages), (422, 3));
    let json: serde_json::Value = serde_json::from_slice(&one.packet).expect("JSON");
    assert_eq!(json["messages"][0]["message"], "5");
    let posts = |report: &weir::shard::ShardReport| {
        let refused = report.http_analyzers.iter().map(|posts| posts.refused);
        refused.sum()
    };
    until("each was asked once", || rig.sum(posts) == 3);
    for _ in 0..20 {
        assert_eq!(post(&rig, &packet("e", 15..18)), 422);
    }
    until("the books say so", || dropped(&rig) == 21 * 3);
    let (all, now) = (21, kept(&rig));
    assert!(!now.packets.is_empty(), "{now:?}");
    let counts = now.counts;
    assert!(counts.bytes <= 2000 && counts.packets == now.packets.len());
    assert_eq!(counts.forgotten + now.packets.len() as u64, all);
    assert_eq!(counts.forgotten_messages + counts.messages, 3 * all);
    assert_eq!((downs(&rig), failures(&rig)), (0, 0));
    rig.stop();
}

#[test]
fn a_packet_too_large_for_all_is_halved_until_it_fits() {
    let rig = Rig::start(&format!("--shards 1 {NO_RETRY} --http-joined-bytes 20KiB"));
    let analyzers = ["a", "b", "c", "d"].map(|name| HttpAnalyzer::start(name, "limit=10000"));
    for analyzer in &analyzers {
        rig.up(analyzer, 1.0);
    }
    assert_eq!(post(&rig, &packet_of(700, 200)), 200, "150 kB");
    assert_eq!(post(&rig, &packet_of(1, 150_000)), 422);
    // Single ones that came by TCP are joined to more than the analyzers take.
    let mut stream = TcpStream::connect(rig.emitters).expect("a listener");
    let mut frame = vec![0, 0, 1, 5, 3];
    frame.extend_from_slice(&[b'y'; 256]);
    stream.write_all(&frame.repeat(1000)).expect("sent");
    until("all are ACKed", || acked(&rig) == 1700);
    let got: Vec<String> = analyzers.iter().flat_map(HttpAnalyzer::messages).collect();
    let count = |letter: char| got.iter().filter(|text| text.starts_with(letter)).count();
    assert_eq!((count('x'), count('y')), (700, 1000), "each once");
    let mut ids: Vec<String> = analyzers
        .iter()
        .flat_map(|analyzer| analyzer.received())
        .map(|packet| packet.packet_id)
        .collect();
    let packets = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), packets, "each part has an id of its own");
    assert_eq!((downs(&rig), failures(&rig), dropped(&rig)), (0, 0, 1));
    assert_eq!(kept(&rig).packets[0].status, 413);
    rig.stop();
}

#[test]
fn parts_of_a_packet_find_their_ways_one_by_one() {
    let rig = Rig::start(&format!("--shards 1 {NO_RETRY}"));
    let small = HttpAnalyzer::start("small", "limit=2000");
    rig.up(&small, 1000.0);
    // Two of a hundred are too large: they go to an analyzer over TCP, which is there by then.
    let tcp = rig.sink(0.001);
    let mut messages = vec!["{\"message\":\"s\"}".to_owned(); 100];
    for large in [30, 71] {
        messages[large] = format!("{{\"message\":\"{}\"}}", "L".repeat(3000));
    }
    let all = messages.join(",");
    let body = format!("{{\"emitterId\":\"e\",\"messages\":[{all}]}}");
    assert_eq!(post(&rig, &body), 200);
    until("all are ACKed", || acked(&rig) == 100);
    assert_eq!(small.messages().len(), 98);
    let frames = tcp.frames();
    assert!(frames.len() == 2 && frames.iter().all(|(_, text)| text.contains("LLL")));
    assert_eq!((downs(&rig), dropped(&rig)), (0, 0));
    rig.stop();
}

#[test]
fn nothing_is_lost_when_all_analyzers_are_misconfigured() {
    let rig = Rig::start("--shards 1 --http-backoff 50ms");
    let mut wrong = ["a", "b"].map(|name| HttpAnalyzer::start(name, "status=404"));
    for analyzer in &wrong {
        rig.up(analyzer, 1.0);
    }
    let mut client = Client::connect(rig.http);
    for first in 0..20 {
        let answer = client.post_packet(&packet("e", first * 5..first * 5 + 5));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let refusals = || rig.sum(|report| report.http_analyzers.iter().map(|a| a.refused).sum());
    until("they were asked again and again", || refusals() >= 100);
    assert_eq!((downs(&rig), dropped(&rig), acked(&rig)), (0, 0, 0));
    wrong[0].kill();
    wrong[0].restart("ok");
    rig.up(&wrong[0], 1.0);
    until("all are ACKed", || acked(&rig) == 100);
    assert_eq!((dropped(&rig), wrong[0].messages().len()), (0, 100));
    assert_eq!(downs(&rig), 1, "the one that was killed");
    rig.stop();
}

#[test]
fn one_that_nobody_may_take_does_not_wait_for_ever() {
    // Of two analyzers that take all the others.
    let rig = Rig::start("--shards 1 --http-backoff 20ms");
    let analyzers = ["a", "b"].map(|name| HttpAnalyzer::start(name, "forbidding"));
    for analyzer in &analyzers {
        rig.up(analyzer, 1.0);
    }
    let mut client = Client::connect(rig.http);
    let mut forbidden = Client::connect(rig.http);
    let body = packet("e", 5..6);
    forbidden.send(
        format!("POST /logs?wait=acked HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
    );
    until("it is set aside", || {
        client.post_packet(&packet("e", 10..11));
        dropped(&rig) == 1
    });
    assert_eq!(forbidden.answer().status, 422);
    assert_eq!((kept(&rig).packets[0].status, downs(&rig)), (403, 0));
    rig.stop();
}

#[test]
fn nobody_there_is_known_at_once() {
    let rig = Rig::start(&format!("--shards 2 {NO_RETRY}"));
    let mut dies = HttpAnalyzer::start("dies", "slow");
    let lives = HttpAnalyzer::start("lives", "ok");
    rig.up(&dies, 1.0);
    rig.up(&lives, 1.0);
    let mut client = Client::connect(rig.http);
    for first in 0..100 {
        if first == 50 {
            dies.kill();
        }
        let answer = client.post_packet(&packet("e", first * 2..first * 2 + 2));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    until("all are ACKed", || acked(&rig) == 200);
    assert_eq!(dropped(&rig), 0);
    let mut got: Vec<String> = [dies.messages(), lives.messages()].concat();
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 200);
    rig.stop();
}

#[test]
fn who_asks_for_patience_gets_it() {
    for (status, again) in [(429, "2"), (503, "2"), (425, "2")] {
        let rig = Rig::start("--shards 1 --http-backoff 10ms");
        let busy = HttpAnalyzer::start("busy", &format!("once={status}:{again}"));
        rig.up(&busy, 1.0);
        let began = Instant::now();
        assert_eq!(post(&rig, &packet("e", 0..3)), 200);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(2), "{status}: {took:?}");
        let posts = rig.sum(|report| report.http_analyzers[0].posts);
        assert_eq!((posts, downs(&rig)), (2, 0), "{status}");
        rig.stop();
    }
}

/// One analyzer that will ask for 50 s of patience, and gets all until then; one that is idle.
fn busy_and_good() -> (Rig, HttpAnalyzer, HttpAnalyzer) {
    let rig = Rig::start("--shards 1 --http-backoff 10ms");
    let busy = HttpAnalyzer::start("busy", "once=429:50");
    let good = HttpAnalyzer::start("good", "ok");
    rig.up(&busy, 1000.0);
    rig.up(&good, 0.001);
    (rig, busy, good)
}

#[test]
fn meanwhile_others_get_its_share() {
    let (rig, _busy, good) = busy_and_good();
    let mut client = Client::connect(rig.http);
    client.post_packet(&packet("e", 0..1));
    until("it has asked", || failures(&rig) == 1);
    for first in 1..50 {
        assert_eq!(
            client.post_packet(&packet("e", first..first + 1)).status,
            202
        );
    }
    until("the others are with the other", || {
        good.messages().len() == 49
    });
    rig.operator.http_down(1).expect("an order");
    until("all are", || good.messages().len() == 50);
    rig.stop();
}

/// What waits for an analyzer that asks for more patience than the drain has is not abandoned beside one that is idle.
#[test]
fn a_drain_does_not_wait_for_the_patient() {
    let (rig, _busy, good) = busy_and_good();
    let mut client = Client::connect(rig.http);
    assert_eq!(client.post_packet(&packet("e", 0..1)).status, 202);
    until("it has asked", || failures(&rig) == 1);
    drop(client);
    rig.stop();
    assert_eq!(good.messages().len(), 1);
}

#[test]
fn answers_of_odd_servers_are_answers() {
    for mode in ["headers=256", "lf", "slowbody"] {
        let rig = Rig::start(&format!("--shards 1 {NO_RETRY} --http-pool 2"));
        let odd = HttpAnalyzer::start("odd", mode);
        rig.up(&odd, 1.0);
        for first in 0..6 {
            assert_eq!(post(&rig, &packet("e", first..first + 1)), 200, "{mode}");
        }
        assert_eq!(odd.messages().len(), 6, "{mode}: each once");
        assert_eq!((failures(&rig), downs(&rig)), (0, 0), "{mode}");
        rig.stop();
    }
}
