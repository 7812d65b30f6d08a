//! What a configuration would open that another one keeps closed. A file that is empty for a moment (`cmd > weir.toml`, a
//! full disk, a mount that comes late) must not take walls down that nobody meant to.

use super::layers::Source;
use super::loaded::Loaded;
use super::settings;
use crate::cli::config::diff;

/// Settings whose absence leaves a door open.
const WALLS: [&str; 11] = [
    "allow_emitters",
    "allow_analyzers",
    "allow_http",
    "analyzer_token_file",
    "admin_token_file",
    "rate_limit",
    "tls_client_ca",
    "tls_names",
    "emitters_tls_names",
    "analyzers_tls_names",
    "http_tls_names",
];

/// What `new` opens, one sentence each, with what to write when it is meant. Nothing when it only closes, or
/// changes who is let in.
pub fn opens(old: &Loaded, new: &Loaded) -> Vec<String> {
    let mut opens = Vec::new();
    let (had, has) = (of_file(old), of_file(new));
    if had > 0 && has == 0 {
        opens.push(format!("the file has no setting any more; it had {had}"));
    }
    let is_gone = |id: &str| {
        let [old, new] = [old, new].map(|loaded| {
            let protection = &loaded.config.protection;
            match id {
                "allow_emitters" => !protection.allow_emitters.is_empty(),
                "allow_analyzers" => !protection.allow_analyzers.is_empty(),
                "allow_http" => !protection.allow_http.is_empty(),
                "analyzer_token_file" => protection.analyzer_token.is_some(),
                "admin_token_file" => protection.admin_token.is_some(),
                "tls_client_ca" => loaded.config.tls.tls_client_ca.is_some(),
                "tls_names" => loaded.config.tls.tls_names.is_some(),
                "emitters_tls_names" => loaded.config.tls.emitters_tls_names.is_some(),
                "analyzers_tls_names" => loaded.config.tls.analyzers_tls_names.is_some(),
                "http_tls_names" => loaded.config.tls.http_tls_names.is_some(),
                _ => protection.rate_limit.is_some(),
            }
        });
        old && !new
    };
    let differences = diff(old, new);
    for setting in settings::all() {
        // `rate_limit = "off"` is written by who means it.
        let is_meant = setting.id() == "rate_limit"
            && new.args.origins.value(setting.id()).source != Source::Default;
        if !WALLS.contains(&setting.id()) || !is_gone(setting.id()) || is_meant {
            continue;
        }
        let name = setting.name();
        let change = differences.iter().find(|change| change.key == name);
        let change = change.map_or(name, ToString::to_string);
        let how = match setting.id() {
            id if id.starts_with("allow_") => " (written out: [\"0.0.0.0/0\", \"::/0\"])",
            _ => "",
        };
        opens.push(format!("{change}{how}"));
    }
    let is_open = |name: &str| {
        let mut inputs = new.config.inputs.iter();
        inputs.any(|input| input.name() == name && input.allow.is_empty())
    };
    for input in &old.config.inputs {
        let name = input.name();
        if !input.allow.is_empty() && is_open(&name) {
            opens.push(format!(
                "inputs.{name} has no allow any more (written out: [\"0.0.0.0/0\", \"::/0\"])"
            ));
        }
    }
    for input in &old.config.inputs {
        let name = input.name();
        let next = { new.config.inputs.iter() }.find(|next| next.name() == name);
        for (key, had, has) in [
            (
                "tls_client_ca",
                input.own_tls.client_ca.is_some(),
                next.is_some_and(|next| next.own_tls.client_ca.is_some()),
            ),
            (
                "tls_names",
                input.own_tls.names.is_some(),
                next.is_some_and(|next| next.own_tls.names.is_some()),
            ),
        ] {
            if had && !has && next.is_some() {
                opens.push(format!("inputs.{name} has no {key} any more"));
            }
        }
    }
    let (had, has) = (&old.config.http.analyzers, &new.config.http.analyzers);
    if !had.is_empty() && has.is_empty() {
        let ids: Vec<&str> = had.iter().map(|analyzer| analyzer.id()).collect();
        opens.push(format!(
            "no analyzer over HTTP is left of {}",
            ids.join(", ")
        ));
    }
    opens
}

fn of_file(loaded: &Loaded) -> usize {
    let all = settings::all();
    let of_file = all.iter().filter(|setting| {
        let source = loaded.args.origins.value(setting.id()).source;
        matches!(source, Source::File(..))
    });
    of_file.count()
}
