//! Chunk ids of the units that are not answered.

use std::collections::VecDeque;

/// As it came.
pub type ChunkId = Box<[u8]>;

/// In their order. The engine bounds how many there are.
#[derive(Debug, Default)]
pub struct Ids {
    begun: u64,
    open: VecDeque<(u64, Option<ChunkId>)>,
}

impl Ids {
    pub fn next(&self) -> u64 {
        self.begun + 1
    }

    /// The next unit has this id, or one that comes last.
    pub fn begin(&mut self, chunk: Option<ChunkId>) {
        self.begun += 1;
        self.open.push_back((self.begun, chunk));
    }

    pub fn end(&mut self, chunk: Option<ChunkId>) {
        if let Some((_, id)) = self.open.back_mut() {
            *id = chunk;
        }
    }

    /// Takes the id of a unit out. Units are answered in their order.
    pub fn take(&mut self, key: u64) -> Option<ChunkId> {
        while let Some((found, chunk)) = self.open.pop_front() {
            if found == key {
                return chunk;
            }
        }
        None
    }
}
