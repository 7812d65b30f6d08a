//! Which address a new connection gets: in turn, by priority and weight, and not one that has just failed.
//!
//! ```text
//!   lowest priority with one that is not in its back-off
//!     `-- of it, the one that is furthest behind its weight     (smooth weighted round-robin)
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;

/// An address that failed is left out this long at first, then twice as long each time, up to the longest.
const OUT_FIRST: Duration = Duration::from_millis(500);
const OUT_LONGEST: Duration = Duration::from_secs(10);
/// A weight of 0 among others counts as a hundredth of 1: seldom, as RFC 2782 wants it.
const WEIGHT_SCALE: i64 = 100;

/// Addresses and whose turn it is.
#[derive(Clone, Debug, Default)]
pub struct Rota {
    places: Vec<Place>,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Place {
    addr: SocketAddr,
    priority: u16,
    weight: i64,
    /// How far it is behind its part.
    behind: i64,
    out_until: Option<Instant>,
    out_next: Duration,
}

impl Rota {
    /// Begins at a place that `seed` chooses, so that many programs do not all begin at the first.
    pub fn new(set: &[Endpoint], seed: u64) -> Rota {
        let places = Vec::new();
        let mut rota = Rota { places, seed };
        rota.set(set);
        rota
    }

    /// Takes another set over; who stays keeps his turn and his back-off.
    pub fn set(&mut self, set: &[Endpoint]) {
        let mut places: Vec<Place> = Vec::new();
        for endpoint in set {
            for addr in &endpoint.addrs {
                if places.iter().any(|place| place.addr == *addr) {
                    continue;
                }
                let before = self.places.iter().find(|place| place.addr == *addr);
                let mut place = before.cloned().unwrap_or(Place {
                    addr: *addr,
                    priority: 0,
                    weight: 1,
                    behind: 0,
                    out_until: None,
                    out_next: OUT_FIRST,
                });
                let scaled = i64::from(endpoint.weight) * WEIGHT_SCALE;
                place.weight = (scaled / endpoint.addrs.len() as i64).max(1);
                place.priority = endpoint.priority;
                places.push(place);
            }
        }
        let were_none = std::mem::replace(&mut self.places, places).is_empty();
        let count = self.places.len().max(1) as u64;
        if were_none {
            for _ in 0..self.seed % count {
                self.next(Instant::now());
            }
        }
    }

    /// How many addresses there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// There is no address.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Those that may be tried now.
    pub fn in_count(&self, now: Instant) -> usize {
        self.places.iter().filter(|place| place.is_in(now)).count()
    }

    /// Whose turn it is. When all have failed just now: the one that is the first to be tried again.
    pub fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        let is_in = |place: &&Place| place.is_in(now);
        let priority = self
            .places
            .iter()
            .filter(is_in)
            .map(|place| place.priority)
            .min();
        let Some(priority) = priority else {
            let soonest = self.places.iter().min_by_key(|place| place.out_until);
            return soonest.map(|place| place.addr);
        };
        let mut total = 0;
        let mut best: Option<usize> = None;
        for at in 0..self.places.len() {
            let place = &mut self.places[at];
            if place.priority != priority || !place.is_in(now) {
                continue;
            }
            total += place.weight;
            place.behind += place.weight;
            let behind = place.behind;
            if best.is_none_or(|best| behind > self.places[best].behind) {
                best = Some(at);
            }
        }
        let best = best?;
        self.places[best].behind -= total;
        Some(self.places[best].addr)
    }

    /// It could not be connected to, or its host was silent: left out for a while.
    pub fn failed(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(place) = self.places.iter_mut().find(|place| place.addr == addr) {
            // Many connections to it break at once, which is one failure.
            if place.is_in(now) {
                place.out_until = Some(now + place.out_next);
                place.out_next = (place.out_next * 2).min(OUT_LONGEST);
            }
        }
    }

