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
