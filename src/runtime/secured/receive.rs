//! Receives: what came is opened, and the shard is told of plain bytes.

use std::sync::Arc;

use super::requests::{Receive, Request};
use super::socket::{Owner, Secured};
use super::{pool_of, told, Numbered, Tls, MORE, OPENED_AT_ONCE_BYTES};
use crate::uring::Ring;
use weir_shard::port::{Chunk, Completion, Group};
use weir_tls::{Failure, Plain, Session};

/// Chunks that the shard has been told of and not asked for, at most: their numbers have 16 bits.
const CHUNKS_MAX: usize = 60_000;

/// What one completion of a receive brought, while it waits for room.
pub(super) struct Ciphertext {
    /// The ring's token.
    token: u64,
    chunk: Option<Chunk>,
    result: i32,
    /// More completions of the request come.
    more: bool,
}

/// How a stream goes on.
enum Next {
    Goes,
    /// The peer has said its last.
    Ends,
    Fails(Failure),
}

impl Tls {
    /// The shard wants to hear of this connection: until it ends, or once.
    pub(crate) fn receive(
        &mut self,
        ring: &mut Ring,
        owner: &Owner,
        group: Group,
        token: u64,
        is_once: bool,
    ) {
        let connection = &owner.0;
        if self.tell_early(connection, group, token, is_once) {
            return;
        }
        self.begin_half(connection);
        let raw = self.requests.add(Request::Receive(Receive {
            connection: Arc::clone(connection),
            group,
            token,
            is_once,
            is_over: false,
        }));
        start(ring, connection, group, raw, is_once);
    }

    /// What came together with the handshake comes first. True: the request is over.
    fn tell_early(
        &mut self,
        connection: &Arc<Secured>,
        group: Group,
        token: u64,
        is_once: bool,
    ) -> bool {
        let mut stream = connection.lock();
        if !stream.early.is_empty() {
            let plain = &mut self.plain[pool_of(group)];
            if self.chunks.len() >= CHUNKS_MAX || !plain.begin(stream.early.len()) {
                self.told.push(told(token, -libc::ENOBUFS, 0));
                return true;
            }
            plain.put(&std::mem::take(&mut stream.early));
            plain.finish(&mut self.opened);
            let more = if is_once { 0 } else { MORE };
            tell_opened(
                &mut self.told,
                &mut self.chunks,
                &mut self.opened,
                token,
                more,
            );
            if is_once {
                return true;
            }
        }
        // What cannot be sent any more says nothing of what has come.
        let is_over = stream.session.has_failed() || stream.session.has_ended();
        if is_over {
            self.told.push(told(token, 0, 0));
        }
        is_over
    }

    pub(super) fn on_receive(&mut self, ring: &mut Ring, completion: Completion) {
        let Some(Request::Receive(receive)) = self.requests.get(completion.token) else {
            return;
        };
        let pool = pool_of(receive.group);
        let ciphertext = Ciphertext {
            token: completion.token,
            chunk: ring.chunk(receive.group, &completion),
            result: completion.result,
            more: completion.more(),
        };
        if !self.waiting[pool].is_empty() {
            // The rest of its record may be there.
            let connection = Arc::clone(&receive.connection);
            self.pause_half(&connection);
            self.waiting[pool].push_back(ciphertext);
        } else if let Some(late) = self.open(ring, ciphertext) {
            self.waiting[pool].push_back(late);
        }
    }

    /// Something that waited may have room now.
    pub(super) fn can_open(&mut self) -> bool {
        (0..2).any(|pool| {
            let first = self.waiting[pool].front();
            let bytes = first.map(|first| first.chunk.map_or(0, Chunk::len));
            bytes.is_some_and(|bytes| self.plain[pool].has_room(bytes + ROOM_BYTES))
        })
    }

    /// Opens what has room, oldest first, until enough was opened at once.
    pub(super) fn open_waiting(&mut self, ring: &mut Ring) {
        for pool in 0..2 {
            while self.turn.opened_bytes < OPENED_AT_ONCE_BYTES {
                let Some(first) = self.waiting[pool].pop_front() else {
                    break;
                };
                if let Some(late) = self.open(ring, first) {
                    self.waiting[pool].push_front(late);
                    break;
                }
            }
        }
    }

