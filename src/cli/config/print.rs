//! `weir.toml` written by the program: with all defaults commented out, or with what is in force.

use super::layers::Source;
use super::loaded::{is_live, Loaded, Origins};
use super::settings::{
    self, Kind, Setting, HTTP_ANALYZER, HTTP_ANALYZERS, INPUT, INPUTS, WANTED_WEIGHT, WEIGHTS,
};
use crate::config::{Input, InputOption, OptionKind, Speaks, INPUT_OPTIONS};

/// Columns of a comment, its sign included.
const COLUMNS: usize = 90;

const PREAMBLE: &str = "\
# Settings of `weir distributor --config FILE`. `weir check FILE` checks it without starting anything,
# `weir config --effective --config FILE` prints what is in force and where each value comes from.
#
# Each key is a flag's name with underscores, and can also be given as environment variable WEIR_<KEY>.
# A flag goes before the environment, the environment before this file, this file before the default.
# What is commented out below is the default. SIGHUP reads the file again; what is marked [live] changes
# then, the rest needs a restart.
#
# [bytes]  a number, or text with B, KiB, MiB or GiB     [time]  text with ns, us, ms, s, m or h
# [file]   a path, relative to this file; credential:NAME for secrets (CONFIGURATION.md)
";

const INPUT_HEAD: &str = "\
# More places where emitters connect, for what others speak, one table for each (docs/INPUTS.md).
# protocol is one, a list (told apart by first bytes), or \"any\".
#[[inputs]]
#protocol = \"frames\"
#listen = \"127.0.0.1:8090\"
";

const ARRAYS: &str = "\
# Wanted weights, one table for each analyzer, also for those that are not there yet
# [live]. They count in place of the weight that an analyzer comes with; with pin = true
# also against what it says later.
#[[weights]]
#id = \"a1\"
#weight = 0.4
#pin = false

# HTTP analyzers, one table for each [live]. Weights are relative to those of all analyzers.
#[[http_analyzers]]
#id = \"a1\"
#endpoint = \"http://10.0.0.1:4001\"
#weight = 0.4
#
# A group has discover in place of endpoint: each address of a name is an analyzer (dns+), or each
# target of an SRV record (dnssrv+http://_logs._tcp.example.net). The weight is each member's, or
# (weight_is = \"group\") that of all together, divided among those that are up.
# discover = \"dns+http://analyzers.example.net:4001\"
# weight_is = \"member\"
";

/// A whole file with every setting explained; as it is, it changes nothing.
pub fn default_file() -> String {
    let mut out = PREAMBLE.to_owned();
    let mut table = String::new();
    for setting in settings::all() {
        if setting.is_array() {
            continue;
        }
        if setting.table != table {
            table.clone_from(&setting.table);
            out.push_str(&format!("\n[{table}]\n"));
        }
        out.push('\n');
        out.push_str(&comment(&setting));
        let Setting { key, .. } = &setting;
        let line = match setting.default() {
            Some(default) => format!("#{key} = {}\n", toml(&setting, &default)),
            None if setting.is_list() => format!("#{key} = []\n"),
            None => format!(
                "# not set: {key} = {}\n",
                toml(&setting, &setting.value_name())
            ),
        };
        out.push_str(&line);
    }
    out.push('\n');
    out.push_str(INPUT_HEAD);
    for InputOption {
        key,
        help,
        default,
        only,
        ..
    } in INPUT_OPTIONS
    {
        let of = match only.is_empty() {
            true => String::new(),
            false => format!(" (of {})", only.join(", ")),
        };
        out.push_str(&wrapped(&format!("{key}: {help}{of}; default: {default}")));
    }
    out.push('\n');
    out.push_str(ARRAYS);
    out
}

/// An input as the file has it.
fn input_in_file(input: &Input) -> String {
    let protocol = match &input.speaks {
        Speaks::Any => quoted("any"),
        Speaks::Only(all) => {
            let words: Vec<String> = all.iter().map(|one| quoted(one.as_str())).collect();
            format!("[{}]", words.join(", "))
        }
    };
    let listen = quoted(&input.listen.to_string());
    let mut text = format!("protocol = {protocol}\nlisten = {listen}\n");
    for (option, value) in input.options() {
        let value = match option.kind {
            OptionKind::Whole | OptionKind::Boolean => value,
            OptionKind::Networks | OptionKind::Texts => {
                let all: Vec<String> = value.split(',').map(quoted).collect();
                format!("[{}]", all.join(", "))
            }
            _ => quoted(&value),
        };
        text.push_str(&format!("{} = {value}\n", option.key));
    }
    text
}

/// Help, what is allowed, and whether it is live.
fn comment(setting: &Setting) -> String {
    let mut text = setting.help();
    let words = setting.words();
    if !words.is_empty() {
        text.push_str(&format!(" ({})", words.join(", ")));
    } else if let Some(allowed) = unit(setting.kind) {
        text.push_str(&format!(" [{allowed}]"));
    }
    if is_live(setting.id()) {
        text.push_str(" [live]");
    }
    wrapped(&text)
}

