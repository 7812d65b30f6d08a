//! Lines on their way to stderr, and the one thread that waits for whoever reads them.
//!
//! ```text
//! push --> pending, at most QUEUE_BYTES --(swap)--> hand --> write(2)
//!            | full: the line is dropped and counted, and the next hand
//!            v       ends with "1,998 log lines were dropped"
//! ```

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{logger, repeat};

/// Most that waits to be written, in bytes; as much again may be in the writer's hand.
pub(super) const QUEUE_BYTES: usize = 1 << 20;
/// The end of a program waits so long for its last lines...
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// ...and so long for a write that hangs.
const FLUSH_STILL: Duration = Duration::from_millis(250);
/// A stderr that was set not to block is tried again after this time when it is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

static QUEUE: OnceLock<Running> = OnceLock::new();
/// Since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What the writer itself has to say goes straight into its hand.
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Running {
    queue: Arc<Queue>,
    has_writer: bool,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write, or to tell later.
    more: Condvar,
    /// Something was written.
    less: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    /// Lines that found no room behind what is pending.
    missing: u64,
    /// The hand is not empty.
    is_writing: bool,
    /// Pieces that were written, for whoever waits for progress.
    writes: u64,
}

/// Lines that were dropped since the start: nobody read fast enough, or they could not be written.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Puts whole lines into the queue, or counts them as dropped. Waits for nobody.
pub(super) fn push(lines: &[u8]) {
    let is_own = OWN.with_borrow_mut(|own| {
        own.as_mut()
            .map(|own| own.extend_from_slice(lines))
            .is_some()
    });
    if is_own {
        return;
    }
    let running = QUEUE.get_or_init(Running::start);
    if !running.has_writer {
        // Where no thread can be had nothing much can run: what is left to say is why.
        let _ = io::stderr().write_all(lines);
        return;
    }
    let mut state = running.queue.lock();
    if state.pending.len() + lines.len() > QUEUE_BYTES {
        let count = count(lines);
        state.missing += count;
        DROPPED.fetch_add(count, Ordering::Relaxed);
        return;
    }
    state.pending.extend_from_slice(lines);
    drop(state);
    running.queue.more.notify_one();
}

/// There is something for the writer to tell later.
pub(super) fn wake() {
    let queue = &QUEUE.get_or_init(Running::start).queue;
    // Under the lock: so it is not between looking and waiting.
    drop(queue.lock());
    queue.more.notify_one();
}

/// Waits until everything is written: 1 s at most, and 250 ms at most for a write that hangs.
pub fn flush() {
    let Some(running) = QUEUE.get().filter(|running| running.has_writer) else {
        return;
    };
    let queue = &running.queue;
    let end = Instant::now() + FLUSH_MAX;
    let mut state = queue.lock();
    // A write that takes long is a reader who does not read; a writer who has not begun only waits for its turn.
    let mut moved = Instant::now();
    while state.is_writing || !state.pending.is_empty() {
        let until = match state.is_writing {
            true => end.min(moved + FLUSH_STILL),
            false => end,
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let before = (state.writes, state.is_writing);
        state = wait_timeout(&queue.less, state, left);
        if before != (state.writes, state.is_writing) {
            moved = Instant::now();
        }
    }
}

impl Running {
    fn start() -> Running {
        let queue = Arc::new(Queue::default());
        let own = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("stderr".into());
        let has_writer = thread.spawn(move || Writer::new(own).work()).is_ok();
        Running { queue, has_writer }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    queue: Arc<Queue>,
    hand: Vec<u8>,
    /// Lines that could not be written since some could.
    refused: u64,
}

impl Writer {
    fn new(queue: Arc<Queue>) -> Writer {
        OWN.set(Some(Vec::new()));
        let mut hand = Vec::new();
        // At once, so that no shard ever waits for a larger piece; pages that are not touched cost nothing,
        // and what cannot be had now is had bit by bit.
        let _ = hand.try_reserve_exact(QUEUE_BYTES);
        let _ = queue.lock().pending.try_reserve_exact(QUEUE_BYTES);
        Writer {
            queue,
            hand,
            refused: 0,
        }
    }

    fn work(&mut self) {
        loop {
            let missing = self.take();
            if self.write_all(missing).is_err() {
                let lines = count(&self.hand);
                self.refused += lines;
                DROPPED.fetch_add(lines, Ordering::Relaxed);
            }
            self.hand.clear();
            self.queue.lock().is_writing = false;
            self.queue.less.notify_all();
        }
    }

    /// Fills the hand, in time also with what was hidden. How many lines are missing behind it.
    fn take(&mut self) -> u64 {
        let queue = Arc::clone(&self.queue);
        let mut state = queue.lock();
        loop {
            if !state.pending.is_empty() {
                std::mem::swap(&mut state.pending, &mut self.hand);
                state.is_writing = true;
                queue.less.notify_all();
                return std::mem::take(&mut state.missing);
            }
            drop(state);
            let again = repeat::tell(Instant::now());
            self.hand.append(&mut own());
            state = queue.lock();
            if !self.hand.is_empty() {
                state.is_writing = true;
                return 0;
            }
            if state.pending.is_empty() {
                state = match again {
                    None => wait(&queue.more, state),
                    Some(pause) => wait_timeout(&queue.more, state, pause),
                };
            }
        }
    }

    /// Each note in its place: before the hand what could not be written, behind it what found no room.
    fn write_all(&mut self, missing: u64) -> io::Result<()> {
        if self.refused > 0 {
            self.write(&note(self.refused, "could not be written to stderr"))?;
            self.refused = 0;
        }
        let hand = std::mem::take(&mut self.hand);
        let written = self.write(&hand);
        self.hand = hand;
        if written.is_err() {
            self.refused += missing;
        } else if missing > 0 {
            let why = "were dropped: nobody read stderr fast enough";
            // If that fails the next piece fails as well.
            let _ = self.write(&note(missing, why));
        }
        written
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        // Not through std, whose lock others may want.
        let stderr = io::stderr();
        while !bytes.is_empty() {
            match rustix::io::write(stderr.as_fd(), bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.queue.lock().writes += 1;
                    self.queue.less.notify_all();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => std::thread::sleep(FULL_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

fn wait_timeout<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    most: Duration,
) -> MutexGuard<'a, State> {
    let waited = condition.wait_timeout(state, most);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// What this thread, the writer, has said itself.
fn own() -> Vec<u8> {
    OWN.with_borrow_mut(|own| own.as_mut().map(std::mem::take).unwrap_or_default())
}

/// `12 log lines ...`, as the logger writes its lines.
fn note(lines: u64, what: &str) -> Vec<u8> {
    let lines = repeat::grouped(lines);
    logger::note(&format!("{lines} log lines {what}"));
    own()
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
