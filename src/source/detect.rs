//! What does this connection speak? Decided from its first bytes, and only by them.
//!
//! ```text
//! first bytes -> begins one of the protocols of this port?   yes: that one
//!                                                            not yet: more bytes, for a second
//!                                                            no: lines, if those are spoken and it is text; else
//!                                                                refused, and weir_protocol::foreign names it
//! ```
//!
//! Where several are spoken, white space and a mark of UTF-8 may stand before what tells them apart.

use super::{Limits, Port, Protocol, Protocols, Source, SourceError, Step};
use std::sync::Arc;

/// White space before first bytes that is looked past, at most so many bytes.
const PADDING_BYTES_MAX: usize = 16;
/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes that are looked at to see whether they are text.
const TEXT_LOOK_BYTES: usize = 256;
/// Bytes of a first JSON object that are waited for to see how it ends; a longer one is taken for a line.
const JSON_LOOK_BYTES: usize = 64 << 10;
/// How requests of HTTP begin.
const METHODS: [&[u8]; 9] = [
    b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE",
];

/// A connection that has not said what it speaks.
#[derive(Clone, Debug, Default)]
pub struct Undecided {
    /// None: nobody is there.
    port: Option<Arc<Port>>,
    /// It was waited for more: what is there decides.
    is_late: bool,
}

impl Undecided {
    /// On this port.
    pub fn new(port: &Arc<Port>) -> Undecided {
        Undecided {
            port: Some(port.clone()),
            is_late: false,
        }
    }

    /// Where it came.
    pub fn port(&self) -> Option<&Arc<Port>> {
        self.port.as_ref()
    }

    /// It was waited for more, or no more will come: what is there decides.
    pub fn decide_now(&mut self) {
        self.is_late = true;
    }

    /// What is spoken, if that is known; `None`: more bytes will tell.
    fn look(&self, bytes: &[u8], limits: Limits) -> Result<Option<Protocol>, SourceError> {
        let port = self.port.as_ref();
        let allowed = port.map_or(Protocols::default(), |port| port.protocols);
        let begins = |protocol: Protocol| (protocol, protocol.begins(bytes, limits));
        let is_json = allowed.has(Protocol::Ndjson) && allowed.has(Protocol::Gelf);
        if is_json && bytes.first() == Some(&b'{') {
            return Ok(self.json(bytes));
        }
        let rest = allowed.iter().find(|protocol| takes_rest(*protocol));
        let rest = rest.filter(|_| allowed.single().is_none());
        let others = || allowed.iter().filter(|protocol| Some(*protocol) != rest);
        let found = decide(allowed, others().map(begins));
        if let (Ok(None), true) = (found, self.is_late) {
            // Another could have been meant, and was not.
            let meant = others().map(begins).find(|(_, answer)| *answer == Ok(true));
            if let Some((protocol, _)) = meant {
                return Ok(Some(protocol));
            }
        }
        match (found, rest) {
            (Ok(Some(protocol)), _) => Ok(Some(protocol)),
            (Ok(None), _) if !self.is_late => Ok(None),
            (Err(error), None) => Err(error),
            (Ok(None), None) => Err(SourceError::Unspoken { allowed }),
            (Ok(None) | Err(_), Some(rest)) => match text(bytes) {
                Some(true) => Ok(Some(rest)),
                None if self.is_late => Ok(Some(rest)),
                None => Ok(None),
                Some(false) => Err(SourceError::Unspoken { allowed }),
            },
        }
    }

    /// What JSON ends with tells lines of it from GELF.
    fn json(&self, bytes: &[u8]) -> Option<Protocol> {
        let is_end = |byte: &&u8| [0, b'\n'].contains(*byte);
        match bytes.iter().take(JSON_LOOK_BYTES).find(is_end) {
            Some(0) => Some(Protocol::Gelf),
            Some(_) => Some(Protocol::Ndjson),
            None => (self.is_late || bytes.len() >= JSON_LOOK_BYTES).then_some(Protocol::Ndjson),
        }
    }

    /// Bytes that stand before what tells protocols apart.
    fn padding(&self, bytes: &[u8]) -> usize {
        let is_mixed = self.port.as_ref().is_some_and(|it| it.protocols.is_mixed());
        if !is_mixed {
            return 0;
        }
        let mark = if bytes.starts_with(MARK) {
            MARK.len()
        } else {
            0
        };
        let is_white = |byte: &&u8| b" \t\r\n".contains(byte);
        let white = bytes[mark..]
            .iter()
            .take(PADDING_BYTES_MAX)
            .take_while(is_white);
        mark + white.count()
    }
}

