//! `weir top`: the table of analyzers in a terminal, live.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Text;
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use serde_json::Value;

use super::ctl::Reach;
use super::{table, values};
use crate::control::client::Client;

/// Events below the table.
const EVENTS_SHOWN: u16 = 6;

/// Shows a running distributor's analyzers, live; q ends it.
///
/// Exit status: 0 done, 1 not reached, 2 usage.
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
    let shown = args.reach.client().and_then(|client| {
        if args.once {
            let view = look(&client)?;
            println!("{}", table::text(&view, table::WIDTH_ANY));
            return Ok(());
        }
        // It puts the terminal back when it panics, too.
        let mut terminal = ratatui::try_init().map_err(|error| format!("terminal: {error}"))?;
        let shown = watch(&mut terminal, &client, args.interval);
        ratatui::restore();
        shown.map_err(|error| format!("terminal: {error}"))
    });
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir top: {error}");
            ExitCode::from(1)
        }
    }
}

fn look(client: &Client) -> Result<Value, String> {
    let asked = client.ask("GET", "/admin/status", b"");
    let (status, body) = asked.map_err(|error| error.to_string())?;
    let view: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    if status == 200 {
        return Ok(view);
    }
    let error = view["error"].as_str().unwrap_or("no reason given");
    Err(format!("{error} (status {status})"))
}

fn watch(terminal: &mut DefaultTerminal, client: &Client, every: Duration) -> io::Result<()> {
    let mut view = Value::Null;
    loop {
        let looked = look(client);
        let trouble = looked.as_ref().err().cloned();
        view = looked.unwrap_or(view);
        terminal.draw(|frame| draw(frame, &view, trouble.as_deref()))?;
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
                    terminal.draw(|frame| draw(frame, &view, trouble.as_deref()))?;
                }
                _ => {}
            }
        }
    }
}

fn draw(frame: &mut Frame, view: &Value, trouble: Option<&str>) {
    let mut head = table::summary(view);
    if let Some(trouble) = trouble {
        head.push(format!("no answer: {trouble}"));
    }
    let head_height = u16::try_from(head.len()).unwrap_or(5) + 1;
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(head_height),
        Constraint::Min(3),
        Constraint::Length(EVENTS_SHOWN),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head.join("\n")), top);
    let aligned = |column: usize, text: String| {
        let side = if column < table::WORDS {
            Alignment::Left
        } else {
            Alignment::Right
        };
        Cell::from(Text::from(text).alignment(side))
    };
    let header = (0..)
        .zip(table::COLUMNS)
        .map(|(column, name)| aligned(column, name.into()));
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::BOLD));
    let rows = table::rows(view).into_iter().map(|(tone, cells)| {
        let cells = (0..).zip(cells).map(|(column, cell)| match column {
            1 => aligned(column, cell).style(style(tone)),
            _ => aligned(column, cell),
        });
        let dim = match tone {
            table::Tone::Dim => Style::new().add_modifier(Modifier::DIM),
            _ => Style::new(),
        };
        Row::new(cells).style(dim)
    });
    let widths = [24, 10, 9, 9, 9, 9, 8, 8, 10, 9].map(Constraint::Max);
    frame.render_widget(Table::new(rows, widths).header(header), middle);
    let events = table::events(view, usize::from(EVENTS_SHOWN));
    frame.render_widget(Paragraph::new(events.join("\n")), bottom);
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
    fn the_screen_shows_the_table_and_trouble() {
        let view = json!({"version": "1", "ready": true, "totals": {"holds": true},
            "analyzers": [{"id": "a1", "standing": "full", "weight": 0.25, "targetShare": 0.5}]});
        let mut terminal = Terminal::new(TestBackend::new(100, 24)).expect("a screen");
        let drawn = terminal.draw(|frame| draw(frame, &view, Some("refused")));
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
