//! Lines that are made again and again: the first few are written, the others counted.
//!
//! A line's kind is its place in the source. A place may write some lines at once and then some a second, so
//! that no peer fills a disk; `debug` and `trace` are asked for by whoever reads them and are not limited.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Record};

use super::{logger, queue};

/// What one place in the source may write.
struct Allowed {
    at_once: f64,
    per_second: f64,
}

/// Peers decide how often these come.
const TROUBLE: Allowed = Allowed {
    at_once: 10.0,
    per_second: 1.0,
};
/// A roll-out of many analyzers makes a line or two for each.
const NEWS: Allowed = Allowed {
    at_once: 200.0,
    per_second: 10.0,
};
/// What was hidden is told so soon for the first time...
const TELL_FIRST: Duration = Duration::from_secs(1);
/// ...and then so often.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Since the start.
static HIDDEN: AtomicU64 = AtomicU64::new(0);
static PLACES: OnceLock<Mutex<Places>> = OnceLock::new();

/// File and line; there are as many as `log::warn!` and its like stand in the source.
type Key = (&'static str, u32);

#[derive(Default)]
struct Places(HashMap<Key, Place>);

struct Place {
    /// Lines that may be written now.
    left: f64,
    counted_at: Instant,
    /// Since the last line about it.
    hidden: u64,
    hidden_since: Instant,
    tell_at: Instant,
    level: Level,
    target: String,
    /// The newest that was written.
    example: String,
}

/// Lines that were only counted since the start.
pub fn hidden_lines() -> u64 {
    HIDDEN.load(Ordering::Relaxed)
}

fn places() -> MutexGuard<'static, Places> {
    PLACES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Whether a line shall be written; otherwise it is counted.
pub(super) fn admit(record: &Record<'_>, now: Instant) -> bool {
    let answer = places().admit(record, now);
    if answer != Answer::Write {
        HIDDEN.fetch_add(1, Ordering::Relaxed);
    }
    if answer == Answer::HideFirst {
        queue::wake();
    }
    answer == Answer::Write
}

/// Writes what was hidden where it is time; when to come again.
pub(super) fn tell(now: Instant) -> Option<Duration> {
    let (told, again) = places().due(now, false);
    told.into_iter().for_each(Told::write);
    again
}

/// Writes all that was hidden.
pub(super) fn tell_all() {
    let (told, _) = places().due(Instant::now(), true);
    told.into_iter().for_each(Told::write);
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Write,
    /// The first since something was told: somebody has to think of the next time.
    HideFirst,
    Hide,
}

struct Told {
    level: Level,
    target: String,
    text: String,
}

impl Told {
    fn write(self) {
        logger::write(self.level, &self.target, &self.text);
    }
}

impl Places {
    fn admit(&mut self, record: &Record<'_>, now: Instant) -> Answer {
        let allowed = match record.level() {
            Level::Error | Level::Warn => TROUBLE,
            Level::Info => NEWS,
            Level::Debug | Level::Trace => return Answer::Write,
        };
        let (Some(file), Some(line)) = (record.file_static(), record.line()) else {
            return Answer::Write;
        };
        let place = self.0.entry((file, line)).or_insert_with(|| Place {
            left: allowed.at_once,
            counted_at: now,
            hidden: 0,
            hidden_since: now,
            tell_at: now,
            level: record.level(),
            target: record.target().to_owned(),
            example: String::new(),
        });
        let since = now.saturating_duration_since(place.counted_at);
        place.counted_at = now;
        place.left = (place.left + since.as_secs_f64() * allowed.per_second).min(allowed.at_once);
        if place.left >= 1.0 {
            place.left -= 1.0;
            place.example = record.args().to_string();
            return Answer::Write;
        }
        place.hidden += 1;
        if place.hidden > 1 {
            return Answer::Hide;
        }
        place.hidden_since = now;
        // Soon, if that is the first time in a while.
        if place.tell_at <= now {
            place.tell_at = now + TELL_FIRST;
        }
        Answer::HideFirst
    }

    fn due(&mut self, now: Instant, all: bool) -> (Vec<Told>, Option<Duration>) {
        let mut told = Vec::new();
        let mut next: Option<Duration> = None;
        for place in self.0.values_mut().filter(|place| place.hidden > 0) {
            let left = place.tell_at.saturating_duration_since(now);
            if !all && !left.is_zero() {
                next = Some(next.map_or(left, |next| next.min(left)));
                continue;
            }
            let seconds = now.saturating_duration_since(place.hidden_since).as_secs();
            told.push(Told {
                level: place.level,
                target: place.target.clone(),
                text: format!(
                    "and {} more like this in {} s: {}",
                    grouped(place.hidden),
                    seconds.max(1),
                    place.example
                ),
            });
            place.hidden = 0;
            place.tell_at = now + TELL_AGAIN;
        }
        (told, next)
    }
}

/// A number as people read it: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: Level, line: u32) -> Record<'static> {
        let mut record = Record::builder();
        record.level(level).target("weir::test");
        record.file_static(Some(file!())).line(Some(line));
        record.args(format_args!("a peer said nonsense")).build()
    }

    impl Places {
        fn admitted(&mut self, level: Level, line: u32, at: Instant, times: usize) -> usize {
            let record = record(level, line);
            let answers = (0..times).map(|_| self.admit(&record, at));
            answers.filter(|answer| *answer == Answer::Write).count()
        }

        fn told(&mut self, now: Instant) -> Vec<String> {
            let (told, _) = self.due(now, false);
            told.into_iter().map(|told| told.text).collect()
        }
    }

    #[test]
    fn the_first_are_written_and_the_others_counted() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut places = Places::default();
        assert_eq!(places.admitted(Level::Warn, 1, start, 2_008), 10);
        assert!(places.told(start).is_empty(), "not at once");
        assert_eq!(
            places.told(at(1)),
            ["and 1,998 more like this in 1 s: a peer said nonsense"]
        );
        // One a second, and a line about the others every ten.
        assert_eq!(places.admitted(Level::Warn, 1, at(2), 100), 2);
        assert!(places.told(at(3)).is_empty());
        assert_eq!(
            places.told(at(11)),
            ["and 98 more like this in 9 s: a peer said nonsense"]
        );
        assert!(places.told(at(99)).is_empty(), "told once");
        // After a quiet time it is as at first.
        assert_eq!(places.admitted(Level::Warn, 1, at(99), 100), 10);
    }

    #[test]
    fn places_and_levels_have_their_own_limits() {
        let now = Instant::now();
        let mut places = Places::default();
        assert_eq!(places.admitted(Level::Error, 2, now, 100), 10);
        assert_eq!(places.admitted(Level::Warn, 3, now, 5), 5);
        assert_eq!(places.admitted(Level::Info, 4, now, 1_000), 200);
        assert_eq!(places.admitted(Level::Debug, 5, now, 1_000), 1_000);
    }

    #[test]
    fn numbers_are_grouped() {
        let numbers = [0, 999, 1_000, 1_234_567];
        assert_eq!(numbers.map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
