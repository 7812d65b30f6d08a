//! A message as the record of a Fluent entry.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::Deserializer;
use weir_protocol::msgpack::{
    take_array, take_head, take_value, write_bin, write_int, write_str, write_uint, Head,
};
use weir_protocol::Form;

use super::{is_text, pri_of};
use crate::outlet::Message;

/// Brackets within each other, the record's own included: what Fluent Bit's reader takes.
const DEPTH_MAX: u8 = 32;

/// Appends an entry of Fluent Forward that came as one: without its metadata, which not every server reads. `None`: it is
/// none; nothing was appended.
pub(crate) fn entry(entry: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut record = entry;
    let when = take_value(&mut record)?;
    let mut time = when;
    if take_array(&mut time) == Some(2) {
        let when = take_value(&mut time)?;
        return plain(when, record, out);
    }
    plain(when, record, out)
}

/// Both parts of a float are held against their range before.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn plain(time: &[u8], record: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let is_map = matches!(take_head(&mut &*record)?, Head::Map(_));
    is_map.then_some(())?;
    match take_head(&mut &*time)? {
        // Some servers read no fractions as a float.
        Head::Float(seconds) if (0.0..4e9).contains(&seconds) => {
            let head = entry_head(seconds.trunc() as u64, (seconds.fract() * 1e9) as u32);
            out.extend_from_slice(&head);
        }
        _ => {
            out.push(0x92);
            out.extend_from_slice(time);
        }
    }
    out.extend_from_slice(record);
    Some(())
}

/// Bytes of an entry before its record, where its time has nanoseconds.
pub(crate) const ENTRY_HEAD_BYTES: usize = 11;

/// The beginning of an entry of this time.
pub(crate) fn entry_head(seconds: u64, nanoseconds: u32) -> [u8; ENTRY_HEAD_BYTES] {
    let mut head = [0; ENTRY_HEAD_BYTES];
    head[..3].copy_from_slice(&[0x92, 0xd7, 0x00]);
    head[3..7].copy_from_slice(&seconds.to_be_bytes()[4..]);
    head[7..].copy_from_slice(&nanoseconds.to_be_bytes());
    head
}

/// Appends the record of a message: the pairs of a JSON object, or the message as text.
pub(crate) fn record(message: &Message<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    if message.form == Form::Json && object(message.payload, out).is_some() {
        return;
    }
    out.truncate(start);
    text(message, out);
}

/// Appends an entry that begins with `head`, around text: a short string in nearly all of them, which is written in three
/// pieces.
pub(crate) fn entry_of_text(
    head: &[u8; ENTRY_HEAD_BYTES],
    message: &Message<'_>,
    out: &mut Vec<u8>,
) {
    const SHORT: usize = ENTRY_HEAD_BYTES + 11;
    const LONG: usize = ENTRY_HEAD_BYTES + 12;
    let payload = message.payload;
    let len = u16::try_from(payload.len()).unwrap_or(0);
    let pri = pri_of(payload);
    let pairs = 0x82 | u8::from(pri.is_some());
    out.reserve(payload.len() + 64);
    match len.to_be_bytes() {
        [0, low @ 32..=0xff] if is_text(payload) => {
            let mut open = [0; SHORT];
            open[..ENTRY_HEAD_BYTES].copy_from_slice(head);
            open[ENTRY_HEAD_BYTES..].copy_from_slice(b"\x82\xa7message\xd9\0");
            (open[ENTRY_HEAD_BYTES], open[SHORT - 1]) = (pairs, low);
            out.extend_from_slice(&open);
            out.extend_from_slice(payload);
        }
        [high @ 1..=0xff, low] if is_text(payload) => {
            let mut open = [0; LONG];
            open[..ENTRY_HEAD_BYTES].copy_from_slice(head);
            open[ENTRY_HEAD_BYTES..].copy_from_slice(b"\x82\xa7message\xda\0\0");
            (open[ENTRY_HEAD_BYTES], open[LONG - 2], open[LONG - 1]) = (pairs, high, low);
            out.extend_from_slice(&open);
            out.extend_from_slice(payload);
        }
        _ => {
            out.extend_from_slice(head);
            return text(message, out);
        }
    }
    numbers(message.severity, pri, out);
}

