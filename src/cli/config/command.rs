//! `weir config` and `weir check`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::layers::{Environment, Source};
use super::{print, read, schema, settings, Loaded, Refusal};
use crate::cli::generate;
use crate::cli::Program;
use crate::ledger::run_report;
use crate::runtime::Needs;
use crate::streams;

/// Prints settings of the distributor: a commented weir.toml, its JSON schema, or what is in force.
///
/// Exit status: 0 printed, 2 a setting is wrong.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct ConfigArgs {
    /// Print a weir.toml with every setting, its meaning and its default
    #[arg(long, group = "what")]
    default: bool,
    /// Print the JSON schema of weir.toml (draft 2020-12), for editors
    #[arg(long, group = "what")]
    schema: bool,
    /// Print what would be in force with the flags that follow, and where each value comes from
    #[arg(long, group = "what")]
    effective: bool,
    /// Flags of `weir distributor`, behind --effective
    #[arg(
        value_name = "FLAGS",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        requires = "effective"
    )]
    flags: Vec<OsString>,
}

/// Checks a weir.toml as `weir distributor --config` would, without starting anything.
///
/// Files that it names are read, and sockets are not bound. Environment and flags do not count: what
/// is checked is the file.
///
/// Exit status: 0 it can be used, 1 it cannot be used, 2 usage.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Prints what was asked for.
pub fn run_config(args: &ConfigArgs) -> ExitCode {
    if args.default {
        return generate::print(print::default_file().as_bytes());
    }
    if args.schema {
        return generate::print(format!("{:#}\n", schema::schema()).as_bytes());
    }
    match load(args.flags.iter().cloned(), Environment::of_process()) {
        Ok(loaded) => generate::print(print::effective(&loaded).as_bytes()),
        Err(Refusal::Line(error)) => crate::cli::refuse(&error),
        Err(Refusal::Values(problems)) => complain(&problems, 2),
    }
}

/// Checks the file.
pub fn run_check(args: &CheckArgs) -> ExitCode {
    let flags = [OsString::from("--config"), args.file.clone().into()];
    let loaded = match load(flags, Environment::default()) {
        Ok(loaded) => loaded,
        Err(Refusal::Line(error)) => return complain(&[error.to_string()], 1),
        Err(Refusal::Values(problems)) => return complain(&problems, 1),
    };
    if let Some(path) = &loaded.config.report {
        if let Err(error) = run_report::check_writable("--report", path) {
            return complain(&[loaded.args.origins.locate(&error.to_string())], 1);
        }
    }
    let all = settings::all();
    let of_file = all.iter().filter(|setting| {
        let source = loaded.args.origins.value(setting.id()).source;
        matches!(source, Source::File(..))
    });
    let file = args.file.display();
    let mut said = String::new();
    for warning in loaded.warnings() {
        said.push_str(&format!("{file}: warning: {warning}\n"));
    }
    let needs = Needs::of(&loaded.config, loaded.config.http.listen.is_some());
    let descriptors = match needs.divide_here() {
        Ok(division) => division.to_string(),
        Err(error) => format!("warning: would not start here: {error}"),
    };
    said.push_str(&format!("{file}: {descriptors}\n"));
    said.push_str(&format!("{file}: ok, {} settings\n", of_file.count()));
    generate::print(said.as_bytes())
}

/// What the distributor would do with these flags.
fn load(
    flags: impl IntoIterator<Item = OsString>,
    environment: Environment,
) -> Result<Loaded, Refusal> {
    let mut line: Vec<OsString> = vec!["weir".into(), "distributor".into()];
    line.extend(flags);
    let cli = read(line, environment)?;
    match cli.program {
        Program::Distributor(args) => Loaded::new(*args).map_err(Refusal::Values),
        _ => Err(Refusal::Values(vec!["no distributor".into()])),
    }
}

/// What the distributor would do with a file alone, or with no flag at all; the environment does not count.
///
/// # Errors
/// Everything that is wrong with it.
pub(in crate::cli) fn of_file(flags: Vec<OsString>) -> Result<Loaded, Vec<String>> {
    load(flags, Environment::default()).map_err(|refusal| match refusal {
        Refusal::Line(error) => vec![error.to_string()],
        Refusal::Values(problems) => problems,
    })
}

fn complain(problems: &[String], status: u8) -> ExitCode {
    for problem in problems {
        streams::say(&format!("error: {problem}"));
    }
    ExitCode::from(status)
}
