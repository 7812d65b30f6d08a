//! When connections are bidden farewell: at their age, and at SIGTERM, at once or evenly over a time.
//!
//! ```text
//! accept -> Age, its own part of --max-connection-age: 90 to 110 %     over: asked to go, read on
//! SIGTERM -> Spread   |1  2  3 ... n|   of n connections one every --farewell-spread / n
//! ```
//!
//! A farewell asks and never cuts: an emitter's connection is half-closed (docs/PROTOCOL.md, 1), a client's next
//! answer says `Connection: close`. Ages differ, so that connections that came together do not go together.

use std::time::Duration;

use super::slab::{Slab, Slot};

/// A connection's age limit is so many thousandths of the setting, at least and at most.
const PERMILLE: std::ops::RangeInclusive<u16> = 900..=1100;

/// Gives connections their ages.
pub(super) struct Ages {
    random: u64,
}

/// How old a connection is, and may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    since_ns: u64,
    permille: u16,
}

impl Ages {
    pub(super) fn new(seed: u64) -> Ages {
        Ages { random: seed }
    }

    /// Of a connection that comes now.
    pub(super) fn begin(&mut self, now_ns: u64) -> Age {
        let choices = PERMILLE.end() - PERMILLE.start() + 1;
        Age {
            since_ns: now_ns,
            permille: PERMILLE.start() + (self.next() % u64::from(choices)) as u16, // below `choices`
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

impl Age {
    /// Whether it is as old as it may become; a limit of zero is none.
    pub(super) fn is_over(self, limit: Duration, now_ns: u64) -> bool {
        let age_ns = u128::from(now_ns.saturating_sub(self.since_ns));
        !limit.is_zero() && age_ns * 1000 >= limit.as_nanos() * u128::from(self.permille)
    }
}

/// Farewells of connections in the order of their places, evenly over a time.
#[derive(Debug)]
pub(super) struct Spread {
    began_ns: u64,
    time: Duration,
    connections: usize,
    said: usize,
    /// The next place to look at.
    place: usize,
}

/// Whose turn it is.
pub(super) enum Turn {
    /// This connection's.
    Of(Slot),
    /// Nobody's yet.
    Later,
    /// All have been bidden farewell.
    Over,
}

impl Spread {
    /// Of so many connections, from now on.
    pub(super) fn new(connections: usize, time: Duration, now_ns: u64) -> Spread {
        Spread {
            began_ns: now_ns,
            time,
            connections,
            said: 0,
            place: 0,
        }
    }

    /// The next connection of a table that is due now; it counts as said.
    pub(super) fn next<T>(&mut self, table: &Slab<T>, now_ns: u64) -> Turn {
        while self.place < table.places() {
            let slot = table.slot_at(self.place);
            if slot.is_some() && !self.takes_one(now_ns) {
                return Turn::Later;
            }
            self.place += 1;
            if let Some(slot) = slot {
                return Turn::Of(slot);
            }
        }
        Turn::Over
    }

    /// One more is due now; it counts as said. When the time is over, all that are left are.
    fn takes_one(&mut self, now_ns: u64) -> bool {
        let since_ns = u128::from(now_ns.saturating_sub(self.began_ns));
        let time_ns = self.time.as_nanos();
        let due = match since_ns < time_ns {
            // At least the first.
            true => self.connections as u128 * since_ns / time_ns + 1,
            false => u128::MAX,
        };
        let is_due = (self.said as u128) < due;
        self.said += usize::from(is_due);
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn ages_differ_by_a_tenth_and_repeat_with_their_seed() {
        let limit = Duration::from_secs(10);
        let ends = |seed| {
            let mut ages = Ages::new(seed);
            let end = |age: Age| (0..=12_000).find(|ms| age.is_over(limit, 5 * S + ms * S / 1000));
            let all = (0..1000).map(|_| end(ages.begin(5 * S)).expect("an end"));
            all.collect::<Vec<u64>>()
        };
        let all = ends(7);
        let (least, most) = (all.iter().min(), all.iter().max());
        assert_eq!((least, most), (Some(&9_000), Some(&11_000)));
        let in_the_middle = all.iter().filter(|ms| (9_900..=10_100).contains(*ms));
        assert!((60..140).contains(&in_the_middle.count()), "evenly");
        assert_eq!(all, ends(7));
        assert_ne!(all, ends(8));
        let age = Ages::new(1).begin(0);
        assert!(!age.is_over(Duration::ZERO, u64::MAX), "no limit");
    }

    #[test]
    fn farewells_are_even_and_all_are_said_in_the_end() {
        let mut spread = Spread::new(500, Duration::from_secs(5), S);
        let mut said = 0;
        for ms in 0..5_000 {
            while spread.takes_one(S + ms * S / 1000) {
                said += 1;
            }
            assert_eq!(said, ms / 10 + 1, "after {ms} ms");
        }
        assert!(spread.takes_one(6 * S) && spread.takes_one(7 * S));
        assert!(Spread::new(0, Duration::ZERO, S).takes_one(S));
    }
}
