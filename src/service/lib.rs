//! The service manager (systemd), as a service sees it. Every part is driven by variables of the environment;
//! without them nothing happens, so the same program runs anywhere.
//!
//! ```text
//!   NOTIFY_SOCKET                <-- notify.rs     READY, STATUS, RELOADING, STOPPING, WATCHDOG
//!   WATCHDOG_USEC, WATCHDOG_PID  --> watchdog.rs   when it may be fed: while everything makes progress
//!   LISTEN_PID, _FDS, _FDNAMES   --> sockets.rs    sockets that were opened for it
//!   JOURNAL_STREAM               --> journal.rs    how severe a line is, in front of it
//! ```
//!
//! Protocols: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3), sd-daemon(3).

pub mod journal;
pub mod notify;
pub mod sockets;
pub mod watchdog;

use std::ffi::OsString;

/// A variable of the environment as text; what is empty or not UTF-8 is as good as not set.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.and_then(|value: OsString| value.into_string().ok())
}
