//! A lane read back: of a dead one, message by message, what has not been ACKed; of a living one, single records.
//!
//! ```text
//! segments   [ acked | un-ACKed ... ]
//!                    ^ cursor: start_cursor, then read_message or skip_message, one after the other
//! ```

use super::{index_of, Cursor, Lane, LaneUnit, Layout, HEADER_BYTES, RECORD_HEAD_BYTES};
use crate::origins::Origin;
use crate::{BufferId, BufferPool, LinkEpoch, Memory, Span};
use weir_protocol::frame;
use weir_protocol::native::{BatchHeader, BATCH_HEADER_BYTES, ORIGIN_BYTES};
use weir_protocol::record::{record_messages, Record};

impl Lane {
    /// Copies the oldest un-ACKed message of a dead lane behind `out`, or its oldest record. `None`:
    /// the lane is empty.
    pub(crate) fn unacked_front<M: Memory>(
        &mut self,
        memory: &mut M,
        out: &mut Vec<u8>,
    ) -> Option<Origin> {
        if self.acked == self.appended {
            return None;
        }
        self.close_tail(memory);
        if !self.cursor.started {
            self.start_cursor(memory);
        }
        let mut place = self.cursor;
        let origin = self.read_message(memory, &mut place, out);
        Some(origin)
    }

    /// What `unacked_front` copied now lives elsewhere; how many messages it is.
    pub(crate) fn pop_unacked<M: Memory>(&mut self, memory: &M, pool: &mut BufferPool) -> u64 {
        assert!(self.acked < self.appended);
        let mut place = self.cursor;
        let before = place.sequence;
        self.skip_message(memory, &mut place);
        let messages = place.sequence - before;
        self.acked += messages;
        let segment = &self.segments[index_of(place.segment, self.first_segment)];
        // Where a segment ends, or a split message, the next message is looked for anew.
        place.started = place.offset < segment.filled;
        self.cursor = place;
        self.reclaim(pool);
        messages
    }

    /// Copies of the records that messages `first` and so many of a lane of records are in; a part of a
    /// record becomes a record of its own. All of them are in the lane, ACKed or not.
    pub(crate) fn units_of<M: Memory>(
        &self,
        memory: &M,
        first: u64,
        messages: u64,
    ) -> Vec<LaneUnit> {
        debug_assert_eq!(self.setup.layout, Layout::Records);
        let end = first + messages;
        let mut units = Vec::new();
        let mut next = first;
        while next < end {
            let mut place = self.place_of(next);
            while place.sequence + self.messages_at(memory, &place) <= next {
                self.skip_message(memory, &mut place);
            }
            let (start, count) = (place.sequence, self.messages_at(memory, &place));
            let mut bytes = Vec::new();
            let mut origin = self.read_message(memory, &mut place, &mut bytes);
            let last = end.min(start + count);
            if (start, start + count) != (next, last) {
                let (record, _) = Record::parse(&bytes).expect("a record that this lane keeps");
                let index = |message: u64| usize::try_from(message - start).unwrap_or(usize::MAX);
                let mut part = Vec::new();
                record.write_part(index(next)..index(last), &mut part);
                bytes = part;
                origin.sequence += next - start;
            }
            units.push(LaneUnit {
                first: next,
                messages: last - next,
                origin,
                bytes,
            });
            next = last;
        }
        units
    }

    /// Finds the first un-ACKed message. Segments before it may still be held by the kernel.
    fn start_cursor<M: Memory>(&mut self, memory: &M) {
        let mut place = self.place_of(self.acked + 1);
        while place.sequence <= self.acked {
            self.skip_message(memory, &mut place);
        }
        self.cursor = place;
    }

    /// Where the segment begins that a message which is in the lane starts in.
    fn place_of(&self, message: u64) -> Cursor {
        let mut segments = self.segments.iter().enumerate();
        let (index, segment) = segments
            .find(|(_, segment)| segment.through >= message)
            .expect("a message that is kept is in some segment");
        Cursor {
            segment: self.first_segment + index as u64,
            offset: segment.start,
            sequence: segment.first,
            batch_left: 0,
            origin: None,
            started: true,
        }
    }

