//! What `/metrics` renders, read by a strict reader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::*;
use crate::fake::Fake;
use crate::view::row::{GroupStatus, HttpStatus};
use weir_shard::port::TlsCounts;
use weir_shard::RefusedCounts;
use weir_tls::LinkCertificate;

/// A family as a strict reader sees it.
#[derive(Default)]
struct Family {
    kind: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads either format and refuses everything that it does not allow.
fn parse(text: &str, format: Format) -> BTreeMap<String, Family> {
    let open = format == Format::OpenMetrics;
    let text = match open {
        true => text.strip_suffix("# EOF\n").expect("# EOF at the end"),
        false => text,
    };
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut helped, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a text");
            assert!(
                !help.is_empty() && helped.insert(name.to_owned()),
                "HELP twice: {line}"
            );
            current = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, current, "HELP and TYPE belong together");
            let before = families.insert(
                name.to_owned(),
                Family {
                    kind: kind.into(),
                    ..Family::default()
                },
            );
            assert!(before.is_none(), "TYPE twice: {line}");
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (name, unit) = unit.split_once(' ').expect("a unit");
            assert!(
                open && name == current && name.ends_with(&format!("_{unit}")),
                "{line}"
            );
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let (name, labels, value) = sample(line);
            assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
            let family = families.get_mut(&current).expect("a family");
            assert_suffix(&current, &family.kind, &name, open);
            family.samples.push((name, labels, value));
        }
    }
    families
}

