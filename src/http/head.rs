//! Heads of requests: where one ends, and what it says about the body.
//!
//! ```text
//!   POST /logs?a=b HTTP/1.1\r\n      every line ends with CR LF, nothing else is a line end
//!   Host: a\r\n                      exactly one
//!   Content-Length: 5\r\n            one of these two, once; white space around its value is no part of it
//!   Transfer-Encoding: chunked\r\n
//!   \r\n                             head_end()
//! ```
//!
//! `httparse` reads the head; it is more lenient than a server behind proxies may be, so what two readers
//! could understand in two ways is refused here.

use std::mem::MaybeUninit;

use super::error::{quoted, HttpError};
use super::limits::{Limits, HEADERS_MAX};
use weir_inflate::Coding;
use weir_protocol::foreign::{recognize, Foreign};

/// Looks for the end of a head, each byte once however it arrives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Bytes looked at.
    scanned: usize,
    /// Start of the line that is open.
    line: usize,
}

impl Scan {
    /// Length of the head that starts `bytes`; `None` while it is incomplete. `bytes` are those of the
    /// last call and more, without empty lines in front.
    pub fn head_end(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, HttpError> {
        let within = &bytes[..bytes.len().min(limits.head_bytes)];
        match within.first() {
            Some(b'\r') => return Err(cr_alone()),
            Some(first) if !is_token(*first) => return Err(no_method(within)),
            Some(b'P') if within.starts_with(PROXY_V1) => return Err(proxy_header(1)),
            _ => {}
        }
        while let Some(found) = memchr::memchr(b'\n', &within[self.scanned..]) {
            let end = self.scanned + found;
            self.check_first_line(end, limits)?;
            if self.line == 0 {
                check_request_line(&within[..=end], limits)?;
            }
            if within[..end].last() != Some(&b'\r') {
                let line = quoted(&within[self.line..end]);
                let detail = format!("line {line} ends with LF; allowed is CR LF");
                return Err(HttpError::fatal(400, "bare_lf", detail));
            }
            if end == self.line + 1 {
                return Ok(Some(end + 1));
            }
            self.line = end + 1;
            self.scanned = end + 1;
        }
        self.scanned = within.len();
        self.check_first_line(within.len(), limits)?;
        if within.len() == limits.head_bytes {
            let detail = format!("the head is longer than {} bytes", limits.head_bytes);
            return Err(HttpError::fatal(431, "head_too_large", detail));
        }
        Ok(None)
    }

    fn check_first_line(&self, end: usize, limits: &Limits) -> Result<(), HttpError> {
        if self.line > 0 || end <= limits.request_line_bytes {
            return Ok(());
        }
        let allowed = limits.request_line_bytes;
        let detail = format!("the request line is longer than {allowed} bytes");
        Err(HttpError::fatal(414, "uri_too_long", detail))
    }
}

/// The first line has ended, and no line behind it can make a request of it. Whoever speaks something else greets and
/// waits for an answer: it is refused now, by name where that is known, and not when its time for a head is over.
fn check_request_line(line: &[u8], limits: &Limits) -> Result<(), HttpError> {
    if line.ends_with(b" HTTP/1.1\r\n") || line.ends_with(b" HTTP/1.0\r\n") {
        return Ok(());
    }
    let Err(error) = httparse::Request::new(&mut []).parse(line) else {
        return Ok(());
    };
    match recognize(line) {
        Some(Foreign::Http | Foreign::Http2 | Foreign::Text) | None => {}
        Some(foreign) => {
            let (found, looks) = (quoted(line.trim_ascii_end()), foreign.sentence());
            let detail = format!("{found} is no request line: {looks}");
            return Err(HttpError::fatal(400, "bad_method", detail));
        }
    }
    match line.ends_with(b"\r\n") {
        true => Err(refused(error, line, limits)),
        false => Ok(()), // that it ends with LF alone is said next
    }
}

/// What starts a PROXY header of version 1, and what follows the empty lines of one of version 2.
const PROXY_V1: &[u8] = b"PROXY ";
const PROXY_V2: &[u8] = b"\0\r\nQUIT\n";

/// `bytes` start with what no method starts with.
fn no_method(bytes: &[u8]) -> HttpError {
    let first = bytes.first().copied().unwrap_or_default();
    let known = bytes.len().min(PROXY_V2.len());
    // By the first byte alone: what is said must not depend on how many came with it.
    let hint = match first {
        0 if bytes[..known] == PROXY_V2[..known] => return proxy_header(2),
        0x16 => format!(": {}", Foreign::Tls.sentence()),
        b'{' | b'[' => " (a body without Content-Length?)".to_owned(),
        _ => String::new(),
    };
    let detail = format!("byte {first:#04x} starts no method{hint}");
    HttpError::fatal(400, "bad_method", detail)
}

fn proxy_header(version: u8) -> HttpError {
    let detail = format!(
        "a PROXY header (version {version}) is not spoken here; allowed: HTTP/1.1 from the first byte on, \
         the client's address in X-Forwarded-For or Forwarded (--trusted-proxies, --proxy-header)"
    );
    HttpError::fatal(400, "proxy_header", detail)
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(usize),
    /// Chunks.
    Chunked,
}

/// A head that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub content_type: Option<&'a str>,
    /// Name and port that are asked: of an absolute target, else of header Host. Empty if nobody says.
    pub host: &'a str,
    /// Header Origin: a browser asks, for a page from there.
    pub origin: Option<&'a str>,
    /// Content-Length or Transfer-Encoding is there.
    pub has_length: bool,
    /// Header lines, each with its CR LF.
    pub fields: &'a [u8],
    pub http10: bool,
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub framing: Framing,
    /// How its body is compressed; none: it is not.
    pub coding: Option<Coding>,
}

