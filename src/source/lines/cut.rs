//! Where a message of text begins and ends. Decided for each message by itself: senders mix framings on one
//! connection.
//!
//! ```text
//! LF        <131>x\n                up to LF; in `auto` up to LF or NUL
//! counted   6 <131>x                that many bytes behind the space, whatever they are
//! packed    42 zx\x9c...           rsyslog's ZipLevel: the count covers `z` and a zlib stream, which is one message
//! padding   \n \r \0, and spaces    between messages; nothing
//! ```
//!
//! `digits SP <digit` is the only safe test for a count: `2026-11-29 ...` and `127.0.0.1 - - ...` begin with digits too.
//!
//! What is too long is given up to the limit, and the rest is skipped: a connection that is closed for it would come
//! again with the same message, for ever.

use memchr::{memchr, memchr2};

/// How messages of text are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// As the protocol does by default. Syslog: LF, NUL and counts, told apart for each message.
    #[default]
    Auto,
    /// Each ends at LF.
    Lf,
    /// Each ends at NUL.
    Nul,
    /// Each has its length before it, RFC 6587 section 3.4.1.
    Counted,
}

impl Framing {
    /// All that there are.
    pub const ALL: [Framing; 4] = [Framing::Auto, Framing::Lf, Framing::Nul, Framing::Counted];

    /// Lower-case name, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Framing::Auto => "auto",
            Framing::Lf => "lf",
            Framing::Nul => "nul",
            Framing::Counted => "counted",
        }
    }
}

/// A count above this is none: 16 MiB. What is between that and the longest text is given in part.
pub(super) const COUNT_MAX: u64 = 16 * 1024 * 1024;
/// Digits of a count.
const DIGITS_MAX: usize = 10;
/// Spaces before a message that may be padding.
const SPACES_MAX: usize = 16;
/// A byte order mark in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// What received bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// A message, without its framing; not empty.
    Text {
        used: usize,
        text: &'a [u8],
        /// More of it is to be skipped.
        is_cut: bool,
    },
    /// A zlib stream that holds one message.
    Packed {
        used: usize,
        packed: &'a [u8],
    },
    /// No message.
    Nothing {
        used: usize,
    },
    /// The rest of one that was too long, or one that cannot be given in part; said once for each.
    TooLong {
        used: usize,
    },
    NeedMore {
        bytes: usize,
    },
    /// A listener of counted messages got something else.
    NoCount,
    /// A count that nobody can mean.
    CountTooLarge {
        count: u64,
    },
}

/// What is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    /// Up to the end of the line.
    Line,
    /// So many bytes.
    Bytes(u64),
}

/// What the last cut comes to once it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taking {
    #[default]
    Nothing,
    /// The rest of a message is to be skipped.
    Begin { skip: Skip, is_said: bool },
    /// This is left of what is skipped.
    Left(Option<Skip>),
    /// The message that was unpacked.
    Unpacked,
}

/// Where a line goes on behind its LF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Joins {
    /// Nowhere.
    #[default]
    Never,
    /// Where no PRI and no count follows.
    WithoutStart,
    /// Where white space follows.
    Indented,
}

/// Which messages are cut without a look at the state: those that are whole, begin as most do, and are short enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Plain {
    /// None.
    #[default]
    No,
    /// `<` up to LF or NUL, and counts.
    Auto,
    /// Up to LF.
    Lf,
}

/// The place in a stream of messages of text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cutter {
    plain: Plain,
    /// Of the message that is being read: so many bytes hold no end.
    scanned: usize,
    framing: Framing,
    joins: Joins,
    /// What is skipped was said.
    is_said: bool,
    /// The line that is being read goes on at least to the end of what was offered.
    is_open: bool,
    taking: Taking,
    skip: Option<Skip>,
    /// Bytes of an unpacked message.
    inside: usize,
    /// The longest text, as it was said last.
    max: usize,
}

