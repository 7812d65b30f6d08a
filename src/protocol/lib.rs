//! Wire formats: emitter frames, the native link protocol.
//!
//! ```text
//!   emitter  --frame-->  distributor  --frame------------>  typed or compact analyzer
//!                                     --native (batches)->  native analyzer
//!   anybody else: foreign names what speaks there
//! ```
//!
//! What analyzers answer is read in `weir-sink`.
//!
//! Two formats never leave the process: memory (where batches lie) and record (what a lane towards an HTTP
//! analyzer keeps).
//!
//! Everything here is pure: no I/O, no clock, no allocation while decoding, and no input from a
//! peer panics. `docs/PROTOCOL.md` is the specification; `src/protocol/tests/protocol_vectors.rs` reads its hex.
#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

mod calendar;
pub mod described;
pub mod foreign;
mod form;
pub mod frame;
pub mod memory;
pub mod msgpack;
pub mod native;
pub mod record;
pub mod text;

pub use calendar::{civil, digits, iso8601, TIMESTAMP_BYTES};
pub use form::Form;

/// A weight that a link may have: finite and not below zero. -0.0 becomes 0.0.
#[inline]
pub fn valid_weight(weight: f64) -> Option<f64> {
    (weight.is_finite() && weight >= 0.0).then_some(weight + 0.0)
}

/// A weight as it is shown and logged: every digit that tells it from others, and never hundreds.
pub struct WeightText(pub f64);

impl std::fmt::Display for WeightText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let weight = self.0;
        match weight == 0.0 || (1e-5..1e15).contains(&weight.abs()) {
            true => write!(f, "{weight}"),
            false => write!(f, "{weight:e}"),
        }
    }
}

/// Takes the first `N` bytes off `bytes`; nothing is taken when fewer are there.
#[inline]
pub fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

/// Bytes of one word that may arrive in pieces: a fixed inline buffer, never the heap.
#[derive(Clone, Debug)]
pub struct Partial<const CAP: usize> {
    bytes: [u8; CAP],
    filled: usize,
}

impl<const CAP: usize> Default for Partial<CAP> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CAP: usize> Partial<CAP> {
    /// Nothing has arrived.
    pub const fn new() -> Self {
        Self {
            bytes: [0; CAP],
            filled: 0,
        }
    }

    /// What has arrived.
    #[inline]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Forgets it.
    #[inline]
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Moves bytes in until `want` are held, `CAP` at most; true when they are.
    #[inline]
    pub fn fill(&mut self, bytes: &mut &[u8], want: usize) -> bool {
        assert!(want <= CAP);
        let missing = want.saturating_sub(self.filled);
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.bytes[self.filled..self.filled + taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        *bytes = rest;
        self.filled >= want
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_finite_and_have_no_sign() {
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5e-324] {
            assert_eq!(valid_weight(bad), None, "{bad}");
        }
        assert_eq!(valid_weight(2.5), Some(2.5));
        let texts = [0.0, 0.25, 5.0, 123_456.5, 1e15, 1e-320, f64::MAX, f64::NAN];
        assert_eq!(
            texts.map(|weight| WeightText(weight).to_string()),
            [
                "0",
                "0.25",
                "5",
                "123456.5",
                "1e15",
                "1e-320",
                "1.7976931348623157e308",
                "NaN"
            ]
        );
        let zero = valid_weight(-0.0).expect("it is zero");
        assert!(zero == 0.0 && zero.is_sign_positive());
    }
}