/// A record around text: it stays what it is, whatever it holds.
fn text(message: &Message<'_>, out: &mut Vec<u8>) {
    let pri = pri_of(message.payload);
    out.push(0x82 | u8::from(pri.is_some()));
    write_str(out, b"message");
    match is_text(message.payload) {
        true => write_str(out, message.payload),
        false => write_bin(out, message.payload),
    }
    numbers(message.severity, pri, out);
}

/// The pairs behind the text.
#[inline]
fn numbers(severity: u8, pri: Option<u8>, out: &mut Vec<u8>) {
    const SEVERITY: &[u8; 10] = b"\xa8severity\0";
    const BOTH: &[u8; 20] = b"\xa8severity\0\xa8facility\0";
    match pri {
        // Numbers below 128 are themselves.
        None if severity < 128 => {
            let mut tail = *SEVERITY;
            tail[9] = severity;
            out.extend_from_slice(&tail);
        }
        Some(pri) if severity < 128 => {
            let mut tail = *BOTH;
            (tail[9], tail[19]) = (severity, pri / 8);
            out.extend_from_slice(&tail);
        }
        _ => {
            out.extend_from_slice(&SEVERITY[..9]);
            write_uint(out, severity.into());
            if let Some(pri) = pri {
                write_str(out, b"facility");
                write_uint(out, u64::from(pri / 8));
            }
        }
    }
}

/// Appends a JSON object as a map. `None`: it is none; what was appended is to be forgotten.
pub(crate) fn object(json: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Value {
        out,
        depth: DEPTH_MAX,
    };
    value.deserialize(&mut reader).ok()?;
    reader.end().ok()
}

