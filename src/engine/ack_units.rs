//! Ack units: what a sender gets one answer for, a batch of an acked emitter for instance. Its elements may go to
//! all lanes; the answer is due when the last of them is ACKed.
//!
//! ```text
//! begin(emitter, unit) -> cell, open = elements        in the order of its connection
//! element -> lane      -> a range of its ticket beside the lane (receipts.rs)
//! ACK of the lane      -> open falls; at 0 the unit is done, and its connection is ripe
//! answer(emitter)      -> its source writes the answers of what is done, in the order that it wants
//! ```
//!
//! Answers are gathered: one is **urgent** when its sender waits for it, or when half of what the sender may have
//! open is done. The shard gives the others out when the first of them has waited long enough.
//!
//! **Sent again.** Who loses its connection before the answer sends the unit again on the next one. While the first is
//! un-ACKed the second joins it, if the source says by which name it is known (`joins.rs`): nothing is routed twice.
//!
//! **Bounds.** A connection is granted so many units and bytes when it begins, and is closed when it has more open. All
//! that is granted in a shard is at most [`UNITS_MAX`] units of 56 bytes. The more is granted, the less the next one
//! gets. Ranges beside lanes are bounded by the arena (`Engine::ranges_max`): beyond, emitters wait.

mod joins;

use std::collections::VecDeque;

use joins::Joins;

use super::receipts::Ticket;
use super::shard::Engine;
use super::{LaneId, Memory};
use weir_source::{
    with_source, AckMode, Answered, Answers, Elements, Facts, Protocol, Source, SourceError,
    UnitBegin, Window,
};

/// Units open in a shard, of all connections: 14 MiB of them at most.
const UNITS_MAX: u32 = 262_144;
/// A connection gets this part of what is left, so that there is always some for the next.
const GRANT_PART: u32 = 1024;
/// What a connection is granted: open units, and bytes in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckWindow {
    /// Units, at least 1; fewer are granted once much is.
    pub units: u32,
    /// Bytes; one unit may have more, alone.
    pub bytes: u64,
}

impl AckWindow {
    /// With batches of 64 messages more than a link to an analyzer has un-ACKed; half a second at 4 MiB/s, or 2 ms at
    /// 1 GiB/s.
    pub const DEFAULT: AckWindow = AckWindow {
        units: 256,
        bytes: 2 << 20,
    };
}

impl Default for AckWindow {
    fn default() -> AckWindow {
        AckWindow::DEFAULT
    }
}

/// Tells tickets of units from those of packets.
const UNIT: Ticket = 1 << 63;
/// A unit whose elements are through as soon as they are in lanes.
const RECEIVED: Ticket = 1 << 62;
/// A unit that was joined to one under way: its elements are not routed.
const SKIP: Ticket = 1 << 61;
const GENERATION_MASK: u32 = (1 << 29) - 1;
/// The connection of a unit that may be joined is gone.
const NOBODY: u32 = u32::MAX;
/// Elements of a unit that does not say how many it has, until it does.
const UNTOLD: u32 = 1 << 31;
/// No unit: elements of a source that answers belong to one, so this is never looked up.
const NONE: Ticket = UNIT | RECEIVED | (GENERATION_MASK as u64) << 32 | u32::MAX as u64;

/// Elements of this ticket are not routed.
#[inline]
pub(super) fn is_skipped(ticket: Ticket) -> bool {
    ticket & SKIP != 0
}

#[inline]
pub(super) fn is_unit(ticket: Ticket) -> bool {
    ticket & UNIT != 0
}

struct Cell {
    key: u64,
    /// Elements that are not through.
    open: u32,
    bytes: u32,
    emitter: u32,
    generation: u32,
    is_refused: bool,
    is_awaited: bool,
    /// Others may join it.
    name: Option<Box<joins::Name>>,
}

/// One that answers.
struct Connection {
    answers: Answers,
    window: Window,
    ack: AckMode,
    /// What it was granted.
    facts: Facts,
    /// Its units that are not answered.
    order: VecDeque<u32>,
    open_bytes: u64,
    /// Of those: done.
    done: u32,
    done_bytes: u64,
    /// Of those that are not answered: awaited.
    awaited: u32,
    /// Where the next element belongs.
    current: Ticket,
    is_ripe: bool,
    is_urgent: bool,
    /// Its sender sends nothing more.
    has_ended: bool,
}

