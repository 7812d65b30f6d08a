//! `weir demo`.

use std::process::ExitCode;

/// Runs emitters, distributor and analyzers on loopback, and kills an analyzer on the way.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the demonstration.
pub fn run(_args: &Args) -> ExitCode {
    log::error!("the demonstration is not part of this build");
    ExitCode::FAILURE
}
