//! Random messages, written and read by another implementation of MessagePack (rmpv): what the source makes of them is
//! what a model makes of the values.

use super::super::shape::{self, Entry};
use super::{port, read_at, vectors, write_str, Port, ACK};
use crate::render::{self, Context};
use proptest::prelude::*;
use rmpv::Value;
use serde_json::{json, Value as Json};
use weir_protocol::msgpack::{len_of, Skip, Skipped};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[ -~]{0,100}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::from),
        (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((key(), inner), 0..6).prop_map(Value::Map),
        ]
    })
}

fn key() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => "[a-z@_]{1,12}".prop_map(Value::from),
        1 => Just(Value::from("tag")),
        1 => Just(Value::from("@timestamp")),
        1 => any::<i32>().prop_map(Value::from),
        1 => Just(Value::Nil),
    ]
}

fn map() -> impl Strategy<Value = Value> {
    proptest::collection::vec((key(), value()), 0..6).prop_map(Value::Map)
}

/// One entry: seconds, nanoseconds if it is an EventTime, metadata, record.
type Parts = (u32, Option<u32>, Option<Value>, Value);

fn entry() -> impl Strategy<Value = Parts> {
    let seconds = 0..u32::MAX - 1;
    let nanoseconds = proptest::option::of(0..1_000_000_000_u32);
    let metadata = proptest::option::of(map());
    (seconds, nanoseconds, metadata, map())
}

fn time_of((seconds, nanoseconds, metadata, _): &Parts) -> Value {
    let time = match nanoseconds {
        None => Value::from(*seconds),
        Some(nanoseconds) => {
            let bytes = [seconds.to_be_bytes(), nanoseconds.to_be_bytes()].concat();
            Value::Ext(0, bytes)
        }
    };
    match metadata {
        None => time,
        Some(metadata) => Value::Array(vec![time, metadata.clone()]),
    }
}

fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("into memory");
    out
}

/// The outer value of one mode.
fn outer(mode: u8, entries: &[Parts]) -> Value {
    let pairs = entries
        .iter()
        .map(|parts| Value::Array(vec![time_of(parts), parts.3.clone()]));
    let mut values = vec![Value::from("t")];
    match mode {
        0 => values.extend([time_of(&entries[0]), entries[0].3.clone()]),
        1 => values.push(Value::Array(pairs.collect())),
        _ => values.push(Value::from(
            pairs.flat_map(|pair| written(&pair)).collect::<Vec<u8>>(),
        )),
    }
    values.push(Value::Map(vec![("chunk".into(), "1".into())]));
    Value::Array(values)
}

/// Records whose keys say a severity, or seem to.
fn levelled() -> impl Strategy<Value = Value> {
    let keys = [
        "level",
        "severity",
        "log.level",
        "log",
        "loglevel",
        "severity_text",
        "levels",
        "message",
    ];
    let key = prop_oneof![
        20 => prop::sample::select(keys.to_vec()).prop_map(Value::from),
        1 => key(),
    ];
    let said = prop_oneof![
        prop::sample::select(vec!["error", "WARN", "debug", "nothing"]).prop_map(Value::from),
        (0..70_u8).prop_map(Value::from),
        value(),
    ];
    let within = said
        .clone()
        .prop_map(|said| Value::Map(vec![("level".into(), said)]));
    let pair = (key, prop_oneof![said, within]);
    proptest::collection::vec(pair, 0..20).prop_map(Value::Map)
}

/// Two vectors of the document, with one to four changes.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    let changes = proptest::collection::vec(change, 1..5);
    let vector = || prop::sample::select(vectors());
    (vector(), vector(), changes).prop_map(|((_, first, _), (_, second, _), changes)| {
        let mut stream = [first, second].concat();
        for (at, byte, kind) in changes {
            let at = at.index(stream.len());
            match kind {
                0 => stream.insert(at, byte),
                1 if stream.len() > 1 => drop(stream.remove(at)),
                2 => stream[at] ^= 1 << (byte % 8),
                _ => stream[at] = byte,
            }
        }
        stream
    })
}

