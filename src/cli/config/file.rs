//! Reads `weir.toml`: text to values of flags, each with its line; or everything that is wrong with it.
//!
//! ```text
//!   [memory]                     table: heading of the flags' help
//!   arena = "64MiB"              key: a flag's name; the value goes through the flag's own parser
//!
//!   [[http_analyzers]]           one for each analyzer
//!   id = "a1"
//!   endpoint = "http://10.0.0.1:4001"
//!   weight = 0.4
//!
//!   [[inputs]]                   more places where emitters connect (file/inputs.rs)
//!   [[weights]]                  what is wanted of an analyzer (file/weights.rs)
//! ```

mod inputs;
mod weights;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::Spanned;

use super::renamed;
use super::settings::{self, Kind, Setting, HTTP_ANALYZER, HTTP_ANALYZERS, INPUTS, WEIGHTS};
use crate::config::{Discover, HttpAnalyzer, Place, WeightIs, CREDENTIAL, HTTP_ANALYZERS_MAX};

/// Largest file, in bytes: all settings and 256 analyzers need a twentieth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A value in an error message is cut after so many characters.
const SHOWN_CHARS_MAX: usize = 80;
/// A name is taken for a misspelt one from this similarity on (as clap does for flags).
const SIMILAR_MIN: f64 = 0.7;

/// A flag's value out of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// Clap's name of the flag.
    pub id: String,
    /// One value, or those of a list.
    pub values: Vec<OsString>,
    /// Line of the value, from 1.
    pub line: usize,
}

/// Reads a file and checks each value by itself. `by` stands before its path in an error: the variable that
/// names it, if one does.
///
/// # Errors
/// Everything that is wrong, a line each: file, line, key, value and what is allowed. Of a file that cannot be read:
/// who names it, its path, and why.
pub fn read(path: &Path, by: &str) -> Result<Vec<Given>, Vec<String>> {
    let text = text_of(path).map_err(|why| vec![format!("{by}{}: {why}", path.display())])?;
    parse(path, &text)
}

fn text_of(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "more than the {FILE_BYTES_MAX} bytes that are allowed"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("byte {at} is no UTF-8, and only that is allowed")
    })
}

/// The same for a text, as if it were in the file `path`.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, text: &str) -> Result<Vec<Given>, Vec<String>> {
    let mut reader = Reader {
        path,
        text,
        settings: settings::all(),
        given: Vec::new(),
        problems: Vec::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().unwrap_or(0..0);
        reader.refuse(&at, error.message().replace('\n', "; "));
    }
    // What could be saved of a broken document says nothing.
    if errors.is_empty() {
        reader.document(document.get_ref());
    }
    let Reader {
        given,
        mut problems,
        ..
    } = reader;
    if problems.is_empty() {
        return Ok(given);
    }
    problems.sort();
    Err(problems.into_iter().map(|(_, problem)| problem).collect())
}

