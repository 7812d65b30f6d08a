//! The distributor's control side, made of its configuration; what a reload changes.
//!
//! ```text
//! SIGHUP, POST /admin/reload -> the same file, environment and flags again -> diff
//!     live settings   -> shards, HTTP analyzers, log level, at once
//!     the others      -> named, and left as they are until a restart
//! POST /admin/rollback -> what was before, likewise
//! ```

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use serde_json::{json, Value};

use super::manager::Manager;
use crate::certificate::Stamp;
use crate::cli::config::{diff, Difference, Loaded};
use crate::cli::set_log_level;
use crate::control::core::Core;
use crate::control::health_check;
use crate::control::listener::AdminAt;
use crate::control::outlier::EjectRule;
use crate::control::{self, Reloader, Running, Settings, TapSource, Tapped};
use crate::service::sockets::AdminSocket;
use crate::shard::{Admin, Live, Operator};

/// A tap asks the shards so often for what has passed.
const TAP_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// The control side of a running distributor.
pub(super) struct Control {
    pub(super) running: Running,
    pub(super) reload: Arc<Reload>,
}

/// What it is made from.
pub(super) struct From {
    pub(super) loaded: Loaded,
    pub(super) started: Stamp,
    /// An admin socket that was opened for it.
    pub(super) admin: Option<AdminSocket>,
    pub(super) manager: Arc<Manager>,
}

/// Starts it.
///
/// # Errors
/// The admin address cannot be had, or an analyzer over HTTP cannot be added: each says which.
pub(super) fn start(operator: &Operator, from: From) -> io::Result<Control> {
    let From {
        loaded,
        started,
        admin,
        manager,
    } = from;
    let config = &loaded.config;
    let reload = Arc::new(Reload {
        operator: operator.clone(),
        core: Mutex::new(Weak::new()),
        manager,
        state: Mutex::new(State {
            current: loaded.clone(),
            before: None,
        }),
    });
    let mut settings = Settings::new(started);
    settings.buffer_bytes = u64::from(config.batch_bytes);
    settings.admin = config.admin.as_ref().map(|admin| match admin {
        Admin::Path(path) => AdminAt::Unix(path.clone()),
        Admin::Tcp(address) => AdminAt::Tcp(*address),
    });
    settings.admin_socket = admin;
    settings.token.clone_from(&config.protection.admin_token);
    settings.cors = config.protection.cors.clone();
    settings.hosts = config.protection.http_hosts.clone();
    settings.http_analyzers.clone_from(&config.http.analyzers);
    settings.health_interval = config.http.health_interval;
    settings.health_timeout = config.http.health_timeout;
    settings.slow_start = config.http.slow_start;
    settings.eject = EjectRule {
        refusals: config.http.eject_refusals,
        time: config.http.eject_time,
    };
    settings.configuration = crate::audit::configuration(config);
    settings.reloader = Some(Box::new(Arc::clone(&reload)));
    settings.tap = Some(Box::new(operator.clone()));
    let running = control::serve(operator.clone(), settings)?;
    *lock(&reload.core) = Arc::downgrade(running.core());
    Ok(Control { running, reload })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    current: Loaded,
    /// What the last reload replaced.
    before: Option<Loaded>,
}

/// Reads the configuration again while the distributor runs.
pub(super) struct Reload {
    operator: Operator,
    core: Mutex<Weak<Core>>,
    manager: Arc<Manager>,
    state: Mutex<State>,
}

impl Reload {
    /// Puts another configuration in force, as far as that is possible without a restart.
    fn take(&self, from: &Loaded, to: &Loaded) -> Vec<Difference> {
        let differences = diff(from, to);
        let config = &to.config;
        let mut live: Live = self.operator.live();
        live.protection = config.protection.clone();
        live.http.request_timeout = config.http.request_timeout;
        live.http.idle_timeout = config.http.idle_timeout;
        live.http.push_timeout = config.http.push_timeout;
        // A limit that is counted from the start of each connection stays as it was.
        live.protection.connections_per_address_max =
            from.config.protection.connections_per_address_max;
        self.operator.set_live(live);
        set_log_level(to.args.log_level);
        if let Some(core) = lock(&self.core).upgrade() {
            core.set_protection(
                config.protection.admin_token.clone(),
                config.protection.cors.clone(),
                config.protection.http_hosts.clone(),
            );
            core.checks.set_slow_start(config.http.slow_start);
            self.take_analyzers(&core, from, to);
        }
        for difference in &differences {
            log::info!("reload {difference}");
        }
        differences
    }

