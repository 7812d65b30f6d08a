//! What is shown of a distributor, made from its shards' reports. Pure: no I/O, and time comes in as an argument.
//!
//! ```text
//!            state.rs        the distributor at one moment
//!               ^
//! reports --> note.rs        makes it: row.rs       a row for each analyzer
//!                                      rates.rs, track.rs, posts.rs: what reports do not say over time
//!                                      books.rs     since the start
//!                                      events.rs    what happened since the last look
//!                                      bottleneck.rs: what slows everything down
//!                                      digest.rs    do replicas have the same weights
//! state.rs --> snapshot.rs   one structure for the page, `weir top` and `weir ctl status`; table.rs prints it
//!         |                  several distributors: fleet.rs makes one of their answers, and prints it
//!         `--> metrics.rs    /metrics; exposition.rs: its two formats
//! ```

pub mod books;
pub mod bottleneck;
pub mod digest;
pub mod events;
pub mod exposition;
pub mod fleet;
pub mod inputs;
pub(crate) mod json;
pub mod metrics;
mod note;
pub mod posts;
pub mod rates;
pub mod row;
pub mod snapshot;
pub mod state;
pub mod table;
pub mod tls;
pub mod track;
