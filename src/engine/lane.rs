//! A lane: one shard's queue towards one analyzer. Messages are copied once, to its tail, and stay
//! where they are until the ACK.
//!
//! ```text
//! segments   | buffer 4             | buffer 9             | buffer 2        .
//!            [ acked | in flight              | queued        ^ tail: append
//!                    ^ acked                  ^ submitted     ^ appended
//! ```
//!
//! A segment is one batch buffer. It goes back to the pool when all its messages are ACKed and the
//! kernel has let go of it. A message larger than a buffer starts a fresh segment and runs on over
//! the next ones; no other message is split.
//!
//! On native lanes the bytes include batch headers (`docs/PROTOCOL.md`, 4); the header of the batch
//! being filled is written when the batch is closed, at the latest when it is sent.
//!
//! On lanes towards HTTP analyzers the bytes are records (`src/http/record.rs`): one message, or the
//! messages of one packet, which count one each and move together.

use std::collections::VecDeque;

use super::ledger::Ledger;
use super::origins::{Origin, Origins};
use super::{room, BufferId, BufferPool, Memory, Span};
use weir_protocol::native::{BatchHeader, BATCH_HEADER_BYTES, ORIGIN_BYTES};
use weir_protocol::record::{wrapped_header, RECORD_COUNT_BYTES, WRAPPED_HEADER_BYTES};
use weir_protocol::Form;

mod parts;
mod read;

use parts::{Cursor, OpenBatch, Segment};
pub(super) use parts::{LaneSetup, LaneUnit};
pub(super) use weir_sink::Layout;

const HEADER_BYTES: u32 = BATCH_HEADER_BYTES as u32;
const RECORD_HEAD_BYTES: u32 = RECORD_COUNT_BYTES as u32;

/// A range to put on the wire, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The bytes.
    pub span: Span,
    /// Messages that end in it.
    pub messages: u64,
    /// The last message goes on in the next range, which must follow directly.
    pub continues: bool,
    /// Which segment to release when the kernel lets go, see `Lane::released`.
    pub segment: u64,
}

pub(super) struct Lane {
    // What the copy of every message touches comes first.
    at: u32,
    /// End of the room for plain appends; 0 sends the next append the long way round.
    limit: u32,
    /// The same for records.
    record_limit: u32,
    buffer: BufferId,
    appended: u64,
    /// Appending this message makes the lane full.
    sequence_limit: u64,

    setup: LaneSetup,
    segments: VecDeque<Segment>,
    /// Number of `segments[0]`, counted from the lane's start.
    first_segment: u64,
    /// Number of the segment that `transmit` reads.
    transmit_segment: u64,
    submitted: u64,
    acked: u64,
    batch: Option<OpenBatch>,
    cursor: Cursor,
    ledger: Ledger,
    origins: Origins,
}

impl Lane {
    pub(super) fn new(setup: LaneSetup) -> Lane {
        Lane {
            at: 0,
            limit: 0,
            record_limit: 0,
            buffer: BufferId(0),
            appended: 0,
            sequence_limit: u64::MAX,
            setup,
            segments: VecDeque::new(),
            first_segment: 0,
            transmit_segment: 0,
            submitted: 0,
            acked: 0,
            batch: None,
            cursor: Cursor::default(),
            ledger: Ledger::new(),
            origins: Origins::default(),
        }
    }

    /// The common case: copies a frame, which may lie in two parts, behind the tail. False: take [`Lane::append`].
    #[inline(always)]
    pub(super) fn append_here<M: Memory>(
        &mut self,
        memory: &mut M,
        header: &[u8],
        bytes: &[u8],
    ) -> bool {
        let len = header.len() + bytes.len();
        if len > (self.limit.saturating_sub(self.at)) as usize
            || self.appended + 1 >= self.sequence_limit
        {
            return false;
        }
        if header.is_empty() {
            memory.write(self.buffer, self.at, bytes);
        } else {
            let room = memory.room(self.buffer, self.at, len);
            let (header_at, bytes_at) = room.split_at_mut(header.len());
            header_at.copy_from_slice(header);
            bytes_at.copy_from_slice(bytes);
        }
        self.at += len as u32; // frames are at most u32::MAX long
        self.appended += 1;
        memory.prefetch(self.buffer, self.at);
        true
    }

