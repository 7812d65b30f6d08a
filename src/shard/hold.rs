//! Sends that are held while more comes in at once, so that each carries more.
//!
//! A send and the ACK that answers it cost a shard about 6 us, as much as taking in 70 messages of 256 bytes. What a
//! busy turn brings for four analyzers is worth four sends. Divided among a thousand it is a few messages each.
//!
//! ```text
//! busy turn, little for each lane  --> held, and the next turn follows without a wait
//!                                      lanes that have waited long are sent, the others go on waiting
//! the next turn is not busy        --> sent: nothing more has come
//! enough for each lane             --> sent
//! ```
//!
//! Each lane waits for itself. If all were sent together, all would be empty together: of the messages that are under
//! way, a lane would have half as many when its turn comes.
//!
//! While anything is held the shard never sleeps. So a shard that keeps up holds nothing for longer than one look at
//! what has come, and latency at low and middle load is what it was. Only a shard that has more to read at every look
//! holds on ([ADR 0052](../../docs/adr/0052-small-sends-wait-while-more-comes.md)).

use std::collections::VecDeque;

/// A lane with so many bytes is worth its send. From here on the bytes cost more than the send.
const LANE_BYTES: u64 = 16 * 1024;
/// Longest hold, in latency budgets: as long as the messages of a stream may wait for each other, see `gather.rs`.
const BUDGETS: u64 = 4;
/// Or so long for each lane: sends and their ACKs then take half of the time at most.
const LANE_NS: u64 = 12_000;
/// Lanes sent in one turn, when nobody waits for more: then there is a look at what has come.
const SENDS_MAX: usize = 32;

/// What has come in this turn, and what waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// So much came in this turn that the next follows at once.
    pub(super) is_busy: bool,
    /// There is room, and nobody waits for what would be held: see `Engine::is_at_ease`.
    pub(super) is_at_ease: bool,
    /// Lanes that got something since they were sent last.
    pub(super) lanes: usize,
    /// Bytes that this shard has taken in so far.
    pub(super) received_bytes: u64,
    /// Of `--latency-budget`.
    pub(super) budget_ns: u64,
}

/// Lanes that are held, and since when.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Oldest first: when a turn began, and how many lanes had got something by its end, those that were sent included.
    /// At most as many as lanes are held.
    turns: VecDeque<(u64, u64)>,
    /// Lanes that were sent so far.
    sent: u64,
    /// Of the bytes taken in, those that are held no more.
    sent_bytes: u64,
}

impl Hold {
    /// How many lanes are sent in this turn, which began at `now_ns`: the first so many of those that got something.
    /// None is held for longer than [`BUDGETS`] latency budgets, or [`LANE_NS`] for each lane, and a turn.
    pub(super) fn due(&mut self, load: &Load, now_ns: u64) -> usize {
        let got = self.sent + load.lanes as u64;
        if self.turns.back().map_or(self.sent, |turn| turn.1) < got {
            self.turns.push_back((now_ns, got));
        }
        let due = self.due_lanes(load, now_ns);
        self.note_sent(due, load);
        due
    }

    fn due_lanes(&self, load: &Load, now_ns: u64) -> usize {
        let enough = LANE_BYTES.saturating_mul(load.lanes as u64);
        let is_little = load.received_bytes - self.sent_bytes < enough;
        if !load.is_at_ease {
            return load.lanes;
        }
        if !load.is_busy || !is_little || load.budget_ns == 0 {
            return load.lanes.min(SENDS_MAX);
        }
        let each_ns = LANE_NS.saturating_mul(load.lanes as u64);
        let longest_ns = load.budget_ns.saturating_mul(BUDGETS).max(each_ns);
        let is_late = |turn: &&(u64, u64)| now_ns - turn.0 >= longest_ns;
        let late = self.turns.iter().take_while(is_late).last();
        let due = late.map_or(0, |turn| turn.1 - self.sent);
        (due as usize).min(SENDS_MAX) // of lanes, whose number is a usize
    }

