//! Requests in pieces, framing that two readers could read in two ways, bounds, and what is kept.

use proptest::prelude::*;

use super::*;

/// One thing that a stream yields.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Request {
        line: String,
        tag: Option<String>,
        content_type: Option<String>,
        keep_alive: bool,
        http10: bool,
        body: Vec<u8>,
    },
    Refused(HttpError),
}

/// All that `pieces` yield, up to an error that closes; and whether the reader wants more of a request.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> (Vec<Seen>, bool) {
    let mut reader = Reader::new();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut input = piece;
        loop {
            match reader.next(&mut input, limits) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Continue) => {}
                Ok(Step::Request(request)) => seen.push(Seen::Request {
                    line: format!("{} {} {}", request.method, request.path, request.query),
                    tag: request.header("x-tag").map(str::to_string),
                    content_type: request.content_type.map(str::to_string),
                    keep_alive: request.keep_alive,
                    http10: request.http10,
                    body: request.body.to_vec(),
                }),
                Err(error) => {
                    let close = error.close;
                    seen.push(Seen::Refused(error));
                    if close {
                        let again = reader.next(&mut input, limits).expect_err("it is broken");
                        assert_eq!((again.error, again.close), ("stream_broken", true));
                        return (seen, false);
                    }
                }
            }
        }
        assert!(input.is_empty(), "NeedMore leaves nothing");
        assert!(reader.buffered() <= limits.head_bytes + limits.body_bytes);
        assert!(reader.capacity() <= 2 * limits.head_bytes + limits.body_bytes);
        assert!(!reader.is_idle() || reader.capacity() <= IDLE_BYTES_MAX);
    }
    (seen, !reader.is_idle())
}

fn whole(bytes: &[u8]) -> (Vec<Seen>, bool) {
    read([bytes], &Limits::default())
}

/// Status and class of the only thing in a stream.
fn refusal(bytes: &[u8]) -> (u16, &'static str) {
    let by_byte = read(bytes.chunks(1), &Limits::default());
    let (seen, _) = whole(bytes);
    assert_eq!(seen, by_byte.0, "{}", bytes.escape_ascii());
    match seen.last() {
        Some(Seen::Refused(error)) => {
            assert!(error.close && !error.detail.is_empty());
            (error.status, error.error)
        }
        other => panic!("{} is {other:?}", bytes.escape_ascii()),
    }
}

fn bodies(seen: &[Seen]) -> Vec<&[u8]> {
    let body = |seen: &'_ Seen| match seen {
        Seen::Request { .. } => (),
        Seen::Refused(error) => panic!("{error}"),
    };
    seen.iter().for_each(body);
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Request { body, .. } => Some(body.as_slice()),
            Seen::Refused(_) => None,
        })
        .collect()
}

#[test]
fn a_request_that_lies_whole_in_the_input_is_borrowed() {
    let bytes = b"POST /logs?emitterId=a HTTP/1.1\r\nHost: h\r\ncontent-type: application/json\r\n\
                  X-Tag:  seven \r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut input = &bytes[..];
    let mut reader = Reader::new();
    let limits = Limits::default();
    let Ok(Step::Request(request)) = reader.next(&mut input, &limits) else {
        panic!("a request");
    };
    assert_eq!(request.method, "POST");
    assert_eq!((request.path, request.query), ("/logs", "emitterId=a"));
    assert_eq!(request.content_type, Some("application/json"));
    assert_eq!(request.header("X-TAG"), Some("seven"));
    assert_eq!(request.header("X-Ta"), None);
    assert!(request.keep_alive && !request.http10);
    assert_eq!(request.body, b"hi");
    assert!(bytes.as_ptr_range().contains(&request.body.as_ptr()));
    assert!(bytes.as_ptr_range().contains(&request.path.as_ptr()));
    assert_eq!(reader.capacity(), 0, "nothing was copied");
    let Ok(Step::Request(request)) = reader.next(&mut input, &limits) else {
        panic!("the second");
    };
    assert_eq!((request.method, request.body), ("GET", &b""[..]));
    assert!(input.is_empty() && reader.is_idle());
}

#[test]
fn a_reader_is_small() {
    assert!(size_of::<Reader>() <= 160, "{}", size_of::<Reader>());
}

