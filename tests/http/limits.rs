//! Limits, forms of requests and of connections, and what a graceful close does to them.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::rig::Rig;
use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::{stays, until};

const JSON: &str = "Content-Type: application/json\r\n";

fn request(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn connections(rig: &Rig) -> u64 {
    rig.sum(|report| report.http.connections as u64)
}

#[test]
fn connections_live_as_long_as_their_clients_want() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let body = packet("e", 0..1);
    let length = body.len();
    let send = |version: &str, headers: &str| {
        format!("POST /logs HTTP/{version}\r\nHost: x\r\nContent-Length: {length}\r\n{JSON}{headers}\r\n{body}")
    };
    for (version, headers, stays, says) in [
        ("1.1", "", true, ""),
        (
            "1.1",
            "Connection: close\r\n",
            false,
            "\r\nConnection: close\r\n",
        ),
        ("1.0", "", false, "\r\nConnection: close\r\n"),
        (
            "1.0",
            "Connection: keep-alive\r\n",
            true,
            "\r\nConnection: keep-alive\r\n",
        ),
    ] {
        let mut client = Client::connect(rig.http);
        for _ in 0..3 {
            client.send(send(version, headers).as_bytes());
            let answer = client.answer();
            assert_eq!(answer.status, 202, "{answer:?}");
            assert!(
                answer.head.contains(says),
                "{version} {headers}: {answer:?}"
            );
            assert_eq!(answer.head.contains("Connection"), !says.is_empty());
            if !stays {
                client.assert_closed();
                break;
            }
        }
    }
    until("delivered", || sink.frames().len() == 8);
    drop(sink);
    until("nobody is there", || {
        rig.sum(|report| report.links as u64) == 0
    });
    // Also when the answer has a header of its own.
    let mut client = Client::connect(rig.http);
    client.send(send("1.0", "Connection: keep-alive\r\n").as_bytes());
    let answer = client.answer();
    assert_eq!(answer.status, 503, "{answer:?}");
    for header in ["\r\nRetry-After: 1\r\n", "\r\nConnection: keep-alive\r\n"] {
        assert!(answer.head.contains(header), "{answer:?}");
    }
    drop(client);
    rig.until_quiet();
    rig.stop();
}

