//! `/metrics`: what is counted, under names that stay.
//!
//! ```text
//! weir_*            the whole distributor: build, start, the law
//! weir_shard_*      {shard}
//! weir_input_*      {input}: the port of --emitters and the inputs, all shards together
//! weir_tls_*        {port}: where TLS is spoken, all shards together; {analyzer}: certificates towards it
//! weir_analyzer_*   {analyzer}: those of the roster and those over HTTP that are configured
//! ```
//!
//! Base units, counters end in `_total`. Series are bounded: [`ANALYZERS_MAX`] analyzers, a fixed set of
//! reasons and states. An analyzer that left has no series; what it had is in its shards' counters.

use super::exposition::{Exposition, Format, Kind, Labels};
use super::inputs::{self, InputRow};
use super::posts::PostCounts;
use super::row::{Kind as Reach, Row, Standing};
use super::state::State;
use super::tls::{self, TlsRow};
use super::track::BUCKETS_US;
use weir_engine::Reason;
use weir_shard::ShardReport;
use weir_streams as streams;

/// Analyzers with series of their own, in the order of their names.
pub const ANALYZERS_MAX: usize = 256;

type OfShard = (&'static str, Kind, &'static str, fn(&ShardReport) -> f64);
type Arena = (&'static str, &'static str, fn(&ShardReport) -> usize);
type OfAnalyzer = (&'static str, Kind, &'static str, fn(&Row) -> f64);

type OfInput = (&'static str, Kind, &'static str, fn(&InputRow) -> u64);
type OfPort = (&'static str, Kind, &'static str, fn(&TlsRow) -> u64);

const SECOND_NS: f64 = 1e9;