/// All units of a shard's streams.
#[derive(Default)]
pub(super) struct AckUnits {
    cells: Vec<Cell>,
    free: Vec<u32>,
    /// By the index of the emitter.
    connections: Vec<Option<Box<Connection>>>,
    granted: u32,
    /// What the next connection is granted at most.
    pub(super) window: AckWindow,
    /// Connections of which something is done, as it happened.
    ripe: VecDeque<usize>,
    urgent: VecDeque<usize>,
    joins: Joins,
    /// An analyzer's ACKs prove too little for emitters that want some: no more are opened for them.
    has_weak_acks: bool,
    /// Where the sender of each emitter's connection is; 0: not known.
    addresses: Vec<u128>,
}

impl AckUnits {
    fn connection(&mut self, emitter: usize) -> Option<&mut Connection> {
        self.connections.get_mut(emitter)?.as_deref_mut()
    }

    /// A connection speaks a protocol that answers.
    fn open(
        &mut self,
        emitter: usize,
        protocol: Protocol,
        ack: AckMode,
    ) -> Result<(), SourceError> {
        if ack == AckMode::Acked && self.has_weak_acks {
            return Err(SourceError::WeakAcks);
        }
        self.close(emitter, false);
        let left = UNITS_MAX - self.granted;
        if left == 0 {
            return Err(SourceError::UnitsFull { max: UNITS_MAX });
        }
        let units_max = (left / GRANT_PART).clamp(1, self.window.units.max(1));
        self.granted += units_max;
        if self.connections.len() <= emitter {
            self.connections.resize_with(emitter + 1, || None);
        }
        self.connections[emitter] = Some(Box::new(Connection {
            answers: protocol.answers(),
            window: protocol.window(),
            ack,
            facts: Facts {
                instance: 0,
                units_max,
                unit_bytes_max: self.window.bytes,
                connection: 0,
            },
            order: VecDeque::new(),
            open_bytes: 0,
            done: 0,
            done_bytes: 0,
            awaited: 0,
            current: NONE,
            is_ripe: false,
            is_urgent: false,
            has_ended: false,
        }));
        Ok(())
    }

    /// A connection is gone: nobody waits for its units any more. What lanes know of them names nobody then.
    ///
    /// `is_whole`: all elements of its newest unit had come.
    pub(super) fn close(&mut self, emitter: usize, is_whole: bool) {
        let connection = self.connections.get_mut(emitter).and_then(Option::take);
        let Some(connection) = connection else {
            return;
        };
        self.granted -= connection.facts.units_max;
        let newest = connection.order.back().copied();
        for index in connection.order {
            if !self.leave_open(index, is_whole || newest != Some(index)) {
                self.forget(index);
            }
        }
    }

    fn forget(&mut self, index: u32) {
        let cell = &mut self.cells[index as usize];
        if let Some(name) = cell.name.take() {
            self.joins.forget(&name);
        }
        cell.generation = (cell.generation + 1) & GENERATION_MASK;
        self.free.push(index);
    }

    fn begin(&mut self, emitter: usize, unit: UnitBegin) -> Result<(), SourceError> {
        let index = match self.free.last() {
            Some(index) => *index,
            None => u32::try_from(self.cells.len()).unwrap_or(u32::MAX),
        };
        let Some(connection) = self.connection(emitter) else {
            return Ok(());
        };
        let (facts, before) = (connection.facts, connection.order.len());
        let units = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
        let bytes = connection.open_bytes + u64::from(unit.bytes);
        let is_above = units > facts.units_max || before > 0 && bytes > facts.unit_bytes_max;
        if is_above && connection.window == Window::Announced {
            return Err(SourceError::Window {
                units,
                bytes,
                facts,
            });
        }
        connection.open_bytes = bytes;
        connection.awaited += u32::from(unit.is_awaited);
        connection.order.push_back(index);
        let generation = self
            .cells
            .get(index as usize)
            .map_or(0, |cell| cell.generation);
        let cell = Cell {
            key: unit.key,
            open: match unit.elements {
                Elements::Exactly(elements) => elements,
                Elements::UntilEnd => UNTOLD,
            },
            bytes: unit.bytes,
            emitter: u32::try_from(emitter).unwrap_or(u32::MAX),
            generation,
            is_refused: false,
            is_awaited: unit.is_awaited,
            name: None,
        };
        match self.cells.get_mut(index as usize) {
            Some(free) => {
                *free = cell;
                self.free.pop();
            }
            None => self.cells.push(cell),
        }
        let ticket = UNIT | u64::from(generation) << 32 | u64::from(index);
        if let Some(connection) = self.connection(emitter) {
            connection.current = match connection.ack {
                AckMode::Received => ticket | RECEIVED,
                AckMode::Acked => ticket,
            };
        }
        if unit.elements == Elements::Exactly(0) {
            self.is_done(index);
        }
        Ok(())
    }

