//! The Mann-Whitney U test: do values of one list tend to be larger than those of another?
//!
//! It asks nothing of the distribution of run times, which are skewed and have outliers. Source:
//! H. B. Mann, D. R. Whitney, "On a test of whether one of two random variables is stochastically
//! larger than the other", Annals of Mathematical Statistics 18 (1947), 50-60.
//!
//! Small lists: the exact distribution of the rank sum over all ways to divide the pooled values,
//! ties included, by the shift algorithm of B. Streitberg and J. Roehmel, "Exact distributions for
//! permutation and rank tests", Statistical Software Newsletter 12 (1986), 10-17. Larger ones: the
//! normal approximation with correction for ties and continuity.

/// Values in both lists together up to which the distribution is exact; beyond, the approximation
/// is off by less than what a figure of this kind is read to.
const EXACT_MAX: usize = 60;

/// Outcome of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Pairs (a, b) with a > b; equal ones count half.
    pub u: f64,
    /// Two-sided probability of a U at least as far from the middle, if nothing differs.
    pub p: f64,
}

/// Compares two lists that are not empty.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Test {
    assert!(!a.is_empty() && !b.is_empty(), "two lists with values");
    let ranks = doubled_ranks(a, b);
    let doubled_sum: usize = ranks[..a.len()].iter().sum();
    let u = doubled_sum as f64 / 2.0 - (a.len() * (a.len() + 1)) as f64 / 2.0;
    let p = if ranks.len() <= EXACT_MAX {
        exact(&ranks, a.len(), doubled_sum)
    } else {
        normal(&ranks, a.len(), u)
    };
    Test { u, p }
}

/// The least p that lists of these lengths can give: all of one above all of the other.
pub fn least_p(a: usize, b: usize) -> f64 {
    let above: Vec<f64> = (0..a).map(|n| (b + n) as f64).collect();
    let below: Vec<f64> = (0..b).map(|n| n as f64).collect();
    mann_whitney(&above, &below).p
}

/// Twice the rank of each value in the pooled list, first of `a` and then of `b`; equal values
/// share the mean of their ranks, which is why they are doubled.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let pooled: Vec<f64> = a.iter().chain(b).copied().collect();
    let rank = |value: &f64| {
        let lower = pooled.iter().filter(|other| *other < value).count();
        let equal = pooled.iter().filter(|other| *other == value).count();
        2 * lower + equal + 1
    };
    pooled.iter().map(rank).collect()
}

