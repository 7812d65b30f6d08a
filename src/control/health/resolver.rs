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
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::executor::bell::{Bell, News};
use crate::executor::time::within;
use crate::lock::lock;
use weir_clock::Limit;

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

/// Addresses, or why there are none.
type Found = Result<Vec<IpAddr>, String>;

#[derive(Default)]
struct Lookup {
    is_running: bool,
    found: Option<(Instant, Found)>,
    asked: Option<Instant>,
}

type Names = BTreeMap<String, Lookup>;

/// See the head of this file.
pub struct Resolver {
    names: Mutex<Names>,
    bell: Bell,
    ask: Box<Asks>,
}

type Asks = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

impl Resolver {
    /// The system's, or these nameservers; rings when a lookup is over.
    pub fn new(bell: &Bell, nameservers: &[SocketAddr]) -> Arc<Resolver> {
        let resolver = weir_discover::Resolver::new(nameservers.to_vec());
        Resolver::with(bell, move |host| {
            resolver.ips(host).map_err(io::Error::other)
        })
    }

    fn with(
        bell: &Bell,
        ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Arc<Resolver> {
        Arc::new(Resolver {
            names: Mutex::default(),
            bell: bell.clone(),
            ask: Box::new(ask),
        })
    }

    /// The addresses of a host, waited for within the limit.
    ///
    /// # Errors
    /// There are none, or no answer came in time.
    pub async fn addresses(
        self: &Arc<Resolver>,
        host: &str,
        limit: &mut Limit,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let asked = Instant::now();
        let found = self.bell.until(News::Name, || self.look(host, asked));
        match within(limit, found).await {
            Some(found) => found.map_err(Unresolved::Failed),
            None => Err(Unresolved::Late(self.why_late(host))),
        }
    }

    /// What is known of a host by whoever asked then; a lookup is under way afterwards if that is nothing and there
    /// is a place for one.
    fn look(self: &Arc<Resolver>, host: &str, asked: Instant) -> Option<Found> {
        if let Ok(ip) = host.parse() {
            return Some(Ok(vec![ip]));
        }
        let mut names = lock(&self.names);
        let lookup = names.entry(host.to_owned()).or_default();
        lookup.asked = Some(asked);
        if let Some((at, found)) = &lookup.found {
            if asked.saturating_duration_since(*at) < FRESH {
                return Some(found.clone());
            }
        }
        if !lookup.is_running {
            self.start(&mut names, host);
        }
        None
    }

    fn why_late(&self, host: &str) -> String {
        let names = lock(&self.names);
        match names.get(host).is_some_and(|lookup| lookup.is_running) {
            true => "the resolver does not answer".into(),
            false => format!("{LOOKUPS_MAX} names are being looked up, which is the most"),
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
            resolver.bell.ring(News::Name);
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

    /// Asks as a check does, without an executor: so many looks, 20 ms apart.
    fn addresses(
        resolver: &Arc<Resolver>,
        host: &str,
        looks: u32,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let asked = Instant::now();
        for _ in 0..looks {
            if let Some(found) = resolver.look(host, asked) {
                return found.map_err(Unresolved::Failed);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Unresolved::Late(resolver.why_late(host)))
    }

    #[test]
    fn addresses_need_nobody_and_names_are_asked_once_a_second() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::with(&Bell::default(), |host| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            match host {
                "a" => Ok(vec![[192, 0, 2, 1].into()]),
                _ => Err(io::Error::other("no such name")),
            }
        });
        let found = |host| addresses(&resolver, host, 500);
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
        let resolver = Resolver::with(&Bell::default(), |_| {
            RUNNING.fetch_add(1, Ordering::SeqCst);
            drop(lock(&HANGS));
            Ok(vec![[192, 0, 2, 1].into()])
        });
        let late = |host: &str, why: &str| match addresses(&resolver, host, 1) {
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
        let found = addresses(&resolver, "same", 500);
        assert_eq!(found, Ok(vec![[192, 0, 2, 1].into()]));
        assert!(addresses(&resolver, "another", 500).is_ok());
    }
}
