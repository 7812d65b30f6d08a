//! Severities of levels, as the common loggers name and number them.
//!
//! ```text
//!   0 fatal   emerg, alert, crit, panic      numbers: 0..=7        syslog, GELF, journald
//!   1 error   err, severe                             10..=99      bunyan, pino: 60 is fatal
//!   2 warn    warning                                 100..=4999   java.util.logging: 1000 is SEVERE
//!   3 info    notice, success, http                   5000..       log4j: 50000 is FATAL
//!   4 debug   fine, config
//!   5 trace   verbose, finest, silly
//! ```

const INFO: u8 = 3;
const NAMES: [&str; 6] = ["fatal", "error", "warn", "info", "debug", "trace"];
/// Longest name that is known, in bytes, with a digit of OpenTelemetry's behind it.
const NAME_BYTES_MAX: usize = 13;

/// Name of a severity: `info` for those that have none.
pub fn level_of(severity: u8) -> &'static str {
    let name = NAMES.get(usize::from(severity));
    name.unwrap_or(&NAMES[usize::from(INFO)])
}

/// Severity of a level: a name in any case, or a number as text. `None`: not known, to be taken as 3.
/// Without a name, or white space alone, it is 3.
#[inline]
pub fn severity_of(level: &str) -> Option<u8> {
    // What most messages say.
    let is = |name: &str| level.eq_ignore_ascii_case(name);
    match level.len() {
        4 if is("info") => Some(INFO),
        4 if is("warn") => Some(2),
        5 if is("error") => Some(1),
        5 if is("debug") => Some(4),
        _ => rare(level.trim()),
    }
}

fn rare(level: &str) -> Option<u8> {
    if level.is_empty() {
        return Some(INFO);
    }
    if level.len() > NAME_BYTES_MAX {
        return None;
    }
    if level.starts_with(|c: char| c.is_ascii_digit()) {
        return level.parse().ok().and_then(of_number);
    }
    let lower = level.to_ascii_lowercase();
    of_name(&lower).or_else(|| {
        // Shades of ERROR: OpenTelemetry's ERROR2, ERROR+4 of Go's slog.
        let shade = lower.trim_end_matches(|c: char| c.is_ascii_digit());
        match shade.strip_suffix(['+', '-']) {
            Some(name) if shade.len() < lower.len() => of_name(name),
            _ => of_name(lower.strip_suffix(['1', '2', '3', '4'])?),
        }
    })
}

fn of_name(name: &str) -> Option<u8> {
    Some(match name {
        "fatal" | "critical" | "crit" | "emergency" | "emerg" | "alert" | "panic" | "dpanic"
        | "fault" | "assert" | "ftl" | "f" | "c" => 0,
        "error" | "err" | "eror" | "severe" | "failure" | "e" => 1,
        "warn" | "warning" | "wrn" | "w" => 2,
        "info" | "information" | "informational" | "inf" | "notice" | "success" | "http"
        | "default" | "log" | "i" | "n" => INFO,
        "debug" | "dbg" | "dbug" | "fine" | "config" | "d" => 4,
        "trace" | "trc" | "trce" | "verbose" | "vrb" | "finer" | "finest" | "silly" | "all"
        | "t" | "v" => 5,
        _ => return None,
    })
}

/// A number between two that have a name is the lower one's.
fn of_number(number: u32) -> Option<u8> {
    Some(match number {
        0..=2 => 0,
        3 => 1,
        4 => 2,
        5 | 6 => INFO,
        7 => 4,
        8 | 9 => return None,
        10..=19 => 5,
        20..=29 => 4,
        30..=39 => INFO,
        40..=49 => 2,
        50..=59 => 1,
        60..=99 => 0,
        100..=499 => 5,
        500..=799 => 4,
        800..=899 => INFO,
        900..=999 => 2,
        1000..=4999 => 1,
        5000..=9999 => 5,
        10_000..=19_999 => 4,
        20_000..=29_999 => INFO,
        30_000..=39_999 => 2,
        40_000..=49_999 => 1,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_severities() {
        for (severity, name) in (0..6).zip(NAMES) {
            assert_eq!(level_of(severity), name);
            assert_eq!(severity_of(name), Some(severity));
            assert_eq!(severity_of(&name.to_uppercase()), Some(severity));
        }
        assert_eq!(level_of(6), "info");
        assert_eq!(level_of(255), "info");
    }

    #[test]
    fn the_words_of_common_loggers_are_known() {
        for (severity, words) in [
            (
                0,
                "CRITICAL crit Emerg emergency ALERT panic dpanic Fault FTL F FATAL4",
            ),
            (1, "err SEVERE Error3 E ERROR+4"),
            (2, "Warning WRN w WARN2 WARN+1"),
            (
                3,
                "notice Information informational success http DEFAULT I log",
            ),
            (4, "FINE config DBG d Debug2"),
            (5, "verbose FINEST finer silly V TRC"),
        ] {
            for word in words.split(' ') {
                assert_eq!(severity_of(word), Some(severity), "{word}");
                assert_eq!(severity_of(&format!(" {word} ")), Some(severity), "{word}");
            }
        }
        for unknown in [
            "infos",
            "fatals",
            "информация",
            "error5",
            "error+",
            "+4",
            "x",
            "none",
            "-1",
            "1e2",
        ] {
            assert_eq!(severity_of(unknown), None, "{unknown}");
        }
        for nothing in ["", " \t"] {
            assert_eq!(severity_of(nothing), Some(3));
        }
    }

    #[test]
    fn numbers_are_those_of_syslog_pino_java_and_log4j() {
        for (severity, numbers) in [
            (0, "0 1 2 60 70 50000"),
            (1, "3 50 1000 40000"),
            (2, "4 40 45 900 30000"),
            (3, "5 6 30 800 20000"),
            (4, "7 20 500 700 10000"),
            (5, "10 15 300 400 5000"),
        ] {
            for number in numbers.split(' ') {
                assert_eq!(severity_of(number), Some(severity), "{number}");
            }
        }
        for unknown in ["8", "9", "99999999999999"] {
            assert_eq!(severity_of(unknown), None, "{unknown}");
        }
    }
}
