//! Shards on a kernel: the port `Io` on io_uring, the mesh and the threads of glommio.
//!
//! ```text
//! start.rs        threads, memory, listeners: what a distributor is made of, and how it ends
//! error.rs        why it does not start
//! run.rs          the loop of a shard's thread
//! kernel.rs       the port `Io` on the data ring
//! mesh.rs         what crosses cores, on glommio's channels
//! secured/        TLS between the data ring and a shard
//! bound.rs        where it listens
//! datagrams.rs    sockets of inputs without connections
//! listen.rs       sockets; descriptors.rs: who gets how many
//! uring/          the data ring: the only place with io_uring and unsafe code
//! ```

mod bound;
mod datagrams;
mod descriptors;
mod error;
mod kernel;
mod listen;
mod mesh;
mod run;
mod secured;
mod start;
pub mod uring;

pub use descriptors::{Division, Needs};
pub use error::StartError;
pub use listen::{hold_port, Passed, LISTEN_BACKLOG};
pub use start::{Distributor, ServedPorts, Stopper};
pub use uring::behind;
