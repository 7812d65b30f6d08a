use super::*;

fn parsed(text: &str) -> Result<Place, String> {
    text.parse::<Place>()
}

fn words(text: &str) -> Vec<String> {
    match parsed(text).expect(text).delivery.local() {
        Some(Local::Exec(exec)) => exec.words.clone(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_file_is_what_its_text_says() {
    let text = "file:///var/log/a%3Fb.ndjson?rotate_bytes=1KiB&rotate_every=60s&keep=3&timeout=2s";
    let place = parsed(text).expect(text);
    assert_eq!(place.to_string(), text);
    assert_eq!(parsed(&place.to_string()), Ok(place.clone()));
    let expected = FileOptions {
        path: "/var/log/a?b.ndjson".into(),
        rotate_bytes: Some(1024),
        rotate_every: Some(Duration::from_secs(60)),
        keep: Some(3),
    };
    assert_eq!(place.delivery.local(), Some(&Local::File(expected)));
    assert_eq!(place.delivery.outlet().timeout, Duration::from_secs(2));
    let never = parsed("file:///x?rotate_bytes=off&rotate_every=off&keep=all");
    let never = never.expect("good").delivery;
    let Some(Local::File(never)) = never.local() else {
        panic!("{never:?}")
    };
    assert_eq!(
        (never.rotate_bytes, never.rotate_every, never.keep),
        (None, None, None)
    );
}

#[test]
fn a_command_is_split_as_a_shell_does() {
    for (text, expected) in [
        ("exec:/bin/cat", &["/bin/cat"][..]),
        (
            "exec: sh -c 'a  b' \"c \\\" \\d\" e\\ f ''",
            &["sh", "-c", "a  b", "c \" \\d", "e f", ""],
        ),
        ("exec:a'b'\"c\"d", &["abcd"]),
        (
            "exec:curl 'http://x/?a=b&c=%20'?timeout=5s",
            &["curl", "http://x/?a=b&c=%20"],
        ),
        ("exec:a \\?b", &["a", "?b"]),
        ("exec:a $HOME *", &["a", "$HOME", "*"]),
    ] {
        assert_eq!(words(text), expected, "{text}");
        let place = parsed(text).expect(text);
        assert_eq!(parsed(&place.to_string()), Ok(place), "{text}");
    }
    let analyzer = "p=0.5@exec:prog 'x@http://h' --a=1?patience=1s";
    let parsed: crate::HttpAnalyzer = analyzer.parse().expect("good");
    assert_eq!((parsed.id(), parsed.weight()), ("p", 0.5));
    assert_eq!(parsed.to_string(), analyzer);
}

#[test]
fn what_is_wrong_is_named() {
    for (bad, why) in [
        ("file://out.ndjson", "\"out.ndjson\": it is not absolute"),
        ("file:out", "not absolute"),
        ("file://host/x", "no host is asked"),
        ("file:///", "with a name at its end"),
        ("file:///a/..", "with a name at its end"),
        ("file:///a/", "with a name at its end"),
        ("file:///a%0ab", "without control characters"),
        ("file:///a%zz", "two hexadecimal digits"),
        ("file:///a?keep=0", "allowed: all, or 1 to 100000"),
        ("file:///a?rotate_bytes=1", "rotate_bytes=1: "),
        ("file:///a?rotate_every=1ms", "rotate_every=1ms: "),
        (
            "file:///a?patience=1s",
            "file:// has no such option; allowed: packet_bytes",
        ),
        (
            "file:///a?x",
            "option \"x\": allowed: file:///absolute/path",
        ),
        ("exec:", "no program is named; allowed: exec:PROGRAM"),
        ("exec:?timeout=1s", "no program is named"),
        ("exec:'' a", "no program is named"),
        ("exec:a 'b", "a ' is not closed"),
        ("exec:a \"b", "a \" is not closed"),
        ("exec:a b\\", "behind the last \\"),
        ("exec:a?keep=1", "no such option"),
        ("exec:a?patience=0s", "patience=0s"),
    ] {
        let error = parsed(bad).expect_err(bad);
        assert!(error.contains(why), "{bad}: {error}");
        assert!(error.contains("allowed"), "{bad}: {error}");
    }
    for bad in ["p=1@dns+file:///x", "p=1@dns+exec:x"] {
        let error = bad.parse::<crate::HttpAnalyzer>().expect_err(bad);
        assert!(error.contains("allowed"), "{bad}: {error}");
    }
}

#[test]
fn what_is_not_on_this_host_is_named() {
    for (bad, why) in [
        (
            "file:///no-such-folder/x",
            "folder /no-such-folder: No such file",
        ),
        ("file:///dev/null/x", "folder /dev/null: it is none"),
        ("file:///dev", "it is a folder"),
        ("file:///dev/null", "no regular file"),
        ("exec:/no/such/prog", "\"/no/such/prog\": there is no file"),
        ("exec:/dev", "there is no file"),
        ("exec:no-such-program-anywhere", "not found in"),
    ] {
        let mut place = parsed(bad).expect(bad);
        let error = place
            .delivery
            .resolve("a", None, None, None)
            .expect_err(bad);
        assert!(error.contains(why), "{bad}: {error}");
    }
    for good in [
        "file:///tmp/weir-test-none.ndjson",
        "exec:sh -c :",
        "exec:/bin/sh",
    ] {
        let mut place = parsed(good).expect(good);
        assert_eq!(
            place.delivery.resolve("a", None, None, None),
            Ok(()),
            "{good}"
        );
    }
}

#[test]
fn a_file_is_one_analyzers() {
    let one = |text: &str| text.parse::<crate::HttpAnalyzer>().expect(text);
    let error = crate::check_analyzers(&[one("a=1@file:///x"), one("b=1@file:///x?keep=1")]);
    assert!(error.is_err_and(|why| why.contains("file:///x: two analyzers")));
    assert_eq!(
        crate::check_analyzers(&[one("a=1@file:///x"), one("b=1@file:///y")]),
        Ok(())
    );
}
