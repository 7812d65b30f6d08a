//! Who may come in: limits per client, over all shards. A client is an address, and where it shows a certificate of that
//! name there: many behind one address with a certificate each do not share a limit, and neither do many hosts with one
//! certificate (`--limit-by`).
//!
//! Shared by the shards, behind locks: touched when a connection comes or goes, and once a request if
//! there is a rate limit. Messages by TCP never come here.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_config::{LimitBy, RateLimit};

/// Parts of the tables, each behind its own lock.
const PARTS: usize = 16;
/// Clients in one part; beyond, those whose buckets are full again are forgotten, then any.
const CLIENTS_MAX: usize = 16_384;

/// A token bucket (as in RFC 2697, one rate): full at first, refilled evenly.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at_ns: u64,
}

impl Bucket {
    fn refill(&mut self, rate: RateLimit, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.at_ns) as f64 / rate.per.as_nanos() as f64;
        let most = f64::from(rate.requests);
        self.tokens = (self.tokens + passed * most).min(most);
        self.at_ns = now_ns;
    }
}

/// What is left of a rate behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Requests that may follow at once.
    pub(super) remaining: u32,
    /// Seconds until all may.
    pub(super) reset_s: u64,
    /// This one may not; seconds until one may.
    pub(super) wait_s: Option<u64>,
}

/// Who is counted as one client. A name is kept as a hash with a key of this process: clients cannot choose names that
/// count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Customer {
    network: Option<IpAddr>,
    name: Option<u64>,
}

#[cfg(test)]
impl Customer {
    /// One that is another than all of other numbers.
    pub(super) fn of_number(number: u32) -> Customer {
        Customer {
            network: Some(IpAddr::from(number.to_be_bytes())),
            name: None,
        }
    }
}

#[derive(Default)]
struct Part {
    buckets: HashMap<Customer, Bucket>,
    connections: HashMap<(ListenerKind, Customer), usize>,
}

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ListenerKind {
    Emitters,
    /// Links that are up, see [`Admission::enter_link`].
    Analyzers,
    Http,
}

/// Limits of all shards together.
pub(super) struct Admission {
    parts: Vec<Mutex<Part>>,
    hasher: RandomState,
    /// HTTP connections.
    http: AtomicUsize,
}

impl Admission {
    pub(super) fn new() -> Admission {
        Admission {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            http: AtomicUsize::new(0),
        }
    }

    /// Who counts as one client: whoever is at this address, and whose certificate has this name.
    pub(super) fn customer(
        &self,
        by: LimitBy,
        address: IpAddr,
        certificate: Option<&str>,
    ) -> Customer {
        let name = certificate.filter(|_| by != LimitBy::Address);
        let name = name.map(|name| self.hasher.hash_one(name));
        let is_name_alone = by == LimitBy::Certificate && name.is_some();
        Customer {
            network: (!is_name_alone).then(|| network_of(address)),
            name,
        }
    }

    fn part(&self, customer: Customer) -> MutexGuard<'_, Part> {
        let part = self.hasher.hash_one(customer) as usize % PARTS; // which bits does not matter
        self.parts[part]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One more HTTP connection, of at most `most`; 0: no limit.
    pub(super) fn enter_http(&self, most: usize) -> bool {
        let before = self.http.fetch_add(1, Ordering::Relaxed);
        let fits = most == 0 || before < most;
        if !fits {
            self.leave_http();
        }
        fits
    }

    pub(super) fn leave_http(&self) {
        self.http.fetch_sub(1, Ordering::Relaxed);
    }

    /// One more connection of a client, of at most `most`.
    pub(super) fn enter(&self, kind: ListenerKind, customer: Customer, most: usize) -> bool {
        let fits = self.add(kind, customer, 1) <= most;
        if !fits {
            self.leave(kind, customer);
        }
        fits
    }

