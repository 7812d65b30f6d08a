//! Ingress: accepts emitters, receives from them, offers what came to the engine.
//!
//! ```text
//! receive -> chunk -> engine.ingest -> taken: memory back to the kernel
//!                       `-> stalled: pending, in order; memory stays
//! ```
//!
//! Backpressure needs no cancelling: while chunks are pending their memory does not go back to the
//! kernel, so receives end with ENOBUFS sooner or later, sockets fill, and TCP slows the emitters.
//! They are armed again when nothing is pending any more.

use std::net::{IpAddr, Shutdown};
use std::sync::atomic::Ordering;

use super::admission::{customer, Door};
use super::port::Io;
use super::slab::{bare, token, Kind, Slot};
use super::worker::{Phase, Worker};
use crate::port::{Chunk, Completion, Group};
use weir_engine::{Ingest, Reason};
use weir_protocol::detect;
use weir_protocol::foreign::{self, Foreign};
use weir_protocol::frame::FrameError;
use weir_protocol::native::Welcome;

/// An emitter's connection.
pub(super) struct Emitter<S> {
    /// Closed as soon as nothing more is read from it, so that a peer which is cut off knows.
    pub(super) socket: Option<S>,
    /// A receive is armed.
    pub(super) receiving: bool,
    /// The stream has ended, or is not to be followed any more.
    pub(super) ended: bool,
    /// It has closed; the farewell being over, what it sent is read to its end all the same.
    finishing: bool,
    /// It broke the protocol: what it sent after that is not read.
    rejected: bool,
    /// Chunks of it that are pending.
    pub(super) pending: u32,
    /// Its address, when connections are counted by address.
    pub(super) counted: Option<IpAddr>,
    /// It is one of `--max-connections`, and of its address: until its socket is closed.
    pub(super) has_place: bool,
    /// Its connection broke before all that it had sent was read.
    pub(super) is_broken: bool,
    /// When it last sent something, or came.
    heard_ns: u64,
}

/// Bytes that the engine could not take yet.
pub(super) struct PendingChunk {
    emitter: Slot,
    chunk: Chunk,
}

impl<I: Io> Worker<I> {
    pub(super) fn on_accept_emitter(&mut self, completion: Completion) {
        match self.io.accepted(&completion) {
            Ok(socket) => self.add_emitter(socket),
            Err(error) => self.on_accept_error(&error),
        }
        self.accepting -= 1;
        self.accept_next(&completion);
    }

    fn add_emitter(&mut self, socket: I::Socket) {
        // Whoever was accepted too late and has closed already believes that all is well.
        let finishing = self.phase == Phase::Draining && self.io.peer_has_ended(&socket);
        if !self.takes_in() && !finishing {
            return;
        }
        if !self.take_place() {
            if self.engine.counters.of(Reason::ConnectionLimit) == 0 {
                let most = self.config.connections_max;
                log::warn!(
                    "shard {}: emitter refused: {most} are connected (--max-connections)",
                    self.index
                );
            }
            self.engine.counters.count(Reason::ConnectionLimit);
            return;
        }
        let Some(counted) = self.admit_emitter(&socket) else {
            self.shared.emitters.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let emitter = Emitter {
            socket: Some(socket),
            receiving: false,
            ended: false,
            finishing,
            rejected: false,
            pending: 0,
            counted,
            has_place: true,
            is_broken: false,
            heard_ns: self.now_ns,
        };
        self.emitters_placed += 1;
        let slot = self.emitters.insert(emitter);
        self.engine.emitter_opened(slot.index());
        self.engine.counters.emitters_accepted += 1;
        self.receive_from(slot);
        if self.phase == Phase::Farewell {
            self.tell_to_go(slot);
        }
    }

    /// Whether an emitter may connect; its address when it is counted under it.
    fn admit_emitter(&mut self, socket: &I::Socket) -> Option<Option<IpAddr>> {
        let most = self.config.protection.connections_per_address_max;
        if self.live.protection.allow_emitters.is_empty() && most == 0 {
            return Some(None);
        }
        let Some(peer) = self.io.peer(socket).map(|peer| peer.ip().to_canonical()) else {
            // It has reset the connection, and what it had sent can still be read. Without an address
            // nothing of it may pass where addresses matter.
            self.engine.counters.count(Reason::AddressUnknown);
            return None;
        };
        if !self.live.protection.allow_emitters.allows(peer) {
            self.engine.counters.count(Reason::AddressNotAllowed);
            return None;
        }
        if most == 0 {
            return Some(None);
        }
        while !self.shared.admission.enter(Door::Emitters, peer, most) {
            let is_its = |other: Option<IpAddr>| other.map(customer) == Some(customer(peer));
            if !self.forget_broken(is_its) {
                self.engine.counters.count(Reason::AddressLimit);
                return None;
            }
        }
        Some(Some(peer))
    }

    /// Asks an emitter to finish and close; what it sends until then is read.
    pub(super) fn tell_to_go(&mut self, slot: Slot) {
        let emitter = self.emitters.get(slot);
        if let Some(socket) = emitter.and_then(|emitter| emitter.socket.as_ref()) {
            self.io.shutdown(socket, Shutdown::Write);
        }
    }

    /// Emitters are read from.
    pub(super) fn takes_in(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Farewell)
    }

