//! Sources: what emitters speak. A source turns the bytes of one connection into elements, each of which is
//! routed as one message.
//!
//! ```text
//! first bytes -> detect.rs -> which source; nothing that is spoken here -> its name
//! bytes       -> Source::next -> Element   goes to one lane
//!                           |--> Unit      an ack unit begins: its sender gets one answer for its elements
//!                           |--> Unpack    a compressed part: the engine unpacks it and offers what was in it
//!                           |--> Nothing   bytes without a message: padding, a heartbeat
//!                           |--> Skipped   the same, and it is counted why
//!                           `--> NeedMore  the engine carries them until the rest has come
//! answer      <- Source::answer           once analyzers have ACKed all elements of a unit, or they are in lanes
//! ```
//!
//! **A new protocol** is a module with a type that implements [`Source`], one line in the table `sources!`
//! below, one page of docs and one line in `fuzz/src/sources.rs`. The engine does the rest: partial elements and
//! their memory, time limits, backpressure, re-routes. `docs/adr/0049-what-emitters-speak-is-a-source.md` says why it is so.
//!
//! Sources know neither sockets nor clocks, allocate nothing for an element, and believe no length before they
//! have held it against a limit. What a connection speaks is decided once; the loop over its elements is compiled
//! for each source by itself.
#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

mod acked;
mod apart;
mod detect;
mod element;
pub mod forward;
mod frames;
pub mod level;
mod lines;
mod lumberjack;
mod port;
pub mod proxy;
mod relp;
pub mod render;
mod unit;

pub use acked::Acked;
pub use apart::clash;
pub use detect::Undecided;
pub use element::{Element, Oddity};
pub use forward::Forward;
pub use frames::Frames;
pub use lines::{
    packed_datagram, syslog_datagram, Framing, Gelf, InDatagram, Lines, Ndjson, Syslog,
    TextSettings,
};
pub use lumberjack::{Lumberjack, LumberjackError};
pub use port::{AckMode, Port, Protocols};
pub use relp::{Relp, RelpError};
pub use unit::{Answered, Answers, Elements, Facts, JoinKey, UnitBegin, Window};
pub use weir_inflate::{Coding, InflateError};

use std::fmt;
use std::sync::Arc;
use weir_protocol::frame::FrameError;
use weir_protocol::native::NativeError;

/// The table of sources: each line is a name in the set of a listener, in logs and metrics, and its type.
macro_rules! sources {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// A protocol that emitters speak.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Protocol {
            $($(#[$doc])* $name,)+
        }

        impl Protocol {
            /// All that there are.
            pub const ALL: &'static [Protocol] = &[$(Protocol::$name),+];

            /// Lower-case name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Protocol::$name => $word,)+
                }
            }

            /// The one of this name.
            pub fn from_name(name: &str) -> Option<Protocol> {
                Protocol::ALL.iter().copied().find(|protocol| protocol.as_str() == name)
            }

            /// A connection to `port` that speaks it, before its first byte.
            pub fn start(self, port: &Arc<Port>) -> Stream {
                match self {
                    $(Protocol::$name => Stream::$name(<$name as Source>::start(port)),)+
                }
            }

            /// See [`Source::ANSWERS`].
            pub fn answers(self) -> Answers {
                match self {
                    $(Protocol::$name => <$name as Source>::ANSWERS,)+
                }
            }

            /// See [`Source::WINDOW`].
            pub fn window(self) -> Window {
                match self {
                    $(Protocol::$name => <$name as Source>::WINDOW,)+
                }
            }

            /// See [`Source::DEADLINE_NS`].
            pub fn deadline_ns(self) -> u64 {
                match self {
                    $(Protocol::$name => <$name as Source>::DEADLINE_NS,)+
                }
            }

            /// See [`Source::JOINS`].
            pub fn joins(self) -> bool {
                match self {
                    $(Protocol::$name => <$name as Source>::JOINS,)+
                }
            }

            /// See [`Source::greets`].
            pub fn greets(self, port: &Port) -> bool {
                match self {
                    $(Protocol::$name => <$name as Source>::greets(port),)+
                }
            }

            /// See [`Source::begins`].
            fn begins(self, first: &[u8], limits: Limits) -> Result<bool, SourceError> {
                match self {
                    $(Protocol::$name => <$name as Source>::begins(first, limits),)+
                }
            }
        }

        /// What one connection speaks, and where in that it is.
        #[derive(Debug)]
        pub enum Stream {
            /// Its first bytes have not come.
            Undecided(Undecided),
            $($(#[$doc])* $name($name),)+
        }

        impl Stream {
            /// What is spoken, once that is known.
            pub fn protocol(&self) -> Option<Protocol> {
                match self {
                    Stream::Undecided(_) => None,
                    $(Stream::$name(_) => Some(Protocol::$name),)+
                }
            }
        }

        /// `with_source!(stream, source => expression)`: the expression, compiled for each source by itself.
        #[macro_export]
        macro_rules! with_source {
            ($stream:expr, $source:ident => $body:expr) => {
                match $stream {
                    $crate::Stream::Undecided($source) => $body,
                    $($crate::Stream::$name($source) => $body,)+
                }
            };
        }
    };
}