/// Nearly anything may be a line: whatever else it may be comes first.
fn takes_rest(protocol: Protocol) -> bool {
    protocol == Protocol::Lines
}

/// What protocols of a port say of the first bytes. `None`: more bytes will tell.
fn decide(
    allowed: Protocols,
    answers: impl Iterator<Item = (Protocol, Result<bool, SourceError>)>,
) -> Result<Option<Protocol>, SourceError> {
    let (mut error, mut errors) = (None, 0);
    let mut is_open = false;
    for (protocol, answer) in answers {
        match answer {
            // One that is tried before it may still be meant.
            Ok(true) if is_open => return Ok(None),
            Ok(true) => return Ok(Some(protocol)),
            Ok(false) => is_open = true,
            // Whoever means a protocol with a start of its own begins with that.
            Err(SourceError::OtherStart { .. }) => {}
            Err(found) => {
                errors += 1;
                error = error.or(Some(found));
            }
        }
    }
    match error {
        _ if is_open => Ok(None),
        Some(error) if errors == 1 => Err(error),
        // None is meant more than another.
        _ => Err(SourceError::Unspoken { allowed }),
    }
}

/// Whether first bytes are a line of text, and no request of HTTP. `None`: more bytes will tell. It is the same in any
/// pieces: a line is one when its end is there, or as much as is looked at.
fn text(bytes: &[u8]) -> Option<bool> {
    let most = &bytes[..bytes.len().min(TEXT_LOOK_BYTES)];
    let end = memchr::memchr(b'\n', most);
    let first = end.map_or(most, |end| &most[..=end]);
    let is_cut = |at: usize| first.len() - at < 4;
    let is_utf8 = match std::str::from_utf8(first) {
        Ok(_) => true,
        // A sign that is not whole yet.
        Err(error) => error.error_len().is_none() && is_cut(error.valid_up_to()),
    };
    // ESC begins the colours of logs that were meant for a terminal.
    let is_sign = |byte: &u8| *byte >= b' ' && *byte != 0x7f || b"\t\r\n\x1b".contains(byte);
    if !is_utf8 || !first.iter().all(is_sign) {
        return Some(false);
    }
    let mut requests = METHODS.iter().filter_map(|it| first.strip_prefix(*it));
    // `POST failed` is a line.
    if let Some([b' ', b'/' | b'*' | b'h', ..]) = requests.next() {
        return Some(false);
    }
    (end.is_some() || first.len() == TEXT_LOOK_BYTES).then_some(true)
}

impl Source for Undecided {
    fn start(port: &Arc<Port>) -> Undecided {
        Undecided::new(port)
    }

