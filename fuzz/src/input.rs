//! Reads an input as settings, choices and a stream. Whatever is missing is zero.

use weir_testkit::Random;

/// A cursor over one input.
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Starts at the first byte.
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    /// Nothing is left: operations end here.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// A number below `end`, from as few bytes as it needs. `end` is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        let number = match end {
            0..=0x100 => u64::from(self.u8()),
            0x101..=0x1_0000 => u64::from(self.u16()),
            _ => self.u64(),
        };
        (number % end as u64) as usize
    }

    /// True for so many of 256 bytes.
    pub fn chance(&mut self, of_256: u16) -> bool {
        u16::from(self.u8()) < of_256
    }

    /// One of a few.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Up to `len` bytes, fewer at the end.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = tail;
        head
    }

    /// Everything up to the next zero byte, which is taken as well.
    pub fn line(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let line = self.bytes(end.unwrap_or(self.rest.len()));
        self.bytes(1);
        line
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }
}

/// `stream` in pieces, as reads may bring it: 0 is whole, 1 is byte by byte, every other seed is
/// another mixture of short, long and empty pieces.
pub fn pieces(stream: &[u8], seed: u16) -> Vec<&[u8]> {
    let mut random = Random::new(u64::from(seed));
    let mut all = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let len = match (seed, random.below(8)) {
            (0, _) => rest.len(),
            (1, _) => 1,
            (_, 0) => 0,
            (_, 1..4) => 1 + random.below(4),
            (_, 4..6) => 1 + random.below(16),
            (_, 6) => 1 + random.below(300),
            _ => 1 + random.below(rest.len()),
        };
        let (piece, tail) = rest.split_at(len.min(rest.len()));
        all.push(piece);
        rest = tail;
    }
    all
}
