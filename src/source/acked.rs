//! The acked emitter link: HELLO, then numbered batches of Weir's frames. Each batch is a unit, and its answer is the
//! cumulative ACK of the wire (`docs/PROTOCOL.md` 8).
//!
//! ```text
//! HELLO           a unit of no elements: its answer is the WELCOME
//! BATCH header    begins a unit of `count` elements, whose key is the number of its last message
//! frame           an element; one of a resent batch carries session and number along
//! ```

use super::{
    Answered, Answers, Element, Elements, Facts, Limits, Port, Protocol, Source, SourceError, Step,
    UnitBegin, Window,
};
use std::sync::Arc;
use weir_protocol::frame::{self, FRAME_HEADER_BYTES};
use weir_protocol::native::{
    check_kind, EmitterBatch, EmitterHello, EmitterWelcome, EmitterWord, NativeError,
    EMITTER_BATCH_BYTES, EMITTER_DRAIN, EMITTER_MAGIC,
};

/// The length word of a frame.
const LENGTH_BYTES: usize = 4;
/// Key of the unit that HELLO is. Messages are numbered from 1.
const KEY_HELLO: u64 = 0;

/// One emitter's link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acked {
    /// Of the batch that is being read: frames and bytes to come.
    count_left: u32,
    bytes_left: u32,
    /// Its messages were sent before.
    is_resent: bool,
    is_greeted: bool,
    session: u64,
    /// Number of the next message; 0: any may come first.
    next_sequence: u64,
    /// Bytes of the frame that the last step was.
    frame_bytes: u32,
    /// What the last step comes to once it is taken, if it was no frame.
    step: Taking,
}

#[derive(Clone, Copy, Debug, Default)]
enum Taking {
    #[default]
    Nothing,
    Hello {
        session: u64,
    },
    Batch(EmitterBatch),
}

impl Acked {
    #[inline]
    fn next_frame<'a>(&mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        let length = frame::peek(bytes, limits.frame_bytes_max);
        let Some(used) = length.map_err(|error| link(NativeError::Frame(error)))? else {
            return Ok(Step::NeedMore {
                bytes: LENGTH_BYTES,
            });
        };
        let others = self.count_left - 1;
        let frame_bytes = u32::try_from(used).unwrap_or(u32::MAX);
        let rest = self.bytes_left.checked_sub(frame_bytes);
        let is_fit = rest.is_some_and(|rest| match others {
            0 => rest == 0,
            _ => u64::from(rest) >= u64::from(others) * u64::from(FRAME_HEADER_BYTES),
        });
        if !is_fit {
            return Err(link(NativeError::BatchBody));
        }
        let Some(frame) = bytes.get(..used) else {
            return Ok(Step::NeedMore { bytes: used });
        };
        self.frame_bytes = frame_bytes;
        let element = match self.is_resent {
            false => Element::Frame(frame),
            true => Element::Resent {
                frame,
                session: self.session,
                sequence: self.next_sequence,
            },
        };
        Ok(Step::Element { used, element })
    }

    #[cold]
    fn next_hello(&mut self, bytes: &[u8]) -> Result<Step<'static>, SourceError> {
        match EmitterHello::decode(bytes).map_err(link)? {
            Err(bytes) => Ok(Step::NeedMore { bytes }),
            Ok((hello, used)) => {
                let session = hello.session;
                self.step = Taking::Hello { session };
                let unit = UnitBegin {
                    key: KEY_HELLO,
                    elements: Elements::Exactly(0),
                    bytes: 0,
                    is_awaited: true,
                    join: None,
                };
                Ok(Step::Unit { used, unit })
            }
        }
    }

    fn next_batch(&mut self, bytes: &[u8]) -> Result<Step<'static>, SourceError> {
        if let Some(kind) = bytes.first() {
            check_kind(*kind).map_err(link)?;
        }
        let Some(header) = bytes.first_chunk::<EMITTER_BATCH_BYTES>() else {
            return Ok(Step::NeedMore {
                bytes: EMITTER_BATCH_BYTES,
            });
        };
        let batch = EmitterBatch::decode(header).map_err(link)?;
        let (expected, found) = (self.next_sequence, batch.first_sequence);
        if expected != 0 && found != expected {
            return Err(link(NativeError::BatchSequence { expected, found }));
        }
        self.step = Taking::Batch(batch);
        let unit = UnitBegin {
            key: batch.last_sequence(),
            elements: Elements::Exactly(batch.count),
            bytes: batch.body_bytes,
            is_awaited: batch.awaited,
            join: None,
        };
        let used = EMITTER_BATCH_BYTES;
        Ok(Step::Unit { used, unit })
    }

    fn taken_no_frame(&mut self) {
        match std::mem::take(&mut self.step) {
            Taking::Batch(batch) => {
                self.count_left = batch.count;
                self.bytes_left = batch.body_bytes;
                self.is_resent = batch.resent;
                self.next_sequence = batch.first_sequence;
            }
            Taking::Hello { session } => {
                self.session = session;
                self.is_greeted = true;
            }
            Taking::Nothing => {}
        }
    }
}

