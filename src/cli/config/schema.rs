//! JSON schema of `weir.toml`, for editors that complete and check it while it is written. A little
//! stricter than the program: what the schema takes, the program may refuse only for its range.

use serde_json::{json, Map, Value};

use super::settings::{
    self, Kind, Setting, HTTP_ANALYZER, HTTP_ANALYZERS, INPUT, INPUTS, WANTED_WEIGHT, WEIGHTS,
};
use crate::config::{
    InputOption, OptionKind, ANY, HTTP_ANALYZERS_MAX, HTTP_ID_BYTES_MAX, INPUTS_MAX,
    INPUT_NAME_BYTES_MAX, INPUT_OPTIONS,
};
use crate::engine::{Protocol, WANTED_MAX};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema.
pub fn schema() -> Value {
    let mut tables = Map::new();
    for setting in settings::all() {
        let array = match setting.id() {
            HTTP_ANALYZER => Some((HTTP_ANALYZERS, analyzers(&setting))),
            INPUT => Some((INPUTS, inputs(&setting))),
            WANTED_WEIGHT => Some((WEIGHTS, weights(&setting))),
            _ => None,
        };
        if let Some((name, described)) = array {
            tables.insert(name.into(), described);
            continue;
        }
        let table = tables.entry(setting.table.clone()).or_insert_with(
            || json!({"type": "object", "additionalProperties": false, "properties": {}}),
        );
        table["properties"][&setting.key] = key(&setting);
    }
    json!({
        "$schema": DIALECT,
        "title": "weir.toml",
        "description": "Settings of `weir distributor --config FILE`",
        "type": "object",
        "additionalProperties": false,
        "properties": tables,
    })
}

fn key(setting: &Setting) -> Value {
    let words = setting.words();
    let one = match setting.kind {
        _ if !words.is_empty() => json!({"type": "string", "enum": words}),
        Kind::Bytes => bytes(),
        Kind::Time => time(),
        Kind::Whole => json!({"type": "integer", "minimum": 0}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Path | Kind::MaybePath | Kind::Networks | Kind::Text => {
            json!({"type": "string", "minLength": 1})
        }
    };
    let mut value = match setting.is_list() {
        // One may stand without brackets.
        true if setting.kind == Kind::Path => {
            json!({"oneOf": [one, {"type": "array", "items": one}]})
        }
        true => json!({"type": "array", "items": one}),
        false => one,
    };
    value["description"] = setting.help().into();
    match setting.default() {
        _ if setting.is_list() => value["default"] = json!([]),
        Some(default) => value["default"] = typed(setting, &default),
        None => {}
    }
    value
}

fn bytes() -> Value {
    json!({"oneOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$"},
    ]})
}

fn time() -> Value {
    json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? *(ns|us|ms|s|m|h)$"})
}

/// A default as JSON.
fn typed(setting: &Setting, text: &str) -> Value {
    match setting.kind {
        Kind::Whole => text.parse::<u64>().map_or(Value::Null, Value::from),
        Kind::Boolean => (text == "true").into(),
        _ => text.into(),
    }
}

fn analyzers(setting: &Setting) -> Value {
    json!({
        "description": setting.help(),
        "type": "array",
        "maxItems": HTTP_ANALYZERS_MAX,
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["id", "weight"],
            "oneOf": [{ "required": ["endpoint"] }, { "required": ["discover"] }],
            "properties": {
                "id": {
                    "description": "Its name, another for each",
                    "type": "string", "minLength": 1, "maxLength": HTTP_ID_BYTES_MAX,
                },
                "endpoint": {
                    "description": "Base address: packets go to /logs below it, health checks to /health",
                    "type": "string", "pattern": "^http://[^/?#@]+(/[^?#@]*)?$",
                },
                "discover": {
                    "description": "In place of an endpoint: a group. Each address of the name is an analyzer (dns+), or each target of the SRV record (dnssrv+)",
                    "type": "string", "pattern": "^(dns|dnssrv)\\+http://[^/?#@]+(/[^?#@]*)?$",
                },
                "weight_is": {
                    "description": "Of a group: whose the weight is, each member's, or that of all together",
                    "type": "string", "enum": ["member", "group"], "default": "member",
                },
                "weight": {
                    "description": "Its share relative to the other analyzers'; 0: nothing new",
                    "type": "number", "minimum": 0,
                },
            },
        },
    })
}