/// What two implementations could read in two ways, and what else no request may be.
#[test]
fn ambiguous_framing_is_refused() {
    let table: &[(&str, u16, &str)] = &[
        // Two framings.
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            400,
            "two_framings",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            400,
            "two_framings",
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5",
            400,
            "repeated_header",
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6",
            400,
            "repeated_header",
        ),
        (
            "Content-Length: 5\r\ncontent-length: 0",
            400,
            "repeated_header",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            400,
            "repeated_header",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            400,
            "repeated_header",
        ),
        // Lengths.
        ("Content-Length: +5", 400, "bad_content_length"),
        ("Content-Length: -5", 400, "bad_content_length"),
        ("Content-Length: 0x5", 400, "bad_content_length"),
        ("Content-Length: 5, 5", 400, "bad_content_length"),
        ("Content-Length: 5 5", 400, "bad_content_length"),
        ("Content-Length: 5.0", 400, "bad_content_length"),
        ("Content-Length: 1_000", 400, "bad_content_length"),
        (
            "Content-Length: 18446744073709551616",
            400,
            "bad_content_length",
        ),
        (
            "Content-Length: 99999999999999999999999999",
            400,
            "bad_content_length",
        ),
        ("Content-Length: ", 400, "bad_framing"),
        ("Content-Length:", 400, "bad_framing"),
        ("Content-Length: 5 \x0b", 400, "bad_header"),
        ("Content-Length: \x0c5", 400, "bad_header"),
        ("Content-Length: \u{a0}5", 400, "bad_content_length"),
        ("Content-Length: 5\r\n ", 400, "bad_header"),
        ("Transfer-Encoding: \t ", 400, "bad_framing"),
        (
            "Content-Length: 18446744073709551615",
            413,
            "body_too_large",
        ),
        ("Content-Length: 1048577", 413, "body_too_large"),
        // Codings.
        ("Transfer-Encoding: xchunked", 400, "bad_transfer_encoding"),
        (
            "Transfer-Encoding: chunked, identity",
            400,
            "bad_transfer_encoding",
        ),
        ("Transfer-Encoding: identity", 400, "bad_transfer_encoding"),
        (
            "Transfer-Encoding: identity, chunked",
            400,
            "bad_transfer_encoding",
        ),
        (
            "Transfer-Encoding: \"chunked\"",
            400,
            "bad_transfer_encoding",
        ),
        (
            "Transfer-Encoding: chunked;a=b",
            400,
            "bad_transfer_encoding",
        ),
        (
            "Transfer-Encoding: gzip, chunked",
            501,
            "bad_transfer_encoding",
        ),
        (
            "Transfer-Encoding: chunked, chunked",
            501,
            "bad_transfer_encoding",
        ),
        ("Transfer-Encoding: gzip", 501, "bad_transfer_encoding"),
        ("Transfer-Encoding: ", 400, "bad_framing"),
        ("Transfer-Encoding: \x0bchunked", 400, "bad_header"),
        // Lines.
        ("Transfer-Encoding : chunked", 400, "bad_header"),
        ("Content-Length : 5", 400, "bad_header"),
        (" Content-Length: 5", 400, "bad_header"),
        ("X: a\r\n b", 400, "bad_header"),
        ("X: a\r\n\tb", 400, "bad_header"),
        ("X: a\rContent-Length: 5", 400, "bad_header"),
        ("X: a\0", 400, "bad_header"),
        ("X: a\x7f", 400, "bad_header"),
        ("X\0: a", 400, "bad_header"),
        ("X(: a", 400, "bad_header"),
        (": a", 400, "bad_header"),
        ("no colon", 400, "bad_header"),
        ("X: a\nContent-Length: 5", 400, "bare_lf"),
        ("X: a\n", 400, "bare_lf"),
        // Hosts.
        ("Host: other", 400, "bad_host"),
        ("Host: h", 400, "bad_host"),
        // Origins.
        ("Origin: http://a\r\nOrigin: http://b", 400, "bad_origin"),
        // What is not understood.
        ("Expect: 200-ok", 417, "unsupported_expectation"),
        (
            "Expect: 100-continue\r\nExpect: 100-continue",
            400,
            "repeated_header",
        ),
        (
            "Content-Length: 5\r\nContent-Encoding: br",
            415,
            "unsupported_coding",
        ),
        (
            "Content-Length: 5\r\nContent-Encoding: gzip, gzip",
            415,
            "unsupported_coding",
        ),
        (
            "Content-Length: 5\r\nContent-Encoding: gzip\r\nContent-Encoding: zstd",
            400,
            "repeated_header",
        ),
        (
            "Content-Type: a/b\r\nContent-Type: a/b",
            400,
            "bad_content_type",
        ),
    ];
    for (headers, status, error) in table {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\nhello");
        assert_eq!(
            refusal(request.as_bytes()),
            (*status, *error),
            "{headers:?}"
        );
    }
}

