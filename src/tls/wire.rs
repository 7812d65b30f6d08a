//! Bytes on their way to the wire, in memory that is used again.

/// A buffer that stays as large as it was, so that its memory is cleared once and not for every record.
#[derive(Debug, Default)]
pub struct Wire {
    memory: Vec<u8>,
    len: usize,
}

impl Wire {
    /// Nothing, without memory.
    pub const fn new() -> Wire {
        Wire {
            memory: Vec::new(),
            len: 0,
        }
    }

    /// Nothing, with room for so many bytes.
    pub fn with_room(bytes: usize) -> Wire {
        Wire {
            memory: vec![0; bytes],
            len: 0,
        }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what is in it.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Its memory, and how much of it counts.
    pub fn into_memory(self) -> (Vec<u8>, usize) {
        (self.memory, self.len)
    }

    /// Empty, out of memory that came back.
    pub fn of_memory(memory: Vec<u8>) -> Wire {
        Wire { memory, len: 0 }
    }

    /// Behind what is in it, bytes that are there already.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// At least `bytes` to write to behind what is in it.
    pub(crate) fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.memory.len() - self.len < bytes {
            self.memory.resize(self.len + bytes, 0);
        }
        &mut self.memory[self.len..]
    }

    /// So many bytes were written.
    pub(crate) fn filled(&mut self, bytes: usize) {
        assert!(bytes <= self.memory.len() - self.len, "within the room");
        self.len += bytes;
    }
}
