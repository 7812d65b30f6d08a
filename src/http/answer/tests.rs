//! What answers are read as, in any pieces.

use super::*;

fn head(status: u16) -> AnswerHead {
    AnswerHead {
        status,
        retry_after: None,
        location: None,
    }
}

#[test]
fn where_a_redirect_leads_is_known_quoted_and_bounded() {
    let location = |status: u16, location: &str| {
        let text =
            format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let answer = ResponseReader::new().next(&mut text.as_bytes());
        answer.expect("an answer").expect("whole").head.location
    };
    let shown = location(302, "https://b/x?\u{9b}2J");
    assert_eq!(
        shown.as_deref(),
        Some(&*quoted("https://b/x?\u{9b}2J".as_bytes()))
    );
    assert!(shown.is_some_and(|shown| !shown.contains('\u{9b}')));
    let long = location(308, &"x".repeat(10_000)).expect("a place");
    assert!(long.len() <= 4 * LOCATION_BYTES_KEPT, "{}", long.len());
    assert_eq!(location(201, "/logs/7"), None, "no redirect");
}

#[test]
fn a_status_below_100_is_no_interim_one() {
    let text = "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n";
    let answer = ResponseReader::new().next(&mut text.as_bytes());
    let status = answer.expect("an answer").map(|answer| answer.head.status);
    assert_eq!(status, Some(99));
}

/// All answers in a stream, by pieces of so many bytes; what closing yields; what is left unread.
fn read(stream: &str, piece: usize) -> (Vec<Answer>, Option<Answer>, usize) {
    let mut reader = ResponseReader::new();
    let (mut answers, mut left) = (Vec::new(), 0);
    for piece in stream.as_bytes().chunks(piece) {
        let mut input = piece;
        left += input.len();
        while let Some(answer) = reader.next(&mut input).expect("an answer") {
            let is_last = !answer.reusable;
            answers.push(answer);
            if is_last {
                return (answers, None, left);
            }
        }
        left -= piece.len();
        assert!(input.is_empty() && reader.buf.len() <= HEAD_BYTES_MAX);
    }
    (answers, reader.closed(), left)
}

#[test]
fn what_is_no_answer_is_not_waited_for() {
    for (said, named) in [
        (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], "this looks like SSH"),
        (b"\x15\x03\x01\0\x02\x02\x46", "this looks like TLS"),
        (b"220 mail ESMTP\r\n", "220 mail ESMTP"),
        (b"HTTQ", "HTTQ"),
    ] {
        let refused = ResponseReader::new().next(&mut &said[..]);
        let detail = refused.expect_err("no answer").detail;
        assert!(
            detail.contains("no HTTP/1.1 answer") && detail.contains(named),
            "{detail}"
        );
    }
    for start in ["", "\r\n", "H", "\r\nHTTP", "HTTP/1.1 20"] {
        let next = ResponseReader::new().next(&mut start.as_bytes());
        assert_eq!(next.expect("may become one"), None, "{start:?}");
    }
}

#[test]
fn answers() {
    let answer = |status, reusable| Answer {
        head: head(status),
        reusable,
    };
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let table: &[(&str, &[Answer], Option<Answer>)] = &[
        (ok, &[answer(200, true)], None),
        ("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\nHTTP/1.1 503\r\nContent-Length: 1\r\n\r\nx",
            &[answer(202, true), answer(503, true)], None),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            &[answer(204, true)], None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;e\r\nhi\r\n0\r\nT: x\r\n\r\n",
            &[answer(200, true)], None),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi", &[answer(200, false)], None),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\r\n\r\nuntil it closes", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno", &[answer(200, false)], None),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", &[answer(200, true)], None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nhi", &[answer(200, true)], None),
        ("HTTP/1.1 101 Switching\r\n\r\n", &[answer(101, false)], None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", &[], Some(answer(200, false))),
        ("HTTP/1.1 200 OK\r\nContent-", &[], None),
    ];
    for (stream, expected, closed) in table {
        for piece in [1, 2, 7, usize::MAX] {
            let (found, at_end, _) = read(stream, piece);
            assert_eq!(
                (&found[..], &at_end),
                (*expected, closed),
                "{stream:?} by {piece}"
            );
        }
    }
}

#[test]
fn what_is_no_answer() {
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
    for stream in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        &long,
        &interim,
    ] {
        for piece in [1, 1000, usize::MAX] {
            let mut reader = ResponseReader::new();
            let mut pieces = stream.as_bytes().chunks(piece);
            let error = pieces.find_map(|mut piece| reader.next(&mut piece).err());
            assert_eq!(error.expect("none").error, "bad_answer", "{stream:.40}");
        }
    }
}

