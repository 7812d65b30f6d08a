//! Bodies with one message a line.
//!
//! ```text
//!   {"level":"info","message":"a"}\n     an object: a message as in a packet
//!   "b"\n                                any other value: {"message":"b"}
//!   \n                                   nothing
//! ```

use std::borrow::Cow;

use super::ids::Ids;
use super::json;
use super::packet::{check_emitter_id, Draft, Packet, PacketLimits, BYTE_ORDER_MARK};
use super::refusal::PacketError;
use super::TIMESTAMP_BYTES;

/// Reads a body of lines. `emitter_id` comes from header `X-Emitter-ID` or parameter `emitterId`.
///
/// # Errors
/// As for [`super::parse_packet`], and 400 if nobody says who the emitter is.
pub fn parse_ndjson<'a>(
    body: &'a [u8],
    emitter_id: Option<&str>,
    now: &[u8; TIMESTAMP_BYTES],
    ids: &mut impl Ids,
    limits: &PacketLimits,
) -> Result<Packet<'a>, PacketError> {
    let Some(emitter_id) = emitter_id else {
        let detail = "emitterId is missing: lines need header X-Emitter-ID or ?emitterId=";
        return Err(PacketError::emitter_id(detail));
    };
    check_emitter_id(emitter_id, None)?;
    let mut draft = Draft::new(body, ids, limits)?;
    draft.is_lines = true;
    for line in draft.text.split('\n') {
        // Files that were put together have a mark in each.
        let line = line.trim_start_matches(BYTE_ORDER_MARK).trim_ascii();
        match line.as_bytes().first() {
            None => {}
            Some(b'{') => draft.read_message(line)?,
            Some(_) => draft.read_value(line)?,
        }
    }
    let mut emitter = Vec::with_capacity(emitter_id.len() + 2);
    json::write_string(&mut emitter, emitter_id);
    let emitter = String::from_utf8(emitter).unwrap_or_default();
    draft.finish(Cow::Owned(emitter), Cow::Owned(emitter_id.to_string()), now)
}
