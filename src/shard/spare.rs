//! Memory of what was sent, for what is sent next.
//!
//! A request of a megabyte that is allocated anew is a fresh mapping: the kernel clears each page as it is touched, and
//! takes all of them back when the request is through. That was a quarter of what requests cost.

/// Most bytes that a shard keeps so. What is over goes back.
const SPARE_BYTES_MAX: usize = 8 << 20;
/// Smaller buffers are not kept: the allocator has them at hand, and a large request would not fit them.
const BUFFER_BYTES_MIN: usize = 16 << 10;

/// Buffers that are not in use; the last one that was comes first, as its bytes may be in a cache.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
    /// Of all of them.
    bytes: usize,
}

impl Spare {
    /// An empty buffer, with room for so many bytes at least.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer.reserve(bytes);
        buffer
    }

    /// Keeps a buffer that is not needed any more, if there is room for it.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes < BUFFER_BYTES_MIN || self.bytes + bytes > SPARE_BYTES_MAX {
            return;
        }
        buffer.clear();
        self.bytes += bytes;
        self.buffers.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_are_bounded() {
        let mut spare = Spare::default();
        let mut buffer = spare.take(1 << 20);
        buffer.push(1);
        let at = buffer.as_ptr();
        spare.give(buffer);
        let again = spare.take(1 << 19);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        spare.give(again);
        for _ in 0..100 {
            spare.give(Vec::with_capacity(1 << 20));
        }
        assert!(spare.bytes <= SPARE_BYTES_MAX, "{}", spare.bytes);
        let kept: usize = spare.buffers.iter().map(Vec::capacity).sum();
        assert_eq!(kept, spare.bytes);
        spare.give(Vec::with_capacity(100));
        let last = spare.take(0);
        assert!(last.capacity() > 100, "what has little room is not kept");
    }
}
