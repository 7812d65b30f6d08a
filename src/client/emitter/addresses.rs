//! Where connections of the emitter go: what discovery finds, in turn.
//!
//! ```text
//!   connection --broke--> ask discovery to look again
//!              --next---> the address whose turn it is, of the newest set
//!              --failed-> left out for a while; the connection tries another at once
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir_discover::{Resolver, Rota, Targets, Watch, Watcher};

/// How often it is looked whether the first lookup is still wanted.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Shared by all threads of one emitter.
pub struct Addresses {
    watcher: Watcher,
    rota: Mutex<Turns>,
}

struct Turns {
    version: u64,
    rota: Rota,
}

impl Addresses {
    /// Looks once, and goes on looking.
    ///
    /// # Errors
    /// A text that is no target, or a plain `HOST:PORT` that has no address, or had none when `stop` was raised: what is
    /// named otherwise may come later.
    pub fn start(
        addr: &str,
        nameservers: &[SocketAddr],
        seed: u64,
        stop: &AtomicBool,
    ) -> io::Result<Addresses> {
        let targets: Targets = addr.parse().map_err(io::Error::other)?;
        let is_plain = targets.single().is_some();
        let mut watch = Watch::new(targets, Resolver::new(nameservers.to_vec()));
        if is_plain {
            watch.look();
            while watch.is_waiting() && !stop.load(Ordering::Acquire) {
                watch.hear(STOP_LOOK_EVERY);
            }
            if watch.is_waiting() {
                let text = format!(
                    "stopped before a nameserver answered for {}",
                    watch.targets()
                );
                return Err(io::Error::other(text));
            }
            if watch.set().is_empty() {
                let why = watch.problems().join("; ");
                return Err(io::Error::other(format!("address {why}")));
            }
        }
        let watcher = Watcher::start(watch)?;
        let turns = Turns {
            version: watcher.version(),
            rota: Rota::new(&watcher.set(), seed),
        };
        Ok(Addresses {
            watcher,
            rota: Mutex::new(turns),
        })
    }

    /// In the newest set.
    fn turns(&self) -> MutexGuard<'_, Turns> {
        let mut turns = self.rota.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.watcher.version();
        if turns.version != version {
            turns.version = version;
            turns.rota.set(&self.watcher.set());
        }
        turns
    }

    /// Whose turn it is; none while nothing is found.
    pub fn next(&self) -> Option<SocketAddr> {
        self.turns().rota.next(Instant::now())
    }

    /// The host of an address as the operator wrote it; none where DNS has said it.
    pub fn host_of(&self, addr: SocketAddr) -> Option<String> {
        let set = self.watcher.set();
        let endpoint = set.iter().find(|it| it.addrs.contains(&addr))?;
        endpoint.host.clone()
    }

    /// It does not answer. Whether another one is worth a try at once, after so many in a row.
    pub fn failed(&self, addr: SocketAddr, tried: usize) -> bool {
        let (mut turns, now) = (self.turns(), Instant::now());
        turns.rota.failed(addr, now);
        tried < turns.rota.len() && turns.rota.in_count(now) > 0
    }

    /// It answers.
    pub fn worked(&self, addr: SocketAddr) {
        self.turns().rota.worked(addr);
    }

    /// Has discovery look again soon; does not wait.
    pub fn ask(&self) {
        self.watcher.ask();
    }

    /// As they were given.
    pub fn text(&self) -> String {
        self.watcher.targets().to_string()
    }
}