#[test]
fn so_many_headers_and_no_more() {
    let answer = |headers: usize| {
        let headers = "X: y\r\n".repeat(headers - 1);
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")
    };
    let most = answer(HEADERS_MAX);
    let answered = ResponseReader::new().next(&mut most.as_bytes());
    assert!(answered.expect("an answer").is_some());
    let more = answer(HEADERS_MAX + 1);
    let error = ResponseReader::new().next(&mut more.as_bytes());
    let detail = error.expect_err("too many").detail;
    assert!(detail.contains("more than 256 headers"), "{detail}");
}

#[test]
fn when_to_ask_again() {
    let table = [
        ("20", Some(RetryAfter::Seconds(20))),
        (
            "Thu, 15 Jan 2026 10:30:00 GMT",
            Some(RetryAfter::At(1_768_473_000_000)),
        ),
        ("-1", None),
        ("soon", None),
        ("99999999999999999999", None),
    ];
    for (value, expected) in table {
        let text =
            format!("HTTP/1.1 503 Busy\r\nretry-after: {value}\r\nContent-Length: 1\r\n\r\n");
        let mut reader = ResponseReader::new();
        assert_eq!(reader.next(&mut text.as_bytes()), Ok(None));
        let head = reader.answer_head().expect("a head");
        assert_eq!((head.status, head.retry_after), (503, expected), "{value}");
    }
    let at = RetryAfter::At(5_000);
    assert_eq!(
        [at.from(2_000), at.from(9_000)].map(|d| d.as_secs()),
        [3, 0]
    );
}

/// The pieces of a body, `|` where a chunk ends, and how it ended.
fn read_body(
    stream: &str,
    by: usize,
    bytes_max: usize,
) -> (String, Result<Option<Answer>, String>) {
    let (mut reader, mut body) = (ResponseReader::new(), String::new());
    for piece in stream.as_bytes().chunks(by.min(stream.len())) {
        let mut input = piece;
        let sink = |data: &[u8], is_chunk_end: bool| {
            body.push_str(std::str::from_utf8(data).expect("text"));
            body.extend(is_chunk_end.then_some('|'));
        };
        match reader.read(&mut input, bytes_max, sink) {
            Ok(None) => {}
            Ok(answer) => return (body, Ok(answer)),
            Err(error) => return (body, Err(error.detail)),
        }
    }
    (body, Ok(reader.end()))
}

#[test]
fn bodies_are_read_to_their_end() {
    let ok = |reusable| -> Result<Option<Answer>, String> {
        Ok(Some(Answer {
            head: head(200),
            reusable,
        }))
    };
    let late: Result<Option<Answer>, String> = Ok(None);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let table = [
        (
            "Content-Length: 5\r\n\r\nhello and more".to_owned(),
            "hello",
            ok(true),
        ),
        ("Content-Length: 0\r\n\r\n".to_owned(), "", ok(true)),
        (
            "Content-Length: 5\r\n\r\nhell".to_owned(),
            "hell",
            late.clone(),
        ),
        (
            format!("{chunked}3\r\none\r\n2\r\nup\r\n0\r\n\r\n"),
            "one|up||",
            ok(true),
        ),
        (
            format!("{chunked}3\r\none\r\n5\r\nup"),
            "one|up",
            late.clone(),
        ),
        (
            "\r\nuntil it closes".to_owned(),
            "until it closes",
            ok(false),
        ),
        ("Content-Le".to_owned(), "", late),
    ];
    for (rest, expected, end) in table {
        for by in [1, 2, 7, usize::MAX] {
            let stream = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{rest}");
            let found = read_body(&stream, by, 15);
            assert_eq!(
                found,
                (expected.to_owned(), end.clone()),
                "{stream:?} by {by}"
            );
        }
    }
    for (rest, why) in [
        (
            "Content-Length: 16\r\n\r\n",
            "body of 16 bytes or more: at most 15",
        ),
        ("Transfer-Encoding: chunked\r\n\r\n10\r\n", "15"),
        (
            "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "nothing tells where",
        ),
        ("Transfer-Encoding: chunked\r\n\r\nno", "chunk"),
    ] {
        let stream = format!("HTTP/1.1 200 OK\r\n{rest}");
        let (body, end) = read_body(&stream, usize::MAX, 15);
        let said = end.expect_err(rest);
        assert!(said.contains(why) && body.is_empty(), "{said}");
    }
}

#[test]
fn the_status_is_known_before_the_end() {
    let mut reader = ResponseReader::new();
    assert!(reader.is_idle());
    let mut input = &b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhe"[..];
    assert_eq!(reader.next(&mut input), Ok(None));
    assert_eq!(
        (reader.answer_head(), reader.is_idle()),
        (Some(head(202)), false)
    );
    let mut input = &b"lloHTTP"[..];
    assert!(reader
        .next(&mut input)
        .expect("an answer")
        .is_some_and(|answer| answer.reusable));
    assert_eq!((input, reader.is_idle()), (&b"HTTP"[..], true));
}
