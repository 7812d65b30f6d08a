//! Values with units, as flags and configuration files have them. An error says what is allowed;
//! clap or the configuration reader puts the name and the value before it.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

const DURATION_UNITS: [(&str, f64); 6] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];
const BYTE_UNITS: [(&str, u64); 5] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
/// No flag means anything beyond this, and arithmetic with it stays safe.
const DURATION_MAX: f64 = 100.0 * 365.0 * 86_400.0;

/// `500us`, `1.5s`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration_where(text, |_| true, "0s to 100 years")
}

/// One that `fits`. Whatever does not, a negative one included, is told what is `allowed`.
pub(crate) fn duration_where(
    text: &str,
    fits: impl Fn(Duration) -> bool,
    allowed: &str,
) -> Result<Duration, String> {
    let seconds = seconds_of(text)?;
    let is_time = (0.0..=DURATION_MAX).contains(&seconds);
    let time = is_time.then(|| Duration::from_secs_f64(seconds));
    time.filter(|time| fits(*time))
        .ok_or_else(|| format!("allowed: {allowed}"))
}

fn seconds_of(text: &str) -> Result<f64, String> {
    let allowed = || "allowed: a number and a unit, ns us ms s m or h (500us, 30s, 2m)".to_string();
    let (number, unit) = split(text);
    let (_, scale) = DURATION_UNITS
        .iter()
        .find(|(u, _)| *u == unit)
        .ok_or_else(allowed)?;
    Ok(number.parse::<f64>().map_err(|_| allowed())? * scale)
}

/// Plain seconds, as the reference programs take them, or a [`duration`].
pub fn seconds(text: &str) -> Result<Duration, String> {
    let with_unit = match text.parse::<f64>() {
        Ok(_) => duration(&format!("{text}s")),
        Err(_) => duration(text),
    };
    with_unit.map_err(|why| format!("{why}, or plain seconds (60)"))
}

/// `4096`, `256KiB`, `1MiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let allowed =
        || "allowed: a whole number of bytes, or one with B, KiB, MiB or GiB (256KiB)".to_string();
    let (number, unit) = split(text);
    let (_, scale) = BYTE_UNITS
        .iter()
        .find(|(u, _)| *u == unit)
        .ok_or_else(allowed)?;
    let number = number.parse::<u64>().map_err(|_| allowed())?;
    number
        .checked_mul(*scale)
        .ok_or_else(|| "allowed: at most 16 EiB".into())
}

/// Like [`bytes`], of memory.
pub fn size(text: &str) -> Result<usize, String> {
    let most = usize::MAX;
    let bytes = bytes(text)?;
    usize::try_from(bytes).map_err(|_| format!("allowed: at most {most} bytes"))
}

/// Like [`bytes`], within `range`, limits included.
pub fn bytes_within<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let bytes = bytes(text)?;
        if let (true, Ok(bytes)) = (range.contains(&bytes), T::try_from(bytes)) {
            return Ok(bytes);
        }
        let (first, last) = (show_bytes(*range.start()), show_bytes(*range.end()));
        Err(format!("allowed: {first} to {last}"))
    }
}

/// Like [`duration`], but no zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err("allowed: more than 0s".into());
    }
    Ok(duration)
}

/// Like [`duration`], within `range`, limits included.
pub fn duration_within(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let (first, last) = (show_duration(*range.start()), show_duration(*range.end()));
        duration_where(
            text,
            |time| range.contains(&time),
            &format!("{first} to {last}"),
        )
    }
}

/// As [`bytes`] takes them, in the largest unit that leaves a whole number.
pub fn show_bytes(bytes: u64) -> String {
    let units = BYTE_UNITS.iter().skip(1).rev();
    let (unit, scale) = units
        .copied()
        .find(|(_, scale)| bytes > 0 && bytes.is_multiple_of(*scale))
        .unwrap_or(BYTE_UNITS[1]);
    format!("{}{unit}", bytes / scale)
}

/// As [`duration`] takes it, in the largest unit that leaves a whole number.
pub fn show_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    if ns == 0 {
        return "0s".into();
    }
    let (scale, unit) = units
        .into_iter()
        .find(|(scale, _)| ns.is_multiple_of(*scale))
        .unwrap_or((1, "ns"));
    format!("{}{unit}", ns / scale)
}

/// `true` or `false`.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "allowed: true or false".into())
}

/// A whole number within `range`, limits included. Clap's own parser says what is allowed only of
/// numbers that its type can hold.
pub fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (first, last) = (range.start(), range.end());
        number.ok_or_else(|| format!("allowed: a whole number, {first}..={last}"))
    }
}

/// An IP address and a port.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "allowed: an IP address and a port (127.0.0.1:8080, [::1]:8080)".into())
}

