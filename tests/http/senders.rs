//! What other programs send: marks, slashes, levels, lengths, queries; and what they are told.

use serde_json::Value;

use crate::rig::Rig;
use weir_testkit::http::{packet, Client};
use weir_testkit::{until, FrameSink};

const JSON: &str = "Content-Type: application/json\r\n";
const ONE: &str = r#"{"emitterId":"e","messages":[{"message":"x"}]}"#;

fn severities(sink: &FrameSink, count: usize) -> Vec<u8> {
    until("the frames are there", || sink.frames().len() == count);
    sink.frames().iter().map(|frame| frame.0).collect()
}

#[test]
fn marks_slashes_and_content_types_of_others_are_taken() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let marked = format!("\u{feff}{ONE}");
    let lines = "\u{feff}{\"message\":\"a\"}\n\u{feff}{\"message\":\"b\"}\n";
    for (target, kind, body) in [
        ("/logs/", "application/json", ONE),
        ("/logs//", "application/json", ONE),
        ("/logs", "application/json", marked.as_str()),
        ("/logs?emitterId=e", "application/x-ndjson", lines),
        ("/logs/?emitterId=e", "application/ndjson", lines),
        ("/logs?emitterId=e", "application/jsonl", lines),
    ] {
        let answer = client.post(target, &format!("Content-Type: {kind}\r\n"), body);
        assert_eq!(answer.status, 202, "{target} {kind}: {answer:?}");
    }
    until("all are there", || sink.frames().len() == 9);
    rig.stop();
}

#[test]
fn levels_of_common_loggers_are_known_and_others_are_told() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let levels =
        r#""CRITICAL" "emerg" "alert" "panic" "err" "severe" "Warning" "notice" 60 50 10 "6" 4"#;
    let messages: Vec<String> = levels
        .split(' ')
        .map(|level| format!("{{\"level\":{level}}}"))
        .collect();
    let body = format!("{{\"emitterId\":7,\"messages\":[{}]}}", messages.join(","));
    let answer = client.post_packet(&body);
    assert_eq!(
        (answer.status, &answer.json()["warning"]),
        (202, &Value::Null)
    );
    assert_eq!(
        severities(&sink, 13),
        [0, 0, 0, 0, 1, 1, 2, 3, 0, 1, 5, 3, 2]
    );
    let body =
        r#"{"emitterId":"e","messages":[{"level":"loud"},{"level":"info"},{"level":99999999999}]}"#;
    let said = client.post_packet(body).json();
    let warning = said["warning"].as_str().unwrap_or_default();
    assert!(
        warning.contains("2 of the messages") && warning.contains("loud"),
        "{said}"
    );
    until("they are counted", || {
        rig.sum(|report| report.http.unknown_levels) == 2
    });
    // Also when the answer comes with the ACK.
    let said = client.post("/logs?wait=acked", JSON, body);
    assert_eq!(said.status, 200);
    assert!(said.json()["warning"].is_string(), "{said:?}");
    rig.stop();
}

#[test]
fn a_missing_length_is_named_and_answered_once() {
    let rig = Rig::start("--shards 1");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    client.send(format!("POST /logs HTTP/1.1\r\nHost: x\r\n{JSON}\r\n{ONE}").as_bytes());
    let answer = client.answer();
    assert_eq!(answer.status, 411, "{answer:?}");
    assert!(
        answer.body.contains("Content-Length") && answer.body.contains("the body is empty"),
        "{answer:?}"
    );
    client.assert_closed();
    // The body is sent later: it is not read as a request either.
    let mut client = Client::connect(rig.http);
    client.send(b"POST /health HTTP/1.1\r\nHost: x\r\n\r\n");
    let first = client.answer();
    let _ = client.try_send(ONE.as_bytes());
    assert!(first.head.contains("Connection: close"), "{first:?}");
    client.assert_closed();
    let mut client = Client::connect(rig.http);
    let answer = client.post_packet("");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("the body is empty"), "{answer:?}");
    assert_eq!(client.post_packet(ONE).status, 202, "it goes on");
    rig.until_refused("bad_method", 0);
    rig.stop();
}

