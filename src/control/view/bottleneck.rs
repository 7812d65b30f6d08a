//! What slows everything down, in one plain sentence; the worst first.

use super::row::Standing;
use super::state::State;
use weir_protocol::text::Field;

/// Part of the last ten seconds that receiving may stand still before it is worth a sentence.
const STALLED_PART_MIN: f64 = 0.05;
/// Part of the last seconds that a loop may be busy.
const BUSY_PART_MIN: f64 = 0.95;

/// The sentence, if anything is wrong.
pub fn find(state: &State) -> Option<String> {
    let rules = [
        stuck, nobody, arena, window, partly, offline, crowded, stalled, busy,
    ];
    rules.into_iter().find_map(|rule| rule(state))
}

fn stuck(state: &State) -> Option<String> {
    let (shard, seconds) = state.stuck()?;
    Some(format!("shard {shard} has not turned for {seconds:.0} s"))
}

fn nobody(state: &State) -> Option<String> {
    state.nobody()
}

/// Receiving is stopped while hardly a buffer is free.
fn arena(state: &State) -> Option<String> {
    let is_full = |report: &&weir_shard::ShardReport| {
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
        Field(&row.id),
        row.lanes_full,
        state.reports.len()
    ))
}

fn partly(state: &State) -> Option<String> {
    let mut rows = state.rows.iter();
    let row = rows.find(|row| row.standing == Standing::Partly && row.target_share > 0.0)?;
    Some(format!(
        "analyzer {} is reached by {} of {} shards only",
        Field(&row.id),
        row.lanes,
        state.reports.len()
    ))
}

fn offline(state: &State) -> Option<String> {
    let unhealthy = || {
        let mut all = state.http.iter();
        let status = all.find(|status| status.is_healthy == Some(false))?;
        let why = status.error.as_deref().unwrap_or("its health check failed");
        Some((&status.id, why))
    };
    let given_up = || {
        let mut rows = state.rows.iter().filter(|row| !row.is_online());
        rows.find_map(|row| Some((&row.id, &**state.why_down.get(&row.id)?)))
    };
    let (id, why) = unhealthy().or_else(given_up)?;
    Some(format!("analyzer {} is offline: {why}", Field(id)))
}

