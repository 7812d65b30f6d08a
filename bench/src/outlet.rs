//! What programs that were not written for Weir receive and answer, for the load's text: Forward, Lumberjack, RELP, and
//! requests over HTTP. By other code than the distributor's. A message's text is found where the protocol puts it, its
//! answers are gathered.
//!
//! ```text
//! forward      93 tag bin([92 time {"message": text, ..}] ..) {"size": n, "chunk": id}   -> {"ack": id}
//! lumberjack   2W n  2J seq len {"message": text, ..} x n                                -> 2A n
//! relp         1 open, then n syslog len text LF                                         -> n rsp 6 200 OK
//! otlp         POST, ExportLogsServiceRequest as protocol buffers                        -> 200, an empty message
//! bulk         POST, ({"create": ..} LF {"message": text, ..} LF) x n                    -> 200, a status for each of n
//! ndjson       POST, ({"message": text, ..} LF) x n                                      -> 200
//! ```

mod requests;

use memchr::memmem::Finder;

use crate::wire::{StreamError, MESSAGE_LEN_MAX};
use requests::Request;

/// What a receiver speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Forward,
    Lumberjack,
    Relp,
    Otlp,
    Bulk,
    Ndjson,
}

impl Speaks {
    pub const ALL: [Speaks; 6] = [
        Self::Forward,
        Self::Lumberjack,
        Self::Relp,
        Self::Otlp,
        Self::Bulk,
        Self::Ndjson,
    ];

    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Lumberjack => "lumberjack",
            Self::Relp => "relp",
            Self::Otlp => "otlp",
            Self::Bulk => "bulk",
            Self::Ndjson => "ndjson",
        }
    }

    /// Scheme of an analyzer's URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Otlp => "otlp+http",
            Self::Bulk => "es+http",
            Self::Ndjson => "http+ndjson",
            other => other.name(),
        }
    }
}

/// One connection of a receiver.
#[derive(Debug)]
pub struct Receiver {
    speaks: Speaks,
    /// Answers that are to be written.
    answers: Vec<u8>,
    /// What these are for, and before: messages, and greetings.
    received: u64,
    /// Frames that are left of a window, and its length.
    window: (u32, u32),
    request: Request,
}

impl Receiver {
    pub fn new(speaks: Speaks) -> Self {
        Self {
            speaks,
            answers: Vec::new(),
            received: 0,
            window: (0, 0),
            request: Request::default(),
        }
    }