    /// An analyzer's link is up: `parts` of `most` of its client. It is counted in any case, and does not fit
    /// when there are more.
    pub(super) fn enter_link(&self, customer: Customer, parts: usize, most: usize) -> bool {
        self.add(ListenerKind::Analyzers, customer, parts) <= most
    }

    /// A link that was counted is gone.
    pub(super) fn leave_link(&self, customer: Customer, parts: usize) {
        self.take_off(ListenerKind::Analyzers, customer, parts);
    }

    fn add(&self, kind: ListenerKind, customer: Customer, parts: usize) -> usize {
        let mut part = self.part(customer);
        let count = part.connections.entry((kind, customer)).or_default();
        *count += parts;
        *count
    }

    /// A connection that was counted is gone.
    pub(super) fn leave(&self, kind: ListenerKind, customer: Customer) {
        self.take_off(kind, customer, 1);
    }

    fn take_off(&self, kind: ListenerKind, customer: Customer, parts: usize) {
        let mut part = self.part(customer);
        if let Some(count) = part.connections.get_mut(&(kind, customer)) {
            *count -= parts;
            if *count == 0 {
                part.connections.remove(&(kind, customer));
            }
        }
    }

    /// Takes a token for a request, if there is one left.
    pub(super) fn take(&self, customer: Customer, rate: RateLimit, now_ns: u64) -> Taken {
        let mut part = self.part(customer);
        if part.buckets.len() >= CLIENTS_MAX && !part.buckets.contains_key(&customer) {
            part.make_room(rate, now_ns);
        }
        let full = Bucket {
            tokens: f64::from(rate.requests),
            at_ns: now_ns,
        };
        let bucket = part.buckets.entry(customer).or_insert(full);
        bucket.refill(rate, now_ns);
        let is_left = bucket.tokens >= 1.0;
        if is_left {
            bucket.tokens -= 1.0;
        }
        // A part of the rate's time, in whole seconds.
        let until = |tokens: f64| {
            let missing = (tokens - bucket.tokens) / f64::from(rate.requests);
            (missing * rate.per.as_secs_f64()).ceil() as u64
        };
        Taken {
            remaining: bucket.tokens as u32,
            reset_s: until(f64::from(rate.requests)),
            wait_s: (!is_left).then(|| until(1.0).max(1)),
        }
    }
}

impl Part {
    fn make_room(&mut self, rate: RateLimit, now_ns: u64) {
        self.buckets.retain(|_, bucket| {
            bucket.refill(rate, now_ns);
            bucket.tokens < f64::from(rate.requests)
        });
        if self.buckets.len() >= CLIENTS_MAX {
            self.buckets.clear();
        }
    }
}

