//! What must hold for every format.

use super::*;
use serde_json::{json, Value};
use weir_protocol::Form;

pub(super) fn message(payload: &[u8]) -> Message<'_> {
    Message {
        severity: 1,
        form: Form::Raw,
        payload,
    }
}

pub(super) fn at() -> Moment {
    Moment {
        unix_ms: 1_700_000_000_123,
        text: *b"2023-11-14T22:13:20.123Z",
    }
}

fn id(sequence: u64) -> MessageId {
    MessageId {
        instance: 0xabc,
        shard: 2,
        epoch: 9,
        sequence,
    }
}

fn body(format: Format, options: &RequestOptions, payloads: &[(u8, Form, &[u8])]) -> String {
    let mut out = b"head".to_vec();
    let mut body = Body::begin(format, options, &mut out);
    for (number, (severity, form, payload)) in (1..).zip(payloads) {
        let message = Message {
            severity: *severity,
            form: *form,
            payload,
        };
        body.push(
            &message,
            &id(number),
            &at(),
            &mut Context::default(),
            &mut out,
        );
    }
    assert_eq!(body.messages(), payloads.len() as u64);
    assert!(body.bytes(&out) < out.len());
    body.end(&mut out);
    String::from_utf8(out.split_off(4)).expect("text")
}

const TWO: &[(u8, Form, &[u8])] = &[(1, Form::Raw, b"a \"b\""), (3, Form::Json, b"{\"c\":\n1}")];

#[test]
fn lines_and_arrays_hold_objects() {
    let options = RequestOptions::default();
    let lines = body(Format::Lines, &options, TWO);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["message"], "a \"b\"");
    assert_eq!(lines[1], json!({"c": 1}));
    let array: Vec<Value> =
        serde_json::from_str(&body(Format::Array, &options, TWO)).expect("JSON");
    assert_eq!(array, lines);
}

#[test]
fn documents_have_the_identity_of_their_message() {
    let mut options = RequestOptions::default();
    let bulk = body(Format::Bulk, &options, TWO);
    let lines: Vec<&str> = bulk.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], r#"{"create":{"_id":"0000000000000abc-2-9-1"}}"#);
    assert_eq!(lines[2], r#"{"create":{"_id":"0000000000000abc-2-9-2"}}"#);
    assert_eq!(
        lines[3],
        r#"{"@timestamp":"2023-11-14T22:13:20.123Z","c": 1}"#
    );
    assert!(bulk.ends_with('\n'));
    options.has_ids = false;
    assert!(body(Format::Bulk, &options, TWO).starts_with("{\"create\":{}}\n"));
}

#[test]
fn records_of_otlp_are_the_same_in_json() {
    let options = RequestOptions::default();
    let json: Value = serde_json::from_str(&body(Format::OtlpJson, &options, TWO)).expect("JSON");
    let records = &json["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    assert_eq!(
        records[0],
        json!({"observedTimeUnixNano": "1700000000123000000", "severityNumber": 17,
               "body": {"stringValue": "a \"b\""}})
    );
    assert_eq!(records[1]["body"]["stringValue"], "{\"c\":\n1}");
}

#[test]
fn a_stream_of_loki_has_one_level_and_no_time_twice() {
    let options = RequestOptions::default();
    let three = [
        (3, Form::Raw, &b"x"[..]),
        (3, Form::Raw, b"x"),
        (2, Form::Raw, b"\xff"),
    ];
    let push: Value = serde_json::from_str(&body(Format::Loki, &options, &three)).expect("JSON");
    let streams = push["streams"].as_array().expect("streams");
    assert_eq!(streams.len(), 2);
    assert_eq!(
        streams[0]["stream"],
        json!({"job": "weir", "level": "info"})
    );
    assert_eq!(
        streams[1]["stream"],
        json!({"job": "weir", "level": "warn"})
    );
    let values = &streams[0]["values"];
    assert_eq!((&values[0][1], &values[1][1]), (&json!("x"), &json!("x")));
    assert_ne!(values[0][0], values[1][0]);
    let time = values[0][0].as_str().expect("a string");
    assert!(
        time.starts_with("1700000000123") && time.len() == 19,
        "{time}"
    );
    let said = streams[1]["values"][0][1].as_str().expect("a string");
    let said: Value = serde_json::from_str(said).expect("JSON");
    assert_eq!(said["message"], "/w==");
    assert_eq!(body(Format::Loki, &options, &[]), r#"{"streams":[]}"#);
    let options = RequestOptions {
        level_label: false,
        ..options
    };
    let push: Value = serde_json::from_str(&body(Format::Loki, &options, &three)).expect("JSON");
    assert_eq!(push["streams"].as_array().map(Vec::len), Some(1));
}

#[test]
fn no_event_of_splunk_is_blank() {
    let options = RequestOptions {
        index: "main".to_owned(),
        sourcetype: "a\"b".to_owned(),
        ..RequestOptions::default()
    };
    let payloads = [TWO[0], TWO[1], (3, Form::Raw, &b" \n"[..])];
    let events = body(Format::Hec, &options, &payloads);
    let events: Vec<Value> = serde_json::Deserializer::from_str(&events)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("JSON");
    assert_eq!(
        events[0],
        json!({"time": 1_700_000_000.123, "index": "main", "sourcetype": "a\"b", "event": "a \"b\"",
               "fields": {"severity": "error"}})
    );
    assert_eq!(events[1]["event"], json!({"c": 1}));
    assert_eq!(events[2]["event"]["message"], " \n");
}

#[test]
fn secrets_are_not_shown() {
    let options = RequestOptions {
        headers: b"Authorization: Bearer sesame\r\n".to_vec(),
        ..RequestOptions::default()
    };
    assert!(!format!("{options:?}").contains("sesame"));
}

#[test]
fn numbers_have_their_digits() {
    let powers = (0..20).map(|power| 10u64.pow(power));
    let around = powers.flat_map(|power| [power - 1, power, power + 1, power.wrapping_mul(7)]);
    for number in around.chain(0..1000).chain([u64::MAX]) {
        let mut out = Vec::new();
        super::decimal(&mut out, number);
        assert_eq!(String::from_utf8_lossy(&out), number.to_string());
    }
}
