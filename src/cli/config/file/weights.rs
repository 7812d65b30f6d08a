//! `[[weights]]`: what is wanted of an analyzer, whether it is there or not.
//!
//! ```text
//!   [[weights]]
//!   id = "a1"
//!   weight = 0.4
//!   pin = true        against what the analyzer says itself; false when left out
//! ```

use std::ffi::OsString;
use std::ops::Range;

use toml::de::DeValue;

use super::super::settings::{WANTED_WEIGHT, WEIGHTS};
use super::{did_you_mean, Given, Reader, Value};
use crate::config::WantedWeight;
use crate::engine::WANTED_MAX;

const KEYS: [&str; 3] = ["id", "weight", "pin"];

impl Reader<'_> {
    /// All of them: one value of the flag for each.
    pub(super) fn weights(&mut self, value: Value<'_, '_>) {
        let DeValue::Array(tables) = value.get_ref() else {
            return;
        };
        if tables.len() > WANTED_MAX {
            let many = format!(
                "{WEIGHTS}: {} of them, at most {WANTED_MAX} allowed",
                tables.len()
            );
            return self.refuse(&value.span(), many);
        }
        // Ids with their places, in the order of the ids: there may be thousands.
        let mut ids = std::collections::BTreeMap::new();
        let mut values = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let name = format!("{WEIGHTS}[{index}]");
            let Some((weight, id_at)) = self.wanted_weight(&name, table) else {
                continue;
            };
            if let Some(other) = ids.get(weight.id()) {
                let why = format!("{WEIGHTS}[{other}] has it too, allowed: one weight for an id");
                self.refuse_value(&format!("{name}.id"), &id_at, &why);
            }
            ids.insert(weight.id().to_owned(), index);
            values.push(OsString::from(weight.to_string()));
        }
        if let Some(first) = tables.iter().next() {
            let line = self.line(&first.span());
            self.given.push(Given {
                id: WANTED_WEIGHT.to_owned(),
                values,
                line,
            });
        }
    }

    /// One, and where its id is.
    fn wanted_weight(
        &mut self,
        name: &str,
        table: Value<'_, '_>,
    ) -> Option<(WantedWeight, Range<usize>)> {
        let DeValue::Table(keys) = table.get_ref() else {
            let why = "allowed: a table with id, weight and, if it is wanted, pin";
            self.refuse_value(name, &table.span(), why);
            return None;
        };
        let before = self.problems.len();
        let known = KEYS.map(str::to_owned);
        for key in keys
            .keys()
            .filter(|key| !KEYS.contains(&key.get_ref().as_ref()))
        {
            let near = did_you_mean(key.get_ref(), &known);
            let key_name = key.get_ref().escape_debug();
            let unknown = format!("{name}.{key_name}: no such key{near}; it has id, weight, pin");
            self.refuse(&key.span(), unknown);
        }
        let of = |key: &str| {
            let mut all = keys.iter();
            all.find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
        };
        let (id, weight, pin) = (of("id"), of("weight"), of("pin"));
        for (key, value) in [("id", id), ("weight", weight)] {
            if value.is_none() {
                self.refuse(&table.span(), format!("{name}.{key} is missing"));
            }
        }
        let (id, weight) = (id?, weight?);
        let id_text = self.text(&format!("{name}.id"), id);
        let number = self.weight(name, weight);
        let is_pinned = match pin.map(|pin| (pin, pin.get_ref())) {
            None => false,
            Some((_, DeValue::Boolean(is))) => *is,
            Some((pin, _)) => {
                let why = "allowed: true or false, without quotes";
                self.refuse_value(&format!("{name}.pin"), &pin.span(), why);
                false
            }
        };
        match WantedWeight::new(&id_text?, number?, is_pinned) {
            Ok(wanted) if self.problems.len() == before => Some((wanted, id.span())),
            Ok(_) => None,
            Err(why) => {
                self.refuse_value(&format!("{name}.id"), &id.span(), &why);
                None
            }
        }
    }
}
