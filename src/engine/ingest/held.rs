//! What comes before the bytes that are received: what was unpacked and not taken yet, and the part of a step that was
//! carried. Of that a turn takes what `unpacking.rs` allows.
//!
//! ```text
//! unpacked -> carried, completed from what is received -> received, where it lies (ingest.rs)
//! ```

use super::{Ingest, Refusal, Turn};
use crate::assembler::Unpacked;
use crate::shard::Engine;
use crate::Memory;
use weir_source::{with_source, Source, SourceError, Step};

/// What [`Engine::finish_carried`] has come to.
enum Finished {
    /// The step is done.
    Step,
    /// It needs more bytes than there are.
    NotYet,
    /// Whole; what follows is another thing.
    Turn(Turn),
}

/// A step that has asked for more so many times gets twice what it has. Each time costs as much as some message: a value
/// that is nested a million times asks a million times.
const ASKED_MAX: u32 = 64;

impl<M: Memory> Engine<M> {
    /// What was unpacked and what was carried comes before what is received. `Some`: nothing of that is taken now.
    #[inline]
    pub(super) fn ingest_held<S: Source>(
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
            let before = self.assemblers[emitter].carried().len();
            match self.finish_carried(emitter, source, rest)? {
                Finished::Step => {
                    let left = self.assemblers[emitter].carried().len();
                    self.took_carried(before.saturating_sub(left), left)?;
                    self.take_whole(emitter, source)?;
                }
                Finished::NotYet => return Ok(Some(None)),
                Finished::Turn(turn) => return Ok(Some(Some(turn))),
            }
        }
    }

    /// A unit that was held whole is taken in pieces as well. What follows one frame is none.
    #[inline]
    fn took_carried(&mut self, bytes: usize, left: usize) -> Result<(), Refusal> {
        if left == 0 {
            return Ok(());
        }
        self.unpacking.took_held(bytes);
        match self.unpacking.is_spent() {
            true => Err(Refusal::Held),
            false => Ok(()),
        }
    }

    /// Takes the elements that are whole in what is carried. Of a unit that was held until it was whole all are, and each
    /// that is completed for itself costs as much as two that are not.
    fn take_whole<S: Source>(&mut self, emitter: usize, source: &mut S) -> Result<(), Refusal> {
        if self.assemblers[emitter].carried().is_empty() {
            return Ok(());
        }
        let mut assembler = std::mem::take(&mut self.assemblers[emitter]);
        let before = assembler.carried().len();
        let (limits, ticket) = (self.limits(), self.ticket_of::<S>(emitter));
        let mut rest = assembler.carried();
        let mut outcome = Ok(());
        while !rest.is_empty() && outcome.is_ok() {
            let used = if let Some((used, element)) = source.plain(rest, limits) {
                if let Err(stalled) = self.route_held::<S>(ticket, element) {
                    outcome = Err(stalled.into());
                    break;
                }
                source.plain_taken();
                used
            } else {
                // Whatever else comes is asked for again where there is more to it.
                let Ok(Step::Element { used, element }) = source.next(rest, limits) else {
                    break;
                };
                outcome = self.route_apart::<S>(ticket, element);
                if outcome.is_err() {
                    break;
                }
                source.taken();
                used
            };
            rest = rest.get(used..).unwrap_or_default();
            outcome = self.took_carried(used, rest.len());
        }
        let left = rest.len();
        assembler.forget(before - left, &mut self.spares);
        self.partial_bytes -= before - left;
        self.assemblers[emitter] = assembler;
        outcome
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
        let mut asked = 0;
        loop {
            // Taken out, so that its bytes can be routed where they lie.
            let mut assembler = std::mem::take(&mut self.assemblers[emitter]);
            let mut is_unpacked = false;
            let outcome = match source.next(assembler.carried(), limits) {
                Err(error) => Err(Refusal::Source(error)),
                Ok(Step::NeedMore { bytes }) => {
                    let bytes = source.reach(assembler.carried().len(), bytes, rest);
                    self.assemblers[emitter] = assembler;
                    asked += 1;
                    let more = match asked {
                        0..ASKED_MAX => 0,
                        _ => 2 * self.assemblers[emitter].carried().len(),
                    };
                    self.carry(emitter, rest, bytes.max(more))?;
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
                    let unpacked = self.unpack(emitter, (coding, packed, bytes_max));
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
                    assembler.truncate(carried_before, &mut self.spares);
                    *rest = offered;
                }
                Ok((used, _)) => {
                    assembler.forget(used, &mut self.spares);
                    if !is_unpacked {
                        source.taken();
                    }
                }
                Err(Refusal::Stall | Refusal::Held | Refusal::Queued) => {
                    assembler.truncate(carried_before, &mut self.spares);
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

    /// Takes what was unpacked before.
    #[inline]
    pub(super) fn ingest_unpacked<S: Source>(
        &mut self,
        emitter: usize,
        source: &mut S,
    ) -> Result<(), Refusal> {
        let Some(mut unpacked) = self.assemblers[emitter].take_unpacked() else {
            return Ok(());
        };
        let outcome = self.ingest_all_unpacked(emitter, source, &mut unpacked);
        match outcome {
            Err(Refusal::Stall | Refusal::Held) => {
                self.assemblers[emitter].put_unpacked(unpacked);
                self.unpacking.pause(emitter);
            }
            _ => self.unpacking.release(emitter),
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
            if let Some((used, element)) = source.plain(unpacked.rest(), limits) {
                self.route_held::<S>(ticket, element)?;
                unpacked.advance(used);
                source.plain_taken();
                self.took_unpacked(emitter, used, unpacked)?;
                continue;
            }
            let used = match source.next(unpacked.rest(), limits) {
                Err(error) => return Err(Refusal::Source(error)),
                Ok(Step::Element { used, element }) => {
                    self.route_apart::<S>(ticket, element)?;
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
            self.took_unpacked(emitter, used, unpacked)?;
        }
    }

    #[inline]
    fn took_unpacked(
        &mut self,
        emitter: usize,
        bytes: usize,
        unpacked: &Unpacked,
    ) -> Result<(), Refusal> {
        self.unpacking.took(bytes);
        let is_over = unpacked.rest().is_empty() || !self.unpacking.is_spent();
        match !is_over && self.unpacking.may_pause(emitter) {
            true => Err(Refusal::Held),
            false => Ok(()),
        }
    }

    pub(super) fn carry(
        &mut self,
        emitter: usize,
        rest: &mut &[u8],
        want: usize,
    ) -> Result<(), Refusal> {
        let before = rest.len();
        let missing = want.saturating_sub(self.assemblers[emitter].carried().len());
        if !self.make_partial_room(emitter, missing.min(before)) {
            return Err(Refusal::PartialMemory);
        }
        let spares = &mut self.spares;
        self.assemblers[emitter].fill(rest, want, self.frames_ns, spares);
        self.partial_bytes += before - rest.len();
        Ok(())
    }

    pub(super) fn carry_all(&mut self, emitter: usize, rest: &mut &[u8]) -> Result<(), Refusal> {
        let want = self.assemblers[emitter].carried().len() + rest.len();
        if self.make_partial_room(emitter, rest.len()) {
            self.assemblers[emitter].reserve(rest.len());
        }
        self.carry(emitter, rest, want)
    }

    /// The stream is not followed any more: its partial frame makes room, and so does what it had packed. Returns the
    /// frame's bytes.
    pub(crate) fn forget_carried(&mut self, emitter: usize) -> u64 {
        let assembler = &mut self.assemblers[emitter];
        let carried = assembler.carried().len();
        self.partial_bytes -= carried;
        assembler.clear(&mut self.spares);
        assembler.take_unpacked();
        self.unpacking.release(emitter);
        carried as u64
    }

    /// A stream has ended, and all of it was offered. Its end may complete an element: then that goes to a lane, or
    /// waits for one ([`Ingest::Stalled`]; ask again).
    pub fn emitter_ended(&mut self, emitter: usize) -> Ingest {
        self.note_end(emitter);
        if self.assemblers[emitter].carried().is_empty() {
            return Ingest::Taken;
        }
        if (self.stalled || !self.rerouting.is_idle()) && !self.can_ingest() {
            return Ingest::Stalled { taken: 0 };
        }
        let mut stream = std::mem::take(&mut self.streams[emitter]);
        let assembler = std::mem::take(&mut self.assemblers[emitter]);
        self.note_protocol(&stream);
        let outcome = with_source!(&mut stream, source => {
            self.end_of_stream(emitter, source, assembler.carried())
        });
        self.whence_is_over();
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

    /// Takes what an emitter's source calls whole when nothing has come behind it for so long, in nanoseconds.
    pub fn take_quiet(&mut self, emitter: usize, quiet_ns: u64) {
        let assembler = &self.assemblers[emitter];
        let is_quiet = assembler.age_ns(self.frames_ns) >= quiet_ns;
        if assembler.carried().is_empty() || !is_quiet || !self.can_ingest() {
            return;
        }
        let mut stream = std::mem::take(&mut self.streams[emitter]);
        let assembler = std::mem::take(&mut self.assemblers[emitter]);
        self.note_protocol(&stream);
        let is_taken = with_source!(&mut stream, source => {
            self.quiet_element(emitter, source, assembler.carried())
        });
        self.whence_is_over();
        self.streams[emitter] = stream;
        self.assemblers[emitter] = assembler;
        if is_taken {
            self.forget_carried(emitter);
        }
    }

    fn quiet_element<S: Source>(&mut self, emitter: usize, source: &mut S, rest: &[u8]) -> bool {
        let limits = self.limits();
        let element = source.quiet(rest, limits);
        let is_taken =
            element.is_some_and(|element| self.route_carried::<S>(emitter, element).is_ok());
        if is_taken {
            source.taken();
        }
        is_taken
    }
}
