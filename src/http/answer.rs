//! An analyzer's answer to a POST: its status, and whether the connection can be used again.
//!
//! ```text
//!   HTTP/1.1 100 Continue\r\n\r\n  HTTP/1.1 202 Accepted\r\n...\r\n\r\n  {"ok":true}
//!   skipped                        status                                skipped, never held
//! ```

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use super::chunked::Decoder;
use super::error::{quoted, HttpError};
use super::time::parse_http_date;
use weir_protocol::foreign::sentence;

/// Head of an answer. An analyzer that sends a longer one is not understood.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// More of a body than this is not worth skipping: the connection is closed.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Headers of an answer.
const HEADERS_MAX: usize = 256;
/// Of what is no answer, so many bytes are shown.
const FIRST_BYTES_SHOWN: usize = 24;
/// Of where a redirect leads, so many bytes are kept.
const LOCATION_BYTES_KEPT: usize = 200;
/// Interim answers (1xx) before the real one.
const INTERIM_MAX: u8 = 8;

/// What an analyzer answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What its head says.
    pub head: AnswerHead,
    /// The connection can take another request, if nothing follows in the input.
    pub reusable: bool,
}

/// What the head of an answer says; its body may be on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// 101, or 200 to 999; 2xx is the ACK.
    pub status: u16,
    /// When to ask again, if it says so.
    pub retry_after: Option<RetryAfter>,
    /// Where a redirect (3xx) leads, quoted to be shown: 200 bytes of it at most.
    pub location: Option<Arc<str>>,
}

/// `Retry-After`, RFC 9110, 10.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// So many seconds from now.
    Seconds(u64),
    /// Not before this, in milliseconds since 1970.
    At(u64),
}

impl RetryAfter {
    /// `120`, or a date of HTTP.
    fn parse(value: &[u8]) -> Option<RetryAfter> {
        let text = std::str::from_utf8(value).ok()?.trim();
        match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok().map(RetryAfter::Seconds),
            false => parse_http_date(text).map(RetryAfter::At),
        }
    }

    /// How long that is from now, by the wall clock.
    pub fn from(self, unix_ms: u64) -> Duration {
        match self {
            RetryAfter::Seconds(seconds) => Duration::from_secs(seconds),
            RetryAfter::At(at_ms) => Duration::from_millis(at_ms.saturating_sub(unix_ms)),
        }
    }
}

/// Reads the answers of one connection, one after another.
#[derive(Debug, Default)]
pub struct ResponseReader {
    /// What came of a head.
    buf: Vec<u8>,
    interim: u8,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    head: AnswerHead,
    keep_alive: bool,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Length(usize),
    Chunks {
        decoder: Decoder,
        room: usize,
    },
    /// Until the connection closes, or not to be followed.
    Unknown,
}

impl ResponseReader {
    /// For one connection. Allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off `input`; the answer when it is there, its body skipped. An answer that is not
    /// reusable may come before its end. After it the reader is ready for the next one.
    ///
    /// # Errors
    /// What came is no answer: close, and count the POST as failed.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, HttpError> {
        while self.body.is_none() {
            let Some(head) = self.head(input)? else {
                return Ok(None);
            };
            let status = head.head.status;
            if !(100..200).contains(&status) || status == 101 {
                self.body = Some(head);
                break;
            }
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                let detail = format!("more than {INTERIM_MAX} interim answers");
                return Err(HttpError::fatal(502, "bad_answer", detail));
            }
        }
        Ok(self.skip(input))
    }

    /// What the head says as soon as it is there, though the body may be on its way.
    pub fn answer_head(&self) -> Option<AnswerHead> {
        self.body.as_ref().map(|body| body.head.clone())
    }

    /// Bytes of a head that has not come whole.
    pub fn partial(&self) -> usize {
        self.buf.len()
    }

    /// The connection was closed: the answer, if its status had come.
    pub fn closed(&mut self) -> Option<Answer> {
        let body = self.body.take();
        *self = Self::default();
        body.map(|body| Answer {
            head: body.head,
            reusable: false,
        })
    }

    /// Nothing of an answer has come.
    pub fn is_idle(&self) -> bool {
        self.buf.is_empty() && self.body.is_none() && self.interim == 0
    }

    /// Cuts one head off the input; `None` while it is incomplete.
    fn head(&mut self, input: &mut &[u8]) -> Result<Option<Body>, HttpError> {
        if self.buf.is_empty() {
            if let Some(end) = head_end(input, 0) {
                if end <= HEAD_BYTES_MAX {
                    let (head, rest) = input.split_at(end);
                    *input = rest;
                    return read(head).map(Some);
                }
            }
        }
        let held = self.buf.len();
        let more = input.len().min(HEAD_BYTES_MAX.saturating_sub(held));
        self.buf.extend_from_slice(&input[..more]);
        let from = held.saturating_sub(3);
        let Some(end) = head_end(&self.buf, from) else {
            *input = &input[more..];
            check_start(&self.buf)?;
            if self.buf.len() >= HEAD_BYTES_MAX {
                let detail = format!("the head of an answer is longer than {HEAD_BYTES_MAX} bytes");
                return Err(HttpError::fatal(502, "bad_answer", detail));
            }
            return Ok(None);
        };
        *input = &input[end - held..];
        let buf = std::mem::take(&mut self.buf);
        read(&buf[..end]).map(Some)
    }

    fn skip(&mut self, input: &mut &[u8]) -> Option<Answer> {
        let body = self.body.as_mut()?;
        let reusable = match &mut body.rest {
            Rest::Length(rest) => {
                let len = (*rest).min(input.len());
                *input = &input[len..];
                *rest -= len;
                if *rest > 0 {
                    return None;
                }
                body.keep_alive
            }
            Rest::Chunks { decoder, room } => {
                let mut taken = 0;
                let fed = decoder.feed(input, *room, |data| taken += data.len());
                *room -= taken;
                match fed {
                    Ok(false) => return None,
                    Ok(true) => body.keep_alive,
                    Err(_) => false,
                }
            }
            Rest::Unknown => false,
        };
        let head = body.head.clone();
        *self = Self::default();
        Some(Answer { head, reusable })
    }
}

