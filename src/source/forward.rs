//! Fluent Forward v1, what Fluentd, Fluent Bit and Docker's log driver send. One entry is one message; a unit is an
//! outer value whose options have a `chunk`, and its answer is `{"ack": chunk}` (`docs/FORWARD.md`).
//!
//! ```text
//! outer value is not whole      NeedMore, or, beyond `unit_bytes_max`: read entry by entry while it comes
//! outer value is whole          checked to its end, and only then:
//!     Unit(n) or Nothing        its head; Unit if it has a chunk
//!     Element, Skipped ...      its entries
//!     Nothing                   its options
//! compressed                    Unpack, then the same of what was inside
//! ```
//!
//! Broken bytes close the connection before anything of their unit is routed: its sender would send it again, and
//! what was routed would be there twice. Values of another shape are skipped and counted, and the rest of their unit
//! is taken: they will not be better the next time.

mod auth;
mod error;
mod ids;
mod marks;
mod outer;
mod plan;
mod shape;
#[cfg(test)]
mod tests;

pub use auth::{hex_sha512, Secrets};
pub use error::ForwardError;
pub use outer::{CHUNK_BYTES_MAX, TAG_BYTES_MAX};
pub(crate) use shape::usual_time;
pub use shape::Time;

use crate::level::INFO;
use crate::{
    Answered, Answers, Coding, Element, Elements, Facts, JoinKey, Limits, Oddity, Port, Protocol,
    Source, SourceError, Step, UnitBegin,
};
use auth::{Greeting, Verdict, PING_BYTES_MAX};
use ids::{ChunkId, Ids};
use marks::{Mark, Marks};
use outer::{coding_of, Body, Options, Outer};
use plan::Plan;
use shape::Entry;
use std::ops::Range;
use std::sync::Arc;
use weir_protocol::msgpack::{take_head, write_str, Head, Skip, Skipped};

/// Key of the unit that a PING is. Chunks are numbered from 1.
const KEY_PING: u64 = 0;
/// Bytes that are looked at to see how a body is compressed.
const MAGIC_BYTES: usize = 4;
/// One client's connection.
#[derive(Debug)]
pub struct Forward(Box<Connection>);

#[derive(Debug)]
struct Connection {
    port: Arc<Port>,
    handshake: Handshake,
    state: State,
    /// The value that has begun, as far as it was looked at.
    skip: Skip,
    /// What the outer value comes to that has begun.
    plan: Option<Plan>,
    /// Its entries, if it is held.
    marks: Marks,
    after: After,
    /// Id of the chunk whose options came last.
    chunk_read: Option<ChunkId>,
    /// Elements belong to the unit that began last.
    is_in_unit: bool,
    /// Of a unit that is read while it comes: its elements so far.
    messages: u32,
    tag: Vec<u8>,
    /// Under which the outer value that has begun is known when it comes again.
    name: Option<JoinKey>,
    ids: Ids,
}

#[derive(Debug)]
enum Handshake {
    /// Not here, or over.
    Done,
    /// It was greeted, or will be.
    Ping(Greeting),
    Pong(Greeting, Verdict),
}

#[derive(Debug, Default)]
enum State {
    /// The next value is an outer one.
    #[default]
    Between,
    /// Entries of the outer value.
    Entries(Region),
    /// A compressed body was handed over, of the unit with this id.
    Packed(Option<ChunkId>),
    /// So many bytes of it are offered now.
    Unpacked(Option<ChunkId>, usize),
}

/// Entries that are to be read.
#[derive(Clone, Copy, Debug)]
struct Region {
    left: Left,
    tail: Tail,
    /// It was checked to its end, and is there.
    is_held: bool,
}

#[derive(Clone, Copy, Debug)]
enum Left {
    /// Entries in so many bytes.
    Bytes(u64),
    /// So many entries.
    Entries(u32),
    /// One without the head of its array, or none.
    Bare(bool),
}

impl Left {
    /// One of so many bytes was.
    #[inline]
    fn take(&mut self, bytes: usize) {
        match self {
            Left::Bytes(left) => *left = left.saturating_sub(bytes as u64),
            Left::Entries(left) => *left -= 1,
            Left::Bare(left) => *left = false,
        }
    }
}

/// What follows the entries.
#[derive(Clone, Copy, Debug)]
enum Tail {
    /// So many bytes that were read.
    Read(usize),
    /// Options that were not. They end a unit.
    Options,
}

impl Region {
    fn is_empty(&self) -> bool {
        matches!(
            self.left,
            Left::Bytes(0) | Left::Entries(0) | Left::Bare(false)
        )
    }
}

