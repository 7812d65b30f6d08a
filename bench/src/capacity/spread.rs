//! What several searches come to: where all of them say that the rate lies.

use crate::report::median_min_max;
use crate::search::Bounds;

/// One search, in a line.
pub fn line(bounds: &Bounds) -> String {
    match (bounds.lower, bounds.upper, bounds.is_load_bound) {
        (Some(lower), Some(upper), false) => {
            format!("{lower:.0} msg/s (the next, {upper:.0}, does not hold)")
        }
        (Some(lower), Some(upper), true) => format!(
            "at least {lower:.0} msg/s: the load, not the system, was the limit at {upper:.0}/s"
        ),
        (Some(lower), None, _) => format!("at least {lower:.0} msg/s: --rate-max ended the search"),
        (None, Some(upper), true) => format!(
            "not found: the load, not the system, was the limit at {upper:.0}/s, and no rate below holds"
        ),
        (None, ..) => "none: not even --rate-min holds".into(),
    }
}

/// All searches. The spread is taken over the intervals [lower, upper] and not over their lower ends
/// alone: a search of a given width cannot tell more than that.
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
    let is_unbounded = all.iter().any(|b| b.upper.is_none());
    let is_at_least = !open.is_empty() || is_unbounded;
    let uppers: Vec<f64> = all.iter().filter_map(|b| b.upper).collect();
    let mut text = format!(
        "{name:<11} {}{median:.0} msg/s (median of {}; lower ends {lowest:.0} to {highest:.0})",
        if is_at_least { "at least " } else { "" },
        all.len()
    );
    if let (false, false) = (uppers.is_empty(), is_unbounded) {
        let (_, _, top) = median_min_max(&uppers);
        let spread = (top - lowest) / median * 100.0;
        text += &format!(
            "\n            all intervals lie in {lowest:.0}..{top:.0}: spread {spread:.1} %"
        );
        let (_, least_upper, _) = median_min_max(&uppers);
        if highest > least_upper {
            text +=
                "; they do not all overlap: what differs is the host or the system, not the search";
        }
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
}
