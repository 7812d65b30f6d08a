//! The demonstration: everything that Weir claims, on this machine, in ten seconds, and checked.
//!
//! ```text
//! e1 \                  / a1      parts.rs     what is started, over TCP or over HTTP; the run reports
//!     > distributor ---<  ...     programs.rs  emitters and analyzers are processes of their own
//! e2 /  (this process)  \ a4      play.rs      the plan, step by step: read this first
//!                                 account.rs   shares between two changes
//!                                 screen.rs    where it is shown
//!                                 verdict.rs   what was claimed, and whether it held
//!
//! 0       1/3          1/2        2/3       1
//! |--------|------------|----------|--------|   of the duration
//!          a2 killed    a2 back    a3 changes its weight
//! ```
//!
//! Nothing is counted here. Rows, events and shares are the control side's, as `weir top` shows them; the verdict is
//! that of `weir audit`, on the run reports of all programs.

mod account;
mod parts;
mod play;
mod programs;
mod screen;
mod verdict;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use play::Outcome;
use weir_client::stop_on_signals;
use weir_runtime::StartError;
use weir_streams::complain;

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
    let shown = stop_on_signals().map_err(Failure::Io);
    match shown.and_then(|stop| play::play(options, stop)) {
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
