//! Entries of Fluent Forward as JSON, for analyzers that do not speak MessagePack.
//!
//! ```text
//! tag app, entry 2026-11-29 00:00:00 {"log": "hi", "n": 1}
//!     -> {"log":"hi","n":1,"@timestamp":"2026-11-29T00:00:00.000000000Z","tag":"app"}
//! ```
//!
//! | MessagePack | JSON |
//! |---|---|
//! | text, and bytes that are UTF-8 | a string |
//! | text and bytes that are not | `{"encoding":"base64","data":"..."}` |
//! | a key that is no text | its JSON text as a string |
//! | NaN, infinities, extensions | `null` |
//! | what lies deeper than [`DEPTH_MAX`] | `null`, and the message counts as cut |
//!
//! Own keys come first and in their order. `@timestamp` and `tag` follow unless the record has them, then the metadata
//! of the entry, if it has some, as `_metadata`.
//!
//! This is on the way of each message: a string without anything to escape, as most are, is looked at once, 16 bytes at
//! a time, and copied. Date and tag are rendered once for many entries ([`Context`]).

mod context;
mod plain;
mod usual;
pub use plain::{is_plain, write_string, write_text, write_unplain_text};
use plain::{write_odd, write_plain};

use std::fmt::{self, Write as _};

use super::forward::Time;
use weir_protocol::msgpack::{len_of, take_head, take_map, take_short_text, take_value, Head};

pub use context::Context;
pub use usual::{usual, usual_room};

/// Arrays and maps within each other, the record itself included. The C implementation of MessagePack, which Fluent
/// Bit uses, takes 32.
pub const DEPTH_MAX: usize = 64;
/// Added to an entry of which something is missing.
const CUT: &[u8] = b"\"_cut\":true";

/// Appends an entry as a JSON object of at most `bytes_max` bytes. `entry` is its time and its record, one behind the
/// other, whole and in shape, as [`crate::Element::Entry`] has it. False: something had to be left out, and the
/// object says `"_cut":true`; of `bytes_max` below 100 bytes it may say less. What `context` knows changes no byte.
pub fn entry(
    context: &mut Context,
    tag: &[u8],
    entry: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    let Some((time, metadata, record)) = parts(entry) else {
        debug_assert!(false, "an entry in shape");
        out.extend_from_slice(b"{}");
        return false;
    };
    out.reserve(entry.len() + tag.len() + CONTEXT_BYTES);
    let mut writer = Writer { out, is_cut: false };
    writer.out.push(b'{');
    let known = writer.pairs(record, DEPTH_MAX - 1);
    writer.context(context, (tag, time), metadata, known);
    if writer.is_cut {
        writer.comma_before(CUT);
    }
    writer.out.push(b'}');
    let is_whole = !writer.is_cut;
    if out.len() - start <= bytes_max {
        return is_whole;
    }
    out.truncate(start);
    cut(context, (tag, time), record, bytes_max, out);
    false
}

/// Time, metadata (empty: none) and record of an entry.
fn parts(mut entry: &[u8]) -> Option<(Time, &[u8], &[u8])> {
    let (time, metadata) = Time::take(&mut entry)?;
    Some((time, metadata, entry))
}

/// What a record says by itself.
#[derive(Clone, Copy, Default)]
struct Known {
    tag: bool,
    timestamp: bool,
}

/// About what time, names and signs come to.
const CONTEXT_BYTES: usize = 96;
/// Keys that an entry is given. As they are written: [`Context`].
const TIMESTAMP: &[u8] = b"@timestamp";
const TAG: &[u8] = b"tag";

/// Text that is appended.
struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    is_cut: bool,
}

