//! How severe is this message? Read from where senders say it: a syslog PRI, a word, a number, a key of a JSON object.
//!
//! | severity | syslog `PRI & 7`, GELF | words | numbers of pino and bunyan |
//! |---|---|---|---|
//! | 0 fatal | 0 1 2 | fatal emerg emergency alert crit critical panic | 60 |
//! | 1 error | 3 | error err severe failure | 50 |
//! | 2 warn | 4 | warn warning | 40 |
//! | 3 info | 5 6 | info information informational notice, and all that is not known | 30 |
//! | 4 debug | 7 | debug fine | 20 |
//! | 5 trace | - | trace verbose finer finest silly | 10 |
//!
//! Of a JSON object only the keys at its top are looked at, and `level` in an object `log` (Elastic's common schema has it
//! there). The walk checks nothing: an object that is none has severity 3. It costs a nanosecond a byte, and most objects
//! of Beats have none of the keys: whether their letters are there at all is looked for first, vectorised.

use std::sync::LazyLock;

use memchr::{memchr2, memmem::Finder};

/// What a message has that says nothing of it, or nothing that is known here.
pub const INFO: u8 = 3;
/// By the lower three bits of a PRI.
const OF_SYSLOG: [u8; 8] = [0, 0, 0, 1, 2, 3, 3, 4];
const PRI_MAX: u16 = 191;
const BOM: &[u8] = b"\xef\xbb\xbf";

const WORDS: &[(&[u8], u8)] = &[
    (b"info", 3),
    (b"error", 1),
    (b"warn", 2),
    (b"debug", 4),
    (b"warning", 2),
    (b"fatal", 0),
    (b"trace", 5),
    (b"err", 1),
    (b"notice", 3),
    (b"information", 3),
    (b"informational", 3),
    (b"critical", 0),
    (b"crit", 0),
    (b"emergency", 0),
    (b"emerg", 0),
    (b"alert", 0),
    (b"panic", 0),
    (b"severe", 1),
    (b"failure", 1),
    (b"fine", 4),
    (b"verbose", 5),
    (b"finer", 5),
    (b"finest", 5),
    (b"silly", 5),
];

/// Keys of a JSON object that say it, the first one that is there counts.
const KEYS: [&[u8]; 5] = [
    b"level",
    b"severity",
    b"log.level",
    b"loglevel",
    b"severity_text",
];
/// Each key has one of these.
static MARKS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| ["level\"", "severity"].map(Finder::new));
/// An object of this name has a `level`, which counts as `log.level`.
const LOG: &[u8] = b"log";
const LOG_LEVEL: usize = 2;

/// Severity of a syslog PRI; of one above 191, which is none, that of 13 (user.notice).
#[inline]
pub fn of_pri(pri: u16) -> u8 {
    match pri {
        0..=PRI_MAX => OF_SYSLOG[usize::from(pri & 7)],
        _ => INFO,
    }
}

/// Severity of a syslog message by the `<PRI>` that it begins with; without one that of 13. A byte order mark before it is
/// none of the message.
#[inline]
pub fn of_syslog(message: &[u8]) -> u8 {
    let message = message.strip_prefix(BOM).unwrap_or(message);
    let Some((b'<', rest)) = message.split_first() else {
        return INFO;
    };
    let mut pri = 0;
    for (at, byte) in rest.iter().take(4).enumerate() {
        match byte {
            b'0'..=b'9' if at < 3 => pri = pri * 10 + u16::from(byte - b'0'),
            b'>' if at > 0 => return of_pri(pri),
            _ => break,
        }
    }
    INFO
}

/// Severity of a word, in any case. None: it is not known.
pub fn of_word(word: &[u8]) -> Option<u8> {
    let known = WORDS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(word));
    known.map(|(_, severity)| *severity)
}

/// Severity of a number: up to 7 as syslog and GELF have them, from 10 on as pino and bunyan; a level between two is the
/// lower one. None: neither.
pub fn of_number(number: u64) -> Option<u8> {
    match number {
        0..8 => OF_SYSLOG.get(usize::try_from(number).ok()?).copied(),
        8..10 => None,
        10..20 => Some(5),
        20..30 => Some(4),
        30..40 => Some(3),
        40..50 => Some(2),
        50..60 => Some(1),
        _ => Some(0),
    }
}

