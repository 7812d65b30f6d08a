//! What an analyzer tells the distributor: ACK, weight, drain, goodbye, whatever it speaks.
//!
//! A decoder is fed whatever a read brought, down to one byte, and keeps at most one partial word. Numbers stay as
//! they were on the wire; [`AckNumbers`](super::AckNumbers) turns them into sequences of the link.

use std::fmt;
use std::marker::PhantomData;

use weir_protocol::{valid_weight, Partial};

use super::Sink;

/// Longest control word (native ACK), with room to spare.
const PARTIAL_BYTES: usize = 16;

/// One word from an analyzer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Control {
    /// Everything up to this number is done. As it was on the wire: see [`AckNumbers::resolve`](super::AckNumbers).
    Ack(u64),
    /// New weight, valid.
    Weight(f64),
    /// A weight that is NaN, infinite or negative: to be counted, logged and ignored.
    BadWeight(f64),
    /// Send nothing new.
    Drain,
    /// Everything up to `sequence` is done, re-route the rest: the analyzer closes.
    Goodbye {
        /// Last message that is done.
        sequence: u64,
    },
}

/// A control stream that cannot be followed any further. The link is closed and its un-ACKed
/// messages re-routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// No word of this sink starts so.
    UnknownType {
        /// What the link speaks.
        sink: Sink,
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
            Self::UnknownType { sink, byte } => {
                write!(
                    f,
                    "control type {byte:#04x} does not exist in the {sink} dialect"
                )
            }
        }
    }
}

impl std::error::Error for ControlError {}

/// Turns the bytes of one analyzer into words, after its first word or HELLO. Bounded: it keeps no more than one
/// word, and allocates nothing.
pub trait Decode: Default {
    /// Takes the next word off `bytes`. `None`: all of `bytes` is consumed, read more.
    ///
    /// # Errors
    /// What came is no word. The rest of the stream means nothing then: it is swallowed.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Control, ControlError>>;

    /// Bytes of a word whose rest has not arrived.
    fn partial_bytes(&self) -> usize;
}

/// Words whose first byte says how long they are.
pub trait WordFormat {
    /// Whose they are.
    const SINK: Sink;

    /// Bytes of the word that starts so, 1 to 16. `None`: no word does.
    fn word_bytes(first: u8) -> Option<usize>;

    /// The word, out of exactly as many bytes as `word_bytes` asked for: then it is never `None`.
    fn decode(word: &[u8]) -> Option<Control>;
}

/// Decoder of such words.
#[derive(Clone, Debug)]
pub struct FixedWords<W> {
    partial: Partial<PARTIAL_BYTES>,
    failed: bool,
    format: PhantomData<W>,
}

impl<W> Default for FixedWords<W> {
    fn default() -> Self {
        Self {
            partial: Partial::new(),
            failed: false,
            format: PhantomData,
        }
    }
}

impl<W: WordFormat> Decode for FixedWords<W> {
    #[inline]
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Control, ControlError>> {
        if self.failed {
            *bytes = &[];
            return None;
        }
        let held = self.partial.filled();
        let byte = *held.first().or(bytes.first())?;
        let Some(word_bytes) = W::word_bytes(byte) else {
            self.failed = true;
            let sink = W::SINK;
            return Some(Err(ControlError::UnknownType { sink, byte }));
        };
        // Nearly all words come whole: they are read where they lie.
        if held.is_empty() {
            if let Some((word, rest)) = bytes.split_at_checked(word_bytes) {
                *bytes = rest;
                return W::decode(word).map(Ok);
            }
        }
        if !self.partial.fill(bytes, word_bytes) {
            return None;
        }
        let control = W::decode(self.partial.filled());
        self.partial.clear();
        control.map(Ok)
    }

    fn partial_bytes(&self) -> usize {
        self.partial.filled().len()
    }
}

/// An analyzer that has no words: whatever it sends is thrown away.
#[derive(Clone, Debug, Default)]
pub struct Mute;

impl Decode for Mute {
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Control, ControlError>> {
        *bytes = &[];
        None
    }

    fn partial_bytes(&self) -> usize {
        0
    }
}

/// A weight as it came.
#[inline]
pub(super) fn weight(weight: f64) -> Control {
    valid_weight(weight).map_or(Control::BadWeight(weight), Control::Weight)
}

/// One control word ready to be written, held inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlWord {
    bytes: [u8; PARTIAL_BYTES],
    length: usize,
}

impl ControlWord {
    pub(super) fn new(parts: [&[u8]; 2]) -> Self {
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

#[cfg(test)]
mod tests {
    use super::super::{encode_ack, encode_drain, encode_goodbye, encode_weight, Decoder, Dialect};
    use super::*;
    use proptest::prelude::*;

    const DIALECTS: [Dialect; 3] = [Dialect::Typed, Dialect::Compact, Dialect::Native];

    #[test]
    fn a_word_that_is_not_whole_is_kept_and_counted() {
        let word = encode_ack(Dialect::Native, 7);
        for cut in 1..9 {
            let mut decoder = Decoder::new(Sink::Native);
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
            let found = Decoder::new(dialect.into()).next(&mut &[9][..]);
            let error = found.expect("an answer").expect_err("no such type");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    /// Everything that `bytes` say, read in chunks of `step`.
    fn decode(dialect: Dialect, bytes: &[u8], step: usize) -> Vec<Result<Control, ControlError>> {
        let mut decoder = Decoder::new(dialect.into());
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
            let sink = dialect.into();
            assert_eq!(read, [Err(ControlError::UnknownType { sink, byte })]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..64), step in 1usize..9) {
            for dialect in DIALECTS {
                for control in decode(dialect, &bytes, step).into_iter().flatten() {
                    if let Control::Ack(raw) = control {
                        let _ = Sink::from(dialect).facts().acks.numbers().resolve(raw, 5, 100);
                    }
                }
            }
        }
    }
}
