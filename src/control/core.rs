//! What all tasks of the control side share.
//!
//! ```text
//! questions.rs   what the shards ask; event streams   --.
//! listener.rs    the admin listener                   --+--> Core --> DataPlane    orders to the shards
//! health/        analyzers over HTTP                  --+        `--> State   what is shown, made of their reports
//! lib.rs         a step of the ramps each 100 ms      --'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::admin_port::AdminPort;
use crate::data_plane::DataPlane;
use crate::executor::bell::{Bell, News};
use crate::health::checks::Checks;
use crate::health::ramps::{Ramp, Ramps};
use crate::lock::lock;
use crate::settings::{Reloader, Settings, TapSource};
use crate::view::state::State;
use weir_config::{Cors, Hosts, Stranger, Token};
use weir_engine::{Order, Wanted};
use weir_ledger::run_report::Stamp;
use weir_shard::OrderRefused;
use weir_tls::SecuredLink;

/// A state that is older than this is made anew before it is shown.
const FRESH_NS: u64 = 150_000_000;

/// See the head of this file.
pub struct Core {
    /// The shards.
    pub data_plane: Box<dyn DataPlane>,
    /// Weights on their way. Whoever orders a weight holds `orders` meanwhile.
    pub ramps: Mutex<Ramps>,
    /// One order of a weight at a time, so that no ramp's step comes after what replaced it.
    pub orders: Mutex<()>,
    /// Analyzers over HTTP.
    pub checks: Checks,
    /// Who may change anything, and who may look.
    guards: Mutex<Guards>,
    /// As [`Settings::chained_input`].
    pub chained_input: Option<String>,
    /// For `GET /admin/config`.
    pub configuration: BTreeMap<String, String>,
    /// For `POST /admin/reload`.
    pub reloader: Option<Arc<dyn Reloader>>,
    /// For `GET /admin/tap`.
    pub tap: Option<Box<dyn TapSource>>,
    /// TLS of the admin API, where it speaks that.
    admin_tls: Option<Arc<AdminPort>>,
    /// Wakes the executor's tasks.
    pub bell: Bell,
    state: Mutex<State>,
    draining: AtomicBool,
    over: AtomicBool,
}

/// What a reload may change.
struct Guards {
    token: Option<Token>,
    cors: Cors,
    hosts: Hosts,
    key_log: Option<PathBuf>,
}

impl Core {
    /// From what the distributor was told.
    pub fn new(data_plane: Box<dyn DataPlane>, settings: Settings) -> Core {
        let bell = Bell::default();
        let mut state = State::new(settings.started, settings.buffer_bytes);
        state.wanted = settings.wanted.clone();
        state.instance.clone_from(&settings.instance);
        Core {
            data_plane,
            ramps: Mutex::default(),
            orders: Mutex::default(),
            checks: Checks::new(&settings, &bell),
            bell,
            guards: Mutex::new(Guards {
                token: settings.token,
                cors: settings.cors,
                hosts: settings.hosts,
                key_log: settings.key_log,
            }),
            chained_input: settings.chained_input,
            configuration: settings.configuration,
            reloader: settings.reloader,
            tap: settings.tap,
            admin_tls: settings.admin_tls,
            state: Mutex::new(state),
            draining: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Who may change anything over TCP.
    pub fn token(&self) -> Option<Token> {
        lock(&self.guards).token.clone()
    }

    /// Which web pages may look.
    pub fn cors(&self) -> Cors {
        lock(&self.guards).cors.clone()
    }

    /// From now on others may.
    pub fn set_protection(&self, token: Option<Token>, cors: Cors, hosts: Hosts) {
        let mut guards = lock(&self.guards);
        (guards.token, guards.cors, guards.hosts) = (token, cors, hosts);
    }

    /// Where the secrets of connections to analyzers go that are added from now on.
    pub fn set_key_log(&self, path: Option<PathBuf>) {
        lock(&self.guards).key_log = path;
    }

    /// Where they go.
    pub(crate) fn key_log(&self) -> Option<PathBuf> {
        lock(&self.guards).key_log.clone()
    }

    /// Whether a browser that asks for this host, for a page of this origin, may be answered.
    ///
    /// # Errors
    /// What it must not say.
    pub fn check_site(&self, host: &str, origin: Option<&str>) -> Result<(), Stranger> {
        let guards = lock(&self.guards);
        guards.hosts.check(host, origin, &guards.cors)
    }

    /// The state, a quarter of a second old at most: reports are a tenth old themselves.
    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        let now = Stamp::now();
        let age_ns = now.mono_ns.saturating_sub(state.now.mono_ns);
        state.ramps = lock(&self.ramps).status(now.mono_ns);
        state.draining = self.draining.load(Ordering::Acquire);
        if state.reports.is_empty() || age_ns >= FRESH_NS {
            state.http = self.checks.status();
            state.groups = self.checks.groups.status();
            state.refused = self.data_plane.refused_counts();
            state.certificates = self.data_plane.certificates();
            state.why_down = self.data_plane.why_down();
            let links = self.checks.links();
            let of = |link: &Arc<SecuredLink>| (link.label().to_owned(), link.certificates());
            state.link_certificates = links.iter().map(of).collect();
            state.admin_tls = self.admin_tls.as_ref().map(|port| port.counts());
            state.config_problem = self.reloader.as_ref().and_then(|it| it.problem());
            state.note(now, self.data_plane.reports());
        }
        state
    }

    /// Weight of an analyzer in the newest roster: shards publish one as soon as they follow it.
    pub fn weight_now(&self, id: &str) -> Option<f64> {
        let reports = self.data_plane.reports();
        let mut entries = reports.first()?.roster.entries.iter();
        let entry = entries.find(|entry| *entry.name == *id);
        entry.map(|entry| entry.weight)
    }

    /// Something that the operator did, for the list of events.
    pub fn tell(&self, tone: &'static str, analyzer: &Arc<str>, text: String) {
        let mut state = lock(&self.state);
        let now = Stamp::now();
        state.events.push(now, tone, Arc::clone(analyzer), text);
    }

    /// From now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// All threads end.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.bell.ring(News::Change);
    }

