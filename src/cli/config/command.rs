//! `weir config` and `weir check`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::layers::{Environment, Source};
use super::{print, read, schema, settings, Loaded, Refusal};
use crate::cli::generate;
use crate::cli::{values, Program};
use crate::config::{MemoryNeed, OwnListeners};
use crate::host::{lowest_port, memory_limit, Host};
use crate::ledger::run_report;
use crate::runtime::Needs;
use crate::streams;

/// Time that a distributor has for its report and its last lines when it has drained.
const AFTER_DRAIN: Duration = Duration::from_secs(5);

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
/// is checked is the file. How many shards it would have here, and why, is printed.
///
/// Exit status: 0 it can be used, 1 it cannot be used, 2 usage.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Time between the order to stop and SIGKILL: terminationGracePeriodSeconds of a pod, stop_grace_period
    /// of Compose, TimeoutStopSec of a unit. Refuses a drain_timeout that does not fit
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration)]
    grace: Option<Duration>,
    /// What of --grace is gone before SIGTERM comes: the sleep of a pod's preStop hook
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration, requires = "grace")]
    pre_stop: Duration,
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
    if let Some(grace) = args.grace {
        if let Err(why) = fits(&loaded, grace, args.pre_stop) {
            return complain(&[loaded.args.origins.locate(&why)], 1);
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
    let lowest = lowest_port(&Host::here());
    let own = OwnListeners::of(&loaded.config);
    let datagrams = OwnListeners::of_datagrams(&loaded.config);
    for (flag, at) in own.iter().chain(datagrams) {
        if at.port() < lowest {
            said.push_str(&format!("{file}: warning: would not start here: {flag} {at}: ports below {lowest} need CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit), or a socket that systemd hands over\n"));
        }
    }
    said.push_str(&format!("{file}: {}\n", loaded.config.sizing));
    said.push_str(&format!("{file}: {}\n", memory(&loaded)));
    said.push_str(&format!("{file}: {descriptors}\n"));
    said.push_str(&format!("{file}: ok, {} settings\n", of_file.count()));
    generate::print(said.as_bytes())
}

/// Whether a stop ends before it is ended: what passes before SIGTERM, the drain, and the report at the end.
fn fits(loaded: &Loaded, grace: Duration, pre_stop: Duration) -> Result<(), String> {
    let drain = loaded.config.drain_timeout;
    let needed = pre_stop + drain + AFTER_DRAIN;
    if needed <= grace {
        return Ok(());
    }
    let [pre_stop_text, drain_text, after, needed_text, grace_text] =
        [pre_stop, drain, AFTER_DRAIN, needed, grace].map(values::show_duration);
    let most = grace.saturating_sub(pre_stop + AFTER_DRAIN);
    let most = values::show_duration(most);
    Err(format!(
        "--grace {grace_text}: a stop may take {pre_stop_text} before SIGTERM (--pre-stop) + --drain-timeout {drain_text} + {after} for the end = {needed_text}, and is killed before; allowed: a grace of {needed_text}, or --drain-timeout {most} at most"
    ))
}

/// What it takes, and whether that is allowed here.
fn memory(loaded: &Loaded) -> String {
    let need = MemoryNeed::of(&loaded.config);
    match memory_limit(&Host::here()) {
        Some(limit) if limit.bytes < need.bytes() => format!(
            "warning: would not start here: memory: {need}, {} MiB allowed ({})",
            limit.bytes >> 20,
            limit.file
        ),
        _ => format!("memory: {need}, connections left out"),
    }
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
