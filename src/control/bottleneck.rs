//! What slows everything down, in one plain sentence; the worst first.

use super::state::{Standing, State};

/// Nobody can be given anything.
pub const NOBODY: &str = "no analyzer is connected that takes messages: they wait, and emitters with them";
/// Part of the last ten seconds that receiving may stand still before it is worth a sentence.
const STALLED_PART_MIN: f64 = 0.05;
/// Part of the last seconds that a loop may be busy.
const BUSY_PART_MIN: f64 = 0.95;

/// The sentence, if anything is wrong.
pub fn find(state: &State) -> Option<String> {
    let rules = [stuck, nobody, arena, window, partly, offline, stalled, busy];
    rules.into_iter().find_map(|rule| rule(state))
}

fn stuck(state: &State) -> Option<String> {
    let (shard, seconds) = state.stuck()?;
    Some(format!("shard {shard} has not turned for {seconds:.0} s"))
}

fn nobody(state: &State) -> Option<String> {
    let mut entries = state.entries().iter();
    let anybody = entries.any(|entry| entry.effective_weight() > 0.0);
    (!anybody).then(|| NOBODY.to_owned())
}

/// Receiving is stopped while hardly a buffer is free.
fn arena(state: &State) -> Option<String> {
    let is_full = |report: &&crate::shard::ShardReport| {
        let (free, _, all) = report.buffers;
        report.stalled && all > 0 && free * 8 < all
    };
    let report = state.reports.iter().find(is_full)?;
    let (free, _, all) = report.buffers;
    Some(format!(
        "arena of shard {} is full ({free} of {all} buffers free): analyzers ACK too slowly",
        report.shard
    ))
}

fn window(state: &State) -> Option<String> {
    let full = state.rows.iter().filter(|row| row.lanes_full > 0);
    let row = full.max_by_key(|row| row.lanes_full)?;
    Some(format!(
        "analyzer {} does not keep up: its window is full on {} of {} shards",
        row.id,
        row.lanes_full,
        state.reports.len()
    ))
}

fn partly(state: &State) -> Option<String> {
    let mut rows = state.rows.iter();
    let row = rows.find(|row| row.standing == Standing::Partly && row.target_share > 0.0)?;
    Some(format!(
        "analyzer {} is reached by {} of {} shards only",
        row.id,
        row.lanes,
        state.reports.len()
    ))
}

fn offline(state: &State) -> Option<String> {
    let status = state.http.iter().find(|status| status.is_healthy == Some(false))?;
    let why = status.error.as_deref().unwrap_or("its health check failed");
    Some(format!("analyzer {} is offline: {why}", status.id))
}

fn stalled(state: &State) -> Option<String> {
    let parts = (0..state.reports.len()).map(|shard| (shard, state.rates.stalled(shard).min(1.0)));
    let (shard, part) = parts.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (part >= STALLED_PART_MIN).then(|| {
        let percent = part * 100.0;
        format!("receiving stopped {percent:.0} % of the last 10 s on shard {shard}: no analyzer could take more")
    })
}

fn busy(state: &State) -> Option<String> {
    let busy = |shard| state.rates.of_shard(shard, |sample| sample.busy_ns) / 1e9;
    let parts = (0..state.reports.len()).map(|shard| (shard, busy(shard).min(1.0)));
    let (shard, part) = parts.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (part >= BUSY_PART_MIN).then(|| {
        let percent = part * 100.0;
        format!("shard {shard} is busy {percent:.0} % of the time: its core is the limit")
    })
}
