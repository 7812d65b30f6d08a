//! Where it is shown. On a terminal the table stays at the bottom and is drawn over; what happens
//! scrolls away above it. Elsewhere everything is plain lines, appended.

use std::io::{self, IsTerminal, Write};

use terminal_size::{terminal_size, Height, Width};

use super::programs::is_log_wanted;
use weir_control::view::snapshot::view;
use weir_control::view::state::State;
use weir_control::view::table::{self, Tone};

/// A terminal with fewer rows than the table has lines cannot be drawn over.
const ROWS_MIN: u16 = 14;
/// Columns where there is no terminal.
const WIDTH: usize = 100;
/// The bar of real shares, where there is room for it.
const BAR_WIDTH: usize = 24;
/// A terminal of so many columns has room for it.
const BAR_FROM_WIDTH: usize = 110;

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
    Bold = 1,
    /// What recedes.
    Dim = 2,
    /// Not as it should be.
    Red = 31,
    /// As it should be.
    Green = 32,
    /// On its way.
    Yellow = 33,
}

impl Look {
    /// Paints text, if there is colour.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{}m{text}\x1b[0m", paint as u8),
            false => text.to_owned(),
        }
    }
}

/// The table of `weir top`, with sums where that has rates.
pub fn rows(state: &State, look: Look) -> Vec<String> {
    let has_bar = look.width >= BAR_FROM_WIDTH;
    let width = look.width - if has_bar { BAR_WIDTH + table::GAP } else { 0 };
    let table = table::fitted(&view(state), &table::DEMO, width);
    let mut lines = vec![look.paint(Paint::Bold, &table.header())];
    for ((tone, cells), row) in table.rows.iter().zip(&state.rows) {
        let paint = match tone {
            Tone::Good => Paint::Green,
            Tone::Warn => Paint::Yellow,
            Tone::Bad | Tone::Dim => Paint::Red,
        };
        let mut line = table.line(cells, |column, cell| match column {
            1 => look.paint(paint, &cell),
            _ => cell,
        });
        if has_bar {
            line.push_str(&" ".repeat(table::GAP));
            line.push_str(&bar(row.recent_share.unwrap_or(0.0), look));
        }
        lines.push(line);
    }
    lines
}

fn bar(part: f64, look: Look) -> String {
    let full = ((part.clamp(0.0, 1.0)) * BAR_WIDTH as f64).round() as usize;
    let (on, off) = match look.blocks {
        true => ("█", "░"),
        false => ("#", "."),
    };
    let rest = look.paint(Paint::Dim, &off.repeat(BAR_WIDTH - full));
    format!("{}{rest}", on.repeat(full))
}

/// Standard output.
pub struct Screen {
    is_terminal: bool,
    /// The table is drawn over, not appended.
    is_live: bool,
    colour: bool,
    blocks: bool,
    /// The table as drawn last.
    table: Vec<String>,
}

impl Screen {
    /// Finds out what standard output can do and what its user wants.
    pub fn new() -> Screen {
        let set = |name| std::env::var(name).is_ok_and(|value: String| !value.is_empty());
        let is_terminal = io::stdout().is_terminal();
        let is_dumb = std::env::var("TERM").map_or(true, |term| term == "dumb");
        let has_rows = terminal_size().is_some_and(|(_, Height(rows))| rows >= ROWS_MIN);
        // Log lines in between would be drawn over, and the table be drawn beside itself.
        let is_live = is_terminal && !is_dumb && has_rows && !is_log_wanted();
        let mut locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter(|name| set(*name));
        let locale = locale.find_map(|name| std::env::var(name).ok());
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Screen {
            is_terminal,
            is_live,
            colour: is_terminal && !is_dumb && !set("NO_COLOR"),
            blocks: is_live && (locale.contains("utf-8") || locale.contains("utf8")),
            table: Vec::new(),
        }
    }

    /// How lines may look now: a terminal may have been resized.
    pub fn look(&self) -> Look {
        let columns = match terminal_size() {
            Some((Width(columns), _)) if self.is_terminal => usize::from(columns),
            _ => WIDTH + 1,
        };
        Look {
            // A line that fills the last column makes some terminals start the next one.
            width: columns.saturating_sub(1).max(1),
            colour: self.colour,
            blocks: self.blocks,
        }
    }

