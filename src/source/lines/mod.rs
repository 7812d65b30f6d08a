//! Messages of text: syslog, plain lines, JSON lines, GELF. No answer is ever written to their senders: syslog-ng takes
//! any byte for an error, and closes.
//!
//! ```text
//! bytes -> cut.rs   where a message begins and ends
//!       -> a Kind   its severity, and what it is; the text itself stays as it came
//! ```

mod cut;
mod datagram;

use super::level;
use super::{Coding, Element, Limits, Oddity, Port, Protocol, Source, SourceError, Step};
use std::sync::Arc;

use cut::{Cut, Cutter, Joins, COUNT_MAX};
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::Form;

pub use cut::Framing;
pub use datagram::{packed_datagram, syslog_datagram, InDatagram};

/// Ends the text of a message that was too long.
const CUT_MARK: &[u8] = b" [cut]";
const BOM: &[u8] = b"\xEF\xBB\xBF";
/// Spaces that some senders put before a PRI.
const SPACES_MAX: usize = 16;

/// What a listener is told of messages of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSettings {
    /// Where messages end.
    pub framing: Framing,
    /// A line goes on with the message before it: of syslog one without a PRI, of others one that begins with white space.
    pub joins: bool,
}

impl TextSettings {
    /// Each message told apart by itself.
    pub const DEFAULT: TextSettings = TextSettings {
        framing: Framing::Auto,
        joins: false,
    };
}

impl Default for TextSettings {
    fn default() -> TextSettings {
        TextSettings::DEFAULT
    }
}

/// What messages of text are.
pub trait Kind {
    /// The protocol.
    const PROTOCOL: Protocol;
    /// Where messages end when nothing else is said.
    const FRAMING: Framing;

    /// Severity and form of a message, and its text. None: nothing is in it.
    fn read(text: &[u8], reads_levels: bool) -> Option<(u8, Form, &[u8])>;

    /// The same of what most messages are. None: ask for it.
    #[inline(always)]
    fn plain(text: &[u8], reads_levels: bool) -> Option<(u8, Form, &[u8])> {
        Self::read(text, reads_levels)
    }

    /// Whether a stream begins so; see [`Source::begins`].
    ///
    /// # Errors
    /// It does not.
    fn begins(first: &[u8]) -> Result<bool, SourceError>;
}

/// Syslog over TCP, RFC 6587: RFC 3164, RFC 5424, and what looks like neither. Only the PRI is read.
#[derive(Clone, Copy, Debug)]
pub enum OfSyslog {}
/// Lines of text.
#[derive(Clone, Copy, Debug)]
pub enum OfLines {}
/// Lines that are JSON objects.
#[derive(Clone, Copy, Debug)]
pub enum OfNdjson {}
/// GELF over TCP: JSON objects that end at NUL.
#[derive(Clone, Copy, Debug)]
pub enum OfGelf {}

/// One connection that sends syslog messages.
pub type Syslog = Texts<OfSyslog>;
/// One connection that sends lines.
pub type Lines = Texts<OfLines>;
/// One connection that sends JSON lines.
pub type Ndjson = Texts<OfNdjson>;
/// One connection that sends GELF.
pub type Gelf = Texts<OfGelf>;

/// One connection that sends messages of text.
#[derive(Clone, Debug)]
pub struct Texts<K> {
    cutter: Cutter,
    reads_levels: bool,
    is_begun: bool,
    unpacked_bytes_max: usize,
    /// A message that was too long, with its mark, until it is taken.
    cut: Vec<u8>,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind> Texts<K> {
    fn new(port: &Port) -> Texts<K> {
        let settings = port.text;
        let framing = match settings.framing {
            Framing::Auto => K::FRAMING,
            framing => framing,
        };
        let joins = match settings.joins {
            false => Joins::Never,
            true if K::PROTOCOL == Protocol::Syslog => Joins::WithoutStart,
            true => Joins::Indented,
        };
        Texts {
            cutter: Cutter::new(framing, joins),
            reads_levels: port.finds_level,
            is_begun: false,
            unpacked_bytes_max: port.unpacked_bytes_max,
            cut: Vec::new(),
            kind: std::marker::PhantomData,
        }
    }

    fn rest<'a>(&self, text: &'a [u8]) -> Option<Element<'a>> {
        K::read(text, self.reads_levels).map(element)
    }

    fn step_of<'a>(&'a mut self, cut: Cut<'a>) -> Result<Step<'a>, SourceError> {
        let malformed = |expected| SourceError::Malformed {
            protocol: K::PROTOCOL,
            expected,
        };
        match cut {
            Cut::Text { used, text, is_cut } => {
                if is_cut {
                    mark_cut(text, &mut self.cut);
                }
                let text = if is_cut { &self.cut } else { text };
                Ok(match K::read(text, self.reads_levels) {
                    Some(read) => Step::Element {
                        used,
                        element: element(read),
                    },
                    None => Step::Nothing { used },
                })
            }
            Cut::Packed { used, packed } => Ok(Step::Unpack {
                used,
                packed,
                coding: Coding::Deflate,
                bytes_max: self.unpacked_bytes_max,
            }),
            Cut::Nothing { used } => Ok(Step::Nothing { used }),
            Cut::TooLong { used } => Ok(Step::Skipped {
                used,
                why: Oddity::LineCut,
            }),
            Cut::NeedMore { bytes } => Ok(Step::NeedMore { bytes }),
            Cut::NoCount => Err(malformed(
                "with framing = \"counted\" there is a length before each message, as in `6 <131>x`",
            )),
            Cut::CountTooLarge { count } => Err(SourceError::TooLong {
                bytes: count,
                max: u32::try_from(COUNT_MAX).unwrap_or(u32::MAX),
            }),
        }
    }
}

