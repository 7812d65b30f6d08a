//! Described messages: a frame that says what its payload is and where it came from. Only lanes of analyzers that asked
//! for it have any.
//!
//! ```text
//! frame      | length u32 | severity u8 | payload ......................................... |
//! described  |            | 1SSSSSSS    | form u8 | n u16 | n bytes of fields | message .... |
//!                           ^ top bit      field: kind u8, length u16, bytes
//! ```
//!
//! A message that would be longer than a frame may be with its description goes without one, and so does one of which
//! nothing is known. `docs/PROTOCOL.md` has the bytes.

use crate::frame::FRAME_HEADER_BYTES;
use crate::record::frame_header;
use crate::{take, Form};

/// Bit of a frame's severity: its payload begins with a description.
pub const DESCRIBED: u8 = 0x80;
/// Longest description in bytes, its head included.
pub const ABOUT_BYTES_MAX: usize = 1024;
/// Bytes of a description that says the form and nothing else: form, and length of the fields.
pub const ABOUT_HEAD_BYTES: usize = 3;
const HEAD_BYTES: usize = ABOUT_HEAD_BYTES;
const FIELD_HEAD_BYTES: usize = 3;
const HEADER_BYTES: usize = FRAME_HEADER_BYTES as usize;

/// What a message is, as an analyzer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes as their emitter gave them.
    #[default]
    Raw,
    /// One JSON object, or what its sender calls so.
    Json,
    /// A syslog message from its `<` on, of any flavour.
    Syslog,
    /// A line of text.
    Line,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Raw, Kind::Json, Kind::Syslog, Kind::Line];

    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Raw => "raw",
            Kind::Json => "json",
            Kind::Syslog => "syslog",
            Kind::Line => "line",
        }
    }
}

impl From<Form> for Kind {
    fn from(form: Form) -> Kind {
        match form {
            Form::Raw => Kind::Raw,
            // An entry is JSON wherever one is described.
            Form::Json | Form::Entry => Kind::Json,
        }
    }
}

/// What is said of one message. Empty fields are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// What its bytes are.
    pub kind: Kind,
    /// Name of the input where it came in; `emitters` of the port of `--emitters`, `http` of POSTs.
    pub input: &'a str,
    /// What its sender speaks.
    pub protocol: &'a str,
    /// Address of its sender, without the port.
    pub peer: &'a str,
    /// Tag of Fluent Forward, as its sender gave it.
    pub tag: &'a [u8],
}

impl<'a> About<'a> {
    /// Bytes that it takes before a message.
    pub fn bytes(&self) -> usize {
        let said = self.fields().into_iter().filter(|bytes| !bytes.is_empty());
        HEAD_BYTES
            + said
                .map(|bytes| FIELD_HEAD_BYTES + bytes.len())
                .sum::<usize>()
    }

    /// Nothing is known but that it is bytes.
    fn is_nothing(&self) -> bool {
        self.kind == Kind::Raw && self.bytes() == HEAD_BYTES
    }

    /// In the order of their numbers, from 1 on.
    fn fields(&self) -> [&'a [u8]; 4] {
        [
            self.input.as_bytes(),
            self.protocol.as_bytes(),
            self.peer.as_bytes(),
            self.tag,
        ]
    }

