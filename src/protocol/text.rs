//! Text that came from a peer, on its way to a person: a terminal, a log line, a page.
//!
//! A peer chooses its id and its messages. Control characters steer terminals (C1 as well as ESC), marks of
//! direction and characters without width make one text look like another. None of them is written as it is.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// Does `c` show itself, and only itself, where it is written?
///
/// False for controls (C0, DEL, C1), separators of lines and paragraphs, marks of direction, and characters without
/// width or ink (Unicode 16, general categories Cc, Cf, Zl and Zp, and the fillers of Hangul).
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let is_hidden = matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
        | '\u{115f}' | '\u{1160}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !is_hidden
}

/// Does `c` turn the direction of text, or end a line or a paragraph? In the middle of a name it makes a terminal, or
/// a page, show what follows in another order or place.
///
/// Controls (C0, DEL, C1) are not among these; joiners and other characters without width neither: Persian and emoji
/// need them.
pub fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What is wrong with a name that a peer, or an operator, gives to an analyzer: a character that does not show, or
/// none that does. Two names that look the same must be the same. An empty one is for the caller to judge.
///
/// # Errors
/// The first such character, and what is allowed.
pub fn check_name(name: &str) -> Result<(), String> {
    if !name.is_empty() && name.chars().all(char::is_whitespace) {
        return Err("id is white space alone; allowed: at least one character that shows".into());
    }
    match name.chars().find(|c| !is_printable(*c)) {
        None => Ok(()),
        Some(c) => Err(format!(
            "id has the character U+{:04X}; allowed: no control characters, no marks of direction, \
             nothing without width",
            u32::from(c)
        )),
    }
}

/// A peer's text as the value of one field of a log line: as it is where that is one word, else in quotes
/// with `"`, `\` and what is not printable escaped. Nothing in it reads as another field.
pub struct Field<'a>(pub &'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_word = |c: char| is_printable(c) && !c.is_whitespace() && !"\"\\=".contains(c);
        match !self.0.is_empty() && self.0.chars().all(is_word) {
            true => f.write_str(self.0),
            false => write!(f, "{}", Quoted(self.0)),
        }
    }
}

/// Longest text of a peer in a log line, in characters.
pub const BRIEF_CHARS_MAX: usize = 256;

/// A peer's explanation within a sentence: what is not printable is escaped, and it is cut after [`BRIEF_CHARS_MAX`]
/// characters. A peer that sends 64 KiB of reason does not get a log line of that length.
pub struct Brief<'a>(pub &'a str);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(BRIEF_CHARS_MAX) {
            match is_printable(c) {
                true => f.write_char(c)?,
                false => write!(f, "{}", c.escape_unicode())?,
            }
        }
        match self.0.chars().nth(BRIEF_CHARS_MAX) {
            Some(_) => write!(f, "... ({} bytes)", self.0.len()),
            None => Ok(()),
        }
    }
}

/// As [`Field`], in quotes always.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if is_printable(c) => f.write_char(c)?,
                c => write!(f, "{}", c.escape_unicode())?,
            }
        }
        f.write_char('"')
    }
}

/// A span of time for a person, in units that flags take as well: `30s`, `1.5s`, `250ms`, `2h`. Rounded to a
/// thousandth of its unit.
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
        let seconds = ns / 1_000_000_000;
        let is_whole = |of: u128| seconds >= 2 * of && ns.is_multiple_of(of * 1_000_000_000);
        if is_whole(3600) {
            return write!(f, "{}h", seconds / 3600);
        }
        if is_whole(60) {
            return write!(f, "{}m", seconds / 60);
        }
        match units.into_iter().find(|(unit, _)| ns >= *unit) {
            Some((unit, name)) => write!(f, "{}{name}", (ns / (unit / 1000)) as f64 / 1e3),
            None if ns == 0 => f.write_str("0s"),
            None => write!(f, "{ns}ns"),
        }
    }
}