impl<'a> Head<'a> {
    /// Reads a whole head: `bytes` end with its empty line.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Head<'a>, HttpError> {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let room = &mut room[..limits.headers_max.min(HEADERS_MAX)];
        let mut request = httparse::Request::new(&mut []);
        let status = request.parse_with_uninit_headers(bytes, room);
        match status.map_err(|error| refused(error, bytes, limits))? {
            httparse::Status::Complete(len) if len == bytes.len() => {}
            _ => return Err(bad_head("the head does not end where its empty line is")),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(bad_head("the request line is incomplete"));
        };
        let Target {
            authority,
            path,
            query,
        } = split_target(method, target)?;
        let http10 = minor == 0;
        let mut said = Said::default();
        for header in request.headers.iter() {
            said.hear(header.name, header.value)?;
        }
        said.check_host(http10)?;
        let framing = said.framing(http10, limits)?;
        let coding = match framing {
            Framing::Length(0) => None,
            _ => said.coding()?,
        };
        let line = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        let has_length = said.length.is_some() || said.transfer.is_some();
        // Of a method that has a body nothing tells where it would end.
        let ends_here = has_length || !matches!(method, "POST" | "PUT" | "PATCH");
        Ok(Head {
            method,
            path,
            query,
            content_type: said.content_type,
            host: authority.unwrap_or(said.host),
            origin: said.origin,
            has_length,
            fields: &bytes[line..],
            http10,
            keep_alive: ends_here && !said.close && (!http10 || said.keep_alive),
            expects_continue: said.expects_continue(http10)?,
            framing,
            coding,
        })
    }
}

/// What the headers say that matters for framing.
#[derive(Default)]
struct Said<'a> {
    hosts: usize,
    host: &'a str,
    origin: Option<&'a str>,
    length: Option<&'a [u8]>,
    transfer: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    content_type: Option<&'a str>,
    close: bool,
    keep_alive: bool,
}

impl<'a> Said<'a> {
    #[inline]
    fn hear(&mut self, name: &str, value: &'a [u8]) -> Result<(), HttpError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("Host") => self.host(value),
            6 if is("Expect") => once(&mut self.expect, "Expect", value),
            6 if is("Origin") => self.origin(value),
            10 if is("Connection") => {
                self.connection(value);
                Ok(())
            }
            12 if is("Content-Type") => self.content_type(value),
            14 if is("Content-Length") => {
                not_empty("Content-Length", value)?;
                once(&mut self.length, "Content-Length", value)
            }
            16 if is("Content-Encoding") => once(&mut self.coding, "Content-Encoding", value),
            17 if is("Transfer-Encoding") => {
                not_empty("Transfer-Encoding", value)?;
                once(&mut self.transfer, "Transfer-Encoding", value)
            }
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &'a [u8]) -> Result<(), HttpError> {
        self.hosts += 1;
        self.host = authority(value).ok_or_else(|| {
            let detail = format!("header Host is {}; allowed is name[:port]", quoted(value));
            HttpError::fatal(400, "bad_host", detail)
        })?;
        Ok(())
    }

