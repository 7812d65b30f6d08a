//! What signals mean, from the first moment to the last. The thread that hears them never waits for anything.
//!
//! ```text
//!                       before it is up           while it runs
//! TERM INT QUIT XCPU    it ends: nothing was      drains; the second ends at once
//!                       taken in yet
//! HUP                   a reload when it is up    a reload, on a thread of its own
//! others that would     a line each               a line each
//! end the process
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, process};

use signal_hook::consts::{SIGHUP, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use super::manager::Manager;
use super::reload::Reload;
use crate::client::signals::{ignored, is_ignored, name, STOPPING};
use crate::control::core::Core;
use crate::runtime::Stopper;
use crate::streams;

/// What a signal has an effect on.
pub(super) struct Running {
    pub(super) stopper: Stopper,
    pub(super) drain_timeout: Duration,
    pub(super) reload: Arc<Reload>,
    pub(super) core: Arc<Core>,
    pub(super) manager: Arc<Manager>,
}

enum Phase {
    /// Files are read, which may take for ever.
    Loading,
    /// Shards come up: they look at `cancelled`.
    Starting,
    /// Shards are up, their control is not.
    Up(Stopper),
    Running(Box<Running>),
}

struct Shared {
    phase: Mutex<Phase>,
    cancelled: AtomicBool,
    /// A reload was asked for too early.
    reload_later: AtomicBool,
}

/// The thread that hears them.
pub(super) struct Ear {
    shared: Arc<Shared>,
    handle: Handle,
    thread: JoinHandle<bool>,
}

impl Ear {
    /// Hears from now on.
    ///
    /// # Errors
    /// Signals cannot be handled, or there is no thread.
    pub(super) fn open() -> io::Result<Ear> {
        // A write beyond the limit on the size of files (LimitFSIZE=) then fails like any other; without a
        // handler this signal ends the process. Nobody looks at the flag.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        let all = STOPPING.into_iter().chain(ignored()).chain([SIGHUP]);
        let mut signals = Signals::new(all)?;
        let handle = signals.handle();
        let shared = Arc::new(Shared {
            phase: Mutex::new(Phase::Loading),
            cancelled: AtomicBool::new(false),
            reload_later: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("signals".into());
        let thread = thread.spawn(move || signals.forever().any(|signal| own.hear(signal)))?;
        Ok(Ear {
            shared,
            handle,
            thread,
        })
    }

    /// Shards are about to come up; what to look at meanwhile.
    pub(super) fn starting(&self) -> &AtomicBool {
        *self.shared.phase() = Phase::Starting;
        &self.shared.cancelled
    }

    /// They are up.
    pub(super) fn up(&self, stopper: Stopper) {
        *self.shared.phase() = Phase::Up(stopper);
    }

    /// All is up. Does what was asked for meanwhile.
    pub(super) fn running(&self, running: Running) {
        let mut phase = self.shared.phase();
        if self.shared.reload_later.load(Ordering::Acquire) {
            running.reload.request();
        }
        if self.shared.cancelled.load(Ordering::Acquire) {
            running.drain();
        }
        *phase = Phase::Running(Box::new(running));
    }

    /// Hears no more; whether a second signal ended it at once.
    pub(super) fn close(self) -> bool {
        self.handle.close();
        self.thread.join().unwrap_or(false)
    }
}

impl Shared {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything is said.
    fn hear(&self, signal: i32) -> bool {
        let name = name(signal);
        if is_ignored(signal) {
            log::warn!(
                "{name}: ignored; SIGTERM drains and ends, SIGHUP reads the configuration again"
            );
            return false;
        }
        let phase = self.phase();
        if signal == SIGHUP {
            match &*phase {
                Phase::Running(running) => {
                    running.reload.request();
                }
                _ => self.reload_later.store(true, Ordering::Release),
            }
            return false;
        }
        let is_first = !self.cancelled.load(Ordering::Acquire);
        if is_first && matches!(*phase, Phase::Starting) {
            // Said first: who sees the flag ends the process.
            log::info!("{name}: ends before it is up; nothing was taken in");
        }
        self.cancelled.store(true, Ordering::Release);
        match &*phase {
            Phase::Running(running) if is_first => {
                running.drain();
                false
            }
            Phase::Running(running) => {
                running.stopper.stop_now();
                true
            }
            // Drains as soon as there is something that can.
            Phase::Starting | Phase::Up(_) if is_first => false,
            Phase::Up(stopper) => {
                stopper.stop_now();
                true
            }
            Phase::Loading | Phase::Starting => {
                log::info!("{name}: ends at once; nothing was taken in");
                streams::flush();
                process::exit(i32::from(!is_first) * (128 + signal));
            }
        }
    }
}

impl Running {
    fn drain(&self) {
        // First of all; what follows is only said.
        self.stopper.drain(self.drain_timeout);
        self.core.drain();
        let limit = self.drain_timeout.as_secs_f64();
        log::info!("draining for at most {limit} s; a second signal ends at once");
        self.manager.stopping();
    }
}
