//! Grafana Loki's push API, as JSON.
//!
//! ```text
//! {"streams":[{"stream":{"job":"weir","level":"info"},"values":[["1700000000123000001","line"], ...]},
//!             {"stream":{"job":"weir","level":"warn"},"values":[...
//! ```
//!
//! A new stream begins where the severity changes. Loki forgets a line that another of the same stream equals in text
//! and time: so no two times of a link are equal within a millisecond.

use super::{decimal, level_of, object, Message, MessageId, Moment, RequestOptions};
use weir_source::render::{write_string, write_text, Context};

pub(super) const OPEN: &[u8] = b"{\"streams\":[";
pub(super) const CLOSE: &[u8] = b"]}]}";

/// Nanoseconds of a millisecond.
const NS: u64 = 1_000_000;

/// Appends a message. `is_first` of the body; `is_new`: a stream begins with it.
pub(super) fn write(
    message: &Message<'_>,
    id: &MessageId,
    at: &Moment,
    (is_first, is_new): (bool, bool),
    options: &RequestOptions,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    if is_new {
        if !is_first {
            out.extend_from_slice(b"]},");
        }
        out.extend_from_slice(b"{\"stream\":{");
        out.extend_from_slice(options.labels.as_bytes());
        if options.level_label {
            if !options.labels.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(b"\"level\":\"");
            out.extend_from_slice(level_of(message.severity).as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"},\"values\":[");
    } else {
        out.push(b',');
    }
    out.extend_from_slice(b"[\"");
    decimal(
        out,
        at.unix_ms.saturating_mul(NS).saturating_add(within_ms(id)),
    );
    out.extend_from_slice(b"\",");
    if !write_text(&object::text_of(message, at, context), out) {
        let mut line = Vec::new();
        object::write_object(message, at, context, &mut line);
        write_string(&String::from_utf8_lossy(&line), out); // JSON with base64 in it: ASCII
    }
    out.push(b']');
}

/// A nanosecond of the present millisecond, another for each message of a link and, most likely, of other links.
fn within_ms(id: &MessageId) -> u64 {
    let of_link = (id.epoch ^ id.instance).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    of_link.wrapping_add(id.sequence) % NS
}
