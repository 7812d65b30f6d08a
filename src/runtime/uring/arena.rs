//! Egress arena: batch buffers that the engine fills and the kernel sends from.
//!
//! ```text
//! arena  | buffer 0 | buffer 1 | ... | buffer n-1 |      one mapping, one registered region
//!          ^ engine appends at the tail, the kernel reads what lies before it
//! ```
//!
//! The engine's thread is the only one that writes. The kernel, on behalf of this shard or of the
//! shard that owns an analyzer's only link, reads ranges that are no longer written.

use std::io;
use std::sync::Arc;

use super::map::Map;
use weir_protocol::memory::{BufferId, Memory, Span};

/// What is fetched ahead of a lane's tail: room for a common message. Many lanes are more streams than the processor
/// follows by itself, and each copy would wait for memory (ADR 0052).
#[cfg(target_arch = "x86_64")]
const PREFETCH_LINES: usize = 4;
/// Bytes of a line of the cache.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// A shard's batch buffers. One owner writes; `view` gives others read-only addresses.
pub struct Arena {
    map: Arc<Map>,
    buffer_bytes: usize,
    buffers: usize,
}

impl Arena {
    /// Maps `buffers` buffers of `buffer_bytes` each.
    ///
    /// # Errors
    /// The kernel's refusal to map that much memory.
    pub fn new(buffers: usize, buffer_bytes: usize) -> io::Result<Arena> {
        let map = Arc::new(Map::anonymous(buffers * buffer_bytes)?);
        Ok(Arena {
            map,
            buffer_bytes,
            buffers,
        })
    }

    /// Addresses of the arena for whoever sends from it; keeps the memory alive.
    pub fn view(&self) -> ArenaView {
        ArenaView {
            map: Arc::clone(&self.map),
            buffer_bytes: self.buffer_bytes,
            buffers: self.buffers,
        }
    }

    #[inline]
    fn start(&self, buffer: BufferId, offset: u32, len: usize) -> usize {
        let at = buffer.0 as usize * self.buffer_bytes + offset as usize;
        assert!(
            offset as usize + len <= self.buffer_bytes && at + len <= self.map.len(),
            "range outside buffer"
        );
        at
    }
}

impl Memory for Arena {
    #[inline(always)]
    fn write(&mut self, buffer: BufferId, offset: u32, bytes: &[u8]) {
        let at = self.start(buffer, offset, bytes.len());
        // SAFETY: the range was checked to lie in one buffer of the mapping; `&mut self` makes this
        // thread the only writer, the kernel only reads ranges before a lane's tail, and `bytes`
        // cannot overlap because no slice of the arena outlives a call.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.base().add(at), bytes.len());
        }
    }

    #[inline(always)]
    fn room(&mut self, buffer: BufferId, offset: u32, len: usize) -> &mut [u8] {
        let at = self.start(buffer, offset, len);
        // SAFETY: the range was checked to lie in one buffer of the mapping, whose bytes are all initialised; `&mut self`
        // is borrowed as long as the slice lives, so nobody else of this thread reads or writes, and the kernel and other
        // shards only read ranges before a lane's tail.
        unsafe { std::slice::from_raw_parts_mut(self.map.base().add(at), len) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn prefetch(&self, buffer: BufferId, offset: u32) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_ET0};

        let at = buffer.0 as usize * self.buffer_bytes + offset as usize;
        let start = self.map.base().wrapping_add(at);
        for line in 0..PREFETCH_LINES {
            let address = start.wrapping_add(line * LINE_BYTES);
            // SAFETY: a prefetch reads and writes nothing and cannot fault, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast()) };
        }
    }

    #[inline]
    fn read(&self, span: Span) -> &[u8] {
        let at = self.start(span.buffer, span.offset, span.len as usize);
        // SAFETY: the range was checked; it cannot be written while `&self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.map.base().add(at), span.len as usize) }
    }
}

/// Read-only addresses of some shard's arena, for the ring that sends from it.
#[derive(Clone)]
pub struct ArenaView {
    map: Arc<Map>,
    buffer_bytes: usize,
    buffers: usize,
}

impl ArenaView {
    /// Address of a span, for the kernel to read.
    #[inline]
    pub(super) fn address(&self, span: Span) -> *const u8 {
        let at = span.buffer.0 as usize * self.buffer_bytes + span.offset as usize;
        assert!(
            (span.buffer.0 as usize) < self.buffers
                && span.offset as usize + span.len as usize <= self.buffer_bytes,
            "span outside arena"
        );
        // SAFETY: the span was checked to lie inside the mapping.
        unsafe { self.map.base().add(at) }
    }

    /// The bytes of a span that the kernel may read as well.
    #[inline]
    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        let start = self.address(span);
        // SAFETY: checked to lie inside the mapping. Its shard writes to no byte before a lane's tail, and
        // spans that are sent lie before it, until they are released.
        unsafe { std::slice::from_raw_parts(start, span.len as usize) }
    }

    /// The whole arena as one region to register.
    pub(super) fn iovec(&self) -> libc::iovec {
        libc::iovec {
            iov_base: self.map.base().cast(),
            iov_len: self.map.len(),
        }
    }
}
