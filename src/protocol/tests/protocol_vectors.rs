//! Every hex vector in `docs/PROTOCOL.md`, encoded and decoded.

use std::collections::BTreeSet;
use weir_protocol::described;
use weir_protocol::frame::{self, FRAME_BYTES_MAX_DEFAULT};
use weir_protocol::native::{
    self, BatchCursor, BatchHeader, EmitterBatch, EmitterHello, EmitterWelcome, EmitterWord, Hello,
    HelloReader, LinkWord, NativeError, Welcome, EMITTER_DRAIN,
};
use weir_sink::detect::{Detection, Detector};
use weir_sink::{Control, Decoder, Dialect};
use weir_testkit::vectors::{self, Vector};

/// Decoded to a value, or to the label of the error that the line names.
fn is_rejected(vector: &Vector, label: Option<&str>) -> bool {
    assert_eq!(label, vector.error(), "{}", vector.line);
    label.is_some()
}

#[test]
fn every_vector_holds() {
    let mut kinds = BTreeSet::new();
    for vector in vectors::all() {
        match vector.kind.as_str() {
            "frame" => check_frame(&vector),
            "detect" => check_detect(&vector),
            "hello" => check_hello(&vector),
            "welcome" => check_welcome(&vector),
            "batch" => check_batch(&vector),
            "described" => check_described(&vector),
            "link" => check_link(&vector),
            "emitter-hello" => check_emitter_hello(&vector),
            "emitter-welcome" => check_emitter_welcome(&vector),
            "emitter-batch" => check_emitter_batch(&vector),
            "emitter-link" => check_emitter_link(&vector),
            kind => check_control(&vector, kind),
        }
        kinds.insert(vector.kind);
    }
    assert_eq!(
        kinds.len(),
        23,
        "a kind of vector was removed or added: {kinds:?}"
    );
}

fn framed(vector: &Vector) -> Vec<u8> {
    let payload = vector.get("payload");
    let header = frame::encode_header(payload.len() as u32, vector.number("severity"));
    [&header, payload.as_bytes()].concat()
}

fn check_frame(vector: &Vector) {
    let peeked = frame::peek(&vector.bytes, FRAME_BYTES_MAX_DEFAULT);
    if is_rejected(vector, peeked.err().as_ref().map(|e| e.as_str())) {
        return;
    }
    assert_eq!(peeked, Ok(Some(vector.bytes.len())), "{}", vector.line);
    assert_eq!(framed(vector), vector.bytes, "{}", vector.line);
}

fn check_detect(vector: &Vector) {
    let mut detector = Detector::new(None);
    let mut result = detector.feed(&mut &vector.bytes[..]);
    for event in &vector.events {
        assert_eq!(
            result,
            Ok(Detection::NeedMore),
            "{} before {event}",
            vector.line
        );
        result = match event.as_str() {
            "silence" => detector.on_silence(),
            "deadline" => detector.on_deadline(),
            other => panic!("{other} in {}", vector.line),
        };
    }
    if is_rejected(vector, result.err().as_ref().map(|e| e.as_str())) {
        return;
    }
    match result {
        Ok(Detection::Analyzer { sink, weight }) => {
            assert_eq!(sink.as_str(), vector.get("dialect"), "{}", vector.line);
            let greets = sink.as_str() == "native";
            assert_eq!(weight.is_none(), greets, "{}", vector.line);
            if let Some(weight) = weight {
                assert_close(weight, vector);
            }
        }
        other => panic!("{other:?} for {}", vector.line),
    }
}

/// f32 words hold a decimal weight only nearly.
fn assert_close(weight: f64, vector: &Vector) {
    let expected: f64 = vector.number("weight");
    assert!(
        (weight - expected).abs() < 1e-7,
        "{weight} for {}",
        vector.line
    );
}

