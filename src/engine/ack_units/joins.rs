//! Units that were sent again while the first were un-ACKed.
//!
//! ```text
//! connection 1: unit "a" -> lanes ... it breaks                        the unit stays open, for nobody
//! connection 2: unit "a" again, from the same address -> joined        its elements are not routed
//!               ACKs of the first -> both are done -> 2 is answered
//! ```
//!
//! Only the unit of a connection that has ended is joined. A name is a digest of what the sender calls the unit, and it counts at its own address only.
//!
//! **Bounds.** A name belongs to an open unit, and at most [`LEFT_OPEN_MAX`] of these have lost their connection. Beyond,
//! and when [`JOINED_MAX`] wait for one, a unit that comes again is routed again.

use std::collections::BTreeMap;

use super::{AckUnits, Ticket, GENERATION_MASK, NOBODY, NONE, SKIP};
use crate::shard::Engine;
use crate::Memory;
use weir_source::{AckMode, JoinKey};

/// Units whose connection is gone that others may join: 10 MiB at most.
const LEFT_OPEN_MAX: u32 = 65_536;
/// Connections that wait for one unit.
const JOINED_MAX: usize = 16;

/// The address of a sender, and what it calls a unit.
pub(super) type Name = (u128, JoinKey);

#[derive(Default)]
pub(super) struct Joins {
    /// Units that may be joined: which, and those that were.
    open: BTreeMap<Name, Pending>,
    /// Of those: the connection is gone.
    pub(super) left_open: u32,
}

struct Pending {
    first: u32,
    joined: Vec<Ticket>,
}

impl Joins {
    pub(super) fn forget(&mut self, name: &Name) {
        self.open.remove(name);
    }
}

impl<M: Memory> Engine<M> {
    /// The unit that has begun on a connection is known by `key`: it joins the same one that is under way, or may be
    /// joined by others.
    pub(super) fn join(&mut self, emitter: usize, key: JoinKey) {
        let units = &self.receipts.units;
        let Some(name) = units.name_of(emitter, key) else {
            return;
        };
        // As long as its sender is there this is somebody else's: a name made of the content (Fluent Bit) is the same for
        // two who say the same. And what has not come to its end may never do so.
        let was_left = |first: u32| {
            let first_emitter = units.cells[first as usize].emitter;
            let of_first = units.connections.get(first_emitter as usize);
            let Some(connection) = of_first.and_then(Option::as_deref) else {
                return true;
            };
            let is_last = connection.order.back() == Some(&first);
            connection.has_ended && (!is_last || self.is_between_units(first_emitter as usize))
        };
        match units.joins.open.get(&name).map(|pending| pending.first) {
            None => self.receipts.units.may_be_joined(emitter, name),
            Some(first) if was_left(first) => self.receipts.units.join(emitter, name),
            Some(_) => {}
        }
    }
}

impl AckUnits {
    fn name_of(&self, emitter: usize, key: JoinKey) -> Option<Name> {
        let connection = self.connections.get(emitter)?.as_deref()?;
        let address = self.addresses.get(emitter).copied().unwrap_or_default();
        let is_chained = address != 0 && connection.ack == AckMode::Acked;
        is_chained.then_some((address, key))
    }

    /// The newest unit of a connection.
    fn newest(&self, emitter: usize) -> Option<u32> {
        let connection = self.connections.get(emitter)?.as_deref()?;
        connection.order.back().copied()
    }

    fn may_be_joined(&mut self, emitter: usize, name: Name) {
        let Some(first) = self.newest(emitter) else {
            return;
        };
        let joined = Vec::new();
        self.joins.open.insert(name, Pending { first, joined });
        self.cells[first as usize].name = Some(Box::new(name));
    }

    fn join(&mut self, emitter: usize, name: Name) {
        let Some(index) = self.newest(emitter) else {
            return;
        };
        let generation = self.cells[index as usize].generation;
        let ticket = u64::from(generation) << 32 | u64::from(index);
        let Some(mut pending) = self.joins.open.remove(&name) else {
            return;
        };
        pending.joined.retain(|joined| self.is_open(*joined));
        if pending.joined.len() < JOINED_MAX {
            pending.joined.push(ticket);
            self.cells[index as usize].open = 1;
            if let Some(connection) = self.connection(emitter) {
                connection.current = NONE | SKIP;
            }
        }
        self.joins.open.insert(name, pending);
    }

    fn is_open(&self, ticket: Ticket) -> bool {
        let generation = (ticket >> 32) as u32 & GENERATION_MASK;
        let cell = self.cells.get(ticket as u32 as usize); // the lower half
        cell.is_some_and(|cell| cell.generation == generation && cell.open > 0)
    }

    /// The connection of a unit is gone; `is_whole`: all of its elements had come. True: it stays, so that it can be
    /// joined.
    pub(super) fn leave_open(&mut self, index: u32, is_whole: bool) -> bool {
        let cell = &self.cells[index as usize];
        let Some(name) = cell.name.as_deref().filter(|_| cell.open > 0 && is_whole) else {
            return false;
        };
        let pending = self.joins.open.get(name);
        let is_joined = pending.is_some_and(|pending| !pending.joined.is_empty());
        if !is_joined && self.joins.left_open >= LEFT_OPEN_MAX {
            return false;
        }
        self.cells[index as usize].emitter = NOBODY;
        self.joins.left_open += 1;
        true
    }

    /// A unit is done: so are those that were joined to it.
    pub(super) fn settle_joined(&mut self, index: u32) {
        let cell = &mut self.cells[index as usize];
        let is_refused = cell.is_refused;
        let Some(name) = cell.name.take() else {
            return;
        };
        let Some(pending) = self.joins.open.remove(&*name) else {
            return;
        };
        debug_assert_eq!(pending.first, index);
        for ticket in pending.joined {
            self.settle(ticket, 1, is_refused);
        }
    }
}
