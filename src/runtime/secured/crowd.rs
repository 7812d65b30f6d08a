//! Places of a port that are all taken: an address that has many of them makes room with those that do not come
//! forward, and long before others have to.
//!
//! ```text
//! all places taken --10 ms--> of each address with an eighth of them or more, of which more came to nothing than through:
//!                                 waits for its peer for 5 looks (30 behind an answer)?
//!                                 as many as came through of late may wait on --rest, oldest first--> displaced
//! ```
//!
//! Who waits for this side is not asked to go. What came of an address before tells a crowd from a storm: thousands of
//! clients behind one address go forward although each waits for a host that is busy, or far away. So a crowd has a second
//! once, as everybody has, and not again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::accept::{Handshake, Handshakes, Stage, Whose};
use super::Tls;
use crate::uring::Ring;
use weir_tls::{Failure, FailureKind};

/// With this part of a port's places an address is a crowd; and no more than this part of them goes at a look.
const CROWD_PART: usize = 8;
/// Looks, 10 ms apart, in which a hello must have come whole: it is sent at once.
const LOOKS_FOR_HELLO: u32 = 5;
/// The same behind an answer, which goes to the peer and back.
const LOOKS_FOR_ANSWER: u32 = 30;
/// A place that was given back sooner, for nothing, has kept nobody waiting.
const HELD_NS: u64 = 20_000_000;
/// What came of handshakes counts half after this.
const HALVED_AFTER_NS: u64 = 500_000_000;
/// Addresses of a port that this is kept of; what comes of others does not count.
const ADDRESSES_MAX: usize = 1024;

/// An address, as limits count it.
pub(super) type Network = Option<IpAddr>;

/// What came of handshakes at a port, by address: about those of the last second.
#[derive(Default)]
pub(super) struct Past {
    of: BTreeMap<Network, Came>,
    halved_ns: u64,
}

/// Of an address.
#[derive(Clone, Copy, Default)]
struct Came {
    through: usize,
    failed: usize,
}

impl Past {
    pub(super) fn note_through(&mut self, network: Network) {
        if let Some(came) = self.entry(network) {
            came.through += 1;
        }
    }

    /// It has held its place for so long.
    pub(super) fn note_failed(&mut self, network: Network, held_ns: u64) {
        if held_ns >= HELD_NS {
            if let Some(came) = self.entry(network) {
                came.failed += 1;
            }
        }
    }

    fn entry(&mut self, network: Network) -> Option<&mut Came> {
        let has_room = self.of.len() < ADDRESSES_MAX || self.of.contains_key(&network);
        has_room.then(|| self.of.entry(network).or_default())
    }

    fn of(&self, network: Network) -> Came {
        self.of.get(&network).copied().unwrap_or_default()
    }

    fn pass(&mut self, clock_ns: u64) {
        if clock_ns >= self.halved_ns + HALVED_AFTER_NS {
            self.halved_ns = clock_ns;
            self.of.retain(|_, came| {
                came.through /= 2;
                came.failed /= 2;
                came.through + came.failed > 0
            });
        }
    }
}

/// A place of a port that is full.
struct Taken {
    number: u32,
    network: Network,
    /// When it got further.
    further_ns: u64,
    /// It has waited for its peer for longer than one of a crowd may.
    is_stuck: bool,
}

impl Taken {
    fn of(number: u32, handshake: &Handshake) -> Taken {
        let looks_max = looks_max(handshake);
        let is_ours = handshake.is_due || matches!(handshake.stage, Stage::Between);
        Taken {
            number,
            network: handshake.network,
            further_ns: handshake.further_ns,
            is_stuck: !is_ours && handshake.looks >= looks_max,
        }
    }
}

fn looks_max(handshake: &Handshake) -> u32 {
    match handshake.is_answered {
        true => LOOKS_FOR_ANSWER,
        false => LOOKS_FOR_HELLO,
    }
}

/// Who goes, and how many places its address has.
fn crowded_out(all: Vec<Taken>, places: usize, past: &Past) -> Vec<(u32, usize)> {
    let mut addresses: BTreeMap<Network, (usize, Vec<Taken>)> = BTreeMap::new();
    for taken in all {
        let (count, stuck) = addresses.entry(taken.network).or_default();
        *count += 1;
        if taken.is_stuck {
            stuck.push(taken);
        }
    }
    let mut out = Vec::new();
    for (network, (count, mut stuck)) in addresses {
        let came = past.of(network);
        if count * CROWD_PART >= places && came.failed > came.through {
            stuck.sort_unstable_by_key(|taken| taken.further_ns);
            stuck.truncate(stuck.len().saturating_sub(came.through));
            out.extend(stuck.iter().map(|taken| (taken.number, count)));
        }
    }
    out.truncate((places / CROWD_PART).max(1));
    out
}

impl Handshakes {
    fn is_full(&self, at: usize, places: usize) -> bool {
        self.ports[at].shaking >= places
    }

    /// All places of the port are taken that a handshake is of.
    pub(super) fn is_crowded(&self, number: u32, places: usize) -> bool {
        let handshake = self.all.get(number as usize).and_then(Option::as_ref);
        match handshake.map(|one| one.whose) {
            Some(Whose::Port(at)) => self.is_full(at, places),
            _ => false,
        }
    }
}

impl Tls {
    /// All places of some port are taken: it is to be looked at soon.
    pub(super) fn is_crowded(&self) -> bool {
        let places = self.places;
        let ports = &self.handshakes.ports;
        ports.iter().any(|port| port.shaking >= places)
    }

