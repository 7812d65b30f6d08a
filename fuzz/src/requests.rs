//! Requests to servers that were not written for Weir. Any message becomes a body that a second reader reads; any answer
//! is read the same whole and in pieces, and of `_bulk` what it says is what a reader of all of it finds.
//!
//! Input: u8 what (0: bodies, else: which answer), u8 messages of the request, then messages, or the body of an answer.

use serde_json::Value;
use weir::protocol::Form;
use weir::sink::outlet::Message;
use weir::sink::request::{
    AckPollReply, AckReply, Body, BulkReply, Context, Format, MessageId, Moment, OtlpJsonReply,
    OtlpReply, Reply, RequestOptions, Run, Verdict,
};

use super::input::Input;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.below(6);
    // A request has at least one.
    let messages = u64::from(input.u8()).max(1);
    if what == 0 {
        return bodies(&mut input);
    }
    let body = input.rest();
    let reply = || match what {
        1 => Reply::Bulk(BulkReply::new(messages)),
        2 => Reply::Otlp(OtlpReply::default()),
        3 => Reply::OtlpJson(OtlpJsonReply::default()),
        4 => Reply::Ack(AckReply::default()),
        _ => Reply::AckPoll(AckPollReply::default()),
    };
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut reply = reply();
        pieces.for_each(|piece| reply.feed(piece));
        reply.end(messages)
    };
    let whole = read(&mut std::iter::once(body));
    assert_eq!(read(&mut body.chunks(1)), whole, "byte by byte");
    assert_eq!(read(&mut body.chunks(7)), whole, "in pieces");
    match &whole {
        Verdict::Items(runs, _) => {
            let items: u64 = runs.iter().map(|run| run.items).sum();
            assert_eq!(items, messages);
            assert!(runs.windows(2).all(|two| two[0].status != two[1].status));
        }
        Verdict::Partly(dropped, _) => assert!(*dropped <= messages && *dropped > 0),
        Verdict::Unreadable(why) | Verdict::Misfit(why) => assert!(!why.is_empty()),
        _ => {}
    }
    if what == 1 {
        check_bulk(body, messages, &whole);
    }
}

/// Of an answer that is JSON, and says each thing once and plainly.
fn check_bulk(body: &[u8], messages: u64, found: &Verdict) {
    let (Ok(text), Ok(Value::Object(answer))) =
        (std::str::from_utf8(body), serde_json::from_slice(body))
    else {
        return;
    };
    let items = answer.get("items").and_then(Value::as_array);
    let statuses: Option<Vec<u16>> = items.map(|items| items.iter().map(status_of).collect());
    let has = |word: &str| text.matches(word).count();
    let is_item = |item: &Value| {
        let operations = item.as_object();
        operations.is_some_and(|it| it.len() == 1 && it.values().all(Value::is_object))
    };
    let is_plain = items.is_none_or(|items| items.iter().all(is_item))
        && !text.contains('\\')
        && has("\"errors\"") == 1
        && has("\"items\"") <= 1
        && has("\"status\"") <= statuses.as_ref().map_or(0, Vec::len)
        && text.matches(['[', '{']).count() < 64;
    if !is_plain {
        return;
    }
    let model = match (answer.get("errors"), &statuses) {
        (Some(Value::Bool(false)), _) => Some(Vec::new()),
        (Some(Value::Bool(true)), Some(statuses)) => {
            let is_whole = statuses.len() as u64 == messages && !statuses.contains(&0);
            is_whole.then(|| statuses.clone())
        }
        _ => return,
    };
    let is_done = |status: &u16| matches!(status, 200..=299 | 409);
    match (model, found) {
        (None, Verdict::Unreadable(_)) => {}
        (Some(statuses), Verdict::Taken) => assert!(statuses.iter().all(is_done)),
        (Some(statuses), Verdict::Items(runs, _)) => {
            let repeat = |run: &Run| std::iter::repeat_n(run.status, run.items as usize);
            assert_eq!(runs.iter().flat_map(repeat).collect::<Vec<u16>>(), statuses);
        }
        (model, found) => panic!("{model:?}, and it was read as {found:?}: {text}"),
    }
}

