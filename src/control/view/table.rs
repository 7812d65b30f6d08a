//! The table of analyzers that `weir ctl status` prints, and `weir top` and `weir demo` keep up to date.
//!
//! ```text
//! analyzer  state   weight   target     real  ACKed/s      p50      p99  in flight  off by
//! a1        up         0.4  40.00 %  40.01 %   48,012   310 us   1.2 ms         38   +0.25
//! ```
//!
//! Where there is no room, columns go and values stay: a number that has lost a digit is another number.

use serde_json::Value;

use super::inputs;
use weir_streams::grouped;

/// Lines as long as they are.
pub const WIDTH_ANY: usize = usize::MAX;
/// Longest id that is shown whole where room is short.
const ID_WIDTH_MAX: usize = 24;
/// Shortest form of a longer one: three characters of either end and the mark between them.
const ID_WIDTH_MIN: usize = 8;
/// What stands where an id or a line was cut.
const CUT: &str = "..";
/// Spaces between two columns.
pub const GAP: usize = 2;
/// Events at the end.
const EVENTS_SHOWN: usize = 5;

/// Columns, left to right.
pub const COLUMNS: [&str; 17] = [
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
    "ACKed",
    "re-routed",
    "due",
    "got",
    "bound",
    "links",
    "certificate",
];
/// Whom analyzers' certificates name: shown behind the others where one has shown one.
const CERTIFICATE: usize = 16;
/// Those of a distributor that may run for months.
pub const STATUS: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
/// Those of one that runs for seconds: sums instead of rates.
pub const DEMO: [usize; 9] = [0, 1, 3, 4, 10, 8, 11, 6, 7];
/// Those of several distributors together: shares since the start, which are exact, rather than those of the last seconds.
pub const FLEET: [usize; 11] = [0, 1, 2, 12, 13, 9, 14, 15, 5, 7, 8];
/// Columns with words rather than numbers.
const WORDS: [usize; 3] = [0, 1, CERTIFICATE];
/// Columns in the order in which they go when there is no room; the analyzer's id stays.
const GIVEN_UP: [usize; 12] = [CERTIFICATE, 6, 7, 8, 9, 11, 5, 10, 2, 3, 4, 1];
/// The same of [`FLEET`].
const GIVEN_UP_FLEET: [usize; 10] = [8, 7, 5, 14, 9, 2, 15, 12, 13, 1];

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

/// A column with words rather than numbers.
pub fn is_words(column: usize) -> bool {
    WORDS.contains(&column)
}

pub(super) fn number(value: &Value) -> f64 {
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
pub(super) fn count(n: f64) -> String {
    short(n.round()).trim_end_matches(".0").to_owned()
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
        // No "-0.00": a sum of nothing is less than zero.
        .map_or("-".into(), |part| format!("{:.2} %", part * 100.0 + 0.0))
}

/// `0.25`, `1e-9`, `1e308`: six digits behind the point where these say it, else an exponent.
pub(super) fn weight(n: f64) -> String {
    if n == 0.0 || (1e-4..1e9).contains(&n) {
        return format!("{}", (n * 1e6).round() / 1e6);
    }
    let short = format!("{n:.4e}");
    match short.split_once('e') {
        Some((digits, exponent)) => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{digits}e{exponent}")
        }
        None => short,
    }
}

/// An id that could hide or colour text does not.
pub(super) fn visible(text: &str) -> String {
    text.escape_debug().collect()
}

/// An id in `width` columns: both ends stay, since names that are counted differ at their end.
fn shortened(id: &str, width: usize) -> String {
    if columns_of(id) <= width {
        return id.to_owned();
    }
    let kept = width.saturating_sub(CUT.len());
    let head = start_of(id.chars(), kept.div_ceil(2));
    let tail = start_of(id.chars().rev(), kept / 2);
    let tail = tail.chars().rev();
    head.chars().chain(CUT.chars()).chain(tail).collect()
}

