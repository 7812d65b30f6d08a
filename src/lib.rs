//! Weir gives each log message to exactly one of n analyzers, in proportion to their weights.
//!
//! Layers, arrows point down only (`tests/layers.rs` checks it):
//!
//! ```text
//! cli       arguments, start, exit status
//! control   what an operator looks at and turns: answers, metrics, page, orders
//! demo      the whole thing on loopback, checked while it runs
//! doctor    what is wrong with this host, and what mends it
//! audit     a distributor's books; joins certificates and journals into one verdict
//! streams   stdout and stderr: a log that nobody reads stops nobody
//! service   the service manager: what it passes, what it is told, its journal
//! client    emitter and analyzer programs
//! sim       shards on virtual time, with everything that can go wrong
//! shard     one thread per core: event loop, listeners, links, mesh
//! uring     the only place with io_uring and unsafe
//! journal   which messages an analyzer received, one bit each
//! certificate  what each program says at its end, as JSON
//! engine    pure decisions: routing, batches, ledger (no I/O, no clock)
//! http      pure: requests, responses, JSON packets and what lanes keep of them
//! protocol  pure wire formats
//! awake     the time by which peers are judged; all above that have time-outs may use it
//! ```

pub mod audit;
pub mod awake;
pub mod certificate;
pub mod cli;
pub mod client;
pub mod control;
pub mod demo;
pub mod doctor;
pub mod engine;
pub mod http;
pub mod journal;
pub mod protocol;
pub mod service;
pub mod shard;
pub mod sim;
pub mod streams;
pub mod uring;
