//! The places where emitters connect, all shards added up: the port of `--emitters` first, then the inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::state::State;
use super::table::{count, number, visible};

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
    /// Datagrams that the kernel dropped: lost before receipt. None where connections come.
    pub lost: Option<u64>,
    /// Connections and datagrams refused, by reason.
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
            if let Some(lost) = input.lost {
                *row.lost.get_or_insert(0) += lost;
            }
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

/// Inputs that are shown above the table; more are in the answer only.
const INPUTS_SHOWN: usize = 8;

/// A line for each place where emitters connect, if there is more than the port of `--emitters`.
pub fn lines(view: &Value) -> Vec<String> {
    let all = view["inputs"].as_array().map_or(&[][..], Vec::as_slice);
    if all.len() < 2 {
        return Vec::new();
    }
    let line = |input: &Value| {
        let refused = input["refused"].as_object();
        let refused: f64 = refused.map_or(0.0, |all| all.values().map(number).sum());
        let units = match number(&input["unitsOpen"]) {
            0.0 => String::new(),
            units => format!("  {} units open", count(units)),
        };
        let there = match &input["lost"] {
            Value::Null => format!("{} connected", count(number(&input["connections"]))),
            lost => format!("{} lost before receipt", count(number(lost))),
        };
        format!(
            "input {}  {} / s  {there}{units}  {} refused",
            visible(input["name"].as_str().unwrap_or("?")),
            count(number(&input["messagesPerSecond"])),
            count(refused),
        )
    };
    let mut lines: Vec<String> = all.iter().take(INPUTS_SHOWN).map(line).collect();
    if all.len() > INPUTS_SHOWN {
        lines.push(format!("and {} more inputs", all.len() - INPUTS_SHOWN));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use crate::view::snapshot;
    use serde_json::json;

    #[test]
    fn shards_are_added_up() {
        let state = Fake::new(&[1.0]).state();
        let rows = rows(&state);
        assert_eq!((rows.len(), &*rows[1].name), (2, "syslog-514"));
        assert_eq!((rows[1].connections, rows[1].messages), (2, 6));
        assert_eq!(rows[1].refused["address_limit"], 14);
        assert_eq!((rows[0].lost, rows[1].lost), (None, Some(16)));
        let shown = &snapshot::view(&state)["inputs"][1];
        assert_eq!(
            (&shown["name"], &shown["unitsOpen"]),
            (&"syslog-514".into(), &10.into())
        );
    }

    #[test]
    fn inputs_have_lines_when_there_are_some() {
        let emitters =
            json!({"name": "emitters", "messagesPerSecond": 1.0, "connections": 2, "refused": {}});
        let syslog = json!({
            "name": "syslog-514", "messagesPerSecond": 1200.0, "connections": 3, "unitsOpen": 4,
            "refused": {"address_limit": 5, "probe": 6},
        });
        let shown = |inputs: &[&Value]| lines(&json!({"inputs": inputs}));
        assert_eq!(shown(&[&emitters]), Vec::<String>::new());
        let two = shown(&[&emitters, &syslog]);
        let words = "3 connected  4 units open  11 refused";
        assert!(
            two[1].starts_with("input syslog-514  1") && two[1].ends_with(words),
            "{two:?}"
        );
        let udp = json!({
            "name": "syslog-udp-514", "messagesPerSecond": 0.0, "connections": 0, "lost": 7,
            "refused": {},
        });
        let line = &shown(&[&emitters, &udp])[1];
        assert!(line.ends_with("7 lost before receipt  0 refused"), "{line}");
        let many = [&syslog; 33];
        assert_eq!(shown(&many).len(), INPUTS_SHOWN + 1);
    }
}
