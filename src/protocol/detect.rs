//! Which dialect does this analyzer speak? Decided from its first bytes.
//!
//! ```text
//!   first byte has its top bit set ------------------------------> native (HELLO follows)
//!   4 bytes, then 50 ms of silence ------------------------------> compact
//!   8 bytes: f64 in 2^-20..=2^20, or all zero -------------------> typed
//!            anything else --------------------------------------> compact, 4 bytes left over
//!   5 to 7 bytes: the rest of a word is on its way, so wait; ----> compact at the deadline
//! ```
//!
//! Both reference dialects write whole words, so 5 to 7 bytes are a word that the network cut:
//! silence says nothing about it, and guessing would misread a typed weight for ever. Eight zero
//! bytes are typed: one write of a client with weight 0 is likely, two compact zeros within 50 ms
//! are not.

use super::{take, valid_weight, Dialect, Partial};
use std::fmt;

/// How long the peer must be quiet after 4 bytes before they count as a compact weight.
pub const SILENCE_MS: u64 = 50;
/// How long after its first byte a peer may take to be recognised.
pub const DETECT_MS_MAX: u64 = 1_000;

const COMPACT_BYTES: usize = 4;
const TYPED_BYTES: usize = 8;
const TYPED_WEIGHT_MIN: f64 = 1.0 / 1_048_576.0;
const TYPED_WEIGHT_MAX: f64 = 1_048_576.0;

/// A first word that opens no link: the connection is closed and the reason logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DetectError {
    /// NaN, infinite or negative.
    FirstWeight {
        /// How the word was read.
        dialect: Dialect,
        /// Its value.
        weight: f64,
    },
    /// The deadline came before a whole first word.
    Incomplete {
        /// What had arrived.
        bytes: usize,
    },
}

impl DetectError {
    /// Metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::FirstWeight { .. } => "first_weight_invalid",
            Self::Incomplete { .. } => "first_word_incomplete",
        }
    }
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstWeight { dialect, weight } => {
                write!(
                    f,
                    "first weight {} ({dialect}) is not a finite number >= 0",
                    super::WeightText(*weight)
                )
            }
            Self::Incomplete { bytes } => {
                write!(
                    f,
                    "only {bytes} bytes of a first weight within {DETECT_MS_MAX} ms"
                )
            }
        }
    }
}

impl std::error::Error for DetectError {}

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detection {
    /// Not enough: read on. Arm the silence timer if [`Detector::awaits_silence`].
    NeedMore,
    /// A native link: the HELLO starts at the first byte of this very call's bytes.
    Native,
    /// A reference dialect and its first weight. Control words start with [`Detector::replay`].
    Reference {
        /// Typed or compact.
        dialect: Dialect,
        /// Valid.
        weight: f64,
    },
}

/// Reads the first word of one connection. When it has answered anything but `NeedMore`, it is
/// spent: feed [`Detector::replay`], then the rest of the bytes, to a control decoder.
#[derive(Clone, Debug)]
pub struct Detector {
    pinned: Option<Dialect>,
    first: Partial<TYPED_BYTES>,
    /// Bytes of `first` that the weight took; the others are control data.
    weight_bytes: usize,
}

impl Detector {
    /// `pinned` takes the guess away, for clients that break its assumptions.
    pub fn new(pinned: Option<Dialect>) -> Self {
        Self {
            pinned,
            first: Partial::new(),
            weight_bytes: 0,
        }
    }

    /// Takes what it needs off `bytes`.
    pub fn feed(&mut self, bytes: &mut &[u8]) -> Result<Detection, DetectError> {
        if bytes.is_empty() {
            return Ok(Detection::NeedMore);
        }
        if self.is_native(bytes) {
            return Ok(Detection::Native);
        }
        let want = match self.pinned {
            Some(Dialect::Compact) => COMPACT_BYTES,
            _ => TYPED_BYTES,
        };
        if !self.first.fill(bytes, want) {
            return Ok(Detection::NeedMore);
        }
        match self.pinned {
            Some(Dialect::Compact) => self.compact(),
            Some(_) => self.typed(),
            None if looks_typed(self.f64()) => self.typed(),
            None => self.compact(),
        }
    }

