//! Accepts emitters, receives from them, offers what came to the engine.

use std::net::IpAddr;
use std::sync::Arc;

use super::close::leave_place;
use super::proxied::Header;
use super::{Emitter, First, Intake, PendingChunk};
use crate::admission::{Customer, ListenerKind};
use crate::certified::as_field;
use crate::context::{Context, Phase};
use crate::inputs::Taken;
use crate::port::{Chunk, Completion, Group, Io};
use crate::slab::{bare, token, Kind, Slot};
use weir_config::AllowList;
use weir_engine::{Ingest, Reason, SourceError};
use weir_protocol::foreign::{self, Foreign};
use weir_protocol::native::Welcome;
use weir_sink::detect;

/// Bytes of a stream that is not known which are shown.
const HEX_BYTES: usize = 16;

impl<I: Io> Intake<I> {
    /// A turn begins, so long after the one before: frames that arrive have had so much of their time.
    pub(crate) fn begin_turn(&mut self, cx: &mut Context<I>, awake_ns: u64) {
        if !self.is_stalled() {
            self.frames_ns += awake_ns;
            cx.engine.set_frames_time(self.frames_ns);
        }
        self.take_turns(cx);
    }

    pub(crate) fn add(&mut self, cx: &mut Context<I>, input: usize, socket: I::Socket) {
        // Whoever was accepted too late and has closed already believes that all is well.
        let finishing = cx.phase == Phase::Draining && cx.io.peer_has_ended(&socket);
        if !cx.takes_in() && !finishing {
            return;
        }
        if !self.take_place(cx, input) {
            self.count(cx, input, Reason::ConnectionLimit);
            return;
        }
        let certificate = cx.certificate_of(&socket);
        let is_proxied = !cx.shared.places()[input].proxies.is_empty();
        let admitted = match is_proxied {
            // Lists and limits are about the address in the header.
            true => self.admit_proxy(cx, input, &socket).map(|()| None),
            false => {
                let peer = cx.io.peer(&socket).map(|peer| peer.ip());
                self.admit_address(cx, input, peer, certificate.as_deref())
            }
        };
        let counted = match admitted {
            Ok(counted) => counted,
            Err(reason) => {
                self.count(cx, input, reason);
                leave_place(cx, input);
                return;
            }
        };
        let reloaded = cx.live.secret_ports.get(input).cloned().flatten();
        let port = reloaded.unwrap_or_else(|| Arc::clone(&cx.shared.places()[input].port));
        let address = match port.joins() {
            true if !is_proxied => cx.io.peer(&socket).map_or(0, |peer| number_of(peer.ip())),
            _ => 0,
        };
        let emitter = Emitter {
            input,
            first: match port.protocols.is_mixed() {
                true => First::Unheard,
                false => First::Told,
            },
            socket: Some(socket),
            receiving: false,
            ended: false,
            finishing,
            rejected: false,
            has_eof: false,
            is_held: false,
            is_leaving: false,
            has_last_word: false,
            is_over: false,
            pending: 0,
            is_waiting: false,
            header: is_proxied.then(|| Header::new(cx.now_ns)),
            client: None,
            certificate,
            counted,
            has_place: true,
            is_broken: false,
            heard_ns: cx.now_ns,
            age: self.ages.begin(cx.awake_ns),
            is_dismissed: false,
            answers: None,
        };
        self.placed += 1;
        let slot = self.table.insert(emitter);
        cx.engine.emitter_opened(slot.index(), &port);
        if address != 0 {
            cx.engine.emitter_is_at(slot.index(), address);
        }
        cx.engine.counters.emitters_accepted += 1;
        self.say_certified(cx, slot, "up");
        self.inputs[input].accepted += 1;
        self.inputs[input].connections += 1;
        match self.late[input] {
            true => self.hold(cx, slot),
            false => self.receive_from(cx, slot),
        }
        self.greet(cx, slot);
        if cx.phase == Phase::GracefulClose {
            self.bid_farewell(cx, slot);
        }
    }

    /// Something that an operator may want to know of, under its reason and that of its input.
    pub(super) fn count(&mut self, cx: &mut Context<I>, input: usize, reason: Reason) {
        cx.engine.counters.count(reason);
        self.inputs[input].refuse(reason);
    }

