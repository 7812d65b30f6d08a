//! The table of analyzers over HTTP: what is known of each, and what the operator wants of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::groups::Groups;
use super::outlier::{EjectRule, Streak};
use super::probe::Probe;
use super::resolver::Resolver;
use crate::executor::bell::{Bell, News};
use crate::executor::time::sleep;
use crate::lock::lock;
use crate::settings::Settings;
use crate::view::row::HttpStatus;
use weir_config::{HttpAnalyzer, Place};
use weir_local::{Keeper, Keepers};
use weir_protocol::text::Time;
use weir_shard::{At, LocalEnds};
use weir_tls::SecuredLink;

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
    /// Where it was well last, and messages go while it is in the roster.
    pub(super) at: Option<At>,
    /// Of one on this host that is no server.
    pub(super) keeper: Option<Arc<Keeper>>,
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
    pub(super) fn new(
        analyzer: &HttpAnalyzer,
        number: u64,
        keeper: Option<Arc<Keeper>>,
    ) -> Checked {
        Checked {
            id: analyzer.id().into(),
            place: analyzer.place().clone(),
            weight: analyzer.weight(),
            number,
            up: None,
            at: None,
            keeper,
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

/// What a check needs of one.
pub(super) struct Looked {
    pub(super) place: Place,
    pub(super) at: Option<SocketAddr>,
    pub(super) keeper: Option<Arc<Keeper>>,
}

/// All of them.
pub struct Checks {
    pub(super) table: Mutex<Table>,
    pub(super) bell: Bell,
    pub(super) interval: Duration,
    pub(super) probe: Probe,
    slow_start: Mutex<Duration>,
    keepers: Keepers,
    shards: u16,
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
            keepers: Keepers::default(),
            shards: settings.shards,
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

    /// How TLS is begun with each that it is spoken to; groups once.
    pub fn links(&self) -> Vec<Arc<SecuredLink>> {
        let mut links = self.groups.links();
        let table = lock(&self.table);
        let all = table.checked.values();
        for link in all.filter_map(|one| one.place.delivery.link()) {
            // A member has its group's.
            if !links.iter().any(|other| Arc::ptr_eq(other, link)) {
                links.push(Arc::clone(link));
            }
        }
        links
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
    pub(super) fn look(&self, id: &str, number: u64) -> Option<Looked> {
        let table = lock(&self.table);
        let checked = table.checked.get(id)?;
        (checked.number == number).then(|| Looked {
            place: checked.place.clone(),
            at: checked.at.as_ref().map(At::address),
            keeper: checked.keeper.clone(),
        })
    }

    /// The keeper of an analyzer on this host; none: it is a server.
    ///
    /// # Errors
    /// There is no thread, or no descriptor.
    pub(super) fn keeper(
        &self,
        id: &Arc<str>,
        analyzer: &HttpAnalyzer,
    ) -> Result<Option<Arc<Keeper>>, String> {
        let Some(local) = analyzer.delivery().local() else {
            return Ok(None);
        };
        let bell = self.bell.clone();
        let told = move || bell.ring(News::Change);
        let keeper = Keeper::start(&self.keepers, id, local, self.shards, told);
        let keeper = keeper.map_err(|error| format!("analyzer {id:?}: {error}"))?;
        Ok(Some(Arc::new(keeper)))
    }

    /// How one on this host stands. What is not known yet is waited for, as long as a check may take.
    pub(super) async fn look_at(&self, keeper: &Keeper) -> Result<Arc<LocalEnds>, String> {
        let known = self.bell.until(News::Change, || keeper.look());
        let late = async {
            sleep(self.probe.timeout).await;
            let time = Time(self.probe.timeout);
            Err(format!(
                "it is not open within {time}, or does not come to an end"
            ))
        };
        or(known, late).await
    }

    /// Waits until it stands otherwise.
    pub(super) async fn changed(&self, keeper: &Keeper, seen: u64) {
        let has_changed = || (keeper.changes() != seen).then_some(());
        self.bell.until(News::Change, has_changed).await;
    }

    /// All analyzers on this host that are no servers shall end. How long that may take.
    pub(crate) fn end_local(&self) -> Duration {
        let table = lock(&self.table);
        let ended = table.checked.values().filter_map(|checked| {
            checked.keeper.as_ref()?.end();
            checked.place.delivery.local().map(Keeper::patience)
        });
        ended.max().unwrap_or_default()
    }

    /// Waits until they have, for so long at most.
    pub(crate) fn wait_local(&self, patience: Duration) {
        self.keepers.wait(patience);
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
