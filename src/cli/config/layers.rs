//! Where each setting's value comes from, later ones win:
//!
//! ```text
//!   default < PORT, WORKER_COUNT, RUNTIME_DIRECTORY, STATE_DIRECTORY < file < WEIR_* < flag
//! ```
//!
//! All but the flags are checked here, so that a message names the file's line or the variable. Then
//! they become the defaults of the flags, and clap does the rest.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::file::{self, did_you_mean, Given};
use super::renamed;
use super::settings::{self, Setting};

/// Flag, variable, and what the flag's value is by the variable's.
type Fallback = (&'static str, &'static str, fn(&str) -> String);

/// Variables of others that give a value when nothing else does.
const FALLBACKS: [Fallback; 4] = [
    ("http", "PORT", |port| format!("127.0.0.1:{port}")),
    ("shards", "WORKER_COUNT", str::to_owned),
    ("admin", "RUNTIME_DIRECTORY", |list| {
        format!("{}/admin.sock", first(list))
    }),
    ("dead_letter_dir", "STATE_DIRECTORY", |list| {
        first(list).to_owned()
    }),
];

/// systemd gives several directories with colons between them.
fn first(list: &str) -> &str {
    list.split(':').next().unwrap_or_default()
}

/// A name with one wrong letter in so many is a misspelt one.
const MISSPELT_CHARS: usize = 8;
const PREFIX: &str = "WEIR_";
/// Names the file when no flag does.
pub const CONFIG_VARIABLE: &str = "WEIR_CONFIG";

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The program.
    #[default]
    Default,
    /// A variable that is not Weir's own.
    Fallback(&'static str),
    /// A file, and the line in it.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Fallback(variable) => f.write_str(variable),
            Source::File(path, line) => write!(f, "{}:{line}", path.display()),
            Source::Environment(variable) => f.write_str(variable),
            Source::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The variables that count.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Those of this process, at this moment. One that is empty, as a compose file or a unit leaves it, is as good as
    /// not set.
    pub fn of_process() -> Environment {
        let counts = |name: &str| {
            name.starts_with(PREFIX)
                || super::clients::may_count(name)
                || FALLBACKS.iter().any(|(_, variable, _)| *variable == name)
        };
        let all = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            (counts(&name) && !value.is_empty()).then_some((name, value))
        });
        Environment(all.collect())
    }

    /// Those of a list.
    #[cfg(test)]
    pub fn of(list: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), OsString::from(value));
        Environment(list.iter().map(owned).collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }
}

/// All that is not a flag.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: BTreeMap<String, (Vec<OsString>, Source)>,
    /// Variables that look like a misspelt one.
    pub warnings: Vec<String>,
}

impl Layers {
    /// Collects and checks what file and environment say, beside the flags that were given.
    ///
    /// # Errors
    /// Everything that is wrong, a line each.
    pub fn collect(flags: &ArgMatches, environment: &Environment) -> Result<Layers, Vec<String>> {
        let mut layers = Layers::default();
        let mut problems = Vec::new();
        let settings = settings::all();
        let from_environment = environment.get(CONFIG_VARIABLE).map(PathBuf::from);
        let path = flags.get_one::<PathBuf>("config").cloned();
        let by = match path {
            Some(_) => String::new(),
            None => format!("{CONFIG_VARIABLE}="),
        };
        if let Some(path) = path.or(from_environment) {
            match file::read(&path, &by) {
                Ok(given) => layers.add_file(&path, given),
                Err(wrong) => problems.extend(wrong),
            }
        }
        let is_flag = |id: &str| flags.value_source(id) == Some(ValueSource::CommandLine);
        for setting in settings.iter().filter(|setting| !is_flag(setting.id())) {
            if let Some((flag, values)) = renamed::given(setting.id(), flags) {
                let given = (values, Source::Flag(flag));
                layers.values.insert(setting.id().to_owned(), given);
                continue;
            }
            problems.extend(layers.add_variable(setting, environment));
            problems.extend(layers.add_fallback(setting, environment));
        }
        layers.warnings = misspelt(&settings, environment);
        if problems.is_empty() {
            Ok(layers)
        } else {
            Err(problems)
        }
    }

