//! Versions of programs, as they print them.

use std::path::Path;
use std::process::{Command, Stdio};

/// The first line that a program prints when asked for its version, on either output; `unknown` when it
/// prints none. Of a program that is not there as well: what that means is told when it is started.
pub fn printed(program: &Path, args: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(Stdio::null()).output();
    let said = output.map(|o| [o.stdout, o.stderr].concat());
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("unknown").to_owned()
}

/// Major and minor of the first number with a point in it: `HAProxy version 2.6.12-1` is (2, 6).
pub fn number(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| {
            let mut parts = word.split('.').map(|part| part.parse().ok());
            Some((parts.next()??, parts.next()??))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_programs_print() {
        for (text, expected) in [
            (
                "HAProxy version 2.6.12-1+deb12u3 2025/10/03 - https://haproxy.org/",
                Some((2, 6)),
            ),
            ("nginx version: nginx/1.26.3", Some((1, 26))),
            (
                "rsyslogd  8.2504.0 (aka 2025.04) compiled with:",
                Some((8, 2504)),
            ),
            ("syslog-ng 4 (4.8.1)", Some((4, 8))),
            ("unknown", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_line_counts_wherever_it_is_printed() {
        let sh = Path::new("/bin/sh");
        assert_eq!(
            printed(sh, &["-c", "echo; echo ' a 1.2' >&2; echo b >&2"]),
            "a 1.2"
        );
        assert_eq!(printed(sh, &["-c", "true"]), "unknown");
        assert_eq!(printed(Path::new("/no/such"), &[]), "unknown");
    }
}
