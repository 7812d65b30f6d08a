//! What arrived: each sequence number exactly once, from which analyzer, and how late.

use hdrhistogram::Histogram;

use crate::wire::Stamp;

/// A sequence number beyond this is a corrupt stamp, not a message: the bitmap stays under 8 GiB.
const SEQUENCE_MAX: u64 = 1 << 36;
/// Latencies over a minute are recorded as a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// A set of sequence numbers, one bit each.
#[derive(Debug, Default)]
pub struct SequenceSet {
    words: Vec<u64>,
    distinct: u64,
    duplicates: u64,
}

impl SequenceSet {
    /// False for a number that is there already.
    pub fn insert(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence / 64) as usize, 1u64 << (sequence % 64));
        if word >= self.words.len() {
            // Doubling keeps the growth out of the measured interval for all but a few reads.
            self.words
                .resize((word + 1).next_power_of_two().max(1024), 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.distinct += 1;
            true
        } else {
            self.duplicates += 1;
            false
        }
    }

    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many of `0..sent` never came.
    pub fn missing(&self, sent: u64) -> u64 {
        let whole = (sent / 64) as usize;
        let mut present: u64 = self
            .words
            .iter()
            .take(whole)
            .map(|w| u64::from(w.count_ones()))
            .sum();
        if let Some(word) = self.words.get(whole) {
            present += u64::from((word & ((1 << (sent % 64)) - 1)).count_ones());
        }
        sent - present
    }

    /// How many of `count` numbers from `first` came; `first` is a multiple of 64.
    pub fn count_from(&self, first: u64, count: u64) -> u64 {
        assert!(first.is_multiple_of(64), "whole words");
        let skipped = (first / 64) as usize;
        let words = self.words.iter().skip(skipped);
        let left = |nth: usize| count.saturating_sub(nth as u64 * 64).min(64);
        let mask = |bits: u64| (1_u128 << bits) as u64;
        words
            .enumerate()
            .take(count.div_ceil(64) as usize)
            .map(|(nth, word)| u64::from((word & mask(left(nth)).wrapping_sub(1)).count_ones()))
            .sum()
    }

    /// One past the highest sequence number seen: what was sent, when nobody says so.
    pub fn end(&self) -> u64 {
        let last = self.words.iter().rposition(|w| *w != 0);
        last.map_or(0, |i| {
            i as u64 * 64 + 64 - u64::from(self.words[i].leading_zeros())
        })
    }
}

/// Everything a sink counts.
#[derive(Debug)]
pub struct Tally {
    /// Sequence numbers of the bench's own messages.
    pub set: SequenceSet,
    /// Frames per analyzer, to compare with the weights.
    pub per_analyzer: Vec<u64>,
    /// Frames without a stamp: somebody else's, or a corrupted stream.
    pub foreign: u64,
    /// Intended send to first read, for messages that carry an intended time.
    pub latency_ns: Histogram<u64>,
    /// The same since the last cut of a [`crate::sampler::Sampler`], while one is at work.
    pub interval_ns: Option<Histogram<u64>>,
}

impl Tally {
    pub fn new(analyzers: usize) -> Self {
        Self {
            set: SequenceSet::default(),
            per_analyzer: vec![0; analyzers],
            foreign: 0,
            latency_ns: nanosecond_histogram(),
            interval_ns: None,
        }
    }

    /// Messages that came first within `limit_ns` of their intended time.
    pub fn within(&self, limit_ns: u64) -> u64 {
        let limit_ns = limit_ns.clamp(1, LATENCY_NS_MAX);
        self.latency_ns.count_between(1, limit_ns)
    }

    /// Counts one frame that `analyzer` read at `now_ns`; returns its sequence number.
    pub fn count(&mut self, analyzer: usize, frame: &[u8], now_ns: u64) -> Option<u64> {
        self.per_analyzer[analyzer] += 1;
        match Stamp::read(frame) {
            Some(stamp) if stamp.sequence < SEQUENCE_MAX => {
                let is_first = self.set.insert(stamp.sequence);
                if stamp.intended_ns != 0 && is_first {
                    let late_ns = now_ns.saturating_sub(stamp.intended_ns);
                    self.latency_ns.saturating_record(late_ns.max(1));
                    if let Some(interval_ns) = &mut self.interval_ns {
                        interval_ns.saturating_record(late_ns.max(1));
                    }
                }
                Some(stamp.sequence)
            }
            _ => {
                self.foreign += 1;
                None
            }
        }
    }
}

/// Three significant digits up to a minute.
pub fn nanosecond_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::lay_frames;

    fn arrive(tally: &mut Tally, sequence: u64) {
        let mut frame = lay_frames(32, 1);
        Stamp {
            intended_ns: 100,
            sequence,
        }
        .write(&mut frame);
        tally.count(0, &frame, 350);
    }

    #[test]
    fn a_full_set_has_none_missing_and_no_duplicates() {
        let mut tally = Tally::new(1);
        (0..1000).rev().for_each(|n| arrive(&mut tally, n));
        assert_eq!((tally.set.missing(1000), tally.set.duplicates()), (0, 0));
        assert_eq!((tally.set.distinct(), tally.set.end()), (1000, 1000));
        assert_eq!(
            (tally.latency_ns.len(), tally.latency_ns.max()),
            (1000, 250)
        );
    }

    #[test]
    fn one_missing_is_found_even_when_a_duplicate_makes_the_count_right() {
        let mut tally = Tally::new(1);
        (0..100)
            .filter(|n| *n != 63)
            .for_each(|n| arrive(&mut tally, n));
        arrive(&mut tally, 64);
        assert_eq!(tally.per_analyzer[0], 100);
        assert_eq!((tally.set.missing(100), tally.set.duplicates()), (1, 1));
    }

    #[test]
    fn a_missing_tail_is_found() {
        let mut tally = Tally::new(1);
        (0..128).for_each(|n| arrive(&mut tally, n));
        assert_eq!(tally.set.missing(130), 2);
        assert_eq!(SequenceSet::default().missing(5), 5);
    }

    #[test]
    fn numbers_of_a_part_are_counted_apart() {
        let mut tally = Tally::new(1);
        (0..300).for_each(|n| arrive(&mut tally, n));
        let count = |first, count| tally.set.count_from(first, count);
        assert_eq!(
            (count(0, 64), count(64, 100), count(64, 128)),
            (64, 100, 128)
        );
        assert_eq!((count(256, 100), count(1 << 20, 5)), (44, 0));
    }

    #[test]
    fn foreign_frames_are_counted_apart() {
        let mut tally = Tally::new(1);
        tally.count(0, &[0, 0, 0, 5, 0], 1);
        assert_eq!((tally.foreign, tally.set.distinct()), (1, 0));
    }
}
