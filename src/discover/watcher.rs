//! A thread that looks, for those who cannot wait: every 5 s where things come and go, and whenever it is asked.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;
use crate::target::{Target, Targets};
use crate::watch::Watch;

/// How often watched targets are looked at.
pub const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// Who asks more often gets the answer of the look before: ten thousand connections may break at once.
const LOOKS_APART: Duration = Duration::from_millis(500);
/// How long answers are waited for before it is looked whether there is something else to do.
const HEAR_PATIENCE: Duration = Duration::from_millis(50);

/// See the head of this file. The thread ends soon after it is dropped, those that wait for a nameserver when it has answered.
pub struct Watcher {
    targets: Targets,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    bell: Condvar,
    /// Counts the sets, so that a look at it costs nothing when there is no new one.
    version: AtomicU64,
}

struct State {
    set: Arc<[Endpoint]>,
    found: usize,
    is_asked: bool,
    is_over: bool,
    /// Looks whose answers have all come.
    looks: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Goes on from what `watch` knows.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(mut watch: Watch) -> io::Result<Watcher> {
        let targets = watch.targets().clone();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                set: watch.set().into(),
                found: watch.found(),
                is_asked: watch.set().is_empty(),
                is_over: false,
                looks: 0,
            }),
            bell: Condvar::new(),
            version: AtomicU64::new(1),
        });
        if !watch.set().is_empty() && targets.as_slice().iter().all(Target::is_literal) {
            return Ok(Watcher { targets, shared });
        }
        let is_watched = targets.as_slice().iter().any(Target::is_watched);
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("discover".into());
        thread.spawn(move || of_thread.run(&mut watch, is_watched))?;
        Ok(Watcher { targets, shared })
    }

    /// What it watches.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Another number than before: [`Watcher::set`] may tell something new.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// What is there.
    pub fn set(&self) -> Arc<[Endpoint]> {
        Arc::clone(&self.shared.lock().set)
    }

    /// How many were found; more than are in the set when there were too many.
    pub fn found(&self) -> usize {
        self.shared.lock().found
    }

    /// How often it has looked and got every answer.
    pub fn looks(&self) -> u64 {
        self.shared.lock().looks
    }

    /// Has it look as soon as may be; does not wait.
    pub fn ask(&self) {
        self.shared.lock().is_asked = true;
        self.shared.bell.notify_all();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.bell.notify_all();
    }
}

/// What is to be done next.
enum Turn {
    Look,
    Hear,
    End,
}

impl Shared {
    fn run(&self, watch: &mut Watch, is_watched: bool) {
        let (mut began, mut is_looking) = (Instant::now(), watch.is_waiting());
        loop {
            let is_watched = is_watched || watch.set().is_empty();
            match self.wait(began, is_watched, is_looking) {
                Turn::End => return,
                Turn::Hear => {}
                Turn::Look => {
                    (began, is_looking) = (Instant::now(), true);
                    watch.look();
                    self.tell(watch);
                }
            }
            while watch.hear(HEAR_PATIENCE) {
                self.tell(watch);
            }
            if is_looking && !watch.is_waiting() {
                is_looking = false;
                self.lock().looks += 1;
            }
        }
    }

    /// Until it is time to look. `is_looking`: not all answers of the last look have come, so there is no wait.
    fn wait(&self, began: Instant, is_watched: bool, is_looking: bool) -> Turn {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return Turn::End;
            }
            let elapsed = began.elapsed();
            let is_due = is_watched && elapsed >= REFRESH_EVERY;
            let may_look = (state.looks == 0 && !is_looking) || elapsed >= LOOKS_APART;
            if is_due || (state.is_asked && may_look) {
                state.is_asked = false;
                return Turn::Look;
            }
            if is_looking {
                return Turn::Hear;
            }
            let wait = match (state.is_asked, is_watched) {
                (true, _) => LOOKS_APART.saturating_sub(elapsed),
                (false, true) => REFRESH_EVERY.saturating_sub(elapsed),
                (false, false) => REFRESH_EVERY,
            };
            let woken = self.bell.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn tell(&self, watch: &Watch) {
        let mut state = self.lock();
        if *state.set != *watch.set() || state.found != watch.found() {
            state.set = watch.set().into();
            state.found = watch.found();
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }
}
