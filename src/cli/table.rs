//! The table of analyzers that `weir ctl status` prints and `weir top` keeps up to date.
//!
//! ```text
//! analyzer  state   weight   target     real  ACKed/s      p50      p99  in flight  off by
//! a1        up         0.4  40.00 %  40.01 %   48,012   310 us   1.2 ms         38   +0.25
//! ```

use serde_json::Value;

/// Lines as long as they are.
pub const WIDTH_ANY: usize = usize::MAX;
/// Longest id that is shown whole.
const ID_WIDTH_MAX: usize = 24;
/// Events at the end.
const EVENTS_SHOWN: usize = 5;

/// Columns, left to right.
pub const COLUMNS: [&str; 10] = [
    "analyzer",
    "state",
    "weight",
    "target",
    "real",
    "ACKed/s",
    "p50",
    "p99",
    "in flight",
    "off by",
];
/// Columns with words rather than numbers.
pub const WORDS: usize = 2;

/// How a row is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// On its way.
    Warn,
    /// Not as it should be.
    Bad,
    /// Not there.
    Dim,
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// `48,012`, `1.25 M`.
pub fn short(n: f64) -> String {
    match n {
        n if n < 10.0 && n > 0.0 => format!("{n:.1}"),
        n if n < 1e6 => grouped(n as u64), // not negative, below a million
        n if n < 1e9 => format!("{:.2} M", n / 1e6),
        n => format!("{:.2} G", n / 1e9),
    }
}

