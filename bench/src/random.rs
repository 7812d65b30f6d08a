//! Seeded randomness for schedules and sizes: the same seed gives the same load.

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014): one
/// multiply-xorshift a number, passes BigCrush, any seed is good.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1]: a logarithm of it is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n, by multiplication (Lemire 2019; the bias of n / 2^64 is not measurable).
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Exponential with mean 1: the gaps of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Standard normal (Box and Muller 1958, one of the two).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(7);
        let n = 200_000;
        let mean =
            |values: &mut dyn FnMut() -> f64| (0..n).map(|_| values()).sum::<f64>() / n as f64;
        let exponential = mean(&mut || random.exponential());
        assert!((exponential - 1.0).abs() < 0.01, "{exponential}");
        let square = mean(&mut || random.normal().powi(2));
        assert!((square - 1.0).abs() < 0.02, "{square}");
        let third = mean(&mut || random.below(3) as f64);
        assert!((third - 1.0).abs() < 0.01, "{third}");
    }
}
