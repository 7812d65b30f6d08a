//! The distributor as a service: what it tells a manager, the sockets that a manager passes, the units.
//!
//! ```text
//! limits.rs    limits that are too small, variables that are empty or misspelt
//! manager.rs   a manager of ours: a notify socket, sockets that it holds, a child
//! notify.rs    READY, STATUS, RELOADING, STOPPING, EXTEND_TIMEOUT, WATCHDOG
//! streams.rs   nobody reads stdout or stderr, they are closed or full
//! signals.rs   what signals mean, reloads that hang or would open what is closed
//! sockets.rs   LISTEN_FDS: who is accepted by whom, restarts, what is refused
//! units.rs     systemd/, scripts/install.sh, scripts/deb.sh
//! ```
//! A real systemd is in `scripts/systemd-test.sh`.

mod limits;
mod manager;
mod notify;
mod signals;
mod sockets;
mod streams;
mod units;
