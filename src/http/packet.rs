//! A packet out of its JSON: what is known is checked, the rest is kept as it came.
//!
//! ```text
//!   {"emitterId":"web-1", "messages":[ {"level":"info", "message":"hi", "trace":7, "span":8}, ...],
//!    ^ emitter                         ^ fields known by name           ^ one run of others
//!    "metadata":{...}}
//! ```
//!
//! All values stay slices of the body (`RawValue`); strings are decoded only where Weir must know what
//! they say. Fields that Weir does not know are kept as runs, text between two known ones, so that a
//! message has at most as many runs as there are known fields, and one more.

mod faults;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::ids::{uuid_text, Ids, UUID_BYTES};
use super::inspect::{shown, Fault, Names};
use super::refusal::{PacketError, Position};
use super::TIMESTAMP_BYTES;
use super::{json, level};

pub(super) use faults::check_emitter_id;

/// Bytes of an emitter's id, decoded. It becomes the value of a header.
pub const EMITTER_ID_BYTES_MAX: usize = 256;
/// Brackets around a field of a message: packet, array, message.
const MESSAGE_DEPTH: usize = 3;
/// A rendered message has at most so many bytes more than its fields and the emitter's id.
const ADDED_BYTES_MAX: usize = 256;
/// Some programs put it before their text. RFC 8259 section 8.1: it may be ignored.
pub(super) const BYTE_ORDER_MARK: char = '\u{FEFF}';
/// First characters of strings and numbers.
const STRING_OR_NUMBER: &str = "\"-0123456789";

/// What one packet may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLimits {
    /// Messages of a packet. 413 beyond.
    pub messages_max: usize,
    /// Bytes of one message as a frame, its header included. 413 beyond.
    pub message_bytes_max: usize,
    /// Nested brackets, the packet's own three included. 400 beyond.
    pub depth_max: usize,
}

impl Default for PacketLimits {
    fn default() -> Self {
        Self {
            messages_max: 10_000,
            message_bytes_max: weir_protocol::frame::FRAME_BYTES_MAX_DEFAULT as usize,
            depth_max: 64,
        }
    }
}

/// Messages that came together and stay together, borrowed from the body.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    pub(super) id: [u8; 16],
    pub(super) now: [u8; TIMESTAMP_BYTES],
    /// As JSON, with quotes.
    pub(super) emitter: Cow<'a, str>,
    /// What that says.
    pub(super) emitter_id: Cow<'a, str>,
    pub(super) metadata: Option<&'a str>,
    /// Fields that came under names that Weir uses itself.
    pub(super) received: [Option<&'a str>; RECEIVED.len()],
    pub(super) others: Vec<&'a str>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) message_others: Vec<&'a str>,
    unknown_levels: usize,
    unknown_level: &'a str,
    /// Distributors that it came through.
    pub hops: u8,
}

/// Fields of the packet that Weir sets itself. What came under these names goes to `received`.
pub(super) const RECEIVED: [&str; 4] = ["id", "timestamp", "size", "received"];

/// One message: values as JSON.
#[derive(Clone, Debug, Default)]
pub(super) struct Message<'a> {
    pub new_id: [u8; 16],
    pub id: Option<&'a str>,
    pub timestamp: Option<&'a str>,
    pub level: Option<&'a str>,
    pub message: Option<&'a str>,
    pub source: Option<&'a str>,
    pub metadata: Option<&'a str>,
    pub severity: u8,
    /// In `Packet::message_others`.
    pub others: Range<usize>,
}

impl Packet<'_> {
    /// The id that it was given.
    pub fn id(&self) -> [u8; UUID_BYTES] {
        uuid_text(self.id)
    }

    /// Who sent it: 1 to 256 bytes, no control characters.
    pub fn emitter_id(&self) -> &str {
        &self.emitter_id
    }

    /// Messages in it; 0 is possible.
    pub fn message_count(&self) -> usize {
        self.messages.len()
    }

    /// How many messages have a level that is not known, and the first of these, as JSON. They are taken
    /// as `info`.
    pub fn unknown_levels(&self) -> Option<(usize, &str)> {
        (self.unknown_levels > 0).then_some((self.unknown_levels, self.unknown_level))
    }
}

