//! Frames that carry a number and can be checked byte by byte.

use crate::wire::FRAME_HEADER_BYTES;

/// Bytes of the number at the start of the payload.
const NUMBER_BYTES: usize = 8;

/// A frame that carries `id`; its payload has at least 8 bytes.
pub fn numbered(id: u64, payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_numbered(&mut out, id, payload_bytes);
    out
}

/// Appends one.
pub fn put_numbered(out: &mut Vec<u8>, id: u64, payload_bytes: usize) {
    assert!(payload_bytes >= NUMBER_BYTES, "an id has 8 bytes");
    let length = u32::try_from(FRAME_HEADER_BYTES + payload_bytes).expect("small");
    out.extend_from_slice(&length.to_be_bytes());
    out.push(severity_of(id));
    out.extend_from_slice(&id.to_be_bytes());
    out.resize(out.len() + payload_bytes - NUMBER_BYTES, b'.');
}

/// The id in a numbered frame whose every byte is as it was sent.
pub fn check_numbered(frame: &[u8]) -> u64 {
    let id = number_of(frame).expect("8 bytes");
    assert_eq!(frame[4], severity_of(id), "severity of message {id}");
    let filler = &frame[FRAME_HEADER_BYTES + NUMBER_BYTES..];
    assert!(filler.iter().all(|b| *b == b'.'), "payload of message {id}");
    id
}

/// The number at the start of a frame's payload, if it has room for one.
pub fn number_of(frame: &[u8]) -> Option<u64> {
    let number = frame.get(FRAME_HEADER_BYTES..)?.first_chunk()?;
    Some(u64::from_be_bytes(*number))
}

fn severity_of(id: u64) -> u8 {
    (id % 251) as u8
}