/// Numbers of every shard.
#[rustfmt::skip]
const SHARD: &[OfShard] = &[
    ("weir_shard_turns_total", Kind::Counter, "Turns of the event loop.", |r| r.pace.turns as f64),
    ("weir_shard_busy_seconds_total", Kind::Counter, "Time spent in turns, waits left out.", |r| r.pace.busy_ns as f64 / SECOND_NS),
    ("weir_shard_longest_turn_seconds", Kind::Gauge, "Longest turn since the start.", |r| r.pace.longest_ns as f64 / SECOND_NS),
    ("weir_shard_received_messages_total", Kind::Counter, "Whole messages taken in.", |r| r.counters.received as f64),
    ("weir_shard_received_bytes_total", Kind::Counter, "Bytes of messages taken in, frame headers included.", |r| r.counters.received_bytes as f64),
    ("weir_shard_acked_messages_total", Kind::Counter, "Messages that an analyzer ACKed.", |r| r.counters.acked as f64),
    ("weir_shard_rerouted_messages_total", Kind::Counter, "Messages given to another analyzer because theirs died.", |r| r.counters.rerouted as f64),
    ("weir_shard_duplicates_possible_total", Kind::Counter, "Re-routed messages that had been sent before, messages posted again for want of an answer, and messages that their emitter had sent before.", |r| r.counters.duplicates_possible as f64),
    ("weir_shard_resent_messages_total", Kind::Counter, "Messages that their emitter had sent before, here or to another distributor.", |r| r.counters.resent as f64),
    ("weir_shard_answers_total", Kind::Counter, "Sends that ACKed emitters' batches.", |r| r.counters.answers as f64),
    ("weir_shard_emitters_acked", Kind::Gauge, "Emitters that get ACKs.", |r| r.emitters_answered as f64),
    ("weir_shard_ack_units_open", Kind::Gauge, "Batches of emitters that are not ACKed to them.", |r| r.ack_units as f64),
    ("weir_shard_presumed_total", Kind::Counter, "Messages whose senders were answered although their analyzer had not ACKed them (--ack-presume).", |r| r.counters.presumed as f64),
    ("weir_shard_joined_total", Kind::Counter, "Messages of units sent again while the first were un-ACKed: not routed twice.", |r| r.counters.joined as f64),
    ("weir_shard_identities_lost_total", Kind::Counter, "Re-routed messages whose duplicate cannot be recognised.", |r| r.counters.identities_lost as f64),
    ("weir_shard_pieces_lost_total", Kind::Counter, "Messages of packets that an HTTP analyzer would get as text after a re-route.", |r| r.counters.pieces_lost as f64),
    ("weir_shard_receives_total", Kind::Counter, "Receives that brought emitter data.", |r| r.counters.receives as f64),
    ("weir_shard_sends_total", Kind::Counter, "Sends to analyzers.", |r| r.counters.sends as f64),
    ("weir_shard_sent_bytes_total", Kind::Counter, "Bytes put on the wire to analyzers.", |r| r.counters.sent_bytes as f64),
    ("weir_shard_zero_copy_sends_total", Kind::Counter, "Sends from registered memory.", |r| r.counters.sends_zero_copy as f64),
    ("weir_shard_zero_copy_copied_total", Kind::Counter, "Zero-copy sends that the kernel copied all the same.", |r| r.counters.zero_copy_copied as f64),
    ("weir_shard_batches_forwarded_total", Kind::Counter, "Batches forwarded to the shard that owns the link.", |r| r.counters.forwarded as f64),
    ("weir_shard_batches_handed_over_total", Kind::Counter, "Old name of weir_shard_batches_forwarded_total.", |r| r.counters.forwarded as f64),
    ("weir_shard_unrouted_bytes", Kind::Gauge, "Bytes read from emitters that wait for room.", |r| r.unrouted_bytes as f64),
    ("weir_shard_stalls_total", Kind::Counter, "Times that receiving stopped because nobody could take more.", |r| r.counters.stalls as f64),
    ("weir_shard_stalled_seconds_total", Kind::Counter, "Time that receiving was stopped; counted when it goes on.", |r| r.counters.stalled_ns as f64 / SECOND_NS),
    ("weir_shard_stalled", Kind::Gauge, "1 while receiving is stopped.", |r| f64::from(u8::from(r.stalled))),
    ("weir_shard_kernel_entries_total", Kind::Counter, "Kernel entries of the data ring.", |r| r.counters.enters as f64),
    ("weir_shard_emitters", Kind::Gauge, "Emitters connected.", |r| r.emitters as f64),
    ("weir_shard_emitters_accepted_total", Kind::Counter, "Emitter connections accepted.", |r| r.counters.emitters_accepted as f64),
    ("weir_shard_farewells_total", Kind::Counter, "Emitter connections that were asked to finish and close.", |r| r.counters.farewells as f64),
    ("weir_shard_farewells_at_age_total", Kind::Counter, "Of them: because of --max-connection-age.", |r| r.counters.farewells_at_age as f64),
    ("weir_shard_links", Kind::Gauge, "Analyzer connections.", |r| r.links as f64),
    ("weir_shard_analyzers_max", Kind::Gauge, "Most analyzers that it serves: memory (--arena) and descriptors.", |r| r.analyzers_max.0 as f64),
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
    ("weir_http_farewells_at_age_total", Kind::Counter, "HTTP connections asked to go because of --max-connection-age.", |r| r.http.farewells_at_age as f64),
    ("weir_http_requests_total", Kind::Counter, "Whole HTTP requests read.", |r| r.http.requests as f64),
    ("weir_http_packets_total", Kind::Counter, "Packets taken in over HTTP.", |r| r.http.packets as f64),
    ("weir_http_divided_packets_total", Kind::Counter, "Of them: whose messages went their own ways (split).", |r| r.http.divided as f64),
    ("weir_http_messages_total", Kind::Counter, "Messages in packets taken in over HTTP.", |r| r.http.messages as f64),
    ("weir_http_unknown_levels_total", Kind::Counter, "Messages over HTTP with a level that is not known, taken as info.", |r| r.http.unknown_levels as f64),
    ("weir_http_surrogates_repaired_total", Kind::Counter, "Lone surrogates in packets that were replaced by U+FFFD.", |r| r.http.surrogates_repaired as f64),
    ("weir_http_states_left_out_total", Kind::Counter, "States of event streams left out for clients that had not taken the one before.", |r| r.http.states_left_out as f64),
    ("weir_http_waiting_requests", Kind::Gauge, "Requests that wait for the ACK of their packet.", |r| r.http.waiting as f64),
    ("weir_http_held_bytes", Kind::Gauge, "Bytes of requests not whole, of responses not sent, and of those not read.", |r| r.http.held_bytes as f64),
    ("weir_http_unread_bytes", Kind::Gauge, "Of them: of responses that the kernel has and clients have not read.", |r| r.http.unread_bytes as f64),
    ("weir_shard_links_unread_bytes", Kind::Gauge, "Bytes that the kernel has for analyzers and that they have not read; bounded by the arena.", |r| r.links_unread_bytes as f64),
    ("weir_http_analyzer_posts_in_flight", Kind::Gauge, "POSTs to analyzers over HTTP under way.", |r| r.http_analyzers.iter().map(|a| a.in_flight).sum::<usize>() as f64),
];

