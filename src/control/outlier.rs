//! An analyzer that refuses everything while others take what they get is at fault itself: a wrong port, a
//! schema of another version. It is taken out for a while, as Envoy does with consecutive errors (outlier
//! detection).
//!
//! ```text
//! each health check:  took a packet since the last one ------------------> the count begins anew
//!                     refused `refusals` or more since, others ACKed -----> out, if not too many are
//! out:                `time`, twice that the next time, ten times at most; then the usual way back
//! ```
//!
//! Packets that everybody refuses take nobody out: then nobody takes any.

use std::collections::BTreeSet;
use std::time::Duration;

use super::state::State;
use super::view::posts_of;

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

/// What an analyzer and the others have done, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Its links; their counts begin anew when it comes back.
    pub(super) generation: u64,
    /// Packets that it took.
    pub(super) taken: u64,
    /// Packets that it refused for good.
    pub(super) refused: u64,
    /// Messages that the others ACKed.
    pub(super) acked_by_others: u64,
}

impl Counts {
    /// As the newest reports have them.
    pub(super) fn of(state: &State, id: &str, generation: u64) -> Counts {
        let posts = posts_of(state, id);
        let others = state.rows.iter().filter(|row| *row.id != *id);
        Counts {
            generation,
            taken: posts.acked,
            refused: posts.refused,
            acked_by_others: others.map(|row| row.share.acked).sum(),
        }
    }
}

/// Since an analyzer took a packet last.
#[derive(Default)]
pub(super) struct Streak {
    began: Counts,
}

impl Streak {
    /// How many packets it has refused in a row while others took theirs; none while `rule` lets that be.
    pub(super) fn note(&mut self, now: Counts, rule: &EjectRule) -> Option<u64> {
        let began = &self.began;
        if now.generation != began.generation || now.taken != began.taken {
            self.began = now;
            return None;
        }
        let refused = now.refused.saturating_sub(began.refused);
        let is_alone = now.acked_by_others > began.acked_by_others;
        (rule.refusals > 0 && refused >= rule.refusals && is_alone).then_some(refused)
    }
}

/// Whether `id` may go: then at most half of all are out by this rule, and one is left. `up` take messages,
/// `out` were taken out by it.
pub(super) fn may_go(id: &str, up: &BTreeSet<&str>, out: &BTreeSet<&str>) -> bool {
    let all = up.union(out).count();
    let gone = out.len() + usize::from(!out.contains(id));
    gone * 2 <= all
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: EjectRule = EjectRule {
        refusals: 10,
        time: Duration::from_secs(30),
    };

    fn counts(generation: u64, taken: u64, refused: u64, acked_by_others: u64) -> Counts {
        Counts {
            generation,
            taken,
            refused,
            acked_by_others,
        }
    }

    #[test]
    fn only_refusals_in_a_row_while_others_take_theirs_count() {
        let mut streak = Streak::default();
        let mut note = |now| streak.note(now, &RULE);
        assert_eq!(
            note(counts(1, 0, 500, 500)),
            None,
            "seen for the first time"
        );
        assert_eq!(note(counts(1, 0, 509, 900)), None, "nine");
        assert_eq!(note(counts(1, 0, 510, 500)), None, "nobody takes any");
        assert_eq!(note(counts(1, 0, 511, 501)), Some(11));
        assert_eq!(note(counts(1, 1, 600, 900)), None, "it took one");
        assert_eq!(note(counts(1, 1, 609, 999)), None);
        assert_eq!(note(counts(1, 1, 610, 999)), Some(10));
        assert_eq!(note(counts(2, 0, 0, 999)), None, "it came back");
        assert_eq!(note(counts(2, 0, 10, 1000)), Some(10));
        let never = EjectRule {
            refusals: 0,
            ..RULE
        };
        assert_eq!(streak.note(counts(2, 0, 999, 9999), &never), None);
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
    fn each_time_in_a_row_is_longer_up_to_ten_times() {
        let seconds = |nth| RULE.time_out(nth).as_secs();
        assert_eq!([1, 2, 10, 11, 999].map(seconds), [30, 60, 300, 300, 300]);
    }
}
