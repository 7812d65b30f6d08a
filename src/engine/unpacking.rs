//! Packed parts are unpacked, and what is held is taken, a piece in each turn of the shard: the work of 16 MiB of zeros
//! comes between the work of others and not before it.
//!
//! ```text
//! turn  work left   a's part, large     b's part, small     c's part, large
//! 1      256 KiB    256 KiB, held       held: nothing left
//! 2      256 KiB    256 KiB, held       held
//! 3      256 KiB                        all of it, 9 KiB    32 KiB, thrown away: large, and there is one already
//! 4      256 KiB    all of it is taken                      queued
//! 5      256 KiB                                            256 KiB from its beginning, held
//! ```
//!
//! Packed bytes that wait are copied behind what was carried, and are of the memory of partial frames: receive memory is
//! for those who are read from. Whose turn it is says the shard (`shard/intake/held.rs`). Memory: of one connection of a shard a part may be there in
//! pieces. What comes to [`SMALL_BYTES`] at most goes beside it, and is taken as a whole.

use super::ingest::Refusal;
use super::shard::Engine;
use super::Memory;
use weir_inflate::{Coding, Inflater};
use weir_source::SourceError;

/// Work of one turn, in bytes that are read and written: about half a millisecond.
const TURN_BYTES: i64 = 256 << 10;
/// What an element costs beside its bytes.
const ELEMENT_BYTES: usize = 256;
/// Bytes that came as they are cost this part of those that are unpacked, and an element beside them so much: a turn takes
/// 2,700 of 256 bytes, which is half a millisecond as well.
const HELD_PART: usize = 8;
const HELD_ELEMENT_BYTES: usize = 64;
/// A part that comes to no more, read and written, is small.
const SMALL_BYTES: usize = 32 << 10;

/// What is unpacked in one shard.
pub(super) struct Unpacking {
    /// Work that is left of this turn. A small part may take more than there is; what follows has less.
    left: i64,
    /// Whose part is there in pieces.
    holder: Option<usize>,
    /// It is not all out yet.
    inflater: Option<Inflater>,
}

impl Default for Unpacking {
    fn default() -> Unpacking {
        Unpacking {
            left: TURN_BYTES,
            holder: None,
            inflater: None,
        }
    }
}

impl Unpacking {
    /// No work is left of this turn.
    pub(super) fn is_spent(&self) -> bool {
        self.left <= 0
    }

    /// An element of so many bytes was taken, or something else.
    pub(super) fn took(&mut self, bytes: usize) {
        self.spend(bytes.saturating_add(ELEMENT_BYTES));
    }

    /// The same of one that was never packed.
    pub(super) fn took_held(&mut self, bytes: usize) {
        self.spend(bytes / HELD_PART + HELD_ELEMENT_BYTES);
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self
            .left
            .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// What `emitter` has unpacked may be taken in pieces: nobody else's is.
    pub(super) fn may_pause(&self, emitter: usize) -> bool {
        self.holder.is_none_or(|holder| holder == emitter)
    }

    /// What `emitter` has unpacked is not all taken.
    pub(super) fn pause(&mut self, emitter: usize) {
        self.holder.get_or_insert(emitter);
    }

    /// Nothing is there of `emitter` any more. Who had its part in pieces lets others go first.
    pub(super) fn release(&mut self, emitter: usize) {
        if self.holder == Some(emitter) {
            *self = Unpacking {
                left: self.left.min(0),
                ..Unpacking::default()
            };
        }
    }
}

impl<M: Memory> Engine<M> {
    /// A turn of the shard begins: [`super::Ingest::Held`] may go on.
    pub fn begin_turn(&mut self) {
        let unpacking = &mut self.unpacking;
        unpacking.left = unpacking.left.saturating_add(TURN_BYTES).min(TURN_BYTES);
    }

    /// Work is left in this turn for [`super::Ingest::Held`].
    pub fn has_turn(&self) -> bool {
        !self.unpacking.is_spent()
    }

    /// A part is there in pieces: those that were held as queued wait for its end.
    pub fn is_unpacking(&self) -> bool {
        self.unpacking.holder.is_some()
    }

    /// What comes out of a part of `emitter`; or a piece of that is done, and the same part is to be offered again.
    pub(super) fn unpack(
        &mut self,
        emitter: usize,
        (coding, packed, bytes_max): (Coding, &[u8], usize),
    ) -> Result<Vec<u8>, Refusal> {
        let failed = |error| Refusal::Source(SourceError::Packed { error });
        let unpacking = &mut self.unpacking;
        if unpacking.is_spent() {
            return Err(Refusal::Held);
        }
        let is_beside = !unpacking.may_pause(emitter);
        let begun = unpacking.inflater.take_if(|_| !is_beside);
        let mut inflater = match begun {
            Some(inflater) => inflater,
            None => Inflater::new(coding, packed, bytes_max).map_err(failed)?,
        };
        let piece = match is_beside {
            true => SMALL_BYTES,
            false => usize::try_from(unpacking.left).unwrap_or_default(),
        };
        let before = inflater.work();
        let is_done = inflater.step(packed, piece).map_err(failed)?;
        unpacking.spend(inflater.work() - before);
        if is_done {
            return Ok(inflater.finish());
        }
        if is_beside {
            return Err(Refusal::Queued);
        }
        unpacking.pause(emitter);
        unpacking.inflater = Some(inflater);
        Err(Refusal::Held)
    }
}