/// A line in `width` columns; what was cut is marked.
pub fn marked(line: String, width: usize) -> String {
    if columns_of(&line) <= width {
        return line;
    }
    let mut kept = start_of(line.chars(), width.saturating_sub(CUT.len()));
    kept.push_str(CUT);
    kept
}

/// As many characters as have room in so many columns.
fn start_of(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut room = columns;
    let fits = |c: &char| {
        let left = room.checked_sub(width_of(*c));
        room = left.unwrap_or(0);
        left.is_some()
    };
    chars.take_while(fits).collect()
}

/// Columns of a terminal that a text takes.
pub fn columns_of(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// Two columns for what terminals draw wide: the scripts of East Asia, their forms of other characters, and pictures
/// (Unicode's East Asian Width W and F, by blocks). None for marks over the character before.
fn width_of(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A line broken so that nothing of it is lost; what follows is indented. Between items, which two spaces part; within
/// one only where it is longer than a line.
pub fn wrapped(line: &str, width: usize) -> Vec<String> {
    if columns_of(line) <= width {
        return vec![line.to_owned()];
    }
    let pieces = line.split("  ").flat_map(|item| {
        let is_whole = columns_of(item) < width;
        let words: Vec<&str> = match is_whole {
            true => vec![item],
            false => item.split(' ').collect(),
        };
        let spaces = |index| if index == 0 { "  " } else { " " };
        words
            .into_iter()
            .enumerate()
            .map(move |(index, word)| (spaces(index), word))
    });
    let mut lines: Vec<String> = Vec::new();
    let mut last: Option<String> = None;
    for (space, piece) in pieces {
        last = Some(match last {
            None => piece.to_owned(),
            Some(line) if columns_of(&line) + space.len() + columns_of(piece) > width => {
                lines.push(line);
                format!(" {piece}")
            }
            Some(line) => line + space + piece,
        });
    }
    lines.extend(last);
    lines
}

/// The table as it fits a width.
pub struct Fitted {
    /// Which of [`COLUMNS`] there is room for.
    pub columns: Vec<usize>,
    /// Their widths in columns of a terminal.
    pub widths: Vec<usize>,
    /// A row for each analyzer, with a cell for each of these columns.
    pub rows: Vec<(Tone, Vec<String>)>,
}

impl Fitted {
    /// A line; `painted` may give a cell of a column colour.
    pub fn line(&self, cells: &[String], painted: impl Fn(usize, String) -> String) -> String {
        let room = |cell: &String, width: usize| " ".repeat(width.saturating_sub(columns_of(cell)));
        let cells = cells.iter().zip(&self.columns).zip(&self.widths);
        let padded = cells.map(|((cell, column), width)| match is_words(*column) {
            true => painted(*column, format!("{cell}{}", room(cell, *width))),
            false => painted(*column, format!("{}{cell}", room(cell, *width))),
        });
        padded.collect::<Vec<_>>().join(&" ".repeat(GAP))
    }

    /// The names of its columns.
    pub fn header(&self) -> String {
        let names = self
            .columns
            .iter()
            .map(|column| COLUMNS[*column].to_owned());
        self.line(&names.collect::<Vec<_>>(), |_, cell| cell)
    }
}

/// The table in lines of at most `width` characters, of those among `columns` that there is room for.
pub fn fitted(view: &Value, columns: &[usize], width: usize) -> Fitted {
    let mut rows = rows(view);
    let mut widths = COLUMNS.map(str::len);
    for (_, cells) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(columns_of(cell));
        }
    }
    let all = |columns: &[usize], widths: &[usize]| {
        let cells: usize = columns.iter().map(|column| widths[*column]).sum();
        cells + columns.len().saturating_sub(1) * GAP
    };
    let mut columns = columns.to_vec();
    if columns != FLEET && rows.iter().any(|(_, cells)| !cells[CERTIFICATE].is_empty()) {
        columns.push(CERTIFICATE);
    }
    if all(&columns, &widths) > width {
        widths[0] = widths[0].min(ID_WIDTH_MAX);
    }
    let given_up = match columns == FLEET {
        true => &GIVEN_UP_FLEET[..],
        false => &GIVEN_UP[..],
    };
    for given_up in given_up {
        let excess = all(&columns, &widths).saturating_sub(width);
        if excess == 0 {
            break;
        }
        // The last two go only where not even the shortest id leaves room for them.
        let is_last = columns.len() <= 3;
        if is_last && widths[0].saturating_sub(excess) >= ID_WIDTH_MIN {
            widths[0] -= excess;
            break;
        }
        columns.retain(|column| column != given_up);
    }
    widths[0] = widths[0].min(width);
    for (_, cells) in &mut rows {
        cells[0] = shortened(&cells[0], widths[0]);
    }
    let picked =
        |cells: [String; COLUMNS.len()]| columns.iter().map(|i| cells[*i].clone()).collect();
    Fitted {
        rows: rows
            .into_iter()
            .map(|(tone, cells)| (tone, picked(cells)))
            .collect(),
        widths: columns.iter().map(|column| widths[*column]).collect(),
        columns,
    }
}

