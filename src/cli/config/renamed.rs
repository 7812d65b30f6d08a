//! Settings that had another name. The old one still works, as flag, variable and key; help, schema and manual do not
//! show it. Old and new at the same place, two flags or two keys, are an error: which counts is not guessed.
//!
//! ```text
//!   --certificate FILE    a hidden flag that conflicts with --report; its value becomes the one of --report
//!   WEIR_CERTIFICATE      counts as WEIR_REPORT
//!   ledger.certificate    counts as ledger.report
//! ```

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// Old id and id of today, as clap has them: names of flags with underscores.
const RENAMED: [(&str, &str); 5] = [
    ("certificate", "report"),
    ("farewell", "graceful_close"),
    ("refused_dir", "dead_letter_dir"),
    ("refused_max", "dead_letter_max"),
    ("refused_memory", "dead_letter_memory"),
];
/// Programs that have such settings.
const PROGRAMS: [&str; 3] = ["distributor", "emitter", "analyzer"];

/// What a setting was called, if it had another name.
pub fn old_id(id: &str) -> Option<&'static str> {
    let found = RENAMED.iter().find(|(_, new)| *new == id);
    found.map(|(old, _)| *old)
}

/// What a setting is called today.
pub fn new_id(id: &str) -> &str {
    let found = RENAMED.iter().find(|(old, _)| *old == id);
    found.map_or(id, |(_, new)| new)
}

/// The flag of an id.
fn flag(id: &str) -> String {
    format!("--{}", id.replace('_', "-"))
}

/// The whole program's definition with the old flags, which nothing shows.
pub fn with_old_flags(command: Command) -> Command {
    PROGRAMS.iter().fold(command, |command, program| {
        command.mut_subcommand(program, |of| {
            let known = |id: &str| of.get_arguments().find(|arg| arg.get_id() == id).cloned();
            let hidden: Vec<Arg> = RENAMED
                .iter()
                .filter_map(|(old, new)| {
                    let none: [&str; 0] = [];
                    let arg = known(new)?.id(*old).long(old.replace('_', "-"));
                    Some(arg.hide(true).conflicts_with(*new).default_values(none))
                })
                .collect();
            of.args(hidden)
        })
    })
}

/// What a command line gives a setting under its old name: the flag as it was written, and its values.
pub fn given(id: &str, matches: &ArgMatches) -> Option<(String, Vec<OsString>)> {
    let old = old_id(id)?;
    // A program without the setting has no such flag.
    let raw = matches.try_get_raw(old).ok()??;
    let is_given = matches.value_source(old) == Some(ValueSource::CommandLine);
    is_given.then(|| (flag(old), raw.map(ToOwned::to_owned).collect()))
}

