//! `weir top`: the table of analyzers in a terminal, live.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Text;
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use serde_json::Value;

use super::fleet::{read_answer, Live, Reach};
use super::values;
use crate::control::http_api::client::Client;
use crate::control::view::{fleet, table};
use crate::out;
use crate::streams::say;

/// Events below the table, and below that of several distributors.
const EVENTS_SHOWN: usize = 6;
const EVENTS_OF_FLEET: usize = 4;
/// Lines of what is not alike, and of the distributors.
const FINDINGS_SHOWN: usize = 6;
const REPLICAS_SHOWN: usize = 8;

/// Shows a running distributor's analyzers, live; q ends it. Of several distributors it shows one table for all: shares
/// due and got since their starts, and what is not alike.
///
/// Exit status: 0 done, 1 not reached (with --once: one or more), 2 usage.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Print it once, as text, and end
    #[arg(long)]
    once: bool,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = values::duration(text)?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(60);
    let is_allowed = allowed.contains(&interval);
    is_allowed
        .then_some(interval)
        .ok_or_else(|| "allowed: 100ms to 60s".into())
}

/// Until q, or once.
pub fn run(args: &Args) -> ExitCode {
    let shown = match (args.reach.is_fleet(), args.once) {
        (true, true) => once_fleet(args),
        (false, true) => once(args),
        (_, false) => live(args),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("weir top: {error}"));
            ExitCode::from(1)
        }
    }
}

fn once(args: &Args) -> Result<(), String> {
    let view = look(&args.reach.client()?)?;
    out!("{}", table::text(&view, table::WIDTH_ANY));
    Ok(())
}

fn once_fleet(args: &Args) -> Result<(), String> {
    let all = args.reach.fleet()?.ask("GET", "/admin/status", b"");
    out!("{}", fleet::text(&fleet::merge(&all), table::WIDTH_ANY));
    let missing: Vec<&str> = all
        .iter()
        .filter(|one| one.status.is_err())
        .map(|one| one.name.as_str())
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("not reached: {}", missing.join(", "))),
    }
}

fn live(args: &Args) -> Result<(), String> {
    let mut source = match args.reach.is_fleet() {
        false => Source::One(args.reach.client()?, Value::Null),
        true => {
            let live = args.reach.fleet()?.live(args.interval);
            Source::Fleet(live.map_err(|error| format!("threads: {error}"))?)
        }
    };
    check_terminal(
        std::env::var_os("TERM").as_deref(),
        io::stdout().is_terminal(),
    )?;
    // It puts the terminal back when it panics, too.
    let mut terminal = ratatui::try_init().map_err(|error| no_terminal(&error.to_string()))?;
    let shown = watch(&mut terminal, &mut source, args.interval);
    ratatui::restore();
    shown.map_err(|error| format!("terminal: {error}"))
}

/// Where nothing can be drawn, one look can still be printed.
fn no_terminal(why: &str) -> String {
    format!("no terminal to draw on ({why}); weir top --once prints the table once, weir ctl --json status for programs")
}

fn check_terminal(term: Option<&OsStr>, is_terminal: bool) -> Result<(), String> {
    match term.and_then(OsStr::to_str) {
        _ if !is_terminal => Err(no_terminal("standard output is none")),
        Some(term @ ("dumb" | "unknown")) => Err(no_terminal(&format!("TERM={term}"))),
        _ => Ok(()),
    }
}

fn look(client: &Client) -> Result<Value, String> {
    let asked = client.ask("GET", "/admin/status", b"");
    let (status, body) = asked.map_err(|error| error.to_string())?;
    let view = read_answer(status, &body)?;
    if status == 200 {
        return Ok(view);
    }
    let error = view["error"].as_str().unwrap_or("no reason given");
    Err(format!("{error} (status {status})"))
}

/// What is looked at.
enum Source {
    /// One distributor, and what it said last.
    One(Client, Value),
    /// Several.
    Fleet(Live),
}

impl Source {
    fn look(&mut self) -> Picture {
        match self {
            Source::One(client, view) => {
                let looked = look(client);
                let trouble = looked.as_ref().err().cloned();
                if let Ok(new) = looked {
                    *view = new;
                }
                Picture::of_one(view, trouble.as_deref())
            }
            Source::Fleet(live) => Picture::of_fleet(fleet::merge(&live.look())),
        }
    }
}

