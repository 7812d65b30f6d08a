//! How long a shard waits for more before it sends what it has.
//!
//! A turn costs much the same whether it moves one message or twenty: the shard is woken, and it wakes the
//! analyzers. So messages that are sent together are cheap, and each of them waited for the others. Waiting pays
//! where it gathers:
//!
//! ```text
//! many emitters,      the more comes within the latency budget, the longer: the whole of it from 16
//! each seldom         messages on, a quarter of it for 4, next to nothing for one
//! few emitters,       until the next messages of the same connection, up to STREAM_MESSAGES of them:
//! each often          several come in one receive
//! ```
//!
//! Rates are means that forget with a time constant of [`MEMORY_NS`]. A fraction of a message more or less does no
//! harm here, so they are floating-point numbers.

/// So many messages within the latency budget are worth the whole of it.
const WORTH_ALL: f64 = 16.0;
/// A connection that sends a message in every latency budget streams: what it sends is its own buffer's by then,
/// and so many of its messages may come in one receive.
const STREAM_MESSAGES: f64 = 4.0;
/// Time constant of the means.
const MEMORY_NS: f64 = 20e6;
/// Longest silence of a connection that counts: an old one that speaks at last says little about the others.
const SILENCE_NS_MAX: u64 = 10_000_000;
/// A shorter wait costs a timer and gathers nothing.
const WORTH_A_TIMER_NS: f64 = 20_000.0;

/// What has come lately, as means.
#[derive(Clone, Debug, Default)]
pub(super) struct Gather {
    /// Time that the means cover.
    time_ns: f64,
    messages: f64,
    /// For each receive, the time since the same connection's last one.
    silence_ns: f64,
    /// Messages so far that this shard has received itself.
    received: u64,
    /// Since the last turn began: what other shards brought, and how long connections had been silent.
    forwarded_messages: u64,
    heard_silence_ns: u64,
}

impl Gather {
    /// A connection has sent something for the first time in so long.
    pub(super) fn heard_after(&mut self, silence_ns: u64) {
        self.heard_silence_ns += silence_ns.min(SILENCE_NS_MAX);
    }

    /// Another shard has brought messages for one of this shard's links.
    pub(super) fn forwarded(&mut self, messages: u64) {
        self.forwarded_messages += messages;
    }

    /// A turn that began `since_ns` after the one before has read what had come. `received`: messages so far.
    pub(super) fn turn(&mut self, since_ns: u64, received: u64) {
        let since_ns = since_ns as f64;
        let messages = received - self.received + std::mem::take(&mut self.forwarded_messages);
        self.received = received;
        let keep = MEMORY_NS / (MEMORY_NS + since_ns);
        self.time_ns = self.time_ns * keep + since_ns;
        self.messages = self.messages * keep + messages as f64;
        let silence_ns = std::mem::take(&mut self.heard_silence_ns);
        self.silence_ns = self.silence_ns * keep + silence_ns as f64;
    }

    /// How long to gather. At most `budget_ns`, but for streams: [`STREAM_MESSAGES`] times as long.
    pub(super) fn wait_ns(&self, budget_ns: u64) -> u64 {
        if budget_ns == 0 || self.messages <= 0.0 || self.time_ns <= 0.0 {
            return 0;
        }
        let budget = budget_ns as f64;
        let expected = self.messages / self.time_ns * budget;
        let crowd = budget * (expected / WORTH_ALL).min(1.0);
        // Between two messages of the same connection.
        let gap = self.silence_ns / self.messages;
        let stream = if gap <= budget {
            gap * STREAM_MESSAGES
        } else {
            // Falls quickly, and without a step.
            budget * STREAM_MESSAGES * (budget / gap).powi(2)
        };
        let wait = crowd.max(stream);
        if wait < WORTH_A_TIMER_NS.min(budget) {
            return 0;
        }
        wait as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET_NS: u64 = 500_000;

    /// What is waited for when `connections` send `rate` messages a second together, at equal gaps.
    fn wait_us(rate: u64, connections: u64) -> u64 {
        wait_within_us(rate, connections, BUDGET_NS)
    }

    fn wait_within_us(rate: u64, connections: u64, budget_ns: u64) -> u64 {
        let mut gather = Gather::default();
        let gap_ns = 1_000_000_000 / rate;
        for received in 1..=rate {
            gather.heard_after(gap_ns * connections);
            gather.turn(gap_ns, received);
        }
        gather.wait_ns(budget_ns) / 1_000
    }

    #[test]
    fn crowds_are_waited_for_as_far_as_more_will_come() {
        assert!((150..=160).contains(&wait_us(10_000, 50)));
        assert!((305..=315).contains(&wait_us(20_000, 1_000)));
        assert_eq!(wait_us(40_000, 1_000), 500);
        assert_eq!(wait_us(400_000, 1_000), 500);
        assert_eq!(wait_us(1_000, 1_000), 0, "a timer for nothing");
    }

    #[test]
    fn streams_are_waited_for_message_by_message() {
        assert!((1_900..=2_000).contains(&wait_us(4_000, 2)));
        assert!((380..=400).contains(&wait_us(20_000, 2)));
        assert_eq!(wait_us(400_000, 2), 500, "as a crowd");
        // No step between a stream and none.
        let waits: Vec<u64> = (1..=20).map(|n| wait_us(n * 200, 2)).collect();
        assert!(waits.windows(2).all(|w| w[0] <= w[1]), "{waits:?}");
        assert!(waits.windows(2).all(|w| w[1] - w[0] < 250), "{waits:?}");
    }

    #[test]
    fn the_budget_is_the_scale_of_all() {
        for (rate, connections) in [(1, 1), (4_000, 2), (10_000, 50), (40_000, 1_000)] {
            assert_eq!(wait_within_us(rate, connections, 0), 0);
            assert!(wait_within_us(rate, connections, 5_000) <= 20_000);
        }
        assert_eq!(Gather::default().wait_ns(BUDGET_NS), 0, "nothing ever came");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut gather = Gather::default();
        for received in 1..=1_000 {
            gather.heard_after(SILENCE_NS_MAX);
            gather.turn(10_000, received);
        }
        assert!(gather.wait_ns(BUDGET_NS) > 400_000);
        gather.turn(2_000_000_000, 1_000);
        gather.heard_after(2_000_000_000);
        gather.turn(100_000, 1_001);
        assert!(gather.wait_ns(BUDGET_NS) < 60_000);
    }

    #[test]
    fn what_other_shards_bring_is_waited_for_as_well() {
        let mut gather = Gather::default();
        for _ in 0..1_000 {
            gather.forwarded(3);
            gather.turn(75_000, 0);
        }
        // 40,000 messages a second, and no connection of its own that speaks.
        assert_eq!(gather.wait_ns(BUDGET_NS), BUDGET_NS);
    }
}
