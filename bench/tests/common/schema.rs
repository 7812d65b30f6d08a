//! Checks a value against a JSON schema: the keywords that bench/report.schema.json uses, and an error
//! for any other, so that none is passed over in silence. Forty crates less than a full validator.

use serde_json::Value;

/// Everything that is wrong, with where.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "$", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let keywords = schema.as_object().expect("a schema is an object");
    for (keyword, rule) in keywords {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            // With the object's own properties.
            "properties" => true,
            "$ref" => {
                let pointer = rule.as_str().and_then(|r| r.strip_prefix('#'));
                let target = pointer.and_then(|p| root.pointer(p));
                let target = target.unwrap_or_else(|| panic!("{rule} leads nowhere"));
                check(root, target, value, at, found);
                true
            }
            "type" => types(rule).iter().any(|name| is_of(name, value)),
            "const" => value == rule,
            "enum" => list(rule).contains(value),
            "minimum" => value.as_f64() >= rule.as_f64(),
            "maximum" => value.as_f64() <= rule.as_f64(),
            "pattern" => matches(rule.as_str().expect("text"), value.as_str().unwrap_or("")),
            "required" => {
                let missing = list(rule)
                    .iter()
                    .filter(|name| value.get(name.as_str().expect("a name")).is_none());
                found.extend(missing.map(|name| format!("{at}: no {name}")));
                true
            }
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{number}]"), found);
                }
                true
            }
            "additionalProperties" => {
                let own = &schema["properties"];
                for (name, field) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{name}");
                    match (own.get(name), rule) {
                        (Some(own), _) => check(root, own, field, &at, found),
                        (None, Value::Bool(false)) => found.push(format!("{at}: not allowed")),
                        (None, other) => check(root, other, field, &at, found),
                    }
                }
                true
            }
            other => panic!("this check does not know the keyword {other}"),
        };
        if !holds {
            let mut shown = value.to_string();
            shown.truncate(60);
            found.push(format!("{at}: {shown} is against {keyword} {rule}"));
        }
    }
    // The loop looks at properties by way of this keyword alone.
    assert!(
        !keywords.contains_key("properties") || keywords.contains_key("additionalProperties"),
        "{at}: an object says what else it may hold"
    );
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().expect("a list")
}

fn types(rule: &Value) -> Vec<&str> {
    match rule {
        Value::String(one) => vec![one],
        many => list(many).iter().filter_map(Value::as_str).collect(),
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("no type {other}"),
    }
}

/// The patterns of the schema: literal text, `[0-9]{n}`, `[.]`, anchored at the begin.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pattern = pattern.strip_prefix('^').expect("anchored");
    let mut rest = text;
    while !pattern.is_empty() {
        if pattern == "$" {
            return rest.is_empty();
        }
        let (count, is_it, length): (usize, fn(char) -> bool, usize) =
            if let Some(tail) = pattern.strip_prefix("[0-9]{") {
                let digits = tail.split('}').next().expect("closed");
                let count = digits.parse().expect("a count");
                (
                    count,
                    |c| c.is_ascii_digit(),
                    "[0-9]{}".len() + digits.len(),
                )
            } else if pattern.starts_with("[.]") {
                (1, |c| c == '.', 3)
            } else {
                let literal = pattern.chars().next().expect("not empty");
                match rest.strip_prefix(literal) {
                    Some(tail) => rest = tail,
                    None => return false,
                }
                pattern = &pattern[literal.len_utf8()..];
                continue;
            };
        for _ in 0..count {
            match rest.chars().next().filter(|c| is_it(*c)) {
                Some(c) => rest = &rest[c.len_utf8()..],
                None => return false,
            }
        }
        pattern = &pattern[length..];
    }
    true
}

#[test]
fn what_is_wrong_is_found() {
    let schema = serde_json::json!({
        "type": "object", "additionalProperties": false, "required": ["n", "when"],
        "properties": {
            "n": { "type": "integer", "minimum": 0 },
            "when": { "type": "string", "pattern": "^[0-9]{2}[.][0-9]{2}Z$" },
            "list": { "type": "array", "items": { "$ref": "#/$defs/way" } },
        },
        "$defs": { "way": { "enum": ["up", "down"] } },
    });
    let wrong = |value| violations(&schema, &value).len();
    use serde_json::json;
    assert_eq!(
        wrong(json!({ "n": 1, "when": "12.34Z", "list": ["up"] })),
        0
    );
    assert_eq!(wrong(json!({ "n": 1 })), 1, "missing");
    assert_eq!(wrong(json!({ "n": -1, "when": "12.34Z" })), 1, "minimum");
    assert_eq!(wrong(json!({ "n": 1.5, "when": "12.34Z" })), 1, "type");
    assert_eq!(wrong(json!({ "n": 1, "when": "12:34Z" })), 1, "pattern");
    assert_eq!(
        wrong(json!({ "n": 1, "when": "12.34Z", "list": ["up", "left"] })),
        1,
        "reference"
    );
    assert_eq!(
        wrong(json!({ "n": 1, "when": "12.34Z", "m": 1 })),
        1,
        "another field"
    );
}
