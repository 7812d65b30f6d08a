//! Bytes of a POST: single messages joined to a packet, head and body.

use std::io::Write;

use crate::hops::HEADER as HOPS_HEADER;
use crate::HttpTarget;
use weir_config::Joined;
use weir_http as http;
use weir_http::{Ids, PacketBuilder, SeededIds};
use weir_protocol::described;
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::record::{split_entry, Record};
use weir_protocol::Form;
use weir_source::render;

/// An entry as JSON has at most so many bytes: what is longer is cut. Six times the largest frame of the defaults.
const ENTRY_JSON_BYTES_MAX: usize = 6 << 20;

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
        let described = record.is_described().then(|| described::read(frame));
        let has_room = match record.form() {
            _ if described.is_some() => match described.flatten() {
                Some((Some(about), severity, message)) => {
                    builder.push_described(&about, severity, message, ids.next(), now)
                }
                _ => builder.push(frame, ids.next(), now),
            },
            // What others call JSON may be none, and would spoil the packet for all of its messages.
            Form::Json if payload(frame).is_some_and(http::is_piece) => builder.push_piece(frame),
            Form::Entry => builder.push_piece(&as_json(frame)?),
            _ => builder.push(frame, ids.next(), now),
        };
        if !has_room {
            break;
        }
        rest = after;
    }
    let packet = builder.finish(ids.next(), now)?;
    Some((packet, rest.len()))
}

/// The frame of an entry of Fluent Forward as one of JSON.
pub(super) fn as_json(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = frame.split_at_checked(FRAME_HEADER_BYTES as usize)?;
    let (tag, entry) = split_entry(payload)?;
    let mut json = header.to_vec();
    let mut context = render::Context::default();
    render::entry(&mut context, tag, entry, ENTRY_JSON_BYTES_MAX, &mut json);
    Some(json)
}

fn payload(frame: &[u8]) -> Option<&[u8]> {
    frame.get(FRAME_HEADER_BYTES as usize..)
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

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::record::{frame_header, wrap_frame};

    #[test]
    fn a_payload_that_only_claims_to_be_json_goes_as_text() {
        let mut records = Vec::new();
        for payload in [r#"{"a":1}"#, r#"{"b":"#, r#"{"c":1}},{"d":2}"#] {
            let header = frame_header(5 + payload.len(), 1);
            let frame = [&header[..], payload.as_bytes()].concat();
            wrap_frame(Form::Json, &frame, &mut records);
        }
        let limits = Joined {
            bytes_max: 1 << 20,
            messages_max: 100,
        };
        let now = http::iso8601(0);
        let joined = join_frames(&records, limits, &mut SeededIds::from_u64(1), &now);
        let (packet, left) = joined.expect("a packet");
        let body = String::from_utf8(packet.body).expect("text");
        assert_eq!((packet.messages, left), (3, 0));
        assert!(body.contains(r#":[{"a":1},{"id":"#), "{body}");
        let text = |text: &str| format!(r#""level":"error","message":"{text}""#);
        assert!(body.contains(&text(r#"{\"b\":"#)), "{body}");
        assert!(body.contains(&text(r#"{\"c\":1}},{\"d\":2}"#)), "{body}");
    }
}
