//! POSTs to analyzers over HTTP, counted over all their links.
//!
//! ```text
//! report now   a link's counts, from 0 when its analyzer comes in; the last ones that ended, too
//!   - seen     the same at the last look                            = what is new
//!   + total    of that analyzer, by name                            = counters that never fall
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_shard::{HttpAnalyzerReport, ShardReport};

/// What became of POSTs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PostCounts {
    /// Sent.
    pub sent: u64,
    /// Of those: failed, and tried again or given up.
    pub failed: u64,
    /// Taken.
    pub acked: u64,
    /// Refused for good, and set aside.
    pub refused: u64,
}

impl PostCounts {
    fn of(link: &HttpAnalyzerReport) -> PostCounts {
        PostCounts {
            sent: link.posts,
            failed: link.failures,
            acked: link.acked,
            refused: link.refused,
        }
    }

    /// A link's counts grew from `before` to `now`.
    fn grow(&mut self, before: PostCounts, now: PostCounts) {
        self.sent += now.sent.saturating_sub(before.sent);
        self.failed += now.failed.saturating_sub(before.failed);
        self.acked += now.acked.saturating_sub(before.acked);
        self.refused += now.refused.saturating_sub(before.refused);
    }
}

/// Of all analyzers.
#[derive(Default)]
pub struct PostTotals {
    /// Each link in the newest reports, by shard and the analyzer's number, which is never used again.
    seen: BTreeMap<(u16, u32), PostCounts>,
    totals: BTreeMap<Arc<str>, PostCounts>,
}

impl PostTotals {
    /// Takes the newest reports; `names` has the analyzers' numbers.
    pub(super) fn note(&mut self, reports: &[ShardReport], names: &BTreeMap<u32, Arc<str>>) {
        let before = std::mem::take(&mut self.seen);
        for report in reports {
            for link in &report.http_analyzers {
                let key = (report.shard, link.analyzer);
                let Some(name) = names.get(&link.analyzer) else {
                    continue;
                };
                let (old, now) = (before.get(&key), PostCounts::of(link));
                let total = self.totals.entry(Arc::clone(name)).or_default();
                total.grow(old.copied().unwrap_or_default(), now);
                self.seen.insert(key, now);
            }
        }
    }

    /// Forgets analyzers that are not shown any more.
    pub(super) fn retain(&mut self, is_known: impl Fn(&Arc<str>) -> bool) {
        self.totals.retain(|name, _| is_known(name));
    }

    /// Of one analyzer, since the start.
    pub fn of(&self, name: &str) -> PostCounts {
        self.totals.get(name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Links of a shard: the analyzer's number, and how many POSTs it refused.
    fn shard(shard: u16, links: &[(u32, u64)]) -> ShardReport {
        let link = |(analyzer, refused): &(u32, u64)| HttpAnalyzerReport {
            analyzer: *analyzer,
            posts: refused + 2,
            failures: 1,
            acked: 1,
            refused: *refused,
            ..HttpAnalyzerReport::default()
        };
        ShardReport {
            shard,
            http_analyzers: links.iter().map(link).collect(),
            ..ShardReport::default()
        }
    }

    #[test]
    fn a_count_outlives_its_link() {
        let names = [(1, "a"), (2, "b"), (7, "a")].map(|(number, name)| (number, name.into()));
        let names = BTreeMap::from(names);
        let mut totals = PostTotals::default();
        let mut refused = |first: &[(u32, u64)], second: &[(u32, u64)]| {
            totals.note(&[shard(0, first), shard(1, second)], &names);
            (totals.of("a").refused, totals.of("b").refused)
        };
        assert_eq!(refused(&[(1, 5), (2, 1)], &[(1, 7)]), (12, 1));
        assert_eq!(refused(&[(1, 5), (2, 3)], &[(1, 9)]), (14, 3));
        // It is out; the last of it comes with the links that ended.
        assert_eq!(refused(&[(2, 3), (1, 8)], &[]), (17, 3));
        assert_eq!(refused(&[(2, 3), (1, 8)], &[]), (17, 3));
        assert_eq!(refused(&[(2, 4)], &[]), (17, 4));
        assert_eq!(refused(&[(2, 4), (7, 1)], &[(7, 0)]), (18, 4), "back");
        let a = PostCounts {
            sent: 26,
            failed: 4,
            acked: 4,
            refused: 18,
        };
        assert_eq!(totals.of("a"), a);
        totals.retain(|name| **name == *"b");
        assert_eq!((totals.of("a").sent, totals.of("b").refused), (0, 4));
    }
}
