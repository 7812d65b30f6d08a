//! Chunks of Fluent Forward as a server gets them, and their acks: by other code than the distributor's, which writes the
//! first and reads the second.

use weir_http::level_of;

use crate::oracle::{MessageId, Oracle};

/// Bytes that a chunk cannot have in this world.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// A chunk: its entries, and what acks it.
pub(super) struct Chunk {
    entries: Vec<u8>,
    /// Entries that it says to have.
    size: u64,
    pub(super) ack: Vec<u8>,
}

/// A value; the few kinds that there are in this world.
#[derive(Debug, PartialEq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Array(u32),
    Map(u32),
    Time,
}

/// The next value: of an array or a map only its head. `None`: it is not whole.
fn take<'a>(bytes: &mut &'a [u8]) -> Result<Option<Value<'a>>, String> {
    let all = *bytes;
    let Some((&first, rest)) = all.split_first() else {
        return Ok(None);
    };
    let number = |width: usize| {
        let digits = rest.get(..width)?;
        let value = digits
            .iter()
            .fold(0u64, |value, digit| value << 8 | u64::from(*digit));
        Some((value, &rest[width..]))
    };
    let sized = |width: usize| -> Option<(Value<'a>, &'a [u8])> {
        let (len, rest) = number(width)?;
        let (value, rest) = rest.split_at_checked(len as usize)?; // below 2^32
        Some((Value::Bytes(value), rest))
    };
    let counted = |width: usize, kind: fn(u32) -> Value<'a>| {
        let (count, rest) = number(width)?;
        Some((kind(count as u32), rest)) // of at most four bytes
    };
    let found = match first {
        0x00..=0x7f => Some((Value::Number(first.into()), rest)),
        0x80..=0x8f => Some((Value::Map(u32::from(first & 15)), rest)),
        0x90..=0x9f => Some((Value::Array(u32::from(first & 15)), rest)),
        0xa0..=0xbf => {
            let split = rest.split_at_checked(usize::from(first & 31));
            split.map(|(text, rest)| (Value::Bytes(text), rest))
        }
        0xc4 | 0xd9 => sized(1),
        0xc5 | 0xda => sized(2),
        0xc6 | 0xdb => sized(4),
        0xcc => number(1).map(|(value, rest)| (Value::Number(value), rest)),
        0xcd => number(2).map(|(value, rest)| (Value::Number(value), rest)),
        0xce => number(4).map(|(value, rest)| (Value::Number(value), rest)),
        0xd7 => rest
            .split_at_checked(9)
            .map(|(_, rest)| (Value::Time, rest)),
        0xdc => counted(2, Value::Array),
        0xdd => counted(4, Value::Array),
        0xde => counted(2, Value::Map),
        0xdf => counted(4, Value::Map),
        other => return Err(format!("a chunk has a value that begins with {other:#x}")),
    };
    Ok(found.map(|(value, rest)| {
        *bytes = rest;
        value
    }))
}

/// Takes a whole chunk off. `None`: there is none yet.
///
/// # Errors
/// What came is none.
pub(super) fn take_chunk(unread: &mut Vec<u8>) -> Result<Option<Chunk>, String> {
    let mut rest = &unread[..];
    let mut next = || take(&mut rest);
    let (Some(outer), Some(tag), Some(entries), Some(options)) =
        (next()?, next()?, next()?, next()?)
    else {
        return match unread.len() < CHUNK_BYTES_MAX {
            true => Ok(None),
            false => Err(format!(
                "a chunk does not end within {} bytes",
                unread.len()
            )),
        };
    };
    let (Value::Array(3), Value::Bytes(_), Value::Bytes(entries), Value::Map(2)) =
        (&outer, &tag, &entries, &options)
    else {
        return Err(format!("a chunk is {outer:?} {tag:?} .. {options:?}"));
    };
    let entries = entries.to_vec();
    let (Some(size), Some(number), Some(chunk), Some(id)) = (next()?, next()?, next()?, next()?)
    else {
        return Ok(None);
    };
    let (Value::Bytes(b"size"), Value::Number(size), Value::Bytes(b"chunk"), Value::Bytes(id)) =
        (size, number, chunk, id)
    else {
        return Err("a chunk has other options than size and chunk".to_owned());
    };
    let mut ack = vec![0x81, 0xa3, b'a', b'c', b'k', 0xd9, id.len() as u8]; // 32 characters
    ack.extend_from_slice(id);
    let left = rest.len();
    unread.drain(..unread.len() - left);
    Ok(Some(Chunk { entries, size, ack }))
}

impl Chunk {
    /// Its messages.
    ///
    /// # Errors
    /// They are nobody's.
    pub(super) fn recognize(&self, oracle: &Oracle) -> Result<Vec<MessageId>, String> {
        let mut rest = &self.entries[..];
        let mut ids = Vec::new();
        while !rest.is_empty() {
            let mut next = || take(&mut rest)?.ok_or("an entry is cut off".to_owned());
            let (entry, time) = (next()?, next()?);
            if (entry, &time) != (Value::Array(2), &Value::Time) {
                return Err(format!("an entry begins with {time:?}"));
            }
            let Value::Map(pairs) = next()? else {
                return Err("a record is no map".to_owned());
            };
            let mut fields = Vec::new();
            for _ in 0..pairs {
                let Value::Bytes(key) = next()? else {
                    return Err("a key is no text".to_owned());
                };
                fields.push((key, next()?));
            }
            ids.push(recognize(&fields, oracle)?);
        }
        match ids.len() as u64 == self.size {
            true => Ok(ids),
            false => Err(format!(
                "a chunk says {} entries and has {}",
                self.size,
                ids.len()
            )),
        }
    }
}

fn recognize(fields: &[(&[u8], Value<'_>)], oracle: &Oracle) -> Result<MessageId, String> {
    if let [(b"message", Value::Bytes(payload)), (b"severity", Value::Number(severity)), ..] =
        fields
    {
        let severity = u8::try_from(*severity).map_err(|error| error.to_string())?;
        let id = oracle.recognize_payload(payload, level_of(severity))?;
        return match oracle.packet_of(id) {
            Some(_) => Err(format!("message {id} of a client came as text")),
            None => Ok(id),
        };
    }
    // In this world all are texts, or an empty map.
    let field = |(key, value): &(&[u8], Value<'_>)| {
        let key = String::from_utf8_lossy(key);
        match value {
            Value::Bytes(text) => format!("\"{key}\":\"{}\"", String::from_utf8_lossy(text)),
            _ => format!("\"{key}\":{{}}"),
        }
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    oracle.recognize_text(&format!("{{{}}}", fields.join(",")))
}