    /// The same of a frame that is made where it will lie, in `room` bytes: `make` says how many it takes. None: it made
    /// none, or there is no room; take [`Lane::append`].
    #[inline(always)]
    pub(super) fn append_made_here<M: Memory>(
        &mut self,
        memory: &mut M,
        room: usize,
        make: impl FnOnce(&mut [u8]) -> Option<u32>,
    ) -> Option<u32> {
        if room > (self.limit.saturating_sub(self.at)) as usize
            || self.appended + 1 >= self.sequence_limit
        {
            return None;
        }
        let len = make(memory.room(self.buffer, self.at, room))?;
        self.at += len;
        self.appended += 1;
        memory.prefetch(self.buffer, self.at);
        Some(len)
    }

    /// The same on a lane of records, of a frame that becomes one.
    #[inline(always)]
    pub(super) fn append_wrapped_here<M: Memory>(
        &mut self,
        memory: &mut M,
        form: Form,
        header: &[u8],
        bytes: &[u8],
    ) -> bool {
        let frame_bytes = header.len() + bytes.len();
        let len = WRAPPED_HEADER_BYTES + frame_bytes;
        if len > (self.record_limit.saturating_sub(self.at)) as usize
            || self.appended + 1 >= self.sequence_limit
        {
            return false;
        }
        let room = memory.room(self.buffer, self.at, len);
        let (record_at, frame_at) = room.split_at_mut(WRAPPED_HEADER_BYTES);
        record_at.copy_from_slice(&wrapped_header(form, frame_bytes));
        let (header_at, bytes_at) = frame_at.split_at_mut(header.len());
        if !header.is_empty() {
            header_at.copy_from_slice(header);
        }
        bytes_at.copy_from_slice(bytes);
        self.at += len as u32; // of a buffer
        self.appended += 1;
        memory.prefetch(self.buffer, self.at);
        true
    }

