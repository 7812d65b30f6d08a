//! Packets that are read, each way in which a body is refused, and that all forms say the same.

use proptest::prelude::*;
use serde_json::{json, Value};

use super::super::{iso8601, parse_ndjson, SeededIds, INVALID_BODY};
use super::*;
use weir_protocol::frame;
use weir_protocol::record::Record;

/// The body of the `POST /logs` in the reference's document.
const EXAMPLE: &str = include_str!("reference.json");
const FIRST_ID: &str = "00000000-0000-4000-8000-000000000001";

/// 1, 2, 3 as ids.
struct Counted(u128);

impl Ids for Counted {
    fn next(&mut self) -> [u8; 16] {
        self.0 += 1;
        self.0.to_be_bytes()
    }
}

fn now() -> [u8; TIMESTAMP_BYTES] {
    iso8601(1_768_473_000_000)
}

fn parse(body: &str) -> Packet<'_> {
    let packet = parse_packet(
        body.as_bytes(),
        &now(),
        &mut Counted(0),
        &PacketLimits::default(),
    );
    packet.unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn lines(body: &str) -> Packet<'_> {
    let limits = PacketLimits::default();
    let packet = parse_ndjson(
        body.as_bytes(),
        Some("e\"1"),
        &now(),
        &mut Counted(0),
        &limits,
    );
    packet.unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Severity and JSON of each frame.
fn frames_in(bytes: &[u8]) -> Vec<(u8, Value)> {
    let mut rest = bytes;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = frame::peek(rest, u32::MAX)
            .expect("a frame")
            .expect("whole");
        let (one, tail) = rest.split_at(length);
        frames.push((one[4], serde_json::from_slice(&one[5..]).expect("JSON")));
        rest = tail;
    }
    frames
}

fn frames(packet: &Packet<'_>) -> Vec<(u8, Value)> {
    let mut out = Vec::new();
    packet.write_frames(&mut out);
    assert_eq!(out.len(), packet.frames_bytes());
    frames_in(&out)
}

/// What will be POSTed, and that the record yields the frames again.
fn posted(packet: &Packet<'_>) -> Value {
    let (mut out, mut frames, mut again) = (vec![7; 3], Vec::new(), Vec::new());
    packet.write_record(&mut out);
    let following = out.len();
    packet.write_record(&mut out);
    let (record, rest) = Record::parse(&out[3..]).expect("a record");
    assert_eq!(rest.len(), out.len() - following);
    assert_eq!(record.messages(), packet.message_count());
    assert_eq!(record.emitter_id(), Some(packet.emitter_id()));
    let id = packet.id();
    assert_eq!(record.packet_id().map(str::as_bytes), Some(&id[..]));
    assert_eq!(record.frame(), None);
    packet.write_frames(&mut frames);
    record.write_frames(&mut again);
    assert_eq!(frames, again);
    serde_json::from_slice(record.body().expect("a packet")).expect("JSON")
}

#[test]
fn the_example_of_the_reference() {
    let packet = parse(EXAMPLE);
    assert_eq!(
        (packet.emitter_id(), packet.message_count()),
        ("web-server-1", 2)
    );
    let given: Value = serde_json::from_str(EXAMPLE).expect("JSON");
    let mut messages = given["messages"].clone();
    messages[0]["id"] = FIRST_ID.into();
    messages[1]["id"] = FIRST_ID.replace("001", "002").into();
    let found = frames(&packet);
    assert_eq!(found, [(3, messages[0].clone()), (2, messages[1].clone())]);
    let expected = json!({
        "id": FIRST_ID.replace("001", "003"),
        "emitterId": "web-server-1",
        "timestamp": "2026-01-15T10:30:00.000Z",
        "messages": messages,
        "metadata": given["metadata"],
        "size": 2,
    });
    assert_eq!(posted(&packet), expected);
}