#[test]
fn a_query_that_is_not_known_is_refused() {
    let rig = Rig::start("--shards 1");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    for (target, said) in [
        ("/logs?wait=true", "allowed: acked, queued"),
        ("/logs?wait=ACKED", "allowed: acked, queued"),
        ("/logs?wait", "allowed: acked, queued"),
        (
            "/logs?wiat=acked",
            "\\\"wiat\\\": not known; allowed: wait, split, emitterId",
        ),
        ("/logs?wait=acked&wait=queued", "twice"),
        ("/logs?wait=%zz", "percent"),
        (
            "/logs?split=yes",
            "query split=\\\"yes\\\": allowed: true, false",
        ),
        ("/logs?split=true&split=true", "query split is there twice"),
    ] {
        let answer = client.post(target, JSON, ONE);
        assert_eq!(answer.status, 400, "{target}: {answer:?}");
        assert!(answer.body.contains(said), "{target}: {answer:?}");
    }
    for (prefer, status) in [
        ("wait=true", 400),
        ("wait=10", 202),
        ("respond-async", 202),
        ("wait=\"acked\"", 200),
        ("respond-async, wait = acked", 200),
    ] {
        let answer = client.post("/logs", &format!("{JSON}Prefer: {prefer}\r\n"), ONE);
        assert_eq!(answer.status, status, "{prefer}: {answer:?}");
        let applied = answer.head.contains("Preference-Applied: wait=acked\r\n");
        assert_eq!(applied, status == 200, "{answer:?}");
    }
    assert_eq!(client.post("/logs?wait=queued&", JSON, ONE).status, 202);
    rig.stop();
}

#[test]
fn lines_under_the_wrong_name_get_a_hint() {
    let rig = Rig::start("--shards 1");
    let mut client = Client::connect(rig.http);
    let answer = client.post_packet(&format!("{ONE}\n{ONE}\n"));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("application/x-ndjson"), "{answer:?}");
    rig.stop();
}

#[test]
fn proxy_headers_are_named() {
    let rig = Rig::start("--shards 1");
    for header in [
        &b"PROXY TCP4 10.1.1.1 10.1.1.2 4242 3000\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
    ] {
        let mut client = Client::connect(rig.http);
        client.send(&[header, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
        let answer = client.answer();
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("PROXY header"), "{answer:?}");
        client.assert_closed();
    }
    rig.until_refused("proxy_header", 2);
    rig.stop();
}

#[test]
fn white_space_around_a_length_is_no_part_of_it() {
    let rig = Rig::start("--shards 1");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    for length in ["  46", "\t46", " 46 ", "46\t "] {
        assert_eq!(ONE.len(), 46);
        client.send(
            format!("POST /logs HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length:{length}\r\n\r\n{ONE}")
                .as_bytes(),
        );
        assert_eq!(client.answer().status, 202, "{length:?}");
    }
    rig.stop();
}

#[test]
fn every_answer_has_a_date() {
    let rig = Rig::start("--shards 1");
    let mut client = Client::connect(rig.http);
    for answer in [
        client.post_packet("{"),
        client.post_packet(ONE),
        client.post("/health", "", ""),
    ] {
        let date = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("Date: "));
        let date = date.unwrap_or_else(|| panic!("{answer:?}"));
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    }
    rig.stop();
}

