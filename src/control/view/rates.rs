//! How fast things go: what the counters were at moments of the last seconds.
//!
//! ```text
//!   sample  sample  sample ... sample   now
//!   |<------------ 10 s ------------>|       share of time that receiving was stopped
//!                     |<--- 5 s ---->|       messages a second, real shares
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Rates are over this long, or over the time that there is.
pub const RATE_OVER: Duration = Duration::from_secs(5);
/// How far back samples go.
pub const STALLS_OVER: Duration = Duration::from_secs(10);
/// Least time between two samples: ten scrapes a second make no more of them.
const SAMPLE_EVERY: Duration = Duration::from_millis(450);
/// The ring holds [`STALLS_OVER`] and one more.
const SAMPLES_MAX: usize = 24;

/// Counters of one shard at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShardSample {
    /// Messages taken in.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Messages ACKed.
    pub acked: u64,
    /// Nanoseconds that the loop was busy.
    pub busy_ns: u64,
    /// Nanoseconds that receiving was stopped.
    pub stalled_ns: u64,
}

/// Counters of one analyzer at a moment, all shards added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnalyzerSample {
    /// Messages given to it.
    pub assigned: u64,
    /// Messages that it ACKed.
    pub acked: u64,
}

/// All counters at a moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// CLOCK_MONOTONIC.
    pub mono_ns: u64,
    /// In the order of the shards.
    pub shards: Vec<ShardSample>,
    /// Messages of each place where emitters connect, in the order of their numbers.
    pub inputs: Vec<u64>,
    /// By name.
    pub analyzers: BTreeMap<Arc<str>, AnalyzerSample>,
}

impl Sample {
    fn assigned(&self, name: &str) -> u64 {
        self.analyzers.get(name).map_or(0, |one| one.assigned)
    }

    fn assigned_to_all(&self) -> u64 {
        self.analyzers.values().map(|one| one.assigned).sum()
    }
}

/// The last seconds.
#[derive(Default)]
pub struct Rates {
    samples: VecDeque<Sample>,
    newest: Sample,
}

impl Rates {
    /// Takes the newest counters.
    pub fn note(&mut self, sample: Sample) {
        let since = |last: &Sample| sample.mono_ns.saturating_sub(last.mono_ns);
        let is_due = |last| u128::from(since(last)) >= SAMPLE_EVERY.as_nanos();
        if self.samples.back().is_none_or(is_due) {
            self.samples.push_back(sample.clone());
            if self.samples.len() > SAMPLES_MAX {
                self.samples.pop_front();
            }
        }
        self.newest = sample;
    }

    /// The newest sample that is at least so old, or else the oldest; and the seconds since.
    fn before(&self, age: Duration) -> Option<(&Sample, f64)> {
        let age_ns = |sample: &Sample| self.newest.mono_ns.saturating_sub(sample.mono_ns);
        let is_old = |sample: &&Sample| u128::from(age_ns(sample)) >= age.as_nanos();
        let mut newest_first = self.samples.iter().rev();
        let then = newest_first.find(is_old).or(self.samples.front())?;
        let seconds = age_ns(then) as f64 / 1e9;
        (seconds > 0.0).then_some((then, seconds))
    }

    fn shard(sample: &Sample, index: usize) -> ShardSample {
        sample.shards.get(index).copied().unwrap_or_default()
    }

    /// Of a shard's counter, per second.
    pub fn of_shard(&self, index: usize, part: impl Fn(ShardSample) -> u64) -> f64 {
        self.of_shard_over(RATE_OVER, index, part)
    }

    fn of_shard_over(&self, age: Duration, i: usize, part: impl Fn(ShardSample) -> u64) -> f64 {
        let Some((then, seconds)) = self.before(age) else {
            return 0.0;
        };
        let (now, then) = (Self::shard(&self.newest, i), Self::shard(then, i));
        part(now).saturating_sub(part(then)) as f64 / seconds
    }

    /// Part of the last ten seconds that the shard had stopped receiving, 0 to 1.
    pub fn stalled(&self, index: usize) -> f64 {
        self.of_shard_over(STALLS_OVER, index, |shard| shard.stalled_ns) / 1e9
    }

