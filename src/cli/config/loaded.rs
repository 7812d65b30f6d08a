//! What is in force and where it comes from; read again, what would change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::ArgMatches;
use serde::Serialize;

use super::layers::{Environment, Layers, Source, CONFIG_VARIABLE};
use super::listening::Listening;
use super::settings::{self, Setting, HTTP_ANALYZER, INPUT, WANTED_WEIGHT};
use super::{read, Refusal};
use crate::cli::{distributor, Program};
use crate::config::Config;
use crate::config::{HttpAnalyzer, Input, OwnTls, WantedWeight, WeightIs};
use crate::protocol::WeightText;

/// Settings that a distributor can take over without a restart.
const LIVE: [&str; 34] = [
    "admin_token_file",
    "allow_analyzers",
    "allow_emitters",
    "allow_http",
    "analyzer_token_file",
    "analyzers_tls_clients",
    "analyzers_tls_names",
    "cors",
    "emitters_tls_clients",
    "emitters_tls_names",
    "farewell_spread",
    "http_analyzer",
    "http_hosts",
    "http_idle_timeout",
    "http_request_timeout",
    "http_timeout",
    "http_tls_clients",
    "http_tls_names",
    "log_level",
    "max_connection_age",
    "proxy_header",
    "rate_limit",
    "slow_start",
    "tls_cert",
    "tls_client_ca",
    "tls_clients",
    "tls_key",
    "tls_key_log",
    "tls_min",
    "tls_names",
    "tls_revoked",
    "tls_ticket_keys",
    "trusted_proxies",
    "wanted_weight",
];
/// Shown for a setting without a value.
const NOT_SET: &str = "not set";

/// Whether a setting can change without a restart.
pub(super) fn is_live(id: &str) -> bool {
    LIVE.contains(&id)
}

/// A setting's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// As it was written; several of a list, none when it is not set.
    pub texts: Vec<String>,
    /// Where it comes from.
    pub source: Source,
}

/// Where the values of the flags come from, and how to read them again.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    line: Vec<OsString>,
    environment: Environment,
    values: BTreeMap<String, Value>,
    warnings: Vec<String>,
}

impl Origins {
    pub(super) fn new(
        line: Vec<OsString>,
        environment: Environment,
        layers: &Layers,
        matches: &ArgMatches,
    ) -> Origins {
        let value = |setting: &Setting| {
            let raw = matches.get_raw(setting.id()).into_iter().flatten();
            let texts = raw
                .map(|text| text.to_string_lossy().into_owned())
                .collect();
            let source = layers.source(setting, matches);
            (setting.id().to_owned(), Value { texts, source })
        };
        let values = settings::all().iter().map(value).collect();
        let warnings = layers.warnings.clone();
        Origins {
            line,
            environment,
            values,
            warnings,
        }
    }

    /// The file that a variable names.
    pub fn file_of_environment(&self) -> Option<PathBuf> {
        self.environment.get(CONFIG_VARIABLE).map(PathBuf::from)
    }

    /// The value of a flag, by clap's name of it.
    pub fn value(&self, id: &str) -> Value {
        self.values.get(id).cloned().unwrap_or_default()
    }

    /// A message, and after it where the flags that it names were given, unless by themselves.
    pub(super) fn locate(&self, message: &str) -> String {
        let mut located = message.to_owned();
        for setting in settings::all() {
            let flag = setting.flag();
            let mut words = message.split(|c: char| !c.is_alphanumeric() && c != '-');
            let source = self.value(setting.id()).source;
            let is_elsewhere = !matches!(source, Source::Default | Source::Flag(_));
            if is_elsewhere && words.any(|word| word == flag) {
                located.push_str(&format!(" ({flag}: {source})"));
            }
        }
        located
    }
}

/// A whole configuration that was found to be valid.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The flags, each with the value that is in force.
    pub args: distributor::Args,
    /// What the distributor is told.
    pub config: Config,
    /// Sockets that were passed.
    listening: Listening,
}

impl Loaded {
    /// Checks what can be checked before anything is bound, and reads the token files.
    ///
    /// # Errors
    /// Each names the flag, where it was given, the value and what is allowed.
    pub fn new(args: distributor::Args) -> Result<Loaded, Vec<String>> {
        Loaded::after(None, args)
    }

