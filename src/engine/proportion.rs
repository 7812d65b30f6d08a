//! What is due by weights, in integers: for any weights that are valid, however far they lie apart, and for
//! more messages than a year has.
//!
//! ```text
//! weight    53 bits x 2^e                  |   1.........   |      heaviest: its first bit is bit 100
//!           shifted beside the heaviest    |       1.....   |      lighter: what is below bit 0 is gone
//! part      its first 64 bits / those of the sum        fixed point, 2^-64
//! due      += messages x part                           fixed point, 2^-64 of a message
//! ```
//!
//! A part is off by 2^-61 at most, and no step rounds a sum: after 10^15 messages a due is off by less than
//! a thousandth of a message, whatever the weights were in between. A float that is added up loses
//! what is small beside the sum (ADR 0019).

use std::ops::{Add, AddAssign};

/// Bit of the heaviest weight's first digit. Above it is room for the sum of 2^16 of them.
const TOP_BIT: i32 = 100;
/// 2^64, a whole message.
const ONE: f64 = 18_446_744_073_709_551_616.0;

/// Messages and parts of one, in steps of 2^-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due(u128);

impl Due {
    /// In messages, to the precision that a float has.
    pub fn messages(self) -> f64 {
        self.0 as f64 / ONE
    }
}

impl Add for Due {
    type Output = Due;

    fn add(self, other: Due) -> Due {
        Due(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Due {
    fn add_assign(&mut self, other: Due) {
        *self = *self + other;
    }
}

/// Part of each message, 0 to 1, in steps of 2^-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part(u128);

impl Part {
    /// As a number.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / ONE
    }

    /// Of so many messages.
    pub fn of(self, messages: u64) -> Due {
        Due(self.0.saturating_mul(u128::from(messages)))
    }
}

/// Weights that are in force together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proportion {
    /// Place of the heaviest weight's first bit.
    top: i32,
    /// How far sums are shifted right to have 64 bits; left when negative.
    shift: i32,
    /// 2^127 by the sum's first 64 bits; 0 when there is no weight.
    inverse: u128,
}

impl Proportion {
    /// Of these weights. What is no valid weight counts as 0.
    pub fn of(weights: impl Iterator<Item = f64> + Clone) -> Proportion {
        let heaviest = weights.clone().filter(|weight| weight.is_finite());
        let (mantissa, exponent) = parts_of(heaviest.fold(0.0, f64::max));
        if mantissa == 0 {
            return Proportion::default();
        }
        let top = exponent + bits(mantissa.into());
        let sum = weights.fold(0_u128, |sum, weight| {
            sum.saturating_add(beside(weight, top))
        });
        let shift = bits(sum) - 64;
        Proportion {
            top,
            shift,
            inverse: (1 << 127) / shifted(sum, -shift),
        }
    }

    /// Part of one of these weights: its share of their sum.
    pub fn part(&self, weight: f64) -> Part {
        let weight = shifted(beside(weight, self.top), -self.shift);
        Part(weight.saturating_mul(self.inverse) >> 63)
    }

