//! Analyzers over HTTP: `GET {endpoint}/health` again and again, and what follows from it.
//!
//! ```text
//!                      healthy, not in the roster          not healthy, in the roster
//!   check, one task -------------------------------> up, down <-----------------------
//!   per analyzer        weight at once the first time,
//!                       a slow start after a recovery
//! ```
//!
//! What the result of a check leads to is in verdict.rs. An analyzer that is healthy and refuses
//! everything is taken out for a while, or until too few others are left: outlier.rs.
//!
//! It goes by states, not by events: shards that gave an analyzer up after failed POSTs took it out of the
//! roster, and the next check that is well brings it back. What the operator ejected stays out until
//! it is resumed.

pub mod outlier;
mod probe;
pub mod ramps;
mod resolver;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_lite::future::or;

use self::outlier::{EjectRule, Streak};
use self::probe::Probe;
use self::resolver::Resolver;
use crate::core::{lock, Core};
use crate::executor::bell::{Bell, News};
use crate::executor::{sleep, Context};
use crate::view::row::HttpStatus;
use crate::Settings;
use weir_config::{Endpoint, HttpAnalyzer, HTTP_ANALYZERS_MAX};

/// One of them, over time.
struct Checked {
    id: Arc<str>,
    endpoint: Endpoint,
    /// That it comes back with.
    weight: f64,
    /// Changes when it is removed and added again: the task of the old one ends.
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
    bell: Bell,
    interval: Duration,
    probe: Probe,
    slow_start: Mutex<Duration>,
    eject: EjectRule,
}

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
    pub(super) fn new(settings: &Settings, bell: &Bell) -> Checks {
        Checks {
            table: Mutex::default(),
            bell: bell.clone(),
            interval: settings.health_interval,
            probe: Probe {
                timeout: settings.health_timeout,
                resolver: Resolver::system(bell),
                own: settings.own.clone(),
                via: settings.via.clone(),
            },
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

    /// Waits until it is removed.
    async fn removed(&self, id: &str, number: u64) {
        let is_removed = || self.look(id, number).is_none().then_some(());
        self.bell.until(News::Change, is_removed).await;
    }

    /// Those that were added after number `seen`.
    fn newer(&self, seen: u64) -> Vec<(Arc<str>, u64)> {
        let table = lock(&self.table);
        let newer = table.checked.values().filter(|one| one.number > seen);
        newer.map(|one| (Arc::clone(&one.id), one.number)).collect()
    }
}

/// Checks all that are in the table, each in a task of its own.
pub async fn run(context: Context) {
    let checks = &context.core.checks;
    let mut seen = 0;
    loop {
        let newer = checks.bell.until(News::Change, || {
            let newer = checks.newer(seen);
            (!newer.is_empty()).then_some(newer)
        });
        for (id, number) in newer.await {
            seen = seen.max(number);
            context.spawn("health check", watch(context.clone(), id, number));
        }
    }
}

/// Checks one again and again, until it is removed.
async fn watch(context: Context, id: Arc<str>, number: u64) {
    let checks = &context.core.checks;
    while let Some((endpoint, at)) = checks.look(&id, number) {
        let result = async { Some(checks.probe.check(&endpoint, at).await) };
        let removed = async {
            checks.removed(&id, number).await;
            None
        };
        let Some(result) = or(result, removed).await else {
            return;
        };
        let next = verdict::judge(&context.core, &id, number, result);
        if next != verdict::Move::Nothing {
            let (core, id) = (Arc::clone(&context.core), Arc::clone(&id));
            let carry_out = move || verdict::carry_out(&core, &id, number, next);
            context.hand.run(carry_out).await;
        }
        or(sleep(checks.interval), checks.removed(&id, number)).await;
    }
}

/// Adds an analyzer and checks it from now on.
///
/// # Errors
/// There is one of that id, or there are too many.
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
    {
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
    }
    core.bell.ring(News::Change);
    Ok(())
}

/// Removes an analyzer; what it has not ACKed goes to others. False: there is none of that id.
pub fn remove(core: &Core, id: &str) -> bool {
    let removed = lock(&core.checks.table).checked.remove(id);
    core.bell.ring(News::Change);
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
