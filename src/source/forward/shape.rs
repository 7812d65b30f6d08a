//! Entries: what has the shape of a message, and what is something else.
//!
//! ```text
//! 92 | time | record          [time, record]             time: integer, float, EventTime
//! 92 | 92 time meta | record  [[time, metadata], record] Fluent Bit
//! ```

use crate::level;
use weir_protocol::msgpack::{
    len_of, take_array, take_head, take_map, take_short_text, take_string, take_value, Head,
};

/// When an entry happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Since 1970 in UTC.
    pub seconds: u64,
    /// Of a second: below 10^9.
    pub nanoseconds: u32,
}

/// What stands where an entry's time does.
enum When<'a> {
    At(Time, &'a [u8]),
    /// Fluent Bit puts the context of the entries between two such marks, with -1 and -2 as their seconds.
    Group,
}

const NANOSECONDS_MAX: u32 = 999_999_999;
/// Seconds of an EventTime that says -1 and -2.
const GROUP_SECONDS: [u32; 2] = [u32::MAX, u32::MAX - 1];

impl Time {
    /// Takes time and metadata off an entry in shape. Metadata is a map; empty bytes where there is none.
    #[inline]
    pub fn take<'a>(entry: &mut &'a [u8]) -> Option<(Time, &'a [u8])> {
        match take_event_time(entry) {
            Some(time) => time,
            None => take_when(entry)?,
        }
        .time()
    }
}

impl<'a> When<'a> {
    #[inline]
    fn time(self) -> Option<(Time, &'a [u8])> {
        match self {
            When::At(time, metadata) => Some((time, metadata)),
            When::Group => None,
        }
    }
}

/// What nearly all entries have.
#[inline(always)]
fn take_event_time(rest: &mut &[u8]) -> Option<When<'static>> {
    let [0xd7, 0, a, b, c, d, e, f, g, h, after @ ..] = *rest else {
        return None;
    };
    *rest = after;
    Some(of_event_time([*a, *b, *c, *d], [*e, *f, *g, *h]))
}

#[inline(never)]
fn take_when<'a>(rest: &mut &'a [u8]) -> Option<When<'a>> {
    // What Fluent Bit has with most entries: no metadata.
    if let [0x92, 0xd7, 0, a, b, c, d, e, f, g, h, 0x80, after @ ..] = *rest {
        *rest = after;
        return Some(of_event_time([*a, *b, *c, *d], [*e, *f, *g, *h]));
    }
    match take_head(rest)? {
        Head::Array(2) => {
            let head = take_head(rest)?;
            let when = when_of(head, rest)?;
            let metadata = take_value(rest)?;
            let is_map = matches!(take_head(&mut &*metadata), Some(Head::Map(_)));
            match when {
                When::At(time, _) if is_map => Some(When::At(time, metadata)),
                When::At(..) => None,
                When::Group => Some(When::Group),
            }
        }
        head => when_of(head, rest),
    }
}

#[inline]
fn when_of<'a>(head: Head, rest: &mut &'a [u8]) -> Option<When<'a>> {
    let time = match head {
        Head::Ext { kind: 0, bytes: 8 } => {
            let (time, after) = rest.split_first_chunk::<8>()?;
            *rest = after;
            let [a, b, c, d, e, f, g, h] = *time;
            return Some(of_event_time([a, b, c, d], [e, f, g, h]));
        }
        Head::Uint(seconds) => Time {
            seconds,
            nanoseconds: 0,
        },
        Head::Int(-1 | -2) => return Some(When::Group),
        Head::Int(seconds) => Time {
            seconds: u64::try_from(seconds).ok()?,
            nanoseconds: 0,
        },
        Head::Float(-1.0 | -2.0) => return Some(When::Group),
        // What is above is no time, and is not below 2^64 either.
        Head::Float(seconds) if (0.0..1e18).contains(&seconds) => of_float(seconds),
        _ => return None,
    };
    Some(When::At(time, &[]))
}

#[inline(always)]
fn of_event_time(seconds: [u8; 4], nanoseconds: [u8; 4]) -> When<'static> {
    let seconds = u32::from_be_bytes(seconds);
    if GROUP_SECONDS.contains(&seconds) {
        return When::Group;
    }
    let time = Time {
        seconds: u64::from(seconds),
        nanoseconds: u32::from_be_bytes(nanoseconds).min(NANOSECONDS_MAX),
    };
    When::At(time, &[])
}

/// Both parts are held against their range before.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn of_float(seconds: f64) -> Time {
    Time {
        seconds: seconds as u64,
        nanoseconds: ((seconds.fract() * 1e9) as u32).min(NANOSECONDS_MAX),
    }
}

/// What is where an entry should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A message: its time and its record, one behind the other.
    Message(&'a [u8]),
    /// A mark of a group.
    Group,
    /// Something else.
    Other,
}

/// Looks at the entry at the beginning of `bytes`: its bytes, what it is, and the severity of a message. That is by the
/// first of the keys of its record that says one; 3 where none does. `None`: it is not whole, or no value.
#[inline]
pub fn entry(bytes: &[u8]) -> Option<(usize, Entry<'_>, u8)> {
    let mut rest = bytes;
    if let Some(2) = take_array(&mut rest) {
        let head = bytes.len() - rest.len();
        if let Some((len, entry, severity)) = pair(rest) {
            return Some((head + len, entry, severity));
        }
    }
    Some((len_of(bytes)?, Entry::Other, level::INFO))
}

