//! One definition of a setting is enough: whatever has a flag is everywhere.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::layers::{Environment, Source};
use super::print::{default_file, toml};
use super::schema::schema;
use super::settings::{
    self, Kind, Setting, HTTP_ANALYZER, HTTP_ANALYZERS, INPUT, INPUTS, WANTED_WEIGHT, WEIGHTS,
};
use super::{read, try_text};
use crate::cli::distributor::Args;
use crate::cli::{values, Program};
use crate::config::{
    DELIVERY_OPTIONS, INPUT_OPTIONS, LOCAL_OPTIONS, REQUESTS, REQUEST_OPTIONS, SCHEMES, TLS_OPTIONS,
};
use crate::engine::Protocol;
use weir_sink::Links;

/// How it ends and what it says, not what it does with messages: not in run reports, whose digests would change.
const NOT_REPORTED: [&str; 3] = ["report", "drain_timeout", "log_level"];

/// A value that is not the default.
fn another(setting: &Setting, token_file: &Path) -> String {
    let default = setting.default();
    let text = default.clone().unwrap_or_default();
    let words = setting.words();
    if let Some(word) = words
        .into_iter()
        .find(|word| Some(word) != default.as_ref())
    {
        return word;
    }
    match setting.kind {
        Kind::Bytes => values::show_bytes(2 * values::bytes(&text).expect("a default")),
        Kind::Time => match values::duration(&text).expect("a default") {
            // Never, or a second at least.
            _ if ["ack_presume", "max_connection_age"].contains(&setting.id()) => "1s".into(),
            time if time.is_zero() => "1ms".into(),
            time => values::show_duration(2 * time),
        },
        Kind::Whole => text
            .parse()
            .map_or(1000, |number: u64| number + 1)
            .to_string(),
        Kind::Boolean => (text != "true").to_string(),
        Kind::Path => token_file.display().to_string(),
        Kind::MaybePath => "./some/path".into(),
        Kind::Networks => "10.0.0.0/8".into(),
        Kind::Text => match setting.value_name().as_str() {
            "ADDR" => "127.0.0.1:1",
            "LIST" => "0",
            "N/TIME" => "5/1s",
            "ORIGINS" | "NAMES" => "*",
            "PROTOCOL@ADDR" => "frames@127.0.0.1:9?name=x",
            "ID=WEIGHT[,pin]" => "a=1,pin",
            "ID=WEIGHT@URL" => "a=1@http://10.0.0.1:4001",
            other => panic!("{other}: no value to try"),
        }
        .into(),
    }
}

/// The setting in a file.
fn in_file(setting: &Setting, text: &str) -> String {
    let value = toml(setting, text);
    match setting.id() {
        HTTP_ANALYZER => format!(
            "[[{HTTP_ANALYZERS}]]\nid = \"a\"\nweight = 1\nendpoint = \"http://10.0.0.1:4001\""
        ),
        INPUT => {
            format!("[[{INPUTS}]]\nname = \"x\"\nprotocol = \"frames\"\nlisten = \"127.0.0.1:9\"")
        }
        WANTED_WEIGHT => format!("[[{WEIGHTS}]]\nid = \"a\"\nweight = 1\npin = true"),
        _ if setting.is_list() => format!("[{}]\n{} = [{value}]", setting.table, setting.key),
        _ => format!("[{}]\n{} = {value}", setting.table, setting.key),
    }
}

/// Names in the run report whose values are others than in one of the defaults.
fn changed(args: &Args) -> Vec<String> {
    let texts = |args: &Args| args.config().expect("taken").texts();
    let before = texts(&try_text("").expect("nothing is valid"));
    let after = texts(args);
    assert!(before.keys().eq(after.keys()));
    let others = after
        .into_iter()
        .filter(|(name, text)| before[name] != *text);
    others.map(|(name, _)| name).collect()
}

