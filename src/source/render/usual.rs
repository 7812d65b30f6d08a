//! Entries as nearly all are, written to where their message will lie, in one go.
//!
//! ```text
//! entry   EventTime, perhaps with the empty metadata of Fluent Bit | map of 1 to 15 pairs
//! pair    short text | short text, whole number from 0 on, true, false, nil; in no text anything to escape
//! ```
//!
//! Tag and second are those of the entry before. Whatever else there is, nothing is lost: [`entry`](super::entry) begins
//! anew.

use super::context::Context;
use super::plain::copy_plain;
use super::{TAG, TIMESTAMP};
use crate::forward::usual_time;
use weir_protocol::msgpack::take_short_text;

/// Pairs of a map whose head is one byte.
const PAIRS_MAX: usize = 15;
/// What a pair has more as JSON than as MessagePack: four quotes, colon, comma; and digits, or a word, for one byte.
const PAIR_BYTES: usize = 12;

/// Room that [`usual`] needs, in bytes: more than it takes.
#[inline(always)]
pub fn usual_room(context: &Context, entry: &[u8]) -> usize {
    entry.len() + PAIRS_MAX * PAIR_BYTES + context.pairs().len()
}

/// Writes an entry as [`entry`](super::entry) does, without a limit; the bytes that it takes. `None`: it is not one of the
/// usual ones, and what is in `out` is nothing.
#[inline]
pub fn usual(context: &Context, tag: &[u8], entry: &[u8], out: &mut [u8]) -> Option<usize> {
    let (seconds, nanoseconds, map) = usual_time(entry)?;
    if !context.is_of(u64::from(seconds), tag) || nanoseconds >= 1_000_000_000 {
        return None;
    }
    let (head, mut rest) = map.split_first()?;
    if !(0x81..=0x8f).contains(head) {
        return None;
    }
    let bytes = out.len();
    let mut place = Place { left: out };
    let mut sign = b'{';
    for _ in 0..head & 0x0f {
        let name = take_short_text(&mut rest)?;
        if name == TAG || name == TIMESTAMP {
            return None;
        }
        place.put([sign, b'"'])?;
        place.text(name)?;
        place.put([b'"', b':'])?;
        place.value(&mut rest)?;
        sign = b',';
    }
    let to = place.take(context.pairs().len())?;
    context.write(nanoseconds, to);
    place.put([b'}'])?;
    Some(bytes - place.left.len())
}

/// What is left of the room.
struct Place<'a> {
    left: &'a mut [u8],
}

impl<'a> Place<'a> {
    #[inline(always)]
    fn put<const BYTES: usize>(&mut self, bytes: [u8; BYTES]) -> Option<()> {
        let (to, left) = std::mem::take(&mut self.left).split_first_chunk_mut()?;
        *to = bytes;
        self.left = left;
        Some(())
    }

    #[inline(always)]
    fn take(&mut self, bytes: usize) -> Option<&'a mut [u8]> {
        let (to, left) = std::mem::take(&mut self.left).split_at_mut_checked(bytes)?;
        self.left = left;
        Some(to)
    }

    /// A text that is written as it is.
    #[inline(always)]
    fn text(&mut self, text: &[u8]) -> Option<()> {
        let to = self.take(text.len())?;
        copy_plain(text, to).then_some(())
    }

    #[inline(always)]
    fn value(&mut self, rest: &mut &[u8]) -> Option<()> {
        let Some(text) = take_short_text(rest) else {
            return self.short_value(rest);
        };
        self.put([b'"'])?;
        self.text(text)?;
        self.put([b'"'])
    }

    #[inline(never)]
    fn short_value(&mut self, rest: &mut &[u8]) -> Option<()> {
        let (number, after) = match **rest {
            [0xc0, ref after @ ..] => return self.word(b"null", after, rest),
            [0xc2, ref after @ ..] => return self.word(b"false", after, rest),
            [0xc3, ref after @ ..] => return self.word(b"true", after, rest),
            [number @ 0..=0x7f, ref after @ ..] | [0xcc, number, ref after @ ..] => {
                (u32::from(number), after)
            }
            [0xcd, a, b, ref after @ ..] => (u32::from(u16::from_be_bytes([a, b])), after),
            [0xce, a, b, c, d, ref after @ ..] => (u32::from_be_bytes([a, b, c, d]), after),
            _ => return None,
        };
        let mut digits = [0; 10];
        let (mut number, mut at) = (number, digits.len());
        loop {
            at -= 1;
            let [digit, ..] = (number % 10).to_le_bytes();
            digits[at] = b'0' + digit;
            number /= 10;
            if number == 0 {
                return self.word(&digits[at..], after, rest);
            }
        }
    }

    fn word<'b>(&mut self, word: &[u8], after: &'b [u8], rest: &mut &'b [u8]) -> Option<()> {
        self.take(word.len())?.copy_from_slice(word);
        *rest = after;
        Some(())
    }
}