/// Where a line ends.
enum End {
    /// Its last byte.
    At(usize),
    /// Perhaps at an LF; more bytes will tell whether it goes on there.
    Open,
    /// Not in these bytes.
    None,
}

/// The count before a message.
enum Count {
    Is {
        body_at: usize,
        bytes: u64,
        is_packed: bool,
    },
    None,
    Undecided,
}

impl Cutter {
    pub(super) fn new(framing: Framing, joins: Joins) -> Cutter {
        Cutter {
            framing,
            joins,
            ..Cutter::default()
        }
    }

    /// A message that is whole and as most are, and the bytes that it takes. Nothing of the state but that it is taken.
    #[inline(always)]
    pub(super) fn plain<'a>(&self, bytes: &'a [u8], max: usize) -> Option<(usize, &'a [u8])> {
        let first = *bytes.first()?;
        let unseen = bytes.get(self.scanned..)?;
        let (used, text) = match self.plain {
            Plain::No => return None,
            Plain::Auto if first == b'<' => {
                let end = self.scanned + memchr2(b'\n', 0, unseen)?;
                (end + 1, bytes.get(..end)?)
            }
            Plain::Auto => plain_counted(bytes)?,
            Plain::Lf if first > b' ' => {
                let end = self.scanned + memchr(b'\n', unseen)?;
                (end + 1, bytes.get(..end)?)
            }
            Plain::Lf => return None,
        };
        match text {
            [.., b'\n' | b'\r' | 0] => None,
            _ => (text.len() <= max).then_some((used, text)),
        }
    }

    /// The last one was [`plain`](Cutter::plain).
    #[inline(always)]
    pub(super) fn plain_taken(&mut self) {
        self.scanned = 0;
    }

    /// What `bytes` begin with, when a text has at most `max` bytes.
    #[inline]
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8], max: usize) -> Cut<'a> {
        self.taking = Taking::Nothing;
        self.is_open = false;
        // What nearly all messages are.
        let is_line = match (self.framing, bytes.first()) {
            (Framing::Auto, Some(first)) => *first == b'<',
            (Framing::Lf | Framing::Nul, Some(first)) => *first > b' ',
            _ => false,
        };
        if is_line && self.skip.is_none() && self.inside == 0 {
            return self.line(bytes, max);
        }
        self.next_rare(bytes, max)
    }

    /// See [`Source::reach`](crate::Source::reach).
    pub(super) fn reach(&self, carried: usize, wanted: usize, rest: &[u8]) -> usize {
        // Up to the byte that says that the line is too long.
        let limit = self.max.saturating_add(1).saturating_sub(carried);
        let window = rest.get(..limit).unwrap_or(rest);
        match self.is_open && !window.is_empty() {
            true => carried + self.end_in(window).map_or(window.len(), |end| end + 1),
            false => wanted,
        }
    }

    /// The last cut was carried out.
    pub(super) fn taken(&mut self) {
        self.scanned = 0;
        self.taken_rare();
        self.set_plain();
    }

    fn set_plain(&mut self) {
        let is_free = self.skip.is_none() && self.inside == 0 && self.joins == Joins::Never;
        self.plain = match self.framing {
            Framing::Auto if is_free => Plain::Auto,
            Framing::Lf if is_free => Plain::Lf,
            _ => Plain::No,
        };
    }

    fn taken_rare(&mut self) {
        match std::mem::take(&mut self.taking) {
            Taking::Nothing => {}
            Taking::Begin { skip, is_said } => {
                self.inside = 0;
                (self.skip, self.is_said) = (Some(skip), is_said);
            }
            Taking::Left(skip) => (self.skip, self.is_said) = (skip, true),
            Taking::Unpacked => self.inside = 0,
        }
    }

    /// The packed message is taken and has so many bytes; they come next.
    pub(super) fn unpacked(&mut self, bytes: usize) {
        self.taken();
        self.inside = bytes;
        self.set_plain();
    }

    /// The stream has ended behind `rest`, for which more was needed: the message that it is. None: a part of one.
    pub(super) fn ended<'a>(&self, rest: &'a [u8]) -> Option<&'a [u8]> {
        if self.skip.is_some() || self.inside > 0 || self.framing == Framing::Counted {
            return None;
        }
        let is_counted = self.framing == Framing::Auto
            && rest.first() != Some(&b'<')
            && matches!(count(rest, false), Count::Is { .. });
        let mut text = trimmed(rest);
        if self.joins != Joins::Never && self.max > 0 {
            // What was looked at behind an LF may be more than fits.
            text = text.get(..self.max).unwrap_or(text);
        }
        (!is_counted && !text.is_empty()).then_some(text)
    }

    /// Nothing comes behind `rest`: the message that it is, if all but the next line says so.
    pub(super) fn quiet<'a>(&self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let waits = self.joins != Joins::Never && self.skip.is_none() && self.inside == 0;
        let is_line = self.scanned > 0 && rest.len() == self.scanned + 1 && rest.ends_with(b"\n");
        let text = trimmed(rest);
        (waits && is_line && !text.is_empty() && text.len() <= self.max).then_some(text)
    }

    fn next_rare<'a>(&mut self, bytes: &'a [u8], max: usize) -> Cut<'a> {
        if bytes.is_empty() {
            return Cut::NeedMore { bytes: 1 };
        }
        if let Some(skip) = self.skip {
            return self.skipped(skip, bytes);
        }
        if self.inside > 0 {
            return self.unpacked_text(bytes, max);
        }
        let used = bytes.iter().take_while(|byte| self.is_padding(**byte));
        let used = used.count();
        if used > 0 {
            return Cut::Nothing { used };
        }
        if !matches!(self.framing, Framing::Auto | Framing::Counted) {
            return self.line(bytes, max);
        }
        let is_pinned = self.framing == Framing::Counted;
        match count(bytes, is_pinned) {
            Count::Undecided => Cut::NeedMore {
                bytes: bytes.len() + 1,
            },
            Count::None if is_pinned => Cut::NoCount,
            Count::None => self.line(bytes, max),
            Count::Is { bytes: count, .. } if count > COUNT_MAX => Cut::CountTooLarge { count },
            Count::Is {
                body_at,
                bytes: count,
                is_packed,
            } => self.counted(bytes, (body_at, count, is_packed), max),
        }
    }

    /// What may lie between messages.
    fn is_padding(&self, byte: u8) -> bool {
        match self.framing {
            Framing::Auto => matches!(byte, b'\n' | b'\r' | 0),
            Framing::Lf => matches!(byte, b'\n' | b'\r'),
            Framing::Nul => byte == 0,
            Framing::Counted => matches!(byte, b'\n' | b'\r' | 0 | b' '),
        }
    }

    /// The first byte that ends a line.
    #[inline]
    fn end_in(&self, bytes: &[u8]) -> Option<usize> {
        match self.framing {
            Framing::Auto => memchr2(b'\n', 0, bytes),
            Framing::Nul => memchr(0, bytes),
            Framing::Lf | Framing::Counted => memchr(b'\n', bytes),
        }
    }

    /// A line: up to its end, or as much of it as may be given.
    #[inline]
    fn line<'a>(&mut self, bytes: &'a [u8], max: usize) -> Cut<'a> {
        // One byte more says that it is too long, unless that may be the CR of its end.
        let is_cr = bytes.get(max) == Some(&b'\r');
        let looked_at = max.saturating_add(1 + usize::from(is_cr));
        let window = bytes.get(..looked_at).unwrap_or(bytes);
        let end = match self.end_of_line(bytes, window) {
            End::At(end) => end,
            End::None if window.len() == looked_at => return self.too_long(bytes, max, looked_at),
            end => {
                self.is_open = matches!(end, End::None);
                self.max = max;
                let bytes = bytes.len() + 1;
                return Cut::NeedMore { bytes };
            }
        };
        let used = end + 1;
        match trimmed(window.get(..end).unwrap_or_default()) {
            [] => Cut::Nothing { used },
            text => Cut::Text {
                used,
                text,
                is_cut: false,
            },
        }
    }

    /// Where the line ends in the window.
    #[inline]
    fn end_of_line(&mut self, bytes: &[u8], window: &[u8]) -> End {
        loop {
            let unseen = window.get(self.scanned..).unwrap_or_default();
            let Some(found) = self.end_in(unseen) else {
                self.scanned = self.scanned.max(window.len());
                return End::None;
            };
            let end = self.scanned + found;
            let behind = bytes.get(end + 1..).unwrap_or_default();
            let begins = match self.joins {
                Joins::Never => Some(true),
                _ if bytes.get(end) == Some(&0) => Some(true),
                Joins::WithoutStart => begins_message(behind),
                Joins::Indented => {
                    let first = behind.first();
                    first.map(|first| !matches!(first, b' ' | b'\t'))
                }
            };
            match begins {
                Some(true) => return End::At(end),
                Some(false) => self.scanned = end + 1,
                None => {
                    self.scanned = end;
                    return End::Open;
                }
            }
        }
    }

    #[cold]
    fn too_long<'a>(&mut self, bytes: &'a [u8], max: usize, used: usize) -> Cut<'a> {
        self.taking = Taking::Begin {
            skip: Skip::Line,
            is_said: false,
        };
        Cut::Text {
            used,
            text: bytes.get(..max).unwrap_or_default(),
            is_cut: true,
        }
    }

    #[inline]
    fn counted<'a>(
        &mut self,
        bytes: &'a [u8],
        (body_at, count, is_packed): (usize, u64, bool),
        max: usize,
    ) -> Cut<'a> {
        let left = count.saturating_sub(max as u64);
        if left > 0 && is_packed {
            // A part of it says nothing.
            self.taking = Taking::Begin {
                skip: Skip::Bytes(count),
                is_said: true,
            };
            return Cut::TooLong { used: body_at };
        }
        // At most `max`.
        let given = usize::try_from(count - left).unwrap_or(max);
        let used = body_at + given;
        let Some(body) = bytes.get(body_at..used) else {
            return Cut::NeedMore { bytes: used };
        };
        if is_packed {
            let packed = body.get(1..).unwrap_or_default();
            return Cut::Packed { used, packed };
        }
        if left > 0 {
            self.taking = Taking::Begin {
                skip: Skip::Bytes(left),
                is_said: false,
            };
            return Cut::Text {
                used,
                text: body,
                is_cut: true,
            };
        }
        match trimmed(body) {
            [] => Cut::Nothing { used },
            text => Cut::Text {
                used,
                text,
                is_cut: false,
            },
        }
    }

    fn unpacked_text<'a>(&mut self, bytes: &'a [u8], max: usize) -> Cut<'a> {
        let used = self.inside.min(max);
        let Some(text) = bytes.get(..used) else {
            return Cut::NeedMore { bytes: used };
        };
        let left = self.inside - used;
        if left > 0 {
            self.taking = Taking::Begin {
                skip: Skip::Bytes(left as u64),
                is_said: false,
            };
            return Cut::Text {
                used,
                text,
                is_cut: true,
            };
        }
        self.taking = Taking::Unpacked;
        match trimmed(text) {
            [] => Cut::Nothing { used },
            text => Cut::Text {
                used,
                text,
                is_cut: false,
            },
        }
    }

    fn skipped<'a>(&mut self, skip: Skip, bytes: &[u8]) -> Cut<'a> {
        let (used, left) = match skip {
            Skip::Bytes(count) => {
                let used = usize::try_from(count).unwrap_or(usize::MAX);
                let used = used.min(bytes.len());
                let left = count - used as u64;
                (used, (left > 0).then_some(Skip::Bytes(left)))
            }
            Skip::Line => {
                self.scanned = 0;
                match self.end_of_line(bytes, bytes) {
                    End::At(end) => (end + 1, None),
                    End::Open if self.scanned == 0 => {
                        let bytes = bytes.len() + 1;
                        return Cut::NeedMore { bytes };
                    }
                    End::None | End::Open => (self.scanned, Some(Skip::Line)),
                }
            }
        };
        self.taking = Taking::Left(left);
        match self.is_said {
            true => Cut::Nothing { used },
            false => Cut::TooLong { used },
        }
    }
}