#[test]
fn request_lines_that_are_refused() {
    let table: &[(&str, u16, &str)] = &[
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "bad_version"),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "bad_version"),
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505, "bad_version"),
        ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505, "bad_version"),
        ("GET / http/1.1\r\nHost: h\r\n\r\n", 400, "bad_version"),
        ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", 400, "bad_head"),
        ("GET / \r\nHost: h\r\n\r\n", 400, "bad_version"),
        ("GET /\r\n\r\n", 400, "bad_head"),
        ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_head"),
        ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_head"),
        ("GET / HTTP/1.1\n\n", 400, "bare_lf"),
        ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_method"),
        ("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_method"),
        (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_method"),
        ("\x16\x03\x01\x02", 400, "bad_method"),
        ("G{T / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_head"),
        ("GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_target"),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_target"),
        ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_target"),
        ("GET /é HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_target"),
        (
            "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            "bad_target",
        ),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_target"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "bad_host"),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
            400,
            "bad_host",
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "bad_transfer_encoding",
        ),
    ];
    for (request, status, error) in table {
        assert_eq!(
            refusal(request.as_bytes()),
            (*status, *error),
            "{request:?}"
        );
    }
}

#[test]
fn chunks() {
    let post = |body: &str| {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{body}").into_bytes()
    };
    for (body, data) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        (
            "5;a=\"b c\"\r\nhello\r\n000A\r\n, wide wor\r\n2\r\nld\r\n0;x\r\nT: 1\r\nU:\r\n\r\n",
            "hello, wide world",
        ),
    ] {
        for (seen, wants) in [
            whole(&post(body)),
            read(post(body).chunks(1), &Limits::default()),
        ] {
            assert_eq!(bodies(&seen), [data.as_bytes()]);
            assert!(!wants);
        }
    }
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
    let trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(9000));
    for (body, status, error) in [
        ("5\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("5\r\nhello\n0\r\n\r\n", 400, "bad_chunk"),
        ("5\r\nhello0\r\n\r\n", 400, "bad_chunk"),
        ("5\r\nhello!\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("5 \r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        (" 5\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("+5\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("0x5\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("\r\n\r\n", 400, "bad_chunk"),
        ("\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        (";a\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("5;a\nb\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("5;a\rb\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", 400, "bad_chunk"),
        ("0\r\n\n", 400, "bad_chunk"),
        ("0\r\nno colon\r\n\r\n", 400, "bad_chunk"),
        ("0\r\n folded\r\n\r\n", 400, "bad_chunk"),
        ("0\r\n: a\r\n\r\n", 400, "bad_chunk"),
        (&long, 400, "bad_chunk"),
        (&trailers, 431, "trailers_too_large"),
        ("ffffffffffffffff\r\n", 413, "body_too_large"),
        ("100001\r\n", 413, "body_too_large"),
    ] {
        assert_eq!(refusal(&post(body)), (status, error), "{body:.40?}");
    }
}

#[test]
fn limits_are_exact() {
    let limits = Limits {
        head_bytes: 200,
        request_line_bytes: 60,
        headers_max: 3,
        body_bytes: 10,
        inflated_bytes: 20,
    };
    let check = |request: &[u8], expected: Result<usize, (u16, &str)>| {
        let by_byte = read(request.chunks(1), &limits);
        let seen = read([request], &limits);
        assert_eq!(seen, by_byte);
        let found = match &seen.0[..] {
            [Seen::Request { body, .. }] => Ok(body.len()),
            [Seen::Refused(error)] => Err((error.status, error.error)),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{}", request.escape_ascii());
    };
    let head = |bytes: usize| {
        let fixed = "GET / HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n";
        let value = "x".repeat(bytes - fixed.len());
        format!("GET / HTTP/1.1\r\nHost: h\r\nA: {value}\r\n\r\n").into_bytes()
    };
    check(&head(200), Ok(0));
    check(&head(201), Err((431, "head_too_large")));
    let line = |bytes: usize| {
        let path = "x".repeat(bytes - "GET / HTTP/1.1\r".len());
        format!("GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
    };
    check(&line(60), Ok(0));
    check(&line(61), Err((414, "uri_too_long")));
    check(b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\n\r\n", Ok(0));
    check(
        b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n",
        Err((431, "too_many_headers")),
    );
    let sized = |bytes: usize| {
        let body = "x".repeat(bytes);
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n{body}").into_bytes()
    };
    check(&sized(10), Ok(10));
    check(&sized(11)[..59], Err((413, "body_too_large")));
    let chunked = |chunks: &str| {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{chunks}").into_bytes()
    };
    check(&chunked("6\r\n123456\r\n4\r\n7890\r\n0\r\n\r\n"), Ok(10));
    check(&chunked("6\r\n123456\r\n5"), Err((413, "body_too_large")));
}

#[test]
fn clients_that_wait_are_told_to_continue() {
    let limits = Limits::default();
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let mut reader = Reader::new();
    let mut input = &head[..];
    assert!(matches!(
        reader.next(&mut input, &limits),
        Ok(Step::Continue)
    ));
    assert!(
        matches!(reader.next(&mut input, &limits), Ok(Step::NeedMore)),
        "once"
    );
    assert!(reader.in_body() && !reader.is_idle());
    let mut input = &b"hi"[..];
    assert!(matches!(reader.next(&mut input, &limits), Ok(Step::Request(r)) if r.body == b"hi"));

    let at_once = [&head[..], b"hi"].concat();
    let mut input = &at_once[..];
    let mut reader = Reader::new();
    assert!(
        matches!(reader.next(&mut input, &limits), Ok(Step::Request(_))),
        "it did not wait"
    );
    let too_much =
        b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n";
    assert_eq!(
        refusal(too_much),
        (413, "body_too_large"),
        "before the body is asked for"
    );
    let old = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut input = &old[..];
    assert!(matches!(
        Reader::new().next(&mut input, &limits),
        Ok(Step::NeedMore)
    ));
}

#[test]
fn connections_are_kept_or_not() {
    for (version, header, keep) in [
        ("1.1", "X: y", true),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: Keep-Alive, Close", false),
        ("1.1", "connection: upgrade", true),
        ("1.0", "X: y", false),
        ("1.0", "Connection: keep-alive", true),
        ("1.0", "Connection: keep-alive, close", false),
    ] {
        let request = format!("GET / HTTP/{version}\r\nHost: h\r\n{header}\r\n\r\n");
        let (seen, _) = whole(request.as_bytes());
        let Seen::Request {
            keep_alive, http10, ..
        } = &seen[0]
        else {
            panic!("{seen:?}");
        };
        assert_eq!(
            (*keep_alive, *http10),
            (keep, version == "1.0"),
            "{request:?}"
        );
    }
}

#[test]
fn targets() {
    for (target, line) in [
        ("/a/b?c=d?e", "GET /a/b c=d?e"),
        ("/", "GET / "),
        ("/?", "GET / "),
        ("http://host:80/a?b", "GET /a b"),
        ("HTTP://host", "GET / "),
        ("http://host?b", "GET / b"),
    ] {
        let (seen, _) = whole(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert!(matches!(&seen[..], [Seen::Request { line: found, .. }] if found == line));
    }
}

/// Found by the fuzz target: a call without input while half of an empty line is held.
#[test]
fn an_empty_piece_changes_nothing() {
    let stream = b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n\r\n";
    let pieces = stream.chunks(1).flat_map(|piece| [piece, &[]]);
    assert_eq!(read(pieces, &Limits::default()), whole(stream));
}

#[test]
fn memory_goes_back_when_a_request_is_through() {
    let limits = Limits::default();
    let mut reader = Reader::new();
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
    let mut input = &head[..];
    assert!(matches!(
        reader.next(&mut input, &limits),
        Ok(Step::NeedMore)
    ));
    assert!(
        reader.capacity() < 1024,
        "what is announced is not reserved"
    );
    let body = vec![b'x'; 1_000_000];
    for piece in body[..999_999].chunks(16_000) {
        let mut input = piece;
        assert!(matches!(
            reader.next(&mut input, &limits),
            Ok(Step::NeedMore)
        ));
    }
    assert_eq!(reader.buffered(), head.len() + 999_999);
    assert!(
        reader.capacity() <= head.len() + 1_000_000,
        "{}",
        reader.capacity()
    );
    let mut input = &b"x\r\n"[..];
    assert!(matches!(
        reader.next(&mut input, &limits),
        Ok(Step::Request(_))
    ));
    assert!(reader.is_idle() && reader.buffered() == 0);
    assert!(matches!(
        reader.next(&mut input, &limits),
        Ok(Step::NeedMore)
    ));
    assert!(reader.is_idle() && reader.capacity() <= IDLE_BYTES_MAX);
}

/// Streams of requests, most of them good, some broken by a changed byte.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let gzip = weir_testkit::pack::gzip(b"hello hello hello");
    let zstd = weir_testkit::pack::zstd(b"hello hello hello");
    let packed = |coding: &str, body: &[u8]| {
        let head = format!(
            "POST /z HTTP/1.1\r\nHost: h\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let kinds = vec![
        b"GET /health HTTP/1.1\r\nHost: h\r\nX-Tag: a b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"\r\n\r\nPOST /logs?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Type: a/b\r\n\r\n\
          5;e\r\nhello\r\nb\r\n world wide\r\n0\r\nT: x\r\n\r\n"
            .to_vec(),
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
            .to_vec(),
        packed("gzip", &gzip),
        packed("zstd", &zstd),
        packed("gzip", &gzip[..gzip.len() - 3]),
        packed("zstd", b"no zstd"),
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 301\r\n\r\n".to_vec(),
        [b"GET / HTTP/1.1\r\nA: ", &[b'x'; 300][..]].concat(),
    ];
    let request = (0..kinds.len()).prop_map(move |kind| kinds[kind].clone());
    let requests = proptest::collection::vec(request, 1..6);
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (requests, changes).prop_map(|(requests, changes)| {
        let mut stream = requests.concat();
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        stream
    })
}

proptest! {
    #[test]
    fn pieces_read_as_the_whole(
        stream in streams(),
        mut lengths in proptest::collection::vec(0..40_usize, 1..20),
    ) {
        let limits = Limits {
            head_bytes: 250,
            request_line_bytes: 200,
            headers_max: 8,
            body_bytes: 300,
            inflated_bytes: 17,
        };
        let expected = read([&stream[..]], &limits);
        prop_assert_eq!(&read(stream.chunks(1), &limits), &expected);
        lengths.push(1);
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        prop_assert_eq!(&read(pieces, &limits), &expected);
    }
}

#[test]
fn a_request_that_is_settled_keeps_no_memory() {
    let mut reader = Reader::new();
    let limits = Limits::default();
    let body = vec![b'x'; 1 << 20];
    let mut head: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n";
    assert!(matches!(
        reader.next(&mut head, &limits),
        Ok(Step::NeedMore)
    ));
    reader.settle();
    assert!(reader.in_body(), "nothing changes within a request");
    let mut input = body.as_slice();
    let step = reader.next(&mut input, &limits).expect("a request");
    assert!(matches!(step, Step::Request(request) if request.body.len() == 1 << 20));
    assert!(reader.capacity() > 1 << 20);
    reader.settle();
    assert!(reader.capacity() <= 512, "{}", reader.capacity());
    assert!(reader.is_idle());
}

mod greetings;
mod senders;

/// In the words that all ports share.
#[test]
fn tls_is_named() {
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let named = weir_protocol::foreign::sentence(hello);
    let (seen, _) = whole(hello);
    let [Seen::Refused(HttpError { detail, .. })] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert!(!named.is_empty() && detail.ends_with(&named), "{detail}");
}
