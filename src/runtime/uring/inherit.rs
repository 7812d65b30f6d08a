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

/// Of the descriptors that are open now, a program that this process becomes gets standard input, output and errors
/// alone.
///
/// # Errors
/// As of close_range(2).
pub fn pass_standard_streams_alone() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: plain system call on numbers; it sets a flag of descriptors, and closes none.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