/// Why two names of one setting are refused; `old` and `new` as they were written.
pub fn both(new: &str, old: &str) -> String {
    format!("{old} and {new} are the same setting, {old} is its old name; allowed: {new} alone")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::layers::{Environment, Source};
    use super::super::{file, read, settings, with_variables, Refusal};
    use super::*;
    use crate::cli::{Cli, Program};

    fn parsed(line: &str, variables: &[(&str, &str)]) -> Result<Program, String> {
        let line = line.split(' ').map(OsString::from).collect();
        let read = read(line, Environment::of(variables));
        read.map(|cli| cli.program)
            .map_err(|refusal| match refusal {
                Refusal::Line(error) => error.to_string(),
                Refusal::Values(problems) => problems.join("\n"),
            })
    }

    /// A value that each takes, as it is shown.
    fn value(id: &str) -> &'static str {
        match id {
            "report" | "dead_letter_dir" => "/tmp/x",
            "graceful_close" => "2s",
            _ => "32MiB",
        }
    }

    fn in_force(line: &str, variables: &[(&str, &str)], id: &str) -> (Vec<String>, Source) {
        let program = parsed(line, variables).unwrap_or_else(|why| panic!("{line}: {why}"));
        let Program::Distributor(args) = program else {
            panic!("a distributor");
        };
        let value = args.origins.value(id);
        (value.texts, value.source)
    }

    #[test]
    fn old_names_of_settings_work_and_say_where_they_stood() {
        for (old, new) in RENAMED {
            let text = value(new);
            let (flag, variable) = (flag(old), settings::variable(old));
            let given = vec![text.to_owned()];

            let line = format!("weir distributor {flag} {text}");
            let found = in_force(&line, &[("WEIR_ARENA", "1GiB")], new);
            assert_eq!(found, (given.clone(), Source::Flag(flag)));

            let found = in_force("weir distributor", &[(&variable, text)], new);
            assert_eq!(found, (given.clone(), Source::Environment(variable)));

            let all = settings::all();
            let setting = all.iter().find(|it| it.id() == new).expect("a setting");
            let text = format!("[{}]\n{old} = \"{text}\"", setting.table);
            let found = file::parse("weir.toml".as_ref(), &text).expect("taken");
            let found = found.iter().map(|given| (given.id.as_str(), given.line));
            assert_eq!(found.collect::<Vec<_>>(), [(new, 2)]);
        }
    }

    #[test]
    fn a_flag_goes_before_the_environment_under_either_name() {
        let set = [("WEIR_REPORT", "/of/variable")];
        let (texts, source) = in_force("weir distributor --certificate /of/flag", &set, "report");
        assert_eq!(
            (texts, source),
            (
                vec!["/of/flag".into()],
                Source::Flag("--certificate".into())
            )
        );
        let set = [("WEIR_CERTIFICATE", "/of/variable")];
        let (texts, _) = in_force("weir distributor --report /of/flag", &set, "report");
        assert_eq!(texts, ["/of/flag"]);
    }

    #[test]
    fn clients_take_old_names_too() {
        for program in ["emitter", "analyzer"] {
            let upper = program.to_uppercase();
            let path = |program: Program| match program {
                Program::Emitter(args) => args.options().report,
                Program::Analyzer(args) => args.options().report,
                _ => panic!("a client"),
            };
            let line = format!("weir {program}");
            let flag = parsed(&format!("{line} --certificate /x"), &[]).map(path);
            assert_eq!(flag, Ok(Some("/x".into())));
            for name in [
                format!("WEIR_{upper}_CERTIFICATE"),
                format!("{upper}_CERTIFICATE"),
            ] {
                let variable = parsed(&line, &[(&name, "/x")]).map(path);
                assert_eq!(variable, Ok(Some("/x".into())));
            }
            let set = [
                (format!("{upper}_REPORT"), "/x"),
                (format!("{upper}_CERTIFICATE"), "/y"),
            ];
            let set = set.each_ref().map(|(name, value)| (name.as_str(), *value));
            let both = parsed(&line, &set).map(path).expect_err("both");
            assert!(set.iter().all(|(name, _)| both.contains(name)), "{both}");
        }
    }

    #[test]
    fn both_names_at_one_place_are_an_error_that_names_both() {
        for (old, new) in RENAMED {
            let text = value(new);
            let (flags, variables) = ([old, new].map(flag), [old, new].map(settings::variable));
            let line = format!("weir distributor {} {text} {} {text}", flags[0], flags[1]);
            let on_line = parsed(&line, &[]).expect_err("both flags");
            assert!(flags.iter().all(|flag| on_line.contains(flag)), "{on_line}");

            let set = variables.each_ref().map(|name| (name.as_str(), text));
            let in_environment = parsed("weir distributor", &set).expect_err("both variables");
            let named = |name: &String| in_environment.contains(name);
            assert!(variables.iter().all(named), "{in_environment}");

            let all = settings::all();
            let table = &all
                .iter()
                .find(|it| it.id() == new)
                .expect("a setting")
                .table;
            let text = format!("[{table}]\n{old} = \"{text}\"\n{new} = \"{text}\"");
            let in_file = file::parse("weir.toml".as_ref(), &text).expect_err("both keys");
            let named = |id: &str| in_file[0].contains(&format!("{table}.{id}"));
            assert!(
                in_file.len() == 1 && named(old) && named(new),
                "{in_file:?}"
            );
        }
    }

    /// Flags and variables are words.
    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c))
    }

    #[test]
    fn nothing_shows_old_names() {
        for program in PROGRAMS {
            let help = parsed(&format!("weir {program} --help"), &[]).expect_err("help");
            assert!(help.contains("--report <FILE>"), "{help}");
            let mut command = with_variables(Cli::command());
            let manual = command.find_subcommand_mut(program).expect("there");
            let manual = manual.render_long_help().to_string();
            for (old, _) in RENAMED {
                let variable = format!("_{}", old.to_uppercase());
                let is_old = |word: &str| word == flag(old) || word.ends_with(&variable);
                assert!(!words(&help).any(is_old), "{old}: {help}");
                assert!(!words(&manual).any(is_old), "{old}");
            }
        }
        // Asked for together with an old flag, help is help.
        let help = parsed("weir emitter --certificate /x --help", &[]).expect_err("help");
        assert!(help.contains("WEIR_EMITTER_REPORT"), "{help}");
    }
}