/// `count SP <digit`, whole, with a count of two to four digits: what is shorter or longer is rare, or copied for longer
/// than it is looked at.
#[inline(always)]
fn plain_counted(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let number = |digits: [u8; 4]| {
        let digits = digits.into_iter();
        digits.fold(0, |sum, digit| 10 * sum + usize::from(digit - b'0'))
    };
    let (body_at, count) = match *bytes {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
            (4, number([b'0', a, b, c]))
        }
        [a @ b'1'..=b'9', b @ b'0'..=b'9', b' ', ..] => (3, number([b'0', b'0', a, b])),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', d @ b'0'..=b'9', b' ', ..] => {
            (5, number([a, b, c, d]))
        }
        _ => return None,
    };
    let used = body_at + count;
    match bytes.get(body_at..used)? {
        text @ [b'<', b'0'..=b'9', ..] => Some((used, text)),
        _ => None,
    }
}

/// A message without what ends it.
#[inline]
pub(super) fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r' | 0] = text {
        text = rest;
    }
    text
}

/// Whether a message begins there, and no line that goes on. None: more bytes will tell.
pub(super) fn begins_message(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [] | [b'<'] => None,
        [b'<', next, ..] => Some(next.is_ascii_digit()),
        _ => match count(bytes, false) {
            Count::Is { .. } => Some(true),
            Count::None => Some(false),
            Count::Undecided => None,
        },
    }
}

