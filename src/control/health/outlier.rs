//! An analyzer that refuses everything while others take what they get is at fault itself: a wrong port, a
//! schema of another version. It is taken out for a while, as Envoy does with consecutive errors (outlier
//! detection).
//!
//! ```text
//! each health check:  took a packet, or refused none yet -----------------> the count begins here
//!                     refused `refusals` or more since, another took -----> out, if not too many are
//!                       more than it refused
//! out:                `time`, twice that the next time, ten times at most; then the usual way back,
//!                     or before, when more are out than are left
//! ```
//!
//! Packets that everybody refuses take nobody out: then nobody takes more than he refuses. What others took
//! before the refusals began does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::view::row::{Kind, Row};
use crate::view::state::State;

/// When an analyzer is taken out for what it refuses, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct EjectRule {
    /// So many packets refused, and none taken; 0: never.
    pub refusals: u64,
    /// The first time for so long.
    pub time: Duration,
}

/// The n-th time in a row it is out n times as long, with this for the largest n.
const TIMES_MAX: u32 = 10;

impl EjectRule {
    /// How long it is out, when it is that for the n-th time without having taken a packet since.
    pub(super) fn time_out(&self, nth: u32) -> Duration {
        self.time * nth.clamp(1, TIMES_MAX)
    }
}

/// What one of the others has done, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Packets that it took; for an analyzer over TCP messages.
    pub(super) taken: u64,
    /// Packets that it refused for good; over TCP there is no such answer.
    pub(super) refused: u64,
}

/// What an analyzer and the others have done, over all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Its links; their counts begin anew when it comes back.
    pub(super) generation: u64,
    /// Packets that it took.
    pub(super) taken: u64,
    /// Packets that it refused for good.
    pub(super) refused: u64,
    /// Each of the others; their counts never fall.
    pub(super) others: BTreeMap<Arc<str>, Tally>,
}

impl Counts {
    /// As the newest reports have them.
    pub(super) fn of(state: &State, id: &str, generation: u64) -> Counts {
        let posts = state.posts_now(id);
        let others = state.rows.iter().filter(|row| *row.id != *id);
        let tally = |row: &Row| {
            let posts = state.posts.of(&row.id);
            let taken = match row.kind {
                Kind::Http => posts.acked,
                Kind::Native | Kind::Reference => row.share.acked,
            };
            let refused = posts.refused;
            (Arc::clone(&row.id), Tally { taken, refused })
        };
        Counts {
            generation,
            taken: posts.acked,
            refused: posts.refused,
            others: others.map(tally).collect(),
        }
    }

    /// Another took more than it refused, since `began`.
    fn is_taken_elsewhere(&self, began: &Counts) -> bool {
        self.others.iter().any(|(id, now)| {
            let before = began.others.get(id).copied().unwrap_or_default();
            let taken = now.taken.saturating_sub(before.taken);
            taken > now.refused.saturating_sub(before.refused)
        })
    }
}

/// The refusals of an analyzer since it took a packet last.
#[derive(Default)]
pub(super) struct Streak {
    /// When the last look found no refusal yet.
    began: Counts,
}

impl Streak {
    /// How many packets it has refused in a row while another took its own; none while `rule` lets that be.
    pub(super) fn note(&mut self, now: Counts, rule: &EjectRule) -> Option<u64> {
        let began = &self.began;
        let is_same = now.generation == began.generation && now.taken == began.taken;
        if !is_same || now.refused <= began.refused {
            self.began = now;
            return None;
        }
        let refused = now.refused - began.refused;
        let is_out = rule.refusals > 0 && refused >= rule.refusals;
        (is_out && now.is_taken_elsewhere(began)).then_some(refused)
    }
}

/// Whether `id` may go: then no more are out by this rule than are left, so at least one is. `up` take
/// messages, `out` were taken out by it.
pub(super) fn may_go(id: &str, up: &BTreeSet<&str>, out: &BTreeSet<&str>) -> bool {
    let left = up.difference(out).filter(|other| **other != id).count();
    let gone = out.len() + usize::from(!out.contains(id));
    gone <= left
}

