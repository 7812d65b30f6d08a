//! A request and its answer, as the pure parts of the control side see them.
//!
//! ```text
//! shard's Question --.                                .--> reply to the shard
//!                    +--> Ask --> answer --> Response-+
//! admin connection --'    (weir_http)                 '--> bytes to the socket
//! ```

use std::fmt;

use serde_json::{json, Map, Value};

use crate::view::json::iso_ms;
use weir_http::Ask;
use weir_ledger::run_report::Stamp;

/// `application/json`.
pub const JSON: &str = "application/json";

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