/// As [`short`], of what is counted: no part of one.
fn count(n: f64) -> String {
    short(n.round()).trim_end_matches(".0").to_owned()
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn time(value: &Value) -> String {
    match value.as_f64() {
        None => "-".into(),
        Some(s) if s < 1e-3 => format!("{:.0} us", s * 1e6),
        Some(s) if s < 1.0 => format!("{:.1} ms", s * 1e3),
        Some(s) => format!("{s:.2} s"),
    }
}

fn percent(value: &Value) -> String {
    value
        .as_f64()
        .map_or("-".into(), |part| format!("{:.2} %", part * 100.0))
}

/// An id that could hide or colour text does not.
fn visible(text: &str) -> String {
    let text: String = text.escape_debug().collect();
    if text.chars().count() <= ID_WIDTH_MAX {
        return text;
    }
    let cut: String = text.chars().take(ID_WIDTH_MAX - 2).collect();
    format!("{cut}..")
}

/// One row for each analyzer, cells in the order of [`COLUMNS`].
pub fn rows(view: &Value) -> Vec<(Tone, [String; 10])> {
    let analyzers = view["analyzers"].as_array().into_iter().flatten();
    analyzers
        .map(|one| {
            let standing = one["standing"].as_str().unwrap_or("-");
            let tone = match standing {
                "up" => Tone::Good,
                "full" | "ejected" => Tone::Bad,
                "offline" => Tone::Dim,
                _ => Tone::Warn,
            };
            let pin = if one["pinned"] == true { "*" } else { "" };
            let open = number(&one["inFlight"]) + number(&one["queued"]);
            let cells = [
                visible(one["id"].as_str().unwrap_or("-")),
                standing.to_owned(),
                format!("{}{pin}", (number(&one["weight"]) * 1e6).round() / 1e6),
                percent(&one["targetShare"]),
                percent(&one["recentShare"]),
                short(number(&one["ackedRate"])),
                time(&one["p50"]),
                time(&one["p99"]),
                count(open),
                format!("{:+.2}", number(&one["shareError"])),
            ];
            (tone, cells)
        })
        .collect()
}

/// Lines above the table.
pub fn summary(view: &Value) -> Vec<String> {
    let totals = &view["totals"];
    let n = |name: &str| short(number(&totals[name]));
    let ready = match (&view["draining"], &view["ready"]) {
        (Value::Bool(true), _) => "shutting down",
        (_, Value::Bool(true)) => "ready",
        _ => "not ready",
    };
    let holds = if totals["holds"] == true {
        "holds"
    } else {
        "BROKEN"
    };
    let whole = |name: &str| totals[name].as_u64().unwrap_or(0);
    vec![
        format!(
            "weir {}  {ready}  up {:.0} s  {} shards  {} emitters",
            view["version"].as_str().unwrap_or("?"),
            number(&view["uptime"]),
            view["shards"].as_array().map_or(0, Vec::len),
            count(number(&totals["emitters"])),
        ),
        format!(
            "received {}/s  ACKed {}/s  in flight {}  re-routed {}",
            n("receivedPerSecond"),
            n("ackedPerSecond"),
            count(number(&totals["inFlight"]) + number(&totals["queued"])),
            count(number(&totals["rerouted"])),
        ),
        format!(
            "conservation {holds}: received {} = acked {} + in flight {} + queued {} + dropped {}",
            whole("received"),
            whole("acked"),
            whole("inFlight"),
            whole("queued"),
            whole("dropped"),
        ),
        format!(
            "bottleneck: {}",
            view["bottleneck"].as_str().unwrap_or("none")
        ),
    ]
}

/// The newest events, newest last.
pub fn events(view: &Value, most: usize) -> Vec<String> {
    let events = view["events"].as_array().map_or(&[][..], Vec::as_slice);
    let from = events.len().saturating_sub(most);
    let line = |event: &Value| {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let at = text("at");
        let clock = at.get(11..19).unwrap_or_default();
        format!("{clock}  {} {}", visible(&text("analyzer")), text("text"))
    };
    events[from..].iter().map(line).collect()
}

/// All of it as plain text.
pub fn text(view: &Value, width: usize) -> String {
    let rows = rows(view);
    let mut widths = COLUMNS.map(str::len);
    for (_, cells) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| match column < WORDS {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ")
    };
    let mut lines = summary(view);
    lines.push(String::new());
    lines.push(line(&COLUMNS.map(str::to_owned)));
    lines.extend(rows.iter().map(|(_, cells)| line(cells)));
    let events = events(view, EVENTS_SHOWN);
    if !events.is_empty() {
        lines.push(String::new());
        lines.extend(events);
    }
    let cut = |line: String| line.chars().take(width).collect::<String>();
    lines.into_iter().map(cut).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_what_is_there_and_nothing_hides() {
        let view = json!({
            "version": "1", "ready": true, "uptime": 12.3, "shards": [{}, {}], "bottleneck": null,
            "totals": {"holds": true, "received": 1_234_567, "receivedPerSecond": 48_012.0, "acked": 1},
            "analyzers": [
                {"id": "a1", "standing": "up", "weight": 0.4, "pinned": true, "targetShare": 0.4,
                 "recentShare": 0.4001, "ackedRate": 48_012.0, "p50": 0.00031, "p99": 0.0012,
                 "inFlight": 3, "queued": 5, "shareError": 0.25},
                {"id": "evil\u{1b}[2J", "standing": "offline", "weight": 1.0, "recentShare": null, "p50": null},
            ],
            "events": [{"at": "2026-11-22T03:28:30.125Z", "analyzer": "a1", "text": "joined"}],
        });
        let text = text(&view, WIDTH_ANY);
        for part in [
            "weir 1  ready  up 12 s  2 shards",
            "received 48,012/s",
            "conservation holds: received 1234567 = acked 1",
            "bottleneck: none",
            "0.4*  40.00 %  40.01 %   48,012  310 us  1.2 ms",
            " 8   +0.25",
            "evil\\u{1b}[2J",
            "03:28:30  a1 joined",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        let header = text
            .lines()
            .position(|line| line.starts_with("analyzer"))
            .expect("there");
        let lines: Vec<&str> = text.lines().skip(header).take(3).collect();
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() == lines[0].chars().count()),
            "{lines:?}"
        );
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.04, 9.96, 999.0, 1000.0, 48_012.4, 2_500_000.0, 3e9].map(short);
        assert_eq!(
            texts,
            ["0", "0.0", "10.0", "999", "1,000", "48,012", "2.50 M", "3.00 G"]
        );
    }
}
