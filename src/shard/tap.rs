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

use super::operator::Operator;
use super::port::Io;
use super::worker::Worker;

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

impl Operator {
    /// Wants so many messages a second from now on, of all shards together. Whoever looked before does no
    /// more: a client that has died without a word locks nobody out. Returns the number of this look.
    pub fn begin_tap(&self, rate: u32) -> u64 {
        let tap = &self.shared.tap;
        let mut waiting = tap.waiting();
        waiting.clear();
        tap.rate.store(rate, Ordering::Relaxed);
        tap.look.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What has passed since the last call, or a part of it; none: somebody else looks now.
    pub fn tapped(&self, look: u64) -> Option<Vec<TappedMessage>> {
        let tap = &self.shared.tap;
        let mut waiting = tap.waiting();
        let is_mine = tap.look.load(Ordering::Relaxed) == look;
        is_mine.then(|| waiting.drain(..).collect())
    }

    /// Nobody looks any more, unless somebody else does.
    pub fn end_tap(&self, look: u64) {
        let tap = &self.shared.tap;
        let _waiting = tap.waiting();
        if tap.look.load(Ordering::Relaxed) == look {
            tap.rate.store(0, Ordering::Relaxed);
        }
    }
}

impl Tap {
    /// Who looks changes only under this lock.
    fn waiting(&self) -> MutexGuard<'_, VecDeque<TappedMessage>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Io> Worker<I> {
    /// Hands on what was sampled since the last time, and asks for more.
    pub(super) fn serve_tap(&mut self) {
        let rate = self.shared.tap.rate.load(Ordering::Relaxed);
        let samples = self.engine.take_samples(part_of(rate, self.config.shards));
        if samples.is_empty() || rate == 0 {
            return;
        }
        let at_ms = self.io.unix_ms();
        let mut messages: VecDeque<TappedMessage> = VecDeque::new();
        for sample in samples {
            messages.push_back(TappedMessage {
                at_ms,
                shard: self.index,
                analyzer: self.analyzer_name(sample.analyzer),
                severity: sample.severity,
                bytes: sample.bytes,
                payload: sample.payload,
            });
        }
        let mut waiting = self.shared.tap.waiting();
        waiting.append(&mut messages);
        let too_many = waiting.len().saturating_sub(WAITING_MAX);
        waiting.drain(..too_many);
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
