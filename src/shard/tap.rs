//! A tap: a sample of the messages that pass, for whoever looks.
//!
//! ```text
//! engine: the message that opens a batch, or a packet -> samples -> a few times a second -> queue
//! ```
//!
//! Nothing is looked at while nobody looks, and never more than the rate: what passes in between is not
//! touched.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use weir_engine::SampleAbout;

/// Messages that wait for whoever looks; beyond, the oldest go.
const WAITING_MAX: usize = 1024;
/// Housekeeping comes so often in a second.
const TICKS_A_SECOND: u32 = 10;

/// A message that passed.
#[derive(Clone, Debug)]
pub struct TappedMessage {
    /// When, in ms since 1970; a tenth of a second late at most.
    pub at_ms: u64,
    /// Shard that routed it.
    pub shard: u16,
    /// Number of its analyzer, see `Roster`.
    pub analyzer: String,
    /// As in its frame.
    pub severity: u8,
    /// Bytes of its payload.
    pub bytes: u64,
    /// The first of them.
    pub payload: Vec<u8>,
    /// What it is and where it came from.
    pub about: SampleAbout,
}

/// Shared by the shards and whoever looks.
#[derive(Default)]
pub(super) struct Tap {
    /// Messages a second that are wanted of all shards; 0: nobody looks.
    rate: AtomicU32,
    /// Number of the last look.
    look: AtomicU64,
    waiting: Mutex<VecDeque<TappedMessage>>,
}

impl Tap {
    /// See [`Operator::begin_tap`](super::Operator::begin_tap).
    pub(super) fn begin(&self, rate: u32) -> u64 {
        let mut waiting = self.waiting();
        waiting.clear();
        self.rate.store(rate, Ordering::Relaxed);
        self.look.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// See [`Operator::tapped`](super::Operator::tapped).
    pub(super) fn take(&self, look: u64) -> Option<Vec<TappedMessage>> {
        let mut waiting = self.waiting();
        let is_mine = self.look.load(Ordering::Relaxed) == look;
        is_mine.then(|| waiting.drain(..).collect())
    }

    /// See [`Operator::end_tap`](super::Operator::end_tap).
    pub(super) fn end(&self, look: u64) {
        let _waiting = self.waiting();
        if self.look.load(Ordering::Relaxed) == look {
            self.rate.store(0, Ordering::Relaxed);
        }
    }

    /// Samples that each of so many shards takes until the next housekeeping; 0: nobody looks.
    pub(super) fn samples(&self, shards: usize) -> usize {
        part_of(self.rate.load(Ordering::Relaxed), shards)
    }

    /// Messages that have passed: the oldest that wait go for them.
    pub(super) fn push(&self, messages: impl Iterator<Item = TappedMessage>) {
        let mut waiting = self.waiting();
        waiting.extend(messages);
        let too_many = waiting.len().saturating_sub(WAITING_MAX);
        waiting.drain(..too_many);
    }

    /// Who looks changes only under this lock.
    fn waiting(&self) -> MutexGuard<'_, VecDeque<TappedMessage>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Samples that one shard takes until the next housekeeping.
fn part_of(rate: u32, shards: usize) -> usize {
    let shards = u32::try_from(shards).unwrap_or(u32::MAX);
    rate.div_ceil(TICKS_A_SECOND).div_ceil(shards) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_takes_its_part() {
        assert_eq!(part_of(0, 4), 0);
        assert_eq!((part_of(1, 1), part_of(10, 1), part_of(100, 1)), (1, 1, 10));
        assert_eq!((part_of(100, 4), part_of(1000, 4)), (3, 25));
    }
}
