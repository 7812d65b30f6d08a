//! Every source of the table: the same elements in any split of its stream, and what `Source` promises the engine.
//! A new source is fuzzed by being in the table.
//!
//! Input: u8 protocol (0: none is known yet), u8 largest frame, u16 split, of which the low three bits are also how
//! messages of text are told apart; then the stream. The targets of one protocol each have all of it but the first byte.

use serde_json::value::RawValue;
use std::sync::Arc;

use weir::inflate::inflate;
use weir::protocol::frame::FRAME_HEADER_BYTES;
use weir::protocol::Form;
use weir::source::{
    render, with_source, Element, Framing, Limits, Port, Protocol, Protocols, Source, Step, Stream,
    TextSettings,
};

use super::input::{pieces, Input};

const FRAME_BYTES_MAX: [u32; 3] = [40, 300, 70_000];
/// A unit, and what comes out of a compressed part.
const HELD_BYTES_MAX: usize = 100_000;
/// Steps without bytes that a source may make one behind the other.
const IDLE_STEPS_MAX: usize = 16;

/// What became of a stream: its messages, and why it cannot be followed.
type Outcome = (Vec<Vec<u8>>, Option<String>);

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let number = usize::from(input.u8()) % (Protocol::ALL.len() + 1);
    let known = number.checked_sub(1).map(|index| Protocol::ALL[index]);
    read_all(known, input);
}

/// Syslog.
pub fn syslog(data: &[u8]) {
    read_all(Some(Protocol::Syslog), Input::new(data));
}

/// Lines.
pub fn lines(data: &[u8]) {
    read_all(Some(Protocol::Lines), Input::new(data));
}

/// Lines of JSON.
pub fn ndjson(data: &[u8]) {
    read_all(Some(Protocol::Ndjson), Input::new(data));
}

/// GELF over TCP.
pub fn gelf(data: &[u8]) {
    read_all(Some(Protocol::Gelf), Input::new(data));
}

/// Fluent Forward.
pub fn forward(data: &[u8]) {
    read_all(Some(Protocol::Forward), Input::new(data));
}

/// Lumberjack.
pub fn lumberjack(data: &[u8]) {
    read_all(Some(Protocol::Lumberjack), Input::new(data));
}

/// RELP.
pub fn relp(data: &[u8]) {
    read_all(Some(Protocol::Relp), Input::new(data));
}

fn read_all(known: Option<Protocol>, mut input: Input) {
    let frame_bytes_max = input.pick(&FRAME_BYTES_MAX);
    let seed = input.u16();
    let bytes = input.rest();
    let spoken = match known {
        Some(protocol) => Protocols::of(&[protocol]),
        None => Protocols::of(Protocol::ALL),
    };
    let text = TextSettings {
        framing: Framing::ALL[usize::from(seed & 3)],
        joins: seed & 4 != 0,
    };
    let port = Port {
        text,
        unit_bytes_max: if seed & 8 == 0 { HELD_BYTES_MAX } else { 64 },
        unpacked_bytes_max: HELD_BYTES_MAX,
        ..Port::new(spoken)
    };
    let port = Arc::new(port);
    let start = || match known {
        Some(protocol) => protocol.start(&port),
        None => Stream::at(&port),
    };
    let read = |pieces: Vec<&[u8]>| {
        let mut reader = Reader::new(start(), port.clone(), frame_bytes_max);
        pieces.into_iter().for_each(|piece| reader.feed(piece));
        reader.end();
        reader.outcome
    };
    let expected = read(bytes.chunks(1).collect());
    for seed in [0, seed] {
        assert_eq!(read(pieces(bytes, seed)), expected, "split {seed}");
    }
}

/// What a step comes to.
enum Went {
    /// So many bytes are used.
    On(usize),
    /// The same, and these come first.
    Unpacked(usize, Vec<u8>),
    NeedMore(usize),
    Over,
}

/// Reads as the engine does: whole steps where they lie, the rest carried.
struct Reader {
    stream: Stream,
    port: Arc<Port>,
    limits: Limits,
    carried: Vec<u8>,
    /// Bytes that the carried step was said to need.
    wanted: usize,
    is_over: bool,
    outcome: Outcome,
}