    /// Messages and greetings that may be answered.
    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn take_answers(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.answers);
    }

    /// Hands every whole message's text to `on_text`; how many bytes were used.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        mut on_text: impl FnMut(&[u8]),
    ) -> Result<usize, StreamError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let next = match self.speaks {
                Speaks::Forward => self.chunk(rest, &mut on_text)?,
                Speaks::Lumberjack => self.frame(rest, &mut on_text)?,
                Speaks::Relp => self.relp(rest, &mut on_text)?,
                Speaks::Otlp | Speaks::Bulk | Speaks::Ndjson => {
                    let mut on_text = |text: &[u8]| {
                        on_text(text);
                        self.received += 1;
                    };
                    let answers = &mut self.answers;
                    self.request
                        .take(self.speaks, rest, answers, &mut on_text)?
                }
            };
            match next {
                Some(len) => used += len,
                None => return Ok(used),
            }
        }
    }

    fn chunk(
        &mut self,
        bytes: &[u8],
        on_text: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, StreamError> {
        let mut at = match bytes {
            [] => return Ok(None),
            [0x93, tag @ 0xa0..=0xbf, ..] => 2 + usize::from(tag & 31),
            [0x93] => return Ok(None),
            _ => return Err(StreamError::Outlet),
        };
        let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<5>()) else {
            return Ok(None);
        };
        let [0xc6, len @ ..] = *head else {
            return Err(StreamError::Outlet);
        };
        at += 5;
        let len = u32::from_be_bytes(len) as usize;
        // {"size": n, "chunk": id}: at most 5 bytes of a number, an id of up to 255.
        let Some(entries) = bytes.get(at..at + len) else {
            return Ok(None);
        };
        let Some(id) = chunk_id(&bytes[at + len..])? else {
            return Ok(None);
        };
        let (id_bytes, behind) = id;
        self.answers.extend_from_slice(b"\x81\xa3ack\xd9");
        self.answers.push(id_bytes.len() as u8); // one byte says how long it is
        self.answers.extend_from_slice(id_bytes);
        let mut rest = entries;
        while !rest.is_empty() {
            let (text, len) = entry(rest).ok_or(StreamError::Outlet)?;
            on_text(text);
            self.received += 1;
            rest = &rest[len..];
        }
        Ok(Some(at + len + behind))
    }

    fn frame(
        &mut self,
        bytes: &[u8],
        on_text: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, StreamError> {
        let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        match bytes {
            [] | [_] => Ok(None),
            [b'2', b'W', ..] => Ok(word(2).map(|count| {
                self.window = (count, count);
                6
            })),
            [b'2', b'J', ..] => {
                let Some(len) = word(6).map(|len| len as usize) else {
                    return Ok(None);
                };
                let Some(json) = bytes.get(10..10 + len) else {
                    return Ok(None);
                };
                on_text(json);
                self.received += 1;
                self.window.0 = self.window.0.checked_sub(1).ok_or(StreamError::Outlet)?;
                if self.window.0 == 0 {
                    self.answers.extend_from_slice(b"2A");
                    self.answers.extend_from_slice(&self.window.1.to_be_bytes());
                }
                Ok(Some(10 + len))
            }
            _ => Err(StreamError::Outlet),
        }
    }

    /// A goodbye, which has no data: its LF is behind the length.
    fn relp_close(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let number = bytes[..end].strip_suffix(b" close 0")?;
        self.answers.extend_from_slice(number);
        self.answers.extend_from_slice(b" rsp 0\n0 serverclose 0\n");
        self.received += 1;
        Some(end + 1)
    }

    fn relp(
        &mut self,
        bytes: &[u8],
        on_text: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, StreamError> {
        let mut words = bytes.splitn(4, |byte| *byte == b' ');
        let (Some(number), Some(command), Some(len), Some(data)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Ok(self.relp_close(bytes));
        };
        let len = std::str::from_utf8(len)
            .ok()
            .and_then(|len| len.parse().ok());
        let len: usize = len.ok_or(StreamError::Outlet)?;
        if len > MESSAGE_LEN_MAX {
            return Err(StreamError::Outlet);
        }
        if data.len() <= len {
            return Ok(None);
        }
        let used = bytes.len() - data.len() + len + 1;
        self.answers.extend_from_slice(number);
        if command == b"open" {
            let offers = b"200 OK\nrelp_version=0\nrelp_software=bench\ncommands=syslog";
            let head = format!(" rsp {} ", offers.len());
            self.answers.extend_from_slice(head.as_bytes());
            self.answers.extend_from_slice(offers);
            self.answers.push(b'\n');
            self.received += 1;
            return Ok(Some(used));
        }
        on_text(&data[..len]);
        self.received += 1;
        self.answers.extend_from_slice(b" rsp 6 200 OK\n");
        Ok(Some(used))
    }
}

/// The id in a chunk's options, and their bytes.
fn chunk_id(options: &[u8]) -> Result<Option<(&[u8], usize)>, StreamError> {
    static CHUNK: std::sync::LazyLock<Finder<'static>> =
        std::sync::LazyLock::new(|| Finder::new(b"\xa5chunk\xd9"));
    let near = &options[..options.len().min(64)];
    let Some(at) = CHUNK.find(near) else {
        return match near.len() < 64 {
            true => Ok(None),
            false => Err(StreamError::Outlet),
        };
    };
    let at = at + 7;
    let Some(len) = options.get(at).map(|len| usize::from(*len)) else {
        return Ok(None);
    };
    let id = options.get(at + 1..at + 1 + len);
    Ok(id.map(|id| (id, at + 1 + len)))
}

/// An entry's text, and the entry's bytes.
fn entry(bytes: &[u8]) -> Option<(&[u8], usize)> {
    const HEAD: usize = 11; // 92 d7 00 and eight bytes
    const KEY: usize = 8; // "message"
    let pairs = match bytes.get(HEAD)? {
        pairs @ 0x82..=0x83 => pairs & 15,
        _ => return None,
    };
    let at = HEAD + 1 + KEY;
    let big = |at: usize, width: usize| {
        let digits = bytes.get(at..at + width)?;
        Some(
            digits
                .iter()
                .fold(0, |n, digit| n << 8 | usize::from(*digit)),
        )
    };
    let (start, len) = match bytes.get(at)? {
        short @ 0xa0..=0xbf => (at + 1, usize::from(short & 31)),
        0xd9 | 0xc4 => (at + 2, big(at + 1, 1)?),
        0xda | 0xc5 => (at + 3, big(at + 1, 2)?),
        _ => (at + 5, big(at + 1, 4)?),
    };
    let text = bytes.get(start..start + len)?;
    // "severity" and "facility": 9 bytes of a name and one of a small number, each.
    let end = start + len + 10 * usize::from(pairs - 1);
    (end <= bytes.len()).then_some((text, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(speaks: Speaks, bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
        // In pieces of any size it is the same.
        let mut receiver = Receiver::new(speaks);
        let (mut texts, mut answers, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for byte in bytes {
            held.push(*byte);
            let on_text = |text: &[u8]| texts.push(String::from_utf8_lossy(text).into_owned());
            let used = receiver.decode(&held, on_text).expect("good");
            held.drain(..used);
            receiver.take_answers(&mut answers);
        }
        assert!(held.is_empty());
        let greetings = if speaks == Speaks::Relp { 2 } else { 0 };
        assert_eq!(receiver.received(), texts.len() as u64 + greetings);
        (texts, answers)
    }

    #[test]
    fn texts_are_found_and_answered() {
        let (texts, answers) = read(
            Speaks::Relp,
            b"1 open 14 relp_version=0\n2 syslog 2 a \n3 syslog 3 b\nc\n4 close 0\n",
        );
        assert_eq!(texts, ["a ", "b\nc"]);
        let answers = String::from_utf8(answers).expect("text");
        assert!(
            answers.ends_with("3 rsp 6 200 OK\n4 rsp 0\n0 serverclose 0\n"),
            "{answers}"
        );
        let frames = b"2W\0\0\0\x022J\0\0\0\x01\0\0\0\x02{}2J\0\0\0\x02\0\0\0\x02{}";
        let (texts, answers) = read(Speaks::Lumberjack, frames);
        assert_eq!(texts, ["{}", "{}"]);
        assert_eq!(answers, b"2A\0\0\0\x02");
        let mut entry = b"\x92\xd7\0\0\0\0\0\0\0\0\0\x82\xa7message\xa2hi\xa8severity\x03".to_vec();
        entry.extend_from_within(..);
        let mut chunk = b"\x93\xa4weir\xc6\0\0\0".to_vec();
        chunk.push(entry.len() as u8);
        chunk.extend_from_slice(&entry);
        chunk.extend_from_slice(b"\x82\xa4size\x02\xa5chunk\xd9\x02id");
        let (texts, answers) = read(Speaks::Forward, &chunk);
        assert_eq!(texts, ["hi", "hi"]);
        assert_eq!(answers, b"\x81\xa3ack\xd9\x02id");
    }

    fn post(query: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST /x{query} HTTP/1.1\r\nHost: a\r\nContent-Length:      {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn requests_are_read_and_answered() {
        let lines = b"{\"a\":1}\n{\"b\":2}\n";
        let (texts, answers) = read(Speaks::Ndjson, &post("", lines).repeat(2));
        assert_eq!(texts, ["{\"a\":1}", "{\"b\":2}"].repeat(2));
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&answers), ok.repeat(2));

        let bulk = b"{\"create\":{}}\n{\"a\":1}\n{\"create\":{}}\n{\"b\":2}\n";
        let asked = post("?filter_path=errors,items.*.status", bulk);
        let (texts, answers) = read(Speaks::Bulk, &asked);
        assert_eq!(texts, ["{\"a\":1}", "{\"b\":2}"]);
        let answers = String::from_utf8_lossy(&answers);
        let items =
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#;
        assert!(answers.ends_with(items), "{answers}");
        assert!(answers.contains(&format!("Content-Length: {}\r\n", items.len())));
        let (_, answers) = read(Speaks::Bulk, &post("", bulk));
        let answers = String::from_utf8_lossy(&answers);
        assert_eq!(answers.matches("\"_seq_no\"").count(), 2, "{answers}");

        let record = [
            &[0x12, 17, 0x59][..],
            &[0; 8],
            &[0x10, 17, 0x2a, 4, 0x0a, 2, b'h', b'i'],
        ]
        .concat();
        let mut body = vec![
            0x0a,
            6 + 38,
            0x80,
            0x80,
            0x80,
            0,
            0x12,
            38,
            0x80,
            0x80,
            0x80,
            0,
        ];
        body[1] |= 0x80;
        body[7] |= 0x80;
        body.extend_from_slice(&record.repeat(2));
        let (texts, _) = read(Speaks::Otlp, &post("", &body));
        assert_eq!(texts, ["hi", "hi"]);
    }

    #[test]
    fn a_request_that_cannot_be_counted_is_an_error() {
        for (speaks, body) in [
            (Speaks::Ndjson, &b"{}"[..]),
            (Speaks::Bulk, b"{\"create\":{}}\n"),
            (Speaks::Otlp, b"\x0a\x01x"),
        ] {
            let mut receiver = Receiver::new(speaks);
            assert!(
                receiver.decode(&post("", body), |_| {}).is_err(),
                "{speaks:?}"
            );
        }
        let mut receiver = Receiver::new(Speaks::Ndjson);
        assert!(receiver.decode(b"POST / HTTP/1.1\r\n\r\n", |_| {}).is_err());
    }
}