    /// The same of a record in parts.
    #[inline]
    pub(super) fn append_record_here<M: Memory>(
        &mut self,
        memory: &mut M,
        parts: [&[u8]; 4],
    ) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > (self.record_limit.saturating_sub(self.at)) as usize
            || self.appended + 1 >= self.sequence_limit
        {
            return false;
        }
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            memory.write(self.buffer, self.at, part);
            self.at += part.len() as u32; // of a buffer
        }
        self.appended += 1;
        memory.prefetch(self.buffer, self.at);
        true
    }

    /// Copies a frame behind the tail, in a new batch or buffer where need be.
    ///
    /// The caller has checked that the pool holds the buffers that `room.rs` says.
    pub(super) fn append<M: Memory>(
        &mut self,
        memory: &mut M,
        pool: &mut BufferPool,
        frame: &[u8],
        origin: Option<Origin>,
    ) {
        self.append_unit(memory, pool, frame, 1, origin);
    }

    /// The same for a record of `messages` messages, on lanes that have such.
    pub(super) fn append_unit<M: Memory>(
        &mut self,
        memory: &mut M,
        pool: &mut BufferPool,
        frame: &[u8],
        messages: u64,
        origin: Option<Origin>,
    ) {
        let native = self.setup.layout == Layout::Batches;
        let origin = origin.filter(|_| native);
        let tag = origin.map(|origin| (origin.shard, origin.epoch));
        if self.batch.is_some_and(|batch| batch.origin != tag) {
            self.close_batch(memory);
        }
        let overhead = self.overhead(tag.is_some());
        let buffer_bytes = pool.buffer_bytes();
        let fits = |room: u32| frame.len() + overhead as usize <= room as usize;
        if self.segments.is_empty() || !fits(buffer_bytes - self.at) {
            self.close_batch(memory);
            self.open_segment(pool);
        }
        if native && self.batch.is_none() {
            self.batch = Some(OpenBatch {
                header_at: self.at,
                first: self.appended + 1,
                origin: tag,
            });
            self.at += HEADER_BYTES;
        }
        if let Some(origin) = origin {
            memory.write(self.buffer, self.at, &origin.sequence.to_be_bytes());
            self.at += ORIGIN_BYTES as u32;
        }
        if frame.len() > (buffer_bytes - self.at) as usize {
            self.append_split(memory, pool, frame, messages, origin.is_some());
        } else {
            memory.write(self.buffer, self.at, frame);
            self.at += frame.len() as u32; // fits the buffer
        }
        self.appended += messages;
        // The short way is for plain frames behind an open batch. Re-routed messages carry an origin
        // each, and behind a split message a batch must be opened first; descriptions are made only here: these come
        // this way.
        let short = match self.setup.layout {
            _ if self.setup.described => false,
            Layout::Frames => true,
            Layout::Batches => self.batch.is_some() && tag.is_none(),
            Layout::Records => false,
        };
        self.limit = if short { buffer_bytes } else { 0 };
        self.record_limit = match self.setup.layout {
            Layout::Records if !self.setup.described => buffer_bytes,
            _ => 0,
        };
        self.sync_tail();
    }

    /// What is appended now opens a batch and reports that there is something to send.
    fn close_tail<M: Memory>(&mut self, memory: &mut M) {
        self.close_batch(memory);
        (self.limit, self.record_limit) = (0, 0);
        self.sync_tail();
    }

    /// The unit of `messages` messages appended last was first delivered as `origin` and the numbers
    /// behind it, and the bytes do not say so.
    pub(super) fn keep_origin(&mut self, messages: u64, origin: Origin) {
        self.origins.keep(self.appended + 1 - messages, origin);
    }

    /// Where the message was delivered first: a unit's first message, or a single one.
    pub(super) fn origin_of(&self, message: u64) -> Origin {
        let here = Origin {
            shard: self.setup.shard,
            epoch: self.setup.epoch,
            sequence: message,
        };
        self.origins.of(message).unwrap_or(here)
    }

    /// Forgets the origins of messages that are gone; how many.
    pub(super) fn forget_origins(&mut self) -> usize {
        self.origins.forget(self.acked)
    }

    pub(super) fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Buffers that appending a re-routed frame of `len` bytes here can take at most.
    pub(super) fn buffers_needed(&self, len: usize, buffer_bytes: u32) -> usize {
        let room = match self.segments.is_empty() {
            true => 0,
            false => buffer_bytes - self.at,
        };
        if len + BATCH_HEADER_BYTES + ORIGIN_BYTES <= room as usize {
            return 0;
        }
        room::for_message(len, buffer_bytes)
    }

    /// The next range to send, if there is one.
    pub(super) fn transmit<M: Memory>(
        &mut self,
        memory: &mut M,
        now_ns: u64,
        hold: bool,
    ) -> Option<Transmit> {
        if self.segments.is_empty() {
            return None;
        }
        self.close_tail(memory);
        loop {
            let index = index_of(self.transmit_segment, self.first_segment);
            let last = index + 1 == self.segments.len();
            let segment = self.segments.get_mut(index)?;
            if segment.transmitted == segment.filled {
                if last {
                    return None;
                }
                self.transmit_segment += 1;
                continue;
            }
            let span = Span {
                buffer: segment.buffer,
                offset: segment.transmitted,
                len: segment.filled - segment.transmitted,
            };
            segment.transmitted = segment.filled;
            segment.holds += u32::from(hold);
            let messages = segment.ended - self.submitted;
            let continues = segment.through > segment.ended;
            self.submitted = segment.ended;
            if messages > 0 {
                self.ledger.sent(self.submitted, now_ns);
            }
            return Some(Transmit {
                span,
                messages,
                continues,
                segment: self.transmit_segment,
            });
        }
    }

    /// Something waits to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.appended > self.submitted
    }

    /// One more kernel operation reads a segment: the rest of a send that was cut short.
    pub(super) fn hold(&mut self, segment: u64) {
        let index = index_of(segment, self.first_segment);
        self.segments[index].holds += 1;
    }

    /// The kernel let go of a segment once.
    pub(super) fn released(&mut self, segment: u64, pool: &mut BufferPool) {
        let index = index_of(segment, self.first_segment);
        let segment = &mut self.segments[index];
        assert!(segment.holds > 0, "released more often than held");
        segment.holds -= 1;
        self.reclaim(pool);
    }

    /// The next `messages` messages are ACKed.
    ///
    /// # Panics
    /// When more are ACKed than were submitted; the link checks that.
    pub(super) fn ack(&mut self, messages: u64, now_ns: u64, pool: &mut BufferPool) {
        let acked = self.acked + messages;
        assert!(acked <= self.submitted, "ACK beyond what was sent");
        self.ledger.acked(self.acked, acked, now_ns);
        self.acked = acked;
        self.reclaim(pool);
    }

    pub(super) fn setup(&self) -> LaneSetup {
        self.setup
    }

    pub(super) fn appended(&self) -> u64 {
        self.appended
    }

    pub(super) fn submitted(&self) -> u64 {
        self.submitted
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) fn unacked(&self) -> u64 {
        self.appended - self.acked
    }

    /// The buffers that it holds.
    pub(super) fn buffers(&self) -> impl Iterator<Item = BufferId> + '_ {
        self.segments.iter().map(|segment| segment.buffer)
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The kernel may still read the oldest buffer, so it cannot become free yet.
    pub(super) fn front_is_held(&self) -> bool {
        self.segments.front().is_some_and(|front| front.holds > 0)
    }

    /// Nothing left, neither messages nor kernel reads: the lane may be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.unacked() == 0
    }

    /// At most `messages` un-ACKed from now on.
    pub(super) fn set_message_window(&mut self, messages: u64) {
        self.sequence_limit = self.acked.saturating_add(messages);
    }

    pub(super) fn message_window_full(&self) -> bool {
        self.appended >= self.sequence_limit
    }

    fn overhead(&self, redelivered: bool) -> u32 {
        let header = if self.setup.layout == Layout::Batches && self.batch.is_none() {
            HEADER_BYTES
        } else {
            0
        };
        header + if redelivered { ORIGIN_BYTES as u32 } else { 0 }
    }

    fn open_segment(&mut self, pool: &mut BufferPool) {
        self.sync_tail();
        self.buffer = pool
            .take()
            .expect("the caller checked that enough buffers are free");
        self.at = 0;
        self.segments.push_back(Segment {
            buffer: self.buffer,
            start: 0,
            first: self.appended + 1,
            filled: 0,
            transmitted: 0,
            ended: self.appended,
            through: self.appended,
            holds: 0,
        });
    }

    /// Writes the tail's state into its segment.
    fn sync_tail(&mut self) {
        let (at, appended) = (self.at, self.appended);
        if let Some(tail) = self.segments.back_mut() {
            tail.filled = at;
            tail.ended = appended;
            tail.through = appended;
        }
    }

    /// A message over several segments; its batch is closed at once.
    fn append_split<M: Memory>(
        &mut self,
        memory: &mut M,
        pool: &mut BufferPool,
        frame: &[u8],
        messages: u64,
        redelivered: bool,
    ) {
        let last = self.appended + messages;
        let body = frame.len() + if redelivered { ORIGIN_BYTES } else { 0 };
        if let Some(batch) = self.batch.take() {
            self.write_header(memory, batch, 1, body as u32); // frames are at most u32::MAX long
        }
        let mut rest = frame;
        loop {
            let room = (pool.buffer_bytes() - self.at) as usize;
            let (piece, after) = rest.split_at(room.min(rest.len()));
            memory.write(self.buffer, self.at, piece);
            self.at += piece.len() as u32; // fits the buffer
            rest = after;
            if rest.is_empty() {
                break;
            }
            self.open_segment(pool);
            let count = self.segments.len();
            self.segments[count - 2].through = last;
        }
        let at = self.at;
        if let Some(tail) = self.segments.back_mut() {
            tail.start = at;
            tail.first = last + 1;
        }
    }

    fn close_batch<M: Memory>(&mut self, memory: &mut M) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let count = self.appended + 1 - batch.first;
        let count = u32::try_from(count).expect("a batch fits one buffer");
        self.write_header(
            memory,
            batch,
            count,
            self.at - batch.header_at - HEADER_BYTES,
        );
    }

    fn write_header<M: Memory>(
        &self,
        memory: &mut M,
        batch: OpenBatch,
        count: u32,
        body_bytes: u32,
    ) {
        let (origin_shard, origin_epoch) =
            batch.origin.unwrap_or((self.setup.shard, self.setup.epoch));
        let header = BatchHeader {
            redelivered: batch.origin.is_some(),
            origin_shard,
            count,
            body_bytes,
            first_sequence: batch.first,
            origin_epoch: origin_epoch.0,
        };
        memory.write(self.buffer, batch.header_at, &header.encode());
    }

    fn reclaim(&mut self, pool: &mut BufferPool) {
        while let Some(front) = self.segments.front() {
            let is_tail = self.segments.len() == 1;
            if is_tail {
                // The tail's own record lags behind appends that took the short way.
                if self.acked < self.appended || front.holds > 0 || self.batch.is_some() {
                    return;
                }
                // Nothing is ACKed, or taken out of a dead lane, before `transmit` or `unacked_front`.
                debug_assert_eq!(
                    (self.limit, self.record_limit),
                    (0, 0),
                    "the tail is closed"
                );
            } else if front.through > self.acked || front.holds > 0 {
                return;
            }
            pool.give(front.buffer);
            self.segments.pop_front();
            self.first_segment += 1;
            self.transmit_segment = self.transmit_segment.max(self.first_segment);
        }
    }
}

fn index_of(segment: u64, first: u64) -> usize {
    let index = segment
        .checked_sub(first)
        .expect("the segment is still here");
    usize::try_from(index).expect("a lane has few segments")
}

#[cfg(test)]
mod tests;
