//! The logger: env_logger's filter and format, our limit before it and our queue behind it.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;
use std::time::Instant;

use env_logger::{Logger, Target, WriteStyle};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::{filter, queue, repeat};
use weir_service::journal;

static LOGGER: OnceLock<Limited> = OnceLock::new();
/// `RUST_LOG` says what is logged, and nobody else.
static IS_ASKED: AtomicBool = AtomicBool::new(false);

/// Starts the log of a program, once. `RUST_LOG` wins over `default`, such as `info`; one that is empty is as
/// good as not set, and what is wrong with it is said on stderr. The journal gets priorities, and no times: it
/// has its own.
pub fn start(default: &str) {
    let asked = super::variable("RUST_LOG").map(|text| filter::read(&text));
    let mut builder = env_logger::Builder::new();
    let usable = asked.as_ref().and_then(|asked| asked.usable.as_deref());
    builder.parse_filters(usable.unwrap_or(default));
    IS_ASKED.store(usable.is_some(), Ordering::Relaxed);
    builder.target(Target::Pipe(Box::new(Pipe)));
    if journal::is_stderr() {
        builder.format(|out, record| {
            let lines = journal::lines(record.level(), &record.args().to_string());
            out.write_all(lines.as_bytes())
        });
    } else {
        builder.format_target(false);
        builder.write_style(style());
    }
    let logger = builder.build();
    let most = logger.filter();
    let logger = LOGGER.get_or_init(|| Limited(logger));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(most);
    }
    for problem in asked.iter().flat_map(|asked| &asked.problems) {
        super::complain(&format!("RUST_LOG: {problem}"));
    }
}

/// Sets the least severe level that is logged, while the program runs; `RUST_LOG` wins.
pub fn set_level(level: LevelFilter) {
    if !IS_ASKED.load(Ordering::Relaxed) {
        log::set_max_level(level);
    }
}

/// A line that nobody asked for at a level: about the log itself.
pub(super) fn note(text: &str) {
    let Some(Limited(logger)) = LOGGER.get() else {
        super::complain(text);
        return;
    };
    let target = module_path!();
    let warning = Metadata::builder()
        .level(Level::Warn)
        .target(target)
        .build();
    // Whoever filters for errors alone may have lost errors.
    let level = if logger.enabled(&warning) {
        Level::Warn
    } else {
        Level::Error
    };
    write(level, target, text);
}

/// A line without a limit.
pub(super) fn write(level: Level, target: &str, text: &str) {
    if let Some(Limited(logger)) = LOGGER.get() {
        let mut record = Record::builder();
        record.level(level).target(target).module_path(Some(target));
        logger.log(&record.args(format_args!("{text}")).build());
    }
}

/// Colours on a terminal that has them; `RUST_LOG_STYLE` (always, never) and `NO_COLOR` are heeded.
fn style() -> WriteStyle {
    match super::variable("RUST_LOG_STYLE").as_deref() {
        Some("always") => return WriteStyle::Always,
        Some("never") => return WriteStyle::Never,
        _ => {}
    }
    let is_plain = super::variable("NO_COLOR").is_some()
        || super::variable("TERM").is_none_or(|term| term == "dumb");
    match io::stderr().is_terminal() && !is_plain {
        true => WriteStyle::Always,
        false => WriteStyle::Never,
    }
}

struct Limited(Logger);

impl Log for Limited {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.0.matches(record) && repeat::admit(record, Instant::now()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        queue::flush();
    }
}

/// Where env_logger writes.
struct Pipe;

impl Write for Pipe {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        queue::push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
