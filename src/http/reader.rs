//! Requests out of a stream of bytes.
//!
//! ```text
//!   input   | head | body | head | body | he          requests that lie whole in the input are
//!           '--Request----'                           borrowed from it
//!
//!   buf     | he|ad | bo|dy |                         others are put together here; chunks without
//!           '--Request------'                         their framing
//!   inflated              | body |                    and decompressed here
//! ```

use super::chunked::Decoder;
use super::error::HttpError;
use super::head::{self, Framing, Head, Scan};
use super::limits::Limits;
use weir_inflate::{inflate, Coding, InflateError};

/// What the caller sends when [`Step::Continue`] asks for it.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Capacity that a connection keeps between requests.
const IDLE_BYTES_MAX: usize = 512;

/// What [`Reader::next`] found.
#[derive(Debug)]
pub enum Step<'a> {
    /// All input was taken; come again with more.
    NeedMore,
    /// The client waits before it sends the body: send [`CONTINUE`] and call again, or answer and close.
    Continue,
    /// A whole request.
    Request(Request<'a>),
}

/// One request, valid until the next call.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As sent; methods are case-sensitive.
    pub method: &'a str,
    /// Before `?`, not decoded; starts with `/`, or is `*`.
    pub path: &'a str,
    /// Behind `?`, not decoded; see [`super::parameter`].
    pub query: &'a str,
    /// Header Content-Type.
    pub content_type: Option<&'a str>,
    /// Name and port that are asked, as the client writes them; empty if it does not say.
    pub host: &'a str,
    /// Header Origin: a browser asks, for a page from there.
    pub origin: Option<&'a str>,
    /// Content-Length or Transfer-Encoding was there. Without, a client that sends a body all the same
    /// would have it read as its next request.
    pub has_length: bool,
    /// The client wants to use the connection again, and can: not behind a POST without a length.
    pub keep_alive: bool,
    /// HTTP/1.0: to keep the connection, an answer must say `Connection: keep-alive`.
    pub http10: bool,
    /// Without chunks, inflated.
    pub body: &'a [u8],
    fields: &'a [u8],
}

impl<'a> Request<'a> {
    fn new(head: Head<'a>, body: &'a [u8]) -> Self {
        Self {
            method: head.method,
            path: head.path,
            query: head.query,
            content_type: head.content_type,
            host: head.host,
            origin: head.origin,
            has_length: head.has_length,
            keep_alive: head.keep_alive,
            http10: head.http10,
            body,
            fields: head.fields,
        }
    }

    /// Value of the first header of this name, in any case, without white space around it. `None` also
    /// when it is not UTF-8. Searches the head: for names that are rarely asked for.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        head::header(self.fields, name)
    }

    /// Values of all headers of this name, in their order, as [`Request::header`] gives the first.
    pub fn headers(&self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        head::headers(self.fields, name)
    }

    /// The same with values that are no text.
    pub fn header_values(&self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        head::header_values(self.fields, name)
    }
}

#[derive(Debug)]
enum Phase {
    /// Between requests, or in a head: `buf` has what came of it.
    Head(Scan),
    /// `buf` has the head and what came of the body.
    Body(Body),
    /// A request was given out of `buf`, which is cleared with the next call.
    Spent,
    /// Where the next request starts is not known.
    Broken,
}

#[derive(Debug)]
struct Body {
    head_bytes: usize,
    rest: Rest,
    coding: Option<Coding>,
    expects_continue: bool,
}

#[derive(Debug)]
enum Rest {
    Length(usize),
    Chunks(Decoder),
}

/// Reads the requests of one connection.
#[derive(Debug)]
pub struct Reader {
    buf: Vec<u8>,
    inflated: Vec<u8>,
    phase: Phase,
}

