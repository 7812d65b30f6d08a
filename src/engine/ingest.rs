//! Source, route, batch: the hot path. Every received byte of an emitter passes through here once.
//!
//! ```text
//! received  [..rest of a carried element][element][element][element][part]
//!             finish_carried               route    route    route    carry
//!                                            `-> tree -> lane's tail
//! ```
//!
//! What an element is says the connection's source (`src/source`). The loop over a chunk is compiled for each
//! source by itself: which one it is, is asked once a chunk.

mod datagram;
mod entries;
mod held;
#[cfg(test)]
mod tests;

use super::ack_units::is_skipped;
use super::assembler::Assembler;
use super::counters::Reason;
use super::lane::Layout;
use super::receipts::Ticket;
use super::shard::Engine;
use super::tree::UnitSize;
use super::{LaneId, LinkEpoch, Memory, Origin};
use std::sync::Arc;
use weir_inflate::InflateError;
use weir_protocol::foreign::LOOK_BYTES;
use weir_protocol::frame::FrameError;
use weir_protocol::native::NativeError;
use weir_protocol::record::{wrap_parts, WRAPPED_HEADER_BYTES};
use weir_protocol::Form;
use weir_source::forward::ForwardError;
use weir_source::{
    with_source, Answers, Element, Limits, Oddity, Port, Protocol, Source, SourceError, Step,
    Stream,
};

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ingest {
    /// All taken.
    Taken,
    /// Only this many bytes were taken; offer the rest again when [`Engine::can_ingest`], also if there is none: what
    /// was packed in the bytes that were taken waits.
    Stalled {
        /// Bytes that were taken.
        taken: usize,
    },
    /// All taken, and what is packed in it, or was held whole, is more than one turn's work: the rest waits. Offer
    /// nothing in a later turn, so that it goes on; what comes until then goes behind it ([`Engine::keep`]).
    Held {
        /// Not before [`Engine::is_unpacking`] says no.
        is_queued: bool,
    },
    /// The stream says that it ends here, after so many bytes: nothing more is to be offered.
    Ended {
        /// Bytes that were taken.
        taken: usize,
    },
    /// The stream cannot be followed: close it. Whole elements before were taken. See
    /// [`Engine::bad_bytes`].
    BadStream {
        /// What is wrong.
        error: SourceError,
        /// What it is counted as.
        reason: Reason,
        /// Where in the stream that begins, in bytes.
        offset: u64,
    },
    /// The memory for partial frames is full, and its own takes most of it: close it. Whole elements before
    /// were taken.
    PartialMemoryFull,
}

pub use datagram::DatagramTaken;

/// The shard of an origin that a sender gave: there is none with this number.
const ORIGIN_OF_SENDER: u16 = u16::MAX;

/// Why ingest ends early.
pub(super) enum Refusal {
    /// No lane can take anything.
    Stall,
    /// There was enough work for one turn.
    Held,
    /// The same, and somebody else comes first.
    Queued,
    Source(SourceError),
    PartialMemory,
}

/// No lane can take anything: all that can keep one element from its lane, and smaller than a [`Refusal`].
pub(super) struct Stalled;

impl From<Stalled> for Refusal {
    fn from(Stalled: Stalled) -> Refusal {
        Refusal::Stall
    }
}

/// What a source's loop ends with before its bytes do.
enum Turn {
    Speaks(Protocol),
    Ends,
}

impl<M: Memory> Engine<M> {
    /// An emitter connected to `port`; `emitter` is the index of its connection.
    pub fn emitter_opened(&mut self, emitter: usize, port: &Arc<Port>) {
        if self.assemblers.len() <= emitter {
            self.assemblers.resize_with(emitter + 1, Assembler::default);
            self.streams.resize_with(emitter + 1, Stream::default);
        }
        self.assemblers[emitter] = Assembler::default();
        self.streams[emitter] = Stream::at(port);
        if let Some(protocol) = port.greets() {
            if let Err(error) = self.speaks(emitter, protocol, port.ack) {
                // Its first bytes are refused, and it is not greeted.
                self.counters.count(reason_of(error));
                self.streams[emitter] = Stream::default();
            }
        }
    }

    /// An emitter is gone. A frame that it left unfinished is counted and forgotten: it was never
    /// taken in.
    pub fn emitter_closed(&mut self, emitter: usize) {
        if self.forget_carried(emitter) > 0 {
            self.counters.count(Reason::FrameCutOff);
        }
        self.assemblers[emitter] = Assembler::default();
        let is_whole = self.is_between_units(emitter);
        self.streams[emitter] = Stream::default();
        self.receipts.units.close(emitter, is_whole);
        self.emitter_is_at(emitter, 0);
    }

