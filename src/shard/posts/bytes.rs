//! Bytes of a POST: single messages joined to a packet, head and body.

use std::io::Write;

use crate::http::{self, Ids, PacketBuilder, Record, SeededIds};
use crate::shard::config::Joined;
use crate::shard::HttpTarget;

/// As many single messages as fit, as one packet; and the bytes that are left.
pub(super) fn join_frames(
    records: &[u8],
    limits: Joined,
    ids: &mut SeededIds,
    now: &[u8; http::TIMESTAMP_BYTES],
) -> Option<(http::BuiltPacket, usize)> {
    let mut builder = PacketBuilder::new(limits.bytes_max, limits.messages_max);
    let mut rest = records;
    while let Some((record, after)) = Record::parse(rest) {
        let Some(frame) = record.frame() else {
            break;
        };
        if !builder.push(frame, ids.next(), now) {
            break;
        }
        rest = after;
    }
    let packet = builder.finish(ids.next(), now)?;
    Some((packet, rest.len()))
}

pub(super) fn write_request(
    out: &mut Vec<u8>,
    target: &HttpTarget,
    packet: &str,
    emitter: &str,
    body: &[u8],
) {
    let HttpTarget { host, path, .. } = target;
    // Into memory, which does not fail.
    let _ = write!(
        out,
        "POST {path}/logs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nX-Packet-ID: {packet}\r\nX-Emitter-ID: {emitter}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(body);
}
