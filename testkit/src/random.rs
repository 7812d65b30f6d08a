//! Random numbers that a seed determines: the same on every machine and in every version.

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014): one
/// multiply-xorshift a number, passes BigCrush, any seed is good.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// A whole number that [`Random::below`] draws.
pub trait Whole: Copy {
    /// As 64 bits.
    fn to_u64(self) -> u64;
    /// Of a number that fits.
    fn of_u64(number: u64) -> Self;
}

macro_rules! whole {
    ($($number:ty)*) => {$(
        impl Whole for $number {
            fn to_u64(self) -> u64 {
                self as u64
            }
            fn of_u64(number: u64) -> Self {
                number as $number
            }
        }
    )*};
}
whole!(i32 u32 u64 usize);

impl Random {
    /// Any seed will do.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Evenly among all 64-bit numbers.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `end`, which is at least 1. The bias of the remainder is `end` in 2^64.
    pub fn below<N: Whole>(&mut self, end: N) -> N {
        N::of_u64(self.next_u64() % end.to_u64())
    }

    /// True so often of 100 times.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100_u32) < percent
    }

    /// One of a few.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Evenly in (0, 1]: a logarithm of it is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with mean 1: the gaps of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Normal with mean 0 and deviation 1 (Box and Muller 1958, one of the two).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the reference implementation for seed 1234567.
    #[test]
    fn the_generator_is_splitmix() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(7);
        let n = 200_000;
        let mean =
            |values: &mut dyn FnMut() -> f64| (0..n).map(|_| values()).sum::<f64>() / f64::from(n);
        let exponential = mean(&mut || random.exponential());
        assert!((exponential - 1.0).abs() < 0.01, "{exponential}");
        let square = mean(&mut || random.normal().powi(2));
        assert!((square - 1.0).abs() < 0.02, "{square}");
        let third = mean(&mut || f64::from(random.below(3_u32)));
        assert!((third - 1.0).abs() < 0.01, "{third}");
    }
}
