//! One stream at a time: what was given against what came, 64 messages to a word.

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;

use crate::journal::{Union, BITS, WORDS};
use crate::run_report::Span;

/// Ranges that a verdict lists; the rest is only counted.
const LISTED_MAX: usize = 20;

/// A range of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// `<emitter-id>/<connection>`.
    pub stream: String,
    /// First sequence.
    pub first: u64,
    /// Last sequence.
    pub last: u64,
}

/// Messages of one sort: how many, and the first ranges of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// All.
    pub messages: u64,
    /// The first ranges, in the order of streams and sequences.
    pub first: Vec<Range>,
}

impl Listed {
    fn add(&mut self, stream: &str, first: u64, last: u64) {
        self.messages += last - first + 1;
        if let Some(range) = self.first.last_mut() {
            if range.stream == stream && range.last + 1 == first {
                range.last = last;
                return;
            }
        }
        if self.first.len() < LISTED_MAX {
            self.first.push(Range {
                stream: stream.to_owned(),
                first,
                last,
            });
        }
    }

    /// Set bits of the words of a page.
    fn add_bits(&mut self, stream: &str, page: u64, words: &[u64; WORDS]) {
        for (at, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
            let base = page * BITS + at as u64 * 64;
            let mut rest = *word;
            while rest != 0 {
                let first = u64::from(rest.trailing_zeros());
                let run = u64::from((rest >> first).trailing_ones());
                self.add(stream, base + first, base + first + run - 1);
                rest = if first + run == 64 {
                    0
                } else {
                    rest >> (first + run) << (first + run)
                };
            }
        }
    }
}

/// What an emitter says of one stream. All ascend; those of the others are within `given`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// Sent.
    pub given: &'a [Span],
    /// May have been lost with a connection.
    pub maybe_lost: &'a [Span],
    /// Sent again without knowing whether it had been taken.
    pub maybe_twice: &'a [Span],
}

/// What all streams came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Given and received.
    pub delivered: u64,
    /// Of those: more than once.
    pub twice: u64,
    /// Of `twice`: their emitter says so.
    pub twice_as_said: u64,
    /// Times that a message came flagged as a possible duplicate.
    pub flagged: u64,
    /// Given, not received, and no broken connection explains it.
    pub missing: Listed,
    /// Given, not received, may have been lost with a connection.
    pub lost_on_the_way: Listed,
    /// Received more than once without the flag on native links.
    pub unrecognised: Listed,
    /// Received, and no emitter's run report says that it was sent.
    pub strays: Listed,
}

impl Joined {
    /// Joins one stream.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn join(&mut self, union: &Union, stream: &str, said: Said<'_>) -> io::Result<()> {
        let pages: BTreeSet<u64> = union.pages(stream.as_bytes());
        let mut next = 0;
        for page in pages {
            let (first, end) = (
                page.saturating_mul(BITS),
                page.saturating_add(1).saturating_mul(BITS),
            );
            self.absent(stream, said, next, first);
            self.page(union, stream, said, page)?;
            next = end;
        }
        self.absent(stream, said, next, u64::MAX);
        Ok(())
    }

    /// No journal has anything from `from` to before `end`.
    fn absent(&mut self, stream: &str, said: Said<'_>, from: u64, end: u64) {
        for span in clip(said.given, from, end) {
            let mut at = span.0;
            for lost in clip(said.maybe_lost, span.0, span.1 + 1) {
                if at < lost.0 {
                    self.missing.add(stream, at, lost.0 - 1);
                }
                self.lost_on_the_way.add(stream, lost.0, lost.1);
                at = lost.1 + 1;
            }
            if at <= span.1 {
                self.missing.add(stream, at, span.1);
            }
        }
    }

    fn page(&mut self, union: &Union, stream: &str, said: Said<'_>, page: u64) -> io::Result<()> {
        let bits = union.page(stream.as_bytes(), page)?;
        let (given, maybe_lost) = (mask(said.given, page), mask(said.maybe_lost, page));
        let maybe_twice = mask(said.maybe_twice, page);
        let mut missing = [0; WORDS];
        let mut lost_on_the_way = [0; WORDS];
        let mut strays = [0; WORDS];
        let mut unrecognised = [0; WORDS];
        for at in 0..WORDS {
            let absent = given[at] & !bits.once[at];
            missing[at] = absent & !maybe_lost[at];
            lost_on_the_way[at] = absent & maybe_lost[at];
            strays[at] = bits.once[at] & !given[at];
            self.delivered += u64::from((bits.once[at] & given[at]).count_ones());
            // Whoever sent it again could not flag it.
            unrecognised[at] = bits.unrecognised[at] & !maybe_twice[at];
            self.twice += u64::from(bits.twice[at].count_ones());
            self.twice_as_said += u64::from((bits.twice[at] & maybe_twice[at]).count_ones());
        }
        self.flagged += bits.flagged;
        self.missing.add_bits(stream, page, &missing);
        self.lost_on_the_way
            .add_bits(stream, page, &lost_on_the_way);
        self.unrecognised.add_bits(stream, page, &unrecognised);
        self.strays.add_bits(stream, page, &strays);
        Ok(())
    }
}

