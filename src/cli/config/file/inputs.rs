//! `[[inputs]]`: more places where emitters connect.
//!
//! ```text
//!   [[inputs]]
//!   protocol = "syslog"         or a list, or "any"
//!   listen = "0.0.0.0:514"
//!   allow = ["10.0.0.0/8"]      and the other options of an input (config/input_options.rs)
//! ```

use std::ffi::OsString;

use toml::de::{DeTable, DeValue};

use super::super::settings::{Kind, INPUT, INPUTS};
use super::{did_you_mean, text, Given, Reader, Value};
use crate::config::{values, Input, InputOption, OptionKind, Speaks, INPUTS_MAX, INPUT_OPTIONS};

/// The keys that are no options.
const PROTOCOL: &str = "protocol";
const LISTEN: &str = "listen";

impl Reader<'_> {
    /// All of them: one value of the flag for each.
    pub(super) fn inputs(&mut self, value: Value<'_, '_>) {
        let DeValue::Array(tables) = value.get_ref() else {
            return;
        };
        if tables.len() > INPUTS_MAX {
            let count = tables.len();
            let many = format!("{INPUTS}: {count} of them, at most {INPUTS_MAX} allowed");
            return self.refuse(&value.span(), many);
        }
        let mut names: Vec<(String, usize)> = Vec::new();
        let mut values = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let at = format!("{INPUTS}[{index}]");
            let Some(input) = self.input(&at, table) else {
                continue;
            };
            let name = input.name();
            if let Some((_, other)) = names.iter().find(|(known, _)| *known == name) {
                let why = format!(
                    "{at}: it is called {name}, as {INPUTS}[{other}] is; allowed: a name of its own"
                );
                self.refuse(&table.span(), why);
            }
            names.push((name, index));
            values.push(OsString::from(input.to_string()));
        }
        if let Some(first) = tables.iter().next() {
            let line = self.line(&first.span());
            self.given.push(Given {
                id: INPUT.to_owned(),
                values,
                line,
            });
        }
    }

    fn input(&mut self, at: &str, table: Value<'_, '_>) -> Option<Input> {
        let DeValue::Table(keys) = table.get_ref() else {
            let why = "allowed: a table with protocol and listen";
            self.refuse_value(at, &table.span(), why);
            return None;
        };
        let before = self.problems.len();
        self.unknown_keys(at, keys);
        let of = |key: &str| {
            let mut all = keys.iter();
            all.find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
        };
        for key in [PROTOCOL, LISTEN] {
            if of(key).is_none() {
                self.refuse(&table.span(), format!("{at}.{key} is missing"));
            }
        }
        let speaks = of(PROTOCOL).and_then(|value| self.speaks(at, value));
        let listen = of(LISTEN).and_then(|value| {
            let name = format!("{at}.{LISTEN}");
            let address = values::address(&self.text(&name, value)?);
            let refused = |why: String| self.refuse_value(&name, &value.span(), &why);
            address.map_err(refused).ok()
        });
        let mut input = Input::new(speaks?, listen?);
        for option in INPUT_OPTIONS {
            if let Some(value) = of(option.key) {
                self.option(at, &mut input, option, value);
            }
        }
        if self.problems.len() == before {
            if let Err(why) = input.check() {
                self.refuse(&table.span(), format!("{at}: {why}"));
            }
        }
        (self.problems.len() == before).then_some(input)
    }

    fn unknown_keys(&mut self, at: &str, keys: &DeTable<'_>) {
        let options = INPUT_OPTIONS.iter().map(|option| option.key);
        let known: Vec<String> = [PROTOCOL, LISTEN]
            .into_iter()
            .chain(options)
            .map(str::to_owned)
            .collect();
        for key in keys
            .keys()
            .filter(|key| !known.iter().any(|one| one == key.get_ref()))
        {
            let near = did_you_mean(key.get_ref(), &known);
            let name = key.get_ref().escape_debug();
            let has = known.join(", ");
            self.refuse(
                &key.span(),
                format!("{at}.{name}: no such key{near}; it has {has}"),
            );
        }
    }

    /// One protocol, a list of them, or any.
    fn speaks(&mut self, at: &str, value: Value<'_, '_>) -> Option<Speaks> {
        let name = format!("{at}.{PROTOCOL}");
        let words = self.words(&name, value)?;
        let parsed = words.parse();
        parsed
            .map_err(|why: String| self.refuse_value(&name, &value.span(), &why))
            .ok()
    }

    /// Texts of a list, or one text, with commas between them.
    fn words(&mut self, name: &str, value: Value<'_, '_>) -> Option<String> {
        let DeValue::Array(list) = value.get_ref() else {
            return self.text(name, value);
        };
        let mut words = Vec::new();
        for one in list.iter() {
            words.push(self.text(name, one)?);
        }
        Some(words.join(","))
    }

    fn option(&mut self, at: &str, input: &mut Input, option: &InputOption, value: Value<'_, '_>) {
        let name = format!("{at}.{}", option.key);
        let Some(text) = self.text_of(&name, option, value) else {
            return;
        };
        if let Err(why) = input.set(option.key, &text) {
            self.refuse_value(&name, &value.span(), &why);
        }
    }

    fn text_of(
        &mut self,
        name: &str,
        option: &InputOption,
        value: Value<'_, '_>,
    ) -> Option<String> {
        let (kind, allowed) = match option.kind {
            OptionKind::Networks | OptionKind::Texts => return self.words(name, value),
            OptionKind::Text | OptionKind::Word(_) => (Kind::Text, "allowed: text in quotes"),
            OptionKind::Path => (Kind::Path, "allowed: text in quotes"),
            OptionKind::Bytes => (
                Kind::Bytes,
                "allowed: a whole number of bytes, or text with B, KiB, MiB or GiB (\"16MiB\")",
            ),
            OptionKind::Time => (
                Kind::Time,
                "allowed: text with a number and a unit, ns us ms s m or h (\"30s\")",
            ),
            OptionKind::Whole => (Kind::Whole, "allowed: a whole number without quotes"),
            OptionKind::Boolean => (Kind::Boolean, "allowed: true or false, without quotes"),
        };
        let Some(text) = text(kind, value.get_ref()) else {
            self.refuse_value(name, &value.span(), allowed);
            return None;
        };
        let resolved = self.resolved(kind, text);
        let Some(text) = resolved.to_str().map(str::to_owned) else {
            self.refuse_value(name, &value.span(), "allowed: a path in UTF-8");
            return None;
        };
        Some(text)
    }
}