impl Writer<'_> {
    /// The pairs of a map, without braces; which of the keys of an entry are among them.
    fn pairs(&mut self, map: &[u8], depth: usize) -> Known {
        let mut known = Known::default();
        let mut rest = map;
        let Some(pairs) = take_map(&mut rest) else {
            return known;
        };
        for pair in 0..pairs {
            if pair > 0 {
                self.out.push(b',');
            }
            match self.key(&mut rest, depth) {
                Some(TAG) => known.tag = true,
                Some(TIMESTAMP) => known.timestamp = true,
                Some(_) => {}
                None => return known,
            }
            self.value(&mut rest, depth);
        }
        known
    }

    /// A key and its colon. One that is no text goes down one level at most: within each other their escapes would grow
    /// without end.
    #[inline]
    fn key<'a>(&mut self, rest: &mut &'a [u8], depth: usize) -> Option<&'a [u8]> {
        let mut after = *rest;
        match take_short_text(&mut after) {
            Some(name) if is_plain(name) => {
                *rest = after;
                self.out.push(b'"');
                self.out.extend_from_slice(name);
                self.out.extend_from_slice(b"\":");
                Some(name)
            }
            _ => self.key_of_any(rest, depth),
        }
    }

    #[inline(never)]
    fn key_of_any<'a>(&mut self, rest: &mut &'a [u8], depth: usize) -> Option<&'a [u8]> {
        let before = *rest;
        let name = match take_head(rest)? {
            Head::Str(len) | Head::Bin(len) => {
                let (name, after) = rest.split_at_checked(len as usize)?;
                *rest = after;
                match is_plain(name) {
                    true => write_plain(name, self.out),
                    false => write_odd(String::from_utf8_lossy(name).as_bytes(), self.out),
                }
                name
            }
            // No text: what JSON would say of it.
            _ => {
                *rest = before;
                let value = take_value(rest)?;
                let mut text = Vec::new();
                let mut writer = Writer {
                    out: &mut text,
                    is_cut: false,
                };
                writer.value(&mut &*value, depth.min(1));
                self.is_cut |= writer.is_cut;
                write_string(&String::from_utf8_lossy(&text), self.out);
                &[]
            }
        };
        self.out.push(b':');
        Some(name)
    }

    /// A value, with so many levels that it may go down.
    #[inline]
    fn value(&mut self, rest: &mut &[u8], depth: usize) {
        match take_short_text(rest) {
            Some(text) => self.string(text),
            None => self.value_of_any(rest, depth),
        }
    }

    #[inline(never)]
    fn value_of_any(&mut self, rest: &mut &[u8], depth: usize) {
        let before = *rest;
        let Some(head) = take_head(rest) else {
            return self.put(b"null");
        };
        match head {
            Head::Str(len) | Head::Bin(len) => {
                let (string, after) = rest.split_at_checked(len as usize).unwrap_or((rest, &[]));
                *rest = after;
                self.string(string);
            }
            Head::Uint(number) => self.unsigned(number),
            Head::Int(number) => self.integer(number),
            Head::Nil => self.put(b"null"),
            Head::Bool(true) => self.put(b"true"),
            Head::Bool(false) => self.put(b"false"),
            Head::Float(number) => self.float(number, before.first() == Some(&0xca)),
            Head::Ext { bytes, .. } => {
                *rest = rest.get(bytes as usize..).unwrap_or_default();
                self.put(b"null");
            }
            Head::Array(_) | Head::Map(_) if depth == 0 => {
                let len = len_of(before).unwrap_or(before.len());
                *rest = before.get(len..).unwrap_or_default();
                self.is_cut = true;
                self.put(b"null");
            }
            Head::Array(values) => {
                self.out.push(b'[');
                for value in 0..values {
                    if value > 0 {
                        self.out.push(b',');
                    }
                    self.value(rest, depth - 1);
                }
                self.out.push(b']');
            }
            Head::Map(pairs) => {
                self.out.push(b'{');
                for pair in 0..pairs {
                    if pair > 0 {
                        self.out.push(b',');
                    }
                    if self.key(rest, depth - 1).is_none() {
                        break;
                    }
                    self.value(rest, depth - 1);
                }
                self.out.push(b'}');
            }
        }
    }

    /// What the record does not say by itself.
    #[inline]
    fn context(
        &mut self,
        context: &mut Context,
        (tag, time): (&[u8], Time),
        metadata: &[u8],
        known: Known,
    ) {
        match known {
            Known {
                tag: false,
                timestamp: false,
            } if !self.is_first() => context.put(time, tag, self.out),
            _ => self.context_apart(context, (tag, time), known),
        }
        if !metadata.is_empty() {
            self.metadata(metadata);
        }
    }

    #[inline(never)]
    fn context_apart(&mut self, context: &mut Context, (tag, time): (&[u8], Time), known: Known) {
        if !known.timestamp {
            let is_first = self.is_first();
            context.put_time(time, is_first, self.out);
        }
        if !known.tag {
            let is_first = self.is_first();
            context.put_tag(tag, is_first, self.out);
        }
    }

    #[inline(never)]
    fn metadata(&mut self, metadata: &[u8]) {
        if take_map(&mut &*metadata) != Some(0) {
            self.comma_before(b"\"_metadata\":");
            self.value(&mut &*metadata, DEPTH_MAX - 1);
        }
    }

    #[inline]
    fn is_first(&self) -> bool {
        self.out.last() == Some(&b'{')
    }

    fn comma_before(&mut self, bytes: &[u8]) {
        if !self.is_first() {
            self.out.push(b',');
        }
        self.put(bytes);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn string(&mut self, bytes: &[u8]) {
        if !write_text(bytes, self.out) {
            self.base64(bytes);
        }
    }

    #[inline(never)]
    fn base64(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        self.put(b"{\"encoding\":\"base64\",\"data\":\"");
        for three in bytes.chunks(3) {
            let word = [0, 1, 2].map(|at| u32::from(three.get(at).copied().unwrap_or(0)));
            let bits = word[0] << 16 | word[1] << 8 | word[2];
            for digit in 0..4_usize {
                let six = bits >> (18 - 6 * digit) & 63;
                let text = match digit <= three.len() {
                    true => DIGITS[six as usize],
                    false => b'=',
                };
                self.out.push(text);
            }
        }
        self.put(b"\"}");
    }

    fn integer(&mut self, number: i64) {
        if number < 0 {
            self.out.push(b'-');
        }
        self.unsigned(number.unsigned_abs());
    }

    fn unsigned(&mut self, mut number: u64) {
        let mut text = [b'0'; 20];
        let mut from = text.len();
        loop {
            from -= 1;
            let [digit, ..] = (number % 10).to_le_bytes();
            text[from] = b'0' + digit;
            number /= 10;
            if number == 0 {
                return self.put(&text[from..]);
            }
        }
    }

    fn float(&mut self, number: f64, is_single: bool) {
        let mut out = Text(self.out);
        // Into memory nothing fails.
        let _ = match (number.is_finite(), is_single) {
            (false, _) => out.write_str("null"),
            // As its sender wrote it: 0.1, not 0.10000000149011612.
            #[allow(clippy::cast_possible_truncation)]
            (true, true) => write!(out, "{:?}", number as f32),
            (true, false) => write!(out, "{number:?}"),
        };
    }
}

