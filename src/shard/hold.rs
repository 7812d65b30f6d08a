//! Sends that are held while more comes in at once, so that each carries more.
//!
//! A send and the ACK that answers it cost a shard about 6 us, as much as taking in 70 messages of 256 bytes. What a
//! busy turn brings for four analyzers is worth four sends. Divided among a thousand it is a few messages each.
//!
//! ```text
//! busy turn, little for each lane  --> held, and the next turn follows without a wait
//! the next turn is not busy        --> sent: nothing more has come
//! enough for each lane, or late    --> sent
//! ```
//!
//! While anything is held the shard never sleeps. So a shard that keeps up holds nothing for longer than one look at
//! what has come, and latency at low and middle load is what it was. Only a shard that has more to read at every look
//! holds on ([ADR 0052](../../docs/adr/0052-small-sends-wait-while-more-comes.md)).

/// A lane with so many bytes is worth its send. From here on the bytes cost more than the send.
const LANE_BYTES: u64 = 16 * 1024;
/// Longest hold, in latency budgets: as long as the messages of a stream may wait for each other, see `gather.rs`.
const BUDGETS: u64 = 4;

/// What has come in this turn, and what waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// So much came in this turn that the next follows at once.
    pub(super) is_busy: bool,
    /// There is room, and nobody waits for what would be held: see `Engine::is_at_ease`.
    pub(super) is_at_ease: bool,
    /// Lanes that got something since the last send.
    pub(super) lanes: usize,
    /// Bytes that this shard has taken in so far.
    pub(super) received_bytes: u64,
    /// Of `--latency-budget`.
    pub(super) budget_ns: u64,
}

/// Whether sends are held, and since when.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// When the turn began whose messages were held first.
    since_ns: Option<u64>,
    /// Bytes taken in when the lanes were sent last.
    sent_at_bytes: u64,
    /// The last sends left something behind them, which must follow when they are through.
    has_backlog: bool,
}

impl Hold {
    /// Whether this turn, which began at `now_ns`, leaves its messages in the lanes. True at most for [`BUDGETS`]
    /// latency budgets and a turn in a row.
    pub(super) fn holds(&mut self, load: &Load, now_ns: u64) -> bool {
        let since_ns = self.since_ns.unwrap_or(now_ns);
        let enough = LANE_BYTES.saturating_mul(load.lanes as u64);
        let is_little = load.received_bytes - self.sent_at_bytes < enough;
        let is_early = now_ns - since_ns < load.budget_ns.saturating_mul(BUDGETS);
        let holds = load.is_busy && load.is_at_ease && is_little && is_early && !self.has_backlog;
        if holds {
            self.since_ns = Some(since_ns);
        }
        holds
    }

    /// The lanes were sent. `has_backlog`: some had more than one send carries.
    pub(super) fn sent(&mut self, received_bytes: u64, has_backlog: bool) {
        *self = Hold {
            since_ns: None,
            sent_at_bytes: received_bytes,
            has_backlog,
        };
    }

    /// Something is held: the shard must not sleep.
    pub(super) fn is_holding(&self) -> bool {
        self.since_ns.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET_NS: u64 = 500_000;
    const LITTLE: Load = Load {
        is_busy: true,
        is_at_ease: true,
        lanes: 64,
        received_bytes: 64 * 1024,
        budget_ns: BUDGET_NS,
    };

    fn is_held(load: Load) -> bool {
        let mut hold = Hold::default();
        let holds = hold.holds(&load, 7);
        assert_eq!(hold.is_holding(), holds);
        holds
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
        load.received_bytes = 64 * 16 * 1024;
        assert!(!hold.holds(&load, 0));
        hold.sent(load.received_bytes, false);
        load.received_bytes += 40_000;
        assert!(hold.holds(&load, 1));
    }

    #[test]
    fn nothing_is_held_for_longer_than_four_budgets() {
        let mut hold = Hold::default();
        assert!(hold.holds(&LITTLE, 1_000));
        assert!(hold.holds(&LITTLE, 1_000 + 4 * BUDGET_NS - 1));
        assert!(!hold.holds(&LITTLE, 1_000 + 4 * BUDGET_NS));
        hold.sent(0, false);
        assert!(!hold.is_holding());
        assert!(hold.holds(&LITTLE, 9_000_000), "counted anew");
    }

    #[test]
    fn what_is_left_behind_a_send_is_not_held() {
        let mut hold = Hold::default();
        hold.sent(0, true);
        assert!(!hold.holds(&LITTLE, 0));
        hold.sent(0, false);
        assert!(hold.holds(&LITTLE, 0));
    }
}
