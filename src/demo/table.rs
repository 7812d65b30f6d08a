//! The table of analyzers, as plain lines or with colour, as wide as there is room for.
//!
//! ```text
//! id   state      target      real   messages in flight re-routed ACK p50     p99
//! a1   up       40.000 %  40.000 %     64,012        38         0  1.1 ms  2.9 ms
//! ```

use super::watch::{Row, State};
use weir_engine::Proportion;
use weir_streams::grouped;

/// Columns, left to right, with what is given up first when there is no room: the highest number.
const COLUMNS: [(&str, usize, u8); 9] = [
    ("id", 4, 0),
    ("state", 8, 0),
    ("target", 8, 0),
    ("real", 9, 0),
    ("messages", 10, 1),
    ("in flight", 9, 3),
    ("re-routed", 9, 2),
    ("ACK p50", 7, 4),
    ("p99", 7, 4),
];
/// All of it fits a terminal of 80 columns, whose last one stays free.
pub const WIDTH: usize = 79;
/// Columns with words rather than numbers.
const WORDS: usize = 2;
/// The bar of real shares, where there is room for it.
const BAR_WIDTH: usize = 24;
/// Where a bar says more than the space it takes.
const BAR_FROM_WIDTH: usize = WIDTH + 2 + BAR_WIDTH;

/// How lines may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Most columns of the terminal that a line may take.
    pub width: usize,
    /// Colour says something and is wanted.
    pub colour: bool,
    /// Block characters can be shown.
    pub blocks: bool,
}

/// A paint: the SGR parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Headings.
    Bold,
    /// What recedes.
    Dim,
    /// As it should be.
    Green,
    /// On its way.
    Yellow,
    /// Not as it should be.
    Red,
}

impl Look {
    /// Paints text, if there is colour.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let sgr = match paint {
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Red => 31,
        };
        format!("\x1b[{sgr}m{text}\x1b[0m")
    }

    /// Columns for which there is room.
    fn columns(self) -> Vec<usize> {
        let all = 0..COLUMNS.len();
        let width = |columns: &[usize]| {
            let widths = columns.iter().map(|i| COLUMNS[*i].1);
            widths.sum::<usize>() + columns.len().saturating_sub(1)
        };
        let mut columns: Vec<usize> = all.collect();
        while width(&columns) > self.width {
            let first = columns.iter().map(|i| COLUMNS[*i].2).max().unwrap_or(0);
            if first == 0 {
                break;
            }
            columns.retain(|i| COLUMNS[*i].2 < first);
        }
        columns
    }

    fn has_bar(self) -> bool {
        self.width >= BAR_FROM_WIDTH
    }
}

