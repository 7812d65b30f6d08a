//! Waiting for what must come. Nothing sleeps as a proof: conditions are polled.

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(40);
pub(crate) const POLL: Duration = Duration::from_millis(2);

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