    /// Whether an emitter of this address may connect; who it counts as when it is counted.
    pub(super) fn admit_address(
        &mut self,
        cx: &mut Context<I>,
        input: usize,
        peer: Option<IpAddr>,
        certificate: Option<&str>,
    ) -> Result<Option<Customer>, Reason> {
        let most = cx.config.protection.connections_per_address_max;
        let allows_all = cx
            .live
            .allow_inputs
            .get(input)
            .is_none_or(AllowList::is_empty);
        if allows_all && most == 0 {
            return Ok(None);
        }
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else {
            // It has reset the connection, and what it had sent can still be read. Without an address
            // nothing of it may pass where addresses matter.
            return Err(Reason::AddressUnknown);
        };
        let list = cx.live.allow_inputs.get(input);
        if list.is_some_and(|list| !list.allows(peer)) {
            return Err(Reason::AddressNotAllowed);
        }
        if most == 0 {
            return Ok(None);
        }
        let customer = cx.customer(peer, certificate);
        while !cx
            .shared
            .admission
            .enter(ListenerKind::Emitters, customer, most)
        {
            if !self.forget_broken(cx, |emitter| emitter.counted == Some(customer)) {
                return Err(Reason::AddressLimit);
            }
        }
        Ok(Some(customer))
    }

    /// An emitter with a certificate has come or gone: in a log that has much to say.
    pub(super) fn say_certified(&self, cx: &Context<I>, slot: Slot, what: &str) {
        let emitter = self.table.get(slot).filter(|it| it.certificate.is_some());
        let Some(emitter) = emitter.filter(|_| log::log_enabled!(log::Level::Debug)) else {
            return;
        };
        let (address, certificate) = (emitter.address(cx), emitter.certificate.as_deref());
        let address = address.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        let input = &cx.shared.places()[emitter.input].name;
        log::debug!(
            "emitter {what} shard={} input={input} address={address}{}",
            cx.index,
            as_field(certificate)
        );
    }

    fn receive_from(&mut self, cx: &mut Context<I>, slot: Slot) {
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        let Some(socket) = &emitter.socket else {
            return;
        };
        emitter.receiving = true;
        emitter.is_broken = false;
        let token = token(Kind::EmitterReceive, slot);
        cx.io.receive(socket, Group::Ingress, token);
    }

    #[inline]
    pub(crate) fn on_receive(&mut self, cx: &mut Context<I>, slot: Slot, completion: Completion) {
        let chunk = cx.io.chunk(Group::Ingress, &completion);
        let Some(emitter) = self.table.get_mut(slot) else {
            if let Some(chunk) = chunk {
                cx.io.release(Group::Ingress, chunk);
            }
            return;
        };
        emitter.receiving = completion.more();
        if let Some(chunk) = chunk {
            cx.turn_bytes += chunk.len();
            let last_ns = std::mem::replace(&mut emitter.heard_ns, cx.now_ns);
            cx.gather.heard_after(cx.now_ns - last_ns);
            cx.engine.counters.receives += 1;
            if emitter.is_unread() {
                cx.io.release(Group::Ingress, chunk);
            } else {
                self.offer_behind_header(cx, slot, chunk);
            }
        } else if completion.result == 0 {
            (emitter.ended, emitter.has_eof) = (true, true);
        }
        if !completion.more() {
            self.on_receive_ended(cx, slot, &completion);
        }
    }

    /// This emitter is read on. Draining, that is who has closed by now; the others are cut off.
    fn is_read(&mut self, cx: &mut Context<I>, slot: Slot) -> bool {
        if cx.takes_in() {
            return true;
        }
        let Some(emitter) = self.table.get_mut(slot) else {
            return false;
        };
        let socket = emitter.socket.as_ref();
        emitter.finishing |= socket.is_some_and(|socket| cx.io.peer_has_ended(socket));
        emitter.finishing
    }

