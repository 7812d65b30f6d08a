//! Who a request comes from, as proxies say it in its headers.
//!
//! ```text
//! X-Forwarded-For: 198.51.100.7, 203.0.113.1          Forwarded: for=198.51.100.7;proto=https, for="[2001:db8::1]:4711"
//!                  '- the client's own word? '- what the last proxy saw: the first that is read
//! ```
//!
//! Read from the right, and no further than a proxy that is trusted: what stands left of that anybody may have sent, with
//! quotes that never end and bytes that are no text. It does not change what is read before it.

use core::net::{IpAddr, SocketAddr};

/// Whom a proxy got a request from, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop<'a> {
    /// This address.
    Address(IpAddr),
    /// It does not say: `unknown`, a name of its own (`_hidden`), or no `for` at all.
    Unsaid,
    /// It says what cannot be read: this.
    Malformed(&'a [u8]),
}

/// Hops of a value of `X-Forwarded-For`, the last one first.
pub fn x_forwarded_for(value: &[u8]) -> impl Iterator<Item = Hop<'_>> {
    let hops = value.rsplit(|byte| *byte == b',');
    hops.map(|hop| node(hop.trim_ascii()))
}

/// Hops of a value of `Forwarded` (RFC 7239), the last one first.
pub fn forwarded(value: &[u8]) -> impl Iterator<Item = Hop<'_>> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let (before, element) = split_last(rest?);
        rest = before;
        Some(client_in(element))
    })
}

/// What stands behind the last comma that is in no quotes, and what before it.
fn split_last(value: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut is_quoted = false;
    for (at, byte) in value.iter().enumerate().rev() {
        match byte {
            // Outside of quotes a quote ends some, and has nothing before it that could make it part of them.
            b'"' => is_quoted = !is_quoted || is_escaped(value, at),
            b',' if !is_quoted => {
                return (value.get(..at), value.get(at + 1..).unwrap_or_default())
            }
            _ => {}
        }
    }
    (None, value)
}

/// An odd number of backslashes stands before.
fn is_escaped(value: &[u8], at: usize) -> bool {
    let before = value.get(..at).unwrap_or_default();
    let count = before.iter().rev().take_while(|byte| **byte == b'\\');
    count.count() % 2 == 1
}

/// What an element says of `for`: pairs of a name and a value, with semicolons between.
fn client_in(element: &[u8]) -> Hop<'_> {
    let mut client = None;
    let mut rest = element.trim_ascii();
    while !rest.is_empty() {
        let Some((name, value, behind)) = pair(rest) else {
            return Hop::Malformed(element.trim_ascii());
        };
        if name.eq_ignore_ascii_case(b"for") && client.replace(value).is_some() {
            return Hop::Malformed(element.trim_ascii());
        }
        rest = behind;
    }
    client.map_or(Hop::Unsaid, node)
}

/// The first pair, and what stands behind its semicolon. An empty one has no name.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if let Some((b';', behind)) = text.split_first() {
        return Some((&[], &[], behind.trim_ascii_start()));
    }
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (text.get(..equals)?, text.get(equals + 1..)?);
    if name.is_empty() || !name.iter().all(|byte| is_of_name(*byte)) {
        return None;
    }
    let (value, behind) = match value.split_first() {
        Some((b'"', quoted)) => {
            let is_end = |(at, byte): (usize, &u8)| *byte == b'"' && !is_escaped(quoted, at);
            let end = quoted.iter().enumerate().position(is_end)?;
            (quoted.get(..end)?, quoted.get(end + 1..)?)
        }
        _ => {
            let end = value.iter().position(|byte| *byte == b';');
            let end = end.unwrap_or(value.len());
            (value.get(..end)?, value.get(end..)?)
        }
    };
    match behind.trim_ascii_start().split_first() {
        None => Some((name, value, &[])),
        Some((b';', behind)) => Some((name, value, behind.trim_ascii_start())),
        Some(_) => None,
    }
}

