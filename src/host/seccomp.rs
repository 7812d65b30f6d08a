//! Whether a seccomp filter decides which system calls this process may make.

use crate::Host;

/// A filter is in force: `Seccomp: 2` in the status of the process. 0: none, 1: the strict mode, in which nothing runs.
pub fn has_filter(host: &Host) -> bool {
    let status = host.of_process("status").unwrap_or_default();
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}
