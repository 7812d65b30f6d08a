//! Clients that mean harm, or know no better: each is answered or cut off, its memory goes back, the
//! refusal is counted under its reason, and others are served meanwhile.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::rig::Rig;
use weir_testkit::http::{packet, Client};
use weir_testkit::{stays, until};

/// `head` up to its last header, then a body.
fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST /logs HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

fn json(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    post(
        &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        body,
    )
}

/// A bystander gets through.
fn assert_others_are_served(bystander: &mut Client) {
    let answer = bystander.post_packet(&packet("bystander", 0..3));
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Each request gets one answer; the connection ends behind it in order, and nothing was taken in.
fn assert_refused_and_closed(cases: &[(&str, Vec<u8>, u16, &str)]) {
    let rig = Rig::start("--shards 2");
    let _sink = rig.sink(1.0);
    let mut bystander = Client::connect(rig.http);
    let mut expected = std::collections::BTreeMap::new();
    for (name, request, status, reason) in cases {
        let mut client = Client::connect(rig.http);
        // It may be cut off while it still sends.
        let _ = client.try_send(request);
        let answer = client.answer();
        assert_eq!(answer.status, *status, "{name}: {answer:?}");
        assert!(answer.head.contains("\r\nConnection: close\r\n"), "{name}");
        let said = answer.json();
        for field in ["error", "detail", "timestamp"] {
            let text = said[field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{name}: {field} in {said}");
        }
        assert!(said["worker"].is_u64(), "{name}: {said}");
        client.assert_closed();
        *expected.entry(*reason).or_insert(0) += 1;
        assert_others_are_served(&mut bystander);
    }
    drop(bystander);
    rig.until_quiet();
    for (reason, count) in expected {
        rig.until_refused(reason, count);
    }
    let packets = rig.sum(|report| report.http.packets);
    assert_eq!(packets, cases.len() as u64, "the bystander's");
    rig.stop();
}

#[test]
fn heads_that_are_refused() {
    let line = |line: &str| format!("{line}\r\nHost: x\r\n\r\n").into_bytes();
    let long = "x".repeat(9000);
    assert_refused_and_closed(&[
        (
            "a giant header",
            post(&format!("X-Big: {}\r\n", "x".repeat(1 << 20)), b""),
            431,
            "head_too_large",
        ),
        (
            "a thousand headers",
            post(&"X: y\r\n".repeat(1000), b""),
            431,
            "too_many_headers",
        ),
        (
            "a long path",
            line(&format!("GET /{long} HTTP/1.1")),
            414,
            "uri_too_long",
        ),
        (
            "no host",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            400,
            "bad_host",
        ),
        ("two hosts", post("Host: y\r\n", b""), 400, "bad_host"),
        ("HTTP/2.0", line("GET / HTTP/2.0"), 505, "bad_version"),
        (
            "no HTTP",
            b"\x16\x03\x01\x02\x00".to_vec(),
            400,
            "bad_method",
        ),
        (
            "an LF alone",
            b"GET / HTTP/1.1\nHost: x\n\n".to_vec(),
            400,
            "bare_lf",
        ),
        ("a NUL", post("X: a\0b\r\n", b""), 400, "bad_header"),
        (
            "a folded line",
            post("X: a\r\n b\r\n", b""),
            400,
            "bad_header",
        ),
        (
            "a body above the limit",
            post("Content-Length: 99999999\r\n", b""),
            413,
            "body_too_large",
        ),
        (
            "a length beyond 64 bits",
            post("Content-Length: 99999999999999999999999\r\n", b""),
            400,
            "bad_content_length",
        ),
        (
            "an expectation",
            post("Content-Length: 1\r\nExpect: a pony\r\n", b""),
            417,
            "unsupported_expectation",
        ),
        (
            "brotli",
            post("Content-Length: 1\r\nContent-Encoding: br\r\n", b""),
            415,
            "unsupported_coding",
        ),
    ]);
}

#[test]
fn chunks_that_are_refused() {
    let chunks = |body: &[u8]| post("Transfer-Encoding: chunked\r\n", body);
    let extension = format!("1;{}\r\nx\r\n", "e".repeat(5000));
    let trailers = format!("0\r\nX: {}\r\n\r\n", "t".repeat(9000));
    assert_refused_and_closed(&[
        ("no size", chunks(b"\r\n"), 400, "bad_chunk"),
        (
            "not hexadecimal",
            chunks(b"0x5\r\nhello\r\n"),
            400,
            "bad_chunk",
        ),
        ("a sign", chunks(b"-1\r\n"), 400, "bad_chunk"),
        ("LF for CR LF", chunks(b"5\nhello\n"), 400, "bad_chunk"),
        (
            "longer than announced",
            chunks(b"5\r\nhello world\r\n"),
            400,
            "bad_chunk",
        ),
        (
            "17 digits",
            chunks(b"00000000000000001\r\n"),
            400,
            "bad_chunk",
        ),
        (
            "a long extension",
            chunks(extension.as_bytes()),
            400,
            "bad_chunk",
        ),
        (
            "above the limit",
            chunks(b"FFFFFFFF\r\n"),
            413,
            "body_too_large",
        ),
        (
            "2^64 - 1",
            chunks(b"FFFFFFFFFFFFFFFF\r\n"),
            413,
            "body_too_large",
        ),
        (
            "long trailers",
            chunks(trailers.as_bytes()),
            431,
            "trailers_too_large",
        ),
    ]);
}

/// What one reader takes for a body and another for a request: nobody may read it in two ways.
#[test]
fn requests_that_are_smuggled() {
    let hidden = String::from_utf8(json(packet("smuggled", 0..1).as_bytes())).expect("text");
    let inside = format!("0\r\n\r\n{hidden}");
    let both = |headers: &str| post(headers, inside.as_bytes());
    let length = inside.len();
    assert_refused_and_closed(&[
        (
            "CL.TE",
            both(&format!(
                "Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"
            )),
            400,
            "two_framings",
        ),
        (
            "TE.CL",
            both("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
            400,
            "two_framings",
        ),
        (
            "TE.TE",
            both("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
            400,
            "repeated_header",
        ),
        (
            "CL.CL",
            both(&format!(
                "Content-Length: {length}\r\nContent-Length: 0\r\n"
            )),
            400,
            "repeated_header",
        ),
        (
            "CL.CL, the same",
            both("Content-Length: 5\r\nContent-Length: 5\r\n"),
            400,
            "repeated_header",
        ),
        (
            "CL as a list",
            both("Content-Length: 5, 5\r\n"),
            400,
            "bad_content_length",
        ),
        (
            "CL with a sign",
            both("Content-Length: +5\r\n"),
            400,
            "bad_content_length",
        ),
        (
            "space before the colon",
            both("Content-Length : 0\r\n"),
            400,
            "bad_header",
        ),
        (
            "TE behind white space that is none",
            both("Transfer-Encoding:\x0bchunked\r\n"),
            400,
            "bad_header",
        ),
        (
            "TE misspelt",
            both("Transfer-Encoding: xchunked\r\n"),
            400,
            "bad_transfer_encoding",
        ),
        (
            "TE, chunked not last",
            both("Transfer-Encoding: chunked, gzip\r\n"),
            501,
            "bad_transfer_encoding",
        ),
    ]);
}

#[test]
fn a_body_longer_than_declared_is_no_request() {
    let rig = Rig::start("--shards 1");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let body = packet("e", 0..2);
    let cut = body.len() - 4;
    let headers = format!("Content-Type: application/json\r\nContent-Length: {cut}\r\n");
    client.send(&post(&headers, body.as_bytes()));
    let answer = client.answer();
    assert_eq!(answer.status, 400, "not JSON: {answer:?}");
    assert_eq!(
        answer.json()["error"],
        "Invalid request body. Required: emitterId, messages (array)"
    );
    let answer = client.answer();
    assert_eq!(answer.status, 400, "its end is no request: {answer:?}");
    client.assert_closed();
    rig.until_quiet();
    rig.until_refused("not_json", 1);
    rig.until_refused("bad_method", 1);
    assert_eq!(rig.sum(|report| report.http.packets), 0);
    rig.stop();
}

/// The framing is sound, the content is not: refused, and the connection goes on.
#[test]
fn bodies_that_are_refused() {
    let with_metadata = |metadata: &str| {
        format!("{{\"emitterId\":\"e\",\"messages\":[{{\"metadata\":{metadata}}}]}}").into_bytes()
    };
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let open = "[".repeat(500_000);
    let zeros = vec![b' '; 64 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let mut zstd = vec![0; zstd_safe::compress_bound(zeros.len())];
    let len = zstd_safe::compress(zstd.as_mut_slice(), &zeros, 19).expect("fits");
    zstd.truncate(len);
    let coded = |coding: &str, body: &[u8]| {
        let length = body.len();
        let headers = format!(
            "Content-Type: application/json\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\n"
        );
        post(&headers, body)
    };
    let many = format!(
        "{{\"emitterId\":\"e\",\"messages\":[{}{{}}]}}",
        "{},".repeat(10_000)
    );
    let cases = [
        (
            "invalid UTF-8",
            json(b"{\"emitterId\":\"\xFF\"}"),
            400,
            "not_utf8",
        ),
        ("a depth bomb", json(&with_metadata(&deep)), 400, "too_deep"),
        (
            "an open depth bomb",
            json(&with_metadata(&open)),
            400,
            "not_json",
        ),
        (
            "a gzip bomb",
            coded("gzip", &gzip),
            413,
            "inflated_too_large",
        ),
        (
            "a zstd bomb",
            coded("zstd", &zstd),
            413,
            "inflated_too_large",
        ),
        ("no gzip", coded("gzip", b"hello"), 400, "bad_compression"),
        (
            "10,001 messages",
            json(many.as_bytes()),
            413,
            "too_many_messages",
        ),
        ("no object", json(b"[]"), 400, "not_an_object"),
        ("nothing", json(b""), 400, "not_json"),
        ("no emitter", json(b"{\"messages\":[]}"), 400, "emitter_id"),
        (
            "no messages",
            json(b"{\"emitterId\":\"e\"}"),
            400,
            "messages",
        ),
        (
            "a field twice",
            json(br#"{"emitterId":"e","emitterId":"f","messages":[]}"#),
            400,
            "duplicate_field",
        ),
        (
            "text",
            post("Content-Type: text/plain\r\nContent-Length: 1\r\n", b"x"),
            415,
            "content_type",
        ),
    ];
    let rig = Rig::start("--shards 1");
    let _sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    for (name, request, status, reason) in &cases {
        let before = rig.refused(reason);
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.status, *status, "{name}: {answer:?}");
        let said = answer.json();
        assert!(
            said["error"].is_string() && said["detail"].is_string(),
            "{name}: {said}"
        );
        // The same connection.
        assert_others_are_served(&mut client);
        rig.until_refused(reason, before + 1);
    }
    until("nothing is held", || {
        rig.sum(|report| report.http.held_bytes) == 0
    });
    drop(client);
    rig.until_quiet();
    let reports = rig.stop();
    assert_eq!(reports[0].balance.received, 3 * cases.len() as u64);
}

/// Slow loris: a byte now and then, for ever, in the head or in the body.
#[test]
fn requests_that_never_end_are_cut_off() {
    let rig = Rig::start("--shards 2 --http-request-timeout 600ms");
    let sink = rig.sink(1.0);
    let starts = [
        "POST /logs HTTP/1.1\r\nHost: x\r\nX-",
        "POST /logs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{",
        "POST /logs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n",
    ];
    let mut slow: Vec<Client> = (0..60).map(|_| Client::connect(rig.http)).collect();
    for (index, client) in slow.iter_mut().enumerate() {
        client.send(starts[index % starts.len()].as_bytes());
    }
    until("all are held", || {
        rig.sum(|report| report.http.held_bytes) > 1000
    });
    let mut bystander = Client::connect(rig.http);
    let began = Instant::now();
    let mut served = 0;
    while rig.refused("request_timeout") < 60 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "they are still there"
        );
        for client in &mut slow {
            let _ = client.try_send(b"x");
        }
        assert_others_are_served(&mut bystander);
        served += 3;
        std::thread::sleep(Duration::from_millis(20));
    }
    for client in &mut slow {
        let answer = client.answer();
        assert_eq!(answer.status, 408, "{answer:?}");
        assert!(answer.json()["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("600ms")));
        client.finish();
    }
    drop((slow, bystander));
    rig.until_quiet();
    until("all else was delivered", || sink.frames().len() == served);
    rig.stop();
}

/// A reset would take the answer from whoever still sends.
#[test]
fn an_answer_arrives_although_the_client_still_sends() {
    let rig = Rig::start("--shards 1");
    for _ in 0..5 {
        let mut client = Client::connect(rig.http);
        client.send(&post("Content-Length: 8388608\r\n", b""));
        let block = [b'x'; 65536];
        for _ in 0..128 {
            client.send(&block);
        }
        let answer = client.answer();
        assert_eq!(answer.status, 413, "{answer:?}");
        client.assert_closed();
    }
    rig.until_quiet();
    // Not for ever: whoever neither closes nor stops is cut off.
    let mut client = Client::connect(rig.http);
    client.send(&post("Content-Length: 8388608\r\n", b""));
    assert_eq!(client.answer().status, 413);
    client.assert_closed();
    until("it is not waited for", || {
        rig.sum(|report| report.http.connections as u64) == 0
    });
    let mut client = Client::connect(rig.http);
    client.send(&post("Content-Length: 8388608\r\n", b""));
    let began = Instant::now();
    while client.try_send(&[b'x'; 65536]).is_ok() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it may send for ever"
        );
    }
    rig.until_quiet();
    rig.stop();
}

/// Pipelines without reading: what is held is bounded, and then the client is cut off.
#[test]
fn answers_that_nobody_reads() {
    let rig = Rig::start("--shards 1 --http-request-timeout 2s");
    let sink = rig.sink(1.0);
    let mut deaf = Client::connect(rig.http);
    deaf.set_write_timeout(Duration::from_millis(500));
    let requests = json(b"x").repeat(1000);
    let mut most = 0;
    while deaf.try_send(&requests).is_ok() {
        most = most.max(rig.sum(|report| report.http.held_bytes));
    }
    let held = || rig.sum(|report| report.http.held_bytes);
    until("answers are held", || held() > 0);
    most = most.max(held());
    let mut bystander = Client::connect(rig.http);
    assert_others_are_served(&mut bystander);
    until("it is cut off", || {
        most = most.max(held());
        rig.refused("answers_not_read") == 1
    });
    // Answers with the kernel, answers behind them, and a turn's receives: all of the shard's memory
    // for those, 1 MiB.
    assert!(most <= 2 << 20, "{most} bytes were held");
    deaf.assert_gone();
    drop((deaf, bystander));
    rig.until_quiet();
    until("the bystander's", || sink.frames().len() == 3);
    rig.stop();
}

/// Requests that have not arrived whole: beyond `--http-memory` whoever wants more is refused.
#[test]
fn memory_for_requests_is_bounded() {
    let flags = "--http-body 64KiB --http-inflated 64KiB --http-head 4KiB --http-memory 256KiB";
    let rig = Rig::start(&format!("--shards 1 {flags}"));
    let sink = rig.sink(1.0);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(rig.http)).collect();
    let headers = "Content-Type: application/json\r\nContent-Length: 65536\r\n";
    let mut most = 0;
    for client in &mut clients {
        client.send(&post(headers, &[b' '; 40_000]));
        std::thread::sleep(Duration::from_millis(20));
        most = most.max(rig.sum(|report| report.http.held_bytes));
    }
    until("some were refused", || {
        rig.refused("http_memory_full") >= 10
    });
    most = most.max(rig.sum(|report| report.http.held_bytes));
    assert!(most <= (256 + 64) * 1024, "{most} bytes were held");
    let mut bystander = Client::connect(rig.http);
    assert_others_are_served(&mut bystander);
    let mut refused = 0;
    for client in &mut clients {
        client.set_timeout(Duration::from_millis(50));
        if let Some(answer) = client.answer_if_any() {
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.head.contains("\r\nRetry-After: 1\r\n"), "{answer:?}");
            refused += 1;
        }
    }
    rig.until_refused("http_memory_full", refused);
    assert!((10..20).contains(&refused), "{refused} refused");
    drop((clients, bystander));
    rig.until_quiet();
    until("the bystander's", || sink.frames().len() == 3);
    rig.stop();
}

/// Requests behind one that waits for its ACK count as well.
#[test]
fn memory_behind_requests_that_wait_is_bounded() {
    let flags = "--http-body 64KiB --http-inflated 64KiB --http-head 4KiB --http-memory 256KiB";
    let rig = Rig::start(&format!("--shards 1 {flags}"));
    let sink = rig.sink(1.0);
    sink.set_acks(false);
    let body = packet("e", 0..1);
    let length = body.len();
    let first = format!("POST /logs?wait=acked HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    let behind = json(body.as_bytes()).repeat(600);
    let mut most = 0;
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(rig.http)).collect();
    for client in &mut clients {
        client.send(first.as_bytes());
    }
    let waiting = || rig.sum(|report| report.http.waiting as u64);
    until("all wait", || waiting() == 20);
    for client in &mut clients {
        client.send(&behind);
        std::thread::sleep(Duration::from_millis(20));
        most = most.max(rig.sum(|report| report.http.held_bytes));
    }
    until("some were refused", || rig.refused("http_memory_full") > 5);
    stays("bounded", Duration::from_millis(300), || {
        rig.sum(|report| report.http.held_bytes) <= (256 + 128) * 1024
    });
    assert!(most <= (256 + 128) * 1024, "{most} bytes were held");
    sink.set_acks(true);
    for client in &mut clients {
        assert_eq!(
            client.answer().status,
            200,
            "the request in hand is answered"
        );
        client.finish();
        client.assert_gone();
    }
    drop(clients);
    rig.until_quiet();
    rig.stop();
}

#[test]
fn requests_come_and_go_and_nothing_stays_held() {
    let flags = "--http-body 64KiB --http-inflated 64KiB --http-head 4KiB --http-memory 128KiB";
    let rig = Rig::start(&format!("--shards 1 {flags}"));
    let sink = rig.sink(1.0);
    let mut client = Client::connect(rig.http);
    let body = packet("e", 0..1000);
    for _ in 0..30 {
        // In pieces, so that it is held in between; thirty times the whole memory's worth in all.
        let request = json(body.as_bytes());
        let (some, rest) = request.split_at(request.len() / 2);
        client.send(some);
        std::thread::sleep(Duration::from_millis(5));
        client.send(rest);
        let answer = client.answer();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    until("nothing is held", || {
        rig.sum(|report| report.http.held_bytes) == 0
    });
    until("delivered", || sink.frames().len() == 30_000);
    drop(client);
    rig.stop();
}

/// Half-closed is not gone: all that was asked is answered.
#[test]
fn a_client_that_half_closes_gets_its_answers() {
    let rig = Rig::start("--shards 1");
    let sink = rig.sink(1.0);
    // So many answers that not all fit the sockets: some wait when the end of the stream has come.
    let mut client = Client::connect(rig.http);
    let request = json(b"x");
    let sender = {
        let mut client = client.try_clone();
        std::thread::spawn(move || {
            for _ in 0..20 {
                client.send(&request.repeat(1000));
            }
            client.finish();
        })
    };
    std::thread::sleep(Duration::from_millis(1500));
    for number in 0..20_000 {
        let answer = client.try_answer();
        let answer = answer.unwrap_or_else(|| panic!("the end before answer {number}"));
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    client.assert_closed();
    sender.join().expect("it sent all");
    // One that waits for an ACK.
    sink.set_acks(false);
    let body = packet("e", 0..2);
    let mut client = Client::connect(rig.http);
    let length = body.len();
    client.send(format!("POST /logs?wait=acked HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
    client.finish();
    until("it arrived", || sink.frames().len() == 2);
    sink.set_acks(true);
    assert_eq!(client.answer().status, 200);
    client.assert_closed();
    // One whose request is not whole.
    let mut client = Client::connect(rig.http);
    client.send(&post("Content-Length: 100\r\n", b"{"));
    client.finish();
    let answer = client.answer();
    assert_eq!(answer.status, 400, "{answer:?}");
    client.assert_closed();
    rig.until_quiet();
    rig.until_refused("incomplete_request", 1);
    rig.stop();
}
