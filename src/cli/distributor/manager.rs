//! What the service manager is told while the distributor runs.
//!
//! ```text
//!   start                 READY
//!   every 5 s             STATUS: rates, analyzers, what slows it down
//!   WATCHDOG_USEC / 2     WATCHDOG, if every shard has turned since the last one
//!   SIGHUP, ctl reload    RELOADING ... READY
//!   SIGTERM               STOPPING, then EXTEND_TIMEOUT once a second while it drains and every shard turns
//! ```

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::control::core::Core;
use crate::control::view::state::State;
use crate::ledger::run_report::Stamp;
use crate::protocol::text::Time;
use crate::runtime::Stopper;
use crate::service::notify::Notifier;
use crate::service::watchdog::{self, Progress};

/// How often the status line is made again.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often a stop that is under way asks for more time, and for how much.
const EXTEND_EVERY: Duration = Duration::from_secs(1);
const EXTEND_BY: Duration = Duration::from_secs(5);
/// Between two looks at the shards, which report ten times a second.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The same when there is no watchdog to feed.
const LOOK_SELDOM: Duration = Duration::from_secs(1);

/// The manager, as all threads of the distributor see it.
pub(super) struct Manager {
    notifier: Notifier,
    /// What came of the last reload, in front of the status.
    note: Mutex<String>,
    draining: AtomicBool,
}

impl Manager {
    /// Of the environment.
    pub(super) fn from_environment() -> Manager {
        Manager {
            notifier: Notifier::from_environment(),
            note: Mutex::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// A reload, told to the manager from its begin to its end.
    pub(super) fn reload<T>(
        &self,
        reload: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        self.notifier.reloading(Stamp::now().mono_ns / 1000);
        let done = reload();
        let note = match &done {
            Ok(_) => String::new(),
            Err(why) => format!("not reloaded: {why}"),
        };
        self.notifier.ready(match note.is_empty() {
            true => "reloaded",
            false => &note,
        });
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
        done
    }

    /// The stop has begun.
    pub(super) fn stopping(&self) {
        self.draining.store(true, Ordering::Release);
        self.notifier
            .stopping("draining: emitters leave, analyzers acknowledge");
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn status(&self, state: &State) -> String {
        let note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        let line = status(state);
        match note.is_empty() {
            true => line,
            false => format!("{note}; {line}"),
        }
    }
}

/// `1200 messages/s in, 1180 acknowledged; 4 analyzers, 64 emitters; 310 not acknowledged yet`, and what slows
/// it down.
fn status(state: &State) -> String {
    let rate = |part: f64| part.round();
    let online = state.rows.iter().filter(|row| row.is_online()).count();
    let slow = state.bottleneck.as_ref();
    format!(
        "{}{:.0} messages/s in, {:.0} acknowledged; {online} analyzers, {} emitters, {} HTTP clients; {} not acknowledged yet{}",
        if state.draining { "draining: " } else { "" },
        rate(state.rates.of_all(|shard| shard.received)),
        rate(state.rates.of_all(|shard| shard.acked)),
        state.totals.emitters,
        state.totals.http_connections,
        state.totals.balance.open(),
        slow.map_or(String::new(), |why| format!("; {why}")),
    )
}

/// The thread that tells it.
pub(super) struct Telling {
    over: Sender<()>,
    thread: JoinHandle<()>,
}

impl Telling {
    /// Says READY, and goes on telling.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(
        manager: Arc<Manager>,
        stopper: Stopper,
        core: Arc<Core>,
    ) -> io::Result<Telling> {
        let (over, is_over) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("manager".into());
        let thread = thread.spawn(move || {
            manager.notifier.ready("up");
            if !manager.notifier.is_there() {
                return;
            }
            let mut clock = Clock::new(watchdog::timeout_from_environment());
            let pause = match clock.feed_every {
                Some(every) => LOOK_EVERY.min(every / 4),
                None => LOOK_SELDOM,
            };
            while is_over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                clock.tick(&manager, &stopper, &core);
            }
        })?;
        Ok(Telling { over, thread })
    }

    /// Ends it.
    pub(super) fn end(self) {
        // It has ended already when nobody is there to be told.
        let _ = self.over.send(());
        let _ = self.thread.join();
    }
}

/// What is due when.
struct Clock {
    feed_every: Option<Duration>,
    feed_at: Instant,
    fed: Progress,
    /// The watchdog should have been fed long ago, and this was said.
    warned: bool,
    extend_at: Instant,
    extended: Progress,
    status_at: Instant,
}

impl Clock {
    fn new(watchdog: Option<Duration>) -> Clock {
        let now = Instant::now();
        Clock {
            feed_every: watchdog.map(|timeout| timeout / 2),
            feed_at: now,
            fed: Progress::default(),
            warned: false,
            extend_at: now,
            extended: Progress::default(),
            status_at: now + STATUS_EVERY,
        }
    }

    fn tick(&mut self, manager: &Manager, stopper: &Stopper, core: &Core) {
        let now = Instant::now();
        let turns = stopper.turns();
        self.feed(manager, now, &turns);
        let is_draining = manager.is_draining();
        if is_draining && now >= self.extend_at && self.extended.all(&turns) {
            self.extend_at = now + EXTEND_EVERY;
            manager.notifier.extend(EXTEND_BY);
        }
        if now >= self.status_at {
            self.status_at = now + STATUS_EVERY;
            let line = manager.status(&core.state());
            manager.notifier.status(&line);
        }
    }

    fn feed(&mut self, manager: &Manager, now: Instant, turns: &[u64]) {
        let Some(every) = self.feed_every.filter(|_| now >= self.feed_at) else {
            return;
        };
        if self.fed.all(turns) {
            self.feed_at = now + every;
            self.warned = false;
            manager.notifier.feed_watchdog();
        } else if !self.warned && now >= self.feed_at + every / 2 {
            self.warned = true;
            let stuck = self.fed.stuck(turns);
            log::error!(
                "shards {stuck:?} have not turned for {}: the watchdog is not fed",
                Time(every + every / 2)
            );
        }
    }
}
