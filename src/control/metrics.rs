//! `/metrics`: what is counted, under names that stay.
//!
//! ```text
//! weir_*            the whole distributor: build, start, the law
//! weir_shard_*      {shard}
//! weir_analyzer_*   {analyzer}: those of the roster and those over HTTP that are configured
//! ```
//!
//! Base units, counters end in `_total`. Series are bounded: [`ANALYZERS_MAX`] analyzers, a fixed set of
//! reasons and states. An analyzer that left has no series; what it had is in its shards' counters.

use super::exposition::{Exposition, Format, Kind, Labels};
use super::state::{Kind as Reach, Row, Standing, State};
use super::track::BUCKETS_US;
use crate::engine::Reason;
use crate::shard::ShardReport;

/// Analyzers with series of their own, in the order of their names.
pub const ANALYZERS_MAX: usize = 256;

type OfShard = (&'static str, Kind, &'static str, fn(&ShardReport) -> f64);
type OfAnalyzer = (&'static str, Kind, &'static str, fn(&Row) -> f64);

const SECOND_NS: f64 = 1e9;

/// Numbers of every shard.
#[rustfmt::skip]
const SHARD: [OfShard; 39] = [
    ("weir_shard_turns_total", Kind::Counter, "Turns of the event loop.", |r| r.pace.turns as f64),
    ("weir_shard_busy_seconds_total", Kind::Counter, "Time spent in turns, waits left out.", |r| r.pace.busy_ns as f64 / SECOND_NS),
    ("weir_shard_longest_turn_seconds", Kind::Gauge, "Longest turn since the start.", |r| r.pace.longest_ns as f64 / SECOND_NS),
    ("weir_shard_received_messages_total", Kind::Counter, "Whole messages taken in.", |r| r.counters.received as f64),
    ("weir_shard_received_bytes_total", Kind::Counter, "Bytes of messages taken in, frame headers included.", |r| r.counters.received_bytes as f64),
    ("weir_shard_acked_messages_total", Kind::Counter, "Messages that an analyzer ACKed.", |r| r.counters.acked as f64),
    ("weir_shard_rerouted_messages_total", Kind::Counter, "Messages given to another analyzer because theirs died.", |r| r.counters.rerouted as f64),
    ("weir_shard_duplicates_possible_total", Kind::Counter, "Re-routed messages that had been sent before.", |r| r.counters.duplicates_possible as f64),
    ("weir_shard_identities_lost_total", Kind::Counter, "Re-routed messages whose duplicate cannot be recognised.", |r| r.counters.identities_lost as f64),
    ("weir_shard_receives_total", Kind::Counter, "Receives that brought emitter data.", |r| r.counters.receives as f64),
    ("weir_shard_sends_total", Kind::Counter, "Sends to analyzers.", |r| r.counters.sends as f64),
    ("weir_shard_sent_bytes_total", Kind::Counter, "Bytes put on the wire to analyzers.", |r| r.counters.sent_bytes as f64),
    ("weir_shard_zero_copy_sends_total", Kind::Counter, "Sends from registered memory.", |r| r.counters.sends_zero_copy as f64),
    ("weir_shard_zero_copy_copied_total", Kind::Counter, "Zero-copy sends that the kernel copied all the same.", |r| r.counters.zero_copy_copied as f64),
    ("weir_shard_batches_handed_over_total", Kind::Counter, "Batches handed to the shard that owns the link.", |r| r.counters.handed_over as f64),
    ("weir_shard_unrouted_bytes", Kind::Gauge, "Bytes read from emitters that wait for room.", |r| r.unrouted_bytes as f64),
    ("weir_shard_stalls_total", Kind::Counter, "Times that receiving stopped because nobody could take more.", |r| r.counters.stalls as f64),
    ("weir_shard_stalled_seconds_total", Kind::Counter, "Time that receiving was stopped; counted when it goes on.", |r| r.counters.stalled_ns as f64 / SECOND_NS),
    ("weir_shard_stalled", Kind::Gauge, "1 while receiving is stopped.", |r| f64::from(u8::from(r.stalled))),
    ("weir_shard_kernel_entries_total", Kind::Counter, "Kernel entries of the data ring.", |r| r.counters.enters as f64),
    ("weir_shard_emitters", Kind::Gauge, "Emitters connected.", |r| r.emitters as f64),
    ("weir_shard_emitters_accepted_total", Kind::Counter, "Emitter connections accepted.", |r| r.counters.emitters_accepted as f64),
    ("weir_shard_links", Kind::Gauge, "Analyzer connections.", |r| r.links as f64),
    ("weir_shard_links_up_total", Kind::Counter, "Analyzer links that came up.", |r| r.counters.links_up as f64),
    ("weir_shard_links_down_total", Kind::Counter, "Analyzer links that went down.", |r| r.counters.links_down as f64),
    ("weir_shard_in_flight_messages", Kind::Gauge, "Messages sent and not ACKed.", |r| r.balance.in_flight as f64),
    ("weir_shard_queued_messages", Kind::Gauge, "Messages not sent.", |r| r.balance.queued as f64),
    ("weir_shard_roster_epoch", Kind::Gauge, "Number of the table of analyzers that it follows.", |r| r.roster.epoch as f64),
    ("weir_shard_tables_total", Kind::Counter, "Changes of weights or membership.", |r| r.table_changes.tables as f64),
    ("weir_shard_availability_changes_total", Kind::Counter, "Windows that became full, or ceased to be.", |r| r.table_changes.availability as f64),
    ("weir_shard_share_bound_messages", Kind::Gauge, "Shares are within this many messages of exact while a table is in force.", |r| 2.0 * r.share_bound),
    ("weir_http_connections", Kind::Gauge, "HTTP clients connected.", |r| r.http.connections as f64),
    ("weir_http_connections_accepted_total", Kind::Counter, "HTTP connections accepted.", |r| r.http.accepted as f64),
    ("weir_http_requests_total", Kind::Counter, "Whole HTTP requests read.", |r| r.http.requests as f64),
    ("weir_http_packets_total", Kind::Counter, "Packets taken in over HTTP.", |r| r.http.packets as f64),
    ("weir_http_messages_total", Kind::Counter, "Messages in them.", |r| r.http.messages as f64),
    ("weir_http_waiting_requests", Kind::Gauge, "Requests that wait for the ACK of their packet.", |r| r.http.waiting as f64),
    ("weir_http_held_bytes", Kind::Gauge, "Bytes of requests not whole and of responses not sent.", |r| r.http.held_bytes as f64),
    ("weir_http_analyzer_posts_in_flight", Kind::Gauge, "POSTs to analyzers over HTTP under way.", |r| r.http_analyzers.iter().map(|a| a.in_flight).sum::<usize>() as f64),
];