enum Found<'a> {
    NeedMore,
    Continue,
    InInput(Head<'a>, &'a [u8]),
    InBuffer {
        head_bytes: usize,
        coding: Option<Coding>,
    },
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// At the start of a stream. Allocates nothing.
    pub fn new() -> Self {
        Self {
            buf: Vec::new(),
            inflated: Vec::new(),
            phase: Phase::Head(Scan::default()),
        }
    }

    /// The next request of the stream. Takes what it needs off `input`; call again with what is left
    /// until it says [`Step::NeedMore`], which also gives back the memory of the last request.
    ///
    /// # Errors
    /// A request that is refused. Unless it says `close`, the next call reads the next request; if it
    /// does, every later call fails.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        limits: &Limits,
    ) -> Result<Step<'a>, HttpError> {
        let found = self.advance(input, limits).inspect_err(|error| {
            if error.close {
                self.fail();
            }
        })?;
        match found {
            Found::NeedMore => Ok(Step::NeedMore),
            Found::Continue => Ok(Step::Continue),
            Found::InInput(head, body) => Ok(Step::Request(Request::new(head, body))),
            Found::InBuffer { head_bytes, coding } => {
                let (head, body) = self.buf.split_at(head_bytes);
                let body = match coding {
                    None => body,
                    _ => &self.inflated,
                };
                Ok(Step::Request(Request::new(
                    Head::parse(head, limits)?,
                    body,
                )))
            }
        }
    }

    /// Gives the memory of the last request back now, not only with the next call.
    pub fn settle(&mut self) {
        if matches!(self.phase, Phase::Spent) {
            self.release();
        }
    }

    /// Bytes that are held of a request that is not complete.
    pub fn buffered(&self) -> usize {
        match self.phase {
            Phase::Spent => 0,
            _ => self.buf.len(),
        }
    }

    /// Bytes of memory that are held.
    pub fn capacity(&self) -> usize {
        self.buf.capacity() + self.inflated.capacity()
    }

    /// Nothing of a request has come yet.
    pub fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Head(_) => self.buf.is_empty(),
            Phase::Spent => true,
            Phase::Body(_) | Phase::Broken => false,
        }
    }

    /// The head has come, the body not wholly.
    pub fn in_body(&self) -> bool {
        matches!(self.phase, Phase::Body(_))
    }

    fn advance<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: &Limits,
    ) -> Result<Found<'a>, HttpError> {
        if matches!(self.phase, Phase::Spent) {
            self.release();
        }
        match &mut self.phase {
            Phase::Broken => {
                let detail = "an earlier request of this connection could not be followed";
                Err(HttpError::fatal(400, "stream_broken", detail))
            }
            Phase::Body(_) => self.body(input, limits),
            Phase::Head(_) if self.buf.is_empty() => self.fresh(input, limits),
            Phase::Head(_) => self.carried(input, limits),
            Phase::Spent => Ok(Found::NeedMore),
        }
    }

    /// A request that starts with the input.
    fn fresh<'a>(&mut self, input: &mut &'a [u8], limits: &Limits) -> Result<Found<'a>, HttpError> {
        while let [b'\r', b'\n', rest @ ..] = *input {
            *input = rest;
        }
        if input.is_empty() {
            return Ok(Found::NeedMore);
        }
        if *input == b"\r" {
            self.buf.push(b'\r');
            *input = &[];
            return Ok(Found::NeedMore);
        }
        let mut scan = Scan::default();
        let Some(end) = scan.head_end(input, limits)? else {
            self.buf.extend_from_slice(input);
            self.phase = Phase::Head(scan);
            *input = &[];
            return Ok(Found::NeedMore);
        };
        let (head, rest) = input.split_at(end);
        let parsed = Head::parse(head, limits)?;
        if let (Framing::Length(len), None) = (parsed.framing, parsed.coding) {
            if let Some((body, rest)) = rest.split_at_checked(len) {
                *input = rest;
                return Ok(Found::InInput(parsed, body));
            }
        }
        self.buf.extend_from_slice(head);
        *input = rest;
        self.begin_body(&parsed, end);
        self.body(input, limits)
    }

    /// A head of which some bytes are held.
    fn carried<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: &Limits,
    ) -> Result<Found<'a>, HttpError> {
        if input.is_empty() {
            return Ok(Found::NeedMore);
        }
        if self.buf == b"\r" {
            let Some(rest) = input.strip_prefix(b"\n") else {
                return Err(head::cr_alone());
            };
            self.buf.clear();
            *input = rest;
            return self.fresh(input, limits);
        }
        let held = self.buf.len();
        let more = limits.head_bytes.saturating_sub(held).min(input.len());
        self.buf.extend_from_slice(&input[..more]);
        let Phase::Head(scan) = &mut self.phase else {
            return Ok(Found::NeedMore);
        };
        let Some(end) = scan.head_end(&self.buf, limits)? else {
            *input = &input[more..];
            return Ok(Found::NeedMore);
        };
        self.buf.truncate(end);
        *input = &input[end - held..];
        let buf = std::mem::take(&mut self.buf);
        self.begin_body(&Head::parse(&buf, limits)?, end);
        self.buf = buf;
        self.body(input, limits)
    }

    /// `buf` holds the head and nothing else.
    fn begin_body(&mut self, head: &Head<'_>, head_bytes: usize) {
        let rest = match head.framing {
            Framing::Length(len) => Rest::Length(len),
            Framing::Chunked => Rest::Chunks(Decoder::new()),
        };
        self.phase = Phase::Body(Body {
            head_bytes,
            rest,
            coding: head.coding,
            expects_continue: head.expects_continue && head.framing != Framing::Length(0),
        });
    }

    fn body<'a>(&mut self, input: &mut &'a [u8], limits: &Limits) -> Result<Found<'a>, HttpError> {
        let Phase::Body(body) = &mut self.phase else {
            return Ok(Found::NeedMore);
        };
        if std::mem::take(&mut body.expects_continue) && input.is_empty() {
            return Ok(Found::Continue);
        }
        let head_bytes = body.head_bytes;
        let complete = match &mut body.rest {
            Rest::Length(rest) => {
                let (data, behind) = input.split_at((*rest).min(input.len()));
                let all = self.buf.len() + *rest;
                append(&mut self.buf, data, all);
                *input = behind;
                *rest -= data.len();
                *rest == 0
            }
            Rest::Chunks(decoder) => {
                let all = head_bytes + limits.body_bytes;
                let room = all.saturating_sub(self.buf.len());
                decoder.feed(input, room, |data, _| append(&mut self.buf, data, all))?
            }
        };
        if !complete {
            return Ok(Found::NeedMore);
        }
        let coding = body.coding;
        self.phase = Phase::Spent;
        if let Some(coding) = coding {
            self.inflated = unpack(coding, &self.buf[head_bytes..], limits.inflated_bytes)?;
        }
        Ok(Found::InBuffer { head_bytes, coding })
    }

    /// The last request is through: keeps a little memory, no more.
    fn release(&mut self) {
        self.buf.clear();
        self.buf.shrink_to(IDLE_BYTES_MAX);
        self.inflated = Vec::new();
        self.phase = Phase::Head(Scan::default());
    }

    fn fail(&mut self) {
        self.buf = Vec::new();
        self.inflated = Vec::new();
        self.phase = Phase::Broken;
    }
}

fn unpack(coding: Coding, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, HttpError> {
    inflate(coding, body, bytes_max).map_err(|error| match error {
        InflateError::Corrupt { .. } => {
            HttpError::request(400, "bad_compression", error.to_string())
        }
        _ => {
            let detail = format!("the body: {error} (--http-inflated)");
            HttpError::request(413, "inflated_too_large", detail)
        }
    })
}

/// Appends `data` to what will have `all` bytes at most: capacity doubles, but not beyond.
fn append(buf: &mut Vec<u8>, data: &[u8], all: usize) {
    let needed = buf.len() + data.len();
    if needed > buf.capacity() {
        let capacity = (2 * buf.capacity()).min(all).max(needed);
        buf.reserve_exact(capacity - buf.len());
    }
    buf.extend_from_slice(data);
}

#[cfg(test)]
mod tests;
