//! Lumberjack version 2: Filebeat and the other Beats, Elastic Agent, Logstash (`docs/LUMBERJACK.md`).
//!
//! ```text
//! 2W count                      begins a unit of `count` elements: a window
//! 2J sequence length json       an element, as it lies
//! 2C length zlib                unpacked by the engine; what is inside is checked whole before its first element goes
//! 2A sequence                   the answer: the number that the window's last event had on the wire
//! ```
//!
//! Beats number the events of each window from 1, others count on for the life of the connection, and both wait for
//! exactly their own last number. So numbers are never computed: each window's last one is kept until its answer is due.
//! There is one answer for each window, and none is merged into another (`docs/adr/0063-windows-are-units-and-are-acked-whole.md`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::{
    level, Answered, Answers, Coding, Element, Elements, Facts, Limits, Port, Protocol, Source,
    SourceError, Step, UnitBegin,
};
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::Form;

const VERSION: u8 = b'2';
const OLD_VERSION: u8 = b'1';
const WINDOW: u8 = b'W';
const EVENT: u8 = b'J';
const COMPRESSED: u8 = b'C';
/// Version and type.
const KIND_BYTES: usize = 2;
/// The same with a number behind: a window, a compressed frame, an ACK.
const WORD_BYTES: usize = 6;
/// Version, type, sequence, length.
const EVENT_BYTES: usize = 10;
/// A sign of life: ACKs nothing, and starts the timer of a Beat that waits anew.
const ALIVE: [u8; WORD_BYTES] = ack(0);
/// A Beat gives up after 30 s without a word, Logstash tells it every 5 s.
const ALIVE_EVERY_NS: u64 = 3_000_000_000;

/// One sender's connection.
#[derive(Debug)]
pub struct Lumberjack {
    port: Arc<Port>,
    /// Events of the window that are to come; 0: between windows.
    events_left: u32,
    /// Unpacked bytes that are to come.
    inside_left: usize,
    /// Those are whole events, and no more than their window has left.
    is_checked: bool,
    /// What the last step comes to once it is taken.
    step: Taking,
    /// The last number of each window that is whole, until that is answered: as many as units may be open.
    ends: VecDeque<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Taking {
    #[default]
    Nothing,
    Window {
        events: u32,
    },
    Event {
        sequence: u32,
        bytes: usize,
    },
}

/// What is wrong with a stream of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LumberjackError {
    /// Another version than 2.
    Version {
        /// As it is on the wire.
        found: u8,
    },
    /// No frame has this type.
    Kind {
        /// As it is on the wire.
        found: u8,
    },
    /// An event that belongs to no window.
    NoWindow,
    /// A window begins within another.
    WindowWithin {
        /// Events that are to come of that one.
        events_left: u32,
    },
    /// A window of too many events.
    WindowTooLarge {
        /// So many.
        events: u32,
        /// What is allowed.
        max: u32,
    },
    /// Another frame than an event within a compressed frame.
    Nested {
        /// Its type.
        found: u8,
    },
    /// A compressed frame is too long to be held.
    PackedTooLong {
        /// So many bytes, compressed.
        bytes: u32,
        /// What is allowed.
        max: usize,
    },
    /// A compressed frame has more events than its window has left.
    TooManyPacked {
        /// Those.
        events_left: u32,
    },
    /// A compressed frame ends within an event.
    PackedCutOff,
}

impl fmt::Display for LumberjackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found: OLD_VERSION } => f.write_str(
                "version 1 of Lumberjack is not spoken here, only version 2 (Beats, Elastic Agent, Logstash 2 and newer)",
            ),
            Self::Version { found } => write!(
                f,
                "a Lumberjack frame of version 0x{found:02x}; only version 2 (0x32) is spoken here"
            ),
            Self::Kind { found } => write!(
                f,
                "a Lumberjack frame of type 0x{found:02x}; allowed: W (window), J (event), C (compressed)"
            ),
            Self::NoWindow => f.write_str("a Lumberjack event outside of a window"),
            Self::WindowWithin { events_left } => write!(
                f,
                "a Lumberjack window begins while {events_left} events of the one before are to come"
            ),
            Self::WindowTooLarge { events, max } => write!(
                f,
                "a Lumberjack window of {events} events; at most {max} are allowed (window_events; bulk_max_size of Beats)"
            ),
            Self::Nested { found } => write!(
                f,
                "a Lumberjack frame of type 0x{found:02x} within a compressed frame; only J (event) may be there"
            ),
            Self::PackedTooLong { bytes, max } => write!(
                f,
                "a compressed Lumberjack frame of {bytes} bytes; at most {max} are allowed (unit_bytes)"
            ),
            Self::TooManyPacked { events_left } => write!(
                f,
                "a compressed Lumberjack frame has more than the {events_left} events that its window has left"
            ),
            Self::PackedCutOff => f.write_str("a compressed Lumberjack frame ends within an event"),
        }
    }
}

