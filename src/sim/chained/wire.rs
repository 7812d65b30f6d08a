//! Units of Forward and Lumberjack as their senders write them, and the answers: by other code than the
//! distributor's, which only reads the first and writes the second.

use std::io::Write;

use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::Compression;

/// Seconds of the time that every entry has.
const SECONDS: u32 = 1_764_374_400;

/// How a chunk of Forward is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One entry in the outer array.
    Message,
    /// An array of entries.
    Forward,
    /// Entries back to back in a bin.
    Packed,
    /// The same as one gzip member for each half.
    Gzip,
}

fn put_head(out: &mut Vec<u8>, small: (u8, usize), wide: [u8; 2], len: usize) {
    let (head, most) = small;
    match len {
        len if len < most => out.push(head | len as u8), // a nibble or 5 bits
        len if len < 1 << 16 => {
            out.push(wide[0]);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(wide[1]);
            out.extend_from_slice(&(len as u32).to_be_bytes()); // a few
        }
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_head(out, (0xa0, 32), [0xda, 0xdb], text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(0xc6);
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes()); // a few
    out.extend_from_slice(bytes);
}

fn put_array(out: &mut Vec<u8>, len: usize) {
    put_head(out, (0x90, 16), [0xdc, 0xdd], len);
}

fn put_map(out: &mut Vec<u8>, len: usize) {
    put_head(out, (0x80, 16), [0xde, 0xdf], len);
}

fn put_time(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd7, 0]);
    out.extend_from_slice(&SECONDS.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// A record of these fields, in order; a text of `{}` stands for an empty map.
fn put_record(out: &mut Vec<u8>, fields: &[(&str, String)]) {
    put_map(out, fields.len());
    for (name, text) in fields {
        put_str(out, name);
        match text.as_str() {
            "{}" => put_map(out, 0),
            text => put_str(out, text),
        }
    }
}

fn put_entry(out: &mut Vec<u8>, fields: &[(&str, String)]) {
    put_array(out, 2);
    put_time(out);
    put_record(out, fields);
}

/// A chunk with its id. Of [`Mode::Message`] it has one record.
pub(super) fn chunk(mode: Mode, records: &[Vec<(&str, String)>], id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let entries = |records: &[Vec<(&str, String)>]| {
        let mut entries = Vec::new();
        records
            .iter()
            .for_each(|fields| put_entry(&mut entries, fields));
        entries
    };
    put_array(&mut out, if mode == Mode::Message { 4 } else { 3 });
    put_str(&mut out, "sim");
    match mode {
        Mode::Message => {
            put_time(&mut out);
            put_record(&mut out, &records[0]);
        }
        Mode::Forward => {
            put_array(&mut out, records.len());
            out.extend(entries(records));
        }
        Mode::Packed => put_bin(&mut out, &entries(records)),
        Mode::Gzip => {
            let (first, second) = records.split_at(records.len() / 2);
            let packed = [first, second].map(|half| {
                let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
                // Into memory.
                let _ = packer.write_all(&entries(half));
                packer.finish().unwrap_or_default()
            });
            put_bin(&mut out, &packed.concat());
        }
    }
    put_map(&mut out, if mode == Mode::Gzip { 2 } else { 1 });
    if mode == Mode::Gzip {
        put_str(&mut out, "compressed");
        put_str(&mut out, "gzip");
    }
    put_str(&mut out, "chunk");
    put_str(&mut out, id);
    out
}

/// Takes an ack of Forward off the front: its id.
///
/// # Errors
/// It is none.
pub(super) fn take_ack(unread: &mut Vec<u8>) -> Result<Option<String>, String> {
    const BEGIN: &[u8] = b"\x81\xa3ack";
    let there = unread.len().min(BEGIN.len());
    if unread[..there] != BEGIN[..there] {
        return Err(format!("no ack: {unread:02x?}"));
    }
    let Some(head) = unread.get(BEGIN.len()) else {
        return Ok(None);
    };
    if head & 0xe0 != 0xa0 {
        return Err(format!("an ack with an id of the type {head:#x}"));
    }
    let at = BEGIN.len() + 1;
    let end = at + usize::from(head & 0x1f);
    let Some(id) = unread.get(at..end) else {
        return Ok(None);
    };
    let id = String::from_utf8_lossy(id).into_owned();
    unread.drain(..end);
    Ok(Some(id))
}

/// A window of Lumberjack; `packed`: events of its second half are in a compressed frame.
pub(super) fn window(events: &[String], packed: bool) -> Vec<u8> {
    let put = |out: &mut Vec<u8>, number: usize, json: &str| {
        out.extend_from_slice(b"2J");
        out.extend_from_slice(&(number as u32).to_be_bytes()); // a few
        out.extend_from_slice(&(json.len() as u32).to_be_bytes()); // a few
        out.extend_from_slice(json.as_bytes());
    };
    let mut out = b"2W".to_vec();
    out.extend_from_slice(&(events.len() as u32).to_be_bytes()); // a few
    let plain = if packed {
        events.len() / 2
    } else {
        events.len()
    };
    let mut rest = Vec::new();
    for (index, json) in events.iter().enumerate() {
        let to = if index < plain { &mut out } else { &mut rest };
        put(to, index + 1, json);
    }
    if !rest.is_empty() {
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
        // Into memory.
        let _ = packer.write_all(&rest);
        let packed = packer.finish().unwrap_or_default();
        out.extend_from_slice(b"2C");
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes()); // a few
        out.extend(packed);
    }
    out
}