type Key<'a, 'i> = &'a Spanned<std::borrow::Cow<'i, str>>;
type Value<'a, 'i> = &'a Spanned<DeValue<'i>>;

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    settings: Vec<Setting>,
    given: Vec<Given>,
    /// With their lines, to sort them by.
    problems: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..at.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The text of a value, on one line and cut to a length.
    fn shown(&self, at: &Range<usize>) -> String {
        let text = self.text.get(at.clone()).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
        if shown.len() < line.len() {
            shown.push_str("...");
        }
        shown
            .escape_debug()
            .to_string()
            .replace("\\\"", "\"")
            .replace("\\'", "'")
    }

    fn refuse(&mut self, at: &Range<usize>, what: impl Into<String>) {
        let line = self.line(at);
        let (path, what) = (self.path.display(), what.into());
        self.problems.push((line, format!("{path}:{line}: {what}")));
    }

    fn refuse_value(&mut self, name: &str, at: &Range<usize>, why: &str) {
        let shown = self.shown(at);
        self.refuse(at, format!("{name} = {shown}: {why}"));
    }

    fn document(&mut self, document: &DeTable<'_>) {
        for (key, value) in document {
            match (key.get_ref().as_ref(), value.get_ref()) {
                (HTTP_ANALYZERS, DeValue::Array(_)) => self.analyzers(value),
                (HTTP_ANALYZERS, _) => self.refuse(
                    &key.span(),
                    "http_analyzers: allowed: tables that begin with [[http_analyzers]], one for each analyzer",
                ),
                (INPUTS, DeValue::Array(_)) => self.inputs(value),
                (INPUTS, _) => self.refuse(
                    &key.span(),
                    "inputs: allowed: tables that begin with [[inputs]], one for each input",
                ),
                (WEIGHTS, DeValue::Array(_)) => self.weights(value),
                (WEIGHTS, _) => self.refuse(
                    &key.span(),
                    "weights: allowed: tables that begin with [[weights]], one for each analyzer",
                ),
                (table, DeValue::Table(keys)) if self.is_table(table) => {
                    keys.iter().for_each(|(key, value)| self.setting(table, key, value));
                }
                (table, _) if self.is_table(table) => self.refuse(
                    &key.span(),
                    format!("{table}: this is a table, allowed: [{table}] and its keys below it"),
                ),
                (unknown, _) => self.unknown_at_top(unknown, key),
            }
        }
    }

    fn is_table(&self, name: &str) -> bool {
        self.settings.iter().any(|setting| setting.table == name)
    }

    /// Keys of a table, or of all. The analyzers are no key.
    fn keys(&self, table: Option<&str>) -> Vec<String> {
        let of_table = |setting: &&Setting| {
            !setting.is_array() && table.is_none_or(|table| setting.table == table)
        };
        let settings = self.settings.iter().filter(of_table);
        settings.map(|setting| setting.key.clone()).collect()
    }

    fn unknown_at_top(&mut self, name: &str, key: Key<'_, '_>) {
        let known = self.settings.iter().find(|setting| setting.key == name);
        if let Some(setting) = known.filter(|setting| !setting.is_array()) {
            let belongs = format!("{name}: this key belongs into [{}]", setting.table);
            return self.refuse(&key.span(), belongs);
        }
        let mut tables: Vec<String> = self.settings.iter().map(|s| s.table.clone()).collect();
        tables.dedup();
        tables.extend([HTTP_ANALYZERS, INPUTS, WEIGHTS].map(str::to_owned));
        let unknown = format!(
            "{}: no such table{}; allowed: {}",
            name.escape_debug(),
            did_you_mean(name, &tables),
            tables.join(", ")
        );
        self.refuse(&key.span(), unknown);
    }

    fn setting(&mut self, table: &str, key: Key<'_, '_>, value: Value<'_, '_>) {
        let (written, name) = (key.get_ref().as_ref(), renamed::new_id(key.get_ref()));
        let known = |setting: &&Setting| setting.key == name && !setting.is_array();
        let Some(setting) = self.settings.iter().find(known).cloned() else {
            let (all, here) = (self.keys(None), self.keys(Some(table)));
            let nearest = [&here, &all]
                .into_iter()
                .map(|names| did_you_mean(name, names))
                .find(|found| !found.is_empty());
            let unknown = format!(
                "{table}.{}: no such key{}; [{table}] has {}",
                name.escape_debug(),
                nearest.unwrap_or_default(),
                here.join(", ")
            );
            return self.refuse(&key.span(), unknown);
        };
        if setting.table != table {
            let belongs = format!(
                "{table}.{written}: this key belongs into [{}]",
                setting.table
            );
            return self.refuse(&key.span(), belongs);
        }
        if self.given.iter().any(|given| given.id == setting.id()) {
            let old = renamed::old_id(setting.id()).unwrap_or(written);
            let both = renamed::both(&setting.name(), &format!("{table}.{old}"));
            return self.refuse(&key.span(), both);
        }
        let texts = match texts(&setting, value) {
            Ok(texts) => texts,
            Err((at, allowed)) => return self.refuse_value(&setting.name(), &at, &allowed),
        };
        let before = self.problems.len();
        let mut values = Vec::new();
        for (text, at) in texts {
            if let Some(why) = settings::refusal(&setting.arg, text.as_ref()) {
                self.refuse_value(&setting.name(), &at, &why);
            }
            values.push(self.resolved(setting.kind, text));
        }
        if self.problems.len() == before {
            let line = self.line(&value.span());
            self.given.push(Given {
                id: setting.id().to_owned(),
                values,
                line,
            });
        }
    }

    /// A path is relative to the file that names it.
    fn resolved(&self, kind: Kind, text: String) -> OsString {
        let is_path = match kind {
            // What a service manager hands over is where it says.
            Kind::Path => !text.starts_with(CREDENTIAL),
            Kind::MaybePath => text.contains('/'),
            _ => false,
        };
        match self.path.parent().filter(|_| is_path) {
            Some(dir) => dir.join(text).into(),
            None => text.into(),
        }
    }

    fn analyzers(&mut self, value: Value<'_, '_>) {
        let DeValue::Array(tables) = value.get_ref() else {
            return;
        };
        if tables.len() > HTTP_ANALYZERS_MAX {
            let many = format!(
                "http_analyzers: {} of them, at most {HTTP_ANALYZERS_MAX} allowed",
                tables.len()
            );
            return self.refuse(&value.span(), many);
        }
        let mut ids: Vec<String> = Vec::new();
        let mut values = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let name = format!("{HTTP_ANALYZERS}[{index}]");
            let Some((analyzer, id_at)) = self.analyzer(&name, table) else {
                // It keeps its place, so that the others' numbers are right.
                ids.push(String::new());
                continue;
            };
            if let Some(other) = ids.iter().position(|id| id == analyzer.id()) {
                let why =
                    format!("{HTTP_ANALYZERS}[{other}] has it too, allowed: an id of its own");
                self.refuse_value(&format!("{name}.id"), &id_at, &why);
            }
            ids.push(analyzer.id().to_owned());
            values.push(OsString::from(analyzer.to_string()));
        }
        let first = tables.iter().next().map(Spanned::span);
        if let Some(at) = first {
            let line = self.line(&at);
            self.given.push(Given {
                id: HTTP_ANALYZER.to_owned(),
                values,
                line,
            });
        }
    }

    /// One analyzer or group, and where its id is.
    fn analyzer(
        &mut self,
        name: &str,
        table: Value<'_, '_>,
    ) -> Option<(HttpAnalyzer, Range<usize>)> {
        const KEYS: [&str; 5] = ["id", "endpoint", "discover", "weight", "weight_is"];
        let DeValue::Table(keys) = table.get_ref() else {
            self.refuse_value(
                name,
                &table.span(),
                "allowed: a table with id, weight, and endpoint or discover",
            );
            return None;
        };
        let before = self.problems.len();
        let known = KEYS.map(str::to_owned);
        for key in keys
            .keys()
            .filter(|key| !KEYS.contains(&key.get_ref().as_ref()))
        {
            let key_name = key.get_ref();
            let near = did_you_mean(key_name, &known);
            let key_name = key_name.escape_debug();
            let unknown = format!(
                "{name}.{key_name}: no such key{near}; it has id, endpoint, weight; a group has discover and weight_is"
            );
            self.refuse(&key.span(), unknown);
        }
        let of = |key: &str| {
            keys.iter()
                .find(|(k, _)| k.get_ref() == key)
                .map(|(_, v)| v)
        };
        let [id, endpoint, discover, weight, weight_is] = KEYS.map(of);
        let is_group = discover.is_some();
        let place = if is_group { discover } else { endpoint };
        for (key, value) in [("id", id), ("endpoint", place), ("weight", weight)] {
            if value.is_none() {
                self.refuse(&table.span(), format!("{name}.{key} is missing"));
            }
        }
        let alone = match is_group {
            true => endpoint.map(|at| ("endpoint", at, "allowed: endpoint or discover, not both")),
            false => weight_is.map(|at| ("weight_is", at, "allowed: with discover only")),
        };
        if let Some((key, at, why)) = alone {
            self.refuse_value(&format!("{name}.{key}"), &at.span(), why);
        }
        let (id, place, weight) = (id?, place?, weight?);
        let id_text = self.text(&format!("{name}.id"), id);
        let number = self.weight(name, weight);
        let made = match is_group {
            true => {
                let discover = self.parsed::<Discover>(&format!("{name}.discover"), place);
                let weight_is = match weight_is {
                    Some(at) => self.parsed(&format!("{name}.weight_is"), at),
                    None => Some(WeightIs::Member),
                };
                HttpAnalyzer::group(&id_text?, discover?, number?, weight_is?)
            }
            false => {
                let key = format!("{name}.endpoint");
                let endpoint = self.parsed::<Place>(&key, place);
                let local = endpoint.as_ref().and_then(|it| it.delivery.local());
                if let Some(Err(why)) = local.map(|local| local.check_host()) {
                    self.refuse_value(&key, &place.span(), &why);
                }
                HttpAnalyzer::new(&id_text?, endpoint?, number?)
            }
        };
        match made {
            Ok(analyzer) if self.problems.len() == before => Some((analyzer, id.span())),
            Ok(_) => None,
            Err(why) => {
                self.refuse_value(&format!("{name}.id"), &id.span(), &why);
                None
            }
        }
    }

    fn weight(&mut self, name: &str, value: Value<'_, '_>) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Integer(whole) => whole.to_string().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number: Option<f64> = number.and_then(crate::protocol::valid_weight);
        if number.is_none() {
            let why = "allowed: a finite number, 0 or more (0.25)";
            self.refuse_value(&format!("{name}.weight"), &value.span(), why);
        }
        number
    }

    fn parsed<T: std::str::FromStr<Err = String>>(
        &mut self,
        name: &str,
        value: Value<'_, '_>,
    ) -> Option<T> {
        let parsed = self.text(name, value)?.parse();
        parsed
            .map_err(|why: String| self.refuse_value(name, &value.span(), &why))
            .ok()
    }

    fn text(&mut self, name: &str, value: Value<'_, '_>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.refuse_value(name, &value.span(), "allowed: text in quotes");
                None
            }
        }
    }
}