impl Lumberjack {
    /// An event that begins `bytes`: number, and bytes with its header. None: its header is not whole.
    #[inline]
    fn event(bytes: &[u8], limits: Limits) -> Result<Option<(u32, usize)>, SourceError> {
        let Some(header) = bytes.first_chunk::<EVENT_BYTES>() else {
            return Ok(None);
        };
        let [_, _, sequence @ .., l0, l1, l2, l3] = *header;
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        let (frame_bytes, max) = (
            u64::from(len) + u64::from(FRAME_HEADER_BYTES),
            limits.frame_bytes_max,
        );
        if frame_bytes > u64::from(max) {
            return Err(SourceError::TooLong {
                bytes: frame_bytes,
                max,
            });
        }
        Ok(Some((
            u32::from_be_bytes(sequence),
            EVENT_BYTES + len as usize,
        )))
    }

    #[inline]
    fn next_event<'a>(&mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        let Some((sequence, used)) = Self::event(bytes, limits)? else {
            return Ok(Step::NeedMore { bytes: EVENT_BYTES });
        };
        let Some(json) = bytes.get(EVENT_BYTES..used) else {
            return Ok(Step::NeedMore { bytes: used });
        };
        self.step = Taking::Event {
            sequence,
            bytes: used,
        };
        let bytes = without_line_end(json);
        let element = Element::Payload {
            severity: match self.port.finds_level {
                true => level::of_json(bytes),
                false => level::INFO,
            },
            form: Form::Json,
            bytes,
        };
        Ok(Step::Element { used, element })
    }

    /// Whether unpacked bytes are whole events, no more than may come. What is wrong is found before any of them is
    /// routed: a frame that is sent again and again would leave a copy of its beginning each time.
    #[inline(never)]
    fn check(&self, mut inside: &[u8], limits: Limits) -> Result<(), SourceError> {
        let mut events = 0;
        while !inside.is_empty() {
            match *inside {
                [VERSION, EVENT, ..] | [VERSION] => {}
                [VERSION, found, ..] => return Err(wrong(LumberjackError::Nested { found })),
                [found, ..] => return Err(wrong(LumberjackError::Version { found })),
                [] => {}
            }
            if events == self.events_left {
                let events_left = self.events_left;
                return Err(wrong(LumberjackError::TooManyPacked { events_left }));
            }
            let event = Self::event(inside, limits)?;
            let rest = event.and_then(|(_, used)| inside.get(used..));
            inside = rest.ok_or(wrong(LumberjackError::PackedCutOff))?;
            events += 1;
        }
        Ok(())
    }

    fn next_window(&mut self, bytes: &[u8]) -> Result<Step<'static>, SourceError> {
        let Some(word) = word(bytes) else {
            return Ok(Step::NeedMore { bytes: WORD_BYTES });
        };
        let (events, max) = (word, self.port.window_events_max);
        if events > max {
            return Err(wrong(LumberjackError::WindowTooLarge { events, max }));
        }
        self.step = Taking::Window { events };
        let unit = UnitBegin {
            key: 0,
            elements: Elements::Exactly(events),
            bytes: 0,
            is_awaited: true,
            join: None,
        };
        Ok(Step::Unit {
            used: WORD_BYTES,
            unit,
        })
    }

    fn next_packed<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, SourceError> {
        let Some(len) = word(bytes) else {
            return Ok(Step::NeedMore { bytes: WORD_BYTES });
        };
        let max = self.port.unit_bytes_max;
        if len as usize > max {
            return Err(wrong(LumberjackError::PackedTooLong { bytes: len, max }));
        }
        let used = WORD_BYTES + len as usize;
        let Some(packed) = bytes.get(WORD_BYTES..used) else {
            return Ok(Step::NeedMore { bytes: used });
        };
        self.step = Taking::Nothing;
        Ok(Step::Unpack {
            used,
            packed,
            coding: Coding::Deflate,
            bytes_max: self.port.unpacked_bytes_max,
        })
    }

    #[cold]
    fn refused(&self, version: u8, kind: u8) -> SourceError {
        let events_left = self.events_left;
        wrong(match (version, kind) {
            (VERSION, EVENT) => LumberjackError::NoWindow,
            (VERSION, WINDOW) => LumberjackError::WindowWithin { events_left },
            (VERSION, found) => LumberjackError::Kind { found },
            (found, _) => LumberjackError::Version { found },
        })
    }
}