    fn begins(_: &[u8], _: Limits) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn next<'a>(&'a mut self, bytes: &'a [u8], limits: Limits) -> Result<Step<'a>, SourceError> {
        let port = self.port.as_ref();
        let single = port.and_then(|port| port.protocols.single());
        // Where only such messages come, they need not begin as they should.
        if let Some(only) = single.filter(|only| only.is_text()) {
            return Ok(Step::Speaks(only));
        }
        let padding = self.padding(bytes);
        let rest = &bytes[padding..];
        let more = Step::NeedMore {
            bytes: bytes.len() + 1,
        };
        if rest.is_empty() && padding > 0 && !self.is_late {
            return Ok(more);
        }
        match self.look(rest, limits)? {
            None => Ok(more),
            // A line keeps the white space that it begins with.
            Some(protocol) if padding == 0 || takes_rest(protocol) => Ok(Step::Speaks(protocol)),
            Some(_) => Ok(Step::Nothing { used: padding }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::frame::FrameError;

    #[test]
    fn a_port_of_several_waits_while_one_may_be_meant() {
        const ONE: Protocols = Protocols::of(&[Protocol::Frames]);
        const TWO: Protocols = Protocols::of(&[Protocol::Frames, Protocol::Acked]);
        let no = SourceError::Frame(FrameError::TooShort { length: 1 });
        let said = |allowed, answers: &[Result<bool, SourceError>]| {
            decide(allowed, allowed.iter().zip(answers.iter().copied()))
        };
        assert_eq!(said(ONE, &[Ok(false)]), Ok(None));
        assert_eq!(said(TWO, &[Err(no), Ok(false)]), Ok(None));
        assert_eq!(said(TWO, &[Ok(false), Err(no)]), Ok(None));
        assert_eq!(said(TWO, &[Err(no), Ok(true)]), Ok(Some(Protocol::Acked)));
        assert_eq!(said(TWO, &[Ok(false), Ok(true)]), Ok(None));
        assert_eq!(said(ONE, &[Err(no)]), Err(no), "what else was meant?");
        let other = SourceError::OtherStart {
            protocol: Protocol::Acked,
        };
        assert_eq!(
            said(TWO, &[Err(no), Err(other)]),
            Err(no),
            "it has no start"
        );
        let unspoken = SourceError::Unspoken { allowed: TWO };
        assert_eq!(said(TWO, &[Err(no), Err(no)]), Err(unspoken));
        let text = "its first bytes begin none of: frames, acked";
        assert_eq!(unspoken.to_string(), text);
    }

    #[test]
    fn text_is_a_line_and_a_request_is_not() {
        for (first, is_line) in [
            (&b"plain\n"[..], Some(true)),
            (b"plain", None),
            (&[b'a'; 300], Some(true)),
            (b"\x1b[31mred\x1b[0m\n", Some(true)),
            ("\u{fc}ber\nx".as_bytes(), Some(true)),
            (b"\xc3", None),
            (b"a\n\0", Some(true)),
            (b"\xc3\x28", Some(false)),
            (b"\x16\x03\x01", Some(false)),
            (b"x\0", Some(false)),
            (b"GET / HTTP/1.1", Some(false)),
            (b"OPTIONS * HTTP/1.1", Some(false)),
            (b"GET http://a/", Some(false)),
            (b"POST failed\r\n", Some(true)),
            (b"GETTING\n", Some(true)),
            (b"GET\n", Some(true)),
            (b"GET", None),
            (b"GET ", None),
        ] {
            assert_eq!(text(first), is_line, "{first:?}");
        }
    }

    #[test]
    fn what_is_there_decides_when_it_was_waited_for() {
        let limits = Limits {
            frame_bytes_max: 1024,
        };
        let on =
            |protocols: &[Protocol]| Undecided::new(&Arc::new(Port::new(Protocols::of(protocols))));
        let all = [
            Protocol::Frames,
            Protocol::Forward,
            Protocol::Syslog,
            Protocol::Lines,
        ];
        let more = |bytes: &[u8]| {
            Ok(Step::NeedMore {
                bytes: bytes.len() + 1,
            })
        };
        let unspoken = |allowed| Err(SourceError::Unspoken { allowed });
        let three = Protocols::of(&all[..3]);
        for (protocols, first, soon, late) in [
            (
                &all[..],
                &b"plain text\n"[..],
                Ok(Step::Speaks(Protocol::Lines)),
                Ok(Step::Speaks(Protocol::Lines)),
            ),
            (
                &all,
                b"plain",
                more(b"plain"),
                Ok(Step::Speaks(Protocol::Lines)),
            ),
            (&all, b"1", more(b"1"), Ok(Step::Speaks(Protocol::Lines))),
            (&all, b"<1", more(b"<1"), Ok(Step::Speaks(Protocol::Syslog))),
            (
                &all,
                b" \r\n<13>x y",
                Ok(Step::Nothing { used: 3 }),
                Ok(Step::Nothing { used: 3 }),
            ),
            (
                &all,
                b"  indented\n",
                Ok(Step::Speaks(Protocol::Lines)),
                Ok(Step::Speaks(Protocol::Lines)),
            ),
            (&all, b"\0\0", more(b"\0\0"), unspoken(Protocols::of(&all))),
            (&all[..3], b"\xff\xff", more(b"\xff\xff"), unspoken(three)),
        ] {
            let mut source = on(protocols);
            assert_eq!(source.next(first, limits), soon, "{first:?}");
            source.decide_now();
            assert_eq!(source.next(first, limits), late, "{first:?} later");
        }
    }

    #[test]
    fn json_is_told_by_what_ends_it() {
        let limits = Limits {
            frame_bytes_max: 1024,
        };
        let long = [b"{", &[b'x'; JSON_LOOK_BYTES][..]].concat();
        for (first, soon) in [
            (&b"{\"a\":1}\n"[..], Some(Protocol::Ndjson)),
            (b"{\"a\":1}\0{", Some(Protocol::Gelf)),
            (b"{\"a\":1}", None),
            (&long, Some(Protocol::Ndjson)),
        ] {
            let mut source = Undecided::new(&Arc::new(Port::new(Protocols::of(Protocol::ALL))));
            assert_eq!(source.look(first, limits), Ok(soon));
            source.decide_now();
            let late = soon.unwrap_or(Protocol::Ndjson);
            assert_eq!(source.look(first, limits), Ok(Some(late)));
        }
    }
}
