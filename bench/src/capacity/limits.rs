//! What a rate must meet, and what a trial says about that.

use crate::search::Verdict;
use crate::session::Trial;

/// One of the two rates that are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// "NDR" or "PDR".
    pub name: &'static str,
    /// Part of the due messages that may miss their time; 0 is strict.
    pub loss_max: f64,
    /// For the 99th percentile of latency.
    pub p99_ns_max: u64,
    /// Part of `p99_ns_max` that may be the load's own lag in a trial that counts against the system.
    pub load_lag_max: f64,
}

impl Limit {
    /// A trial that kept its limits holds, though the load was late: its latencies contain that. One that
    /// lost, repeated or corrupted messages for good is bad whatever the load did.
    pub fn verdict(&self, trial: &Trial) -> Verdict {
        let is_lost = trial.loss() > self.loss_max;
        let is_late = trial.p99_ns() > self.p99_ns_max;
        match (trial.is_exact(), is_lost || is_late) {
            (true, false) => Verdict::Good,
            (true, true) if trial.lag_p99_ns as f64 > self.lag_ns_max() => Verdict::Invalid,
            (true, true) if is_lost && self.loss_max == 0.0 => Verdict::Fatal,
            (false, _) if self.loss_max == 0.0 => Verdict::Fatal,
            _ => Verdict::Bad,
        }
    }

    /// The load's lag, p99, above which a failed trial is invalid.
    pub fn lag_ns_max(&self) -> f64 {
        self.p99_ns_max as f64 * self.load_lag_max
    }

    /// The verdict in words, for the report.
    pub fn told(&self, trial: &Trial) -> &'static str {
        match self.verdict(trial) {
            Verdict::Good => "holds",
            Verdict::Bad | Verdict::Fatal => "does not hold",
            Verdict::Invalid => "invalid, the load was the limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::nanosecond_histogram;

    const MS: u64 = 1_000_000;

    fn trial(in_time: u64, latency_ns: u64, lag_p99_ns: u64) -> Trial {
        let mut latency = nanosecond_histogram();
        latency.saturating_record_n(latency_ns, 100);
        Trial {
            rate: 100,
            started_unix_seconds: 1_700_000_000.0,
            seconds: 1.0,
            due: 100,
            in_time,
            sent: 100,
            refused: 0,
            renewed: 0,
            missing: 0,
            duplicates: 0,
            foreign: 0,
            delivered_per_second: 100.0,
            latency_ns: latency,
            lag_p99_ns,
            cpu_ns_per_message: 1.0,
            ksoftirqd_ns_per_message: None,
            cores_used: 0.1,
            user_share: 0.5,
            shares: Vec::new(),
            samples: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_late_load_excuses_and_loss_is_not_forgiven() {
        let ndr = Limit {
            name: "NDR",
            loss_max: 0.0,
            p99_ns_max: 20 * MS,
            load_lag_max: 0.5,
        };
        let pdr = Limit {
            loss_max: 0.02,
            ..ndr
        };
        for (trial, of_ndr, of_pdr) in [
            (trial(100, MS, 0), Verdict::Good, Verdict::Good),
            (trial(100, 15 * MS, 11 * MS), Verdict::Good, Verdict::Good),
            (trial(100, 30 * MS, 9 * MS), Verdict::Bad, Verdict::Bad),
            (
                trial(100, 30 * MS, 11 * MS),
                Verdict::Invalid,
                Verdict::Invalid,
            ),
            (trial(99, MS, 0), Verdict::Fatal, Verdict::Good),
            (trial(99, MS, 11 * MS), Verdict::Invalid, Verdict::Good),
            (trial(90, MS, 0), Verdict::Fatal, Verdict::Bad),
        ] {
            assert_eq!(ndr.verdict(&trial), of_ndr, "{trial:?}");
            assert_eq!(pdr.verdict(&trial), of_pdr, "{trial:?}");
        }
        let mut broken = trial(100, MS, 11 * MS);
        broken.missing = 1;
        assert_eq!(ndr.verdict(&broken), Verdict::Fatal, "no lag excuses that");
        assert_eq!(pdr.verdict(&broken), Verdict::Bad);
    }
}
