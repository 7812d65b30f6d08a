//! Why a packet is refused: the field, its place, and what is allowed.

use super::*;
use weir_protocol::text::reorders;

impl<'a, I: Ids> Draft<'a, '_, I> {
    pub(super) fn once(
        &self,
        before: Option<&str>,
        key: &str,
        field: impl Fn() -> String,
    ) -> Result<(), PacketError> {
        if before.is_none() {
            return Ok(());
        }
        let field = field();
        let detail = format!("{field} is there twice");
        let at = Some(self.position(self.offset(key)));
        Err(PacketError::new(400, "duplicate_field", field, at, detail))
    }

    pub(super) fn expect(
        &self,
        value: &str,
        starts: &str,
        allowed: &str,
        field: impl Fn() -> String,
    ) -> Result<(), PacketError> {
        if value.starts_with(|c| starts.contains(c)) {
            return Ok(());
        }
        let field = field();
        let detail = format!("{field} is {}; allowed: {allowed}", kind(value));
        let error = match &*field {
            "emitterId" => "emitter_id",
            _ => "field_type",
        };
        let at = Some(self.position(self.offset(value)));
        Err(PacketError::new(400, error, field, at, detail))
    }

    /// As [`Draft::inspect`], of a field of the message that is being read.
    pub(super) fn check(&mut self, value: &'a str, name: &str) -> Result<(), PacketError> {
        let number = self.messages.len();
        self.inspect(value, || format!("messages[{number}].{}", cut(name)))
    }

    /// Whether all readers of JSON agree on a value.
    pub(super) fn inspect(
        &mut self,
        value: &'a str,
        field: impl FnOnce() -> String,
    ) -> Result<(), PacketError> {
        let allowed = self.limits.depth_max;
        let walked = self
            .names
            .inspect(value, allowed.saturating_sub(MESSAGE_DEPTH));
        let Err(fault) = walked else {
            return Ok(());
        };
        let field = field();
        let (error, at, detail) = match fault {
            Fault::TooDeep(at) => (
                "too_deep",
                at,
                format!("{field} is nested too deep; allowed: {allowed} brackets in all"),
            ),
            Fault::Twice(at, name) => (
                "duplicate_field",
                at,
                format!("{field} has a field twice, {name:?}"),
            ),
            Fault::TooLarge(at) => (
                "number_too_large",
                at,
                format!("{field} has a number beyond 1.7976931348623157e308, which is the most"),
            ),
        };
        let at = Some(self.position(self.offset(value) + at));
        Err(PacketError::new(400, error, field, at, detail))
    }

    /// The object whose names began at `start` has been read.
    pub(super) fn end_names(
        &mut self,
        start: usize,
        field: impl FnOnce(&str) -> String,
    ) -> Result<(), PacketError> {
        let Some(key) = self.names.end(start) else {
            return Ok(());
        };
        let field = field(&shown(key));
        let detail = format!("{field} is there twice");
        let at = Some(self.position(self.offset(key)));
        Err(PacketError::new(400, "duplicate_field", field, at, detail))
    }

    /// Why reading `line`, a part of the text, ended.
    pub(super) fn refusal(&mut self, error: &serde_json::Error, line: &str) -> PacketError {
        if let Some(fault) = self.fault.take() {
            return fault;
        }
        if error.classify() == Category::Data {
            return self.wrong_type();
        }
        let lines = memchr::memchr_iter(b'\n', line.as_bytes());
        let line_start = match error.line() {
            0 | 1 => 0,
            number => lines.take(number - 1).last().map_or(0, |end| end + 1),
        };
        let offset = self.offset(line) + line_start + error.column().saturating_sub(1);
        let at = self.position(offset);
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        let rest = self.text.get(offset..).unwrap_or_default();
        let is_second = said == "trailing characters" && rest.starts_with('{');
        let hint = match self.reading {
            _ if other_encoding(self.text.as_bytes()).is_some() => {
                let looks = other_encoding(self.text.as_bytes()).unwrap_or_default();
                return PacketError::new(400, "not_json", "", Some(at), looks);
            }
            Reading::Value => "",
            _ if self.text.is_empty() => " (the body is empty)",
            _ if self.content().is_empty() => " (the body is a byte order mark and nothing else)",
            _ if is_second && !self.is_lines => {
                ": a second object; for one message a line allowed: Content-Type application/x-ndjson"
            }
            _ if is_second => ": a second object; allowed: one a line",
            _ => "",
        };
        let detail = format!("not JSON: {said}{hint}");
        PacketError::new(400, "not_json", "", Some(at), detail)
    }

    /// A value that is none of what [`Reading`] names.
    pub(super) fn wrong_type(&self) -> PacketError {
        let start = self.value_start();
        let found = kind(&self.text[start..]);
        let at = Some(self.position(start));
        match self.reading {
            Reading::Messages => {
                let detail = format!("messages is {found}; allowed: an array");
                PacketError::new(400, "messages", "messages", at, detail)
            }
            Reading::Message => {
                let field = format!("messages[{}]", self.messages.len());
                let detail = format!("{field} is {found}; allowed: an object");
                PacketError::new(400, "message_type", field, at, detail)
            }
            Reading::Packet | Reading::Value => {
                let detail = format!("the body is {found}; allowed: an object");
                PacketError::new(400, "not_an_object", "", at, detail)
            }
        }
    }

    /// Where the value starts that is being read: behind all that was read, and behind what stands between
    /// values. Empty messages leave only brackets there.
    pub(super) fn value_start(&self) -> usize {
        let rest = &self.text[self.tail..];
        let value = match self.reading {
            Reading::Packet | Reading::Value => rest.trim_ascii_start(),
            Reading::Messages => rest.trim_start_matches([' ', '\t', '\r', '\n', ':']),
            Reading::Message => {
                let rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ':']);
                let rest = rest.strip_prefix('[').unwrap_or(rest);
                rest.trim_start_matches([' ', '\t', '\r', '\n', ',', '{', '}'])
            }
        };
        self.text.len() - value.len()
    }
}