    /// The current unit of a connection has had so many elements, and no more come.
    fn end(&mut self, emitter: usize, elements: u32) {
        let Some(connection) = self.connection(emitter) else {
            return;
        };
        let ticket = std::mem::replace(&mut connection.current, NONE);
        if is_skipped(ticket) {
            return;
        }
        let ended = u64::from(UNTOLD.saturating_sub(elements));
        self.settle(ticket, ended, false);
    }

    /// More is open on a connection than it was granted, or as much as that. A unit that is not whole does not count: it
    /// is answered only if the rest of it is read.
    fn is_above_window(&self, emitter: usize, is_whole: bool) -> bool {
        let connection = self.connections.get(emitter).and_then(Option::as_deref);
        connection.is_some_and(|connection| {
            let facts = connection.facts;
            let units =
                connection.order.len() - usize::from(!is_whole && !connection.order.is_empty());
            connection.window == Window::Silent
                && (units >= facts.units_max as usize
                    || units > 0 && connection.open_bytes >= facts.unit_bytes_max)
        })
    }

    /// The ticket of the next element of a connection.
    #[inline]
    fn current(&self, emitter: usize) -> Ticket {
        let connection = self.connections.get(emitter).and_then(Option::as_deref);
        connection.map_or(NONE, |connection| connection.current)
    }

    /// Elements of a unit are through.
    #[inline]
    pub(super) fn settle(&mut self, ticket: Ticket, elements: u64, is_refused: bool) {
        let index = ticket as u32; // the lower half
        let generation = (ticket >> 32) as u32 & GENERATION_MASK;
        let cell = self.cells.get_mut(index as usize);
        let Some(cell) = cell.filter(|cell| cell.generation == generation) else {
            return;
        };
        cell.is_refused |= is_refused;
        let elements = u32::try_from(elements).unwrap_or(u32::MAX);
        cell.open = cell.open.saturating_sub(elements);
        if cell.open == 0 {
            self.is_done(index);
        }
    }

    fn is_done(&mut self, index: u32) {
        self.settle_joined(index);
        let cell = &self.cells[index as usize];
        let (emitter, bytes) = (cell.emitter as usize, cell.bytes);
        if cell.emitter == NOBODY {
            self.joins.left_open -= 1;
            self.forget(index);
            return;
        }
        let Some(connection) = self
            .connections
            .get_mut(emitter)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        connection.done += 1;
        connection.done_bytes += u64::from(bytes);
        let facts = connection.facts;
        let is_half = connection.done >= facts.units_max / 2
            || connection.done_bytes >= facts.unit_bytes_max / 2;
        if (is_half || connection.awaited > 0) && !connection.is_urgent {
            connection.is_urgent = true;
            self.urgent.push_back(emitter);
        }
        if !connection.is_ripe {
            connection.is_ripe = true;
            self.ripe.push_back(emitter);
        }
    }

    /// The next unit of a connection that can be answered.
    fn next_done(&mut self, emitter: usize) -> Option<Answered> {
        let cells = &self.cells;
        let connection = self.connections.get_mut(emitter)?.as_deref_mut()?;
        let is_done = |index: &u32| cells[*index as usize].open == 0;
        let at = match connection.answers {
            Answers::AnyOrder => connection.order.iter().position(is_done),
            _ => connection
                .order
                .front()
                .filter(|index| is_done(index))
                .map(|_| 0),
        };
        let index = connection.order.remove(at?)?;
        let cell = &cells[index as usize];
        let answered = Answered {
            key: cell.key,
            is_refused: cell.is_refused,
            is_newest: match connection.answers {
                Answers::AnyOrder => !connection.order.iter().any(is_done),
                _ => !connection.order.front().is_some_and(is_done),
            },
        };
        connection.done -= 1;
        connection.done_bytes -= u64::from(cell.bytes);
        connection.open_bytes -= u64::from(cell.bytes);
        connection.awaited -= u32::from(cell.is_awaited);
        if connection.current as u32 == index {
            connection.current = NONE; // its elements are all through
        }
        self.forget(index);
        Some(answered)
    }
}

