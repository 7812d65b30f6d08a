//! What the check of a unit has found of its entries: they are gone through without a second look at what they are.
//!
//! A unit is looked at to its end before its first entry is routed. Its entries are of a few hundred bytes, so what was
//! found of each is small beside it; of a unit of more than [`MARKS_MAX`] entries the rest is looked at again.

use super::shape::{self, Entry};
use super::ForwardError;
use crate::level::INFO;

/// Entries of a unit that are marked: 32 KiB. Only the connection whose unit is gone through has some, and those behind
/// it in its shard wait.
const MARKS_MAX: usize = 4096;
/// Bytes of a short entry: to guess how many there are.
const SHORT_BYTES: usize = 128;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Its bytes.
    pub bytes: u32,
    /// Of those: the head of its array. What follows is time and record.
    head: u8,
    is: Is,
}

#[derive(Clone, Copy, Debug)]
enum Is {
    /// Of this severity.
    Message(u8),
    Group,
    Other,
}

impl Mark {
    /// What it is, and its severity, out of its bytes.
    #[inline]
    pub fn read(self, entry: &[u8]) -> (Entry<'_>, u8) {
        match self.is {
            Is::Message(severity) => {
                let pair = entry.get(usize::from(self.head)..).unwrap_or_default();
                (Entry::Message(pair), severity)
            }
            Is::Group => (Entry::Group, INFO),
            Is::Other => (Entry::Other, INFO),
        }
    }
}

impl Mark {
    /// Severity, time and record of a message, out of its bytes. `None`: it is none, or they are not all there.
    #[inline(always)]
    pub fn message(self, bytes: &[u8]) -> Option<(u8, &[u8])> {
        match self.is {
            Is::Message(severity) => {
                let entry = bytes.get(usize::from(self.head)..self.bytes as usize)?;
                Some((severity, entry))
            }
            Is::Group | Is::Other => None,
        }
    }
}

/// Those of a unit, and which is next.
#[derive(Debug, Default)]
pub struct Marks {
    marks: Vec<Mark>,
    at: usize,
}

impl Marks {
    /// Looks at entries that end where `bytes` do, and marks them; how many of them are messages.
    ///
    /// # Errors
    /// They end elsewhere, or hold a byte that begins no value.
    pub fn check(&mut self, bytes: &[u8], finds_level: bool) -> Result<u32, ForwardError> {
        let guess = (bytes.len() / SHORT_BYTES).min(MARKS_MAX);
        let mut marks = Vec::with_capacity(guess);
        let (mut rest, mut messages) = (bytes, 0);
        while !rest.is_empty() {
            if let Some((used, severity)) = shape::usual(rest) {
                messages += 1;
                let severity = if finds_level { severity } else { INFO };
                if marks.len() < MARKS_MAX {
                    let bytes = u32::try_from(used).unwrap_or(u32::MAX);
                    let (is, head) = (Is::Message(severity), 1);
                    marks.push(Mark { bytes, head, is });
                }
                rest = rest.get(used..).unwrap_or_default();
                continue;
            }
            let (used, entry, severity) = shape::entry(rest).ok_or(ForwardError::Entries)?;
            let (is, head) = match entry {
                Entry::Message(pair) => {
                    messages += 1;
                    let severity = if finds_level { severity } else { INFO };
                    (Is::Message(severity), used - pair.len())
                }
                Entry::Group => (Is::Group, 0),
                Entry::Other => (Is::Other, 0),
            };
            if marks.len() < MARKS_MAX {
                // What is larger than that is not held. The head of an array has at most 5 bytes.
                let bytes = u32::try_from(used).unwrap_or(u32::MAX);
                let head = u8::try_from(head).unwrap_or_default();
                marks.push(Mark { bytes, head, is });
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        *self = Marks { marks, at: 0 };
        Ok(messages)
    }

    /// Of the entry that is next, if it is marked.
    #[inline]
    pub fn next(&self) -> Option<Mark> {
        self.marks.get(self.at).copied()
    }

    /// It was taken.
    #[inline]
    pub fn taken(&mut self) {
        self.at += 1;
    }

    /// The unit was gone through.
    pub fn clear(&mut self) {
        *self = Marks::default();
    }
}
