//! The time by which peers are judged: it stands still while this process does.
//!
//! A process that was stopped, starved or moved to another host wakes up long after its timers were due, and
//! what its peers said meanwhile is still unread. Whoever judges them by the clock then finds them guilty of its
//! own sleep. So nobody does: who looks for what has arrived, and then at the time, asks for the time here.
//!
//! ```text
//! looks      |---|---|---|------------------------------|--|--|---|---|
//! real time  0   1   2   3                             35 35 35  36  37
//! this one   0   1   2   3                              3  3  3   4   5     late: what has arrived is read first
//! ```

use std::time::{Duration, Instant};

/// A look may come so much later than it was to come: the scheduler of a busy host does that.
const LATE_NS: u64 = 150_000_000;
/// A look that comes so much later than it was to come may have looked before this process stood still: what
/// arrived meanwhile is read with the next.
const BEHIND_NS: u64 = 5_000_000;
/// Looks after a late one that may find more to read than one look takes, before time goes on all the same.
const CATCH_UP_LOOKS: u8 = 64;

/// So many looks in a row that are late, or behind, are a starved host and no pauses. One pause may follow another
/// at once, before anything has been read.
const STARVED_LOOKS: u8 = 3;

/// The clock of one loop that never waits without a limit.
#[derive(Clone, Debug)]
pub struct Awake {
    /// Real time of the last look.
    seen_ns: u64,
    now_ns: u64,
    /// Looks that are left to read what has arrived; 0: it is read.
    catching_up: u8,
    /// Looks in a row that came late, the last one included.
    late: u8,
    /// The same of those that were behind.
    behind: u8,
    /// Peers may be judged after the last look.
    may_judge: bool,
}

impl Awake {
    /// Begins with real time.
    pub fn new(now_ns: u64) -> Awake {
        Awake {
            seen_ns: now_ns,
            now_ns,
            catching_up: 0,
            late: 0,
            behind: 0,
            may_judge: true,
        }
    }

    /// A look at the real time `now_ns`, which was to come within `within_ns` after the last one. `is_all_read`:
    /// what had arrived has been read. Returns the time by which peers may be judged, never less than before.
    ///
    /// A late look does not move it, nor do those after it until everything is read, 64 at most. If every look
    /// is late the time goes on by `within_ns` with each: a host that is starved for ever has time-outs too.
    pub fn look(&mut self, now_ns: u64, within_ns: u64, is_all_read: bool) -> u64 {
        let passed_ns = now_ns.saturating_sub(self.seen_ns);
        self.seen_ns = self.seen_ns.max(now_ns);
        let is_late = passed_ns > within_ns.saturating_add(LATE_NS);
        self.now_ns += match (is_late, self.catching_up) {
            (true, 0) => 0,
            (true, _) => within_ns,
            (false, left) if left > 1 && !is_all_read => 0,
            (false, _) => passed_ns,
        };
        self.late = match is_late {
            true => self.late.saturating_add(1),
            false => 0,
        };
        self.behind = match passed_ns > within_ns.saturating_add(BEHIND_NS) {
            true => self.behind.saturating_add(1),
            false => 0,
        };
        self.catching_up = match self.catching_up {
            _ if is_late => CATCH_UP_LOOKS,
            _ if is_all_read => 0,
            left => left.saturating_sub(1),
        };
        self.may_judge = match is_late {
            true => self.late >= STARVED_LOOKS,
            false => self.catching_up == 0 && !(1..STARVED_LOOKS).contains(&self.behind),
        };
        self.now_ns
    }

    /// The time by which peers may be judged, as of the last look.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Real time of the last look.
    pub fn seen_ns(&self) -> u64 {
        self.seen_ns
    }

    /// What had arrived before the last look is read, or no look comes in time. A peer whose time was over just before
    /// a look that came late may have spoken meanwhile: until then nobody is judged.
    pub fn may_judge(&self) -> bool {
        self.may_judge
    }

    /// The last look did not come late, and everything that arrived before it is read.
    pub fn has_caught_up(&self) -> bool {
        self.catching_up == 0
    }
}

/// A time-out of a thread that waits in slices of [`Limit::SLICE`] at most and looks for what has arrived
/// before it asks.
#[derive(Debug)]
pub struct Limit {
    began: Instant,
    awake: Awake,
    limit_ns: u64,
}

impl Limit {
    /// The longest single wait.
    pub const SLICE: Duration = Duration::from_millis(100);

    /// Begins now.
    pub fn new(limit: Duration) -> Limit {
        Limit {
            began: Instant::now(),
            awake: Awake::new(0),
            limit_ns: nanos(limit),
        }
    }

    /// What is left of it; zero: it is over.
    pub fn left(&mut self) -> Duration {
        self.left_after(Self::SLICE)
    }

