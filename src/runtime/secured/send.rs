//! Sends: sealed a piece at a time, in the order of the records' numbers.
//!
//! ```text
//! the shard's send --seal a piece--> ring --done--> seal the next piece ... --> the shard's send completes
//! answers of TLS (alerts, key updates) go before the next piece
//! ```
//!
//! A connection that sends has one piece in memory, whatever the shard wants to send: up to 512 KiB while few send so
//! much, a record when many do or when there is no more to send.
//!
//! An analyzer's connection may go to another shard while an answer of TLS is on its way, because the peer does not read.
//! That shard's first send waits for it, and is that shard's to seal and to complete.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::requests::Request;
use super::socket::{send_now, Outgoing, Owner, Secured, Send, Source, Stream};
use super::{told, Tls};
use crate::uring::Ring;
use weir_protocol::memory::Span;
use weir_shard::port::{Completion, SEND_RANGES_MAX};
use weir_tls::{Failure, Session, Wire};

/// Plain bytes of a piece: about what a turn sends to an analyzer. A shorter one is another wait for the analyzer.
const PIECE_BYTES: usize = 512 * 1024;
/// Memory for as much, sealed. So many of them are there at a time: 16 MiB.
const PIECE_ROOM: usize = PIECE_BYTES / RECORD_BYTES * RECORD_ROOM;
const PIECES_MAX: usize = 32;
/// Plain bytes of a record, at most.
const RECORD_BYTES: usize = 16 * 1024;
/// Memory for a record, and for an answer before it.
const RECORD_ROOM: usize = RECORD_BYTES + 256;
/// Memory of records that is kept for the next.
const RECORDS_KEPT: usize = 64;
/// Lists of ranges that are kept.
const LISTS_KEPT: usize = 16;
/// Answers of TLS that may wait for a peer that does not read.
const ANSWERS_BYTES_MAX: usize = 16 * 1024;

/// The number of the next [`Sending`].
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// What sends need.
pub(super) struct Sending {
    /// Of this shard.
    number: u64,
    /// Their sends wait for one that is under way in another shard.
    elsewhere: Vec<Arc<Secured>>,
    /// Memory that is used again: of records, and of pieces.
    records: Vec<Vec<u8>>,
    pieces: Vec<Vec<u8>>,
    /// Pieces that there are, these included.
    pieces_made: usize,
    /// Small ranges, put together.
    gathered: Vec<u8>,
    /// Lists of ranges that are used again.
    lists: Vec<VecDeque<(usize, Span)>>,
    /// A piece that is through was followed by another.
    goes_on: bool,
    /// Plain bytes of sends that are done, until the shard takes them back.
    pub(super) done: HashMap<u64, Vec<u8>>,
}

impl Default for Sending {
    fn default() -> Sending {
        Sending {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            elsewhere: Vec::new(),
            records: Vec::new(),
            pieces: Vec::new(),
            pieces_made: 0,
            gathered: Vec::new(),
            lists: Vec::new(),
            goes_on: false,
            done: HashMap::new(),
        }
    }
}

impl Sending {
    /// Pieces were followed by others since this was asked last.
    pub(super) fn goes_on(&mut self) -> bool {
        std::mem::take(&mut self.goes_on)
    }

    /// Memory to seal `bytes` into, or as many of them as the second value says.
    fn wire(&mut self, bytes: usize) -> (Wire, usize) {
        if bytes > RECORD_BYTES {
            if let Some(memory) = self.pieces.pop() {
                return (Wire::of_memory(memory), PIECE_BYTES);
            }
            if self.pieces_made < PIECES_MAX {
                self.pieces_made += 1;
                return (Wire::with_room(PIECE_ROOM), PIECE_BYTES);
            }
        }
        let wire = match self.records.pop() {
            Some(memory) => Wire::of_memory(memory),
            None => Wire::with_room(RECORD_ROOM),
        };
        (wire, RECORD_BYTES)
    }