/// Whom an address belongs to: an IPv6 host has a whole /64 to choose its address from (RFC 6177), and an
/// IPv4 address in IPv6 form is the same host.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn at(admission: &Admission, text: &str) -> Customer {
        let address = text.parse().expect("an address");
        admission.customer(LimitBy::Both, address, None)
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let admission = Admission::new();
        let rate = RateLimit {
            requests: 10,
            per: Duration::from_secs(20),
        };
        let address = |n: u32| at(&admission, &format!("10.0.0.{n}"));
        let take = |n: u32, at_s: u64| admission.take(address(n), rate, at_s * SECOND).wait_s;
        assert!((0..10).all(|_| take(1, 0).is_none()));
        assert_eq!((take(1, 0), take(1, 1)), (Some(2), Some(1)));
        assert_eq!(take(2, 0), None, "each address has its own");
        assert_eq!((take(1, 2), take(1, 2)), (None, Some(2)));
        assert!((0..10).all(|_| take(1, 100).is_none()));
        assert!(take(1, 100).is_some(), "never more than the whole bucket");
    }

    #[test]
    fn the_table_of_buckets_is_bounded() {
        let admission = Admission::new();
        let rate = RateLimit {
            requests: 1,
            per: Duration::from_secs(1_000_000),
        };
        for n in 0..(2 * PARTS * CLIENTS_MAX) as u32 {
            let address = IpAddr::from(n.to_be_bytes());
            let customer = admission.customer(LimitBy::Both, address, None);
            assert_eq!(admission.take(customer, rate, 0).wait_s, None);
        }
        let sizes = admission.parts.iter().map(|part| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.buckets.len()
        });
        assert!(sizes.max() <= Some(CLIENTS_MAX));
    }

    #[test]
    fn connections_are_counted_by_address_and_door() {
        let admission = Admission::new();
        let address = |n: u32| at(&admission, &format!("10.0.0.{n}"));
        assert!(admission.enter(ListenerKind::Http, address(1), 2));
        assert!(admission.enter(ListenerKind::Http, address(1), 2));
        assert!(!admission.enter(ListenerKind::Http, address(1), 2));
        assert!(admission.enter(ListenerKind::Emitters, address(1), 2));
        assert!(admission.enter(ListenerKind::Http, address(2), 2));
        admission.leave(ListenerKind::Http, address(1));
        assert!(admission.enter(ListenerKind::Http, address(1), 2));
        admission.leave(ListenerKind::Http, address(2));
        let known: usize = (0..PARTS)
            .map(|part| {
                admission.parts[part]
                    .lock()
                    .map_or(0, |part| part.connections.len())
            })
            .sum();
        assert_eq!(known, 2, "the last one's entry goes");
        assert!(admission.enter_http(1) && !admission.enter_http(1));
        admission.leave_http();
        assert!(admission.enter_http(1));
    }

    #[test]
    fn an_ipv6_host_is_its_network() {
        let admission = Admission::new();
        let at = |text: &str| at(&admission, text);
        assert!(admission.enter(ListenerKind::Http, at("2001:db8::1"), 1));
        assert!(!admission.enter(ListenerKind::Http, at("2001:db8::2"), 1));
        assert!(admission.enter(ListenerKind::Http, at("2001:db8:0:1::1"), 1));
        assert!(admission.enter(ListenerKind::Http, at("10.0.0.1"), 1));
        assert!(!admission.enter(ListenerKind::Http, at("::ffff:10.0.0.1"), 1));
        admission.leave(ListenerKind::Http, at("2001:db8::3"));
        assert!(admission.enter(ListenerKind::Http, at("2001:db8::4"), 1));

        let rate = RateLimit {
            requests: 1,
            per: Duration::from_secs(3600),
        };
        let refused = |text| admission.take(at(text), rate, 0).wait_s.is_some();
        assert!(!refused("2001:db8::1") && refused("2001:db8::ffff:ffff:ffff:ffff"));
        assert!(!refused("2001:db8:0:1::1"));
        assert!(!refused("10.0.0.1") && refused("::ffff:10.0.0.1"));
        assert!(!refused("10.0.0.2"));
    }

    #[test]
    fn a_client_is_its_address_and_its_certificate() {
        let admission = Admission::new();
        let host = |n: u8| IpAddr::from([10, 0, 0, n]);
        let count = |by, clients: &[(u8, Option<&str>)]| {
            let of = |(n, name): &(u8, Option<&str>)| admission.customer(by, host(*n), *name);
            let all: std::collections::BTreeSet<Customer> = clients.iter().map(of).collect();
            all.len()
        };
        let behind_one_address = [(1, Some("web1")), (1, Some("web2")), (1, None)];
        let with_one_certificate = [(1, Some("web")), (2, Some("web")), (3, Some("web"))];
        for (by, behind, with) in [
            (LimitBy::Both, 3, 3),
            (LimitBy::Address, 1, 3),
            (LimitBy::Certificate, 3, 1),
        ] {
            assert_eq!(count(by, &behind_one_address), behind, "{by:?}");
            assert_eq!(count(by, &with_one_certificate), with, "{by:?}");
        }
    }
}