impl Source for Acked {
    const ANSWERS: Answers = Answers::InOrder;
    const WINDOW: Window = Window::Announced;

    fn start(_: &Arc<Port>) -> Acked {
        Acked::default()
    }

    fn begins(first: &[u8], _: Limits) -> Result<bool, SourceError> {
        let there = first.len().min(EMITTER_MAGIC.len());
        match first[..there] == EMITTER_MAGIC[..there] {
            true => Ok(there == EMITTER_MAGIC.len()),
            false => Err(SourceError::OtherStart {
                protocol: Protocol::Acked,
            }),
        }
    }

    #[inline]
    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        if self.count_left > 0 {
            return self.next_frame(bytes, limits);
        }
        if !self.is_greeted {
            return self.next_hello(bytes);
        }
        self.next_batch(bytes)
    }

    #[inline]
    fn taken(&mut self) {
        // Within a batch each step is a frame.
        if self.count_left > 0 {
            self.count_left -= 1;
            self.bytes_left -= self.frame_bytes;
            self.next_sequence += 1;
        } else {
            self.taken_no_frame();
        }
    }
    fn answer(&mut self, unit: Answered, facts: &Facts, out: &mut Vec<u8>) {
        if unit.key == KEY_HELLO {
            welcome(None, facts, out);
        } else if unit.is_newest {
            // One ACK says it of all before.
            out.extend_from_slice(&EmitterWord::encode_ack(unit.key));
        }
    }

    fn is_between_units(&self) -> bool {
        self.count_left == 0
    }

    fn refuse(&mut self, why: &str, facts: &Facts, out: &mut Vec<u8>) {
        if !self.is_greeted {
            welcome(Some(why), facts, out);
        }
    }

    fn farewell(&mut self, out: &mut Vec<u8>) -> bool {
        // Before its WELCOME there is no word for it.
        if self.is_greeted {
            out.extend_from_slice(&EMITTER_DRAIN);
        }
        self.is_greeted
    }
}

fn welcome(refused: Option<&str>, facts: &Facts, out: &mut Vec<u8>) {
    let welcome = EmitterWelcome {
        refused,
        instance: facts.instance,
        window_batches: facts.units_max,
        window_bytes: facts.unit_bytes_max,
    };
    welcome.encode(out);
}