    fn keep(&mut self, memory: Vec<u8>) {
        match memory.len() >= PIECE_ROOM {
            true => self.pieces.push(memory),
            false if self.records.len() < RECORDS_KEPT => self.records.push(memory),
            false => {}
        }
    }

    /// Seals the next piece of a send, of at most so many bytes, behind what is in `wire`.
    fn seal(
        &mut self,
        ring: &Ring,
        session: &mut Session,
        send: &mut Send,
        (wire, piece_bytes): (&mut Wire, usize),
    ) -> Result<(), Failure> {
        match &mut send.source {
            Source::Bytes(bytes, at) => {
                let now = (bytes.len() - *at).min(piece_bytes);
                session.seal(&bytes[*at..*at + now], wire)?;
                *at += now;
            }
            Source::Spans(spans) => {
                let mut left = piece_bytes;
                self.gathered.clear();
                while left >= RECORD_BYTES {
                    let is_last = spans.len() == 1;
                    let Some((shard, span)) = spans.front_mut() else {
                        break;
                    };
                    let is_large = is_last || span.len as usize >= RECORD_BYTES;
                    // Out of the arena itself, or put together with what follows.
                    let is_direct = is_large && self.gathered.is_empty();
                    let room = match is_direct {
                        true => left,
                        false => RECORD_BYTES - self.gathered.len(),
                    };
                    let now = room.min(span.len as usize);
                    let now_32 = now as u32; // at most a span's
                    let bytes = ring.sent_from(
                        *shard,
                        Span {
                            len: now_32,
                            ..*span
                        },
                    );
                    match is_direct {
                        true => {
                            session.seal(bytes, wire)?;
                            left -= now;
                        }
                        false => self.gathered.extend_from_slice(bytes),
                    }
                    (span.offset, span.len) = (span.offset + now_32, span.len - now_32);
                    if span.len == 0 {
                        spans.pop_front();
                    }
                    if self.gathered.len() == RECORD_BYTES {
                        session.seal(&self.gathered, wire)?;
                        left -= RECORD_BYTES;
                        self.gathered.clear();
                    }
                }
                if !self.gathered.is_empty() {
                    session.seal(&self.gathered, wire)?;
                    self.gathered.clear();
                }
            }
        }
        Ok(())
    }
}

impl Outgoing {
    /// No other shard than this one is to send next.
    fn is_for(&self, shard: u64) -> bool {
        self.send.as_ref().is_none_or(|send| send.shard == shard)
    }
}

impl Send {
    /// Bytes that are not sealed yet.
    fn left_bytes(&self) -> usize {
        match &self.source {
            Source::Spans(spans) => spans.iter().map(|(_, span)| span.len as usize).sum(),
            Source::Bytes(bytes, at) => bytes.len() - at,
        }
    }

    /// All of it is sealed.
    fn is_sealed(&self) -> bool {
        match &self.source {
            Source::Spans(spans) => spans.is_empty(),
            Source::Bytes(bytes, at) => *at >= bytes.len(),
        }
    }
}

impl Tls {
    /// Sends spans of arenas; the completion comes when all are through.
    pub(crate) fn send_spans(
        &mut self,
        ring: &mut Ring,
        owner: &Owner,
        spans: impl Iterator<Item = (usize, Span)>,
        token: u64,
    ) {
        let mut list = self.sending.lists.pop().unwrap_or_default();
        list.extend(spans.take(SEND_RANGES_MAX));
        let spans = list;
        let total = spans.iter().map(|(_, span)| span.len as usize).sum();
        let source = Source::Spans(spans);
        let send = Send {
            shard: self.sending.number,
            token,
            source,
            total,
        };
        self.send(ring, &owner.0, send);
    }

    /// Sends bytes, which are given back by [`Tls::sent_bytes`].
    pub(crate) fn send_bytes(
        &mut self,
        ring: &mut Ring,
        owner: &Owner,
        bytes: Vec<u8>,
        token: u64,
    ) {
        let total = bytes.len();
        let source = Source::Bytes(bytes, 0);
        let send = Send {
            shard: self.sending.number,
            token,
            source,
            total,
        };
        self.send(ring, &owner.0, send);
    }

