//! What the page, `weir top` and `weir ctl status` show: one structure for all of them.

use serde_json::{json, Value};

use super::inputs;
use super::json::{iso_ms, value};
use super::state::State;

/// Everything, without events.
pub fn view(state: &State) -> Value {
    json!({
        "timestamp": iso_ms(state.now),
        "version": env!("CARGO_PKG_VERSION"),
        "instance": state.instance,
        "uptime": state.uptime_s(),
        "ready": state.unready().is_none(),
        "draining": state.draining,
        "bottleneck": state.bottleneck,
        "totals": totals(state),
        "analyzers": value(&state.rows),
        "shards": shards(state),
        "inputs": value(inputs::rows(state)),
        "ramps": value(&state.ramps),
        "weightsDigest": format!("{:012x}", state.weights_digest),
        "weightsWanted": state.wanted.len(),
        "configProblem": state.config_problem,
        "epoch": state.reports.first().map_or(0, |first| first.roster.epoch),
    })
}

/// All shards added up; rates are over the last seconds.
pub fn totals(state: &State) -> Value {
    let (balance, counters) = (&state.totals.balance, &state.totals.counters);
    json!({
        "received": balance.received,
        "acked": balance.acked,
        "inFlight": balance.in_flight,
        "queued": balance.queued,
        "dropped": balance.dropped,
        "holds": balance.holds(),
        "rerouted": counters.rerouted,
        "duplicatesPossible": counters.duplicates_possible,
        "receivedPerSecond": state.rates.of_all(|shard| shard.received),
        "receivedBytesPerSecond": state.rates.of_all(|shard| shard.received_bytes),
        "ackedPerSecond": state.rates.of_all(|shard| shard.acked),
        "emitters": state.totals.emitters,
        "links": state.totals.links,
        "httpConnections": state.totals.http_connections,
        "oldestItem": state.oldest_ms(),
    })
}

/// Each shard.
pub fn shards(state: &State) -> Value {
    let shard = |(index, report): (usize, &weir_shard::ShardReport)| {
        let (free, fewest, all) = report.buffers;
        json!({
            "shard": report.shard,
            "received": report.balance.received,
            "receivedPerSecond": state.rates.of_shard(index, |shard| shard.received),
            "open": report.balance.open(),
            "busy": (state.rates.of_shard(index, |shard| shard.busy_ns) / 1e9).min(1.0),
            "stalled": report.stalled,
            "stalledPart": state.rates.stalled(index).min(1.0),
            "buffersFree": free,
            "buffersFewest": fewest,
            "buffers": all,
            "emitters": report.emitters,
            "links": report.links,
            "longestTurn": report.pace.longest_ns as f64 / 1e9,
        })
    };
    value(
        state
            .reports
            .iter()
            .enumerate()
            .map(shard)
            .collect::<Vec<_>>(),
    )
}
