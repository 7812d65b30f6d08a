//! A deterministic simulator: the very shards that run in production, on virtual time, on a network
//! and a kernel that do everything which the real ones may do, and more often.
//!
//! ```text
//! plan.rs      what a run consists of, drawn from a seed
//! world.rs     virtual time, turns of shards, steps of peers, faults
//! kernel.rs    gets on with the shards' requests; io.rs: the requests (the `Io` of a shard)
//! mesh.rs      what crosses cores; net.rs: what crosses the network
//! build.rs     the shards of a plan
//! emitter.rs, analyzer.rs   the peers; http/: those that speak HTTP, and the control side
//! chained/     senders of Forward and Lumberjack, whose acks are chained to those of analyzers
//! oracle.rs    what is true of every message
//! check.rs     what must hold
//! shrink.rs    makes a failing plan small
//! topology.rs  "what if", out of a file
//! ```
//!
//! The idea is TigerBeetle's VOPR and FoundationDB's simulation: a seed decides everything, so a
//! failure can be replayed, and made small.
#![forbid(unsafe_code)]

mod acked;
mod analyzer;
mod chained;
mod check;
mod emitter;
mod host;
mod http;
mod io;
mod kernel;
mod mesh;
mod net;
mod oracle;
mod plan;
mod random;
mod shards;
mod shrink;
mod topology;
mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};

pub use plan::Plan;
pub use shrink::shrink;
pub use topology::{Played, Topology};

use weir_shard::Shard;
use world::World;

/// What a run that found nothing looked like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Messages that emitters made.
    pub messages: u64,
    /// Packets that HTTP clients made.
    pub packets: u64,
    /// POSTs that analyzers over HTTP took.
    pub posts: u64,
    /// Deliveries of a message beyond its first.
    pub duplicates: u64,
    /// Messages re-routed.
    pub rerouted: u64,
    /// Turns of shards.
    pub turns: u64,
    /// Virtual time in nanoseconds.
    pub virtual_ns: u64,
}

impl Run {
    /// Adds another run.
    pub fn add(&mut self, other: &Run) {
        self.messages += other.messages;
        self.packets += other.packets;
        self.posts += other.posts;
        self.duplicates += other.duplicates;
        self.rerouted += other.rerouted;
        self.turns += other.turns;
        self.virtual_ns += other.virtual_ns;
    }
}

/// Runs a plan.
///
/// # Errors
/// What was found to be wrong: a sentence. A panic of the engine is one.
pub fn run(plan: &Plan) -> Result<Run, String> {
    catch(|| {
        let mut world = World::new(plan.clone());
        let before_ns = world.now_ns();
        world.run()?;
        let rerouted = |worker: &Shard<io::SimIo>| worker.cx.engine.counters.rerouted;
        Ok(Run {
            messages: world.oracle.messages.len() as u64,
            packets: world.oracle.packets.len() as u64,
            posts: world.http.posts(),
            duplicates: world.oracle.duplicates,
            rerouted: world.workers.iter().map(rerouted).sum(),
            turns: world.turns,
            virtual_ns: world.now_ns() - before_ns,
        })
    })
}

/// A panic is a finding, too.
fn catch<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without words")))
    })
}
