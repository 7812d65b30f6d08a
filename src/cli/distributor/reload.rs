//! The configuration, read again while the distributor runs.
//!
//! ```text
//! --watch-config    -> thread `config-watch` (watch.rs): a file is another
//!                       v
//! SIGHUP            -> thread `reload` ---.
//! POST /admin/reload -> its own thread ---+-> thread `reload-read`: the same file, environment and flags again,
//!                                         |   for 5 s at most (a FIFO, a network that is away)
//!     would it open what is closed? <-----'   then it is refused, unless it is forced
//!     live settings   -> shards, wanted weights, HTTP analyzers, log level, at once
//!     the others      -> named against what runs, and left as they are until a restart
//! POST /admin/rollback -> what was before, likewise
//! ```

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::manager::Manager;
use super::watch;
use crate::cli::config::{diff, opens, Difference, Loaded};
use crate::cli::set_log_level;
use crate::config::{Config, Input};
use crate::control::core::Core;
use crate::control::health;
use crate::control::Reloader;
use crate::runtime::ServedPorts;
use crate::shard::{allow_lists, secret_ports, Live, Operator};
use crate::tls::{read_again, LinksRead, SecuredLink, Served};

/// Time that files have to be read.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// Somebody else reads them: looked at again after this.
const READ_AGAIN: Duration = Duration::from_millis(5);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    /// What the shards were started with.
    started: Loaded,
    /// What was read last.
    current: Loaded,
    /// What the last reload replaced.
    before: Option<Loaded>,
}

/// Reads the configuration again.
pub(super) struct Reload {
    operator: Operator,
    /// What is served where TLS is spoken.
    served: ServedPorts,
    core: Mutex<Weak<Core>>,
    own: Weak<Reload>,
    manager: Arc<Manager>,
    state: Mutex<State>,
    /// A thread looks at files of certificates.
    follows: AtomicBool,
    /// Wakes the thread for SIGHUP; one more is remembered while it works.
    wake: SyncSender<()>,
    /// Requests so far, and the last one that was met.
    asked: AtomicU64,
    met: AtomicU64,
    /// Files are being read, perhaps by somebody who no longer waits.
    reading: Arc<AtomicBool>,
    problems: Mutex<Problems>,
}

/// What was not taken, and why.
#[derive(Default)]
struct Problems {
    /// Of the last reload.
    reload: Option<String>,
    /// Of files of certificates that were looked at since.
    certificates: Option<String>,
}