fn check_control(vector: &Vector, kind: &str) {
    let (dialect, word) = kind.split_once('-').expect("dialect-word");
    let dialect = [Dialect::Typed, Dialect::Compact, Dialect::Native]
        .into_iter()
        .find(|d| d.as_str() == dialect)
        .expect("dialect");
    if word == "first" {
        let mut detector = Detector::new(Some(dialect));
        let mut detection = detector.feed(&mut &vector.bytes[..]);
        // Zeros could be padding: they count when nothing follows.
        if detector.awaits_silence() {
            detection = detector.on_silence();
        }
        let Ok(Detection::Analyzer {
            weight: Some(weight),
            ..
        }) = detection
        else {
            panic!("{}", vector.line)
        };
        assert_close(weight, vector);
        let encoded = weir_sink::encode_first_weight(dialect, vector.number("weight"));
        assert_eq!(encoded.as_bytes(), vector.bytes, "{}", vector.line);
        return;
    }
    let mut bytes = &vector.bytes[..];
    let decoded = Decoder::new(dialect.into())
        .next(&mut bytes)
        .expect("whole word");
    if is_rejected(vector, decoded.as_ref().err().map(|e| e.as_str())) {
        return;
    }
    assert!(bytes.is_empty(), "{}", vector.line);
    let encoded = match (word, decoded) {
        ("ack", Ok(Control::Ack(number))) => {
            assert_eq!(number, vector.number::<u64>("number"));
            weir_sink::encode_ack(dialect, number)
        }
        ("weight", Ok(Control::Weight(weight))) => {
            assert_close(weight, vector);
            weir_sink::encode_weight(dialect, vector.number("weight"))
        }
        ("drain", Ok(Control::Drain)) => weir_sink::encode_drain(dialect),
        ("goodbye", Ok(Control::Goodbye { sequence })) => {
            assert_eq!(sequence, vector.number::<u64>("number"));
            weir_sink::encode_goodbye(sequence)
        }
        (_, other) => panic!("{other:?} for {}", vector.line),
    };
    assert_eq!(encoded.as_bytes(), vector.bytes, "{}", vector.line);
}

fn check_hello(vector: &Vector) {
    let decoded = Hello::decode(&vector.bytes);
    let in_pieces = vector
        .bytes
        .chunks(1)
        .fold(HelloReader::default(), |mut reader, mut byte| {
            let _ = reader.next(&mut byte);
            reader
        });
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let hello = Hello {
        shard: (vector.get("shard") != "any").then(|| vector.number("shard")),
        weight: vector.number("weight"),
        window_bytes: vector.number("window_bytes"),
        window_messages: vector.number("window_messages"),
        id: vector.get("id"),
        token: vector.find("token").map_or(&[], |token| token.as_bytes()),
        instance: vector
            .find("instance")
            .map(|number| number.parse().expect("a number")),
        forms: vector.find("forms").is_some_and(|forms| forms == "yes"),
    };
    assert_eq!(
        decoded,
        Ok(Some((hello, vector.bytes.len()))),
        "{}",
        vector.line
    );
    assert_eq!(
        { in_pieces }.next(&mut &[][..]),
        Some(Ok(hello)),
        "{}",
        vector.line
    );
    let mut encoded = Vec::new();
    hello.encode(&mut encoded).expect("valid");
    assert_eq!(encoded, vector.bytes, "{}", vector.line);
}

fn check_welcome(vector: &Vector) {
    let decoded = Welcome::decode(&vector.bytes);
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let welcome = Welcome {
        refused: vector.find("refused"),
        shard_count: vector.number("shard_count"),
        shard_index: vector.number("shard_index"),
        instance: vector.number("instance"),
        link_epoch: vector.number("link_epoch"),
    };
    assert_eq!(
        decoded,
        Ok(Some((welcome, vector.bytes.len()))),
        "{}",
        vector.line
    );
    let mut encoded = Vec::new();
    welcome.encode(&mut encoded);
    assert_eq!(encoded, vector.bytes, "{}", vector.line);
}