    /// Whether it is not known yet what an emitter speaks.
    pub fn is_undecided(&self, emitter: usize) -> bool {
        matches!(self.streams[emitter], Stream::Undecided(_))
    }

    /// What was sent decides what an emitter speaks, though more could tell better: it was waited for long enough. As
    /// [`Engine::ingest`] of no bytes.
    pub fn decide_now(&mut self, emitter: usize) -> Ingest {
        if let Stream::Undecided(undecided) = &mut self.streams[emitter] {
            undecided.decide_now();
        }
        self.ingest(emitter, &[])
    }

    /// Whether an emitter has sent anything.
    pub fn emitter_was_heard(&self, emitter: usize) -> bool {
        self.assemblers[emitter].offset() > 0
    }

    /// Whether [`Engine::ingest`] can take anything now.
    pub fn can_ingest(&mut self) -> bool {
        if !self.rerouting.is_idle() || self.full_lanes >= self.full_lanes_max {
            self.stalled = true;
            return false;
        }
        let level = if self.stalled {
            self.resume_level
        } else {
            self.ingest_floor
        };
        let ok = self.pool.free() >= level && self.has_open_lane() && !self.tickets_are_full();
        self.stalled = !ok;
        ok
    }

    /// Takes in what an emitter sent: each whole element goes to one lane. Others may have to go for it, see
    /// [`Engine::next_evicted`].
    pub fn ingest(&mut self, emitter: usize, data: &[u8]) -> Ingest {
        if (self.stalled || !self.rerouting.is_idle()) && !self.can_ingest() {
            return Ingest::Stalled { taken: 0 };
        }
        let mut rest = data;
        let mut stream = std::mem::take(&mut self.streams[emitter]);
        let outcome = loop {
            self.note_protocol(&stream);
            let outcome = with_source!(&mut stream, source => {
                self.ingest_stream(emitter, source, &mut rest)
            });
            match outcome {
                Ok(Some(Turn::Speaks(protocol))) => {
                    if let Err(error) = self.decided(emitter, &mut stream, protocol) {
                        break Err(Refusal::Source(error));
                    }
                }
                Ok(turn) => break Ok(turn),
                Err(refusal) => break Err(refusal),
            }
        };
        self.whence_is_over();
        self.streams[emitter] = stream;
        let outcome = match outcome {
            Err(held @ (Refusal::Held | Refusal::Queued)) => {
                // Receive memory is for those who are read from.
                self.carry_all(emitter, &mut rest).and(Err(held))
            }
            outcome => outcome,
        };
        let taken = data.len() - rest.len();
        self.assemblers[emitter].advance(taken);
        match outcome {
            Ok(Some(Turn::Ends)) => Ingest::Ended { taken },
            Ok(_) => Ingest::Taken,
            Err(Refusal::Stall) => {
                self.stalled = true;
                Ingest::Stalled { taken }
            }
            Err(Refusal::Held) => Ingest::Held { is_queued: false },
            Err(Refusal::Queued) => Ingest::Held { is_queued: true },
            Err(Refusal::Source(error)) => {
                let reason = reason_of(error);
                self.counters.count(reason);
                self.look_at(emitter, rest);
                let offset = self.assemblers[emitter].offset() - self.forget_carried(emitter);
                Ingest::BadStream {
                    error,
                    reason,
                    offset,
                }
            }
            Err(Refusal::PartialMemory) => self.partial_memory_is_full(emitter),
        }
    }

    fn partial_memory_is_full(&mut self, emitter: usize) -> Ingest {
        self.counters.count(Reason::PartialMemoryFull);
        self.forget_carried(emitter);
        Ingest::PartialMemoryFull
    }

    /// Puts what has come behind what waits for its turn: [`Ingest::Taken`], or [`Ingest::PartialMemoryFull`].
    pub fn keep(&mut self, emitter: usize, data: &[u8]) -> Ingest {
        if self.carry_all(emitter, &mut &*data).is_err() {
            return self.partial_memory_is_full(emitter);
        }
        self.assemblers[emitter].advance(data.len());
        Ingest::Taken
    }