type Texts = Vec<(String, Range<usize>)>;

/// A value as the flag would have it, or what would be allowed there.
fn texts(setting: &Setting, value: Value<'_, '_>) -> Result<Texts, (Range<usize>, String)> {
    let single = |value: Value<'_, '_>| match text(setting.kind, value.get_ref()) {
        Some(text) => Ok((text, value.span())),
        None => Err((value.span(), allowed(setting))),
    };
    match value.get_ref() {
        DeValue::Array(list) if setting.is_list() => list.iter().map(single).collect(),
        // One may stand without brackets.
        DeValue::String(_) if setting.is_list() && setting.kind == Kind::Path => {
            single(value).map(|text| vec![text])
        }
        _ if setting.is_list() => Err((value.span(), allowed(setting))),
        _ => single(value).map(|text| vec![text]),
    }
}

fn text(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match (kind, value) {
        (Kind::Bytes | Kind::Whole, DeValue::Integer(whole)) => {
            // 0x10 and 1_000 are allowed in a file.
            let digits = i128::from_str_radix(whole.as_str(), whole.radix());
            Some(digits.map_or_else(|_| whole.to_string(), |number| number.to_string()))
        }
        (Kind::Boolean, DeValue::Boolean(value)) => Some(value.to_string()),
        (Kind::Whole | Kind::Boolean, _) => None,
        (_, DeValue::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

/// What type of value a key takes.
fn allowed(setting: &Setting) -> String {
    if setting.is_list() {
        return "allowed: a list of texts, such as [\"...\", \"...\"]".into();
    }
    match setting.kind {
        Kind::Bytes => {
            "allowed: a whole number of bytes, or text with B, KiB, MiB or GiB (\"256KiB\")"
        }
        Kind::Time => "allowed: text with a number and a unit, ns us ms s m or h (\"30s\")",
        Kind::Whole => "allowed: a whole number without quotes",
        Kind::Boolean => "allowed: true or false, without quotes",
        _ => "allowed: text in quotes",
    }
    .into()
}

/// `: did you mean ...?`, if one of the names is near.
pub fn did_you_mean(name: &str, names: &[String]) -> String {
    // Jaro takes a short name for like a long one that has its letters.
    let has_half = |known: &&String| strsim::normalized_damerau_levenshtein(name, known) >= 0.5;
    let near = names
        .iter()
        .filter(has_half)
        .map(|known| (strsim::jaro(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((similar, known)) if similar > SIMILAR_MIN => format!(", did you mean {known}?"),
        _ => String::new(),
    }
}
