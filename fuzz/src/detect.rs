//! Which dialect: in any split the same answer and the same bytes left over, with silence and the
//! deadline at any place; and the answer of the table in `docs/PROTOCOL.md`, section 4.
//!
//! Input: u8 pinned dialect, u16 split, u8 silence, u8 silence, u8 deadline (each: after so many
//! bytes), stream.

use weir::protocol::foreign::{self, Foreign};
use weir::sink::detect::{DetectError, Detection, Detector};
use weir::sink::{encode_first_weight, Dialect, Sink};

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
    /// No weight, no plausible one, or another protocol.
    Refused,
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
            let waits = (pinned.is_none() && at == 4) || at == 8;
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
        Ok(Detection::Analyzer { sink, weight: None }) => {
            assert_eq!(sink, Sink::Native, "who greets");
            let rest = rest.to_vec();
            Answer::Native { rest }
        }
        Ok(Detection::Analyzer {
            sink,
            weight: Some(weight),
        }) => Answer::Reference {
            dialect: sink.dialect().expect("it connected"),
            weight: weight.to_bits(),
            rest: [detector.replay(sink), rest].concat(),
        },
        Err(DetectError::Incomplete { bytes }) => Answer::Incomplete { bytes },
        Err(_) => Answer::Refused,
    })
}

/// Byte by byte through the table of the document. A ninth byte is only looked at.
fn model(pinned: Option<Dialect>, stream: &[u8], events: &[(usize, Event)]) -> Answer {
    for held in 0..=stream.len() {
        let told = said(pinned, stream, held).or_else(|| {
            let mut now = events
                .iter()
                .filter(|(at, _)| stream.len().min(*at) == held);
            now.find_map(|(_, event)| happened(pinned, stream, held, *event))
        });
        if let Some(answer) = told {
            return answer;
        }
    }
    Answer::Undecided { held: stream.len() }
}

/// What the first `held` bytes say.
fn said(pinned: Option<Dialect>, stream: &[u8], held: usize) -> Option<Answer> {
    let first = &stream[..held.min(8)];
    let is_native = match pinned {
        Some(dialect) => dialect == Dialect::Native,
        None => stream.first().is_some_and(|byte| *byte >= 0x80),
    };
    if is_native {
        let rest = stream.to_vec();
        return (held == 1).then_some(Answer::Native { rest });
    }
    if (held == 4 || held == 8) && !matches!(foreign::recognize(first), None | Some(Foreign::Zeros))
    {
        return Some(Answer::Refused);
    }
    let is_zero = first == [0; 8];
    let goes_on = is_zero || foreign::is_text(first);
    match held {
        4 if pinned == Some(Dialect::Compact) => Some(compact(stream)),
        8 if !goes_on => Some(whole(pinned, stream)),
        9 => match stream[8] {
            0 if is_zero => Some(Answer::Refused),
            byte if foreign::is_text(&[byte]) => Some(Answer::Refused),
            _ => Some(whole(pinned, stream)),
        },
        _ => None,
    }
}

/// What follows from a pause or the deadline after `held` bytes.
fn happened(pinned: Option<Dialect>, stream: &[u8], held: usize, event: Event) -> Option<Answer> {
    let first = &stream[..held];
    match (held, event) {
        (8, _) => Some(whole(pinned, stream)),
        (4, _) if pinned.is_none() => Some(compact(stream)),
        (_, Event::Silence) => None,
        (4.., _) if pinned.is_none() && foreign::is_text(first) => Some(Answer::Refused),
        (4.., _) if pinned.is_none() => Some(compact(stream)),
        _ if foreign::recognize(first).is_some() => Some(Answer::Refused),
        _ => Some(Answer::Incomplete { bytes: held }),
    }
}

fn is_plausible(weight: f64) -> bool {
    weight == 0.0 || (2_f64.powi(-20)..=2_f64.powi(20)).contains(&weight)
}

/// Eight bytes.
fn whole(pinned: Option<Dialect>, stream: &[u8]) -> Answer {
    let weight = f64::from_be_bytes(stream[..8].try_into().expect("eight bytes"));
    if pinned.is_some() || is_plausible(weight) {
        return reference(Dialect::Typed, weight, &stream[8..]);
    }
    let second = f32::from_be_bytes(stream[4..8].try_into().expect("four bytes"));
    let first = f64::from(f32::from_be_bytes(
        stream[..4].try_into().expect("four bytes"),
    ));
    let near = second > 0.0
        && is_plausible(second.into())
        && (first == 0.0 || (first / 16.0..=first * 16.0).contains(&f64::from(second)));
    if foreign::is_text(&stream[..8]) || !(near || stream[4..8] == [0x80, 0, 0, 0]) {
        return Answer::Refused;
    }
    compact(stream)
}

fn compact(stream: &[u8]) -> Answer {
    let weight = f32::from_be_bytes(stream[..4].try_into().expect("four bytes"));
    if stream[0] >= 0x80 {
        return Answer::Refused;
    }
    reference(Dialect::Compact, weight.into(), &stream[4..])
}

fn reference(dialect: Dialect, weight: f64, rest: &[u8]) -> Answer {
    if !is_plausible(weight) {
        return Answer::Refused;
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