/// Reads a packet. `now` is its timestamp, and that of messages without one.
///
/// # Errors
/// 400 with the field and its place; 413 for too many messages or one that is too large.
pub fn parse_packet<'a>(
    body: &'a [u8],
    now: &[u8; TIMESTAMP_BYTES],
    ids: &mut impl Ids,
    limits: &PacketLimits,
) -> Result<Packet<'a>, PacketError> {
    let mut draft = Draft::new(body, ids, limits)?;
    let text = draft.content();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = PacketSeed(&mut draft).deserialize(&mut json);
    if let Err(error) = read.and_then(|()| json.end()) {
        return Err(draft.refusal(&error, text));
    }
    draft.packet(now)
}

/// What is being read: for a type that does not fit.
#[derive(Clone, Copy)]
enum Reading {
    Packet,
    Messages,
    Message,
    Value,
}

/// A packet that is being read.
pub(super) struct Draft<'a, 'x, I> {
    pub text: &'a str,
    ids: &'x mut I,
    limits: &'x PacketLimits,
    emitter: Option<&'a str>,
    metadata: Option<&'a str>,
    received: [Option<&'a str>; RECEIVED.len()],
    others: Vec<&'a str>,
    has_messages: bool,
    messages: Vec<Message<'a>>,
    message_others: Vec<&'a str>,
    unknown_levels: usize,
    unknown_level: &'a str,
    /// Of fields that are not known.
    names: Names<'a>,
    /// One message a line.
    pub is_lines: bool,
    reading: Reading,
    /// Everything before this offset was read.
    tail: usize,
    fault: Option<PacketError>,
}

impl<'a, 'x, I: Ids> Draft<'a, 'x, I> {
    pub fn new(
        body: &'a [u8],
        ids: &'x mut I,
        limits: &'x PacketLimits,
    ) -> Result<Self, PacketError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let at = Position::at(body, error.valid_up_to());
            let byte = body.get(error.valid_up_to()).copied().unwrap_or_default();
            let detail = match faults::other_encoding(body) {
                Some(looks) => looks.to_owned(),
                None => format!("the body is not UTF-8: byte {byte:#04x}"),
            };
            PacketError::new(400, "not_utf8", "", Some(at), detail)
        })?;
        let mark = if text.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len_utf8()
        } else {
            0
        };
        Ok(Self {
            text,
            ids,
            limits,
            emitter: None,
            metadata: None,
            received: [None; RECEIVED.len()],
            others: Vec::new(),
            has_messages: false,
            messages: Vec::new(),
            message_others: Vec::new(),
            unknown_levels: 0,
            unknown_level: "",
            names: Names::default(),
            is_lines: false,
            reading: Reading::Packet,
            tail: mark,
            fault: None,
        })
    }

    /// The text without the mark that may stand before it.
    fn content(&self) -> &'a str {
        self.text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.text)
    }

    /// One object that is a message, out of `line` of the text.
    pub fn read_message(&mut self, line: &'a str) -> Result<(), PacketError> {
        self.check_count()?;
        let mut json = serde_json::Deserializer::from_str(line);
        let read = MessageSeed(self).deserialize(&mut json);
        let read = read.and_then(|()| json.end());
        read.map_err(|error| self.refusal(&error, line))
    }

    /// Any other value out of `line`: a message of that alone.
    pub fn read_value(&mut self, line: &'a str) -> Result<(), PacketError> {
        self.check_count()?;
        self.reading = Reading::Value;
        let value: &RawValue =
            serde_json::from_str(line).map_err(|error| self.refusal(&error, line))?;
        let mut message = self.message();
        message.message = Some(value.get());
        self.check(value.get(), "message")?;
        self.messages.push(message);
        Ok(())
    }

    /// The packet, if everything that is required was there.
    fn packet(self, now: &[u8; TIMESTAMP_BYTES]) -> Result<Packet<'a>, PacketError> {
        let start = self.text.len() - self.content().trim_ascii_start().len();
        let missing = |error, field: &str| {
            let detail = format!("{field} is missing");
            PacketError::new(400, error, field, Some(self.position(start)), detail)
        };
        let emitter = self
            .emitter
            .ok_or_else(|| missing("emitter_id", "emitterId"))?;
        if !self.has_messages {
            return Err(missing("messages", "messages"));
        }
        let position = Some(self.position(self.offset(emitter)));
        let is_number = !emitter.starts_with('"');
        let id = is_number.then_some(Cow::Borrowed(emitter));
        let id = id.or_else(|| json::text(emitter)).ok_or_else(|| {
            let detail = "emitterId has an escaped surrogate that stands alone";
            PacketError::new(400, "emitter_id", "emitterId", position, detail)
        })?;
        check_emitter_id(&id, position)?;
        self.finish(Cow::Borrowed(emitter), id, now)
    }

    /// The packet of an emitter that is known.
    pub fn finish(
        self,
        emitter: Cow<'a, str>,
        emitter_id: Cow<'a, str>,
        now: &[u8; TIMESTAMP_BYTES],
    ) -> Result<Packet<'a>, PacketError> {
        let packet = Packet {
            id: self.ids.next(),
            now: *now,
            emitter,
            emitter_id,
            metadata: self.metadata,
            received: self.received,
            others: self.others,
            messages: self.messages,
            message_others: self.message_others,
            unknown_levels: self.unknown_levels,
            hops: 0,
            unknown_level: self.unknown_level,
        };
        let allowed = self.limits.message_bytes_max;
        if self.text.len() + packet.emitter.len() + ADDED_BYTES_MAX <= allowed {
            return Ok(packet);
        }
        for index in 0..packet.messages.len() {
            let bytes = packet.frame_bytes(index);
            if bytes > allowed {
                let detail =
                    format!("the message has {bytes} bytes as a frame; allowed: {allowed}");
                let field = format!("messages[{index}]");
                return Err(PacketError::new(
                    413,
                    "message_too_large",
                    field,
                    None,
                    detail,
                ));
            }
        }
        Ok(packet)
    }

    fn message(&mut self) -> Message<'a> {
        let others = self.message_others.len();
        Message {
            new_id: self.ids.next(),
            severity: level::severity_of("").unwrap_or_default(),
            others: others..others,
            ..Message::default()
        }
    }

    /// Field of the packet. `run`: the field before it was kept in a run as well.
    fn field(&mut self, key: &'a str, value: &'a str, run: &mut bool) -> Result<(), PacketError> {
        let in_run = std::mem::take(run);
        let name = json::text(key).unwrap_or_default();
        self.inspect(value, || name.to_string())?;
        if let Some(at) = RECEIVED.iter().position(|known| *known == name) {
            let before = self.received[at].replace(value);
            return self.once(before, key, || name.to_string());
        }
        let field = || name.to_string();
        match &*name {
            "emitterId" => {
                self.expect(value, STRING_OR_NUMBER, "a string or a number", field)?;
                let before = self.emitter.replace(value);
                self.once(before, key, field)
            }
            "metadata" => {
                self.expect(value, "{n", "an object", field)?;
                let before = self.metadata.replace(value);
                self.once(before, key, field)
            }
            _ => {
                *run = true;
                self.names.add(key);
                let before = if in_run { self.others.pop() } else { None };
                let from = self.offset(before.unwrap_or(key));
                self.others.push(&self.text[from..self.end(value)]);
                Ok(())
            }
        }
    }

    /// Field of a message.
    fn message_field(
        &mut self,
        message: &mut Message<'a>,
        key: &'a str,
        value: &'a str,
        run: &mut bool,
    ) -> Result<(), PacketError> {
        let in_run = std::mem::take(run);
        let plain = &key[1..key.len() - 1];
        let name = if plain.contains('\\') {
            json::text(key).unwrap_or_default()
        } else {
            Cow::Borrowed(plain)
        };
        self.check(value, &name)?;
        let field = || self.field_of_message(&name);
        let (slot, starts, or_null, allowed) = match &*name {
            "id" => (
                &mut message.id,
                STRING_OR_NUMBER,
                true,
                "a string or a number",
            ),
            "timestamp" => (
                &mut message.timestamp,
                STRING_OR_NUMBER,
                true,
                "a string or a number",
            ),
            "level" => (
                &mut message.level,
                STRING_OR_NUMBER,
                true,
                "a string or a number",
            ),
            "message" => (&mut message.message, "", false, ""),
            "source" => (
                &mut message.source,
                STRING_OR_NUMBER,
                true,
                "a string or a number",
            ),
            "metadata" => (&mut message.metadata, "{", true, "an object"),
            _ => {
                *run = true;
                self.names.add(key);
                let others = &mut self.message_others;
                let before = if in_run { others.pop() } else { None };
                let from = self.offset(before.unwrap_or(key));
                self.message_others.push(&self.text[from..self.end(value)]);
                message.others.end = self.message_others.len();
                return Ok(());
            }
        };
        let is_null = or_null && value.starts_with('n');
        if !starts.is_empty() && !is_null {
            self.expect(value, starts, allowed, field)?;
        }
        self.once(slot.replace(value), key, field)
    }

    /// Values that count as left out, once duplicates are known.
    fn settle(&mut self, message: &mut Message<'a>) {
        let null = |value: &&str| *value != "null";
        message.id = message.id.filter(null).filter(|id| *id != "\"\"");
        message.timestamp = message.timestamp.filter(null);
        message.level = message.level.filter(null);
        message.source = message.source.filter(null);
        message.metadata = message.metadata.filter(null);
        let Some(level) = message.level else {
            return;
        };
        let known = match level.starts_with('"') {
            true => json::text(level).and_then(|name| level::severity_of(&name)),
            false => level::severity_of(level),
        };
        match known {
            Some(severity) => message.severity = severity,
            None => {
                if self.unknown_levels == 0 {
                    self.unknown_level = level;
                }
                self.unknown_levels += 1;
            }
        }
    }

    fn check_count(&self) -> Result<(), PacketError> {
        let allowed = self.limits.messages_max;
        if self.messages.len() < allowed {
            return Ok(());
        }
        let detail = format!("more than {allowed} messages");
        Err(PacketError::new(
            413,
            "too_many_messages",
            "messages",
            None,
            detail,
        ))
    }

    fn field_of_message(&self, name: &str) -> String {
        format!("messages[{}].{name}", self.messages.len())
    }

    fn refuse<E: Error>(&mut self, fault: PacketError) -> E {
        self.fault = Some(fault);
        E::custom("refused")
    }

    /// Offset of a part of the text.
    pub fn offset(&self, part: &str) -> usize {
        (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize)
    }

    fn end(&self, part: &str) -> usize {
        self.offset(part) + part.len()
    }

    fn position(&self, offset: usize) -> Position {
        Position::at(self.text.as_bytes(), offset)
    }
}