    /// The same as a number, 0 to 1.
    pub fn share(&self, weight: f64) -> f64 {
        self.part(weight).as_f64().min(1.0)
    }
}

/// A weight as an integer beside the heaviest, whose first bit is at `top`.
fn beside(weight: f64, top: i32) -> u128 {
    let (mantissa, exponent) = parts_of(weight);
    shifted(mantissa.into(), exponent - top + TOP_BIT)
}

/// Mantissa and exponent: the weight is `mantissa * 2^exponent`, exactly.
fn parts_of(weight: f64) -> (u64, i32) {
    const MANTISSA_BITS: u32 = 52;
    if !weight.is_finite() || weight <= 0.0 {
        return (0, 0);
    }
    let bits = weight.to_bits();
    let fraction = bits & ((1 << MANTISSA_BITS) - 1);
    let biased = i32::try_from(bits >> MANTISSA_BITS).expect("eleven bits, the sign is 0");
    match biased {
        0 => (fraction, -1074), // denormal
        biased => (fraction | 1 << MANTISSA_BITS, biased - 1075),
    }
}

/// Bits of a number, without leading zeros.
fn bits(number: u128) -> i32 {
    i32::try_from(u128::BITS - number.leading_zeros()).expect("at most 128")
}

/// To the left, or to the right when `by` is negative; nothing is left of what goes beyond bit 0.
fn shifted(number: u128, by: i32) -> u128 {
    let (left, right) = (by.max(0).unsigned_abs(), by.min(0).unsigned_abs());
    number
        .checked_shl(left)
        .and_then(|number| number.checked_shr(right))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dues(weights: &[f64], messages: u64) -> Vec<f64> {
        let all = Proportion::of(weights.iter().copied());
        let due = |weight: &f64| all.part(*weight).of(messages).messages();
        weights.iter().map(due).collect()
    }

    #[test]
    fn weights_of_any_size_have_their_part() {
        assert_eq!(dues(&[1.7e308, 1.7e308], 30_000), [15_000.0; 2]);
        assert_eq!(
            dues(&[f64::MAX, f64::MAX, 1.0, 0.0], 3),
            [1.5, 1.5, 0.0, 0.0]
        );
        assert_eq!(dues(&[5e-324, 5e-324, 1e-323], 4), [1.0, 1.0, 2.0]);
        assert_eq!(dues(&[1e-320], 7), [7.0]);
        assert_eq!(dues(&[0.0, -1.0, f64::NAN, f64::INFINITY], 9), [0.0; 4]);
        assert!(dues(&[], 9).is_empty());
        let mixed = dues(&[1e300, 1e-300, f64::NAN, 1e300], 10);
        assert_eq!(mixed, [5.0, 0.0, 0.0, 5.0]);
        let light = dues(&[1.0, 1e-12], 1_000_000_000_000_000);
        assert!((light[1] - 1000.0).abs() < 0.001, "{light:?}");
    }

    /// Exact, which `powi` need not be.
    fn power_of_two(exponent: i32) -> f64 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    }

    #[test]
    fn a_year_of_messages_is_counted_to_a_thousandth() {
        let denormal = |bits| f64::from_bits(bits);
        for three_to_one in [
            [3.0, 1.0],
            [1.5 * power_of_two(1023), power_of_two(1022)],
            [denormal(3000), denormal(1000)],
            [0.3, 0.1],
        ] {
            let all = Proportion::of(three_to_one.into_iter());
            let (mut due, mut routed) = (Due::default(), 0);
            // A change after each 10^12 messages, or a few.
            for round in 0..1000_u64 {
                let messages = 1_000_000_000_000 + round % 7;
                due += all.part(three_to_one[0]).of(messages);
                routed += messages;
            }
            let exact = (u128::from(routed) * 3) << 62;
            // 0.3 and 0.1 are not quite three to one: 2^-54 of each message.
            let allowed = if three_to_one[0] < 1.0 {
                u128::from(routed) << 10
            } else {
                0
            };
            let off = Due(due.0.abs_diff(exact).saturating_sub(allowed)).messages();
            assert!(off < 1e-3, "{three_to_one:?}: off by {off}");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up_to_all(words in proptest::collection::vec(any::<u64>(), 1..40)) {
            // Any bits at all, and so mostly weights that lie far apart.
            let weights: Vec<f64> = words.iter().map(|word| f64::from_bits(*word)).collect();
            let all = Proportion::of(weights.iter().copied());
            let sum = weights.iter().fold(0, |sum, weight| sum + all.part(*weight).0);
            let valid = weights.iter().any(|weight| weight.is_finite() && *weight > 0.0);
            let whole = if valid { 1_u128 << 64 } else { 0 };
            prop_assert!(sum <= whole, "{sum}");
            prop_assert!(whole - sum <= 8 * weights.len() as u128, "{}", whole - sum);
            for weight in weights {
                prop_assert!((0.0..=1.0).contains(&all.share(weight)));
            }
        }

        #[test]
        fn parts_are_those_of_the_weights(
            weights in proptest::collection::vec(1..1_u64 << 53, 1..40), exponent in -1000..900_i32
        ) {
            let scale = power_of_two(exponent);
            let scaled = || weights.iter().map(|weight| *weight as f64 * scale);
            let all = Proportion::of(scaled());
            let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (weight, scaled) in weights.iter().zip(scaled()) {
                let exact = (u128::from(*weight) << 64) / sum;
                prop_assert!(all.part(scaled).0.abs_diff(exact) <= 8);
            }
        }
    }
}
