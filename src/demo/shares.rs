//! Checks shares to the message: what each shard gave each analyzer, against the exact share.
//!
//! ```text
//! shard 0   | table 1: a1 a2 a3 a4          | table 2: a1 a3 a4 | table 3 ...
//!           ^ assigned_before    ^ reports ...^ assigned_before of table 2 ends table 1
//! ```
//!
//! While one table of weights is in force, a lane's *distance* is what it got less its exact share
//! of what the shard gave to all. `docs/SHARES.md`, Theorem 2: between any two moments under
//! one table the distance moves by at most twice the tree's bound. So per shard, table and lane the
//! highest distance seen less the lowest is compared with that: this covers every pair of reports.
//!
//! Weights are taken from the roster, as the analyzers announced them, not from what the tree made of
//! them. A full lane is out of the choice at moments that reports do not show, so the table is then
//! not checked, and its messages are counted as unchecked.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_engine::{LinkEpoch, Proportion, TableChanges};
use weir_shard::ShardReport;

/// Rounding of f64 and of scaled weights, in messages; nothing beside the bound.
const ROUNDING: f64 = 0.001;
/// Of all messages, what must have been checked for the check to mean anything.
pub const CHECKED_MIN: f64 = 0.9;

/// Analyzers and their weights, by name.
pub type Table = Vec<(Arc<str>, f64)>;

/// Follows the shards, report by report.
#[derive(Default)]
pub struct Shares {
    shards: BTreeMap<u16, Following>,
    /// In the order in which they began.
    stretches: Vec<Stretch>,
    worst: Option<Worst>,
    verdict: Verdict,
}

/// One shard: the table in force, and which came before.
#[derive(Default)]
struct Following {
    changes: TableChanges,
    interval: Option<Interval>,
    /// Tables so far, to tell a table's first time from its second.
    tables: Vec<Table>,
}

/// One shard under one table.
struct Interval {
    table: Table,
    nth: usize,
    started_ns: u64,
    bound: f64,
    disturbed: bool,
    lanes: Vec<Track>,
}

struct Track {
    epoch: LinkEpoch,
    name: Arc<str>,
    share: f64,
    base: u64,
    assigned: u64,
    lowest: f64,
    highest: f64,
}

/// All shards under one table: a line of the final account.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Analyzers and weights.
    pub table: Table,
    nth: usize,
    /// CLOCK_MONOTONIC when the first shard took the table over.
    pub started_ns: u64,
    /// Messages given to each, in the table's order.
    pub given: Vec<u64>,
    /// Farthest that any analyzer was from its exact share on any shard, in messages.
    pub distance: f64,
    /// What was allowed.
    pub bound: f64,
    /// A lane was full, on some shard: not checked there.
    pub disturbed: bool,
}

/// The farthest distance of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Analyzer.
    pub name: Arc<str>,
    /// Shard.
    pub shard: u16,
    /// How far it moved, in messages.
    pub distance: f64,
    /// What is allowed.
    pub bound: f64,
}

/// What was checked, and what failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Messages given out under a table that was checked.
    pub checked: u64,
    /// Messages given out while some lane was full.
    pub unchecked: u64,
    /// The worst of those beyond their bound.
    pub beyond: Option<Worst>,
}

impl Stretch {
    /// Messages given to all.
    pub fn messages(&self) -> u64 {
        self.given.iter().sum()
    }

    /// Exact share of the `index`-th analyzer, 0 to 1.
    pub fn exact(&self, index: usize) -> f64 {
        let all = Proportion::of(self.table.iter().map(|(_, weight)| *weight));
        all.share(self.table[index].1)
    }

    /// How many messages the `index`-th analyzer got beyond its exact share.
    pub fn off(&self, index: usize) -> f64 {
        self.given[index] as f64 - self.exact(index) * self.messages() as f64
    }
}

