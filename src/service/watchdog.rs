//! When the manager's watchdog may be fed: while every part makes progress, and not while one stands still.

use std::time::Duration;

/// The time within which the manager must be told that all is well: `WATCHDOG_USEC`, when `WATCHDOG_PID` is
/// this process or not set.
pub fn timeout_from_environment() -> Option<Duration> {
    timeout(
        super::variable("WATCHDOG_USEC").as_deref(),
        super::variable("WATCHDOG_PID").as_deref(),
        std::process::id(),
    )
}

fn timeout(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec))
}

/// Counters that only go up, one for each part: have all gone up since the last time that it was asked with
/// success?
#[derive(Debug, Default)]
pub struct Progress {
    seen: Vec<u64>,
}

impl Progress {
    /// Every counter is another than at the last `true`; then these are the new marks. A part that stands
    /// still keeps the answer `false` whatever the others do.
    pub fn all(&mut self, counters: &[u64]) -> bool {
        let all = counters.len() == self.seen.len()
            && counters
                .iter()
                .zip(&self.seen)
                .all(|(now, seen)| now != seen);
        if all || counters.len() != self.seen.len() {
            self.seen = counters.to_vec();
        }
        all
    }

    /// The parts that stand still.
    pub fn stuck(&self, counters: &[u64]) -> Vec<usize> {
        let pairs = counters.iter().zip(&self.seen).enumerate();
        let stuck = pairs.filter(|(_, (now, seen))| now == seen);
        stuck.map(|(part, _)| part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_another_process_do_not_count() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(timeout(Some("1000000"), None, 7), second);
        assert_eq!(timeout(Some("1000000"), Some("7"), 7), second);
        assert_eq!(timeout(Some("1000000"), Some("8"), 7), None);
        assert_eq!(timeout(Some("1000000"), Some("x"), 7), None);
        for bad in [None, Some("0"), Some(""), Some("-1"), Some("1s")] {
            assert_eq!(timeout(bad, None, 7), None, "{bad:?}");
        }
    }

    #[test]
    fn one_that_stands_still_is_enough() {
        let mut progress = Progress::default();
        assert!(!progress.all(&[1, 1]), "nothing to compare with yet");
        assert!(progress.all(&[2, 5]));
        assert!(!progress.all(&[3, 5]));
        assert!(!progress.all(&[4, 5]));
        assert_eq!(progress.stuck(&[4, 5]), [1]);
        assert!(progress.all(&[5, 6]), "it goes on: so does this");
        assert!(!progress.all(&[5, 6]));
    }
}
