//! RELP, version 0: rsyslog's omrelp, relppy (`docs/RELP.md`).
//!
//! ```text
//! txnr SP open SP length SP offers LF     a unit of no elements: its answer says what is spoken here
//! txnr SP syslog SP length SP data LF     a unit of one element, which may have LFs
//! txnr SP close SP 0 LF                   a unit of no elements: its answer is the last one
//! txnr SP rsp SP 6 SP 200 SP OK LF        the answer, in the order of the frames
//! ```
//!
//! A sender that gets a 500 for a message throws that message away, and one whose `close` is answered forgets what was
//! not. So neither is used to say that it must wait, and `close` is answered behind all before it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::{
    level, Answered, Answers, Element, Elements, Facts, Limits, Port, Protocol, Source,
    SourceError, Step, UnitBegin,
};
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::Form;

/// Digits of a transaction number, and of a length.
const DIGITS_MAX: usize = 9;
const COMMAND_BYTES_MAX: usize = 32;
/// Data of a frame that is no message. An `open` of rsyslog has 86.
const OFFERS_BYTES_MAX: u32 = 4096;
/// Version 1 is answered with 0: librelp refuses a server that offers anything else, and tries again for ever.
const OFFERS: &[u8] = b"200 OK\nrelp_version=0\nrelp_software=weir\ncommands=syslog";
const SERVER_CLOSE: &[u8] = b"0 serverclose 0\n";
/// The answer to a message, behind its number.
const TAKEN: &[u8] = b" rsp 6 200 OK\n";
const OPEN_AGAIN: &[u8] = b"500 this session is open already";
const UNKNOWN: &[u8] = b"500 unknown command, allowed are open, syslog and close: ";
/// What every session begins with, behind its number.
const START: &[u8] = b" open ";
const LF: u8 = b'\n';
/// How long librelp waits for an answer while its window is full, unless it is told otherwise.
const DEADLINE_NS: u64 = 90_000_000_000;

/// One sender's session.
#[derive(Debug, Default)]
pub struct Relp {
    stage: Stage,
    /// What the last step comes to once it is taken.
    step: Taking,
    /// Commands that are answered with 500: as many as units may be open.
    unknown: VecDeque<Word>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Fresh,
    /// Between frames.
    Open,
    /// The header of a message was there.
    Data { bytes: u32 },
    /// Nothing more is read.
    Ending,
}

#[derive(Clone, Copy, Debug, Default)]
enum Taking {
    #[default]
    Nothing,
    To(Stage),
    Unknown(Word),
}

/// What a unit is answered as, in the upper half of its key; the transaction number is the lower one.
#[derive(Clone, Copy)]
enum Kind {
    Message,
    Open,
    OpenAgain,
    Close,
    Unknown,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Message,
        Kind::Open,
        Kind::OpenAgain,
        Kind::Close,
        Kind::Unknown,
    ];
}

/// A command as it was given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word {
    letters: [u8; COMMAND_BYTES_MAX],
    len: u8,
}

impl Word {
    fn new(command: &[u8]) -> Word {
        let mut letters = [0; COMMAND_BYTES_MAX];
        let len = command.len().min(COMMAND_BYTES_MAX);
        letters[..len].copy_from_slice(&command[..len]);
        Word {
            letters,
            len: u8::try_from(len).unwrap_or_default(),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.letters[..usize::from(self.len)]
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// What is wrong with a stream of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelpError {
    /// A byte that no header has there.
    Header {
        /// What there should be.
        expected: &'static str,
        /// What there is.
        found: u8,
    },
    /// Transaction number 0, which only a server may use.
    NumberZero,
    /// Another command than `open` comes first.
    NotOpen {
        /// Which.
        command: Word,
    },
    /// A command that is no message has too much data.
    DataTooLong {
        /// Which.
        command: Word,
        /// Its bytes.
        bytes: u32,
        /// What is allowed.
        max: u32,
    },
    /// No LF behind the data: its length is wrong.
    NoTrailer {
        /// What there is.
        found: u8,
    },
}

impl fmt::Display for RelpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { expected, found } => {
                write!(f, "a RELP frame has 0x{found:02x} where {expected} must be")
            }
            Self::NumberZero => {
                f.write_str("a RELP frame of transaction 0; a client's are 1 to 999999999")
            }
            Self::NotOpen { command } => {
                write!(f, "a RELP session begins with `{command:?}`; `open` must come first")
            }
            Self::DataTooLong {
                command,
                bytes,
                max,
            } => write!(
                f,
                "RELP command `{command:?}` with {bytes} bytes of data; at most {max} are allowed"
            ),
            Self::NoTrailer { found } => write!(
                f,
                "a RELP frame has 0x{found:02x} behind its data where LF must be: its length is wrong"
            ),
        }
    }
}

/// What stands before the data of a frame.
#[derive(Clone, Copy)]
struct Header<'a> {
    number: u32,
    command: &'a [u8],
    data_bytes: u32,
    /// Where the data begins; without data where its LF is, or behind.
    data_at: usize,
    /// The LF of a frame without data was there.
    is_whole: bool,
}

