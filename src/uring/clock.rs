//! CLOCK_MONOTONIC as a number, the same in every process of the host.

/// Nanoseconds since some point before boot.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills the struct; CLOCK_MONOTONIC always exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    // Neither field is negative for this clock.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
