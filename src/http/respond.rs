//! Responses, written straight behind what the connection has to send.

/// Appends a whole response. `body` is JSON or text; `headers` are extra ones, whose control characters
/// are written as `?`, so that no value can start a line of its own.
pub fn respond(
    out: &mut Vec<u8>,
    status: u16,
    content_type: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    keep_alive: bool,
) {
    respond_head(out, status, content_type, headers, body.len(), keep_alive);
    out.extend_from_slice(body);
}

/// Appends the head of a response whose body has `body_bytes`: the answer to HEAD is this alone.
pub fn respond_head(
    out: &mut Vec<u8>,
    status: u16,
    content_type: &str,
    headers: &[(&str, &str)],
    body_bytes: usize,
    keep_alive: bool,
) {
    let mut head = HeadWriter::response(out, status);
    head.header("Content-Type", content_type);
    head.length(body_bytes);
    for (name, value) in headers {
        head.header(name, value);
    }
    if !keep_alive {
        head.header("Connection", "close");
    }
    head.end();
}

/// Writes a head: the first line, then headers. A control character in a name or a value becomes `?`, so that
/// neither can start a line of its own.
pub struct HeadWriter<'a>(&'a mut Vec<u8>);

impl<'a> HeadWriter<'a> {
    /// Of a response.
    pub fn response(out: &'a mut Vec<u8>, status: u16) -> HeadWriter<'a> {
        out.extend_from_slice(b"HTTP/1.1 ");
        number(out, usize::from(status));
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        HeadWriter(out)
    }

    /// Of a request for `prefix` and `path`, one behind the other.
    pub fn request(out: &'a mut Vec<u8>, method: &str, prefix: &str, path: &str) -> HeadWriter<'a> {
        text(out, method);
        out.push(b' ');
        text(out, prefix);
        text(out, path);
        out.extend_from_slice(b" HTTP/1.1");
        HeadWriter(out)
    }

    /// One more header.
    pub fn header(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(b"\r\n");
        text(self.0, name);
        self.0.extend_from_slice(b": ");
        text(self.0, value);
    }

    /// `Content-Length`.
    pub fn length(&mut self, bytes: usize) {
        self.0.extend_from_slice(b"\r\nContent-Length: ");
        number(self.0, bytes);
    }

    /// The empty line.
    pub fn end(self) {
        self.0.extend_from_slice(b"\r\n\r\n");
    }
}

/// Phrase behind a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Unknown",
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    let control = |byte: &&mut u8| byte.is_ascii_control() && **byte != b'\t';
    out[start..]
        .iter_mut()
        .filter(control)
        .for_each(|byte| *byte = b'?');
}

/// Decimal digits.
pub(super) fn number(out: &mut Vec<u8>, number: usize) {
    let start = out.len();
    let mut rest = number;
    loop {
        out.push(b"0123456789"[rest % 10]);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out[start..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        let mut out = b"before".to_vec();
        let headers = [("Retry-After", "1"), ("X", "a\r\nEvil: b")];
        respond(&mut out, 503, "application/json", &headers, b"{}", false);
        let text = String::from_utf8(out).expect("ASCII");
        let expected = "beforeHTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
                        Content-Length: 2\r\nRetry-After: 1\r\nX: a??Evil: b\r\nConnection: close\r\n\r\n{}";
        assert_eq!(text, expected);
        let mut out = Vec::new();
        respond_head(&mut out, 200, "text/plain", &[], 1_234_567, true);
        let text = String::from_utf8(out).expect("ASCII");
        assert!(text.contains("\r\nContent-Length: 1234567\r\n") && text.ends_with("\r\n\r\n"));
        assert!(!text.contains("Connection"));
    }

    #[test]
    fn every_status_that_is_sent_has_a_phrase() {
        for status in [
            200, 201, 202, 204, 400, 401, 403, 404, 409, 411, 422, 405, 408, 413, 414, 415, 417,
            429, 431, 500, 501, 503, 504, 505,
        ] {
            assert_ne!(reason(status), "Unknown", "{status}");
        }
    }

    #[test]
    fn numbers() {
        for given in [0, 7, 10, 4_096, usize::MAX] {
            let mut out = Vec::new();
            number(&mut out, given);
            assert_eq!(out, given.to_string().as_bytes());
        }
    }
}
