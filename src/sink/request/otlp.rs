//! Logs of OpenTelemetry: `ExportLogsServiceRequest`, and the answer to it.
//!
//! ```text
//! 0a <len> 12 <len>   12 <len> 59 <observed, fixed64> 10 <severity> 2a <len> 0a <len> text     one record after another
//! |        |          |                                                     3a: bytes that are no text
//! |        |          log_records
//! |        scope_logs
//! resource_logs       these two lengths are written at the end: five bytes each, whatever they are
//!
//! answer   nothing, or 0a <len> 08 <rejected> 12 <len> why
//! ```
//!
//! Specification: <https://github.com/open-telemetry/opentelemetry-proto>, `logs/v1`, `collector/logs/v1`.

use weir_protocol::Form;

use super::{decimal, object, shown, Message, Moment, Short, Verdict};
use crate::render::json::base64;
use crate::render::{is_text, pri_of};
use weir_source::render::{write_text, Context};

/// Bytes of a length that is written later.
const LENGTH_BYTES: usize = 5;
/// Of the body, before the first record.
const OPEN_BYTES: usize = 2 * (1 + LENGTH_BYTES);

pub(super) const JSON_OPEN: &[u8] = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":["#;
pub(super) const JSON_CLOSE: &[u8] = b"]}]}]}";

/// What stands before the records.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x0a, 0, 0, 0, 0, 0, 0x12, 0, 0, 0, 0, 0]);
}

/// Writes the lengths of what began at `start`.
pub(super) fn end(start: usize, out: &mut [u8]) {
    let records = out.len() - start - OPEN_BYTES;
    let lengths = [records + 1 + LENGTH_BYTES, records];
    for (at, length) in [1, 2 + LENGTH_BYTES].into_iter().zip(lengths) {
        let mut rest = length;
        for number in 0..LENGTH_BYTES {
            let seven = u8::try_from(rest & 0x7f).unwrap_or(0);
            let goes_on = u8::from(number + 1 < LENGTH_BYTES) << 7;
            out[start + at + number] = seven | goes_on;
            rest >>= 7;
        }
    }
}

/// Appends a message as a record.
pub(super) fn write(message: &Message<'_>, at: &Moment, context: &mut Context, out: &mut Vec<u8>) {
    let text = object::text_of(message, at, context);
    let payload = &*text;
    let is_text = is_text(payload);
    let value_bytes = 1 + varint_bytes(payload.len()) + payload.len();
    // The severities are below 128.
    let record_bytes = 9 + 2 + 1 + varint_bytes(value_bytes) + value_bytes;
    out.reserve(record_bytes + 8);
    out.push(0x12);
    varint(record_bytes, out);
    out.push(0x59);
    out.extend_from_slice(&unix_ns(at).to_le_bytes());
    out.extend_from_slice(&[0x10, severity_number(message), 0x2a]);
    varint(value_bytes, out);
    out.push(if is_text { 0x0a } else { 0x3a });
    varint(payload.len(), out);
    out.extend_from_slice(payload);
}

/// The same as JSON.
pub(super) fn write_json(
    message: &Message<'_>,
    at: &Moment,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"observedTimeUnixNano\":\"");
    decimal(out, unix_ns(at));
    out.extend_from_slice(b"\",\"severityNumber\":");
    decimal(out, u64::from(severity_number(message)));
    let payload = object::text_of(message, at, context);
    let start = out.len();
    out.extend_from_slice(b",\"body\":{\"stringValue\":");
    if !write_text(&payload, out) {
        out.truncate(start);
        out.extend_from_slice(b",\"body\":{\"bytesValue\":");
        base64(&payload, out);
    }
    out.extend_from_slice(b"}}");
}

fn unix_ns(at: &Moment) -> u64 {
    at.unix_ms.saturating_mul(1_000_000)
}