#[test]
fn what_has_a_flag_has_a_key_a_variable_a_schema_a_default_and_a_line_in_run_reports() {
    let token_file = std::env::temp_dir().join(format!("weir-any-{}", std::process::id()));
    std::fs::write(&token_file, "0123456789abcdef").expect("written");
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token_file, own).expect("its owner's alone");
    let (schema, default_file) = (schema(), default_file());
    let mut reported: Vec<String> = Vec::new();
    for setting in settings::all() {
        let (id, name) = (setting.id(), setting.name());
        let text = another(&setting, &token_file);

        let of_file = try_text(&in_file(&setting, &text)).unwrap_or_else(|why| panic!("{why:?}"));
        let variable = settings::variable(id);
        let environment = Environment::of(&[(&variable, &text)]);
        let line = ["weir", "distributor"].map(Into::into).to_vec();
        let of_variable = read(line, environment).unwrap_or_else(|why| panic!("{name}: {why:?}"));
        let Program::Distributor(of_variable) = of_variable.program else {
            panic!("a distributor");
        };
        let value = of_variable.origins.value(id);
        assert_eq!(value.source, Source::Environment(variable), "{name}");

        let tables = &schema["properties"];
        let described = match id {
            HTTP_ANALYZER => &tables[HTTP_ANALYZERS],
            INPUT => &tables[INPUTS],
            WANTED_WEIGHT => &tables[WEIGHTS],
            _ => &tables[&setting.table]["properties"][&setting.key],
        };
        assert_eq!(
            described["description"],
            Value::from(setting.help()),
            "{name}"
        );
        let default = setting.default().map(|text| toml(&setting, &text));
        let key = default.map(|text| format!("\n#{} = {text}\n", setting.key));
        assert!(key.is_none_or(|key| default_file.contains(&key)), "{name}");

        // A machine of one core has no other list of cores.
        let is_only = id == "cores" && changed(&of_file).is_empty();
        for args in [&of_file, &of_variable] {
            let is_reported = !changed(args).is_empty() || is_only;
            assert_eq!(is_reported, !NOT_REPORTED.contains(&id), "{name} = {text}");
        }
        reported.extend(changed(&of_file));
    }
    std::fs::remove_file(&token_file).expect("removed");
    let texts = try_text("")
        .expect("valid")
        .config()
        .expect("valid")
        .texts();
    for name in texts.keys().filter(|name| *name != "cores") {
        assert!(reported.contains(name), "{name}: no flag changes it");
    }
}

#[test]
fn the_document_has_the_defaults_of_the_flags() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let mut rows = 0;
    for setting in settings::all() {
        let start = format!("| `{}` | ", setting.flag());
        let Some(row) = text.lines().find_map(|line| line.strip_prefix(&start)) else {
            continue;
        };
        rows += 1;
        let shown = row.split(" |").next();
        assert!(
            setting.default().is_none_or(|text| shown == Some(&text)),
            "{start}{row}"
        );
    }
    assert!(rows >= 10, "{rows} rows");
}

#[test]
fn the_document_has_the_options_and_schemes_of_outlets() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/OUTLETS.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let is_outlet = |word: &&str| {
        let scheme = SCHEMES.iter().find(|scheme| scheme.word == *word);
        scheme.is_some_and(|scheme| scheme.sink.facts().links == Links::Outlet)
    };
    for option in DELIVERY_OPTIONS.iter().chain(LOCAL_OPTIONS) {
        if !option.only.iter().any(is_outlet) {
            continue;
        }
        let (key, default, help) = (option.key, option.default, option.help);
        let row = format!(
            "| `{key}` | {default} | {} | {help} |",
            option.only.join(", ")
        );
        assert!(text.lines().any(|line| line == row), "{row}");
    }
    for scheme in SCHEMES.iter().filter(|scheme| is_outlet(&scheme.word)) {
        let port = match scheme.port {
            0 => "-".to_owned(),
            port => port.to_string(),
        };
        let start = format!("| `{}` | {port} | ", scheme.word);
        assert!(text.contains(&start), "{start}");
    }
}

#[test]
fn the_document_has_the_options_and_protocols_of_inputs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/INPUTS.md");
    let text = std::fs::read_to_string(path).expect("the document");
    for option in INPUT_OPTIONS {
        let of = match option.only.is_empty() {
            true => "all".to_owned(),
            false => option.only.join(", "),
        };
        let (key, default, help) = (option.key, option.default, option.help);
        let row = format!("| `{key}` | {default} | {of} | {help} |");
        assert!(text.lines().any(|line| line == row), "{row}");
    }
    for protocol in Protocol::ALL {
        let start = format!("| `{}` | ", protocol.as_str());
        assert!(text.contains(&start), "{start}");
    }
}

#[test]
fn the_document_has_the_schemes_and_options_of_requests() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/DELIVERY.md");
    let text = std::fs::read_to_string(path).expect("the document");
    for option in REQUEST_OPTIONS {
        let of = match option.only == REQUESTS {
            true => "all".to_owned(),
            false => option.only.join(", "),
        };
        let (key, default, help) = (option.key, option.default, option.help);
        let row = format!("| `{key}` | {default} | {of} | {help} |");
        assert!(text.lines().any(|line| line == row), "{row}");
    }
    for scheme in SCHEMES.iter().filter(|it| REQUESTS.contains(&it.word)) {
        let row = format!("| `{}://` | ", scheme.word);
        let rows = text.lines().filter(|line| line.starts_with(&row));
        let port = format!(" | {} | ", scheme.port);
        assert!(
            rows.clone().count() == 1 && rows.clone().all(|row| row.contains(&port)),
            "{row}"
        );
    }
}

#[test]
fn the_document_has_the_options_of_tls_towards_analyzers() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/TLS.md");
    let text = std::fs::read_to_string(path).expect("the document");
    for option in TLS_OPTIONS {
        let row = format!(
            "| `{}` | {} | {} |",
            option.key, option.default, option.help
        );
        assert!(text.lines().any(|line| line == row), "{row}");
    }
}
