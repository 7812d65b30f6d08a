//! Numbers as people read them.

/// Three digits that count, with a unit that keeps the number short: `1.23 ms`, `2.65 M messages/s`.
pub fn human(value: f64, unit: &str) -> String {
    match unit {
        "ns" => scaled(
            value,
            &[(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")],
            "ns",
        ),
        "bytes" => scaled(
            value,
            &[
                (1073741824.0, "GiB"),
                (1048576.0, "MiB"),
                (1024.0, "KiB"),
                (1.0, "B"),
            ],
            "B",
        ),
        "" => plain(value),
        "messages" => whole(value),
        unit => {
            let steps = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
            let found = steps.iter().find(|(size, _)| value.abs() >= size * 0.9995);
            match found {
                Some((size, prefix)) => format!("{} {prefix} {unit}", digits(value / size)),
                None => format!("{} {unit}", digits(value)),
            }
        }
    }
}

fn scaled(value: f64, steps: &[(f64, &str)], least: &str) -> String {
    let found = steps.iter().find(|(size, _)| value.abs() >= size * 0.9995);
    match found {
        Some((size, unit)) => format!("{} {unit}", digits(value / size)),
        None => format!("{} {least}", digits(value)),
    }
}

fn plain(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        whole(value)
    } else {
        digits(value)
    }
}

/// 1,234,567.
pub fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if value <= -0.5 {
        out.insert(0, '-');
    }
    out
}

/// Three digits that count, no zeros that do not.
fn digits(value: f64) -> String {
    // As it is after rounding: 9.999 is 10.0 and not 10.00.
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let magnitude = rounded.abs();
    match magnitude {
        0.0 => "0".into(),
        m if m >= 1000.0 => whole(value),
        m if m >= 100.0 => format!("{value:.0}"),
        m if m >= 10.0 => format!("{value:.1}"),
        m if m >= 1.0 => format!("{value:.2}"),
        m if m >= 0.1 => format!("{value:.3}"),
        m if m >= 0.0001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// A label of an axis: as short as it can be.
pub fn tick(value: f64) -> String {
    let magnitude = value.abs();
    let (scaled, prefix) = match magnitude {
        m if m >= 1e9 => (value / 1e9, "G"),
        m if m >= 1e6 => (value / 1e6, "M"),
        m if m >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{prefix}", if text.is_empty() { "0" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, unit, text) in [
            (283.669, "ns", "284 ns"),
            (18_514.9, "ns", "18.5 us"),
            (9_495_000.0, "ns", "9.49 ms"),
            (75_812_864.0, "bytes", "72.3 MiB"),
            (2_645_638.0, "messages/s", "2.65 M messages/s"),
            (10_000_000.0, "messages", "10,000,000"),
            (999.7, "ns", "1.00 us"),
            (999_900.0, "messages/s", "1.00 M messages/s"),
            (0.0, "messages", "0"),
            (0.000492, "", "0.0005"),
            (64.0, "", "64"),
            (12.5, "%", "12.5 %"),
            (9_999.9, "messages/s", "10.0 k messages/s"),
        ] {
            assert_eq!(human(value, unit), text);
        }
        assert_eq!(whole(-1234.0), "-1,234");
        assert_eq!(
            [0.0, 0.5, 250.0, 1000.0, 20_000.0, 3e6].map(tick),
            ["0", "0.5", "250", "1k", "20k", "3M"]
        );
    }
}