    /// Opens what a completion brought and tells the shard. It is given back when there is no room for it.
    fn open(&mut self, ring: &mut Ring, ciphertext: Ciphertext) -> Option<Ciphertext> {
        let Ciphertext {
            token,
            chunk,
            result,
            more,
        } = ciphertext;
        let Some(Request::Receive(receive)) = self.requests.get(token) else {
            return None;
        };
        let receive = receive.clone();
        let mut next = Next::Goes;
        if let Some(chunk) = chunk.filter(|_| !receive.is_over) {
            let pool = pool_of(receive.group);
            let mut stream = receive.connection.lock();
            let stream = &mut *stream;
            let most = chunk.len() + stream.session.carried_bytes();
            let whole = if receive.is_once { most } else { 0 };
            let plain = &mut self.plain[pool];
            let clock_ns = self.handshakes.clock_ns;
            if self.chunks.len() >= CHUNKS_MAX || !plain.has_room(most) || !plain.begin(whole) {
                stream.half.pause(clock_ns);
                return Some(ciphertext);
            }
            self.halves.resume(&mut stream.half, clock_ns);
            self.turn.opened_bytes += chunk.len();
            let bytes = ring.bytes_of_mut(receive.group, chunk);
            let (session, wire) = (&mut stream.session, &mut stream.out.wire);
            let opened = session.open_into(bytes, plain, wire);
            plain.finish(&mut self.opened);
            next = next_of(opened, session);
            let is_new = session.carried_bytes() != most && !session.is_amid_message();
            let held = (session.held_bytes(), is_new);
            self.halves
                .keep(&receive.connection, &mut stream.half, held, clock_ns);
        }
        if let Some(chunk) = chunk {
            ring.release(receive.group, chunk);
        }
        if receive.is_over {
            if !more {
                self.requests.remove(token);
            }
            return None;
        }
        self.tell(ring, &receive, (token, result, more), next);
        self.pump(ring, &receive.connection);
        self.make_room_for_halves();
        None
    }

    /// Tells the shard what was opened, and how the receive goes on.
    fn tell(
        &mut self,
        ring: &mut Ring,
        receive: &Receive,
        (raw, result, more): (u64, i32, bool),
        next: Next,
    ) {
        let token = receive.token;
        let has_opened = !self.opened.is_empty();
        let ends = match next {
            // It was ended here, for what it kept.
            Next::Goes if result <= 0 && receive.connection.lock().session.has_failed() => {
                Some(-libc::ECONNABORTED)
            }
            Next::Goes if result <= 0 => {
                if result == 0 {
                    self.note_truncated(&receive.connection.port);
                }
                Some(result)
            }
            Next::Goes if receive.is_once && !has_opened => {
                // A record that has not come whole: the shard hears of it when it has.
                return start(ring, &receive.connection, receive.group, raw, true);
            }
            Next::Goes if more || has_opened => None,
            Next::Goes => Some(-libc::EAGAIN),
            Next::Ends => Some(0),
            Next::Fails(failure) => {
                self.refuse(&receive.connection, &failure);
                Some(-libc::ECONNABORTED)
            }
        };
        let is_last = ends.is_none() && !more;
        let flags = if is_last { 0 } else { MORE };
        tell_opened(
            &mut self.told,
            &mut self.chunks,
            &mut self.opened,
            token,
            flags,
        );
        if let Some(result) = ends {
            self.told.push(told(token, result, 0));
        }
        match (ends.is_some(), more) {
            (_, false) => {
                self.pause_half(&receive.connection);
                self.requests.remove(raw);
            }
            (true, true) => {
                if let Some(Request::Receive(receive)) = self.requests.get_mut(raw) {
                    receive.is_over = true;
                }
                self.requests.forget_shards(token);
                ring.cancel(raw, super::CANCEL);
            }
            (false, true) => {}
        }
    }
}

/// More than a connection may carry.
const ROOM_BYTES: usize = 64 * 1024;

fn next_of(opened: Result<(), Failure>, session: &Session) -> Next {
    match opened {
        Ok(()) if session.has_ended() => Next::Ends,
        Ok(()) => Next::Goes,
        Err(failure) => Next::Fails(failure),
    }
}

fn start(ring: &mut Ring, connection: &Secured, group: Group, raw: u64, is_once: bool) {
    use std::os::fd::AsRawFd;

    let fd = connection.fd.as_raw_fd();
    match is_once {
        true => ring.receive_once(fd, group, raw),
        false => ring.receive(fd, group, raw),
    }
}

/// A completion for each chunk; the last has these flags, those before it say that more comes.
fn tell_opened(
    all: &mut Vec<Completion>,
    chunks: &mut Numbered<Chunk>,
    opened: &mut Vec<Chunk>,
    token: u64,
    last: u32,
) {
    let count = opened.len();
    for (nth, chunk) in opened.drain(..).enumerate() {
        let flags = if nth + 1 == count { last } else { MORE };
        let number = chunks.add(chunk).map_or(u32::MAX, u32::from);
        let len = i32::try_from(chunk.len()).unwrap_or(i32::MAX); // of a buffer
        all.push(told(token, len, flags | number << 16));
    }
}