    fn receive_from(&mut self, slot: Slot) {
        let Some(emitter) = self.emitters.get_mut(slot) else {
            return;
        };
        let Some(socket) = &emitter.socket else {
            return;
        };
        emitter.receiving = true;
        emitter.is_broken = false;
        let token = token(Kind::EmitterReceive, slot);
        self.io.receive(socket, Group::Ingress, token);
    }

    #[inline]
    pub(super) fn on_emitter_receive(&mut self, slot: Slot, completion: Completion) {
        let chunk = self.io.chunk(Group::Ingress, &completion);
        let Some(emitter) = self.emitters.get_mut(slot) else {
            if let Some(chunk) = chunk {
                self.io.release(Group::Ingress, chunk);
            }
            return;
        };
        emitter.receiving = completion.more();
        if let Some(chunk) = chunk {
            self.turn_bytes += chunk.len();
            let last_ns = std::mem::replace(&mut emitter.heard_ns, self.now_ns);
            self.gather.heard_after(self.now_ns - last_ns);
            self.engine.counters.receives += 1;
            self.offer(slot, chunk);
        } else if completion.result == 0 {
            emitter.ended = true;
        }
        if !completion.more() {
            self.on_receive_ended(slot, &completion);
        }
    }

    /// This emitter is read on. Draining, that is who has closed by now; the others are cut off.
    fn is_read(&mut self, slot: Slot) -> bool {
        if self.takes_in() {
            return true;
        }
        let Some(emitter) = self.emitters.get_mut(slot) else {
            return false;
        };
        let socket = emitter.socket.as_ref();
        emitter.finishing |= socket.is_some_and(|socket| self.io.peer_has_ended(socket));
        emitter.finishing
    }

