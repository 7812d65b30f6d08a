//! Memory for what was opened of TLS: chunks of it go through the shard as chunks of receive memory do.
//!
//! ```text
//! | conn 7: 2 records | conn 3: 1 record |... free        |   64 KiB each, one behind the other
//!                                        ^ taken
//! ```
//!
//! A buffer is used again when every chunk of it was released. When none is left, what was received
//! stays as it came, in receive memory, and so receives end when that is full.

use crate::uring::FREE_FIRST;
use weir_shard::port::Chunk;
use weir_tls::{Plain, RECORD_BYTES_MAX};

/// Bytes of a buffer: four full records, each with room for the type behind it while it is opened.
const BUFFER_BYTES: usize = 64 * 1024 + 64;

/// Numbers from here on are of these buffers: the kernel's are below.
const FIRST: u16 = FREE_FIRST;
/// Numbers of a kind.
const NUMBERS: u16 = 0x2000;

#[derive(Default)]
struct Buffer {
    memory: Box<[u8]>,
    taken: usize,
    chunks: u32,
}

/// See the head of this file.
pub(super) struct PlainBuffers {
    buffers: Vec<Buffer>,
    most: usize,
    /// The number of the first.
    first: u16,
    current: usize,
    /// Where in the current buffer the chunk begins that is being filled.
    begun: usize,
    full: Vec<Chunk>,
}

/// The two kinds: what emitters sent may have to wait, what others sent is handled at once.
pub(super) fn is_plain(chunk: Chunk) -> bool {
    chunk.place().0 >= FIRST
}

impl PlainBuffers {
    /// At most so many bytes, in the `kind`th range of numbers (0 or 1).
    pub(super) fn new(kind: u16, bytes: usize) -> PlainBuffers {
        PlainBuffers {
            buffers: Vec::new(),
            most: (bytes / BUFFER_BYTES).clamp(2, usize::from(NUMBERS)),
            first: FIRST + kind * NUMBERS,
            current: 0,
            begun: 0,
            full: Vec::new(),
        }
    }

    /// This chunk is of these.
    pub(super) fn has(&self, chunk: Chunk) -> bool {
        let (number, _) = chunk.place();
        number >= self.first && usize::from(number - self.first) < self.buffers.len()
    }

    /// Whether records of so many bytes have room. Each lies together, so that the end of a buffer may stay empty.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.rest() >= bytes || {
            let free = self.free().count() + (self.most - self.buffers.len());
            free * (BUFFER_BYTES - RECORD_BYTES_MAX) >= bytes
        }
    }

    /// A chunk begins; with `whole`, of so many bytes that must lie together. False: no room.
    pub(super) fn begin(&mut self, whole: usize) -> bool {
        if self.rest() < whole.max(1) && !self.next() {
            return false;
        }
        self.begun = self.buffers[self.current].taken;
        self.rest() >= whole
    }

    /// Appends bytes. There must be room.
    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let buffer = &mut self.buffers[self.current];
            let now = bytes.len().min(BUFFER_BYTES - buffer.taken);
            let (first, rest) = bytes.split_at(now);
            buffer.memory[buffer.taken..buffer.taken + now].copy_from_slice(first);
            buffer.taken += now;
            bytes = rest;
            if !bytes.is_empty() {
                self.go_on();
            }
        }
    }

    /// Goes on in the next buffer.
    fn go_on(&mut self) {
        self.close();
        assert!(self.next(), "whoever puts has asked for room");
        self.begun = 0;
    }

    /// The chunk ends here. All that were filled since the last time, in order, go to `out`.
    pub(super) fn finish(&mut self, out: &mut Vec<Chunk>) {
        self.close();
        out.append(&mut self.full);
    }

    fn close(&mut self) {
        let buffer = &mut self.buffers[self.current];
        let len = buffer.taken - self.begun;
        if len > 0 {
            buffer.chunks += 1;
            let number = self.first + self.current as u16; // below `most`
            let chunk = Chunk::new(number, self.begun as u32, len as u32); // below BUFFER_BYTES
            self.full.push(chunk);
        }
        self.begun = buffer.taken;
    }

    pub(super) fn bytes_of(&self, chunk: Chunk) -> &[u8] {
        let (number, offset) = chunk.place();
        let memory = &self.buffers[usize::from(number - self.first)].memory;
        &memory[offset as usize..offset as usize + chunk.len()]
    }

    pub(super) fn release(&mut self, chunk: Chunk) {
        let (number, _) = chunk.place();
        let buffer = &mut self.buffers[usize::from(number - self.first)];
        assert!(buffer.chunks > 0, "chunk released twice");
        buffer.chunks -= 1;
        if buffer.chunks == 0 {
            buffer.taken = 0;
        }
    }

    fn rest(&self) -> usize {
        let current = self.buffers.get(self.current);
        current.map_or(0, |buffer| BUFFER_BYTES - buffer.taken)
    }

    fn free(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.buffers.iter().enumerate();
        all.filter(|(at, buffer)| *at != self.current && buffer.chunks == 0 && buffer.taken == 0)
            .map(|(at, _)| at)
    }

    /// Goes on in a buffer that is empty. False: there is none.
    fn next(&mut self) -> bool {
        let free = self.free().next();
        match free {
            Some(at) => self.current = at,
            None if self.buffers.len() < self.most => {
                self.buffers.push(Buffer {
                    memory: vec![0; BUFFER_BYTES].into(),
                    ..Buffer::default()
                });
                self.current = self.buffers.len() - 1;
            }
            None => return false,
        }
        true
    }
}

