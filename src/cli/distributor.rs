//! `weir distributor`.

use std::process::ExitCode;

/// Divides what emitters send among analyzers, by weight.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the distributor.
pub fn run(_args: &Args) -> ExitCode {
    log::error!("the distributor is not part of this build");
    ExitCode::FAILURE
}
