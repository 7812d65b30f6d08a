//! What several searches come to: where all of them say that the rate lies.

use crate::report::median_min_max;
use crate::search::{Bounds, TRIALS_MAX};

/// One search, in a line.
pub fn line(bounds: &Bounds) -> String {
    let found = found(bounds);
    match bounds.is_cut_short {
        true => format!(
            "{found}; {TRIALS_MAX} trials are the most, and the bounds further apart than --width"
        ),
        false => found,
    }
}

fn found(bounds: &Bounds) -> String {
    match (bounds.lower, bounds.upper, bounds.is_load_bound) {
        (Some(lower), Some(upper), false) => {
            format!("{lower:.0} msg/s (the next, {upper:.0}, does not hold)")
        }
        (Some(lower), Some(upper), true) => format!(
            "at least {lower:.0} msg/s: the load, not the system, was the limit at {upper:.0}/s"
        ),
        (Some(lower), None, _) if bounds.is_cut_short => {
            format!("at least {lower:.0} msg/s: no rate above was decided")
        }
        (Some(lower), None, _) => format!("at least {lower:.0} msg/s: --rate-max ended the search"),
        (None, Some(upper), true) => format!(
            "not found: the load, not the system, was the limit at {upper:.0}/s, and no rate below holds"
        ),
        (None, ..) if bounds.is_cut_short => "not found: no rate was decided to hold".into(),
        (None, ..) => "none: not even --rate-min holds".into(),
    }
}

/// All searches. The spread is taken over the intervals [lower, upper] and not over their lower ends
/// alone: a search of a given width cannot tell more than that. Where an upper end is no bound of the system
/// there is no interval, and only the lower ends are told.
pub fn summary(name: &str, all: &[Bounds]) -> String {
    let lowers: Vec<f64> = all.iter().filter_map(|b| b.lower).collect();
    if lowers.len() < all.len() || all.is_empty() {
        let missed = all.len() - lowers.len();
        return format!("{name:<11} not found in {missed} of {} searches", all.len());
    }
    let (median, lowest, highest) = median_min_max(&lowers);
    let open: Vec<f64> = all
        .iter()
        .filter(|b| b.is_load_bound)
        .filter_map(|b| b.upper)
        .collect();
    let is_at_least = !open.is_empty() || all.iter().any(|b| b.upper.is_none());
    let mut text = format!(
        "{name:<11} {}{median:.0} msg/s (median of {}; lower ends {lowest:.0} to {highest:.0}",
        if is_at_least { "at least " } else { "" },
        all.len()
    );
    if is_at_least {
        text += &format!(" ({:.1} %))", (highest - lowest) / median * 100.0);
    } else {
        let uppers: Vec<f64> = all.iter().filter_map(|b| b.upper).collect();
        let (_, _, top) = median_min_max(&uppers);
        let spread = (top - lowest) / median * 100.0;
        text += &format!(
            ")\n            all intervals lie in {lowest:.0}..{top:.0}: spread {spread:.1} %"
        );
        let (_, least_upper, _) = median_min_max(&uppers);
        if highest > least_upper {
            text +=
                "; they do not all overlap: what differs is the host or the system, not the search";
        }
    }
    let cut_short = all.iter().filter(|b| b.is_cut_short).count();
    if cut_short > 0 {
        text += &format!(
            "\n            {cut_short} of {} searches ended after {TRIALS_MAX} trials, with bounds further apart than \
             --width: ask for a larger --width or a smaller --exceed",
            all.len()
        );
    }
    if !open.is_empty() {
        let (_, least, most) = median_min_max(&open);
        text += &format!(
            "\n            the load, not the system, was the limit at {least:.0}{}/s in {} of {} searches: \
             give the load more cores, a larger --burst or fewer --connections",
            if most > least {
                format!(" to {most:.0}")
            } else {
                String::new()
            },
            open.len(),
            all.len()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(lower: f64, upper: f64, is_load_bound: bool) -> Bounds {
        Bounds {
            lower: Some(lower),
            upper: Some(upper),
            is_load_bound,
            is_cut_short: false,
        }
    }

    #[test]
    fn the_spread_is_that_of_the_intervals() {
        let text = summary(
            "NDR",
            &[bounds(98.0, 101.0, false), bounds(100.0, 102.0, false)],
        );
        assert!(
            text.contains("99 msg/s") && !text.contains("at least"),
            "{text}"
        );
        assert!(text.contains("98..102: spread 4.0 %"), "{text}");
        assert!(!text.contains("overlap"), "{text}");
        let apart = summary(
            "NDR",
            &[bounds(98.0, 100.0, false), bounds(150.0, 153.0, false)],
        );
        assert!(apart.contains("do not all overlap"), "{apart}");
    }

    #[test]
    fn what_the_load_ended_is_a_lower_bound() {
        let text = summary(
            "NDR",
            &[bounds(98.0, 101.0, true), bounds(100.0, 102.0, false)],
        );
        assert!(text.contains("at least 99 msg/s"), "{text}");
        assert!(text.contains("the limit at 101/s in 1 of 2"), "{text}");
        // 101 was not measured to be too much: no interval, and no spread of such.
        assert!(text.contains("lower ends 98 to 100 (2.0 %)"), "{text}");
        assert!(
            !text.contains("interval") && !text.contains("spread"),
            "{text}"
        );
        let ended = Bounds {
            upper: None,
            ..bounds(98.0, 0.0, false)
        };
        let text = summary("NDR", &[ended]);
        assert!(
            text.contains("at least 98") && !text.contains("spread"),
            "{text}"
        );
        let none = Bounds {
            lower: None,
            ..ended
        };
        assert!(summary("NDR", &[ended, none]).contains("not found in 1 of 2"));
    }

    #[test]
    fn a_search_that_was_cut_short_says_so() {
        let cut = Bounds {
            is_cut_short: true,
            ..bounds(98.0, 150.0, false)
        };
        let text = summary("NDR", &[cut, bounds(100.0, 102.0, false)]);
        assert!(
            text.contains("1 of 2 searches ended after 120 trials"),
            "{text}"
        );
        let ends = |bounds: &Bounds, begin: &str| {
            let line = line(bounds);
            assert!(line.starts_with(begin), "{line}");
            assert!(line
                .ends_with("120 trials are the most, and the bounds further apart than --width"));
        };
        ends(&cut, "98 msg/s (the next, 150, does not hold)");
        let open = Bounds { upper: None, ..cut };
        ends(&open, "at least 98 msg/s: no rate above was decided");
        ends(
            &Bounds {
                lower: None,
                ..open
            },
            "not found: no rate was decided to hold",
        );
    }
}
