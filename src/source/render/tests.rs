use super::*;

/// As of a tag and a second that are new.
fn entry_of(tag: &[u8], entry: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> bool {
    super::entry(&mut Context::default(), tag, entry, bytes_max, out)
}

/// Time, record; what it becomes.
fn json(tag: &str, entry: &[u8]) -> String {
    let mut out = Vec::new();
    assert!(entry_of(tag.as_bytes(), entry, 1 << 20, &mut out));
    String::from_utf8(out).expect("JSON is text")
}

const TIME: &[u8] = &[0xce, 0x69, 0x2a, 0x37, 0x80];
const WHEN: &str = "\"@timestamp\":\"2025-11-29T00:00:00.000000000Z\"";

fn record(pairs: &[u8]) -> Vec<u8> {
    [TIME, pairs].concat()
}

#[test]
fn own_keys_come_first_then_time_and_tag() {
    let entry = record(&[
        0x82, 0xa3, b'l', b'o', b'g', 0xa2, b'h', b'i', 0xa1, b'n', 1,
    ]);
    let expected = format!("{{\"log\":\"hi\",\"n\":1,{WHEN},\"tag\":\"app\"}}");
    assert_eq!(json("app", &entry), expected);
    assert_eq!(
        json("a\"b", &record(&[0x80])),
        format!("{{{WHEN},\"tag\":\"a\\\"b\"}}")
    );
}

#[test]
fn what_the_record_says_by_itself_is_not_said_again() {
    let entry = record(&[0x81, 0xa3, b't', b'a', b'g', 7]);
    assert_eq!(json("app", &entry), format!("{{\"tag\":7,{WHEN}}}"));
    let own = [&[0x81, 0xaa][..], b"@timestamp", &[0xc0]].concat();
    assert_eq!(
        json("app", &record(&own)),
        "{\"@timestamp\":null,\"tag\":\"app\"}"
    );
}

#[test]
fn times_have_nine_digits() {
    for (time, expected) in [
        (
            &[0xd7, 0, 0x69, 0x2a, 0x37, 0x80, 0, 0, 0, 5][..],
            "\"2025-11-29T00:00:00.000000005Z\"",
        ),
        (
            &[0xc7, 8, 0, 0x69, 0x2a, 0x37, 0x80, 0x3b, 0x9a, 0xc9, 0xff],
            "\"2025-11-29T00:00:00.999999999Z\"",
        ),
        (
            &[0xd7, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            "\"1970-01-01T00:00:00.999999999Z\"",
        ),
        (
            &[0xcb, 0x41, 0xda, 0x4a, 0x8d, 0xe0, 0x20, 0, 0],
            "\"2025-11-29T00:00:00.500000000Z\"",
        ),
        (
            &[0xd2, 0x69, 0x2a, 0x37, 0x80],
            "\"2025-11-29T00:00:00.000000000Z\"",
        ),
        (&[0], "\"1970-01-01T00:00:00.000000000Z\""),
        // Milliseconds are no seconds of this calendar.
        (&[0xcf, 0, 0, 1, 0x9a, 0xcd, 0x10, 0x54, 0], "1764376990720"),
    ] {
        let entry = [time, &[0x80]].concat();
        let expected = format!("{{\"@timestamp\":{expected},\"tag\":\"t\"}}");
        assert_eq!(json("t", &entry), expected, "{time:x?}");
    }
}

#[test]
fn what_was_before_changes_nothing() {
    let long = "l".repeat(5000);
    let tags = ["", "a", "b", "a\"", &long, "a", "", "\u{e9}", &long];
    let times: [&[u8]; 7] = [
        &[0xd7, 0, 0x69, 0x2a, 0x37, 0x80, 0, 0, 0, 5],
        &[0xd7, 0, 0x69, 0x2a, 0x37, 0x80, 0x3b, 0x9a, 0xc9, 0xff],
        &[0xd7, 0, 0x69, 0x2a, 0x37, 0x81, 0x3b, 0x9a, 0xc9, 0xff],
        &[0xcf, 0, 0, 1, 0x9a, 0xcd, 0x10, 0x54, 0],
        &[0],
        &[0xd7, 0, 0x69, 0x2a, 0x37, 0x80, 0, 0, 0, 0],
        &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    let mut context = Context::default();
    for turn in 0..tags.len() * times.len() * 2 {
        let (tag, time) = (tags[turn % tags.len()], times[turn % times.len()]);
        for pairs in [&[0x80][..], &[0x81, 0xa1, b'n', 1]] {
            let entry = [time, pairs].concat();
            let mut out = Vec::new();
            super::entry(&mut context, tag.as_bytes(), &entry, 1 << 20, &mut out);
            let text = String::from_utf8(out).expect("text");
            assert_eq!(text, json(tag, &entry), "{turn}: {tag:.9} {time:x?}");
        }
    }
}

#[test]
fn metadata_is_kept_unless_it_is_empty() {
    let entry = [&[0x92][..], TIME, &[0x81, 0xa1, b'k', 0xc3, 0x80]].concat();
    assert_eq!(
        json("t", &entry),
        format!("{{{WHEN},\"tag\":\"t\",\"_metadata\":{{\"k\":true}}}}")
    );
    let entry = [&[0x92][..], TIME, &[0xde, 0, 0, 0x80]].concat();
    assert_eq!(json("t", &entry), format!("{{{WHEN},\"tag\":\"t\"}}"));
}

#[test]
fn every_kind_of_value() {
    for (value, expected) in [
        (&[0xc0][..], "null"),
        (&[0xc2], "false"),
        (&[0xc3], "true"),
        (&[0xff], "-1"),
        (&[0], "0"),
        (&[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0], "-9223372036854775808"),
        (
            &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "18446744073709551615",
        ),
        (&[0xca, 0x3d, 0xcc, 0xcc, 0xcd], "0.1"),
        (&[0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0], "1.5"),
        (
            &[0xcb, 0x7f, 0xef, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "1.7976931348623157e308",
        ),
        (&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], "null"),
        (&[0xca, 0xff, 0x80, 0, 0], "null"),
        (&[0xd4, 1, 2], "null"),
        (&[0x93, 1, 0x90, 0xc7, 3, 9, 1, 2, 3], "[1,[],null]"),
        (&[0x82, 0xa1, b'a', 0x80, 7, 0xa0], "{\"a\":{},\"7\":\"\"}"),
        (&[0x81, 0x91, 0xa1, b'q', 1], "{\"[\\\"q\\\"]\":1}"),
        (&[0xa3, 0, b'\n', b'"'], "\"\\u0000\\n\\\"\""),
        (&[0xc4, 3, 0xe2, 0x82, 0xac], "\"€\""),
        (
            &[0xc4, 1, 0xff],
            "{\"encoding\":\"base64\",\"data\":\"/w==\"}",
        ),
        (
            &[0xa2, 0xff, 0xfe],
            "{\"encoding\":\"base64\",\"data\":\"//4=\"}",
        ),
        (
            &[0xa3, 0xff, 0xfe, 0xfd],
            "{\"encoding\":\"base64\",\"data\":\"//79\"}",
        ),
        (&[0x81, 0xa1, 0xff, 1], "{\"\u{fffd}\":1}"),
    ] {
        let entry = record(&[&[0x81, 0xa1, b'v'][..], value].concat());
        let text = json("t", &entry);
        assert_eq!(
            text,
            format!("{{\"v\":{expected},{WHEN},\"tag\":\"t\"}}"),
            "{value:x?}"
        );
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    }
}

#[test]
fn depth_ends() {
    for (levels, is_whole) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, false), (100_000, false)] {
        let value = [vec![0x91; levels], vec![1]].concat();
        let entry = record(&[&[0x81, 0xa1, b'v'][..], &value].concat());
        let mut out = Vec::new();
        assert_eq!(
            entry_of(b"t", &entry, 1 << 20, &mut out),
            is_whole,
            "{levels}"
        );
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.contains("null"), !is_whole);
        assert_eq!(text.ends_with("\"_cut\":true}"), !is_whole);
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    }
}

