//! Command line: one binary, several programs.
//!
//! ```text
//!   weir emitter --rate 500      the usual form
//!   emitter -rate=500            a link named after the program, options as the reference has them
//! ```
//!
//! Exit status: 0 success, 1 failure while running, 2 usage.

pub mod analyzer;
pub mod audit;
pub mod bench;
pub mod cert;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod distributor;
pub mod doctor;
pub mod emitter;
mod fleet;
pub mod generate;
mod instance;
pub mod reach;
mod secure;
pub mod sim;
pub mod tap;
pub mod top;

use clap::{Parser, Subcommand};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

pub use crate::config::values;
use crate::local::launched;
use crate::runtime::uring::pass_standard_streams_alone;
use crate::streams::{self, Streams};

const PROGRAMS: [&str; 3] = ["distributor", "emitter", "analyzer"];

/// With the commit, which a copied binary takes along.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("WEIR_COMMIT"),
    ")"
);

/// Gives each log message to exactly one of n analyzers, in proportion to their weights.
#[derive(Parser, Debug)]
#[command(name = "weir", version = VERSION)]
pub struct Cli {
    /// The subcommand, with its options.
    #[command(subcommand)]
    pub program: Program,
}

/// The programs that the binary contains.
#[derive(Subcommand, Debug)]
#[allow(missing_docs)] // clap would show it instead of the help that is at the arguments
pub enum Program {
    Distributor(Box<distributor::Args>),
    Emitter(emitter::Args),
    Analyzer(analyzer::Args),
    Demo(demo::Args),
    Sim(sim::Args),
    Audit(audit::Args),
    Doctor(doctor::Args),
    Check(config::command::CheckArgs),
    Config(config::command::ConfigArgs),
    Completions(generate::CompletionsArgs),
    Man(generate::ManArgs),
    Ctl(ctl::Args),
    Top(top::Args),
    Tap(tap::Args),
    Cert(cert::Args),
    Bench(bench::Args),
}

/// Reads a command line; the first argument is the name that the program was called by. For the
/// distributor also its file and the environment, see [`config`].
///
/// # Errors
/// Usage, or a request for help: what clap prints for it, and its exit status.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    config::parse(normalise(args))
}

/// The whole program, from the process's arguments to its exit status.
pub fn run() -> ExitCode {
    if let Some(why) = launched(std::env::args_os(), pass_standard_streams_alone) {
        streams::say(&format!("{why}\n"));
        return ExitCode::from(127); // as a shell says it
    }
    let _streams = Streams::open();
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    start_logging(&cli);
    // What was printed is what these are for; the others have done their work, whoever reads of it.
    let tool = |status| streams::status(status, 1);
    match &cli.program {
        Program::Distributor(args) => distributor::run(args),
        Program::Emitter(args) => emitter::run(args),
        Program::Analyzer(args) => analyzer::run(args),
        Program::Demo(args) => demo::run(args),
        Program::Sim(args) => tool(sim::run(args)),
        Program::Audit(args) => streams::status(audit::run(args), 2),
        Program::Doctor(args) => tool(doctor::run(args)),
        Program::Check(args) => tool(config::command::run_check(args)),
        Program::Config(args) => tool(config::command::run_config(args)),
        Program::Completions(args) => tool(generate::run_completions(args)),
        Program::Man(args) => tool(generate::run_man(args)),
        Program::Ctl(args) => tool(ctl::run(args)),
        Program::Top(args) => tool(top::run(args)),
        Program::Tap(args) => tool(tap::run(args)),
        Program::Cert(args) => tool(cert::run(args)),
        Program::Bench(args) => bench::run(args),
    }
}

/// Prints what clap has to say: help, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    let status = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    let text = error.render();
    if !error.use_stderr() {
        match std::io::stdout().is_terminal() {
            true => streams::out(format_args!("{}", text.ansi())),
            false => streams::out(format_args!("{text}")),
        };
        return streams::status(status, 1);
    }
    match std::io::stderr().is_terminal() {
        true => streams::say(&text.ansi().to_string()),
        false => streams::say(&text.to_string()),
    }
    status
}

/// Sets the least severe level that is logged, while the program runs; `RUST_LOG` wins.
pub fn set_log_level(level: log::LevelFilter) {
    streams::set_level(level);
}

/// `RUST_LOG` wins over `--verbose` and `--log-level`.
fn start_logging(cli: &Cli) {
    let verbose = matches!(&cli.program, Program::Analyzer(args) if args.verbose);
    streams::start(match &cli.program {
        // Says itself what happens.
        Program::Demo(_) => "warn",
        // They say themselves what went wrong; a line of a log would lie across the picture.
        Program::Top(_) | Program::Ctl(_) => "off",
        // Makes things fail a thousand times.
        Program::Sim(_) => "off",
        // The logger lets everything through, so that the level can change while it runs.
        Program::Distributor(_) => "trace",
        _ if verbose => "debug",
        _ => "info",
    });
    if let Program::Distributor(args) = &cli.program {
        set_log_level(args.settings.log_level);
    }
    let runs_long = matches!(
        &cli.program,
        Program::Distributor(_) | Program::Emitter(_) | Program::Analyzer(_)
    );
    if runs_long && std::env::var_os("RUST_LOG").is_some_and(|filter| filter.is_empty()) {
        log::info!("RUST_LOG is empty: as if it were not set");
    }
}

