//! Wake-up of a shard that sleeps in its data ring, from any thread.
//!
//! The sleeper announces itself, then looks for work once more, then sleeps; a waker first leaves
//! the work, then looks whether somebody sleeps. One of the two always sees the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{eventfd, EventfdFlags};

/// An eventfd with a flag that saves the system call when nobody sleeps.
pub struct Wake {
    event: OwnedFd,
    asleep: AtomicBool,
}

impl Wake {
    /// # Errors
    /// EMFILE and the like.
    pub fn new() -> io::Result<Wake> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Wake {
            event,
            asleep: AtomicBool::new(false),
        })
    }

    /// Called by whoever left work for the shard.
    pub fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // An eventfd write fails only when 2^64 - 2 wake-ups are pending.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// The shard is about to sleep; it must look for work again before it does.
    pub fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// The shard is awake again.
    pub fn announce_awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl AsFd for Wake {
    /// Readable as soon as somebody has woken the shard.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
