//! ACK latencies of one lane: counts by latency, written by its shard and read by others at any time.
//!
//! ```text
//! us      0 .. 255   256 .. 511   512 .. 1023   ...   to 60 s
//! step    1          2            4                   1 % of the value
//! ```
//!
//! A report carries a handle, not a copy: 1,000 lanes of 20 KiB each, ten times a second, were the longest
//! turns of a shard. Counts are 64 bits wide, so that none stands still.

use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// Latencies above a minute are recorded as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Steps of each power of two.
const STEPS: usize = 128;
const COUNTS: usize = index_of(LATENCY_US_MAX) + 1;

/// Counts of latencies, to about 1 %.
#[derive(Debug)]
pub struct Latencies {
    counts: Box<[AtomicU64]>,
    all: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            counts: (0..COUNTS).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    /// `messages` messages took `us` microseconds. Called by one thread only.
    pub fn record(&self, us: u64, messages: u64) {
        // One writer: no other value can come between load and store.
        let add = |to: &AtomicU64| {
            let sum = to.load(Ordering::Relaxed).saturating_add(messages);
            to.store(sum, Ordering::Relaxed);
        };
        add(&self.counts[index_of(us.clamp(1, LATENCY_US_MAX))]);
        add(&self.all);
    }

    /// Messages recorded.
    pub fn count(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// A copy, in microseconds.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut copy =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("constant bounds are valid");
        for (index, count) in self.counts.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                copy.saturating_record_n(value_of(index), count);
            }
        }
        copy
    }
}

const fn index_of(us: u64) -> usize {
    let bits = (u64::BITS - us.leading_zeros()) as usize;
    let shift = bits.saturating_sub(8);
    shift * STEPS + (us >> shift) as usize // 255 at most
}

/// The least latency that is counted there.
fn value_of(index: usize) -> u64 {
    let shift = (index / STEPS).saturating_sub(1);
    ((index - shift * STEPS) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_a_histogram_of_the_same_would_be() {
        let latencies = Latencies::default();
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, 2).expect("bounds");
        for n in 0..20_000_u64 {
            let us = n * n * n % 90_000_000;
            latencies.record(us, n);
            histogram.saturating_record_n(us.clamp(1, LATENCY_US_MAX), n);
        }
        assert_eq!(latencies.histogram(), histogram);
        assert_eq!(latencies.count(), histogram.len());
        for index in 0..COUNTS {
            assert_eq!(index_of(value_of(index)), index);
        }
    }

    #[test]
    fn a_bucket_goes_on_where_32_bits_end() {
        let latencies = Latencies::default();
        for _ in 0..3 {
            latencies.record(300, u64::from(u32::MAX));
        }
        latencies.record(900, 1);
        let all = 3 * u64::from(u32::MAX) + 1;
        assert_eq!(latencies.count(), all);
        let histogram = latencies.histogram();
        assert_eq!(histogram.len(), all);
        assert_eq!(histogram.count_between(300, 301), all - 1);
    }
}
