//! RELP, as its client: to rsyslog's imrelp and its like.
//!
//! ```text
//! open      1 open 53 relp_version=0\n...        answer   1 rsp 60 200 OK\nrelp_version=0\n...
//! message   2 syslog 9 <13>hello\n               answer   2 rsp 6 200 OK\n          in order, numbers without a gap
//! goodbye   7 close 0\n                          hint     0 serverclose 0\n         nothing more is taken
//! ```
//!
//! `\n` is one byte. Numbers go from 1 to 999,999,999 and begin again. An answer other than 200 refuses that message
//! for good. Specification: <https://github.com/rsyslog/librelp/blob/master/doc/relp.html>.

use std::sync::Arc;

use weir_source::render::Context;

use super::{Heard, Identity, Message, OutletError, OutletOptions, Pushed, Speak, Stamp};
use crate::render::text;
use crate::{Acks, Facts, Layout, Links, Mute, Told};

pub(crate) static FACTS: Facts = Facts {
    name: "relp",
    layout: Layout::Records,
    links: Links::Outlet,
    acks: Acks::PerItem,
    told: Told::NOTHING,
};

pub(crate) type Words = Mute;

/// The last number of a transaction; the next is 1.
const NUMBER_MAX: u32 = 999_999_999;
/// Longest header of an answer in bytes: number, command and length have 9, 32 and 9.
const HEAD_BYTES_MAX: usize = 52;
/// Longest data of an answer in bytes. Those of an `open` list what the server can do; others have 6.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// What is offered. Version 0: librelp refuses others.
const OFFERS: &str = concat!(
    "relp_version=0\nrelp_software=weir,",
    env!("CARGO_PKG_VERSION"),
    "\ncommands=syslog"
);

/// See the head of this file.
#[derive(Debug)]
pub struct Outlet {
    options: Arc<OutletOptions>,
    is_open: bool,
    /// Number of the next command.
    next: Number,
    /// Number of the next answer.
    answered: Number,
    context: Context,
}

/// Digits of the largest number.
const DIGITS: usize = 9;

/// A number of a transaction, and its text: counted up in place, for a division a digit is more than all else that a
/// message costs here.
#[derive(Clone, Debug)]
struct Number {
    value: u32,
    digits: [u8; DIGITS],
    /// Where they begin.
    at: usize,
}

impl Number {
    fn first() -> Number {
        Number::of(1)
    }

    /// Of 1 to [`NUMBER_MAX`].
    fn of(value: u32) -> Number {
        let (mut digits, mut rest, mut at) = ([b'0'; DIGITS], value, DIGITS);
        while rest > 0 && at > 0 {
            at -= 1;
            let [digit, ..] = (rest % 10).to_le_bytes();
            digits[at] = b'0' + digit;
            rest /= 10;
        }
        Number { value, digits, at }
    }

    #[inline]
    fn text(&self) -> &[u8] {
        &self.digits[self.at..]
    }

    /// The next one.
    #[inline]
    fn advance(&mut self) {
        if self.value >= NUMBER_MAX {
            *self = Number::first();
            return;
        }
        self.value += 1;
        for (at, digit) in self.digits.iter_mut().enumerate().rev() {
            if *digit < b'9' {
                *digit += 1;
                self.at = self.at.min(at);
                return;
            }
            *digit = b'0';
        }
    }
}

impl Speak for Outlet {
    fn start(options: &Arc<OutletOptions>, _salt: [u8; 16]) -> Self {
        Outlet {
            options: Arc::clone(options),
            is_open: false,
            next: Number::first(),
            answered: Number::first(),
            context: Context::default(),
        }
    }

    fn hello(&mut self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.extend_from_slice(OFFERS.as_bytes());
        self.frame(b" open ", start, out);
        false
    }

    fn messages_max(&self) -> u64 {
        u64::from(self.options.window)
    }

    fn push(&mut self, message: &Message<'_>, stamp: &Stamp, out: &mut Vec<u8>) -> Pushed {
        match text::as_it_came(message) {
            Some(text) => {
                out.reserve(text.len() + HEAD_BYTES_MAX);
                self.head(b" syslog ", text.len(), out);
                out.extend_from_slice(text);
                self.end(out);
            }
            None => {
                let start = out.len();
                text::syslog(message, stamp, &self.options, &mut self.context, out);
                self.frame(b" syslog ", start, out);
            }
        }
        Pushed::Taken
    }

    fn close(&mut self, _identity: &Identity, _out: &mut Vec<u8>) {}

