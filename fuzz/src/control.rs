//! Control streams of all sinks: in any split the same words; of all dialects also those that section 3 and 5 of
//! `docs/PROTOCOL.md` say.
//!
//! Input: u8 dialect, u16 split, stream.

use weir::sink::{
    encode_ack, encode_drain, encode_goodbye, encode_weight, Control, ControlError, Decoder,
    Dialect, Sink,
};

use super::input::{pieces, Input};

/// The dialects in the order of the setting.
pub const DIALECTS: [Dialect; 3] = [Dialect::Typed, Dialect::Compact, Dialect::Native];

/// A word as it can be compared: NaN equals NaN.
#[derive(Debug, PartialEq)]
enum Said {
    Ack(u64),
    Weight(u64),
    BadWeight(u64),
    Drain,
    Goodbye(u64),
    Unknown(u8),
}

/// All words of a stream, and the bytes of an unfinished one.
#[derive(Debug, PartialEq)]
struct Heard {
    words: Vec<Said>,
    unfinished: usize,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let dialect = input.pick(&DIALECTS);
    let seed = input.u16();
    let stream = input.rest();
    let expected = model(dialect, stream);
    let sink = Sink::from(dialect);
    assert_eq!(hear(sink, &[stream]), expected, "{dialect}, whole");
    for sink in Sink::ALL.iter().copied() {
        let whole = hear(sink, &[stream]);
        assert_eq!(hear(sink, &pieces(stream, seed)), whole, "{sink}, {seed}");
    }
    assert_eq!(
        said_again(dialect, &expected.words),
        canonical(dialect, stream, &expected)
    );
}

fn hear(sink: Sink, pieces: &[&[u8]]) -> Heard {
    let mut decoder = Decoder::new(sink);
    let mut words = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while let Some(word) = decoder.next(&mut rest) {
            words.push(said(word));
        }
        assert!(rest.is_empty(), "`None` means that all is consumed");
    }
    let failed = matches!(words.last(), Some(Said::Unknown(_)));
    let unfinished = if failed { 0 } else { decoder.partial_bytes() };
    Heard { words, unfinished }
}

fn said(word: Result<Control, ControlError>) -> Said {
    match word {
        Ok(Control::Ack(number)) => Said::Ack(number),
        Ok(Control::Weight(weight)) => Said::Weight(weight.to_bits()),
        Ok(Control::BadWeight(weight)) => Said::BadWeight(bits(weight)),
        Ok(Control::Drain) => Said::Drain,
        Ok(Control::Goodbye { sequence }) => Said::Goodbye(sequence),
        Err(ControlError::UnknownType { byte, .. }) => Said::Unknown(byte),
    }
}

fn bits(weight: f64) -> u64 {
    if weight.is_nan() {
        f64::NAN.to_bits()
    } else {
        weight.to_bits()
    }
}

fn weight(weight: f64) -> Said {
    if weight.is_nan() || weight.is_infinite() || weight < 0.0 {
        Said::BadWeight(bits(weight))
    } else {
        Said::Weight((weight + 0.0).to_bits())
    }
}

/// The tables of the document, over a stream that is all there.
fn model(dialect: Dialect, stream: &[u8]) -> Heard {
    let mut words = Vec::new();
    let mut rest = stream;
    loop {
        let (word, tail) = match (dialect, rest) {
            (_, []) => break,
            (Dialect::Compact, [a, b, c, d, tail @ ..]) => {
                let word = u32::from_be_bytes([*a, *b, *c, *d]);
                let said = if *a >= 0x80 {
                    Said::Ack(u64::from(word - 0x8000_0000))
                } else {
                    weight(f64::from(f32::from_bits(word)))
                };
                (said, tail)
            }
            (Dialect::Typed, [0, a, b, c, d, tail @ ..]) => {
                let number = u32::from_be_bytes([*a, *b, *c, *d]);
                (Said::Ack(number.into()), tail)
            }
            (Dialect::Typed, [1, a, b, c, d, tail @ ..]) => {
                let number = f32::from_be_bytes([*a, *b, *c, *d]);
                (weight(number.into()), tail)
            }
            (Dialect::Native, [3, tail @ ..]) => (Said::Drain, tail),
            (Dialect::Native, [kind @ (1 | 2 | 4), a, b, c, d, e, f, g, h, tail @ ..]) => {
                let bytes = [*a, *b, *c, *d, *e, *f, *g, *h];
                let said = match kind {
                    1 => Said::Ack(u64::from_be_bytes(bytes)),
                    2 => weight(f64::from_be_bytes(bytes)),
                    _ => Said::Goodbye(u64::from_be_bytes(bytes)),
                };
                (said, tail)
            }
            (Dialect::Compact, _) | (Dialect::Typed, [0 | 1, ..]) => break,
            (Dialect::Native, [1 | 2 | 4, ..]) => break,
            (_, [byte, ..]) => {
                words.push(Said::Unknown(*byte));
                rest = &[];
                break;
            }
        };
        words.push(word);
        rest = tail;
    }
    Heard {
        words,
        unfinished: rest.len(),
    }
}

/// The words written again: decoding and encoding are each other's inverse.
fn said_again(dialect: Dialect, words: &[Said]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in words {
        let word = match word {
            Said::Ack(number) => encode_ack(dialect, *number),
            Said::Weight(bits) | Said::BadWeight(bits) => {
                encode_weight(dialect, f64::from_bits(*bits))
            }
            Said::Drain => encode_drain(dialect),
            Said::Goodbye(sequence) => encode_goodbye(*sequence),
            Said::Unknown(_) => break,
        };
        out.extend_from_slice(word.as_bytes());
    }
    out
}

/// The whole words of the stream, with the one NaN and the one zero that `said_again` knows.
fn canonical(dialect: Dialect, stream: &[u8], heard: &Heard) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = stream;
    for word in &heard.words {
        let len = match (dialect, word) {
            (_, Said::Unknown(_)) => break,
            (Dialect::Compact, _) => 4,
            (Dialect::Typed, _) => 5,
            (Dialect::Native, Said::Drain) => 1,
            (Dialect::Native, _) => 9,
        };
        let (bytes, tail) = rest.split_at(len);
        let is_weight = matches!(word, Said::Weight(_) | Said::BadWeight(_));
        let zero_or_nan = match word {
            Said::Weight(bits) | Said::BadWeight(bits) => {
                f64::from_bits(*bits) == 0.0 || f64::from_bits(*bits).is_nan()
            }
            _ => false,
        };
        if is_weight && zero_or_nan {
            out.extend_from_slice(&said_again(dialect, std::slice::from_ref(word)));
        } else {
            out.extend_from_slice(bytes);
        }
        rest = tail;
    }
    out
}
