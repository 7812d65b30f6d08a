//! Times and plain data as JSON has them.

use serde::Serialize;
use serde_json::Value;

use weir_ledger::run_report::{rfc3339, Stamp};

/// ISO 8601 in UTC with milliseconds, such as `2026-11-22T03:28:30.125Z`.
pub fn iso_ms(now: Stamp) -> String {
    let mut text = rfc3339(now.unix_ns);
    text.truncate("2026-11-22T03:28:30.125".len());
    text.push('Z');
    text
}

/// Milliseconds since 1970.
pub fn unix_ms(now: Stamp) -> u64 {
    now.unix_ns / 1_000_000
}

/// Plain data as JSON; what cannot be written is null.
pub fn value(data: impl Serialize) -> Value {
    serde_json::to_value(data).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        let now = Stamp {
            unix_ns: 1_234_567_890,
            mono_ns: 0,
        };
        assert_eq!(iso_ms(now), "1970-01-01T00:00:01.234Z");
        assert_eq!(unix_ms(now), 1234);
    }
}