fn assert_suffix(family: &str, kind: &str, name: &str, open: bool) {
    let allowed: &[&str] = match (kind, open) {
        ("counter", true) => &["_total"],
        ("info", true) => &["_info"],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        ("gauge" | "counter", _) => &[""],
        other => panic!("{other:?}"),
    };
    let is_allowed = allowed
        .iter()
        .any(|suffix| name == format!("{family}{suffix}"));
    assert!(is_allowed, "{name} in {kind} {family}");
    assert!(
        kind != "counter" || open || family.ends_with("_total"),
        "{family}"
    );
    assert!(kind != "gauge" || !family.ends_with("_total"), "{family}");
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    let is_name = |text: &str| {
        let mut chars = text.chars();
        chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    assert!(name.starts_with("weir_") && is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        let mut inside = inside;
        loop {
            let (label, after) = inside.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().expect("a closing quote") {
                    (_, '\\') => match chars.next().expect("an escape").1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        c => panic!("escape {c} in {line}"),
                    },
                    (at, '"') => break at,
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            inside = &after[end + 1..];
            match inside.strip_prefix(',') {
                Some(more) => inside = more,
                None => break,
            }
        }
        rest = inside.strip_prefix('}').expect("a closing brace");
    }
    let value = rest.strip_prefix(' ').expect("a space");
    let value = match value {
        "+Inf" => f64::INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().expect("a number"),
    };
    (name.to_owned(), labels, value)
}

fn state() -> State {
    let mut fake = Fake::new(&[0.25, 0.75]);
    fake.join("a \"b\\c\"\nd", 1.0);
    let mut state = fake.state();
    fake.route("a1", 100, 90, 700);
    fake.route("a1", 20, 20, 30_000_000);
    fake.reports[0].http.responses.insert(202, 7);
    fake.reports[0].http.refused.insert("body_too_large", 3);
    fake.reports[1].counters.count(Reason::AckStale);
    fake.reports[1].counters.forwarded = 9;
    for report in &mut fake.reports {
        report.tls.push(TlsCounts {
            port: "syslog-6514".to_owned(),
            under_way: 1,
            established: 20,
            resumed: 5,
            truncated: 2,
            refused: vec![("expired", 3)],
            certificates: vec![
                ("0a:0b".to_owned(), 1_900_000_000),
                ("0a:0b".to_owned(), 1_800_000_000),
            ],
        });
    }
    let of_link = |option, not_after| LinkCertificate {
        not_after,
        option,
        serial: "01".to_owned(),
    };
    let towards = [
        of_link("tls_ca", 1_700_000_000),
        of_link("tls_cert", 1_750_000_000),
    ];
    state
        .link_certificates
        .insert("es1".to_owned(), towards.to_vec());
    let certificate = ("a1".into(), "a1.example.org".into());
    state.certificates.extend([certificate]);
    state.http.push(HttpStatus {
        id: "h1".into(),
        endpoint: "http://h1:1".into(),
        weight: 1.0,
        is_healthy: None,
        last_health_check: None,
        consecutive_failures: 4,
        ejected: false,
        ejections: 2,
        error: None,
    });
    state.groups.push(GroupStatus {
        id: "pool".into(),
        found: 300,
        taken: 256,
        up: 85,
        analyzers_max: 85,
        problem: None,
    });
    state.refused = RefusedCounts {
        packets: 3,
        messages: 12,
        bytes: 684,
        bytes_max: 1000,
        forgotten: 2,
        forgotten_messages: 5,
    };
    fake.note(&mut state, 5500);
    state
}

fn find(families: &BTreeMap<String, Family>, name: &str, label: (&str, &str)) -> f64 {
    let samples = families.values().flat_map(|family| &family.samples);
    let mut values = samples.filter(|(found, labels, _)| {
        let has = labels.get(label.0).is_some_and(|value| value == label.1);
        found == name && (label.0.is_empty() || has)
    });
    values
        .next()
        .unwrap_or_else(|| panic!("{name} {label:?}"))
        .2
}

#[test]
fn both_formats_are_strictly_right() {
    let state = state();
    for format in [Format::Text, Format::OpenMetrics] {
        let families = parse(&render(&state, format), format);
        assert!(families.len() > 60, "{}", families.len());
        assert_eq!(
            find(
                &families,
                "weir_shard_received_messages_total",
                ("shard", "1")
            ),
            120.0
        );
        assert_eq!(find(&families, "weir_conservation_holds", ("", "")), 1.0);
        for (state, count) in [("found", 300.0), ("taken", 256.0), ("up", 85.0)] {
            let name = "weir_http_group_members";
            assert_eq!(find(&families, name, ("state", state)), count, "{state}");
        }
        let name = "weir_shard_analyzers_max";
        assert_eq!(find(&families, name, ("shard", "0")), 85.0);
        for (name, number) in [
            ("connections", 2.0),
            ("accepted_total", 4.0),
            ("messages_total", 6.0),
            ("bytes_total", 80.0),
            ("ack_units_open", 10.0),
            ("answers_total", 12.0),
            ("lost_before_receipt_total", 16.0),
            ("refused_total", 14.0),
        ] {
            let name = format!("weir_input_{name}");
            let label = ("input", "syslog-514");
            assert_eq!(find(&families, &name, label), number, "{name}");
        }
        for name in ["forwarded", "handed_over"] {
            let name = format!("weir_shard_batches_{name}_total");
            assert_eq!(find(&families, &name, ("shard", "1")), 9.0, "{name}");
        }
        for (name, number) in [
            ("packets", 3.0),
            ("messages", 12.0),
            ("bytes", 684.0),
            ("bytes_max", 1000.0),
            ("forgotten_packets_total", 2.0),
            ("forgotten_messages_total", 5.0),
        ] {
            for family in ["dead_letter", "refused"] {
                let name = format!("weir_{family}_{name}");
                assert_eq!(find(&families, &name, ("", "")), number, "{name}");
            }
        }
        assert_eq!(
            find(&families, "weir_conservation_in_flight_messages", ("", "")),
            20.0
        );
        assert_eq!(
            find(
                &families,
                "weir_shard_refused_total",
                ("reason", "ack_stale")
            ),
            0.0
        );
        assert_eq!(
            find(&families, "weir_http_responses_total", ("status", "202")),
            7.0
        );
        assert_eq!(
            find(
                &families,
                "weir_analyzer_acked_messages_total",
                ("analyzer", "a1")
            ),
            220.0
        );
        let info = &families["weir_analyzer_info"].samples;
        let h1 = info
            .iter()
            .find(|(_, labels, _)| labels["analyzer"] == "h1");
        let (_, labels, value) = h1.expect("it is there");
        let (protocol, acks) = (&*labels["protocol"], &*labels["acks"]);
        assert_eq!((protocol, acks, *value), ("http", "acked", 1.0));
        assert_eq!(labels.get("certificate"), None);
        let a1 = info
            .iter()
            .find(|(_, labels, _)| labels["analyzer"] == "a1");
        let (_, labels, _) = a1.expect("it is there");
        assert_eq!(labels["certificate"], "a1.example.org");
        assert_eq!(
            find(&families, "weir_analyzer_target_share", ("analyzer", "a1")),
            0.125
        );
        assert_eq!(
            find(
                &families,
                "weir_analyzer_weight",
                ("analyzer", "a \"b\\c\"\nd")
            ),
            1.0
        );
        assert_eq!(
            find(
                &families,
                "weir_analyzer_consecutive_failures",
                ("analyzer", "h1")
            ),
            4.0
        );
        assert_eq!(
            find(&families, "weir_shard_arena_free_bytes", ("shard", "0")),
            400.0 * 131_072.0
        );
        assert!(
            find(
                &families,
                "weir_build_info",
                ("version", env!("CARGO_PKG_VERSION"))
            ) == 1.0
        );
    }
}

#[test]
fn histograms_are_cumulative_and_end_with_all() {
    let families = parse(&render(&state(), Format::OpenMetrics), Format::OpenMetrics);
    let family = &families["weir_analyzer_ack_latency_seconds"];
    let of = |suffix: &str| {
        let name = format!("weir_analyzer_ack_latency_seconds{suffix}");
        let samples = family.samples.iter();
        samples.filter(move |(found, labels, _)| *found == name && labels["analyzer"] == "a1")
    };
    let buckets: Vec<(f64, f64)> = of("_bucket")
        .map(|(_, labels, count)| match labels["le"].as_str() {
            "+Inf" => (f64::INFINITY, *count),
            limit => {
                assert!(
                    limit.contains('.') || limit.contains('e'),
                    "not canonical: {limit}"
                );
                (limit.parse().expect("a limit"), *count)
            }
        })
        .collect();
    assert_eq!(buckets.len(), 13);
    assert!(buckets
        .windows(2)
        .all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
    let count = of("_count").next().expect("a count").2;
    assert_eq!((count, buckets[12].1), (220.0, 220.0));
    let at = |limit: f64| {
        buckets
            .iter()
            .find(|bucket| bucket.0 == limit)
            .expect("there")
            .1
    };
    assert_eq!((at(0.0005), at(0.001), at(10.0)), (0.0, 180.0, 180.0));
    let sum = of("_sum").next().expect("a sum").2;
    assert!(
        (sum / (180.0 * 0.0007 + 40.0 * 30.0) - 1.0).abs() < 0.01,
        "{sum}"
    );
}

#[test]
fn latencies_of_links_that_are_gone_are_kept() {
    let mut fake = Fake::new(&[0.25, 0.75]);
    let mut state = fake.state();
    fake.route("a1", 100, 100, 700);
    fake.note(&mut state, 5500);
    fake.leave("a1");
    fake.note(&mut state, 6000);
    fake.join("a1", 0.25);
    fake.reports.iter_mut().for_each(|report| {
        report.accounts.pop();
    });
    fake.route("a1", 5, 5, 700);
    fake.note(&mut state, 6500);
    let families = parse(&render(&state, Format::Text), Format::Text);
    let count = find(
        &families,
        "weir_analyzer_ack_latency_seconds_count",
        ("analyzer", "a1"),
    );
    assert_eq!(count, 210.0);
}

#[test]
fn series_are_bounded() {
    let mut fake = Fake::new(&[]);
    for n in 0..ANALYZERS_MAX + 3 {
        fake.join(&format!("n{n:04}"), 1.0);
    }
    let text = render(&fake.state(), Format::Text);
    let families = parse(&text, Format::Text);
    assert_eq!(
        families["weir_analyzer_weight"].samples.len(),
        ANALYZERS_MAX
    );
    assert_eq!(
        find(&families, "weir_analyzers_without_series", ("", "")),
        3.0
    );
}

#[test]
fn the_accept_header_decides() {
    let open =
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::accepted(Some(open)), Format::OpenMetrics);
    for text in [
        None,
        Some("*/*"),
        Some("text/plain"),
        Some("application/openmetrics-text;q=0.3,text/plain;q=0.9"),
        Some("application/openmetrics-text;q=0"),
    ] {
        assert_eq!(Format::accepted(text), Format::Text, "{text:?}");
    }
}

/// Ten scrapes a second in less than 1 % of a core is 1 ms each. Tests are hardly optimised and
/// machines are busy, so the test allows ten times as much and prints what it took.
#[test]
fn rendering_is_cheap() {
    let mut fake = Fake::new(&[0.1; 16]);
    for n in 1..=16 {
        for latency_us in 1..200 {
            fake.route(&format!("a{n}"), 10, 9, latency_us * 37);
        }
    }
    let mut state = fake.state();
    let best = (0..20_u64).map(|n| {
        fake.route("a1", 10, 9, 5);
        let reports = fake.reports.clone();
        let begin = Instant::now();
        state.note(crate::fake::at(6000 + n * 500), reports);
        assert!(render(&state, Format::Text).len() > 20_000);
        begin.elapsed()
    });
    let best = best.min().expect("some");
    println!("a scrape of 16 analyzers on 2 shards: {best:?}");
    assert!(best.as_millis() < 10, "{best:?}");
}

/// Every word `weir_...` of a text.
fn named(text: &str) -> BTreeSet<String> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut names = BTreeSet::new();
    for word in words.by_ref().filter(|word| word.starts_with("weir_")) {
        names.insert(word.to_owned());
    }
    names
}

