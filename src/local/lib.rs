//! Analyzers on this host that are no servers: files that are written, programs that are started.
//!
//! ```text
//! shards --- pairs of sockets, one for each shard ---> a thread that appends, syncs, and says how many are done
//!        ---------------------------------------------> standard input and output of a program, one for each shard
//! keeper.rs   one thread for each: opens it, keeps it, opens it again      look: is it well, and the shards' ends
//! file/       lines at the end of a file, rotated        exec/   programs: started, heard, ended
//! ```
//!
//! No shard waits for a disk or for a fork: both are the keeper's. What a shard sends and hears is `lines.rs` in
//! `src/sink/outlet` (docs/adr/0073).
#![forbid(unsafe_code)]

mod exec;
mod file;
mod keeper;
mod wait;

pub use exec::launch::launched;
pub use keeper::{Keeper, Keepers};
