//! When an open loop sends: one unit (a message, a burst, a packet) at a time, each by one emitter.
//!
//! ```text
//! constant   |--|--|--|--|--|   emitters in turn; each has a constant gap of connections / rate
//! poisson    |-|----|||--|-|-   exponential gaps, the emitter drawn for each unit
//! ```
//!
//! The second is the same process as a Poisson schedule of its own on each of n emitters: the
//! superposition of n Poisson processes is one of n times the rate, and which emitter an event belongs
//! to is independent and uniform (Kingman, "Poisson Processes", 1993, the superposition and colouring
//! theorems). So no queue of 10,000 timers is needed.

use weir_testkit::Random;

/// How the gaps between sends are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Gaps {
    /// Equal gaps, each emitter in turn
    #[default]
    Constant,
    /// Exponential gaps, independently on each emitter: what many unrelated senders look like
    Poisson,
}

/// The next send of an open loop.
#[derive(Debug, Clone)]
pub struct Schedule {
    gaps: Gaps,
    emitters: u64,
    gap_ns: f64,
    random: Random,
    units: u64,
    /// Offset of the next unit from the start.
    offset_ns: f64,
    emitter: u64,
}

impl Schedule {
    /// `units_per_second` over all `emitters` together; both above 0.
    pub fn new(gaps: Gaps, emitters: usize, units_per_second: f64, seed: u64) -> Self {
        let mut schedule = Self {
            gaps,
            emitters: emitters as u64,
            gap_ns: 1e9 / units_per_second,
            random: Random::new(seed),
            units: 0,
            offset_ns: 0.0,
            emitter: 0,
        };
        if gaps == Gaps::Poisson {
            schedule.draw();
        }
        schedule
    }

    /// Nanoseconds after the start at which the next unit goes.
    pub fn offset_ns(&self) -> u64 {
        self.offset_ns as u64
    }

    /// Index of the emitter that sends it.
    pub fn emitter(&self) -> usize {
        self.emitter as usize
    }

    /// The unit went: on to the next.
    pub fn advance(&mut self) {
        self.units += 1;
        match self.gaps {
            Gaps::Constant => {
                // By multiplication: a sum of gaps drifts.
                self.offset_ns = self.units as f64 * self.gap_ns;
                self.emitter = self.units % self.emitters;
            }
            Gaps::Poisson => self.draw(),
        }
    }

    fn draw(&mut self) {
        self.offset_ns += self.random.exponential() * self.gap_ns;
        self.emitter = self.random.below(self.emitters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(gaps: Gaps, seed: u64, n: usize) -> Vec<(u64, usize)> {
        let mut schedule = Schedule::new(gaps, 4, 1000.0, seed);
        let mut all = Vec::new();
        for _ in 0..n {
            all.push((schedule.offset_ns(), schedule.emitter()));
            schedule.advance();
        }
        all
    }

    #[test]
    fn constant_gaps_go_round() {
        let expected = [
            (0, 0),
            (1_000_000, 1),
            (2_000_000, 2),
            (3_000_000, 3),
            (4_000_000, 0),
        ];
        assert_eq!(offsets(Gaps::Constant, 1, 5), expected);
    }

    #[test]
    fn poisson_has_its_rate_its_variance_and_each_emitter_its_part() {
        let all = offsets(Gaps::Poisson, 3, 100_000);
        let seconds = all[all.len() - 1].0 as f64 / 1e9;
        assert!((seconds - 100.0).abs() < 2.0, "{seconds}");
        // The gaps of each single emitter are exponential as well: mean 4 ms, deviation 4 ms.
        let own: Vec<f64> = all
            .iter()
            .filter(|u| u.1 == 2)
            .map(|u| u.0 as f64 / 1e6)
            .collect();
        let gaps: Vec<f64> = own.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 4.0).abs() < 0.1, "{mean}");
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.03,
            "{}",
            variance.sqrt() / mean
        );
    }

    #[test]
    fn a_seed_repeats_a_schedule() {
        assert_eq!(offsets(Gaps::Poisson, 9, 50), offsets(Gaps::Poisson, 9, 50));
        assert_ne!(
            offsets(Gaps::Poisson, 9, 50),
            offsets(Gaps::Poisson, 10, 50)
        );
    }
}