fn inputs(setting: &Setting) -> Value {
    let words: Vec<&str> = Protocol::ALL.iter().map(|one| one.as_str()).collect();
    let alone: Vec<&str> = words.iter().copied().chain([ANY]).collect();
    let mut keys = Map::new();
    keys.insert(
        "protocol".into(),
        json!({
            "description": "What is spoken there: one, a list, or any, told by first bytes",
            "oneOf": [
                {"type": "string", "enum": alone},
                {"type": "array", "items": {"type": "string", "enum": words}},
            ],
        }),
    );
    keys.insert(
        "listen".into(),
        json!({"description": "Where emitters connect", "type": "string", "minLength": 1}),
    );
    for option in INPUT_OPTIONS {
        keys.insert(option.key.into(), input_option(option));
    }
    json!({
        "description": setting.help(),
        "type": "array",
        "maxItems": INPUTS_MAX,
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["protocol", "listen"],
            "properties": keys,
        },
    })
}

fn input_option(option: &InputOption) -> Value {
    let mut value = match option.kind {
        OptionKind::Word(words) => json!({"type": "string", "enum": words}),
        OptionKind::Bytes => bytes(),
        OptionKind::Time => time(),
        OptionKind::Whole => json!({"type": "integer", "minimum": 1}),
        OptionKind::Boolean => json!({"type": "boolean"}),
        OptionKind::Path => json!({"type": "string", "minLength": 1}),
        OptionKind::Text => {
            json!({"type": "string", "minLength": 1, "maxLength": INPUT_NAME_BYTES_MAX})
        }
        OptionKind::Networks | OptionKind::Texts => json!({"oneOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string", "minLength": 1}},
        ]}),
    };
    value["description"] = format!("{}. Default: {}", option.help, option.default).into();
    value
}

