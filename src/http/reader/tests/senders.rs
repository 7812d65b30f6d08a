//! What other programs send, and what they are told.

use super::*;

/// RFC 9112 section 5: it is no part of the value. Only spaces and tabs are white space.
#[test]
fn white_space_around_a_length_is_taken() {
    for (headers, body) in [
        ("Content-Length:5", "hello"),
        ("Content-Length:  5", "hello"),
        ("Content-Length: 5 ", "hello"),
        ("Content-Length:\t 5\t \t", "hello"),
        ("Transfer-Encoding:\tchunked", "5\r\nhello\r\n0\r\n\r\n"),
        (
            "Transfer-Encoding:  chunked ",
            "5 \t; a=b\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n{body}");
        let behind = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let stream = [request.as_bytes(), behind.as_bytes()].concat();
        for seen in [
            whole(&stream).0,
            read(stream.chunks(1), &Limits::default()).0,
        ] {
            assert_eq!(bodies(&seen), [&b"hello"[..], b""], "{headers:?}");
        }
    }
}

/// Whatever a client sends behind a POST without a length is not read as a request.
#[test]
fn a_post_without_a_length_is_the_last() {
    for (method, keep) in [
        ("POST", false),
        ("PUT", false),
        ("GET", true),
        ("DELETE", true),
    ] {
        let head = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut input = head.as_bytes();
        let mut reader = Reader::new();
        let Ok(Step::Request(request)) = reader.next(&mut input, &Limits::default()) else {
            panic!("{method}");
        };
        assert_eq!((request.keep_alive, request.has_length), (keep, false));
    }
    let empty = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    let mut reader = Reader::new();
    let Ok(Step::Request(request)) = reader.next(&mut &empty[..], &Limits::default()) else {
        panic!("a request");
    };
    assert!(request.keep_alive && request.has_length);
}

#[test]
fn who_is_asked_and_for_whom() {
    for (target, host, expected) in [
        ("/a", "h:80", "h:80"),
        ("http://x.example:9/a", "h", "x.example:9"),
        ("/a", "", ""),
    ] {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\norigin: http://o.example \r\nX-F: 1\r\nx-f: 2\r\n\r\n"
        );
        let mut reader = Reader::new();
        let Ok(Step::Request(request)) = reader.next(&mut head.as_bytes(), &Limits::default())
        else {
            panic!("{target}");
        };
        assert_eq!((request.host, request.path), (expected, "/a"));
        assert_eq!(request.origin, Some("http://o.example"));
        assert!(request.headers("X-F").eq(["1", "2"]));
    }
}

#[test]
fn a_proxy_header_is_named() {
    for bytes in [
        &b"PROXY TCP4 10.1.1.1 10.1.1.2 4242 3000\r\nGET / HTTP/1.1\r\n\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02GET /",
    ] {
        let (seen, _) = whole(bytes);
        match &seen[..] {
            [Seen::Refused(error)] => {
                assert_eq!((error.status, error.error), (400, "proxy_header"));
                assert!(error.detail.contains("PROXY header"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}