impl Source for Lumberjack {
    const ANSWERS: Answers = Answers::InOrder;
    const ALIVE_EVERY_NS: u64 = ALIVE_EVERY_NS;

    fn start(port: &Arc<Port>) -> Lumberjack {
        Lumberjack {
            port: Arc::clone(port),
            events_left: 0,
            inside_left: 0,
            is_checked: false,
            step: Taking::Nothing,
            ends: VecDeque::new(),
        }
    }

    fn begins(first: &[u8], _: Limits) -> Result<bool, SourceError> {
        match *first {
            // The count of a window has a zero in front: fewer than 16 million.
            [VERSION, WINDOW, 0, ..] => Ok(true),
            [OLD_VERSION, WINDOW | b'D' | COMPRESSED, ..] => {
                Err(wrong(LumberjackError::Version { found: OLD_VERSION }))
            }
            [] | [VERSION | OLD_VERSION] | [VERSION, WINDOW] => Ok(false),
            _ => Err(SourceError::OtherStart {
                protocol: Protocol::Lumberjack,
            }),
        }
    }

    #[inline]
    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        if self.inside_left > 0 {
            if !self.is_checked {
                let inside = bytes.get(..self.inside_left).unwrap_or(bytes);
                self.check(inside, limits)?;
                self.is_checked = true;
            }
            return self.next_event(bytes, limits);
        }
        let Some([version, kind]) = bytes.first_chunk::<KIND_BYTES>() else {
            return match bytes {
                [] | [VERSION] => Ok(Step::NeedMore { bytes: KIND_BYTES }),
                [found, ..] => Err(wrong(LumberjackError::Version { found: *found })),
            };
        };
        match (*version, *kind, self.events_left > 0) {
            (VERSION, EVENT, true) => self.next_event(bytes, limits),
            // pylogbeat sends one of no events behind a window of none.
            (VERSION, COMPRESSED, _) => self.next_packed(bytes),
            (VERSION, WINDOW, false) => self.next_window(bytes),
            (version, kind, _) => Err(self.refused(version, kind)),
        }
    }

    #[inline]
    fn taken(&mut self) {
        match std::mem::take(&mut self.step) {
            Taking::Event { sequence, bytes } => {
                self.inside_left = self.inside_left.saturating_sub(bytes);
                self.events_left -= 1;
                if self.events_left == 0 {
                    self.ends.push_back(sequence);
                }
            }
            Taking::Window { events: 0 } => self.ends.push_back(0),
            Taking::Window { events } => self.events_left = events,
            Taking::Nothing => {}
        }
    }

    fn unpacked(&mut self, len: usize) {
        self.inside_left = len;
        self.is_checked = false;
    }

    fn answer(&mut self, _: Answered, _: &Facts, out: &mut Vec<u8>) {
        // Units are answered in the order in which they began, so the oldest number is this one's.
        let end = self.ends.pop_front();
        debug_assert!(
            end.is_some(),
            "a unit is through when its last event was there"
        );
        out.extend_from_slice(&ack(end.unwrap_or(0)));
    }

    fn alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&ALIVE);
    }

    fn is_between_units(&self) -> bool {
        self.events_left == 0
    }
}

/// The number of a frame that is one, or begins with one.
fn word(bytes: &[u8]) -> Option<u32> {
    let [_, _, word @ ..] = *bytes.first_chunk::<WORD_BYTES>()?;
    Some(u32::from_be_bytes(word))
}

/// python-logstash-async ends its events as lines.
#[inline]
fn without_line_end(json: &[u8]) -> &[u8] {
    match json {
        [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => line,
        _ => json,
    }
}

const fn ack(sequence: u32) -> [u8; WORD_BYTES] {
    let [a, b, c, d] = sequence.to_be_bytes();
    [VERSION, b'A', a, b, c, d]
}

fn wrong(error: LumberjackError) -> SourceError {
    SourceError::Lumberjack { error }
}
