//! Values of flags: what is accepted is what the text says, by integer arithmetic; what is not is
//! refused with what is allowed.
//!
//! Input: u8 which value, text.

use std::time::Duration;

use weir::cli::values;

use super::input::Input;

const DURATION_UNITS: [(&str, u128); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const BYTE_UNITS: [(&str, u128); 5] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
const YEARS_100_NS: u128 = 100 * 365 * 86_400 * 1_000_000_000;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let which = input.below(5);
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        return;
    };
    match which {
        0 => check_duration(text, &refused(values::duration(text))),
        1 => check_seconds(text),
        2 => check_bytes(text),
        3 => check_weight(text),
        _ => check_weight_after(text),
    }
}

/// What is refused says what is allowed.
fn refused<T>(value: Result<T, String>) -> Option<T> {
    value
        .map_err(|why| assert!(why.contains("allowed: "), "{why}"))
        .ok()
}

fn check_duration(text: &str, found: &Option<Duration>) {
    let units = DURATION_UNITS.iter();
    let parts = units.filter_map(|(unit, ns)| Some((text.strip_suffix(unit)?, *ns)));
    let expected = parts
        .filter_map(|(number, ns)| decimal_ns(number.trim_end(), ns))
        .next();
    check_ns(text, found, &expected);
}

fn check_seconds(text: &str) {
    let found = refused(values::seconds(text));
    match decimal_ns(text, 1_000_000_000) {
        None => check_duration(text, &found),
        plain => check_ns(text, &found, &plain),
    }
}

/// A number of nanoseconds, as far as the text can be one.
enum Nanoseconds {
    About(u128),
    Negative,
    /// More digits than are counted here.
    Unknown,
}

fn check_ns(text: &str, found: &Option<Duration>, expected: &Option<Nanoseconds>) {
    let found = found.map(|duration| duration.as_nanos());
    match (found, expected) {
        (_, Some(Nanoseconds::Unknown)) => {}
        (None, None | Some(Nanoseconds::Negative)) => {}
        (None, Some(Nanoseconds::About(ns))) => {
            assert!(*ns + (1 << 20) > YEARS_100_NS, "{text:?} is a duration");
        }
        (Some(found), Some(Nanoseconds::About(ns))) => {
            let off = found.abs_diff(*ns);
            assert!(off <= 1 + (ns >> 50), "{text:?} is {found} ns");
            assert!(found <= YEARS_100_NS, "{text:?} is {found} ns");
        }
        (Some(found), _) => panic!("{text:?} is no duration, and not {found} ns"),
    }
}

/// `digits[.digits]`, one digit at least, times `unit_ns`.
fn decimal_ns(number: &str, unit_ns: u128) -> Option<Nanoseconds> {
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + part.len() == 0 || !all_digits(whole) || !all_digits(part) {
        return None;
    }
    let is_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if whole.len() > 18 || part.len() > 18 {
        return Some(Nanoseconds::Unknown);
    }
    let read = |text: &str| {
        text.bytes()
            .fold(0, |n, byte| n * 10 + u128::from(byte - b'0'))
    };
    let (whole, scale) = (read(whole), 10_u128.pow(part.len() as u32));
    let ns = whole * unit_ns + read(part) * unit_ns / scale;
    Some(match number.starts_with('-') {
        true if !is_zero => Nanoseconds::Negative,
        _ => Nanoseconds::About(ns),
    })
}

fn check_bytes(text: &str) {
    let found = refused(values::bytes(text));
    let units = BYTE_UNITS.iter();
    let parts = units.filter_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    let expected = parts
        .filter_map(|(number, scale)| whole(number.trim_end())?.checked_mul(scale))
        .find_map(|bytes| u64::try_from(bytes).ok());
    assert_eq!(found, expected, "{text:?}");
}

fn whole(number: &str) -> Option<u128> {
    let digits = number.strip_prefix('+').unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.bytes().try_fold(0_u128, |number, byte| {
        number.checked_mul(10)?.checked_add(u128::from(byte - b'0'))
    })
}

fn check_weight(text: &str) {
    let found = refused(values::weight(text));
    let number = text.parse::<f64>().ok();
    let expected = number.filter(|weight| weight.is_finite() && *weight >= 0.0);
    assert_eq!(found, expected, "{text:?}");
    assert!(
        found.is_none_or(|weight| weight.is_sign_positive()),
        "{text:?} is -0"
    );
}

fn check_weight_after(text: &str) {
    let found = refused(values::weight_after(text));
    let expected = text.split_once('=').and_then(|(time, weight)| {
        Some((values::duration(time).ok()?, values::weight(weight).ok()?))
    });
    assert_eq!(found, expected, "{text:?}");
}
