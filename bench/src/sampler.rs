//! A run over time: messages received and their times, interval by interval.
//!
//! The event loop calls [`Sampler::tick`] each turn. An interval's end costs it one allocation and no
//! copy; encoding waits until the run is over, so that it is in nobody's latency.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::check::{nanosecond_histogram, Tally};
use crate::report::{encode, Sample};

/// Intervals kept; the last one then takes what is left. At the default step: a minute.
const SAMPLES_MAX: usize = 256;
/// Long enough for figures, short enough to see a stall.
const STEP: Duration = Duration::from_millis(250);

struct Interval {
    start_ns: u64,
    end_ns: u64,
    received: u64,
    histogram: Histogram<u64>,
}

/// Cuts a run into intervals.
pub struct Sampler {
    run_start_ns: u64,
    step_ns: u64,
    start_ns: u64,
    received_before: u64,
    intervals: Vec<Interval>,
}

impl Sampler {
    /// Starts the first interval. `expected`: how long the run is thought to take; a long one gets
    /// longer intervals.
    pub fn start(now_ns: u64, expected: Duration, tally: &mut Tally) -> Self {
        tally.interval_ns = Some(nanosecond_histogram());
        let step = STEP.max(expected / SAMPLES_MAX as u32);
        Self {
            run_start_ns: now_ns,
            step_ns: step.as_nanos() as u64,
            start_ns: now_ns,
            received_before: tally.set.distinct(),
            intervals: Vec::new(),
        }
    }

    /// Ends the interval if it is time.
    pub fn tick(&mut self, now_ns: u64, tally: &mut Tally) {
        if now_ns >= self.start_ns + self.step_ns && self.intervals.len() < SAMPLES_MAX - 1 {
            self.cut(now_ns, tally);
        }
    }

    fn cut(&mut self, now_ns: u64, tally: &mut Tally) {
        let Some(interval_ns) = &mut tally.interval_ns else {
            return;
        };
        let received = tally.set.distinct();
        self.intervals.push(Interval {
            start_ns: self.start_ns,
            end_ns: now_ns,
            received: received - self.received_before,
            histogram: std::mem::replace(interval_ns, nanosecond_histogram()),
        });
        self.start_ns = now_ns;
        self.received_before = received;
    }

    /// The last interval, as long as it is by now, and all before it.
    ///
    /// # Errors
    /// As for [`encode`].
    pub fn finish(mut self, now_ns: u64, tally: &mut Tally) -> io::Result<Vec<Sample>> {
        if now_ns > self.start_ns {
            self.cut(now_ns, tally);
        }
        tally.interval_ns = None;
        let seconds = |from_ns: u64, to_ns: u64| (to_ns - from_ns) as f64 / 1e9;
        let sample = |each: &Interval| {
            let is_timed = !each.histogram.is_empty();
            let histogram = is_timed.then(|| encode(&each.histogram)).transpose()?;
            Ok(Sample {
                start_seconds: seconds(self.run_start_ns, each.start_ns),
                seconds: seconds(each.start_ns, each.end_ns),
                received: each.received,
                histogram,
            })
        };
        self.intervals.iter().map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::decode;
    use crate::wire::{lay_frames, Stamp};

    const SECOND: u64 = 1_000_000_000;

    fn arrive(tally: &mut Tally, sequence: u64, now_ns: u64) {
        let mut frame = lay_frames(32, 1);
        Stamp {
            intended_ns: now_ns - 1000,
            sequence,
        }
        .write(&mut frame);
        tally.count(0, &frame, now_ns);
    }

    #[test]
    fn intervals_lie_end_to_end_and_add_up() {
        let mut tally = Tally::new(1);
        let mut sampler = Sampler::start(SECOND, Duration::from_secs(1), &mut tally);
        for n in 0..100u64 {
            // A message every 10 ms.
            let now_ns = SECOND + n * SECOND / 100;
            sampler.tick(now_ns, &mut tally);
            arrive(&mut tally, n, now_ns);
        }
        let samples = sampler.finish(2 * SECOND, &mut tally).expect("encodes");
        assert_eq!(samples.len(), 4);
        let mut end = 0.0;
        for sample in &samples {
            assert!((sample.start_seconds - end).abs() < 1e-9, "{samples:?}");
            assert_eq!(sample.received, 25);
            let text = sample.histogram.as_deref().expect("timed");
            assert_eq!(decode(text).expect("reads").len(), 25);
            end += sample.seconds;
        }
        assert!((end - 1.0).abs() < 1e-9);
        assert_eq!(tally.latency_ns.len(), 100, "the total is kept as well");
    }

    #[test]
    fn a_run_without_end_has_a_bounded_number_of_intervals() {
        let mut tally = Tally::new(1);
        let mut sampler = Sampler::start(0, Duration::ZERO, &mut tally);
        (1..2000u64).for_each(|n| sampler.tick(n * SECOND, &mut tally));
        let samples = sampler.finish(2000 * SECOND, &mut tally).expect("encodes");
        assert_eq!(samples.len(), SAMPLES_MAX);
        let last = samples.last().expect("many");
        assert!((last.start_seconds + last.seconds - 2000.0).abs() < 1e-6);
    }
}
