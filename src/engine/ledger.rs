//! When what was sent: one record per send, until its ACK. Gives ACK latencies.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Latencies;

/// Records kept at most. When full, sends share the last record, so that their latency is measured
/// from the earlier one: too high rather than too low. 4,096 sends un-ACKed is 2 s at a send every
/// 500 us.
const RECORDS_MAX: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct SendRecord {
    last_sequence: u64,
    sent_at_ns: u64,
}

/// Send records of one lane, oldest first.
pub(super) struct Ledger {
    records: VecDeque<SendRecord>,
    latency_us: Arc<Latencies>,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger {
            records: VecDeque::new(),
            latency_us: Arc::default(),
        }
    }

    /// Messages up to `last_sequence` were sent at `now_ns`.
    pub(super) fn sent(&mut self, last_sequence: u64, now_ns: u64) {
        if self.records.len() == RECORDS_MAX {
            if let Some(last) = self.records.back_mut() {
                last.last_sequence = last_sequence;
                return;
            }
        }
        self.records.push_back(SendRecord {
            last_sequence,
            sent_at_ns: now_ns,
        });
    }

    /// Messages from `acked_before + 1` to `acked` were ACKed at `now_ns`.
    pub(super) fn acked(&mut self, mut acked_before: u64, acked: u64, now_ns: u64) {
        while let Some(record) = self.records.front() {
            let through = record.last_sequence.min(acked);
            let messages = through.saturating_sub(acked_before);
            let latency_us = now_ns.saturating_sub(record.sent_at_ns) / 1000;
            self.latency_us.record(latency_us, messages);
            if record.last_sequence > acked {
                return;
            }
            acked_before = through;
            self.records.pop_front();
        }
    }

    /// ACK latency per message, in microseconds.
    pub(super) fn latency_us(&self) -> &Arc<Latencies> {
        &self.latency_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_every_message_from_its_send() {
        let mut ledger = Ledger::new();
        ledger.sent(10, 0);
        ledger.sent(15, 1_000_000);
        ledger.acked(0, 4, 2_000_000);
        ledger.acked(4, 15, 3_000_000);
        let histogram = ledger.latency_us().histogram();
        assert_eq!(histogram.len(), 15);
        assert_eq!(histogram.count_between(1_900, 2_100), 4 + 5);
        assert_eq!(histogram.count_between(2_900, 3_100), 6);
        assert!(ledger.records.is_empty());
    }

    #[test]
    fn records_are_bounded_and_err_towards_longer() {
        let mut ledger = Ledger::new();
        for n in 1..=2 * RECORDS_MAX as u64 {
            ledger.sent(n, n * 1000);
        }
        assert_eq!(ledger.records.len(), RECORDS_MAX);
        ledger.acked(0, 2 * RECORDS_MAX as u64, 10_000_000);
        assert_eq!(ledger.latency_us().count(), 2 * RECORDS_MAX as u64);
    }
}
