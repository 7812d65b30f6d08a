//! Every source of the table: the same elements in any split of its stream, and what `Source` promises the engine.
//! A new source is fuzzed by being in the table.
//!
//! Input: u8 protocol (0: none is known yet), u8 largest frame, u16 split, stream.

use weir::source::{with_source, Limits, Protocol, Source, Step, Stream};

use super::input::{pieces, Input};

const FRAME_BYTES_MAX: [u32; 3] = [40, 300, 70_000];

/// What became of a stream: its messages, and why it cannot be followed.
type Outcome = (Vec<Vec<u8>>, Option<String>);

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let number = usize::from(input.u8());
    let frame_bytes_max = input.pick(&FRAME_BYTES_MAX);
    let seed = input.u16();
    let bytes = input.rest();
    let limits = Limits { frame_bytes_max };
    let known = (number % (Protocol::ALL.len() + 1)).checked_sub(1);
    let start = || match known {
        Some(index) => Protocol::ALL[index].start(),
        None => Stream::undecided(Protocol::ALL),
    };
    let expected = one_by_one(start(), bytes, limits);
    for seed in [0, seed] {
        let mut reader = Reader::new(start(), limits);
        for piece in pieces(bytes, seed) {
            reader.feed(piece);
        }
        let Reader { outcome, .. } = reader;
        assert_eq!(outcome, expected, "split {seed}");
    }
}

/// The stream as a peer that sends one byte at a time is read, and the engine's side of the bargain: nothing but
/// `NeedMore` before a step is whole, and never more than the step takes.
fn one_by_one(mut stream: Stream, bytes: &[u8], limits: Limits) -> Outcome {
    let mut messages = Vec::new();
    let (mut from, mut to, mut wanted) = (0, 1, 1);
    while to <= bytes.len() {
        let step = with_source!(&mut stream, source => source.next(&bytes[from..to], limits));
        match step {
            Err(error) => return (messages, Some(error.to_string())),
            Ok(Step::NeedMore { bytes: more }) => {
                assert!(more > to - from, "more than it has");
                wanted = more.max(wanted);
                to += 1;
            }
            Ok(Step::Speaks(protocol)) => {
                stream = protocol.start();
                wanted = 1;
            }
            Ok(Step::Nothing { used } | Step::Element { used, .. } | Step::Unit { used, .. }) => {
                assert_eq!(used, to - from, "a step is over as soon as it is whole");
                assert!(wanted <= used, "asked for {wanted} of {used} bytes");
                push(&mut messages, step.ok(), limits);
                with_source!(&mut stream, source => source.taken());
                (from, to, wanted) = (to, to + 1, 1);
            }
        }
    }
    (messages, None)
}

fn push(messages: &mut Vec<Vec<u8>>, step: Option<Step>, limits: Limits) {
    if let Some(Step::Element { element, .. }) = step {
        let (header, bytes) = element.parts();
        let frame = [header.bytes(), bytes].concat();
        let total = u32::from_be_bytes(*frame.first_chunk().expect("a length word"));
        assert_eq!(total as usize, frame.len(), "a frame says its length");
        assert!(total <= limits.frame_bytes_max, "{total} bytes");
        messages.push(frame);
    }
}

/// Reads as the engine does: whole steps where they lie, the rest carried.
struct Reader {
    stream: Stream,
    limits: Limits,
    carried: Vec<u8>,
    outcome: Outcome,
}

impl Reader {
    fn new(stream: Stream, limits: Limits) -> Reader {
        Reader {
            stream,
            limits,
            carried: Vec::new(),
            outcome: (Vec::new(), None),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        let limits = self.limits;
        while self.outcome.1.is_none() {
            let is_carried = !self.carried.is_empty();
            let bytes = if is_carried { &self.carried } else { rest };
            if bytes.is_empty() {
                return;
            }
            let step = with_source!(&mut self.stream, source => source.next(bytes, limits));
            let used = match step {
                Err(error) => {
                    self.outcome.1 = Some(error.to_string());
                    return;
                }
                Ok(Step::Speaks(protocol)) => {
                    self.stream = protocol.start();
                    continue;
                }
                Ok(Step::NeedMore { .. }) if rest.is_empty() => return,
                Ok(Step::NeedMore { bytes: wanted }) => {
                    let wanted = if is_carried { wanted } else { rest.len() };
                    let more = wanted.saturating_sub(self.carried.len()).min(rest.len());
                    self.carried.extend_from_slice(&rest[..more]);
                    rest = &rest[more..];
                    continue;
                }
                Ok(
                    Step::Nothing { used } | Step::Element { used, .. } | Step::Unit { used, .. },
                ) => used,
            };
            push(&mut self.outcome.0, step.ok(), limits);
            with_source!(&mut self.stream, source => source.taken());
            if is_carried {
                assert_eq!(used, self.carried.len());
                self.carried.clear();
            } else {
                rest = &rest[used..];
            }
        }
    }
}