fn deployed(path: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    std::fs::read_to_string(root.join(path)).expect(path)
}

#[test]
fn ports_with_tls_are_added_up_over_shards() {
    let families = parse(&render(&state(), Format::Text), Format::Text);
    for (name, value) in [
        ("handshakes_under_way", 2.0),
        ("handshakes_total", 40.0),
        ("resumed_total", 10.0),
        ("truncated_total", 4.0),
        ("certificate_expires_seconds", 1_800_000_000.0),
    ] {
        let name = format!("weir_tls_{name}");
        assert_eq!(
            find(&families, &name, ("port", "syslog-6514")),
            value,
            "{name}"
        );
    }
    let refused = find(&families, "weir_tls_refused_total", ("reason", "expired"));
    assert_eq!(refused, 6.0);
    for (option, ends) in [("tls_ca", 1_700_000_000.0), ("tls_cert", 1_750_000_000.0)] {
        let name = "weir_tls_certificate_expires_seconds";
        assert_eq!(find(&families, name, ("option", option)), ends);
    }
}

#[test]
fn what_is_deployed_names_metrics_that_there_are() {
    let families = parse(&render(&state(), Format::Text), Format::Text);
    let there: BTreeSet<&str> = families
        .values()
        .flat_map(|family| family.samples.iter().map(|sample| sample.0.as_str()))
        .chain(families.keys().map(String::as_str))
        .collect();
    for path in ["grafana/weir.json", "prometheus/alerts.yml"] {
        let text = deployed(path);
        let names = named(&text);
        assert!(names.len() > 8, "{path}: {names:?}");
        for name in names {
            assert!(there.contains(name.as_str()), "{path}: {name}");
        }
    }
}