impl Shares {
    /// Takes a report; the same one again does no harm.
    pub fn note(&mut self, report: &ShardReport, now_ns: u64) {
        let following = self.shards.entry(report.shard).or_default();
        let was = std::mem::replace(&mut following.changes, report.table_changes);
        let disturbed = was.availability != report.table_changes.availability
            || report.lanes.iter().any(|lane| lane.full);
        if let Some(interval) = &mut following.interval {
            interval.disturbed |= disturbed;
        }
        if following.interval.is_none() || was.tables != report.table_changes.tables {
            if let Some(mut ended) = following.interval.take() {
                // With two changes at once the end of the first is not known: what is known stays.
                let is_next = was.tables + 1 == report.table_changes.tables;
                ended.close(report, is_next);
                settle(&mut self.stretches, &mut self.verdict, &ended, report.shard);
            }
            let table = table_of(report);
            let nth = following.tables.iter().filter(|t| **t == table).count();
            following.tables.push(table.clone());
            following.interval = Some(Interval::start(report, table, nth, disturbed, now_ns));
        }
        if let Some(interval) = &mut following.interval {
            interval.bound = interval.bound.max(2.0 * report.share_bound);
            let assigned = |lane: &Track| {
                let mut lanes = report.lanes.iter();
                lanes
                    .find(|report| report.epoch == lane.epoch)
                    .map(|report| report.assigned)
            };
            interval.advance(assigned);
            let worst = interval.worst(report.shard);
            let known = self.worst.as_ref().map_or(0.0, |worst| worst.distance);
            self.worst = match worst {
                Some(worst) if worst.distance > known => Some(worst),
                _ => self.worst.take(),
            };
        }
    }

    /// No more reports come. To be called once.
    pub fn finish(&mut self) {
        for (shard, following) in &self.shards {
            if let Some(last) = &following.interval {
                settle(&mut self.stretches, &mut self.verdict, last, *shard);
            }
        }
        self.stretches.sort_by_key(|stretch| stretch.started_ns);
    }

    /// What each analyzer was given since the last change, all shards added up.
    pub fn given_since_change(&self) -> BTreeMap<Arc<str>, u64> {
        let mut given = BTreeMap::new();
        for following in self.shards.values() {
            for lane in following
                .interval
                .iter()
                .flat_map(|interval| &interval.lanes)
            {
                *given.entry(Arc::clone(&lane.name)).or_default() += lane.assigned - lane.base;
            }
        }
        given
    }

    /// The farthest that any analyzer was from its exact share, so far.
    pub fn worst(&self) -> Option<&Worst> {
        self.worst.as_ref()
    }

    /// The account, table by table. Complete after [`Shares::finish`].
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// What was checked and what failed. Complete after [`Shares::finish`].
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

impl Interval {
    fn start(
        report: &ShardReport,
        table: Table,
        nth: usize,
        disturbed: bool,
        started_ns: u64,
    ) -> Interval {
        let all = Proportion::of(table.iter().map(|(_, weight)| *weight));
        let living = report.lanes.iter().filter(|lane| !lane.down);
        let lanes = living.filter_map(|lane| {
            let entry = entry_of(report, lane.analyzer)?;
            let weight = entry.effective_weight();
            Some(Track {
                epoch: lane.epoch,
                name: Arc::clone(&entry.name),
                share: all.share(weight),
                base: lane.assigned_before,
                assigned: lane.assigned_before,
                lowest: 0.0,
                highest: 0.0,
            })
        });
        Interval {
            nth,
            started_ns,
            bound: 0.0,
            disturbed,
            lanes: lanes.collect(),
            table,
        }
    }

    /// Takes new counts over; lanes without one keep theirs.
    fn advance(&mut self, assigned: impl Fn(&Track) -> Option<u64>) {
        for lane in &mut self.lanes {
            lane.assigned = assigned(lane).unwrap_or(lane.assigned);
        }
        let given = self.given();
        for lane in &mut self.lanes {
            let distance = (lane.assigned - lane.base) as f64 - lane.share * given as f64;
            lane.lowest = lane.lowest.min(distance);
            lane.highest = lane.highest.max(distance);
        }
    }

