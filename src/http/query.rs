//! Parameters of a query, parts of a path: what percent signs mean.

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

/// A part of a path: `a%2Fb` becomes `a/b`. What is no escape, or no UTF-8 afterwards, stays visible.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let escaped = match (byte, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        bytes.push(match escaped {
            Some((high, low)) => {
                rest = &tail[2..];
                high << 4 | low
            }
            None => *byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is not a letter, a digit or one of `-._~` is escaped, so that any id fits a path.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |digit: u8| char::from(b"0123456789ABCDEF"[usize::from(digit)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
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

    #[test]
    fn any_id_survives_a_path() {
        for id in ["a1", "10.0.0.1:5000", "a/b c?d%25#é", "a+b", "%", ""] {
            assert_eq!(percent_decoded(&percent_encoded(id)), id);
        }
        assert_eq!(percent_encoded("a/b é"), "a%2Fb%20%C3%A9");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz%41+%+1"), "%zzA+%+1");
    }
}
