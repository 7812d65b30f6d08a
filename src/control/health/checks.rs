//! The table of analyzers over HTTP: what is known of each, and what the operator wants of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::groups::Groups;
use super::outlier::{EjectRule, Streak};
use super::probe::Probe;
use super::resolver::Resolver;
use crate::executor::bell::{Bell, News};
use crate::lock::lock;
use crate::settings::Settings;
use crate::view::row::HttpStatus;
use weir_config::{HttpAnalyzer, Place};

/// One of them, over time.
pub(super) struct Checked {
    pub(super) id: Arc<str>,
    pub(super) place: Place,
    /// That it comes back with.
    pub(super) weight: f64,
    /// Changes when it is removed and added again: the task of the old one ends.
    pub(super) number: u64,
    /// In the roster under this generation, since then.
    pub(super) up: Option<(u64, Instant)>,
    /// Where it was well last, and POSTs go while it is in the roster.
    pub(super) at: Option<SocketAddr>,
    pub(super) was_up: bool,
    pub(super) is_healthy: Option<bool>,
    pub(super) last_check_ms: Option<u64>,
    pub(super) failures: u64,
    pub(super) ejected: bool,
    pub(super) error: Option<String>,
    pub(super) streak: Streak,
    /// Why it cannot be taken in though it is well, and how often that was tried.
    pub(super) kept_out: Option<(String, u64)>,
    /// Out until then, for what it refused, and why.
    pub(super) out: Option<(Instant, String)>,
    pub(super) ejections: u64,
    /// Of those: in a row, without a packet that it took.
    pub(super) ejections_in_a_row: u32,
}

impl Checked {
    pub(super) fn new(analyzer: &HttpAnalyzer, number: u64) -> Checked {
        Checked {
            id: analyzer.id().into(),
            place: analyzer.place().clone(),
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
        }
    }
}

/// All of them.
pub struct Checks {
    pub(super) table: Mutex<Table>,
    pub(super) bell: Bell,
    pub(super) interval: Duration,
    pub(super) probe: Probe,
    slow_start: Mutex<Duration>,
    pub(super) eject: EjectRule,
    /// Those whose members come and go.
    pub groups: Groups,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) checked: BTreeMap<Arc<str>, Checked>,
    pub(super) numbers: u64,
}

impl Table {
    /// Those that are out now, for what they refused.
    pub(super) fn out(&self) -> BTreeSet<Arc<str>> {
        let now = Instant::now();
        let is_out = |one: &&Checked| one.out.as_ref().is_some_and(|(until, _)| now < *until);
        let out = self.checked.values().filter(is_out);
        out.map(|one| Arc::clone(&one.id)).collect()
    }
}

impl Checks {
    pub(crate) fn new(settings: &Settings, bell: &Bell) -> Checks {
        Checks {
            table: Mutex::default(),
            bell: bell.clone(),
            interval: settings.health_interval,
            probe: Probe {
                timeout: settings.health_timeout,
                resolver: Resolver::new(bell, &settings.nameservers),
                own: settings.own.clone(),
                via: settings.via.clone(),
            },
            slow_start: Mutex::new(settings.slow_start),
            eject: settings.eject,
            groups: Groups::new(weir_discover::Resolver::new(settings.nameservers.clone())),
        }
    }

    /// One of this id is checked.
    pub(super) fn has(&self, id: &str) -> bool {
        lock(&self.table).checked.contains_key(id)
    }

    /// For whoever looks.
    pub fn status(&self) -> Vec<HttpStatus> {
        let table = lock(&self.table);
        let status = |checked: &Checked| HttpStatus {
            id: Arc::clone(&checked.id),
            endpoint: checked.place.to_string(),
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

    /// The weight that it comes back with. False: no analyzer over HTTP has that id.
    pub fn set_weight(&self, id: &str, weight: f64) -> bool {
        let mut table = lock(&self.table);
        let checked = table.checked.get_mut(id);
        checked.map(|checked| checked.weight = weight).is_some()
    }

    /// Still this one, and what of it a check needs.
    pub(super) fn look(&self, id: &str, number: u64) -> Option<(Place, Option<SocketAddr>)> {
        let table = lock(&self.table);
        let checked = table.checked.get(id)?;
        (checked.number == number).then(|| (checked.place.clone(), checked.at))
    }

    /// Waits until it is removed.
    pub(super) async fn removed(&self, id: &str, number: u64) {
        let is_removed = || self.look(id, number).is_none().then_some(());
        self.bell.until(News::Change, is_removed).await;
    }

    /// Those that were added after number `seen`.
    pub(super) fn newer(&self, seen: u64) -> Vec<(Arc<str>, u64)> {
        let table = lock(&self.table);
        let newer = table.checked.values().filter(|one| one.number > seen);
        newer.map(|one| (Arc::clone(&one.id), one.number)).collect()
    }
}