    /// The same; `before`: what is in force.
    fn after(before: Option<&Config>, args: distributor::Args) -> Result<Loaded, Vec<String>> {
        let located = |why: String| vec![args.origins.locate(&why)];
        let config = args.config_after(before).map_err(located)?;
        config.check().map_err(located)?;
        if config.watch_config && args.file().is_none() {
            let why =
                "--watch-config: there is no file to watch; allowed: with --config or WEIR_CONFIG";
            return Err(located(why.into()));
        }
        let listening = Listening::default();
        Ok(Loaded {
            args,
            config,
            listening,
        })
    }

    /// The same with the sockets that were passed: their addresses are those of the configuration.
    ///
    /// # Errors
    /// An address was configured, and it is another.
    pub fn on(mut self, listening: Listening) -> Result<Loaded, String> {
        let put = listening.put_into(&mut self.config, &self.args.origins);
        put.map_err(|why| self.args.origins.locate(&why))?;
        self.listening = listening;
        Ok(self)
    }

    /// What an operator may not have meant, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.args.origins.warnings.clone();
        warnings.extend(self.config.warnings());
        warnings
    }

    /// Files that a reload reads: the configuration, and the tokens that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let protection = &self.config.protection;
        let tokens = [
            &protection.analyzer_token_file,
            &protection.admin_token_file,
        ];
        let tokens = tokens.into_iter().flatten().cloned();
        let certificates = self.config.tls_paths();
        let file = self.args.file().into_iter();
        file.chain(tokens).chain(certificates).collect()
    }

    /// Reads the same file again, with the same environment and flags.
    ///
    /// # Errors
    /// Everything that is wrong; what is in force stays as it is.
    pub fn reload(&self) -> Result<Loaded, Vec<String>> {
        let origins = &self.args.origins;
        let cli = read(origins.line.clone(), origins.environment.clone());
        let cli = cli.map_err(|refusal| match refusal {
            Refusal::Line(error) => vec![error.to_string()],
            Refusal::Values(problems) => problems,
        })?;
        let Program::Distributor(args) = cli.program else {
            return Err(vec!["this is no distributor".into()]);
        };
        let loaded = Loaded::after(Some(&self.config), *args)?.on(self.listening.clone());
        let mut loaded = loaded.map_err(|why| vec![why])?;
        // The run goes on.
        loaded.config.instance = self.config.instance;
        Ok(loaded)
    }
}

/// One setting that two configurations have different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Table and name: `memory.arena`; `http_analyzers.a1` for an analyzer.
    pub key: String,
    /// Its value now.
    pub old: String,
    /// Its value to be.
    pub new: String,
    /// Can change without a restart.
    pub live: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            key,
            old,
            new,
            live,
        } = self;
        let restart = if *live { "" } else { ", needs a restart" };
        write!(f, "{key}: {old} -> {new}{restart}")
    }
}

/// What would change from one configuration to another, in the order of the settings. Values that mean
/// the same (64MiB, 65536KiB) are the same.
pub fn diff(old: &Loaded, new: &Loaded) -> Vec<Difference> {
    let mut differences = Vec::new();
    for setting in settings::all() {
        match setting.id() {
            HTTP_ANALYZER => {
                let (old, new) = (&old.config.http.analyzers, &new.config.http.analyzers);
                differences.extend(analyzers(old, new));
                continue;
            }
            INPUT => {
                differences.extend(inputs(&old.config.inputs, &new.config.inputs));
                continue;
            }
            WANTED_WEIGHT => {
                differences.extend(weights(&old.config.weights, &new.config.weights));
                continue;
            }
            _ => {}
        }
        let (was, will_be) = (shown(&setting, old), shown(&setting, new));
        if was != will_be {
            differences.push(Difference {
                key: setting.name(),
                old: was,
                new: will_be,
                live: is_live(setting.id()),
            });
        } else if token_changed(setting.id(), &old.config, &new.config) {
            differences.push(Difference {
                key: setting.name(),
                new: format!("{will_be}, with another token"),
                old: was,
                live: true,
            });
        }
    }
    differences
}

fn shown(setting: &Setting, loaded: &Loaded) -> String {
    let protection = &loaded.config.protection;
    let networks = match setting.id() {
        "allow_emitters" => Some(&protection.allow_emitters),
        "allow_analyzers" => Some(&protection.allow_analyzers),
        "allow_http" => Some(&protection.allow_http),
        "trusted_proxies" if !protection.trusted_proxies.is_empty() => {
            Some(&protection.trusted_proxies)
        }
        _ => None,
    };
    if let Some(networks) = networks {
        return match networks.is_empty() {
            true => "all".into(),
            false => networks.to_string(),
        };
    }
    let texts = loaded.args.origins.value(setting.id()).texts;
    if texts.is_empty() {
        return NOT_SET.into();
    }
    let canonical: Vec<String> = texts.iter().map(|text| setting.canonical(text)).collect();
    canonical.join(",")
}