    /// The same after a single wait of at most `wait`, where there was no way to cut it into slices.
    pub fn left_after(&mut self, wait: Duration) -> Duration {
        let now_ns = nanos(self.began.elapsed());
        let past_ns = self.awake.look(now_ns, nanos(wait), true);
        Duration::from_nanos(self.limit_ns.saturating_sub(past_ns))
    }

    /// How long the next wait may be; none: the time is over.
    pub fn slice(&mut self) -> Option<Duration> {
        let left = self.left();
        (!left.is_zero()).then(|| left.min(Self::SLICE))
    }

    /// The time is over.
    pub fn is_over(&mut self) -> bool {
        self.left().is_zero()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const TICK: u64 = 100 * MS;

    #[test]
    fn nobody_is_judged_before_what_arrived_is_read() {
        let mut awake = Awake::new(0);
        let mut judges = |at_ms: u64, read| {
            awake.look(at_ms * MS, TICK, read);
            awake.may_judge()
        };
        assert!(judges(100, true));
        // Somebody's time was over at 150 ms; it spoke at 160.
        assert!(!judges(4_000, true), "late");
        assert!(!judges(4_001, false), "there was more to read");
        assert!(judges(4_002, true));
        assert!(!judges(9_000, true));
        assert!(!judges(14_000, true), "a pause right after a pause");
        assert!(
            judges(19_000, true),
            "late again and again: there are time-outs all the same"
        );
    }

    #[test]
    fn nobody_is_judged_in_a_look_that_was_behind() {
        let mut awake = Awake::new(0);
        let mut judges = |at_ms: u64| {
            let now_ns = awake.look(at_ms * MS, TICK, true);
            (now_ns / MS, awake.may_judge())
        };
        assert_eq!(judges(100), (100, true));
        // A pause of 30 ms within the look: what arrived in it is not read yet.
        assert_eq!(judges(230), (230, false));
        assert_eq!(judges(231), (231, true));
        // A busy host is behind with every look, and has time-outs.
        let behind: Vec<bool> = (1..=4).map(|n| judges(231 + n * 110).1).collect();
        assert_eq!(behind, [false, false, true, true]);
    }

    /// After looks at these milliseconds, the milliseconds that it shows.
    fn shown(looks: &[(u64, bool)]) -> Vec<u64> {
        let mut awake = Awake::new(0);
        let mut look = |(at_ms, read): &(u64, bool)| awake.look(at_ms * MS, TICK, *read) / MS;
        looks.iter().map(&mut look).collect()
    }

    #[test]
    fn it_follows_real_time_while_looks_come_in_time() {
        let looks = [
            (1, true),
            (100, true),
            (350, true),
            (351, false),
            (352, true),
        ];
        assert_eq!(shown(&looks), [1, 100, 350, 351, 352]);
    }

    #[test]
    fn it_stands_still_over_a_pause_and_until_everything_is_read() {
        let looks = [
            (50, true),
            (35_000, false),
            (35_001, false),
            (35_002, false),
            (35_003, true),
            (35_010, true),
        ];
        assert_eq!(shown(&looks), [50, 50, 50, 50, 51, 58]);
        // The wait ended with nothing in hand: what came is read by the next look.
        assert_eq!(
            shown(&[(35_000, true), (35_001, true), (35_002, true)]),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_queue_that_never_ends_does_not_hold_it_for_ever() {
        let mut awake = Awake::new(0);
        awake.look(10_000 * MS, TICK, false);
        let mut still = 0;
        while awake.look((10_001 + still) * MS, TICK, false) == 0 {
            still += 1;
        }
        assert_eq!(still, u64::from(CATCH_UP_LOOKS) - 1);
        assert!(!awake.has_caught_up() || awake.now_ns() > 0);
    }

    #[test]
    fn a_host_that_is_always_late_has_time_outs_too() {
        let late: Vec<(u64, bool)> = (1..=5).map(|n| (n * 1000, false)).collect();
        assert_eq!(shown(&late), [0, 100, 200, 300, 400]);
    }

    #[test]
    fn it_never_goes_back() {
        assert_eq!(shown(&[(80, true), (60, true), (90, true)]), [80, 80, 90]);
    }

    #[test]
    fn a_limit_is_over_when_its_time_is() {
        let mut limit = Limit::new(Duration::from_millis(30));
        assert!(limit.slice().is_some_and(|slice| slice <= Limit::SLICE));
        while let Some(slice) = limit.slice() {
            std::thread::sleep(slice);
        }
        assert!(limit.is_over() && limit.began.elapsed() >= Duration::from_millis(30));
        assert!(Limit::new(Duration::ZERO).is_over());
    }
}