    fn hear(
        &mut self,
        bytes: &mut &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<Option<Heard>, OutletError> {
        let taken = self.take_plain(bytes);
        if taken > 0 {
            return Ok(Some(Heard::Acked(taken)));
        }
        let Some(answer) = Answer::take(bytes)? else {
            return Ok(None);
        };
        match (answer.number, answer.command) {
            (0, b"serverclose") => return Ok(Some(Heard::Closing)),
            (number, b"rsp") if number == self.answered.value => {}
            (number, command) => {
                let command = command.escape_ascii();
                let expected = self.answered.value;
                let detail = format!("it answers {number} {command}, expected: {expected} rsp");
                return Err(refused("answer_unexpected", detail));
            }
        }
        let is_open = std::mem::replace(&mut self.is_open, true);
        if is_open && self.answered.value == self.next.value {
            let next = self.next.value;
            let detail = format!("it answers command {next}, which was not sent");
            return Err(refused("answer_unexpected", detail));
        }
        self.answered.advance();
        match (status_of(answer.data), is_open) {
            (Some(200), true) => Ok(Some(Heard::Acked(1))),
            (Some(200), false) => check_offers(answer.data).map(|()| Some(Heard::Ready)),
            (Some(status), true) => Ok(Some(Heard::Refused(status))),
            (Some(_), false) => {
                let detail = format!("it refuses this distributor: {}", shown(answer.data));
                Err(refused("refused_by_peer", detail))
            }
            (None, _) => {
                let detail = format!("its answer has no status: {}", shown(answer.data));
                Err(refused("answer_malformed", detail))
            }
        }
    }

    fn goodbye(&mut self, out: &mut Vec<u8>) {
        if self.is_open {
            out.extend_from_slice(self.next.text());
            out.extend_from_slice(b" close 0\n");
            self.next.advance();
        }
    }
}

impl Outlet {
    /// Takes answers off `bytes` that say what nearly all say, in the words of librelp. How many there were.
    fn take_plain(&mut self, bytes: &mut &[u8]) -> u64 {
        const OK: &[u8] = b" rsp 6 200 OK\n";
        let mut taken = 0;
        while self.is_open && self.answered.value != self.next.value {
            let rest = bytes.strip_prefix(self.answered.text());
            let Some(rest) = rest.and_then(|rest| rest.strip_prefix(OK)) else {
                break;
            };
            *bytes = rest;
            self.answered.advance();
            taken += 1;
        }
        taken
    }

    /// Puts a head before the data at the end of `out`, from `start` on, and an end behind them.
    fn frame(&mut self, command: &[u8], start: usize, out: &mut Vec<u8>) {
        let bytes = out.len() - start;
        self.head(command, bytes, out);
        let head = out.len() - start - bytes;
        out[start..].rotate_right(head);
        self.end(out);
    }

    fn head(&self, command: &[u8], bytes: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.next.text());
        out.extend_from_slice(command);
        text::number(bytes as u64, out);
        out.push(b' ');
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.push(b'\n');
        self.next.advance();
    }
}

/// One frame of the server.
struct Answer<'a> {
    number: u32,
    command: &'a [u8],
    data: &'a [u8],
}

impl<'a> Answer<'a> {
    /// `None`: it is not whole.
    fn take(bytes: &mut &'a [u8]) -> Result<Option<Answer<'a>>, OutletError> {
        let all = *bytes;
        let is_end = |byte: &u8| matches!(byte, b' ' | b'\n');
        let mut rest = all;
        let mut words = [&b""[..]; 3];
        let mut last = b' ';
        for word in &mut words {
            if last != b' ' {
                return Err(malformed(all));
            }
            let Some(end) = rest.iter().position(is_end) else {
                return match all.len() > HEAD_BYTES_MAX {
                    true => Err(malformed(all)),
                    false => Ok(None),
                };
            };
            (*word, last) = (&rest[..end], rest[end]);
            rest = &rest[end + 1..];
        }
        let [number, command, len] = words;
        let number = decimal(number).ok_or_else(|| malformed(all))?;
        let len = decimal(len).ok_or_else(|| malformed(all))? as usize;
        if len > ANSWER_BYTES_MAX || command.is_empty() || command.len() > 32 {
            return Err(malformed(all));
        }
        // Without data its end follows at once.
        let data = match (last, len) {
            (b'\n', 0) => &rest[..0],
            (b' ', _) => {
                let Some((data, behind)) = rest.split_at_checked(len) else {
                    return Ok(None);
                };
                match behind.split_first() {
                    Some((b'\n', behind)) => rest = behind,
                    Some(_) => return Err(malformed(all)),
                    None => return Ok(None),
                }
                data
            }
            _ => return Err(malformed(all)),
        };
        *bytes = rest;
        Ok(Some(Answer {
            number,
            command,
            data,
        }))
    }
}

/// A number of 1 to 9 digits.
fn decimal(digits: &[u8]) -> Option<u32> {
    let is_number = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        let digits = digits.iter().map(|digit| u32::from(digit - b'0'));
        digits.fold(0, |number, digit| number * 10 + digit)
    })
}

/// The first three bytes of an answer.
fn status_of(data: &[u8]) -> Option<u16> {
    let (status, behind) = data.split_first_chunk::<3>()?;
    let is_over = behind.first().is_none_or(|byte| !byte.is_ascii_digit());
    let status = decimal(status).filter(|_| is_over)?;
    u16::try_from(status).ok()
}

/// What the server offers lets messages through.
fn check_offers(data: &[u8]) -> Result<(), OutletError> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let commands = lines.find_map(|line| line.strip_prefix(b"commands="));
    let Some(commands) = commands else {
        return Ok(());
    };
    if commands
        .split(|byte| *byte == b',')
        .any(|it| it == b"syslog")
    {
        return Ok(());
    }
    let detail = format!("it takes no command syslog, only {}", shown(commands));
    Err(refused("command_missing", detail))
}

fn refused(reason: &'static str, detail: String) -> OutletError {
    OutletError { reason, detail }
}

fn malformed(bytes: &[u8]) -> OutletError {
    let detail = format!("its answer is none of RELP: {}", shown(bytes));
    refused("answer_malformed", detail)
}

/// The first bytes of an answer, for an error.
fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(64)].escape_ascii())
}

#[cfg(test)]
mod tests;