/// What analyzers of other languages refuse, and what they read in two ways.
#[test]
fn poison_is_refused_or_repaired_at_the_door() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    for (message, error) in [
        (r#"{"message":1e9999}"#, "number_too_large"),
        (r#"{"metadata":{"a":[-1e400]}}"#, "number_too_large"),
        (r#"{"a":1,"a":2}"#, "duplicate_field"),
        (
            r#"{"metadata":{"b":[{"c":1,"\u0063":2}]}}"#,
            "duplicate_field",
        ),
    ] {
        let body = format!("{{\"emitterId\":\"e\",\"messages\":[{message}]}}");
        let answer = client.post_packet(&body);
        assert_eq!(answer.status, 400, "{message}: {answer:?}");
        assert!(answer.json()["field"].is_string(), "{answer:?}");
        rig.until_refused(
            error,
            if message.contains("message\"") || message.contains("\"a\":1,") {
                1
            } else {
                2
            },
        );
    }
    let body =
        r#"{"emitterId":"e","messages":[{"message":"cut \ud83d","k\udc00":"\ud83d\ude00"}]}"#;
    let answer = client.post_packet(body);
    assert_eq!(answer.status, 202, "{answer:?}");
    let warning = answer.json()["warning"].to_string();
    assert!(warning.contains("2 surrogates"), "{warning}");
    until("it is there", || sink.frames().len() == 1);
    let message: Value = serde_json::from_str(&sink.frames()[0].1).expect("JSON");
    assert_eq!(message["message"], "cut \u{fffd}");
    assert_eq!(message["k\u{fffd}"], "\u{1f600}");
    rig.stop();
}

#[test]
fn what_was_left_out_is_as_with_the_reference() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let body = r#"{"emitterId":42,"messages":[{"message":"x"},{"level":30,"metadata":null}]}"#;
    assert_eq!(client.post_packet(body).status, 202);
    until("they are there", || sink.frames().len() == 2);
    for (_, text) in sink.frames() {
        let message: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(message["metadata"], serde_json::json!({}), "{text}");
        assert_eq!(message["source"], 42, "{text}");
    }
    rig.stop();
}

#[test]
fn strangers_are_refused() {
    let rig = Rig::start("--shards 1 --http-hosts weir.example.org");
    let _sink = rig.sink(1.0);
    let post = |host: &str, origin: &str| {
        let mut client = Client::connect(rig.http);
        let length = ONE.len();
        client.send(
            format!("POST /logs HTTP/1.1\r\nHost: {host}\r\n{JSON}{origin}Content-Length: {length}\r\n\r\n{ONE}")
                .as_bytes(),
        );
        client.answer()
    };
    let evil = post(
        "attacker.example:3000",
        "Origin: http://attacker.example:3000\r\n",
    );
    assert_eq!(evil.status, 403, "{evil:?}");
    assert!(evil.body.contains("--http-hosts"), "{evil:?}");
    let foreign = post("127.0.0.1:3000", "Origin: http://attacker.example\r\n");
    assert_eq!(foreign.status, 403, "{foreign:?}");
    assert!(foreign.body.contains("--cors"), "{foreign:?}");
    rig.until_refused("host_not_allowed", 1);
    rig.until_refused("origin_not_allowed", 1);
    for (host, origin) in [
        ("weir.example.org", "Origin: https://weir.example.org\r\n"),
        ("127.0.0.1:3000", "Origin: http://127.0.0.1:3000\r\n"),
        // No browser: it would have said for whom.
        ("logs.corp.example.com", ""),
    ] {
        assert_eq!(post(host, origin).status, 202, "{host} {origin}");
    }
    rig.stop();
}

#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let rig = Rig::start(
        "--shards 1 --rate-limit 2/1h --allow-http 203.0.113.0/24 --max-per-address 1 --trusted-proxies 127.0.0.0/8",
    );
    let _sink = rig.sink(1.0);
    let _another = Client::connect(rig.http);
    let mut client = Client::connect(rig.http);
    let mut post = |forwarded: &str| {
        let headers = format!("{JSON}X-Forwarded-For: {forwarded}\r\n");
        client.post("/logs", &headers, &packet("e", 0..1))
    };
    for (forwarded, status, left) in [
        ("203.0.113.1", 202, Some("1")),
        ("203.0.113.1", 202, Some("0")),
        ("203.0.113.1", 429, Some("0")),
        ("203.0.113.1, 203.0.113.2", 202, Some("1")),
        ("203.0.113.9, 198.51.100.1, 127.0.0.9", 403, None),
        ("203.0.113.9, unknown", 403, None),
    ] {
        let answer = post(forwarded);
        assert_eq!(answer.status, status, "{forwarded}: {answer:?}");
        let found = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("RateLimit-Remaining: "));
        assert_eq!(found, left, "{answer:?}");
        if left.is_some() {
            for line in ["RateLimit-Limit: 2\r\n", "RateLimit-Policy: 2;w=3600\r\n"] {
                assert!(answer.head.contains(line), "{answer:?}");
            }
        }
    }
    rig.until_refused("address_not_allowed", 1);
    rig.until_refused("address_unknown", 1);
    rig.stop();
    // Whom nobody trusts cannot choose an address.
    let rig = Rig::start("--shards 1 --rate-limit 1/1h");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    for (forwarded, status) in [("203.0.113.1", 202), ("203.0.113.2", 429)] {
        let headers = format!("{JSON}X-Forwarded-For: {forwarded}\r\n");
        assert_eq!(client.post("/logs", &headers, ONE).status, status);
    }
    rig.stop();
}

