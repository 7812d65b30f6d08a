//! Analyzers' links: one connection each, from accept to its end.
//!
//! ```text
//! accept -> Detecting -> Greeting (HELLO) --> Settling -> Up -> Closing -> gone
//!                    `-> first weight -------^  `-> Leaving: to another shard, Settling there
//!
//! permits.rs     who has not spoken, and who goes first      connection.rs  what it says, what it ACKs
//! handshake.rs  who speaks                                  receive.rs     what arrives
//! up.rs         a link comes up, under its name             send.rs        batches, its own shard's and others'
//! say.rs        words outside the batches                   stalls.rs      who does not ACK
//! close.rs      ends
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::port::{Completion, Io};
use crate::slab::{token, Kind, Slab, Slot};
use weir_engine::{LaneId, LinkEpoch, Window};

mod close;
mod connection;
mod handshake;
mod permits;
mod receive;
mod say;
mod send;
mod stalls;
#[cfg(test)]
mod tests;
mod up;

use connection::Connection;
use permits::{permits_of, Permits};

/// A zero-copy send whose buffer the kernel may still read.
struct ZeroCopySend {
    link: Slot,
    lane: LaneId,
    segment: u64,
}

/// A shard's side towards analyzers by TCP.
pub(super) struct Links<I: Io> {
    table: Slab<Connection<I>>,
    /// Those of them that have not spoken.
    permits: Permits,
    /// The links that are up.
    up: BTreeMap<LinkEpoch, Slot>,
    /// Sent on them and not acknowledged, as of the last look.
    unread_bytes: u64,
    /// Ids that were refused because others have them, and of which that was said.
    told_in_use: BTreeSet<Arc<str>>,
    /// Full lanes of other shards' links: what was ACKed, and since when it has been that.
    remote_full: BTreeMap<LinkEpoch, (u64, u64)>,
    /// Links that may have something to send.
    pump: Vec<Slot>,
    zero_copy_sends: Slab<ZeroCopySend>,
    /// Ends of links, of their receives and their sends: two of each link at most.
    ends: VecDeque<Completion>,
    /// When the first of them was noticed.
    ends_since_ns: u64,
}

impl<I: Io> Links<I> {
    /// For so many analyzers at most, and so many connections of one address (0: no limit).
    pub(super) fn new(analyzers_max: usize, address_most: usize, now_ns: u64) -> Links<I> {
        Links {
            table: Slab::new(),
            permits: Permits::new(permits_of(analyzers_max), address_most),
            up: BTreeMap::new(),
            unread_bytes: 0,
            told_in_use: BTreeSet::new(),
            remote_full: BTreeMap::new(),
            pump: Vec::new(),
            zero_copy_sends: Slab::new(),
            ends: VecDeque::new(),
            ends_since_ns: now_ns,
        }
    }

    /// Links that are up.
    pub(super) fn count(&self) -> usize {
        self.up.len()
    }

    /// Sent on them and not acknowledged, as of the last look.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.unread_bytes
    }

    /// Somebody has not spoken yet.
    pub(super) fn has_handshakes(&self) -> bool {
        !self.permits.is_empty()
    }

    /// A link may have something to send.
    pub(super) fn wants_to_send(&self) -> bool {
        !self.pump.is_empty()
    }

    /// The links of analyzers that have one to each shard, by name.
    pub(super) fn own_links(&self) -> BTreeMap<Arc<str>, (LinkEpoch, Window)> {
        let mut own_links = BTreeMap::new();
        for (_, connection) in self.table.iter() {
            if connection.is_up() && connection.link.sink().has_link_per_shard() {
                let link = (connection.epoch, connection.window);
                let name = Arc::clone(&connection.name);
                own_links.entry(name).or_insert(link);
            }
        }
        own_links
    }

    /// The receives that may be under way.
    pub(super) fn receives(&self) -> impl Iterator<Item = u64> {
        let slots = self.table.slots().into_iter();
        slots.map(|slot| token(Kind::LinkReceive, slot))
    }
}