impl Protocol {
    /// Messages of text, of which any may look like anything.
    fn is_text(self) -> bool {
        matches!(
            self,
            Protocol::Syslog | Protocol::Lines | Protocol::Ndjson | Protocol::Gelf
        )
    }
}

impl Stream {
    /// A connection to this port.
    pub fn at(port: &Arc<Port>) -> Stream {
        match port.greets() {
            Some(protocol) => protocol.start(port),
            None => Stream::Undecided(Undecided::new(port)),
        }
    }
}

/// A connection that speaks nothing: nobody is there.
impl Default for Stream {
    fn default() -> Stream {
        Stream::Undecided(Undecided::default())
    }
}

sources! {
    /// Weir's own frames, `docs/PROTOCOL.md` 2.
    Frames = "frames",
    /// The same in numbered batches, which are ACKed, `docs/PROTOCOL.md` 8.
    Acked = "acked",
    /// Fluent Forward, `docs/FORWARD.md`.
    Forward = "forward",
    /// Lumberjack version 2, `docs/LUMBERJACK.md`.
    Lumberjack = "lumberjack",
    /// RELP, `docs/RELP.md`.
    Relp = "relp",
    /// Syslog over TCP, `docs/SYSLOG.md`.
    Syslog = "syslog",
    /// Lines of text, `docs/SYSLOG.md`.
    Lines = "lines",
    /// JSON lines, `docs/SYSLOG.md`.
    Ndjson = "ndjson",
    /// GELF, `docs/SYSLOG.md`.
    Gelf = "gelf",
}

/// What a source may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest element in bytes, as a frame: with the 5 bytes of a frame's header.
    pub frame_bytes_max: u32,
}

/// A protocol of emitters: one value for each connection.
pub trait Source {
    /// Whether its sender gets answers, and in which order.
    const ANSWERS: Answers = Answers::Never;
    /// How its sender is held to what it may have un-ACKed.
    const WINDOW: Window = Window::Silent;
    /// Its units have names under which they are known when they come again, see [`UnitBegin::join`].
    const JOINS: bool = false;
    /// How long its usual senders wait for an answer before they send the unit again, in nanoseconds. 0: for ever, or
    /// as long as they hear that they are not forgotten.
    const DEADLINE_NS: u64 = 0;
    /// Each answer in a send of its own: its sender reads one at a time.
    const ONE_ANSWER_A_SEND: bool = false;
    /// A sender with open units that hears nothing for so many nanoseconds is told that it is not forgotten, see
    /// [`alive`](Source::alive). 0: never.
    const ALIVE_EVERY_NS: u64 = 0;

    /// A connection to this port, before its first byte.
    fn start(port: &Arc<Port>) -> Self;

    /// Whether the server speaks first, with [`greeting`](Source::greeting). Such a protocol is alone on its port.
    fn greets(_port: &Port) -> bool {
        false
    }

    /// Whether a stream that starts with `first` is of this protocol. False: it may be, more bytes will tell.
    ///
    /// # Errors
    /// It is not, and why.
    fn begins(first: &[u8], limits: Limits) -> Result<bool, SourceError>;

    /// What `bytes` begin with. They start where the last step that was [`taken`](Source::taken) ended, and may be
    /// offered again, the same or more of them, when no lane could take their element: until then nothing of this
    /// step has happened.
    ///
    /// # Errors
    /// The stream cannot be followed any more. Elements before are routed, and its connection is closed.
    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError>;

