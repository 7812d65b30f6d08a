//! The byte vectors of `docs/PROTOCOL.md`: lines of its `vectors` blocks.
//!
//! ```text
//! kind: bytes ; values        a word among the bytes is something that happens after them
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;

/// One line.
#[derive(Clone, Debug)]
pub struct Vector {
    /// What the bytes are.
    pub kind: String,
    /// As on the wire.
    pub bytes: Vec<u8>,
    /// Words among the bytes: things that happen after them.
    pub events: Vec<String>,
    /// The whole line, for messages.
    pub line: String,
    values: BTreeMap<String, String>,
}

/// All of them, in the document's order.
pub fn all() -> Vec<Vector> {
    let mut is_inside = false;
    let mut all = Vec::new();
    for line in include_str!("../../docs/PROTOCOL.md").lines() {
        match line {
            "```vectors" => is_inside = true,
            "```" => is_inside = false,
            _ if is_inside => all.push(Vector::parse(line)),
            _ => {}
        }
    }
    all
}

impl Vector {
    fn parse(line: &str) -> Vector {
        let (kind, rest) = line.split_once(": ").expect("kind");
        let (bytes, values) = rest.split_once(" ; ").unwrap_or((rest, ""));
        let words = bytes.split_whitespace();
        let (hex, events) = words.partition::<Vec<_>, _>(|word| word.len() == 2);
        let byte = |word: &&str| u8::from_str_radix(word, 16).expect("hex");
        let pairs = values.split_whitespace();
        let pairs = pairs.map(|pair| pair.split_once('=').expect("key=value"));
        Vector {
            kind: kind.into(),
            bytes: hex.iter().map(byte).collect(),
            events: events.iter().map(ToString::to_string).collect(),
            values: pairs.map(|(k, v)| (k.into(), v.into())).collect(),
            line: line.into(),
        }
    }

    /// A value that the line states.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A value that it must state.
    pub fn get(&self, key: &str) -> &str {
        self.find(key)
            .unwrap_or_else(|| panic!("no {key} in {}", self.line))
    }

    /// The same as a number.
    pub fn number<T: FromStr>(&self, key: &str) -> T {
        let parsed = self.get(key).parse();
        parsed.unwrap_or_else(|_| panic!("{key} in {}", self.line))
    }

    /// Label of the error that the bytes must be rejected with.
    pub fn error(&self) -> Option<&str> {
        self.find("error")
    }
}
