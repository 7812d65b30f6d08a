//! How long to wait before the next attempt to connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from 50 ms to 5 s. Each wait is drawn from its upper half, so that many clients that lost
/// the same distributor do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    random: Random,
}

impl Backoff {
    /// Starts at the shortest wait.
    pub fn new(seed: u64) -> Self {
        Self {
            next: FIRST,
            random: Random::new(seed),
        }
    }

    /// The wait before the coming attempt; the one after it is twice as long.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(0.5 + self.random.unit() / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// The peer answered: start over.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// SplitMix64: enough for jitter and for loads.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Evenly in 0..1.
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal, with mean 0 and deviation 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_over() {
        let mut backoff = Backoff::new(1);
        let mut ceiling = FIRST;
        for _ in 0..20 {
            let wait = backoff.wait();
            assert!(
                wait >= ceiling / 2 && wait <= ceiling,
                "{wait:?} of {ceiling:?}"
            );
            ceiling = (ceiling * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(Backoff::new(1).wait(), Backoff::new(2).wait());
    }
}