    fn origin(&mut self, value: &'a [u8]) -> Result<(), HttpError> {
        let text = std::str::from_utf8(value).ok();
        if self.origin.is_some() || text.is_none() {
            let detail = format!("header Origin ({}) must be there once", quoted(value));
            return Err(HttpError::fatal(400, "bad_origin", detail));
        }
        self.origin = text;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn content_type(&mut self, value: &'a [u8]) -> Result<(), HttpError> {
        let text = std::str::from_utf8(value).ok();
        if self.content_type.is_some() || text.is_none() {
            let detail = format!("header Content-Type ({}) must be there once", quoted(value));
            return Err(HttpError::fatal(400, "bad_content_type", detail));
        }
        self.content_type = text;
        Ok(())
    }

    fn check_host(&self, http10: bool) -> Result<(), HttpError> {
        let detail = match self.hosts {
            1 => return Ok(()),
            0 if http10 => return Ok(()),
            0 => "header Host is missing; HTTP/1.1 requires it",
            _ => "header Host is there more than once",
        };
        Err(HttpError::fatal(400, "bad_host", detail))
    }

    fn framing(&self, http10: bool, limits: &Limits) -> Result<Framing, HttpError> {
        match (self.length, self.transfer) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(length), None) => content_length(length, limits).map(Framing::Length),
            (None, Some(transfer)) => chunked(transfer, http10),
            (Some(_), Some(_)) => {
                let detail =
                    "headers Content-Length and Transfer-Encoding together; allowed is one";
                Err(HttpError::fatal(400, "two_framings", detail))
            }
        }
    }

    fn coding(&self) -> Result<Option<Coding>, HttpError> {
        let Some(coding) = self.coding else {
            return Ok(None);
        };
        let is = |known: &str| coding.eq_ignore_ascii_case(known.as_bytes());
        if is("identity") {
            Ok(None)
        } else if is("gzip") || is("x-gzip") {
            Ok(Some(Coding::Gzip))
        } else if is("deflate") {
            Ok(Some(Coding::Deflate))
        } else if is("zstd") {
            Ok(Some(Coding::Zstd))
        } else {
            let found = quoted(coding);
            let detail = format!(
                "header Content-Encoding is {found}; allowed: identity, gzip, deflate, zstd"
            );
            Err(HttpError::fatal(415, "unsupported_coding", detail))
        }
    }

    fn expects_continue(&self, http10: bool) -> Result<bool, HttpError> {
        match self.expect {
            None => Ok(false),
            Some(_) if http10 => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(value) => {
                let detail = format!("header Expect is {}; allowed: 100-continue", quoted(value));
                Err(HttpError::fatal(417, "unsupported_expectation", detail))
            }
        }
    }
}

/// A header that must not repeat, even with the same value.
fn once<'a>(
    slot: &mut Option<&'a [u8]>,
    name: &'static str,
    value: &'a [u8],
) -> Result<(), HttpError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(first) => {
            let (first, second) = (quoted(first), quoted(value));
            let detail = format!("header {name} is there twice, {first} and {second}");
            Err(HttpError::fatal(400, "repeated_header", detail))
        }
    }
}

/// White space around a value, spaces and tabs, is no part of it (RFC 9112 section 5): the parser has
/// taken it off, and lets no other control character through.
fn not_empty(name: &str, value: &[u8]) -> Result<(), HttpError> {
    if !value.is_empty() {
        return Ok(());
    }
    let detail = format!("header {name} is empty");
    Err(HttpError::fatal(400, "bad_framing", detail))
}

fn content_length(value: &[u8], limits: &Limits) -> Result<usize, HttpError> {
    let bad = || {
        let found = quoted(value);
        let detail = format!("header Content-Length is {found}; allowed: decimal digits, 64 bits");
        HttpError::fatal(400, "bad_content_length", detail)
    };
    let add = |length: u64, digit: &u8| match digit {
        b'0'..=b'9' => length.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    };
    let length = value.iter().try_fold(0, add).ok_or_else(bad)?;
    match usize::try_from(length) {
        Ok(length) if length <= limits.body_bytes => Ok(length),
        _ => Err(body_too_large(length, limits.body_bytes)),
    }
}

/// 413 for a body of at least `length` bytes.
pub(super) fn body_too_large(length: u64, allowed: usize) -> HttpError {
    let detail = format!("the body has {length} bytes or more; allowed: {allowed}");
    HttpError::fatal(413, "body_too_large", detail)
}

fn chunked(value: &[u8], http10: bool) -> Result<Framing, HttpError> {
    let known = |coding: &[u8]| {
        let coding = coding.trim_ascii().to_ascii_lowercase();
        let known = [
            "chunked",
            "gzip",
            "x-gzip",
            "deflate",
            "compress",
            "x-compress",
        ];
        known.iter().any(|known| known.as_bytes() == coding)
    };
    let status = match value {
        _ if http10 => 400,
        _ if value.eq_ignore_ascii_case(b"chunked") => return Ok(Framing::Chunked),
        _ if value.split(|byte| *byte == b',').all(known) => 501,
        _ => 400,
    };
    let found = quoted(value);
    let detail = format!("header Transfer-Encoding is {found}; allowed: chunked, in HTTP/1.1");
    Err(HttpError::fatal(status, "bad_transfer_encoding", detail))
}