/// What the last step comes to once it is taken.
#[derive(Clone, Copy, Debug, Default)]
enum After {
    #[default]
    Nothing,
    /// The plan, or the first thing that it says.
    Plan,
    /// What comes before the plan.
    NoUnit,
    /// An entry of so many bytes.
    Entry {
        used: usize,
        is_message: bool,
    },
    Tail,
    /// The options that came last.
    Options,
}

impl Connection {
    fn next_outer<'a>(&'a mut self, bytes: &'a [u8]) -> Stepped<'a> {
        if self.plan.is_none() {
            let nils = bytes.iter().take_while(|byte| **byte == 0xc0).count();
            if nils > 0 && self.skip == Skip::default() {
                self.after = After::Nothing;
                return Ok(Step::Nothing { used: nils });
            }
            let max = self.unit_bytes_max();
            let skipped = self.skip.go_on_within(bytes, max as u64);
            let plan = match skipped.map_err(ForwardError::Msgpack)? {
                Skipped::Whole(used) => self.plan_of(bytes.get(..used).unwrap_or_default()),
                Skipped::Needs(needs) if needs <= max as u64 => return Ok(need_more(needs)),
                Skipped::Needs(needs) => match self.plan_of_stream(bytes, needs, max)? {
                    Some(plan) => Ok(plan),
                    None => return Ok(need_more(bytes.len() as u64 + 1)),
                },
            };
            self.plan = Some(plan?);
        }
        self.next_of_plan(bytes)
    }

    /// Bytes of the largest value that is held until it is whole.
    fn unit_bytes_max(&self) -> usize {
        match self.is_known() {
            true => self.port.unit_bytes_max,
            false => PING_BYTES_MAX,
        }
    }

    /// Whether it has shown that it knows the key, or need not.
    fn is_known(&self) -> bool {
        match &self.handshake {
            Handshake::Done => true,
            Handshake::Ping(_) => false,
            Handshake::Pong(_, verdict) => verdict.refused.is_empty(),
        }
    }

    #[inline]
    fn end_if_empty(&mut self) {
        if let State::Entries(region) = &self.state {
            if region.is_empty() {
                self.marks.clear();
                if matches!(region.tail, Tail::Read(0)) {
                    self.state = State::Between;
                }
            }
        }
    }

    #[inline]
    fn next_entry<'a>(&'a mut self, bytes: &'a [u8]) -> Stepped<'a> {
        let State::Entries(region) = self.state else {
            return self.next_outer(bytes);
        };
        if let Some(mark) = self.marks.next() {
            return Ok(self.next_marked(mark, bytes));
        }
        if region.is_empty() {
            return self.next_tail(region.tail, bytes);
        }
        self.next_unmarked(region, bytes)
    }

    /// An entry that was looked at when its unit was checked.
    #[inline]
    fn next_marked<'a>(&'a mut self, mark: Mark, bytes: &'a [u8]) -> Step<'a> {
        let used = mark.bytes as usize;
        match bytes.get(..used) {
            Some(bytes) => self.step_of(used, mark.read(bytes)),
            // It was there before, and not all of it is offered this time.
            None => need_more(used as u64),
        }
    }