impl<'a> Header<'a> {
    /// None: it is not whole.
    fn parse(bytes: &'a [u8]) -> Result<Option<Header<'a>>, RelpError> {
        let Some((number, at)) = digits(bytes, 0, "a transaction number of 1 to 9 digits")? else {
            return Ok(None);
        };
        let Some(command) = letters(bytes, at)? else {
            return Ok(None);
        };
        let at = at + command.len() + 1;
        let Some((data_bytes, data_at)) = digits(bytes, at, "a length of 1 to 9 digits")? else {
            return Ok(None);
        };
        if number == 0 {
            return Err(RelpError::NumberZero);
        }
        let found = bytes[data_at - 1];
        let is_whole = found == LF;
        if is_whole && data_bytes > 0 {
            let expected = "a space before the data";
            return Err(RelpError::Header { expected, found });
        }
        Ok(Some(Header {
            number,
            command,
            data_bytes,
            data_at,
            is_whole,
        }))
    }

    /// Its bytes with data and LF. None: they are not whole.
    fn whole(&self, bytes: &[u8]) -> Result<Result<usize, Step<'static>>, RelpError> {
        let used = self.data_at + self.data_bytes as usize + usize::from(!self.is_whole);
        match bytes.get(used - 1) {
            None => Ok(Err(Step::NeedMore { bytes: used })),
            Some(&LF) => Ok(Ok(used)),
            Some(&found) => Err(RelpError::NoTrailer { found }),
        }
    }

    fn key(&self, kind: Kind) -> u64 {
        u64::from(self.number) | (kind as u64) << 32
    }
}

/// A number and where what stands behind its separator begins: a space, or the LF behind a length.
#[inline]
fn digits(
    bytes: &[u8],
    from: usize,
    expected: &'static str,
) -> Result<Option<(u32, usize)>, RelpError> {
    let mut number = 0;
    for (at, &byte) in bytes[from..].iter().enumerate() {
        match byte {
            b'0'..=b'9' if at < DIGITS_MAX => number = number * 10 + u32::from(byte - b'0'),
            b' ' if at > 0 => return Ok(Some((number, from + at + 1))),
            LF if at > 0 && from > 0 => return Ok(Some((number, from + at + 1))),
            found => return Err(RelpError::Header { expected, found }),
        }
    }
    Ok(None)
}

/// A command; a space is behind it.
#[inline]
fn letters(bytes: &[u8], from: usize) -> Result<Option<&[u8]>, RelpError> {
    for (at, &byte) in bytes[from..].iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' if at < COMMAND_BYTES_MAX => {}
            b' ' if at > 0 => return Ok(Some(&bytes[from..from + at])),
            found => {
                let expected = "a command of 1 to 32 letters";
                return Err(RelpError::Header { expected, found });
            }
        }
    }
    Ok(None)
}

impl Relp {
    fn next_frame(&mut self, bytes: &[u8], limits: Limits) -> Result<Step<'static>, SourceError> {
        let Some(header) = Header::parse(bytes).map_err(wrong)? else {
            let bytes = bytes.len() + 1;
            return Ok(Step::NeedMore { bytes });
        };
        if self.stage == Stage::Open && header.command == b"syslog" {
            return self.next_message(header, bytes, limits);
        }
        self.next_command(header, bytes).map_err(wrong)
    }

    #[inline]
    fn next_message(
        &mut self,
        header: Header,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<Step<'static>, SourceError> {
        let frame_bytes = u64::from(header.data_bytes) + u64::from(FRAME_HEADER_BYTES);
        if frame_bytes > u64::from(limits.frame_bytes_max) {
            return Err(SourceError::TooLong {
                bytes: frame_bytes,
                max: limits.frame_bytes_max,
            });
        }
        let end = header.data_at + header.data_bytes as usize + 1;
        let (used, elements, stage) = match header.data_bytes {
            0 => match header.whole(bytes).map_err(wrong)? {
                Ok(used) => (used, 0, Stage::Open),
                Err(more) => return Ok(more),
            },
            bytes => (header.data_at, 1, Stage::Data { bytes }),
        };
        self.step = Taking::To(stage);
        let unit = UnitBegin {
            key: header.key(Kind::Message),
            elements: Elements::Exactly(elements),
            bytes: header.data_bytes,
            // It sent nothing behind it: its window may be full.
            is_awaited: bytes.len() <= end,
            join: None,
        };
        Ok(Step::Unit { used, unit })
    }

    #[cold]
    fn next_command(&mut self, header: Header, bytes: &[u8]) -> Result<Step<'static>, RelpError> {
        let command = Word::new(header.command);
        let (data_bytes, max) = (header.data_bytes, OFFERS_BYTES_MAX);
        if self.stage == Stage::Fresh && header.command != b"open" {
            return Err(RelpError::NotOpen { command });
        }
        if data_bytes > max {
            return Err(RelpError::DataTooLong {
                command,
                bytes: data_bytes,
                max,
            });
        }
        let used = match header.whole(bytes)? {
            Ok(used) => used,
            Err(more) => return Ok(more),
        };
        // What ends the session is looked at once more: the step behind this one is the end.
        let (kind, used, step) = match (header.command, self.stage) {
            (b"open", Stage::Fresh) => (Kind::Open, used, Taking::To(Stage::Open)),
            (b"open", _) => (Kind::OpenAgain, 0, Taking::To(Stage::Ending)),
            (b"close", _) => (Kind::Close, 0, Taking::To(Stage::Ending)),
            _ => (Kind::Unknown, used, Taking::Unknown(command)),
        };
        self.step = step;
        let unit = UnitBegin {
            key: header.key(kind),
            elements: Elements::Exactly(0),
            bytes: 0,
            is_awaited: true,
            join: None,
        };
        Ok(Step::Unit { used, unit })
    }

    fn next_data<'a>(&mut self, bytes: &'a [u8], data_bytes: u32) -> Result<Step<'a>, SourceError> {
        let len = data_bytes as usize;
        let used = len + 1;
        match bytes.get(len) {
            None => return Ok(Step::NeedMore { bytes: used }),
            Some(&LF) => {}
            Some(&found) => return Err(wrong(RelpError::NoTrailer { found })),
        }
        let message = message(&bytes[..len]);
        self.step = Taking::To(Stage::Open);
        let element = Element::Payload {
            severity: level::of_syslog(message),
            form: Form::Raw,
            bytes: message,
        };
        Ok(Step::Element { used, element })
    }
}