/// Whether those who are `out` may come back before their time: others have gone since, and more are out than
/// are left, or nobody is. As Envoy's panic threshold, at one half.
pub(super) fn may_return(up: &BTreeSet<&str>, out: &BTreeSet<&str>) -> bool {
    out.len() > up.difference(out).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: EjectRule = EjectRule {
        refusals: 10,
        time: Duration::from_secs(30),
    };

    /// Of one beside `good`, which took and refused so many.
    fn counts(generation: u64, taken: u64, refused: u64, good: (u64, u64)) -> Counts {
        let tally = |(taken, refused)| Tally { taken, refused };
        let idle = ("idle".into(), Tally::default());
        Counts {
            generation,
            taken,
            refused,
            others: BTreeMap::from([idle, ("good".into(), tally(good))]),
        }
    }

    #[test]
    fn only_refusals_in_a_row_while_another_takes_its_own_count() {
        let mut streak = Streak::default();
        let mut note = |now| streak.note(now, &RULE);
        let first = counts(1, 0, 500, (500, 0));
        assert_eq!(note(first), None, "seen for the first time");
        assert_eq!(note(counts(1, 0, 509, (900, 0))), None, "nine");
        assert_eq!(note(counts(1, 0, 510, (500, 0))), None, "nobody takes any");
        assert_eq!(note(counts(1, 0, 511, (501, 0))), Some(11));
        assert_eq!(note(counts(1, 1, 600, (900, 0))), None, "it took one");
        assert_eq!(note(counts(1, 1, 609, (999, 0))), None);
        assert_eq!(note(counts(1, 1, 610, (999, 0))), Some(10));
        assert_eq!(note(counts(2, 0, 0, (999, 0))), None, "it came back");
        assert_eq!(note(counts(2, 0, 10, (1000, 0))), Some(10));
        let never = EjectRule {
            refusals: 0,
            ..RULE
        };
        assert_eq!(streak.note(counts(2, 0, 999, (9999, 0)), &never), None);
    }

    #[test]
    fn what_others_took_before_the_refusals_began_does_not_count() {
        let mut streak = Streak::default();
        let mut note = |now| streak.note(now, &RULE);
        assert_eq!(note(counts(1, 5, 0, (5, 0))), None);
        assert_eq!(note(counts(1, 5, 0, (99, 0))), None, "little is sent");
        assert_eq!(note(counts(1, 5, 100, (99, 0))), None, "a storm");
        assert_eq!(note(counts(1, 5, 100, (99, 90))), None);
    }

    #[test]
    fn others_that_refuse_more_than_they_take_are_no_witness() {
        let mut streak = Streak::default();
        let mut note = |now| streak.note(now, &RULE);
        assert_eq!(note(counts(1, 5, 0, (99, 0))), None);
        let storm = counts(1, 5, 100, (101, 100));
        assert_eq!(note(storm), None, "two good ones between the bad");
        assert_eq!(note(counts(1, 5, 100, (199, 100))), None);
        assert_eq!(note(counts(1, 5, 100, (200, 100))), Some(100));
        // One that came since.
        let mut now = counts(1, 5, 100, (99, 0));
        let (taken, refused) = (3, 2);
        now.others.insert("new".into(), Tally { taken, refused });
        assert_eq!(note(now), Some(100));
    }

    #[test]
    fn never_more_than_half_of_all_and_never_the_last() {
        let may_go = |id, up: &[&'static str], out: &[&'static str]| {
            let set = |ids: &[&'static str]| ids.iter().copied().collect::<BTreeSet<_>>();
            super::may_go(id, &set(up), &set(out))
        };
        assert!(!may_go("a", &["a"], &[]));
        assert!(may_go("a", &["a", "b"], &[]));
        assert!(!may_go("b", &["b"], &["a"]));
        assert!(!may_go("b", &["a", "b"], &["a"]), "a report that is late");
        assert!(!may_go("b", &["b", "c"], &["a"]));
        assert!(may_go("b", &["b", "c", "d"], &["a"]));
        assert!(!may_go("c", &["c", "d"], &["a", "b"]));
    }

    #[test]
    fn when_others_die_those_who_are_out_may_return() {
        let may_return = |up: &[&'static str], out: &[&'static str]| {
            let set = |ids: &[&'static str]| ids.iter().copied().collect::<BTreeSet<_>>();
            super::may_return(&set(up), &set(out))
        };
        assert!(!may_return(&["b"], &["a"]), "half");
        assert!(!may_return(&["a", "b"], &["a"]), "a report that is late");
        assert!(may_return(&[], &["a"]), "nobody is left");
        assert!(may_return(&["a"], &["a"]), "the same, and late");
        assert!(may_return(&["c"], &["a", "b"]));
        assert!(!may_return(&["c", "d"], &["a", "b"]));
        assert!(!may_return(&[], &[]) && !may_return(&["a"], &[]));
    }

    #[test]
    fn each_time_in_a_row_is_longer_up_to_ten_times() {
        let seconds = |nth| RULE.time_out(nth).as_secs();
        assert_eq!([1, 2, 10, 11, 999].map(seconds), [30, 60, 300, 300, 300]);
    }
}
