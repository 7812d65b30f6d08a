//! Weir gives each log message to exactly one of n analyzers, in proportion to their weights.
//!
//! Each folder of `src` but `cli` is a crate: it can only use those that its `Cargo.toml` names. Lowest first:
//!
//! - [`protocol`]: wire formats, pure; and what lies in a lane
//! - [`inflate`]: compressed bytes, with a bound on what comes out; pure
//! - [`source`]: what emitters speak: received bytes to elements; pure
//! - [`sink`]: what analyzers speak, what follows from that, and their words; pure
//! - [`clock`]: the clocks, and the time by which peers are judged
//! - [`host`]: what the machine and the container runtime allow: groups, limits, filters
//! - [`http`]: requests, responses, JSON packets; pure
//! - [`engine`]: decisions: routing, batches, ledger; no I/O, no clock
//! - [`config`]: everything that a distributor can be told
//! - [`discover`]: names, lists and files turned into addresses; what appears and leaves
//! - [`shard`]: one thread's event loop: listeners, links, over a port
//! - [`runtime`]: the port on a kernel: io_uring and the only unsafe code, threads and mesh of glommio
//! - [`tls`]: TLS as bytes in and bytes out: certificates, who is let in, records
//! - [`local`]: analyzers on this host that are no servers: files that are written, programs that are started
//! - [`sim`]: the port on virtual time, with everything that can go wrong
//! - [`ledger`]: what each program says at its end, which messages came, and one verdict over all of it
//! - [`service`]: the service manager: what it passes, what it is told, its journal
//! - [`streams`]: stdout and stderr: a log that nobody reads stops nobody
//! - [`client`]: emitter and analyzer programs
//! - [`control`]: what an operator looks at and turns: answers, metrics, page, orders
//! - [`doctor`]: what is wrong with this host, and what mends it
//! - [`demo`]: the whole thing on loopback, checked while it runs
//! - [`cli`]: arguments, start, exit status
//!
//! The way of a message, and where to start reading: [`runtime::uring`] receives it, [`shard::Shard`] gives it to
//! [`engine::Engine::ingest`], which asks [`engine::tree`] where it goes and appends it to a lane; the shard sends
//! the lane, and the analyzer's ACK comes back to the engine.

pub mod cli;

pub use weir_client as client;
pub use weir_clock as clock;
pub use weir_config as config;
pub use weir_control as control;
pub use weir_demo as demo;
pub use weir_discover as discover;
pub use weir_doctor as doctor;
pub use weir_engine as engine;
pub use weir_host as host;
pub use weir_http as http;
pub use weir_inflate as inflate;
pub use weir_ledger as ledger;
pub use weir_local as local;
pub use weir_protocol as protocol;
pub use weir_runtime as runtime;
pub use weir_service as service;
pub use weir_shard as shard;
pub use weir_sim as sim;
pub use weir_sink as sink;
pub use weir_source as source;
pub use weir_streams as streams;
pub use weir_streams::out;
pub use weir_tls as tls;
