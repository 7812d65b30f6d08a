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

    /// Moves bytes from `data` until `want` are carried; true when they are.
    pub(super) fn fill(&mut self, data: &mut &[u8], want: usize, now_ns: u64) -> bool {
        if self.carry.is_empty() {
            self.since_ns = now_ns;
        }
        let missing = want.saturating_sub(self.carried().len());
        let (head, rest) = data.split_at(missing.min(data.len()));
        self.compact();
        self.carry.extend_from_slice(head);
        *data = rest;
        self.carried().len() >= want
    }

    /// Room for so many bytes more, and for no others: many may wait with theirs.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.compact();
        self.carry.reserve_exact(bytes);
    }

    /// Forgets all but the first `len` carried bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.carry.truncate(self.at + len);
        if self.at == self.carry.len() {
            self.clear();
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
    pub(super) fn forget(&mut self, len: usize) {
        self.at += len;
        if self.at >= self.carry.len() {
            self.clear();
        }
    }

    /// Forgets the carried bytes.
    pub(super) fn clear(&mut self) {
        self.carry.clear();
        self.at = 0;
        if self.carry.capacity() > KEPT_BYTES {
            self.carry = Vec::new();
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
        let mut assembler = Assembler::default();
        for bytes in [100, KEPT_BYTES, 100_000, 3] {
            let received = vec![7; bytes];
            assert!(assembler.fill(&mut &received[..], bytes, 0));
            assert_eq!(assembler.carried(), received);
            assembler.clear();
            assert!(assembler.carried().is_empty() && assembler.carry.capacity() <= KEPT_BYTES);
            if bytes == KEPT_BYTES {
                assert_eq!(assembler.carry.capacity(), KEPT_BYTES, "that much is kept");
            }
        }
    }
}