/// Turns `emitter -rate=5` into `weir emitter --rate=5`.
fn normalise(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let invoked = args.next().unwrap_or_default();
    let mut out = vec![OsString::from("weir")];
    out.extend(program_of(&invoked).map(OsString::from));
    let mut only_values = false;
    for arg in args {
        // What follows `bench` is another program's.
        only_values |= arg == "--" || (out.len() == 1 && arg == "bench");
        match (only_values, is_negative(&arg), out.last_mut()) {
            (true, ..) => out.push(arg),
            // No option begins like this: it is the value of the one before, to be refused as such.
            (false, true, Some(option)) if awaits_value(option) => {
                option.push("=");
                option.push(arg);
            }
            (false, true, _) => out.push(arg),
            (false, false, _) => out.push(double_dashed(arg)),
        }
    }
    out
}

/// `-1`, `-.5`, `-1s`, `-inf`.
fn is_negative(arg: &OsStr) -> bool {
    let Some(value) = arg.to_str().and_then(|text| text.strip_prefix('-')) else {
        return false;
    };
    let digits = value.strip_prefix('.').unwrap_or(value);
    let words = ["inf", "infinity", "nan"];
    digits.starts_with(|c: char| c.is_ascii_digit())
        || words.iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn awaits_value(option: &OsStr) -> bool {
    let text = option.to_str().unwrap_or_default();
    text.len() > 2 && text.starts_with("--") && !text.contains('=')
}

fn program_of(invoked: &OsStr) -> Option<&'static str> {
    let name = Path::new(invoked).file_name()?;
    PROGRAMS.into_iter().find(|program| name == *program)
}

/// `-rate=5` becomes `--rate=5`; `-h`, `-5` and everything else stays.
fn double_dashed(arg: OsString) -> OsString {
    let long = arg
        .to_str()
        .and_then(|text| text.strip_prefix('-'))
        .is_some_and(|name| {
            let mut chars = name.chars();
            chars.next().is_some_and(|c| c.is_ascii_alphabetic())
                && chars
                    .next()
                    .is_some_and(|c| c.is_ascii_alphabetic() || c == '-')
        });
    if !long {
        return arg;
    }
    let mut dashed = OsString::from("-");
    dashed.push(arg);
    dashed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::shapes::Sizes;

    fn parse(line: &str) -> Result<Program, clap::Error> {
        let args = line.split_whitespace().map(OsString::from);
        super::parse(args).map(|cli| cli.program)
    }

    #[test]
    fn definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn reference_emitter_line() {
        for line in [
            "./emitter -rate=500 -duration=60 -id=emitter-1 -addr localhost:8080 -size=256",
            "weir emitter --rate 500 --duration 60s --id emitter-1 --addr localhost:8080 --size 256",
        ] {
            let Ok(Program::Emitter(args)) = parse(line) else { panic!("{line}") };
            let options = args.options();
            assert_eq!((options.rate, options.sizes), (500.0, Sizes::Fixed(256)));
            assert_eq!(options.duration, Some(std::time::Duration::from_secs(60)));
            assert_eq!((options.id.as_str(), options.addr.as_str()), ("emitter-1", "localhost:8080"));
        }
    }

    #[test]
    fn reference_analyzer_lines() {
        for (line, verbose) in [
            (
                "analyzer -weight=0.4 -id=analyzer-1 -ack-every=10 -verbose=true",
                true,
            ),
            (
                "/usr/bin/analyzer -weight 0.4 -id analyzer-1 -ack-every 10 -verbose",
                true,
            ),
            ("analyzer -verbose=false -weight=0.4 -id=analyzer-1", false),
            ("weir analyzer --weight 0.4 --id analyzer-1", false),
        ] {
            let Ok(Program::Analyzer(args)) = parse(line) else {
                panic!("{line}")
            };
            assert_eq!(args.verbose, verbose, "{line}");
            let options = args.options();
            assert_eq!((options.weight, options.ack_every), (0.4, 10), "{line}");
            assert_eq!(options.id, "analyzer-1");
        }
    }

    #[test]
    fn usage_errors_name_flag_value_and_what_is_allowed() {
        for (line, words) in [
            ("analyzer -weight=NaN", ["--weight", "NaN", "finite number"]),
            ("analyzer -ack-every=0", ["--ack-every", "'0'", "1.."]),
            (
                "emitter -duration=1y",
                ["--duration", "1y", "plain seconds"],
            ),
            ("emitter -size=99MiB", ["--size", "99MiB", "16 MiB"]),
            (
                "analyzer --weight -1",
                ["--weight", "'-1'", "finite number"],
            ),
            (
                "analyzer -weight -inf",
                ["--weight", "'-inf'", "finite number"],
            ),
            ("emitter --rate -.5", ["--rate", "'-.5'", "0"]),
            ("emitter --duration -3s", ["--duration", "'-3s'", "allowed"]),
            (
                "weir ctl weight a -1",
                ["<WEIGHT>", "'-1'", "finite number"],
            ),
            (
                "weir ctl weight a -inf",
                ["<WEIGHT>", "'-inf'", "finite number"],
            ),
            (
                "weir ctl add-http a http://h -2",
                ["<WEIGHT>", "'-2'", "finite number"],
            ),
            (
                "weir ctl weight a 1 --ramp -5s",
                ["--ramp", "'-5s'", "allowed"],
            ),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(
                words.iter().all(|word| text.contains(word)),
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn short_and_negative_arguments_stay() {
        for stays in ["-h", "-V", "-5", "--rate", "-", "x", "-r=5"] {
            assert_eq!(double_dashed(stays.into()), stays);
        }
        assert_eq!(double_dashed("-ack-every".into()), "--ack-every");
        let after = normalise(["weir", "emitter", "--", "-rate"].map(OsString::from));
        assert_eq!(after[3], "-rate");
    }
}