    /// Shows a line for good.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        let mut out = self.up();
        out.push_str(line);
        out.push_str(if self.is_live { "\x1b[K\n" } else { "\n" });
        if self.is_live {
            draw(&self.table, &mut out);
        }
        show(&out)
    }

    /// Shows a line, on a terminal as several that end with words; all but the first are indented.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn say_wrapped(&mut self, line: &str, indent: usize) -> io::Result<()> {
        if !self.is_terminal {
            return self.say(line);
        }
        let lines = wrapped(line, self.look().width, indent);
        lines.iter().try_for_each(|line| self.say(line))
    }

    /// Shows a table: instead of the one before on a terminal that can, else after it.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn table(&mut self, table: Vec<String>) -> io::Result<()> {
        let mut out = self.up();
        if self.is_live {
            let width = self.look().width;
            let apart = std::iter::once(String::new());
            let table = table.iter().map(|line| clipped(line, width));
            self.table = apart.chain(table).collect();
            draw(&self.table, &mut out);
        } else {
            for line in table {
                out.push_str(&line);
                out.push('\n');
            }
        }
        show(&out)
    }

    /// The table stays as it is; what comes goes below.
    pub fn leave_table(&mut self) {
        self.table.clear();
    }

    /// Back to the first line of the table.
    fn up(&self) -> String {
        match self.table.len() {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r"),
        }
    }
}

/// Over what is there, and nothing of it left below.
fn draw(table: &[String], out: &mut String) {
    for line in table {
        out.push_str(line);
        out.push_str("\x1b[K\n");
    }
    out.push_str("\x1b[J");
}

/// One write: a table is never seen half drawn.
fn show(out: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()
}

/// Lines of at most `width` columns, if words are not longer.
fn wrapped(line: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let at = lines.len() - 1;
        let (before, word_columns) = (columns(&lines[at]), columns(word.trim_end()));
        if before > indent && before + word_columns > width {
            lines.push(" ".repeat(indent));
        }
        let at = lines.len() - 1;
        lines[at].push_str(word);
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// The first `width` columns of a line, with all its escape sequences.
fn clipped(line: &str, width: usize) -> String {
    let mut left = width;
    let is_kept = |(_, is_seen): &(char, bool)| {
        let is_kept = !is_seen || left > 0;
        left -= usize::from(*is_seen && left > 0);
        is_kept
    };
    seen(line).filter(is_kept).map(|(c, _)| c).collect()
}

/// Columns that a line takes.
fn columns(line: &str) -> usize {
    seen(line).filter(|(_, is_seen)| *is_seen).count()
}

/// Each character, and whether it is seen: escape sequences, which end with a letter, are not.
fn seen(line: &str) -> impl Iterator<Item = (char, bool)> + '_ {
    let mut in_escape = false;
    line.chars().map(move |c| {
        in_escape |= c == '\x1b';
        let is_seen = !in_escape;
        in_escape &= !c.is_ascii_alphabetic();
        (c, is_seen)
    })
}

/// `12.3 s` and what happened then.
pub fn moment(seconds: f64, what: &str, look: Look) -> String {
    let at = look.paint(Paint::Dim, &format!("{seconds:6.2} s"));
    format!("{at}  {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_colour_only_where_wanted() {
        let mut look = Look {
            width: 120,
            colour: false,
            blocks: false,
        };
        assert_eq!(bar(0.75, look), "##################......");
        assert_eq!(look.paint(Paint::Red, "x"), "x");
        look.colour = true;
        assert_eq!(look.paint(Paint::Red, "x"), "\x1b[31mx\x1b[0m");
        assert!(bar(0.5, look).contains("\x1b[2m...."));
    }

    #[test]
    fn clipping_counts_what_is_seen() {
        assert_eq!(clipped("abcdef", 4), "abcd");
        assert_eq!(clipped("ab", 4), "ab");
        assert_eq!(clipped("\x1b[32mabcdef\x1b[0mgh", 4), "\x1b[32mabcd\x1b[0m");
        assert_eq!(clipped("ä█ö", 2), "ä█");
    }

    #[test]
    fn wrapping_keeps_words_whole() {
        let line = "\x1b[32mok\x1b[0m  one two three four";
        let expected = ["\x1b[32mok\x1b[0m  one two", "    three", "    four"];
        assert_eq!(wrapped(line, 11, 4), expected);
        assert_eq!(wrapped("ok  extraordinary", 6, 4), ["ok  extraordinary"]);
        assert_eq!(wrapped("ok  fits", 8, 4), ["ok  fits"]);
    }
}