/// Numbers of every analyzer.
#[rustfmt::skip]
const ANALYZER: [OfAnalyzer; 18] = [
    ("weir_analyzer_weight", Kind::Gauge, "Weight; during a slow start what that leads to.", |a| a.weight),
    ("weir_analyzer_weight_in_force", Kind::Gauge, "Weight in the roster, also while it is on its way.", |a| a.ramp_weight.unwrap_or(a.weight)),
    ("weir_analyzer_online", Kind::Gauge, "1 while it is in the roster.", |a| f64::from(u8::from(a.is_online()))),
    ("weir_analyzer_pinned", Kind::Gauge, "1 while the operator or the configuration holds its weight.", |a| f64::from(u8::from(a.pinned))),
    ("weir_analyzer_target_share", Kind::Gauge, "Part of all weights in force, 0 to 1.", |a| a.target_share),
    ("weir_analyzer_assigned_share", Kind::Gauge, "Part of the messages given out in the last 5 s, 0 to 1; no sample when there were none.", |a| a.recent_share.unwrap_or(f64::NAN)),
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
    inputs(state, &mut out);
    tls(state, &mut out);
    analyzers(state, &mut out);
    groups(state, &mut out);
    out.finish()
}

/// Groups of analyzers over HTTP: 32 at most.
fn groups(state: &State, out: &mut Exposition) {
    out.family(
        "weir_http_group_members",
        Kind::Gauge,
        "Members of a group of analyzers over HTTP: found by its name, taken and checked, up.",
    );
    for group in &state.groups {
        let states = [
            ("found", group.found),
            ("taken", group.taken),
            ("up", group.up),
        ];
        for (name, count) in states {
            out.count(&[("group", &group.id), ("state", name)], count as u64);
        }
    }
}

