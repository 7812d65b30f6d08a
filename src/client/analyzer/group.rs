//! The links to one distributor: where it is, who it is, and how many of its links are up.
//!
//! ```text
//!   first link --any address--> WELCOME: instance A     the group is A's, at this address
//!   other links --that address--> WELCOME: A            admitted
//!                             `-> WELCOME: B            hung up: an analyzer that is split over two distributors
//!                                                       would take messages of shards that nobody else reaches
//!   last link ends: the group forgets instance and address, and discovery looks again
//! ```
//!
//! Two addresses may lead to one distributor. The group that was admitted first keeps it; the other one waits.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_discover::{Endpoint, HostPort, Resolver};

/// Who has which distributor: instances, with the number and the name of their group.
pub type Owners = Mutex<BTreeMap<u64, (u64, String)>>;

/// See the head of this file.
pub struct Group {
    number: u64,
    /// What it is called in logs and errors.
    pub name: String,
    /// The host as the operator wrote it; none where DNS has said it.
    host: Option<String>,
    /// The only one, given as `HOST:PORT`: its name is looked up for each first link.
    plain: Option<(HostPort, Resolver)>,
    /// What discovery knows; unused if it is plain.
    found: Mutex<Vec<SocketAddr>>,
    state: Mutex<State>,
    /// Shards of the distributor, 0 until a WELCOME has told.
    pub shard_count: AtomicU64,
    /// Shard of the first link, `u64::MAX` until a WELCOME has told.
    pub first_shard: AtomicU64,
    /// Weight that the distributor was told last.
    weight_told: AtomicU64,
    /// Discovery does not find it any more: what ends is not opened again.
    has_left: AtomicBool,
    /// It is another group's distributor; said once.
    is_double: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Of the links that are up.
    instance: Option<u64>,
    addr: Option<SocketAddr>,
    live: usize,
    /// Who was there when it was asked, while the first link is on its way.
    reserved: Option<u64>,
}

/// Why a link is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Another distributor than that of the other links.
    Split {
        /// Where it answered.
        addr: SocketAddr,
        /// Who answered.
        found: u64,
        /// Who has the other links.
        wanted: u64,
    },
    /// Another group has the links of this distributor.
    Double {
        /// Its name.
        owner: String,
    },
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAdmitted::Split {
                addr,
                found,
                wanted,
            } => write!(
                f,
                "{addr} leads to another distributor (instance {found:016x}) than the other links of this analyzer \
                 ({wanted:016x}): a load balancer before the analyzers' port would split it, so this link is not \
                 kept. Name every distributor instead: --addr dns+HOST:PORT, dnssrv+NAME, file+PATH or a list"
            ),
            NotAdmitted::Double { owner } => {
                write!(f, "it is the same distributor as {owner}, which has its links")
            }
        }
    }
}

impl Group {
    /// One that discovery found.
    pub fn found(number: u64, endpoint: &Endpoint) -> Group {
        let mut group = Group::new(number, endpoint.name.clone(), None, endpoint.addrs.clone());
        group.host.clone_from(&endpoint.host);
        group
    }

    /// The only one.
    pub fn plain(at: HostPort, resolver: Resolver) -> Group {
        let (name, host) = (at.to_string(), at.host.clone());
        let mut group = Group::new(0, name, Some((at, resolver)), Vec::new());
        group.host = Some(host);
        group
    }

    fn new(
        number: u64,
        name: String,
        plain: Option<(HostPort, Resolver)>,
        found: Vec<SocketAddr>,
    ) -> Group {
        Group {
            number,
            name,
            host: None,
            plain,
            found: Mutex::new(found),
            state: Mutex::default(),
            shard_count: AtomicU64::new(0),
            first_shard: AtomicU64::new(u64::MAX),
            weight_told: AtomicU64::new(f64::NAN.to_bits()),
            has_left: AtomicBool::new(false),
            is_double: AtomicBool::new(false),
        }
    }

    /// Whose certificate is expected.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// It is the only one there can be.
    pub fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// Its addresses as discovery knows them now.
    pub fn moved(&self, endpoint: &Endpoint) {
        *lock(&self.found) = endpoint.addrs.clone();
    }

    /// Discovery finds it, or not.
    pub fn set_left(&self, has_left: bool) -> bool {
        self.has_left.swap(has_left, Ordering::AcqRel)
    }

    /// See [`Group::set_left`].
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Links that are up.
    pub fn live(&self) -> usize {
        lock(&self.state).live
    }

    /// Where a link is to go: where the others are; without others, anywhere. Blocks while a name is looked up, until
    /// `stop` is raised.
    ///
    /// # Errors
    /// The name has no address.
    pub fn addrs(&self, stop: &AtomicBool) -> io::Result<Vec<SocketAddr>> {
        if let Some(addr) = lock(&self.state).addr {
            return Ok(vec![addr]);
        }
        match &self.plain {
            Some((at, resolver)) => resolver
                .addrs_until(at, || stop.load(Ordering::Acquire))
                .map_err(|error| io::Error::other(format!("address {at}: {error}"))),
            None => Ok(lock(&self.found).clone()),
        }
    }

    /// A link was welcomed: by whom it should be, if by nobody else's distributor.
    ///
    /// # Errors
    /// It was not.
    pub fn admit(
        &self,
        owners: &Owners,
        addr: SocketAddr,
        instance: u64,
    ) -> Result<(), NotAdmitted> {
        let mut owners = lock(owners);
        self.check(&owners, instance)?;
        let mut state = lock(&self.state);
        same(&state, addr, instance)?;
        state.instance = Some(instance);
        state.addr = Some(addr);
        state.live += 1;
        if let Some(other) = state.reserved.take().filter(|it| *it != instance) {
            owners.remove(&other);
        }
        owners.insert(instance, (self.number, self.name.clone()));
        self.is_double.store(false, Ordering::Release);
        Ok(())
    }