/// What one look shows, at any width.
struct Picture {
    head: Vec<String>,
    view: Value,
    columns: &'static [usize],
    events: Vec<String>,
    is_fleet: bool,
}

impl Picture {
    fn of_one(view: &Value, trouble: Option<&str>) -> Picture {
        // Of a distributor that has not answered yet nothing is known, and nothing of it is broken.
        let mut head = match view {
            Value::Null => Vec::new(),
            _ => table::summary(view),
        };
        head.extend(trouble.map(|trouble| format!("no answer: {trouble}")));
        Picture {
            head,
            columns: &table::STATUS,
            events: table::events(view, EVENTS_SHOWN),
            view: view.clone(),
            is_fleet: false,
        }
    }

    fn of_fleet(view: Value) -> Picture {
        Picture {
            head: fleet::summary(&view),
            columns: &table::FLEET,
            events: fleet::events(&view, EVENTS_OF_FLEET),
            view,
            is_fleet: true,
        }
    }

    /// Lines of the distributors, at most so many; the last says how many found no room.
    fn replicas(&self, width: usize) -> Vec<String> {
        if !self.is_fleet {
            return Vec::new();
        }
        let mut lines = fleet::replicas(&self.view, width);
        if lines.len() > REPLICAS_SHOWN {
            let more = lines.len() - REPLICAS_SHOWN + 1;
            lines.truncate(REPLICAS_SHOWN - 1);
            lines.push(format!("+{more} more"));
        }
        lines.push(String::new());
        lines
    }
}

fn watch(terminal: &mut DefaultTerminal, source: &mut Source, every: Duration) -> io::Result<()> {
    loop {
        let picture = source.look();
        terminal.draw(|frame| draw(frame, &picture))?;
        let next = Instant::now() + every;
        while event::poll(next.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let is_break = key.modifiers.contains(KeyModifiers::CONTROL);
                    match key.code {
                        KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                        KeyCode::Char('c') if is_break => return Ok(()),
                        _ => {}
                    }
                }
                Event::Resize(..) => {
                    terminal.draw(|frame| draw(frame, &picture))?;
                }
                _ => {}
            }
        }
    }
}

fn draw(frame: &mut Frame, picture: &Picture) {
    let width = usize::from(frame.area().width);
    let head = picture.head.iter();
    let head: Vec<String> = head.flat_map(|line| table::wrapped(line, width)).collect();
    let findings = fleet::findings(&picture.view, FINDINGS_SHOWN, width);
    let replicas = picture.replicas(width);
    let events = match picture.is_fleet {
        true => EVENTS_OF_FLEET,
        false => EVENTS_SHOWN,
    };
    let height = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let [top, found, _, middle, below, bottom] = Layout::vertical([
        height(head.len()),
        height(findings.len()),
        height(1),
        Constraint::Min(3),
        height(replicas.len()),
        height(events),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head.join("\n")), top);
    let warn = style(table::Tone::Warn);
    frame.render_widget(Paragraph::new(findings.join("\n")).style(warn), found);
    let rows = usize::from(middle.height);
    frame.render_widget(analyzers(picture, width, rows), middle);
    frame.render_widget(Paragraph::new(replicas.join("\n")), below);
    let events = picture.events.iter();
    let events: Vec<String> = events
        .map(|event| table::marked(event.clone(), width))
        .collect();
    frame.render_widget(Paragraph::new(events.join("\n")), bottom);
}

