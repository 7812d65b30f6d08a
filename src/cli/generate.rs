//! `weir completions` and `weir man`: made from the definitions of the flags.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::config::with_variables;
use super::Cli;
use crate::streams::{self, complain};

/// Prints completions for a shell: bash, zsh, fish, elvish or powershell.
///
/// For bash: weir completions bash > /etc/bash_completion.d/weir
#[derive(clap::Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the manual, or writes one page for each program.
///
/// Exit status: 0 written, 1 it cannot be written, 2 usage.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Write weir.1, weir-distributor.1 and so on into this directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints completions.
pub fn run_completions(args: &CompletionsArgs) -> ExitCode {
    let mut out = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut with_variables(Cli::command()),
        "weir",
        &mut out,
    );
    print(&out)
}

/// Prints or writes manual pages.
pub fn run_man(args: &ManArgs) -> ExitCode {
    let command = with_variables(Cli::command()).disable_help_subcommand(true);
    match &args.out {
        Some(dir) => finish(
            write_pages(command, dir),
            &format!("--out {}", dir.display()),
        ),
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(command).render(&mut page);
            match rendered {
                Ok(()) => print(&page),
                failed => finish(failed, "manual"),
            }
        }
    }
}

fn write_pages(command: clap::Command, dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command, dir)
}

/// Writes to standard output.
pub(super) fn print(text: &[u8]) -> ExitCode {
    streams::write(text);
    ExitCode::SUCCESS
}

fn finish(written: std::io::Result<()>, what: &str) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{what}: {error}"));
            ExitCode::FAILURE
        }
    }
}
