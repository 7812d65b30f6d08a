//! Requests and answers as text: written and read here by other code than the distributor's.

use crate::random::Random;

/// How a packet is sent.
pub(super) struct Form {
    pub(super) client: usize,
    /// For the ACK.
    pub(super) waits: bool,
    /// It takes 202 as well.
    pub(super) is_async: bool,
    /// What it says of how the packet goes on: message by message, or whole.
    pub(super) split: Option<bool>,
    /// JSON lines.
    pub(super) is_lines: bool,
    pub(super) is_chunked: bool,
    /// The connection's last request.
    pub(super) is_last: bool,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The connection closes behind it.
    pub(super) closes: bool,
    pub(super) body: String,
}

/// A POST of these messages.
pub(super) fn request(form: &Form, messages: &[String], random: &mut Random) -> Vec<u8> {
    let client = form.client;
    let body = match form.is_lines {
        true => messages.join("\n"),
        false => format!(
            "{{\"emitterId\":\"c{client}\",\"messages\":[{}]}}",
            messages.join(",")
        ),
    };
    let by_query = random.chance(50);
    let mut query = Vec::new();
    if form.waits && by_query {
        query.push("wait=acked");
    }
    query.extend(form.split.map(|split| match split {
        true => "split=true",
        false => "split=false",
    }));
    let mut head = String::from("POST /logs");
    if !query.is_empty() {
        head.push_str(&format!("?{}", query.join("&")));
    }
    head.push_str(" HTTP/1.1\r\nHost: weir\r\n");
    if form.waits && !by_query {
        head.push_str("Prefer: wait=acked\r\n");
    }
    if form.is_async {
        head.push_str("Prefer: respond-async\r\n");
    }
    match form.is_lines {
        true => head.push_str(&format!(
            "Content-Type: application/x-ndjson\r\nX-Emitter-ID: c{client}\r\n"
        )),
        false => head.push_str("Content-Type: application/json\r\n"),
    }
    if form.is_last {
        head.push_str("Connection: close\r\n");
    }
    if !form.is_chunked {
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        return head.into_bytes();
    }
    head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    let mut rest = body.as_bytes();
    while !rest.is_empty() {
        let len = rest.len().min(random.range(1, 3_000) as usize); // a few
        let (chunk, after) = rest.split_at(len);
        bytes.extend_from_slice(format!("{len:x}\r\n").as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A request that no distributor takes, and that leaves no doubt where the next one starts.
pub(super) fn bad_request(random: &mut Random) -> Vec<u8> {
    let body = random.pick(&[
        "{",
        "{\"messages\":[]}",
        "{\"emitterId\":\"c\",\"messages\":[{]}",
        "{\"emitterId\":\"c\",\"messages\":7}",
    ]);
    let head = "POST /logs HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Head, body, and the bytes of both.
type Parts<'a> = (&'a str, &'a [u8], usize);

/// Head and body of what starts `bytes`, if it is whole; how long it is.
///
/// # Errors
/// It says no length.
fn split(bytes: &[u8]) -> Result<Option<Parts<'_>>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
    let length = header(head, "content-length").and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or_else(|| format!("no length: {head}"))?;
    let body = bytes.get(end + 4..end + 4 + length);
    Ok(body.map(|body| (head, body, end + 4 + length)))
}

/// Value of a header whose name is given in lower case.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").skip(1);
    lines.find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Takes an answer off the front of what was read.
///
/// # Errors
/// It is none.
pub(super) fn take_answer(unread: &mut Vec<u8>) -> Result<Option<Answer>, String> {
    let Some((head, body, len)) = split(unread)? else {
        return Ok(None);
    };
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let status = status
        .filter(|_| head.starts_with("HTTP/1.1 "))
        .ok_or_else(|| format!("no answer: {head}"))?;
    let answer = Answer {
        status,
        closes: header(head, "connection").is_some_and(|value| value == "close"),
        body: String::from_utf8_lossy(body).into_owned(),
    };
    unread.drain(..len);
    Ok(Some(answer))
}

/// A POST that a server got.
pub(super) struct Post {
    pub(super) emitter: String,
    pub(super) body: Vec<u8>,
}

/// Takes a request off the front of what was read.
///
/// # Errors
/// It is no POST of a packet.
pub(super) fn take_post(unread: &mut Vec<u8>) -> Result<Option<Post>, String> {
    let Some((head, body, len)) = split(unread)? else {
        return Ok(None);
    };
    if !head.starts_with("POST /logs HTTP/1.1\r\n") {
        return Err(format!("no POST of a packet: {head}"));
    }
    header(head, "x-packet-id").ok_or_else(|| format!("no packet id: {head}"))?;
    let emitter = header(head, "x-emitter-id").ok_or_else(|| format!("no emitter: {head}"))?;
    let post = Post {
        emitter: emitter.to_owned(),
        body: body.to_vec(),
    };
    unread.drain(..len);
    Ok(Some(post))
}

/// An answer.
pub(super) fn answer(status: u16, is_last: bool) -> Vec<u8> {
    let close = if is_last { "Connection: close\r\n" } else { "" };
    let body = "{\"success\":true}";
    let len = body.len();
    format!("HTTP/1.1 {status} X\r\n{close}Content-Length: {len}\r\n\r\n{body}").into_bytes()
}
