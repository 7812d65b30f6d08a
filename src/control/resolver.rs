//! Names of analyzers, looked up by threads of their own: the system's resolver cannot be interrupted.
//!
//! ```text
//! check --> found less than a second ago? -------------------------------> addresses
//!      `--> wait, within its own limit <-- one thread a name, 32 in all --> addresses, or an error
//!                                          `- whoever asks for this name later waits for the same thread
//! ```
//!
//! A thread whose analyzer was removed goes on until the system answers, and holds one of the 32.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::core::lock;

/// Lookups under way at the same time, of all names.
const LOOKUPS_MAX: usize = 32;
/// A name is not looked up more often than this.
const FRESH: Duration = Duration::from_secs(1);
/// Names that nobody has asked for so long are forgotten.
const KEPT: Duration = Duration::from_secs(60);

/// Why there are no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The resolver says so.
    Failed(String),
    /// It did not answer in time; what was known before may still be right.
    Late(String),
}

#[derive(Default)]
struct Lookup {
    is_running: bool,
    found: Option<(Instant, Result<Vec<IpAddr>, String>)>,
    asked: Option<Instant>,
}

type Names = BTreeMap<String, Lookup>;

/// See the head of this file.
pub struct Resolver {
    names: Mutex<Names>,
    changed: Condvar,
    ask: fn(&str) -> io::Result<Vec<IpAddr>>,
}

impl Resolver {
    /// The system's.
    pub fn system() -> Arc<Resolver> {
        Resolver::with(|host| {
            let found = (host, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn with(ask: fn(&str) -> io::Result<Vec<IpAddr>>) -> Arc<Resolver> {
        Arc::new(Resolver {
            names: Mutex::default(),
            changed: Condvar::new(),
            ask,
        })
    }

    /// The addresses of a host. `wait` says before each wait how long it may be; none: the time is over.
    ///
    /// # Errors
    /// There are none, or no answer came in time.
    pub fn addresses(
        self: &Arc<Resolver>,
        host: &str,
        mut wait: impl FnMut() -> Option<Duration>,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let asked = Instant::now();
        let mut names = lock(&self.names);
        loop {
            let lookup = names.entry(host.to_owned()).or_default();
            lookup.asked = Some(asked);
            if let Some((at, found)) = &lookup.found {
                if asked.saturating_duration_since(*at) < FRESH {
                    return found.clone().map_err(Unresolved::Failed);
                }
            }
            if !lookup.is_running {
                self.start(&mut names, host);
            }
            let Some(slice) = wait() else {
                let is_running = names.get(host).is_some_and(|lookup| lookup.is_running);
                return Err(Unresolved::Late(match is_running {
                    true => "the resolver does not answer".into(),
                    false => format!("{LOOKUPS_MAX} names are being looked up, which is the most"),
                }));
            };
            let woken = self.changed.wait_timeout(names, slice);
            names = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Starts a lookup, if there is a place for one.
    fn start(self: &Arc<Resolver>, names: &mut Names, host: &str) {
        let is_kept = |lookup: &Lookup| {
            lookup.is_running || lookup.asked.is_some_and(|asked| asked.elapsed() < KEPT)
        };
        names.retain(|_, lookup| is_kept(lookup));
        if names.values().filter(|lookup| lookup.is_running).count() >= LOOKUPS_MAX {
            return;
        }
        let (resolver, name) = (Arc::clone(self), host.to_owned());
        let thread = std::thread::Builder::new().name("resolver".into());
        let spawned = thread.spawn(move || {
            let found = (resolver.ask)(&name).map_err(|error| error.to_string());
            let mut names = lock(&resolver.names);
            if let Some(lookup) = names.get_mut(&name) {
                lookup.is_running = false;
                lookup.found = Some((Instant::now(), found));
            }
            drop(names);
            resolver.changed.notify_all();
        });
        if let Some(lookup) = names.get_mut(host) {
            match spawned {
                Ok(_) => lookup.is_running = true,
                Err(error) => {
                    lookup.found = Some((Instant::now(), Err(format!("no thread: {error}"))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// So many slices of 20 ms.
    fn slices(mut count: u32) -> impl FnMut() -> Option<Duration> {
        move || {
            count = count.checked_sub(1)?;
            Some(Duration::from_millis(20))
        }
    }

    #[test]
    fn addresses_need_nobody_and_names_are_asked_once_a_second() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::with(|host| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            match host {
                "a" => Ok(vec![[192, 0, 2, 1].into()]),
                _ => Err(io::Error::other("no such name")),
            }
        });
        let found = |host| resolver.addresses(host, slices(500));
        assert_eq!(found("::1"), Ok(vec!["::1".parse().expect("an address")]));
        assert_eq!(ASKED.load(Ordering::SeqCst), 0);
        for _ in 0..5 {
            assert_eq!(found("a"), Ok(vec![[192, 0, 2, 1].into()]));
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        assert_eq!(found("b"), Err(Unresolved::Failed("no such name".into())));
    }

    #[test]
    fn a_resolver_that_hangs_costs_a_bounded_number_of_threads() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static HANGS: Mutex<()> = Mutex::new(());
        let hang = lock(&HANGS);
        let resolver = Resolver::with(|_| {
            RUNNING.fetch_add(1, Ordering::SeqCst);
            drop(lock(&HANGS));
            Ok(vec![[192, 0, 2, 1].into()])
        });
        let late = |host: &str, why: &str| match resolver.addresses(host, slices(1)) {
            Err(Unresolved::Late(text)) => assert!(text.contains(why), "{text}"),
            other => panic!("{host}: {other:?}"),
        };
        for _ in 0..20 {
            late("same", "does not answer");
        }
        for name in 0..100 {
            late(&format!("n{name}"), "");
        }
        assert!(RUNNING.load(Ordering::SeqCst) <= LOOKUPS_MAX);
        late("another", "32 names are being looked up");
        drop(hang);
        // The thread of those who gave up answers whoever asks next.
        let found = resolver.addresses("same", slices(500));
        assert_eq!(found, Ok(vec![[192, 0, 2, 1].into()]));
        assert!(resolver.addresses("another", slices(500)).is_ok());
    }
}