#[test]
fn what_is_left_out_gets_its_default_and_null_counts_as_left_out() {
    let defaults = json!({"id": FIRST_ID, "timestamp": "2026-01-15T10:30:00.000Z", "source": "é\n", "metadata": {}});
    for message in [
        "{}",
        r#"{"id":null,"timestamp":null,"level":null,"source":null,"metadata":null}"#,
        r#"{"id":""}"#,
    ] {
        let body = format!(r#"{{"messages":[{message}],"emitterId":"\u00e9\n","metadata":null}}"#);
        let error = parse_packet(
            body.as_bytes(),
            &now(),
            &mut Counted(0),
            &PacketLimits::default(),
        );
        assert!(error
            .expect_err("control")
            .detail
            .contains("control characters"));
        let body = body.replace(r"\n", "");
        let packet = parse(&body);
        assert_eq!(packet.emitter_id(), "é");
        let mut expected = defaults.clone();
        expected["source"] = "é".into();
        assert_eq!(frames(&packet), [(3, expected)]);
        assert_eq!(posted(&packet)["metadata"], json!({}));
    }
}

#[test]
fn what_a_message_says_itself_is_kept() {
    let message = r#"{"x":{"y":[1, 2.50, 1e300]},"id":"own","message":{"a":"\ud83d\ude00 \/"},"z" : 0 , "zz":1,
        "level":"\u0045RROR","timestamp":1700000000000,"message2":"","X":"again"}"#;
    let body = format!(r#"{{"emitterId":"a","messages":[{message},{{"q":1}}]}}"#);
    let mut out = Vec::new();
    parse(&body).write_frames(&mut out);
    let text = String::from_utf8(out[5..].to_vec()).expect("UTF-8");
    assert_eq!(out[4], 1, "an escaped level is read");
    let expected = r#"{"id":"own","timestamp":1700000000000,"level":"\u0045RROR","message":{"a":"\ud83d\ude00 \/"},"source":"a","metadata":{},"x":{"y":[1, 2.50, 1e300]},"z" : 0 , "zz":1,"message2":"","X":"again"}"#;
    assert_eq!(text.split_at(expected.len()).0, expected);
    assert!(
        text.ends_with(r#""source":"a","metadata":{},"q":1}"#),
        "{text}"
    );
}

#[test]
fn fields_of_the_packet_are_kept() {
    let body = r#"{"size":9,"tenant":{"a":1},"region":"eu","messages":[{}],"id":"mine","trace":[],
        "metadata":{"k": 1},"timestamp":null,"emitterId":"a","late":true}"#;
    let found = posted(&parse(body));
    assert_eq!(found["tenant"], json!({"a": 1}));
    assert_eq!(
        (&found["region"], &found["trace"], &found["late"]),
        (&json!("eu"), &json!([]), &json!(true))
    );
    assert_eq!(
        found["received"],
        json!({"id": "mine", "timestamp": null, "size": 9})
    );
    assert_eq!(
        (&found["size"], &found["metadata"]),
        (&json!(1), &json!({"k": 1}))
    );
    assert_eq!(found["timestamp"], "2026-01-15T10:30:00.000Z");
}

#[test]
fn a_packet_without_messages_is_accepted() {
    let packet = parse(r#"{"emitterId":"a","messages":[]}"#);
    let mut out = Vec::new();
    packet.write_frames(&mut out);
    packet.write_record(&mut out);
    assert_eq!(
        (packet.message_count(), out.len(), packet.frames_bytes()),
        (0, 0, 0)
    );
}

fn refused(body: &[u8], limits: &PacketLimits) -> PacketError {
    let error = parse_packet(body, &now(), &mut Counted(0), limits);
    let error = error.expect_err("refused");
    let mut out = Vec::new();
    error.write_json("\"worker\":0", &mut out);
    let answer: Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(
        (&answer["detail"], &answer["worker"]),
        (&json!(error.detail), &json!(0))
    );
    assert_eq!(answer["field"].as_str().unwrap_or_default(), error.field);
    assert_eq!(answer["error"] == INVALID_BODY, error.status == 400);
    let line = error.position.map(|at| at.line as u64);
    assert_eq!(answer["position"]["line"].as_u64(), line);
    error
}

/// Each kind with its class, field, and the place that it names: `^` stands before it.
#[test]
fn every_kind_of_invalid_body_has_its_own_words() {
    let long = format!(r#"{{"messages":[],"emitterId":^"{}"}}"#, "x".repeat(257));
    let bomb = format!(
        r#"{{"emitterId":"a","messages":[{{"metadata":{{"a":{}^[{}"#,
        "[".repeat(60),
        "[".repeat(100_000)
    );
    let deep = format!("{bomb}{}}}}}]}}", "]".repeat(100_061));
    let table: &[(&str, &str, &str, &str)] = &[
        ("^", "not_json", "", "EOF"),
        ("{\"emitterId\":^x}", "not_json", "", "expected value"),
        (
            "{\"emitterId\":\"a\",\n \"messages\":[{\"a\":1,^}]}",
            "not_json",
            "",
            "trailing comma",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[]}\n^x",
            "not_json",
            "",
            "trailing characters",
        ),
        (" ^[1]", "not_an_object", "", "an array"),
        ("^\"text\"", "not_an_object", "", "a string"),
        ("^null", "not_an_object", "", "null"),
        ("^1", "not_an_object", "", "a number"),
        (
            " ^{\"messages\":[]}",
            "emitter_id",
            "emitterId",
            "is missing",
        ),
        (
            "{\"messages\":[],\"emitterId\":^true}",
            "emitter_id",
            "emitterId",
            "a boolean; allowed: a string or a number",
        ),
        (
            "{\"messages\":[],\"emitterId\":^null}",
            "emitter_id",
            "emitterId",
            "null",
        ),
        (
            "{\"messages\":[],\"emitterId\":^\"\"}",
            "emitter_id",
            "emitterId",
            "empty",
        ),
        (
            "{\"messages\":[],\"emitterId\":^\"a\\r\\nX: y\"}",
            "emitter_id",
            "emitterId",
            "control",
        ),
        (
            "{\"messages\":[],\"emitterId\":^\"\\ud800\"}",
            "emitter_id",
            "emitterId",
            "surrogate",
        ),
        (&long, "emitter_id", "emitterId", "257 bytes; allowed: 256"),
        (
            "^{\"emitterId\":\"a\"}",
            "messages",
            "messages",
            "is missing",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\" : ^{\"a\":1}}",
            "messages",
            "messages",
            "an object",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":^null}",
            "messages",
            "messages",
            "null",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[^1]}",
            "message_type",
            "messages[0]",
            "a number",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{}, {} ,\n^[1]]}",
            "message_type",
            "messages[2]",
            "an array",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"a\":{}},^\"b\"]}",
            "message_type",
            "messages[1]",
            "a string",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{},{\"level\":^[3]}]}",
            "field_type",
            "messages[1].level",
            "an array; allowed: a string or a number",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"source\":^{}}]}",
            "field_type",
            "messages[0].source",
            "an object",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"timestamp\":^true}]}",
            "field_type",
            "messages[0].timestamp",
            "a boolean",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"id\":^[]}]}",
            "field_type",
            "messages[0].id",
            "an array",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"metadata\":^\"x\"}]}",
            "field_type",
            "messages[0].metadata",
            "an object",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[],\"metadata\":^[]}",
            "field_type",
            "metadata",
            "an object",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[],^\"emitterId\":\"a\"}",
            "duplicate_field",
            "emitterId",
            "twice",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[],^\"emitter\\u0049d\":\"a\"}",
            "duplicate_field",
            "emitterId",
            "twice",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[],^\"messages\":[]}",
            "duplicate_field",
            "messages",
            "twice",
        ),
        (
            "{\"id\":1,\"emitterId\":\"a\",\"messages\":[],^\"id\":1}",
            "duplicate_field",
            "id",
            "twice",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"level\":\"a\",^\"level\":null}]}",
            "duplicate_field",
            "messages[0].level",
            "twice",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"id\":null,^\"\\u0069d\":1}]}",
            "duplicate_field",
            "messages[0].id",
            "twice",
        ),
        (
            "{\"emitterId\":\"a\",\"x\":1,\"messages\":[{}],^\"x\":2}",
            "duplicate_field",
            "x",
            "x is there twice",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{},{\"q\":1,\"z\":2,^\"\\u0071\":3}]}",
            "duplicate_field",
            "messages[1].q",
            "twice",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"metadata\":{\"k\":[{\"b\":1,^\"b\":1}]}}]}",
            "duplicate_field",
            "messages[0].metadata",
            "a field twice, \"b\"",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[{\"message\":^1e9999}]}",
            "number_too_large",
            "messages[0].message",
            "beyond 1.7976931348623157e308",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[],\"x\":{\"y\":[^-2e308]}}",
            "number_too_large",
            "x",
            "beyond",
        ),
        (
            "{\"emitterId\":^1e999,\"messages\":[]}",
            "number_too_large",
            "emitterId",
            "beyond",
        ),
        (
            "{\"emitterId\":\"a\",\"messages\":[]}\n^{\"emitterId\":\"a\",\"messages\":[]}",
            "not_json",
            "",
            "allowed: Content-Type application/x-ndjson",
        ),
        (
            "\u{feff}{\"emitterId\":\"a\",\"messages\":[^1]}",
            "message_type",
            "messages[0]",
            "a number",
        ),
        (&deep, "too_deep", "messages[0].metadata", "allowed: 64"),
    ];
    for (marked, error, field, said) in table {
        let byte = marked.find('^').expect("a mark");
        let body = marked.replacen('^', "", 1);
        let found = refused(body.as_bytes(), &PacketLimits::default());
        assert_eq!(
            (found.status, found.error, found.field.as_str()),
            (400, *error, *field),
            "{marked:.80}"
        );
        assert!(
            found.detail.contains(said),
            "{}: {marked:.80}",
            found.detail
        );
        let at = found
            .position
            .unwrap_or_else(|| panic!("no place: {marked:.80}"));
        assert_eq!(at.byte, byte, "{marked:.80}");
        let before = &body[..byte];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        assert_eq!(at.line, 1 + before.matches('\n').count());
        assert_eq!(at.column, 1 + byte - line_start);
    }
    let utf16 = refused(b"\xff\xfe{\0", &PacketLimits::default());
    assert!(utf16.detail.contains("UTF-16"), "{utf16}");
    let at = refused(b"{\"emitterId\":\"a\xff\"}", &PacketLimits::default());
    assert_eq!(
        (at.error, at.position.map(|at| at.byte)),
        ("not_utf8", Some(15))
    );
}

#[test]
fn limits_are_exact() {
    let body = |message: &str| format!(r#"{{"emitterId":"a","messages":[{message}]}}"#);
    let limits = |messages_max, message_bytes_max, depth_max| PacketLimits {
        messages_max,
        message_bytes_max,
        depth_max,
    };
    let parse = |body: &str, limits| {
        let packet = parse_packet(body.as_bytes(), &now(), &mut Counted(0), &limits);
        packet
            .map(|packet| packet.message_count())
            .map_err(|e| (e.status, e.error, e.field))
    };
    let three = body("{},{},{}");
    assert_eq!(parse(&three, limits(3, 1000, 3)), Ok(3));
    assert_eq!(
        parse(&three, limits(2, 1000, 3)),
        Err((413, "too_many_messages", "messages".into()))
    );
    let large = body(r#"{},{"message":"xxxx"}"#);
    let bytes = parse_packet(
        large.as_bytes(),
        &now(),
        &mut Counted(0),
        &PacketLimits::default(),
    )
    .map(|packet| packet.frame_bytes(1))
    .expect("valid");
    assert_eq!(parse(&large, limits(9, bytes, 9)), Ok(2));
    assert_eq!(
        parse(&large, limits(9, bytes - 1, 9)),
        Err((413, "message_too_large", "messages[1]".into()))
    );
    for deep in [
        r#"{"metadata":{"a":[]}}"#,
        r#"{"other":[{}]}"#,
        r#"{"message":[[]]}"#,
    ] {
        assert_eq!(parse(&body(deep), limits(9, 1000, 5)), Ok(1), "{deep}");
        let error = parse(&body(deep), limits(9, 1000, 4)).expect_err("too deep");
        assert_eq!((error.0, error.1), (400, "too_deep"));
    }
    assert_eq!(
        parse(
            r#"{"emitterId":"a","messages":[],"x":[[]]}"#,
            limits(9, 1000, 4)
        )
        .map_err(|e| e.1),
        Err("too_deep")
    );
}

#[test]
fn lines_are_messages() {
    let packet = lines("{\"level\":\"debug\",\"a\":1}\r\n\n  \"text\"\n[1,2]\n{}\n 7");
    let found = frames(&packet);
    let severities: Vec<_> = found.iter().map(|(severity, _)| *severity).collect();
    assert_eq!(severities, [4, 3, 3, 3, 3]);
    assert_eq!(found[0].1["a"], json!(1));
    let said: Vec<_> = found
        .iter()
        .map(|(_, message)| message["message"].clone())
        .collect();
    assert_eq!(
        said,
        [
            Value::Null,
            json!("text"),
            json!([1, 2]),
            Value::Null,
            json!(7)
        ]
    );
    assert!(found.iter().all(|(_, message)| message["source"] == "e\"1"));
    assert_eq!(posted(&packet)["emitterId"], "e\"1");
    assert_eq!(lines("").message_count(), 0);
    let spaced = frames(&lines("\r\n  {\"level\":\"error\"}\r\n \t\r\n"));
    assert_eq!(
        (spaced.len(), spaced[0].0),
        (1, 1),
        "white space around lines"
    );
}

#[test]
fn lines_that_are_refused() {
    let limits = PacketLimits {
        messages_max: 3,
        ..PacketLimits::default()
    };
    let parse = |body: &str, emitter| {
        let error = parse_ndjson(body.as_bytes(), emitter, &now(), &mut Counted(0), &limits);
        let error = error.expect_err("refused");
        let at = error.position.map_or((0, 0), |at| (at.line, at.column));
        (error.status, error.error, error.field, at)
    };
    let id = || "emitterId".to_string();
    assert_eq!(parse("{}", None), (400, "emitter_id", id(), (0, 0)));
    assert_eq!(parse("{}", Some("")), (400, "emitter_id", id(), (0, 0)));
    assert_eq!(parse("{}", Some("a\nb")), (400, "emitter_id", id(), (0, 0)));
    assert_eq!(
        parse("{}\n {} {}\n", Some("a")),
        (400, "not_json", String::new(), (2, 5))
    );
    assert_eq!(
        parse("1\n{\"a\":}\n", Some("a")),
        (400, "not_json", String::new(), (2, 6))
    );
    assert_eq!(parse("1\nno\n", Some("a")).3 .0, 2);
    assert_eq!(
        parse("{}\n{\"level\":{}}", Some("a")),
        (400, "field_type", "messages[1].level".into(), (2, 10))
    );
    assert_eq!(
        parse("1\n2\n3\n4", Some("a")),
        (413, "too_many_messages", "messages".into(), (0, 0))
    );
    let deep = "[".repeat(62) + &"]".repeat(62);
    assert_eq!(
        parse(&deep, Some("a")),
        (400, "too_deep", "messages[0].message".into(), (1, 62))
    );
}

/// Any JSON.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,5}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Members of a message that is valid, in any order.
fn messages() -> impl Strategy<Value = Value> {
    let text = || ".{0,12}".prop_map(Value::from);
    let object = proptest::collection::btree_map("[a-z]{1,3}", values(), 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()));
    let level = prop_oneof![Just("ERROR"), Just("info"), Just("trace"), Just("x")];
    let known = (
        proptest::option::of(text()),
        proptest::option::of(level.prop_map(Value::from)),
        proptest::option::of(values()),
        proptest::option::of(text()),
        proptest::option::of(object),
    );
    let others = proptest::collection::btree_map("[A-Z\"\\\\\u{e9}]{1,4}", values(), 0..4);
    (known, others).prop_map(|(known, others)| {
        let mut message: serde_json::Map<_, _> = others.into_iter().collect();
        let (timestamp, level, said, source, metadata) = known;
        let known = [
            ("timestamp", timestamp),
            ("level", level),
            ("message", said),
            ("source", source),
            ("metadata", metadata),
        ];
        for (name, value) in known {
            message.extend(value.map(|value| (name.to_string(), value)));
        }
        Value::Object(message)
    })
}

proptest! {
    /// Nothing is lost, nothing is invented, and record and frames agree.
    #[test]
    fn packets_say_what_their_body_said(
        messages in proptest::collection::vec(messages(), 1..5),
        pretty: bool,
        seed: u64,
    ) {
        let body = json!({"emitterId": "e", "messages": messages});
        let body = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
        let body = body.expect("JSON");
        let mut ids = SeededIds::from_u64(seed);
        let packet = parse_packet(body.as_bytes(), &now(), &mut ids, &PacketLimits::default());
        let packet = packet.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let found = frames(&packet);
        prop_assert_eq!(found.len(), messages.len());
        for ((severity, found), given) in found.iter().zip(&messages) {
            let level = given["level"].as_str().unwrap_or_default();
            prop_assert_eq!(*severity, level::severity_of(level).unwrap_or(3));
            let mut expected = given.clone();
            expected["id"] = found["id"].clone();
            if given.get("timestamp").is_none() {
                expected["timestamp"] = "2026-01-15T10:30:00.000Z".into();
            }
            if given.get("source").is_none() {
                expected["source"] = "e".into();
            }
            if given.get("metadata").is_none() {
                expected["metadata"] = json!({});
            }
            prop_assert_eq!(found, &expected);
        }
        let posted = posted(&packet);
        let frames: Vec<_> = found.into_iter().map(|(_, message)| message).collect();
        prop_assert_eq!(&posted["messages"], &Value::from(frames));
        prop_assert_eq!(&posted["size"], &json!(messages.len()));
    }

    #[test]
    fn any_bytes_are_safe(start in 0..3_usize, body in proptest::collection::vec(any::<u8>(), 0..60)) {
        let start = [&b""[..], b"{\"emitterId\":\"a\",\"messages\":[{", b"{\"messages\":["][start];
        let body = [start, &body].concat();
        let limits = PacketLimits::default();
        let _ = parse_packet(&body, &now(), &mut Counted(0), &limits);
        let _ = parse_ndjson(&body, Some("a"), &now(), &mut Counted(0), &limits);
    }
}

mod encodings;
mod senders;
