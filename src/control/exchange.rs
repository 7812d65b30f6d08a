//! A request and its answer, as the pure parts of the control side see them.
//!
//! ```text
//! shard's Question --.                                .--> reply to the shard
//!                    +--> Ask --> answer --> Response-+
//! admin connection --'                                '--> bytes to the socket
//! ```

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{json, Map, Value};

use weir_ledger::certificate::{rfc3339, Stamp};

/// `application/json`.
pub const JSON: &str = "application/json";

/// A request, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Shard that read it; 0 for the admin listener.
    pub worker: u16,
    /// Address of the client, when known.
    pub peer: Option<IpAddr>,
    /// It is asked under a name that is not known: health is told, and no more of it than its status.
    pub is_stranger: bool,
    /// As the client wrote it.
    pub method: String,
    /// Without the query, still percent-encoded.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Decoded.
    pub body: Vec<u8>,
}

impl Ask {
    /// A request without headers and body, for tests and for the terminal.
    pub fn new(method: &str, path: &str) -> Ask {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Ask {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            ..Ask::default()
        }
    }

    /// First value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&');
        pairs.find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (found == name).then(|| percent_decoded(value))
        })
    }
}

/// `a%2Fb` becomes `a/b`. What is no escape, or no UTF-8 afterwards, stays visible.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is not a letter, a digit or one of `-._~` is escaped, so that any id fits a path.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Media type of the body.
    pub content_type: &'static str,
    /// Beside type and length.
    pub headers: Vec<(&'static str, String)>,
    /// The body; not sent when HEAD asked.
    pub body: Vec<u8>,
}

impl Response {
    /// A JSON object with `worker` and `timestamp` added to it.
    pub fn json(status: u16, ask: &Ask, now: Stamp, body: Value) -> Response {
        let mut object = match body {
            Value::Object(object) => object,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        object.insert("worker".into(), json!(ask.worker));
        object.insert("timestamp".into(), json!(iso_ms(now)));
        let mut body = serde_json::to_vec(&object).unwrap_or_default();
        body.push(b'\n');
        Response {
            status,
            content_type: JSON,
            headers: vec![("Cache-Control", "no-store".into())],
            body,
        }
    }

    /// `{"error": ...}`: names the thing, the value and what is allowed.
    pub fn error(status: u16, ask: &Ask, now: Stamp, error: impl fmt::Display) -> Response {
        Response::json(status, ask, now, json!({ "error": error.to_string() }))
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }
}

/// ISO 8601 in UTC with milliseconds, such as `2026-11-22T03:28:30.125Z`.
pub fn iso_ms(now: Stamp) -> String {
    let mut text = rfc3339(now.unix_ns);
    text.truncate("2026-11-22T03:28:30.125".len());
    text.push('Z');
    text
}

/// Milliseconds since 1970.
pub fn unix_ms(now: Stamp) -> u64 {
    now.unix_ns / 1_000_000
}

/// Plain data as JSON; what cannot be written is null.
pub fn value(data: impl Serialize) -> Value {
    serde_json::to_value(data).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_survives_a_path() {
        for id in ["a1", "10.0.0.1:5000", "a/b c?d%25#é", "%", ""] {
            assert_eq!(percent_decoded(&percent_encoded(id)), id);
        }
        assert_eq!(percent_encoded("a/b"), "a%2Fb");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz%41"), "%zzA");
    }

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        let ask = Ask::new("GET", "/x?ab=1&a=2%203&b");
        assert_eq!(ask.parameter("a").as_deref(), Some("2 3"));
        assert_eq!(ask.parameter("b").as_deref(), Some(""));
        assert_eq!(ask.parameter("c"), None);
    }

    #[test]
    fn times_have_milliseconds() {
        let now = Stamp {
            unix_ns: 1_234_567_890,
            mono_ns: 0,
        };
        assert_eq!(iso_ms(now), "1970-01-01T00:00:01.234Z");
        assert_eq!(unix_ms(now), 1234);
    }
}