    /// Removes what is gone, adds what is new, changes what is another.
    fn take_analyzers(&self, core: &Arc<Core>, from: &Loaded, to: &Loaded) {
        let (old, new) = (&from.config.http.analyzers, &to.config.http.analyzers);
        for gone in old {
            let stays = new
                .iter()
                .any(|other| other.id() == gone.id() && other.endpoint() == gone.endpoint());
            if !stays {
                health_check::remove(core, gone.id());
            }
        }
        for wanted in new {
            let before = old
                .iter()
                .find(|other| other.id() == wanted.id() && other.endpoint() == wanted.endpoint());
            let done = match before {
                None => health_check::add(core, wanted),
                Some(before) if before.weight() != wanted.weight() => {
                    core.checks.set_weight(wanted.id(), wanted.weight());
                    core.own_weight(wanted.id(), wanted.weight());
                    Ok(())
                }
                Some(_) => Ok(()),
            };
            if let Err(error) = done {
                log::error!("reload: analyzer {}: {error}", wanted.id());
            }
        }
    }

    /// For SIGHUP: reloads, and says in the log what came of it.
    pub(super) fn on_signal(&self) {
        match Reloader::reload(self, false) {
            Ok(_) => log::info!("reloaded"),
            Err(problems) => log::error!("not reloaded: {problems}"),
        }
    }
}

impl Reloader for Reload {
    fn current(&self) -> Value {
        json!(crate::audit::configuration(
            &lock(&self.state).current.config
        ))
    }

    fn reload(&self, dry_run: bool) -> Result<Value, String> {
        match dry_run {
            true => self.reload_now(true),
            false => self.manager.reload(|| self.reload_now(false)),
        }
    }

    fn rollback(&self) -> Result<Value, String> {
        self.manager.reload(|| self.rollback_now())
    }
}

impl Reload {
    fn reload_now(&self, dry_run: bool) -> Result<Value, String> {
        let mut state = lock(&self.state);
        let next = state
            .current
            .reload()
            .map_err(|problems| problems.join("; "))?;
        let differences = match dry_run {
            true => diff(&state.current, &next),
            false => self.take(&state.current, &next),
        };
        if !dry_run && !differences.is_empty() {
            let before = std::mem::replace(&mut state.current, next);
            state.before = Some(before);
        }
        Ok(json!({ "dryRun": dry_run, "changes": differences }))
    }

    fn rollback_now(&self) -> Result<Value, String> {
        let mut state = lock(&self.state);
        let before = state
            .before
            .take()
            .ok_or("nothing was reloaded since the start or the last roll-back")?;
        let differences = self.take(&state.current, &before);
        state.current = before;
        Ok(json!({ "changes": differences }))
    }
}

impl TapSource for Operator {
    fn tap(
        &self,
        rate: u32,
        until: Instant,
        each: &mut dyn FnMut(&Tapped) -> bool,
    ) -> Result<(), String> {
        let tap = self.begin_tap(rate);
        let mut allowance = 0.0;
        let mut goes_on = true;
        while goes_on && Instant::now() < until {
            std::thread::sleep(TAP_EVERY);
            allowance =
                (allowance + f64::from(rate) * TAP_EVERY.as_secs_f64()).min(f64::from(rate));
            let Some(messages) = self.tapped(tap) else {
                return Err("another tap has taken over; one at a time looks".to_owned());
            };
            for message in messages {
                if allowance < 1.0 {
                    break;
                }
                allowance -= 1.0;
                goes_on = each(&Tapped {
                    at: message.at_ms,
                    shard: message.shard,
                    analyzer: message.analyzer,
                    severity: message.severity,
                    bytes: message.bytes,
                    payload: String::from_utf8_lossy(&message.payload).into_owned(),
                });
                if !goes_on {
                    break;
                }
            }
        }
        self.end_tap(tap);
        Ok(())
    }
}

impl Reloader for Arc<Reload> {
    fn current(&self) -> Value {
        (**self).current()
    }

    fn reload(&self, dry_run: bool) -> Result<Value, String> {
        (**self).reload(dry_run)
    }

    fn rollback(&self) -> Result<Value, String> {
        (**self).rollback()
    }
}