/// An entry that is larger than a message may be: whole pairs as far as there is room, texts cut.
#[cold]
fn cut(
    context: &mut Context,
    of: (&[u8], Time),
    record: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let mut writer = Writer { out, is_cut: true };
    writer.out.push(b'{');
    writer.comma_before(CUT);
    writer.context(context, of, &[], Known::default());
    let mut known = Known {
        tag: true,
        timestamp: true,
    };
    if writer.out.len() - start + 1 > bytes_max {
        // Not even that has room.
        writer.out.truncate(start + 1);
        known = Known::default();
    }
    let mut rest = record;
    let pairs = match take_head(&mut rest) {
        Some(Head::Map(pairs)) => pairs,
        _ => 0,
    };
    for _ in 0..pairs {
        let before = writer.out.len();
        if before > start + 1 {
            writer.out.push(b',');
        }
        let Some(name) = writer.key(&mut rest, 1) else {
            break;
        };
        let after_key = writer.out.len();
        let value = take_value(&mut rest).unwrap_or_default();
        writer.value(&mut &*value, DEPTH_MAX - 1);
        let room = bytes_max
            .saturating_sub(1)
            .saturating_sub(after_key - start);
        let is_ours = known.tag && (name == TAG || name == TIMESTAMP);
        if writer.out.len() - after_key > room || is_ours {
            writer.out.truncate(after_key);
            if is_ours || !writer.part(value, room) {
                writer.out.truncate(before);
            }
        }
    }
    writer.out.push(b'}');
}

impl Writer<'_> {
    /// As much of a text as has room. False: it is none, or there is no room.
    fn part(&mut self, value: &[u8], room: usize) -> bool {
        let mut rest = value;
        let Some(Head::Str(_) | Head::Bin(_)) = take_head(&mut rest) else {
            return false;
        };
        let Ok(text) = std::str::from_utf8(rest) else {
            return false;
        };
        let mut room = room.saturating_sub(2);
        let mut end = 0;
        for (at, c) in text.char_indices() {
            let bytes = match c {
                '"' | '\\' | '\n' | '\r' | '\t' => 2,
                '\0'..='\x1f' => 6,
                _ => c.len_utf8(),
            };
            if bytes > room {
                break;
            }
            room -= bytes;
            end = at + c.len_utf8();
        }
        if end > 0 {
            write_string(&text[..end], self.out);
        }
        end > 0
    }
}

#[cfg(test)]
#[path = "render/tests.rs"]
mod tests;
