//! Date and tag of an entry, which are the same for many: rendered when they change.

use super::Writer;
use crate::forward::Time;
use weir_protocol::civil;

/// The last second that RFC 3339 has a date for.
const SECOND_MAX: u64 = 253_402_300_799;
/// The first second, as it is behind other keys: only the fraction changes within one.
const STAMP: &[u8; 46] = b",\"@timestamp\":\"1970-01-01T00:00:00.000000000Z\"";
/// Where date and fraction are in it.
const DATE_AT: usize = 15;
const FRACTION_AT: usize = 35;
/// Longer tags are rendered each time.
const TAG_BYTES_KEPT: usize = 256;

/// What the last entries had: the second in which they happened, their tag.
#[derive(Debug)]
pub struct Context {
    second: u64,
    tag: Vec<u8>,
    /// The stamp of `second`, and `,"tag":"..."` behind it; no more than the stamp: of no tag.
    pairs: Vec<u8>,
}

impl Default for Context {
    fn default() -> Context {
        Context {
            second: 0,
            tag: Vec::new(),
            pairs: STAMP.to_vec(),
        }
    }
}

impl Context {
    /// Appends both, behind other keys.
    #[inline]
    pub(super) fn put(&mut self, time: Time, tag: &[u8], out: &mut Vec<u8>) {
        if self.is_of(time.seconds, tag) {
            let at = out.len();
            out.extend_from_slice(&self.pairs);
            put_fraction(&mut out[at..], time.nanoseconds);
        } else {
            self.put_time(time, false, out);
            self.put_tag(tag, false, out);
        }
    }

    /// Whether it is that of this second and this tag.
    #[inline(always)]
    pub(super) fn is_of(&self, second: u64, tag: &[u8]) -> bool {
        second == self.second && self.tag == tag && self.has_tag()
    }

    /// Both, of some fraction of the second.
    #[inline(always)]
    pub(super) fn pairs(&self) -> &[u8] {
        &self.pairs
    }

    /// Writes both to where they have just enough room. The fraction goes behind the rest: what is copied of bytes that
    /// were written a moment ago waits until they are in the cache.
    #[inline(always)]
    pub(super) fn write(&self, nanoseconds: u32, to: &mut [u8]) {
        to.copy_from_slice(&self.pairs);
        put_fraction(to, nanoseconds);
    }

    fn has_tag(&self) -> bool {
        self.pairs.len() > STAMP.len()
    }

    fn stamp(&mut self) -> &mut [u8; STAMP.len()] {
        self.pairs.first_chunk_mut().expect("it is never shorter")
    }

    /// Appends the key of a time and its value; `is_first`: no comma before it.
    #[inline]
    pub(super) fn put_time(&mut self, time: Time, is_first: bool, out: &mut Vec<u8>) {
        if time.seconds != self.second && !self.begin_second(time.seconds) {
            // Milliseconds from a client that was made by hand, most likely: as they came.
            out.extend_from_slice(&STAMP[usize::from(is_first)..DATE_AT - 1]);
            return Writer { out, is_cut: false }.unsigned(time.seconds);
        }
        let at = out.len();
        out.extend_from_slice(&*self.stamp());
        put_fraction(&mut out[at..], time.nanoseconds);
        if is_first {
            out.remove(at);
        }
    }

    /// False: there is no date for it.
    #[inline(never)]
    fn begin_second(&mut self, second: u64) -> bool {
        if second > SECOND_MAX {
            return false;
        }
        self.second = second;
        let (year, month, day) = civil(second / 86_400);
        let of_day = second % 86_400;
        for (at, two) in [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, of_day / 3600),
            (14, of_day / 60 % 60),
            (17, of_day % 60),
        ] {
            let [tens, ..] = (two / 10).to_le_bytes();
            let [ones, ..] = (two % 10).to_le_bytes();
            self.stamp()[DATE_AT + at] = b'0' + tens;
            self.stamp()[DATE_AT + at + 1] = b'0' + ones;
        }
        true
    }

    /// The same of a tag.
    #[inline]
    pub(super) fn put_tag(&mut self, tag: &[u8], is_first: bool, out: &mut Vec<u8>) {
        if self.tag != tag || !self.has_tag() {
            self.begin_tag(tag);
        }
        out.extend_from_slice(&self.pairs[STAMP.len() + usize::from(is_first)..]);
        if self.tag.len() > TAG_BYTES_KEPT {
            self.tag = Vec::new();
            self.pairs.truncate(STAMP.len());
            self.pairs.shrink_to_fit();
        }
    }

    #[inline(never)]
    fn begin_tag(&mut self, tag: &[u8]) {
        self.tag.clear();
        self.tag.extend_from_slice(tag);
        self.pairs.truncate(STAMP.len());
        let out = &mut self.pairs;
        let mut writer = Writer { out, is_cut: false };
        writer.put(b",\"tag\":");
        writer.string(tag);
    }
}

/// Two digits each.
const PAIRS: [[u8; 2]; 100] = {
    let (mut pairs, mut n) = ([[0; 2]; 100], 0_u8);
    while n < 100 {
        pairs[n as usize] = [b'0' + n / 10, b'0' + n % 10];
        n += 1;
    }
    pairs
};

/// Nine digits of nanoseconds, which are below 10^9, into a stamp.
#[inline(always)]
fn put_fraction(stamp: &mut [u8], nanoseconds: u32) {
    let Some(stamp) = stamp.first_chunk_mut::<{ STAMP.len() }>() else {
        return;
    };
    let two = |by: u32| PAIRS[(nanoseconds / by % 100) as usize];
    let [[a, b], [c, d], [e, f], [g, h]] = [two(10_000_000), two(100_000), two(1000), two(10)];
    let [last, ..] = (nanoseconds % 10).to_le_bytes();
    stamp[FRACTION_AT..FRACTION_AT + 9].copy_from_slice(&[a, b, c, d, e, f, g, h, b'0' + last]);
}
