//! The kit's own codec against the byte vectors of `docs/PROTOCOL.md`.

use weir_testkit::decode::Decoder;
use weir_testkit::vectors::{self, Vector};
use weir_testkit::wire::{self, BatchHeader, Dialect, Welcome, WireError};

#[test]
fn what_it_writes_is_what_the_document_says() {
    let mut checked = 0;
    for vector in vectors::all() {
        if vector.error().is_some() {
            continue;
        }
        if let Some(written) = written(&vector) {
            assert_eq!(written, vector.bytes, "{}", vector.line);
            checked += 1;
        }
    }
    assert_eq!(checked, 16, "vectors were added or removed");
}

/// The bytes for a line's values; `None` for what the kit does not write.
fn written(vector: &Vector) -> Option<Vec<u8>> {
    let dialect = match vector.kind.split('-').next()? {
        "typed" => Dialect::Typed,
        "compact" => Dialect::Compact,
        _ => Dialect::Native,
    };
    Some(match vector.kind.as_str() {
        "frame" => frame(vector),
        "typed-first" | "compact-first" => {
            wire::first_word(dialect, vector.number("weight"), "", None)
        }
        "typed-ack" | "compact-ack" | "native-ack" => wire::ack(dialect, vector.number("number")),
        "typed-weight" | "compact-weight" | "native-weight" => {
            wire::weight(dialect, vector.number("weight"))
        }
        "hello" if vector.find("token").or(vector.find("instance")).is_none() => {
            // The kit asks for no descriptions.
            if vector.get("window_bytes") != "0" || vector.find("forms").is_some() {
                return None;
            }
            let shard = vector.get("shard").parse().ok();
            wire::first_word(dialect, vector.number("weight"), vector.get("id"), shard)
        }
        "welcome" => {
            let reason = vector.find("refused").unwrap_or_default();
            let fixed = Welcome {
                status: u8::from(vector.find("refused").is_some()),
                shard_count: vector.number("shard_count"),
                shard_index: vector.number("shard_index"),
                reason_bytes: u16::try_from(reason.len()).expect("short"),
                instance: vector.number("instance"),
                link_epoch: vector.number("link_epoch"),
            };
            [&fixed.encode()[..], reason.as_bytes()].concat()
        }
        "batch" => {
            let origin = vector.find("origin_sequence");
            let header = BatchHeader {
                is_redelivered: origin.is_some(),
                origin_shard: vector.number("origin_shard"),
                first_sequence: vector.number("first_sequence"),
                origin_epoch: vector.number("origin_epoch"),
                ..BatchHeader::default()
            };
            let origin = origin.map(|number| number.parse().expect("a number"));
            header.with_frames([(origin, &frame(vector)[..])])
        }
        _ => return None,
    })
}

fn frame(vector: &Vector) -> Vec<u8> {
    wire::frame_of(vector.number("severity"), vector.get("payload").as_bytes())
}

#[test]
fn what_it_reads_is_what_the_document_says() {
    for vector in vectors::all() {
        let bytes = &vector.bytes[..];
        match (vector.kind.as_str(), vector.error()) {
            ("frame", None) => assert_eq!(wire::frame_bytes(bytes), Ok(Some(bytes.len()))),
            ("frame", Some(_)) => assert!(wire::frame_bytes(bytes).is_err(), "{}", vector.line),
            ("welcome", error) => {
                let fixed = bytes.first_chunk().expect("32 bytes");
                let welcome = Welcome::decode(fixed);
                assert_eq!(welcome.is_err(), error.is_some(), "{}", vector.line);
                if let Ok(welcome) = welcome {
                    assert_eq!(welcome.encode(), fixed, "{}", vector.line);
                }
            }
            ("batch", None) => {
                let header = BatchHeader::decode(bytes.first_chunk().expect("32 bytes"));
                let sequence: u64 = vector.number("first_sequence");
                assert_eq!(header.map(|header| header.first_sequence), Ok(sequence));
            }
            ("batch" | "link", error) => {
                let mut decoder = Decoder::new(Dialect::Native);
                let used = decoder.decode(bytes, |_| {});
                match error {
                    None => assert_eq!(used, Ok(1), "{}", vector.line),
                    Some(_) => assert!(used.is_err(), "{}", vector.line),
                }
            }
            _ => {}
        }
    }
}

#[test]
fn numbers_wrap_as_the_document_says() {
    assert_eq!(wire::ack(Dialect::Compact, (1 << 31) + 1), [0x80, 0, 0, 1]);
    assert_eq!(wire::ack(Dialect::Typed, (1 << 32) + 1), [0, 0, 0, 0, 1]);
    assert_eq!(
        wire::frame_bytes(&[0, 0, 0, 4]),
        Err(WireError::FrameLength(4))
    );
}