    fn write(&self, out: &mut Vec<u8>) {
        let fields = self.bytes() - HEAD_BYTES;
        out.push(self.kind as u8);
        out.extend_from_slice(&u16_of(fields).to_be_bytes());
        for (kind, bytes) in (1u8..).zip(self.fields()) {
            if !bytes.is_empty() {
                out.push(kind);
                out.extend_from_slice(&u16_of(bytes.len()).to_be_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }

    /// Appends the frame of a message that may have `frame_bytes_max` bytes as such, described if it fits. A tag that
    /// makes the description too long is left out. Whether it is described.
    pub fn write_frame(
        mut self,
        severity: u8,
        message: &[u8],
        frame_bytes_max: u32,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.bytes() > ABOUT_BYTES_MAX {
            self.tag = &[];
        }
        let about = self.bytes();
        let total = HEADER_BYTES + about + message.len();
        let fits = about <= ABOUT_BYTES_MAX && total <= frame_bytes_max as usize;
        let is_described = fits && !self.is_nothing();
        if is_described {
            out.extend_from_slice(&frame_header(total, severity | DESCRIBED));
            self.write(out);
        } else {
            let total = HEADER_BYTES + message.len();
            out.extend_from_slice(&frame_header(total, severity & !DESCRIBED));
        }
        out.extend_from_slice(message);
        is_described
    }

    /// What the payload of a described frame says, and the message behind it. `None`: that is no description.
    pub fn parse(payload: &'a [u8]) -> Option<(About<'a>, &'a [u8])> {
        let mut rest = payload;
        let [kind] = take(&mut rest)?;
        let fields = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let (mut fields, message) = rest.split_at_checked(fields)?;
        let mut about = About {
            kind: Kind::ALL
                .get(usize::from(kind))
                .copied()
                .unwrap_or_default(),
            ..About::default()
        };
        while !fields.is_empty() {
            let [kind] = take(&mut fields)?;
            let length = usize::from(u16::from_be_bytes(take(&mut fields)?));
            let (bytes, behind) = fields.split_at_checked(length)?;
            fields = behind;
            let text = || std::str::from_utf8(bytes).ok();
            match kind {
                1 => about.input = text()?,
                2 => about.protocol = text()?,
                3 => about.peer = text()?,
                4 => about.tag = bytes,
                // Said by a newer distributor.
                _ => {}
            }
        }
        Some((about, message))
    }
}

/// A frame of a lane whose analyzer asked: its description, if it has one; its severity; its message.
pub fn read(frame: &[u8]) -> Option<(Option<About<'_>>, u8, &[u8])> {
    let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>()?;
    let [.., severity] = *header;
    if severity & DESCRIBED == 0 {
        return Some((None, severity, payload));
    }
    let (about, message) = About::parse(payload)?;
    Some((Some(about), severity & !DESCRIBED, message))
}

/// Appends the frame without its description; what its message is.
pub fn strip(frame: &[u8], out: &mut Vec<u8>) -> Form {
    let Some((about, severity, message)) = read(frame) else {
        out.extend_from_slice(frame);
        return Form::Raw;
    };
    out.extend_from_slice(&frame_header(HEADER_BYTES + message.len(), severity));
    out.extend_from_slice(message);
    match about.map(|about| about.kind) {
        Some(Kind::Json) => Form::Json,
        _ => Form::Raw,
    }
}

/// A field's length; all are far below.
fn u16_of(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ABOUT: About<'static> = About {
        kind: Kind::Syslog,
        input: "syslog-514",
        protocol: "syslog",
        peer: "10.0.0.5",
        tag: b"",
    };

    #[test]
    fn what_was_said_comes_back_and_is_stripped() {
        let mut frame = Vec::new();
        assert!(ABOUT.write_frame(1, b"<11>x", 1000, &mut frame));
        assert_eq!(read(&frame), Some((Some(ABOUT), 1, &b"<11>x"[..])));
        let mut plain = Vec::new();
        assert_eq!(strip(&frame, &mut plain), Form::Raw);
        assert_eq!(plain, b"\0\0\0\x0a\x01<11>x");
        let json = About {
            kind: Kind::Json,
            tag: b"app.\xff",
            ..ABOUT
        };
        frame.clear();
        assert!(json.write_frame(5, b"{}", 1000, &mut frame));
        assert_eq!(read(&frame), Some((Some(json), 5, &b"{}"[..])));
        plain.clear();
        assert_eq!(strip(&frame, &mut plain), Form::Json);
    }

    #[test]
    fn what_does_not_fit_and_what_is_not_known_goes_as_it_is() {
        let mut frame = Vec::new();
        let exact = HEADER_BYTES + ABOUT.bytes() + 2;
        let max = u32::try_from(exact).expect("short");
        assert!(ABOUT.write_frame(0, b"hi", max, &mut frame));
        for (about, max) in [(ABOUT, max - 1), (About::default(), 1000)] {
            frame.clear();
            assert!(!about.write_frame(0x83, b"hi", max, &mut frame));
            assert_eq!(
                frame, b"\0\0\0\x07\x03hi",
                "and the bit is no description's"
            );
        }
        let tag = [b't'; ABOUT_BYTES_MAX];
        frame.clear();
        let long = About { tag: &tag, ..ABOUT };
        assert!(long.write_frame(0, b"hi", 100_000, &mut frame));
        assert_eq!(read(&frame), Some((Some(ABOUT), 0, &b"hi"[..])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (About::parse(&bytes), read(&bytes), strip(&bytes, &mut Vec::new()));
        }
    }
}