/// Parts of a request target.
struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

/// Out of `/path?query`, `http://host/path?query` or `*`.
fn split_target<'a>(method: &str, target: &'a str) -> Result<Target<'a>, HttpError> {
    let bad = |why: &str| {
        let detail = format!("request target {} {why}", quoted(target.as_bytes()));
        HttpError::fatal(400, "bad_target", detail)
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !target.bytes().all(plain) {
        return Err(bad("has characters that are not allowed"));
    }
    let is_star = target == "*" && method == "OPTIONS";
    let (host, origin) = if is_star || target.starts_with('/') {
        (None, target)
    } else {
        let (host, origin) = absolute(target).ok_or_else(|| bad("is not a path"))?;
        let host = authority(host.as_bytes()).ok_or_else(|| bad("has no host in it"))?;
        (Some(host), origin)
    };
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    Ok(Target {
        authority: host,
        path: if path.is_empty() { "/" } else { path },
        query,
    })
}

/// Host, and what is behind it, of `http://host/path`.
fn absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let known = ["http", "https"].iter();
    let mut known = known.filter(|known| scheme.eq_ignore_ascii_case(known));
    known.next()?;
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// `name[:port]`, if it can be one.
fn authority(value: &[u8]) -> Option<&str> {
    let good = |byte: &u8| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b':' | b'-' | b'_' | b'~'
            | b'[' | b']' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
    };
    let text = std::str::from_utf8(value).ok()?;
    value.iter().all(good).then_some(text)
}

/// Empty lines before a request are skipped, half of one is not.
pub(super) fn cr_alone() -> HttpError {
    HttpError::fatal(400, "bad_method", "CR without LF before a request")
}

fn bad_head(detail: &str) -> HttpError {
    HttpError::fatal(400, "bad_head", detail)
}

/// What `httparse` did not like, with the line that it was.
fn refused(error: httparse::Error, bytes: &[u8], limits: &Limits) -> HttpError {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let first = lines.next().unwrap_or_default();
    match error {
        httparse::Error::Version if !first.ends_with(b" HTTP/1.1") => version(first),
        httparse::Error::TooManyHeaders => {
            let detail = format!("more than {} headers", limits.headers_max.min(HEADERS_MAX));
            HttpError::fatal(431, "too_many_headers", detail)
        }
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            let line = lines.find(|line| !is_header(line)).unwrap_or_default();
            let detail = format!(
                "header line {} is not `name: value` (no space before the colon, no folded lines, \
                 no control characters)",
                quoted(line)
            );
            HttpError::fatal(400, "bad_header", detail)
        }
        _ => {
            let found = quoted(first);
            bad_head(&format!(
                "request line {found} is not `METHOD /path HTTP/1.1`"
            ))
        }
    }
}

fn version(line: &[u8]) -> HttpError {
    let found = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let status = match found {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            505
        }
        _ => 400,
    };
    let detail = format!("version {}; allowed: HTTP/1.1, HTTP/1.0", quoted(found));
    HttpError::fatal(status, "bad_version", detail)
}

fn is_header(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else {
        return line.is_empty();
    };
    let value = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7F;
    colon > 0 && line[..colon].iter().all(|byte| is_token(*byte)) && line[colon..].iter().all(value)
}

/// A character of a method or of a header's name.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Value of the first header `name` among lines of a head, without white space around it; `None` if it is
/// not there or not UTF-8.
pub(super) fn header<'a>(fields: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = fields.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    });
    std::str::from_utf8(value?.trim_ascii()).ok()
}

/// As [`header`], of all of this name, in their order.
pub(super) fn headers<'a>(
    fields: &'a [u8],
    name: &'a str,
) -> impl DoubleEndedIterator<Item = &'a str> {
    header_values(fields, name).filter_map(|value| std::str::from_utf8(value).ok())
}

/// The same, also those that are no text.
pub(super) fn header_values<'a>(
    fields: &'a [u8],
    name: &'a str,
) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    let lines = fields.split(|byte| *byte == b'\n');
    lines.filter_map(move |line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        let is_named = found.eq_ignore_ascii_case(name.as_bytes());
        is_named.then(|| value.trim_ascii())
    })
}