/// Numbers of every analyzer.
#[rustfmt::skip]
const ANALYZER: [OfAnalyzer; 17] = [
    ("weir_analyzer_weight", Kind::Gauge, "Weight in the roster.", |a| a.weight),
    ("weir_analyzer_online", Kind::Gauge, "1 while it is in the roster.", |a| f64::from(u8::from(a.is_online()))),
    ("weir_analyzer_pinned", Kind::Gauge, "1 while the operator holds its weight.", |a| f64::from(u8::from(a.pinned))),
    ("weir_analyzer_target_share", Kind::Gauge, "Part of all weights in force, 0 to 1.", |a| a.target_share),
    ("weir_analyzer_assigned_share", Kind::Gauge, "Part of the messages given out in the last 5 s, 0 to 1; NaN when there were none.", |a| a.recent_share.unwrap_or(f64::NAN)),
    ("weir_analyzer_due_share", Kind::Gauge, "Part that was due to it since the start, 0 to 1.", |a| a.share.due_share),
    ("weir_analyzer_real_share", Kind::Gauge, "Part that it was given since the start, 0 to 1.", |a| a.share.real_share),
    ("weir_analyzer_share_error_messages", Kind::Gauge, "Messages given less messages due, since the start.", |a| a.share.share_error),
    ("weir_analyzer_share_error_bound_messages", Kind::Gauge, "What that error may be.", |a| a.share.share_bound),
    ("weir_analyzer_assigned_messages_total", Kind::Counter, "Messages given to it, re-routed ones included.", |a| a.share.assigned as f64),
    ("weir_analyzer_acked_messages_total", Kind::Counter, "Messages that it ACKed.", |a| a.share.acked as f64),
    ("weir_analyzer_in_flight_messages", Kind::Gauge, "Messages sent to it and not ACKed.", |a| a.in_flight as f64),
    ("weir_analyzer_queued_messages", Kind::Gauge, "Messages not sent to it.", |a| a.queued as f64),
    ("weir_analyzer_window_held_bytes", Kind::Gauge, "Arena that its messages hold.", |a| a.held_bytes as f64),
    ("weir_analyzer_window_full_shards", Kind::Gauge, "Shards where its window is full.", |a| a.lanes_full as f64),
    ("weir_analyzer_rerouted_messages_total", Kind::Counter, "Messages taken from it when a link ended.", |a| a.rerouted as f64),
    ("weir_analyzer_consecutive_failures", Kind::Gauge, "POSTs or health checks that failed since one did not.", |a| a.consecutive_failures as f64),
];

