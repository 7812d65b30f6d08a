//! Parameters of a query.

use std::borrow::Cow;

/// Value of the first parameter `name` in `query` (`a=1&b=2`), percent-decoded, `+` as a space. `None`:
/// there is none, or its value is not UTF-8. `name` is compared as it is written.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut found = parameters(query).filter(|(found, _)| *found == name);
    found.next()?.1
}

/// Names of a query as they are written, and their values percent-decoded, as [`parameter`] gives one; a value
/// is `None` when it is not UTF-8 or its percent signs are no escapes. Empty pairs are left out.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, Option<Cow<'_, str>>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, decode(value))
    })
}

fn decode(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        decoded.push(match (byte, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                hex(*high)? << 4 | hex(*low)?
            }
            (b'%', _) => return None,
            (byte, _) => *byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Value of a hexadecimal digit.
pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let query = "x=1&emitterId=web%2D1+%C3%A9&emitterId=2&flag&bad=%4&bytes=%ff&y=%zz";
        let of = |name| parameter(query, name);
        assert_eq!(of("emitterId").as_deref(), Some("web-1 é"));
        assert_eq!(of("x").as_deref(), Some("1"));
        assert_eq!(of("flag").as_deref(), Some(""));
        for missing in ["bad", "bytes", "y", "emitterid", ""] {
            assert_eq!(of(missing), None, "{missing}");
        }
    }
}
