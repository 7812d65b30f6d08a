//! Frames out of received bytes; the part of a frame that has not arrived whole is carried over.
//!
//! ```text
//! carried | received chunk                       |
//! [ len.. |..payload][frame][frame][frame][ len..]
//!                    ^ handed on in place         ^ carried to the next chunk
//! ```
//!
//! What a source has unpacked lies here as well until it is taken.

/// Capacity that an idle emitter may keep: most partial frames fit, 10,000 emitters keep 5 MB.
const KEPT_BYTES: usize = 512;

/// Buffers of a shard that held parts of units, for the next ones: the allocator gives pieces of this size back to the
/// kernel, which clears them, page by page, when they are used again.
#[derive(Default)]
pub(super) struct Spares {
    buffers: Vec<Vec<u8>>,
    /// Their capacity.
    bytes: usize,
}

/// Bytes of all spare buffers, and of one at least and at most.
const SPARES_BYTES_MAX: usize = 1 << 20;
const SPARE_BYTES: std::ops::RangeInclusive<usize> = (16 << 10)..=(256 << 10);
/// Who gets one fills this part of it: it may be kept for long.
const SPARE_PART: usize = 4;

impl Spares {
    fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if SPARE_BYTES.contains(&bytes) && self.bytes + bytes <= SPARES_BYTES_MAX {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }

    /// One for so many bytes, which are there.
    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let sizes = bytes..=bytes.saturating_mul(SPARE_PART);
        let mut buffers = self.buffers.iter();
        let at = buffers.rposition(|buffer| sizes.contains(&buffer.capacity()))?;
        let buffer = self.buffers.swap_remove(at);
        self.bytes -= buffer.capacity();
        Some(buffer)
    }
}

/// Partial frame of one emitter.
#[derive(Default)]
pub(super) struct Assembler {
    carry: Vec<u8>,
    /// Of those: taken already.
    at: usize,
    unpacked: Option<Box<Unpacked>>,
    /// When the first of these bytes came.
    since_ns: u64,
    /// Bytes of the stream before the current chunk.
    offset: u64,
}

/// What came out of packed bytes.
#[derive(Default)]
pub(super) struct Unpacked {
    bytes: Vec<u8>,
    at: usize,
}

impl Unpacked {
    /// What is not taken.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// All bytes, those that are taken included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Assembler {
    /// Bytes of an incomplete frame.
    #[inline]
    pub(super) fn carried(&self) -> &[u8] {
        self.carry.get(self.at..).unwrap_or_default()
    }

    /// Something comes before what is received.
    #[inline]
    pub(super) fn holds_any(&self) -> bool {
        !self.carry.is_empty() || self.unpacked.is_some()
    }

    pub(super) fn set_unpacked(&mut self, bytes: Vec<u8>) {
        self.unpacked = Some(Box::new(Unpacked { bytes, at: 0 }));
    }

    pub(super) fn put_unpacked(&mut self, unpacked: Box<Unpacked>) {
        self.unpacked = Some(unpacked);
    }

    pub(super) fn take_unpacked(&mut self) -> Option<Box<Unpacked>> {
        self.unpacked.take()
    }

    pub(super) fn unpacked_bytes(&self) -> usize {
        self.unpacked.as_ref().map_or(0, |unpacked| unpacked.len())
    }

    /// How old the carried bytes are, the first of them.
    pub(super) fn age_ns(&self, now_ns: u64) -> u64 {
        match self.holds_any() {
            true => now_ns.saturating_sub(self.since_ns),
            false => 0,
        }
    }

    /// The carried bytes have come now.
    pub(super) fn restart(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
    }

    /// Moves bytes from `data` until `want` are carried; true when they are.
    pub(super) fn fill(
        &mut self,
        data: &mut &[u8],
        want: usize,
        now_ns: u64,
        spares: &mut Spares,
    ) -> bool {
        if self.carry.is_empty() {
            self.since_ns = now_ns;
        }
        let missing = want.saturating_sub(self.carried().len());
        let (head, rest) = data.split_at(missing.min(data.len()));
        self.compact();
        self.grow(head.len(), spares);
        self.carry.extend_from_slice(head);
        *data = rest;
        self.carried().len() >= want
    }

