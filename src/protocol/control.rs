//! What analyzers tell the distributor: ACK, weight, drain, goodbye, in three dialects.
//!
//! ```text
//!   typed    [00][u32 sequence]      [01][f32 weight]
//!   compact  [1|31-bit sequence]     [0|f32 weight without its sign]
//!   native   [01][u64 sequence]      [02][f64 weight]     [03]     [04][u64 sequence]
//! ```
//!
//! A decoder is fed whatever a read brought, down to one byte, and keeps at most one partial word.
//! Numbers stay as they were on the wire; [`resolve_ack`] turns them into sequences of the link.

pub use super::ack::{resolve_ack, AckBeyond, AckStep, UNACKED_MESSAGES_MAX};

use super::{take, valid_weight, Dialect, Partial};
use std::fmt;

/// Longest control word (native ACK), with room to spare.
const PARTIAL_BYTES: usize = 16;
/// A compact word with this bit is an ACK, without it a weight.
const COMPACT_ACK_BIT: u32 = 1 << 31;

const TYPED_ACK: u8 = 0;
const TYPED_WEIGHT: u8 = 1;
const NATIVE_ACK: u8 = 1;
const NATIVE_WEIGHT: u8 = 2;
const NATIVE_DRAIN: u8 = 3;
const NATIVE_GOODBYE: u8 = 4;

/// One word from an analyzer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Control {
    /// Everything up to this number is done. As it was on the wire: see [`resolve_ack`].
    Ack(u64),
    /// New weight, valid.
    Weight(f64),
    /// A weight that is NaN, infinite or negative: to be counted, logged and ignored.
    BadWeight(f64),
    /// Send nothing new (native only).
    Drain,
    /// Everything up to `sequence` is done, re-route the rest: the analyzer closes (native only).
    Goodbye {
        /// Last message that is done.
        sequence: u64,
    },
}

/// A control stream that cannot be followed any further. The link is closed and its un-ACKed
/// messages re-routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// No such type byte in this dialect.
    UnknownType {
        /// Dialect of the link.
        dialect: Dialect,
        /// The byte.
        byte: u8,
    },
}

impl ControlError {
    /// Metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::UnknownType { .. } => "control_unknown_type",
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType { dialect, byte } => {
                write!(
                    f,
                    "control type {byte:#04x} does not exist in the {dialect} dialect"
                )
            }
        }
    }
}

impl std::error::Error for ControlError {}

/// Incremental decoder of one link's control stream, after its first word.
#[derive(Clone, Debug)]
pub struct ControlDecoder {
    dialect: Dialect,
    partial: Partial<PARTIAL_BYTES>,
    failed: bool,
}

impl ControlDecoder {
    /// A decoder for a link whose first word or HELLO has been read.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            partial: Partial::new(),
            failed: false,
        }
    }

    /// Takes the next word off `bytes`. `None`: all of `bytes` is consumed, read more. After an
    /// error the rest of the stream means nothing: it is swallowed.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Control, ControlError>> {
        if self.failed {
            *bytes = &[];
            return None;
        }
        if !self.partial.fill(bytes, 1) {
            return None;
        }
        let Some(word_bytes) = word_bytes(self.dialect, self.partial.bytes[0]) else {
            self.failed = true;
            let byte = self.partial.bytes[0];
            return Some(Err(ControlError::UnknownType {
                dialect: self.dialect,
                byte,
            }));
        };
        if !self.partial.fill(bytes, word_bytes) {
            return None;
        }
        let control = decode_word(self.dialect, self.partial.filled());
        self.partial.clear();
        control.map(Ok)
    }

    /// Bytes of a word whose rest has not arrived.
    pub fn partial_bytes(&self) -> usize {
        self.partial.filled
    }
}

fn word_bytes(dialect: Dialect, first: u8) -> Option<usize> {
    match (dialect, first) {
        (Dialect::Compact, _) => Some(4),
        (Dialect::Typed, TYPED_ACK | TYPED_WEIGHT) => Some(5),
        (Dialect::Native, NATIVE_ACK | NATIVE_WEIGHT | NATIVE_GOODBYE) => Some(9),
        (Dialect::Native, NATIVE_DRAIN) => Some(1),
        (Dialect::Typed | Dialect::Native, _) => None,
    }
}