struct PacketSeed<'d, 'a, 'x, I>(&'d mut Draft<'a, 'x, I>);
struct MessagesSeed<'d, 'a, 'x, I>(&'d mut Draft<'a, 'x, I>);
struct MessageSeed<'d, 'a, 'x, I>(&'d mut Draft<'a, 'x, I>);

impl<'a, I: Ids> DeserializeSeed<'a> for PacketSeed<'_, 'a, '_, I> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a, I: Ids> Visitor<'a> for PacketSeed<'_, 'a, '_, I> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let draft = self.0;
        let names = draft.names.begin();
        let mut run = false;
        while let Some(key) = map.next_key::<&'a RawValue>()? {
            let key = key.get();
            if json::text(key).as_deref() == Some("messages") {
                run = false;
                if std::mem::replace(&mut draft.has_messages, true) {
                    let fault = draft.once(Some(""), key, || "messages".to_string());
                    return fault.map_err(|fault| draft.refuse(fault));
                }
                draft.tail = draft.end(key);
                draft.reading = Reading::Messages;
                map.next_value_seed(MessagesSeed(draft))?;
                continue;
            }
            let value = map.next_value::<&'a RawValue>()?.get();
            let read = draft.field(key, value, &mut run);
            read.map_err(|fault| draft.refuse(fault))?;
        }
        let ended = draft.end_names(names, str::to_owned);
        ended.map_err(|fault| draft.refuse(fault))
    }
}

