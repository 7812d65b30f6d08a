//! Analyzers over HTTP: `GET {endpoint}/health` again and again, and what follows from it.
//!
//! ```text
//!                      healthy, not in the roster          not healthy, in the roster
//!   check, one thread -----------------------------> up, down <-----------------------
//!   per analyzer        weight at once the first time,
//!                       a slow start after a recovery
//! ```
//!
//! What the result of a check leads to is in health_check/verdict.rs. An analyzer that is healthy and refuses
//! everything is taken out for a while, or until too few others are left: outlier.rs.
//!
//! It goes by states, not by events: shards that gave an analyzer up after failed POSTs took it out of the
//! roster, and the next check that is well brings it back. What the operator ejected stays out until
//! it is resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::core::{lock, Core};
use super::outlier::{EjectRule, Streak};
use super::probe::Probe;
use super::resolver::Resolver;
use super::state::HttpStatus;
use super::Settings;
use weir_config::{Endpoint, HttpAnalyzer, HTTP_ANALYZERS_MAX};

mod verdict;

/// One of them, over time.
struct Checked {
    id: Arc<str>,
    endpoint: Endpoint,
    /// That it comes back with.
    weight: f64,
    /// Changes when it is removed and added again: the thread of the old one ends.
    number: u64,
    /// In the roster under this generation, since then.
    up: Option<(u64, Instant)>,
    /// Where it was well last, and POSTs go while it is in the roster.
    at: Option<SocketAddr>,
    was_up: bool,
    is_healthy: Option<bool>,
    last_check_ms: Option<u64>,
    failures: u64,
    ejected: bool,
    error: Option<String>,
    streak: Streak,
    /// Why it cannot be taken in though it is well, and how often that was tried.
    kept_out: Option<(String, u64)>,
    /// Out until then, for what it refused, and why.
    out: Option<(Instant, String)>,
    ejections: u64,
    /// Of those: in a row, without a packet that it took.
    ejections_in_a_row: u32,
}

/// All of them.
pub struct Checks {
    table: Mutex<Table>,
    changed: Condvar,
    interval: Duration,
    probe: Probe,
    /// Threads that check, those included whose analyzer was removed and whose last check is not over.
    threads: Arc<AtomicUsize>,
    slow_start: Mutex<Duration>,
    eject: EjectRule,
}

/// Most of these threads.
const THREADS_MAX: usize = HTTP_ANALYZERS_MAX + 64;

#[derive(Default)]
struct Table {
    checked: BTreeMap<Arc<str>, Checked>,
    numbers: u64,
}

impl Table {
    /// Those that are out now, for what they refused.
    fn out(&self) -> BTreeSet<Arc<str>> {
        let now = Instant::now();
        let is_out = |one: &&Checked| one.out.as_ref().is_some_and(|(until, _)| now < *until);
        let out = self.checked.values().filter(is_out);
        out.map(|one| Arc::clone(&one.id)).collect()
    }
}

impl Checks {
    pub(super) fn new(settings: &Settings) -> Checks {
        Checks {
            table: Mutex::default(),
            changed: Condvar::new(),
            interval: settings.health_interval,
            probe: Probe {
                timeout: settings.health_timeout,
                resolver: Resolver::system(),
                own: settings.own.clone(),
                via: settings.via.clone(),
            },
            threads: Arc::default(),
            slow_start: Mutex::new(settings.slow_start),
            eject: settings.eject,
        }
    }

    /// For whoever looks.
    pub fn status(&self) -> Vec<HttpStatus> {
        let table = lock(&self.table);
        let status = |checked: &Checked| HttpStatus {
            id: Arc::clone(&checked.id),
            endpoint: checked.endpoint.to_string(),
            weight: checked.weight,
            is_healthy: checked.is_healthy,
            last_health_check: checked.last_check_ms,
            consecutive_failures: checked.failures,
            ejected: checked.ejected,
            ejections: checked.ejections,
            error: checked.error.clone(),
        };
        table.checked.values().map(status).collect()
    }

    /// Threads look whether they shall end, or check at once.
    pub(super) fn wake(&self) {
        // Whoever is about to wait has the lock.
        drop(lock(&self.table));
        self.changed.notify_all();
    }

    /// It stays out, or may come back. None: no analyzer over HTTP of that name is configured; else
    /// the generation that is to be taken out now, if it is in.
    pub fn eject(&self, id: &str, ejected: bool) -> Option<Option<u64>> {
        let mut table = lock(&self.table);
        let checked = table.checked.get_mut(id)?;
        checked.ejected = ejected;
        if !ejected {
            checked.out = None;
        }
        let up = if ejected { checked.up.take() } else { None };
        Some(up.map(|(generation, _)| generation))
    }

    /// Time in which one that comes back gets its whole weight.
    pub fn slow_start(&self) -> Duration {
        *lock(&self.slow_start)
    }

    /// Another, for those that come back from now on.
    pub fn set_slow_start(&self, slow_start: Duration) {
        *lock(&self.slow_start) = slow_start;
    }

