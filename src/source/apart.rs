//! Protocols that a connection's first bytes cannot tell apart.

use crate::Protocol;

/// Text without a mark of its own: each of these takes what another one would.
const TEXT: [&str; 4] = ["syslog", "ndjson", "gelf", "lines"];

/// Why two protocols cannot be told apart by first bytes, if they cannot. A port for all protocols decides
/// nevertheless: in the order of the table, lines last.
pub fn clash(one: Protocol, other: Protocol) -> Option<&'static str> {
    clash_of(one.as_str(), other.as_str())
}

fn clash_of(one: &str, other: &str) -> Option<&'static str> {
    let both = [one, other];
    if !both.iter().all(|name| TEXT.contains(name)) || one == other {
        return None;
    }
    if both.contains(&"lines") {
        return Some("lines takes everything");
    }
    (both.contains(&"gelf") && both.contains(&"ndjson")).then_some("both begin with {")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_mark_clashes_with_text() {
        for (one, other, clashes) in [
            ("lines", "syslog", true),
            ("ndjson", "lines", true),
            ("gelf", "ndjson", true),
            ("syslog", "ndjson", false),
            ("lines", "frames", false),
            ("lines", "lines", false),
        ] {
            assert_eq!(clash_of(one, other).is_some(), clashes, "{one} {other}");
            assert_eq!(clash_of(other, one).is_some(), clashes, "{other} {one}");
        }
    }
}