fn whole(state: &State, out: &mut Exposition) {
    out.family("weir_build_info", Kind::Info, "Version of Weir.");
    out.count(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let unix_s = state.started.unix_ns as f64 / SECOND_NS;
    let balance = &state.totals.balance;
    let flag = |is: bool| f64::from(u8::from(is));
    let kept = state.reports.iter().map(|report| report.kept);
    let (pins, drains) = kept.fold((0, 0), |sum, kept| (sum.0 + kept.0, sum.1 + kept.1));
    let gauges: [(&str, &str, f64); 15] = [
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
            "weir_pins_kept",
            "Weights that the operator pinned, also of analyzers that are away; 4,096 at most.",
            pins as f64,
        ),
        (
            "weir_drains_kept",
            "Analyzers that the operator drained, also those that are away; 4,096 at most.",
            drains as f64,
        ),
        (
            "weir_weights_digest",
            "First 48 bits of a hash of ids, weights in force and pins: the same on all replicas that divide alike.",
            state.weights_digest as f64,
        ),
        (
            "weir_weights_wanted",
            "Weights that the configuration wants; 4,096 at most.",
            state.wanted.len() as f64,
        ),
        (
            "weir_config_last_reload_successful",
            "0: the configuration was not taken when it was read last, and what was in force stays.",
            flag(state.config_problem.is_none()),
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
    let log_lines: [(&str, &str, u64); 2] = [
        (
            "weir_log_lines_dropped_total",
            "Log lines that were dropped, because nobody read stderr fast enough or it could not be written.",
            streams::dropped_lines(),
        ),
        (
            "weir_log_lines_not_repeated_total",
            "Log lines that were only counted, because many like them had been written just before.",
            streams::hidden_lines(),
        ),
    ];
    for (name, help, count) in log_lines {
        out.family(name, Kind::Counter, help);
        out.count(&[], count);
    }
    dead_letters(state, out);
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

/// Packets that nobody took and that are in no file, under their names and those that they had before 0.2.
fn dead_letters(state: &State, out: &mut Exposition) {
    let counts = &state.refused;
    #[rustfmt::skip]
    let families: [[&'static str; 2]; 6] = [
        ["weir_dead_letter_packets", "weir_refused_packets"],
        ["weir_dead_letter_messages", "weir_refused_messages"],
        ["weir_dead_letter_bytes", "weir_refused_bytes"],
        ["weir_dead_letter_bytes_max", "weir_refused_bytes_max"],
        ["weir_dead_letter_forgotten_packets_total", "weir_refused_forgotten_packets_total"],
        ["weir_dead_letter_forgotten_messages_total", "weir_refused_forgotten_messages_total"],
    ];
    #[rustfmt::skip]
    let numbers: [(Kind, &str, u64); 6] = [
        (Kind::Gauge, "Packets that every analyzer over HTTP refused and that are kept in memory.", counts.packets as u64),
        (Kind::Gauge, "Messages in them.", counts.messages),
        (Kind::Gauge, "Memory that they take.", counts.bytes as u64),
        (Kind::Gauge, "What they may take: --dead-letter-memory.", counts.bytes_max as u64),
        (Kind::Counter, "Of such packets: those that had to go because that memory was full.", counts.forgotten),
        (Kind::Counter, "Messages in those.", counts.forgotten_messages),
    ];
    for ([name, _], (kind, help, number)) in families.into_iter().zip(numbers) {
        out.family(name, kind, help);
        out.count(&[], number);
    }
    for ([name, old], (kind, _, number)) in families.into_iter().zip(numbers) {
        out.family(old, kind, &format!("Old name of {name}."));
        out.count(&[], number);
    }
}

fn shards(state: &State, out: &mut Exposition) {
    let names: Vec<String> = state
        .reports
        .iter()
        .map(|report| report.shard.to_string())
        .collect();
    for (name, kind, help, number) in SHARD.iter().copied() {
        out.family(name, kind, help);
        for (shard, report) in names.iter().zip(&state.reports) {
            out.number(&[("shard", shard)], number(report));
        }
    }
    let arena: [Arena; 3] = [
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
        for reason in Reason::ALL.iter().copied() {
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

/// Numbers of every place where emitters connect.
#[rustfmt::skip]
const INPUT: [OfInput; 6] = [
    ("weir_input_connections", Kind::Gauge, "Emitters connected at this input; emitters: the port of --emitters.", |i| i.connections as u64),
    ("weir_input_accepted_total", Kind::Counter, "Connections accepted there.", |i| i.accepted),
    ("weir_input_messages_total", Kind::Counter, "Whole messages taken in there.", |i| i.messages),
    ("weir_input_bytes_total", Kind::Counter, "Bytes of them, frame headers included.", |i| i.bytes),
    ("weir_input_ack_units_open", Kind::Gauge, "Ack units of its emitters that are not answered.", |i| i.units_open as u64),
    ("weir_input_answers_total", Kind::Counter, "Sends of acks to its emitters.", |i| i.answers),
];

/// At most 33, see `INPUTS_MAX`; of reasons those that came.
fn inputs(state: &State, out: &mut Exposition) {
    let rows = inputs::rows(state);
    for (name, kind, help, number) in INPUT {
        out.family(name, kind, help);
        for row in &rows {
            out.count(&[("input", &row.name)], number(row));
        }
    }
    out.family(
        "weir_input_lost_before_receipt_total",
        Kind::Counter,
        "Datagrams that the kernel dropped before the distributor could read them (transport = \"udp\").",
    );
    for row in &rows {
        if let Some(lost) = row.lost {
            out.count(&[("input", &row.name)], lost);
        }
    }
    out.family(
        "weir_input_refused_total",
        Kind::Counter,
        "Connections refused or closed there and datagrams skipped, by reason.",
    );
    for row in &rows {
        for (reason, count) in &row.refused {
            out.count(&[("input", &row.name), ("reason", reason)], *count);
        }
    }
}

/// Numbers of every port where TLS is spoken.
#[rustfmt::skip]
const TLS: [OfPort; 4] = [
    ("weir_tls_handshakes_under_way", Kind::Gauge, "Connections whose handshake is not done; the shard does not have them yet.", |t| t.under_way),
    ("weir_tls_handshakes_total", Kind::Counter, "Handshakes that were done.", |t| t.established),
    ("weir_tls_resumed_total", Kind::Counter, "Of them: shortened by a ticket.", |t| t.resumed),
    ("weir_tls_truncated_total", Kind::Counter, "Streams that ended without close_notify: perhaps somebody has cut them.", |t| t.truncated),
];

/// None where TLS is not spoken.
fn tls(state: &State, out: &mut Exposition) {
    let rows = tls::rows(state);
    if !rows.is_empty() {
        ports(&rows, out);
    }
    let links = &state.link_certificates;
    if rows.is_empty() && links.is_empty() {
        return;
    }
    out.family(
        "weir_tls_certificate_expires_seconds",
        Kind::Gauge,
        "When each certificate ends that is shown at a port, shown to an analyzer or trusted of it, in seconds since 1970.",
    );
    for row in &rows {
        for (serial, not_after) in &row.certificates {
            let labels = [("port", &row.port[..]), ("serial", serial)];
            out.number(&labels, *not_after as f64);
        }
    }
    for (analyzer, certificates) in links {
        for one in certificates {
            let (option, serial) = (one.option, &one.serial[..]);
            let labels = [
                ("analyzer", &analyzer[..]),
                ("option", option),
                ("serial", serial),
            ];
            out.number(&labels, one.not_after as f64);
        }
    }
}

fn ports(rows: &[TlsRow], out: &mut Exposition) {
    for (name, kind, help, number) in TLS {
        out.family(name, kind, help);
        for row in rows {
            out.count(&[("port", &row.port)], number(row));
        }
    }
    out.family(
        "weir_tls_refused_total",
        Kind::Counter,
        "Connections that came to nothing over TLS, by reason.",
    );
    for row in rows {
        for (reason, count) in &row.refused {
            out.count(&[("port", &row.port), ("reason", reason)], *count);
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
    out.family(
        "weir_analyzer_info",
        Kind::Gauge,
        "1; what it speaks, and what its ACKs prove: durable, they are on a disk; acked, it has the messages; weak, its kernel has them. Whom its certificate names, if it has shown one.",
    );
    for row in shown {
        let mut labels = vec![
            ("analyzer", &*row.id),
            ("protocol", row.protocol),
            ("acks", row.acks),
        ];
        // Who has shown none has no such label: an empty one is the same in Prometheus.
        labels.extend(row.certificate.as_deref().map(|name| ("certificate", name)));
        out.count(&labels, 1);
    }
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

/// Analyzers over HTTP.
fn posts(state: &State, shown: &[&Row], out: &mut Exposition) {
    let sums: Vec<(&Row, PostCounts)> = shown
        .iter()
        .filter(|row| row.kind == Reach::Http)
        .map(|row| (*row, state.posts.of(&row.id)))
        .collect();
    out.family(
        "weir_analyzer_posts_total",
        Kind::Counter,
        "POSTs sent to an analyzer over HTTP.",
    );
    for (row, sum) in &sums {
        out.count(&[("analyzer", &row.id)], sum.sent);
    }
    out.family(
        "weir_analyzer_post_failures_total",
        Kind::Counter,
        "POSTs to it that failed.",
    );
    for (row, sum) in &sums {
        out.count(&[("analyzer", &row.id)], sum.failed);
    }
    out.family(
        "weir_analyzer_post_refusals_total",
        Kind::Counter,
        "POSTs to it that it refused for good, set aside.",
    );
    for (row, sum) in &sums {
        out.count(&[("analyzer", &row.id)], sum.refused);
    }
    out.family(
        "weir_analyzer_ejections_total",
        Kind::Counter,
        "Times that it was taken out for a while because it refused everything.",
    );
    for (row, _) in &sums {
        let status = state.http.iter().find(|status| status.id == row.id);
        let ejections = status.map_or(0, |status| status.ejections);
        out.count(&[("analyzer", &row.id)], ejections);
    }
}

#[cfg(test)]
mod tests;