    /// A multishot receive ends at the end of the stream, when receive memory ran out, when it was
    /// cancelled, or because the kernel felt like it.
    fn on_receive_ended(&mut self, cx: &mut Context<I>, slot: Slot, completion: &Completion) {
        let is_read = self.is_read(cx, slot);
        let Some(emitter) = self.table.get_mut(slot) else {
            return;
        };
        match completion.count() {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {}
                _ => emitter.broke(),
            },
        }
        if emitter.ended || !is_read {
            emitter.ended = true;
            self.close_if_finished(cx, slot);
        } else if !emitter.is_paused() {
            self.rearm.push_back(slot);
        }
    }

    #[inline]
    fn offer_behind_header(&mut self, cx: &mut Context<I>, slot: Slot, chunk: Chunk) {
        let emitter = self.table.get(slot);
        let has_header = emitter.is_some_and(|emitter| emitter.header.is_some());
        let chunk = match has_header {
            true => self.read_header(cx, slot, chunk),
            false => Some(chunk),
        };
        if let Some(chunk) = chunk {
            self.offer(cx, slot, chunk);
        }
    }

    /// Offers a chunk to the engine, behind those that wait already.
    #[inline]
    fn offer(&mut self, cx: &mut Context<I>, slot: Slot, chunk: Chunk) {
        if !self.pending.is_empty() {
            self.push_pending(slot, chunk);
            return;
        }
        if let Some(rest) = self.ingest(cx, slot, chunk) {
            self.push_pending(slot, rest);
        }
    }

    pub(super) fn push_pending(&mut self, slot: Slot, chunk: Chunk) {
        if let Some(emitter) = self.table.get_mut(slot) {
            emitter.pending += 1;
        }
        self.pending.push_back(PendingChunk {
            emitter: slot,
            chunk,
        });
    }

    /// Lets the engine take a chunk; what it cannot take now is returned.
    #[inline]
    pub(super) fn ingest(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        chunk: Chunk,
    ) -> Option<Chunk> {
        let Some(emitter) = self.table.get(slot) else {
            cx.io.release(Group::Ingress, chunk);
            return None;
        };
        let (input, is_waiting) = (emitter.input, emitter.is_waiting);
        if cx.engine.asks_whence() {
            self.say_whence(cx, slot);
        }
        let bytes = cx.io.bytes_of(Group::Ingress, chunk);
        let before = Taken::of(&cx.engine.counters);
        let ingested = match is_waiting {
            false => cx.engine.ingest(slot.index(), bytes),
            true => cx.engine.keep(slot.index(), bytes),
        };
        self.inputs[input].take(before, &cx.engine.counters);
        if let Some(taken) = self.on_ingested(cx, slot, ingested) {
            return Some(chunk.skip(taken));
        }
        cx.io.release(Group::Ingress, chunk);
        self.close_evicted(cx);
        None
    }

    /// What the engine says of what it was offered. So much of it was taken, when not all was.
    #[inline]
    pub(super) fn on_ingested(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        ingested: Ingest,
    ) -> Option<usize> {
        match ingested {
            Ingest::Taken => {
                self.note_units(cx, slot);
                let first = self.table.get(slot).map(|emitter| emitter.first);
                if first != Some(First::Told) {
                    self.note_first(cx, slot);
                }
            }
            Ingest::Stalled { taken } => return Some(taken),
            Ingest::Held { is_queued } => self.wait_for_turn(cx, slot, is_queued),
            Ingest::Ended { .. } => self.leave(cx, slot),
            Ingest::BadStream {
                error,
                reason,
                offset,
            } => self.on_bad_stream(cx, slot, error, reason, offset),
            Ingest::PartialMemoryFull => {
                let limit = cx.config.partial_bytes_max;
                self.refuse(slot, Reason::PartialMemoryFull);
                self.reject(cx, slot, "partial_memory_full", &format!("its frame takes most of the {limit} bytes for partial frames (--partial-bytes), and they are used up"));
            }
        }
        None
    }

    /// Counted at the place where it connected.
    pub(super) fn refuse(&mut self, slot: Slot, reason: Reason) {
        if let Some(emitter) = self.table.get(slot) {
            self.inputs[emitter.input].refuse(reason);
        }
    }

    /// A stream that cannot be followed, from its byte `offset` on.
    #[cold]
    fn on_bad_stream(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        error: SourceError,
        reason: Reason,
        offset: u64,
    ) {
        let seen = cx.engine.bad_bytes();
        let spoken = (offset == 0 && !error.is_of_its_protocol())
            .then(|| spoken_at_start(seen))
            .flatten();
        let (kind, why) = match spoken {
            Some((kind, text)) => {
                // Where several are spoken, the engine has counted it as that.
                if reason != Reason::ForeignProtocol {
                    cx.engine.counters.count(Reason::ForeignProtocol);
                }
                self.refuse(slot, Reason::ForeignProtocol);
                if kind == Foreign::Tls.as_str() {
                    cx.engine.counters.count(Reason::TlsOnPlainPort);
                }
                (kind, format!("{text} ({error})"))
            }
            None => {
                let begin = match reason {
                    Reason::ForeignProtocol => format!("; it begins {}", hex(seen)),
                    _ => String::new(),
                };
                self.refuse(slot, reason);
                (
                    reason.as_str(),
                    format!("{error}, at byte {offset} of the stream{begin}"),
                )
            }
        };
        if kind == Foreign::WeirAnalyzer.as_str() {
            self.refuse_analyzer(cx, slot);
        }
        self.say_refused(cx, slot, &why);
        self.reject(cx, slot, kind, &why);
    }

    /// A native analyzer at the wrong port learns that from the answer that it waits for.
    fn refuse_analyzer(&mut self, cx: &mut Context<I>, slot: Slot) {
        let emitter = self.table.get(slot);
        let Some(socket) = emitter.and_then(|emitter| emitter.socket.as_ref()) else {
            return;
        };
        let welcome = Welcome {
            refused: Some(
                "this is the emitters' port; analyzers have one of their own (--analyzers)",
            ),
            shard_count: u16::try_from(cx.config.shards).unwrap_or(u16::MAX),
            shard_index: cx.index,
            instance: cx.config.instance,
            link_epoch: 0,
        };
        let mut out = Vec::new();
        welcome.encode(&mut out);
        // As much as fits, and it fits: nothing was ever sent here.
        let _ = cx.io.send_now(socket, &out);
    }

    /// Chunks that had to wait, oldest first, as far as there is room.
    pub(crate) fn resume_pending(&mut self, cx: &mut Context<I>) {
        self.resume_some_datagrams(cx);
        while !self.pending.is_empty() && cx.engine.can_ingest() {
            let Some(PendingChunk {
                emitter: slot,
                chunk,
            }) = self.pending.pop_front()
            else {
                break;
            };
            let emitter = self.table.get(slot);
            if emitter.is_none_or(Emitter::is_unread) {
                cx.io.release(Group::Ingress, chunk);
            } else if let Some(chunk) = self.ingest(cx, slot, chunk) {
                self.pending.push_front(PendingChunk {
                    emitter: slot,
                    chunk,
                });
                break;
            }
            if let Some(emitter) = self.table.get_mut(slot) {
                emitter.pending -= 1;
                // It was held while this waited.
                if emitter.is_leaving {
                    self.leave(cx, slot);
                }
            }
            self.close_if_finished(cx, slot);
        }
        while !self.ending.is_empty() && self.pending.is_empty() && cx.engine.can_ingest() {
            if let Some(slot) = self.ending.pop_front() {
                self.close_if_finished(cx, slot);
            }
        }
        if self.pending.is_empty() {
            self.resume_datagrams(cx);
        }
        self.account_stall(cx);
        if self.pending.is_empty() {
            self.rearm_receives(cx);
        }
    }

    fn rearm_receives(&mut self, cx: &mut Context<I>) {
        self.broken.clear();
        while let Some(slot) = self.rearm.pop_front() {
            let is_read = self.is_read(cx, slot);
            let Some(emitter) = self.table.get_mut(slot) else {
                continue;
            };
            emitter.ended |= !is_read;
            if emitter.ended || emitter.receiving || emitter.is_paused() {
                self.close_if_finished(cx, slot);
                continue;
            }
            self.receive_from(cx, slot);
        }
    }

    fn account_stall(&mut self, cx: &mut Context<I>) {
        let stalled = self.has_pending();
        match (stalled, self.stalled_since_ns) {
            (true, None) => {
                self.stalled_since_ns = Some(cx.now_ns);
                cx.engine.counters.stalls += 1;
            }
            (false, Some(since)) => {
                self.stalled_since_ns = None;
                cx.engine.counters.stalled_ns += cx.now_ns - since;
            }
            _ => {}
        }
    }

    /// The graceful close is over. Emitters that have closed are read to their end, as long as draining
    /// lasts: they believe that all is well. What the others' sockets hold was never taken in.
    pub(crate) fn stop_receiving(&mut self, cx: &mut Context<I>) {
        for slot in self.table.slots() {
            if self.is_read(cx, slot) {
                continue;
            }
            let Some(emitter) = self.table.get_mut(slot) else {
                continue;
            };
            if emitter.receiving {
                cx.io
                    .cancel(token(Kind::EmitterReceive, slot), bare(Kind::Cancel));
            } else {
                emitter.ended = true;
                self.close_if_finished(cx, slot);
            }
        }
    }
}

/// An address as the engine knows it.
pub(super) fn number_of(address: IpAddr) -> u128 {
    let v6 = match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    u128::from(v6)
}

/// The first bytes of a stream that is not known.
fn hex(seen: &[u8]) -> String {
    let digits = seen
        .iter()
        .take(HEX_BYTES)
        .map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// What speaks, when a stream begins with these bytes and cannot be followed: what to count it as, and a sentence.
/// None of who is at the right port: the error says what is wrong.
fn spoken_at_start(seen: &[u8]) -> Option<(&'static str, String)> {
    if let Some(foreign) = foreign::recognize(seen) {
        if foreign == Foreign::WeirEmitter {
            return None;
        }
        return Some((foreign.as_str(), foreign.sentence()));
    }
    let text = "this looks like an analyzer's first weight; analyzers have a port of their own (--analyzers)";
    detect::is_first_weight(seen).then(|| ("first_weight", text.to_owned()))
}
