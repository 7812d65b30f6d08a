//! One shard: a turn of its event loop over the port `Io`, which the kernel and the simulator both are. It names
//! neither io_uring nor glommio, and starts no thread.
//!
//! ```text
//! worker.rs     the event loop: read this first
//! emitters.rs   accept, receive; unread.rs: who is late, who is gone
//! clients.rs    HTTP clients; callers.rs: who asks; requests.rs: what they ask; waits.rs: what takes too long; pressure.rs: what is held
//! handshake.rs  analyzers: from accept to a link that is up
//! places.rs     who has not spoken, and who goes first
//! notices.rs    what was said about which peer
//! links.rs      analyzers' control streams and deaths
//! egress.rs     sends, and batches for other shards' links
//! posts.rs      analyzers over HTTP
//! port.rs       what a shard stands on
//! house.rs      mail, timers, reports, shutdown
//! mesh.rs       what crosses cores
//! names.rs      one name is one analyzer
//! admission.rs  limits per client address
//! operator.rs   orders from the control side, questions to it
//! tap.rs        a sample of what passes
//! ```
#![forbid(unsafe_code)]

mod accepts;
mod admission;
mod callers;
mod clients;
mod egress;
mod emitters;
mod gather;
mod handshake;
mod hops;
mod house;
mod links;
pub mod mesh;
mod names;
mod notices;
mod operator;
mod places;
pub mod port;
mod posts;
mod pressure;
mod refused;
mod requests;
mod shared;
mod slab;
mod tap;
mod unread;
mod waits;
mod worker;

pub use hops::pseudonym;
pub use operator::{HttpTarget, Operator, OrderDone, OrderRefused, Question, ASKED_HEADERS};
pub use posts::{open_refused, refused_file_name};
pub use refused::{RefusedCounts, RefusedPacket, RefusedPackets};
pub use shared::{HttpAnalyzerReport, HttpReport, Live, Pace, ShardReport, Shared, Stop};
pub use tap::TappedMessage;
pub use worker::{Listeners, Worker, TURN_COMPLETIONS};