/// One row for each analyzer, cells in the order of [`COLUMNS`].
fn rows(view: &Value) -> Vec<(Tone, [String; COLUMNS.len()])> {
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
            let ramp = match one["rampWeight"].as_f64() {
                Some(now) => format!(" (now {})", weight(now)),
                None => String::new(),
            };
            let open = number(&one["inFlight"]) + number(&one["queued"]);
            let cells = [
                visible(one["id"].as_str().unwrap_or("-")),
                match one["acks"] == "weak" {
                    true => format!("{standing}, weak"),
                    false => standing.to_owned(),
                },
                match one["weights"].as_array() {
                    Some(of_replicas) => weights(of_replicas),
                    None => format!("{}{pin}{ramp}", weight(number(&one["weight"]))),
                },
                percent(&one["targetShare"]),
                percent(&one["recentShare"]),
                short(number(&one["ackedRate"])),
                time(&one["p50"]),
                time(&one["p99"]),
                count(open),
                format!("{:+.2}", number(&one["shareError"])),
                grouped(one["acked"].as_u64().unwrap_or(0)),
                grouped(one["rerouted"].as_u64().unwrap_or(0)),
                percent(&one["dueShare"]),
                percent(&one["realShare"]),
                format!("{:.2}", number(&one["shareBound"])),
                format!(
                    "{}/{}",
                    count(number(&one["lanes"])),
                    count(number(&one["lanesOf"]))
                ),
                visible(one["certificate"].as_str().unwrap_or_default()),
            ];
            (tone, cells)
        })
        .collect()
}

/// `0.25-0.4`: the least and the most, where replicas have different ones.
fn weights(of_replicas: &[Value]) -> String {
    let all = of_replicas.iter().map(|one| number(&one["weight"]));
    let (least, most) = all.fold((f64::MAX, 0.0_f64), |(least, most), one| {
        (least.min(one), most.max(one))
    });
    match least == most {
        // Pinned on some only.
        true => format!("{}*", weight(least)),
        false => format!("{}-{}", weight(least), weight(most)),
    }
}

/// The table as lines: its header, and a line for each analyzer.
pub fn lines(view: &Value, columns: &[usize], width: usize) -> Vec<String> {
    let table = fitted(view, columns, width);
    let plain = |(_, cells): &(Tone, Vec<String>)| table.line(cells, |_, cell| cell);
    let mut lines = vec![table.header()];
    lines.extend(table.rows.iter().map(plain));
    lines
}

