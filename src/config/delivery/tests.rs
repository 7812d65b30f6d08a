use super::*;

#[test]
fn a_place_is_what_its_text_says() {
    for (text, port, shown) in [
        ("forward://a", 24224, "forward://a:24224"),
        ("forward://a:1/", 1, "forward://a:1"),
        (
            "forward://[::1]?tag=x%26y",
            24224,
            "forward://[::1]:24224?tag=x%26y",
        ),
        ("http://a/p/", 80, "http://a:80/p"),
        ("http://a/p/?forms=1", 80, "http://a:80/p?forms=1"),
        (
            "relp://a?facility=local7",
            2514,
            "relp://a:2514?facility=local7",
        ),
        (
            "lumberjack://a?seq=cumulative",
            5044,
            "lumberjack://a:5044?seq=cumulative",
        ),
        ("syslog://a?lag=0", 514, "syslog://a:514?lag=0"),
        ("syslog-octet://a:601", 601, "syslog-octet://a:601"),
        (
            "es+http://a?index=logs-x-y&id=off",
            9200,
            "es+http://a:9200?index=logs-x-y&id=off",
        ),
        (
            "http+ndjson://a/in/?query=x%3D1",
            80,
            "http+ndjson://a:80/in/?query=x=1",
        ),
    ] {
        let place: Place = text.parse().expect(text);
        assert_eq!(place.endpoint.port, port);
        assert_eq!(place.to_string(), shown);
        assert_eq!(shown.parse(), Ok(place));
    }
    let place: Place = "forward://a?timeout=2s&packet_bytes=64KiB&compress=gzip"
        .parse()
        .expect("good");
    let outlet = place.delivery.outlet();
    assert_eq!(outlet.timeout, Duration::from_secs(2));
    assert_eq!(outlet.packet_bytes, 64 << 10);
    assert_eq!(outlet.compression, Compression::Gzip);
    let asks = |text: &str| text.parse::<Place>().expect("good").delivery.asks_forms();
    assert!(asks("http://a?forms=1") && !asks("http://a"));
    let outlet = |text: &str| text.parse::<Place>().expect(text).delivery.outlet();
    assert_eq!(outlet("syslog://a").framing, Framing::LineFeed);
    assert_eq!(outlet("syslog-octet://a").framing, Framing::Counted);
    for (word, number) in [
        ("kern", 0),
        ("ftp", 11),
        ("local0", 16),
        ("local7", 23),
        ("23", 23),
    ] {
        assert_eq!(
            outlet(&format!("relp://a?facility={word}")).facility,
            number
        );
    }
    let packed = outlet("lumberjack://a?compress=zlib&seq=cumulative");
    assert_eq!(packed.compression, Compression::Zlib);
    assert_eq!(packed.numbering, Numbering::Cumulative);
    assert_eq!(outlet("relp://a?window=1000").window, 1000);
    for (text, refuses) in [
        ("syslog://a", true),
        ("syslog-octet://a?weak_acks=allow", false),
        ("relp://a", false),
        ("http://a", false),
    ] {
        let place: Place = text.parse().expect(text);
        assert_eq!(place.delivery.refuses_to_chain(), refuses, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    for (bad, why) in [
        ("fluent://a", "scheme \"fluent\": allowed"),
        ("a:1", "allowed: host:port behind"),
        ("forward://", "host[:port]"),
        ("forward://a/p", "no path"),
        ("forward://u:p@a", "no user and no password"),
        ("forward://a:0", "host[:port]"),
        ("forward://a?", "option \"\": allowed"),
        (
            "forward://a?tga=x",
            "no such option; allowed: tag, compress",
        ),
        ("forward://a?tag=x&tag=y", "given twice"),
        ("forward://a?tag=", "a tag of 1 to 255"),
        ("forward://a?compress=zstd", "allowed: none, gzip"),
        ("forward://a?timeout=0s", "timeout=0s"),
        ("forward://a?compress=zlib", "allowed: none, gzip"),
        ("lumberjack://a?compress=gzip", "allowed: none, zlib"),
        ("lumberjack://a?seq=1", "allowed: window, cumulative"),
        (
            "lumberjack://a?tag=x",
            "no such option; allowed: compress, seq",
        ),
        ("relp://a?tag=x y", "1 to 48 printable"),
        ("relp://a?facility=24", "local0 to local7, or 0 to 23"),
        ("relp://a?facility=local8", "local0 to local7, or 0 to 23"),
        ("relp://a?window=0", "allowed: 1 to 65536"),
        ("relp://a?lag=1KiB", "no such option"),
        ("syslog://a?weak_acks=yes", "allowed: refuse, allow"),
        ("syslog://a?lag=4MiB", "with packet_bytes at most in_flight"),
        ("forward://a?user=u", "both, or none"),
        (
            "forward://a?user=u&password_file=/x",
            "with shared_key_file",
        ),
        (
            "forward://a?packet_bytes=2MiB&in_flight=1MiB",
            "at most in_flight",
        ),
        (
            "http://a?tag=x",
            "option \"tag\": http:// has no such option; allowed: forms",
        ),
        ("http://a?forms=2", "forms=2: allowed: 0, 1"),
        ("http://a?x", "option \"x\": allowed: http://host:port"),
        ("es+http://a?tag=x", "allowed: index, id"),
        ("es+http://a?index=A", "lower-case"),
        ("es+http://a?index=a/_all", "lower-case"),
        ("es+http://a?id=maybe", "on, off"),
        ("es+http://a?user=u", "both, or none"),
        (
            "es+http://a?user=u&password_file=/x&api_key_file=/y",
            "one of them",
        ),
        ("loki+http://a?labels=a", "name=value"),
        ("loki+http://a?labels=1a=x", "name=value"),
        ("loki+http://a?labels=level=x", "level"),
        ("hec+http://a", "token_file"),
        (
            "hec+http://a?token_file=/x&ack_timeout=5s",
            "with acks=indexer",
        ),
        ("otlp+http://a?encoding=xml", "protobuf, json"),
        ("http+json://a?method=GET", "POST, PUT"),
        ("http+json://a/a b", "visible ASCII"),
        ("http+json://a?query=a b", "visible ASCII"),
        ("http+json://a?health=x", "from its / on"),
        ("http+json://a?content_type=a%0Ab", "control"),
        ("https://a?tls_name=", "tls_name=: allowed: "),
        ("https://a?tls_min=1.1", "tls_min=1.1: allowed: 1.2 or 1.3"),
        (
            "https://a?tag=x",
            "option \"tag\": https:// has no such option",
        ),
        ("http+tls://a", "scheme \"http+tls\""),
    ] {
        let error = bad.parse::<Place>().expect_err(bad);
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn options_belong_to_schemes_that_exist() {
    for option in DeliveryOption::all() {
        let known = |word: &&str| SCHEMES.iter().any(|scheme| scheme.word == *word);
        assert!(option.only.iter().all(known), "{}", option.key);
    }
}

#[test]
fn a_name_that_no_certificate_has_is_named_as_the_option_of_a_url() {
    let mut place: Place = "https://a?tls_name=a_b!".parse().expect("good");
    let resolved = place.delivery.resolve("a", None, None, None);
    let error = resolved.expect_err("no name");
    let is_told = error.starts_with("tls_name: \"a_b!\" is no name") && !error.contains("--");
    assert!(is_told, "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let text = "forward://a?shared_key_file=/nowhere/key";
    let mut place: Place = text.parse().expect("good");
    let error = place
        .delivery
        .resolve("a", None, None, None)
        .expect_err("no such file");
    assert!(
        error.starts_with("shared_key_file=/nowhere/key: "),
        "{error}"
    );
}
