//! Frame, route, batch: the hot path. Every received byte of an emitter passes through here once.
//!
//! ```text
//! received  [..rest of a carried frame][frame][frame][frame][part]
//!             finish_carried             route  route  route  carry
//!                                          `-> tree -> lane's tail
//! ```

use super::assembler::Assembler;
use super::counters::Reason;
use super::lane::Form;
use super::shard::Engine;
use super::tree::UnitSize;
use super::{LaneId, Memory};
use weir_protocol::frame::{self, FrameError};
use weir_protocol::record::wrap_frame;

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingest {
    /// All taken.
    Taken,
    /// Only this many bytes were taken, fewer than were offered; offer the rest again when
    /// [`Engine::can_ingest`].
    Stalled {
        /// Bytes that were taken.
        taken: usize,
    },
    /// The stream cannot be followed: close it. Whole frames before were taken.
    BadFrame {
        /// What is wrong.
        error: FrameError,
        /// Where in the stream the frame starts, in bytes.
        offset: u64,
    },
    /// The memory for partial frames is full, and its own takes most of it: close it. Whole frames before
    /// were taken.
    PartialMemoryFull,
}

/// Why ingest ends early.
enum Refusal {
    Stall,
    Frame(FrameError),
    PartialMemory,
}

impl<M: Memory> Engine<M> {
    /// An emitter connected; `emitter` is the index of its connection.
    pub fn emitter_opened(&mut self, emitter: usize) {
        if self.assemblers.len() <= emitter {
            self.assemblers.resize_with(emitter + 1, Assembler::default);
        }
        self.assemblers[emitter] = Assembler::default();
    }

    /// An emitter is gone. A frame that it left unfinished is counted and forgotten: it was never
    /// taken in.
    pub fn emitter_closed(&mut self, emitter: usize) {
        if self.forget_carried(emitter) > 0 {
            self.counters.count(Reason::FrameCutOff);
        }
        self.assemblers[emitter] = Assembler::default();
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
        let ok = self.pool.free() >= level && self.has_open_lane();
        self.stalled = !ok;
        ok
    }

    /// Takes in what an emitter sent: each whole frame goes to one lane. Others may have to go for it, see
    /// [`Engine::next_evicted`].
    pub fn ingest(&mut self, emitter: usize, data: &[u8]) -> Ingest {
        if (self.stalled || !self.rerouting.is_idle()) && !self.can_ingest() {
            return Ingest::Stalled { taken: 0 };
        }
        let mut rest = data;
        let outcome = self.ingest_frames(emitter, &mut rest);
        let taken = data.len() - rest.len();
        self.assemblers[emitter].advance(taken);
        match outcome {
            Ok(()) => Ingest::Taken,
            Err(Refusal::Stall) => {
                self.stalled = true;
                Ingest::Stalled { taken }
            }
            Err(Refusal::Frame(error)) => {
                self.counters.count(match error {
                    FrameError::TooShort { .. } => Reason::FrameTooShort,
                    FrameError::TooLong { .. } => Reason::FrameTooLong,
                });
                let offset = self.assemblers[emitter].offset() - self.forget_carried(emitter);
                Ingest::BadFrame { error, offset }
            }
            Err(Refusal::PartialMemory) => {
                self.counters.count(Reason::PartialMemoryFull);
                self.forget_carried(emitter);
                Ingest::PartialMemoryFull
            }
        }
    }

    /// The stream is not followed any more: its partial frame makes room. Returns the frame's bytes.
    pub(super) fn forget_carried(&mut self, emitter: usize) -> u64 {
        let carried = self.assemblers[emitter].carried().len();
        self.partial_bytes -= carried;
        self.assemblers[emitter].clear();
        carried as u64
    }

    fn ingest_frames(&mut self, emitter: usize, rest: &mut &[u8]) -> Result<(), Refusal> {
        if !self.assemblers[emitter].carried().is_empty() {
            self.finish_carried(emitter, rest)?;
        }
        let max = self.config.frame_bytes_max;
        while let Some(len) = frame::peek(rest, max).map_err(Refusal::Frame)? {
            let Some((frame, after)) = rest.split_at_checked(len) else {
                break;
            };
            self.route(frame)?;
            *rest = after;
        }
        if !rest.is_empty() {
            let bytes = rest.len();
            self.carry(emitter, rest, bytes)?;
        }
        Ok(())
    }

    /// Completes the carried frame from `rest` and routes it, if it is complete. When no lane can
    /// take it, its last bytes stay in `rest`: what stays there is what the caller offers again.
    fn finish_carried(&mut self, emitter: usize, rest: &mut &[u8]) -> Result<(), Refusal> {
        let (offered, carried_before) = (*rest, self.assemblers[emitter].carried().len());
        self.carry(emitter, rest, 4)?;
        let carried = self.assemblers[emitter].carried();
        let Some(len) =
            frame::peek(carried, self.config.frame_bytes_max).map_err(Refusal::Frame)?
        else {
            return Ok(());
        };
        self.carry(emitter, rest, len)?;
        if self.assemblers[emitter].carried().len() < len {
            return Ok(());
        }
        let mut assembler = std::mem::take(&mut self.assemblers[emitter]);
        let routed = self.route(assembler.carried());
        if routed.is_ok() {
            self.partial_bytes -= len;
            assembler.clear();
        } else {
            self.partial_bytes -= len - carried_before;
            assembler.truncate(carried_before);
            *rest = offered;
        }
        self.assemblers[emitter] = assembler;
        routed
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

    /// Gives one frame to one lane.
    #[inline]
    fn route(&mut self, frame: &[u8]) -> Result<(), Refusal> {
        if self.pool.free() < self.ingest_floor || self.full_lanes >= self.full_lanes_max {
            return Err(Refusal::Stall);
        }
        let Some(leaf) = self.tree.route(UnitSize::ONE) else {
            return Err(Refusal::Stall);
        };
        let slot = &mut self.lanes[leaf as usize];
        let needs_room = !slot.lane.append_here(&mut self.memory, frame);
        if needs_room {
            self.append_long(LaneId(leaf), frame);
        }
        // Counted before the lane may leave the choice: it was due by the weights so far.
        self.counters.received += 1;
        self.counters.received_bytes += frame.len() as u64;
        if needs_room {
            self.mark_dirty(LaneId(leaf));
            self.check_full(LaneId(leaf));
        }
        Ok(())
    }

    /// The way of a frame that opens a batch or a buffer, or becomes a record.
    fn append_long(&mut self, lane: LaneId, frame: &[u8]) {
        self.sample(lane, frame);
        let lane = &mut self.lanes[lane.0 as usize].lane;
        if lane.setup().form != Form::Records {
            lane.append(&mut self.memory, &mut self.pool, frame, None);
            return;
        }
        wrap_frame(frame, &mut self.scratch);
        lane.append(&mut self.memory, &mut self.pool, &self.scratch, None);
        self.scratch.clear();
    }
}
