//! Requests of HTTP/1.1 as a stream: heads, and bodies whose messages are read as they come.

use std::io::Write;

use memchr::memmem;

use super::Speaks;
use crate::wire::StreamError;

/// Longest head in bytes.
const HEAD_LEN_MAX: usize = 16 << 10;
/// What Elasticsearch says of a document that it has created.
const LONG_ITEM: &str = r#"{"create":{"_index":".ds-logs-weir-default-2026.11.30-000001","_id":"0123456789abcdef-0-1-1000000","_version":1,"result":"created","_shards":{"total":2,"successful":1,"failed":0},"_seq_no":1000000,"_primary_term":1,"status":201}}"#;
/// The same where the request wants to know no more (`filter_path`).
const SHORT_ITEM: &str = r#"{"create":{"status":201}}"#;

/// The request that is being read.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// Of its body; none: a head comes next.
    left: Option<usize>,
    /// It asks for the statuses alone.
    is_short: bool,
    /// Messages of it so far.
    messages: usize,
    /// OpenTelemetry: what stands before the records has been read. `_bulk`: an action, and no document yet.
    is_begun: bool,
}

impl Request {
    /// Takes the next head, message or end off the stream: how many bytes it has. `None`: it is not whole.
    pub(super) fn take(
        &mut self,
        speaks: Speaks,
        bytes: &[u8],
        answers: &mut Vec<u8>,
        on_text: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, StreamError> {
        let Some(left) = self.left else {
            return self.head(bytes);
        };
        if left == 0 {
            if speaks == Speaks::Bulk && self.is_begun {
                return Err(StreamError::Outlet);
            }
            self.answer(speaks, answers);
            *self = Self::default();
            return Ok(Some(0));
        }
        let body = &bytes[..bytes.len().min(left)];
        let used = match speaks {
            Speaks::Otlp => self.record(body, on_text)?,
            _ => self.line(speaks, body, on_text),
        };
        if used.is_none() && body.len() == left {
            // It is all there, and is no whole message.
            return Err(StreamError::Outlet);
        }
        self.left = Some(left - used.unwrap_or(0));
        Ok(used)
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, StreamError> {
        let near = &bytes[..bytes.len().min(HEAD_LEN_MAX)];
        let Some(end) = memmem::find(near, b"\r\n\r\n") else {
            return match near.len() == HEAD_LEN_MAX {
                true => Err(StreamError::Outlet),
                false => Ok(None),
            };
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| StreamError::Outlet)?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let len = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse().ok())?
        });
        if !first.starts_with("POST ") {
            return Err(StreamError::Outlet);
        }
        self.left = Some(len.ok_or(StreamError::Outlet)?);
        self.is_short = first.contains("filter_path=");
        Ok(Some(end + 4))
    }

    /// An object a line; of `_bulk` every second one.
    fn line(
        &mut self,
        speaks: Speaks,
        body: &[u8],
        on_text: &mut impl FnMut(&[u8]),
    ) -> Option<usize> {
        let end = memchr::memchr(b'\n', body)?;
        let is_action = speaks == Speaks::Bulk && !self.is_begun;
        self.is_begun = is_action;
        if !is_action {
            on_text(&body[..end]);
            self.messages += 1;
        }
        Some(end + 1)
    }

    /// What stands before the records of an `ExportLogsServiceRequest`, or one of them.
    fn record(
        &mut self,
        body: &[u8],
        on_text: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, StreamError> {
        let mut rest = body;
        if !self.is_begun {
            // resource_logs and scope_logs, each with a length that reaches to the end of the body.
            let left = self.left.unwrap_or(0);
            for field in [0x0a, 0x12] {
                let Some(len) = take_len(&mut rest, field)? else {
                    return Ok(None);
                };
                if body.len() - rest.len() + len != left {
                    return Err(StreamError::Outlet);
                }
            }
            self.is_begun = true;
            return Ok(Some(body.len() - rest.len()));
        }
        let Some(len) = take_len(&mut rest, 0x12)? else {
            return Ok(None);
        };
        let Some(record) = rest.get(..len) else {
            return Ok(None);
        };
        on_text(text_of(record)?);
        self.messages += 1;
        Ok(Some(body.len() - rest.len() + len))
    }

    fn answer(&self, speaks: Speaks, out: &mut Vec<u8>) {
        let item = match self.is_short {
            true => SHORT_ITEM,
            false => LONG_ITEM,
        };
        const OPEN: &str = r#"{"errors":false,"items":["#;
        let items = ((item.len() + 1) * self.messages).saturating_sub(1);
        let (kind, len) = match speaks {
            Speaks::Bulk => ("Content-Type: application/json\r\n", OPEN.len() + items + 2),
            Speaks::Otlp => ("Content-Type: application/x-protobuf\r\n", 0),
            _ => ("", 0),
        };
        // Into memory, which does not fail.
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\n{kind}Content-Length: {len}\r\n\r\n"
        );
        if speaks != Speaks::Bulk {
            return;
        }
        out.extend_from_slice(OPEN.as_bytes());
        for number in 0..self.messages {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(item.as_bytes());
        }
        out.extend_from_slice(b"]}");
    }
}

/// Takes a field's key and the length of its value. `None`: they are not whole.
fn take_len(bytes: &mut &[u8], key: u8) -> Result<Option<usize>, StreamError> {
    match bytes.first() {
        None => return Ok(None),
        Some(byte) if *byte == key => {}
        Some(_) => return Err(StreamError::Outlet),
    }
    let mut len = 0;
    for (number, byte) in bytes.iter().enumerate().skip(1).take(5) {
        len |= usize::from(byte & 0x7f) << (7 * (number - 1));
        if byte & 0x80 == 0 {
            *bytes = &bytes[number + 1..];
            return Ok(Some(len));
        }
    }
    match bytes.len() > 5 {
        true => Err(StreamError::Outlet),
        false => Ok(None),
    }
}

/// Of a log record: a time, a severity, a body that is a string.
fn text_of(record: &[u8]) -> Result<&[u8], StreamError> {
    let mut rest = match record {
        [0x59, rest @ ..] if rest.len() >= 10 && rest[8] == 0x10 => &rest[10..],
        _ => return Err(StreamError::Outlet),
    };
    for key in [0x2a, 0x0a] {
        let len = take_len(&mut rest, key)?;
        if len != Some(rest.len()) {
            return Err(StreamError::Outlet);
        }
    }
    Ok(rest)
}
