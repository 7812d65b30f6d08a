//! A message as one JSON object on one line, and as text.

use std::borrow::Cow;

use weir_protocol::Form;
use weir_source::render::Context;

use super::Moment;
use crate::outlet::Message;
use crate::render::json::{line, object_at};

const TIMESTAMP: &[u8] = b"\"@timestamp\"";

/// Appends it as an object.
pub(super) fn write(message: &Message<'_>, at: &Moment, context: &mut Context, out: &mut Vec<u8>) {
    line(message, &at.text, context, out);
}

/// The same, and it says when it was, as a data stream demands.
pub(super) fn write_timed(
    message: &Message<'_>,
    at: &Moment,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    line(message, &at.text, context, out);
    let object = &out[start..];
    // What is made of text says it.
    if message.form == Form::Raw || has_timestamp(object) {
        return;
    }
    let Some(bracket) = object.iter().position(|byte| *byte == b'{') else {
        return;
    };
    let is_empty = object[bracket + 1..].trim_ascii_start().first() == Some(&b'}');
    let pair = [&b"{\"@timestamp\":\""[..], &at.text, b"\","].concat();
    let pair = &pair[..pair.len() - usize::from(is_empty)];
    let bracket = start + bracket;
    out.splice(bracket..=bracket, pair.iter().copied());
}

/// Its text, or bytes that are none.
pub(super) fn text_of<'a>(
    message: &Message<'a>,
    at: &Moment,
    context: &mut Context,
) -> Cow<'a, [u8]> {
    match message.form {
        Form::Raw | Form::Json => Cow::Borrowed(message.payload),
        Form::Entry => {
            let mut object = Vec::new();
            write_object(message, at, context, &mut object);
            Cow::Owned(object)
        }
    }
}

/// Appends it as an object, on any number of lines.
pub(super) fn write_object(
    message: &Message<'_>,
    at: &Moment,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    object_at(message, &at.text, context, out);
}

/// Whether a valid object has the key at its top.
fn has_timestamp(object: &[u8]) -> bool {
    if memchr::memmem::find(object, TIMESTAMP).is_none() {
        return false;
    }
    let (mut depth, mut at) = (0u32, 0);
    while at < object.len() {
        match object[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = string_end(object, at);
                let behind = object.get(end..).unwrap_or_default();
                let is_key = behind.trim_ascii_start().first() == Some(&b':');
                if depth == 1 && is_key && object.get(at..end) == Some(TIMESTAMP) {
                    return true;
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    false
}

/// Where the string that begins at `at` has ended.
fn string_end(json: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while let Some(found) = json
        .get(next..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        match json[next + found] {
            b'"' => return next + found + 1,
            _ => next += found + 2,
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, message};
    use super::*;

    #[test]
    fn a_document_of_a_data_stream_says_when_it_was() {
        for (payload, expected) in [
            ("{ }", r#"{"@timestamp":"2023-11-14T22:13:20.123Z" }"#),
            (
                " {\"a\":{\"@timestamp\":1},\n\"b\":\"\\\"@timestamp\\\":\"}",
                r#" {"@timestamp":"2023-11-14T22:13:20.123Z","a":{"@timestamp":1}, "b":"\"@timestamp\":"}"#,
            ),
            (r#"{"a":1,"@timestamp" : 5}"#, r#"{"a":1,"@timestamp" : 5}"#),
            (
                r#"["@timestamp"]"#,
                r#"{"message":"[\"@timestamp\"]","severity":1,"@timestamp":"2023-11-14T22:13:20.123Z"}"#,
            ),
            (
                r#"{"a":"@timestamp"}"#,
                r#"{"@timestamp":"2023-11-14T22:13:20.123Z","a":"@timestamp"}"#,
            ),
        ] {
            let message = Message {
                form: Form::Json,
                ..message(payload.as_bytes())
            };
            let mut out = b"before".to_vec();
            write_timed(&message, &at(), &mut Context::default(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out[6..]), expected);
        }
    }
}
