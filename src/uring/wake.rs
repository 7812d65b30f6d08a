//! Wake-up of a shard that sleeps in its data ring, from any thread.
//!
//! The sleeper announces itself, then looks for work once more, then sleeps; a waker first leaves
//! the work, then looks whether somebody sleeps. One of the two always sees the other.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// An eventfd with a flag that saves the system call when nobody sleeps.
pub struct Wake {
    event: File,
    asleep: AtomicBool,
}

impl Wake {
    /// # Errors
    /// EMFILE and the like.
    pub fn new() -> io::Result<Wake> {
        // SAFETY: plain system call; the descriptor is owned by the File from here on.
        let event = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
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
            let _ = (&self.event).write(&1u64.to_ne_bytes());
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

    pub(super) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
