//! Frames out of received bytes; the part of a frame that has not arrived whole is carried over.
//!
//! ```text
//! carried | received chunk                       |
//! [ len.. |..payload][frame][frame][frame][ len..]
//!                    ^ handed on in place         ^ carried to the next chunk
//! ```

/// Capacity that an idle emitter may keep: most partial frames fit, 10,000 emitters keep 5 MB.
const KEPT_BYTES: usize = 512;

/// Partial frame of one emitter.
#[derive(Default)]
pub(super) struct Assembler {
    carry: Vec<u8>,
    /// When the first of these bytes came.
    since_ns: u64,
    /// Bytes of the stream before the current chunk.
    offset: u64,
}

impl Assembler {
    /// Bytes of an incomplete frame.
    #[inline]
    pub(super) fn carried(&self) -> &[u8] {
        &self.carry
    }

    /// How old the carried bytes are, the first of them.
    pub(super) fn age_ns(&self, now_ns: u64) -> u64 {
        match self.carry.is_empty() {
            true => 0,
            false => now_ns.saturating_sub(self.since_ns),
        }
    }

    /// Moves bytes from `data` until `want` are carried; true when they are.
    pub(super) fn fill(&mut self, data: &mut &[u8], want: usize, now_ns: u64) -> bool {
        if self.carry.is_empty() {
            self.since_ns = now_ns;
        }
        let missing = want.saturating_sub(self.carry.len());
        let (head, rest) = data.split_at(missing.min(data.len()));
        self.carry.extend_from_slice(head);
        *data = rest;
        self.carry.len() >= want
    }

    /// Forgets all but the first `len` carried bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.carry.truncate(len);
    }

    /// Forgets the first `len` carried bytes.
    pub(super) fn forget(&mut self, len: usize) {
        if len >= self.carry.len() {
            self.clear();
        } else {
            self.carry.drain(..len);
        }
    }

    /// Forgets the carried bytes.
    pub(super) fn clear(&mut self) {
        self.carry.clear();
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