    /// True while 50 ms without a byte would decide. Restart the timer with every byte.
    pub fn awaits_silence(&self) -> bool {
        self.pinned.is_none() && self.first.filled == COMPACT_BYTES
    }

    /// No byte came for [`SILENCE_MS`].
    pub fn on_silence(&mut self) -> Result<Detection, DetectError> {
        if self.awaits_silence() {
            self.compact()
        } else {
            Ok(Detection::NeedMore)
        }
    }

    /// [`DETECT_MS_MAX`] have passed since connect or first byte: decide with what is there.
    pub fn on_deadline(&mut self) -> Result<Detection, DetectError> {
        if self.pinned.is_none() && self.first.filled >= COMPACT_BYTES {
            return self.compact();
        }
        Err(DetectError::Incomplete {
            bytes: self.first.filled,
        })
    }

    /// Bytes taken that are not part of the weight: the first of the control data.
    pub fn replay(&self) -> &[u8] {
        &self.first.filled()[self.weight_bytes.min(self.first.filled)..]
    }

    fn is_native(&self, bytes: &[u8]) -> bool {
        match self.pinned {
            Some(pinned) => pinned == Dialect::Native,
            None => self.first.filled == 0 && bytes[0] & 0x80 != 0,
        }
    }

    fn f64(&self) -> f64 {
        f64::from_be_bytes(self.first.bytes)
    }

    fn typed(&mut self) -> Result<Detection, DetectError> {
        self.weight_bytes = TYPED_BYTES;
        self.reference(Dialect::Typed, self.f64())
    }

    fn compact(&mut self) -> Result<Detection, DetectError> {
        self.weight_bytes = COMPACT_BYTES;
        let mut held = self.first.filled();
        let word = take(&mut held).map_or(0, u32::from_be_bytes);
        // -0.0 is the word "ACK 0": valid as a number, but no weight in this dialect.
        let weight = f32::from_bits(word);
        let weight = if weight == 0.0 && word != 0 {
            -1.0
        } else {
            weight
        };
        self.reference(Dialect::Compact, weight.into())
    }

    fn reference(&self, dialect: Dialect, weight: f64) -> Result<Detection, DetectError> {
        match valid_weight(weight) {
            Some(weight) => Ok(Detection::Reference { dialect, weight }),
            None => Err(DetectError::FirstWeight { dialect, weight }),
        }
    }
}

fn looks_typed(weight: f64) -> bool {
    weight == 0.0 || (TYPED_WEIGHT_MIN..=TYPED_WEIGHT_MAX).contains(&weight)
}

#[cfg(test)]
mod tests {
    use super::super::control::encode_first_weight;
    use super::*;

    fn auto() -> Detector {
        Detector::new(None)
    }

    fn feed(detector: &mut Detector, mut bytes: &[u8]) -> Result<Detection, DetectError> {
        detector.feed(&mut bytes)
    }

    fn reference(dialect: Dialect, weight: f64) -> Result<Detection, DetectError> {
        Ok(Detection::Reference { dialect, weight })
    }

    #[test]
    fn four_bytes_and_silence_are_compact() {
        let mut detector = auto();
        assert_eq!(
            feed(&mut detector, &0.25f32.to_be_bytes()),
            Ok(Detection::NeedMore)
        );
        assert!(detector.awaits_silence());
        assert_eq!(detector.on_silence(), reference(Dialect::Compact, 0.25));
        assert_eq!(detector.replay(), [0u8; 0]);
    }

    #[test]
    fn typed_weights_over_the_whole_range() {
        for weight in [0.4, 1.0, 0.0, TYPED_WEIGHT_MIN, TYPED_WEIGHT_MAX] {
            let mut bytes: &[u8] = &[&f64::to_be_bytes(weight)[..], &[0, 0]].concat();
            assert_eq!(auto().feed(&mut bytes), reference(Dialect::Typed, weight));
            assert_eq!(bytes, [0, 0], "control data stays with the caller");
        }
    }

    #[test]
    fn one_byte_at_a_time() {
        let mut detector = auto();
        let bytes = encode_first_weight(Dialect::Typed, 0.4);
        for (at, byte) in bytes.as_bytes().iter().enumerate() {
            let detection = feed(&mut detector, &[*byte]);
            assert_eq!(detector.awaits_silence(), at == 3);
            if at < 7 {
                assert_eq!(detection, Ok(Detection::NeedMore));
            } else {
                assert_eq!(detection, reference(Dialect::Typed, 0.4));
            }
        }
    }

