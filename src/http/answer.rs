//! What was answered to a request: its status, and whether the connection can be used again.
//!
//! ```text
//!   HTTP/1.1 100 Continue\r\n\r\n  HTTP/1.1 202 Accepted\r\n...\r\n\r\n  {"ok":true}
//!   skipped                        status                                next: skipped, never held
//!                                                                        read: given out as it comes
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
const SKIPPED_BYTES_MAX: usize = 1 << 20;
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

/// Reads the answers of one connection, one after another: with [`ResponseReader::next`] what only their status is
/// wanted of, with [`ResponseReader::read`] their bodies as well.
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
        /// Bytes that it had so far.
        taken: usize,
    },
    /// Until the connection closes.
    Close,
    /// Nothing tells where it ends.
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
        self.until_body(input)?;
        Ok(self.skip(input))
    }

    /// As [`ResponseReader::next`], with the body given to `sink` as it comes, and whether a chunk ends behind those
    /// bytes; the last chunk is empty. A body of more than `bytes_max` by its length is refused, and so are chunks of more than that in one
    /// input. A body that nothing else bounds ends with the connection: [`ResponseReader::end`].
    ///
    /// # Errors
    /// What came is no answer, its body is larger, or nothing tells where it ends.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        bytes_max: usize,
        mut sink: impl FnMut(&[u8], bool),
    ) -> Result<Option<Answer>, HttpError> {
        self.until_body(input)?;
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        match &mut body.rest {
            Rest::Length(length) if *length > bytes_max => {
                let detail = format!("body of {length} bytes or more: at most {bytes_max}");
                return Err(HttpError::fatal(502, "bad_answer", detail));
            }
            Rest::Length(rest) => {
                let (data, behind) = input.split_at((*rest).min(input.len()));
                (*rest, *input) = (*rest - data.len(), behind);
                sink(data, false);
                if *rest > 0 {
                    return Ok(None);
                }
            }
            Rest::Chunks { decoder, .. } => {
                if !decoder.feed(input, bytes_max, &mut sink)? {
                    return Ok(None);
                }
                sink(&[], true);
            }
            Rest::Close => {
                sink(std::mem::take(input), false);
                return Ok(None);
            }
            Rest::Unknown => {
                let detail = "nothing tells where the body of an answer ends";
                return Err(HttpError::fatal(502, "bad_answer", detail));
            }
        }
        let reusable = body.keep_alive;
        Ok(self.closed().map(|answer| Answer { reusable, ..answer }))
    }

    /// The body that is on its way comes in chunks.
    pub fn is_chunked(&self) -> bool {
        let body = self.body.as_ref();
        body.is_some_and(|body| matches!(body.rest, Rest::Chunks { .. }))
    }

    /// The connection was closed where [`ResponseReader::read`] waited for more: the answer, if that is how its body
    /// ends.
    pub fn end(&mut self) -> Option<Answer> {
        let body = self.body.as_ref();
        let is_whole = body.is_some_and(|body| matches!(body.rest, Rest::Close));
        self.closed().filter(|_| is_whole)
    }

    /// Cuts heads off the input up to the first that is not an interim one.
    fn until_body(&mut self, input: &mut &[u8]) -> Result<(), HttpError> {
        while self.body.is_none() {
            let Some(head) = self.head(input)? else {
                return Ok(());
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
        Ok(())
    }

    /// Takes the head of the next answer off `input`, if it is whole by then: what it says tells whether its body is
    /// wanted ([`ResponseReader::read`]) or not ([`ResponseReader::next`]).
    ///
    /// # Errors
    /// What came is no answer.
    pub fn begin(&mut self, input: &mut &[u8]) -> Result<Option<AnswerHead>, HttpError> {
        self.until_body(input)?;
        Ok(self.answer_head())
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
            Rest::Length(rest) if *rest > SKIPPED_BYTES_MAX => false,
            Rest::Length(rest) => {
                let len = (*rest).min(input.len());
                *input = &input[len..];
                *rest -= len;
                if *rest > 0 {
                    return None;
                }
                body.keep_alive
            }
            Rest::Chunks { decoder, taken } => {
                let room = SKIPPED_BYTES_MAX - *taken;
                let fed = decoder.feed(input, room, |data, _| *taken += data.len());
                match fed {
                    Ok(false) => return None,
                    Ok(true) => body.keep_alive,
                    Err(_) => false,
                }
            }
            Rest::Close | Rest::Unknown => false,
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
            taken: 0,
        },
        (_, 1, 0) => length.map_or(Rest::Unknown, Rest::Length),
        (_, 0, 0) => Rest::Close,
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
mod tests;
