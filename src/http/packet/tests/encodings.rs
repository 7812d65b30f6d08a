//! Bodies that are not UTF-8, and what they look like.

use super::*;

/// JSON that came in other bytes than UTF-8's is said to be that, marked or not.
#[test]
fn a_body_in_other_bytes_says_what_it_looks_like() {
    let json = r#"{"emitterId":"a","messages":[{"level":"info","message":"hi"}]}"#;
    let marked = format!("\u{feff}{json}");
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| {
        let units = text.encode_utf16();
        units.flat_map(bytes).collect::<Vec<u8>>()
    };
    let utf32 = |text: &str, bytes: fn(u32) -> [u8; 4]| {
        let chars = text.chars().map(u32::from);
        chars.flat_map(bytes).collect::<Vec<u8>>()
    };
    let allowed = "allowed: UTF-8";
    let table = [
        (utf16(&marked, u16::to_le_bytes), "mark of UTF-16", allowed),
        (utf16(&marked, u16::to_be_bytes), "mark of UTF-16", allowed),
        (utf32(&marked, u32::to_le_bytes), "mark of UTF-32", allowed),
        (utf32(&marked, u32::to_be_bytes), "mark of UTF-32", allowed),
        (utf16(json, u16::to_le_bytes), "looks like UTF-16", allowed),
        (utf16(json, u16::to_be_bytes), "looks like UTF-16", allowed),
        (utf32(json, u32::to_le_bytes), "looks like UTF-32", allowed),
        (utf32(json, u32::to_be_bytes), "looks like UTF-32", allowed),
        (
            vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3],
            "looks like gzip",
            "Content-Encoding: gzip",
        ),
        (
            vec![0x28, 0xB5, 0x2F, 0xFD, 4, 0x88],
            "looks like zstd",
            "Content-Encoding: zstd",
        ),
        (
            vec![0x78, 0x9C, 0xAB, 0x56],
            "looks like zlib",
            "Content-Encoding: deflate",
        ),
        (
            vec![0x78, 0x01, 0x4B, 0x04],
            "looks like zlib",
            "Content-Encoding: deflate",
        ),
    ];
    let limits = PacketLimits::default();
    for (body, looks, help) in table {
        let lines = parse_ndjson(&body, Some("e"), &now(), &mut Counted(0), &limits);
        for error in [refused(&body, &limits), lines.expect_err("no lines")] {
            assert!(["not_utf8", "not_json"].contains(&error.error), "{error}");
            assert!(
                error.detail.contains(looks) && error.detail.contains(help),
                "{error}"
            );
        }
    }
    let mark = refused("\u{feff}".as_bytes(), &limits);
    assert_eq!(mark.error, "not_json");
    assert!(
        mark.detail
            .contains("(the body is a byte order mark and nothing else)"),
        "{mark}"
    );
}

/// It becomes the value of a header and a field of log lines: as with controls, nothing in it changes the order in which
/// a terminal shows the rest. Joiners stay: names need them.
#[test]
fn an_emitter_id_has_no_marks_of_direction() {
    let limits = PacketLimits::default();
    for (id, mark) in [
        (r"a\u202eb", "U+202E"),
        ("a\u{2067}b", "U+2067"),
        (r"\u2028", "U+2028"),
    ] {
        let error = refused(
            format!(r#"{{"messages":[],"emitterId":"{id}"}}"#).as_bytes(),
            &limits,
        );
        assert_eq!((error.error, &*error.field), ("emitter_id", "emitterId"));
        assert!(
            error.detail.contains(mark) && error.detail.contains("allowed: "),
            "{error}"
        );
        if id.is_ascii() {
            continue; // escaped: a header has it as it is
        }
        let lines = parse_ndjson(b"1", Some(id), &now(), &mut Counted(0), &limits);
        assert!(lines.expect_err("no id").detail.contains(mark));
    }
    let joined = r#"{"messages":[],"emitterId":"\u0645\u06cc\u200c\u062e"}"#;
    assert!(parse_packet(joined.as_bytes(), &now(), &mut Counted(0), &limits).is_ok());
}