/// Severity of a JSON object by the first of its keys that says it.
pub fn of_json(object: &[u8]) -> u8 {
    match MARKS.iter().any(|mark| mark.find(object).is_some()) {
        true => walked(object),
        false => INFO,
    }
}

fn walked(object: &[u8]) -> u8 {
    let mut walk = Walk { bytes: object };
    let mut best = None;
    if !walk.enters() {
        return INFO;
    }
    while let Some(key) = walk.key() {
        let rank = KEYS.iter().position(|known| *known == key);
        let (rank, value) = match rank {
            Some(rank) => (rank, walk.value()),
            None if key == LOG => (LOG_LEVEL, walk.level_inside()),
            None => (0, walk.skip()),
        };
        let Some(severity) = value else {
            continue;
        };
        if rank == 0 {
            return severity;
        }
        if best.is_none_or(|(before, _)| rank < before) {
            best = Some((rank, severity));
        }
    }
    best.map_or(INFO, |(_, severity)| severity)
}

/// Up to so many bytes a loop finds the end of a string sooner.
const SHORT: usize = 16;

/// What is left of an object.
struct Walk<'a> {
    bytes: &'a [u8],
}

impl<'a> Walk<'a> {
    #[inline]
    fn take(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or_default();
    }

    #[inline]
    fn first(&mut self) -> Option<u8> {
        while let Some((b' ' | b'\t' | b'\r' | b'\n', rest)) = self.bytes.split_first() {
            self.bytes = rest;
        }
        self.bytes.first().copied()
    }

    /// An object begins here.
    fn enters(&mut self) -> bool {
        let is_object = self.first() == Some(b'{');
        self.take(usize::from(is_object));
        is_object
    }

