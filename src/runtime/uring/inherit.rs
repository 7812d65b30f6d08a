//! Descriptors that the process was born with: whoever started it left sockets open for it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

static ADOPTED: AtomicBool = AtomicBool::new(false);

/// Takes `count` descriptors from `first` on, and keeps them from programs that this one starts. Once per
/// process, before it opens anything: after that a number may be somebody else's.
///
/// # Errors
/// One of them is not open (EBADF; none is taken then), or this was called before.
pub fn adopt_descriptors(first: RawFd, count: u16) -> io::Result<Vec<OwnedFd>> {
    if ADOPTED.swap(true, Ordering::AcqRel) {
        return Err(io::Error::other("inherited descriptors were taken before"));
    }
    let all = first..first + RawFd::from(count);
    for fd in all.clone() {
        // SAFETY: plain system call on a number; it changes a flag of a descriptor or fails.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: open, as was just seen; they were there before this program opened anything, and this runs
    // once, so nobody else owns them.
    let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(all.map(owned).collect())
}