    /// Moves past a batch header, if one is next.
    fn enter_batch<M: Memory>(&self, memory: &M, place: &mut Cursor) {
        if self.setup.layout != Layout::Batches || place.batch_left > 0 {
            return;
        }
        let span = Span {
            buffer: self.buffer_at(place),
            offset: place.offset,
            len: HEADER_BYTES,
        };
        let header = memory
            .read(span)
            .first_chunk::<BATCH_HEADER_BYTES>()
            .and_then(|bytes| BatchHeader::decode(bytes).ok())
            .expect("a batch header that this lane wrote");
        assert_eq!(
            header.first_sequence, place.sequence,
            "batches follow each other"
        );
        place.offset += HEADER_BYTES;
        place.batch_left = header.count;
        place.origin = header
            .redelivered
            .then_some((header.origin_shard, LinkEpoch(header.origin_epoch)));
    }

    fn skip_message<M: Memory>(&self, memory: &M, place: &mut Cursor) {
        self.enter_batch(memory, place);
        if place.origin.is_some() {
            place.offset += ORIGIN_BYTES as u32;
        }
        let messages = self.messages_at(memory, place);
        place.offset = place.offset.saturating_add(self.frame_len(memory, place));
        place.sequence += messages;
        place.batch_left = place.batch_left.saturating_sub(1);
    }

    fn read_message<M: Memory>(&self, memory: &M, place: &mut Cursor, out: &mut Vec<u8>) -> Origin {
        self.enter_batch(memory, place);
        let here = Origin {
            shard: self.setup.shard,
            epoch: self.setup.epoch,
            sequence: place.sequence,
        };
        let mut origin = self.origins.of(place.sequence).unwrap_or(here);
        let buffer = self.buffer_at(place);
        if let Some((shard, epoch)) = place.origin {
            let span = Span {
                buffer,
                offset: place.offset,
                len: ORIGIN_BYTES as u32,
            };
            let word = memory
                .read(span)
                .first_chunk::<8>()
                .expect("a span of eight bytes");
            origin = Origin {
                shard,
                epoch,
                sequence: u64::from_be_bytes(*word),
            };
            place.offset += ORIGIN_BYTES as u32;
        }
        let mut left = self.frame_len(memory, place);
        let mut offset = place.offset;
        let index = index_of(place.segment, self.first_segment);
        for segment in self.segments.range(index..) {
            let len = left.min(segment.filled - offset);
            out.extend_from_slice(memory.read(Span {
                buffer: segment.buffer,
                offset,
                len,
            }));
            left -= len;
            offset = 0;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "a message ends inside its lane");
        origin
    }

    /// Length of the frame at a place. Its length word is never split: split frames start at most
    /// an overhead into a fresh buffer.
    fn frame_len<M: Memory>(&self, memory: &M, place: &Cursor) -> u32 {
        let span = Span {
            buffer: self.buffer_at(place),
            offset: place.offset,
            len: 4,
        };
        match frame::peek(memory.read(span), u32::MAX) {
            Ok(Some(len)) => len as u32, // came from a u32
            _ => unreachable!("only whole, valid frames are appended"),
        }
    }

    /// Messages of what starts at a place.
    fn messages_at<M: Memory>(&self, memory: &M, place: &Cursor) -> u64 {
        if self.setup.layout != Layout::Records {
            return 1;
        }
        let span = Span {
            buffer: self.buffer_at(place),
            offset: place.offset,
            len: RECORD_HEAD_BYTES,
        };
        record_messages(memory.read(span))
    }

    fn buffer_at(&self, place: &Cursor) -> BufferId {
        self.segments[index_of(place.segment, self.first_segment)].buffer
    }
}