    /// One more look at each handshake; where all places of a port are taken, those of a crowd make room.
    pub(super) fn check_crowds(&mut self, ring: &mut Ring) {
        let clock_ns = self.handshakes.clock_ns;
        for handshake in self.handshakes.all.iter_mut().flatten() {
            handshake.looks = handshake.looks.saturating_add(1);
        }
        for at in 0..self.handshakes.ports.len() {
            self.handshakes.ports[at].past.pass(clock_ns);
            if !self.handshakes.is_full(at, self.places) {
                continue;
            }
            let all = self.handshakes.all.iter().zip(0..);
            let of_port = all.filter_map(|(handshake, number)| {
                let handshake = handshake.as_ref()?;
                (handshake.whose == Whose::Port(at)).then(|| Taken::of(number, handshake))
            });
            let taken = of_port.collect();
            let past = &self.handshakes.ports[at].past;
            for (number, held) in crowded_out(taken, self.places, past) {
                self.crowd_out(ring, number, held);
            }
        }
    }

    fn crowd_out(&mut self, ring: &mut Ring, number: u32, held: usize) {
        let Some(handshake) = self.handshakes.get(number) else {
            return;
        };
        if let Stage::Looked(_) = handshake.stage {
            // It may be one that waits for the other side to speak.
            return self.let_in_silent(ring, number);
        }
        let ms = looks_max(handshake) * 10;
        let places = self.places;
        let text = format!(
            "{places} handshakes were under way, {held} of them of its address, and this one had come no further for {ms} ms"
        );
        let failure = Failure {
            cause: "crowd",
            ..Failure::new(FailureKind::Crowded, text)
        };
        self.give_up(ring, number, &failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 64;

    fn at(n: u8) -> Network {
        Some(IpAddr::from([10, 0, 0, n]))
    }

    /// So many of an address, the older ones first; numbers go on from `all`.
    fn take(all: &mut Vec<Taken>, network: Network, count: usize, is_stuck: bool) {
        for _ in 0..count {
            let number = u32::try_from(all.len()).expect("few");
            all.push(Taken {
                number,
                network,
                further_ns: u64::from(number),
                is_stuck,
            });
        }
    }

    fn numbers(out: &[(u32, usize)]) -> Vec<u32> {
        out.iter().map(|(number, _)| *number).collect()
    }

    /// So many of each address came to nothing.
    fn past(failed: &[(Network, usize)]) -> Past {
        let mut past = Past::default();
        for (network, count) in failed {
            (0..*count).for_each(|_| past.note_failed(*network, HELD_NS));
        }
        past
    }

    #[test]
    fn of_an_address_that_has_an_eighth_the_oldest_that_are_stuck_go_and_an_eighth_of_all_at_a_look(
    ) {
        let mut all = Vec::new();
        take(&mut all, at(1), 7, true);
        take(&mut all, at(2), 10, false);
        take(&mut all, at(2), 30, true);
        take(&mut all, at(3), 17, false);
        all.reverse();
        let failed = past(&[(at(1), 99), (at(2), 1), (at(3), 99)]);
        let out = crowded_out(all, PLACES, &failed);
        assert_eq!(numbers(&out), [17, 18, 19, 20, 21, 22, 23, 24]);
        assert!(out.iter().all(|(_, held)| *held == 40));
        let mut all = Vec::new();
        take(&mut all, at(1), 8, true);
        assert_eq!(crowded_out(all, PLACES, &failed).len(), 8);
    }

    #[test]
    fn an_address_of_which_nothing_is_known_or_more_comes_through_is_no_crowd() {
        let stuck = || {
            let mut all = Vec::new();
            take(&mut all, at(1), 64, true);
            all
        };
        assert!(crowded_out(stuck(), PLACES, &Past::default()).is_empty());
        let mut past = past(&[(at(1), 3)]);
        (0..3).for_each(|_| past.note_through(at(1)));
        assert!(crowded_out(stuck(), PLACES, &past).is_empty());
        past.note_failed(at(1), HELD_NS - 1);
        assert!(crowded_out(stuck(), PLACES, &past).is_empty(), "at once");
        past.note_failed(at(1), HELD_NS);
        assert!(!crowded_out(stuck(), PLACES, &past).is_empty());
    }

    #[test]
    fn as_many_may_wait_as_came_through_of_late() {
        let mut past = past(&[(at(1), 1_000)]);
        (0..60).for_each(|_| past.note_through(at(1)));
        let left = |past: &Past| {
            let mut all = Vec::new();
            take(&mut all, at(1), 64, true);
            numbers(&crowded_out(all, PLACES, past))
        };
        assert_eq!(left(&past), [0, 1, 2, 3]);
        past.pass(HALVED_AFTER_NS - 1);
        assert_eq!(left(&past).len(), 4);
        past.pass(HALVED_AFTER_NS);
        assert_eq!(left(&past).len(), 8, "30 came through");
        (2..12).for_each(|n| past.pass(n * HALVED_AFTER_NS));
        assert!(past.of.is_empty());
    }

    #[test]
    fn what_came_is_kept_of_so_many_addresses() {
        let mut past = Past::default();
        for n in 0..2 * ADDRESSES_MAX as u32 {
            past.note_through(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert_eq!(past.of.len(), ADDRESSES_MAX);
        let first = Some(IpAddr::from([0, 0, 0, 0]));
        past.note_failed(first, HELD_NS);
        let came = past.of(first);
        assert_eq!((came.through, came.failed), (1, 1));
    }
}