/// The longest text that is a message.
#[inline(always)]
fn text_max(limits: Limits) -> usize {
    limits.frame_bytes_max.saturating_sub(FRAME_HEADER_BYTES) as usize
}

#[inline(always)]
fn element((severity, form, bytes): (u8, Form, &[u8])) -> Element<'_> {
    Element::Payload {
        severity,
        form,
        bytes,
    }
}

/// The text up to what fits with the mark, no character in half.
#[cold]
fn mark_cut(text: &[u8], marked: &mut Vec<u8>) {
    marked.clear();
    let mut end = text.len().saturating_sub(CUT_MARK.len());
    let is_inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let back = (0..4).find(|back| !is_inside(end.saturating_sub(*back)));
    end = end.saturating_sub(back.unwrap_or(0));
    marked.extend_from_slice(text.get(..end).unwrap_or_default());
    marked.extend_from_slice(
        CUT_MARK
            .get(..text.len().min(CUT_MARK.len()))
            .unwrap_or_default(),
    );
}

impl<K: Kind> Source for Texts<K> {
    fn start(port: &Arc<Port>) -> Texts<K> {
        Texts::new(port)
    }

    fn begins(first: &[u8], _: Limits) -> Result<bool, SourceError> {
        K::begins(first)
    }

    #[inline(always)]
    fn plain<'a>(&'a self, bytes: &'a [u8], limits: Limits) -> Option<(usize, Element<'a>)> {
        let (used, text) = self.cutter.plain(bytes, text_max(limits))?;
        let read = K::plain(text, self.reads_levels)?;
        Some((used, element(read)))
    }

    #[inline(always)]
    fn plain_taken(&mut self) {
        self.cutter.plain_taken();
    }

    #[inline(never)]
    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        if !self.is_begun {
            if let Some(step) = first_bytes(K::PROTOCOL, bytes)? {
                return Ok(step);
            }
        }
        let cut = self.cutter.next(bytes, text_max(limits));
        self.step_of(cut)
    }

    fn reach(&self, carried: usize, wanted: usize, rest: &[u8]) -> usize {
        self.cutter.reach(carried, wanted, rest)
    }

    fn taken(&mut self) {
        self.is_begun = true;
        self.cutter.taken();
        if self.cut.capacity() > 0 {
            self.cut = Vec::new();
        }
    }

    fn unpacked(&mut self, bytes: usize) {
        self.is_begun = true;
        self.cutter.unpacked(bytes);
    }

    fn ended<'a>(&'a mut self, rest: &'a [u8], _: Limits) -> Option<Element<'a>> {
        self.rest(self.cutter.ended(rest)?)
    }

    fn quiet<'a>(&'a mut self, rest: &'a [u8], _: Limits) -> Option<Element<'a>> {
        self.rest(self.cutter.quiet(rest)?)
    }
}

/// Starts of streams that would be taken for text for ever.
#[cold]
fn first_bytes(protocol: Protocol, bytes: &[u8]) -> Result<Option<Step<'static>>, SourceError> {
    let expected = match bytes {
        [0x16, 0x03, ..] => "it begins as TLS does, which is not spoken at this port (tls of the input)",
        [0x78, 0x01 | 0x9C | 0xDA, ..] => {
            "it begins as a zlib stream; of rsyslog's compression only ZipLevel is understood, not compression.mode=\"stream:always\""
        }
        [0x1F, 0x8B, ..] => "it begins as gzip does; a stream is not unpacked as a whole",
        [0x28, 0xB5, ..] => "it begins as zstd does; a stream is not unpacked as a whole",
        [0x16 | 0x78 | 0x1F | 0x28] => return Ok(Some(Step::NeedMore { bytes: 2 })),
        _ => return Ok(None),
    };
    Err(SourceError::Malformed { protocol, expected })
}