/// Counts the ways to pick `chosen` of the ranks by their sum, and so both tails at `sum`.
fn exact(ranks: &[usize], chosen: usize, sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // ways[k][s]: subsets of k ranks with the sum s. Counts stay below 2^60: exact enough in f64.
    let mut ways = vec![vec![0.0f64; total + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for k in (1..=chosen).rev() {
            let (fewer, more) = ways.split_at_mut(k);
            for s in *rank..=total {
                more[0][s] += fewer[k - 1][s - rank];
            }
        }
    }
    let all: f64 = ways[chosen].iter().sum();
    let low: f64 = ways[chosen][..=sum].iter().sum();
    let high: f64 = ways[chosen][sum..].iter().sum();
    (2.0 * low.min(high) / all).min(1.0)
}

fn normal(ranks: &[usize], a: usize, u: f64) -> f64 {
    let b = ranks.len() - a;
    let (m, n) = (a as f64, b as f64);
    let all = m + n;
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    let ties: f64 = sorted
        .chunk_by(|x, y| x == y)
        .map(|group| (group.len() as f64).powi(3) - group.len() as f64)
        .sum();
    let variance = m * n / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((u - m * n / 2.0).abs() - 0.5).max(0.0);
    erfc(distance / variance.sqrt() / std::f64::consts::SQRT_2).min(1.0)
}

/// Complementary error function for x >= 0, to 1.2e-7 of its value: W. H. Press and others,
/// Numerical Recipes in C, 2nd edition (1992), section 6.2, `erfcc`.
fn erfc(x: f64) -> f64 {
    const FACTORS: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let polynomial = FACTORS
        .iter()
        .rev()
        .fold(0.0, |sum, factor| sum * t + factor);
    t * (-x * x + polynomial).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists without ties whose first has rank sum `u` above its least.
    fn lists(a: usize, b: usize, u: usize) -> (Vec<f64>, Vec<f64>) {
        // Start with all of a below, and move the last ones up by u places.
        let mut places: Vec<usize> = (0..a).collect();
        let mut left = u;
        for place in places.iter_mut().rev() {
            let step = left.min(b);
            *place += step;
            left -= step;
        }
        assert_eq!(left, 0, "u is at most a * b");
        let rest = (0..a + b).filter(|n| !places.contains(n));
        let b = rest.map(|n| n as f64).collect();
        (places.iter().map(|n| *n as f64).collect(), b)
    }

    /// P(U <= u), as Mann and Whitney printed it in their Table I (1947), to three decimals.
    #[test]
    fn the_table_of_1947_is_met() {
        for (a, b, table) in [
            (3, 3, &[0.050, 0.100, 0.200, 0.350, 0.500][..]),
            (
                4,
                4,
                &[0.014, 0.029, 0.057, 0.100, 0.171, 0.243, 0.343, 0.443],
            ),
            (
                5,
                5,
                &[
                    0.004, 0.008, 0.016, 0.028, 0.048, 0.075, 0.111, 0.155, 0.210, 0.274, 0.345,
                    0.421, 0.500,
                ],
            ),
        ] {
            for (u, expected) in table.iter().enumerate() {
                let (x, y) = lists(a, b, u);
                let test = mann_whitney(&x, &y);
                assert_eq!(test.u, u as f64);
                let one_sided = test.p / 2.0;
                // At the middle both tails are more than one half, and p is capped at 1.
                assert!(
                    (one_sided - expected).abs() < 0.0006,
                    "{a} {b} {u}: {one_sided}"
                );
            }
        }
    }

    /// Hollander and Wolfe, Nonparametric Statistical Methods (1973), page 69: permeability of
    /// membranes; the example of R's wilcox.test, which prints W = 35, p = 0.1272 one-sided.
    #[test]
    fn the_membranes_of_hollander_and_wolfe() {
        let x = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let y = [1.15, 0.88, 0.90, 0.74, 1.21];
        let test = mann_whitney(&x, &y);
        assert_eq!(test.u, 35.0);
        assert!((test.p - 2.0 * 0.1272).abs() < 0.0001, "{test:?}");
        assert_eq!(mann_whitney(&y, &x).p, test.p);
    }

    /// The example of SciPy's documentation of mannwhitneyu: ages at diagnosis, U 17; exact p 0.1111,
    /// by the approximation 0.1113468865.
    #[test]
    fn exact_and_approximate_agree_with_scipy() {
        let males = [19.0, 22.0, 16.0, 29.0, 24.0];
        let females = [20.0, 11.0, 17.0, 12.0];
        let test = mann_whitney(&males, &females);
        assert_eq!(test.u, 17.0);
        assert!((test.p - 0.1111).abs() < 0.0001, "{test:?}");
        let p = normal(&doubled_ranks(&males, &females), 5, 17.0);
        assert!((p - 0.11134688653).abs() < 1e-6, "{p}");
    }

    #[test]
    fn ties_are_exact_too() {
        // {1, 2, 2} and {2, 3, 3}: of the 20 ways to pick three, by hand, those with a rank sum of
        // 7 or less are 3: {1, 2, 2} three times.
        let test = mann_whitney(&[1.0, 2.0, 2.0], &[2.0, 3.0, 3.0]);
        assert_eq!(test.u, 1.0);
        assert!((test.p - 2.0 * 3.0 / 20.0).abs() < 1e-12, "{test:?}");
        assert_eq!(mann_whitney(&[1.0; 5], &[1.0; 5]).p, 1.0);
    }

    #[test]
    fn long_lists_meet_the_exact_ones() {
        let a: Vec<f64> = (0..30).map(|n| f64::from(n) * 1.7).collect();
        let b: Vec<f64> = (0..30).map(|n| f64::from(n) * 1.7 + 9.3).collect();
        let ranks = doubled_ranks(&a, &b);
        let exact = mann_whitney(&a, &b);
        let approximate = normal(&ranks, 30, exact.u);
        assert!(
            (exact.p - approximate).abs() < 0.002,
            "{} {approximate}",
            exact.p
        );
        let mut longer = a.clone();
        longer.extend(&a);
        assert!(mann_whitney(&longer, &b).p < 0.05);
    }

    #[test]
    fn the_least_p_of_five_and_five() {
        assert!((least_p(5, 5) - 2.0 / 252.0).abs() < 1e-12);
        assert_eq!(least_p(1, 1), 1.0);
    }
}