impl Reader {
    fn new(stream: Stream, port: Arc<Port>, frame_bytes_max: u32) -> Reader {
        Reader {
            stream,
            port,
            limits: Limits { frame_bytes_max },
            carried: Vec::new(),
            wanted: 0,
            is_over: false,
            outcome: (Vec::new(), None),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        let mut idle = 0;
        while !self.is_over {
            let carried = std::mem::take(&mut self.carried);
            let is_carried = !carried.is_empty();
            let bytes = if is_carried { &carried } else { rest };
            if bytes.is_empty() {
                return;
            }
            let went = self.step(bytes);
            // What is wrong may be seen before all that was asked for is there.
            if let Went::On(_) | Went::Unpacked(..) = went {
                assert!(
                    // What turns out larger than a unit may be is read while it comes, from its beginning.
                    bytes.len() >= self.wanted || matches!(self.stream, Stream::Forward(_)),
                    "it asked for more than it takes"
                );
                self.wanted = 0;
            }
            let used = match went {
                Went::Over => return,
                Went::On(used) => used,
                Went::Unpacked(used, unpacked) => {
                    self.read_unpacked(&unpacked);
                    used
                }
                Went::NeedMore(wanted) => {
                    assert!(wanted > bytes.len(), "more than it has");
                    let wanted = match is_carried {
                        true => {
                            with_source!(&self.stream, source => source.reach(carried.len(), wanted, rest))
                        }
                        false => wanted,
                    };
                    self.wanted = wanted.max(self.wanted);
                    let wanted = if is_carried { wanted } else { rest.len() };
                    let more = wanted.saturating_sub(carried.len()).min(rest.len());
                    let is_all = rest.is_empty();
                    self.carried = carried;
                    self.carried.extend_from_slice(&rest[..more]);
                    rest = &rest[more..];
                    match is_all || !is_carried {
                        true => return,
                        false => continue,
                    }
                }
            };
            idle = if used == 0 { idle + 1 } else { 0 };
            assert!(idle < IDLE_STEPS_MAX, "it goes on and on");
            match is_carried {
                true => self.carried = carried[used..].to_vec(),
                false => rest = &rest[used..],
            }
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Went {
        let limits = self.limits;
        let plain = with_source!(&mut self.stream, source => {
            let plain = source.plain(bytes, limits);
            plain.map(|(used, element)| format!("{:?}", Step::Element { used, element }))
        });
        let is_plain = plain.is_some();
        let step = with_source!(&mut self.stream, source => source.next(bytes, limits));
        if let (Some(plain), Ok(step)) = (plain, &step) {
            assert_eq!(plain, format!("{step:?}"), "what is seen at once");
        }
        let went = match step {
            Err(error) => {
                self.outcome.1 = Some(without_numbers(&error.to_string()));
                Went::Over
            }
            Ok(Step::NeedMore { bytes }) => return Went::NeedMore(bytes),
            Ok(Step::Speaks(protocol)) => {
                self.stream = protocol.start(&self.port);
                return Went::On(0);
            }
            Ok(Step::Unpack {
                used,
                packed,
                coding,
                bytes_max,
            }) => {
                assert!(used > 0 && packed.len() <= used && bytes_max <= HELD_BYTES_MAX);
                match inflate(coding, packed, bytes_max) {
                    Ok(unpacked) => {
                        let len = unpacked.len();
                        with_source!(&mut self.stream, source => source.unpacked(len));
                        return Went::Unpacked(used, unpacked);
                    }
                    Err(error) => {
                        self.outcome.1 = Some(without_numbers(&error.to_string()));
                        Went::Over
                    }
                }
            }
            Ok(Step::End { used }) => {
                assert!(used <= bytes.len());
                Went::Over
            }
            Ok(Step::Element { used, element }) => {
                assert!(used > 0, "an element is some bytes");
                push(&mut self.outcome.0, element, limits);
                Went::On(used)
            }
            Ok(
                Step::Unit { used, .. }
                | Step::UnitEnd { used, .. }
                | Step::NoUnit { used }
                | Step::Nothing { used }
                | Step::Skipped { used, .. },
            ) => Went::On(used),
        };
        match went {
            Went::Over => self.is_over = true,
            Went::On(used) => {
                assert!(used <= bytes.len());
                with_source!(&mut self.stream, source => match is_plain {
                    true => source.plain_taken(),
                    false => source.taken(),
                });
            }
            _ => {}
        }
        went
    }

    fn read_unpacked(&mut self, mut rest: &[u8]) {
        let mut idle = 0;
        while !self.is_over {
            let used = match self.step(rest) {
                Went::On(used) => used,
                Went::NeedMore(_) if rest.is_empty() => return,
                Went::NeedMore(_) | Went::Unpacked(..) => {
                    self.outcome.1 = Some("packed wrong".to_owned());
                    self.is_over = true;
                    return;
                }
                Went::Over => return,
            };
            idle = if used == 0 { idle + 1 } else { 0 };
            assert!(idle < IDLE_STEPS_MAX, "it goes on and on");
            rest = &rest[used..];
        }
    }

    /// The stream is at its end.
    fn end(&mut self) {
        if self.is_over {
            return;
        }
        let (limits, rest) = (self.limits, std::mem::take(&mut self.carried));
        let last = with_source!(&mut self.stream, source => source.ended(&rest, limits));
        if let Some(element) = last {
            push(&mut self.outcome.0, element, limits);
        }
    }
}

/// How many bytes something has may be known later when they come in pieces.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn push(messages: &mut Vec<Vec<u8>>, element: Element, limits: Limits) {
    let mut json = Vec::new();
    let element = match element {
        Element::Entry {
            severity,
            tag,
            entry,
        } => {
            let bytes_max = limits.frame_bytes_max - FRAME_HEADER_BYTES;
            render::entry(
                &mut render::Context::default(),
                tag,
                entry,
                bytes_max as usize,
                &mut json,
            );
            serde_json::from_slice::<&RawValue>(&json).expect("JSON");
            Element::Payload {
                severity,
                form: Form::Json,
                bytes: &json,
            }
        }
        element => element,
    };
    let (header, bytes) = element.parts();
    let frame = [header.bytes(), bytes].concat();
    let total = u32::from_be_bytes(*frame.first_chunk().expect("a length word"));
    assert_eq!(total as usize, frame.len(), "a frame says its length");
    assert!(total <= limits.frame_bytes_max, "{total} bytes");
    messages.push(frame);
}