    /// The weight that it comes back with.
    pub fn set_weight(&self, id: &str, weight: f64) {
        if let Some(checked) = lock(&self.table).checked.get_mut(id) {
            checked.weight = weight;
        }
    }

    /// Still this one, and what of it a check needs.
    fn look(&self, id: &str, number: u64) -> Option<(Endpoint, Option<SocketAddr>)> {
        let table = lock(&self.table);
        let checked = table.checked.get(id)?;
        (checked.number == number).then(|| (checked.endpoint.clone(), checked.at))
    }

    /// Sleeps until the next check is due. False: it was removed, or all end.
    fn rest(&self, core: &Core, id: &str, number: u64) -> bool {
        let due = Instant::now() + self.interval;
        let mut table = lock(&self.table);
        loop {
            let stays = table
                .checked
                .get(id)
                .is_some_and(|one| one.number == number);
            if core.is_over() || !stays {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let woken = self.changed.wait_timeout(table, left);
            table = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A thread that is counted while it runs.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(threads: &Arc<AtomicUsize>) -> Result<Counted, String> {
        let counted = Counted(Arc::clone(threads));
        if threads.fetch_add(1, Ordering::Relaxed) >= THREADS_MAX {
            return Err(format!(
                "{THREADS_MAX} health checks are under way, those of removed analyzers included; try again in a moment"
            ));
        }
        Ok(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds an analyzer and checks it from now on.
///
/// # Errors
/// There is one of that id, there are too many, or no thread could be had.
pub fn add(core: &Arc<Core>, analyzer: &HttpAnalyzer) -> Result<(), String> {
    add_if(core, analyzer, true)
}

/// The same at the start: another kind of analyzer that was quicker to take the id keeps it, and this one comes
/// up when that has gone. A start does not fail for it.
///
/// # Errors
/// As [`add`] otherwise.
pub fn add_at_start(core: &Arc<Core>, analyzer: &HttpAnalyzer) -> Result<(), String> {
    add_if(core, analyzer, false)
}

fn add_if(core: &Arc<Core>, analyzer: &HttpAnalyzer, must_be_free: bool) -> Result<(), String> {
    let id: Arc<str> = analyzer.id().into();
    core.checks.probe.own.check_endpoint(analyzer.endpoint())?;
    let thread = Counted::new(&core.checks.threads)?;
    let number = {
        let mut table = lock(&core.checks.table);
        if let Some(there) = table.checked.get(&id) {
            let endpoint = &there.endpoint;
            return Err(format!(
                "id {id:?}: in use by {endpoint}; allowed: another id"
            ));
        }
        if table.checked.len() >= HTTP_ANALYZERS_MAX {
            return Err(format!(
                "analyzers over HTTP: {HTTP_ANALYZERS_MAX} are configured, which is the most"
            ));
        }
        let holder = core.deck.claim(&id, analyzer.endpoint().to_string());
        if let Some(holder) = holder.filter(|_| must_be_free) {
            core.deck.unclaim(&id);
            return Err(format!(
                "id {id:?}: in use by {holder}; allowed: another id"
            ));
        }
        table.numbers += 1;
        let number = table.numbers;
        let checked = Checked {
            id: Arc::clone(&id),
            endpoint: analyzer.endpoint().clone(),
            weight: analyzer.weight(),
            number,
            up: None,
            at: None,
            was_up: false,
            is_healthy: None,
            last_check_ms: None,
            failures: 0,
            ejected: false,
            error: None,
            streak: Streak::default(),
            kept_out: None,
            out: None,
            ejections: 0,
            ejections_in_a_row: 0,
        };
        table.checked.insert(Arc::clone(&id), checked);
        number
    };
    let shared = Arc::clone(core);
    let name = Arc::clone(&id);
    let spawned = std::thread::Builder::new()
        .name(format!("health-{number}"))
        .spawn(move || {
            let _thread = thread;
            while let Some((endpoint, at)) = shared.checks.look(&name, number) {
                let stays = || !shared.is_over() && shared.checks.look(&name, number).is_some();
                let result = shared.checks.probe.check(&endpoint, at, stays);
                verdict::apply(&shared, &name, number, result);
                if !shared.checks.rest(&shared, &name, number) {
                    return;
                }
            }
        });
    spawned.map(drop).map_err(|error| {
        lock(&core.checks.table).checked.remove(&id);
        core.deck.unclaim(&id);
        format!("thread for the checks of {id:?}: {error}")
    })
}

/// Removes an analyzer; what it has not ACKed goes to others. False: there is none of that id.
pub fn remove(core: &Core, id: &str) -> bool {
    let removed = lock(&core.checks.table).checked.remove(id);
    core.checks.changed.notify_all();
    let Some(removed) = removed else {
        return false;
    };
    core.deck.unclaim(id);
    lock(&core.ramps).end(id);
    if let Some((generation, _)) = removed.up {
        if let Err(error) = core.deck.http_down(generation) {
            log::warn!("analyzer {id:?} was removed, but: {error}");
        }
    }
    true
}

#[cfg(test)]
mod tests;
