//! Weir gives each log message to exactly one of n analyzers, in proportion to their weights.
//!
//! Layers, arrows point down only (`tests/layers.rs` checks it):
//!
//! ```text
//! cli       arguments, start, exit status
//! demo      the whole thing on loopback, checked while it runs
//! client    emitter and analyzer programs
//! sim       shards on virtual time, with everything that can go wrong
//! shard     one thread per core: event loop, listeners, links, mesh
//! uring     the only place with io_uring and unsafe
//! engine    pure decisions: routing, batches, ledger (no I/O, no clock)
//! protocol  pure wire formats
//! ```

pub mod cli;
pub mod client;
pub mod demo;
pub mod engine;
pub mod protocol;
pub mod shard;
pub mod sim;
pub mod uring;