impl Reload {
    /// With the thread that does what SIGHUP asks for.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(
        operator: Operator,
        served: ServedPorts,
        manager: Arc<Manager>,
        loaded: Loaded,
    ) -> io::Result<Arc<Reload>> {
        let (wake, wakes) = sync_channel(1);
        let reload = Arc::new_cyclic(|own| Reload {
            operator,
            served,
            core: Mutex::new(Weak::new()),
            own: Weak::clone(own),
            follows: AtomicBool::new(false),
            manager,
            state: Mutex::new(State {
                started: loaded.clone(),
                current: loaded,
                before: None,
            }),
            wake,
            asked: AtomicU64::new(0),
            met: AtomicU64::new(0),
            reading: Arc::default(),
            problems: Mutex::default(),
        });
        let own = Arc::downgrade(&reload);
        let work = move || {
            while wakes.recv().is_ok() {
                let Some(reload) = own.upgrade() else { return };
                let asked = reload.asked.load(Ordering::Acquire);
                match Reloader::reload(&*reload, false, false) {
                    Ok(_) => log::info!("reloaded"),
                    Err(problems) => log::error!("not reloaded: {problems}"),
                }
                reload.met.store(asked, Ordering::Release);
            }
        };
        std::thread::Builder::new()
            .name("reload".into())
            .spawn(work)?;
        Ok(reload)
    }

    /// What else a reload changes.
    pub(super) fn set_core(&self, core: &Arc<Core>) {
        *lock(&self.core) = Arc::downgrade(core);
    }

    /// Files of certificates are looked at from now on, if there are any and nobody looks.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn follow_certificates(&self) -> io::Result<()> {
        let is_for_nothing = || self.certificate_files().is_empty();
        if self.follows.load(Ordering::Acquire) || is_for_nothing() {
            return Ok(());
        }
        if self.follows.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let started = watch::start_for_certificates(Weak::clone(&self.own));
        started.inspect_err(|_| self.follows.store(false, Ordering::Release))
    }

    fn follow_or_say(&self) {
        if let Err(error) = self.follow_certificates() {
            log::error!(
                "no thread to look at files of certificates: {error}; reload after a change"
            );
        }
    }

    /// How TLS is begun with analyzers: also with those that no file has, which an operator has added.
    fn links(&self) -> Vec<Arc<SecuredLink>> {
        let mut links = lock(&self.state).current.config.tls_links();
        if let Some(core) = lock(&self.core).upgrade() {
            links.extend(core.checks.links());
        }
        links
    }

    /// For SIGHUP: reloads soon, and says in the log what came of it. Waits for nothing. The number of the request.
    pub(super) fn request(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        // One that waits already will see what is to be seen.
        let _ = self.wake.try_send(());
        number
    }

    /// The files were read after this request.
    pub(super) fn is_met(&self, request: u64) -> bool {
        self.met.load(Ordering::Acquire) >= request
    }

    /// The same files again, for a bounded time: whoever waits longer for a disk is left alone with it.
    fn read(&self) -> Result<(Loaded, LinksRead), String> {
        let from = Instant::now();
        while self.reading.swap(true, Ordering::AcqRel) {
            if from.elapsed() >= READ_PATIENCE {
                return Err("an earlier reload still reads the configuration (a FIFO, or a file system that is away?)".into());
            }
            std::thread::sleep(READ_AGAIN);
        }
        let links = self.added_links();
        let current = lock(&self.state).current.clone();
        let (done, is_done) = sync_channel(1);
        let reading = Arc::clone(&self.reading);
        let read = move || {
            let read = current.reload().and_then(|next| {
                let links = read_again(&links, next.config.tls.tls_key_log.as_deref());
                match links.refused.is_empty() {
                    true => Ok((next, links)),
                    false => Err(links.refused),
                }
            });
            reading.store(false, Ordering::Release);
            // Nobody waits any longer.
            let _ = done.send(read);
        };
        let spawned = std::thread::Builder::new()
            .name("reload-read".into())
            .spawn(read);
        if let Err(error) = spawned {
            self.reading.store(false, Ordering::Release);
            return Err(format!("no thread to read the configuration: {error}"));
        }
        match is_done.recv_timeout(READ_PATIENCE) {
            Ok(read) => read.map_err(|problems| problems.join("; ")),
            Err(_) => Err(format!(
                "the configuration could not be read within {} s (a FIFO, or a file system that is away?)",
                READ_PATIENCE.as_secs()
            )),
        }
    }

    /// Puts another configuration in force, as far as that is possible without a restart.
    fn take(&self, state: &State, to: &Loaded) -> Vec<Difference> {
        let differences = differences(state, to);
        let config = &to.config;
        let mut live: Live = self.operator.live();
        live.protection = config.protection.clone();
        let with_inputs = Config {
            inputs: inputs_now(&state.started.config.inputs, &config.inputs),
            any: state.started.config.any,
            ..config.clone()
        };
        live.allow_inputs = allow_lists(&with_inputs);
        live.secret_ports = secret_ports(&with_inputs);
        let known = inputs_now(&state.started.config.inputs, &state.current.config.inputs);
        for (input, before) in with_inputs.inputs.iter().zip(known) {
            if input.secrets != before.secrets {
                let name = input.name();
                log::info!("reload inputs.{name}: new connections need the key and users that its files have now");
            }
        }
        live.http.request_timeout = config.http.request_timeout;
        live.http.idle_timeout = config.http.idle_timeout;
        live.http.push_timeout = config.http.push_timeout;
        live.max_connection_age = config.max_connection_age;
        live.farewell_spread = config.farewell_spread;
        // A limit that is counted from the start of each connection stays as it was.
        live.protection.connections_per_address_max =
            state.started.config.protection.connections_per_address_max;
        self.operator.set_live(live);
        self.serve(config);
        set_log_level(config.log_level);
        if let Some(core) = lock(&self.core).upgrade() {
            core.set_protection(
                config.protection.admin_token.clone(),
                config.protection.cors.clone(),
                config.protection.http_hosts.clone(),
            );
            core.set_key_log(config.tls.tls_key_log.clone());
            core.checks.set_slow_start(config.http.slow_start);
            if state.current.config.weights != config.weights {
                if let Err(error) = core.want(config.wanted()) {
                    log::error!("reload: wanted weights: {error}");
                }
            }
            self.take_analyzers(&core, &state.current, to);
        }
        for difference in &differences {
            log::info!("reload {difference}");
        }
        differences
    }

    /// New handshakes get the certificates that the files have now.
    fn serve(&self, config: &Config) {
        let shown = |served: &Served| -> Vec<String> {
            served.facts().map(|fact| fact.serial.clone()).collect()
        };
        let mut all: Vec<String> = Vec::new();
        for (key, next) in &config.tls.served {
            let Some(port) = self.served.get(key) else {
                continue; // TLS is spoken there after a restart
            };
            let before = shown(&port.served());
            port.serve(next);
            all.extend({ shown(next).into_iter() }.filter(|serial| !before.contains(serial)));
        }
        all.sort_unstable();
        all.dedup();
        for serial in all {
            log::info!("TLS: new connections are shown the certificate {serial}");
        }
    }

    /// For the certificates alone: of what their files have now, all that can be used is in force from now on. What
    /// cannot is told of, and stays as it was. `is_new`: it may have been told before, of other contents.
    pub(super) fn renew_certificates(&self, is_new: bool) {
        let links = self.links();
        let mut state = lock(&self.state);
        let mut config = state.current.config.clone();
        let mut refused = config.renew_tls();
        let links = read_again(&links, config.tls.tls_key_log.as_deref());
        refused.extend(links.refused.iter().cloned());
        links.use_it();
        self.serve(&config);
        state.current.config.tls = config.tls;
        drop(state);
        let refused = (!refused.is_empty()).then(|| {
            let refused = refused.join("; ");
            format!("TLS: {refused}; what was served before is served on")
        });
        let before = std::mem::replace(&mut lock(&self.problems).certificates, refused.clone());
        match (before, refused) {
            (before, Some(why)) if is_new || before.as_ref() != Some(&why) => log::error!("{why}"),
            (Some(_), None) => log::info!("TLS: all files of certificates can be used again"),
            _ => {}
        }
        self.forget_what_was_mended();
    }

    /// A reload that was refused is none to speak of any more, once the files have what is in force.
    fn forget_what_was_mended(&self) {
        if lock(&self.problems).reload.is_none() {
            return;
        }
        let Ok((now, _)) = self.read() else {
            return;
        };
        if diff(&lock(&self.state).current, &now).is_empty() {
            lock(&self.problems).reload = None;
        }
    }

    /// What was refused may be usable now, though the files have not changed: a certificate that was not valid yet.
    pub(super) fn has_refused_certificates(&self) -> bool {
        lock(&self.problems).certificates.is_some()
    }

    /// The files of certificates alone.
    pub(super) fn certificate_files(&self) -> Vec<PathBuf> {
        let mut paths = lock(&self.state).current.config.tls_paths();
        paths.extend(self.paths_of_added());
        paths
    }

    /// How TLS is begun with analyzers that no file has: an operator has added them.
    fn added_links(&self) -> Vec<Arc<SecuredLink>> {
        let configured = lock(&self.state).current.config.tls_links();
        let configured: BTreeSet<usize> = configured.iter().map(|link| link.followers()).collect();
        let mut links = match lock(&self.core).upgrade() {
            Some(core) => core.checks.links(),
            None => Vec::new(),
        };
        links.retain(|link| !configured.contains(&link.followers()));
        links
    }

    fn paths_of_added(&self) -> Vec<PathBuf> {
        let links = self.added_links();
        let mut paths: Vec<PathBuf> = links.iter().flat_map(|link| link.paths()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Removes what is gone, adds what is new, changes what is another.
    fn take_analyzers(&self, core: &Arc<Core>, from: &Loaded, to: &Loaded) {
        let (old, new) = (from.config.http_analyzers(), to.config.http_analyzers());
        for gone in &old {
            let stays = new
                .iter()
                .any(|other| other.id() == gone.id() && other.is_where(gone));
            if !stays {
                health::remove(core, gone.id());
            }
        }
        for wanted in &new {
            let before = old
                .iter()
                .find(|other| other.id() == wanted.id() && other.is_where(wanted));
            // What is trusted and shown may have changed in its files.
            let links = before.and_then(|before| before.delivery().link());
            if let Some((link, next)) = links.zip(wanted.delivery().link()) {
                link.follow(next);
            }
            let done = match before {
                None => health::add(core, wanted),
                Some(before) if before.weight() == wanted.weight() => Ok(()),
                Some(_) if wanted.members().is_some() => {
                    core.checks.groups.set_weight(wanted.id(), wanted.weight());
                    Ok(())
                }
                Some(_) => {
                    core.checks.set_weight(wanted.id(), wanted.weight());
                    core.own_weight(wanted.id(), wanted.weight());
                    Ok(())
                }
            };
            if let Err(error) = done {
                log::error!("reload: analyzer {}: {error}", wanted.id());
            }
        }
    }

    /// Files that a reload reads.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = lock(&self.state).current.files();
        files.extend(self.paths_of_added());
        files
    }

    fn reload_now(&self, dry_run: bool, force: bool) -> Result<Value, String> {
        let (next, added) = self.read()?;
        let mut state = lock(&self.state);
        let opens = opens(&state.current, &next);
        if dry_run {
            let changes = differences(&state, &next);
            return Ok(json!({ "dryRun": true, "changes": changes, "opens": opens }));
        }
        if !opens.is_empty() && !force {
            return Err(format!(
                "it would open what is closed: {}; `weir ctl reload --force` takes it all the same",
                opens.join("; ")
            ));
        }
        let is_another = !diff(&state.current, &next).is_empty();
        let changes = self.take(&state, &next);
        added.use_it();
        if is_another {
            let before = std::mem::replace(&mut state.current, next);
            state.before = Some(before);
        }
        drop(state);
        self.follow_or_say();
        Ok(json!({ "dryRun": false, "changes": changes, "opens": opens }))
    }

    fn rollback_now(&self) -> Result<Value, String> {
        let mut state = lock(&self.state);
        let before = state
            .before
            .take()
            .ok_or("nothing was reloaded since the start or the last roll-back")?;
        let changes = self.take(&state, &before);
        state.current = before;
        drop(state);
        self.follow_or_say();
        Ok(json!({ "changes": changes }))
    }
}