/// Where a head ends: behind an empty line. Lines end with CR LF, or with LF alone (RFC 9112, 2.2).
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| {
        let behind = from + at + 1;
        let rest = &bytes[behind..];
        let empty = [&b"\r\n"[..], b"\n"]
            .into_iter()
            .find(|end| rest.starts_with(end));
        empty.map(|end| behind + end.len())
    })
}

/// Other protocols do not end a head: what cannot become one is refused at once, by name where it is known.
///
/// # Errors
/// It does not begin as an answer.
fn check_start(bytes: &[u8]) -> Result<(), HttpError> {
    let start = bytes.trim_ascii_start();
    if start.iter().zip(b"HTTP/").all(|(is, due)| is == due) {
        return Ok(());
    }
    let first = quoted(&start[..start.len().min(FIRST_BYTES_SHOWN)]);
    let named = match sentence(start) {
        none if none.is_empty() => none,
        named => format!(": {named}"),
    };
    let detail = format!("{first} is no HTTP/1.1 answer{named}");
    Err(HttpError::fatal(502, "bad_answer", detail))
}

/// Reads a whole head.
fn read(head: &[u8]) -> Result<Body, HttpError> {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, head, &mut room);
    let (Ok(httparse::Status::Complete(_)), Some(status), Some(minor)) =
        (parsed, response.code, response.version)
    else {
        if parsed == Err(httparse::Error::TooManyHeaders) {
            let detail = format!("it has more than {HEADERS_MAX} headers, which is the most");
            return Err(HttpError::fatal(502, "bad_answer", detail));
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let detail = format!("{} and its headers are no HTTP/1.1 answer", quoted(line));
        return Err(HttpError::fatal(502, "bad_answer", detail));
    };
    let mut keep_alive = minor == 1;
    let (mut lengths, mut length, mut transfers, mut chunked) = (0, None, 0, false);
    let (mut retry_after, mut location) = (None, None);
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("Connection") {
            let mut options = header.value.split(|byte| *byte == b',');
            keep_alive &= !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        } else if is("Content-Length") {
            lengths += 1;
            length = decimal(header.value);
        } else if is("Transfer-Encoding") {
            transfers += 1;
            chunked = header.value.eq_ignore_ascii_case(b"chunked");
        } else if is("Retry-After") {
            retry_after = RetryAfter::parse(header.value);
        } else if is("Location") && matches!(status, 300..=399) {
            let kept = header.value.len().min(LOCATION_BYTES_KEPT);
            location = Some(quoted(&header.value[..kept]).into());
        }
    }
    let rest = match (status, lengths, transfers) {
        (100 | 102..=199 | 204 | 304, ..) => Rest::Length(0),
        (101, ..) => Rest::Unknown,
        (_, 0, 1) if chunked => Rest::Chunks {
            decoder: Decoder::new(),
            room: BODY_BYTES_MAX,
        },
        (_, 1, 0) => match length {
            Some(length) if length <= BODY_BYTES_MAX => Rest::Length(length),
            _ => Rest::Unknown,
        },
        _ => Rest::Unknown,
    };
    let head = AnswerHead {
        status,
        retry_after,
        location,
    };
    Ok(Body {
        head,
        keep_alive,
        rest,
    })
}

fn decimal(value: &[u8]) -> Option<usize> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
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
}
