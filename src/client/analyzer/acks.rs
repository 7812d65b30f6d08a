//! When to ACK, and up to where.
//!
//! ACKs are cumulative, so while more messages wait in the read buffer several due ACKs become one: a
//! lone ACK word costs the distributor a whole small receive.

use std::time::{Duration, Instant};
use weir_protocol::native::ACK_DELAY_MS_MAX;
use weir_sink::Dialect;

/// A remainder waits this long for company.
const REMAINDER_WAIT: Duration = Duration::from_millis(100);
const _: () = assert!(REMAINDER_WAIT.as_millis() * 2 <= ACK_DELAY_MS_MAX as u128);

/// ACK state of one link.
pub struct Acks {
    every: u64,
    /// Whether messages short of `every` are ACKed too.
    remainder: bool,
    processed: u64,
    acked: u64,
    remainder_since: Option<Instant>,
}

impl Acks {
    /// For a new link. Native links always ACK remainders: their protocol says so.
    pub fn new(dialect: Dialect, every: u32, remainder: bool) -> Self {
        let remainder = remainder || dialect == Dialect::Native;
        Self {
            every: every.into(),
            remainder,
            processed: 0,
            acked: 0,
            remainder_since: None,
        }
    }

    /// One more message is processed.
    #[inline]
    pub fn processed(&mut self) {
        self.processed += 1;
    }

    /// Sequence of the last message processed.
    pub fn processed_sequence(&self) -> u64 {
        self.processed
    }

    /// The ACK that is due after a stretch of work: the last multiple of `every`, or everything
    /// when a remainder has waited long enough.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.remainder && self.processed > self.acked {
            let since = *self.remainder_since.get_or_insert(now);
            if now - since >= REMAINDER_WAIT {
                return self.flush();
            }
        }
        let whole = self.processed / self.every * self.every;
        (whole > self.acked).then(|| self.ack(whole))
    }

    /// The ACK that is due when the link is quiet.
    pub fn due_when_idle(&mut self) -> Option<u64> {
        if self.remainder {
            return self.flush();
        }
        let whole = self.processed / self.every * self.every;
        (whole > self.acked).then(|| self.ack(whole))
    }

    /// ACK of everything processed, whatever the habit.
    pub fn flush(&mut self) -> Option<u64> {
        (self.processed > self.acked).then(|| self.ack(self.processed))
    }

    fn ack(&mut self, sequence: u64) -> u64 {
        self.acked = sequence;
        self.remainder_since = None;
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(acks: &mut Acks, count: u64) {
        (0..count).for_each(|_| acks.processed());
    }

    #[test]
    fn reference_habit_leaves_the_remainder() {
        let now = Instant::now();
        let mut acks = Acks::new(Dialect::Compact, 10, false);
        process(&mut acks, 9);
        assert_eq!(acks.due(now), None);
        process(&mut acks, 16);
        assert_eq!(acks.due(now), Some(20), "two ACKs in one");
        assert_eq!(acks.due(now + Duration::from_secs(9)), None);
        assert_eq!(acks.due_when_idle(), None);
        assert_eq!(acks.flush(), Some(25));
        assert_eq!(acks.flush(), None);
    }

    #[test]
    fn a_remainder_is_acked_when_idle_or_late() {
        let now = Instant::now();
        let mut acks = Acks::new(Dialect::Native, 1000, false);
        process(&mut acks, 3);
        assert_eq!(acks.due(now), None);
        assert_eq!(acks.due(now + REMAINDER_WAIT), Some(3));
        process(&mut acks, 1);
        assert_eq!(
            acks.due(now + REMAINDER_WAIT * 9),
            None,
            "its wait starts anew"
        );
        assert_eq!(acks.due_when_idle(), Some(4));
        assert_eq!(acks.due_when_idle(), None);
    }
}