/// The whole text.
pub fn render(state: &State, format: Format) -> String {
    let mut out = Exposition::new(format);
    whole(state, &mut out);
    shards(state, &mut out);
    analyzers(state, &mut out);
    out.finish()
}

fn whole(state: &State, out: &mut Exposition) {
    out.family("weir_build_info", Kind::Info, "Version of Weir.");
    out.count(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let unix_s = state.started.unix_ns as f64 / SECOND_NS;
    let balance = &state.totals.balance;
    let flag = |is: bool| f64::from(u8::from(is));
    let gauges: [(&str, &str, f64); 10] = [
        (
            "weir_start_time_seconds",
            "When it started, in seconds since 1970.",
            unix_s,
        ),
        (
            "weir_ready",
            "1 while messages should be sent here.",
            flag(state.unready().is_none()),
        ),
        (
            "weir_shards",
            "Number of shards.",
            state.reports.len() as f64,
        ),
        (
            "weir_analyzers",
            "Analyzers in the roster.",
            state.entries().len() as f64,
        ),
        (
            "weir_conservation_received_messages",
            "Messages taken in: the left side of the law.",
            balance.received as f64,
        ),
        (
            "weir_conservation_acked_messages",
            "Messages ACKed, at the same moment.",
            balance.acked as f64,
        ),
        (
            "weir_conservation_in_flight_messages",
            "Messages sent and not ACKed, at the same moment.",
            balance.in_flight as f64,
        ),
        (
            "weir_conservation_queued_messages",
            "Messages not sent, at the same moment.",
            balance.queued as f64,
        ),
        (
            "weir_conservation_dropped_messages",
            "Messages given up.",
            balance.dropped as f64,
        ),
        (
            "weir_conservation_holds",
            "1: received = acked + in flight + queued + dropped.",
            flag(balance.holds()),
        ),
    ];
    for (name, help, value) in gauges {
        out.family(name, Kind::Gauge, help);
        out.number(&[], value);
    }
    let oldest = state.oldest_ms().map_or(0.0, |ms| {
        (state.now.unix_ns as f64 / SECOND_NS - ms as f64 / 1e3).max(0.0)
    });
    out.family(
        "weir_oldest_message_seconds",
        Kind::Gauge,
        "How long the oldest message without an ACK has been in its lane; 0: there is none.",
    );
    out.number(&[], oldest);
}

fn shards(state: &State, out: &mut Exposition) {
    let names: Vec<String> = state
        .reports
        .iter()
        .map(|report| report.shard.to_string())
        .collect();
    for (name, kind, help, number) in SHARD {
        out.family(name, kind, help);
        for (shard, report) in names.iter().zip(&state.reports) {
            out.number(&[("shard", shard)], number(report));
        }
    }
    let arena: [(&str, &str, fn(&ShardReport) -> usize); 3] = [
        (
            "weir_shard_arena_free_bytes",
            "Egress arena that is free.",
            |r| r.buffers.0,
        ),
        (
            "weir_shard_arena_free_min_bytes",
            "Least of it that ever was free.",
            |r| r.buffers.1,
        ),
        ("weir_shard_arena_bytes", "Egress arena in all.", |r| {
            r.buffers.2
        }),
    ];
    for (name, help, buffers) in arena {
        out.family(name, Kind::Gauge, help);
        for (shard, report) in names.iter().zip(&state.reports) {
            let bytes = buffers(report) as u64 * state.buffer_bytes;
            out.count(&[("shard", shard)], bytes);
        }
    }
    out.family(
        "weir_shard_refused_total",
        Kind::Counter,
        "Connections refused or closed and words ignored, by reason.",
    );
    for (shard, report) in names.iter().zip(&state.reports) {
        for reason in Reason::ALL {
            out.count(
                &[("shard", shard), ("reason", reason.as_str())],
                report.counters.of(reason),
            );
        }
    }
    out.family(
        "weir_http_responses_total",
        Kind::Counter,
        "HTTP responses, by status.",
    );
    for (shard, report) in names.iter().zip(&state.reports) {
        for (status, count) in &report.http.responses {
            out.count(&[("shard", shard), ("status", &status.to_string())], *count);
        }
    }
    out.family(
        "weir_http_refused_total",
        Kind::Counter,
        "HTTP requests and connections refused, by reason.",
    );
    for (shard, report) in names.iter().zip(&state.reports) {
        for (reason, count) in &report.http.refused {
            out.count(&[("shard", shard), ("reason", reason)], *count);
        }
    }
}

fn analyzers(state: &State, out: &mut Exposition) {
    let is_shown = |row: &&Row| {
        let is_there = !matches!(row.standing, Standing::Offline | Standing::Rerouting);
        is_there || row.kind == Reach::Http && row.endpoint.is_some()
    };
    let rows: Vec<&Row> = state.rows.iter().filter(is_shown).collect();
    let shown = &rows[..rows.len().min(ANALYZERS_MAX)];
    out.family(
        "weir_analyzers_without_series",
        Kind::Gauge,
        "Analyzers beyond those that have series here.",
    );
    out.count(&[], (rows.len() - shown.len()) as u64);
    for (name, kind, help, number) in ANALYZER {
        out.family(name, kind, help);
        for row in shown {
            out.number(&[("analyzer", &row.id)], number(row));
        }
    }
    posts(state, shown, out);
    out.family(
        "weir_analyzer_ack_latency_seconds",
        Kind::Histogram,
        "Time from the send of a message to its ACK.",
    );
    let limits = BUCKETS_US.map(|us| us as f64 / 1e6);
    for row in shown {
        let labels: Labels = &[("analyzer", &row.id)];
        out.histogram(labels, &limits, &row.latencies.counts, row.latencies.sum_s);
    }
}

/// Analyzers over HTTP; their shards' counts begin anew when they come back.
fn posts(state: &State, shown: &[&Row], out: &mut Exposition) {
    let sums: Vec<(&Row, u64, u64)> = shown
        .iter()
        .filter(|row| row.kind == Reach::Http)
        .map(|row| {
            let analyzer = state.entry(&row.id).map(|entry| entry.analyzer);
            let shards = state
                .reports
                .iter()
                .flat_map(|report| &report.http_analyzers);
            let mine = shards.filter(|http| Some(http.analyzer) == analyzer);
            mine.fold((*row, 0, 0), |sum, http| {
                (*row, sum.1 + http.posts, sum.2 + http.failures)
            })
        })
        .collect();
    out.family(
        "weir_analyzer_posts_total",
        Kind::Counter,
        "POSTs sent to an analyzer over HTTP.",
    );
    for (row, posts, _) in &sums {
        out.count(&[("analyzer", &row.id)], *posts);
    }
    out.family(
        "weir_analyzer_post_failures_total",
        Kind::Counter,
        "POSTs to it that failed.",
    );
    for (row, _, failures) in &sums {
        out.count(&[("analyzer", &row.id)], *failures);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Instant;

    use super::super::fake::Fake;
    use super::*;
    use crate::control::state::HttpStatus;

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
        state.http.push(HttpStatus {
            id: "h1".into(),
            endpoint: "http://h1:1".into(),
            weight: 1.0,
            is_healthy: None,
            last_health_check: None,
            consecutive_failures: 4,
            ejected: false,
            error: None,
        });
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
            state.note(super::super::fake::at(6000 + n * 500), reports);
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
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        std::fs::read_to_string(root.join(path)).expect(path)
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
        let alerts = deployed("prometheus/alerts.yml");
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
}