impl<M: Memory> Engine<M> {
    /// What a connection speaks is known now.
    ///
    /// # Errors
    /// It wants answers, and the shard has no room for more that do.
    pub(super) fn speaks(
        &mut self,
        emitter: usize,
        protocol: Protocol,
        ack: AckMode,
    ) -> Result<(), SourceError> {
        match protocol.answers() {
            Answers::Never => Ok(()),
            _ => self.receipts.units.open(emitter, protocol, ack),
        }
    }

    /// Whether an analyzer's ACKs prove too little for who wants some: nobody that comes now is answered with them.
    pub fn set_weak_acks(&mut self, has_some: bool) {
        self.receipts.units.has_weak_acks = has_some;
    }

    /// As [`Engine::set_weak_acks`] was told.
    pub fn has_weak_acks(&self) -> bool {
        self.receipts.units.has_weak_acks
    }

    /// The unit of a connection that has said [`Elements::UntilEnd`] has ended.
    pub(super) fn unit_ends(&mut self, emitter: usize, elements: u32) {
        self.receipts.units.end(emitter, elements);
    }

    /// The next elements of a connection belong to no unit.
    pub(super) fn no_unit(&mut self, emitter: usize) {
        if let Some(connection) = self.receipts.units.connection(emitter) {
            connection.current = NONE;
        }
    }

    /// Where the sender of a connection is, as a number. Where its source calls its units by name
    /// ([`Port::joins`](weir_source::Port::joins)) they can be joined then.
    pub fn emitter_is_at(&mut self, emitter: usize, address: u128) {
        let addresses = &mut self.receipts.units.addresses;
        if addresses.len() <= emitter {
            addresses.resize(emitter + 1, 0);
        }
        addresses[emitter] = address;
    }

    /// The stream of a connection has ended. Its sender may come again with what is not answered.
    pub(super) fn note_end(&mut self, emitter: usize) {
        if let Some(connection) = self.receipts.units.connection(emitter) {
            connection.has_ended = true;
        }
    }

    /// Whether a connection is not to be read from until units of it are answered: as much is open as it may have.
    pub fn is_above_window(&self, emitter: usize) -> bool {
        let is_whole = self.is_between_units(emitter);
        self.receipts.units.is_above_window(emitter, is_whole)
    }

    pub(super) fn unit_begins(
        &mut self,
        emitter: usize,
        unit: UnitBegin,
    ) -> Result<(), SourceError> {
        self.receipts.units.begin(emitter, unit)?;
        if let Some(key) = unit.join {
            self.join(emitter, key);
        }
        Ok(())
    }

    /// Where the next element of a connection belongs.
    pub(super) fn current_ticket(&self, emitter: usize) -> Ticket {
        self.receipts.units.current(emitter)
    }

    /// The newest message of a lane is an element of a unit.
    #[inline]
    pub(super) fn note_element(&mut self, ticket: Ticket, lane: LaneId) {
        if ticket & RECEIVED != 0 {
            self.receipts.units.settle(ticket, 1, false);
            return;
        }
        let slot = &mut self.lanes[lane.0 as usize];
        let last = slot.lane.appended();
        self.receipts.place(ticket, &mut slot.tickets, last, 1);
    }

    /// Lanes may note no more tickets.
    #[inline]
    pub(super) fn tickets_are_full(&self) -> bool {
        self.receipts.ranges_kept >= self.ranges_max
    }

    /// A connection of which something is done, since it was answered last.
    pub fn next_ripe(&mut self) -> Option<usize> {
        self.receipts.units.ripe.pop_front()
    }

    /// A connection that is to be answered now.
    pub fn next_urgent(&mut self) -> Option<usize> {
        self.receipts.units.urgent.pop_front()
    }

    /// Whether a connection speaks what is answered.
    pub fn is_answered(&self, emitter: usize) -> bool {
        let connections = &self.receipts.units.connections;
        connections.get(emitter).is_some_and(Option::is_some)
    }

