//! JSON read as it comes, in any pieces: brackets, keys, values; nothing is held but the present word.
//!
//! It is no validator: what is no JSON may pass. Whoever asks looks for what it needs, where it must stand.

/// Brackets within each other.
const DEPTH_MAX: u32 = 64;
/// Bytes of a key or a value that are kept.
const KEPT_BYTES: usize = 256;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// `{` or `[`.
    Open,
    /// `}` or `]`.
    Close,
    /// The key of a pair: its first bytes, escapes as they are.
    Key(&'a [u8]),
    /// A string: the same.
    Text(&'a [u8]),
    /// A number, `true`, `false`, `null`.
    Bare(&'a [u8]),
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Nothing,
    Text,
    /// Behind a backslash.
    Escape,
    Bare,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    within: Within,
    word: Vec<u8>,
    depth: u32,
    /// A bit for each bracket that is open: it is that of an object.
    objects: u64,
    expects_key: bool,
    is_bad: bool,
}

impl Scanner {
    /// Brackets that are open.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// Brackets do not fit, or are too many: what comes is not read any more.
    pub(super) fn is_bad(&self) -> bool {
        self.is_bad
    }

    /// Reads on. `take` hears of each event, and how many brackets are open behind it; false: no more is read.
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Event<'_>, u32) -> bool) {
        let mut at = 0;
        while at < bytes.len() && !self.is_bad {
            let byte = bytes[at];
            match self.within {
                Within::Text => {
                    let rest = &bytes[at..];
                    let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    self.keep(&rest[..end]);
                    at += end;
                    let Some(end) = bytes.get(at) else {
                        return;
                    };
                    at += 1;
                    if *end == b'\\' {
                        self.keep(b"\\");
                        self.within = Within::Escape;
                        continue;
                    }
                    self.within = Within::Nothing;
                    let goes_on = match self.expects_key {
                        true => take(Event::Key(&self.word), self.depth),
                        false => take(Event::Text(&self.word), self.depth),
                    };
                    self.expects_key = false;
                    if !goes_on {
                        return;
                    }
                    continue;
                }
                Within::Escape => {
                    self.keep(&[byte]);
                    self.within = Within::Text;
                }
                Within::Bare => match byte {
                    b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r' => {
                        self.within = Within::Nothing;
                        if !take(Event::Bare(&self.word), self.depth) {
                            return;
                        }
                        continue;
                    }
                    _ => self.keep(&[byte]),
                },
                Within::Nothing => {
                    if !self.start(byte, &mut take) {
                        return;
                    }
                }
            }
            at += 1;
        }
    }

    /// A byte between words.
    fn start(&mut self, byte: u8, take: &mut impl FnMut(Event<'_>, u32) -> bool) -> bool {
        match byte {
            b'{' | b'[' => {
                if self.depth == DEPTH_MAX {
                    self.is_bad = true;
                    return false;
                }
                self.objects = self.objects << 1 | u64::from(byte == b'{');
                self.expects_key = byte == b'{';
                self.depth += 1;
                take(Event::Open, self.depth)
            }
            b'}' | b']' => {
                let is_object = self.objects & 1 == 1;
                if self.depth == 0 || is_object != (byte == b'}') {
                    self.is_bad = true;
                    return false;
                }
                self.objects >>= 1;
                self.depth -= 1;
                self.expects_key = false;
                take(Event::Close, self.depth)
            }
            b',' => {
                self.expects_key = self.depth > 0 && self.objects & 1 == 1;
                true
            }
            b'"' => {
                self.word.clear();
                self.within = Within::Text;
                true
            }
            b':' | b' ' | b'\t' | b'\n' | b'\r' => true,
            _ => {
                self.word.clear();
                self.word.push(byte);
                self.within = Within::Bare;
                true
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT_BYTES - self.word.len();
        self.word.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut scanner = Scanner::default();
        let mut events = Vec::new();
        for piece in pieces {
            scanner.feed(piece, |event, depth| {
                events.push(match event {
                    Event::Open => format!("open {depth}"),
                    Event::Close => format!("close {depth}"),
                    Event::Key(key) => format!("key {}", key.escape_ascii()),
                    Event::Text(text) => format!("text {}", text.escape_ascii()),
                    Event::Bare(bare) => format!("bare {}", bare.escape_ascii()),
                });
                true
            });
        }
        (events, scanner.is_bad())
    }

    #[test]
    fn any_split_reads_the_same() {
        let json = br#"{"a" : [1,"x\"y",{"b":null}] , "c":true}"#;
        let (whole, is_bad) = events(&[json]);
        assert!(!is_bad);
        let expected = [
            "open 1",
            "key a",
            "open 2",
            "bare 1",
            "text x\\\\\\\"y",
            "open 3",
            "key b",
            "bare null",
            "close 2",
            "close 1",
            "key c",
            "bare true",
            "close 0",
        ];
        assert_eq!(whole, expected);
        for cut in 0..json.len() {
            assert_eq!(events(&[&json[..cut], &json[cut..]]).0, whole, "{cut}");
        }
    }

    #[test]
    fn brackets_that_do_not_fit_end_it() {
        for bad in ["}", "[}", "{]", &"[".repeat(65)] {
            assert!(events(&[bad.as_bytes()]).1, "{bad}");
        }
        assert!(!events(&["[".repeat(64).as_bytes()]).1);
        let (events, _) = events(&[format!("\"{}\"", "x".repeat(10_000)).as_bytes()]);
        assert_eq!(events[0].len(), "text ".len() + KEPT_BYTES);
    }
}