    #[test]
    fn compact_weight_with_control_data_at_once() {
        let mut detector = auto();
        let bytes = [
            0.05f32.to_be_bytes(),
            0.06f32.to_be_bytes(),
            [0x80, 0, 0, 1],
        ]
        .concat();
        let mut rest: &[u8] = &bytes;
        let weight = f64::from(0.05f32);
        assert_eq!(
            detector.feed(&mut rest),
            reference(Dialect::Compact, weight)
        );
        assert_eq!(detector.replay(), 0.06f32.to_be_bytes());
        assert_eq!(rest, [0x80, 0, 0, 1]);
    }

    #[test]
    fn five_to_seven_bytes_wait_for_their_word() {
        for (dialect, bytes) in [
            (Dialect::Typed, 0.4f64.to_be_bytes().to_vec()),
            (
                Dialect::Compact,
                [0.1f32.to_be_bytes(), 0.2f32.to_be_bytes()].concat(),
            ),
        ] {
            for cut in 5..8 {
                let mut detector = auto();
                assert_eq!(feed(&mut detector, &bytes[..cut]), Ok(Detection::NeedMore));
                assert_eq!(detector.on_silence(), Ok(Detection::NeedMore));
                let detection = feed(&mut detector, &bytes[cut..]);
                assert!(
                    matches!(detection, Ok(Detection::Reference { dialect: d, .. }) if d == dialect)
                );
            }
        }
    }

    #[test]
    fn the_deadline_decides_for_compact() {
        let mut detector = auto();
        let _ = feed(&mut detector, &[0x3E, 0xCC, 0xCC, 0xCD, 0x3F]);
        assert_eq!(
            detector.on_deadline(),
            reference(Dialect::Compact, 0.4f32.into())
        );
        assert_eq!(detector.replay(), [0x3F]);
        let mut detector = auto();
        let _ = feed(&mut detector, &[0x3E, 0xCC]);
        assert_eq!(detector.on_silence(), Ok(Detection::NeedMore));
        assert_eq!(
            detector.on_deadline(),
            Err(DetectError::Incomplete { bytes: 2 })
        );
    }

    #[test]
    fn native_leaves_every_byte() {
        let mut bytes: &[u8] = &[0xD7, 0x45];
        assert_eq!(auto().feed(&mut bytes), Ok(Detection::Native));
        assert_eq!(bytes.len(), 2);
        let mut bytes: &[u8] = &[0x3E];
        let mut pinned = Detector::new(Some(Dialect::Native));
        assert_eq!(pinned.feed(&mut bytes), Ok(Detection::Native));
        assert_eq!(bytes.len(), 1);
    }

    #[test]
    fn invalid_first_weights_are_named() {
        for (bytes, name) in [
            (f64::NAN.to_be_bytes(), "NaN"),
            (f64::INFINITY.to_be_bytes(), "NaN"), // 7FF00000 read as f32
            ([0x7F, 0x80, 0, 0, 0x3F, 0, 0, 0], "inf"),
        ] {
            let error = feed(&mut auto(), &bytes).expect_err("invalid");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_pinned_dialect_does_not_guess() {
        let pinned = |dialect| Detector::new(Some(dialect));
        let compact = pinned(Dialect::Compact).feed(&mut &0.4f64.to_be_bytes()[..]);
        let as_f32 = f32::from_bits(0x3FD9_9999);
        assert_eq!(compact, reference(Dialect::Compact, as_f32.into()));
        let typed = pinned(Dialect::Typed).feed(&mut &1e-30f64.to_be_bytes()[..]);
        assert_eq!(typed, reference(Dialect::Typed, 1e-30));
        for weight in [-1.0, f64::NEG_INFINITY, f64::NAN] {
            assert!(pinned(Dialect::Typed)
                .feed(&mut &weight.to_be_bytes()[..])
                .is_err());
        }
        assert!(pinned(Dialect::Compact)
            .feed(&mut &[0x80, 0, 0, 0][..])
            .is_err());
        assert!(!pinned(Dialect::Typed).awaits_silence());
    }
}
