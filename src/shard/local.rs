//! Far ends on this host that nobody connects to: a file's writer, a program on its standard input. Who opens them makes
//! a pair of sockets for each shard; the shard takes its end once.
//!
//! ```text
//! src/local: pair of sockets, one for each shard --- LocalEnds ---> shard takes its end, sends and hears as over TCP
//!            far end: a thread, a child          <-- closed ------- analyzer down, gone from the roster, or the end
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Where an analyzer is that the distributor connects to.
#[derive(Clone, Debug)]
pub enum At {
    /// It listens there.
    Address(SocketAddr),
    /// It is connected already.
    Local(Arc<LocalEnds>),
}

impl At {
    /// Where it listens; of one that does not: `0.0.0.0:0`.
    pub fn address(&self) -> SocketAddr {
        match self {
            At::Address(address) => *address,
            At::Local(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        }
    }

    /// The ends of one that is connected already.
    pub fn local(&self) -> Option<&Arc<LocalEnds>> {
        match self {
            At::Address(_) => None,
            At::Local(ends) => Some(ends),
        }
    }
}

impl PartialEq for At {
    fn eq(&self, other: &At) -> bool {
        match (self, other) {
            (At::Address(one), At::Address(other)) => one == other,
            (At::Local(one), At::Local(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for At {}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Address(address) => address.fmt(f),
            At::Local(_) => f.write_str("local"),
        }
    }
}

/// The shards' ends, of one life of the far end.
#[derive(Debug)]
pub struct LocalEnds {
    ends: Mutex<Vec<Option<OwnedFd>>>,
    is_left: AtomicBool,
    given_up: OnceLock<String>,
    ended: OnceLock<String>,
}

impl LocalEnds {
    /// One for each shard, in order: sockets of streams.
    pub fn new(ends: Vec<OwnedFd>) -> LocalEnds {
        LocalEnds {
            ends: Mutex::new(ends.into_iter().map(Some).collect()),
            is_left: AtomicBool::new(false),
            given_up: OnceLock::new(),
            ended: OnceLock::new(),
        }
    }

    /// A shard's end; none: it has had it.
    pub(crate) fn take(&self, shard: u16) -> Option<OwnedFd> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.get_mut(usize::from(shard))?.take()
    }

    /// A shard gives the analyzer up for this reason.
    pub(crate) fn give_up(&self, why: &str) {
        let _ = self.given_up.set(why.to_owned());
    }

    /// Why a shard has given the analyzer up; none: it has not, or it has let go of one that was well.
    pub fn why_given_up(&self) -> Option<&str> {
        self.given_up.get().map(String::as_str)
    }

    /// A shard has let go of the analyzer: this life is over.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Ordering::Release);
    }

    /// A shard has.
    pub fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Acquire)
    }

    /// The far end takes nothing more, and why. To be said before it closes its sockets, and once.
    pub fn end(&self, why: String) {
        let _ = self.ended.set(why);
    }

    /// This life is over: ends that no shard has taken are closed.
    pub fn close(&self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.clear();
    }

    /// Why it takes nothing more, if it has said so.
    pub fn why_ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }
}