    pub(crate) fn sent_bytes(&mut self, token: u64) -> Option<Vec<u8>> {
        self.sending.done.remove(&token)
    }

    /// A send of the shard's: one at a time for each connection.
    fn send(&mut self, ring: &mut Ring, connection: &Arc<Secured>, send: Send) {
        let is_elsewhere = {
            let mut stream = connection.lock();
            let out = &mut stream.out;
            assert!(out.send.is_none(), "one send at a time");
            out.send = Some(send);
            out.is_under_way && out.by != self.sending.number
        };
        match is_elsewhere {
            true => self.sending.elsewhere.push(Arc::clone(connection)),
            false => self.pump(ring, connection),
        }
    }

    /// Sends that waited for another shard's may go now.
    pub(super) fn go_on_from_elsewhere(&mut self, ring: &mut Ring) {
        if self.sending.elsewhere.is_empty() {
            return;
        }
        for connection in std::mem::take(&mut self.sending.elsewhere) {
            let mut stream = connection.lock();
            if stream.out.is_under_way {
                drop(stream);
                self.sending.elsewhere.push(connection);
            } else if stream.is_broken {
                if let Some(send) = stream.out.send.take() {
                    self.complete(send, -libc::EPIPE);
                }
            } else {
                drop(stream);
                self.pump(ring, &connection);
            }
        }
    }