/// What JSON says of a value.
fn model(value: &Value) -> Json {
    let number = |text: String| serde_json::from_str(&text).expect("a number");
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            let mut packet = String::new();
            for three in bytes.chunks(3) {
                let mut word = [0; 4];
                word[1..=three.len()].copy_from_slice(three);
                let word = u32::from_be_bytes(word);
                for digit in 0..4 {
                    let six = (word >> (18 - 6 * digit)) % 64;
                    let code = match six {
                        0..=25 => b'A' + six as u8,
                        26..=51 => b'a' + six as u8 - 26,
                        52..=61 => b'0' + six as u8 - 52,
                        62 => b'+',
                        _ => b'/',
                    };
                    packet.push(if digit <= three.len() {
                        code as char
                    } else {
                        '='
                    });
                }
            }
            json!({"encoding": "base64", "data": packet})
        }
    };
    match value {
        Value::Nil | Value::Ext(..) => Json::Null,
        Value::Boolean(is) => json!(is),
        Value::Integer(integer) => number(integer.to_string()),
        Value::F32(float) if float.is_finite() => number(format!("{float:?}")),
        Value::F64(float) if float.is_finite() => number(format!("{float:?}")),
        Value::F32(_) | Value::F64(_) => Json::Null,
        Value::String(text) => bytes(text.as_bytes()),
        Value::Binary(binary) => bytes(binary),
        Value::Array(values) => values.iter().map(model).collect(),
        Value::Map(pairs) => Json::Object(pairs.iter().map(pair).collect()),
    }
}

fn pair((key, value): &(Value, Value)) -> (String, Json) {
    let name = match key.as_str() {
        Some(text) => text.to_owned(),
        None => model(key).to_string(),
    };
    (name, model(value))
}

/// What is routed of an entry.
fn message(parts: &Parts) -> Json {
    let (seconds, nanoseconds, metadata, record) = parts;
    let Json::Object(mut object) = model(record) else {
        panic!("a record is a map")
    };
    let days = i64::from(*seconds) / 86_400;
    let (mut year, mut left) = (1970, days);
    let of_year =
        |year: i64| 365 + i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    while left >= of_year(year) {
        left -= of_year(year);
        year += 1;
    }
    let lengths = [
        31,
        of_year(year) - 337,
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let of_day = seconds % 86_400;
    let time = format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        left + 1,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        nanoseconds.unwrap_or_default()
    );
    object.entry("@timestamp").or_insert(json!(time));
    object.entry("tag").or_insert(json!("t"));
    if let Some(Value::Map(pairs)) = metadata {
        if !pairs.is_empty() {
            object.insert("_metadata".into(), model(&Value::Map(pairs.clone())));
        }
    }
    Json::Object(object)
}