    /// What a stream that cannot be followed has at [`Ingest::BadStream`]'s offset: the first bytes of it that were
    /// there, at most [`LOOK_BYTES`]. Until the next stream that cannot be followed.
    pub fn bad_bytes(&self) -> &[u8] {
        &self.bad_bytes
    }

    fn look_at(&mut self, emitter: usize, rest: &[u8]) {
        let carried = self.assemblers[emitter].carried();
        let seen = carried.iter().chain(rest).take(LOOK_BYTES);
        self.bad_bytes.clear();
        self.bad_bytes.extend(seen);
    }

    /// What a connection speaks is known now.
    fn decided(
        &mut self,
        emitter: usize,
        stream: &mut Stream,
        protocol: Protocol,
    ) -> Result<(), SourceError> {
        let Stream::Undecided(undecided) = stream else {
            return Ok(());
        };
        let Some(port) = undecided.port().cloned() else {
            return Ok(());
        };
        *stream = protocol.start(&port);
        self.speaks(emitter, protocol, port.ack)
    }

    /// Takes what `rest` holds, with what was carried before it, until something else is to be done. A function for each
    /// source: in one for all, each loop would have fewer registers.
    #[inline(never)]
    fn ingest_stream<S: Source>(
        &mut self,
        emitter: usize,
        source: &mut S,
        rest: &mut &[u8],
    ) -> Result<Option<Turn>, Refusal> {
        if let Some(turn) = self.ingest_held(emitter, source, rest)? {
            return Ok(turn);
        }
        let limits = self.limits();
        let mut ticket = self.ticket_of::<S>(emitter);
        while !rest.is_empty() {
            let mut left = *rest;
            while let Some((used, element)) = source.plain(left, limits) {
                let routed = self.route_of::<S>(ticket, element);
                if routed.is_err() {
                    *rest = left;
                    return Err(Refusal::Stall);
                }
                left = left.get(used..).unwrap_or_default();
                source.plain_taken();
            }
            *rest = left;
            if left.is_empty() {
                break;
            }
            let used = match source.next(rest, limits).map_err(Refusal::Source)? {
                Step::Element { used, element } => {
                    self.route_of::<S>(ticket, element)?;
                    used
                }
                Step::NeedMore { .. } => {
                    let bytes = rest.len();
                    self.carry(emitter, rest, bytes)?;
                    break;
                }
                Step::Unpack {
                    used,
                    packed,
                    coding,
                    bytes_max,
                } => {
                    let bytes = self.unpack(emitter, (coding, packed, bytes_max))?;
                    self.assemblers[emitter].set_unpacked(bytes);
                    *rest = rest.get(used..).unwrap_or_default();
                    source.unpacked(self.assemblers[emitter].unpacked_bytes());
                    self.ingest_unpacked(emitter, source)?;
                    ticket = self.ticket_of::<S>(emitter);
                    continue;
                }
                step => {
                    let (used, turn) = self.other_step(emitter, step).map_err(Refusal::Source)?;
                    if turn.is_some() {
                        *rest = rest.get(used..).unwrap_or_default();
                        return Ok(turn);
                    }
                    ticket = self.ticket_of::<S>(emitter);
                    used
                }
            };
            *rest = rest.get(used..).unwrap_or_default();
            source.taken();
        }
        Ok(None)
    }

    /// A step that is neither an element nor about bytes to come: how many it uses, and whether something else is to
    /// be done behind it.
    #[inline(never)]
    fn other_step(
        &mut self,
        emitter: usize,
        step: Step,
    ) -> Result<(usize, Option<Turn>), SourceError> {
        match step {
            Step::Unit { used, unit } => {
                self.unit_begins(emitter, unit)?;
                Ok((used, None))
            }
            Step::UnitEnd { used, elements } => {
                self.unit_ends(emitter, elements);
                Ok((used, None))
            }
            Step::NoUnit { used } => {
                self.no_unit(emitter);
                Ok((used, None))
            }
            Step::Nothing { used } => Ok((used, None)),
            Step::Skipped { used, why } => {
                self.counters.count(reason_of_oddity(why));
                Ok((used, None))
            }
            Step::End { used } => Ok((used, Some(Turn::Ends))),
            Step::Speaks(protocol) => Ok((0, Some(Turn::Speaks(protocol)))),
            Step::Element { .. } | Step::NeedMore { .. } | Step::Unpack { .. } => {
                debug_assert!(false, "steps of their own");
                Ok((0, None))
            }
        }
    }