fn check_described(vector: &Vector) {
    let read = described::read(&vector.bytes).ok_or(NativeError::Description);
    if is_rejected(vector, read.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let (about, severity, message) = read.expect("valid");
    let text = |key: &str| vector.find(key).unwrap_or_default();
    assert_eq!(severity, vector.number::<u8>("severity"), "{}", vector.line);
    assert_eq!(message, text("message").as_bytes(), "{}", vector.line);
    let Some(about) = about else {
        assert_eq!(vector.find("form"), None, "{}", vector.line);
        return;
    };
    let said = [about.kind.as_str(), about.input, about.protocol, about.peer];
    let expected = ["form", "input", "protocol", "peer"].map(text);
    assert_eq!(said, expected, "{}", vector.line);
    let mut again = Vec::new();
    about.write_frame(severity, message, 1000, &mut again);
    if about.bytes() + 5 + message.len() == vector.bytes.len() {
        assert_eq!(again, vector.bytes, "{}", vector.line);
    }
}

fn check_batch(vector: &Vector) {
    let decoded = LinkWord::decode(&vector.bytes);
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let Ok(Some((LinkWord::Batch(header), used))) = decoded else {
        panic!("{}", vector.line)
    };
    let mut body = &vector.bytes[used..];
    let mut cursor = BatchCursor::new(&header, FRAME_BYTES_MAX_DEFAULT);
    let message = cursor.next(&mut body).expect("valid").expect("one message");
    assert_eq!((cursor.left_count(), body.len()), (0, 0), "{}", vector.line);

    let origin = vector
        .find("origin_sequence")
        .map(|s| s.parse::<u64>().expect("number"));
    let first_sequence = vector.number("first_sequence");
    assert_eq!(
        message.origin_sequence,
        origin.unwrap_or(first_sequence),
        "{}",
        vector.line
    );
    assert_eq!(message.frame, framed(vector), "{}", vector.line);
    let expected = BatchHeader {
        redelivered: origin.is_some(),
        origin_shard: vector.number("origin_shard"),
        count: 1,
        body_bytes: (vector.bytes.len() - used) as u32,
        first_sequence,
        origin_epoch: vector.number("origin_epoch"),
    };
    assert_eq!(header, expected, "{}", vector.line);
    assert_eq!(expected.encode(), vector.bytes[..used], "{}", vector.line);
}

fn check_link(vector: &Vector) {
    let decoded = LinkWord::decode(&vector.bytes);
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let (word, encoded) = match vector.get("word") {
        "drain" => (LinkWord::Drain, native::DRAIN),
        _ => (LinkWord::Goodbye, native::GOODBYE),
    };
    assert_eq!(decoded, Ok(Some((word, 1))), "{}", vector.line);
    assert_eq!(encoded[..], vector.bytes, "{}", vector.line);
}

fn check_emitter_hello(vector: &Vector) {
    let decoded = EmitterHello::decode(&vector.bytes);
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let hello = EmitterHello {
        session: vector.number("session"),
        id: vector.get("id"),
    };
    let len = vector.bytes.len();
    assert_eq!(decoded, Ok(Ok((hello, len))), "{}", vector.line);
    let mut encoded = Vec::new();
    hello.encode(&mut encoded).expect("valid");
    assert_eq!(encoded, vector.bytes, "{}", vector.line);
}

fn check_emitter_welcome(vector: &Vector) {
    let decoded = EmitterWelcome::decode(&vector.bytes);
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let welcome = EmitterWelcome {
        refused: vector.find("refused"),
        instance: vector.number("instance"),
        window_batches: vector.number("window_batches"),
        window_bytes: vector.number("window_bytes"),
    };
    let len = vector.bytes.len();
    assert_eq!(decoded, Ok(Some((welcome, len))), "{}", vector.line);
    let mut encoded = Vec::new();
    welcome.encode(&mut encoded);
    assert_eq!(encoded, vector.bytes, "{}", vector.line);
}

fn check_emitter_batch(vector: &Vector) {
    let (header, body) = vector.bytes.split_first_chunk().expect("a header");
    let decoded = EmitterBatch::decode(header);
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let flags = vector.find("flags");
    let expected = EmitterBatch {
        resent: flags == Some("resent"),
        awaited: flags == Some("awaited"),
        count: 1,
        body_bytes: body.len() as u32,
        first_sequence: vector.number("first_sequence"),
    };
    assert_eq!(decoded, Ok(expected), "{}", vector.line);
    assert_eq!(expected.encode(), *header, "{}", vector.line);
    assert_eq!(framed(vector), body, "{}", vector.line);
}

fn check_emitter_link(vector: &Vector) {
    let decoded = EmitterWord::decode(&vector.bytes);
    if is_rejected(vector, decoded.err().as_ref().map(NativeError::as_str)) {
        return;
    }
    let (word, encoded) = match vector.get("word") {
        "ack" => {
            let number = vector.number("number");
            (
                EmitterWord::Ack(number),
                EmitterWord::encode_ack(number).to_vec(),
            )
        }
        _ => (EmitterWord::Drain, EMITTER_DRAIN.to_vec()),
    };
    let len = vector.bytes.len();
    assert_eq!(decoded, Ok(Some((word, len))), "{}", vector.line);
    assert_eq!(encoded, vector.bytes, "{}", vector.line);
}
