//! Identities of re-routed messages in lanes whose bytes cannot carry them: reference dialects have
//! no place for them on the wire, but the message may be re-routed again, to a native link.

use std::collections::VecDeque;

use super::LinkEpoch;

/// Identity of a message's first delivery; stays with it through re-routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Shard that routed it first.
    pub shard: u16,
    /// Link that it was first routed to.
    pub epoch: LinkEpoch,
    /// Its number on that lane.
    pub sequence: u64,
}

/// Kept by one lane, oldest first. Bounded by the engine, all lanes together.
#[derive(Default)]
pub(super) struct Origins {
    kept: VecDeque<(u64, Origin)>,
}

impl Origins {
    /// Message `sequence` of the lane, the newest so far, was first delivered as `origin`.
    pub(super) fn keep(&mut self, sequence: u64, origin: Origin) {
        self.kept.push_back((sequence, origin));
    }

    /// The origin of a message, if it has another than this lane.
    pub(super) fn of(&self, sequence: u64) -> Option<Origin> {
        let found = self.kept.binary_search_by_key(&sequence, |(at, _)| *at);
        found.ok().map(|index| self.kept[index].1)
    }

    /// Messages up to `sequence` have left the lane; how many origins went with them.
    pub(super) fn forget(&mut self, sequence: u64) -> usize {
        let before = self.kept.len();
        while self.kept.front().is_some_and(|(at, _)| *at <= sequence) {
            self.kept.pop_front();
        }
        before - self.kept.len()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_go_with_their_messages() {
        let origin = |sequence| Origin {
            shard: 1,
            epoch: LinkEpoch(7),
            sequence,
        };
        let mut origins = Origins::default();
        for (at, was) in [(3, 30), (4, 20), (9, 10)] {
            origins.keep(at, origin(was));
        }
        assert_eq!(origins.of(4), Some(origin(20)));
        assert_eq!((origins.of(5), origins.of(10)), (None, None));
        assert_eq!((origins.forget(2), origins.forget(4)), (0, 2));
        assert_eq!((origins.of(4), origins.of(9)), (None, Some(origin(10))));
        assert_eq!((origins.forget(9), origins.len()), (1, 0));
    }
}
