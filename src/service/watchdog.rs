//! When the manager's watchdog may be fed: while every part makes progress, and not while one stands still.

use std::time::Duration;

/// The shortest time that can be kept: idle shards turn ten times a second, and it is fed at half of it.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// The time within which the manager must be told that all is well: `WATCHDOG_USEC`, when `WATCHDOG_PID` is
/// this process or not set. What cannot be used is worth a warning, as with [`super::notify`]: a manager that
/// asked for too much ends the process by itself.
pub fn timeout_from_environment() -> Option<Duration> {
    let (timeout, warning) = timeout(
        super::variable("WATCHDOG_USEC").as_deref(),
        super::variable("WATCHDOG_PID").as_deref(),
        std::process::id(),
    );
    if let Some(warning) = warning {
        log::warn!("{warning}");
    }
    timeout
}

/// The timeout, none when nobody is to be fed; and what is wrong with the variables.
fn timeout(usec: Option<&str>, pid: Option<&str>, own: u32) -> (Option<Duration>, Option<String>) {
    let Some(usec) = usec else {
        return (None, None);
    };
    match pid.map(str::parse::<u32>) {
        None => {}
        Some(Ok(pid)) if pid == own => {}
        Some(Ok(_)) => return (None, None),
        Some(Err(_)) => {
            let pid = pid.unwrap_or_default();
            let why =
                format!("WATCHDOG_PID={pid:?}: allowed: a process number; the watchdog is not fed");
            return (None, Some(why));
        }
    }
    let least = TIMEOUT_MIN.as_micros();
    match usec.parse::<u64>() {
        // As in sd_watchdog_enabled(3): neither is a time.
        Err(_) | Ok(0 | u64::MAX) => {
            let why = format!(
                "WATCHDOG_USEC={usec:?}: allowed: {least} or more microseconds; the watchdog is not fed"
            );
            (None, Some(why))
        }
        Ok(short) if Duration::from_micros(short) < TIMEOUT_MIN => {
            let why = format!(
                "WATCHDOG_USEC={usec}: too short to be kept: allowed: {least} or more microseconds (WatchdogSec=); it is fed as if it were {least}"
            );
            (Some(TIMEOUT_MIN), Some(why))
        }
        Ok(usec) => (Some(Duration::from_micros(usec)), None),
    }
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
        let second = (Some(Duration::from_secs(1)), None);
        assert_eq!(timeout(Some("1000000"), None, 7), second);
        assert_eq!(timeout(Some("1000000"), Some("7"), 7), second);
        assert_eq!(timeout(Some("1000000"), Some("8"), 7), (None, None));
        assert_eq!(timeout(Some("5"), Some("8"), 7), (None, None));
        assert_eq!(timeout(None, Some("7"), 7), (None, None));
    }

    #[test]
    fn what_cannot_be_kept_is_named_with_what_is_allowed() {
        for bad in [
            "0",
            "",
            "-1",
            "1s",
            "18446744073709551615",
            "99999999999999999999",
        ] {
            let (none, why) = timeout(Some(bad), None, 7);
            let why = why.expect("a warning");
            assert_eq!(none, None, "{bad:?}");
            assert!(
                why.contains(&format!("WATCHDOG_USEC={bad:?}: allowed: 500000")),
                "{why}"
            );
        }
        let (none, why) = timeout(Some("1000000"), Some("x"), 7);
        assert_eq!(none, None);
        assert!(why.is_some_and(|why| why.contains("WATCHDOG_PID=\"x\": allowed")));
        for short in ["1", "7", "8", "499999"] {
            let (floor, why) = timeout(Some(short), None, 7);
            assert_eq!(floor, Some(TIMEOUT_MIN), "{short}");
            let why = why.expect("a warning");
            assert!(
                why.contains(short) && why.contains("allowed: 500000"),
                "{why}"
            );
        }
        assert_eq!(timeout(Some("500000"), None, 7), (Some(TIMEOUT_MIN), None));
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
