//! Where the distributors are: names, lists and files turned into addresses, and what changes.
//!
//! ```text
//!   text --Targets--> Watch --Resolver--> getaddrinfo, or nameservers (SRV, chosen ones)
//!                       |
//!                       '--> Endpoints: what is there now; Changes: what appeared, moved, left
//! ```
//!
//! A [`Resolver`]'s calls block. A [`Watch`] asks for all its names at once, each on a thread; [`Watcher`] is a thread that
//! looks again and again.
//! An answer that is empty, or none, changes nothing ([ADR 0053](../../docs/adr/0053-clients-find-every-distributor.md)).

mod dns;
mod endpoint;
mod lookups;
mod nameservers;
mod records;
mod resolve;
mod rota;
mod target;
mod watch;
mod watcher;

pub use endpoint::Endpoint;
pub use records::{read_answer, Heard};
pub use resolve::{Resolver, Unresolved};
pub use rota::Rota;
pub use target::{BadTarget, HostPort, SrvName, Target, Targets, TARGETS_MAX};
pub use watch::{Changes, Watch, ENDPOINTS_MAX, FILE_BYTES_MAX};
pub use watcher::{Watcher, REFRESH_EVERY};
