//! What clients are answered.

use std::time::Duration;

use serde_json::Value;

use crate::rig::Rig;
use weir_testkit::http::{packet, Client};
use weir_testkit::{stays, until};

const REFERENCE: &str = r#"{
    "emitterId": "web-server-1",
    "messages": [
      {"timestamp": "2024-01-15T10:30:00Z", "level": "info", "message": "User login successful",
       "source": "auth-service", "metadata": {"userId": "12345", "ip": "192.168.1.1"}},
      {"timestamp": "2024-01-15T10:30:01Z", "level": "warn", "message": "High memory usage detected",
       "source": "monitoring-service", "metadata": {"memoryUsage": "85%"}}
    ],
    "metadata": {"batchId": "batch-001", "priority": "normal"}
  }"#;

#[test]
fn a_packet_goes_to_a_tcp_analyzer_as_frames() {
    let rig = Rig::start("--shards 2");
    let mut client = Client::connect(rig.http);
    let early = client.post_packet(REFERENCE);
    assert_eq!(early.status, 503, "nobody is there: {early:?}");
    assert!(early.head.contains("Retry-After: 1"), "{early:?}");
    let sink = rig.sink(1.0);
    let answer = client.post_packet(REFERENCE);
    assert_eq!(answer.status, 202, "{answer:?}");
    let said = answer.json();
    assert_eq!(said["success"], true);
    assert_eq!(said["status"], "queued");
    assert_eq!(said["messageCount"], 2);
    assert_eq!(said["packetId"].as_str().map(str::len), Some(36));
    assert!(
        said["worker"].is_u64() && said["timestamp"].is_string(),
        "{said}"
    );
    until("two frames", || sink.frames().len() == 2);
    let frames = sink.frames();
    let (info, warn) = (&frames[0], &frames[1]);
    assert_eq!((info.0, warn.0), (3, 2), "severities");
    let message: Value = serde_json::from_str(&info.1).expect("JSON");
    assert_eq!(message["message"], "User login successful");
    assert_eq!(message["metadata"]["userId"], "12345");
    assert_eq!(message["timestamp"], "2024-01-15T10:30:00Z");
    assert_eq!(message["id"].as_str().map(str::len), Some(36));
    rig.stop();
}

#[test]
fn an_answer_that_waits_for_the_ack_comes_with_it() {
    let rig = Rig::start("--shards 1");
    let sink = rig.silent_sink(1.0);
    for (target, headers) in [
        ("/logs?wait=acked", ""),
        ("/logs", "Prefer: wait=acked\r\n"),
    ] {
        let mut client = Client::connect(rig.http);
        let before = sink.frames().len();
        let body = packet("e", 0..3);
        let headers = format!("Content-Type: application/json\r\n{headers}");
        let length = body.len();
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        client.send(request.as_bytes());
        until("three frames", || sink.frames().len() == before + 3);
        let waiting = || rig.sum(|report| report.http.waiting as u64);
        until("it waits", || waiting() == 1);
        stays("it waits", Duration::from_millis(300), || waiting() == 1);
        sink.set_acks(true);
        let answer = client.answer();
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (200, &Value::from("acked"))
        );
        sink.set_acks(false);
    }
    sink.set_acks(true);
    rig.stop();
}

#[test]
fn a_ticket_follows_its_messages_to_another_analyzer() {
    let rig = Rig::start("--shards 2");
    let first = rig.silent_sink(1.0);
    let mut client = Client::connect(rig.http);
    let body = packet("e", 0..5);
    let request = format!(
        "POST /logs?wait=acked HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(request.as_bytes());
    until("five frames", || first.frames().len() == 5);
    let second = rig.sink(1.0);
    drop(first);
    let answer = client.answer();
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (200, &Value::from("acked"))
    );
    assert_eq!(second.frames().len(), 5);
    rig.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let mut stream = Vec::new();
    for count in 1..=50 {
        let body = packet("e", 0..count);
        let wait = if count % 7 == 0 { "?wait=acked" } else { "" };
        stream.extend_from_slice(
            format!(
                "POST /logs{wait} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
    }
    for piece in stream.chunks(977) {
        client.send(piece);
        std::thread::sleep(Duration::from_micros(300));
    }
    for count in 1..=50 {
        let answer = client.answer();
        let status = if count % 7 == 0 { 200 } else { 202 };
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["messageCount"], count);
    }
    until("all frames", || sink.frames().len() == 50 * 51 / 2);
    rig.stop();
}

#[test]
fn web_pages_of_allowed_origins_may_read_answers() {
    let allowed = "https://logs.example.org";
    let rig = Rig::start(&format!("--shards 1 --cors {allowed}"));
    let mut client = Client::connect(rig.http);
    for (origin, is_allowed) in [(allowed, true), ("https://evil.example.org", false)] {
        let headers = format!("Content-Type: application/json\r\nOrigin: {origin}\r\n");
        let answer = client.post("/logs", &headers, &packet("e", 0..1));
        let header = format!("Access-Control-Allow-Origin: {allowed}\r\n");
        assert_eq!(answer.head.contains(&header), is_allowed, "{answer:?}");
        assert!(
            answer.head.contains("X-Content-Type-Options: nosniff"),
            "{answer:?}"
        );
    }
    rig.stop();
    let rig = Rig::start("--shards 1");
    let mut client = Client::connect(rig.http);
    let headers = format!("Content-Type: application/json\r\nOrigin: {allowed}\r\n");
    let answer = client.post("/logs", &headers, &packet("e", 0..1));
    assert!(
        !answer.head.contains("Access-Control"),
        "off by default: {answer:?}"
    );
    rig.stop();
}