/// As the preamble explains them.
fn unit(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Bytes => Some("bytes"),
        Kind::Time => Some("time"),
        Kind::Path | Kind::MaybePath => Some("file"),
        Kind::Whole | Kind::Boolean | Kind::Networks | Kind::Text => None,
    }
}

fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS && line.len() > 1 {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
    out
}

/// A value as the file has it.
pub(super) fn toml(setting: &Setting, text: &str) -> String {
    match setting.kind {
        Kind::Whole | Kind::Boolean => text.to_owned(),
        _ => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// What is in force, as a file; each line says where its value comes from.
pub fn effective(loaded: &Loaded) -> String {
    let origins = &loaded.args.origins;
    let mut out = String::new();
    let mut table = String::new();
    for setting in settings::all() {
        if setting.is_array() {
            continue;
        }
        if setting.table != table {
            let space = if table.is_empty() { "" } else { "\n" };
            table.clone_from(&setting.table);
            out.push_str(&format!("{space}[{table}]\n"));
        }
        out.push_str(&in_force(&setting, origins));
    }
    let source = origins.value(INPUT).source;
    for input in &loaded.config.inputs {
        out.push_str(&format!(
            "\n[[{INPUTS}]] # {source}\n{}",
            input_in_file(input)
        ));
    }
    let source = origins.value(WANTED_WEIGHT).source;
    for wanted in &loaded.config.weights {
        out.push_str(&format!(
            "\n[[{WEIGHTS}]] # {source}\nid = {}\nweight = {:?}\npin = {}\n",
            quoted(wanted.id()),
            wanted.weight(),
            wanted.pin(),
        ));
    }
    let source = origins.value(HTTP_ANALYZER).source;
    for analyzer in &loaded.config.http.analyzers {
        let place = match analyzer.members() {
            None => format!("endpoint = {}", quoted(&analyzer.place_text())),
            Some(members) => format!(
                "discover = {}\nweight_is = {}",
                quoted(&analyzer.place_text()),
                quoted(members.weight_is.as_str())
            ),
        };
        out.push_str(&format!(
            "\n[[{HTTP_ANALYZERS}]] # {source}\nid = {}\n{place}\nweight = {:?}\n",
            quoted(analyzer.id()),
            analyzer.weight(),
        ));
    }
    out
}

fn in_force(setting: &Setting, origins: &Origins) -> String {
    let value = origins.value(setting.id());
    let key = &setting.key;
    let source = match &value.source {
        Source::Default if value.texts.is_empty() => return format!("# {key} is not set\n"),
        source => source,
    };
    let shown: Vec<String> = value.texts.iter().map(|text| toml(setting, text)).collect();
    let shown = match setting.is_list() {
        true => format!("[{}]", shown.join(", ")),
        false => shown.join(" "),
    };
    format!("{key} = {shown} # {source}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::{file, try_text};
    use std::path::Path;

    /// The file with the defaults no longer commented out.
    fn uncommented() -> String {
        let is_key = |line: &str| line.starts_with('#') && line.contains(" = ");
        let lines = default_file();
        let lines = lines.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if is_key(line) && !rest.starts_with(' ') => rest.to_owned(),
            Some(rest) if rest.starts_with("[[") => rest.to_owned(),
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_default_file_says_nothing_and_its_defaults_are_the_programs() {
        let path = Path::new("weir.toml");
        assert_eq!(file::parse(path, &default_file()), Ok(Vec::new()));
        let given = file::parse(path, &uncommented()).expect("valid");
        for setting in settings::all() {
            let of_file = given.iter().find(|given| given.id == setting.id());
            let values = of_file
                .map(|given| given.values.clone())
                .unwrap_or_default();
            let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
            let expected: Vec<String> = match setting.id() {
                HTTP_ANALYZER => vec!["a1=0.4@http://10.0.0.1:4001".into()],
                WANTED_WEIGHT => vec!["a1=0.4".into()],
                INPUT => vec!["frames@127.0.0.1:8090".into()],
                _ => setting.default().into_iter().collect(),
            };
            assert_eq!(values, expected, "{}", setting.name());
        }
    }

    #[test]
    fn every_setting_is_in_the_default_file_once() {
        let file = default_file();
        for setting in settings::all().iter().filter(|s| !s.is_array()) {
            let line = format!("{} = ", setting.key);
            let is_it = |text: &&str| {
                text.trim_start_matches(['#', ' '])
                    .trim_start_matches("not set: ")
                    .starts_with(&line)
            };
            assert_eq!(file.lines().filter(is_it).count(), 1, "{line}");
        }
        assert!(
            file.lines().all(|line| line.len() <= 105),
            "lines are short"
        );
        assert!(try_text("[memory]\narena = \"64MiB\"").is_ok());
    }
}
