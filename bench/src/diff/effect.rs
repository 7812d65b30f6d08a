//! How large a difference is, and how many differences may be called real.

use weir_testkit::Random;

use crate::report::median_min_max;

/// Resamples; the ends of the interval then move by less than a hundredth of its length.
const RESAMPLES: usize = 10_000;
/// Fixed, so that the same two files give the same answer.
const SEED: u64 = 0x7765_6972_2064_6966;

/// Ratio of two medians with an interval around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// Median of b over median of a; infinite from 0 to more, 1 from 0 to 0.
    pub ratio: f64,
    /// 2.5 % of the resampled ratios are below.
    pub low: f64,
    /// 2.5 % are above.
    pub high: f64,
}

/// The ratio of the medians with its 95 % interval by the percentile bootstrap: B. Efron,
/// R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Both lists are resampled,
/// each from itself. With a handful of runs the interval is narrower than it should be: read the
/// p-value beside it.
pub fn ratio_of_medians(a: &[f64], b: &[f64]) -> Effect {
    let median = |values: &[f64]| median_min_max(values).0;
    let mut random = Random::new(SEED);
    let (mut of_a, mut of_b) = (vec![0.0; a.len()], vec![0.0; b.len()]);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample(a, &mut of_a, &mut random);
            resample(b, &mut of_b, &mut random);
            ratio(median(&of_a), median(&of_b))
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let at = |part: f64| ratios[((RESAMPLES as f64 * part) as usize).min(RESAMPLES - 1)];
    Effect {
        ratio: ratio(median(a), median(b)),
        low: at(0.025),
        high: at(0.975),
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    match (a, b) {
        (a, b) if a == b => 1.0,
        (a, b) => b / a,
    }
}

/// Holm's step-down correction: of several tests at once, the chance that even one is called
/// significant by accident stays below the level that the returned values are compared with.
/// S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
/// Statistics 6 (1979), 65-70.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|x, y| p_values[*x].total_cmp(&p_values[*y]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least: f64 = 0.0;
    for (step, index) in order.into_iter().enumerate() {
        let remaining = (p_values.len() - step) as f64;
        least = least.max((p_values[index] * remaining).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

/// Fills `out` from `from` with replacement.
fn resample(from: &[f64], out: &mut [f64], random: &mut Random) {
    out.fill_with(|| random.pick(from));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of R's documentation and of many courses: 0.01, 0.02, 0.03, 0.04, 0.05.
    #[test]
    fn holm_steps_down() {
        let adjusted = holm(&[0.04, 0.01, 0.03, 0.02, 0.05]);
        let expected = [0.09, 0.05, 0.09, 0.08, 0.09];
        // By hand: 5 x 0.01, 4 x 0.02, 3 x 0.03, then 2 x 0.04 and 0.05 are below what came before.
        for (found, wanted) in adjusted.iter().zip(expected) {
            assert!((found - wanted).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn a_ratio_lies_in_its_interval_and_does_not_change() {
        let a = [100.0, 101.0, 99.0, 103.0, 98.0];
        let b = [110.0, 111.0, 109.0, 113.0, 108.0];
        let effect = ratio_of_medians(&a, &b);
        assert!((effect.ratio - 1.1).abs() < 1e-12);
        assert!(effect.low < 1.1 && effect.high > 1.1, "{effect:?}");
        // The ends are ratios of values that there are.
        assert!(effect.low >= 108.0 / 103.0 && effect.high <= 113.0 / 98.0);
        assert_eq!(effect, ratio_of_medians(&a, &b));
    }

    #[test]
    fn from_nothing_to_something_is_beyond_all_bounds() {
        assert_eq!(ratio_of_medians(&[0.0], &[0.0]).ratio, 1.0);
        assert_eq!(ratio_of_medians(&[0.0], &[3.0]).ratio, f64::INFINITY);
    }
}