/// The PRI that a message begins with: 0 to 191.
#[inline]
fn pri(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let sum = match *text {
        [b'<', a, b'>', ..] => digit(a)?,
        [b'<', a, b, b'>', ..] => digit(a)? * 10 + digit(b)?,
        [b'<', a, b, c, b'>', ..] => (digit(a)? * 10 + digit(b)?) * 10 + digit(c)?,
        _ => return None,
    };
    u8::try_from(sum).ok().filter(|pri| *pri <= PRI_MAX)
}

/// Facility 23, severity 7.
const PRI_MAX: u8 = 191;

impl Kind for OfSyslog {
    const PROTOCOL: Protocol = Protocol::Syslog;
    const FRAMING: Framing = Framing::Auto;

    fn read(text: &[u8], reads_levels: bool) -> Option<(u8, Form, &[u8])> {
        OfSyslog::plain(text, reads_levels).or_else(|| read_padded(text))
    }

    #[inline(always)]
    fn plain(text: &[u8], _: bool) -> Option<(u8, Form, &[u8])> {
        pri(text).map(|pri| (level::of_pri(u16::from(pri)), Form::Raw, text))
    }

    fn begins(first: &[u8]) -> Result<bool, SourceError> {
        let other = SourceError::OtherStart {
            protocol: Protocol::Syslog,
        };
        match cut::begins_message(first) {
            Some(true) => Ok(true),
            None => Ok(false),
            Some(false) => Err(other),
        }
    }
}

/// Spaces and a mark may be before the PRI. Without one it has the severity of 13, and all of the text is kept.
#[cold]
fn read_padded(text: &[u8]) -> Option<(u8, Form, &[u8])> {
    let spaces = text.iter().take(SPACES_MAX).take_while(|b| **b == b' ');
    let padded = text.get(spaces.count()..).unwrap_or_default();
    let padded = padded.strip_prefix(BOM).unwrap_or(padded);
    if let Some(pri) = pri(padded) {
        return Some((level::of_pri(u16::from(pri)), Form::Raw, padded));
    }
    of_text(text).filter(|_| !padded.is_empty())
}

/// A text that says nothing of its severity.
fn of_text(text: &[u8]) -> Option<(u8, Form, &[u8])> {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    (!text.is_empty()).then_some((level::INFO, Form::Raw, text))
}

impl Kind for OfLines {
    const PROTOCOL: Protocol = Protocol::Lines;
    const FRAMING: Framing = Framing::Lf;

    #[inline]
    fn read(text: &[u8], _: bool) -> Option<(u8, Form, &[u8])> {
        of_text(text)
    }

    fn begins(first: &[u8]) -> Result<bool, SourceError> {
        begins_with(Protocol::Lines, first, |byte| byte >= b' ' || byte == b'\t')
    }
}

impl Kind for OfNdjson {
    const PROTOCOL: Protocol = Protocol::Ndjson;
    const FRAMING: Framing = Framing::Lf;

    #[inline]
    fn read(text: &[u8], reads_levels: bool) -> Option<(u8, Form, &[u8])> {
        of_json(text, reads_levels)
    }

    fn begins(first: &[u8]) -> Result<bool, SourceError> {
        begins_with(Protocol::Ndjson, first, |byte| byte == b'{')
    }
}

impl Kind for OfGelf {
    const PROTOCOL: Protocol = Protocol::Gelf;
    const FRAMING: Framing = Framing::Nul;

    #[inline]
    fn read(text: &[u8], reads_levels: bool) -> Option<(u8, Form, &[u8])> {
        of_json(text, reads_levels)
    }

    fn begins(first: &[u8]) -> Result<bool, SourceError> {
        begins_with(Protocol::Gelf, first, |byte| byte == b'{')
    }
}

/// What looks like a JSON object; anything else is a text. Whether it is one looks who puts it into other JSON.
fn of_json(text: &[u8], reads_levels: bool) -> Option<(u8, Form, &[u8])> {
    let json = text.strip_prefix(BOM).unwrap_or(text).trim_ascii();
    if !matches!(json, [b'{', .., b'}']) {
        return of_text(text).filter(|_| !json.is_empty());
    }
    let severity = match reads_levels {
        true => level::of_json(json),
        false => level::INFO,
    };
    Some((severity, Form::Json, json))
}

/// By the first byte behind a mark and the ends of lines.
fn begins_with(
    protocol: Protocol,
    first: &[u8],
    is: impl Fn(u8) -> bool,
) -> Result<bool, SourceError> {
    let behind = first.strip_prefix(BOM).unwrap_or(first);
    match behind.trim_ascii_start().first() {
        None => Ok(false),
        Some(byte) if is(*byte) => Ok(true),
        Some(_) => Err(SourceError::OtherStart { protocol }),
    }
}