    /// The element that `bytes` begin with and the bytes that it takes, where that is seen at once: as
    /// [`next`](Source::next) would say it, for nearly all of a stream. It is asked first, and changes nothing. What it
    /// returns stays in registers, which a [`Step`] of all kinds does not.
    #[inline(always)]
    fn plain<'a>(&'a self, _bytes: &'a [u8], _limits: Limits) -> Option<(usize, Element<'a>)> {
        None
    }

    /// The element that [`plain`](Source::plain) has seen was carried out.
    #[inline(always)]
    fn plain_taken(&mut self) {}

    /// The last step asked for `wanted` bytes, `carried` of them are there, and `rest` follows. To how many bytes it is
    /// carried on before it is asked again: a step whose end is a byte finds that at once. Never more than it takes.
    fn reach(&self, _carried: usize, wanted: usize, _rest: &[u8]) -> usize {
        wanted
    }

    /// The last step was carried out.
    fn taken(&mut self) {}

    /// The last step was to unpack and is taken, and so many bytes came out. They are what is offered next, all that
    /// are left of them at once, and at last none of them. What the source has to say at their end it says then, in
    /// steps that use no bytes; [`Step::NeedMore`] when there is nothing to say. Then the stream goes on behind what
    /// was packed.
    fn unpacked(&mut self, _bytes: usize) {}

    /// The stream has ended; `rest` is what no step took. Its element, if the end completes one.
    fn ended<'a>(&'a mut self, _rest: &'a [u8], _limits: Limits) -> Option<Element<'a>> {
        None
    }

    /// Nothing has come behind `rest`, which no step took, for a while. Its element, if silence completes one: it takes
    /// all of `rest`.
    fn quiet<'a>(&'a mut self, _rest: &'a [u8], _limits: Limits) -> Option<Element<'a>> {
        None
    }

    /// Appends what the server says first.
    fn greeting(&mut self, _facts: &Facts, _out: &mut Vec<u8>) {}

    /// All elements of a unit are through: appends its answer to what its sender gets. Nothing is written for one
    /// whose answer another one includes.
    fn answer(&mut self, _unit: Answered, _facts: &Facts, _out: &mut Vec<u8>) {}

    /// Appends what tells a sender that its open units are not forgotten.
    fn alive(&mut self, _out: &mut Vec<u8>) {}

    /// Whether all elements of the units that have begun were there. If the stream ends where they were not, the last
    /// unit will never be through.
    fn is_between_units(&self) -> bool {
        true
    }

    /// The connection is closed because of `why`: appends what can be said of that before the first answer.
    fn refuse(&mut self, _why: &str, _facts: &Facts, _out: &mut Vec<u8>) {}

    /// The connection is half-closed now, after its last answer: appends what the sender is told before.
    fn goodbye(&mut self, _out: &mut Vec<u8>) {}

    /// The distributor shuts down: appends what asks the sender to finish. False: there is no such word, and the
    /// connection is half-closed; where there are answers, behind the last of them.
    fn farewell(&mut self, _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// One step through a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An element.
    Element {
        /// Bytes that it takes, its framing included.
        used: usize,
        /// What is routed.
        element: Element<'a>,
    },
    /// An ack unit begins: the elements that follow are its own, as many as it says.
    Unit {
        /// Bytes that are used. Of a unit that is held whole: 0.
        used: usize,
        /// Which.
        unit: UnitBegin,
    },
    /// The unit ends that began with [`Elements::UntilEnd`].
    UnitEnd {
        /// Bytes that are used.
        used: usize,
        /// Elements that it had.
        elements: u32,
    },
    /// The elements that follow belong to no unit.
    NoUnit {
        /// Bytes that are used.
        used: usize,
    },
    /// What follows is packed in this. The engine offers what comes out, see [`Source::unpacked`]. Packed bytes do
    /// not hold packed bytes.
    Unpack {
        /// Bytes that it takes, its framing included; at least 1.
        used: usize,
        /// The packed part of them.
        packed: &'a [u8],
        /// How it is packed.
        coding: Coding,
        /// Most bytes that may come out.
        bytes_max: usize,
    },
    /// No message is in this many bytes.
    Nothing {
        /// How many; at least 1.
        used: usize,
    },
    /// The same, and it is counted why.
    Skipped {
        /// How many.
        used: usize,
        /// Why.
        why: Oddity,
    },
    /// Nothing behind these bytes is read; the connection is closed when all answers are out.
    End {
        /// How many.
        used: usize,
    },
    /// No step ends before so many bytes are there, those that were given included. Never more than a step
    /// needs: what lies behind it would wait without a cause.
    NeedMore {
        /// How many; more than were given.
        bytes: usize,
    },
    /// It is known now what the connection speaks; no bytes are used.
    Speaks(Protocol),
}