/// The count that `bytes` begin with, behind spaces and a mark. Where all messages have one, whatever follows it is its
/// message.
fn count(bytes: &[u8], is_pinned: bool) -> Count {
    let spaces = bytes.iter().take(SPACES_MAX).take_while(|b| **b == b' ');
    let mut at = spaces.count();
    let marked = bytes.get(at..).unwrap_or_default();
    if marked.starts_with(MARK) {
        at += MARK.len();
    } else if MARK.starts_with(marked) {
        return Count::Undecided;
    }
    let behind = bytes.get(at..).unwrap_or_default();
    let digits = behind.iter().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.take(DIGITS_MAX + 1).count();
    if digits > DIGITS_MAX || behind.first() == Some(&b'0') {
        return Count::None;
    }
    let Some((space, body)) = behind.get(digits..).and_then(<[u8]>::split_first) else {
        return Count::Undecided;
    };
    if digits == 0 || *space != b' ' {
        return Count::None;
    }
    let digit = |sum: u64, digit: &u8| sum * 10 + u64::from(digit - b'0');
    let bytes = behind.iter().take(digits).fold(0, digit);
    let is = |is_packed| Count::Is {
        body_at: at + digits + 1,
        bytes,
        is_packed,
    };
    match body {
        // Nobody means that: it is of a line, for rsyslog too.
        _ if bytes > COUNT_MAX && !is_pinned => Count::None,
        [] => Count::Undecided,
        [b'z', 0x78, 0x01 | 0x5E | 0x9C | 0xDA, ..] if bytes > 3 => is(true),
        [b'z'] | [b'z', 0x78] if bytes > 3 => Count::Undecided,
        _ if is_pinned => is(false),
        [b'<'] => Count::Undecided,
        [b'<', next, ..] if next.is_ascii_digit() => is(false),
        _ => Count::None,
    }
}