fn weights(setting: &Setting) -> Value {
    json!({
        "description": setting.help(),
        "type": "array",
        "maxItems": WANTED_MAX,
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["id", "weight"],
            "properties": {
                "id": {
                    "description": "The analyzer's",
                    "type": "string", "minLength": 1, "maxLength": HTTP_ID_BYTES_MAX,
                },
                "weight": {
                    "description": "Its share relative to the other analyzers'; 0: nothing new",
                    "type": "number", "minimum": 0,
                },
                "pin": {
                    "description": "What the analyzer says of its own weight does not count",
                    "type": "boolean", "default": false,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::print::default_file;

    /// The part of the specification that the schema uses, patterns excepted.
    fn matches(schema: &Value, value: &Value) -> bool {
        let is_type = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            other => panic!("type {other}"),
        };
        let keywords = schema.as_object().expect("a schema");
        keywords
            .iter()
            .all(|(keyword, argument)| match keyword.as_str() {
                "$schema" | "title" | "description" | "default" | "pattern" => true,
                "type" => is_type(argument.as_str().expect("a name")),
                "enum" => argument.as_array().expect("a list").contains(value),
                "oneOf" => {
                    let schemas = argument.as_array().expect("a list").iter();
                    schemas.filter(|schema| matches(schema, value)).count() == 1
                }
                "minimum" => value
                    .as_f64()
                    .is_none_or(|n| n >= argument.as_f64().expect("a number")),
                "minLength" => value
                    .as_str()
                    .is_none_or(|s| s.len() as u64 >= argument.as_u64().expect("a number")),
                "maxLength" => value
                    .as_str()
                    .is_none_or(|s| s.len() as u64 <= argument.as_u64().expect("a number")),
                "maxItems" => value
                    .as_array()
                    .is_none_or(|a| a.len() as u64 <= argument.as_u64().expect("a number")),
                "items" => value
                    .as_array()
                    .is_none_or(|all| all.iter().all(|one| matches(argument, one))),
                "required" => value.as_object().is_none_or(|object| {
                    let names = argument.as_array().expect("a list").iter();
                    names
                        .map(|name| name.as_str().expect("a name"))
                        .all(|name| object.contains_key(name))
                }),
                "properties" => value.as_object().is_none_or(|object| {
                    let known = argument.as_object().expect("a table");
                    object.iter().all(|(key, value)| {
                        known.get(key).is_none_or(|schema| matches(schema, value))
                    })
                }),
                "additionalProperties" => value.as_object().is_none_or(|object| {
                    let known = schema["properties"].as_object().expect("a table");
                    argument == true || object.keys().all(|key| known.contains_key(key))
                }),
                other => panic!("keyword {other}"),
            })
    }

    fn json_of(toml: &str) -> Value {
        let table: toml::Table = toml.parse().expect("TOML");
        serde_json::to_value(table).expect("JSON")
    }

    #[test]
    fn the_schema_takes_the_default_file_with_every_default() {
        let schema = schema();
        assert_eq!(schema["$schema"], DIALECT);
        assert!(matches(&schema, &json_of(&default_file())));
        let mut all = Map::new();
        for (table, keys) in schema["properties"].as_object().expect("tables") {
            let Some(keys) = keys["properties"].as_object() else {
                continue;
            };
            let defaults = keys.iter().filter(|(_, key)| !key["default"].is_null());
            let defaults = defaults.map(|(name, key)| (name.clone(), key["default"].clone()));
            all.insert(table.clone(), Value::Object(defaults.collect()));
        }
        assert!(all.len() > 5);
        assert!(matches(&schema, &Value::Object(all)));
    }

    #[test]
    fn the_schema_refuses_what_the_program_refuses() {
        let schema = schema();
        let good = "[[http_analyzers]]\nid = 'a'\nendpoint = 'http://h'\nweight = 1\n\
            [[inputs]]\nprotocol = 'frames'\nlisten = '127.0.0.1:9'\nallow = ['10.0.0.0/8']\n\
            [[weights]]\nid = 'a'\nweight = 1\n[[weights]]\nid = 'b'\nweight = 0.5\npin = true\n[cores]\nshards = 2\n[kernel]\nwithout = ['send-zc']";
        assert!(matches(&schema, &json_of(good)));
        for bad in [
            "x = 1",
            "[x]",
            "[memory]\nx = 1",
            "[memory]\narena = -1",
            "[memory]\narena = 1.5",
            "[cores]\nshards = '2'",
            "[delivery]\nack_timeout = 30",
            "[delivery]\non_slow = 'drop'",
            "[kernel]\nzero_copy_loopback = 'yes'",
            "[kernel]\nwithout = 'send-zc'",
            "[kernel]\nwithout = ['luck']",
            "[[http_analyzers]]\nid = 'a'\nendpoint = 'http://h'",
            "[[weights]]\nid = 'a'",
            "[[weights]]\nid = 'a'\nweight = -1",
            "[[weights]]\nid = 'a'\nweight = 1\npin = 'yes'",
            "[[weights]]\nid = ''\nweight = 1",
            "[[weights]]\nid = 'a'\nweight = 1\nramp = '1s'",
            "weights = 1",
            "inputs = 1",
            "[[inputs]]\nlisten = '127.0.0.1:9'",
            "[[inputs]]\nprotocol = 'frames'",
            "[[inputs]]\nprotocol = 'smoke'\nlisten = '127.0.0.1:9'",
            "[[inputs]]\nprotocol = 'acked'\nlisten = '127.0.0.1:9'\nack = 'now'",
            "[[inputs]]\nprotocol = 'acked'\nlisten = '127.0.0.1:9'\nmax_connections = 0",
            "[[inputs]]\nprotocol = 'acked'\nlisten = '127.0.0.1:9'\nlimit = 1",
            "[[http_analyzers]]\nid = ''\nendpoint = 'http://h'\nweight = 1",
            "[[http_analyzers]]\nid = 'a'\nendpoint = 'http://h'\nweight = -1",
        ] {
            assert!(!matches(&schema, &json_of(bad)), "{bad}");
            assert!(crate::cli::config::try_text(bad).is_err(), "{bad}");
        }
    }
}
