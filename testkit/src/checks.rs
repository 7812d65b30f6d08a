//! What became of numbered messages.

use std::ops::Range;
use std::time::Instant;

use crate::wait::{PATIENCE, POLL};
use crate::Analyzer;

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
