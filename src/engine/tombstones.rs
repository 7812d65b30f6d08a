//! Links that are gone, as long as a roster may name them.

use std::collections::{BTreeSet, VecDeque};

use super::LinkEpoch;

/// Remembered at most; a link's epoch is never used again, so old ones may be forgotten as soon as no
/// roster that is still under way can name them.
const TOMBSTONES_MAX: usize = 4096;

/// Links that went down: a roster that was under way meanwhile must not bring their lanes back.
#[derive(Default)]
pub(super) struct Tombstones {
    down: BTreeSet<LinkEpoch>,
    order: VecDeque<LinkEpoch>,
}

impl Tombstones {
    pub(super) fn insert(&mut self, epoch: LinkEpoch) {
        if !self.down.insert(epoch) {
            return;
        }
        self.order.push_back(epoch);
        if self.order.len() > TOMBSTONES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.down.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, epoch: LinkEpoch) -> bool {
        self.down.contains(&epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "as many as there may be take Miri an hour")]
    fn the_oldest_tombstone_goes_when_there_are_too_many() {
        let link = |count: usize| LinkEpoch::new(0, count as u64);
        let mut tombstones = Tombstones::default();
        for count in 1..=TOMBSTONES_MAX {
            tombstones.insert(link(count));
            tombstones.insert(link(count));
        }
        assert!((1..=TOMBSTONES_MAX).all(|count| tombstones.contains(link(count))));
        tombstones.insert(link(TOMBSTONES_MAX + 1));
        assert!(!tombstones.contains(link(1)));
        assert!((2..=TOMBSTONES_MAX + 1).all(|count| tombstones.contains(link(count))));
        assert_eq!(tombstones.order.len(), TOMBSTONES_MAX);
    }
}
