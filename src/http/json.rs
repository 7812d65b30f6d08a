//! Small pieces of JSON: strings written and read, depth, and where to put bytes.

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

/// Where a value is nested deeper than `depth_max`, as an offset into it. Counts brackets, so that no
/// depth costs more than the bytes it takes. `raw` is valid JSON.
pub(super) fn too_deep(raw: &str, depth_max: usize) -> Option<usize> {
    // A bracket that opens has one that closes.
    if raw.len() < 2 * (depth_max + 1) {
        return None;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in raw.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    return Some(at);
                }
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_is_exact() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(too_deep(&nested(5), 5), None);
        assert_eq!(too_deep(&nested(6), 5), Some(5));
        assert_eq!(too_deep(&nested(1_000_000), 64), Some(64));
        assert_eq!(too_deep(r#"["[[[[[[\"[[[[[[",{},{},{}]"#, 2), None);
        assert_eq!(too_deep(r#"{"a":"\\","b":[[0]]}"#, 2), Some(15));
        assert_eq!(too_deep("1", 0), None);
        assert_eq!(too_deep("[]", 0), Some(0));
    }

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
