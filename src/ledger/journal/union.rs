//! Several journals as one: how often each message came, wherever it came.
//!
//! 64 messages at a time: bits are added up with saturation at two, as in a half adder.

use super::page::{BITS, BITS_AT, PAGE_BYTES};
use super::reader::{Head, Reader};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::FileExt;

/// Words of a page.
pub const WORDS: usize = (BITS / 64) as usize;
const _: () = assert!(BITS.is_multiple_of(64));

/// Journals that are looked at together.
pub struct Union {
    readers: Vec<Reader>,
}

/// What the journals say of the sequences of one page: bit i of word w is sequence page x [`BITS`] +
/// 64 w + i.
pub struct PageBits {
    /// Came at least once.
    pub once: Box<[u64; WORDS]>,
    /// Came more than once.
    pub twice: Box<[u64; WORDS]>,
    /// Came more than once without the flag on native links: the receivers cannot know which is the
    /// duplicate.
    pub unrecognised: Box<[u64; WORDS]>,
    plain_native: Box<[u64; WORDS]>,
    /// Times that a message of this page came flagged.
    pub flagged: u64,
}

/// Totals of all journals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Different messages.
    pub messages: u64,
    /// Of those: came more than once.
    pub twice: u64,
    /// Of those: more than once without the flag, on native links.
    pub unrecognised: u64,
    /// Times that a message came flagged.
    pub flagged: u64,
    /// Messages without a number.
    pub unnumbered: u64,
    /// Streams.
    pub streams: u64,
}

impl Summary {
    /// Adds the counts of a page.
    pub fn add(&mut self, bits: &PageBits) {
        self.messages += ones(&bits.once[..]);
        self.twice += ones(&bits.twice[..]);
        self.unrecognised += ones(&bits.unrecognised[..]);
        self.flagged += bits.flagged;
    }
}

impl Union {
    /// Of these journals; each is to be given once.
    pub fn new(readers: Vec<Reader>) -> Union {
        Union { readers }
    }

    /// What the journals say of themselves.
    pub fn heads(&self) -> impl Iterator<Item = &Head> {
        self.readers.iter().map(|reader| &reader.head)
    }

    /// The journals.
    pub fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// Every stream of any journal, in order.
    pub fn streams(&self) -> BTreeSet<&[u8]> {
        let names = self.readers.iter().flat_map(|reader| reader.places.keys());
        names.map(|name| &**name).collect()
    }

    /// Pages of a stream that any journal has, in order.
    pub fn pages(&self, stream: &[u8]) -> BTreeSet<u64> {
        let streams = self
            .readers
            .iter()
            .filter_map(|reader| reader.places.get(stream));
        streams.flat_map(|pages| pages.keys().copied()).collect()
    }

    /// What the journals say of one page of a stream.
    ///
    /// # Errors
    /// A journal cannot be read, with its path.
    pub fn page(&self, stream: &[u8], page: u64) -> io::Result<PageBits> {
        let mut bits = PageBits::new();
        let mut bytes = [0; PAGE_BYTES - BITS_AT];
        for reader in &self.readers {
            let places = reader.places.get(stream).and_then(|pages| pages.get(&page));
            for (plane, at) in places.into_iter().flatten() {
                let at = at * PAGE_BYTES as u64 + BITS_AT as u64;
                reader.file.read_exact_at(&mut bytes, at).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", reader.path.display()))
                })?;
                bits.add(&bytes, *plane >= 2, reader.head.is_native());
            }
        }
        Ok(bits)
    }

    /// Totals.
    ///
    /// # Errors
    /// A journal cannot be read, with its path.
    pub fn summary(&self) -> io::Result<Summary> {
        let mut summary = Summary {
            unnumbered: self.heads().map(|head| head.unnumbered).sum(),
            ..Summary::default()
        };
        for stream in self.streams() {
            summary.streams += 1;
            for page in self.pages(stream) {
                summary.add(&self.page(stream, page)?);
            }
        }
        Ok(summary)
    }
}

impl PageBits {
    fn new() -> PageBits {
        PageBits {
            once: Box::new([0; WORDS]),
            twice: Box::new([0; WORDS]),
            unrecognised: Box::new([0; WORDS]),
            plain_native: Box::new([0; WORDS]),
            flagged: 0,
        }
    }

    fn add(&mut self, bytes: &[u8], flagged: bool, native: bool) {
        for (at, word) in bytes.chunks_exact(8).enumerate() {
            let mut little_endian = [0; 8];
            little_endian.copy_from_slice(word);
            let word = u64::from_le_bytes(little_endian);
            self.twice[at] |= self.once[at] & word;
            self.once[at] |= word;
            if flagged {
                self.flagged += u64::from(word.count_ones());
            } else if native {
                self.unrecognised[at] |= self.plain_native[at] & word;
                self.plain_native[at] |= word;
            }
        }
    }
}

fn ones(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}