/// The status in an item's one operation; 0: it has none.
fn status_of(item: &Value) -> u16 {
    let operations = item.as_object().into_iter().flatten();
    let mut statuses = operations.filter_map(|(_, operation)| operation.get("status")?.as_u64());
    let status = statuses.next_back().and_then(|it| u16::try_from(it).ok());
    status.unwrap_or(0)
}

/// Any messages in every format.
fn bodies(input: &mut Input<'_>) {
    let mut messages = Vec::new();
    while !input.is_empty() && messages.len() < 8 {
        let severity = input.u8();
        let form = input.pick(&[Form::Raw, Form::Json]);
        messages.push((severity, form, input.line()));
    }
    let options = RequestOptions::default();
    for format in [
        Format::Lines,
        Format::Array,
        Format::Bulk,
        Format::Otlp,
        Format::OtlpJson,
        Format::Loki,
        Format::Hec,
    ] {
        let mut out = Vec::new();
        let mut context = Context::default();
        let mut body = Body::begin(format, &options, &mut out);
        for (sequence, (severity, form, payload)) in (1..).zip(&messages) {
            let id = MessageId {
                instance: 7,
                shard: 1,
                epoch: 2,
                sequence,
            };
            let at = Moment {
                unix_ms: 1_700_000_000_123,
                text: *b"2023-11-14T22:13:20.123Z",
            };
            let message = Message {
                severity: *severity,
                form: *form,
                payload,
            };
            body.push(&message, &id, &at, &mut context, &mut out);
        }
        assert_eq!(body.messages(), messages.len() as u64);
        body.end(&mut out);
        check_body(format, &out, messages.len());
    }
}

fn check_body(format: Format, out: &[u8], messages: usize) {
    let json = || serde_json::from_slice::<Value>(out).expect("JSON");
    let found = match format {
        Format::Lines | Format::Bulk => {
            let text = std::str::from_utf8(out).expect("text");
            assert!(!text.contains('\r') && (text.is_empty() || text.ends_with('\n')));
            for line in text.lines() {
                let value: Value = serde_json::from_str(line).expect("JSON");
                assert!(value.is_object(), "{line}");
            }
            let lines = text.lines().count();
            if format == Format::Bulk {
                lines / 2
            } else {
                lines
            }
        }
        Format::Array => json().as_array().expect("an array").len(),
        Format::OtlpJson => {
            let records = &json()["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
            records.as_array().expect("records").len()
        }
        Format::Loki => {
            let streams = json()["streams"].clone();
            let streams = streams.as_array().expect("streams").iter();
            streams
                .map(|it| it["values"].as_array().expect("values").len())
                .sum()
        }
        Format::Hec => serde_json::Deserializer::from_slice(out)
            .into_iter::<Value>()
            .map(|event| assert_ne!(event.expect("JSON")["event"], ""))
            .count(),
        Format::Otlp => records_of(out),
    };
    assert_eq!(found, messages, "{format:?}");
}

/// Records of an OTLP request, read a second time: each in its ScopeLogs, that in its ResourceLogs.
fn records_of(bytes: &[u8]) -> usize {
    let resource = only(bytes, 0x0a);
    let mut scope = only(resource, 0x12);
    let mut records = 0;
    while !scope.is_empty() {
        let (_, rest) = field(scope, 0x12);
        scope = rest;
        records += 1;
    }
    records
}

fn only(bytes: &[u8], key: u8) -> &[u8] {
    let (value, rest) = field(bytes, key);
    assert!(rest.is_empty(), "one field");
    value
}

fn field(bytes: &[u8], key: u8) -> (&[u8], &[u8]) {
    assert_eq!(bytes.first(), Some(&key));
    let end = bytes[1..].iter().position(|byte| byte & 0x80 == 0);
    let end = end.expect("a length") + 1;
    let sevens = bytes[1..=end].iter().rev();
    let len = sevens.fold(0usize, |len, byte| len << 7 | usize::from(byte & 0x7f));
    bytes[end + 1..].split_at(len)
}
