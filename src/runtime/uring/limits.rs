//! Process limits.

use std::io;

/// Soft and hard value of a resource limit.
pub(super) fn soft_and_hard(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit fills the struct that it is given.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Most descriptors that this process may have; `u64::MAX`: no limit is known.
pub fn nofile_hard() -> u64 {
    soft_and_hard(libc::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// Makes room for `needed` descriptors: raises the soft limit as far as the hard one allows.
///
/// # Errors
/// `Err(hard)` when the hard limit is lower than `needed`.
pub fn raise_nofile(needed: u64) -> Result<(), u64> {
    let Ok((soft, hard)) = soft_and_hard(libc::RLIMIT_NOFILE) else {
        return Ok(());
    };
    if needed > hard {
        return Err(hard);
    }
    if needed > soft {
        let limit = libc::rlimit {
            rlim_cur: hard,
            rlim_max: hard,
        };
        // SAFETY: setrlimit reads the struct; raising soft to hard needs no privilege.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
    Ok(())
}

/// Descriptors that the kernel's table is made for at the start, at most: 2 MiB of the kernel's memory.
const TABLE_MOST: u64 = 1 << 18;

/// Has the kernel make its table of descriptors for so many, before anybody waits for it. Otherwise it grows, by
/// doubling, while connections come; and in a process of several threads whoever opens the descriptor that makes it grow
/// waits until all processors have seen the new one (`synchronize_rcu`): 10 to 30 ms, in which a shard does nothing else.
pub fn reserve_descriptors(most: u64) {
    let highest = most.min(TABLE_MOST).saturating_sub(1);
    let any = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
    if let (Ok(any), Ok(highest)) = (any, i32::try_from(highest)) {
        // A copy of that number, closed at once; without it the table grows as it always did.
        let _ = rustix::io::fcntl_dupfd_cloexec(&any, highest);
    }
}

/// Whether so many bytes more may be locked, the rings of a shard left out.
///
/// # Errors
/// The soft limit (RLIMIT_MEMLOCK) in bytes, when they are too many for it in any case.
pub(super) fn may_lock(bytes: u64) -> Result<(), u64> {
    let Ok((soft, _)) = soft_and_hard(libc::RLIMIT_MEMLOCK) else {
        return Ok(());
    };
    let is_enough = soft >= bytes.saturating_add(weir_host::SHARD_LOCKED_BYTES);
    match is_enough || weir_host::may_lock_anything(&weir_host::Host::here()) {
        true => Ok(()),
        false => Err(soft),
    }
}

/// Bytes of address space that this process may have (RLIMIT_AS), if there is a limit, and that it has.
pub fn address_space() -> Option<(u64, u64)> {
    Some((finite(libc::RLIMIT_AS)?, pages_bytes(0)?))
}

fn finite(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let (soft, _) = soft_and_hard(resource).ok()?;
    (soft != libc::RLIM_INFINITY).then_some(soft)
}

/// A number of /proc/self/statm in bytes: the first is all that is mapped, the sixth data and stacks.
fn pages_bytes(at: usize) -> Option<u64> {
    let numbers = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = numbers.split(' ').nth(at)?.parse().ok()?;
    Some(pages * 4096)
}

/// An allocation that the kernel refuses is rarely larger: two default arenas.
const LARGE_BYTES: u64 = 128 << 20;

/// The limits that an error of the kernel may come from, each with its value and how to raise it; empty when it
/// comes from none. For the end of a message: `; RLIMIT_NOFILE is 20 (...)`.
pub fn behind(error: &io::Error) -> String {
    let (bytes_mapped, bytes_of_data) = (|| pages_bytes(0), || pages_bytes(5));
    // What did not fit is larger than what is free: of a small limit a third is taken by then, or an arena does not fit.
    let is_small = |limit: u64, taken: u64, wanted: u64| {
        taken > limit / 3 || limit.saturating_sub(taken) < wanted
    };
    let address_space = |wanted: u64| {
        let limit = finite(libc::RLIMIT_AS)?;
        is_small(limit, bytes_mapped()?, wanted).then(|| {
            format!("; address space is limited to {limit} bytes (RLIMIT_AS: `ulimit -v`, or LimitAS= in the unit)")
        })
    };
    let data = |wanted: u64| {
        let limit = finite(libc::RLIMIT_DATA)?;
        is_small(limit, bytes_of_data()?, wanted).then(|| {
            format!("; memory for data is limited to {limit} bytes (RLIMIT_DATA: `ulimit -d`, or LimitDATA= in the unit)")
        })
    };
    let processes = || {
        let limit = finite(libc::RLIMIT_NPROC)?;
        Some(format!("; a user may have {limit} threads (RLIMIT_NPROC: `ulimit -u`, or LimitNPROC=), and TasksMax= of the unit or pids.max of the container may be fewer"))
    };
    let descriptors = || {
        let limit = finite(libc::RLIMIT_NOFILE)?;
        Some(format!(
            "; {limit} descriptors are allowed (RLIMIT_NOFILE: `ulimit -n`, or LimitNOFILE=)"
        ))
    };
    let found = match error.raw_os_error() {
        Some(libc::EMFILE) => descriptors(),
        Some(libc::ENOMEM) => address_space(LARGE_BYTES).or_else(|| data(LARGE_BYTES)),
        Some(libc::EAGAIN) => address_space(0).or_else(|| data(0)).or_else(processes),
        _ => None,
    };
    found.unwrap_or_default()
}
