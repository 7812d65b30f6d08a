//! Typed: what the reference document describes.
//!
//! ```text
//!   [f64 first weight]   [00][u32 sequence]      [01][f32 weight]
//! ```

use weir_protocol::take;

use super::words::weight;
use super::{
    AckNumbers, Acks, Control, ControlWord, Facts, FixedWords, Layout, Links, Remainder, Sink,
    Told, WordFormat,
};

pub(super) static FACTS: Facts = Facts {
    name: "typed",
    layout: Layout::Frames,
    links: Links::Single,
    acks: Acks::Cumulative {
        numbers: AckNumbers::Wrapping { bits: 32 },
        remainder: Remainder::Kept,
    },
    told: Told::NOTHING,
};

const ACK: u8 = 0;
const WEIGHT: u8 = 1;

/// Its words.
#[derive(Clone, Debug)]
pub struct Typed;

pub(super) type Words = FixedWords<Typed>;

impl WordFormat for Typed {
    const SINK: Sink = Sink::Typed;

    #[inline]
    fn word_bytes(first: u8) -> Option<usize> {
        matches!(first, ACK | WEIGHT).then_some(5)
    }

    #[inline]
    fn decode(mut word: &[u8]) -> Option<Control> {
        let [kind] = take(&mut word)?;
        let value = take(&mut word)?;
        Some(match kind {
            ACK => Control::Ack(u32::from_be_bytes(value).into()),
            _ => weight(f32::from_be_bytes(value).into()),
        })
    }
}

pub(super) fn encode_first_weight(weight: f64) -> ControlWord {
    ControlWord::new([&weight.to_be_bytes(), &[]])
}

#[allow(clippy::cast_possible_truncation)] // keeping the low 32 bits is the wrap
pub(super) fn encode_ack(sequence: u64) -> ControlWord {
    ControlWord::new([&[ACK], &(sequence as u32).to_be_bytes()])
}

#[allow(clippy::cast_possible_truncation)] // f64 to f32 rounds, which is what the dialect asks for
pub(super) fn encode_weight(weight: f64) -> ControlWord {
    ControlWord::new([&[WEIGHT], &(weight as f32).to_be_bytes()])
}