/// `word` is exactly as long as `word_bytes` asked for, so this is never `None`.
fn decode_word(dialect: Dialect, mut word: &[u8]) -> Option<Control> {
    if dialect == Dialect::Compact {
        return take(&mut word).map(|bytes| decode_compact(u32::from_be_bytes(bytes)));
    }
    let [kind] = take(&mut word)?;
    Some(match (dialect, kind) {
        (Dialect::Typed, TYPED_ACK) => Control::Ack(u32::from_be_bytes(take(&mut word)?).into()),
        (Dialect::Typed, _) => weight(f32::from_be_bytes(take(&mut word)?).into()),
        (_, NATIVE_ACK) => Control::Ack(u64::from_be_bytes(take(&mut word)?)),
        (_, NATIVE_WEIGHT) => weight(f64::from_be_bytes(take(&mut word)?)),
        (_, NATIVE_DRAIN) => Control::Drain,
        (_, _) => Control::Goodbye {
            sequence: u64::from_be_bytes(take(&mut word)?),
        },
    })
}

fn decode_compact(word: u32) -> Control {
    if word & COMPACT_ACK_BIT != 0 {
        Control::Ack((word & !COMPACT_ACK_BIT).into())
    } else {
        weight(f32::from_bits(word).into())
    }
}

fn weight(weight: f64) -> Control {
    valid_weight(weight).map_or(Control::BadWeight(weight), Control::Weight)
}

/// One control word ready to be written, held inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlWord {
    bytes: [u8; PARTIAL_BYTES],
    length: usize,
}

impl ControlWord {
    fn new(parts: [&[u8]; 2]) -> Self {
        let mut word = Self {
            bytes: [0; PARTIAL_BYTES],
            length: 0,
        };
        for part in parts {
            word.bytes[word.length..word.length + part.len()].copy_from_slice(part);
            word.length += part.len();
        }
        word
    }

