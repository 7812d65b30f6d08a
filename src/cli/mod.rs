//! Command line: one binary, four programs.

pub mod distributor;
pub mod values;

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser, Debug)]
#[command(name = "weir", version)]
struct Cli {
    #[command(subcommand)]
    program: Program,
}

#[derive(clap::Subcommand, Debug)]
enum Program {
    Distributor(distributor::Args),
}

/// The whole program, from the process's arguments to its exit status.
pub fn run() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    match &Cli::parse().program {
        Program::Distributor(args) => distributor::run(args),
    }
}
