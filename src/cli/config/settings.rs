//! The settings of a distributor: clap's definitions of its flags, seen as keys of tables.
//!
//! ```text
//!   --batch-bytes <BYTES>   under "Memory"    the flag
//!   memory.batch_bytes      in weir.toml
//!   WEIR_BATCH_BYTES        in the environment
//! ```

use std::error::Error;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args, Command};

use crate::cli::{distributor, values};

/// The flags with a file form of their own: an array of tables.
pub const HTTP_ANALYZER: &str = "http_analyzer";
pub const INPUT: &str = "input";
pub const WANTED_WEIGHT: &str = "wanted_weight";
/// The names of these arrays.
pub const HTTP_ANALYZERS: &str = "http_analyzers";
pub const INPUTS: &str = "inputs";
pub const WEIGHTS: &str = "weights";
/// The flag that names the file.
const CONFIG: &str = "config";

/// What kind of value a setting has, by the name of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of bytes, with or without a unit.
    Bytes,
    /// A time with a unit.
    Time,
    /// A whole number.
    Whole,
    /// True or false.
    Boolean,
    /// A path; one in a file is relative to the file.
    Path,
    /// A path, if there is a slash in it.
    MaybePath,
    /// Networks.
    Networks,
    /// Any other text.
    Text,
}

impl Kind {
    /// Of the name that a flag's value has in its help; none of a name that is not known.
    fn of(value_name: &str) -> Option<Kind> {
        Some(match value_name {
            "BYTES" => Kind::Bytes,
            "TIME" => Kind::Time,
            "N" => Kind::Whole,
            "BOOL" => Kind::Boolean,
            "FILE" => Kind::Path,
            "PATH|ADDR" | "DIR|off" => Kind::MaybePath,
            "CIDR" => Kind::Networks,
            "ADDR" | "DIALECT" | "LIST" | "POLICY" | "FEATURES" | "LEVEL" | "N/TIME"
            | "ORIGINS" | "NAMES" | "HEADER" | "PROTOCOL@ADDR" | "ID=WEIGHT@URL"
            | "ID=WEIGHT[,pin]" => Kind::Text,
            _ => return None,
        })
    }
}

/// A flag of the distributor.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As clap has it.
    pub arg: Arg,
    /// The table of its key.
    pub table: String,
    /// Its name there.
    pub key: String,
    /// What its value is.
    pub kind: Kind,
}

/// All settings, in the order of their tables and flags.
pub fn all() -> Vec<Setting> {
    let command = distributor::Args::augment_args(Command::new("distributor"));
    let found: Vec<Setting> = command
        .get_arguments()
        .filter(|arg| arg.get_id() != CONFIG)
        .filter_map(Setting::new)
        .collect();
    let mut tables: Vec<String> = Vec::new();
    for setting in &found {
        if !tables.contains(&setting.table) {
            tables.push(setting.table.clone());
        }
    }
    let mut sorted = found;
    sorted.sort_by_key(|setting| tables.iter().position(|table| *table == setting.table));
    sorted
}

/// Name of the variable that gives a flag its value.
pub fn variable(id: &str) -> String {
    format!("WEIR_{}", id.to_ascii_uppercase())
}

/// The program's definition with a variable for each flag: for help, manuals and completions.
pub fn with_variables(command: Command) -> Command {
    let add = |arg: Arg| match arg.get_help_heading() {
        Some(_) => {
            let variable = variable(arg.get_id().as_str());
            arg.env(variable).hide_env_values(true)
        }
        None => arg,
    };
    command.mut_subcommand("distributor", |distributor| distributor.mut_args(add))
}

/// Why a flag does not take a value; what is allowed.
pub fn refusal(arg: &Arg, value: &OsStr) -> Option<String> {
    let mut flag = OsString::from("--");
    flag.push(arg.get_long().unwrap_or_default());
    flag.push("=");
    flag.push(value);
    let none: [&str; 0] = [];
    let alone = Command::new("weir")
        .no_binary_name(true)
        .arg(arg.clone().default_values(none));
    let error = alone.try_get_matches_from([flag]).err()?;
    if let Some(why) = error.source() {
        return Some(why.to_string());
    }
    Some(match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
            format!("allowed: {}", valid.join(", "))
        }
        _ => "allowed: text that is not empty, in UTF-8".to_owned(),
    })
}

