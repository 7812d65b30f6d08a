//! What is shown of a distributor, made from its shards' reports. Pure: no I/O, and time comes in as an argument.
//!
//! ```text
//! reports --> state.rs --+--> row.rs         a row for each analyzer
//!              |         +--> events.rs      what happened since the last look
//!              |         `--> bottleneck.rs  what slows everything down
//!              |  over time: rates.rs, track.rs, posts.rs; since the start: books.rs
//!              v
//!         snapshot.rs     one structure for the page, `weir top` and `weir ctl status`; table.rs prints it
//!         metrics.rs      /metrics; exposition.rs: its two formats
//! ```

pub mod books;
pub mod bottleneck;
pub mod events;
pub mod exposition;
pub mod metrics;
pub mod posts;
pub mod rates;
pub mod row;
pub mod snapshot;
pub mod state;
pub mod table;
pub mod track;