/// Parts of the spans from `from` to before `end`.
fn clip(spans: &[Span], from: u64, end: u64) -> impl Iterator<Item = Span> + '_ {
    let overlaps = move |span: &&Span| span.0 < end && span.1 >= from;
    spans
        .iter()
        .filter(overlaps)
        .map(move |span| Span(span.0.max(from), span.1.min(end - 1)))
}

/// Bits of a page that are in the spans.
fn mask(spans: &[Span], page: u64) -> Box<[u64; WORDS]> {
    let mut words = Box::new([0; WORDS]);
    let first = page.saturating_mul(BITS);
    for Span(from, to) in clip(spans, first, first.saturating_add(BITS)) {
        let (from, to) = (from - first, to - first);
        for at in from / 64..=to / 64 {
            let low = from.saturating_sub(at * 64);
            let high = (to - at * 64).min(63);
            words[at as usize] |= u64::MAX << low & u64::MAX >> (63 - high);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn masks_are_exact() {
        let spans = [Span(1, 1), Span(60, 130), Span(BITS - 1, BITS + 3)];
        for page in 0..2 {
            let words = mask(&spans, page);
            for bit in 0..BITS {
                let sequence = page * BITS + bit;
                let wanted = spans
                    .iter()
                    .any(|span| (span.0..=span.1).contains(&sequence));
                let is_set = words[(bit / 64) as usize] & 1 << (bit % 64) != 0;
                assert_eq!(is_set, wanted, "{sequence}");
            }
        }
    }

    #[test]
    fn what_no_journal_has_is_found_by_arithmetic() {
        let union = Union::new(Vec::new());
        let mut joined = Joined::default();
        let said = Said {
            given: &[Span(1, 1 << 60)],
            maybe_lost: &[Span(11, 20)],
            maybe_twice: &[],
        };
        joined.join(&union, "e/0", said).expect("nothing to read");
        assert_eq!(joined.missing.messages, (1 << 60) - 10);
        assert_eq!(joined.lost_on_the_way.messages, 10);
        let ranges: Vec<_> = joined
            .missing
            .first
            .iter()
            .map(|r| (r.first, r.last))
            .collect();
        assert_eq!(ranges, [(1, 10), (21, 1 << 60)]);
    }

    proptest! {
        #[test]
        fn ranges_are_the_set_bits(bits in proptest::collection::btree_set(0..BITS, 0..80)) {
            let mut words = [0; WORDS];
            for bit in &bits {
                words[(bit / 64) as usize] |= 1 << (bit % 64);
            }
            let mut listed = Listed::default();
            listed.add_bits("e/0", 2, &words);
            prop_assert_eq!(listed.messages, bits.len() as u64);
            let mut all = BTreeSet::new();
            for range in &listed.first {
                all.extend(range.first - 2 * BITS..=range.last - 2 * BITS);
            }
            let is_prefix = bits.iter().zip(&all).all(|(a, b)| a == b);
            prop_assert!(is_prefix && (listed.first.len() == LISTED_MAX || all.len() == bits.len()));
        }
    }
}
