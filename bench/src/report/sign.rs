//! The sign test: of pairs that ran side by side, does one side win more often than a coin would?
//!
//! It asks nothing of the figures but which of two is larger, so a pair that was disturbed counts as one
//! pair, however far off it is. Source: J. Arbuthnott, "An argument for divine providence, taken from the
//! constant regularity observed in the births of both sexes", Philosophical Transactions 27 (1710),
//! 186-190; W. J. Conover, Practical Nonparametric Statistics (1999), section 3.4.

/// Level below which a difference is called one.
pub const LEVEL: f64 = 0.05;
/// Fewest pairs that can come below [`LEVEL`]: all six on one side are p = 2 / 2^6 = 0.031.
pub const PAIRS_MIN: usize = 6;

/// Most pairs, and so most `--pairs` and `--rounds`: 2^-1000 is a number, 2^-1075 is 0 in f64, and any p
/// made from it.
pub const RUNS_MAX: i64 = 1000;

/// Two-sided probability of ratios at least as lopsided around 1 if neither side were larger. Ratios of
/// exactly 1 are left out, as Conover has it; 1 when nothing is left.
pub fn sign_test(ratios: &[f64]) -> f64 {
    let above = ratios.iter().filter(|r| **r > 1.0).count();
    let below = ratios.iter().filter(|r| **r < 1.0).count();
    let (n, fewer) = (above + below, above.min(below));
    // C(n, k) / 2^n, each from the one before; no command takes more than RUNS_MAX pairs.
    let mut term = 0.5f64.powi(n as i32);
    let mut tail = term;
    for k in 1..=fewer {
        term *= (n - k + 1) as f64 / k as f64;
        tail += term;
    }
    (2.0 * tail).min(1.0)
}

/// The test's answer in a few words, for a line of text.
pub fn told(pairs: usize, p: f64) -> String {
    match pairs {
        n if n < PAIRS_MIN => format!("too few rounds ({n}) to tell, takes {PAIRS_MIN}"),
        _ if p < LEVEL => format!("p {p:.4}"),
        _ => format!("p {p:.2}: not told apart"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the binomial distribution by hand: 2 (1 + 8) / 2^8 and so on.
    #[test]
    fn p_is_that_of_the_binomial_distribution() {
        let ratios = |above: usize, below: usize| [vec![1.1; above], vec![0.9; below]].concat();
        for (above, below, p) in [
            (5, 0, 2.0 / 32.0),
            (6, 0, 2.0 / 64.0),
            (0, 6, 2.0 / 64.0),
            (7, 1, 18.0 / 256.0),
            (9, 1, 22.0 / 1024.0),
            (3, 3, 1.0),
            (0, 0, 1.0),
        ] {
            let found = sign_test(&ratios(above, below));
            assert!((found - p).abs() < 1e-12, "{above} {below}: {found}");
        }
        let tied = [ratios(6, 0), vec![1.0; 3]].concat();
        assert!((sign_test(&tied) - 2.0 / 64.0).abs() < 1e-12);
        assert!(sign_test(&ratios(200, 100)) < 1e-6);
        // As many as a command takes, none the larger: certainly chance, and not 0 for want of digits.
        let half = RUNS_MAX as usize / 2;
        assert!((sign_test(&ratios(half, half)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_can_be_told_is_told() {
        assert_eq!(told(5, 0.0625), "too few rounds (5) to tell, takes 6");
        assert_eq!(told(6, 2.0 / 64.0), "p 0.0312");
        assert_eq!(told(8, 18.0 / 256.0), "p 0.07: not told apart");
        assert!(sign_test(&[1.1; PAIRS_MIN]) < LEVEL);
        assert!(sign_test(&[1.1; PAIRS_MIN - 1]) >= LEVEL);
    }
}
