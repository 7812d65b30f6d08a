//! The fleet in lines of text, for `weir top` and `weir ctl --all status`.

use serde_json::Value;

use crate::view::table::{
    self, columns_of, count, marked, number, short, totals_lines, visible, wrapped, GAP,
};

/// Findings that are shown; JSON has all.
const FINDINGS_SHOWN: usize = 24;
/// Events at the end.
const EVENTS_SHOWN: usize = 5;
/// Columns of the replicas, left to right; where there is no room the last ones go.
const COLUMNS: [&str; 8] = [
    "replica",
    "state",
    "shards",
    "emitters",
    "received/s",
    "ACKed/s",
    "in flight",
    "up",
];
/// Columns with words rather than numbers.
const WORDS: usize = 2;

/// Lines above the table, without the findings.
pub fn summary(fleet: &Value) -> Vec<String> {
    let totals = &fleet["totals"];
    let whole = |name: &str| totals[name].as_u64().unwrap_or(0);
    let reached = fleet["replicasReached"].as_u64().unwrap_or(0);
    if reached == 0 {
        return vec!["no distributor was reached".to_owned()];
    }
    let replicas = fleet["replicas"].as_array().into_iter().flatten();
    let known = replicas.filter(|one| one["sameAs"].is_null()).count();
    let [flow, books] = totals_lines(totals);
    vec![
        format!(
            "{reached} of {known} distributors  {} shards  {} emitters",
            whole("shards"),
            count(number(&totals["emitters"])),
        ),
        flow,
        books,
    ]
}

/// What is not as it should be, at most `most` lines of `width`.
pub fn findings(fleet: &Value, most: usize, width: usize) -> Vec<String> {
    let found = fleet["findings"].as_array().into_iter().flatten();
    let found: Vec<&str> = found.filter_map(Value::as_str).collect();
    let mut lines = Vec::new();
    for (at, text) in found.iter().enumerate() {
        let of_this = wrapped(&format!("! {text}"), width);
        let is_last = at + 1 == found.len();
        if lines.len() + of_this.len() > most.saturating_sub(usize::from(!is_last)) {
            let more = format!("! {} more: weir ctl --all --json status", found.len() - at);
            lines.push(marked(more, width));
            break;
        }
        lines.extend(of_this);
    }
    lines
}

/// A header and a line for each replica, of at most `width` columns.
pub fn replicas(fleet: &Value, width: usize) -> Vec<String> {
    let all = fleet["replicas"].as_array().into_iter().flatten();
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(all.map(cells));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|at| {
            rows.iter()
                .map(|row| columns_of(&row[at]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut shown = COLUMNS.len();
    let room = |shown: usize| widths[..shown].iter().sum::<usize>() + (shown - 1) * GAP;
    while shown > WORDS && room(shown) > width {
        shown -= 1;
    }
    let line = |row: [String; COLUMNS.len()]| {
        let cells = row.into_iter().zip(&widths).take(shown).enumerate();
        let padded = cells.map(|(at, (cell, width))| {
            let space = " ".repeat(width - columns_of(&cell));
            match at < WORDS {
                true => cell + &space,
                false => space + &cell,
            }
        });
        let line = padded.collect::<Vec<_>>().join(&" ".repeat(GAP));
        marked(line.trim_end().to_owned(), width)
    };
    rows.into_iter().map(line).collect()
}

fn cells(one: &Value) -> [String; COLUMNS.len()] {
    let name = visible(one["replica"].as_str().unwrap_or("-"));
    let without = |state: &str| {
        let mut cells = std::array::from_fn(|_| "-".to_owned());
        cells[0].clone_from(&name);
        cells[1] = state.to_owned();
        cells
    };
    if one["reached"] != true {
        return without("not reached");
    }
    if let Some(same) = one["sameAs"].as_str() {
        return without(&format!("is {}", visible(same)));
    }
    let state = match (&one["draining"], &one["ready"]) {
        (Value::Bool(true), _) => "shutting down",
        (_, Value::Bool(true)) => "ready",
        _ => "not ready",
    };
    [
        name,
        state.to_owned(),
        count(number(&one["shards"])),
        count(number(&one["emitters"])),
        short(number(&one["receivedPerSecond"])),
        short(number(&one["ackedPerSecond"])),
        count(number(&one["open"])),
        format!("{:.0} s", number(&one["uptime"])),
    ]
}

/// The newest events, newest last; each with the replica that says it.
pub fn events(fleet: &Value, most: usize) -> Vec<String> {
    let events = fleet["events"].as_array().map_or(&[][..], Vec::as_slice);
    let from = events.len().saturating_sub(most);
    let line = |event: &Value| {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let clock = text("at").get(11..19).unwrap_or_default();
        let (replica, analyzer) = (visible(text("replica")), visible(text("analyzer")));
        format!("{clock}  {replica}: {analyzer} {}", text("text"))
    };
    events[from..].iter().map(line).collect()
}

/// All of it as plain text, in lines of at most `width` characters.
pub fn text(fleet: &Value, width: usize) -> String {
    let summary = summary(fleet);
    let mut lines: Vec<String> = summary.iter().flat_map(|s| wrapped(s, width)).collect();
    lines.extend(findings(fleet, FINDINGS_SHOWN, width));
    lines.push(String::new());
    lines.extend(table::lines(fleet, &table::FLEET, width));
    lines.push(String::new());
    lines.extend(replicas(fleet, width));
    let events = events(fleet, EVENTS_SHOWN);
    if !events.is_empty() {
        lines.push(String::new());
        lines.extend(events.into_iter().map(|event| marked(event, width)));
    }
    lines.join("\n")
}