/// Takes an ACK of Lumberjack off the front: its number.
///
/// # Errors
/// It is none.
pub(super) fn take_sequence(unread: &mut Vec<u8>) -> Result<Option<usize>, String> {
    let there = unread.len().min(2);
    if unread[..there] != b"2A"[..there] {
        return Err(format!("no ACK: {unread:02x?}"));
    }
    let Some(number) = unread.get(2..6).and_then(|it| it.first_chunk::<4>()) else {
        return Ok(None);
    };
    let number = u32::from_be_bytes(*number) as usize;
    unread.drain(..6);
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_as_the_protocols_say() {
        let record = vec![("log", "a".to_owned()), ("x", "{}".to_owned())];
        let bytes = chunk(Mode::Packed, std::slice::from_ref(&record), "Yw");
        let end =
            b"\x92\xd7\x00\x69\x2a\x37\x80\0\0\0\0\x82\xa3log\xa1a\xa1x\x80\x81\xa5chunk\xa2Yw";
        assert_eq!(bytes[..6], *b"\x93\xa3sim\xc6");
        assert!(bytes.ends_with(end), "{bytes:02x?}");
        let one = chunk(Mode::Message, &[record], "Yw");
        assert_eq!(one[0], 0x94);
        let events = ["{}".to_owned()];
        assert_eq!(
            window(&events, false),
            b"2W\0\0\0\x012J\0\0\0\x01\0\0\0\x02{}"
        );
        assert_eq!(window(&events, true)[6..8], *b"2C");
    }

    #[test]
    fn answers_are_taken_at_any_cut() {
        let (mut acks, mut found) = (Vec::new(), Vec::new());
        for byte in b"\x81\xa3ack\xa2Yw\x81\xa3ack\xa1Z" {
            acks.push(*byte);
            found.extend(take_ack(&mut acks).expect("acks"));
        }
        assert_eq!(found, ["Yw", "Z"]);
        assert!(take_ack(&mut b"\x80".to_vec()).is_err());
        let (mut acks, mut found) = (Vec::new(), Vec::new());
        for byte in b"2A\0\0\0\x002A\0\0\x01\x02" {
            acks.push(*byte);
            found.extend(take_sequence(&mut acks).expect("ACKs"));
        }
        assert_eq!(found, [0, 258]);
    }
}
