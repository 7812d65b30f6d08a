//! Bytes of a POST: single messages joined to a packet, head and body.

use std::io::Write;

use crate::hops::HEADER as HOPS_HEADER;
use crate::HttpTarget;
use weir_config::Joined;
use weir_http as http;
use weir_http::{Ids, PacketBuilder, SeededIds};
use weir_protocol::record::Record;
use weir_protocol::Form;

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
        let has_room = match record.form() {
            Form::Json => builder.push_piece(frame),
            Form::Raw => builder.push(frame, ids.next(), now),
        };
        if !has_room {
            break;
        }
        rest = after;
    }
    let packet = builder.finish(ids.next(), now)?;
    Some((packet, rest.len()))
}

/// What a POST says beside its target.
pub(super) struct Envelope<'a> {
    /// This distributor's name.
    pub(super) via: &'a str,
    /// Distributors that the packet came through before.
    pub(super) hops: u8,
    pub(super) packet: &'a str,
    pub(super) emitter: &'a str,
}

pub(super) fn write_request(
    out: &mut Vec<u8>,
    target: &HttpTarget,
    envelope: &Envelope,
    body: &[u8],
) {
    let HttpTarget { host, path, .. } = target;
    let Envelope {
        via,
        hops,
        packet,
        emitter,
    } = envelope;
    let (hops, bytes) = (hops.saturating_add(1), body.len());
    // Into memory, which does not fail.
    let _ = write!(
        out,
        "POST {path}/logs HTTP/1.1\r\nHost: {host}\r\nVia: 1.1 {via}\r\n{HOPS_HEADER}: {hops}\r\nContent-Type: application/json\r\nX-Packet-ID: {packet}\r\nX-Emitter-ID: {emitter}\r\nContent-Length: {bytes}\r\n\r\n"
    );
    out.extend_from_slice(body);
}
