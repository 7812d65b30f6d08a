//! The control side's executor: one of glommio's, on one thread, for the sockets and timers of health checks, of
//! operators, of event streams.
//!
//! ```text
//! main task      ladder of timers, Bell ----> wakes the others          ends when the core is over
//! tasks          each analyzer over HTTP; admin listener and its connections; questions; ramps
//! other threads  Hand: orders   resolver: names   shards: questions     all of them ring the Bell
//! ```
//!
//! Nothing that may wait for another thread or a disk runs here: it would hold up everybody. docs/adr/0044.
//! bell.rs wakes tasks, hand.rs waits for them, socket.rs is their socket, time.rs their clock.

pub mod bell;
pub mod hand;
pub mod secured;
pub mod socket;
pub mod time;

use std::cell::Cell;
use std::future::{poll_fn, Future};
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use futures_lite::future::{or, FutureExt};
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

use self::bell::{Bell, News};
use self::hand::Hand;
use self::socket::Socket;
use self::time::sleep;
use crate::core::Core;

/// Memory that glommio takes for file I/O; there is none here.
const IO_BYTES: usize = 64 * 1024;
/// Entries of each of glommio's three rings: what does not fit waits for the next pass.
const RING_DEPTH: usize = 64;
/// As for the shards: glommio 0.9 sleeps when this has run out before it looks for something to run.
const PREEMPT_AFTER: Duration = Duration::from_secs(24 * 3600);
/// glommio that sleeps for no reason is woken by the next timer of its own. After a standstill, all timers that were due
/// meanwhile have fired and are gone: the first that was not is at most five times as far away as the standstill was
/// long. All begin anew whenever the first fires. The first is not shorter, since each wake-up costs 0.1 ms.
const LADDER: [Duration; 6] = [
    Duration::from_millis(500),
    Duration::from_millis(2_500),
    Duration::from_secs(12),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(1_500),
];
/// Tasks that still have something to say at the end get this long.
const GRACE: Duration = Duration::from_millis(500);

/// What tasks have at hand.
#[derive(Clone)]
pub struct Context {
    /// What all threads of the control side share.
    pub core: Arc<Core>,
    /// For what may wait.
    pub hand: Hand,
    tasks: Rc<Cell<usize>>,
}

impl Context {
    /// Runs a task beside the others, dropped when all end.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let core = Arc::clone(&self.core);
        let over = async move { core.over().await };
        self.spawn_to_its_end(name, or(task, over));
    }

    /// The same for one that heeds the end itself: it gets a moment for it.
    pub fn spawn_to_its_end(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let (core, tasks) = (Arc::clone(&self.core), Rc::clone(&self.tasks));
        tasks.set(tasks.get() + 1);
        let run = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                log::error!("control: a task panicked and is gone: {name}");
            }
            tasks.set(tasks.get() - 1);
            if core.is_over() {
                core.bell.ring(News::Change);
            }
        };
        // Its handle is of no use: nobody waits for it.
        glommio::spawn_local(run).detach();
    }
}

/// Starts the executor; `begin` spawns the first tasks. It runs until the core is over.
///
/// # Errors
/// There are no threads, descriptors or rings for it.
pub fn start(
    core: &Arc<Core>,
    begin: impl FnOnce(&Context) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let heard = core.bell.open()?;
    let hand = Hand::start("control-orders", core.bell.clone())?;
    let core = Arc::clone(core);
    let (up, is_up) = sync_channel(1);
    let thread = Builder::new().name("control".into()).spawn(move || {
        let executor = match builder(PREEMPT_AFTER).make() {
            Ok(executor) => executor,
            Err(error) => {
                let _ = up.send(Err(io::Error::from(error)));
                return;
            }
        };
        let _ = up.send(Ok(()));
        executor.run(async move {
            let bell = core.bell.clone();
            let context = Context {
                core,
                hand,
                tasks: Rc::default(),
            };
            alive(&bell, heard, until_over(context, begin)).await;
        });
    })?;
    match is_up.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => {
            let text = format!("the control's executor (glommio): {error}");
            Err(io::Error::new(error.kind(), text))
        }
        Err(_) => Err(io::Error::other(
            "the control's executor ended at its start",
        )),
    }
}

fn builder(preempt_after: Duration) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(preempt_after)
        // No thread for blocking calls: the hand makes them, and outlives a panic.
        .blocking_thread_pool_placement(PoolPlacement::Custom(Vec::new()))
}

async fn until_over(context: Context, begin: impl FnOnce(&Context)) {
    begin(&context);
    context.core.over().await;
    let tasks = Rc::clone(&context.tasks);
    let bell = context.core.bell.clone();
    drop(context);
    let ended = bell.until(News::Change, || (tasks.get() == 0).then_some(()));
    or(ended, sleep(GRACE)).await;
}

/// Runs a future, and hears the bell meanwhile. A timer is always under way.
async fn alive<T>(bell: &Bell, heard: UnixStream, work: impl Future<Output = T>) -> T {
    let hears = async {
        let mut socket = Some(Socket::of_unix(heard));
        let mut ladder = LADDER.map(Timer::new);
        loop {
            let is_tick = poll_fn(|cx| {
                // Each is looked at, so that each is under way.
                let looked = ladder.each_mut().map(|timer| Pin::new(timer).poll(cx));
                let is_tick = looked.iter().any(Poll::is_ready);
                let mut bytes = [0; 64];
                let read = socket
                    .as_mut()
                    .map(|socket| socket.poll_read(cx, &mut bytes));
                match read {
                    Some(Poll::Ready(Ok(1..))) => Poll::Ready(is_tick),
                    Some(Poll::Ready(other)) => {
                        log::error!(
                            "control: the bell is broken, tasks look less often: {other:?}"
                        );
                        socket = None;
                        Poll::Ready(is_tick)
                    }
                    _ if is_tick => Poll::Ready(true),
                    _ => Poll::Pending,
                }
            });
            let is_tick = is_tick.await;
            for (timer, after) in ladder.iter_mut().zip(LADDER) {
                timer.reset(after);
            }
            // With each tick all: tasks that are gone are forgotten.
            bell.wake_tasks(is_tick);
        }
    };
    or(work, hears).await
}

#[cfg(test)]
pub mod tests;
