//! Wakes tasks of the control's executor from other threads. No waker of glommio's leaves its own thread: it counts
//! with 16 bits, and is freed by whoever is last.
//!
//! ```text
//! another thread: leaves its news --> ring: a bit, and a byte on a socket if no bit was there
//! executor:       reads the byte  --> takes the bits, wakes the tasks that wait for such news --> they look
//! ```

use std::future::poll_fn;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Wake, Waker};

use crate::lock::lock;

/// What there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The shards ask something.
    Question,
    /// Analyzers over HTTP come or go, a task has ended, or all end.
    Change,
    /// A name was looked up.
    Name,
    /// What a thread did for a task is done.
    Done,
}

const KINDS: usize = 4;

impl News {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// See the head of this file. A clone is the same bell.
#[derive(Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// None: no executor listens, and there is nobody to wake.
    out: OnceLock<UnixStream>,
    rung: AtomicU8,
    /// By kind of news. Only the executor's thread puts wakers here and takes them out.
    waiting: [Mutex<Vec<Waker>>; KINDS],
}

impl Bell {
    /// The end that the executor reads.
    ///
    /// # Errors
    /// There are no descriptors, or an executor listens already.
    pub fn open(&self) -> io::Result<UnixStream> {
        let (out, heard) = UnixStream::pair()?;
        out.set_nonblocking(true)?;
        let taken = |_| io::Error::other("an executor listens already");
        self.0.out.set(out).map_err(taken)?;
        Ok(heard)
    }

    /// Wakes who waits for such news; from any thread, after the news was left.
    pub fn ring(&self, news: News) {
        let before = self.0.rung.fetch_or(news.bit(), Ordering::SeqCst);
        if before == 0 {
            if let Some(mut out) = self.0.out.get() {
                // A socket that is full has a byte to wake with.
                let _ = out.write(&[0]);
            }
        }
    }

    /// Rings for questions when it is woken.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::new(Questions(self.clone())))
    }

    /// What `look` finds, as soon as it finds something: it looks now, and again after each such news. On the
    /// executor's thread only.
    pub async fn until<T>(&self, news: News, mut look: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            // The bell is only heard on this thread, and not before this task has returned: nothing is missed.
            let mut waiting = lock(&self.0.waiting[news as usize]);
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Wakes who waits for what was rung for; with `all`, everybody.
    pub(super) fn wake_tasks(&self, all: bool) {
        let rung = self.0.rung.swap(0, Ordering::SeqCst);
        for (kind, waiting) in self.0.waiting.iter().enumerate() {
            if all || rung & (1 << kind) != 0 {
                let woken = std::mem::take(&mut *lock(waiting));
                woken.into_iter().for_each(Waker::wake);
            }
        }
    }
}

struct Questions(Bell);

impl Wake for Questions {
    fn wake(self: Arc<Self>) {
        self.0.ring(News::Question);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring(News::Question);
    }
}
