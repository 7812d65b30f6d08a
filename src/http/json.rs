//! Small pieces of JSON: strings written and read, and where to put bytes.

use std::borrow::Cow;

/// Where rendered bytes go: behind a vector, or nowhere but counted.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes would be written.
#[derive(Default)]
pub(super) struct Count(pub usize);

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Writes `text` as a JSON string, RFC 8259 section 7.
pub(super) fn write_string(sink: &mut impl Sink, text: &str) {
    sink.put(b"\"");
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        sink.put(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => sink.put(b"\\\""),
            b'\\' => sink.put(b"\\\\"),
            b'\n' => sink.put(b"\\n"),
            b'\r' => sink.put(b"\\r"),
            b'\t' => sink.put(b"\\t"),
            _ => {
                let hex = b"0123456789abcdef";
                let (high, low) = (hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]);
                sink.put(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    sink.put(&bytes[plain..]);
    sink.put(b"\"");
}

/// What a JSON string says, given with its quotes. `None`: a surrogate stands alone.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    if raw.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    Some(Cow::Borrowed(inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_round_trip(said in ".*") {
            let (mut out, mut count) = (Vec::new(), Count::default());
            write_string(&mut out, &said);
            write_string(&mut count, &said);
            prop_assert_eq!(out.len(), count.0);
            let out = String::from_utf8(out).expect("UTF-8");
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), said.clone());
            prop_assert_eq!(text(&out).expect("no surrogates"), said);
        }
    }
}
