//! Time as header Date has it.

use weir_protocol::{civil, digits};

/// The last second of the year 9999; a later time is shown as this one.
const LAST_S: u64 = 253_402_300_799;
const DAY_S: u64 = 86_400;

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const DATE_BYTES: usize = 29;

/// Seconds since 1970 as header Date has it (RFC 9110 section 5.6.7).
pub fn http_date(unix_s: u64) -> [u8; DATE_BYTES] {
    const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    let unix_s = unix_s.min(LAST_S);
    let (days, seconds) = (unix_s / DAY_S, unix_s % DAY_S);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[(month.saturating_sub(1) % 12) as usize];
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    text[0..3].copy_from_slice(WEEKDAYS[(days % 7) as usize]);
    digits(&mut text[5..7], day);
    text[8..11].copy_from_slice(month_name);
    digits(&mut text[12..16], year);
    digits(&mut text[17..19], seconds / 3600);
    digits(&mut text[20..22], seconds / 60 % 60);
    digits(&mut text[23..25], seconds % 60);
    text
}

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A date of HTTP (RFC 9110, 5.6.7), any of its three forms, in milliseconds since 1970.
pub(super) fn parse_http_date(text: &str) -> Option<u64> {
    let (mut month, mut clock, mut numbers) = (None, None, Vec::new());
    for word in text.split([' ', ',', '-']).filter(|word| !word.is_empty()) {
        let is_it = |name: &&[u8; 3]| name.eq_ignore_ascii_case(word.as_bytes());
        if let Some(found) = MONTHS.iter().position(is_it) {
            month = Some(found as u64 + 1); // a dozen
        } else if word.contains(':') {
            let parts: Vec<u64> = word.split(':').flat_map(str::parse).collect();
            let [hours @ 0..=23, minutes @ 0..=59, seconds @ 0..=60] = parts[..] else {
                return None;
            };
            clock = Some(hours * 3600 + minutes * 60 + seconds);
        } else if word.len() <= 4 {
            numbers.extend(word.parse::<u64>());
        }
    }
    let [day @ 1..=31, year] = numbers[..] else {
        return None;
    };
    let year = match year {
        0..=69 => 2000 + year,
        70..=99 => 1900 + year,
        _ => year,
    };
    let days = days_since_1970(year, month?, day)?;
    Some((days * 86_400 + clock?) * 1000)
}

/// The other way round than [`civil`].
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let guess = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + (month - 1) * 28 + day - 1;
    (guess..guess + 32).find(|days| civil(*days) == (year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let date = |unix_s| String::from_utf8(http_date(unix_s).to_vec()).expect("ASCII");
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(951_782_399), "Mon, 28 Feb 2000 23:59:59 GMT");
        assert_eq!(date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn dates_of_http() {
        for (text, ms) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777_000)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777_000)),
            ("Tue, 29 Feb 2028 00:00:00 GMT", Some(1_835_395_200_000)),
            ("Tue, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799_000)),
            ("Wed, 29 Feb 2027 00:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49", None),
            ("Sun, 06 Nov 1900 08:49:37 GMT", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_http_date(text), ms, "{text}");
        }
    }
}
