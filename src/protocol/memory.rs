//! Where batches lie: buffers of a shard's egress arena, and ranges of them.

/// A batch buffer of the egress arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u32);

/// A contiguous range of one batch buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which buffer.
    pub buffer: BufferId,
    /// First byte.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

/// The bytes behind batch buffers: the mapped arena in a shard, a vector in tests.
pub trait Memory {
    /// Copies `bytes` into a buffer.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    fn write(&mut self, buffer: BufferId, offset: u32, bytes: &[u8]);

    /// So many bytes of a buffer, to write to.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    fn room(&mut self, buffer: BufferId, offset: u32, len: usize) -> &mut [u8];

    /// The next write goes behind here, after writes to other buffers: memory that is far away may bring the place
    /// nearer meanwhile. A hint; nothing depends on it, and any offset is allowed.
    #[inline]
    fn prefetch(&self, _buffer: BufferId, _offset: u32) {}

    /// The bytes of a span.
    ///
    /// # Panics
    /// When the span is not inside its buffer.
    fn read(&self, span: Span) -> &[u8];
}

/// Plain memory for tests and the simulator.
pub struct VecMemory {
    bytes: Vec<u8>,
    buffer_bytes: usize,
}

impl VecMemory {
    /// `buffers` buffers of `buffer_bytes` bytes.
    pub fn new(buffers: usize, buffer_bytes: usize) -> VecMemory {
        VecMemory {
            bytes: vec![0; buffers * buffer_bytes],
            buffer_bytes,
        }
    }

    fn start(&self, buffer: BufferId, offset: u32, len: usize) -> usize {
        assert!(
            offset as usize + len <= self.buffer_bytes,
            "range outside buffer"
        );
        buffer.0 as usize * self.buffer_bytes + offset as usize
    }
}

impl Memory for VecMemory {
    #[inline(always)]
    fn write(&mut self, buffer: BufferId, offset: u32, bytes: &[u8]) {
        let at = self.start(buffer, offset, bytes.len());
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    #[inline(always)]
    fn room(&mut self, buffer: BufferId, offset: u32, len: usize) -> &mut [u8] {
        let at = self.start(buffer, offset, len);
        &mut self.bytes[at..at + len]
    }

    fn read(&self, span: Span) -> &[u8] {
        let at = self.start(span.buffer, span.offset, span.len as usize);
        &self.bytes[at..at + span.len as usize]
    }
}