    /// Sends at once what fits, if nothing is on its way.
    pub(crate) fn send_now(
        &mut self,
        ring: &mut Ring,
        owner: &Owner,
        bytes: &[u8],
    ) -> std::io::Result<usize> {
        let connection = &owner.0;
        let mut guard = connection.lock();
        let stream = &mut *guard;
        let out = &mut stream.out;
        let is_over = stream.is_broken || stream.has_said_end;
        let bytes = &bytes[..bytes.len().min(RECORD_BYTES)];
        let is_full = out.is_under_way && out.wire.len() + bytes.len() > ANSWERS_BYTES_MAX / 2;
        if out.send.is_some() || is_over || is_full {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let sealed = stream.session.seal(bytes, &mut out.wire);
        sealed.map_err(std::io::Error::other)?;
        if out.is_under_way {
            // It follows what TLS is saying.
            return Ok(bytes.len());
        }
        let wire = std::mem::take(&mut out.wire);
        let sent = match send_now(&connection.fd, wire.bytes()) {
            Ok(sent) => sent,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < wire.len() {
            // Sealed is as good as sent: its number is taken.
            out.wire.extend(&wire.bytes()[sent..]);
            drop(guard);
            self.pump(ring, connection);
        }
        Ok(bytes.len())
    }

    /// Sends what is next on a connection, if nothing is on its way.
    pub(super) fn pump(&mut self, ring: &mut Ring, connection: &Arc<Secured>) {
        let mut guard = connection.lock();
        let stream = &mut *guard;
        if stream.out.is_under_way {
            let is_flooded = stream.out.wire.len() > ANSWERS_BYTES_MAX;
            stream.is_broken |= is_flooded;
            if is_flooded {
                let _ = socket2::SockRef::from(&connection.fd).shutdown(std::net::Shutdown::Both);
            }
            return;
        }
        let is_idle = stream.out.send.is_none() && stream.out.wire.is_empty();
        if is_idle || !stream.out.is_for(self.sending.number) {
            return;
        }
        let left = stream.out.send.as_ref().map_or(0, Send::left_bytes);
        let (mut wire, piece_bytes) = self.sending.wire(left);
        wire.extend(stream.out.wire.bytes());
        stream.out.wire = Wire::default();
        if let Some(send) = &mut stream.out.send {
            let to = (&mut wire, piece_bytes);
            let sealed = self.sending.seal(ring, &mut stream.session, send, to);
            if let Err(failure) = sealed {
                log::debug!("a send over TLS: {failure}");
                stream.is_broken = true;
                if let Some(send) = stream.out.send.take() {
                    self.complete(send, -libc::EPIPE);
                }
            }
        }
        let (memory, len) = wire.into_memory();
        if len == 0 {
            self.sending.keep(memory);
            if let Some(send) = stream.out.send.take() {
                let total = i32::try_from(send.total).unwrap_or(i32::MAX);
                self.complete(send, total);
            }
            return;
        }
        stream.out.is_under_way = true;
        stream.out.by = self.sending.number;
        let token = self.requests.add(Request::Send {
            connection: Arc::clone(connection),
            sent: 0,
            len,
        });
        ring.send_part(connection.fd.as_raw_fd(), memory, 0..len, token);
    }

    pub(super) fn on_sent(&mut self, ring: &mut Ring, completion: Completion) {
        let token = completion.token;
        let memory = ring.sent_bytes(token);
        let Some(Request::Send {
            connection,
            sent,
            len,
        }) = self.requests.get_mut(token)
        else {
            self.sending.keep(memory);
            return;
        };
        let connection = Arc::clone(connection);
        let is_short = completion.count().is_ok_and(|count| {
            *sent += count;
            count > 0 && *sent < *len
        });
        if is_short {
            let rest = *sent..*len;
            ring.send_part(connection.fd.as_raw_fd(), memory, rest, token);
            return;
        }
        let is_through = *sent >= *len;
        self.requests.remove(token);
        self.sending.keep(memory);
        {
            let mut stream = connection.lock();
            stream.out.is_under_way = false;
            let Stream { out, is_broken, .. } = &mut *stream;
            *is_broken |= !is_through;
            if !out.is_for(self.sending.number) {
                return; // it has moved, and that shard goes on
            }
            if let Some(result) = result_of(out, is_through, &completion) {
                if let Some(send) = out.send.take() {
                    self.complete(send, result);
                }
            }
        }
        if is_through {
            self.pump(ring, &connection);
            self.sending.goes_on |= connection.lock().out.is_under_way;
        }
    }

    /// The shard's send has ended.
    fn complete(&mut self, send: Send, result: i32) {
        match send.source {
            Source::Bytes(bytes, _) => drop(self.sending.done.insert(send.token, bytes)),
            Source::Spans(mut spans) => {
                spans.clear();
                if self.sending.lists.len() < LISTS_KEPT {
                    self.sending.lists.push(spans);
                }
            }
        }
        self.told.push(told(send.token, result, 0));
    }
}

/// What the shard's send has come to; none: more of it is to be sealed.
fn result_of(out: &Outgoing, is_through: bool, completion: &Completion) -> Option<i32> {
    let send = out.send.as_ref()?;
    match is_through {
        false => Some(match completion.result {
            ..0 => completion.result,
            _ => -libc::EPIPE,
        }),
        true if send.is_sealed() => Some(i32::try_from(send.total).unwrap_or(i32::MAX)),
        true => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_little_takes_a_record_and_pieces_are_counted() {
        let mut sending = Sending::default();
        let room_of = |sending: &mut Sending, bytes| {
            let (wire, most) = sending.wire(bytes);
            let memory = wire.into_memory().0;
            assert!(memory.len() > most, "with room for what records add");
            (memory, most)
        };
        let (record, most) = room_of(&mut sending, RECORD_BYTES);
        assert_eq!((most, record.len()), (RECORD_BYTES, RECORD_ROOM));
        sending.keep(record);
        let all: Vec<_> = (0..PIECES_MAX + 10)
            .map(|_| room_of(&mut sending, RECORD_BYTES + 1))
            .collect();
        let pieces = all.iter().filter(|(_, most)| *most == PIECE_BYTES);
        assert_eq!(pieces.count(), PIECES_MAX, "16 MiB");
        assert_eq!(all[PIECES_MAX].1, RECORD_BYTES, "the others go on");
        for (memory, _) in all {
            sending.keep(memory);
        }
        assert_eq!(room_of(&mut sending, usize::MAX).1, PIECE_BYTES, "again");
    }
}
