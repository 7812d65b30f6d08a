//! What JSON allows and its readers do not agree on, looked for in one walk over a value.
//!
//! ```text
//!   {"a":1,"a":2}     a field twice: the first counts, the last, or the whole is refused
//!   1e9999            no 64-bit float: infinity, or the whole is refused
//!   [[[[[[...         deep: where a reader ends by its stack
//! ```
//!
//! A packet that one analyzer refuses for such a thing is refused by the next one as well, so it is refused
//! at the door. Lone surrogates, the fourth of the kind, are repaired: `surrogates.rs`.

use std::borrow::Cow;
use std::collections::HashSet;

use super::json;

/// Names of one object up to which each is compared with each.
const PAIRS_MAX: usize = 16;
/// A number with fewer characters and no exponent is a 64-bit float.
const DIGITS_MAX: usize = 300;

/// What is wrong, with the offset of its place in the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooDeep(usize),
    Twice(usize, String),
    TooLarge(usize),
}

/// Names of the fields of objects that are open, the outer ones first. Reused from value to value.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// As written, quotes included.
    names: Vec<&'a str>,
    /// For each bracket of a value that is open: where its names begin.
    open: Vec<usize>,
}

impl<'a> Names<'a> {
    /// Where the names of an object begin that starts now.
    pub fn begin(&self) -> usize {
        self.names.len()
    }

    /// One more field of the innermost object. `name` with its quotes.
    pub fn add(&mut self, name: &'a str) {
        self.names.push(name);
    }

    /// The object that began at `start` is read: a name of it that was there before, if any.
    pub fn end(&mut self, start: usize) -> Option<&'a str> {
        let twice = twice(&self.names[start..]);
        self.names.truncate(start);
        twice
    }

    /// Walks a value, valid JSON. Containers may be nested `depth_max` deep.
    #[inline]
    pub fn inspect(&mut self, value: &'a str, depth_max: usize) -> Result<(), Fault> {
        match value.as_bytes().first() {
            Some(b'{' | b'[') => self.walk(value, depth_max),
            Some(b'-' | b'0'..=b'9') if is_infinite(value) => Err(Fault::TooLarge(0)),
            _ => Ok(()),
        }
    }

    fn walk(&mut self, value: &'a str, depth_max: usize) -> Result<(), Fault> {
        let outer = self.names.len();
        self.open.clear();
        let walked = self.walk_in(value, depth_max);
        self.names.truncate(outer);
        walked
    }

    fn walk_in(&mut self, value: &'a str, depth_max: usize) -> Result<(), Fault> {
        let bytes = value.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let start = at;
            at += 1;
            match byte {
                b'"' => {
                    at = string_end(bytes, at);
                    // Only a name has a colon behind it.
                    if bytes[at..].trim_ascii_start().first() == Some(&b':') {
                        self.names.push(&value[start..at]);
                    }
                }
                b'{' | b'[' => {
                    if self.open.len() == depth_max {
                        return Err(Fault::TooDeep(start));
                    }
                    self.open.push(self.names.len());
                }
                b'}' | b']' => {
                    let begun = self.open.pop().unwrap_or_default();
                    if let Some(name) = self.end(begun) {
                        let offset = name.as_ptr() as usize - value.as_ptr() as usize;
                        return Err(Fault::Twice(offset, shown(name)));
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let rest = &bytes[at..];
                    let is_part =
                        |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    at += rest
                        .iter()
                        .position(|byte| !is_part(byte))
                        .unwrap_or(rest.len());
                    if is_infinite(&value[start..at]) {
                        return Err(Fault::TooLarge(start));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Behind the quote that ends the string whose text begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        at += found + 1;
        if bytes[at - 1] == b'"' {
            return at;
        }
        at += 1; // what is escaped
    }
    bytes.len()
}

/// A number that a 64-bit float cannot hold.
fn is_infinite(number: &str) -> bool {
    let is_small = number.len() < DIGITS_MAX && !number.bytes().any(|byte| byte | 32 == b'e');
    !is_small && number.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// A name that was there before.
fn twice<'a>(names: &[&'a str]) -> Option<&'a str> {
    if names.iter().any(|name| name.contains('\\')) {
        let texts: Vec<Cow<str>> = names.iter().map(|name| text(name)).collect();
        let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        return second(&texts).map(|index| names[index]);
    }
    second(names).map(|index| names[index])
}

/// Index of the first that equals one before it.
fn second(names: &[&str]) -> Option<usize> {
    if names.len() <= PAIRS_MAX {
        return (1..names.len()).find(|index| names[..*index].contains(&names[*index]));
    }
    let mut seen = HashSet::with_capacity(names.len());
    names.iter().position(|name| !seen.insert(*name))
}

fn text(name: &str) -> Cow<'_, str> {
    json::text(name).unwrap_or(Cow::Borrowed(name))
}

/// A name of the client's for an error, cut.
pub(super) fn shown(name: &str) -> String {
    let name = json::text(name).unwrap_or_default();
    name.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(value: &str, depth_max: usize) -> Result<(), Fault> {
        Names::default().inspect(value, depth_max)
    }

    #[test]
    fn depth_is_exact() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(inspect(&nested(5), 5), Ok(()));
        assert_eq!(inspect(&nested(6), 5), Err(Fault::TooDeep(5)));
        assert_eq!(inspect(&nested(1_000_000), 64), Err(Fault::TooDeep(64)));
        assert_eq!(inspect(r#"["[[[[[[\"[[[[[[",{},{},{}]"#, 2), Ok(()));
        assert_eq!(
            inspect(r#"{"a":"\\","b":[[0]]}"#, 2),
            Err(Fault::TooDeep(15))
        );
        assert_eq!(inspect("1", 0), Ok(()));
        assert_eq!(inspect("[]", 0), Err(Fault::TooDeep(0)));
    }

    #[test]
    fn a_field_that_is_there_twice_is_found_at_any_depth() {
        let twice = |at, name: &str| Err(Fault::Twice(at, name.to_owned()));
        for (value, found) in [
            (r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#, Ok(())),
            (r#"{"a":1,"b":2,"a":3}"#, twice(13, "a")),
            (r#"[[{"x":{"y":{"z" : 1,"z":2}}}]]"#, twice(21, "z")),
            (r#"{"a":1,"\u0061":2}"#, twice(7, "a")),
            (r#"{"a":"a","b":["a","a"],"A":0,"":0,":":0}"#, Ok(())),
            (r#"{"k":"\"k\":","k\"":0,"\\k":"\\"}"#, Ok(())),
        ] {
            assert_eq!(inspect(value, 64), found, "{value}");
        }
        let many: Vec<String> = (0..1000).map(|n| format!("\"k{n}\":{n}")).collect();
        let all = many.join(",");
        assert_eq!(inspect(&format!("{{{all}}}"), 64), Ok(()));
        let value = format!("{{{all},\"k7\":0}}");
        assert_eq!(inspect(&value, 64), twice(all.len() + 2, "k7"));
    }

    #[test]
    fn a_number_beyond_64_bit_floats_is_found() {
        let digits = "9".repeat(400);
        for (value, at) in [
            ("1e9999", 0),
            ("-1E309", 0),
            (r#"{"a":[0,1.5e308,2e308]}"#, 16),
            (digits.as_str(), 0),
        ] {
            assert_eq!(inspect(value, 64), Err(Fault::TooLarge(at)), "{value}");
        }
        for value in [
            "1e308",
            "1e-9999",
            "12345678901234567890123",
            r#"["1e9999"]"#,
            "-0",
        ] {
            assert_eq!(inspect(value, 64), Ok(()), "{value}");
        }
    }
}