    /// It was connected to.
    pub fn worked(&mut self, addr: SocketAddr) {
        if let Some(place) = self.places.iter_mut().find(|place| place.addr == addr) {
            place.out_until = None;
            place.out_next = OUT_FIRST;
        }
    }
}

impl Place {
    fn is_in(&self, now: Instant) -> bool {
        self.out_until.is_none_or(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn endpoint(port: u16, priority: u16, weight: u16) -> Endpoint {
        Endpoint {
            name: port.to_string(),
            host: None,
            addrs: vec![addr(port)],
            priority,
            weight,
        }
    }

    fn turns(rota: &mut Rota, count: usize, now: Instant) -> BTreeMap<u16, usize> {
        let mut turns = BTreeMap::new();
        for _ in 0..count {
            *turns
                .entry(rota.next(now).expect("one").port())
                .or_default() += 1;
        }
        turns
    }

    #[test]
    fn twelve_connections_are_four_on_each_of_three_wherever_they_begin() {
        let set = [1, 2, 3].map(|port| endpoint(port, 0, 1));
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..9 {
            let mut rota = Rota::new(&set, seed);
            firsts.insert(rota.clone().next(Instant::now()));
            let turns = turns(&mut rota, 12, Instant::now());
            assert_eq!(turns, BTreeMap::from([(1, 4), (2, 4), (3, 4)]), "{seed}");
        }
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn weights_count_and_lower_priorities_wait_until_nobody_else_answers() {
        let set = [
            endpoint(1, 1, 3),
            endpoint(2, 1, 1),
            endpoint(3, 1, 0),
            endpoint(9, 2, 1),
        ];
        let mut rota = Rota::new(&set, 0);
        let now = Instant::now();
        let seen = turns(&mut rota, 401, now);
        assert_eq!(seen.values().sum::<usize>(), 401);
        assert!((299..=301).contains(&seen[&1]) && seen[&3] == 1, "{seen:?}");
        assert!(!seen.contains_key(&9));
        for port in [1, 2, 3] {
            rota.failed(addr(port), now);
        }
        assert_eq!(turns(&mut rota, 5, now), BTreeMap::from([(9, 5)]));
        let later = now + OUT_FIRST;
        assert!(
            !turns(&mut rota, 5, later).contains_key(&9),
            "they are tried again"
        );
    }

    #[test]
    fn one_that_failed_is_left_out_longer_each_time_and_forgiven_once_it_works() {
        let mut rota = Rota::new(&[1, 2].map(|port| endpoint(port, 0, 1)), 0);
        let mut now = Instant::now();
        for wait in [OUT_FIRST, OUT_FIRST * 2, OUT_FIRST * 4] {
            rota.failed(addr(1), now);
            rota.failed(addr(1), now);
            assert_eq!(
                turns(&mut rota, 4, now + wait - Duration::from_millis(1)).get(&1),
                None
            );
            now += wait;
            assert_eq!(rota.in_count(now), 2);
        }
        rota.worked(addr(1));
        rota.failed(addr(1), now);
        assert_eq!(rota.in_count(now + OUT_FIRST), 2);
        rota.failed(addr(1), now + OUT_LONGEST);
        rota.failed(addr(2), now + OUT_LONGEST);
        assert!(
            rota.next(now + OUT_LONGEST).is_some(),
            "nobody is left: one is tried all the same"
        );
    }

    #[test]
    fn another_set_keeps_what_is_known_of_those_that_stay() {
        let now = Instant::now();
        let mut rota = Rota::new(&[1, 2].map(|port| endpoint(port, 0, 1)), 0);
        rota.failed(addr(1), now);
        rota.set(&[1, 3].map(|port| endpoint(port, 0, 1)));
        assert_eq!(turns(&mut rota, 4, now), BTreeMap::from([(3, 4)]));
        rota.set(&[]);
        assert!(rota.is_empty() && rota.next(now).is_none());
    }
}
