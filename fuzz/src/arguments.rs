//! Command lines: none panics; what is refused ends with status 2 and names the flag, the value and
//! what is allowed; what is accepted gives options.
//!
//! Input: u8 mode; then arguments, each ended by a zero byte (mode 0), or a program and, for each flag:
//! u8 which, u8 form, value ended by a zero byte (mode 1).
//!
//! The flags are asked of the parser itself, so that new ones are covered. Configuration files are the
//! target `config`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

use clap::error::ErrorKind;
use clap::CommandFactory;
use weir::cli::{self, Cli, Program};

use super::input::Input;

/// More say nothing new and take long.
const ARGUMENTS_MAX: usize = 24;

/// Each program with its long flags, and whether a flag takes a value.
type Flags = Vec<(String, Vec<(String, bool)>)>;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(2) {
        0 => any_line(&mut input),
        _ => flagged_line(&mut input),
    }
}

fn any_line(input: &mut Input) {
    let mut line = Vec::new();
    while !input.is_empty() && line.len() < ARGUMENTS_MAX {
        line.push(OsString::from_vec(input.line().to_vec()));
    }
    parse(&line);
}

fn flagged_line(input: &mut Input) {
    let flags = flags();
    let (program, flags) = &flags[input.below(flags.len())];
    let mut line = match input.below(3) {
        0 => vec!["weir".into(), program.into()],
        1 => vec![format!("/usr/bin/{program}").into()],
        _ => vec![program.into()],
    };
    while !input.is_empty() && line.len() < ARGUMENTS_MAX && !flags.is_empty() {
        let (flag, takes_value) = &flags[input.below(flags.len())];
        let form = input.below(4);
        let mut arg = OsString::from(if form & 1 == 0 { "--" } else { "-" });
        arg.push(flag);
        let value = OsStr::from_bytes(input.line());
        if form & 2 == 0 {
            arg.push("=");
            arg.push(value);
            line.push(arg);
        } else {
            line.push(arg);
            if *takes_value {
                line.push(value.into());
            }
        }
    }
    let Some(error) = parse(&line) else {
        return;
    };
    let text = error.to_string();
    if matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        let named = flags
            .iter()
            .any(|(flag, _)| text.contains(&format!("'--{flag}")));
        assert!(named, "the flag of {line:?}: {text}");
        assert!(names_value(&text, &line), "the value of {line:?}: {text}");
        assert!(is_helpful(&error, &text), "what is allowed: {text}");
    }
}

/// The value that is wrong is one of those given, or there is none. Control characters, which are not
/// printed, may be in it.
fn names_value(text: &str, line: &[OsString]) -> bool {
    let printed =
        |value: &str| value.contains(char::is_control) || text.contains(&format!("'{value}'"));
    let given = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        // Lists are checked word by word.
        let words = |text: &str| printed(text) || text.split([',', '\n']).any(printed);
        words(&arg) || arg.split_once('=').is_some_and(|(_, value)| words(value))
    };
    text.contains("none was supplied") || line.iter().any(given)
}

/// Says what would be right. Clap does for what has a list of values, and for a value that is missing;
/// the rest is Weir's own.
fn is_helpful(error: &clap::Error, text: &str) -> bool {
    let words = ["allowed: ", "not available here", "named twice"];
    error.kind() == ErrorKind::InvalidValue || words.iter().any(|word| text.contains(word))
}

/// What is wrong with a line, if something is.
fn parse(line: &[OsString]) -> Option<clap::Error> {
    match cli::parse(line.iter().cloned()) {
        Ok(cli) => {
            use_options(&cli);
            None
        }
        Err(error) => {
            let is_help = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            assert_eq!(error.exit_code(), if is_help { 0 } else { 2 }, "{error}");
            assert!(!error.to_string().trim().is_empty());
            Some(error)
        }
    }
}

fn use_options(cli: &Cli) {
    match &cli.program {
        Program::Distributor(args) => {
            // A token file that is not there.
            let Ok(config) = args.config() else {
                return;
            };
            assert!(config.shards >= 1);
            assert!(config.cores.is_empty() || config.cores.len() == config.shards);
        }
        Program::Emitter(args) => {
            let options = args.options();
            assert!(options.rate.is_finite() && options.rate >= 0.0);
            assert!(options.connections >= 1 && options.threads >= 1 && options.batch >= 1);
        }
        Program::Analyzer(args) => {
            let options = args.options();
            assert!(options.weight.is_finite() && options.weight >= 0.0);
            assert!(options.ack_every >= 1 && !options.id.is_empty());
        }
        _ => {}
    }
}

fn flags() -> &'static Flags {
    static FLAGS: OnceLock<Flags> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let command = Cli::command();
        let programs = command.get_subcommands();
        let flags = |program: &clap::Command| {
            let all = program.get_arguments();
            all.filter_map(|arg| {
                Some((arg.get_long()?.to_owned(), arg.get_action().takes_values()))
            })
            .collect()
        };
        programs
            .map(|program| (program.get_name().to_owned(), flags(program)))
            .collect()
    })
}