    /// Takes a distributor before the first link to it: two groups that ask at the same time are not both to open one.
    ///
    /// # Errors
    /// Another group has it.
    pub fn reserve(&self, owners: &Owners, instance: u64) -> Result<(), NotAdmitted> {
        let mut owners = lock(owners);
        self.check(&owners, instance)?;
        owners.insert(instance, (self.number, self.name.clone()));
        lock(&self.state).reserved = Some(instance);
        Ok(())
    }

    /// The first link came to nothing.
    pub fn release(&self, owners: &Owners) {
        let mut owners = lock(owners);
        let mut state = lock(&self.state);
        let reserved = state.reserved.take();
        if let Some(instance) = reserved.filter(|it| state.instance != Some(*it)) {
            owners.remove(&instance);
        }
    }

    fn check(
        &self,
        owners: &BTreeMap<u64, (u64, String)>,
        instance: u64,
    ) -> Result<(), NotAdmitted> {
        match owners.get(&instance) {
            Some((number, owner)) if *number != self.number => Err(NotAdmitted::Double {
                owner: owner.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// An admitted link has ended. Whether it was the last one.
    pub fn dismiss(&self, owners: &Owners) -> bool {
        let mut owners = lock(owners);
        let mut state = lock(&self.state);
        state.live -= 1;
        if state.live > 0 {
            return false;
        }
        state.addr = None;
        if let Some(instance) = state.instance.take() {
            owners.remove(&instance);
        }
        true
    }

    /// Whether this is the distributor of the links that are up; or none is up, and no other group has it.
    ///
    /// # Errors
    /// It is not.
    pub fn check_same(
        &self,
        owners: &Owners,
        addr: SocketAddr,
        instance: u64,
    ) -> Result<(), NotAdmitted> {
        self.check(&lock(owners), instance)?;
        same(&lock(&self.state), addr, instance)
    }

    /// What a WELCOME said.
    pub fn set_shards(&self, count: u16) {
        self.shard_count.store(count.into(), Ordering::Release);
    }

    /// Among the groups of this analyzer.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// It is another group's distributor; true the first time.
    pub fn note_double(&self) -> bool {
        !self.is_double.swap(true, Ordering::AcqRel)
    }

    /// Whether the distributor is to be told this weight; true for one link only.
    pub fn is_news(&self, weight: f64) -> bool {
        self.weight_told.swap(weight.to_bits(), Ordering::AcqRel) != weight.to_bits()
    }
}

fn same(state: &State, addr: SocketAddr, found: u64) -> Result<(), NotAdmitted> {
    match state.instance {
        Some(wanted) if wanted != found => Err(NotAdmitted::Split {
            addr,
            found,
            wanted,
        }),
        _ => Ok(()),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(number: u64) -> Group {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        Group::found(number, &Endpoint::new(format!("g{number}"), vec![addr]))
    }

    #[test]
    fn links_stay_with_the_instance_and_the_address_of_the_first() {
        let (owners, group) = (Owners::default(), group(1));
        let [a, b] = [8081, 8082].map(|port| SocketAddr::from(([127, 0, 0, 2], port)));
        assert_eq!(group.admit(&owners, a, 7), Ok(()));
        assert_eq!(group.addrs(&AtomicBool::new(false)).expect("known"), [a]);
        let refused = group.admit(&owners, b, 8).expect_err("another one");
        assert!(refused
            .to_string()
            .contains("127.0.0.2:8082 leads to another distributor"));
        assert_eq!(group.admit(&owners, a, 7), Ok(()));
        assert!(!group.dismiss(&owners) && group.dismiss(&owners));
        assert_ne!(
            group.addrs(&AtomicBool::new(false)).expect("found"),
            [a],
            "anywhere again"
        );
        assert_eq!(group.admit(&owners, b, 8), Ok(()), "it was started anew");
    }

    #[test]
    fn a_distributor_has_one_group() {
        let (owners, one, other) = (Owners::default(), group(1), group(2));
        let addr = SocketAddr::from(([127, 0, 0, 2], 1));
        assert_eq!(one.admit(&owners, addr, 7), Ok(()));
        let double = NotAdmitted::Double { owner: "g1".into() };
        assert_eq!(other.reserve(&owners, 7), Err(double.clone()));
        assert_eq!(other.admit(&owners, addr, 7), Err(double));
        assert!(other.note_double() && !other.note_double());
        assert!(one.dismiss(&owners));
        assert_eq!(other.admit(&owners, addr, 7), Ok(()));
    }

    #[test]
    fn who_asked_first_opens_the_links_unless_that_fails() {
        let (owners, one, other) = (Owners::default(), group(1), group(2));
        let addr = SocketAddr::from(([127, 0, 0, 2], 1));
        assert_eq!(one.reserve(&owners, 7), Ok(()));
        assert!(other.reserve(&owners, 7).is_err() && other.admit(&owners, addr, 7).is_err());
        one.release(&owners);
        assert_eq!(other.reserve(&owners, 7), Ok(()));
        assert_eq!(other.admit(&owners, addr, 8), Ok(()), "a balancer");
        assert_eq!(
            one.reserve(&owners, 7),
            Ok(()),
            "not kept by who got another"
        );
        other.release(&owners);
        assert!(one.reserve(&owners, 8).is_err(), "its link is up");
    }

    #[test]
    fn a_weight_is_told_by_one_link() {
        let group = group(1);
        assert!(group.is_news(0.5) && !group.is_news(0.5));
        assert!(group.is_news(0.25));
    }
}
