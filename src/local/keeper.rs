//! One analyzer on this host: a thread that opens it, keeps it, and opens it again when it has failed.
//!
//! ```text
//! opening --> up, with the shards' ends --> failed, and why --> a pause that doubles, with jitter --> opening
//!                `- the shards have let go of it ----------------------------------------------------> opening
//! ```

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use weir_config::Local;
use weir_protocol::text::Time;
use weir_shard::LocalEnds;

use crate::wait::readable;
use crate::{exec, file};

/// First and longest pause before it is opened again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// One that was well for so long begins with the shortest pause again.
const WELL: Duration = Duration::from_secs(60);
/// How often a keeper looks at what nobody wakes it for.
pub(crate) const GLANCE: Duration = Duration::from_millis(250);
/// A writer of a file needs no longer to end, unless its disk hangs.
const FILE_PATIENCE: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All of a distributor: so that it can wait for their ends.
#[derive(Clone, Default)]
pub struct Keepers(Arc<Count>);

#[derive(Default)]
struct Count {
    running: Mutex<usize>,
    fewer: Condvar,
}

impl Keepers {
    /// Waits until all have ended, for so long at most.
    pub fn wait(&self, time: Duration) {
        let running = lock(&self.0.running);
        let _ = self
            .0
            .fewer
            .wait_timeout_while(running, time, |running| *running > 0);
    }
}

/// Counts a keeper for as long as its thread lives.
struct Counted(Keepers);

impl Counted {
    fn new(keepers: &Keepers) -> Counted {
        *lock(&keepers.0.running) += 1;
        Counted(keepers.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *lock(&self.0 .0.running) -= 1;
        self.0 .0.fewer.notify_all();
    }
}

/// How it stands.
#[derive(Default)]
enum Standing {
    #[default]
    Opening,
    Up(Arc<LocalEnds>),
    Down(String),
}

/// What the keeper's thread and who looks share.
pub(crate) struct Stage {
    /// The analyzer's id.
    pub(crate) name: Arc<str>,
    /// Pairs of sockets that are needed.
    pub(crate) shards: u16,
    standing: Mutex<Standing>,
    changes: AtomicU64,
    over: AtomicBool,
    /// Closed from the other side when it is over.
    woken: UnixStream,
    told: Box<dyn Fn() + Send + Sync>,
}

impl Stage {
    /// It can take messages over these ends.
    pub(crate) fn up(&self, ends: Arc<LocalEnds>) {
        self.set(Standing::Up(ends));
    }

    /// It takes no more over these ends: for a reason, or because the shards have let go. Before its sockets are closed.
    pub(crate) fn ended(&self, ends: &LocalEnds, ended: &Result<(), String>) {
        match ended {
            Ok(()) => self.set(Standing::Opening),
            Err(why) => {
                ends.end(why.clone());
                self.set(Standing::Down(why.clone()));
            }
        }
        ends.close();
    }

    /// It shall end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Readable when it shall end.
    pub(crate) fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    fn set(&self, standing: Standing) {
        *lock(&self.standing) = standing;
        self.changes.fetch_add(1, Ordering::AcqRel);
        (self.told)();
    }

    /// Until it shall end, for so long at most.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || readable(&[self.woken()], left).is_err() {
                return;
            }
        }
    }

    /// Opens it, keeps it, and opens it again.
    fn run(&self, local: &Local) {
        let mut pause = PAUSES.0;
        while !self.is_over() {
            let began = Instant::now();
            let ended = match local {
                Local::File(options) => file::live(options, self),
                Local::Exec(options) => exec::live(options, self),
            };
            if self.is_over() {
                return;
            }
            if began.elapsed() >= WELL || ended.is_ok() {
                pause = PAUSES.0;
            }
            let time = jittered(pause);
            if let Err(why) = ended {
                let again = Time(time);
                log::warn!("analyzer {}: {why}; opened again in {again}", self.name);
                self.set(Standing::Down(why));
            }
            self.pause(time);
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Between three quarters of it and all.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 256;
    pause * 3 / 4 + pause * u32::try_from(random).unwrap_or(0) / 1024
}

/// See the head of this file. Dropped, it ends by itself: [`Keepers::wait`].
pub struct Keeper {
    stage: Arc<Stage>,
    wake: UnixStream,
}

impl Keeper {
    /// Begins to open it; `told` is called whenever [`Keeper::look`] has something new.
    ///
    /// # Errors
    /// There is no thread, or no descriptor.
    pub fn start(
        keepers: &Keepers,
        name: &Arc<str>,
        local: &Local,
        shards: u16,
        told: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Keeper> {
        let (wake, woken) = UnixStream::pair()?;
        let stage = Arc::new(Stage {
            name: Arc::clone(name),
            shards,
            standing: Mutex::default(),
            changes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            woken,
            told: Box::new(told),
        });
        let (of_thread, local) = (Arc::clone(&stage), local.clone());
        let counted = Counted::new(keepers);
        Builder::new().name("local".into()).spawn(move || {
            let _counted = counted;
            of_thread.run(&local);
        })?;
        Ok(Keeper { stage, wake })
    }

    /// The shards' ends, or why there are none; none: that is not known yet.
    pub fn look(&self) -> Option<Result<Arc<LocalEnds>, String>> {
        match &*lock(&self.stage.standing) {
            Standing::Up(ends) if ends.is_left() => None,
            Standing::Up(ends) => Some(Ok(Arc::clone(ends))),
            Standing::Down(why) => Some(Err(why.clone())),
            Standing::Opening => None,
        }
    }

    /// How often that has changed.
    pub fn changes(&self) -> u64 {
        self.stage.changes.load(Ordering::Acquire)
    }

    /// It shall end; nobody waits for that here, see [`Keepers::wait`].
    pub fn end(&self) {
        self.stage.over.store(true, Ordering::Release);
        let _ = (&self.wake).write(&[0]);
    }

    /// How long it may take to end.
    pub fn patience(local: &Local) -> Duration {
        match local {
            Local::File(_) => FILE_PATIENCE,
            Local::Exec(exec) => exec.patience * 2 + FILE_PATIENCE,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

/// A shard's reason, if one has given it up.
pub(crate) fn given_up(ends: &LocalEnds) -> Result<(), String> {
    ends.why_given_up()
        .map_or(Ok(()), |why| Err(why.to_owned()))
}

/// A pair of sockets for each shard: the shards' ends, then the others.
pub(crate) fn pairs(shards: u16) -> io::Result<(LocalEnds, Vec<UnixStream>)> {
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..shards {
        let (one, other) = UnixStream::pair()?;
        near.push(OwnedFd::from(one));
        far.push(other);
    }
    Ok((LocalEnds::new(near), far))
}
