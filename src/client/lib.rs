//! The emitter and analyzer programs, callable from tests and tools as well.
//!
//! ```text
//!   emitter::run(options, stop) -> Report       numbered messages out, on any number of connections
//!   analyzer::run(options, stop) -> Report      messages in, order checked, recorded, ACKed
//! ```

pub mod analyzer;
pub mod backoff;
pub mod emitter;
pub mod payload;
pub mod peers;
pub mod signals;

pub use signals::stop_on_signals;
pub mod shapes;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a distributor's host may be silent, if nothing else is said: as long as the distributor waits for its
/// peers.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// Raises `stop` when standard input ends: a program that was started through a pipe stops with
/// whoever holds the other end, however that ended.
pub fn stop_on_eof(stop: &Arc<AtomicBool>) -> io::Result<()> {
    let stop = Arc::clone(stop);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        // An error is an end, too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        stop.store(true, Ordering::Release);
    })?;
    Ok(())
}

/// A JSON string.
fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An id nobody else has: `prefix-pid-milliseconds`.
pub fn automatic_id(prefix: &str) -> String {
    format!(
        "{prefix}-{}-{:x}",
        std::process::id(),
        unix_ns() / 1_000_000
    )
}

/// Nothing came within the slice that a blocking socket waits; not the end of anything.
fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// Wall clock in nanoseconds since 1970.
fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(json_string("a1"), r#""a1""#);
        assert_eq!(json_string("q\"b\\n\n"), r#""q\"b\\n\u000a""#);
    }
}
