//! The books of a distributor, from its shards' reports.
//!
//! Every shard's own books balance at every moment, and no message is in the books of two shards: a
//! batch that is handed to the shard which owns the link stays in the books of the shard that took its
//! messages in. So the sum balances too, although the reports are from different moments.

use std::collections::BTreeMap;

use weir_config::Config;
use weir_engine::{Balance, Reason};
use weir_ledger::run_report::{
    configuration_digest, Books, Distributor, Ending, Heading, Kind, Ledger, LinkBooks, Outcome,
    Run, ShardBooks, Share, Stamp,
};
use weir_shard::ShardReport;

/// What the end of a run adds to its books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// When the run began.
    pub started: Stamp,
    /// A second signal ended it.
    pub at_once: bool,
    /// A shard failed.
    pub failed: bool,
}

/// The law, over the sum of all shards.
///
/// # Errors
/// It does not hold: both sides of it.
pub fn check_law(shards: &[Balance]) -> Result<Balance, Balance> {
    let mut balance = Balance::default();
    for shard in shards {
        balance.add(shard);
    }
    let all_hold = shards.iter().all(Balance::holds);
    if all_hold && balance.holds() {
        Ok(balance)
    } else {
        Err(balance)
    }
}

/// The ledger at this moment. The same for a run that goes on and for its run report.
pub fn ledger(reports: &[ShardReport]) -> Ledger {
    let shards: Vec<ShardBooks> = reports.iter().map(shard_books).collect();
    let mut total = Books::default();
    for shard in &shards {
        total.add(&shard.books);
    }
    Ledger {
        total,
        shards,
        analyzers: shares(reports),
        links: links(reports),
    }
}

/// The run report of a run that has ended.
pub fn run_report(config: &Config, reports: &[ShardReport], closing: Closing) -> Distributor {
    let ledger = ledger(reports);
    let unrouted_bytes = reports.iter().map(|report| report.unrouted_bytes).sum();
    let unfinished_emitters = reports
        .iter()
        .map(|report| report.unfinished_emitters)
        .sum();
    let open = ledger.total.in_flight + ledger.total.queued;
    let is_empty = open + unrouted_bytes + unfinished_emitters == 0;
    let outcome = match closing {
        Closing { failed: true, .. } => Outcome::Failed,
        _ if is_empty => Outcome::Clean,
        Closing { at_once: true, .. } => Outcome::EndedAtOnce,
        _ => Outcome::Abandoned,
    };
    let configuration = config.texts();
    Distributor {
        heading: Heading::new(Kind::Distributor),
        run: Run::until_now(closing.started),
        instance: format!("{:016x}", config.instance),
        configuration_sha256: configuration_digest(&configuration),
        configuration,
        ending: Ending {
            outcome,
            abandoned_in_flight: ledger.total.in_flight,
            abandoned_queued: ledger.total.queued,
            unrouted_bytes,
            unfinished_emitters,
        },
        ledger,
    }
}

fn shard_books(report: &ShardReport) -> ShardBooks {
    let (balance, counters) = (&report.balance, &report.counters);
    let counted = Reason::ALL
        .iter()
        .filter(|reason| counters.of(**reason) > 0);
    let refused = counted.map(|reason| (reason.as_str().to_owned(), counters.of(*reason)));
    let dropped = (balance.dropped > 0).then(|| {
        (
            Reason::RefusedByAnalyzer.as_str().to_owned(),
            balance.dropped,
        )
    });
    ShardBooks {
        shard: report.shard,
        books: Books {
            received: balance.received,
            received_bytes: counters.received_bytes,
            acked: balance.acked,
            in_flight: balance.in_flight,
            queued: balance.queued,
            dropped: dropped.into_iter().collect(),
            rerouted: counters.rerouted,
            duplicates_possible: counters.duplicates_possible,
            refused: refused.collect(),
            lost_before_receipt: counters.lost_before_receipt,
            emitters: counters.emitters_accepted,
            links_up: counters.links_up,
            links_down: counters.links_down,
        },
        share_bound: 2.0 * report.share_bound_max,
        tables: report.table_changes.tables,
        availability_changes: report.table_changes.availability,
    }
}

/// How far an analyzer may be from its due on one shard, over the whole run. `docs/SHARES.md`: twice the
/// tree's certificate from any moment until the next change of the table, and changes of
/// availability add nothing (Theorem 3). A table that loses an analyzer hands its deficit to
/// the others, which is at most as much again; so each table is allowed its own.
fn bound(report: &ShardReport) -> f64 {
    2.0 * report.share_bound_max * (1 + report.table_changes.tables) as f64
}

