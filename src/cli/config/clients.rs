//! Variables of the emitter and the analyzer: each option of theirs has one, and takes those of the reference's
//! containers as well.
//!
//! ```text
//!   --rate   WEIR_EMITTER_RATE   EMITTER_RATE
//!   --addr   WEIR_ANALYZER_ADDR  DISTRIBUTOR_ADDR  ANALYZER_ADDR
//! ```
//!
//! The first that is set and not empty counts, after the flag itself.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command};

use super::layers::{shown, Environment};
use super::renamed;
use super::settings;

/// Programs that have such variables.
const PROGRAMS: [&str; 2] = ["emitter", "analyzer"];
/// Names that do not follow from the option's: program, option, variable.
const NAMED_OTHERWISE: [(&str, &str, &str); 2] = [
    ("emitter", "addr", "LOG_ADDR"),
    ("analyzer", "addr", "DISTRIBUTOR_ADDR"),
];

/// Has this program variables of this kind?
pub fn is_client(program: &str) -> bool {
    PROGRAMS.contains(&program)
}

/// May a variable of this name be one of theirs?
pub fn may_count(name: &str) -> bool {
    let is_named = |program: &str| {
        let rest = name.strip_prefix(&program.to_ascii_uppercase());
        rest.is_some_and(|rest| rest.starts_with('_'))
    };
    PROGRAMS.iter().any(|program| is_named(program))
        || NAMED_OTHERWISE.iter().any(|(_, _, known)| *known == name)
}

/// The documented variable of an option.
fn variable(program: &str, option: &str) -> String {
    format!("WEIR_{program}_{option}").to_ascii_uppercase()
}

/// All variables of an option, first the one that wins.
fn variables(program: &str, option: &str) -> Vec<String> {
    let own = variable(program, option);
    let short = own.trim_start_matches("WEIR_").to_owned();
    let others = NAMED_OTHERWISE
        .iter()
        .filter(|(of, what, _)| (*of, *what) == (program, option));
    let mut all = vec![own];
    all.extend(others.map(|(_, _, name)| (*name).to_owned()));
    all.push(short);
    all
}

/// Options that take a value.
fn has_variable(arg: &Arg) -> bool {
    arg.get_long().is_some() && arg.get_action().takes_values()
}

/// The program's definition with its variables, for help and manuals.
pub fn with_variables(command: Command) -> Command {
    PROGRAMS.iter().fold(command, |command, program| {
        let add = |arg: Arg| match has_variable(&arg) {
            true => {
                let name = variable(program, arg.get_id().as_str());
                arg.env(name).hide_env_values(true)
            }
            false => arg,
        };
        command.mut_subcommand(program, |of| of.mut_args(add))
    })
}

/// Makes what the environment says defaults of the options that `given` does not have.
///
/// # Errors
/// Each variable whose value its option does not take: name, value, what is allowed.
pub fn install(
    program: &str,
    command: Command,
    given: &ArgMatches,
    environment: &Environment,
) -> Result<Command, Vec<String>> {
    let mut problems = Vec::new();
    let mut values: Vec<(String, OsString)> = Vec::new();
    let is_shown = |arg: &&Arg| has_variable(arg) && !arg.is_hide_set();
    for arg in command.get_arguments().filter(is_shown) {
        let id = arg.get_id().as_str();
        if given.value_source(id) == Some(clap::parser::ValueSource::CommandLine) {
            continue;
        }
        if let Some((_, old)) = renamed::given(id, given) {
            values.extend(old.into_iter().map(|value| (id.to_owned(), value)));
            continue;
        }
        let set = |id: &str| {
            let names = variables(program, id).into_iter();
            let mut set = names.filter_map(|name| Some((environment.get(&name)?, name)));
            set.find(|(value, _)| !value.is_empty())
        };
        let new = set(id);
        let old = renamed::old_id(id).and_then(set);
        if let (Some((_, new)), Some((_, old))) = (&new, &old) {
            problems.push(renamed::both(new, old));
            continue;
        }
        let Some((value, name)) = new.or(old) else {
            continue;
        };
        match settings::refusal(arg, value) {
            Some(why) => problems.push(format!("{name}={}: {why}", shown(value))),
            None => values.push((id.to_owned(), value.to_owned())),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let install = |command: Command, (id, value): (String, OsString)| {
        command.mut_arg(id, |arg| arg.default_value(value))
    };
    Ok(values.into_iter().fold(command, install))
}

#[cfg(test)]
mod tests {
    use super::super::{read, Refusal};
    use super::*;
    use crate::cli::Program;

    fn parsed(line: &[&str], variables: &[(&str, &str)]) -> Result<Program, String> {
        let line = line.iter().map(OsString::from).collect();
        let read = read(line, Environment::of(variables));
        read.map(|cli| cli.program)
            .map_err(|refusal| match refusal {
                Refusal::Line(error) => error.to_string(),
                Refusal::Values(problems) => problems.join("\n"),
            })
    }

    #[test]
    fn variables_of_the_reference_and_of_weir_are_taken() {
        let set = [
            ("LOG_ADDR", "logs:8080"),
            ("EMITTER_RATE", "250"),
            ("EMITTER_ID", "web-1"),
            ("WEIR_EMITTER_SIZE", "128"),
            ("WEIR_EMITTER_DURATION", ""),
        ];
        let Ok(Program::Emitter(args)) = parsed(&["weir", "emitter", "--id", "mine"], &set) else {
            panic!("an emitter");
        };
        let options = args.options();
        assert_eq!(options.addr, "logs:8080");
        assert_eq!((options.rate, options.id.as_str()), (250.0, "mine"));
        assert_eq!(
            options.duration.map(|it| it.as_secs()),
            Some(60),
            "an empty one is none"
        );

        let set = [
            ("DISTRIBUTOR_ADDR", "logs:8081"),
            ("ANALYZER_ADDR", "elsewhere:1"),
            ("ANALYZER_WEIGHT", "0.9"),
            ("WEIR_ANALYZER_WEIGHT", "0.4"),
            ("ANALYZER_ACK_EVERY", "7"),
            ("ANALYZER_VERBOSE", "true"),
        ];
        let Ok(Program::Analyzer(args)) = parsed(&["weir", "analyzer"], &set) else {
            panic!("an analyzer");
        };
        let options = args.options();
        assert_eq!(options.addr, "logs:8081");
        assert_eq!((options.weight, options.ack_every), (0.4, 7));
        assert!(options.verbose);
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        let refused = parsed(&["weir", "emitter"], &[("EMITTER_RATE", "fast")]);
        let text = refused.expect_err("not a rate");
        assert!(text.starts_with("EMITTER_RATE=fast: allowed: "), "{text}");
        for (program, name) in [("emitter", "LOG_ADDR"), ("analyzer", "DISTRIBUTOR_ADDR")] {
            let refused = parsed(&["weir", program], &[(name, "localhost")]);
            let text = refused.expect_err("no port");
            let wanted = format!("{name}=localhost: allowed: a host and a port");
            assert!(text.starts_with(&wanted), "{text}");
        }
    }

    #[test]
    fn help_names_the_documented_ones_only() {
        let help = parsed(&["weir", "analyzer", "--help"], &[]).expect_err("help");
        assert!(help.contains("[env: WEIR_ANALYZER_ACK_EVERY"), "{help}");
        assert!(!help.contains("DISTRIBUTOR_ADDR"), "{help}");
    }
}
