//! What tests, `bench/` and `fuzz/` share. Nothing of the product depends on it but for its tests, and of the
//! product it uses one crate, in one module: the engine, which the rig drives.
//!
//! ```text
//! sessions                 what senders of other protocols say and are told, out of their pages
//! wire, decode, vectors    the formats of docs/PROTOCOL.md, a second time: independent of weir-protocol
//! random                   the one generator, with seeds
//! wait, scratch, socket    patience, folders, connections
//! port                     ports that nobody else gets, for programs that must be told one
//! process, distributor     children: started on free ports, waited for by their log, ended by their own id
//! emitter, analyzer        peers of all dialects with numbered messages; checks: what became of them
//! forwarder                a balancer of connections between them
//! peers                    programs of others, where scripts/senders.sh unpacks them or in the PATH
//! reports                  what programs of others would write for the audit
//! dns                      a nameserver of a few names, with everything that nameservers do wrong
//! pack                     gzip, deflate, zstd
//! authority                a CA and certificates of it
//! receiver                 servers that take requests in formats of others
//! frame_sink, http, site   peers with text, HTTP clients and analyzers, a distributor with an admin socket
//! inputs                   what other programs send: syslog, Forward, Lumberjack, RELP, with the deadlines of real clients
//! rig                      emitters, kernel and analyzers around an engine without I/O
//! ```

#![forbid(unsafe_code)]

pub mod analyzer;
#[cfg(feature = "tls")]
pub mod authority;
pub mod checks;
pub mod decode;
pub mod distributor;
pub mod dns;
pub mod emitter;
pub mod forwarder;
pub mod frame_sink;
pub mod http;
pub mod inputs;
pub mod numbered;
pub mod pack;
pub mod peers;
pub mod port;
pub mod process;
pub mod random;
#[cfg(feature = "json")]
pub mod receiver;
pub mod reports;
pub mod rig;
pub mod scratch;
pub mod sessions;
#[cfg(feature = "json")]
pub mod site;
pub mod socket;
pub mod vectors;
pub mod wait;
pub mod wire;

pub use analyzer::{Acks, Analyzer, Options};
#[cfg(feature = "tls")]
pub use authority::{Authority, Pair};
pub use checks::{assert_exactly_once, assert_none_missing, until_read};
pub use distributor::{Distributor, Ended};
pub use emitter::Emitter;
pub use forwarder::Forwarder;
pub use frame_sink::FrameSink;
pub use port::Port;
pub use process::Program;
pub use random::Random;
pub use scratch::Scratch;
pub use wait::{stays, until, PATIENCE};
pub use wire::Dialect;