/// The table in as many lines as there are, the header among them; the last says what found no room.
fn analyzers(picture: &Picture, width: usize, height: usize) -> Table<'static> {
    let table = table::fitted(&picture.view, picture.columns, width);
    let aligned = |column: usize, text: String| {
        let side = if table::is_words(column) {
            Alignment::Left
        } else {
            Alignment::Right
        };
        Cell::from(Text::from(text).alignment(side))
    };
    let header = table.columns.iter();
    let header = header.map(|column| aligned(*column, table::COLUMNS[*column].into()));
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::BOLD));
    let all = table.rows.len();
    let room = height.saturating_sub(1);
    let shown = if all > room {
        room.saturating_sub(1)
    } else {
        all
    };
    let rows = table.rows.into_iter().take(shown).map(|(tone, cells)| {
        let cells = table.columns.iter().zip(cells);
        let cells = cells.map(|(column, cell)| match column {
            1 => aligned(*column, cell).style(style(tone)),
            _ => aligned(*column, cell),
        });
        let dim = match tone {
            table::Tone::Dim => Style::new().add_modifier(Modifier::DIM),
            _ => Style::new(),
        };
        Row::new(cells).style(dim)
    });
    let more = (shown < all).then(|| Row::new([format!("+{} more", all - shown)]));
    let widths = table
        .widths
        .iter()
        .map(|width| u16::try_from(*width).unwrap_or(u16::MAX));
    let gap = u16::try_from(table::GAP).unwrap_or(1);
    Table::new(rows.chain(more), widths.map(Constraint::Length))
        .column_spacing(gap)
        .header(header)
}

fn style(tone: table::Tone) -> Style {
    match tone {
        table::Tone::Good => Style::new().fg(Color::Green),
        table::Tone::Warn => Style::new().fg(Color::Yellow),
        table::Tone::Bad => Style::new().fg(Color::Red),
        table::Tone::Dim => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;
    use ratatui::Terminal;
    use serde_json::json;

    #[test]
    fn what_is_no_terminal_gets_the_hint() {
        assert!(check_terminal(Some(OsStr::new("xterm")), true).is_ok());
        assert!(check_terminal(None, true).is_ok());
        for (term, is_terminal) in [("dumb", true), ("unknown", true), ("xterm", false)] {
            let refused = check_terminal(Some(OsStr::new(term)), is_terminal).expect_err(term);
            assert!(refused.contains("--once"), "{refused}");
        }
    }

    #[test]
    fn more_analyzers_than_lines_are_counted() {
        let analyzers: Vec<Value> = (0..50).map(|n| json!({"id": format!("a{n}")})).collect();
        let view = json!({"analyzers": analyzers});
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a screen");
        terminal
            .draw(|frame| draw(frame, &Picture::of_one(&view, None)))
            .expect("drawn");
        let cells = terminal.backend().buffer().content();
        let text: String = cells.iter().map(|cell| cell.symbol()).collect();
        let shown = (0..50)
            .filter(|n| text.contains(&format!(" a{n} ")))
            .count();
        let more = text
            .split(" more")
            .next()
            .and_then(|text| text.rsplit('+').next());
        let more: usize = more.expect("a count").parse().expect("a number");
        assert!(more > 0 && text.contains(" more"));
        // The first id stands at the edge of the screen, behind another line's end.
        assert!(shown + more >= 49, "{shown} shown, {more} more");
    }

    #[test]
    fn before_the_first_answer_only_the_trouble_is_shown() {
        let mut terminal = Terminal::new(TestBackend::new(60, 24)).expect("a screen");
        let drawn = terminal
            .draw(|frame| draw(frame, &Picture::of_one(&Value::Null, Some("No such file"))));
        drawn.expect("drawn");
        let cells = terminal.backend().buffer().content();
        let text: String = cells.iter().map(|cell| cell.symbol()).collect();
        assert!(text.contains("no answer: No such file"), "{text}");
        for word in ["BROKEN", "not ready", "received"] {
            assert!(!text.contains(word), "{word}: nothing is known yet");
        }
    }

    #[test]
    fn the_screen_shows_the_table_and_trouble() {
        let view = json!({"version": "1", "ready": true, "totals": {"holds": true},
            "analyzers": [{"id": "a1", "standing": "full", "weight": 0.25, "targetShare": 0.5}]});
        let mut terminal = Terminal::new(TestBackend::new(100, 24)).expect("a screen");
        let drawn = terminal.draw(|frame| draw(frame, &Picture::of_one(&view, Some("refused"))));
        drawn.expect("drawn");
        let cells = terminal.backend().buffer().content();
        let text: String = cells.iter().map(|cell| cell.symbol()).collect();
        for part in [
            "a1",
            "full",
            "0.25",
            "50.00 %",
            "in flight",
            "no answer: refused",
            "conservation holds",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