    #[inline]
    fn step_of<'a>(&'a mut self, used: usize, (entry, severity): (Entry<'a>, u8)) -> Step<'a> {
        let is_message = matches!(entry, Entry::Message(_));
        self.after = After::Entry { used, is_message };
        match entry {
            Entry::Message(pair) => message(used, severity, &self.tag, pair),
            Entry::Group => Step::Skipped {
                used,
                why: Oddity::GroupMark,
            },
            Entry::Other => Step::Skipped {
                used,
                why: Oddity::WrongShape,
            },
        }
    }

    #[inline(never)]
    fn next_unmarked<'a>(&'a mut self, region: Region, bytes: &'a [u8]) -> Stepped<'a> {
        let there = match region.left {
            Left::Bytes(left) => match usize::try_from(left) {
                Ok(left) if left < bytes.len() => bytes.get(..left).unwrap_or_default(),
                _ => bytes,
            },
            _ => bytes,
        };
        let found = match (region.left, self.skip == Skip::default()) {
            (Left::Bare(_), _) => shape::pair(there),
            (_, true) => shape::entry(there),
            // It was looked at before, and was not whole.
            (_, false) => None,
        };
        let (used, entry, severity) = match found {
            Some(found) => found,
            None => match self.skip_entry(there, region.left)? {
                Skipped::Whole(used) => shape::entry(there).unwrap_or((used, Entry::Other, INFO)),
                Skipped::Needs(needs) => {
                    return need_entry(needs, region.left, self.port.unit_bytes_max)
                }
            },
        };
        let max = self.port.unit_bytes_max;
        if !region.is_held && used > max {
            // As if less of it were there.
            let bytes = used as u64;
            return Err(SourceError::UnitTooLong { bytes, max });
        }
        let severity = if self.port.finds_level {
            severity
        } else {
            INFO
        };
        Ok(self.step_of(used, (entry, severity)))
    }

    /// Looks for the end of a value that is read while it comes.
    fn skip_entry(&mut self, bytes: &[u8], left: Left) -> Result<Skipped, SourceError> {
        let max = self.port.unit_bytes_max as u64;
        let max = match left {
            Left::Bytes(left) => max.min(left),
            Left::Entries(_) | Left::Bare(_) => max,
        };
        Ok(self
            .skip
            .go_on_within(bytes, max)
            .map_err(ForwardError::Msgpack)?)
    }

    fn next_tail<'a>(&'a mut self, tail: Tail, bytes: &'a [u8]) -> Stepped<'a> {
        match tail {
            Tail::Read(used) if bytes.len() < used => Ok(need_more(used as u64)),
            Tail::Read(used) => {
                self.after = After::Tail;
                Ok(Step::Nothing { used })
            }
            Tail::Options => match self.skip_entry(bytes, Left::Entries(1))? {
                Skipped::Needs(needs) => {
                    need_entry(needs, Left::Entries(1), self.port.unit_bytes_max)
                }
                Skipped::Whole(used) => {
                    let options = Options::read(&mut bytes.get(..used).unwrap_or_default());
                    let chunk = options?.chunk;
                    self.chunk_read = chunk.map(ChunkId::from);
                    self.after = After::Options;
                    Ok(Step::UnitEnd {
                        used,
                        elements: self.messages,
                    })
                }
            },
        }
    }

    /// The last step was carried out.
    #[inline]
    fn taken(&mut self) {
        match (std::mem::take(&mut self.after), &mut self.state) {
            (After::Entry { used, is_message }, State::Entries(region)) => {
                self.messages += u32::from(is_message);
                self.marks.taken();
                region.left.take(used);
                self.skip = Skip::default();
                self.end_if_empty();
            }
            (After::Plan, _) => self.plan_taken(),
            (After::Options, _) => {
                self.ids.end(self.chunk_read.take());
                self.is_in_unit = false;
                (self.state, self.skip) = (State::Between, Skip::default());
            }
            (After::Tail, _) => (self.state, self.skip) = (State::Between, Skip::default()),
            (After::NoUnit, _) => self.is_in_unit = false,
            (After::Nothing | After::Entry { .. }, _) => {}
        }
    }

    /// A marked message was carried out.
    #[inline]
    fn marked_taken(&mut self) {
        if let (Some(mark), State::Entries(region)) = (self.marks.next(), &mut self.state) {
            self.messages += 1;
            self.marks.taken();
            region.left.take(mark.bytes as usize);
            self.end_if_empty();
        }
    }

    /// A body was unpacked: the same of what was inside.
    fn next_unpacked<'a>(&'a mut self, bytes: &'a [u8]) -> Stepped<'a> {
        let State::Unpacked(_, len) = &self.state else {
            return self.next_entry(bytes);
        };
        if self.plan.is_none() {
            let Some(inside) = bytes.get(..*len) else {
                return Ok(need_more(*len as u64));
            };
            let messages = self.marks.check(inside, self.port.finds_level)?;
            let region = Region {
                left: Left::Bytes(inside.len() as u64),
                tail: Tail::Read(0),
                is_held: true,
            };
            let State::Unpacked(chunk, _) = std::mem::take(&mut self.state) else {
                return Ok(need_more(bytes.len() as u64 + 1));
            };
            self.plan = Some(Plan::Entries {
                head: 0,
                bytes: inside.len(),
                region,
                messages,
                chunk,
            });
        }
        self.next_of_plan(bytes)
    }
}

type Stepped<'a> = Result<Step<'a>, SourceError>;

#[inline]
fn message<'a>(used: usize, severity: u8, tag: &'a [u8], pair: &'a [u8]) -> Step<'a> {
    let element = Element::Entry {
        severity,
        tag,
        entry: pair,
    };
    Step::Element { used, element }
}

fn need_more(bytes: u64) -> Step<'static> {
    Step::NeedMore {
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
    }
}

