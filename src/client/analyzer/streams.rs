//! Order and duplicates per emitter stream, in bounded memory.
//!
//! ```text
//!   last - 16,383                         last
//!     |  0 1 1 0 0 1 0 ...        0 1 1 0 1 |      one bit a sequence: seen or not
//! ```
//!
//! Gaps are normal: the other messages went to other analyzers. A sequence below `last` whose bit is
//! set is a duplicate; one whose bit is clear went back. Below the window nothing is known, and such
//! a message is counted as old.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Sequences that a stream remembers.
const WINDOW: u64 = 16_384;
const WORDS: usize = (WINDOW / 64) as usize;
/// Streams that are followed per link: with their windows 32 MiB. Messages of further streams are
/// counted, not checked.
const STREAMS_MAX: usize = 16_384;

/// How a message stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Above all sequences seen so far.
    Next,
    /// Below the last, not seen before.
    Back,
    /// Seen before.
    Duplicate,
    /// Below the window: may be either.
    Old,
    /// Not checked: too many streams.
    Unchecked,
}

/// The streams of one link.
#[derive(Default)]
pub struct Streams {
    by_hash: HashMap<u64, usize, BuildHasherDefault<Identity>>,
    all: Vec<Stream>,
    /// Stream of the message before: batches bring many of one stream in a row.
    latest: Option<(u64, usize)>,
}

struct Stream {
    last: u64,
    last_due_unix_ns: u64,
    seen: Box<[u64; WORDS]>,
}

impl Streams {
    /// Notes a message and says how it stands.
    #[inline]
    pub fn note(&mut self, hash: u64, sequence: u64, due_unix_ns: u64) -> Standing {
        match self.find(hash) {
            Some(at) => self.all[at].note(sequence, due_unix_ns),
            None => Standing::Unchecked,
        }
    }

    #[inline]
    fn find(&mut self, hash: u64) -> Option<usize> {
        if let Some((latest, at)) = self.latest {
            if latest == hash {
                return Some(at);
            }
        }
        let at = match self.by_hash.get(&hash) {
            Some(&at) => at,
            None => self.add(hash)?,
        };
        self.latest = Some((hash, at));
        Some(at)
    }

    fn add(&mut self, hash: u64) -> Option<usize> {
        let at = self.all.len();
        if at == STREAMS_MAX {
            return None;
        }
        self.all.push(Stream {
            last: 0,
            last_due_unix_ns: 0,
            seen: Box::new([0; WORDS]),
        });
        self.by_hash.insert(hash, at);
        Some(at)
    }
}

impl Stream {
    #[inline]
    fn note(&mut self, sequence: u64, due_unix_ns: u64) -> Standing {
        if sequence <= self.last && due_unix_ns > self.last_due_unix_ns {
            // Lower number, later time: the emitter was started again under the same id.
            self.seen.fill(0);
            self.last = 0;
        }
        if sequence > self.last {
            self.forget_between(self.last, sequence);
            self.last = sequence;
            self.last_due_unix_ns = due_unix_ns;
            self.mark(sequence);
            return Standing::Next;
        }
        if self.last - sequence >= WINDOW {
            return Standing::Old;
        }
        if self.mark(sequence) {
            Standing::Duplicate
        } else {
            Standing::Back
        }
    }

    /// Sets the bit of `sequence`; whether it was set.
    #[inline]
    fn mark(&mut self, sequence: u64) -> bool {
        let word = &mut self.seen[(sequence / 64) as usize % WORDS];
        let bit = 1u64 << (sequence % 64);
        let was_set = *word & bit != 0;
        *word |= bit;
        was_set
    }

    /// Clears the bits of last+1..=next, which held sequences one window below.
    #[inline]
    fn forget_between(&mut self, last: u64, next: u64) {
        if next - last >= WINDOW {
            self.seen.fill(0);
            return;
        }
        let mut at = last + 1;
        while at <= next {
            let in_word = at % 64;
            let count = (64 - in_word).min(next - at + 1);
            let bits = (u64::MAX >> (64 - count)) << in_word;
            self.seen[(at / 64) as usize % WORDS] &= !bits;
            at += count;
        }
    }
}

/// The keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn gaps_are_normal_and_steps_back_are_not() {
        let mut streams = Streams::default();
        let mut note = |sequence| streams.note(7, sequence, 1);
        assert_eq!(note(1), Standing::Next);
        assert_eq!(note(5), Standing::Next);
        assert_eq!(note(3), Standing::Back);
        assert_eq!(note(3), Standing::Duplicate);
        assert_eq!(note(5), Standing::Duplicate);
        assert_eq!(note(5 + WINDOW), Standing::Next);
        assert_eq!(note(5), Standing::Old);
        assert_eq!(note(6), Standing::Back);
    }

    #[test]
    fn a_bit_is_cleared_before_it_stands_for_another_sequence() {
        let mut streams = Streams::default();
        for sequence in 1..=WINDOW {
            assert_eq!(streams.note(7, sequence, 1), Standing::Next);
        }
        assert_eq!(streams.note(7, WINDOW + 10, 1), Standing::Next);
        assert_eq!(
            streams.note(7, WINDOW + 5, 1),
            Standing::Back,
            "5 had its bit set"
        );
        assert_eq!(
            streams.note(7, 11, 1),
            Standing::Duplicate,
            "not cleared too early"
        );
    }

    #[test]
    fn streams_do_not_mix() {
        let mut streams = Streams::default();
        assert_eq!(streams.note(1, 9, 1), Standing::Next);
        assert_eq!(streams.note(2, 9, 1), Standing::Next);
        assert_eq!(streams.note(1, 9, 1), Standing::Duplicate);
    }

    #[test]
    fn an_emitter_started_again_is_no_violation() {
        let mut streams = Streams::default();
        assert_eq!(streams.note(1, 900, 50), Standing::Next);
        assert_eq!(streams.note(1, 1, 60), Standing::Next);
        assert_eq!(streams.note(1, 900, 70), Standing::Next);
    }

    #[test]
    fn memory_is_bounded() {
        let mut streams = Streams::default();
        for hash in 0..STREAMS_MAX as u64 {
            assert_eq!(streams.note(hash, 1, 1), Standing::Next);
        }
        assert_eq!(streams.note(u64::MAX, 1, 1), Standing::Unchecked);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..40_000), 1..300)) {
            let mut streams = Streams::default();
            let (mut seen, mut last) = (HashSet::new(), 0u64);
            for (forward, step) in steps {
                let sequence = if forward { last + step % 300 } else { last.saturating_sub(step) };
                let sequence = sequence.max(1);
                let fresh = seen.insert(sequence);
                let expected = if sequence > last {
                    Standing::Next
                } else if last - sequence >= WINDOW {
                    Standing::Old
                } else if fresh {
                    Standing::Back
                } else {
                    Standing::Duplicate
                };
                prop_assert_eq!(streams.note(1, sequence, 1), expected);
                last = last.max(sequence);
            }
        }
    }
}
