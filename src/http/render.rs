//! A packet as frames for a TCP analyzer, or as the record that a lane keeps for an HTTP analyzer.

use super::ids::{uuid_text, UUID_BYTES};
use super::json::{Count, Sink};
use super::packet::{Message, Packet, RECEIVED};
use super::respond::number;
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::record::{self, RECORD_HEADER_BYTES};

const HEADER_BYTES: usize = FRAME_HEADER_BYTES as usize;

impl Packet<'_> {
    /// Appends one frame for each message: its severity, its JSON.
    pub fn write_frames(&self, out: &mut Vec<u8>) {
        for message in &self.messages {
            let start = out.len();
            out.extend_from_slice(&[0; HEADER_BYTES]);
            self.message(message, out);
            let header = record::frame_header(out.len() - start, message.severity);
            out[start..start + HEADER_BYTES].copy_from_slice(&header);
        }
    }

    /// Bytes that [`Packet::write_frames`] appends.
    pub fn frames_bytes(&self) -> usize {
        (0..self.messages.len())
            .map(|index| self.frame_bytes(index))
            .sum()
    }

    /// Neither its frames nor its record take more bytes than this.
    pub fn bytes_max(&self) -> usize {
        self.frames_bytes() + self.messages.len() + self.envelope_bytes_max()
    }

    /// What a record has beside its messages takes no more bytes than this.
    pub fn envelope_bytes_max(&self) -> usize {
        // Its own fields, their names and quotes.
        const ENVELOPE_BYTES: usize = 512;
        let received = self.received.iter().flatten().map(|value| value.len());
        let others = self.others.iter().map(|run| run.len() + 1);
        ENVELOPE_BYTES
            + self.emitter.len()
            + self.emitter_id.len()
            + self.metadata.map_or(0, str::len)
            + received.chain(others).sum::<usize>()
    }

    /// Bytes of one message as a frame.
    pub(super) fn frame_bytes(&self, index: usize) -> usize {
        let mut count = Count(HEADER_BYTES);
        self.message(&self.messages[index], &mut count);
        count.0
    }

    /// Appends the record of this packet, see [`record::Record`]. Its body is what will be POSTed. A packet
    /// without messages has none and appends nothing.
    pub fn write_record(&self, out: &mut Vec<u8>) {
        self.write_record_of(&self.id(), self.messages.iter(), out);
    }

    /// The same of some of its messages: those whose numbers `is_in` names, 0 being the first. Of all: the whole
    /// packet. Of some: a packet with an id of its own, which differs for parts that begin with different messages.
    pub fn write_part(&self, is_in: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
        let numbers = 0..self.messages.len();
        let Some(first) = numbers.clone().find(|number| is_in(*number)) else {
            return;
        };
        if numbers.clone().all(&is_in) {
            return self.write_record(out);
        }
        let id = record::part_id(&self.id(), first);
        let part = numbers.filter(|number| is_in(*number));
        self.write_record_of(&id, part.map(|number| &self.messages[number]), out);
    }

    fn write_record_of<'m>(
        &self,
        id: &[u8; UUID_BYTES],
        messages: impl Iterator<Item = &'m Message<'m>> + Clone,
        out: &mut Vec<u8>,
    ) {
        let count = messages.clone().count();
        if count == 0 {
            return;
        }
        let start = out.len();
        let emitter_id = self.emitter_id.as_bytes();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        out.extend_from_slice(id);
        out.extend_from_slice(emitter_id);
        let mut header_at = out.len();
        out.resize(header_at + HEADER_BYTES * count, 0);
        let body = out.len();
        self.opening(id, out);
        let first = out.len();
        for message in messages {
            let message_at = out.len();
            self.message(message, out);
            let frame_bytes = HEADER_BYTES + out.len() - message_at;
            let header = record::frame_header(frame_bytes, message.severity);
            out[header_at..header_at + HEADER_BYTES].copy_from_slice(&header);
            header_at += HEADER_BYTES;
            out.push(b',');
        }
        out.pop();
        self.closing(count, out);
        let header = record::Header {
            total: out.len() - start,
            messages: count,
            hops: self.hops,
            packet_id: id.len(),
            emitter_id: emitter_id.len(),
            first_message: first - body,
        };
        out[start..start + RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
    }

    fn opening(&self, id: &[u8; UUID_BYTES], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\",\"emitterId\":");
        out.extend_from_slice(self.emitter.as_bytes());
        out.extend_from_slice(b",\"timestamp\":\"");
        out.extend_from_slice(&self.now);
        out.extend_from_slice(b"\",\"messages\":[");
    }

    fn closing(&self, count: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"],\"metadata\":");
        let metadata = self.metadata.filter(|value| *value != "null");
        out.extend_from_slice(metadata.unwrap_or("{}").as_bytes());
        out.extend_from_slice(b",\"size\":");
        number(out, count);
        if self.received.iter().any(Option::is_some) {
            out.extend_from_slice(b",\"received\":{");
            for (name, value) in RECEIVED.iter().zip(self.received) {
                if let Some(value) = value {
                    out.push(b'"');
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b"\":");
                    out.extend_from_slice(value.as_bytes());
                    out.push(b',');
                }
            }
            out.pop();
            out.push(b'}');
        }
        for run in &self.others {
            out.push(b',');
            out.extend_from_slice(run.as_bytes());
        }
        out.push(b'}');
    }

    #[inline]
    fn message(&self, message: &Message<'_>, sink: &mut impl Sink) {
        match message.id {
            Some(id) => {
                sink.put(b"{\"id\":");
                sink.put(id.as_bytes());
                sink.put(b",\"timestamp\":");
            }
            None => {
                sink.put(b"{\"id\":\"");
                sink.put(&uuid_text(message.new_id));
                sink.put(b"\",\"timestamp\":");
            }
        }
        match message.timestamp {
            Some(timestamp) => sink.put(timestamp.as_bytes()),
            None => {
                sink.put(b"\"");
                sink.put(&self.now);
                sink.put(b"\"");
            }
        }
        if let Some(level) = message.level {
            sink.put(b",\"level\":");
            sink.put(level.as_bytes());
        }
        if let Some(said) = message.message {
            sink.put(b",\"message\":");
            sink.put(said.as_bytes());
        }
        sink.put(b",\"source\":");
        sink.put(message.source.unwrap_or(&self.emitter).as_bytes());
        sink.put(b",\"metadata\":");
        sink.put(message.metadata.unwrap_or("{}").as_bytes());
        for run in &self.message_others[message.others.clone()] {
            sink.put(b",");
            sink.put(run.as_bytes());
        }
        sink.put(b"}");
    }
}
