//! Provided-buffer ring: receive memory shared by all sockets of a shard.
//!
//! ```text
//! incremental (6.12):   | conn 7 | conn 3 | conn 9 |... free        |   one buffer, many receives
//!                                                  ^ taken
//! classic:              | conn 7 ....... |                              one buffer, one receive
//! ```
//!
//! The kernel picks a buffer only when data is there, so idle sockets hold none. A buffer goes back
//! to the kernel when the kernel is through with it and every chunk of it was released.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{cqueue, IoUring};

use super::map::Map;
use weir_shard::port::Chunk;

/// IOU_PBUF_RING_INC: receives take pieces of a buffer, not whole buffers.
const PBUF_RING_INC: u16 = 2;

#[derive(Clone, Copy, Default)]
struct BufferState {
    /// Bytes that receives have taken so far.
    taken: u32,
    /// Chunks given out and not yet released.
    chunks: u32,
    /// The kernel may still write into it.
    with_kernel: bool,
}

/// Size and kind of a provided-buffer ring.
#[derive(Clone, Copy, Debug)]
pub struct ProvidedConfig {
    /// Buffer group id, unique per ring.
    pub group: u16,
    /// Number of the first buffer: no two of a ring's have the same, so that a completion says which memory it is of.
    pub first: u16,
    /// Number of buffers, a power of two, 32,768 at most.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: u32,
    /// Ask for incremental consumption (kernel 6.12).
    pub incremental: bool,
}

/// A registered ring of receive buffers.
///
/// Must be dropped after the ring that it is registered with: the kernel writes into it until then.
pub struct ProvidedBuffers {
    entries: Map,
    memory: Map,
    state: Vec<BufferState>,
    config: ProvidedConfig,
    tail: u16,
}

impl ProvidedBuffers {
    /// Maps the memory and registers it with `ring`.
    ///
    /// # Errors
    /// EINVAL when the kernel lacks what was asked for; ENOMEM.
    pub(super) fn register(ring: &IoUring, config: ProvidedConfig) -> io::Result<ProvidedBuffers> {
        assert!(config.buffers.is_power_of_two() && config.buffers <= 32_768);
        let count = usize::from(config.buffers);
        let entries = Map::anonymous(count * size_of::<BufRingEntry>())?;
        let memory = Map::anonymous(count * config.buffer_bytes as usize)?;
        let flags = if config.incremental { PBUF_RING_INC } else { 0 };
        // SAFETY: the entries live in a page-aligned mapping that the struct keeps; its doc demands
        // that it outlives the ring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.base() as u64,
                config.buffers,
                config.group,
                flags,
            )?;
        }
        let state = vec![BufferState::default(); count];
        let mut this = ProvidedBuffers {
            entries,
            memory,
            state,
            config,
            tail: 0,
        };
        for nth in 0..config.buffers {
            this.give(nth);
        }
        Ok(this)
    }

    /// Group id to name in receives.
    pub fn group(&self) -> u16 {
        self.config.group
    }

    /// Bytes of receive memory in all.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// The chunk that a receive completion with result `len` and `flags` delivered.
    #[inline]
    pub(super) fn take(&mut self, len: u32, flags: u32) -> Option<Chunk> {
        let buffer = cqueue::buffer_select(flags)?;
        let state = &mut self.state[usize::from(buffer - self.config.first)];
        debug_assert!(state.with_kernel);
        let chunk = Chunk::new(buffer, state.taken, len);
        state.taken += len;
        assert!(
            state.taken <= self.config.buffer_bytes,
            "the kernel overran a buffer"
        );
        state.chunks += 1;
        if !cqueue::buffer_more(flags) {
            state.with_kernel = false;
        }
        Some(chunk)
    }

    /// A buffer of this number is one of these.
    #[inline]
    pub(super) fn has(&self, buffer: u16) -> bool {
        buffer.wrapping_sub(self.config.first) < self.config.buffers
    }

    /// The bytes of a chunk.
    #[inline]
    pub fn bytes_of(&self, chunk: Chunk) -> &[u8] {
        let at = self.place(chunk);
        // SAFETY: checked to lie in the mapping; the kernel wrote these bytes before it posted the
        // completion and never writes them again until the buffer was given back.
        unsafe { std::slice::from_raw_parts(self.memory.base().add(at), chunk.len()) }
    }

    /// The bytes of a chunk, to be changed where they lie.
    #[inline]
    pub fn bytes_of_mut(&mut self, chunk: Chunk) -> &mut [u8] {
        let at = self.place(chunk);
        // SAFETY: as in `bytes_of`; `&mut self` makes this the only look at them.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base().add(at), chunk.len()) }
    }

    /// Where in the memory a chunk begins; it ends within.
    #[inline]
    fn place(&self, chunk: Chunk) -> usize {
        let (buffer, offset) = chunk.place();
        let nth = usize::from(buffer - self.config.first);
        let at = nth * self.config.buffer_bytes as usize + offset as usize;
        assert!(at + chunk.len() <= self.memory.len());
        at
    }

    /// Gives a chunk back; its buffer returns to the kernel with its last chunk.
    #[inline]
    pub fn release(&mut self, chunk: Chunk) {
        let nth = chunk.place().0 - self.config.first;
        let state = &mut self.state[usize::from(nth)];
        assert!(state.chunks > 0, "chunk released twice");
        state.chunks -= 1;
        if state.chunks == 0 && !state.with_kernel {
            self.give(nth);
        }
    }

    fn give(&mut self, nth: u16) {
        let size = self.config.buffer_bytes;
        self.state[usize::from(nth)] = BufferState {
            taken: 0,
            chunks: 0,
            with_kernel: true,
        };
        let mask = self.config.buffers - 1;
        let base = self.entries.base().cast::<BufRingEntry>();
        // SAFETY: the index is masked to the ring's size; the kernel reads an entry only after the
        // tail was moved past it, which the release store below does. `resv` of entry 0 is the tail
        // and is not touched by the setters.
        unsafe {
            let entry = &mut *base.add(usize::from(self.tail & mask));
            entry.set_addr(self.memory.base().add(usize::from(nth) * size as usize) as u64);
            entry.set_len(size);
            entry.set_bid(self.config.first + nth);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(base).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
