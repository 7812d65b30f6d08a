//! Two clocks: the one that people read, and the one that never goes back.

use rustix::time::{clock_gettime, ClockId};
use weir_protocol::civil;

const SECONDS_A_DAY: u64 = 86_400;
const NS_A_SECOND: u64 = 1_000_000_000;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since 1970, UTC.
    pub unix_ns: u64,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub mono_ns: u64,
}

impl Stamp {
    /// This moment.
    pub fn now() -> Stamp {
        Stamp {
            unix_ns: read(ClockId::Realtime),
            mono_ns: monotonic_ns(),
        }
    }
}

/// Nanoseconds since some point before boot, the same in every process of the host: CLOCK_MONOTONIC.
#[inline]
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

#[inline]
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * NS_A_SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// RFC 3339 in UTC with nanoseconds, always 30 characters until the year 2554, where u64 ends.
pub fn rfc3339(unix_ns: u64) -> String {
    let (seconds, ns) = (unix_ns / NS_A_SECOND, unix_ns % NS_A_SECOND);
    let (days, time) = (seconds / SECONDS_A_DAY, seconds % SECONDS_A_DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// Has the form that [`rfc3339`] writes.
pub fn is_rfc3339(text: &str) -> bool {
    let form = "0000-00-00T00:00:00.000000000Z";
    text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == form,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000000Z"),
            (1_795_305_599, "2026-11-21T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(unix_s * NS_A_SECOND), text);
            assert!(is_rfc3339(text));
        }
        assert!(rfc3339(1_234).ends_with("00.000001234Z"));
        assert!(rfc3339(u64::MAX).starts_with("2554-07-21T"));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "yesterday",
            "2026-11-22 03:28:30.000000000Z",
            "2026-11-22T03:28:30Z",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }

    #[test]
    fn clocks_go_on() {
        let (first, second) = (Stamp::now(), Stamp::now());
        assert!(second.mono_ns >= first.mono_ns && first.unix_ns > 1_700_000_000 * NS_A_SECOND);
    }
}
