//! Lockable memory. The kernel counts it per *user id on the host*, all processes and containers of that id together,
//! against the limit of the process that asks (RLIMIT_MEMLOCK).
//!
//! Rings count from Linux 6.14 on (before, from 5.12, they were memory of the control group only); an arena that is
//! registered for zero-copy counts on every kernel.

use std::fmt;

use crate::Host;

/// What the rings of one shard lock, in bytes: the data ring (4,096 submissions of 64 bytes, 8,192 completions of 16
/// bytes, and their index), its three groups of receive buffers, and the three small rings of glommio. Measured on
/// Linux 6.18 with the limit lowered until it does not start any more (ADR 0055).
pub const SHARD_LOCKED_BYTES: u64 = 640 << 10;
/// What the control side locks beside the shards, likewise.
const CONTROL_LOCKED_BYTES: u64 = 32 << 10;
/// Bit of CAP_IPC_LOCK in `CapEff`.
const CAP_IPC_LOCK: u32 = 14;
/// Processes that are looked at: more are not Weir's.
const PROCESSES_MAX: usize = 100_000;

/// Soft limit of what the process may lock, in bytes; `u64::MAX`: unlimited. None: /proc does not say.
pub fn memlock_limit(host: &Host) -> Option<u64> {
    let limits = host.of_process("limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        bytes => bytes.parse().ok(),
    }
}

/// The process has CAP_IPC_LOCK: nothing is counted.
pub fn may_lock_anything(host: &Host) -> bool {
    let status = host.of_process("status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1)
}

/// What shards lock, as a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Shards of this process.
    pub shards: u64,
    /// Shards of other distributors that count against the same user id, as far as they can be seen.
    pub others: u64,
}

impl Locked {
    /// Of all of them, in bytes.
    pub fn bytes(&self) -> u64 {
        (self.shards + self.others) * SHARD_LOCKED_BYTES + CONTROL_LOCKED_BYTES
    }
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_each = SHARD_LOCKED_BYTES >> 10;
        let shards = self.shards;
        write!(f, "{shards} shards x {of_each} KiB")?;
        if self.others > 0 {
            let others = self.others;
            write!(
                f,
                " + {others} shards of other distributors x {of_each} KiB"
            )?;
        }
        let control = CONTROL_LOCKED_BYTES >> 10;
        write!(f, " + {control} KiB = {} KiB", self.bytes() >> 10)
    }
}

/// Shards of other distributors of the same user id: their threads, which are named. Those of other containers are not
/// seen from inside one, and count all the same.
pub fn locked_by_others(host: &Host) -> u64 {
    let user_of = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let Some(own) = host.of_process("status") else {
        return 0;
    };
    let pid_of = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        Some(line.trim().to_owned())
    };
    let (user, own_pid) = (user_of(&own), pid_of(&own));
    let names = host.names("/proc");
    let processes = names
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let others = processes.take(PROCESSES_MAX).filter(|pid| {
        let status = host.text(&format!("/proc/{pid}/status"));
        let is_ours = |status: String| user_of(&status) == user;
        Some((*pid).clone()) != own_pid && status.is_some_and(is_ours)
    });
    others.map(|pid| shards_of(host, pid)).sum()
}

fn shards_of(host: &Host, pid: &str) -> u64 {
    let tasks = format!("/proc/{pid}/task");
    let is_shard = |task: &&String| {
        let name = host.text(&format!("{tasks}/{task}/comm"));
        name.is_some_and(|name| name.starts_with("shard-"))
    };
    host.names(&tasks).iter().filter(is_shard).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_other_distributors_of_the_same_user_are_added_up() {
        let dir = std::env::temp_dir().join(format!("weir-locked-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let status = |pid, user| format!("Name:\tweir\nPid:\t{pid}\nUid:\t{user}\t{user}\t0\t0\n");
        let files = [
            ("self/status", status(70, 1000)),
            ("70/status", status(70, 1000)),
            ("70/task/71/comm", "shard-0\n".into()),
            ("80/status", status(80, 1000)),
            ("80/task/80/comm", "weir\n".into()),
            ("80/task/81/comm", "shard-0\n".into()),
            ("80/task/82/comm", "shard-1\n".into()),
            ("90/status", status(90, 1001)),
            ("90/task/91/comm", "shard-0\n".into()),
        ];
        for (path, text) in files {
            let path = dir.join("proc").join(path);
            std::fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            std::fs::write(path, text).expect("written");
        }
        let host = Host::new(Some(dir.clone()), None, false);
        let others = locked_by_others(&host);
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(others, 2, "neither its own nor another user's");
        let locked = Locked { shards: 1, others };
        assert_eq!(
            locked.to_string(),
            "1 shards x 640 KiB + 2 shards of other distributors x 640 KiB + 32 KiB = 1952 KiB"
        );
    }
}
