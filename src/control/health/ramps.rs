//! Weights on their way: linear, in steps of 100 ms, each an order like any other.
//!
//! ```text
//! from --.__
//!           `--.__      100 ms a step; a later order for the same analyzer takes its place
//!                 `-- to
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::view::row::RampStatus;

/// Time between two steps.
pub const STEP: Duration = Duration::from_millis(100);
/// Ramps at once.
pub const RAMPS_MAX: usize = 1024;
/// Longest ramp.
pub const RAMP_MAX: Duration = Duration::from_secs(24 * 3600);

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ramp {
    /// Weight at its begin.
    pub from: f64,
    /// Weight at its end.
    pub to: f64,
    /// CLOCK_MONOTONIC of its begin.
    pub began_ns: u64,
    /// How long it takes.
    pub over: Duration,
    /// The analyzer's own weights do not count.
    pub pin: bool,
    /// It gives way to a weight that the operator pinned: a slow start.
    pub is_slow_start: bool,
}

/// An order that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Which analyzer.
    pub analyzer: Arc<str>,
    /// Its weight from now on.
    pub weight: f64,
    /// As in the ramp.
    pub pin: bool,
    /// As in the ramp.
    pub is_slow_start: bool,
}

impl Ramp {
    fn part(&self, now_ns: u64) -> f64 {
        let past_ns = now_ns.saturating_sub(self.began_ns) as f64;
        let over_ns = self.over.as_nanos() as f64;
        if past_ns >= over_ns {
            1.0
        } else {
            past_ns / over_ns
        }
    }

    fn weight(&self, now_ns: u64) -> f64 {
        match self.part(now_ns) {
            // Exactly, whatever rounding says.
            1.0 => self.to,
            part => self.from + (self.to - self.from) * part,
        }
    }
}

/// All of them, by analyzer.
#[derive(Default)]
pub struct Ramps(BTreeMap<Arc<str>, Ramp>);

impl Ramps {
    /// Begins one; one that is under way for the same analyzer ends.
    ///
    /// # Errors
    /// There are [`RAMPS_MAX`] others.
    pub fn begin(&mut self, analyzer: Arc<str>, ramp: Ramp) -> Result<(), String> {
        if self.0.len() >= RAMPS_MAX && !self.0.contains_key(&analyzer) {
            return Err(format!(
                "ramps: {RAMPS_MAX} are under way, which is the most"
            ));
        }
        self.0.insert(analyzer, ramp);
        Ok(())
    }

    /// None is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends one, where it is.
    pub fn end(&mut self, analyzer: &str) {
        self.0.remove(analyzer);
    }

    /// What is due now; ramps that arrive are over with it.
    pub fn steps(&mut self, now_ns: u64) -> Vec<Step> {
        let step = |(analyzer, ramp): (&Arc<str>, &Ramp)| Step {
            analyzer: Arc::clone(analyzer),
            weight: ramp.weight(now_ns),
            pin: ramp.pin,
            is_slow_start: ramp.is_slow_start,
        };
        let steps = self.0.iter().map(step).collect();
        self.0.retain(|_, ramp| ramp.part(now_ns) < 1.0);
        steps
    }

    /// For whoever looks.
    pub fn status(&self, now_ns: u64) -> Vec<RampStatus> {
        let status = |(analyzer, ramp): (&Arc<str>, &Ramp)| {
            let past = Duration::from_nanos(now_ns.saturating_sub(ramp.began_ns));
            let left = ramp.over.saturating_sub(past);
            RampStatus {
                analyzer: Arc::clone(analyzer),
                from: ramp.from,
                to: ramp.to,
                remaining_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                pin: ramp.pin,
                is_slow_start: ramp.is_slow_start,
            }
        };
        self.0.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(from: f64, to: f64, began_ms: u64, over_ms: u64) -> Ramp {
        Ramp {
            from,
            to,
            began_ns: began_ms * 1_000_000,
            over: Duration::from_millis(over_ms),
            pin: false,
            is_slow_start: false,
        }
    }

    fn weights(ramps: &mut Ramps, ms: u64) -> Vec<(String, f64)> {
        let steps = ramps.steps(ms * 1_000_000).into_iter();
        let weight = |step: Step| (step.analyzer.to_string(), (step.weight * 1e6).round() / 1e6);
        steps.map(weight).collect()
    }

    #[test]
    fn a_ramp_is_linear_and_arrives_exactly_once() {
        let mut ramps = Ramps::default();
        ramps
            .begin("a".into(), ramp(0.1, 0.3, 1000, 1000))
            .expect("room");
        assert_eq!(weights(&mut ramps, 1000), [("a".into(), 0.1)]);
        assert_eq!(weights(&mut ramps, 1250), [("a".into(), 0.15)]);
        assert_eq!(weights(&mut ramps, 1900), [("a".into(), 0.28)]);
        assert_eq!(ramps.status(1_900_000_000)[0].remaining_ms, 100);
        let last = ramps.steps(2_000_000_000);
        assert_eq!(last[0].weight, 0.3);
        assert_eq!(weights(&mut ramps, 2100), []);
    }

    #[test]
    fn the_later_one_counts_and_there_are_not_too_many() {
        let mut ramps = Ramps::default();
        for n in 0..RAMPS_MAX {
            ramps
                .begin(n.to_string().into(), ramp(0.0, 1.0, 0, 1000))
                .expect("room");
        }
        assert!(ramps.begin("x".into(), ramp(0.0, 1.0, 0, 1000)).is_err());
        ramps
            .begin("7".into(), ramp(1.0, 0.0, 0, 0))
            .expect("replaces");
        let steps = ramps.steps(500_000_000);
        let seven = steps.iter().find(|step| &*step.analyzer == "7");
        assert_eq!(seven.map(|step| step.weight), Some(0.0), "no time: at once");
        ramps.end("8");
        assert_eq!(ramps.steps(0).len(), RAMPS_MAX - 2);
    }
}
