//! Shards: one thread per core, each with its own listeners, data ring and engine.
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
//! io.rs         what a shard stands on; kernel.rs: the kernel as that
//! house.rs      mail, timers, reports, shutdown
//! mesh.rs       what crosses cores
//! names.rs      one name is one analyzer
//! admission.rs  limits per client address
//! operator.rs   orders from the control side, questions to it
//! tap.rs        a sample of what passes
//! listen.rs     sockets; descriptors.rs: who gets how many
//! config.rs     what HTTP and protection can be told
//! ```

mod accepts;
mod admission;
mod callers;
mod clients;
pub mod config;
mod descriptors;
mod egress;
mod emitters;
mod gather;
mod handshake;
mod hops;
mod house;
pub(crate) mod io;
mod kernel;
mod links;
mod listen;
pub(crate) mod mesh;
mod names;
mod notices;
mod operator;
mod places;
mod posts;
mod pressure;
mod refused;
mod requests;
pub(crate) mod shared;
mod slab;
mod start;
mod tap;
mod unread;
mod waits;
pub(crate) mod worker;

pub use crate::uring::behind;
pub use config::{Admin, HttpConfig, Protection};
pub use descriptors::{Division, Needs};
pub use hops::pseudonym;
pub use listen::{Accept, Passed, LISTEN_BACKLOG};
pub(crate) use operator::OrderDone;
pub use operator::{HttpTarget, Operator, OrderRefused, Question, ASKED_HEADERS};
pub use refused::{RefusedCounts, RefusedPacket, RefusedPackets};
pub use shared::{HttpAnalyzerReport, HttpReport, Live, Pace, ShardReport, Stop};
pub use start::{Distributor, StartError, Stopper};
pub use tap::TappedMessage;

use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::{EngineConfig, OnSlow};
use crate::protocol::control::UNACKED_MESSAGES_MAX;
use crate::protocol::Dialect;

/// Everything that a distributor can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where emitters connect.
    pub emitters: SocketAddr,
    /// Where analyzers connect.
    pub analyzers: SocketAddr,
    /// Number of shards; more than cores are not pinned.
    pub shards: usize,
    /// Cores to pin shards to, one each; empty: none is pinned.
    pub cores: Vec<usize>,
    /// Which shard takes a connection of an emitter or an HTTP client.
    pub accept: Accept,
    /// Bytes of egress arena per shard.
    pub arena_bytes: usize,
    /// Bytes of a batch buffer.
    pub batch_bytes: u32,
    /// Bytes of receive memory per shard.
    pub ingress_bytes: usize,
    /// Largest frame in bytes, header included.
    pub frame_bytes_max: u32,
    /// Most bytes of arena per analyzer and shard.
    pub window_bytes: u64,
    /// Most messages un-ACKed per analyzer and shard.
    pub window_messages: u64,
    /// Most bytes of partial frames per shard.
    pub partial_bytes_max: usize,
    /// Policy for an analyzer whose window is full.
    pub on_slow: OnSlow,
    /// Longest time that sparse traffic is gathered.
    pub latency_budget: Duration,
    /// Longest time that a shard polls the interface's queues before it sleeps; zero: never.
    pub busy_poll: Duration,
    /// Sends of at least this many bytes are zero-copy where that works; 0: never.
    pub zero_copy_bytes: usize,
    /// To analyzers on this host as well, for tests.
    pub zero_copy_loopback: bool,
    /// A link that makes no ACK progress for this long is given up.
    pub ack_timeout: Duration,
    /// How long emitters have to go when the distributor stops.
    pub farewell: Duration,
    /// A peer whose kernel does not answer for this long is given up.
    pub peer_timeout: Duration,
    /// Time that a frame has from its first byte to its last, while emitters are read from.
    pub frame_timeout: Duration,
    /// Most emitter connections, all shards together; 0: as many as descriptors allow.
    pub connections_max: usize,
    /// Most analyzers that a shard serves; 0: as many as its arena does.
    pub analyzers_max: usize,
    /// Dialect of reference clients, when it is not to be guessed.
    pub dialect: Option<Dialect>,
    /// Kernel features to do without.
    pub without: Vec<String>,
    /// Where operators connect; none: nowhere.
    pub admin: Option<Admin>,
    /// Everything about HTTP.
    pub http: HttpConfig,
    /// Who may connect, and how often.
    pub protection: Protection,
    /// Random number of this run.
    pub instance: u64,
}

impl Config {
    /// What the engine of a shard is told.
    pub(crate) fn engine(&self, shard: u16) -> EngineConfig {
        let buffers = self.arena_bytes / self.batch_bytes as usize;
        EngineConfig {
            shard,
            buffers: u32::try_from(buffers).unwrap_or(u32::MAX),
            buffer_bytes: self.batch_bytes,
            frame_bytes_max: self.frame_bytes_max,
            unit_bytes_max: self.packet_bytes_max(),
            window_bytes: self.window_bytes,
            window_messages: self
                .window_messages
                .min((UNACKED_MESSAGES_MAX - 1) / self.shards as u64),
            partial_bytes_max: self.partial_bytes_max,
            on_slow: self.on_slow,
        }
    }
}