/// Members of a group that have no place.
fn crowded(state: &State) -> Option<String> {
    let mut groups = state.groups.iter();
    groups.find_map(|group| {
        let problem = group.problem.as_ref()?;
        Some(format!("group {}: {problem}", Field(&group.id)))
    })
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

#[cfg(test)]
mod tests {

    use crate::fake::{at, Fake};
    use crate::view::row::HttpStatus;
    use crate::view::state::{State, NOBODY};

    fn found(fake: &Fake) -> Option<String> {
        fake.state().bottleneck
    }

    #[test]
    fn each_has_its_sentence_and_the_worst_comes_first() {
        assert_eq!(found(&Fake::new(&[])).as_deref(), Some(NOBODY));
        assert_eq!(found(&Fake::new(&[0.0])).as_deref(), Some(NOBODY));
        assert_eq!(found(&Fake::new(&[0.5, 0.5])), None);

        let mut fake = Fake::new(&[0.5, 0.5]);
        fake.reports[0].lanes.remove(1);
        let text = found(&fake).expect("found");
        assert_eq!(text, "analyzer a2 is reached by 1 of 2 shards only");

        fake.reports[0].lanes.clear();
        let text = found(&fake).expect("found");
        assert!(text.starts_with("shard 0 of 2 has no analyzer that takes messages"));

        let mut fake = Fake::new(&[0.5, 0.5]);
        fake.reports[1].lanes[1].full = true;
        let text = found(&fake).expect("found");
        assert_eq!(
            text,
            "analyzer a2 does not keep up: its window is full on 1 of 2 shards"
        );

        fake.reports[1].buffers = (20, 0, 512);
        fake.reports[1].stalled = true;
        let text = found(&fake).expect("found");
        assert_eq!(
            text,
            "arena of shard 1 is full (20 of 512 buffers free): analyzers ACK too slowly"
        );
    }

    #[test]
    fn times_are_of_the_last_seconds() {
        let mut fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        for step in 1..=24_u64 {
            fake.reports[1].counters.stalled_ns += 200_000_000;
            fake.note(&mut state, 5000 + step * 500);
        }
        let text = state.bottleneck.as_deref().expect("found");
        assert!(
            text.starts_with("receiving stopped 40 % of the last 10 s on shard 1"),
            "{text}"
        );

        // A stall that lasts is counted before it ends.
        fake.reports[0].stalled = true;
        for step in 25..=60_u64 {
            fake.note(&mut state, 5000 + step * 500);
        }
        let text = state.bottleneck.as_deref().expect("found");
        assert!(
            text.starts_with("receiving stopped 100 % of the last 10 s on shard 0"),
            "{text}"
        );

        let mut fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        for step in 1..=24_u64 {
            fake.reports[0].pace.busy_ns += 490_000_000;
            fake.note(&mut state, 5000 + step * 500);
        }
        let text = state.bottleneck.as_deref().expect("found");
        assert_eq!(
            text,
            "shard 0 is busy 98 % of the time: its core is the limit"
        );
    }

    #[test]
    fn a_shard_that_stands_still_is_not_alive() {
        let fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        state.note(at(6000), fake.reports.clone());
        assert_eq!(state.stuck(), None, "turns went back: that is a change too");
        for ms in (6_500..=11_000).step_by(500) {
            state.note(at(ms), fake.reports.clone());
            assert_eq!(state.stuck(), None);
        }
        for ms in [11_500, 12_000] {
            state.note(at(ms), fake.reports.clone());
        }
        assert_eq!(
            state.bottleneck.as_deref(),
            Some("shard 0 has not turned for 6 s")
        );
        assert!(state.unhealthy().is_some());
    }

    #[test]
    fn a_pause_of_the_process_makes_no_shard_stuck() {
        let fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        state.note(at(6_000), fake.reports.clone());
        state.note(at(66_000), fake.reports.clone());
        assert_eq!(
            state.unhealthy(),
            None,
            "nobody has run, who looks included"
        );
    }

    #[test]
    fn an_analyzer_over_http_that_is_offline_says_why() {
        let fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        state.http.push(HttpStatus {
            id: "h1".into(),
            endpoint: "http://h1:1".into(),
            weight: 1.0,
            is_healthy: Some(false),
            last_health_check: Some(5),
            consecutive_failures: 3,
            ejected: false,
            ejections: 0,
            error: Some("127.0.0.1:1: connection refused".into()),
        });
        fake.note(&mut state, 6000);
        let text = state.bottleneck.as_deref().expect("found");
        assert_eq!(
            text,
            "analyzer h1 is offline: 127.0.0.1:1: connection refused"
        );
    }

    #[test]
    fn an_analyzer_that_is_well_and_was_given_up_says_why() {
        let fake = Fake::new(&[1.0]);
        let mut state = fake.state();
        state.http.push(HttpStatus {
            id: "h1".into(),
            endpoint: "http://h1:1".into(),
            weight: 1.0,
            is_healthy: Some(true),
            last_health_check: Some(5),
            consecutive_failures: 0,
            ejected: false,
            ejections: 0,
            error: None,
        });
        let why = "connection reset by peer";
        state.why_down.insert("h1".into(), why.into());
        fake.note(&mut state, 6000);
        let row = |state: &State| state.rows.iter().find(|row| &*row.id == "h1").cloned();
        let error = row(&state).and_then(|row| row.error);
        assert_eq!(error.as_deref(), Some(why));
        let text = state.bottleneck.as_deref().expect("found");
        assert_eq!(text, "analyzer h1 is offline: connection reset by peer");
        // What its next check says is newer.
        state.http[0].error = Some("no answer".into());
        fake.note(&mut state, 6500);
        let error = row(&state).and_then(|row| row.error);
        assert_eq!(error.as_deref(), Some("no answer"));
        // It has come up, and the reason is on its way out.
        state.http[0].error = None;
        state.why_down.insert("a1".into(), why.into());
        fake.note(&mut state, 7000);
        let a1 = state.rows.iter().find(|row| &*row.id == "a1");
        assert_eq!(a1.and_then(|row| row.error.as_deref()), None);
    }
}