#[test]
fn an_answer_to_head_has_no_body() {
    let rig = Rig::start("--shards 1");
    let mut client = Client::connect(rig.http);
    for _ in 0..3 {
        client.send(b"HEAD /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = client.head_answer();
        assert!(answer.status >= 400, "{answer:?}");
        client.assert_closed();
        client = Client::connect(rig.http);
    }
    drop(client);
    rig.stop();
}

#[test]
fn idle_connections_are_closed() {
    let rig = Rig::start("--shards 1 --http-idle-timeout 300ms --http-request-timeout 5s");
    let sink = rig.sink(1.0);
    let mut silent = Client::connect(rig.http);
    let mut lines = Client::connect(rig.http);
    let mut busy = Client::connect(rig.http);
    sink.set_acks(false);
    let mut waiting = Client::connect(rig.http);
    waiting.send(&request(
        "/logs?wait=acked",
        JSON,
        packet("w", 0..1).as_bytes(),
    ));
    let began = Instant::now();
    // Empty lines are allowed before a request, and are not one.
    while lines.try_send(b"\r\n").is_ok() && began.elapsed() < Duration::from_millis(1000) {
        assert_eq!(busy.post_packet(&packet("e", 0..1)).status, 202);
        std::thread::sleep(Duration::from_millis(50));
    }
    silent.assert_closed();
    lines.assert_gone();
    sink.set_acks(true);
    assert_eq!(waiting.answer().status, 200, "who waits is not idle");
    assert_eq!(busy.post_packet(&packet("e", 0..1)).status, 202);
    drop((busy, waiting));
    rig.until_quiet();
    rig.stop();
}

/// An ACK that does not come in time is not awaited for ever, and is no success: but for who asked for that.
#[test]
fn a_wait_for_an_ack_ends() {
    let rig = Rig::start("--shards 1 --http-request-timeout 300ms");
    let sink = rig.sink(1.0);
    sink.set_acks(false);
    let mut client = Client::connect(rig.http);
    let body = packet("w", 0..2);
    for (target, prefer) in [
        ("/logs?wait=acked", ""),
        ("/logs", "Prefer: wait=acked\r\n"),
    ] {
        let answer = client.post(target, &format!("{JSON}{prefer}"), &body);
        assert_eq!(answer.status, 504, "{answer:?}");
        assert!(!answer.head.contains("Preference-Applied"), "{answer:?}");
        let said = answer.json();
        let counts = ["messageCount", "notAcked", "refused"].map(|name| said[name].as_u64());
        assert_eq!(counts, [2, 2, 0].map(Some), "{answer:?}");
        let detail = said["detail"].as_str().expect("a text");
        let id = said["packetId"].as_str().expect("a text");
        assert!(
            detail.starts_with(&format!(
                "2 of 2 messages of packet {id} are not ACKed within 300ms"
            )) && detail.contains("will still be delivered")
                && detail.contains("a retry makes duplicates"),
            "{detail}"
        );
    }
    for prefer in [
        "Prefer: respond-async, wait=acked\r\n",
        "Prefer: wait=acked; respond-async\r\n",
        "Prefer: wait=acked\r\nPrefer: Respond-Async\r\n",
    ] {
        let answer = client.post("/logs", &format!("{JSON}{prefer}"), &body);
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.json()["status"], "queued");
        let applied = "\r\nPreference-Applied: respond-async\r\n";
        assert!(answer.head.contains(applied), "{answer:?}");
    }
    sink.set_acks(true);
    until("all are ACKed", || {
        rig.sum(|report| report.balance.acked) == 10
    });
    let answer = client.post("/logs?wait=acked", JSON, &body);
    assert_eq!((answer.status, sink.frames().len()), (200, 12), "each once");
    drop(client);
    rig.stop();
}

#[test]
fn connections_are_limited_in_all_and_by_address() {
    for (flag, reason) in [
        ("--max-http-connections 5", "connection_limit"),
        ("--max-per-address 5", "address_limit"),
    ] {
        let rig = Rig::start(&format!("--shards 2 {flag}"));
        let _sink = rig.sink(1.0);
        let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(rig.http)).collect();
        until("all are in", || connections(&rig) == 5);
        for _ in 0..3 {
            Client::connect(rig.http).assert_gone();
        }
        until("refusals are counted", || rig.refused(reason) == 3);
        assert_eq!(clients[4].post_packet(&packet("e", 0..1)).status, 202);
        drop(clients.pop());
        until("one is gone", || connections(&rig) == 4);
        let mut again = Client::connect(rig.http);
        assert_eq!(again.post_packet(&packet("e", 0..1)).status, 202, "{flag}");
        drop((clients, again));
        rig.until_quiet();
        rig.stop();
    }
}

#[test]
fn only_listed_networks_come_in() {
    let rig = Rig::start("--shards 1 --allow-http 10.0.0.0/8,::/8");
    let _sink = rig.sink(1.0);
    Client::connect(rig.http).assert_gone();
    until("counted", || rig.refused("address_not_allowed") == 1);
    // Who resets at once has no address any more when it is accepted, but what it sent can be read.
    let packet = request("/logs", JSON, packet("e", 0..1).as_bytes());
    for _ in 0..500 {
        let mut stream = std::net::TcpStream::connect(rig.http).expect("a listener");
        stream.write_all(&packet).expect("sent");
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).expect("an option");
    }
    let refused = || rig.refused("address_not_allowed") + rig.refused("address_unknown");
    until("all were refused", || refused() >= 501);
    println!("without an address: {}", rig.refused("address_unknown"));
    assert_eq!(rig.sum(|report| report.http.requests), 0);
    rig.until_quiet();
    rig.stop();
    let rig = Rig::start("--shards 1 --allow-http 127.0.0.0/8");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    assert_eq!(
        client
            .post_packet(&weir_testkit::http::packet("e", 0..1))
            .status,
        202
    );
    drop(client);
    rig.stop();
}

