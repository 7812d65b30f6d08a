//! Why a body is not a packet, for the client as JSON.

use super::json;
use super::respond::number;

/// What existing clients look for when their body is refused.
pub const INVALID_BODY: &str = "Invalid request body. Required: emitterId, messages (array)";

/// A place in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// Bytes into the line, from 1.
    pub column: usize,
    /// Bytes into the body, from 0.
    pub byte: usize,
}

impl Position {
    /// Of the byte at an offset.
    pub(super) fn at(body: &[u8], byte: usize) -> Position {
        let byte = byte.min(body.len());
        let before = &body[..byte];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
        Position {
            line: 1 + memchr::memchr_iter(b'\n', before).count(),
            column: 1 + byte - line_start,
            byte,
        }
    }
}

/// A body that is refused. The request was read to its end, so the connection can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketError {
    /// 400, 413 or 415.
    pub status: u16,
    /// Class: the metric label, stable.
    pub error: &'static str,
    /// Like `messages[3].level`; empty when it is the body as a whole.
    pub field: String,
    /// Where, if it is at one place.
    pub position: Option<Position>,
    /// For people: what is wrong, and what is allowed.
    pub detail: String,
}

impl PacketError {
    pub(super) fn new(
        status: u16,
        error: &'static str,
        field: impl Into<String>,
        position: Option<Position>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            error,
            field: field.into(),
            position,
            detail: detail.into(),
        }
    }

    /// 400: nobody, or not one alone, says who the emitter is.
    pub fn emitter_id(detail: impl Into<String>) -> Self {
        Self::new(400, "emitter_id", "emitterId", None, detail)
    }

    /// Appends the body of the answer. `more` are further members, rendered, like `"worker":0`; may be
    /// empty.
    pub fn write_json(&self, more: &str, out: &mut Vec<u8>) {
        let error = match self.status {
            413 => "Packet too large",
            415 => "Unsupported content type",
            _ => INVALID_BODY,
        };
        out.extend_from_slice(b"{\"error\":");
        json::write_string(out, error);
        out.extend_from_slice(b",\"detail\":");
        json::write_string(out, &self.detail);
        if !self.field.is_empty() {
            out.extend_from_slice(b",\"field\":");
            json::write_string(out, &self.field);
        }
        if let Some(position) = self.position {
            out.extend_from_slice(b",\"position\":{\"line\":");
            number(out, position.line);
            out.extend_from_slice(b",\"column\":");
            number(out, position.column);
            out.extend_from_slice(b",\"byte\":");
            number(out, position.byte);
            out.push(b'}');
        }
        if !more.is_empty() {
            out.push(b',');
            out.extend_from_slice(more.as_bytes());
        }
        out.push(b'}');
    }
}

impl std::fmt::Display for PacketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: ", self.status, self.error)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.detail)?;
        match self.position {
            None => Ok(()),
            Some(at) => write!(f, " (line {}, column {})", at.line, at.column),
        }
    }
}

impl std::error::Error for PacketError {}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// One packet: `application/json`.
    Packet,
    /// One message a line: `application/x-ndjson`, or another name for that.
    Lines,
}

/// Names that are in use for one message a line.
const LINES: [&str; 5] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
];

/// What header Content-Type says that a body is; parameters other than a charset are ignored.
///
/// # Errors
/// 415: neither, not UTF-8, or no header.
pub fn body_kind(content_type: Option<&str>) -> Result<BodyKind, PacketError> {
    let said = content_type.unwrap_or_default();
    let mut parts = said.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let is = |known: &&str| kind.eq_ignore_ascii_case(known);
    let kind = if is(&"application/json") {
        Some(BodyKind::Packet)
    } else if LINES.iter().any(is) {
        Some(BodyKind::Lines)
    } else {
        None
    };
    let is_utf8 = |part: &str| match part.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            let value = value.trim_matches('"');
            ["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|known| value.eq_ignore_ascii_case(known))
        }
        _ => true,
    };
    match kind {
        Some(kind) if parts.all(is_utf8) => Ok(kind),
        _ => {
            let found = match content_type {
                Some(said) => super::error::quoted(said.as_bytes()),
                None => "missing".to_owned(),
            };
            let detail = format!(
                "header Content-Type is {found}; allowed: application/json, application/x-ndjson, \
                 in UTF-8"
            );
            Err(PacketError::new(415, "content_type", "", None, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (said, kind) in [
            ("application/json", BodyKind::Packet),
            ("Application/JSON ; charset=UTF-8", BodyKind::Packet),
            ("application/json;charset=\"utf-8\"; x=y", BodyKind::Packet),
            ("application/x-ndjson", BodyKind::Lines),
        ] {
            assert_eq!(body_kind(Some(said)), Ok(kind), "{said}");
        }
        for said in [
            "",
            "text/plain",
            "application/jsonx",
            "application/json; charset=latin1",
            "json",
        ] {
            let error = body_kind(Some(said)).expect_err("refused");
            assert_eq!((error.status, error.error), (415, "content_type"), "{said}");
            assert!(
                error.detail.contains(said) && error.detail.contains("allowed: application/json")
            );
        }
        let error = body_kind(None).expect_err("refused");
        assert!(error
            .detail
            .starts_with("header Content-Type is missing; allowed: "));
    }
}
