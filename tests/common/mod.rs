//! What the socket tests share: a distributor as a child process, and tiny emitters and analyzers
//! that know the wire formats only from their document.
//!
//! ```text
//! process.rs   start, log lines, signals, last words, exit status
//! wire.rs      bytes of the three dialects, written by hand
//! emitter.rs   a thread that writes numbered frames
//! analyzer.rs  a thread that reads them, ACKs as told, and checks what it reads
//! ```
//!
//! Nothing here sleeps as a proof: what is waited for is polled, up to [`PATIENCE`].

#![allow(dead_code, unused_imports)] // each test program uses its own part

pub mod analyzer;
pub mod emitter;
pub mod process;
pub mod scratch;
pub mod wire;

use std::ops::Range;
use std::time::{Duration, Instant};

pub use analyzer::{Acks, Analyzer, Options};
pub use emitter::Emitter;
pub use process::{Distributor, Ended, Program};
pub use scratch::Scratch;
pub use wire::Dialect;

/// How long anything may take on a busy machine before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(2);

/// Waits until `reached`.
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(POLL);
    }
}

/// Watches for a while that something stays true.
pub fn stays(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        assert!(holds(), "no longer: {what}");
        std::thread::sleep(POLL);
    }
}

/// Waits until the analyzers have read `messages` in all.
pub fn until_read(analyzers: &[&Analyzer], messages: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let read: usize = analyzers.iter().map(|analyzer| analyzer.read()).sum();
        if read >= messages {
            return;
        }
        let each: Vec<usize> = analyzers.iter().map(|analyzer| analyzer.read()).collect();
        assert!(
            Instant::now() < deadline,
            "{read} of {messages} messages were read: {each:?}"
        );
        std::thread::sleep(POLL);
    }
}

/// Every id of `wanted` was read, by exactly one analyzer, exactly once.
pub fn assert_exactly_once(analyzers: &[&Analyzer], wanted: Range<u64>) {
    let mut ids: Vec<u64> = analyzers.iter().flat_map(|each| each.ids()).collect();
    let read = ids.len() as u64;
    ids.sort_unstable();
    ids.dedup();
    let duplicates = read - ids.len() as u64;
    assert_eq!(duplicates, 0, "messages that were read more than once");
    assert_none_missing(ids, wanted);
}

/// Every id of `wanted` is among `ids`, and no other.
pub fn assert_none_missing(mut ids: Vec<u64>, wanted: Range<u64>) {
    ids.sort_unstable();
    ids.dedup();
    let missing: Vec<u64> = wanted
        .clone()
        .filter(|id| ids.binary_search(id).is_err())
        .collect();
    let first: Vec<u64> = missing.iter().take(10).copied().collect();
    assert!(
        missing.is_empty(),
        "{} of {wanted:?} are missing, such as {first:?}",
        missing.len()
    );
    assert_eq!(ids.len() as u64, wanted.end - wanted.start, "strangers");
}
