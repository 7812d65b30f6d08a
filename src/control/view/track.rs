//! What reports do not carry over time: latencies of the last seconds, latencies of links that are
//! gone, and since when the oldest message waits.
//!
//! ```text
//! report now   lane's histogram, counted since its link came up
//!   - base     the same some seconds ago             = the last seconds
//!   + gone     buckets of the analyzer's dead links  = a counter that never goes back
//! ```

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use weir_engine::LaneReport;

/// Upper limits of the latency buckets, in microseconds; one more has no limit.
pub const BUCKETS_US: [u64; 12] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000,
];
/// The last seconds are between this and twice as long.
const BASE_EVERY_NS: u64 = 3_000_000_000;
/// Moments kept per lane; when there are more, every second one goes.
const MARKS_MAX: usize = 64;

/// Latencies in buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Not cumulative; the last one has no upper limit.
    pub counts: [u64; BUCKETS_US.len() + 1],
    /// Of all values, in seconds; within 1 %, as the histogram's own values are.
    pub sum_s: f64,
}

impl Buckets {
    /// Of a whole histogram, which is in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Buckets {
        let mut buckets = Buckets::default();
        let mut index = 0;
        for step in histogram.iter_recorded() {
            let value = step.value_iterated_to();
            // Values come in ascending order.
            while index < BUCKETS_US.len()
                && value > histogram.highest_equivalent(BUCKETS_US[index])
            {
                index += 1;
            }
            let count = step.count_since_last_iteration();
            buckets.counts[index] += count;
            buckets.sum_s += histogram.median_equivalent(value) as f64 * count as f64 / 1e6;
        }
        buckets
    }

    /// Adds others.
    pub fn add(&mut self, other: &Buckets) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum_s += other.sum_s;
    }

    /// Of all values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// One lane, over its time.
pub struct LaneTrack {
    /// All its latencies so far.
    pub buckets: Buckets,
    /// The histogram, as it was copied last.
    latest: Option<Histogram<u64>>,
    /// The same, when the present and the last base were taken.
    bases: [Option<Histogram<u64>>; 2],
    based_ns: u64,
    /// When (ms since 1970) how much was seen to be assigned; only what is not ACKed yet.
    marks: VecDeque<(u64, u64)>,
}

impl LaneTrack {
    /// Of a lane that was not there before.
    pub fn new(mono_ns: u64) -> LaneTrack {
        LaneTrack {
            buckets: Buckets::default(),
            latest: None,
            bases: [None, None],
            based_ns: mono_ns,
            marks: VecDeque::new(),
        }
    }

    /// Takes the newest report of the lane.
    pub fn note(&mut self, lane: &LaneReport, mono_ns: u64, unix_ms: u64) {
        if lane.latency_us.count() != self.buckets.count() {
            self.latest = Some(lane.latency_us.histogram());
            self.buckets = self.latest.as_ref().map(Buckets::of).unwrap_or_default();
        }
        if mono_ns.saturating_sub(self.based_ns) >= BASE_EVERY_NS {
            self.based_ns = mono_ns;
            self.bases.rotate_right(1);
            self.bases[0].clone_from(&self.latest);
        }
        // ACKed, or refused and set aside.
        let through = lane.assigned - lane.in_flight - lane.queued;
        while self.marks.front().is_some_and(|mark| mark.1 <= through) {
            self.marks.pop_front();
        }
        let marked = self.marks.back().map_or(through, |mark| mark.1);
        if lane.assigned > marked {
            self.marks.push_back((unix_ms, lane.assigned));
        }
        if self.marks.len() > MARKS_MAX {
            let mut is_odd = false;
            self.marks.retain(|_| {
                is_odd = !is_odd;
                is_odd
            });
        }
    }

    /// When the oldest message without an ACK was first seen here, in ms since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.marks.front().map(|mark| mark.0)
    }

    /// Adds the latencies of the last seconds to `all`, which is made on the way.
    pub fn recent(&self, all: &mut Option<Histogram<u64>>) {
        let Some(latest) = &self.latest else {
            return;
        };
        let all = all.get_or_insert_with(|| Histogram::new_from(latest));
        // All have the same bounds, and a base is an earlier copy of counts that only grow: neither
        // call can fail.
        let _ = all.add(latest);
        if let Some(base) = self.bases[1].as_ref().or(self.bases[0].as_ref()) {
            let _ = all.subtract(base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::LinkEpoch;

    fn lane(assigned: u64, acked: u64) -> LaneReport {
        LaneReport {
            epoch: LinkEpoch::new(0, 1),
            analyzer: 0,
            assigned,
            assigned_before: 0,
            acked,
            in_flight: assigned - acked,
            queued: 0,
            full: false,
            down: false,
            held_bytes: 0,
            latency_us: Default::default(),
        }
    }

    #[test]
    fn values_at_a_limit_are_below_it() {
        let lane = lane(0, 0);
        for value in BUCKETS_US {
            lane.latency_us.record(value, 1);
        }
        lane.latency_us.record(60_000_000, 1);
        let buckets = Buckets::of(&lane.latency_us.histogram());
        assert_eq!(buckets.counts, [1; 13]);
        assert_eq!(buckets.count(), 13);
        let exact = (BUCKETS_US.iter().sum::<u64>() + 60_000_000) as f64 / 1e6;
        assert!(
            (buckets.sum_s / exact - 1.0).abs() < 0.01,
            "{}",
            buckets.sum_s
        );
    }

    #[test]
    fn the_last_seconds_do_not_know_what_was_before() {
        let mut track = LaneTrack::new(0);
        let lane = lane(10, 10);
        // More than 32 bits count.
        lane.latency_us.record(50_000, 5_000_000_000);
        for second in 0..20_u64 {
            track.note(&lane, second * 1_000_000_000, 0);
        }
        lane.latency_us.record(700, 100);
        track.note(&lane, 20_000_000_000, 0);
        let mut all = None;
        track.recent(&mut all);
        let all = all.expect("some");
        assert_eq!(all.len(), 100);
        assert_eq!(all.value_at_quantile(0.99) / 10, 70);
    }

    #[test]
    fn the_oldest_is_the_first_that_is_not_acked() {
        let mut track = LaneTrack::new(0);
        let mut at = |ms, assigned, acked| {
            track.note(&lane(assigned, acked), ms * 1_000_000, ms);
            track.oldest_ms()
        };
        assert_eq!(at(100, 0, 0), None);
        assert_eq!(at(200, 10, 0), Some(200));
        assert_eq!(at(300, 25, 9), Some(200));
        assert_eq!(at(400, 30, 10), Some(300));
        assert_eq!(at(500, 30, 30), None);
        for ms in 600..1600 {
            at(ms, ms, 30);
        }
        assert_eq!(at(1600, 1600, 31), Some(600));
        assert!(track.marks.len() <= MARKS_MAX);
    }
}