    /// Gives one element of a connection to one lane; where its source answers, the lane knows whose it is.
    #[inline(always)]
    pub(super) fn route_of<S: Source>(
        &mut self,
        ticket: Ticket,
        element: Element,
    ) -> Result<(), Stalled> {
        if let Element::Entry {
            severity,
            tag,
            entry,
        } = element
        {
            return self.route_entry::<S>(ticket, severity, tag, entry);
        }
        self.route_ready::<S>(ticket, element)
    }

    /// The same of an element whose bytes are those of its message.
    #[inline(always)]
    fn route_ready<S: Source>(&mut self, ticket: Ticket, element: Element) -> Result<(), Stalled> {
        if S::ANSWERS == Answers::Never {
            return self.route(element).map(drop);
        }
        if is_skipped(ticket) {
            self.counters.joined += 1;
            return Ok(());
        }
        if self.tickets_are_full() {
            return Err(Stalled);
        }
        let lane = self.route(element)?;
        self.note_element(ticket, lane);
        Ok(())
    }

    /// Whose the next element is; of a source that answers nobody's.
    #[inline]
    fn ticket_of<S: Source>(&self, emitter: usize) -> Ticket {
        match S::ANSWERS {
            Answers::Never => 0,
            _ => self.current_ticket(emitter),
        }
    }

    /// Gives one element to one lane. In the loop of each source, which knows what its elements are.
    #[inline(always)]
    fn route(&mut self, element: Element) -> Result<LaneId, Stalled> {
        let Some(lane) = self.choose() else {
            return Err(Stalled);
        };
        self.put(lane, element);
        Ok(lane)
    }

    /// The lane that is due; none: nobody can take anything.
    #[inline(always)]
    fn choose(&mut self) -> Option<LaneId> {
        if self.pool.free() < self.ingest_floor || self.full_lanes >= self.full_lanes_max {
            return None;
        }
        self.tree.route(UnitSize::ONE).map(LaneId)
    }

    #[inline(always)]
    fn put(&mut self, lane: LaneId, element: Element) {
        let LaneId(leaf) = lane;
        let (header, bytes) = element.parts();
        let header = header.bytes();
        let slot = &mut self.lanes[leaf as usize];
        let is_resent = matches!(element, Element::Resent { .. });
        let needs_room = is_resent || !slot.lane.append_here(&mut self.memory, header, bytes);
        let is_news = needs_room && self.append_long(LaneId(leaf), &element);
        // Counted before the lane may leave the choice: it was due by the weights so far.
        self.counters.received += 1;
        self.counters.received_bytes += (header.len() + bytes.len()) as u64;
        self.note_element_form(LaneId(leaf), element.form());
        if is_news {
            self.mark_dirty(LaneId(leaf));
            self.check_full(LaneId(leaf));
        }
    }

    /// The same, out of the loop.
    #[inline(never)]
    fn route_apart<S: Source>(&mut self, ticket: Ticket, element: Element) -> Result<(), Refusal> {
        self.route_of::<S>(ticket, element).map_err(Refusal::from)
    }

    /// The same of what was held before it is routed: entries of Fluent Forward in the first place.
    #[inline(always)]
    pub(super) fn route_held<S: Source>(
        &mut self,
        ticket: Ticket,
        element: Element,
    ) -> Result<(), Stalled> {
        match element {
            Element::Entry {
                severity,
                tag,
                entry,
            } => self.route_entry::<S>(ticket, severity, tag, entry),
            element => self.route_of_held::<S>(ticket, element),
        }
    }

    #[inline(never)]
    fn route_of_held<S: Source>(
        &mut self,
        ticket: Ticket,
        element: Element,
    ) -> Result<(), Stalled> {
        self.route_ready::<S>(ticket, element)
    }

    /// The same, once a chunk.
    #[inline(never)]
    fn route_carried<S: Source>(
        &mut self,
        emitter: usize,
        element: Element,
    ) -> Result<(), Refusal> {
        let ticket = self.ticket_of::<S>(emitter);
        self.route_of::<S>(ticket, element).map_err(Refusal::from)
    }