/// What flows, and whether the books balance; of one distributor or of several.
pub(in crate::view) fn totals_lines(totals: &Value) -> [String; 2] {
    let n = |name: &str| short(number(&totals[name]));
    let whole = |name: &str| totals[name].as_u64().unwrap_or(0);
    let holds = match totals["holds"] == true {
        true => "holds",
        false => "BROKEN",
    };
    [
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
    ]
}

/// Lines above the table.
pub fn summary(view: &Value) -> Vec<String> {
    let totals = &view["totals"];
    let ready = match (&view["draining"], &view["ready"]) {
        (Value::Bool(true), _) => "shutting down",
        (_, Value::Bool(true)) => "ready",
        _ => "not ready",
    };
    let [flow, books] = totals_lines(totals);
    let mut lines = vec![
        format!(
            "weir {}  {ready}  up {:.0} s  {} shards  {} emitters{}",
            view["version"].as_str().unwrap_or("?"),
            number(&view["uptime"]),
            view["shards"].as_array().map_or(0, Vec::len),
            count(number(&totals["emitters"])),
            match view["weightsDigest"].as_str() {
                Some(digest) => format!("  weights {digest}"),
                None => String::new(),
            },
        ),
        flow,
        books,
        format!(
            "bottleneck: {}",
            view["bottleneck"].as_str().unwrap_or("none")
        ),
    ];
    lines.extend(inputs::lines(view));
    lines
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

/// All of it as plain text, in lines of at most `width` characters.
pub fn text(view: &Value, width: usize) -> String {
    let summary = summary(view);
    let mut lines: Vec<String> = summary.iter().flat_map(|s| wrapped(s, width)).collect();
    lines.push(String::new());
    lines.extend(self::lines(view, &STATUS, width));
    let events = events(view, EVENTS_SHOWN);
    if !events.is_empty() {
        lines.push(String::new());
        lines.extend(events.into_iter().map(|event| marked(event, width)));
    }
    lines.join("\n")
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
    fn certificates_are_shown_where_there_are_some_and_go_first() {
        let mut view = four();
        assert_eq!(fitted(&view, &STATUS, WIDTH_ANY).columns, STATUS);
        view["analyzers"][1]["certificate"] = json!("a2.example.org\u{202e}");
        let lines = lines(&view, &STATUS, WIDTH_ANY);
        assert!(lines[0].contains("off by  certificate"), "{lines:?}");
        assert!(lines[2].ends_with("a2.example.org\\u{202e}"), "{lines:?}");
        let narrow = fitted(&view, &STATUS, lines[0].len() - 1);
        assert_eq!(narrow.columns, STATUS);
    }

    #[test]
    fn wide_characters_take_two_columns_and_a_cut_is_marked() {
        let id = "漢字漢字漢字漢字分析器-長い名前です";
        assert_eq!(columns_of(id), 35);
        assert_eq!((columns_of("e\u{301}"), columns_of("한글🚀")), (1, 6));
        for width in ID_WIDTH_MIN..40 {
            let short = shortened(id, width);
            assert!(columns_of(&short) <= width, "{short} in {width}");
            assert_eq!(short.contains(CUT), width < 35, "{short}");
            let line = marked(format!("17:15:50  {id} joined"), width);
            assert!(columns_of(&line) <= width && line.ends_with(CUT), "{line}");
        }
        let view = json!({"analyzers": [{"id": id}, {"id": "a1"}]});
        for width in [40, 60, 80, 120] {
            let table = fitted(&view, &STATUS, width);
            let lines = table
                .rows
                .iter()
                .map(|(_, cells)| table.line(cells, |_, cell| cell));
            let wide: Vec<usize> = lines.map(|line| columns_of(&line)).collect();
            assert!(
                wide[0] == wide[1] && wide[0] <= width,
                "{wide:?} in {width}"
            );
        }
    }

    #[test]
    fn a_long_line_breaks_between_its_items() {
        let line = "received 20,016/s  ACKed 20,030/s  in flight 40  re-routed 0";
        assert_eq!(
            wrapped(line, 40),
            [
                "received 20,016/s  ACKed 20,030/s",
                " in flight 40  re-routed 0"
            ]
        );
        assert_eq!(wrapped(line, 60), [line]);
        // An item that is longer than a line breaks between its words.
        let sum = "conservation holds: received 377029 = acked 376990 + in flight 39";
        for width in 12..80 {
            let lines = wrapped(sum, width);
            assert!(
                lines.iter().all(|line| columns_of(line) <= width.max(14)),
                "{lines:?}"
            );
            let words = |text: &str| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(&lines.join(" ")), words(sum));
        }
    }

    /// Analyzers as they are in the README, with numbers as wide as they become.
    fn four() -> Value {
        let one = |n: u32| {
            json!({"id": format!("analyzer-{n}"), "standing": "up", "weight": 0.25, "targetShare": 0.25,
                "recentShare": 0.250_01, "ackedRate": 123_456.0, "p50": 0.000_31, "p99": 0.0012,
                "inFlight": 123_456, "queued": 5, "shareError": -1234.25})
        };
        json!({"version": "1", "ready": true, "uptime": 12.3, "shards": [{}],
            "totals": {"holds": true, "received": 1_234_567_890_u64, "acked": 1_234_567_890_u64},
            "analyzers": [one(1), one(2), one(3), one(4)]})
    }

    #[test]
    fn where_room_is_short_columns_go_and_values_stay() {
        let whole = fitted(&four(), &STATUS, WIDTH_ANY);
        assert_eq!(whole.columns, STATUS);
        for width in 26..=140 {
            let table = fitted(&four(), &STATUS, width);
            let wide = table.widths.iter().sum::<usize>() + (table.widths.len() - 1) * GAP;
            assert!(wide <= width, "{wide} columns of {width}");
            for ((_, cells), (_, all)) in table.rows.iter().zip(&whole.rows) {
                for (cell, column) in cells.iter().zip(&table.columns) {
                    assert_eq!(*cell, all[*column], "at {width}");
                }
            }
            let text = text(&four(), width);
            assert!(
                text.lines().all(|line| line.chars().count() <= width),
                "{text}"
            );
            // The books are read off the screen: not a digit of them goes.
            assert_eq!(text.matches("1234567890").count(), 2, "at {width}:\n{text}");
        }
        let names = |width| fitted(&four(), &STATUS, width).columns.len();
        assert_eq!([120, 80, 60, 40].map(names), [10, 8, 6, 4]);
    }

    #[test]
    fn ids_that_differ_at_their_end_still_do() {
        let id = |end: &str| json!({"id": format!("log-analyzer-deployment-7d9f8b6c54-{end}"), "standing": "up"});
        let view = json!({"analyzers": [id("x2v7q"), id("m4kzt")]});
        for width in [80, 60, 40, 30] {
            let table = fitted(&view, &STATUS, width);
            let ids: Vec<&str> = table
                .rows
                .iter()
                .map(|(_, cells)| cells[0].as_str())
                .collect();
            assert_ne!(ids[0], ids[1]);
            assert!(
                ids.iter().all(|id| id.contains("..")),
                "cut without a mark: {ids:?}"
            );
        }
        let whole = fitted(&view, &STATUS, WIDTH_ANY);
        assert_eq!(
            whole.rows[0].1[0],
            "log-analyzer-deployment-7d9f8b6c54-x2v7q"
        );
    }

    #[test]
    fn weights_of_any_size_are_told_apart() {
        let texts = [0.0, 0.25, 1e-9, 1.5e-7, 123_456.5, 1e30, 1e308, 5e-324].map(weight);
        assert_eq!(
            texts,
            [
                "0",
                "0.25",
                "1e-9",
                "1.5e-7",
                "123456.5",
                "1e30",
                "1e308",
                "4.9407e-324"
            ]
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
