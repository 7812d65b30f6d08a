//! Which dialect: in any split the same answer and the same bytes left over, with silence and the
//! deadline at any place; and the answer of the table in `docs/PROTOCOL.md`, section 4.
//!
//! Input: u8 pinned dialect, u16 split, u8 silence, u8 silence, u8 deadline (each: after so many
//! bytes), stream.

use weir::protocol::control::encode_first_weight;
use weir::protocol::detect::{DetectError, Detection, Detector};
use weir::protocol::Dialect;

use super::input::{pieces, Input};

const PINNED: [Option<Dialect>; 4] = [
    None,
    Some(Dialect::Typed),
    Some(Dialect::Compact),
    Some(Dialect::Native),
];

#[derive(Clone, Copy, PartialEq)]
enum Event {
    Silence,
    Deadline,
}

/// What was decided, and the bytes that are for whoever reads on.
#[derive(Debug, PartialEq)]
enum Answer {
    Undecided {
        held: usize,
    },
    Native {
        rest: Vec<u8>,
    },
    Reference {
        dialect: Dialect,
        weight: u64,
        rest: Vec<u8>,
    },
    BadWeight {
        dialect: Dialect,
    },
    Incomplete {
        bytes: usize,
    },
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let pinned = input.pick(&PINNED);
    let seed = input.u16();
    let mut events = [Event::Silence, Event::Silence, Event::Deadline]
        .map(|event| (usize::from(input.u8()), event));
    let stream = input.rest();
    events.sort_by_key(|(at, _)| *at);
    let expected = model(pinned, stream, &events);
    assert_eq!(
        ask(pinned, stream, &events, 0),
        expected,
        "{pinned:?}, whole"
    );
    assert_eq!(
        ask(pinned, stream, &events, seed),
        expected,
        "{pinned:?}, {seed}"
    );
    check_encoding(&expected, stream);
}

fn ask(pinned: Option<Dialect>, stream: &[u8], events: &[(usize, Event)], seed: u16) -> Answer {
    let mut detector = Detector::new(pinned);
    let mut at = 0;
    let ends = events.iter().map(|(end, event)| (*end, Some(*event)));
    for (end, event) in ends.chain([(usize::MAX, None)]) {
        let end = end.clamp(at, stream.len());
        for piece in pieces(&stream[at..end], seed) {
            let mut rest = piece;
            let found = detector.feed(&mut rest);
            at += piece.len() - rest.len();
            if let Some(answer) = answer(found, &detector, &stream[at..]) {
                return answer;
            }
            assert!(rest.is_empty(), "undecided, so all is taken");
            let waits = pinned.is_none() && at == 4;
            assert_eq!(detector.awaits_silence(), waits, "after {at} bytes");
        }
        let found = match event {
            Some(Event::Silence) => detector.on_silence(),
            Some(Event::Deadline) => detector.on_deadline(),
            None => break,
        };
        if let Some(answer) = answer(found, &detector, &stream[at..]) {
            return answer;
        }
    }
    Answer::Undecided { held: at }
}

fn answer(
    found: Result<Detection, DetectError>,
    detector: &Detector,
    rest: &[u8],
) -> Option<Answer> {
    Some(match found {
        Ok(Detection::NeedMore) => return None,
        Ok(Detection::Native) => Answer::Native {
            rest: rest.to_vec(),
        },
        Ok(Detection::Reference { dialect, weight }) => Answer::Reference {
            dialect,
            weight: weight.to_bits(),
            rest: [detector.replay(), rest].concat(),
        },
        Err(DetectError::FirstWeight { dialect, .. }) => Answer::BadWeight { dialect },
        Err(DetectError::Incomplete { bytes }) => Answer::Incomplete { bytes },
    })
}

/// Byte by byte through the table of the document.
fn model(pinned: Option<Dialect>, stream: &[u8], events: &[(usize, Event)]) -> Answer {
    if pinned == Some(Dialect::Compact) {
        return model_of(stream, events, 4, |word| compact(word, stream), None);
    }
    if pinned == Some(Dialect::Typed) {
        return model_of(stream, events, 8, |word| typed(word, stream), None);
    }
    let native = pinned.is_some() || stream.first().is_some_and(|byte| *byte >= 0x80);
    if native {
        // Silence says nothing; a deadline before the first byte does.
        let late = events
            .iter()
            .any(|(at, event)| *at == 0 && *event == Event::Deadline);
        return match stream {
            _ if late => Answer::Incomplete { bytes: 0 },
            [] => model_of(stream, events, 1, |_| unreachable!(), None),
            _ => Answer::Native {
                rest: stream.to_vec(),
            },
        };
    }
    let decide = |word: &[u8]| {
        let number = f64::from_be_bytes(word.try_into().expect("eight bytes"));
        let plausible = (2_f64.powi(-20)..=2_f64.powi(20)).contains(&number);
        if word.iter().all(|byte| *byte == 0) || plausible {
            typed(word, stream)
        } else {
            compact(word, stream)
        }
    };
    let early = |word: &[u8]| compact(word, stream);
    model_of(stream, events, 8, decide, Some(&early))
}

/// What bytes say when they are all that will be looked at.
type Decide<'a> = dyn Fn(&[u8]) -> Answer + 'a;

/// `want` bytes decide, or silence after 4 and the deadline after 4 or more, where `early` is given.
fn model_of(
    stream: &[u8],
    events: &[(usize, Event)],
    want: usize,
    decide: impl Fn(&[u8]) -> Answer,
    early: Option<&Decide>,
) -> Answer {
    for (at, event) in events {
        if *at >= want && stream.len() >= want {
            break;
        }
        let held = stream.len().min(*at);
        match (early, event) {
            (Some(early), Event::Silence) if held == 4 => return early(stream),
            (Some(early), Event::Deadline) if held >= 4 => return early(stream),
            (_, Event::Silence) => {}
            (_, Event::Deadline) => return Answer::Incomplete { bytes: held },
        }
    }
    match stream.get(..want) {
        Some(word) => decide(word),
        None => Answer::Undecided { held: stream.len() },
    }
}

fn typed(word: &[u8], stream: &[u8]) -> Answer {
    let weight = f64::from_be_bytes(word[..8].try_into().expect("eight bytes"));
    reference(Dialect::Typed, weight, &stream[8..])
}

fn compact(word: &[u8], stream: &[u8]) -> Answer {
    let word: [u8; 4] = word[..4].try_into().expect("four bytes");
    if word[0] >= 0x80 {
        return Answer::BadWeight {
            dialect: Dialect::Compact,
        };
    }
    reference(
        Dialect::Compact,
        f32::from_be_bytes(word).into(),
        &stream[4..],
    )
}

fn reference(dialect: Dialect, weight: f64, rest: &[u8]) -> Answer {
    if !weight.is_finite() || weight < 0.0 {
        return Answer::BadWeight { dialect };
    }
    let weight = if weight == 0.0 { 0.0 } else { weight };
    Answer::Reference {
        dialect,
        weight: weight.to_bits(),
        rest: rest.to_vec(),
    }
}

/// The first word written again is the first word.
fn check_encoding(answer: &Answer, stream: &[u8]) {
    let Answer::Reference {
        dialect,
        weight,
        rest,
    } = answer
    else {
        return;
    };
    let word = &stream[..stream.len() - rest.len()];
    let again = encode_first_weight(*dialect, f64::from_bits(*weight));
    let minus_zero = *weight == 0 && word[0] == 0x80;
    assert!(minus_zero || again.as_bytes() == word);
}