    /// Room for so many bytes more.
    fn grow(&mut self, bytes: usize, spares: &mut Spares) {
        let (len, room) = (self.carry.len(), self.carry.capacity());
        if bytes <= room - len {
            return;
        }
        if let Some(mut larger) = spares.take(len + bytes) {
            larger.extend_from_slice(&self.carry);
            spares.give(std::mem::replace(&mut self.carry, larger));
        } else {
            // Not twice as much: how much is to come is known of most.
            self.carry.reserve_exact(bytes.max(len / 4));
        }
    }

    /// Room for so many bytes more, and for no others: many may wait with theirs.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.compact();
        self.carry.reserve_exact(bytes);
    }

    /// Forgets all but the first `len` carried bytes.
    pub(super) fn truncate(&mut self, len: usize, spares: &mut Spares) {
        self.carry.truncate(self.at + len);
        if self.at == self.carry.len() {
            self.clear(spares);
        }
    }

    /// What is taken is dropped when it is more than what is not.
    fn compact(&mut self) {
        if self.at > self.carry.len() / 2 {
            self.carry.drain(..self.at);
            self.at = 0;
        }
    }

    /// Forgets the first `len` carried bytes.
    pub(super) fn forget(&mut self, len: usize, spares: &mut Spares) {
        self.at += len;
        if self.at >= self.carry.len() {
            self.clear(spares);
        }
    }

    /// Forgets the carried bytes.
    pub(super) fn clear(&mut self, spares: &mut Spares) {
        self.carry.clear();
        self.at = 0;
        if self.carry.capacity() > KEPT_BYTES {
            spares.give(std::mem::take(&mut self.carry));
        }
    }

    /// Counts bytes of the stream as dealt with.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    /// Position in the stream: bytes dealt with so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_emitter_keeps_little_memory() {
        let (mut assembler, mut spares) = (Assembler::default(), Spares::default());
        for bytes in [100, KEPT_BYTES, 100_000, 3] {
            let received = vec![7; bytes];
            assert!(assembler.fill(&mut &received[..], bytes, 0, &mut spares));
            assert_eq!(assembler.carried(), received);
            assembler.clear(&mut spares);
            assert!(assembler.carried().is_empty() && assembler.carry.capacity() <= KEPT_BYTES);
            if bytes == KEPT_BYTES {
                assert_eq!(assembler.carry.capacity(), KEPT_BYTES, "that much is kept");
            }
        }
    }

    #[test]
    fn buffers_are_used_again_and_no_more_is_kept_than_allowed() {
        let mut spares = Spares::default();
        let mut all: Vec<_> = (0..20).map(|_| Assembler::default()).collect();
        let received = vec![7; 80_000];
        let fill = |assembler: &mut Assembler, spares: &mut Spares, bytes: usize| {
            assert!(assembler.fill(&mut &received[..bytes], bytes, 0, spares));
            assert_eq!(assembler.carried(), &received[..bytes]);
        };
        for assembler in &mut all {
            fill(assembler, &mut spares, 60_000);
            fill(assembler, &mut spares, 70_000); // 10,000 more
            assert_eq!(assembler.carry.capacity(), 75_000);
        }
        all.iter_mut()
            .for_each(|assembler| assembler.clear(&mut spares));
        assert_eq!((spares.buffers.len(), spares.bytes), (13, 13 * 75_000));
        fill(&mut all[0], &mut spares, 18_000);
        assert_eq!(spares.buffers.len(), 13, "it would fill too little of one");
        fill(&mut all[0], &mut spares, 76_000);
        assert_eq!(spares.buffers.len(), 13, "none is large enough");
        fill(&mut all[1], &mut spares, 74_000);
        assert_eq!(all[1].carry.capacity(), 75_000);
        assert_eq!(spares.bytes, 12 * 75_000);
        all[1].clear(&mut spares);
        assert_eq!(spares.bytes, 13 * 75_000);
    }
}
