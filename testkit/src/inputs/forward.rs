//! Forward protocol v1, as far as a sender needs it: msgpack heads, entries, PackedForward chunks, and acks.
//!
//! ```text
//! chunk    93 | tag | bin32 head, entries | 82 "size" n "chunk" id
//! entry    92 | d7 00 <seconds><nanoseconds> | 81 "log" text
//! ack      81 "ack" id
//! ```

const MAP: u8 = 0x80;
const ARRAY: u8 = 0x90;

/// Appends a string with the smallest head.
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    let len = text.len();
    match len {
        0..=31 => out.push(0xa0 | len as u8),
        32..=255 => out.extend_from_slice(&[0xd9, len as u8]),
        256..=65535 => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(len).expect("small").to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends an unsigned number.
pub fn put_uint(out: &mut Vec<u8>, number: u32) {
    match number {
        0..=127 => out.push(number as u8),
        _ => {
            out.push(0xce);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Appends an EventTime.
pub fn put_time(out: &mut Vec<u8>, seconds: u32, nanoseconds: u32) {
    out.extend_from_slice(&[0xd7, 0]);
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&nanoseconds.to_be_bytes());
}

/// Appends an entry of one field. Its text is its last part.
pub fn put_entry(out: &mut Vec<u8>, text: &str) {
    out.push(ARRAY | 2);
    put_time(out, 1_764_374_400, 5);
    out.push(MAP | 1);
    put_str(out, "log");
    put_str(out, text);
}

/// What stands before the entries of a chunk that have so many bytes.
pub fn put_chunk_begin(out: &mut Vec<u8>, tag: &str, entries_bytes: usize) {
    out.push(ARRAY | 3);
    put_str(out, tag);
    out.push(0xc6);
    let bytes = u32::try_from(entries_bytes).expect("small");
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// What stands behind them; `id`: the sender wants an ack of that.
pub fn put_chunk_end(out: &mut Vec<u8>, entries: u32, id: Option<&str>) {
    out.push(MAP | if id.is_some() { 2 } else { 1 });
    put_str(out, "size");
    put_uint(out, entries);
    if let Some(id) = id {
        put_str(out, "chunk");
        put_str(out, id);
    }
}

/// A whole chunk of these texts.
pub fn chunk<'a>(tag: &str, texts: impl IntoIterator<Item = &'a str>, id: &str) -> Vec<u8> {
    let (mut entries, mut count) = (Vec::new(), 0);
    for text in texts {
        put_entry(&mut entries, text);
        count += 1;
    }
    let mut out = Vec::new();
    put_chunk_begin(&mut out, tag, entries.len());
    out.extend_from_slice(&entries);
    put_chunk_end(&mut out, count, Some(id));
    out
}

/// The ack at the start of `bytes`, and its length; `None` while part of it is to come.
///
/// # Errors
/// It is no map `{"ack": id}` with the id as a short string.
pub fn read_ack(bytes: &[u8]) -> Result<Option<(&str, usize)>, String> {
    const BEGIN: &[u8] = b"\x81\xa3ack";
    let begin = bytes.len().min(BEGIN.len());
    if bytes[..begin] != BEGIN[..begin] {
        return Err(format!("no ack: {:02x?}", &bytes[..bytes.len().min(16)]));
    }
    let (len, at) = match bytes.get(BEGIN.len()..) {
        None | Some([]) | Some([0xd9]) => return Ok(None),
        Some([head @ 0xa0..=0xbf, ..]) => (usize::from(head & 31), BEGIN.len() + 1),
        Some([0xd9, len, ..]) => (usize::from(*len), BEGIN.len() + 2),
        Some([other, ..]) => return Err(format!("an id with the head {other:#x}")),
    };
    let Some(id) = bytes.get(at..at + len) else {
        return Ok(None);
    };
    let id = std::str::from_utf8(id).map_err(|error| error.to_string())?;
    Ok(Some((id, at + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the protocol's own example.
    #[test]
    fn a_chunk_is_as_the_protocol_says() {
        let bytes = chunk("app", ["a"], "Yw==");
        let begin = b"\x93\xa3app\xc6\x00\x00\x00\x12\x92\xd7\x00\x69\x2a\x37\x80\x00\x00\x00\x05";
        assert_eq!(bytes[..begin.len()], begin[..]);
        let end = b"\x81\xa3log\xa1a\x82\xa4size\x01\xa5chunk\xa4Yw==";
        assert_eq!(bytes[begin.len()..], end[..]);
    }

    #[test]
    fn acks_are_read_at_any_cut() {
        let ack = b"\x81\xa3ack\xa4Yw==\x81";
        for cut in 0..10 {
            assert_eq!(read_ack(&ack[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(read_ack(ack), Ok(Some(("Yw==", 10))));
        assert!(read_ack(b"\x80").is_err(), "an empty map is none");
        assert!(read_ack(b"\x81\xa3ack\xc4\x01a").is_err(), "nor is a bin");
    }
}
