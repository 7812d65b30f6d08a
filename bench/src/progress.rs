//! One line on a terminal that says what runs now; nothing where stderr is no terminal.

use std::io::{stderr, IsTerminal, Write};
use std::time::Instant;

/// Cells of the bar.
const BAR: usize = 24;

/// A line that is overwritten in place. Dropping it wipes it.
pub struct Progress {
    is_shown: bool,
    began: Instant,
    steps: usize,
    at: usize,
}

impl Progress {
    /// `steps` in all; 0 if nobody knows.
    pub fn new(steps: usize) -> Self {
        Self {
            is_shown: stderr().is_terminal(),
            began: Instant::now(),
            steps,
            at: 0,
        }
    }

    /// The next step begins.
    pub fn step(&mut self, what: &str) {
        self.at += 1;
        if !self.is_shown {
            return;
        }
        let line = line(self.at, self.steps, self.began.elapsed().as_secs(), what);
        // A terminal that is gone is no reason to end a measurement.
        let _ = write!(stderr(), "\r\x1b[K{line}");
        let _ = stderr().flush();
    }

    /// Makes room for a line that stays.
    pub fn wipe(&self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.wipe();
    }
}

fn line(at: usize, steps: usize, seconds: u64, what: &str) -> String {
    let clock = format!("{:>2}:{:02}", seconds / 60, seconds % 60);
    if steps == 0 {
        return format!("{clock} step {at}: {what}");
    }
    // The step that begins is not through yet.
    let filled = BAR * at.saturating_sub(1).min(steps) / steps;
    let bar = "#".repeat(filled) + &".".repeat(BAR - filled);
    format!("{clock} [{bar}] {at}/{steps}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_what_is_through() {
        assert_eq!(
            line(3, 4, 65, "x"),
            " 1:05 [############............] 3/4: x"
        );
        assert_eq!(line(9, 0, 5, "x"), " 0:05 step 9: x");
    }
}
