//! Permits for those who have not spoken: connections on the analyzers' port that may be anybody.
//!
//! ```text
//! accept -> enter --> [oldest ......... newest] --> leave: has spoken, or is gone
//!             `-> all taken: the oldest of a crowd goes, else the oldest of all
//! ```
//!
//! They are apart from the permits of analyzers, so that mute connections never keep an analyzer out:
//! whoever comes gets in, and has until so many others came behind it to say its first word. An address
//! that holds an eighth of all permits is a crowd; where there is one, its own oldest go first. The permits
//! outnumber the analyzers that can be served, so honest ones that come all at once do not push each other out.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::Customer;
use crate::slab::Slot;

/// Permits of a shard at least. 1,024 connections of about 1 KiB.
const PERMITS_MIN: usize = 1_024;
/// An address with this part of the permits is a crowd.
const CROWD_PART: usize = 8;

/// Nobody is pushed out sooner: what it has said may be in the kernel still. Until then up to twice as many
/// wait as there are permits.
const GRACE_NS: u64 = 20_000_000;

/// Where descriptors are short, who has said nothing for so long may go. Shorter, and a crowd at another port would
/// push out analyzers that are about to speak.
const OVERDUE_NS: u64 = 1_000_000_000;

/// Who goes in the place of whom: a number that grows with each that enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

struct Waiting {
    slot: Slot,
    address: Option<Customer>,
    since_ns: u64,
}

/// The connections of a shard that have not spoken.
pub(super) struct Permits {
    most: usize,
    /// Of one address; 0: no limit of its own.
    address_most: usize,
    entered: u64,
    /// Oldest first.
    waiting: BTreeMap<Turn, Waiting>,
    of_address: BTreeMap<Option<Customer>, BTreeSet<Turn>>,
}

/// Permits for a shard that can serve so many analyzers.
pub(super) fn permits_of(analyzers_max: usize) -> usize {
    PERMITS_MIN.max(2 * analyzers_max)
}

impl Permits {
    /// `address_most` is the limit of connections of one address; 0: none.
    pub(super) fn new(most: usize, address_most: usize) -> Permits {
        assert!(most > 0);
        Permits {
            most,
            address_most,
            entered: 0,
            waiting: BTreeMap::new(),
            of_address: BTreeMap::new(),
        }
    }

    /// Nobody is waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// More than half are taken: those who wait have less time.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.len() > self.most / 2
    }

    /// Who has to go before one more of this address can enter.
    pub(super) fn to_displace(&self, address: Option<Customer>, now_ns: u64) -> Option<Slot> {
        let own = self.of_address.get(&address);
        let own_full = own.filter(|own| self.address_most > 0 && own.len() >= self.address_most);
        let turn = match own_full {
            Some(own) => *own.first()?,
            None if self.waiting.len() < self.most => return None,
            None => self.oldest_of_crowd(),
        };
        let oldest = self.waiting.get(&turn)?;
        let is_new = now_ns.saturating_sub(oldest.since_ns) < GRACE_NS;
        let fits = self.waiting.len() < 2 * self.most;
        (!is_new || !fits).then_some(oldest.slot)
    }

    fn oldest_of_crowd(&self) -> Turn {
        let crowd = self
            .of_address
            .values()
            .filter(|turns| turns.len() * CROWD_PART >= self.most)
            .max_by_key(|turns| turns.len());
        let oldest = crowd.map_or(self.waiting.keys().next(), BTreeSet::first);
        *oldest.expect("called when all permits are taken")
    }

    /// Who has waited longest, if that is so long that an honest analyzer would have spoken.
    pub(super) fn overdue(&self, now_ns: u64) -> Option<Slot> {
        let oldest = self.waiting.values().next()?;
        let is_overdue = now_ns.saturating_sub(oldest.since_ns) >= OVERDUE_NS;
        is_overdue.then_some(oldest.slot)
    }

    /// One more.
    pub(super) fn enter(&mut self, slot: Slot, address: Option<Customer>, now_ns: u64) -> Turn {
        let turn = Turn(self.entered);
        self.entered += 1;
        let waiting = Waiting {
            slot,
            address,
            since_ns: now_ns,
        };
        self.waiting.insert(turn, waiting);
        self.of_address.entry(address).or_default().insert(turn);
        turn
    }

    /// It has spoken, or is gone.
    pub(super) fn leave(&mut self, turn: Turn) {
        let Some(Waiting { address, .. }) = self.waiting.remove(&turn) else {
            return;
        };
        if let Some(turns) = self.of_address.get_mut(&address) {
            turns.remove(&turn);
            if turns.is_empty() {
                self.of_address.remove(&address);
            }
        }
    }

    /// All of them, oldest first.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.waiting.values().map(|waiting| waiting.slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    const LATER: u64 = 2 * GRACE_NS;

    fn at(n: u32) -> Option<Customer> {
        Some(Customer::of_number(n))
    }

    /// Permits with one connection of each address, in this order.
    fn taken(permits: &mut Permits, addresses: impl Iterator<Item = u32>) -> Vec<Slot> {
        let mut slab = Slab::new();
        addresses
            .map(|address| {
                let slot = slab.insert(());
                permits.enter(slot, at(address), 0);
                slot
            })
            .collect()
    }

    #[test]
    fn the_oldest_goes_when_all_places_are_taken() {
        let mut permits = Permits::new(100, 0);
        let slots = taken(&mut permits, 0..99);
        assert_eq!(permits.to_displace(at(500), LATER), None);
        let mut slab = Slab::new();
        let turn = permits.enter(slab.insert(()), at(99), 0);
        assert_eq!(permits.to_displace(at(500), LATER), Some(slots[0]));
        assert!(permits.is_short());
        permits.leave(turn);
        permits.leave(turn);
        assert_eq!(
            permits.to_displace(at(500), LATER),
            None,
            "there is one again"
        );
        assert_eq!(permits.slots(), slots);
    }

    #[test]
    fn where_one_address_has_a_crowd_its_own_oldest_goes() {
        let mut permits = Permits::new(100, 0);
        let slots = taken(&mut permits, (0..40).chain([7; 60]));
        assert_eq!(permits.to_displace(at(500), LATER), Some(slots[7]));
    }

    #[test]
    fn an_address_has_no_more_places_than_connections() {
        let mut permits = Permits::new(100, 3);
        let slots = taken(&mut permits, [1, 2, 2, 2].into_iter());
        assert_eq!(permits.to_displace(at(1), LATER), None);
        assert_eq!(permits.to_displace(at(2), LATER), Some(slots[1]));
    }

    #[test]
    fn who_has_just_come_has_time_to_be_read_but_not_without_bound() {
        let mut permits = Permits::new(100, 0);
        taken(&mut permits, 0..100);
        assert_eq!(permits.to_displace(at(500), GRACE_NS - 1), None);
        assert!(permits.to_displace(at(500), GRACE_NS).is_some());
        taken(&mut permits, 100..200);
        assert!(permits.to_displace(at(500), 0).is_some());
    }

    #[test]
    fn all_analyzers_that_can_be_served_may_come_at_once() {
        assert_eq!(permits_of(86), 1_024);
        assert!(permits_of(4_000) >= 2 * 4_000);
    }
}
