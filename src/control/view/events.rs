//! What happened: the difference between what was shown before and what is shown now.
//!
//! ```text
//! rows before, rows now  ->  joined, left, weight, pinned, draining, full, ...
//! ended links            ->  died, re-routed n in t ms
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use super::json::iso_ms;
use super::row::{name_of, Row, Standing};
use weir_engine::LinkEpoch;
use weir_ledger::run_report::Stamp;
use weir_protocol::WeightText;
use weir_shard::ShardReport;

/// Events kept; the oldest go.
pub const EVENTS_MAX: usize = 200;
/// Events of one step; what is beyond is told as a number.
const STEP_MAX: usize = 50;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Counts from 1.
    pub id: u64,
    /// When it was seen, ISO 8601.
    pub at: String,
    /// For colour: `good`, `bad`, `note`.
    pub tone: &'static str,
    /// Which analyzer; empty: none of its own.
    pub analyzer: Arc<str>,
    /// What happened, after the name.
    pub text: String,
}

/// What was known of an analyzer.
#[derive(Clone, PartialEq)]
struct Before {
    standing: Standing,
    weight: f64,
    pinned: bool,
    ramping: bool,
    /// It was in the roster at some time: one that is configured may never have been.
    has_joined: bool,
}

/// The newest events, oldest first.
#[derive(Default)]
pub struct EventLog {
    events: VecDeque<Event>,
    count: u64,
    before: BTreeMap<Arc<str>, Before>,
    /// Ended links that are told, or were there at the begin.
    told: BTreeSet<(u16, LinkEpoch)>,
    has_begun: bool,
}

