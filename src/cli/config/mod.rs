//! Configuration of the distributor: flags, environment, `weir.toml`. There is one definition, that of
//! the flags (`cli::distributor::Args`); everything here is made from it.
//!
//! ```text
//!   settings.rs   flags as keys of tables                 read this first
//!   renamed.rs    settings that had another name
//!   file.rs       weir.toml -> values with lines, or everything that is wrong
//!   layers.rs     default < file < environment < flag
//!   clients.rs    variables of emitter and analyzer
//!   listening.rs  sockets that were passed, against the addresses that are configured
//!   loaded.rs     what is in force; read again, and what would change
//!   opens.rs      what a reload would open that is closed
//!   print.rs      a commented weir.toml; what is in force and why
//!   schema.rs     JSON schema
//!   command.rs    `weir config`, `weir check`
//! ```

mod clients;
pub mod command;
mod file;
mod layers;
mod listening;
mod loaded;
mod opens;
mod print;
mod renamed;
mod schema;
mod settings;
#[cfg(test)]
mod tests;

pub use layers::Source;
pub use listening::Listening;
pub use loaded::{diff, Difference, Loaded, Origins, Value};
pub use opens::opens;

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::{Cli, Program};
use layers::{Environment, Layers};

/// The program's definition with the variables of each option: for help, manuals and completions.
pub fn with_variables(command: clap::Command) -> clap::Command {
    clients::with_variables(settings::with_variables(command))
}

/// The definition that a line is read with.
fn command() -> clap::Command {
    renamed::with_old_flags(Cli::command())
}

/// Why a command line, or what it leads to, is not taken.
#[derive(Debug)]
enum Refusal {
    /// The line itself: what clap says.
    Line(clap::Error),
    /// The file or the environment: everything that is wrong.
    Values(Vec<String>),
}

/// Reads a whole command line, and the file and the environment that it leads to.
///
/// # Errors
/// Usage, or a request for help: what clap prints for it, and its exit status.
pub(super) fn parse(line: Vec<OsString>) -> Result<Cli, clap::Error> {
    read(line, Environment::of_process()).map_err(|refusal| match refusal {
        Refusal::Line(error) => error,
        Refusal::Values(problems) => {
            let text = problems.join("\nerror: ");
            clap::Error::raw(ErrorKind::Io, format!("{text}\n"))
        }
    })
}

fn read(line: Vec<OsString>, environment: Environment) -> Result<Cli, Refusal> {
    let flags = command().try_get_matches_from(&line);
    let flags = flags.map_err(|error| Refusal::Line(with_help(error, &line)))?;
    let (name, of_program) = match flags.subcommand() {
        Some((name @ "distributor", of_program)) => (name, of_program),
        Some((name, given)) if clients::is_client(name) => {
            return read_client(name, given, &line, &environment);
        }
        _ => return Cli::from_arg_matches(&flags).map_err(Refusal::Line),
    };
    let layers = Layers::collect(of_program, &environment).map_err(Refusal::Values)?;
    let command = command().mut_subcommand(name, |program| layers.install(program));
    let matches = command.try_get_matches_from(&line).map_err(Refusal::Line)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(Refusal::Line)?;
    let of_program = matches.subcommand_matches(name);
    if let (Program::Distributor(args), Some(matches)) = (&mut cli.program, of_program) {
        args.origins = Origins::new(line, environment, &layers, matches);
    }
    Ok(cli)
}

/// An emitter or an analyzer.
fn read_client(
    name: &str,
    given: &ArgMatches,
    line: &[OsString],
    environment: &Environment,
) -> Result<Cli, Refusal> {
    let mut problems = Vec::new();
    let command = command().mut_subcommand(name, |program| {
        match clients::install(name, program.clone(), given, environment) {
            Ok(program) => program,
            Err(wrong) => {
                problems = wrong;
                program
            }
        }
    });
    if !problems.is_empty() {
        return Err(Refusal::Values(problems));
    }
    let matches = command.try_get_matches_from(line);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    cli.map_err(Refusal::Line)
}

/// Help tells the variables as well; a parser that knew them would take their values unchecked.
fn with_help(error: clap::Error, line: &[OsString]) -> clap::Error {
    match error.kind() {
        ErrorKind::DisplayHelp => {
            let again = with_variables(command()).try_get_matches_from(line);
            again.err().unwrap_or(error)
        }
        _ => error,
    }
}

/// Reads a text as if it were in a file, and takes what it says for a distributor's flags.
///
/// # Errors
/// Everything that is wrong with it, a line each.
pub fn try_text(text: &str) -> Result<Box<super::distributor::Args>, Vec<String>> {
    let path = Path::new("weir.toml");
    let mut layers = Layers::default();
    layers.add_file(path, file::parse(path, text)?);
    let taken = || {
        let command = Cli::command().mut_subcommand("distributor", |it| layers.install(it));
        let matches = command.try_get_matches_from(["weir", "distributor"])?;
        Cli::from_arg_matches(&matches)
    };
    match taken().map(|cli| cli.program) {
        Ok(Program::Distributor(args)) => Ok(args),
        Ok(_) => Err(vec!["no distributor".into()]),
        Err(error) => Err(vec![error.to_string()]),
    }
}
