//! Weights as integers, which all of routing is exact in.

/// The weights of one table are scaled to a sum of 2^43 to 2^44: a power of two, so that small
/// whole-number weights stay exact.
pub(super) const WEIGHT_SUM_LOG2: i32 = 44;

/// Least sum of the integers. Not by `powi`, whose precision is unspecified.
#[allow(clippy::cast_precision_loss)] // a power of two
const SUM_MIN: f64 = (1_i64 << (WEIGHT_SUM_LOG2 - 1)) as f64;

/// Turns weights into integers by a power of two.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    largest: f64,
    factor: f64,
}

fn usable(weight: f64) -> f64 {
    if weight.is_finite() && weight > 0.0 {
        weight
    } else {
        0.0
    }
}

pub(super) fn scale_of(table: &[(u32, f64)]) -> Scale {
    let weights = || table.iter().map(|&(_, weight)| usable(weight));
    let largest = weights().fold(0.0, f64::max);
    // A power of two near the largest, so that dividing by it is exact and the sum cannot overflow.
    let largest = if largest > 0.0 {
        floor_power_of_two(largest)
    } else {
        1.0
    };
    let sum: f64 = weights().map(|weight| weight / largest).sum();
    let factor = SUM_MIN / floor_power_of_two(sum.max(1.0));
    Scale { largest, factor }
}

impl Scale {
    pub(super) fn apply(self, weight: f64) -> i64 {
        match usable(weight) {
            0.0 => 0,
            weight => to_i64(weight / self.largest * self.factor).max(1),
        }
    }
}

/// The power of two at or below a positive number: its exponent bits (a subnormal stays itself).
fn floor_power_of_two(number: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    let power = f64::from_bits(number.to_bits() & EXPONENT);
    if power > 0.0 {
        power
    } else {
        number
    }
}

/// Errors and weights as fractions of each other: 2^-53 of relative error does not matter there.
#[allow(clippy::cast_precision_loss)]
pub(super) fn to_f64(number: i64) -> f64 {
    number as f64
}

/// To the nearest integer; saturates.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn to_i64(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_number_weights_stay_exact() {
        let table = [(0, 3.0), (1, 1.0), (2, 12.0)];
        let scale = scale_of(&table);
        let [three, one, twelve] = table.map(|(_, weight)| scale.apply(weight));
        assert_eq!((three, twelve), (3 * one, 12 * one));
        assert_eq!(one * 16, 1 << (WEIGHT_SUM_LOG2 - 1));
    }

    /// Also where the sum is no power of two, and the largest is none.
    #[test]
    fn whole_number_weights_stay_exact_whatever_their_sum() {
        for weights in [[3.0, 1.0, 6.0], [7.0, 5.0, 9.0], [1000.0, 1.0, 3.0]] {
            let table = [(0, weights[0]), (1, weights[1]), (2, weights[2])];
            let scale = scale_of(&table);
            let one = scale.apply(1.0);
            assert!(one.count_ones() == 1, "{one:b}");
            assert_eq!(
                weights.map(|weight| scale.apply(weight) / one),
                weights.map(to_i64)
            );
            assert_eq!(weights.map(|weight| scale.apply(weight) % one), [0; 3]);
        }
    }

    #[test]
    fn every_table_is_scaled_to_the_same_power_of_two() {
        for weights in [
            [1.0, 1.0, 1.0],
            [0.4, 0.3, 0.2],
            [7.0, 1e-3, 2.5],
            [f64::MAX, f64::MAX / 4.0, f64::MAX],
            [1e-300, 3e-300, 0.0],
            [5e-324, 1e-323, 5e-324],
            [1e18, 3e17, 5.0],
        ] {
            let table = [(0, weights[0]), (1, weights[1]), (2, weights[2])];
            let scale = scale_of(&table);
            let scaled = weights.map(|weight| scale.apply(weight));
            let sum: i64 = scaled.iter().sum();
            let allowed = 1 << (WEIGHT_SUM_LOG2 - 1)..=1 << WEIGHT_SUM_LOG2;
            assert!(allowed.contains(&sum), "{weights:?}: {sum}");
            for (one, other) in [(0, 1), (1, 2)] {
                let is = to_f64(scaled[one]) * (weights[other] / weights[0]);
                let should_be = to_f64(scaled[other]) * (weights[one] / weights[0]);
                assert!((is - should_be).abs() <= 4.0, "{weights:?}: {scaled:?}");
            }
        }
    }

    #[test]
    fn weights_that_are_none_count_as_zero_and_small_ones_as_something() {
        let bad = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        // Exact, which `powi` need not be.
        let [large, small] = [1123, 923].map(|exponent| f64::from_bits(exponent << 52));
        let mut table = vec![(0, large), (1, small)];
        table.extend((2..).zip(bad));
        let scale = scale_of(&table);
        assert_eq!(scale.apply(large), 1 << (WEIGHT_SUM_LOG2 - 1));
        assert_eq!(scale.apply(small), 1);
        assert_eq!(bad.map(|weight| scale.apply(weight)), [0; 5]);
    }
}