impl Plain for PlainBuffers {
    fn put(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }

    fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        if self.rest() < bytes {
            self.go_on();
        }
        let buffer = &mut self.buffers[self.current];
        buffer.memory.get_mut(buffer.taken..buffer.taken + bytes)
    }

    fn filled(&mut self, bytes: usize) {
        self.buffers[self.current].taken += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_lie_one_behind_the_other_and_buffers_are_used_again() {
        let mut buffers = PlainBuffers::new(0, 2 * BUFFER_BYTES);
        let mut chunks = Vec::new();
        for len in [10usize, 0, 20] {
            assert!(buffers.has_room(len) && buffers.begin(0));
            buffers.put(&vec![len as u8; len]);
            buffers.finish(&mut chunks);
        }
        let places: Vec<_> = chunks
            .iter()
            .map(|chunk| (chunk.place(), chunk.len()))
            .collect();
        assert_eq!(places, [((FIRST, 0), 10), ((FIRST, 10), 20)]);
        assert_eq!(buffers.bytes_of(chunks[1]), [20; 20]);

        // More than a buffer has is in two chunks, unless it must lie together.
        assert!(buffers.begin(0));
        buffers.put(&vec![7; BUFFER_BYTES]);
        buffers.finish(&mut chunks);
        assert_eq!(chunks.len(), 4);
        assert_eq!(chunks[2].len() + chunks[3].len(), BUFFER_BYTES);
        assert!(!buffers.has_room(BUFFER_BYTES));
        assert!(!buffers.begin(BUFFER_BYTES - 1), "no place for so much");

        for chunk in chunks {
            buffers.release(chunk);
        }
        assert!(buffers.has_room(BUFFER_BYTES) && buffers.begin(BUFFER_BYTES));
    }

    #[test]
    fn records_for_which_there_is_room_are_opened_into_it() {
        let begins = [0, 1, 16_000, 50_000, BUFFER_BYTES - 1];
        for (begun, len) in begins.iter().flat_map(|b| [(*b, 16_384), (*b, 11_000)]) {
            let mut buffers = PlainBuffers::new(0, 4 * BUFFER_BYTES);
            assert!(buffers.begin(0));
            buffers.put(&vec![1; begun]);
            let mut records = 0;
            while buffers.has_room((records + 1) * (len + 22)) {
                records += 1;
            }
            for _ in 0..records {
                assert_eq!(buffers.room(len + 1).expect("memory").len(), len + 1);
                buffers.filled(len);
            }
            let mut chunks = Vec::new();
            buffers.finish(&mut chunks);
            let all: usize = chunks.iter().map(|chunk| chunk.len()).sum();
            assert_eq!(all, begun + records * len);
            assert!(records >= 8, "{begun}: {records}");
        }
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn a_chunk_is_released_once() {
        let mut buffers = PlainBuffers::new(1, 0);
        let mut chunks = Vec::new();
        assert!(buffers.begin(1));
        buffers.put(b"x");
        buffers.finish(&mut chunks);
        assert!(buffers.has(chunks[0]) && is_plain(chunks[0]));
        buffers.release(chunks[0]);
        buffers.release(chunks[0]);
    }
}