/// A host and a port, for the resolver.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let is_one = parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    is_one
        .then(|| text.to_owned())
        .ok_or_else(|| "allowed: a host and a port (localhost:8080, [::1]:8080)".into())
}

/// A nameserver: an address, and port 53 where none is given.
pub fn nameserver(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|it| it.port() > 0);
    let bare = || text.parse().ok().map(|ip| SocketAddr::new(ip, 53));
    with_port.or_else(bare).ok_or_else(|| {
        "allowed: an address, with or without a port (10.0.0.10, 127.0.0.1:8600, [::1]:53)".into()
    })
}

/// A finite number, 0 or more.
pub fn weight(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .and_then(weir_protocol::valid_weight)
        .ok_or_else(|| "allowed: a finite number, 0 or more (0.25)".into())
}

/// `3s=0.5`: a time and the weight from then on.
pub fn weight_after(text: &str) -> Result<(Duration, f64), String> {
    let (time, new) = text
        .split_once('=')
        .ok_or_else(|| "allowed: a time and a weight (3s=0.5)".to_owned())?;
    Ok((duration(time)?, weight(new)?))
}

/// Number and unit: the unit starts at the first letter.
fn split(text: &str) -> (&str, &str) {
    let unit = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    (number.trim_end(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0ms"), Ok(Duration::ZERO));
        for bad in [
            "", "5", "s", "-1s", "NaNs", "infs", "1e300h", "1d", "1 2s", "5S",
        ] {
            assert!(duration(bad).is_err_and(|e| e.contains("allowed")), "{bad}");
        }
        assert_eq!(seconds("60"), Ok(Duration::from_secs(60)));
        assert_eq!(seconds("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["-1", "inf", "NaN", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        for good in ["localhost:8080", "[::1]:0", "10.0.0.1:65535"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "localhost",
            ":8080",
            "h:",
            "h:65536",
            "h:http",
            "http://h",
        ] {
            assert!(
                host_and_port(bad).is_err_and(|e| e.contains("allowed")),
                "{bad}"
            );
        }
    }

    #[test]
    fn byte_counts() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("256KiB"), Ok(262_144));
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        assert_eq!(bytes("2 GiB"), Ok(2 << 30));
        for bad in ["", "KiB", "-1", "1.5KiB", "1kb", "1XB", "99999999999GiB"] {
            assert!(bytes(bad).is_err_and(|e| e.contains("allowed")), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_what_is_taken() {
        for text in ["0B", "1B", "1023B", "1KiB", "1025B", "64MiB", "16GiB"] {
            assert_eq!(bytes(text).map(show_bytes).as_deref(), Ok(text));
        }
        for text in ["0s", "1ns", "500us", "1500ms", "75s", "2m", "1h", "25h"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Ok(text));
        }
        let size = bytes_within::<u32>(1 << 10..=1 << 20);
        assert_eq!((size("1KiB"), size("1MiB")), (Ok(1 << 10), Ok(1 << 20)));
        assert_eq!(size("1023"), Err("allowed: 1KiB to 1MiB".into()));
        assert!(positive_duration("0s").is_err_and(|why| why.contains("more than 0s")));
        let time = duration_within(Duration::from_millis(1)..=Duration::from_secs(60));
        assert_eq!(time("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(time("61s"), Err("allowed: 1ms to 1m".into()));
        assert!(boolean("1").is_err_and(|why| why.contains("true or false")));
    }

    #[test]
    fn numbers_and_addresses() {
        let parse = number(1..=200_u8);
        assert_eq!((parse("1"), parse("200")), (Ok(1), Ok(200)));
        for bad in ["0", "201", "300", "-1", "1.5", "", "x"] {
            let error = parse(bad).expect_err(bad);
            assert!(
                error.contains("allowed: a whole number, 1..=200"),
                "{error}"
            );
        }
        assert!(address("[::1]:80").is_ok());
        for bad in ["", "8080", "localhost:8080", "1.2.3.4", "1.2.3.4:70000"] {
            assert!(address(bad).is_err_and(|e| e.contains("allowed")), "{bad}");
        }
    }

    #[test]
    fn weights() {
        assert_eq!(weight("0.4"), Ok(0.4));
        assert_eq!(weight("0"), Ok(0.0));
        for bad in ["-1", "NaN", "inf", "", "x"] {
            assert!(weight(bad).is_err(), "{bad}");
        }
        assert_eq!(weight_after("3s=0.5"), Ok((Duration::from_secs(3), 0.5)));
        for bad in ["3s", "=0.5", "3=0.5", "3s=-1", "3s="] {
            let error = weight_after(bad).expect_err(bad);
            assert!(error.contains("allowed"), "{error}");
        }
    }
}