impl EventLog {
    /// All that are kept.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// Those after `id`.
    pub fn after(&self, id: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.id > id)
    }

    /// Id of the newest; 0: there is none.
    pub fn newest(&self) -> u64 {
        self.count
    }

    /// Takes what is shown now.
    pub fn note(
        &mut self,
        now: Stamp,
        rows: &[Row],
        reports: &[ShardReport],
        names: &BTreeMap<u32, Arc<str>>,
    ) {
        let mut found = Vec::new();
        self.compare(rows, &mut found);
        self.ended(reports, names, &mut found);
        let more = found.len().saturating_sub(STEP_MAX);
        found.truncate(STEP_MAX);
        for (tone, analyzer, text) in found {
            self.push(now, tone, analyzer, text);
        }
        if more > 0 {
            self.push(
                now,
                "note",
                "".into(),
                format!("and {more} more at the same moment"),
            );
        }
        self.has_begun = true;
    }

    /// Something that no report shows, such as an order.
    pub fn push(&mut self, now: Stamp, tone: &'static str, analyzer: Arc<str>, text: String) {
        self.count += 1;
        self.events.push_back(Event {
            id: self.count,
            at: iso_ms(now),
            tone,
            analyzer,
            text,
        });
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    fn compare(&mut self, rows: &[Row], found: &mut Vec<(&'static str, Arc<str>, String)>) {
        let mut before = std::mem::take(&mut self.before);
        for row in rows {
            let name = || Arc::clone(&row.id);
            let was = before.remove(&row.id);
            let had_joined = was.as_ref().is_some_and(|was| was.has_joined);
            let now = Before {
                has_joined: had_joined || row.is_online(),
                standing: row.standing,
                weight: row.weight,
                pinned: row.pinned,
                ramping: row.ramping,
            };
            match &was {
                _ if row.is_online() && !had_joined => {
                    let text = format!("joined with weight {}", WeightText(row.weight));
                    found.push(("good", name(), text));
                }
                Some(was) if was.standing != now.standing => {
                    found
                        .extend(turned(was.standing, row).map(|(tone, text)| (tone, name(), text)));
                }
                _ => {}
            }
            let was_online = |was: &Before| !is_gone(was.standing);
            if let Some(was) = was.filter(|was| row.is_online() && was_online(was)) {
                // A ramp is told when it begins and when it is over, not step by step.
                if was.ramping && !now.ramping {
                    found.push((
                        "note",
                        name(),
                        format!("weight is {}", WeightText(row.weight)),
                    ));
                } else if was.weight != now.weight && !now.ramping {
                    let text = format!(
                        "weight {} -> {}",
                        WeightText(was.weight),
                        WeightText(now.weight)
                    );
                    found.push(("note", name(), text));
                }
                if was.pinned != now.pinned {
                    let text = if now.pinned {
                        "weight pinned"
                    } else {
                        "weight unpinned"
                    };
                    found.push(("note", name(), text.into()));
                }
            }
            self.before.insert(name(), now);
        }
    }

    /// Links whose end is seen for the first time, and whose re-route is over.
    fn ended(
        &mut self,
        reports: &[ShardReport],
        names: &BTreeMap<u32, Arc<str>>,
        found: &mut Vec<(&'static str, Arc<str>, String)>,
    ) {
        let told = std::mem::take(&mut self.told);
        let mut moved: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
        for report in reports {
            for ended in &report.ended {
                let key = (report.shard, ended.epoch);
                let Some(rerouted_ns) = ended.rerouted_ns else {
                    continue;
                };
                self.told.insert(key);
                if told.contains(&key) || !self.has_begun || ended.left() == 0 {
                    continue;
                }
                let account = name_of(names, ended.analyzer);
                let sum = moved.entry(account).or_default();
                sum.0 += ended.left();
                sum.1 = sum.1.max(rerouted_ns.saturating_sub(ended.detected_ns));
            }
        }
        for (name, (messages, ns)) in moved {
            let text = format!("{messages} messages re-routed in {:.1} ms", ns as f64 / 1e6);
            found.push(("note", name, text));
        }
    }
}

fn is_gone(standing: Standing) -> bool {
    matches!(
        standing,
        Standing::Offline | Standing::Rerouting | Standing::Ejected
    )
}

/// What a change of standing says, if it is worth a line.
fn turned(was: Standing, row: &Row) -> Option<(&'static str, String)> {
    use Standing::{Draining, Ejected, Full, Offline, Partly, Rerouting, Up};
    Some(match (was, row.standing) {
        (Rerouting, Offline) | (Partly, Up) => return None,
        (_, Ejected) => ("bad", "ejected".into()),
        (was, Offline | Rerouting) => {
            if is_gone(was) {
                return None;
            }
            let why = row
                .error
                .as_ref()
                .map_or(String::new(), |why| format!(": {why}"));
            ("bad", format!("is gone{why}"))
        }
        (was, _) if is_gone(was) => (
            "good",
            format!("is back with weight {}", WeightText(row.weight)),
        ),
        (_, Draining) => ("note", "is draining".into()),
        (Draining, _) => ("good", "takes messages again".into()),
        (_, Full) => ("bad", "window is full".into()),
        (Full, _) => ("good", "keeps up again".into()),
        (_, Partly) => ("bad", format!("is reached by {} shards only", row.lanes)),
        (_, Up) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{at, Fake};
    use crate::view::row::RampStatus;
    use crate::view::state::State;

    fn texts(state: &State, after: u64) -> Vec<String> {
        let events = state.events.after(after);
        events
            .map(|event| format!("{} {} {}", event.tone, event.analyzer, event.text))
            .collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let mut fake = Fake::new(&[0.4]);
        let mut state = fake.state();
        assert_eq!(texts(&state, 0), ["good a1 joined with weight 0.4"]);
        fake.join("a2", 0.6);
        fake.route("a1", 10, 3, 500);
        fake.note(&mut state, 6000);
        fake.note(&mut state, 6500);
        assert_eq!(texts(&state, 1), ["good a2 joined with weight 0.6"]);
        fake.roster(|entries| {
            entries[0].weight = 0.5;
            entries[0].pinned = true;
            entries[1].draining = true;
        });
        fake.note(&mut state, 7000);
        let expected = [
            "note a1 weight 0.4 -> 0.5",
            "note a1 weight pinned",
            "note a2 is draining",
        ];
        assert_eq!(texts(&state, 2), expected);
        fake.roster(|entries| entries[1].draining = false);
        fake.reports[1].lanes[0].full = true;
        fake.note(&mut state, 7500);
        let expected = ["bad a1 window is full", "good a2 takes messages again"];
        assert_eq!(texts(&state, 5), expected);
        fake.reports[1].lanes[0].full = false;
        fake.note(&mut state, 8000);
        fake.leave("a1");
        fake.note(&mut state, 8500);
        fake.note(&mut state, 9000);
        let expected = [
            "good a1 keeps up again",
            "bad a1 is gone",
            "note a1 14 messages re-routed in 3.5 ms",
        ];
        assert_eq!(texts(&state, 7), expected);
        fake.join("a1", 0.4);
        fake.note(&mut state, 9500);
        assert_eq!(texts(&state, 10), ["good a1 is back with weight 0.4"]);
    }

    #[test]
    fn a_ramp_is_told_when_it_is_over() {
        let mut fake = Fake::new(&[0.4]);
        let mut state = fake.state();
        let ramp = RampStatus {
            analyzer: "a1".into(),
            from: 0.4,
            to: 0.8,
            remaining_ms: 1000,
            pin: false,
            is_slow_start: false,
        };
        state.ramps.push(ramp);
        for (step, weight) in [(0, 0.4), (1, 0.5), (2, 0.7)] {
            fake.roster(|entries| entries[0].weight = weight);
            fake.note(&mut state, 6000 + step * 500);
        }
        assert!(texts(&state, 1).is_empty());
        state.ramps.clear();
        fake.roster(|entries| entries[0].weight = 0.8);
        fake.note(&mut state, 8000);
        assert_eq!(texts(&state, 1), ["note a1 weight is 0.8"]);
    }

    #[test]
    fn the_list_is_bounded_and_a_flood_is_one_line() {
        let mut fake = Fake::new(&[]);
        let mut state = fake.state();
        for n in 0..STEP_MAX + 7 {
            fake.join(&format!("g{n:03}"), 1.0);
        }
        fake.note(&mut state, 6000);
        let last = state.events.all().next_back().expect("some").text.clone();
        assert_eq!(last, "and 7 more at the same moment");
        for n in 0..EVENTS_MAX {
            state.events.push(at(0), "note", "".into(), n.to_string());
        }
        assert_eq!(state.events.all().count(), EVENTS_MAX);
        let all = (STEP_MAX + 1 + EVENTS_MAX) as u64;
        assert_eq!(state.events.newest(), all);
    }
}