/// A syslog message's own severity says more than the six of Weir: the data model's appendix B has both.
fn severity_number(message: &Message<'_>) -> u8 {
    let pri = pri_of(message.payload).filter(|_| message.form == Form::Raw);
    match (pri.map(|pri| pri & 7), message.severity) {
        (Some(0), _) | (None, 0) => 21,
        (Some(1), _) => 19,
        (Some(2), _) => 18,
        (Some(3), _) | (None, 1) => 17,
        (Some(4), _) | (None, 2) => 13,
        (Some(5), _) => 10,
        (Some(7), _) | (None, 4) => 5,
        (None, 5) => 1,
        _ => 9,
    }
}

fn varint(value: usize, out: &mut Vec<u8>) {
    let mut rest = value;
    while rest > 0x7f {
        out.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

fn varint_bytes(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Reads an answer in protocol buffers.
#[derive(Debug, Default)]
pub struct OtlpReply(pub(super) Short);

impl OtlpReply {
    pub(super) fn end(self, messages: u64) -> Verdict {
        let read = |body: &[u8]| partial_success(body).ok_or("its body is no protocol buffer");
        let found = self.0.whole().and_then(|body| Ok(read(body)?));
        verdict(found, messages)
    }
}

/// Reads an answer in JSON.
#[derive(Debug, Default)]
pub struct OtlpJsonReply(pub(super) Short);

impl OtlpJsonReply {
    pub(super) fn end(self, messages: u64) -> Verdict {
        let found = self.0.whole().and_then(|body| {
            if body.is_empty() {
                return Ok((0, String::new()));
            }
            let value: serde_json::Value =
                serde_json::from_slice(body).map_err(|error| format!("its body: {error}"))?;
            let partial = &value["partialSuccess"];
            let rejected = &partial["rejectedLogRecords"];
            // Numbers of 64 bits are strings in this JSON; not everybody knows.
            let number = match rejected {
                serde_json::Value::Null => Some(0),
                serde_json::Value::String(text) => text.parse().ok(),
                other => other.as_u64(),
            };
            let odd = || format!("its rejectedLogRecords: {}", shown(&rejected.to_string()));
            let rejected = number.ok_or_else(odd)?;
            let why = partial["errorMessage"].as_str().unwrap_or_default();
            Ok((rejected, why.to_owned()))
        });
        verdict(found, messages)
    }
}

/// The status has said that it is taken: what cannot be read is no reason to send it again.
fn verdict(found: Result<(u64, String), String>, messages: u64) -> Verdict {
    match found {
        Ok((0, why)) if why.is_empty() => Verdict::Taken,
        Ok((0, why)) => Verdict::TakenBut(shown(&why)),
        Ok((rejected, why)) => Verdict::Partly(rejected.min(messages), shown(&why)),
        Err(why) => Verdict::TakenBut(why),
    }
}

/// `partial_success` of a response: how many were rejected, and why. `None`: it cannot be read.
fn partial_success(mut body: &[u8]) -> Option<(u64, String)> {
    let mut found = (0, String::new());
    while !body.is_empty() {
        let (field, value) = take_field(&mut body)?;
        let (1, Value::Bytes(mut partial)) = (field, value) else {
            continue;
        };
        while !partial.is_empty() {
            match take_field(&mut partial)? {
                // An int64: what is negative is nonsense.
                (1, Value::Number(rejected)) => {
                    found.0 = i64::try_from(rejected).ok()?.unsigned_abs();
                }
                (2, Value::Bytes(why)) => found.1 = String::from_utf8_lossy(why).into_owned(),
                _ => {}
            }
        }
    }
    Some(found)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Skipped,
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = take_varint(bytes)?;
    let mut take = |len: u64| {
        let (taken, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
        *bytes = rest;
        Some(taken)
    };
    let value = match key & 7 {
        0 => Value::Number(take_varint(bytes)?),
        1 => take(8).map(|_| Value::Skipped)?,
        5 => take(4).map(|_| Value::Skipped)?,
        2 => {
            let len = take_varint(bytes)?;
            let (taken, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
            *bytes = rest;
            Value::Bytes(taken)
        }
        _ => return None,
    };
    Some((key >> 3, value))
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, message};
    use super::*;

    #[test]
    fn a_request_has_the_bytes_of_the_specification() {
        let mut out = b"before".to_vec();
        begin(&mut out);
        write(&message(b"hi"), &at(), &mut Context::default(), &mut out);
        end(6, &mut out);
        let record = [
            &[0x12, 17, 0x59][..],
            &1_700_000_000_123_000_000u64.to_le_bytes(),
            &[0x10, 17, 0x2a, 4, 0x0a, 2, b'h', b'i'],
        ]
        .concat();
        let expected = [
            &b"before"[..],
            &[
                0x0a,
                0x80 | 25,
                0x80,
                0x80,
                0x80,
                0,
                0x12,
                0x80 | 19,
                0x80,
                0x80,
                0x80,
                0,
            ],
            &record,
        ]
        .concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn severities_follow_the_tables() {
        let number = |severity, payload: &'static [u8]| {
            severity_number(&Message {
                severity,
                ..message(payload)
            })
        };
        let weir: Vec<u8> = (0..7).map(|severity| number(severity, b"x")).collect();
        assert_eq!(weir, [21, 17, 13, 9, 5, 1, 9]);
        let pri = [
            b"<8>", b"<9>", b"<2>", b"<3>", b"<4>", b"<5>", b"<6>", b"<7>",
        ];
        let syslog: Vec<u8> = pri.iter().map(|text| number(3, *text)).collect();
        assert_eq!(syslog, [21, 19, 18, 17, 13, 10, 9, 5]);
    }

    #[test]
    fn lengths_are_as_long_as_they_say() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, usize::MAX >> 1] {
            let mut out = Vec::new();
            varint(value, &mut out);
            assert_eq!(out.len(), varint_bytes(value), "{value}");
            assert_eq!(take_varint(&mut &out[..]), Some(value as u64));
        }
    }

    #[test]
    fn partial_success_is_told_from_success() {
        let read = |body: &[u8]| {
            let mut reply = OtlpReply::default();
            reply.0.feed(body);
            reply.end(5)
        };
        assert_eq!(read(b""), Verdict::Taken);
        assert_eq!(read(&[0x0a, 0]), Verdict::Taken);
        assert_eq!(
            read(&[0x0a, 7, 8, 1, 0x12, 3, b'b', b'a', b'd']),
            Verdict::Partly(1, "\"bad\"".to_owned())
        );
        assert_eq!(
            read(&[0x0a, 2, 8, 9]),
            Verdict::Partly(5, "\"\"".to_owned())
        );
        assert_eq!(
            read(&[0x0a, 3, 0x12, 1, b'w']),
            Verdict::TakenBut("\"w\"".to_owned())
        );
        for bad in [
            &b"{}"[..],
            &[0x0a, 9, 8],
            &[0x0a, 2, 8, 0x80],
            &vec![0x0a; 70_000],
        ] {
            assert!(matches!(read(bad), Verdict::TakenBut(_)), "{:?}", &bad[..2]);
        }
        let json = |body: &str| {
            let mut reply = OtlpJsonReply::default();
            reply.0.feed(body.as_bytes());
            reply.end(5)
        };
        assert_eq!(json(""), Verdict::Taken);
        assert_eq!(json("{}"), Verdict::Taken);
        for partial in [
            r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"bad"}}"#,
            r#"{"partialSuccess":{"rejectedLogRecords":2,"errorMessage":"bad"}}"#,
        ] {
            assert_eq!(json(partial), Verdict::Partly(2, "\"bad\"".to_owned()));
        }
        for odd in [
            "OK",
            r#"{"partialSuccess":{"rejectedLogRecords":"-3"}}"#,
            r#"{"partialSuccess":{"rejectedLogRecords":1e300}}"#,
            r#"{"partialSuccess":{"rejectedLogRecords":"99999999999999999999"}}"#,
        ] {
            assert!(matches!(json(odd), Verdict::TakenBut(_)), "{odd}");
        }
    }
}
