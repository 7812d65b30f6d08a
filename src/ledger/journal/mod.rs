//! Journals: which messages an analyzer received, one bit each, written before the ACK.
//!
//! ```text
//!   file:  | head | page | page | page | ...          4 KiB each; analyzer and number of the file in front
//!   page:  | stream, plane, which 30,528 sequences | 0 1 1 0 1 ...
//! ```
//!
//! A message has a bit in one of four planes: it came plain, or flagged as a possible duplicate; and
//! the same again for one that came a second time in the same way. Bits are only ever set. So a page
//! that is written again after the analyzer was killed, or read while it runs, is at worst too old.
//!
//! What is written is in the kernel's hands and survives the death of the process, not that of the
//! machine: nothing is synced to disk.

mod page;
mod reader;
mod union;
mod writer;

pub use page::{BITS, BYTES_MAX, PAGE_BYTES};
pub use reader::{is_journal, Head, Reader};
pub use union::{PageBits, Summary, Union, WORDS};
pub use writer::Journal;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// As any other.
    Plain,
    /// Flagged as a possible duplicate.
    Flagged,
}
