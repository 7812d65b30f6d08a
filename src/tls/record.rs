//! Where one record ends and the next begins ([RFC 8446, 5.1](https://www.rfc-editor.org/rfc/rfc8446#section-5.1)).
//!
//! ```text
//! u8 type | u16 version | u16 length | length bytes
//! ```

/// Bytes before what a record holds.
pub const HEADER_BYTES: usize = 5;
/// Most bytes that a record holds, plain: 2^14.
pub const PLAIN_BYTES_MAX: usize = 16_384;
/// Most bytes of a record as it travels, header included: RFC 5246 allows 2,048 more than plain, TLS 1.3 256.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAIN_BYTES_MAX + 2_048;
/// The type of a record of a handshake: a connection that begins with it speaks TLS.
const HANDSHAKE: u8 = 22;

/// Whether a connection that begins with these bytes speaks TLS; none when that takes more bytes.
///
/// A record of a handshake of any version since SSL 3.0. Nothing else that Weir knows begins so: frames are longer than
/// `--max-frame` then, and HELLO, HTTP, syslog, Forward, Lumberjack, RELP have other first bytes.
pub fn begins_tls(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [] | [HANDSHAKE] => None,
        [HANDSHAKE, 3, ..] => Some(true),
        _ => Some(false),
    }
}

/// How long the record is that begins here, header included; none when its header is not there yet.
pub fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(3..HEADER_BYTES)?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// How many of these bytes are whole records: the rest is the beginning of one that was cut.
pub fn whole_records(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(len) = record_bytes(&bytes[at..]).filter(|len| at + len <= bytes.len()) {
        at += len;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: u16) -> Vec<u8> {
        let mut bytes = vec![23, 3, 3];
        bytes.extend(len.to_be_bytes());
        bytes.resize(HEADER_BYTES + usize::from(len), 7);
        bytes
    }

    #[test]
    fn records_are_cut_at_any_place() {
        let all = [record(0), record(1), record(300), record(16_640)].concat();
        let ends = [5, 11, 316, 16_961];
        for len in 0..=all.len() {
            let whole = ends.iter().copied().filter(|end| *end <= len).max();
            assert_eq!(whole_records(&all[..len]), whole.unwrap_or(0), "{len}");
        }
    }

    #[test]
    fn tls_is_told_by_two_bytes() {
        for (bytes, is) in [
            (&b""[..], None),
            (&[22], None),
            (&[22, 3], Some(true)),
            (&[22, 3, 1, 2, 0, 1], Some(true)),
            (&[22, 2], Some(false)),
            (&[0], Some(false)),
            (b"GET / HTTP/1.1", Some(false)),
            (b"<13>", Some(false)),
        ] {
            assert_eq!(begins_tls(bytes), is, "{bytes:?}");
        }
    }
}