    /// The way of an element that opens a batch or a buffer, or becomes a record. False: the lane is as it was, but for
    /// one more behind others that wait to be sent.
    fn append_long(&mut self, lane: LaneId, element: &Element) -> bool {
        let (header, bytes) = element.parts();
        let is_resent = matches!(element, Element::Resent { .. });
        let to = &mut self.lanes[lane.0 as usize].lane;
        let (form, frame) = (element.form(), header.bytes());
        if !is_resent && to.append_wrapped_here(&mut self.memory, form, frame, bytes) {
            return false;
        }
        let origin = self.origin_of_resent(element);
        if self.is_described(lane) {
            self.append_described(lane, element, origin);
            self.keep_origin_of_newest(lane, origin);
            return true;
        }
        let is_record = self.lanes[lane.0 as usize].lane.setup().layout == Layout::Records;
        if header.bytes().is_empty() && !is_record {
            self.sample(lane, bytes, element.form());
            let to = &mut self.lanes[lane.0 as usize].lane;
            to.append(&mut self.memory, &mut self.pool, bytes, origin);
            self.keep_origin_of_newest(lane, origin);
            return true;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        wrap_parts(element.form(), header.bytes(), bytes, &mut scratch);
        let frame = scratch.get(WRAPPED_HEADER_BYTES..).unwrap_or_default();
        self.sample(lane, frame, element.form());
        let to = &mut self.lanes[lane.0 as usize].lane;
        let appended = if is_record { &scratch[..] } else { frame };
        to.append(&mut self.memory, &mut self.pool, appended, None);
        self.keep_scratch(scratch);
        self.keep_origin_of_newest(lane, origin);
        true
    }

    /// Where bytes of a lane do not say it: what the sender calls its newest message.
    fn keep_origin_of_newest(&mut self, lane: LaneId, origin: Option<Origin>) {
        let lane = &mut self.lanes[lane.0 as usize].lane;
        let Some(origin) = origin.filter(|_| lane.setup().layout != Layout::Batches) else {
            return;
        };
        if self.origins_kept < self.origins_max {
            lane.keep_origin(1, origin);
            self.origins_kept += 1;
        } else {
            self.counters.identities_lost += 1;
        }
    }

    /// What a sender calls a message that it has sent again. An analyzer may have it already.
    fn origin_of_resent(&mut self, element: &Element) -> Option<Origin> {
        let Element::Resent {
            session, sequence, ..
        } = *element
        else {
            return None;
        };
        self.counters.resent += 1;
        self.counters.duplicates_possible += 1;
        Some(Origin {
            shard: ORIGIN_OF_SENDER,
            epoch: LinkEpoch(session),
            sequence,
        })
    }

    /// A raw element has no form to be noted: of a source of frames nothing is left of this.
    #[inline(always)]
    fn note_element_form(&mut self, lane: LaneId, form: Form) {
        if form == Form::Raw {
            return;
        }
        if self.lanes[lane.0 as usize].lane.setup().layout != Layout::Records {
            self.note_form(lane, 1, form);
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            frame_bytes_max: self.config.frame_bytes_max,
        }
    }
}

fn reason_of_oddity(why: Oddity) -> Reason {
    match why {
        Oddity::LineCut => Reason::LineCut,
        Oddity::WrongShape => Reason::WrongShape,
        Oddity::GroupMark => Reason::GroupMark,
        Oddity::NotLogs => Reason::NotLogs,
        Oddity::KeyRefused => Reason::KeyRefused,
    }
}

fn reason_of(error: SourceError) -> Reason {
    match error {
        SourceError::Frame(FrameError::TooShort { .. }) => Reason::FrameTooShort,
        SourceError::Frame(FrameError::TooLong { .. }) | SourceError::TooLong { .. } => {
            Reason::FrameTooLong
        }
        SourceError::Link {
            error: NativeError::Frame(error),
        } => reason_of(SourceError::Frame(error)),
        SourceError::Forward {
            error: ForwardError::NoPing,
        } => Reason::KeyRefused,
        SourceError::Forward { .. } => Reason::StreamMalformed,
        SourceError::Malformed { .. }
        | SourceError::Link { .. }
        | SourceError::Lumberjack { .. }
        | SourceError::Relp { .. } => Reason::StreamMalformed,
        SourceError::Packed {
            error: InflateError::Corrupt { .. },
        }
        | SourceError::PackedWrong { .. } => Reason::PackedCorrupt,
        SourceError::Packed { .. } => Reason::PackedTooLarge,
        SourceError::UnitTooLong { .. } => Reason::UnitTooLong,
        SourceError::Window { .. } => Reason::WindowExceeded,
        SourceError::UnitsFull { .. } => Reason::AckUnitsFull,
        SourceError::WeakAcks => Reason::WeakAcks,
        SourceError::Unspoken { .. } | SourceError::OtherStart { .. } => Reason::ForeignProtocol,
    }
}