/// An entry that needs so many bytes. It must not need more than there will be, or than there may be: the smaller of
/// the two, which is exceeded first when bytes come one by one.
fn need_entry(needs: u64, left: Left, max: usize) -> Stepped<'static> {
    match left {
        Left::Bytes(left) if needs > left && left <= max as u64 => {
            Err(ForwardError::Entries.into())
        }
        _ if needs > max as u64 => Err(SourceError::UnitTooLong { bytes: needs, max }),
        _ => Ok(need_more(needs)),
    }
}

impl Source for Forward {
    const ANSWERS: Answers = Answers::InOrder;
    const JOINS: bool = true;
    /// Fluentd's `ack_response_timeout`.
    const DEADLINE_NS: u64 = 190_000_000_000;
    /// Fluent Bit reads once, and takes what it has for one ack.
    const ONE_ANSWER_A_SEND: bool = true;

    fn start(port: &Arc<Port>) -> Forward {
        let handshake = match port.forward {
            Some(_) => Handshake::Ping(Greeting::default()),
            None => Handshake::Done,
        };
        Forward(Box::new(Connection {
            port: port.clone(),
            handshake,
            state: State::default(),
            skip: Skip::default(),
            plan: None,
            marks: Marks::default(),
            after: After::default(),
            chunk_read: None,
            is_in_unit: false,
            messages: 0,
            tag: Vec::new(),
            name: None,
            ids: Ids::default(),
        }))
    }

    fn greets(port: &Port) -> bool {
        port.protocols.has(Protocol::Forward) && port.forward.is_some()
    }

    fn begins(first: &[u8], _: Limits) -> Result<bool, SourceError> {
        let tag_at = match first {
            [] | [0xdc] | [0xdc, 0] | [0xdd] | [0xdd, 0] | [0xdd, 0, 0] | [0xdd, 0, 0, 0] => {
                return Ok(false);
            }
            [0xc0, ..] => return Ok(true),
            [0x92..=0x95, ..] => 1,
            [0xdc, 0, 2..=5, ..] => 3,
            [0xdd, 0, 0, 0, 2..=5, ..] => 5,
            _ => return Err(other_start()),
        };
        match first.get(tag_at) {
            None => Ok(false),
            Some(0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb) => Ok(true),
            Some(_) => Err(other_start()),
        }
    }

    #[inline]
    fn plain<'a>(&'a self, bytes: &'a [u8], _: Limits) -> Option<(usize, Element<'a>)> {
        let connection = &*self.0;
        let mark = match connection.state {
            State::Entries(_) => connection.marks.next()?,
            _ => return None,
        };
        let (severity, entry) = mark.message(bytes)?;
        let tag = &connection.tag;
        let element = Element::Entry {
            severity,
            tag,
            entry,
        };
        Some((mark.bytes as usize, element))
    }

    #[inline]
    fn plain_taken(&mut self) {
        self.0.marked_taken();
    }

    #[inline]
    fn next<'a>(&'a mut self, bytes: &'a [u8], _: Limits) -> Stepped<'a> {
        let connection = &mut *self.0;
        match connection.state {
            State::Entries(_) => connection.next_entry(bytes),
            State::Between => connection.next_outer(bytes),
            State::Packed(_) => Ok(need_more(bytes.len() as u64 + 1)),
            State::Unpacked(..) => connection.next_unpacked(bytes),
        }
    }

    #[inline]
    fn taken(&mut self) {
        self.0.taken();
    }

    fn unpacked(&mut self, len: usize) {
        self.0.taken();
        if let State::Packed(chunk) = &mut self.0.state {
            self.0.state = State::Unpacked(chunk.take(), len);
        }
    }

    fn greeting(&mut self, facts: &Facts, out: &mut Vec<u8>) {
        let Connection {
            handshake, port, ..
        } = &mut *self.0;
        if let (Handshake::Ping(greeting), Some(secrets)) = (handshake, &port.forward) {
            *greeting = Greeting::new(secrets, facts.connection);
            greeting.write(secrets, out);
        }
    }

    fn answer(&mut self, unit: Answered, _: &Facts, out: &mut Vec<u8>) {
        if unit.key != KEY_PING {
            if let Some(id) = self.0.ids.take(unit.key) {
                out.push(0x81);
                write_str(out, b"ack");
                write_str(out, &id);
            }
            return;
        }
        let Handshake::Pong(greeting, verdict) = &self.0.handshake else {
            return;
        };
        if let Some(secrets) = &self.0.port.forward {
            verdict.write(greeting, secrets, out);
        }
        if verdict.refused.is_empty() {
            self.0.handshake = Handshake::Done;
        }
    }

    fn is_between_units(&self) -> bool {
        matches!(self.0.state, State::Between)
    }
}

fn other_start() -> SourceError {
    SourceError::OtherStart {
        protocol: Protocol::Forward,
    }
}