    fn note_sent(&mut self, due: usize, load: &Load) {
        // What the lanes hold is taken for equally much.
        let held = load.received_bytes - self.sent_bytes;
        self.sent_bytes += match load.lanes {
            0 => held,
            lanes => held / lanes as u64 * due as u64,
        };
        if due == load.lanes {
            self.sent_bytes = load.received_bytes;
        }
        self.sent += due as u64;
        while self.turns.front().is_some_and(|turn| turn.1 <= self.sent) {
            self.turns.pop_front();
        }
    }

    /// Something is held: the shard must not sleep.
    pub(super) fn is_holding(&self) -> bool {
        !self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET_NS: u64 = 500_000;
    const LITTLE: Load = Load {
        is_busy: true,
        is_at_ease: true,
        lanes: 24,
        received_bytes: 64 * 1024,
        budget_ns: BUDGET_NS,
    };

    fn is_held(load: Load) -> bool {
        let mut hold = Hold::default();
        let due = hold.due(&load, 7);
        assert!(due == 0 || due == load.lanes.min(SENDS_MAX));
        assert_eq!(hold.is_holding(), due < load.lanes);
        due == 0 && load.lanes > 0
    }

    #[test]
    fn little_for_each_of_many_is_held_while_more_comes() {
        assert!(is_held(LITTLE));
        let quiet = Load {
            is_busy: false,
            ..LITTLE
        };
        assert!(!is_held(quiet), "nothing more has come");
        assert!(!is_held(Load { lanes: 4, ..LITTLE }), "16 KiB each");
        assert!(is_held(Load { lanes: 5, ..LITTLE }));
        assert!(!is_held(Load { lanes: 0, ..LITTLE }));
        let pressed = Load {
            is_at_ease: false,
            ..LITTLE
        };
        assert!(!is_held(pressed));
        let at_once = Load {
            budget_ns: 0,
            ..LITTLE
        };
        assert!(!is_held(at_once), "--latency-budget 0s never holds");
    }

    #[test]
    fn what_was_sent_does_not_count() {
        let mut hold = Hold::default();
        let mut load = LITTLE;
        load.received_bytes = 24 * 16 * 1024;
        assert_eq!(hold.due(&load, 0), 24);
        load.received_bytes += 40_000;
        assert_eq!(hold.due(&load, 1), 0);
    }

    #[test]
    fn each_lane_waits_for_itself_and_for_four_budgets_at_most() {
        let mut hold = Hold::default();
        let mut load = LITTLE;
        assert_eq!(hold.due(&load, 1_000), 0);
        load.lanes = 30;
        assert_eq!(hold.due(&load, 5_000), 0);
        assert_eq!(hold.due(&load, 1_000 + 4 * BUDGET_NS - 1), 0);
        assert_eq!(hold.due(&load, 1_000 + 4 * BUDGET_NS), 24, "the older");
        // Two of them have got something again.
        load.lanes = 8;
        assert_eq!(hold.due(&load, 2_000 + 4 * BUDGET_NS), 0);
        assert_eq!(hold.due(&load, 5_000 + 4 * BUDGET_NS), 6);
        load.lanes = 2;
        assert_eq!(hold.due(&load, 1_999 + 8 * BUDGET_NS), 0);
        assert_eq!(hold.due(&load, 2_000 + 8 * BUDGET_NS), 2);
        assert!(!hold.is_holding());
    }

    #[test]
    fn the_more_lanes_the_longer_they_wait() {
        let mut hold = Hold::default();
        let load = Load {
            lanes: 1_000,
            ..LITTLE
        };
        assert_eq!(hold.due(&load, 0), 0);
        assert_eq!(hold.due(&load, 11_999_999), 0);
        assert_eq!(hold.due(&load, 12_000_000), SENDS_MAX, "then the next look");
        let rest = Load {
            lanes: 968,
            is_busy: false,
            ..load
        };
        assert_eq!(hold.due(&rest, 12_100_000), SENDS_MAX);
        assert!(hold.is_holding(), "the shard does not sleep");
        let pressed = Load {
            lanes: 936,
            is_at_ease: false,
            ..load
        };
        assert_eq!(hold.due(&pressed, 12_200_000), 936, "all that there is");
        assert!(!hold.is_holding());
    }
}