    /// A multishot receive ends at the end of the stream, when receive memory ran out, when it was
    /// cancelled, or because the kernel felt like it.
    fn on_receive_ended(&mut self, slot: Slot, completion: &Completion) {
        let is_read = self.is_read(slot);
        let Some(emitter) = self.emitters.get_mut(slot) else {
            return;
        };
        match completion.count() {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {}
                _ => emitter.ended = true,
            },
        }
        if emitter.ended || !is_read {
            emitter.ended = true;
            self.close_if_finished(slot);
        } else {
            self.rearm.push_back(slot);
        }
    }

    /// Offers a chunk to the engine, behind those that wait already.
    #[inline]
    fn offer(&mut self, slot: Slot, chunk: Chunk) {
        if !self.pending.is_empty() {
            self.push_pending(slot, chunk);
            return;
        }
        if let Some(rest) = self.ingest(slot, chunk) {
            self.push_pending(slot, rest);
        }
    }

    fn push_pending(&mut self, slot: Slot, chunk: Chunk) {
        if let Some(emitter) = self.emitters.get_mut(slot) {
            emitter.pending += 1;
        }
        self.pending.push_back(PendingChunk {
            emitter: slot,
            chunk,
        });
    }

    /// Lets the engine take a chunk; what it cannot take now is returned.
    #[inline]
    fn ingest(&mut self, slot: Slot, chunk: Chunk) -> Option<Chunk> {
        if self
            .emitters
            .get(slot)
            .is_none_or(|emitter| emitter.rejected)
        {
            self.io.release(Group::Ingress, chunk);
            return None;
        }
        let bytes = self.io.bytes_of(Group::Ingress, chunk);
        match self.engine.ingest(slot.index(), bytes) {
            Ingest::Taken => {}
            Ingest::Stalled { taken } => {
                if taken < chunk.len() {
                    return Some(chunk.skip(taken));
                }
            }
            Ingest::BadFrame { error, offset } => {
                let spoken = if offset == 0 {
                    spoken_at_start(bytes, error)
                } else {
                    None
                };
                let (kind, why) = match spoken {
                    Some((kind, text)) => {
                        self.engine.counters.count(Reason::ForeignProtocol);
                        (kind, format!("{text} ({error})"))
                    }
                    None => (
                        error.as_str(),
                        format!("{error}, at byte {offset} of the stream"),
                    ),
                };
                if kind == Foreign::WeirAnalyzer.as_str() {
                    self.refuse_analyzer(slot);
                }
                self.reject(slot, kind, &why);
            }
            Ingest::PartialMemoryFull => {
                let limit = self.config.partial_bytes_max;
                self.reject(slot, "partial_memory_full", &format!("its frame takes most of the {limit} bytes for partial frames (--partial-bytes), and they are used up"));
            }
        }
        self.io.release(Group::Ingress, chunk);
        self.close_evicted();
        None
    }

    /// A native analyzer at the wrong port learns that from the answer that it waits for.
    fn refuse_analyzer(&mut self, slot: Slot) {
        let emitter = self.emitters.get(slot);
        let Some(socket) = emitter.and_then(|emitter| emitter.socket.as_ref()) else {
            return;
        };
        let welcome = Welcome {
            refused: Some(
                "this is the emitters' port; analyzers have one of their own (--analyzers)",
            ),
            shard_count: u16::try_from(self.config.shards).unwrap_or(u16::MAX),
            shard_index: self.index,
            instance: self.config.instance,
            link_epoch: 0,
        };
        let mut out = Vec::new();
        welcome.encode(&mut out);
        // As much as fits, and it fits: nothing was ever sent here.
        let _ = self.io.send_now(socket, &out);
    }

    /// The peer broke the protocol: whole messages before are kept, the rest is not read.
    pub(super) fn reject(&mut self, slot: Slot, kind: &'static str, why: &str) {
        let Some(emitter) = self.emitters.get_mut(slot) else {
            return;
        };
        let socket = emitter.socket.as_ref();
        let peer = socket.and_then(|socket| self.io.peer(socket));
        let name = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        let address = peer.map(|peer| peer.ip());
        if let Some(tail) = self.shared.notice("emitters", address, kind, self.now_ns) {
            log::warn!("shard {}: emitter {name} closed: {why}{tail}", self.index);
        }
        // Ends the receive, and that closes the connection.
        if let Some(socket) = socket {
            self.io.shutdown(socket, Shutdown::Both);
        }
        emitter.ended = true;
        emitter.rejected = true;
    }

    /// Chunks that had to wait, oldest first, as far as there is room.
    pub(super) fn resume_pending(&mut self) {
        while !self.pending.is_empty() && self.engine.can_ingest() {
            let Some(PendingChunk {
                emitter: slot,
                chunk,
            }) = self.pending.pop_front()
            else {
                break;
            };
            if let Some(chunk) = self.ingest(slot, chunk) {
                self.pending.push_front(PendingChunk {
                    emitter: slot,
                    chunk,
                });
                break;
            }
            if let Some(emitter) = self.emitters.get_mut(slot) {
                emitter.pending -= 1;
            }
            self.close_if_finished(slot);
        }
        self.account_stall();
        if self.pending.is_empty() {
            self.rearm_receives();
        }
    }

    fn rearm_receives(&mut self) {
        self.broken.clear();
        while let Some(slot) = self.rearm.pop_front() {
            let is_read = self.is_read(slot);
            let Some(emitter) = self.emitters.get_mut(slot) else {
                continue;
            };
            emitter.ended |= !is_read;
            if emitter.ended || emitter.receiving {
                self.close_if_finished(slot);
                continue;
            }
            self.receive_from(slot);
        }
    }

    /// Bytes that were read and that the engine has not taken.
    pub fn pending_bytes(&self) -> u64 {
        self.pending
            .iter()
            .map(|pending| pending.chunk.len() as u64)
            .sum()
    }

    /// Emitters that believe they have been read, and have not.
    pub(super) fn unfinished_emitters(&self) -> u64 {
        let finishing = self
            .emitters
            .iter()
            .filter(|(_, emitter)| emitter.finishing);
        finishing.count() as u64
    }

    fn account_stall(&mut self) {
        let stalled = !self.pending.is_empty();
        match (stalled, self.stalled_since_ns) {
            (true, None) => {
                self.stalled_since_ns = Some(self.now_ns);
                self.engine.counters.stalls += 1;
            }
            (false, Some(since)) => {
                self.stalled_since_ns = None;
                self.engine.counters.stalled_ns += self.now_ns - since;
            }
            _ => {}
        }
    }

    pub(super) fn close_if_finished(&mut self, slot: Slot) {
        let Some(emitter) = self.emitters.get_mut(slot) else {
            return;
        };
        if !emitter.ended || emitter.receiving {
            return;
        }
        emitter.socket = None;
        self.give_place_back(slot);
        let Some(emitter) = self.emitters.get_mut(slot) else {
            return;
        };
        if emitter.pending == 0 {
            let has_sent = emitter.rejected || emitter.is_broken;
            if !has_sent && !self.engine.emitter_was_heard(slot.index()) {
                self.engine.counters.count(Reason::Probe);
            }
            self.engine.emitter_closed(slot.index());
            self.emitters.remove(slot);
        }
    }

    /// The farewell is over. Emitters that have closed are read to their end, as long as draining
    /// lasts: they believe that all is well. What the others' sockets hold was never taken in.
    pub(super) fn stop_receiving(&mut self) {
        for slot in self.emitters.slots() {
            if self.is_read(slot) {
                continue;
            }
            let Some(emitter) = self.emitters.get_mut(slot) else {
                continue;
            };
            if emitter.receiving {
                self.io
                    .cancel(token(Kind::EmitterReceive, slot), bare(Kind::Cancel));
            } else {
                emitter.ended = true;
                self.close_if_finished(slot);
            }
        }
    }
}

/// What speaks, when the first frame of a stream is none: what to count it as, and a sentence. `bytes` are the
/// last that came; they may lack what came before them.
fn spoken_at_start(bytes: &[u8], error: FrameError) -> Option<(&'static str, String)> {
    let word = error.length().to_be_bytes();
    let first = if bytes.starts_with(&word) {
        bytes
    } else {
        &word
    };
    if let Some(foreign) = foreign::recognize(first) {
        return Some((foreign.as_str(), foreign.sentence()));
    }
    let text = "this looks like an analyzer's first weight; analyzers have a port of their own (--analyzers)";
    detect::is_first_weight(first).then(|| ("first_weight", text.to_owned()))
}