    /// Adds what a file says.
    pub fn add_file(&mut self, path: &Path, given: Vec<Given>) {
        for Given { id, values, line } in given {
            let source = Source::File(path.to_owned(), line);
            self.values.insert(id, (values, source));
        }
    }

    fn add_variable(&mut self, setting: &Setting, environment: &Environment) -> Option<String> {
        let named = |id: &str| {
            let variable = settings::variable(id);
            let value = environment.get(&variable)?;
            Some((variable, value))
        };
        let new = named(setting.id());
        let old = renamed::old_id(setting.id()).and_then(named);
        if let (Some((new, _)), Some((old, _))) = (&new, &old) {
            return Some(renamed::both(new, old));
        }
        let (variable, value) = new.or(old)?;
        if let Some(why) = settings::refusal(&setting.arg, value) {
            return Some(format!("{variable}={}: {why}", shown(value)));
        }
        let given = (vec![value.to_owned()], Source::Environment(variable));
        self.values.insert(setting.id().to_owned(), given);
        None
    }

    fn add_fallback(&mut self, setting: &Setting, environment: &Environment) -> Option<String> {
        let (id, variable, value_of) = *FALLBACKS.iter().find(|(id, ..)| *id == setting.id())?;
        let value = environment.get(variable)?;
        if self.values.contains_key(id) {
            return None;
        }
        if variable == "PORT"
            && value
                .to_str()
                .is_none_or(|port| port.parse::<u16>().is_err())
        {
            return Some(format!(
                "PORT={} (for --http): allowed: a port, 0 to 65535 (3000); with an address before it: --http",
                shown(value)
            ));
        }
        let derived = OsString::from(value_of(&value.to_string_lossy()));
        if let Some(why) = settings::refusal(&setting.arg, &derived) {
            let flag = setting.flag();
            return Some(format!("{variable}={} (for {flag}): {why}", shown(value)));
        }
        let given = (vec![derived], Source::Fallback(variable));
        self.values.insert(id.to_owned(), given);
        None
    }

    /// Makes the values defaults of the flags.
    pub fn install(&self, mut command: Command) -> Command {
        for (id, (values, _)) in &self.values {
            let values = values.clone();
            command = command.mut_arg(id, |arg| arg.default_values(values));
        }
        command
    }

    /// Where the value of a flag comes from, after all have been read.
    pub fn source(&self, setting: &Setting, matches: &ArgMatches) -> Source {
        let id = setting.id();
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            return Source::Flag(setting.flag());
        }
        let known = self.values.get(id).map(|(_, source)| source.clone());
        known.unwrap_or_default()
    }
}

/// Others may have variables of this prefix (Kubernetes makes some from a service's name), so that
/// only what is nearly a setting's is worth a word.
fn misspelt(settings: &[Setting], environment: &Environment) -> Vec<String> {
    let named = |setting: &Setting| {
        let old = renamed::old_id(setting.id());
        old.into_iter()
            .chain([setting.id()])
            .map(settings::variable)
            .collect::<Vec<_>>()
    };
    let mut known: Vec<String> = settings.iter().flat_map(named).collect();
    known.push(CONFIG_VARIABLE.to_owned());
    let unknown = environment.0.keys().filter(|name| name.starts_with(PREFIX));
    let unknown = unknown.filter(|name| !known.contains(name));
    let near = unknown.filter(|name| {
        let distance = |known: &String| strsim::damerau_levenshtein(name, known);
        let least = known.iter().map(distance).min();
        least.is_some_and(|least| least * MISSPELT_CHARS <= name.len())
    });
    near.map(|name| {
        format!(
            "{name} is no variable of a setting{}",
            did_you_mean(name, &known)
        )
    })
    .collect()
}

/// A value in a message.
pub fn shown(value: &OsStr) -> String {
    value.to_string_lossy().escape_debug().to_string()
}
