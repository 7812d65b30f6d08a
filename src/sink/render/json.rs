//! A message as one JSON object.
//!
//! ```text
//! form JSON, one object   as it came
//! all else                {"message":"<165>1 - h","severity":4,"facility":20,"@timestamp":"2026-11-30T02:30:00.000Z"}
//!   no UTF-8              {"message":"//4=","encoding":"base64","severity":3,"@timestamp":...}
//! ```
//!
//! Text is never looked into for an object: what it is was said by its sender. `severity` is Weir's, 0 fatal to 5
//! trace; `facility` is there where the text begins with a PRI; `@timestamp` is when it was packed.

use std::fmt;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use weir_protocol::record::split_entry;
use weir_protocol::{Form, TIMESTAMP_BYTES};
use weir_source::render::{self, is_plain, write_unplain_text, Context};

use super::pri_of;
use crate::outlet::{Message, Stamp};

/// base64 is written in pieces of so many bytes, a multiple of 3.
const PIECE_BYTES: usize = 48;
/// Brackets within each other, the object's own included: what Ruby's reader takes, the least of those that are known.
const DEPTH_MAX: usize = 100;
/// An entry of Fluent Forward has at most so many bytes as JSON; what is longer is cut, and says so.
const ENTRY_BYTES_MAX: usize = 16 << 20;

/// Appends a message as one JSON object (RFC 8259): valid, in UTF-8, with nothing behind it. Line feeds may stand
/// between its values, see [`line`].
#[inline]
pub(crate) fn object(
    message: &Message<'_>,
    stamp: &Stamp,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    match message.form {
        Form::Raw => text(message, &stamp.text, out),
        Form::Json | Form::Entry => object_at(message, &stamp.text, context, out),
    }
}

/// The same with the time as text.
pub(crate) fn object_at(
    message: &Message<'_>,
    time: &[u8; TIMESTAMP_BYTES],
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    match message.form {
        Form::Json if is_object(message.payload) => out.extend_from_slice(message.payload),
        Form::Entry => match split_entry(message.payload) {
            Some((tag, entry)) => {
                render::entry(context, tag, entry, ENTRY_BYTES_MAX, out);
            }
            None => text(message, time, out),
        },
        Form::Json | Form::Raw => text(message, time, out),
    }
}

/// The same without an end of a line in it: for formats with one object on each. The end is not written.
pub(crate) fn line(
    message: &Message<'_>,
    time: &[u8; TIMESTAMP_BYTES],
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    if message.form == Form::Raw {
        return text(message, time, out);
    }
    let start = out.len();
    object_at(message, time, context, out);
    // In an object that is valid they stand between values only, where a space says the same.
    let mut rest = &mut out[start..];
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

/// It is one JSON object, whatever stands around it as white space, that every reader takes: one that does not would refuse
/// what others have sent in the same request. Brackets are at most [`DEPTH_MAX`] deep.
fn is_object(bytes: &[u8]) -> bool {
    let Ok(text) = simdutf8::basic::from_utf8(bytes) else {
        return false;
    };
    text.trim_start().starts_with('{')
        && serde_json::from_str::<Read>(text).is_ok()
        && !is_too_deep(bytes)
}

/// A value that was read, and not only passed over: strings have no halves of surrogate pairs, and numbers are doubles.
struct Read;

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Read, D::Error> {
        from.deserialize_any(Read)
    }
}

