//! Lumberjack v2, as Beats send it: windows whose sequence numbers begin at 1.
//!
//! ```text
//! window   32 57 <u32 count>
//! event    32 4a <u32 sequence> <u32 bytes> JSON
//! ack      32 41 <u32 sequence>
//! ```

/// A window's head.
pub const WINDOW_BYTES: usize = 6;
/// Before an event's JSON.
pub const EVENT_HEAD_BYTES: usize = 10;
/// An ACK.
pub const ACK_BYTES: usize = 6;

/// Appends the head of a window of so many events.
pub fn put_window(out: &mut Vec<u8>, events: u32) {
    out.extend_from_slice(b"2W");
    out.extend_from_slice(&events.to_be_bytes());
}

/// Appends an event.
pub fn put_event(out: &mut Vec<u8>, sequence: u32, json: &str) {
    out.extend_from_slice(b"2J");
    out.extend_from_slice(&sequence.to_be_bytes());
    let bytes = u32::try_from(json.len()).expect("small");
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(json.as_bytes());
}

/// A whole window of events with these messages.
pub fn window<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> Vec<u8> {
    let mut out = Vec::new();
    put_window(&mut out, u32::try_from(texts.len()).expect("small"));
    for (sequence, text) in (1..).zip(texts) {
        put_event(&mut out, sequence, &format!("{{\"message\":\"{text}\"}}"));
    }
    out
}

/// The sequence number of the ACK at the start of `bytes`; `None` while part of it is to come.
///
/// # Errors
/// It is no ACK.
pub fn read_ack(bytes: &[u8]) -> Result<Option<u32>, String> {
    let begin = bytes.len().min(2);
    if bytes[..begin] != b"2A"[..begin] {
        return Err(format!("no ACK: {:02x?}", &bytes[..bytes.len().min(16)]));
    }
    let number = bytes.get(2..ACK_BYTES);
    Ok(number.map(|number| u32::from_be_bytes(number.try_into().expect("4 bytes"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_as_the_protocol_says() {
        let bytes = window(["a", "b"].into_iter());
        assert_eq!(
            bytes,
            b"2W\0\0\0\x022J\0\0\0\x01\0\0\0\x0f{\"message\":\"a\"}2J\0\0\0\x02\0\0\0\x0f{\"message\":\"b\"}"
        );
        assert_eq!(read_ack(b"2A\0\0\0"), Ok(None));
        assert_eq!(read_ack(b"2A\0\0\0\x02"), Ok(Some(2)));
        assert!(read_ack(b"2W").is_err());
    }
}
