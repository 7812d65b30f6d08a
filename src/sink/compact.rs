//! Compact: what the reference clients speak.
//!
//! ```text
//!   [f32 first weight]   [1|31-bit sequence]     [0|f32 weight without its sign]
//! ```

use weir_protocol::take;

use super::words::weight;
use super::{
    AckNumbers, Acks, Control, ControlWord, Facts, FixedWords, Layout, Links, Remainder, Sink,
    Told, WordFormat,
};

pub(super) static FACTS: Facts = Facts {
    name: "compact",
    layout: Layout::Frames,
    links: Links::Single,
    acks: Acks::Cumulative {
        numbers: AckNumbers::Wrapping { bits: 31 },
        remainder: Remainder::Kept,
    },
    told: Told::NOTHING,
};

/// A word with this bit is an ACK, without it a weight.
const ACK_BIT: u32 = 1 << 31;

/// Its words.
#[derive(Clone, Debug)]
pub struct Compact;

pub(super) type Words = FixedWords<Compact>;

impl WordFormat for Compact {
    const SINK: Sink = Sink::Compact;

    #[inline]
    fn word_bytes(_: u8) -> Option<usize> {
        Some(4)
    }

    #[inline]
    fn decode(mut word: &[u8]) -> Option<Control> {
        let word = u32::from_be_bytes(take(&mut word)?);
        Some(match word & ACK_BIT {
            0 => weight(f32::from_bits(word).into()),
            _ => Control::Ack((word & !ACK_BIT).into()),
        })
    }
}

#[allow(clippy::cast_possible_truncation)] // keeping the low 31 bits is the wrap
pub(super) fn encode_ack(sequence: u64) -> ControlWord {
    ControlWord::new([&(sequence as u32 | ACK_BIT).to_be_bytes(), &[]])
}

/// A weight below zero, and a NaN whose sign is set, would read as an ACK: both become a NaN without.
/// The sign of a NaN that was computed or rounded is anybody's guess.
#[allow(clippy::cast_possible_truncation)] // f64 to f32 rounds, which is what the dialect asks for
pub(super) fn encode_weight(weight: f64) -> ControlWord {
    const NAN: u32 = 0x7FC0_0000;
    let word = (weight as f32 + 0.0).to_bits();
    let word = if word & ACK_BIT == 0 { word } else { NAN };
    ControlWord::new([&word.to_be_bytes(), &[]])
}
