//! Sends: sealed a piece at a time, in the order of the records' numbers.
//!
//! ```text
//! the shard's send --seal 64 KiB--> ring --done--> seal the next 64 KiB ... --> the shard's send completes
//! answers of TLS (alerts, key updates) go before the next piece
//! ```
//!
//! A connection that sends has one piece in memory, whatever the shard wants to send.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::requests::Request;
use super::socket::{send_now, Outgoing, Owner, Secured, Send, Source, Stream};
use super::{told, Tls};
use crate::uring::Ring;
use weir_protocol::memory::Span;
use weir_shard::port::{Completion, SEND_RANGES_MAX};
use weir_tls::{Failure, Session, Wire};

/// Plain bytes of a piece.
const PIECE_BYTES: usize = 64 * 1024;
/// Plain bytes of a record, at most.
const RECORD_BYTES: usize = 16 * 1024;
/// Memory of pieces that is kept for the next.
const KEPT: usize = 16;
/// Answers of TLS that may wait for a peer that does not read.
const ANSWERS_BYTES_MAX: usize = 16 * 1024;

/// What sends need.
#[derive(Default)]
pub(super) struct Sending {
    /// Memory that is used again.
    kept: Vec<Vec<u8>>,
    /// Small ranges, put together.
    gathered: Vec<u8>,
    /// Lists of ranges that are used again.
    lists: Vec<VecDeque<(usize, Span)>>,
    /// A piece that is through was followed by another.
    goes_on: bool,
    /// Plain bytes of sends that are done, until the shard takes them back.
    pub(super) done: HashMap<u64, Vec<u8>>,
}

impl Sending {
    /// Pieces were followed by others since this was asked last.
    pub(super) fn goes_on(&mut self) -> bool {
        std::mem::take(&mut self.goes_on)
    }

    fn wire(&mut self) -> Wire {
        let room = PIECE_BYTES + PIECE_BYTES / RECORD_BYTES * 64 + 1024;
        match self.kept.pop() {
            Some(memory) => Wire::of_memory(memory),
            None => Wire::with_room(room),
        }
    }

    fn keep(&mut self, memory: Vec<u8>) {
        if self.kept.len() < KEPT && memory.len() >= PIECE_BYTES {
            self.kept.push(memory);
        }
    }

    /// Seals the next piece of a send behind what is in `wire`.
    fn seal(
        &mut self,
        ring: &Ring,
        session: &mut Session,
        send: &mut Send,
        wire: &mut Wire,
    ) -> Result<(), Failure> {
        match &mut send.source {
            Source::Bytes(bytes, at) => {
                let now = (bytes.len() - *at).min(PIECE_BYTES);
                session.seal(&bytes[*at..*at + now], wire)?;
                *at += now;
            }
            Source::Spans(spans) => {
                let mut left = PIECE_BYTES;
                self.gathered.clear();
                while let Some((shard, span)) = spans.front_mut() {
                    let room = match self.gathered.len() {
                        // Whole records out of the arena itself.
                        0 if span.len as usize >= RECORD_BYTES => {
                            left / RECORD_BYTES * RECORD_BYTES
                        }
                        gathered => RECORD_BYTES.min(left) - gathered,
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
                    match self.gathered.is_empty() && now >= RECORD_BYTES {
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
                    if self.gathered.len() >= RECORD_BYTES.min(left) {
                        session.seal(&self.gathered, wire)?;
                        left -= self.gathered.len();
                        self.gathered.clear();
                    }
                    if left < RECORD_BYTES {
                        break;
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

impl Send {
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
        {
            let mut stream = connection.lock();
            assert!(stream.out.send.is_none(), "one send at a time");
            stream.out.send = Some(send);
        }
        self.pump(ring, connection);
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
        if out.is_under_way || out.send.is_some() || is_over {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let bytes = &bytes[..bytes.len().min(RECORD_BYTES)];
        let sealed = stream.session.seal(bytes, &mut out.wire);
        sealed.map_err(std::io::Error::other)?;
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
        if stream.out.send.is_none() && stream.out.wire.is_empty() {
            return;
        }
        let mut wire = self.sending.wire();
        wire.extend(stream.out.wire.bytes());
        stream.out.wire = Wire::default();
        if let Some(send) = &mut stream.out.send {
            if let Err(failure) = self
                .sending
                .seal(ring, &mut stream.session, send, &mut wire)
            {
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
                if self.sending.lists.len() < KEPT {
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