/// What a body is that is no JSON in UTF-8, if its first bytes tell: text in other code units, or what a header
/// should have said is compressed.
pub(super) fn other_encoding(body: &[u8]) -> Option<&'static str> {
    Some(match body {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => {
            "the body begins with the byte order mark of UTF-32; allowed: UTF-8"
        }
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {
            "the body begins with the byte order mark of UTF-16; allowed: UTF-8"
        }
        [0, 0, 0, 1..=0x7F, ..] | [1..=0x7F, 0, 0, 0, ..] => {
            "the body looks like UTF-32; allowed: UTF-8"
        }
        [0, 1..=0x7F, 0, ..] | [1..=0x7F, 0, 1..=0x7F, 0, ..] => {
            "the body looks like UTF-16; allowed: UTF-8"
        }
        [0x1F, 0x8B, 8, ..] => {
            "the body looks like gzip: header Content-Encoding: gzip is missing, or it was compressed twice"
        }
        [0x28, 0xB5, 0x2F, 0xFD, ..] => {
            "the body looks like zstd: header Content-Encoding: zstd is missing, or it was compressed twice"
        }
        [0x78, 0x01 | 0x5E | 0x9C | 0xDA, ..] => {
            "the body looks like zlib: header Content-Encoding: deflate is missing, or it was compressed twice"
        }
        _ => return None,
    })
}

/// An emitter's id becomes the value of a header and the source of messages.
pub(crate) fn check_emitter_id(id: &str, position: Option<Position>) -> Result<(), PacketError> {
    let detail = if id.is_empty() {
        "emitterId is empty".to_string()
    } else if id.len() > EMITTER_ID_BYTES_MAX {
        let bytes = id.len();
        format!("emitterId has {bytes} bytes; allowed: {EMITTER_ID_BYTES_MAX}")
    } else if id.chars().any(char::is_control) {
        "emitterId has control characters".to_string()
    } else if let Some(mark) = id.chars().find(|c| reorders(*c)) {
        let mark = u32::from(mark);
        format!("emitterId has the character U+{mark:04X}; allowed: no marks of direction, no ends of lines")
    } else {
        return Ok(());
    };
    Err(PacketError::new(
        400,
        "emitter_id",
        "emitterId",
        position,
        detail,
    ))
}

/// A name that was read already, for an error.
fn cut(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// What a value is, from its first byte.
fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