    /// The table has changed: what lanes had been given before, and, for one that is gone, at its end.
    fn close(&mut self, report: &ShardReport, is_next: bool) {
        if !is_next {
            return;
        }
        let lanes: BTreeMap<_, _> = report
            .ended
            .iter()
            .map(|ended| (ended.epoch, ended.assigned))
            .chain(
                report
                    .lanes
                    .iter()
                    .map(|lane| (lane.epoch, lane.assigned_before)),
            )
            .collect();
        if self
            .lanes
            .iter()
            .all(|lane| lanes.contains_key(&lane.epoch))
        {
            self.advance(|lane| lanes.get(&lane.epoch).copied());
        }
    }

    fn given(&self) -> u64 {
        self.lanes
            .iter()
            .map(|lane| lane.assigned - lane.base)
            .sum()
    }

    fn worst(&self, shard: u16) -> Option<Worst> {
        if self.disturbed {
            return None;
        }
        let distance = |lane: &Track| lane.highest - lane.lowest;
        let worst = self
            .lanes
            .iter()
            .max_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        Some(Worst {
            name: Arc::clone(&worst.name),
            shard,
            distance: distance(worst),
            bound: self.bound,
        })
    }
}

/// Adds a shard's interval to its stretch, and judges it.
fn settle(stretches: &mut Vec<Stretch>, verdict: &mut Verdict, interval: &Interval, shard: u16) {
    let given = interval.given();
    if given == 0 {
        return;
    }
    let at = stretches
        .iter()
        .position(|stretch| stretch.table == interval.table && stretch.nth == interval.nth)
        .unwrap_or_else(|| {
            stretches.push(Stretch {
                table: interval.table.clone(),
                nth: interval.nth,
                started_ns: interval.started_ns,
                given: vec![0; interval.table.len()],
                distance: 0.0,
                bound: 0.0,
                disturbed: false,
            });
            stretches.len() - 1
        });
    let stretch = &mut stretches[at];
    stretch.started_ns = stretch.started_ns.min(interval.started_ns);
    for ((name, _), given) in stretch.table.iter().zip(&mut stretch.given) {
        let lanes = interval.lanes.iter().filter(|lane| lane.name == *name);
        *given += lanes.map(|lane| lane.assigned - lane.base).sum::<u64>();
    }
    let Some(worst) = interval.worst(shard) else {
        stretch.disturbed = true;
        verdict.unchecked += given;
        return;
    };
    verdict.checked += given;
    stretch.distance = stretch.distance.max(worst.distance);
    stretch.bound = stretch.bound.max(worst.bound);
    let excess = |worst: &Worst| worst.distance - worst.bound;
    let known = verdict.beyond.as_ref().map_or(ROUNDING, excess);
    if excess(&worst) > known {
        verdict.beyond = Some(worst);
    }
}

fn entry_of(report: &ShardReport, analyzer: u32) -> Option<&weir_engine::Entry> {
    let mut entries = report.roster.entries.iter();
    entries.find(|entry| entry.analyzer == analyzer)
}

/// Who can be chosen on this shard, by name.
fn table_of(report: &ShardReport) -> Table {
    let living = report.lanes.iter().filter(|lane| !lane.down);
    let entries = living.filter_map(|lane| entry_of(report, lane.analyzer));
    let chosen = entries.filter(|entry| entry.effective_weight() > 0.0);
    let mut table: Table = chosen
        .map(|entry| (Arc::clone(&entry.name), entry.effective_weight()))
        .collect();
    table.sort_by(|a, b| a.0.cmp(&b.0));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{ended, lane, report};

    /// Both lanes of a shard with weights 3 and 1, `given` to each since table `tables` came.
    fn two(tables: u64, given: [u64; 2], before: [u64; 2]) -> ShardReport {
        let mut report = report(&[("a", 3.0), ("b", 1.0)]);
        report.table_changes.tables = tables;
        report.lanes = (0..2)
            .map(|i| {
                lane(
                    i,
                    before[i as usize] + given[i as usize],
                    before[i as usize],
                )
            })
            .collect();
        report
    }

    fn checked(reports: &[ShardReport]) -> Shares {
        let mut shares = Shares::default();
        for (now_ns, report) in (1..).zip(reports) {
            shares.note(report, now_ns);
        }
        shares.finish();
        shares
    }

    #[test]
    fn exact_shares_pass_and_are_all_checked() {
        let shares = checked(&[
            two(1, [0, 0], [0, 0]),
            two(1, [75, 25], [0, 0]),
            two(1, [301, 99], [0, 0]),
        ]);
        let verdict = shares.verdict();
        assert_eq!(
            (verdict.checked, verdict.unchecked, &verdict.beyond),
            (400, 0, &None)
        );
        let stretch = &shares.stretches()[0];
        assert_eq!(
            (stretch.messages(), stretch.exact(0), stretch.off(0)),
            (400, 0.75, 1.0)
        );
        assert_eq!(shares.worst().map(|worst| worst.distance), Some(1.0));
    }

    #[test]
    fn a_distance_beyond_the_bound_is_found_and_named() {
        let shares = checked(&[two(1, [0, 0], [0, 0]), two(1, [306, 94], [0, 0])]);
        let beyond = shares.verdict().beyond.clone().expect("six off");
        assert_eq!((beyond.distance, beyond.bound), (6.0, 2.0));
    }

    #[test]
    fn a_distance_that_is_made_up_for_later_is_found_all_the_same() {
        let shares = checked(&[
            two(1, [0, 0], [0, 0]),
            two(1, [73, 27], [0, 0]),
            two(1, [152, 48], [0, 0]),
            two(1, [300, 100], [0, 0]),
        ]);
        let beyond = shares.verdict().beyond.clone().expect("two down, two up");
        assert_eq!(beyond.distance, 4.0);
    }

    #[test]
    fn a_change_ends_the_account_exactly_even_between_two_reports() {
        let mut after = report(&[("a", 3.0)]);
        after.table_changes.tables = 2;
        after.lanes = vec![lane(0, 760, 750)];
        after.ended = vec![ended(1, 250, 240)];
        let shares = checked(&[two(1, [0, 0], [0, 0]), two(1, [75, 25], [0, 0]), after]);
        let given: Vec<_> = shares.stretches().iter().map(|s| s.given.clone()).collect();
        assert_eq!(given, [vec![750, 250], vec![10]]);
        assert_eq!(shares.verdict().checked, 1010);
    }

    #[test]
    fn the_same_table_later_is_another_stretch() {
        let mut between = two(2, [75, 0], [300, 100]);
        between.lanes[1].down = true;
        let shares = checked(&[
            two(1, [300, 100], [0, 0]),
            between,
            two(3, [30, 10], [375, 100]),
        ]);
        let messages: Vec<_> = shares.stretches().iter().map(Stretch::messages).collect();
        assert_eq!(messages, [400, 75, 40]);
    }

    #[test]
    fn what_was_given_while_a_lane_was_full_is_not_checked() {
        let mut flipped = two(1, [390, 10], [0, 0]);
        flipped.table_changes.availability = 2;
        let shares = checked(&[two(1, [0, 0], [0, 0]), flipped]);
        let verdict = shares.verdict();
        assert_eq!(
            (verdict.checked, verdict.unchecked, &verdict.beyond),
            (0, 400, &None)
        );
        assert!(shares.stretches()[0].disturbed && shares.worst().is_none());
    }

    #[test]
    fn shards_add_up_and_are_judged_each_by_itself() {
        let (first, mut second) = (two(1, [77, 23], [0, 0]), two(1, [73, 27], [0, 0]));
        second.shard = 1;
        let shares = checked(&[first, second]);
        assert_eq!(shares.stretches()[0].given, [150, 50]);
        assert_eq!(shares.worst().map(|worst| worst.distance), Some(2.0));
    }
}