/// Seconds and nanoseconds of an EventTime without metadata, or with the empty one of Fluent Bit, and what follows.
#[inline(always)]
pub fn usual_time(entry: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (is_nested, time) = match entry {
        [0xd7, 0, time @ ..] => (false, time),
        [0x92, 0xd7, 0, time @ ..] => (true, time),
        _ => return None,
    };
    let (seconds, rest) = time.split_first_chunk()?;
    let (nanoseconds, rest) = rest.split_first_chunk()?;
    let map = match is_nested {
        false => rest,
        true => rest.strip_prefix(&[0x80])?,
    };
    let (seconds, nanoseconds) = (*seconds, *nanoseconds);
    Some((
        u32::from_be_bytes(seconds),
        u32::from_be_bytes(nanoseconds),
        map,
    ))
}

/// Bytes and severity of a message as nearly all are: an EventTime, perhaps with the empty metadata of Fluent Bit, and a
/// map of at most 15 pairs whose keys are short texts. `None`: look at it with [`entry`]. All of it in registers.
#[inline(always)]
pub fn usual(bytes: &[u8]) -> Option<(usize, u8)> {
    let (seconds, _, map) = usual_time(bytes.strip_prefix(&[0x92])?)?;
    let (head, mut rest) = map.split_first()?;
    if GROUP_SECONDS.contains(&seconds) || head & 0xf0 != 0x80 {
        return None;
    }
    let mut found: Option<(usize, u8)> = None;
    for _ in 0..head & 0x0f {
        let rank = rank_of(take_short_text(&mut rest)?);
        let from = rest;
        if take_short_text(&mut rest).is_none() {
            take_value(&mut rest)?;
        }
        let Some(rank) = rank.filter(|rank| found.is_none_or(|(best, _)| *rank < best)) else {
            continue;
        };
        // What is `log` is a text nearly always.
        if rank != LOG || take_map(&mut &*from).is_some() {
            let value = from.get(..from.len() - rest.len())?;
            found = said(rank, value).or(found);
        }
    }
    let severity = found.map_or(level::INFO, |(_, severity)| severity);
    Some((bytes.len() - rest.len(), severity))
}

/// The same of time and record without the head of their array, as a Message has them. `None`: they are something else.
#[inline]
pub fn pair(bytes: &[u8]) -> Option<(usize, Entry<'_>, u8)> {
    let mut rest = bytes;
    let when = match take_event_time(&mut rest) {
        Some(when) => when,
        None => take_when(&mut rest)?,
    };
    let severity = take_record(&mut rest)?;
    let (pair, _) = bytes.split_at_checked(bytes.len() - rest.len())?;
    let entry = match when {
        When::At(..) => Entry::Message(pair),
        When::Group => Entry::Group,
    };
    Some((pair.len(), entry, severity))
}

/// Takes a record off; its severity.
#[inline]
fn take_record(rest: &mut &[u8]) -> Option<u8> {
    let pairs = take_map(rest)?;
    // The key that has said it so far.
    let mut found: Option<(usize, u8)> = None;
    for _ in 0..pairs {
        let rank = match take_string(rest) {
            Some(key) => rank_of(key),
            None => {
                take_value(rest)?;
                None
            }
        };
        let value = take_value(rest)?;
        if let Some(rank) = rank.filter(|rank| found.is_none_or(|(best, _)| *rank < best)) {
            found = said(rank, value).or(found);
        }
    }
    Some(found.map_or(level::INFO, |(_, severity)| severity))
}

/// What the value of a key of this rank says, and what that counts as.
#[inline(never)]
fn said(rank: usize, value: &[u8]) -> Option<(usize, u8)> {
    match rank {
        LOG => level_within(value).map(|severity| (LOG_LEVEL, severity)),
        rank => level_of(value).map(|severity| (rank, severity)),
    }
}

/// Place of `log.level` among the keys that say a severity.
const LOG_LEVEL: usize = 2;
/// A map that has it as `level`. Behind it, so that it counts as that.
const LOG: usize = 3;

/// Where a key stands among those that say a severity.
#[inline]
fn rank_of(key: &[u8]) -> Option<usize> {
    match key {
        b"level" => Some(0),
        b"severity" => Some(1),
        b"log.level" => Some(LOG_LEVEL),
        b"log" => Some(LOG),
        b"loglevel" => Some(4),
        b"severity_text" => Some(5),
        _ => None,
    }
}

fn level_of(value: &[u8]) -> Option<u8> {
    let mut rest = value;
    match take_head(&mut rest)? {
        Head::Str(_) | Head::Bin(_) => level::of_word(rest),
        Head::Uint(number) => level::of_number(number),
        _ => None,
    }
}

/// Of a map, what its `level` says.
fn level_within(value: &[u8]) -> Option<u8> {
    let mut rest = value;
    for _ in 0..take_map(&mut rest)? {
        let is_level = match take_string(&mut rest) {
            Some(key) => key == b"level",
            None => {
                take_value(&mut rest)?;
                false
            }
        };
        let value = take_value(&mut rest)?;
        if is_level {
            return level_of(value);
        }
    }
    None
}
