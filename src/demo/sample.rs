//! Reports for tests.

use std::sync::Arc;

use weir_engine::{Ended, Entry, LaneReport, LinkEpoch, Reach, Roster};
use weir_shard::ShardReport;

/// Shard 0 with a roster of native analyzers, numbered from 0, and a bound of 1.
pub fn report(weights: &[(&str, f64)]) -> ShardReport {
    let entries = (0..).zip(weights).map(|(analyzer, (name, weight))| Entry {
        analyzer,
        name: Arc::from(*name),
        weight: *weight,
        draining: false,
        pinned: false,
        ejected: false,
        reach: Reach::LinkPerShard,
    });
    ShardReport {
        roster: Arc::new(Roster {
            epoch: 1,
            entries: entries.collect(),
        }),
        share_bound: 1.0,
        ..ShardReport::default()
    }
}

/// A lane that is up.
pub fn lane(analyzer: u32, assigned: u64, assigned_before: u64) -> LaneReport {
    LaneReport {
        epoch: LinkEpoch::new(0, u64::from(analyzer) + 1),
        analyzer,
        assigned,
        assigned_before,
        acked: assigned,
        in_flight: 0,
        queued: 0,
        full: false,
        down: false,
        held_bytes: 0,
        latency_us: Default::default(),
    }
}

/// The end of that lane's link.
pub fn ended(analyzer: u32, assigned: u64, acked: u64) -> Ended {
    Ended {
        epoch: LinkEpoch::new(0, u64::from(analyzer) + 1),
        analyzer,
        assigned,
        acked,
        refused: 0,
        detected_ns: 1_000_000,
        rerouted_ns: None,
    }
}