/// One JSON value on its way.
struct Value<'a> {
    out: &'a mut Vec<u8>,
    /// Brackets that may still open.
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl Value<'_> {
    fn inner<E: serde::de::Error>(&self) -> Result<u8, E> {
        self.depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("too many brackets"))
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push(0xc0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.out.push(0xc2 | u8::from(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        write_uint(self.out, value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        write_int(self.out, value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.out.push(0xcb);
        self.out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        write_str(self.out, value.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let depth = self.inner()?;
        let at = self.out.len();
        // How many there are is known at their end: the widest head, written then.
        self.out.extend_from_slice(&[0xdd, 0, 0, 0, 0]);
        let mut count = 0u32;
        while seq
            .next_element_seed(Value {
                out: &mut *self.out,
                depth,
            })?
            .is_some()
        {
            count += 1;
        }
        self.out[at + 1..at + 5].copy_from_slice(&count.to_be_bytes());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = self.inner()?;
        let at = self.out.len();
        self.out.extend_from_slice(&[0xdf, 0, 0, 0, 0]);
        let mut count = 0u32;
        while map
            .next_key_seed(Value {
                out: &mut *self.out,
                depth,
            })?
            .is_some()
        {
            map.next_value_seed(Value {
                out: &mut *self.out,
                depth,
            })?;
            count += 1;
        }
        self.out[at + 1..at + 5].copy_from_slice(&count.to_be_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> rmpv::Value {
        let mut rest = bytes;
        let value = rmpv::decode::read_value(&mut rest).expect("MessagePack");
        assert!(rest.is_empty());
        value
    }

    fn rendered(form: Form, payload: &[u8], severity: u8) -> String {
        let mut out = Vec::new();
        let message = Message {
            severity,
            form,
            payload,
        };
        record(&message, &mut out);
        read(&out).to_string()
    }

    #[test]
    fn objects_are_records_and_all_else_is_text() {
        for (form, payload, expected) in [
            (
                Form::Json,
                r#"{"a":1,"b":[true,null,-7],"c":{"d":"e"}}"#,
                r#"{"a": 1, "b": [true, nil, -7], "c": {"d": "e"}}"#,
            ),
            (Form::Json, " { } ", "{}"),
            (Form::Json, r#"{"a":"\u00e9\n"}"#, r#"{"a": "é\n"}"#),
            (Form::Json, "[1]", r#"{"message": "[1]", "severity": 3}"#),
            (
                Form::Json,
                r#"{"a":1} x"#,
                r#"{"message": "{\"a\":1} x", "severity": 3}"#,
            ),
            (
                Form::Json,
                r#"{"a":"#,
                r#"{"message": "{\"a\":", "severity": 3}"#,
            ),
            (
                Form::Raw,
                r#"{"a":1}"#,
                r#"{"message": "{\"a\":1}", "severity": 3}"#,
            ),
            (
                Form::Raw,
                "<165>1 - h",
                r#"{"message": "<165>1 - h", "severity": 3, "facility": 20}"#,
            ),
            (Form::Raw, "", r#"{"message": "", "severity": 3}"#),
        ] {
            assert_eq!(rendered(form, payload.as_bytes(), 3), expected, "{payload}");
        }
        let mut out = Vec::new();
        let message = Message {
            severity: 0,
            form: Form::Raw,
            payload: &[0xff, 0xfe],
        };
        record(&message, &mut out);
        let rmpv::Value::Map(pairs) = read(&out) else {
            panic!("a map");
        };
        assert_eq!(pairs[0].1, rmpv::Value::Binary(vec![0xff, 0xfe]));
    }

    #[test]
    fn brackets_beyond_what_readers_take_are_text() {
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
        let mut out = Vec::new();
        assert!(object(deep(32).as_bytes(), &mut out).is_some());
        read(&out);
        assert!(object(deep(33).as_bytes(), &mut Vec::new()).is_none());
    }

    /// The short way says what the long way says.
    fn assert_entry(payload: &[u8], severity: u8) {
        let message = Message {
            severity,
            form: Form::Raw,
            payload,
        };
        let head = entry_head(1_700_000_000, 7);
        let mut expected = head.to_vec();
        text(&message, &mut expected);
        let mut out = Vec::new();
        entry_of_text(&head, &message, &mut out);
        assert_eq!(out, expected, "{} bytes, {severity}", payload.len());
    }

    #[test]
    fn entries_of_text_have_the_shortest_heads() {
        for len in [
            0, 1, 31, 32, 33, 254, 255, 256, 257, 65_534, 65_535, 65_536, 70_000,
        ] {
            for severity in [0, 5, 127, 128, 255] {
                let mut payload = vec![b'x'; len];
                assert_entry(&payload, severity);
                if let Some(at) = len.checked_sub(1) {
                    payload[at] = 0xff;
                    assert_entry(&payload, severity);
                }
                let start = len.min(5);
                payload[..start].copy_from_slice(&b"<165>"[..start]);
                assert_entry(&payload, severity);
            }
        }
    }

    proptest! {
        #[test]
        fn entries_of_text_are_records(payload in proptest::collection::vec(any::<u8>(), 0..300), ascii: bool, severity: u8) {
            let mask = if ascii { 0x7f } else { 0xff };
            let payload: Vec<u8> = payload.iter().map(|byte| byte & mask).collect();
            assert_entry(&payload, severity);
        }

        #[test]
        fn objects_say_the_same(pairs in proptest::collection::btree_map("[a-z]{1,40}", ".{0,80}", 0..20)) {
            let json = serde_json::to_vec(&pairs).expect("JSON");
            let mut out = Vec::new();
            prop_assert!(object(&json, &mut out).is_some());
            let rmpv::Value::Map(found) = read(&out) else { panic!("a map") };
            let found: std::collections::BTreeMap<String, String> = found
                .into_iter()
                .map(|(key, value)| (key.as_str().expect("text").to_owned(), value.as_str().expect("text").to_owned()))
                .collect();
            prop_assert_eq!(found, pairs);
        }

        #[test]
        fn anything_is_a_record(payload in proptest::collection::vec(any::<u8>(), 0..300), json: bool) {
            let mut out = Vec::new();
            let form = if json { Form::Json } else { Form::Raw };
            record(&Message { severity: 1, form, payload: &payload }, &mut out);
            prop_assert!(matches!(read(&out), rmpv::Value::Map(_)));
        }
    }
}