    /// Of all shards' counters, per second.
    pub fn of_all(&self, part: impl Fn(ShardSample) -> u64 + Copy) -> f64 {
        let shards = 0..self.newest.shards.len();
        shards.map(|index| self.of_shard(index, part)).sum()
    }

    /// Messages that came at a place, per second.
    pub fn input(&self, index: usize) -> f64 {
        let Some((then, seconds)) = self.before(RATE_OVER) else {
            return 0.0;
        };
        let messages = |sample: &Sample| sample.inputs.get(index).copied().unwrap_or_default();
        messages(&self.newest).saturating_sub(messages(then)) as f64 / seconds
    }

    /// Messages that an analyzer ACKed, per second.
    pub fn acked(&self, name: &str) -> f64 {
        let Some((then, seconds)) = self.before(RATE_OVER) else {
            return 0.0;
        };
        let acked = |sample: &Sample| sample.analyzers.get(name).map_or(0, |one| one.acked);
        acked(&self.newest).saturating_sub(acked(then)) as f64 / seconds
    }

    /// What was given out in the last seconds; none when nothing was.
    pub fn given(&self) -> Option<Given<'_>> {
        let (then, _) = self.before(RATE_OVER)?;
        let now = &self.newest;
        let all = now.assigned_to_all().saturating_sub(then.assigned_to_all()) as f64;
        (all > 0.0).then_some(Given { now, then, all })
    }
}

/// What was given out between two moments. Its sum is made once, however many analyzers are asked for.
pub struct Given<'a> {
    now: &'a Sample,
    then: &'a Sample,
    all: f64,
}

impl Given<'_> {
    /// An analyzer's part of it, 0 to 1.
    pub fn share(&self, name: &str) -> f64 {
        let given = self
            .now
            .assigned(name)
            .saturating_sub(self.then.assigned(name));
        given as f64 / self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, received: u64, a: u64, b: u64) -> Sample {
        let one = |assigned| AnalyzerSample {
            assigned,
            acked: assigned / 2,
        };
        Sample {
            mono_ns: (seconds * 1e9) as u64,
            inputs: Vec::new(),
            shards: vec![ShardSample {
                received,
                stalled_ns: (seconds * 0.4e9) as u64,
                ..ShardSample::default()
            }],
            analyzers: BTreeMap::from([("a".into(), one(a)), ("b".into(), one(b))]),
        }
    }

    #[test]
    fn rates_are_over_the_last_five_seconds() {
        let mut rates = Rates::default();
        assert_eq!(rates.of_all(|shard| shard.received), 0.0);
        assert!(rates.given().is_none());
        for half in 0..40_u64 {
            // Ten times as fast in the last five seconds.
            let received = if half < 30 {
                half
            } else {
                29 + (half - 29) * 10
            };
            rates.note(sample(
                100.0 + half as f64 / 2.0,
                received,
                3 * received,
                received,
            ));
        }
        assert_eq!(rates.of_all(|shard| shard.received), 20.0);
        let given = rates.given().expect("there was something");
        assert_eq!(given.share("a"), 0.75);
        assert_eq!(given.share("nobody"), 0.0);
        assert!(
            (rates.acked("b") - 10.0).abs() < 0.2,
            "{}",
            rates.acked("b")
        );
        assert!((rates.stalled(0) - 0.4).abs() < 1e-6);
        assert_eq!(rates.of_shard(7, |shard| shard.received), 0.0);
    }

    #[test]
    fn many_notes_make_no_more_samples() {
        let mut rates = Rates::default();
        for n in 0..1000_u64 {
            rates.note(sample(n as f64 / 20.0, n, n, 0));
        }
        assert_eq!(rates.samples.len(), SAMPLES_MAX);
        let span = rates.newest.mono_ns - rates.samples[0].mono_ns;
        assert!(u128::from(span) > STALLS_OVER.as_nanos(), "{span}");
        assert!((rates.of_all(|shard| shard.received) - 20.0).abs() < 0.1);
    }
}
