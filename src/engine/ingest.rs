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

use super::assembler::{Assembler, Unpacked};
use super::counters::Reason;
use super::lane::Layout;
use super::receipts::Ticket;
use super::shard::Engine;
use super::tree::UnitSize;
use super::{LaneId, LinkEpoch, Memory, Origin};
use std::sync::Arc;
use weir_inflate::{inflate, Coding, InflateError};
use weir_protocol::foreign::LOOK_BYTES;
use weir_protocol::frame::FrameError;
use weir_protocol::native::NativeError;
use weir_protocol::record::{wrap_parts, WRAPPED_HEADER_BYTES};
use weir_protocol::Form;
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

/// The shard of an origin that a sender gave: there is none with this number.
const ORIGIN_OF_SENDER: u16 = u16::MAX;

/// Why ingest ends early.
enum Refusal {
    Stall,
    Source(SourceError),
    PartialMemory,
}

/// What [`Engine::finish_carried`] has come to.
enum Finished {
    /// The step is done.
    Step,
    /// It needs more bytes than there are.
    NotYet,
    /// Whole; what follows is another thing.
    Turn(Turn),
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
            if self.speaks(emitter, protocol, port.ack).is_err() {
                // Its first bytes are refused, and it is not greeted.
                self.counters.count(Reason::AckUnitsFull);
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
        self.streams[emitter] = Stream::default();
        self.receipts.units.close(emitter);
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
        self.streams[emitter] = stream;
        let taken = data.len() - rest.len();
        self.assemblers[emitter].advance(taken);
        match outcome {
            Ok(Some(Turn::Ends)) => Ingest::Ended { taken },
            Ok(_) => Ingest::Taken,
            Err(Refusal::Stall) => {
                self.stalled = true;
                Ingest::Stalled { taken }
            }
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
            Err(Refusal::PartialMemory) => {
                self.counters.count(Reason::PartialMemoryFull);
                self.forget_carried(emitter);
                Ingest::PartialMemoryFull
            }
        }
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

    /// The stream is not followed any more: its partial frame makes room, and so does what it had packed. Returns the
    /// frame's bytes.
    pub(super) fn forget_carried(&mut self, emitter: usize) -> u64 {
        let assembler = &mut self.assemblers[emitter];
        let carried = assembler.carried().len();
        self.partial_bytes -= assembler.held();
        assembler.clear();
        assembler.take_unpacked();
        carried as u64
    }

    /// A stream has ended, and all of it was offered. Its end may complete an element: then that goes to a lane, or
    /// waits for one ([`Ingest::Stalled`]; ask again).
    pub fn emitter_ended(&mut self, emitter: usize) -> Ingest {
        if self.assemblers[emitter].carried().is_empty() {
            return Ingest::Taken;
        }
        if (self.stalled || !self.rerouting.is_idle()) && !self.can_ingest() {
            return Ingest::Stalled { taken: 0 };
        }
        let mut stream = std::mem::take(&mut self.streams[emitter]);
        let assembler = std::mem::take(&mut self.assemblers[emitter]);
        let outcome = with_source!(&mut stream, source => {
            self.end_of_stream(emitter, source, assembler.carried())
        });
        self.streams[emitter] = stream;
        self.assemblers[emitter] = assembler;
        match outcome {
            Ok(is_whole) => {
                if is_whole {
                    self.forget_carried(emitter);
                }
                Ingest::Taken
            }
            Err(_) => {
                self.stalled = true;
                Ingest::Stalled { taken: 0 }
            }
        }
    }

    fn end_of_stream<S: Source>(
        &mut self,
        emitter: usize,
        source: &mut S,
        rest: &[u8],
    ) -> Result<bool, Refusal> {
        let limits = self.limits();
        match source.ended(rest, limits) {
            Some(element) => self.route_carried::<S>(emitter, element).map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes what `rest` holds, with what was carried before it, until something else is to be done.
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
                    let bytes = self.unpack(emitter, coding, packed, bytes_max)?;
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

    /// What was unpacked and what was carried comes before what is received. `Some`: nothing of that is taken now.
    #[inline]
    fn ingest_held<S: Source>(
        &mut self,
        emitter: usize,
        source: &mut S,
        rest: &mut &[u8],
    ) -> Result<Option<Option<Turn>>, Refusal> {
        if !self.assemblers[emitter].holds_any() {
            return Ok(None);
        }
        loop {
            self.ingest_unpacked(emitter, source)?;
            if self.assemblers[emitter].carried().is_empty() {
                return Ok(None);
            }
            match self.finish_carried(emitter, source, rest)? {
                Finished::Step => {}
                Finished::NotYet => return Ok(Some(None)),
                Finished::Turn(turn) => return Ok(Some(Some(turn))),
            }
        }
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

    /// Completes the carried step from `rest`, and takes it when it is complete. When no lane can take its
    /// element, its last bytes stay in `rest`: what stays there is what the caller offers again.
    fn finish_carried<S: Source>(
        &mut self,
        emitter: usize,
        source: &mut S,
        rest: &mut &[u8],
    ) -> Result<Finished, Refusal> {
        let (offered, carried_before) = (*rest, self.assemblers[emitter].carried().len());
        let limits = self.limits();
        loop {
            // Taken out, so that its bytes can be routed where they lie.
            let mut assembler = std::mem::take(&mut self.assemblers[emitter]);
            let mut is_unpacked = false;
            let outcome = match source.next(assembler.carried(), limits) {
                Err(error) => Err(Refusal::Source(error)),
                Ok(Step::NeedMore { bytes }) => {
                    self.assemblers[emitter] = assembler;
                    self.carry(emitter, rest, bytes)?;
                    if self.assemblers[emitter].carried().len() < bytes {
                        return Ok(Finished::NotYet);
                    }
                    continue;
                }
                Ok(Step::Element { used, element }) => {
                    let routed = self.route_carried::<S>(emitter, element);
                    routed.map(|()| (used, Finished::Step))
                }
                Ok(Step::Unpack {
                    used,
                    packed,
                    coding,
                    bytes_max,
                }) => {
                    is_unpacked = true;
                    let unpacked = self.unpack(emitter, coding, packed, bytes_max);
                    unpacked.map(|bytes| {
                        assembler.set_unpacked(bytes);
                        (used, Finished::Step)
                    })
                }
                Ok(step) => match self.other_step(emitter, step) {
                    Ok((used, None)) => Ok((used, Finished::Step)),
                    Ok((used, Some(turn))) => Ok((used, Finished::Turn(turn))),
                    Err(error) => Err(Refusal::Source(error)),
                },
            };
            let before = assembler.carried().len();
            match outcome {
                Ok((used, Finished::Turn(Turn::Speaks(_)))) => {
                    debug_assert_eq!(used, 0);
                    assembler.truncate(carried_before);
                    *rest = offered;
                }
                Ok((used, _)) => {
                    assembler.forget(used);
                    if !is_unpacked {
                        source.taken();
                    }
                }
                Err(Refusal::Stall) => {
                    assembler.truncate(carried_before);
                    *rest = offered;
                }
                Err(_) => {}
            }
            self.partial_bytes -= before - assembler.carried().len();
            self.assemblers[emitter] = assembler;
            if is_unpacked && outcome.is_ok() {
                source.unpacked(self.assemblers[emitter].unpacked_bytes());
            }
            return outcome.map(|(_, finished)| finished);
        }
    }

    /// Unpacks, into memory that counts as that of partial frames does.
    fn unpack(
        &mut self,
        emitter: usize,
        coding: Coding,
        packed: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<u8>, Refusal> {
        let bytes = inflate(coding, packed, bytes_max);
        let bytes = bytes.map_err(|error| Refusal::Source(SourceError::Packed { error }))?;
        if !self.make_partial_room(emitter, bytes.len()) {
            return Err(Refusal::PartialMemory);
        }
        self.partial_bytes += bytes.len();
        Ok(bytes)
    }

    /// Takes what was unpacked before.
    #[inline]
    fn ingest_unpacked<S: Source>(
        &mut self,
        emitter: usize,
        source: &mut S,
    ) -> Result<(), Refusal> {
        let Some(mut unpacked) = self.assemblers[emitter].take_unpacked() else {
            return Ok(());
        };
        let outcome = self.ingest_all_unpacked(emitter, source, &mut unpacked);
        match outcome {
            Err(Refusal::Stall) => self.assemblers[emitter].put_unpacked(unpacked),
            _ => self.partial_bytes -= unpacked.len(),
        }
        outcome
    }

    fn ingest_all_unpacked<S: Source>(
        &mut self,
        emitter: usize,
        source: &mut S,
        unpacked: &mut Unpacked,
    ) -> Result<(), Refusal> {
        let wrong = |what| Err(Refusal::Source(SourceError::PackedWrong { what }));
        let limits = self.limits();
        let mut ticket = self.ticket_of::<S>(emitter);
        loop {
            let used = match source.next(unpacked.rest(), limits) {
                Err(error) => return Err(Refusal::Source(error)),
                Ok(Step::Element { used, element }) => {
                    self.route_of::<S>(ticket, element)?;
                    used
                }
                Ok(Step::NeedMore { .. }) if unpacked.rest().is_empty() => return Ok(()),
                Ok(Step::NeedMore { .. }) => {
                    return wrong("a compressed part ends within a message")
                }
                Ok(Step::Unpack { .. }) => {
                    return wrong("a compressed part has a compressed part in it")
                }
                Ok(Step::End { .. } | Step::Speaks(_)) => {
                    return wrong("a compressed part says how the connection goes on")
                }
                Ok(step) => {
                    let (used, _) = self.other_step(emitter, step).map_err(Refusal::Source)?;
                    ticket = self.ticket_of::<S>(emitter);
                    used
                }
            };
            unpacked.advance(used);
            source.taken();
        }
    }

    fn carry(&mut self, emitter: usize, rest: &mut &[u8], want: usize) -> Result<(), Refusal> {
        let before = rest.len();
        let missing = want.saturating_sub(self.assemblers[emitter].carried().len());
        if !self.make_partial_room(emitter, missing.min(before)) {
            return Err(Refusal::PartialMemory);
        }
        self.assemblers[emitter].fill(rest, want, self.frames_ns);
        self.partial_bytes += before - rest.len();
        Ok(())
    }

    /// Gives one element of a connection to one lane; where its source answers, the lane knows whose it is.
    #[inline(always)]
    fn route_of<S: Source>(&mut self, ticket: Ticket, element: Element) -> Result<(), Refusal> {
        if S::ANSWERS == Answers::Never {
            return self.route(element).map(drop);
        }
        if self.tickets_are_full() {
            return Err(Refusal::Stall);
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
    fn route(&mut self, element: Element) -> Result<LaneId, Refusal> {
        if self.pool.free() < self.ingest_floor || self.full_lanes >= self.full_lanes_max {
            return Err(Refusal::Stall);
        }
        let Some(leaf) = self.tree.route(UnitSize::ONE) else {
            return Err(Refusal::Stall);
        };
        let (header, bytes) = element.parts();
        let header = header.bytes();
        let slot = &mut self.lanes[leaf as usize];
        let is_resent = matches!(element, Element::Resent { .. });
        let needs_room = is_resent || !slot.lane.append_here(&mut self.memory, header, bytes);
        if needs_room {
            self.append_long(LaneId(leaf), &element);
        }
        // Counted before the lane may leave the choice: it was due by the weights so far.
        self.counters.received += 1;
        self.counters.received_bytes += (header.len() + bytes.len()) as u64;
        self.note_element_form(LaneId(leaf), element.form());
        if needs_room {
            self.mark_dirty(LaneId(leaf));
            self.check_full(LaneId(leaf));
        }
        Ok(LaneId(leaf))
    }

    /// The same, once a chunk.
    #[inline(never)]
    fn route_carried<S: Source>(
        &mut self,
        emitter: usize,
        element: Element,
    ) -> Result<(), Refusal> {
        let ticket = self.ticket_of::<S>(emitter);
        self.route_of::<S>(ticket, element)
    }

    /// The way of an element that opens a batch or a buffer, or becomes a record.
    fn append_long(&mut self, lane: LaneId, element: &Element) {
        let (header, bytes) = element.parts();
        let origin = self.origin_of_resent(element);
        let is_record = self.lanes[lane.0 as usize].lane.setup().layout == Layout::Records;
        if header.bytes().is_empty() && !is_record {
            self.sample(lane, bytes);
            let to = &mut self.lanes[lane.0 as usize].lane;
            to.append(&mut self.memory, &mut self.pool, bytes, origin);
            self.keep_origin_of_newest(lane, origin);
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        wrap_parts(element.form(), header.bytes(), bytes, &mut scratch);
        let frame = scratch.get(WRAPPED_HEADER_BYTES..).unwrap_or_default();
        self.sample(lane, frame);
        let to = &mut self.lanes[lane.0 as usize].lane;
        let appended = if is_record { &scratch[..] } else { frame };
        to.append(&mut self.memory, &mut self.pool, appended, None);
        self.keep_scratch(scratch);
        self.keep_origin_of_newest(lane, origin);
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
    #[inline]
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
        SourceError::Malformed { .. } | SourceError::Link { .. } => Reason::StreamMalformed,
        SourceError::Packed {
            error: InflateError::Corrupt { .. },
        }
        | SourceError::PackedWrong { .. } => Reason::PackedCorrupt,
        SourceError::Packed { .. } => Reason::PackedTooLarge,
        SourceError::UnitTooLong { .. } => Reason::UnitTooLong,
        SourceError::Window { .. } => Reason::WindowExceeded,
        SourceError::UnitsFull { .. } => Reason::AckUnitsFull,
        SourceError::Unspoken { .. } | SourceError::OtherStart { .. } => Reason::ForeignProtocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, Entry, LinkEpoch, OnSlow, Reach, Roster, VecMemory, Window};
    use weir_protocol::frame::encode_header;
    use weir_protocol::record::Record;

    /// One analyzer, reached so.
    fn engine(reach: Reach) -> Engine<VecMemory> {
        let config = EngineConfig {
            shard: 0,
            buffers: 32,
            buffer_bytes: 4096,
            frame_bytes_max: 8192,
            unit_bytes_max: 0,
            window_bytes: 1 << 20,
            window_messages: 100,
            partial_bytes_max: 1000,
            on_slow: OnSlow::Spill,
        };
        let mut engine = Engine::new(config, VecMemory::new(32, 4096));
        let roster = Roster {
            epoch: 1,
            entries: vec![Entry {
                analyzer: 0,
                name: "a".into(),
                weight: 1.0,
                draining: false,
                pinned: false,
                ejected: false,
                sink: reach.a_sink(),
                reach,
            }],
        };
        let link = (LinkEpoch::new(0, 1), Window::ANY);
        assert!(engine.apply_roster(&roster, |_| Some(link)));
        engine
    }

    fn sent(engine: &mut Engine<VecMemory>) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(range) = engine.transmit(LaneId(0), 0, false) {
            out.extend_from_slice(engine.memory.read(range.span));
        }
        out
    }

    /// The short one goes behind the tail, the others open a buffer, or take several.
    const SIZES: [usize; 4] = [7, 10, 4000, 6000];

    #[test]
    fn a_payload_becomes_a_frame_and_its_form_is_noted() {
        let home = Reach::SingleLink {
            home: 0,
            epoch: LinkEpoch::new(0, 1),
        };
        let mut engine = engine(home);
        let mut expected = Vec::new();
        for (form, len) in [Form::Json, Form::Raw]
            .into_iter()
            .zip(SIZES)
            .cycle()
            .take(6)
        {
            let bytes = vec![b'j'; len];
            let (severity, bytes) = (4, &bytes[..]);
            let element = Element::Payload {
                severity,
                form,
                bytes,
            };
            assert!(engine.route(element).is_ok());
            expected.extend_from_slice(&encode_header(len as u32, severity));
            expected.extend_from_slice(bytes);
        }
        for bytes in SIZES.map(|len| vec![b'r'; len]) {
            let frame = [&encode_header(bytes.len() as u32, 1)[..], &bytes].concat();
            assert!(engine.route(Element::Frame(&frame)).is_ok());
            expected.extend_from_slice(&frame);
        }
        assert_eq!(engine.counters.received_bytes, expected.len() as u64);
        assert!(sent(&mut engine) == expected, "frames, in order");
        let forms: Vec<Form> = (1..=10)
            .map(|message| engine.lanes[0].forms.of(message))
            .collect();
        let (json, raw) = (Form::Json, Form::Raw);
        assert_eq!(forms, [json, raw, json, raw, json, raw, raw, raw, raw, raw]);
        assert_eq!(engine.check(), Ok(()));
    }

    #[test]
    fn a_lane_of_records_says_the_form_of_each() {
        let mut engine = engine(Reach::Http { generation: 1 });
        let big = vec![b'{'; 6000];
        let payloads = [
            (Form::Json, &b"{}"[..]),
            (Form::Raw, b"text"),
            (Form::Json, &big),
        ];
        for (form, bytes) in payloads {
            let element = Element::Payload {
                severity: 3,
                form,
                bytes,
            };
            assert!(engine.route(element).is_ok());
        }
        let out = sent(&mut engine);
        let mut rest = &out[..];
        for (form, bytes) in payloads {
            let (record, after) = Record::parse(rest).expect("a record");
            let frame = record.frame().expect("of one frame");
            assert_eq!((record.form(), &frame[5..]), (form, bytes));
            rest = after;
        }
        assert!(rest.is_empty());
        assert_eq!(engine.forms_kept, 0, "the records say it");
    }
}