#[test]
fn requests_are_limited_by_rate() {
    let rig = Rig::start("--shards 2 --rate-limit 10/2s");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let mut other = Client::connect(rig.http);
    let began = Instant::now();
    let mut statuses = Vec::new();
    for number in 0..15 {
        let client = if number % 2 == 0 {
            &mut client
        } else {
            &mut other
        };
        let answer = client.post_packet(&packet("e", 0..1));
        if answer.status == 429 {
            assert!(answer.head.contains("\r\nRetry-After: 1\r\n"), "{answer:?}");
            assert_eq!(answer.json()["error"], "Too many requests");
        }
        statuses.push(answer.status);
    }
    // One address, whatever its connections; tokens come back while it asks.
    let taken = statuses.iter().filter(|status| **status == 202).count();
    let refilled = (began.elapsed().as_secs_f64() * 5.0).ceil() as usize; // a few
    assert!((10..=10 + refilled).contains(&taken), "{statuses:?}");
    let refused = 15 - taken as u64;
    until("counted", || rig.refused("rate_limit") == refused);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(client.post_packet(&packet("e", 0..1)).status, 202);
    drop((client, other));
    rig.until_quiet();
    rig.stop();
}

#[test]
fn bodies_come_in_many_forms() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let body = packet("e", 0..5);
    let lines = "{\"message\":\"a\",\"level\":\"fatal\"}\n\n\"b\"\r\n{\"message\":\"c\"}";
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.as_bytes()).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let mut zstd = vec![0; zstd_safe::compress_bound(body.len())];
    let len = zstd_safe::compress(zstd.as_mut_slice(), body.as_bytes(), 1).expect("fits");
    zstd.truncate(len);
    let chunks: Vec<u8> = body
        .as_bytes()
        .chunks(7)
        .flat_map(|chunk| {
            [
                format!("{:x};a=b\r\n", chunk.len()).as_bytes(),
                chunk,
                b"\r\n",
            ]
            .concat()
        })
        .chain(*b"0\r\nX: y\r\n\r\n")
        .collect();
    let chunked = [
        format!("POST /logs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{JSON}\r\n")
            .as_bytes(),
        &chunks,
    ]
    .concat();
    for (name, request, messages) in [
        ("plain", request("/logs", JSON, body.as_bytes()), 5),
        (
            "lines",
            request(
                "/logs",
                &format!("{ndjson}X-Emitter-ID: e\r\n"),
                lines.as_bytes(),
            ),
            3,
        ),
        (
            "lines by query",
            request("/logs?emitterId=e%20f", ndjson, lines.as_bytes()),
            3,
        ),
        (
            "gzip",
            request("/logs", &format!("{JSON}Content-Encoding: gzip\r\n"), &gzip),
            5,
        ),
        (
            "zstd",
            request("/logs", &format!("{JSON}Content-Encoding: zstd\r\n"), &zstd),
            5,
        ),
        ("chunks", chunked, 5),
        (
            "no messages",
            request("/logs", JSON, br#"{"emitterId":"e","messages":[]}"#),
            0,
        ),
    ] {
        let before = sink.frames().len();
        // Whole, and then in small pieces.
        for size in [usize::MAX, 13] {
            for piece in request.chunks(size) {
                client.send(piece);
            }
            let answer = client.answer();
            assert_eq!(answer.status, 202, "{name}: {answer:?}");
            assert_eq!(answer.json()["messageCount"], messages, "{name}");
        }
        until(name, || sink.frames().len() == before + 2 * messages);
    }
    // The body comes when it is asked for.
    let length = body.len();
    client.send(format!("POST /logs HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n{JSON}\r\n").as_bytes());
    assert_eq!(client.answer().status, 100);
    client.send(body.as_bytes());
    assert_eq!(client.answer().status, 202);
    // Or is not asked for.
    client.send(format!("POST /logs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n{JSON}\r\n").as_bytes());
    assert_eq!(client.answer().status, 413);
    client.assert_closed();
    rig.until_quiet();
    rig.stop();
}

