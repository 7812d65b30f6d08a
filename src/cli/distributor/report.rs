//! The last lines of a distributor: what was counted, and whether the books balance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::control::view::books;
use crate::engine::{Balance, Counters, Reason};
use crate::shard::ShardReport;
use crate::streams;

/// Lines about shares at exit; a run report has all.
const SHARES_PRINTED_MAX: usize = 64;

/// Adds a line; a String takes all.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { let _ = writeln!($out, $($arg)*); };
}

/// What none of the books has, of all shards.
struct Left {
    balance: Balance,
    unrouted: u64,
    unfinished: u64,
}

impl Left {
    fn of(reports: &[ShardReport]) -> Left {
        let mut balance = Balance::default();
        for report in reports {
            balance.add(&report.balance);
        }
        Left {
            balance,
            unrouted: reports.iter().map(|report| report.unrouted_bytes).sum(),
            unfinished: reports
                .iter()
                .map(|report| report.unfinished_emitters)
                .sum(),
        }
    }

    fn is_nothing(&self) -> bool {
        self.balance.open() + self.unrouted + self.unfinished == 0
    }
}

/// What the books deserve: 0 all is ACKed, 1 they do not balance, 3 something was left.
pub(super) fn status(reports: &[ShardReport]) -> ExitCode {
    let left = Left::of(reports);
    match (left.balance.holds(), left.is_nothing()) {
        (false, _) => ExitCode::from(1),
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(3),
    }
}

/// The lines.
pub(super) fn text(reports: &[ShardReport]) -> String {
    let mut out = String::new();
    let mut counters = Counters::default();
    for report in reports {
        counters.add(&report.counters);
    }
    write_counters(&mut out, &counters);
    write_inputs(&mut out, reports);
    let shares = books::ledger(reports).analyzers;
    for share in shares.iter().take(SHARES_PRINTED_MAX) {
        line!(
            out,
            "share {}: {:.3} % of {:.3} % due, {} messages, off by {:+.2} (bound {:.2})",
            share.analyzer.escape_debug(),
            share.real_share * 100.0,
            share.target_share * 100.0,
            share.assigned,
            share.error,
            share.bound,
        );
    }
    if shares.len() > SHARES_PRINTED_MAX {
        let more = shares.len() - SHARES_PRINTED_MAX;
        line!(out, "share of {more} more analyzers: see --report");
    }
    for (lines, number) in [
        ("dropped", streams::dropped_lines()),
        ("not repeated", streams::hidden_lines()),
    ] {
        if number > 0 {
            line!(out, "log lines {lines} {number}");
        }
    }
    let left = Left::of(reports);
    line!(out, "{}", left.balance);
    if left.balance.holds() && !left.is_nothing() {
        line!(
            out,
            "abandoned: {} sent and not acknowledged, {} not sent, {} bytes read and not routed, {} emitters that had closed not read to their end",
            left.balance.in_flight,
            left.balance.queued,
            left.unrouted,
            left.unfinished,
        );
    }
    out
}

/// What each place took in and refused, where there is more than the port of `--emitters`.
fn write_inputs(out: &mut String, reports: &[ShardReport]) {
    let places = reports.iter().map(|report| report.inputs.len());
    let places = places.max().unwrap_or_default();
    for place in (0..places).filter(|_| places > 1) {
        let of_place = || reports.iter().filter_map(|report| report.inputs.get(place));
        let name = of_place().next().map_or("", |input| &*input.name);
        let mut refused = BTreeMap::new();
        for (reason, count) in of_place().flat_map(|input| &input.refused) {
            *refused.entry(reason.as_str()).or_insert(0) += count;
        }
        let refused: Vec<String> = refused
            .into_iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        line!(
            out,
            "input {}: {} connections, {} messages, {} bytes, {} units unanswered; refused: {}",
            name.escape_debug(),
            of_place().map(|input| input.accepted).sum::<u64>(),
            of_place().map(|input| input.messages).sum::<u64>(),
            of_place().map(|input| input.bytes).sum::<u64>(),
            of_place().map(|input| input.units_open).sum::<usize>(),
            match refused.is_empty() {
                true => "none".to_owned(),
                false => refused.join(", "),
            },
        );
    }
}

fn write_counters(out: &mut String, counters: &Counters) {
    line!(
        out,
        "emitters {}, bytes received {}, receives {}, stalls {} ({:.3} s)",
        counters.emitters_accepted,
        counters.received_bytes,
        counters.receives,
        counters.stalls,
        counters.stalled_ns as f64 / 1e9,
    );
    line!(
        out,
        "links up {} and down {}, re-routed {} (duplicates possible {}, identities lost {}), batches forwarded {}",
        counters.links_up,
        counters.links_down,
        counters.rerouted,
        counters.duplicates_possible,
        counters.identities_lost,
        counters.forwarded,
    );
    line!(
        out,
        "sends {} ({} zero-copy, {} of them copied), kernel entries {}",
        counters.sends,
        counters.sends_zero_copy,
        counters.zero_copy_copied,
        counters.enters,
    );
    if counters.lost_before_receipt > 0 {
        line!(
            out,
            "lost before receipt {} (datagrams that the kernel dropped)",
            counters.lost_before_receipt
        );
    }
    for reason in Reason::ALL
        .iter()
        .copied()
        .filter(|reason| counters.of(*reason) > 0)
    {
        line!(out, "{} {}", reason.as_str(), counters.of(reason));
    }
}
