//! Lines for the journal: `<4>text` is a warning, and the journal adds time and unit by itself.

use std::fmt::Write as _;
use std::os::fd::AsFd;

use log::Level;

/// Whether what is written to stderr goes straight into the journal: `JOURNAL_STREAM` names it by device and
/// inode, so a pipe or a file in between does not count.
pub fn is_stderr() -> bool {
    let Some(stream) = super::variable("JOURNAL_STREAM") else {
        return false;
    };
    let stat = rustix::fs::fstat(std::io::stderr().as_fd());
    stat.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The number of syslog(3) for a level.
pub fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A message as lines, each with its priority: the journal makes an entry of each line.
pub fn lines(level: Level, message: &str) -> String {
    let priority = priority(level);
    message.lines().fold(String::new(), |mut out, line| {
        // A String takes all.
        let _ = writeln!(out, "<{priority}>{line}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        assert_eq!(lines(Level::Warn, "a\nb"), "<4>a\n<4>b\n");
        assert_eq!(lines(Level::Error, "a"), "<3>a\n");
        assert_eq!(lines(Level::Info, "a"), "<6>a\n");
        assert_eq!(lines(Level::Trace, "a"), "<7>a\n");
    }
}
