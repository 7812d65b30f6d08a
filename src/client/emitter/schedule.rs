//! Which groups of messages are due when. Pure: time is an argument.

use std::time::Duration;

/// Groups of one worker.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Time between groups; `None`: as fast as they are taken.
    interval_ns: Option<f64>,
    batch: u64,
    /// Messages in all; `None`: no limit.
    total: Option<u64>,
    handed: u64,
}

impl Schedule {
    /// `rate` in messages per second, 0: as fast as they are taken. `total` limits the messages.
    pub fn new(rate: f64, batch: u32, total: Option<u64>) -> Self {
        let interval_ns = (rate > 0.0).then(|| f64::from(batch) * 1e9 / rate);
        Self {
            interval_ns,
            batch: batch.into(),
            total,
            handed: 0,
        }
    }

    /// When the next group is due, counted from the start; `None`: none is left.
    pub fn next_due(&self) -> Option<Duration> {
        self.has_next().then(|| self.due(self.handed))
    }

    /// Takes the next group if it is due at `now`: its number.
    pub fn take(&mut self, now: Duration) -> Option<u64> {
        if !self.has_next() || self.due(self.handed) > now {
            return None;
        }
        self.handed += 1;
        Some(self.handed - 1)
    }

    /// When group `group` is due. Without a rate, always.
    pub fn due(&self, group: u64) -> Duration {
        let ns = self
            .interval_ns
            .map_or(0.0, |interval| interval * group as f64);
        Duration::from_nanos(ns as u64)
    }

    /// Messages in group `group`: the last one may be smaller.
    pub fn messages(&self, group: u64) -> u64 {
        let left = self
            .total
            .map_or(u64::MAX, |total| total - (group * self.batch).min(total));
        self.batch.min(left)
    }

    /// False when every message has been handed out.
    pub fn has_next(&self) -> bool {
        self.total
            .is_none_or(|total| self.handed * self.batch < total)
    }

    /// True when groups are paced by time.
    pub fn is_paced(&self) -> bool {
        self.interval_ns.is_some()
    }
}

/// Part `index` of `parts` of a whole, so that all parts add up to it.
pub fn part(whole: u64, index: u64, parts: u64) -> u64 {
    let up_to = |i: u64| (u128::from(whole) * u128::from(i) / u128::from(parts)) as u64;
    up_to(index + 1) - up_to(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_at_their_time() {
        let mut schedule = Schedule::new(1000.0, 10, Some(25));
        let ms = Duration::from_millis;
        assert_eq!(schedule.take(ms(0)), Some(0));
        assert_eq!(schedule.take(ms(9)), None);
        assert_eq!(schedule.next_due(), Some(ms(10)));
        assert_eq!(schedule.take(ms(500)), Some(1));
        assert_eq!(schedule.take(ms(500)), Some(2));
        assert_eq!(schedule.take(ms(500)), None);
        assert_eq!(schedule.next_due(), None);
        assert_eq!([0, 1, 2].map(|g| schedule.messages(g)), [10, 10, 5]);
    }

    #[test]
    fn without_a_rate_everything_is_due() {
        let mut schedule = Schedule::new(0.0, 64, None);
        assert!((0..100).all(|g| schedule.take(Duration::ZERO) == Some(g)));
        assert!(!schedule.is_paced());
        assert_eq!(schedule.messages(u64::MAX / 64), 64);
    }

    #[test]
    fn parts_add_up() {
        for parts in 1..20 {
            assert_eq!(
                (0..parts).map(|i| part(10_007, i, parts)).sum::<u64>(),
                10_007
            );
        }
    }
}
