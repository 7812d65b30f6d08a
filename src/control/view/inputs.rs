//! The places where emitters connect, all shards added up: the port of `--emitters` first, then the inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::state::State;

/// One place.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputRow {
    /// What it is called.
    pub name: Arc<str>,
    /// Connected now.
    pub connections: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Messages taken in since the start.
    pub messages: u64,
    /// Their bytes, as frames.
    pub bytes: u64,
    /// Messages in the last seconds, per second.
    pub messages_per_second: f64,
    /// Ack units that are not answered.
    pub units_open: usize,
    /// Sends of acks.
    pub answers: u64,
    /// Connections refused or closed, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// All of them, in the order of their numbers.
pub fn rows(state: &State) -> Vec<InputRow> {
    let mut rows: Vec<InputRow> = Vec::new();
    for report in &state.reports {
        rows.resize(rows.len().max(report.inputs.len()), InputRow::default());
        for (row, input) in rows.iter_mut().zip(&report.inputs) {
            row.name = Arc::clone(&input.name);
            row.connections += input.connections;
            row.accepted += input.accepted;
            row.messages += input.messages;
            row.bytes += input.bytes;
            row.units_open += input.units_open;
            row.answers += input.answers;
            for (reason, count) in &input.refused {
                *row.refused.entry(reason.as_str()).or_default() += count;
            }
        }
    }
    for (index, row) in rows.iter_mut().enumerate() {
        row.messages_per_second = state.rates.input(index);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use crate::view::snapshot;

    #[test]
    fn shards_are_added_up() {
        let state = Fake::new(&[1.0]).state();
        let rows = rows(&state);
        assert_eq!((rows.len(), &*rows[1].name), (2, "syslog-514"));
        assert_eq!((rows[1].connections, rows[1].messages), (2, 6));
        assert_eq!(rows[1].refused["address_limit"], 14);
        let shown = &snapshot::view(&state)["inputs"][1];
        assert_eq!(
            (&shown["name"], &shown["unitsOpen"]),
            (&"syslog-514".into(), &10.into())
        );
    }
}
