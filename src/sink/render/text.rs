//! A message as the text of syslog.
//!
//! ```text
//! begins with a PRI   as it came
//! all else            <14>1 2026-11-30T02:30:00.000Z host app - - - text        RFC 5424; JSON as its text,
//!                      8 * facility + severity                                 an entry of Fluent Forward as JSON
//! ```

use weir_protocol::Form;
use weir_source::render::Context;

use super::{json, pri_of};
use crate::outlet::{Message, OutletOptions, Stamp};

/// Facilities have numbers up to this one (RFC 5424, 6.2.1).
pub const FACILITY_MAX: u8 = 23;

/// The message, if it is one of syslog by itself.
#[inline]
pub(crate) fn as_it_came<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let is_syslog = message.form == Form::Raw && pri_of(message.payload).is_some();
    is_syslog.then_some(message.payload)
}

/// Appends a message as the text of syslog, without any framing.
pub(crate) fn syslog(
    message: &Message<'_>,
    stamp: &Stamp,
    options: &OutletOptions,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    if let Some(text) = as_it_came(message) {
        return out.extend_from_slice(text);
    }
    match message.form {
        Form::Raw | Form::Json => {
            header(message.severity, stamp, options, out);
            out.extend_from_slice(message.payload);
        }
        Form::Entry => {
            header(message.severity, stamp, options, out);
            json::object(message, stamp, context, out);
        }
    }
}

fn header(severity: u8, stamp: &Stamp, options: &OutletOptions, out: &mut Vec<u8>) {
    let pri = u64::from(options.facility.min(FACILITY_MAX)) * 8 + u64::from(level_of(severity));
    out.push(b'<');
    number(pri, out);
    out.extend_from_slice(b">1 ");
    out.extend_from_slice(&stamp.text);
    out.push(b' ');
    word(&options.host, 255, out);
    out.push(b' ');
    word(&options.tag, 48, out);
    out.extend_from_slice(b" - - - ");
}

/// A word of the header: printable ASCII without spaces, at most so many bytes. `-`: there is none.
fn word(text: &str, bytes_max: usize, out: &mut Vec<u8>) {
    let before = out.len();
    let bytes = text.bytes().filter(u8::is_ascii_graphic);
    out.extend(bytes.take(bytes_max));
    if out.len() == before {
        out.push(b'-');
    }
}

/// Severity of syslog for one of Weir's.
fn level_of(severity: u8) -> u8 {
    match severity {
        0 => 2,
        1 => 3,
        2 => 4,
        4 | 5 => 7,
        _ => 6,
    }
}

/// Appends a number in decimal digits.
#[inline]
pub(crate) fn number(number: u64, out: &mut Vec<u8>) {
    // Lengths and priorities, nearly always.
    if let Ok(small @ 0..=999) = u16::try_from(number) {
        let digits = [small / 100, small / 10 % 10, small % 10];
        let digits = digits.map(|digit| b'0' + digit.to_le_bytes()[0]);
        let leading = usize::from(small < 10) + usize::from(small < 100);
        return out.extend_from_slice(&digits[leading..]);
    }
    let start = out.len();
    let mut rest = number;
    while rest > 0 {
        let [digit, ..] = (rest % 10).to_le_bytes();
        out.push(b'0' + digit);
        rest /= 10;
    }
    out[start..].reverse();
}

/// What would end a message that ends with a line feed stands in it as rsyslog writes it: `#` and three octal digits.
/// The message is the end of `out`, from `start` on; its own last line feed goes.
pub(crate) fn on_one_line(start: usize, out: &mut Vec<u8>) {
    if out.len() > start && out.last() == Some(&b'\n') {
        out.pop();
    }
    let ends = |byte: &u8| matches!(byte, 0 | b'\n');
    if !out[start..].iter().any(ends) {
        return;
    }
    let text = out.split_off(start);
    for byte in text {
        match byte {
            0 => out.extend_from_slice(b"#000"),
            b'\n' => out.extend_from_slice(b"#012"),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        unix_ms: 1_500,
        text: *b"1970-01-01T00:00:01.500Z",
    };

    fn rendered(severity: u8, form: Form, payload: &[u8], options: &OutletOptions) -> String {
        let mut out = Vec::new();
        let message = Message {
            severity,
            form,
            payload,
        };
        syslog(&message, &STAMP, options, &mut Context::default(), &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_is_syslog_stays_as_it_came() {
        for text in ["<13>x", "<0>", "<191>1 - h a - - - \nb\0"] {
            let options = OutletOptions::default();
            assert_eq!(rendered(3, Form::Raw, text.as_bytes(), &options), text);
        }
    }

    #[test]
    fn all_else_gets_a_header() {
        let options = OutletOptions {
            host: "a b\u{e9}c".to_owned(),
            tag: "app".to_owned(),
            ..OutletOptions::default()
        };
        let at = "1 1970-01-01T00:00:01.500Z abc app - - - ";
        for (severity, form, text, pri) in [
            (0, Form::Raw, "x", 10),
            (1, Form::Raw, "<192>x", 11),
            (2, Form::Json, "{\"a\":1}", 12),
            (3, Form::Raw, "", 14),
            (4, Form::Raw, "x", 15),
            (5, Form::Raw, "x", 15),
            (200, Form::Raw, "x", 14),
        ] {
            let expected = format!("<{pri}>{at}{text}");
            assert_eq!(
                rendered(severity, form, text.as_bytes(), &options),
                expected
            );
        }
        let options = OutletOptions {
            host: "\u{e9} ".to_owned(),
            tag: "x".repeat(99),
            facility: 16,
            ..OutletOptions::default()
        };
        let app = "x".repeat(48);
        assert_eq!(
            rendered(3, Form::Raw, b"m", &options),
            format!("<134>1 1970-01-01T00:00:01.500Z - {app} - - - m")
        );
    }

    #[test]
    fn numbers_have_their_digits() {
        let large = [1_001, 9_999, 10_000, 65_535, 65_536, u64::MAX];
        for value in (0..=1_000).chain(large) {
            let mut out = b"x".to_vec();
            number(value, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("x{value}"));
        }
    }

    #[test]
    fn no_line_feed_is_left_in_a_line() {
        for (text, expected) in [
            (&b"<13>a"[..], &b"<13>a"[..]),
            (b"<13>a\nb\n", b"<13>a#012b"),
            (b"<13>a\n\n", b"<13>a#012"),
            (b"<13>a\0b\r", b"<13>a#000b\r"),
            (b"\n", b""),
            (b"", b""),
        ] {
            let mut out = b"before\n".to_vec();
            out.extend_from_slice(text);
            on_one_line(7, &mut out);
            assert_eq!(&out[7..], expected);
            assert_eq!(&out[..7], b"before\n");
        }
    }
}