/// What would change at once, against what was read last, and what needs a restart, against what runs: a value
/// that was changed and changed back is none.
fn differences(state: &State, to: &Loaded) -> Vec<Difference> {
    let live = diff(&state.current, to).into_iter().filter(|it| it.live);
    let pending = diff(&state.started, to).into_iter().filter(|it| !it.live);
    live.chain(pending).collect()
}

impl Reloader for Reload {
    fn current(&self) -> Value {
        json!(lock(&self.state).current.config.texts())
    }

    fn reload(&self, dry_run: bool, force: bool) -> Result<Value, String> {
        match dry_run {
            true => self.reload_now(true, force),
            false => {
                let done = self.manager.reload(|| self.reload_now(false, force));
                let refused = done.as_ref().err().cloned();
                let mut problems = lock(&self.problems);
                if refused.is_none() {
                    problems.certificates = None;
                }
                problems.reload = refused;
                drop(problems);
                if done.is_ok() {
                    // They may have changed since they were read for it, and been renewed in between.
                    self.renew_certificates(false);
                }
                done
            }
        }
    }

    fn problem(&self) -> Option<String> {
        let problems = lock(&self.problems);
        let both = [&problems.reload, &problems.certificates];
        let both: Vec<&str> = both.into_iter().flatten().map(|why| &why[..]).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    fn added(&self) {
        self.follow_or_say();
    }

    fn rollback(&self) -> Result<Value, String> {
        let done = self.manager.reload(|| self.rollback_now());
        if done.is_ok() {
            *lock(&self.problems) = Problems::default();
            // Files may be others since, and what links have is shared with what was rolled back.
            self.renew_certificates(true);
        }
        done
    }
}
/// Which inputs there are is as it was at the start. Who may connect to one, and what its clients must know, is as it is
/// now: the networks, and what the same files have.
fn inputs_now(started: &[Input], now: &[Input]) -> Vec<Input> {
    let one = |input: &Input| {
        let name = input.name();
        let mut input = input.clone();
        if let Some(now) = now.iter().find(|other| other.name() == name) {
            input.allow.clone_from(&now.allow);
            let files = |of: &Input| (of.shared_key_file.clone(), of.users_file.clone());
            if files(&input) == files(now) {
                input.secrets = now.secrets.clone();
            }
        }
        input
    };
    started.iter().map(one).collect()
}
