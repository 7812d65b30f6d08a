//! What a shard tells of itself, about ten times a second: counters, and handles to what is large. Latencies are
//! shared with the lanes, not copied (`engine/latencies.rs`).

use std::sync::Arc;

use super::context::Context;
use super::http_in::Clients;
use super::http_out::HttpEgress;
use super::intake::Intake;
use super::links::Links;
use super::membership::Membership;
use super::outlets::Outlets;
use super::port::Io;
use super::shared::{Pace, ShardReport};
use super::tap::TappedMessage;

/// How fast the event loop turns; the rest of a report is read from the parts.
#[derive(Default)]
pub(super) struct Report {
    pace: Pace,
}

/// Where a report's figures are.
pub(super) struct Parts<'a, I: Io> {
    pub(super) intake: &'a Intake<I>,
    pub(super) links: &'a Links<I>,
    pub(super) clients: &'a Clients<I>,
    pub(super) posts: &'a HttpEgress<I>,
    pub(super) outlets: &'a Outlets<I>,
    pub(super) membership: &'a Membership,
}

impl Report {
    /// A turn is over.
    pub(super) fn note_turn<I: Io>(&mut self, cx: &Context<I>) {
        let turn_ns = cx.io.now_ns().saturating_sub(cx.now_ns);
        self.pace.turns += 1;
        self.pace.busy_ns += turn_ns;
        self.pace.longest_ns = self.pace.longest_ns.max(turn_ns);
    }

    /// The state of the shard.
    pub(super) fn of<I: Io>(&self, cx: &mut Context<I>, parts: &Parts<I>) -> ShardReport {
        cx.engine.counters.enters = cx.io.enters();
        ShardReport {
            shard: cx.index,
            balance: cx.engine.balance(),
            counters: cx.engine.counters.clone(),
            lanes: cx.engine.lane_reports().collect(),
            accounts: cx.engine.accounts(),
            ended: cx.engine.ended().copied().collect(),
            table_changes: cx.engine.table_changes(),
            roster: Arc::clone(&cx.roster),
            roster_applied_ns: parts.membership.applied_ns,
            kept: parts.membership.kept(),
            analyzers_max: cx.analyzers_max(),
            emitters: parts.intake.connected(),
            inputs: parts
                .intake
                .inputs(|slot| cx.engine.units_open(slot.index())),
            emitters_answered: parts.intake.answered(),
            ack_units: cx.engine.units_open_of_all(),
            links: parts.links.count(),
            links_unread_bytes: parts.links.unread_bytes(),
            buffers: cx.engine.buffers(),
            unrouted_bytes: parts.intake.pending_bytes(),
            unfinished_emitters: parts.intake.unfinished(),
            stalled: parts.intake.is_stalled(),
            share_bound: cx.engine.share_bound(),
            share_bound_max: cx.engine.share_bound_max(),
            pace: self.pace,
            tls: cx.io.tls_counts(),
            http: parts.clients.report(cx.engine.receipts_waiting()),
            http_analyzers: [parts.posts.reports(), parts.outlets.reports()].concat(),
        }
    }
}

/// Hands on the messages that were sampled since the last time, and asks for more; see `tap.rs`.
pub(super) fn serve_tap<I: Io>(cx: &mut Context<I>, membership: &Membership) {
    let wanted = cx.shared.tap.samples(cx.config.shards);
    let samples = cx.engine.take_samples(wanted);
    if samples.is_empty() || wanted == 0 {
        return;
    }
    let (at_ms, shard) = (cx.io.unix_ms(), cx.index);
    let passed = samples.into_iter().map(|sample| TappedMessage {
        at_ms,
        shard,
        analyzer: membership.name_of(sample.analyzer),
        severity: sample.severity,
        bytes: sample.bytes,
        payload: sample.payload,
        about: sample.about,
    });
    cx.shared.tap.push(passed);
}