/// Byte of a name (`token` in RFC 9110).
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Byte of a name that a proxy gives to whom it hides.
fn is_of_hidden(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`, `unknown`, `_hidden`; a port may be hidden as well.
fn node(value: &[u8]) -> Hop<'_> {
    let value = value.trim_ascii();
    let Ok(text) = std::str::from_utf8(value) else {
        return Hop::Malformed(value);
    };
    let text = match text.rsplit_once(":_") {
        Some((name, port)) if port.bytes().all(is_of_hidden) => name,
        _ => text,
    };
    if let Some(address) = address(text) {
        return Hop::Address(address);
    }
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => text,
    };
    let hidden = name.strip_prefix('_').filter(|name| !name.is_empty());
    let is_hidden = hidden.is_some_and(|name| name.bytes().all(is_of_hidden));
    match is_hidden || name.eq_ignore_ascii_case("unknown") {
        true => Hop::Unsaid,
        false => Hop::Malformed(value),
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>();
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hops in words: an address, `-` where none is said, `!` and the bytes where they cannot be read.
    fn said<'a>(hops: impl Iterator<Item = Hop<'a>>) -> String {
        let word = |hop| match hop {
            Hop::Address(address) => address.to_string(),
            Hop::Unsaid => "-".to_owned(),
            Hop::Malformed(bytes) => format!("!{}", bytes.escape_ascii()),
        };
        hops.map(word).collect::<Vec<_>>().join(" ")
    }

    /// The first are examples of RFC 7239, sections 4, 6, and 7.
    const FORWARDED: &[(&[u8], &str)] = &[
        (br#"for="_gazonk""#, "-"),
        (br#"For="[2001:db8:cafe::17]:4711""#, "2001:db8:cafe::17"),
        (b"for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        (
            b"for=192.0.2.43, for=198.51.100.17",
            "198.51.100.17 192.0.2.43",
        ),
        (
            br#"for=192.0.2.43, for="[2001:db8:cafe::17]", for=unknown"#,
            "- 2001:db8:cafe::17 192.0.2.43",
        ),
        (b"for=_hidden, for=_SEVKISEK", "- -"),
        (br#"for="192.0.2.43:47011""#, "192.0.2.43"),
        (br#"for="[2001:db8::1]:_port""#, "2001:db8::1"),
        (br#"for="_hidden:4711";by=_x"#, "-"),
        (br#"for="unknown:80""#, "-"),
        (b"for=192.0.2.1:80", "192.0.2.1"),
        (br#"for="2001:db8::1""#, "2001:db8::1"),
        (br#"for="[::ffff:192.0.2.1]""#, "192.0.2.1"),
        (b" for=192.0.2.1 ; proto=https ;; ", "192.0.2.1"),
        (b"proto=https;host=a", "-"),
        (b"", "-"),
        (b"for=192.0.2.1,", "- 192.0.2.1"),
        (
            br#"host="a,b;for=192.0.2.9\",";for=192.0.2.1, for=192.0.2.2"#,
            "192.0.2.2 192.0.2.1",
        ),
        (br#"host="a\\";for=192.0.2.1"#, "192.0.2.1"),
        (b"for=", "!"),
        (b"for", "!for"),
        (b"for =192.0.2.1", "!for =192.0.2.1"),
        (
            b"for=192.0.2.1;for=192.0.2.2",
            "!for=192.0.2.1;for=192.0.2.2",
        ),
        (b"192.0.2.1", "!192.0.2.1"),
        (b"for=192.0.2", "!192.0.2"),
        (b"for=_", "!_"),
        (b"for=_a b", "!_a b"),
        (br#"for="192.0.2.1"x"#, r#"!for=\"192.0.2.1\"x"#),
        (br#"for="192.0.2.1"#, r#"!for=\"192.0.2.1"#),
        // What a client sent before a proxy that is trusted.
        (b"for=\"evil, for=192.0.2.1", "192.0.2.1 !for=\\\"evil"),
        (b"for=\"\\, for=192.0.2.1", "192.0.2.1 !for=\\\"\\\\"),
        (b"\xff\0, for=192.0.2.1", r"192.0.2.1 !\xff\x00"),
        (br#"for=", for="192.0.2.1""#, r#"192.0.2.1 !for=\""#),
    ];

    #[test]
    fn forwarded_is_read_from_the_right() {
        for (value, expected) in FORWARDED {
            assert_eq!(
                said(forwarded(value)),
                *expected,
                "{}",
                value.escape_ascii()
            );
        }
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right() {
        let cases: [(&[u8], &str); 11] = [
            (b"203.0.113.1", "203.0.113.1"),
            (
                b"1.1.1.1, 203.0.113.2 ,10.9.9.9",
                "10.9.9.9 203.0.113.2 1.1.1.1",
            ),
            (b"203.0.113.1:4711", "203.0.113.1"),
            (
                b"[2001:db8::1]:80, fd00::1,[::1]",
                "::1 fd00::1 2001:db8::1",
            ),
            (b"::ffff:203.0.113.1", "203.0.113.1"),
            (b"203.0.113.1, unknown", "- 203.0.113.1"),
            (b"203.0.113.1, Unknown", "- 203.0.113.1"),
            (b"203.0.113.1,", "! 203.0.113.1"),
            (b"localhost", "!localhost"),
            (b"\"203.0.113.1\"", r#"!\"203.0.113.1\""#),
            (b"\xff, 203.0.113.1", r"203.0.113.1 !\xff"),
        ];
        for (value, expected) in cases {
            assert_eq!(said(x_forwarded_for(value)), expected);
        }
    }
}
