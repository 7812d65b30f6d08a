//! Memory for frames that have not arrived whole: since when each takes how much, and who goes when it is short.
//!
//! ```text
//! emitter    bytes       since
//! a      1,040,000    50 s ago   <- most bytes for the longest time: goes first
//! b      1,040,000     1 s ago
//! c            300      just now <- costs nothing yet: never goes for the sake of others
//! ```
//!
//! A frame costs its bytes times its age. Who wants more when nothing is left gets it from those whose frames
//! cost most, and is refused only if that is its own. So frames that are begun and never finished hold no memory
//! against whoever comes; and none may take longer than a time limit, whether memory is short or not.

use std::collections::BinaryHeap;

use super::counters::Reason;
use super::shard::Engine;
use super::Memory;

/// When room is made, this part of all is made beyond what is wanted: who costs most is looked for among all
/// emitters, and that shall pay for more than one frame.
const SPARE_PART: usize = 64;

/// An emitter whose partial frame was thrown away: its stream cannot be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Index of its connection.
    pub emitter: usize,
    /// `PartialMemoryFull` or `FrameTimeout`; it is counted.
    pub reason: Reason,
}

impl<M: Memory> Engine<M> {
    /// The time by which frames age, in nanoseconds: one that stands still while nobody is read from. Never
    /// less than before.
    pub fn set_frames_time(&mut self, frames_ns: u64) {
        self.frames_ns = frames_ns;
    }

    /// The next emitter to be closed: its partial frame was thrown away since this was last asked.
    pub fn next_evicted(&mut self) -> Option<Evicted> {
        self.evicted.pop()
    }

    /// The rest of this emitter's frame was not read until now: its time begins again.
    pub fn restart_frame_time(&mut self, emitter: usize) {
        if let Some(assembler) = self.assemblers.get_mut(emitter) {
            assembler.restart(self.frames_ns);
        }
    }

    /// Throws away the frames whose first byte came this long ago, in nanoseconds, or longer.
    pub fn evict_overdue(&mut self, limit_ns: u64) {
        for emitter in 0..self.assemblers.len() {
            let assembler = &self.assemblers[emitter];
            let is_overdue = assembler.age_ns(self.frames_ns) >= limit_ns;
            if is_overdue && !assembler.carried().is_empty() {
                self.evict(emitter, Reason::FrameTimeout);
            }
        }
    }

    /// Makes room for so many more bytes of this emitter's frame. False: there is none, others cost less.
    pub(super) fn make_partial_room(&mut self, emitter: usize, wanted: usize) -> bool {
        let most = self.config.partial_bytes_max;
        if self.partial_bytes + wanted <= most {
            return true;
        }
        let cost = |index: usize| {
            let assembler = &self.assemblers[index];
            let more = if index == emitter { wanted } else { 0 };
            let bytes = assembler.carried().len() + more;
            // Of equal ones another's goes, not that of the emitter that wants more.
            let cost = bytes as u128 * u128::from(assembler.age_ns(self.frames_ns));
            (bytes > 0).then_some((cost, index != emitter, bytes, index))
        };
        let mut costs: BinaryHeap<_> = (0..self.assemblers.len()).filter_map(cost).collect();
        let enough = most - (most / SPARE_PART).max(wanted).min(most);
        while self.partial_bytes > enough {
            match costs.pop() {
                Some((_, true, _, other)) => self.evict(other, Reason::PartialMemoryFull),
                _ => break,
            }
        }
        self.partial_bytes + wanted <= most
    }

    fn evict(&mut self, emitter: usize, reason: Reason) {
        self.forget_carried(emitter);
        self.counters.count(reason);
        self.evicted.push(Evicted { emitter, reason });
    }
}