    /// The bytes to write.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The first word of a reference dialect; a native link starts with a HELLO instead.
#[allow(clippy::cast_possible_truncation)] // f64 to f32 rounds, which is what the dialect asks for
pub fn encode_first_weight(dialect: Dialect, weight: f64) -> ControlWord {
    assert!(
        dialect != Dialect::Native,
        "a native link starts with HELLO"
    );
    match dialect {
        Dialect::Compact => ControlWord::new([&compact_weight(weight), &[]]),
        _ => ControlWord::new([&weight.to_be_bytes(), &[]]),
    }
}

/// A weight below zero, and a NaN whose sign is set, would read as an ACK: both become a NaN without.
/// The sign of a NaN that was computed or rounded is anybody's guess.
#[allow(clippy::cast_possible_truncation)] // f64 to f32 rounds, which is what the dialect asks for
fn compact_weight(weight: f64) -> [u8; 4] {
    const NAN: u32 = 0x7FC0_0000;
    let word = (weight as f32 + 0.0).to_bits();
    let word = if word & COMPACT_ACK_BIT == 0 {
        word
    } else {
        NAN
    };
    word.to_be_bytes()
}

/// ACK of everything up to message `sequence` of the link, wrapped as the dialect wraps it.
#[allow(clippy::cast_possible_truncation)] // keeping the low 32 bits is the wrap
pub fn encode_ack(dialect: Dialect, sequence: u64) -> ControlWord {
    let wrapped = sequence as u32;
    match dialect {
        Dialect::Typed => ControlWord::new([&[TYPED_ACK], &wrapped.to_be_bytes()]),
        Dialect::Compact => ControlWord::new([&(wrapped | COMPACT_ACK_BIT).to_be_bytes(), &[]]),
        Dialect::Native => ControlWord::new([&[NATIVE_ACK], &sequence.to_be_bytes()]),
    }
}

/// A change of weight.
#[allow(clippy::cast_possible_truncation)] // f64 to f32 rounds, which is what the dialects ask for
pub fn encode_weight(dialect: Dialect, weight: f64) -> ControlWord {
    match dialect {
        Dialect::Typed => ControlWord::new([&[TYPED_WEIGHT], &(weight as f32).to_be_bytes()]),
        Dialect::Compact => ControlWord::new([&compact_weight(weight), &[]]),
        Dialect::Native => ControlWord::new([&[NATIVE_WEIGHT], &weight.to_be_bytes()]),
    }
}

/// Send nothing new (native; the reference dialects say weight 0).
pub fn encode_drain(dialect: Dialect) -> ControlWord {
    match dialect {
        Dialect::Native => ControlWord::new([&[NATIVE_DRAIN], &[]]),
        _ => encode_weight(dialect, 0.0),
    }
}

/// Everything up to `sequence` is done and this analyzer closes (native only).
pub fn encode_goodbye(sequence: u64) -> ControlWord {
    ControlWord::new([&[NATIVE_GOODBYE], &sequence.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIALECTS: [Dialect; 3] = [Dialect::Typed, Dialect::Compact, Dialect::Native];

    #[test]
    fn a_word_that_is_not_whole_is_kept_and_counted() {
        let word = encode_ack(Dialect::Native, 7);
        for cut in 1..9 {
            let mut decoder = ControlDecoder::new(Dialect::Native);
            let (mut head, mut rest) = word.as_bytes().split_at(cut);
            assert_eq!(decoder.next(&mut head), None);
            assert_eq!((head.len(), decoder.partial_bytes()), (0, cut));
            assert_eq!(decoder.next(&mut rest), Some(Ok(Control::Ack(7))));
            assert_eq!(decoder.partial_bytes(), 0);
        }
    }

    #[test]
    fn an_unknown_type_is_named_with_its_dialect() {
        for (dialect, text) in [
            (Dialect::Typed, "0x09 does not exist in the typed"),
            (Dialect::Native, "the native dialect"),
        ] {
            let found = ControlDecoder::new(dialect).next(&mut &[9][..]);
            let error = found.expect("an answer").expect_err("no such type");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    /// Everything that `bytes` say, read in chunks of `step`.
    fn decode(dialect: Dialect, bytes: &[u8], step: usize) -> Vec<Result<Control, ControlError>> {
        let mut decoder = ControlDecoder::new(dialect);
        let mut all = Vec::new();
        for mut chunk in bytes.chunks(step) {
            while let Some(control) = decoder.next(&mut chunk) {
                all.push(control);
            }
            assert!(chunk.is_empty());
        }
        all
    }

    fn said(dialect: Dialect, controls: &[Control]) -> Vec<u8> {
        let word = |control: &Control| match *control {
            Control::Ack(sequence) => encode_ack(dialect, sequence),
            Control::Weight(weight) | Control::BadWeight(weight) => encode_weight(dialect, weight),
            Control::Drain => encode_drain(dialect),
            Control::Goodbye { sequence } => encode_goodbye(sequence),
        };
        controls
            .iter()
            .flat_map(|c| word(c).as_bytes().to_vec())
            .collect()
    }

    #[test]
    fn every_split_reads_the_same() {
        for dialect in DIALECTS {
            let mut controls = vec![
                Control::Ack(10),
                Control::Weight(0.25),
                Control::Ack(1 << 30),
            ];
            if dialect == Dialect::Native {
                controls.extend([Control::Drain, Control::Goodbye { sequence: 1 << 40 }]);
            }
            let bytes = said(dialect, &controls);
            let expected: Vec<_> = controls.into_iter().map(Ok).collect();
            for step in 1..=bytes.len() {
                assert_eq!(
                    decode(dialect, &bytes, step),
                    expected,
                    "{dialect} by {step}"
                );
            }
        }
    }

    #[test]
    fn bad_weights_are_reported_and_survived() {
        for dialect in DIALECTS {
            for bad in [f64::NAN, -f64::NAN, f64::INFINITY, -1.0] {
                let bytes = said(dialect, &[Control::Weight(bad), Control::Ack(3)]);
                let read = decode(dialect, &bytes, 1);
                assert!(
                    matches!(read[0], Ok(Control::BadWeight(_))),
                    "{dialect} {bad}"
                );
                assert_eq!(read[1], Ok(Control::Ack(3)));
            }
        }
    }

    #[test]
    fn unknown_type_is_final() {
        for (dialect, byte) in [
            (Dialect::Typed, 2),
            (Dialect::Native, 0),
            (Dialect::Native, 5),
        ] {
            let read = decode(dialect, &[byte, 0, 0, 0, 0, 1, 0, 0], 2);
            assert_eq!(read, [Err(ControlError::UnknownType { dialect, byte })]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..64), step in 1usize..9) {
            for dialect in DIALECTS {
                for control in decode(dialect, &bytes, step).into_iter().flatten() {
                    if let Control::Ack(raw) = control {
                        let _ = resolve_ack(dialect, raw, 5, 100);
                    }
                }
            }
        }
    }
}