impl<'a, I: Ids> DeserializeSeed<'a> for MessagesSeed<'_, 'a, '_, I> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'a, I: Ids> Visitor<'a> for MessagesSeed<'_, 'a, '_, I> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let draft = self.0;
        draft.reading = Reading::Message;
        while seq.next_element_seed(MessageSeed(draft))?.is_some() {}
        Ok(())
    }
}

impl<'a, I: Ids> DeserializeSeed<'a> for MessageSeed<'_, 'a, '_, I> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a, I: Ids> Visitor<'a> for MessageSeed<'_, 'a, '_, I> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let draft = self.0;
        draft.check_count().map_err(|fault| draft.refuse(fault))?;
        let mut message = draft.message();
        let names = draft.names.begin();
        let mut run = false;
        while let Some(key) = map.next_key::<&'a RawValue>()? {
            let value = map.next_value::<&'a RawValue>()?.get();
            draft.tail = draft.end(value);
            let read = draft.message_field(&mut message, key.get(), value, &mut run);
            read.map_err(|fault| draft.refuse(fault))?;
        }
        let number = draft.messages.len();
        let ended = draft.end_names(names, |name| format!("messages[{number}].{name}"));
        ended.map_err(|fault| draft.refuse(fault))?;
        draft.settle(&mut message);
        draft.messages.push(message);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