/// Who sends lines is said once. Which of two was meant is not guessed, as with a field of a packet.
#[test]
fn an_emitter_of_lines_that_is_named_twice_is_refused() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    for (target, names, said) in [
        (
            "/logs",
            "X-Emitter-ID: a\r\nX-Emitter-ID: b\r\n",
            "header X-Emitter-ID is there twice",
        ),
        (
            "/logs",
            "X-Emitter-ID: a\r\nx-emitter-id: a\r\n",
            "header X-Emitter-ID is there twice",
        ),
        (
            "/logs?emitterId=a&emitterId=b",
            "",
            "query emitterId is there twice",
        ),
    ] {
        let answer = client.post(target, &format!("{ndjson}{names}"), "\"hi\"\n");
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.contains(said), "{answer:?}");
        assert_eq!(answer.json()["field"], "emitterId");
    }
    // One of each: the header goes before the query.
    let headers = format!("{ndjson}X-Emitter-ID: a\r\n");
    let answer = client.post("/logs?emitterId=b&wait=acked", &headers, "\"hi\"\n");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(sink.frames().len(), 1);
    rig.until_refused("emitter_id", 3);
    rig.stop();
}

/// The graceful close: what was taken in is delivered, who waits learns how it ended, the others are closed.
#[test]
fn a_graceful_close_leaves_nobody_in_doubt() {
    let rig = Rig::start("--shards 2 --http-request-timeout 20s");
    let sink = rig.sink(1.0);
    let mut idle = Client::connect(rig.http);
    assert_eq!(idle.post_packet(&packet("e", 0..2)).status, 202);
    until("delivered", || rig.sum(|report| report.balance.acked) == 2);
    sink.set_acks(false);
    let mut queued = Client::connect(rig.http);
    assert_eq!(queued.post_packet(&packet("e", 2..5)).status, 202);
    let mut waiting = Client::connect(rig.http);
    let wait = request("/logs?wait=acked", JSON, packet("e", 5..9).as_bytes());
    // A second request behind it, which will not be served.
    waiting.send(&[wait.clone(), wait].concat());
    let mut unfinished = Client::connect(rig.http);
    unfinished.send(&request("/logs", JSON, b"{")[..60]);
    let mut deaf = Client::connect(rig.http);
    deaf.set_write_timeout(Duration::from_millis(300));
    while deaf
        .try_send(&request("/logs", JSON, b"x").repeat(1000))
        .is_ok()
    {}
    until("all is under way", || {
        rig.sum(|report| report.http.waiting as u64) == 1 && sink.frames().len() == 9
    });
    rig.drain();
    idle.assert_closed();
    queued.assert_closed();
    // It has the time of the graceful close, and then is cut off.
    unfinished.assert_closed();
    stays("it waits on", Duration::from_millis(200), || {
        rig.sum(|report| report.http.waiting as u64) == 1
    });
    sink.set_acks(true);
    let answer = waiting.answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.head.contains("\r\nConnection: close\r\n"),
        "{answer:?}"
    );
    assert!(waiting.try_answer().is_none(), "one answer, not two");
    let began = Instant::now();
    drop((idle, queued, unfinished, waiting));
    let reports = rig.stop();
    // Nor does one that reads nothing hold it up.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    deaf.assert_gone();
    let acked: u64 = reports.iter().map(|report| report.balance.acked).sum();
    assert_eq!((acked, sink.frames().len()), (9, 9));
}

