//! The clocks: one that people read, one that never goes back, and the one by which peers are judged. And lines of a log
//! that come once in a while.
#![forbid(unsafe_code)]

mod awake;
pub mod notices;
mod stamp;

pub use awake::{Awake, Limit};
pub use stamp::{is_rfc3339, monotonic_ns, rfc3339, Stamp};
