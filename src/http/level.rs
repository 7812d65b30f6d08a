//! Names of severities.

const INFO: u8 = 3;
const NAMES: [&str; 6] = ["fatal", "error", "warn", "info", "debug", "trace"];

/// Name of a severity: `info` for those that have none.
pub fn level_of(severity: u8) -> &'static str {
    let name = NAMES.get(usize::from(severity));
    name.unwrap_or(&NAMES[usize::from(INFO)])
}

/// Severity of a level in any case: fatal 0, error 1, warn or warning 2, info 3, debug 4, trace 5; 3 for
/// every other word.
#[inline]
pub fn severity_of(level: &str) -> u8 {
    let is = |name: &str| level.eq_ignore_ascii_case(name);
    match level.len() {
        4 if is("warn") => 2,
        5 if is("error") => 1,
        5 if is("debug") => 4,
        5 if is("trace") => 5,
        5 if is("fatal") => 0,
        7 if is("warning") => 2,
        _ => INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_severities() {
        for (severity, name) in (0..6).zip(NAMES) {
            assert_eq!(level_of(severity), name);
            assert_eq!(severity_of(name), severity);
            assert_eq!(severity_of(&name.to_uppercase()), severity);
        }
        assert_eq!(severity_of("Warning"), 2);
        for other in ["", "err", "notice", "infos", "fatals", "информация"] {
            assert_eq!(severity_of(other), 3, "{other}");
        }
        assert_eq!(level_of(6), "info");
        assert_eq!(level_of(255), "info");
    }
}