/// Why a stream cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SourceError {
    /// A length word that starts no frame.
    Frame(FrameError),
    /// Bytes that the protocol does not have there.
    Malformed {
        /// Which protocol.
        protocol: Protocol,
        /// What there should be.
        expected: &'static str,
    },
    /// A word of the acked link that is none.
    Link {
        /// What is wrong.
        error: NativeError,
    },
    /// Lumberjack that is none.
    Lumberjack {
        /// What is wrong.
        error: LumberjackError,
    },
    /// RELP that is none.
    Relp {
        /// What is wrong.
        error: RelpError,
    },
    /// More units are open, or more of their bytes, than its sender was granted.
    Window {
        /// Units that would be open.
        units: u32,
        /// Bytes in them.
        bytes: u64,
        /// What was granted.
        facts: Facts,
    },
    /// The shard has as many open units, or connections with some, as it has memory for.
    UnitsFull {
        /// Units that may be open.
        max: u32,
    },
    /// Its sender wants to know what analyzers have, and the ACKs of one say only that its kernel has it.
    WeakAcks,
    /// It does not begin as this protocol does, which tells itself apart by its first bytes.
    OtherStart {
        /// Which one it is not.
        protocol: Protocol,
    },
    /// Larger than an element may be.
    TooLong {
        /// Its bytes, as a frame.
        bytes: u64,
        /// What is allowed.
        max: u32,
    },
    /// It begins like none of those that its port speaks.
    Unspoken {
        /// Those.
        allowed: Protocols,
    },
    /// Values that Fluent Forward does not have there.
    Forward {
        /// What is wrong.
        error: forward::ForwardError,
    },
    /// A packed part that does not come out.
    Packed {
        /// What is wrong with it.
        error: InflateError,
    },
    /// Packed bytes end within an element, or hold packed bytes.
    PackedWrong {
        /// What is wrong.
        what: &'static str,
    },
    /// A unit is larger than those that are held.
    UnitTooLong {
        /// Its bytes.
        bytes: u64,
        /// What is allowed.
        max: usize,
    },
}

impl SourceError {
    /// Whether only a sender of the right protocol gets this: there is no other to be named.
    pub fn is_of_its_protocol(&self) -> bool {
        matches!(self, Self::Lumberjack { .. } | Self::Relp { .. })
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Malformed { protocol, expected } => {
                write!(f, "no {} stream: {expected}", protocol.as_str())
            }
            Self::Link { error } => error.fmt(f),
            Self::Lumberjack { error } => error.fmt(f),
            Self::Relp { error } => error.fmt(f),
            Self::Window {
                units,
                bytes,
                facts,
            } => write!(
                f,
                "{units} batches with {bytes} bytes would be un-ACKed; its WELCOME allowed {} batches and {} bytes",
                facts.units_max, facts.unit_bytes_max
            ),
            Self::UnitsFull { max } => write!(
                f,
                "this shard has granted all of the {max} batches that may be un-ACKed; come again, or connect to another"
            ),
            Self::WeakAcks => f.write_str(
                "who wants ACKs is told that analyzers have a message, and one analyzer never says so: only its kernel does; allowed: without ACKs, or weak_acks=allow behind that analyzer's URL",
            ),
            Self::OtherStart { protocol } => {
                write!(f, "it does not begin as {} does", protocol.as_str())
            }
            Self::TooLong { bytes, max } => write!(
                f,
                "a message of {bytes} bytes is above the limit of {max} bytes (--max-frame)"
            ),
            Self::Unspoken { allowed } => {
                write!(f, "its first bytes begin none of: {allowed}")
            }
            Self::Forward { error } => error.fmt(f),
            Self::Packed { error } => write!(f, "a compressed part: {error}"),
            Self::PackedWrong { what } => f.write_str(what),
            Self::UnitTooLong { bytes, max } => write!(
                f,
                "a unit of {bytes} bytes is above the limit of {max} bytes (unit_bytes)"
            ),
        }
    }
}

impl std::error::Error for SourceError {}