    /// The next key, with its colon; none is left.
    #[inline]
    fn key(&mut self) -> Option<&'a [u8]> {
        if self.first() == Some(b',') {
            self.take(1);
        }
        if self.first() != Some(b'"') {
            return None;
        }
        let key = self.string()?;
        if self.first() != Some(b':') {
            return None;
        }
        self.take(1);
        Some(key)
    }

    /// A string that begins here, without its quotes and as it is written.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(1..)?;
        // Names are short: a vector is not worth it.
        let short = bytes.iter().take(SHORT);
        let end = short
            .copied()
            .position(|byte| byte == b'"' || byte == b'\\');
        let mut at = end.unwrap_or(SHORT.min(bytes.len()));
        loop {
            let found = memchr2(b'"', b'\\', bytes.get(at..)?)? + at;
            if bytes[found] == b'"' {
                self.bytes = &bytes[found + 1..];
                return Some(&bytes[..found]);
            }
            at = found + 2;
        }
    }

    /// The severity that a value says; the value is passed.
    fn value(&mut self) -> Option<u8> {
        match self.first()? {
            b'"' => of_word(self.string()?),
            b'0'..=b'9' => {
                let mut number = 0_u64;
                while let Some((digit @ b'0'..=b'9', rest)) = self.bytes.split_first() {
                    number = number
                        .saturating_mul(10)
                        .saturating_add(u64::from(digit - b'0'));
                    self.bytes = rest;
                }
                self.skip();
                of_number(number)
            }
            _ => self.skip(),
        }
    }

    /// The severity that the `level` of an object says; the object is passed.
    fn level_inside(&mut self) -> Option<u8> {
        if self.first()? != b'{' {
            return self.skip();
        }
        let mut inside = Walk {
            bytes: &self.bytes[1..],
        };
        self.skip();
        while let Some(key) = inside.key() {
            if key == KEYS[0] {
                return inside.value();
            }
            inside.skip();
        }
        None
    }

    /// Passes a value, up to the comma or the end behind it. None, for it says nothing; an object that breaks off
    /// within it has nothing behind.
    fn skip(&mut self) -> Option<u8> {
        let mut depth = 0_usize;
        loop {
            let at = self
                .bytes
                .iter()
                .position(|byte| matches!(byte, b'"' | b',' | b'{' | b'}' | b'[' | b']'));
            self.take(at.unwrap_or(self.bytes.len()));
            match self.bytes.first()? {
                b'"' if self.string().is_none() => {
                    self.bytes = &[];
                    return None;
                }
                b'"' => continue,
                b'{' | b'[' => depth += 1,
                b',' if depth == 0 => return None,
                b',' => {}
                _ if depth == 0 => return None,
                _ => depth -= 1,
            }
            self.take(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pri_is_at_most_191_and_stands_in_front() {
        let cases: &[(&[u8], u8)] = &[
            (b"<0>a", 0),
            (b"<11>a", 1),
            (b"<131>x", 1),
            (b"<12>", 2),
            (b"<13>a", 3),
            (b"<14>a", 3),
            (b"<191>a", 4),
            (b"<192>a", 3),
            (b"<999>a", 3),
            (b"<0011>a", 3),
            (b"<>a", 3),
            (b"<1", 3),
            (b"<1x>", 3),
            (b"text", 3),
            (b"", 3),
            (b"\xef\xbb\xbf<11>a", 1),
        ];
        for (message, severity) in cases {
            assert_eq!(of_syslog(message), *severity, "{message:?}");
        }
    }

    #[test]
    fn an_object_says_it_in_one_of_five_keys() {
        let cases = [
            (r#"{"level":"error"}"#, 1),
            (r#" { "level" : "WARN" } "#, 2),
            (r#"{"message":"level\":\"error","level":"Debug"}"#, 4),
            (
                r#"{"a":{"level":"error"},"b":["level",{"level":"error"}]}"#,
                3,
            ),
            (r#"{"a":{"b":[1,"}"]},"severity":"FATAL"}"#, 0),
            (r#"{"log.level":"error"}"#, 1),
            (
                r#"{"log":{"offset":7,"file":{"path":"/level"},"level":"error"}}"#,
                1,
            ),
            (r#"{"log":"error","loglevel":"trace"}"#, 5),
            (r#"{"severity_text":"Critical"}"#, 0),
            (r#"{"severity":"error","level":"debug"}"#, 4),
            (r#"{"level":"debug","severity":"error"}"#, 4),
            (r#"{"severity_text":"error","log":{"level":"warn"}}"#, 2),
            (r#"{"level":50,"time":1}"#, 1),
            (r#"{"level":35}"#, 3),
            (r#"{"level":3,"severity":"error"}"#, 1),
            (r#"{"level":99999999999999999999999}"#, 0),
            (r#"{"level":"unheard of","severity":"error"}"#, 1),
            (r#"{"level":null,"severity":"error"}"#, 1),
            (r#"{"level":{"x":"error"},"loglevel":"error"}"#, 1),
            (r#"{"a":1.5e3,"b":true,"level":"error"}"#, 1),
            ("{}", 3),
            ("{", 3),
            ("", 3),
            ("level", 3),
            ("[\"level\",\"error\"]", 3),
            (r#"{"level"#, 3),
            (r#"{"level":"err"#, 3),
            (r#"{"a\"#, 3),
            (r#"{"a":[[[[,"level":"error"}"#, 3),
        ];
        for (object, severity) in cases {
            assert_eq!(of_json(object.as_bytes()), severity, "{object}");
        }
    }

    #[test]
    fn words_are_known_in_any_case_and_numbers_in_between() {
        for (word, severity) in WORDS {
            assert_eq!(of_word(&word.to_ascii_uppercase()), Some(*severity));
        }
        assert_eq!(of_word(b"inform"), None);
        let numbers = [2, 3, 7, 8, 9, 10, 29, 30, 60, 61].map(of_number);
        let syslog = [Some(0), Some(1), Some(4), None];
        let pino = [None, Some(5), Some(4), Some(3), Some(0), Some(0)];
        let expected = [&syslog[..], &pino].concat();
        assert_eq!(numbers[..], expected);
    }
}