/// JSON as another program wrote it, for a terminal: the same value, with what is not [`is_printable`] as `\u` escapes.
/// Line ends between values stay.
///
/// In JSON such characters stand in strings only (RFC 8259 allows none but space, tab and line ends elsewhere), where
/// an escape means the same.
pub fn json_for_terminal(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || is_printable(c) {
            out.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_explanation_is_cut_and_cannot_write_a_line_of_its_own() {
        assert_eq!(Brief("full").to_string(), "full");
        let most = "x".repeat(BRIEF_CHARS_MAX);
        assert_eq!(Brief(&most).to_string(), most);
        let long = "é".repeat(40_000);
        let said = Brief(&long).to_string();
        let start = "é".repeat(BRIEF_CHARS_MAX);
        assert_eq!(said, format!("{start}... (80000 bytes)"));
        assert_eq!(Brief("a\nb").to_string(), "a\\u{a}b");
    }

    #[test]
    fn what_reorders_text_does_not_print_and_joiners_do_not_reorder() {
        let marks = "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}";
        assert!(marks.chars().all(|c| reorders(c) && !is_printable(c)));
        assert!(!"a\u{200c}\u{200d}\u{2030}\u{2065}\u{206a}\n "
            .chars()
            .any(reorders));
    }

    #[test]
    fn what_steers_or_hides_is_not_printable() {
        for c in "\u{0}\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{200b}\u{200e}\u{202e}\u{2028}\u{2066}\u{2069}\u{feff}\u{e0041}".chars() {
            assert!(!is_printable(c), "{:04x}", u32::from(c));
        }
        for c in "a \"\\~é漢字Ω€😀ü".chars() {
            assert!(is_printable(c), "{c}");
        }
    }

    #[test]
    fn no_id_forges_a_field_of_a_log_line() {
        for (id, shown) in [
            ("analyzer-1", "analyzer-1"),
            ("[::1]:8081", "[::1]:8081"),
            ("é漢", "é漢"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("a=b", r#""a=b""#),
            (
                r#"" why="closed" unacked=0 analyzer="other"#,
                r#""\" why=\"closed\" unacked=0 analyzer=\"other""#,
            ),
            (r"a\b", r#""a\\b""#),
            ("a\u{202e}b\nc", r#""a\u{202e}b\u{a}c""#),
        ] {
            assert_eq!(Field(id).to_string(), shown);
        }
        assert_eq!(Quoted("closed").to_string(), r#""closed""#);
    }

    #[test]
    fn times_are_written_as_flags_take_them() {
        for (ns, text) in [
            (0, "0s"),
            (7, "7ns"),
            (10_000, "10us"),
            (250_000_000, "250ms"),
            (137_482_913, "137.482ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "60s"),
            (61_234_567_891, "61.234s"),
            (120_000_000_000, "2m"),
            (5_400_000_000_000, "90m"),
            (86_400_000_000_000, "24h"),
        ] {
            assert_eq!(Time(Duration::from_nanos(ns)).to_string(), text);
        }
        let longest = Time(Duration::MAX).to_string();
        assert!(longest.len() < 25, "{longest}");
    }

    #[test]
    fn a_name_that_looks_like_another_is_refused() {
        for bad in ["a\u{202e}b", "a\u{200b}", "\u{feff}a", "a\nb", "\u{9b}31m"] {
            let why = check_name(bad).expect_err(bad);
            assert!(why.contains("U+") && why.contains("allowed"), "{why}");
        }
        for blank in [" ", "  ", "\u{a0}", "\u{3000} "] {
            let why = check_name(blank).expect_err("no name");
            assert!(why.contains("white space alone; allowed: "), "{why}");
        }
        assert_eq!(check_name("a b"), Ok(()));
        assert_eq!(check_name("Ω-1 \"é\" 漢 😀"), Ok(()));
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value =
            serde_json::json!({ "payload": "\u{9b}31m \u{7f} \u{202e}x\u{e0041} é \u{1b}[0m\n" });
        let shown = json_for_terminal(&format!("{value}\n"));
        assert!(shown.ends_with('\n'));
        assert!(shown.trim_end().chars().all(is_printable), "{shown:?}");
        let back: serde_json::Value = serde_json::from_str(&shown).expect("still JSON");
        assert_eq!(back, value);
    }
}
