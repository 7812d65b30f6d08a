//! The standard streams. Nobody who does not read, no disk that is full, may stop a thread that has better things
//! to do, or change what a program is about.
//!
//! ```text
//! log::warn!  -> logger.rs   filter (RUST_LOG, filter.rs), limit of repeated lines (repeat.rs)
//! complain()  ->    |
//! a panic     ->    v
//!               queue.rs     [ 1 MiB of lines ] -> thread `stderr` -> write(2), which may take for ever
//!                             what does not fit is counted, and said in its place
//! out!        -> out.rs      standard output: never a panic; a reader that has gone is no error
//! ```
//!
//! At the end of a program [`Streams`] waits for the last lines, for a bounded time.

mod filter;
mod logger;
mod out;
mod queue;
mod repeat;

pub use logger::{set_level, start};
pub use out::{out, report, status, write};
pub use queue::{dropped_lines, flush};
pub use repeat::{grouped, hidden_lines};

use log::Level;
use weir_service::journal;

/// A variable of the environment; one that is empty is as good as not set.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(|value| value.to_string_lossy().into_owned())
}

/// Says on stderr why a program cannot go on: `weir: text`, as an error for the journal. Never waits.
pub fn complain(text: &str) {
    say(&format!("weir: {text}"));
}

/// The same without `weir: ` in front.
pub fn say(text: &str) {
    let lines = match journal::is_stderr() {
        true => journal::lines(Level::Error, text),
        false if text.ends_with('\n') => text.to_owned(),
        false => format!("{text}\n"),
    };
    queue::push(lines.as_bytes());
}

/// A program's streams from its start to its end: when this goes, the last lines are written.
#[derive(Debug)]
pub struct Streams(());

impl Streams {
    /// From now on a panic is told like any other line, so that it waits for nobody either.
    pub fn open() -> Streams {
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            let trace = std::backtrace::Backtrace::capture();
            let trace = match trace.status() {
                std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
                _ => String::new(),
            };
            say(&format!("\nthread '{name}' {panic}{trace}"));
        }));
        Streams(())
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        repeat::tell_all();
        flush();
    }
}