#[test]
fn forwarded_of_a_trusted_proxy_is_read_request_by_request() {
    let rig = Rig::start(
        "--shards 1 --rate-limit 2/1h --allow-http 203.0.113.0/24,2001:db8::/32 --trusted-proxies 127.0.0.0/8 --proxy-header forwarded",
    );
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let mut post = |headers: &[u8]| {
        let body = packet("e", 0..1);
        let length = body.len();
        let head =
            format!("POST /logs HTTP/1.1\r\nHost: weir\r\n{JSON}Content-Length: {length}\r\n");
        client.send(&[head.as_bytes(), headers, b"\r\n", body.as_bytes()].concat());
        client.answer()
    };
    let cases: [(&[u8], u16, &str); 12] = [
        (b"Forwarded: for=203.0.113.1;proto=https\r\n", 202, ""),
        (b"Forwarded: for=203.0.113.1\r\n", 202, ""),
        (b"Forwarded: for=203.0.113.1\r\n", 429, "used up"),
        // Another client of the same connection.
        (b"Forwarded: for=\"[2001:db8::7]:4711\"\r\n", 202, ""),
        (
            b"Forwarded: for=203.0.113.1, for=198.51.100.1, for=127.0.0.9\r\n",
            403,
            "198.51.100.1",
        ),
        // The word of a client that its proxy passed on.
        (
            b"X-Forwarded-For: 203.0.113.2\r\nForwarded: for=198.51.100.1\r\n",
            403,
            "198.51.100.1",
        ),
        (b"X-Forwarded-For: 203.0.113.2\r\n", 403, "127.0.0.1"),
        (b"Forwarded: for=\"evil, for=203.0.113.3\r\n", 202, ""),
        (b"Forwarded: \xff\xfe, for=203.0.113.3\r\n", 202, ""),
        (b"Forwarded: for=unknown\r\n", 403, "does not say who asks"),
        (b"Forwarded: for=_hidden\r\n", 403, "does not say who asks"),
        (
            b"Forwarded: for=203.0.113\r\n",
            403,
            "has \\\"203.0.113\\\"",
        ),
    ];
    for (headers, status, word) in cases {
        let answer = post(headers);
        let shown = headers.escape_ascii();
        assert_eq!(answer.status, status, "{shown}: {answer:?}");
        assert!(answer.body.contains(word), "{shown}: {answer:?}");
    }
    let answer = post(b"Forwarded: for=203.0.113.4\r\n");
    assert!(answer.head.contains("RateLimit-Remaining: 1"), "{answer:?}");
    // What another client of the connection has left is not told to whom nobody knows.
    client.send(b"POST /logs HTTP/1.1\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(!answer.head.contains("RateLimit"), "{answer:?}");
    rig.until_refused("address_not_allowed", 3);
    rig.until_refused("address_unknown", 3);
    rig.stop();
}

/// A line that is no text hides nothing: of nginx the proxy's address stands behind the client's word.
#[test]
fn bytes_that_are_no_text_hide_no_address() {
    let rig = Rig::start("--shards 1 --rate-limit 1/1h --trusted-proxies 127.0.0.0/8");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    for status in [202, 429] {
        let body = packet("e", 0..1);
        let length = body.len();
        let head =
            format!("POST /logs HTTP/1.1\r\nHost: weir\r\n{JSON}Content-Length: {length}\r\n");
        let forwarded = b"X-Forwarded-For: \xff, 203.0.113.1\r\n\r\n";
        client.send(&[head.as_bytes(), forwarded, body.as_bytes()].concat());
        assert_eq!(client.answer().status, status);
    }
    // The proxy itself has not asked.
    let answer = client.post("/logs", JSON, ONE);
    assert_eq!(answer.status, 202, "{answer:?}");
    rig.stop();
}