impl<'de> Visitor<'de> for Read {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Read, E> {
        Ok(Read)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Read, E> {
        Ok(Read)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Read, E> {
        Ok(Read)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Read, E> {
        Ok(Read)
    }

    fn visit_str<E>(self, _: &str) -> Result<Read, E> {
        Ok(Read)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read, A::Error> {
        while items.next_element::<Read>()?.is_some() {}
        Ok(Read)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Read, A::Error> {
        while pairs.next_entry::<Read, Read>()?.is_some() {}
        Ok(Read)
    }
}

/// Of JSON that is valid.
fn is_too_deep(json: &[u8]) -> bool {
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    if json.iter().filter(|byte| opens(byte)).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut is_escaped) = (0, false, false);
    json.iter().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        depth > DEPTH_MAX
    })
}

/// An object around text: it stays what it is, whatever it holds.
fn text(message: &Message<'_>, time: &[u8; TIMESTAMP_BYTES], out: &mut Vec<u8>) {
    let payload = message.payload;
    let facility = pri_of(payload).map(|pri| pri / 8);
    if message.severity < 10 && is_plain(payload) {
        return plain_text(message, facility, time, out);
    }
    out.reserve(payload.len() + 128);
    out.extend_from_slice(b"{\"message\":");
    if !write_unplain_text(payload, out) {
        base64(payload, out);
        out.extend_from_slice(b",\"encoding\":\"base64\"");
    }
    out.extend_from_slice(b",\"severity\":");
    number(out, message.severity);
    if let Some(facility) = facility {
        out.extend_from_slice(b",\"facility\":");
        number(out, facility);
    }
    out.extend_from_slice(b",\"@timestamp\":\"");
    out.extend_from_slice(time);
    out.extend_from_slice(b"\"}");
}

/// The same of nearly all messages, which have nothing to escape: what is around the text has a fixed length, and is two
/// pieces.
#[inline]
fn plain_text(
    message: &Message<'_>,
    facility: Option<u8>,
    time: &[u8; TIMESTAMP_BYTES],
    out: &mut Vec<u8>,
) {
    /// Puts what differs into a tail: a digit, and the time before its last two bytes.
    fn filled<const N: usize>(mut tail: [u8; N], severity: u8, time: &[u8]) -> [u8; N] {
        tail[13] += severity;
        let end = N - 2;
        tail[end - TIMESTAMP_BYTES..end].copy_from_slice(time);
        tail
    }
    const NONE: &[u8; 55] = b"\",\"severity\":0,\"@timestamp\":\"                        \"}";
    const ONE: &[u8; 68] =
        b"\",\"severity\":0,\"facility\":0,\"@timestamp\":\"                        \"}";
    const TWO: &[u8; 69] =
        b"\",\"severity\":0,\"facility\":00,\"@timestamp\":\"                        \"}";
    out.reserve(message.payload.len() + 128);
    out.extend_from_slice(b"{\"message\":\"");
    out.extend_from_slice(message.payload);
    match facility {
        None => out.extend_from_slice(&filled(*NONE, message.severity, time)),
        Some(facility @ 0..=9) => {
            let mut tail = filled(*ONE, message.severity, time);
            tail[26] += facility;
            out.extend_from_slice(&tail);
        }
        Some(facility) => {
            let mut tail = filled(*TWO, message.severity, time);
            tail[26] += facility / 10; // up to 23
            tail[27] += facility % 10;
            out.extend_from_slice(&tail);
        }
    }
}

fn number(out: &mut Vec<u8>, value: u8) {
    if value >= 100 {
        out.push(b'0' + value / 100);
    }
    if value >= 10 {
        out.push(b'0' + value / 10 % 10);
    }
    out.push(b'0' + value % 10);
}

/// Appends `bytes` as base64 between quotes.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for piece in bytes.chunks(PIECE_BYTES) {
        let mut text = [0; PIECE_BYTES / 3 * 4];
        let len = STANDARD.encode_slice(piece, &mut text).unwrap_or_default();
        out.extend_from_slice(&text[..len]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const STAMP: Stamp = Stamp {
        unix_ms: 1_500,
        text: *b"1970-01-01T00:00:01.500Z",
    };

    fn rendered(form: Form, payload: &[u8], severity: u8) -> String {
        let mut out = b"before".to_vec();
        let message = Message {
            severity,
            form,
            payload,
        };
        object(&message, &STAMP, &mut Context::default(), &mut out);
        String::from_utf8(out.split_off(6)).expect("UTF-8")
    }

    /// What follows the message's text.
    fn around(message: &str, more: &str) -> String {
        format!("{{\"message\":{message},{more},\"@timestamp\":\"1970-01-01T00:00:01.500Z\"}}")
    }

    #[test]
    fn objects_stay_as_they_came() {
        for object in [
            r#"{"a":1,"b":[true,null,-7e3],"a":2}"#,
            " \t{ \"a\" :\n{} } ",
            r#"{"a":"\u00e9\n\ud83d\ude00"}"#,
        ] {
            assert_eq!(rendered(Form::Json, object.as_bytes(), 3), object);
        }
    }

    #[test]
    fn all_else_becomes_the_message_of_one() {
        for (form, payload, message, more) in [
            (Form::Json, &b"[1]"[..], r#""[1]""#, r#""severity":3"#),
            (
                Form::Json,
                b"{\"a\":1} x",
                r#""{\"a\":1} x""#,
                r#""severity":3"#,
            ),
            (
                Form::Json,
                b"{\"a\":1}{}",
                r#""{\"a\":1}{}""#,
                r#""severity":3"#,
            ),
            (Form::Json, b"{\"a\":", r#""{\"a\":""#, r#""severity":3"#),
            (Form::Json, b"", r#""""#, r#""severity":3"#),
            (
                Form::Json,
                b"{\"a\":\"\xff\"}",
                r#""eyJhIjoi/yJ9","encoding":"base64""#,
                r#""severity":3"#,
            ),
            (Form::Raw, b"{\"a\":1}", r#""{\"a\":1}""#, r#""severity":3"#),
            (
                Form::Raw,
                b"<165>1 - h",
                r#""<165>1 - h""#,
                r#""severity":3,"facility":20"#,
            ),
            (
                Form::Raw,
                b"<13>a\n\"b\"\0",
                r#""<13>a\n\"b\"\u0000""#,
                r#""severity":3,"facility":1"#,
            ),
            (
                Form::Raw,
                &[0xff, 0xfe],
                r#""//4=","encoding":"base64""#,
                r#""severity":3"#,
            ),
        ] {
            let shown = String::from_utf8_lossy(payload);
            assert_eq!(rendered(form, payload, 3), around(message, more), "{shown}");
        }
        assert_eq!(
            rendered(Form::Raw, b"", 255),
            around("\"\"", "\"severity\":255")
        );
    }

    #[test]
    fn brackets_beyond_what_readers_take_are_text() {
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
        assert!(is_object(deep(DEPTH_MAX).as_bytes()));
        assert!(!is_object(deep(DEPTH_MAX + 1).as_bytes()));
        assert!(
            !is_object(deep(1 << 20).as_bytes()),
            "nor do they fill the stack"
        );
        let shallow = format!("{{\"a\":\"\\\"{}\",\"b\":[]}}", "[".repeat(500));
        assert!(is_object(shallow.as_bytes()), "within a string");
        let wide = format!("{{\"a\":[{}[]]}}", "[],".repeat(500));
        assert!(is_object(wide.as_bytes()), "beside each other");
    }

    #[test]
    fn what_some_readers_refuse_is_text() {
        for (object, is_one) in [
            (
                r#"{"a":"\ud83d\ude00","b":1.5e300,"c":123456789012345678901234567890}"#,
                true,
            ),
            (r#"{"a":"\ud83d"}"#, false),
            (r#"{"a":"\ude00\ud83d"}"#, false),
            (r#"{"\uDaAA":1}"#, false),
            (r#"{"a":[{"b":1e999}]}"#, false),
            (r#"{"a":"1e999"}"#, true),
        ] {
            assert_eq!(is_object(object.as_bytes()), is_one, "{object}");
        }
    }

    #[test]
    fn a_line_has_no_end_of_a_line() {
        let message = Message {
            severity: 3,
            form: Form::Json,
            payload: b"{\"a\":\r\n\"\\n\",\n\"b\":1}\n",
        };
        let mut out = b"\n".to_vec();
        line(&message, &STAMP.text, &mut Context::default(), &mut out);
        assert_eq!(out, b"\n{\"a\":  \"\\n\", \"b\":1} ");
    }

    proptest! {
        /// Another reader of JSON finds what came, and nothing of it ends a line.
        #[test]
        fn anything_is_one_object(payload in proptest::collection::vec(any::<u8>(), 0..600), json: bool, severity: u8) {
            let form = if json { Form::Json } else { Form::Raw };
            let mut out = Vec::new();
            line(&Message { severity, form, payload: &payload }, &STAMP.text, &mut Context::default(), &mut out);
            prop_assert!(!out.contains(&b'\n'));
            let value: Value = serde_json::from_slice(&out).expect("JSON");
            let said = value["message"].as_str().expect("text");
            let found = match value.get("encoding") {
                Some(_) => STANDARD.decode(said).expect("base64"),
                None => said.as_bytes().to_vec(),
            };
            prop_assert_eq!(found, payload);
            prop_assert_eq!(value["severity"].as_u64(), Some(severity.into()));
        }

        #[test]
        fn text_comes_back(said in ".{0,200}") {
            let value: Value = serde_json::from_str(&rendered(Form::Raw, said.as_bytes(), 3)).expect("JSON");
            prop_assert_eq!(value["message"].as_str(), Some(&said[..]));
        }
    }
}