/// Offered twice what fits: refused with 503, never queued without end; each 202 is delivered.
/// `WEIR_FULL=1` takes a minute.
#[test]
fn overload_is_refused_and_what_is_taken_is_delivered() {
    let full = std::env::var_os("WEIR_FULL").is_some();
    let time = Duration::from_secs(if full { 60 } else { 4 });
    let rig = Rig::start("--shards 1 --window 512KiB --window-messages 500 --http-pool 2");
    // 200 ms a packet, two at once: ten packets a second.
    let analyzer = HttpAnalyzer::start("slow", "slow");
    rig.up(&analyzer, 1.0);
    let (mut taken, mut refused, mut other) = (0u64, 0u64, 0u64);
    let mut most = (0, 0);
    let mut client = Client::connect(rig.http);
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < time {
        let answer = client.post_packet(&packet("e", number..number + 50));
        match answer.status {
            202 => {
                taken += 50;
                number += 50;
            }
            503 => {
                assert!(answer.head.contains("\r\nRetry-After: 1\r\n"), "{answer:?}");
                refused += 1;
            }
            _ => other += 1,
        }
        let reports = rig.operator.reports();
        let open = reports
            .iter()
            .map(|report| report.balance.open())
            .sum::<u64>();
        let held = reports
            .iter()
            .map(|report| report.http.held_bytes)
            .sum::<u64>();
        most = (most.0.max(open), most.1.max(held));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    println!(
        "taken {taken}, refused {refused} packets, at most {most:?} (messages open, bytes held)"
    );
    assert!(
        taken > 500 && refused > 10 && other == 0,
        "{taken} {refused} {other}"
    );
    assert!(most.0 <= 500 + 50, "a queue that grows: {most:?}");
    until("counted", || rig.refused("no_room") == refused);
    until("delivered", || {
        rig.sum(|report| report.balance.acked) == taken
    });
    let mut got: Vec<u64> = analyzer
        .messages()
        .iter()
        .map(|message| message.parse().expect("a number"))
        .collect();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..taken));
    rig.stop();
}

/// The limits that documents state can be reached, all of them with the others' defaults.
#[test]
fn what_each_limit_allows_is_taken() {
    let rig = Rig::start("--shards 1 --arena 64MiB");
    let analyzer = weir_testkit::http::HttpAnalyzer::start("a", "ok");
    rig.up(&analyzer, 1.0);
    let mut client = Client::connect(rig.http);
    let of = |count: usize, message: &str| {
        let messages = vec![message; count].join(",");
        format!("{{\"emitterId\":\"web-server-1\",\"messages\":[{messages}]}}")
    };
    let line = r#"{"level":"info","message":"GET /index.html 200 12 ms user=42"}"#;
    for (count, message) in [(10_000, r#"{"message":"x"}"#), (10_000, line), (1, line)] {
        let answer = client.post_packet(&of(count, message));
        assert_eq!(answer.status, 202, "{count} of {message}: {answer:?}");
    }
    let (edge, limit) = (of(10_000, line), 1 << 20);
    assert!(edge.len() < limit);
    let filled = format!("{edge}{}", " ".repeat(limit - edge.len()));
    assert_eq!(client.post_packet(&filled).status, 202);
    let answer = client.post_packet(&of(10_001, "{}"));
    assert_eq!(answer.status, 413, "{answer:?}");
    rig.stop();
}

/// 10 MB of body by one setting.
#[test]
fn one_setting_takes_bodies_of_ten_megabytes() {
    let rig = Rig::start("--shards 1 --arena 64MiB --http-body 10MiB");
    let sink = rig.sink(1.0);
    let analyzer = weir_testkit::http::HttpAnalyzer::start("a", "ok");
    let mut client = Client::connect(rig.http);
    let message = format!("{{\"message\":\"{}\"}}", "x".repeat(9_990));
    let messages = vec![message; 1_000].join(",");
    let body = format!("{{\"emitterId\":\"e\",\"messages\":[{messages}]}}");
    assert!(body.len() > 10_000_000 && body.len() < 10 << 20);
    assert_eq!(client.post_packet(&body).status, 202);
    until("by TCP", || sink.frames().len() == 1_000);
    drop(sink);
    rig.up(&analyzer, 1.0);
    assert_eq!(
        client
            .post(
                "/logs?wait=acked",
                "Content-Type: application/json\r\n",
                &body
            )
            .status,
        200
    );
    rig.stop();
}
