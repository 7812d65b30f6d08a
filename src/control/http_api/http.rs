//! The server's side of HTTP/1.1 as the admin listener and the answers to the shards need it: one request to a
//! connection, everything bounded.
//!
//! ```text
//! Requests       bytes -> Ask
//! respond        Response -> bytes
//! ```

use super::response::Response;
use weir_http::{http_date as date, Ask, HeadWriter, Limits, Reader, Step};
use weir_ledger::run_report::Stamp;

/// Most bytes of a request or response before its body.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a request's body, compressed or not.
const REQUEST_BODY_MAX: usize = 256 * 1024;

/// Reads one request, as strictly as the shards do.
#[derive(Default)]
pub struct Requests(Reader);

impl Requests {
    /// Takes the next bytes; the request, when it is there.
    ///
    /// # Errors
    /// What came is no request that is taken here: the status and text of the answer.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Ask>, (u16, String)> {
        let limits = Limits {
            head_bytes: HEAD_BYTES_MAX,
            body_bytes: REQUEST_BODY_MAX,
            inflated_bytes: REQUEST_BODY_MAX,
            ..Limits::default()
        };
        let mut input = bytes;
        loop {
            match self.0.next(&mut input, &limits) {
                Ok(Step::NeedMore) => return Ok(None),
                // Not asked to go on, clients do so all the same after a moment.
                Ok(Step::Continue) => {}
                Ok(Step::Request(request)) => return Ok(Some(Ask::of(&request))),
                Err(error) => return Err((error.status, error.detail)),
            }
        }
    }
}

/// The bytes of an answer. `with_body` is false for HEAD, whose answer has the same head.
pub fn respond(response: &Response, with_body: bool, keep_alive: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut head = head(&mut out, response, keep_alive);
    if !matches!(response.status, 204 | 304) {
        head.length(response.body.len());
    }
    head.end();
    if with_body {
        out.extend_from_slice(&response.body);
    }
    out
}

/// The head of an answer that comes in [`chunk`]s.
pub fn respond_chunked(response: &Response, keep_alive: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut head = head(&mut out, response, keep_alive);
    head.header("Transfer-Encoding", "chunked");
    head.end();
    out
}

/// One piece of it; an empty one is the last.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

fn head<'a>(out: &'a mut Vec<u8>, response: &Response, keep_alive: bool) -> HeadWriter<'a> {
    let mut head = HeadWriter::response(out, response.status);
    if !response.content_type.is_empty() {
        head.header("Content-Type", response.content_type);
    }
    for (name, value) in &response.headers {
        head.header(name, value);
    }
    let date = date(Stamp::now().unix_ns / 1_000_000_000);
    head.header("Date", std::str::from_utf8(&date).unwrap_or_default());
    head.header("X-Content-Type-Options", "nosniff");
    let connection = if keep_alive { "keep-alive" } else { "close" };
    head.header("Connection", connection);
    head
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::super::client::Reply;
    use super::*;

    /// Gives one byte at a time, as a slow peer does, and is interrupted before each.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            (out[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    #[test]
    fn a_request_in_pieces_is_the_same() {
        let text = b"PUT /a%20b?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET";
        let mut dripped = Requests::default();
        let mut drip = text.chunks(1).map(|byte| dripped.take(byte));
        for ask in [
            Requests::default().take(text),
            drip.find(|taken| *taken != Ok(None)).expect("dripped"),
        ] {
            let ask = ask.expect("a request").expect("whole");
            assert_eq!((ask.method.as_str(), ask.path.as_str()), ("PUT", "/a%20b"));
            assert_eq!((ask.query.as_str(), &ask.body[..]), ("x=1", &b"abc"[..]));
            assert_eq!(ask.header("host"), Some("h"));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_status() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
        for (text, status) in [
            ("GARBAGE\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n",
                413,
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
                501,
            ),
            (long.as_str(), 431),
        ] {
            let refused = Requests::default().take(text.as_bytes()).expect_err(text);
            assert_eq!(refused.0, status, "{text:.40}");
        }
        assert_eq!(Requests::default().take(b"GET / HTT"), Ok(None));
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        let response = Response {
            status: 503,
            content_type: "text/plain",
            headers: vec![("Retry-After", "1".into()), ("X", "a\r\nEvil: b".into())],
            body: b"not now".to_vec(),
        };
        let bytes = respond(&response, true, false);
        let reply = Reply::read(Drip(&bytes, false)).expect("a response");
        assert_eq!(reply.status, 503);
        assert_eq!(reply.body().expect("a body"), b"not now");
        let text = String::from_utf8(bytes).expect("text");
        for line in [
            "HTTP/1.1 503 Service Unavailable\r\n",
            "Retry-After: 1\r\n",
            "X: a??Evil: b\r\n",
            "Content-Length: 7\r\n",
            "Connection: close\r\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!respond(&response, false, true).ends_with(b"now"));

        let mut bytes = respond_chunked(&response, true);
        for piece in ["one", "two", ""] {
            bytes.extend(chunk(piece.as_bytes()));
        }
        let mut reply = Reply::read(Drip(&bytes, false)).expect("a response");
        assert_eq!(reply.piece().expect("first"), Some(b"one".to_vec()));
        assert_eq!(reply.piece().expect("second"), Some(b"two".to_vec()));
        assert_eq!(reply.piece().expect("end"), None);
    }
}
