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
pub mod socket;

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

/// Longest part of a host's name in an id, in bytes: names of pods have up to 63, and an id may have 256.
const HOST_BYTES_MAX: usize = 64;

/// An id nobody else has: `prefix-host-pid-milliseconds`. In containers the process's number is 1 in each, and the
/// host's name is the container's or the pod's.
pub fn automatic_id(prefix: &str) -> String {
    let uname = rustix::system::uname();
    let host = host_part(&uname.nodename().to_string_lossy());
    format!(
        "{prefix}-{host}-{}-{:x}",
        std::process::id(),
        unix_ns() / 1_000_000
    )
}

/// What of a host's name stands in an id: its first label, in plain letters.
fn host_part(name: &str) -> String {
    let label = name.split('.').next().unwrap_or_default();
    let plain = |c: char| match c.is_ascii_alphanumeric() {
        true => c,
        false => '-',
    };
    let part: String = label.chars().take(HOST_BYTES_MAX).map(plain).collect();
    match part.is_empty() {
        true => "host".into(),
        false => part,
    }
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
    fn ids_of_containers_differ_by_their_host() {
        for (name, part) in [
            ("weir-0.weir-replicas.logs.svc.cluster.local", "weir-0"),
            ("7d9f8b6c54-x2v7q", "7d9f8b6c54-x2v7q"),
            ("a b\n\"ü", "a-b---"),
            ("", "host"),
        ] {
            assert_eq!(host_part(name), part, "{name}");
        }
        assert_eq!(host_part(&"x".repeat(300)).len(), HOST_BYTES_MAX);
        let host = rustix::system::uname();
        let host = host_part(&host.nodename().to_string_lossy());
        let begin = format!("analyzer-{host}-{}-", std::process::id());
        assert!(automatic_id("analyzer").starts_with(&begin), "{begin}");
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(json_string("a1"), r#""a1""#);
        assert_eq!(json_string("q\"b\\n\n"), r#""q\"b\\n\u000a""#);
    }
}