impl Source for Relp {
    const ANSWERS: Answers = Answers::InOrder;
    const DEADLINE_NS: u64 = DEADLINE_NS;

    fn start(_: &Arc<Port>) -> Relp {
        Relp::default()
    }

    fn begins(first: &[u8], _: Limits) -> Result<bool, SourceError> {
        let other = SourceError::OtherStart {
            protocol: Protocol::Relp,
        };
        let number = first.iter().take_while(|byte| byte.is_ascii_digit());
        let rest = match number.count() {
            0 if first.is_empty() => return Ok(false),
            digits @ 1..=DIGITS_MAX => &first[digits..],
            _ => return Err(other),
        };
        let there = rest.len().min(START.len());
        match rest[..there] == START[..there] {
            true => Ok(there == START.len()),
            false => Err(other),
        }
    }

    #[inline]
    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        match self.stage {
            Stage::Data { bytes: data_bytes } => self.next_data(bytes, data_bytes),
            Stage::Fresh | Stage::Open => self.next_frame(bytes, limits),
            Stage::Ending => Ok(Step::End { used: bytes.len() }),
        }
    }

    #[inline]
    fn taken(&mut self) {
        match std::mem::take(&mut self.step) {
            Taking::To(stage) => self.stage = stage,
            Taking::Unknown(command) => self.unknown.push_back(command),
            Taking::Nothing => {}
        }
    }

    fn answer(&mut self, unit: Answered, _: &Facts, out: &mut Vec<u8>) {
        let number = unit.key & u64::from(u32::MAX);
        let kind = usize::try_from(unit.key >> 32).unwrap_or_default();
        match Kind::ALL.get(kind).unwrap_or(&Kind::Message) {
            Kind::Message => {
                // One for each message.
                decimal(number, out);
                out.extend_from_slice(TAKEN);
            }
            Kind::Open => answer(number, &[OFFERS], out),
            Kind::OpenAgain => {
                answer(number, &[OPEN_AGAIN], out);
                out.extend_from_slice(SERVER_CLOSE);
            }
            Kind::Close => {
                answer(number, &[], out);
                out.extend_from_slice(SERVER_CLOSE);
            }
            // Units are answered in the order in which they began.
            Kind::Unknown => {
                let command = self.unknown.pop_front();
                debug_assert!(command.is_some(), "as many as such units");
                let command = command.unwrap_or(Word::new(b""));
                answer(number, &[UNKNOWN, command.as_bytes()], out);
            }
        }
    }

    fn goodbye(&mut self, out: &mut Vec<u8>) {
        // Behind the answer to `close` it stands already.
        if matches!(self.stage, Stage::Open | Stage::Data { .. }) {
            out.extend_from_slice(SERVER_CLOSE);
        }
    }

    fn is_between_units(&self) -> bool {
        !matches!(self.stage, Stage::Data { .. })
    }
}

/// The message in the data of a frame: what a template may have put around it is none of it.
fn message(data: &[u8]) -> &[u8] {
    let mut message = data;
    while let Some((b'\n' | b'\r' | 0, rest)) = message.split_last() {
        message = rest;
    }
    message
}

/// Appends `number rsp length data`.
fn answer(number: u64, data: &[&[u8]], out: &mut Vec<u8>) {
    decimal(number, out);
    out.extend_from_slice(b" rsp ");
    let len: usize = data.iter().map(|part| part.len()).sum();
    decimal(len as u64, out);
    for (at, part) in data.iter().enumerate() {
        if at == 0 {
            out.push(b' ');
        }
        out.extend_from_slice(part);
    }
    out.push(LF);
}

/// Appends a number: one for each message, so without the machinery of formats.
fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn wrong(error: RelpError) -> SourceError {
    SourceError::Relp { error }
}
