//! Syslog in datagrams, RFC 5426: a message each, without framing.

use super::{cut, mark_cut, Kind, OfSyslog};
use crate::{Element, Limits};
use weir_protocol::frame::FRAME_HEADER_BYTES;

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDatagram<'a> {
    /// A message.
    Message(Element<'a>),
    /// The begin of one that is too long, with a mark at its end.
    Cut(Element<'a>),
    /// No message: no bytes, or only such as end one.
    Nothing,
}

/// The zlib stream that a datagram is of which a message comes out: rsyslog's ZipLevel writes `z` before it. None: it is the
/// message.
pub fn packed_datagram(bytes: &[u8]) -> Option<&[u8]> {
    let packed = bytes.strip_prefix(b"z")?;
    matches!(packed, [0x78, 0x01 | 0x5E | 0x9C | 0xDA, ..]).then_some(packed)
}

/// Reads the message of syslog that a datagram is: all of it, without the LF, CR and NUL that some senders end it with.
/// `is_cut`: it had more bytes. `marked` holds a message that is too long.
pub fn syslog_datagram<'a>(
    bytes: &'a [u8],
    is_cut: bool,
    limits: Limits,
    marked: &'a mut Vec<u8>,
) -> InDatagram<'a> {
    let max = limits.frame_bytes_max.saturating_sub(FRAME_HEADER_BYTES) as usize;
    let text = match is_cut {
        // Its end is not there.
        true => bytes,
        false => cut::trimmed(bytes),
    };
    let is_cut = is_cut || text.len() > max;
    let text = match text.get(..max) {
        Some(fits) if is_cut => {
            mark_cut(fits, marked);
            &marked[..]
        }
        _ => text,
    };
    let Some((severity, form, bytes)) = OfSyslog::read(text, false) else {
        return InDatagram::Nothing;
    };
    let element = Element::Payload {
        severity,
        form,
        bytes,
    };
    match is_cut {
        true => InDatagram::Cut(element),
        false => InDatagram::Message(element),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Severity and text; none: no message.
    fn read(bytes: &[u8], is_cut: bool) -> (Option<(u8, String)>, bool) {
        let limits = Limits {
            frame_bytes_max: 25,
        };
        let mut marked = Vec::new();
        let (element, is_cut) = match syslog_datagram(bytes, is_cut, limits, &mut marked) {
            InDatagram::Message(element) => (element, false),
            InDatagram::Cut(element) => (element, true),
            InDatagram::Nothing => return (None, false),
        };
        let Element::Payload {
            severity, bytes, ..
        } = element
        else {
            panic!("{element:?}");
        };
        assert!(bytes.len() <= 20, "{bytes:?}");
        let text = String::from_utf8_lossy(bytes).into_owned();
        (Some((severity, text)), is_cut)
    }

    #[test]
    fn a_datagram_is_one_message_without_what_ends_it() {
        type Case<'a> = (&'a [u8], Option<(u8, &'a str)>);
        let cases: [Case<'_>; 10] = [
            (b"<131>x", Some((1, "<131>x"))),
            (b"<131>x\n", Some((1, "<131>x"))),
            (b"<131>x\r\n\0", Some((1, "<131>x"))),
            (b"<12>a\n<15>b\n", Some((2, "<12>a\n<15>b"))),
            (b"6 <131>x", Some((3, "6 <131>x"))),
            (b"\xef\xbb\xbf<15>x", Some((4, "<15>x"))),
            (b"no PRI", Some((3, "no PRI"))),
            (b"<999>x", Some((3, "<999>x"))),
            (b"", None),
            (b"\r\n\0", None),
        ];
        for (bytes, expected) in cases {
            let expected = expected.map(|(severity, text)| (severity, text.to_owned()));
            assert_eq!(read(bytes, false), (expected, false), "{bytes:?}");
        }
    }

    #[test]
    fn a_z_before_a_zlib_stream_says_that_it_is_packed() {
        assert_eq!(packed_datagram(b"zx\x9cab"), Some(&b"x\x9cab"[..]));
        for text in [&b"z"[..], b"zx", b"zxy", b"x\x9c", b"<131>zx\x9c", b""] {
            assert_eq!(packed_datagram(text), None, "{text:?}");
        }
    }

    #[test]
    fn one_that_is_too_long_is_given_to_the_limit() {
        let all = b"<131>678901234567890\n";
        let whole = Some((1, "<131>678901234567890".to_owned()));
        assert_eq!(read(all, false), (whole, false), "its end does not count");
        let cut = Some((1, "<131>678901234 [cut]".to_owned()));
        assert_eq!(read(b"<131>6789012345678901", false), (cut.clone(), true));
        // As much of it as had room in receive memory.
        assert_eq!(read(b"<131>678901234567890", true), (cut, true));
    }
}