fn token_changed(id: &str, old: &Config, new: &Config) -> bool {
    let (old, new) = (&old.protection, &new.protection);
    match id {
        "analyzer_token_file" => old.analyzer_token != new.analyzer_token,
        "admin_token_file" => old.admin_token != new.admin_token,
        _ => false,
    }
}

/// Those that go, then those that come or change, in their order.
fn analyzers(old: &[HttpAnalyzer], new: &[HttpAnalyzer]) -> Vec<Difference> {
    let of = |list: &[HttpAnalyzer], id: &str| {
        let found = list.iter().find(|analyzer| analyzer.id() == id);
        found.map_or("absent".into(), |analyzer| {
            let weight = WeightText(analyzer.weight());
            let of = analyzer.members().map(|it| it.weight_is);
            let of = of.map_or("", |of| {
                if of == WeightIs::Group {
                    " of all"
                } else {
                    " each"
                }
            });
            format!("weight {weight}{of} at {}", analyzer.place_text())
        })
    };
    let is_gone = |analyzer: &&HttpAnalyzer| !new.iter().any(|other| other.id() == analyzer.id());
    let ids = old.iter().filter(is_gone).chain(new).map(HttpAnalyzer::id);
    let difference = |id: &str| Difference {
        key: format!("{}.{}", settings::HTTP_ANALYZERS, id),
        old: of(old, id),
        new: of(new, id),
        live: is_live(HTTP_ANALYZER),
    };
    ids.map(difference)
        .filter(|difference| difference.old != difference.new)
        .collect()
}

/// Likewise of inputs, by their names.
fn inputs(old: &[Input], new: &[Input]) -> Vec<Difference> {
    let of = |list: &[Input], name: &str| {
        let found = list.iter().find(|input| input.name() == name);
        found.map_or("absent".into(), Input::to_string)
    };
    let is_gone = |input: &&Input| !new.iter().any(|other| other.name() == input.name());
    let names = old.iter().filter(is_gone).chain(new).map(Input::name);
    let difference = |name: String| Difference {
        old: of(old, &name),
        new: of(new, &name),
        live: is_live(INPUT) || is_tls_alone(old, new, &name),
        key: format!("{}.{name}", settings::INPUTS),
    };
    names
        .map(difference)
        .filter(|difference| difference.old != difference.new)
        .collect()
}

/// An input differs in its certificates and in who shows one, and in nothing else: new connections get that.
fn is_tls_alone(old: &[Input], new: &[Input], name: &str) -> bool {
    let bare = |list: &[Input]| {
        let mut input = { list.iter() }.find(|input| input.name() == name)?.clone();
        input.own_tls = OwnTls::default();
        Some(input)
    };
    bare(old).is_some_and(|old| bare(new) == Some(old))
}

/// Likewise of wanted weights, in the order of their ids.
fn weights(old: &[WantedWeight], new: &[WantedWeight]) -> Vec<Difference> {
    let table = |list: &[WantedWeight]| -> BTreeMap<String, String> {
        let shown = |one: &WantedWeight| {
            let pinned = if one.pin() { ", pinned" } else { "" };
            let text = format!("weight {}{pinned}", WeightText(one.weight()));
            (one.id().to_owned(), text)
        };
        list.iter().map(shown).collect()
    };
    let (old, new) = (table(old), table(new));
    let ids: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let of = |table: &BTreeMap<String, String>, id: &String| {
        let text = table.get(id);
        text.cloned().unwrap_or_else(|| "absent".into())
    };
    let difference = |id: &String| Difference {
        key: format!("{}.{id}", settings::WEIGHTS),
        old: of(&old, id),
        new: of(&new, id),
        live: is_live(WANTED_WEIGHT),
    };
    ids.into_iter()
        .map(difference)
        .filter(|difference| difference.old != difference.new)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_change_are_shown_without_hundreds_of_digits() {
        let analyzer = |weight| {
            let endpoint: crate::config::Endpoint =
                "http://127.0.0.1:3001".parse().expect("an endpoint");
            HttpAnalyzer::new("a", endpoint, weight).expect("valid")
        };
        let changed = analyzers(&[analyzer(1e308)], &[analyzer(1e-308)]);
        let texts = [&changed[0].old, &changed[0].new];
        assert_eq!(
            texts,
            [
                "weight 1e308 at http://127.0.0.1:3001",
                "weight 1e-308 at http://127.0.0.1:3001"
            ]
        );
    }
}
