//! Pure decisions of a shard: no I/O, no clock, no unsafe; all memory bounded and taken at start.
//!
//! In the order of a message's path:
//!
//! ```text
//! assembler.rs  frame     cursors over received bytes, partial frames carried over
//! partial.rs              their memory: who goes when it is short
//! tree/         route     error-diffusion tree: exact shares
//! ack_units.rs  answers   what senders get one answer for; receipts.rs: when
//! pace.rs                 how long an ACK takes now
//! units.rs                packets: several messages that move together
//! lane.rs       batch     one copy into the analyzer's tail buffer, kept until its ACK
//! link.rs       send/ack  numbering on one connection, who is owed an ACK, stall rule
//! reroute.rs    re-route  un-ACKed messages of a dead lane go back through the tree
//! moves.rs      re-route  what one analyzer refused goes to another, its link stays
//! room.rs                 buffers that must be free before something is appended
//! roster.rs     weights   the full table with its epoch; registrar.rs keeps it
//! invariants.rs           what must hold at any moment
//! accounts.rs             what each analyzer got, and what was due to it; proportion.rs: in integers
//! shard.rs                the engine that ties them: start reading here
//! ```
//!
//! Bulk bytes pass through [`Memory`] only; time comes in as nanoseconds.
#![forbid(unsafe_code)]

mod accounts;
mod ack_units;
mod assembler;
mod buffers;
mod counters;
mod described;
mod divided;
mod ended;
mod forms;
mod ingest;
mod invariants;
mod lane;
mod lanes;
mod latencies;
mod ledger;
mod link;
mod moves;
mod origins;
mod pace;
mod partial;
mod proportion;
mod receipts;
mod registrar;
mod reroute;
mod room;
mod roster;
mod samples;
mod shard;
mod tombstones;
pub mod tree;
mod units;
mod unpacking;

pub use accounts::{Account, OTHERS};
pub use ack_units::AckWindow;
pub use buffers::BufferPool;
pub use counters::{Balance, Counters, LaneReport, Reason};
pub use divided::Divisible;
pub use ended::Ended;
pub use ingest::{DatagramTaken, Ingest};
pub use lane::Transmit;
pub use latencies::Latencies;
pub use link::{Link, LinkError, Stall};
pub use moves::{Move, Onward};
pub use origins::Origin;
pub use partial::Evicted;
pub use proportion::Proportion;
pub use receipts::{Receipt, Ticket, TicketState};
pub use registrar::Registrar;
pub use roster::{Change, Entry, Order, OrderError, Reach, Roster, Wanted, WANTED_MAX};
pub use samples::{Sample, SampleAbout};
pub use shard::{
    lanes_of, Engine, EngineConfig, OnSlow, Passed, Rerouted, Share, TableChanges, Window,
};
pub use units::{Unit, UnitRefused};
pub use weir_protocol::memory::{BufferId, Memory, Span, VecMemory};
pub use weir_sink::Sink;
pub use weir_source::{Facts, Port, Protocol, SourceError};

/// One shard's queue towards one analyzer: a leaf of the tree and the batches that it retains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

/// Names one connection of an analyzer, unique in this run: shard in the top 16 bits, a counter
/// from 1 below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkEpoch(pub u64);

impl LinkEpoch {
    /// The `count`-th link accepted by `shard`.
    pub fn new(shard: u16, count: u64) -> LinkEpoch {
        LinkEpoch(u64::from(shard) << 48 | (count & ((1 << 48) - 1)))
    }
}
