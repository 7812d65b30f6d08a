//! The thread that may wait: orders to the shards go through it, one after the other.
//!
//! ```text
//! task -- work --> JOBS_MAX at most --> hand: does it, keeps the result, rings --> the task goes on
//!          `- full: the task waits
//! ```
//!
//! What may wait longer than an order, reading files, gets a thread of its own: [`aside`].

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{sync_channel, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

use super::bell::{Bell, News};
use crate::lock::lock;

/// Work that waits for the hand; each task has one piece at most.
const JOBS_MAX: usize = 512;

type Job = Box<dyn FnOnce() + Send>;

/// See the head of this file.
#[derive(Clone)]
pub struct Hand {
    jobs: SyncSender<Job>,
    bell: Bell,
}

impl Hand {
    /// Starts it; it ends with the last clone, and nobody waits for that: an order may take long.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(name: &str, bell: Bell) -> io::Result<Hand> {
        let (jobs, work) = sync_channel::<Job>(JOBS_MAX);
        let thread = Builder::new().name(name.into());
        thread.spawn(move || work.into_iter().for_each(|job| job()))?;
        Ok(Hand { jobs, bell })
    }

    /// What `work` returns, done by the hand. None: it panicked, or the hand has gone.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (job, result) = job(&self.bell, work);
        let mut job = Some(job);
        let sent = self
            .bell
            .until(News::Done, || match self.jobs.try_send(job.take()?) {
                Ok(()) => Some(true),
                Err(TrySendError::Disconnected(_)) => Some(false),
                Err(TrySendError::Full(given)) => {
                    job = Some(given);
                    None
                }
            });
        match sent.await {
            true => result.get(&self.bell).await,
            false => None,
        }
    }
}

/// What `work` returns, done by a thread of its own. None: it panicked.
///
/// # Errors
/// There is no thread.
pub async fn aside<T: Send + 'static>(
    name: &str,
    bell: &Bell,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (job, result) = job(bell, work);
    Builder::new().name(name.into()).spawn(job)?;
    Ok(result.get(bell).await)
}

/// Where a result will be; the inner one is none after a panic.
struct Outcome<T>(Arc<Mutex<Option<Option<T>>>>);

impl<T> Outcome<T> {
    async fn get(self, bell: &Bell) -> Option<T> {
        bell.until(News::Done, || lock(&self.0).take()).await
    }
}

fn job<T: Send + 'static>(
    bell: &Bell,
    work: impl FnOnce() -> T + Send + 'static,
) -> (Job, Outcome<T>) {
    let outcome = Arc::new(Mutex::new(None));
    let (kept, bell) = (Arc::clone(&outcome), bell.clone());
    let job = move || {
        // What it was about to change is behind locks that nobody holds to be poisoned.
        let result = catch_unwind(AssertUnwindSafe(work)).ok();
        *lock(&kept) = Some(result);
        bell.ring(News::Done);
    };
    (Box::new(job), Outcome(outcome))
}