#[test]
fn keys_within_keys_do_not_grow() {
    // A map whose only key is a map whose only key is a map.
    let value = [vec![0x81; 100_000], vec![0xc0; 100_001]].concat();
    let entry = record(&[&[0x81, 0xa1, b'v'][..], &value].concat());
    let mut out = Vec::new();
    assert!(!entry_of(b"t", &entry, 1 << 20, &mut out));
    let text = String::from_utf8(out).expect("text");
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    assert!(text.len() < 1000, "{text}");
}

#[test]
fn what_is_too_large_is_delivered_to_the_limit() {
    let long = [&[0xda, 0x03, 0xe8][..], &[b'\n'; 1000]].concat();
    let pairs = [
        &[0x83, 0xa1, b'a', 1, 0xa1, b'v'],
        &long[..],
        &[0xa1, b'z', 2],
    ]
    .concat();
    let entry = record(&pairs);
    let whole = json("t", &entry);
    for bytes_max in 0..whole.len() + 2 {
        let mut out = b"before".to_vec();
        let is_whole = entry_of(b"t", &entry, bytes_max, &mut out);
        let text = std::str::from_utf8(&out[6..]).expect("text");
        assert_eq!(is_whole, bytes_max >= whole.len(), "{bytes_max}");
        assert!(
            text.len() <= bytes_max.max(2),
            "{} > {bytes_max}",
            text.len()
        );
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        if (100..whole.len()).contains(&bytes_max) {
            assert_eq!(value["_cut"], true);
            assert_eq!(
                (&value["a"], &value["tag"]),
                (&1.into(), &"t".into()),
                "{bytes_max}"
            );
            let lines = value["v"].as_str().unwrap_or_default().len();
            assert!(
                lines * 2 + 20 > bytes_max.min(2000) - 100,
                "{lines} of {bytes_max}"
            );
        }
    }
}