/// Heading, a line per analyzer, and the sum of them. `real` is each row's part of what was given out
/// since the last change, 0 to 1.
pub fn lines(rows: &[Row], real: &[Option<f64>], look: Look) -> Vec<String> {
    let columns = look.columns();
    let header = COLUMNS.map(|(name, ..)| name.to_owned());
    let mut lines = vec![look.paint(Paint::Bold, &line(&header, &columns, None, look))];
    let all = Proportion::of(rows.iter().filter_map(chosen_weight));
    for (row, real) in rows.iter().zip(real) {
        let target = chosen_weight(row).map(|weight| all.share(weight));
        let (p50, p99) = match row.ack_us {
            Some((p50, p99)) => (milliseconds(p50), milliseconds(p99)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let cells = [
            row.name.to_string(),
            row.state.as_str().to_owned(),
            percent(target, 3),
            percent(*real, 3),
            grouped(row.acked),
            grouped(row.in_flight),
            grouped(row.rerouted),
            p50,
            p99,
        ];
        let mut line = line(&cells, &columns, Some(row.state), look);
        if look.has_bar() {
            line.push_str("  ");
            line.push_str(&bar(real.unwrap_or(0.0), look));
        }
        lines.push(line);
    }
    let up = rows.iter().filter(|row| row.state == State::Up).count();
    let sum = |of: fn(&Row) -> u64| grouped(rows.iter().map(of).sum());
    let cells = [
        "all".to_owned(),
        format!("{up} up"),
        String::new(),
        String::new(),
        sum(|row| row.acked),
        sum(|row| row.in_flight),
        sum(|row| row.rerouted),
        String::new(),
        String::new(),
    ];
    lines.push(look.paint(Paint::Bold, line(&cells, &columns, None, look).trim_end()));
    lines
}

fn chosen_weight(row: &Row) -> Option<f64> {
    row.weight.filter(|_| row.state != State::Draining)
}

fn line(
    cells: &[String; COLUMNS.len()],
    columns: &[usize],
    state: Option<State>,
    look: Look,
) -> String {
    let mut line = String::new();
    for (at, index) in columns.iter().enumerate() {
        if at > 0 {
            line.push(' ');
        }
        let (cell, width) = (&cells[*index], COLUMNS[*index].1);
        let padded = if *index < WORDS {
            format!("{cell:<width$}")
        } else {
            format!("{cell:>width$}")
        };
        match (index, state) {
            (1, Some(state)) => line.push_str(&look.paint(paint_of(state), &padded)),
            _ => line.push_str(&padded),
        }
    }
    line
}

fn paint_of(state: State) -> Paint {
    match state {
        State::Up => Paint::Green,
        State::Partly | State::Draining => Paint::Yellow,
        State::Down => Paint::Red,
    }
}

fn bar(part: f64, look: Look) -> String {
    let full = ((part.clamp(0.0, 1.0)) * BAR_WIDTH as f64).round() as usize;
    let (on, off) = if look.blocks {
        ("█", "░")
    } else {
        ("#", ".")
    };
    let rest = look.paint(Paint::Dim, &off.repeat(BAR_WIDTH - full));
    format!("{}{rest}", on.repeat(full))
}

/// `40.000 %`, or a dash.
pub fn percent(part: Option<f64>, digits: usize) -> String {
    part.map_or_else(
        || "-".to_owned(),
        |part| format!("{:.digits$} %", part * 100.0),
    )
}

fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1000.0;
    let digits = usize::from(ms < 99.95);
    format!("{ms:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look {
        width: WIDTH,
        colour: false,
        blocks: false,
    };

    fn rows() -> Vec<Row> {
        let up = Row {
            name: "a1".into(),
            state: State::Up,
            weight: Some(0.3),
            acked: 64_012,
            in_flight: 38,
            rerouted: 0,
            ack_us: Some((1_120, 2_950)),
        };
        let down = Row {
            name: "a2".into(),
            state: State::Down,
            weight: None,
            acked: 1_064_012,
            in_flight: 0,
            rerouted: 143,
            ack_us: None,
        };
        let other = Row {
            name: "a3".into(),
            weight: Some(0.1),
            ..up.clone()
        };
        vec![up, down, other]
    }

    fn table(look: Look) -> Vec<String> {
        lines(&rows(), &[Some(0.7501), None, Some(0.2499)], look)
    }

    #[test]
    fn eighty_columns_hold_everything() {
        let expected = [
            "id   state      target      real   messages in flight re-routed ACK p50     p99",
            "a1   up       75.000 %  75.010 %     64,012        38         0  1.1 ms  3.0 ms",
            "a2   down            -         -  1,064,012         0       143       -       -",
            "a3   up       25.000 %  24.990 %     64,012        38         0  1.1 ms  3.0 ms",
            "all  2 up                         1,192,036        76       143",
        ];
        let table = table(PLAIN);
        assert_eq!(table, expected);
        assert!(table.iter().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn columns_go_one_by_one_when_there_is_no_room() {
        for (width, last) in [
            (78, "re-routed"),
            (63, "re-routed"),
            (62, "re-routed"),
            (52, "messages"),
            (20, "real"),
        ] {
            let table = table(Look { width, ..PLAIN });
            assert!(table[0].ends_with(last), "{width}: {}", table[0]);
        }
    }

    #[test]
    fn bars_and_colour_only_where_wanted() {
        let wide = table(Look {
            width: 120,
            ..PLAIN
        });
        assert!(wide[1].ends_with("##################......"), "{}", wide[1]);
        assert!(!wide.concat().contains('\x1b'));
        let colour = table(Look {
            colour: true,
            ..PLAIN
        });
        assert!(
            colour[1].contains("\x1b[32mup      \x1b[0m"),
            "{}",
            colour[1]
        );
        assert!(colour[2].contains("\x1b[31mdown    \x1b[0m"));
    }

    #[test]
    fn numbers() {
        assert_eq!(
            [950, 99_949, 123_456].map(milliseconds),
            ["0.9 ms", "99.9 ms", "123 ms"]
        );
        assert_eq!(
            (percent(None, 1), percent(Some(0.4), 1)),
            ("-".into(), "40.0 %".into())
        );
    }
}