    /// Units of a connection that are not answered.
    pub fn units_open(&self, emitter: usize) -> usize {
        let connections = &self.receipts.units.connections;
        let connection = connections.get(emitter).and_then(Option::as_deref);
        connection.map_or(0, |connection| connection.order.len())
    }

    /// Of those: the ones that can still be answered when the stream has ended. It may have ended within the last one.
    pub fn units_due(&self, emitter: usize) -> usize {
        let is_whole = self.is_between_units(emitter);
        self.units_open(emitter)
            .saturating_sub(usize::from(!is_whole))
    }

    /// Units of all connections that are not answered.
    pub fn units_open_of_all(&self) -> usize {
        let units = &self.receipts.units;
        units.cells.len() - units.free.len()
    }

    /// Appends the answers of all that is done on a connection; `instance` is this distributor's.
    pub fn answer(&mut self, emitter: usize, instance: u64, out: &mut Vec<u8>) {
        let units = &mut self.receipts.units;
        let Some(connection) = units.connection(emitter) else {
            return;
        };
        (connection.is_ripe, connection.is_urgent) = (false, false);
        let facts = Facts {
            instance,
            ..connection.facts
        };
        let Some(stream) = self.streams.get_mut(emitter) else {
            return;
        };
        let is_one = with_source!(&*stream, source => answers_one_by_one(source));
        while let Some(unit) = units.next_done(emitter) {
            with_source!(&mut *stream, source => source.answer(unit, &facts, out));
            if is_one && !out.is_empty() {
                return;
            }
        }
    }

    /// A number that no other connection has that was accepted by any shard of this run.
    fn newest_connection(&self) -> u64 {
        self.counters.emitters_accepted << 16 | u64::from(self.config.shard)
    }

    /// Appends what a connection is told before its first byte.
    pub fn greeting(&mut self, emitter: usize, instance: u64, out: &mut Vec<u8>) {
        let facts = Facts {
            instance,
            units_max: 0,
            unit_bytes_max: 0,
            connection: self.newest_connection(),
        };
        if let Some(stream) = self.streams.get_mut(emitter) {
            with_source!(stream, source => source.greeting(&facts, out));
        }
    }

    /// How often a connection with open units is to be told that it is not forgotten, in nanoseconds; 0: never.
    pub fn alive_every_ns(&self, emitter: usize) -> u64 {
        let stream = self.streams.get(emitter);
        stream.map_or(
            0,
            |stream| with_source!(stream, source => alive_every_ns(source)),
        )
    }

    /// Appends what tells a connection that its units are not forgotten.
    pub fn alive(&mut self, emitter: usize, out: &mut Vec<u8>) {
        if let Some(stream) = self.streams.get_mut(emitter) {
            with_source!(stream, source => source.alive(out));
        }
    }

    /// Whether all elements of the units of a connection that have begun were there.
    pub fn is_between_units(&self, emitter: usize) -> bool {
        let stream = self.streams.get(emitter);
        stream.is_none_or(|stream| with_source!(stream, source => source.is_between_units()))
    }

    /// Appends what a connection may be told that is closed because of `why`.
    pub fn refusal(&mut self, emitter: usize, why: &str, instance: u64, out: &mut Vec<u8>) {
        let facts = Facts {
            instance,
            units_max: 0,
            unit_bytes_max: 0,
            connection: self.newest_connection(),
        };
        if let Some(stream) = self.streams.get_mut(emitter) {
            with_source!(stream, source => source.refuse(why, &facts, out));
        }
    }

    /// Appends what a connection is told last.
    pub fn goodbye(&mut self, emitter: usize, out: &mut Vec<u8>) {
        if let Some(stream) = self.streams.get_mut(emitter) {
            with_source!(stream, source => source.goodbye(out));
        }
    }

    /// Appends what asks a connection to finish. False: there is no such word.
    pub fn farewell(&mut self, emitter: usize, out: &mut Vec<u8>) -> bool {
        let stream = self.streams.get_mut(emitter);
        stream.is_some_and(|stream| with_source!(stream, source => source.farewell(out)))
    }
}

fn answers_one_by_one<S: Source>(_: &S) -> bool {
    S::ONE_ANSWER_A_SEND
}

fn alive_every_ns<S: Source>(_: &S) -> u64 {
    S::ALIVE_EVERY_NS
}

#[cfg(test)]
mod tests;