impl Setting {
    fn new(arg: &Arg) -> Option<Setting> {
        let value_name = arg.get_value_names()?.first()?;
        Some(Setting {
            table: arg.get_help_heading()?.to_lowercase().replace(' ', "_"),
            key: arg.get_long()?.replace('-', "_"),
            kind: Kind::of(value_name)?,
            arg: arg.clone(),
        })
    }

    /// Clap's name of it, which is the key's.
    pub fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }

    /// Table and key.
    pub fn name(&self) -> String {
        match self.id() {
            HTTP_ANALYZER => HTTP_ANALYZERS.to_owned(),
            INPUT => INPUTS.to_owned(),
            WANTED_WEIGHT => WEIGHTS.to_owned(),
            _ => format!("{}.{}", self.table, self.key),
        }
    }

    /// The flag with its dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.arg.get_long().unwrap_or_default())
    }

    /// Whether it is an array of tables in a file, and no key of a table.
    pub fn is_array(&self) -> bool {
        matches!(self.id(), HTTP_ANALYZER | INPUT | WANTED_WEIGHT)
    }

    /// Whether it may have several values.
    pub fn is_list(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::Append)
    }

    /// What it may be, when that is a list of words.
    pub fn words(&self) -> Vec<String> {
        let words = self.arg.get_possible_values();
        words
            .iter()
            .map(|word| word.get_name().to_owned())
            .collect()
    }

    /// What it is for.
    pub fn help(&self) -> String {
        let help = self.arg.get_help();
        help.map(ToString::to_string).unwrap_or_default()
    }

    /// What its value is called in the help.
    pub fn value_name(&self) -> String {
        let names = self.arg.get_value_names().unwrap_or_default();
        names.first().map(ToString::to_string).unwrap_or_default()
    }

    /// Its default; none: not set, or an empty list.
    pub fn default(&self) -> Option<String> {
        let default = self.arg.get_default_values().first()?;
        Some(default.to_string_lossy().into_owned())
    }

    /// A value in a spelling that equal values share.
    pub fn canonical(&self, text: &str) -> String {
        let shown = match self.kind {
            Kind::Bytes => values::bytes(text).map(values::show_bytes),
            Kind::Time => values::duration(text).map(values::show_duration),
            _ => return text.to_owned(),
        };
        shown.unwrap_or_else(|_| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn every_flag_with_a_heading_is_a_setting() {
        let command = distributor::Args::augment_args(Command::new("distributor"));
        let settings = all();
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            let known = settings.iter().any(|setting| setting.id() == id);
            assert_eq!(
                known,
                id != CONFIG,
                "{id}: no heading, or an unknown value name?"
            );
            assert_eq!(
                arg.get_long().map(|long| long.replace('-', "_")).as_deref(),
                Some(id)
            );
        }
        let tables: Vec<&str> = settings
            .iter()
            .map(|setting| setting.table.as_str())
            .collect();
        for array in [HTTP_ANALYZERS, INPUTS, WEIGHTS] {
            assert!(!tables.contains(&array), "{array} is an array");
        }
        let mut distinct = tables.clone();
        distinct.dedup();
        let count = distinct.len();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), count, "each table in one piece");
    }

    #[test]
    fn defaults_are_values_that_are_taken() {
        for setting in all() {
            let Some(default) = setting.default() else {
                continue;
            };
            assert_eq!(
                refusal(&setting.arg, default.as_ref()),
                None,
                "{}",
                setting.name()
            );
            assert_eq!(setting.canonical(&default), default, "{}", setting.name());
        }
    }

    #[test]
    fn refusals_say_what_is_allowed() {
        for setting in all() {
            for bad in ["", "\n", "=", "no such value"] {
                let why = refusal(&setting.arg, bad.as_ref());
                let text = why.clone().unwrap_or_default();
                // Any text but none is a path.
                let is_path = setting.kind == Kind::Path && !bad.is_empty();
                assert_eq!(why.is_none(), is_path, "{} = {bad:?}", setting.name());
                assert!(
                    is_path || text.contains("allowed: "),
                    "{}: {text}",
                    setting.name()
                );
            }
        }
    }

    #[test]
    fn help_names_the_variables() {
        let mut command = with_variables(Cli::command());
        let distributor = command
            .find_subcommand_mut("distributor")
            .expect("it is there");
        let help = distributor.render_long_help().to_string();
        for setting in all() {
            let variable = format!("[env: {}]", variable(setting.id()));
            assert!(help.contains(&variable), "{variable}");
        }
    }
}