    /// Waits until they shall.
    pub async fn over(&self) {
        let is_over = || self.is_over().then_some(());
        self.bell.until(News::Change, is_over).await;
    }

    /// They shall.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// What the configuration says of an analyzer's weight, in place of a ramp that is under way.
    pub fn own_weight(&self, id: &str, weight: f64) {
        let _one_at_a_time = lock(&self.orders);
        lock(&self.ramps).end(id);
        let name = id.into();
        // Offline now: it comes back with the new weight.
        let _ = self.data_plane.order(Order::OwnWeight { name, weight });
    }

    /// Begins a ramp, and wakes the task that takes its steps.
    ///
    /// # Errors
    /// As [`Ramps::begin`].
    pub fn begin_ramp(&self, analyzer: &Arc<str>, ramp: Ramp) -> Result<(), String> {
        lock(&self.ramps).begin(Arc::clone(analyzer), ramp)?;
        self.bell.ring(News::Change);
        Ok(())
    }

    /// Other weights are wanted. A ramp ends where that says something else of its analyzer; what the operator has
    /// pinned holds against it.
    ///
    /// # Errors
    /// Nobody answers; the shards may still take it.
    pub fn want(&self, table: Arc<[Wanted]>) -> Result<(), OrderRefused> {
        let _one_at_a_time = lock(&self.orders);
        let before = std::mem::replace(&mut lock(&self.state).wanted, Arc::clone(&table));
        let of = |table: &[Wanted]| -> BTreeMap<Arc<str>, (u64, bool)> {
            let one = |one: &Wanted| (Arc::clone(&one.name), (one.weight.to_bits(), one.pin));
            table.iter().map(one).collect()
        };
        let (old, new) = (of(&before), of(&table));
        let names = old.keys().chain(new.keys());
        let changed: BTreeSet<&Arc<str>> = names
            .filter(|name| old.get(*name) != new.get(*name))
            .collect();
        {
            let mut ramps = lock(&self.ramps);
            changed.iter().for_each(|name| ramps.end(name));
        }
        let order = Order::Wanted {
            table: Arc::clone(&table),
        };
        self.data_plane.order(order)?;
        for one in table.iter().filter(|one| changed.contains(&one.name)) {
            let (name, weight) = (Arc::clone(&one.name), one.weight);
            // One over HTTP comes back with it, and has it now if it is there.
            if self.checks.set_weight(&name, weight) {
                let _ = self.data_plane.order(Order::OwnWeight { name, weight });
            }
        }
        Ok(())
    }

    /// One step of all ramps.
    pub fn step_ramps(&self) {
        let _one_at_a_time = lock(&self.orders);
        let steps = lock(&self.ramps).steps(Stamp::now().mono_ns);
        for step in steps {
            let (name, weight) = (Arc::clone(&step.analyzer), step.weight);
            // A slow start is the analyzer's own affair: it waits behind a pin, and moves none.
            let order = match step.is_slow_start {
                true => Order::OwnWeight { name, weight },
                false => Order::Weight {
                    name,
                    weight,
                    pin: step.pin,
                },
            };
            if let Err(error) = self.data_plane.order(order) {
                log::warn!("ramp ended analyzer={:?}: {error}", step.analyzer);
                lock(&self.ramps).end(&step.analyzer);
            }
        }
    }
}