#[test]
fn what_is_deployed_can_be_read() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&deployed("grafana/weir.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["targets"][0]["expr"].is_string(), "{panel}");
    }
    // Several distributors may be chosen: a line for each would be no analyzer's share of the whole.
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array());
    let exprs = targets
        .flatten()
        .filter_map(|target| target["expr"].as_str());
    let of_analyzers: Vec<&str> = exprs
        .filter(|expr| expr.contains("weir_analyzer_"))
        .collect();
    assert!(of_analyzers.len() >= 12, "{of_analyzers:?}");
    for expr in of_analyzers {
        assert!(expr.contains(" by (analyzer"), "{expr}");
    }
    let alerts = deployed("prometheus/alerts.yml");
    for alert in ["WeirClusterShareOffTarget", "WeirAnalyzerNotEverywhere"] {
        assert!(alerts.contains(alert), "{alert}");
    }
    assert!(alerts.contains("sum by (job, analyzer) (weir_analyzer_share_error_messages)"));
    let documents = saphyr::Yaml::load_from_str(&alerts).expect("YAML");
    use saphyr::LoadableYamlNode;
    let rules = documents[0]["groups"][0]["rules"].as_vec().expect("rules");
    assert!(rules.len() >= 8);
    for rule in rules {
        let text = |name: &str| rule[name].as_str().unwrap_or_else(|| panic!("{name}"));
        assert!(text("alert").starts_with("Weir") && !text("expr").is_empty());
        assert!(rule["annotations"]["summary"].as_str().is_some());
        assert!(rule["labels"]["severity"].as_str().is_some());
    }
    let scrape = saphyr::Yaml::load_from_str(&deployed("prometheus/scrape.yml")).expect("YAML");
    assert!(scrape[0]["scrape_configs"][0]["job_name"]
        .as_str()
        .is_some());
}
