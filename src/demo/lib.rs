//! The demonstration: everything that Weir claims, on this machine, in ten seconds, and checked.
//!
//! ```text
//! e1 \                  / a1      programs.rs  emitters and analyzers are processes of their own
//!     > distributor ---<  ...     watch.rs     shards' reports -> rows and events
//! e2 /  (this process)  \ a4      shares.rs    shards' reports -> shares, checked to the message
//!                                 table.rs, screen.rs, verdict.rs   what is shown
//!                                 play.rs      the plan, step by step: read this first
//!                                 http.rs      the same plan over HTTP
//!
//! 0       1/3          1/2        2/3       1
//! |--------|------------|----------|--------|   of the duration
//!          a2 killed    a2 back    a3 changes its weight
//! ```

mod http;
mod play;
mod programs;
#[cfg(test)]
mod sample;
mod screen;
mod shares;
mod table;
mod verdict;
mod watch;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use play::Outcome;
use weir_client::stop_on_signals;
use weir_config::{Config, HttpConfig};
use weir_runtime::{Distributor, StartError};
use weir_streams::complain;

/// Egress memory of all shards together. Two seconds of messages fit a shard of a small machine, so
/// that an analyzer which gets no CPU for a while is not full, which would take it out of the choice.
const ARENA_BYTES: usize = 256 << 20;
/// Per shard.
const ARENA_BYTES_MIN: usize = 8 << 20;
/// Per shard.
const ARENA_BYTES_MAX: usize = 32 << 20;
const BATCH_BYTES: u32 = 64 << 10;
const FRAME_BYTES_MAX: u32 = 64 << 10;
/// A shard's arena holds some of the largest frames for each analyzer.
const _: () =
    assert!(ARENA_BYTES_MIN > 64 * BATCH_BYTES as usize && FRAME_BYTES_MAX <= BATCH_BYTES);

/// As shells report a program that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long emitters send.
    pub duration: Duration,
    /// Messages per second of each emitter.
    pub rate: f64,
    /// Shards; as many as cores when left out.
    pub shards: Option<u16>,
    /// Packets over HTTP instead of frames and links.
    pub http: bool,
}

/// Why it could not be shown.
enum Failure {
    /// The distributor did not start.
    Start(StartError),
    /// A process could not be started, or nobody reads the output.
    Io(io::Error),
    /// A process did what it should not.
    Program(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Start(error) => error.fmt(f),
            Failure::Io(error) => error.fmt(f),
            Failure::Program(what) => f.write_str(what),
        }
    }
}

/// Shows it. Exit status 0: every check held; 1: one did not, or it could not be shown; 130:
/// interrupted, and what could be checked held.
pub fn run(options: &Options) -> ExitCode {
    let shards = options.shards.map_or_else(cores, usize::from);
    let shown = stop_on_signals().map_err(Failure::Io).and_then(|stop| {
        if options.http {
            return http::play(options, stop);
        }
        let distributor = Distributor::start(config(shards)).map_err(Failure::Start)?;
        play::play(options, distributor, stop)
    });
    match shown {
        Ok(Outcome::Held) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(EXIT_INTERRUPTED),
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        // `weir demo | head` is no reason to complain.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A distributor that shares its cores with six other processes.
fn config(shards: usize) -> Config {
    // Any free port of loopback: nothing that runs on this machine is in the way.
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config {
        emitters: anywhere,
        analyzers: anywhere,
        shards,
        // Not pinned: the other processes have nowhere else to go.
        cores: Vec::new(),
        arena_bytes: (ARENA_BYTES / shards.max(1)).clamp(ARENA_BYTES_MIN, ARENA_BYTES_MAX),
        batch_bytes: BATCH_BYTES,
        ingress_bytes: 1 << 20,
        frame_bytes_max: FRAME_BYTES_MAX,
        window_bytes: u64::MAX,
        partial_bytes_max: 4 << 20,
        // Loopback copies all the same, and registered memory could be more than a user may lock.
        zero_copy_bytes: 0,
        without: vec!["send-zc".to_owned()],
        http: HttpConfig {
            listen: None,
            ..HttpConfig::default()
        },
        instance: u64::from(std::process::id()),
        ..Config::default()
    }
}