fn shares(reports: &[ShardReport]) -> Vec<Share> {
    let mut by_name: BTreeMap<&str, Share> = BTreeMap::new();
    for report in reports {
        let bound = bound(report);
        let mut names: BTreeMap<&str, f64> = BTreeMap::new();
        for account in &report.accounts {
            names.insert(&account.name, bound);
            let share = by_name.entry(&account.name).or_default();
            share.assigned += account.assigned;
            share.acked += account.acked;
            share.target += account.due;
        }
        for (name, bound) in names {
            by_name.entry(name).or_default().bound += bound;
        }
    }
    let assigned_all: u64 = by_name.values().map(|share| share.assigned).sum();
    let target_all: f64 = by_name.values().map(|share| share.target).sum();
    let part = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
    // Shard 0 keeps the roster, so its table is never older than another's.
    let roster = reports.first().map(|report| &report.roster);
    let weight = |name: &str| {
        let entries = roster.into_iter().flat_map(|roster| &roster.entries);
        entries
            .rev()
            .find(|entry| *entry.name == *name)
            .map(|entry| entry.effective_weight())
    };
    let finish = |(name, share): (&str, Share)| Share {
        analyzer: name.to_owned(),
        weight: weight(name),
        target_share: part(share.target, target_all),
        real_share: part(share.assigned as f64, assigned_all as f64),
        error: share.assigned as f64 - share.target,
        ..share
    };
    by_name.into_iter().map(finish).collect()
}

/// What is known of links: a bounded number, since lanes are and a shard keeps the last few that ended.
fn links(reports: &[ShardReport]) -> Vec<LinkBooks> {
    let mut links = Vec::new();
    for report in reports {
        let name = |analyzer: u32| {
            let entries = report.roster.entries.iter();
            let mut found = entries.filter(|entry| entry.analyzer == analyzer);
            found.next().map(|entry| entry.name.to_string())
        };
        // A lane whose link is down is among those that ended; it stays while its messages are with nobody else.
        let lanes = report.lanes.iter().filter(|lane| !lane.down);
        links.extend(lanes.map(|lane| LinkBooks {
            shard: report.shard,
            epoch: lane.epoch.0,
            analyzer: name(lane.analyzer),
            assigned: lane.assigned,
            acked: lane.acked,
            ended: false,
        }));
        links.extend(report.ended.iter().map(|ended| LinkBooks {
            shard: report.shard,
            epoch: ended.epoch.0,
            analyzer: name(ended.analyzer),
            assigned: ended.assigned,
            acked: ended.acked,
            ended: true,
        }));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::{Account, TableChanges};

    fn report(shard: u16, received: u64, acked: u64) -> ShardReport {
        let account = |name: &str, assigned, due| Account {
            name: name.into(),
            assigned,
            acked: assigned,
            due,
        };
        ShardReport {
            shard,
            balance: Balance {
                received,
                acked,
                in_flight: received - acked,
                ..Balance::default()
            },
            accounts: vec![account("a1", 30, 30.5), account("a2", 10, 9.5)],
            table_changes: TableChanges {
                tables: 2,
                availability: 9,
            },
            share_bound_max: 1.0,
            ..ShardReport::default()
        }
    }

    fn config() -> Config {
        Config {
            cores: vec![0],
            arena_bytes: 1 << 20,
            instance: 7,
            ..Config::default()
        }
    }

    #[test]
    fn the_law_is_checked_on_each_shard_and_on_the_sum() {
        let mut shards = [report(0, 10, 4).balance, report(1, 5, 5).balance];
        assert_eq!(
            check_law(&shards).map(|sum| (sum.received, sum.acked)),
            Ok((15, 9))
        );
        // One too many here, one too few there: the sum does not see it.
        shards[0].acked += 1;
        assert!(check_law(&shards).is_err());
        shards[1].acked -= 1;
        assert!(check_law(&shards).is_err_and(|sum| sum.holds()));
    }

    #[test]
    fn the_ledger_adds_shards_up() {
        let ledger = ledger(&[report(0, 10, 4), report(1, 5, 5)]);
        assert_eq!((ledger.total.received, ledger.total.in_flight), (15, 6));
        assert!(ledger.total.holds() && ledger.shards.iter().all(|shard| shard.books.holds()));
        let a1 = &ledger.analyzers[0];
        assert_eq!((a1.analyzer.as_str(), a1.assigned), ("a1", 60));
        assert_eq!((a1.target, a1.error, a1.real_share), (61.0, -1.0, 0.75));
        assert_eq!(a1.bound, 2.0 * (2.0 * 3.0), "two shards, three tables");
        assert!(a1.is_in_bound());
    }

    #[test]
    fn a_late_message_is_abandoned_and_a_second_signal_is_told() {
        let config = config();
        let closing = Closing {
            started: Stamp::now(),
            at_once: false,
            failed: false,
        };
        let at_once = Closing {
            at_once: true,
            ..closing
        };
        let outcome = |reports: &[ShardReport], closing| {
            let report = run_report(&config, reports, closing);
            let json = serde_json::to_vec(&report).expect("plain data");
            weir_ledger::run_report::RunReport::parse(&json).expect("its own kind");
            report.ending.outcome
        };
        assert_eq!(outcome(&[report(0, 4, 4)], at_once), Outcome::Clean);
        assert_eq!(outcome(&[report(0, 4, 3)], closing), Outcome::Abandoned);
        assert_eq!(outcome(&[report(0, 4, 3)], at_once), Outcome::EndedAtOnce);
    }
}