proptest! {
    /// What is seen in registers is what a look at everything says, and is not seen where bytes are missing.
    #[test]
    fn what_is_usual_is_looked_at_rightly(
        parts in entry(),
        record in levelled(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = written(&Value::Array(vec![time_of(&parts), record]));
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Some((used, severity)) = shape::usual(bytes) {
                let message = Entry::Message(&bytes[1..used]);
                prop_assert_eq!(shape::entry(bytes), Some((used, message, severity)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_another_implementation_writes_is_read(
        mode in 0..3_u8,
        mut entries in proptest::collection::vec(entry(), 1..4),
        piece in 40..2000_usize,
    ) {
        if mode == 0 {
            // An array there would be that of Forward: nobody sends metadata so.
            entries[0].2 = None;
        }
        let stream = written(&outer(mode, &entries));
        let said = read_at(port(), &stream, piece);
        let sent = if mode == 0 { &entries[..1] } else { &entries[..] };
        prop_assert_eq!(said.len(), sent.len() + 1, "{:?}", said);
        prop_assert_eq!(said.last().map(String::as_str), Some(ACK));
        for (said, parts) in said.iter().zip(sent) {
            let json: Json = serde_json::from_str(&said[5..]).expect("JSON");
            prop_assert_eq!(json, message(parts));
        }
    }

    #[test]
    fn what_is_damaged_comes_to_the_same_in_any_pieces(
        stream in damaged(),
        piece in 1..100_usize,
        unit_bytes_max in prop_oneof![Just(40_usize), Just(1 << 20)],
    ) {
        let port = || Port { unit_bytes_max, ..port() };
        // How many bytes something has may be known later when they come in pieces.
        let read = |piece: usize| -> Vec<String> {
            let said = read_at(port(), &stream, piece).into_iter();
            said.map(|said| match said.starts_with("error") {
                true => said.chars().filter(|c| !c.is_ascii_digit()).collect(),
                false => said,
            }).collect()
        };
        let whole = read(stream.len());
        prop_assert_eq!(&read(1), &whole);
        prop_assert_eq!(&read(piece), &whole);
    }

    #[test]
    fn values_end_where_another_implementation_ends_them(value in value(), more in any::<u8>()) {
        let mut stream = written(&value);
        let len = stream.len();
        stream.push(more);
        prop_assert_eq!(len_of(&stream), Some(len));
    }

    #[test]
    fn bytes_are_a_value_for_both_or_for_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut rest = &bytes[..];
        let theirs = rmpv::decode::read_value_ref(&mut rest);
        let used = bytes.len() - rest.len();
        match Skip::default().go_on(&bytes) {
            Ok(Skipped::Whole(len)) => {
                prop_assert!(theirs.is_ok(), "{:?}", theirs);
                prop_assert_eq!(len, used);
            }
            // They take the byte that is never used for nil.
            Err(_) => prop_assert!(bytes.contains(&0xc1)),
            Ok(Skipped::Needs(_)) => prop_assert!(theirs.is_err(), "{:?}", theirs),
        }
    }
}

#[test]
fn the_model_is_no_copy() {
    // The list of the specification, by hand.
    let mut chunk = vec![0x93, 0xa1, b't', 0x90];
    chunk.push(0x81);
    write_str(&mut chunk, b"chunk");
    write_str(&mut chunk, b"1");
    assert_eq!(written(&outer(1, &[])), chunk);
}

/// Seconds and nanoseconds, and this record, without the head of their array.
fn entry_of(seconds: u32, nanoseconds: u32, record: &Value) -> Vec<u8> {
    let parts = (seconds, Some(nanoseconds), None, Value::Nil);
    [written(&time_of(&parts)), written(record)].concat()
}

/// Written where its message will lie, in just the room that it is said to need. None: it is not one of the usual ones.
fn usual_of(entry: &[u8]) -> Option<String> {
    let (mut context, mut json) = (Context::default(), Vec::new());
    assert!(render::entry(&mut context, b"t", entry, 1 << 20, &mut json));
    let mut room = vec![0; render::usual_room(&context, entry)];
    let bytes = render::usual(&context, b"t", entry, &mut room)?;
    assert_eq!(room[..bytes], json);
    for less in 0..bytes {
        let room = &mut room[..less];
        assert_eq!(render::usual(&context, b"t", entry, room), None, "{less}");
    }
    assert_eq!(render::usual(&context, b"u", entry, &mut room), None);
    let later = [&entry_of(70, 5, &Value::Nil)[..10], &entry[10..]].concat();
    assert_eq!(render::usual(&context, b"t", &later, &mut room), None);
    String::from_utf8(json).ok()
}

#[test]
fn usual_entries_are_written_where_they_will_lie() {
    let texts = |bytes: std::ops::Range<usize>| {
        bytes.map(|bytes| {
            (
                Value::from("k".repeat(1 + bytes % 20)),
                Value::from("x".repeat(bytes)),
            )
        })
    };
    let numbers = [0, 9, 10, 127, 128, 255, 256, 65_535, 65_536, u32::MAX];
    let numbers = numbers.map(|number| (Value::from("n"), Value::from(number)));
    let words = [Value::Nil, true.into(), false.into()].map(|word| (Value::from("w"), word));
    let wide = (0..15).map(|_| (Value::from(""), Value::from(u32::MAX)));
    let records = [
        texts(0..15).collect(),
        texts(15..30).collect(),
        texts(300..301).collect(),
        numbers.to_vec(),
        words.to_vec(),
        wide.collect::<Vec<_>>(),
    ];
    for record in records {
        let entry = entry_of(7, 999_999_999, &Value::Map(record.clone()));
        assert!(usual_of(&entry).is_some(), "{record:?}");
        let nested = [&[0x92], &entry[..10], &[0x80], &entry[10..]].concat();
        let mut context = Context::default();
        render::entry(&mut context, b"t", &entry, 1 << 20, &mut Vec::new());
        let mut room = vec![0; render::usual_room(&context, &nested)];
        assert!(render::usual(&context, b"t", &nested, &mut room).is_some());
    }
}

#[test]
fn what_is_unusual_is_left_to_others() {
    let pair = |key: &str, value: Value| Value::Map(vec![(key.into(), value)]);
    for record in [
        Value::Map(Vec::new()),
        Value::Map(vec![("k".into(), 1.into()); 16]),
        pair("tag", 1.into()),
        pair("@timestamp", 1.into()),
        pair("k\"", 1.into()),
        pair("k", "\n".into()),
        pair("k", "\u{e9}".into()),
        pair("k", (-1).into()),
        pair("k", (1_u64 << 32).into()),
        pair("k", 1.5.into()),
        pair("k", Value::Array(Vec::new())),
        pair("k", pair("k", 1.into())),
        pair("k", Value::Binary(vec![b'x'])),
    ] {
        assert_eq!(usual_of(&entry_of(7, 1, &record)), None, "{record:?}");
    }
    assert_eq!(usual_of(&entry_of(7, u32::MAX, &pair("k", 1.into()))), None);
}

#[test]
fn entries_of_fluentd_and_fluent_bit_are_usual() {
    let record = Value::Map(vec![
        ("log".into(), "x".repeat(300).into()),
        ("level".into(), "warn".into()),
    ]);
    for metadata in [None, Some(Value::Map(Vec::new()))] {
        let parts = (1, Some(2), metadata, record.clone());
        let bytes = written(&Value::Array(vec![time_of(&parts), record.clone()]));
        assert_eq!(shape::usual(&bytes), Some((bytes.len(), 2)));
    }
}
