//! Which batch buffers are free. Owner: the engine. Bound: the arena. When none is free the shard
//! stops receiving, see `Engine::ingest`.

use super::BufferId;

/// Free list of batch buffers; last in, first out, so that a warm buffer is used again.
pub struct BufferPool {
    free: Vec<BufferId>,
    /// Guards against a buffer that is given back twice.
    held: Vec<bool>,
    buffer_bytes: u32,
    free_min: usize,
}

impl BufferPool {
    /// `buffers` free buffers of `buffer_bytes` bytes.
    pub fn new(buffers: u32, buffer_bytes: u32) -> BufferPool {
        BufferPool {
            free: (0..buffers).rev().map(BufferId).collect(),
            held: vec![false; buffers as usize],
            buffer_bytes,
            free_min: buffers as usize,
        }
    }

    /// Takes a buffer, `None` when all are held.
    pub fn take(&mut self) -> Option<BufferId> {
        let buffer = self.free.pop()?;
        self.held[buffer.0 as usize] = true;
        self.free_min = self.free_min.min(self.free.len());
        Some(buffer)
    }

    /// Gives a buffer back.
    ///
    /// # Panics
    /// When it is not held: somebody else would be writing to it.
    pub fn give(&mut self, buffer: BufferId) {
        let held = &mut self.held[buffer.0 as usize];
        assert!(*held, "buffer given back twice");
        *held = false;
        self.free.push(buffer);
    }

    /// Buffers free now.
    #[inline]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The free buffers, in no order.
    pub(super) fn free_buffers(&self) -> &[BufferId] {
        &self.free
    }

    /// Fewest buffers that were ever free.
    pub fn free_min(&self) -> usize {
        self.free_min
    }

    /// Buffers in all.
    pub fn total(&self) -> usize {
        self.held.len()
    }

    /// Bytes of each buffer.
    #[inline]
    pub fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_lent_once() {
        let mut pool = BufferPool::new(3, 64);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken, [BufferId(0), BufferId(1), BufferId(2)]);
        assert_eq!((pool.free(), pool.free_min()), (0, 0));
        pool.give(BufferId(1));
        assert_eq!(pool.take(), Some(BufferId(1)));
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_buffer_cannot_be_given_back_twice() {
        let mut pool = BufferPool::new(2, 64);
        let buffer = pool.take().expect("one is free");
        pool.give(buffer);
        pool.give(buffer);
    }
}
