//! `weir bench`: the measuring program, which is a binary of its own, found beside this one.
//!
//! ```text
//!   weir bench pair --pairs 12   becomes   weir-bench pair --pairs 12
//! ```
//!
//! The process is replaced: signals, output and exit status are weir-bench's own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::streams::complain;

const PROGRAM: &str = "weir-bench";

/// Measures Weir and other distributors: cost, latency, capacity, fail-over; compares reports.
///
/// Runs weir-bench with everything that follows; `weir bench --help` is its own help. It is looked for
/// beside this binary, then on PATH.
///
/// Exit status: that of weir-bench (0 fine, 1 a message was lost or a bound missed, 2 the run failed,
/// 3 `diff`: too few runs to show anything); 2 as well if there is no weir-bench.
#[derive(clap::Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  weir bench pair --html pair.html          Weir beside a bare relay, with a page to look at
  weir bench diff before.json after.json    did it become slower, and is that more than chance?
  weir bench --help                         everything else"
)]
pub struct Args {
    /// Arguments of weir-bench
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    args: Vec<OsString>,
}

/// Becomes weir-bench; returns only if that fails.
pub fn run(args: &Args) -> ExitCode {
    let beside = beside();
    let program = match &beside {
        Some(path) if path.is_file() => path.clone(),
        // Without a slash: looked for on PATH.
        _ => PathBuf::from(PROGRAM),
    };
    let error = Command::new(&program).args(&args.args).exec();
    let looked = beside.map_or("(the place of this binary is unknown)".into(), |path| {
        path.display().to_string()
    });
    if error.kind() == std::io::ErrorKind::NotFound {
        complain(&format!(
            "bench: there is no {PROGRAM}: looked for {looked}, then on PATH; build it with \
             `cargo build --release --workspace`, or install it beside weir"
        ));
    } else {
        complain(&format!("bench: cannot run {}: {error}", program.display()));
    }
    ExitCode::from(2)
}

/// Where it lies when both come from one build or one package; links are resolved.
fn beside() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.with_file_name(PROGRAM))
}
