//! One shard: a turn of its event loop over the port `Io`, which the kernel and the simulator both are. It names
//! neither io_uring nor glommio, and starts no thread.
//!
//! ```text
//! shard.rs      the event loop: read this first. It owns the parts, and alone knows all of them
//! context.rs    what every part works with
//!
//! parts         accepts.rs     listeners
//!               intake/        emitters
//!               links/         analyzers by TCP
//!               http_in/       HTTP clients
//!               http_out/      analyzers by HTTP
//!               outlets/       analyzers by a stream that the shard makes: Forward
//!               membership.rs  who the analyzers are
//!               lifecycle.rs   the way out
//!               report.rs      what is told of all this; tap.rs: a sample of what passes
//!
//! port.rs       what a shard stands on; mesh.rs: what crosses cores
//! shared.rs     what the shards share: operator.rs, inputs.rs, names.rs, admission.rs, certified.rs, refused.rs
//! gather.rs     how long to wait for more; hold.rs: what small sends wait for; slab.rs: tables of connections; hops.rs: packets that go in a circle
//! farewell.rs   when connections are asked to go
//! ```
#![forbid(unsafe_code)]

mod accepts;
mod admission;
mod certified;
mod context;
mod farewell;
mod gather;
mod hold;
mod hops;
mod http_in;
mod http_out;
mod inputs;
mod intake;
mod lifecycle;
mod links;
mod local;
mod membership;
pub mod mesh;
mod names;
mod operator;
mod outlets;
pub mod port;
mod refused;
mod report;
mod shard;
mod shared;
mod slab;
mod spare;
mod tap;
#[cfg(test)]
mod testing;

pub use accepts::{EmitterListener, Listeners};
pub use admission::network_of;
pub use context::Context;
pub use hops::pseudonym;
pub use http_out::dead_letter::{open_refused, refused_file_name};
pub use inputs::{allow_lists, secret_ports, InputAt, InputReport, Place};
pub use local::{At, LocalEnds};
pub use operator::{HttpTarget, Operator, OrderDone, OrderRefused, Question};
pub use refused::{RefusedCounts, RefusedPacket, RefusedPackets};
pub use shard::{Shard, BUSY_BYTES, TURN_COMPLETIONS};
pub use shared::{HttpAnalyzerReport, HttpReport, Live, Pace, ShardReport, Shared, Stop};
pub use tap::TappedMessage;
