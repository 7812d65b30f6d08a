//! Native: Weir's own. Batches go out (`weir_protocol::native`), these words come back.
//!
//! ```text
//!   HELLO   [01][u64 sequence]      [02][f64 weight]     [03] drain     [04][u64 sequence] goodbye
//! ```

use weir_protocol::native::{self, Welcome};
use weir_protocol::take;

use super::words::weight;
use super::{
    AckNumbers, Acks, Control, ControlWord, Facts, FixedWords, Layout, Links, Remainder, Sink,
    Told, WordFormat,
};

pub(super) static FACTS: Facts = Facts {
    name: "native",
    layout: Layout::Batches,
    links: Links::PerShard,
    acks: Acks::Cumulative {
        numbers: AckNumbers::Whole,
        remainder: Remainder::Acked,
    },
    told: Told {
        welcome: Some(|welcome: &Welcome<'_>, out| welcome.encode(out)),
        drain: Some(&native::DRAIN),
        goodbye: Some(&native::GOODBYE),
    },
};

const ACK: u8 = 1;
const WEIGHT: u8 = 2;
const DRAIN: u8 = 3;
const GOODBYE: u8 = 4;

/// Its words.
#[derive(Clone, Debug)]
pub struct Native;

pub(super) type Words = FixedWords<Native>;

impl WordFormat for Native {
    const SINK: Sink = Sink::Native;

    #[inline]
    fn word_bytes(first: u8) -> Option<usize> {
        match first {
            ACK | WEIGHT | GOODBYE => Some(9),
            DRAIN => Some(1),
            _ => None,
        }
    }

    #[inline]
    fn decode(mut word: &[u8]) -> Option<Control> {
        let [kind] = take(&mut word)?;
        if kind == DRAIN {
            return Some(Control::Drain);
        }
        let value = take(&mut word)?;
        Some(match kind {
            ACK => Control::Ack(u64::from_be_bytes(value)),
            WEIGHT => weight(f64::from_be_bytes(value)),
            _ => Control::Goodbye {
                sequence: u64::from_be_bytes(value),
            },
        })
    }
}

pub(super) fn encode_ack(sequence: u64) -> ControlWord {
    ControlWord::new([&[ACK], &sequence.to_be_bytes()])
}

pub(super) fn encode_weight(weight: f64) -> ControlWord {
    ControlWord::new([&[WEIGHT], &weight.to_be_bytes()])
}

pub(super) fn encode_drain() -> ControlWord {
    ControlWord::new([&[DRAIN], &[]])
}

pub(super) fn encode_goodbye(sequence: u64) -> ControlWord {
    ControlWord::new([&[GOODBYE], &sequence.to_be_bytes()])
}