fn link(error: NativeError) -> SourceError {
    SourceError::Link { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::frame::encode_header;

    const LIMITS: Limits = Limits {
        frame_bytes_max: 100,
    };

    fn small(len: usize) -> u32 {
        u32::try_from(len).expect("a few bytes")
    }

    fn batch(first: u64, payloads: &[&str]) -> Vec<u8> {
        let frames: Vec<u8> = payloads.iter().flat_map(|text| frame(text)).collect();
        let header = EmitterBatch {
            resent: false,
            awaited: false,
            count: small(payloads.len()),
            body_bytes: small(frames.len()),
            first_sequence: first,
        };
        [&header.encode()[..], &frames].concat()
    }

    fn frame(text: &str) -> Vec<u8> {
        let header = encode_header(small(text.len()), 3);
        [&header[..], text.as_bytes()].concat()
    }

    /// A link that has read its HELLO.
    fn greeted() -> Acked {
        let mut hello = Vec::new();
        let said = EmitterHello {
            session: 9,
            id: "e1",
        };
        said.encode(&mut hello).expect("an id");
        let mut source = Acked::default();
        let step = source.next(&hello, LIMITS).expect("a HELLO");
        assert!(
            matches!(step, Step::Unit { used, unit } if used == hello.len() && unit.elements == Elements::Exactly(0))
        );
        source.taken();
        source
    }

    /// All steps of a stream; the error at its end.
    fn steps(source: &mut Acked, mut bytes: &[u8]) -> (Vec<String>, Option<SourceError>) {
        let mut seen = Vec::new();
        while !bytes.is_empty() {
            let used = match source.next(bytes, LIMITS) {
                Err(error) => return (seen, Some(error)),
                Ok(Step::Unit { used, unit }) => {
                    let Elements::Exactly(elements) = unit.elements else {
                        panic!("a batch says how many")
                    };
                    seen.push(format!("{elements} to {}", unit.key));
                    used
                }
                Ok(Step::Element { used, element }) => {
                    let (_, frame) = element.parts();
                    seen.push(String::from_utf8_lossy(&frame[5..]).into_owned());
                    used
                }
                Ok(other) => panic!("{other:?}"),
            };
            source.taken();
            bytes = &bytes[used..];
        }
        (seen, None)
    }

    #[test]
    fn batches_are_units_and_their_frames_elements() {
        let stream = [batch(5, &["a", "bc"]), batch(7, &["d"])].concat();
        let (seen, error) = steps(&mut greeted(), &stream);
        assert_eq!(seen, ["2 to 6", "a", "bc", "1 to 7", "d"]);
        assert_eq!(error, None);
    }

    #[test]
    fn a_batch_goes_on_where_the_last_one_ended() {
        for (second, fault) in [(6, true), (7, false), (8, true), (0, true)] {
            let mut stream = [batch(5, &["a", "bc"]), batch(7, &["d"])].concat();
            let at = batch(5, &["a", "bc"]).len() + 16;
            stream[at..at + 8].copy_from_slice(&u64::to_be_bytes(second));
            let (seen, error) = steps(&mut greeted(), &stream);
            assert_eq!(error.is_some(), fault, "{second}: {error:?}");
            assert!(seen.starts_with(&["2 to 6".into(), "a".into(), "bc".into()]));
        }
    }

    #[test]
    fn a_body_ends_with_its_last_frame() {
        let good = batch(1, &["a", "bc"]);
        let body = small(good.len() - EMITTER_BATCH_BYTES);
        for (count, body_bytes, fault) in [
            (2, body, false),
            (1, body, true),
            (3, body, true),
            (2, body + 1, true),
            (2, body - 1, true),
            (2, 10, true),
        ] {
            let mut stream = good.clone();
            stream[4..8].copy_from_slice(&u32::to_be_bytes(count));
            stream[8..12].copy_from_slice(&u32::to_be_bytes(body_bytes));
            let (_, error) = steps(&mut greeted(), &stream);
            assert_eq!(error.is_some(), fault, "{count} in {body_bytes}: {error:?}");
        }
    }

    #[test]
    fn what_was_sent_again_says_whose_it_is() {
        let mut stream = batch(5, &["a", "bc"]);
        stream[1] = 1;
        let mut source = greeted();
        let mut at = 0;
        let mut said = Vec::new();
        while at < stream.len() {
            at += match source.next(&stream[at..], LIMITS) {
                Ok(Step::Unit { used, .. }) => used,
                Ok(Step::Element { used, element }) => {
                    let Element::Resent {
                        session, sequence, ..
                    } = element
                    else {
                        panic!("{element:?}")
                    };
                    said.push((session, sequence));
                    used
                }
                other => panic!("{other:?}"),
            };
            source.taken();
        }
        assert_eq!(said, [(9, 5), (9, 6)]);
    }

    #[test]
    fn nobody_is_told_to_go_before_the_welcome() {
        let mut out = Vec::new();
        assert!(!Acked::default().farewell(&mut out) && out.is_empty());
        assert!(greeted().farewell(&mut out));
        assert_eq!(out, EMITTER_DRAIN);
    }

    #[test]
    fn one_ack_answers_for_all_before_it() {
        let facts = Facts {
            instance: 7,
            units_max: 4,
            unit_bytes_max: 1000,
            connection: 1,
        };
        let (mut source, mut out) = (greeted(), Vec::new());
        for (key, is_newest) in [(KEY_HELLO, false), (6, false), (7, true)] {
            let unit = Answered {
                key,
                is_refused: false,
                is_newest,
            };
            source.answer(unit, &facts, &mut out);
        }
        let (welcome, used) = EmitterWelcome::decode(&out).expect("good").expect("whole");
        assert_eq!(
            (welcome.refused, welcome.instance, welcome.window_batches),
            (None, 7, 4)
        );
        let word = EmitterWord::decode(&out[used..]);
        assert_eq!(word, Ok(Some((EmitterWord::Ack(7), out.len() - used))));
    }
}
