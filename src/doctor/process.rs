//! What a process may use: descriptors, locked memory, CPU time, memory. They are those of the process that
//! asks, or of `--pid`.

use super::thresholds::{NOFILE_LEAST, NOFILE_MIN};
use super::{found, good, mib, Host, Level, Mend, Outcome, Plan, Worth};

/// Two shards started with so much locked memory and without zero-copy; with 2 MiB they did not. Bytes.
const MEMLOCK_LEAST: u64 = 8 << 20;
/// What the stage `limits` writes.
const LIMITS_FILE: &str = "/etc/security/limits.d/90-weir.conf";
/// Bit of CAP_IPC_LOCK in `CapEff`.
const CAP_IPC_LOCK: u32 = 14;

/// Soft and hard limit; unlimited is the largest number.
fn limit(host: &Host, name: &str) -> Option<(u64, u64)> {
    let limits = host.of_process("limits")?;
    let line = limits.lines().find(|line| line.starts_with(name))?;
    let mut values = line[name.len()..]
        .split_whitespace()
        .map(|word| match word {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
    Some((values.next()??, values.next()??))
}

fn may_lock_anything(host: &Host) -> bool {
    let status = host.of_process("status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1)
}

/// A limit that is too low, and whether limits.d already has the right one.
fn too_low(host: &Host, level: Level, says: String, worth: Worth) -> Outcome {
    if host.has(LIMITS_FILE) {
        let mend = Mend::Advice(format!(
            "log in again: {LIMITS_FILE} is there. A systemd unit: LimitMEMLOCK= and LimitNOFILE="
        ));
        return found(Level::Note, says, mend, worth);
    }
    found(level, says, Mend::Stage("limits"), worth)
}

pub fn memlock(host: &Host, plan: &Plan) -> Outcome {
    let Some((soft, _)) = limit(host, "Max locked memory") else {
        return Outcome::Unknown("no limits in /proc");
    };
    if may_lock_anything(host) {
        return good("CAP_IPC_LOCK: any amount");
    }
    let needed = plan.locked_bytes();
    if soft < MEMLOCK_LEAST {
        let says = format!(
            "only {} may be locked: the rings of a shard need more",
            mib(soft)
        );
        let worth = Worth::Measured("two shards start with 8 MiB, and not with 2 MiB (Linux 6.18)");
        return too_low(host, Level::Fault, says, worth);
    }
    if plan.is_zero_copy_wanted && soft < needed {
        let says = format!(
            "only {} may be locked, and zero-copy needs {} ({} shards): sends will be copied",
            mib(soft),
            mib(needed),
            plan.shards
        );
        let worth = Worth::Sourced("published for SEND_ZC on a NIC: 26 % of the cycles of a send saved at 8 KiB, 42 % at 16 KiB, 58 % at 64 KiB; nothing on loopback");
        return too_low(host, Level::Warning, says, worth);
    }
    good(match soft {
        u64::MAX => "unlimited".into(),
        bytes => mib(bytes),
    })
}

pub fn nofile(host: &Host, plan: &Plan) -> Outcome {
    let Some((_, hard)) = limit(host, "Max open files") else {
        return Outcome::Unknown("no limits in /proc");
    };
    let division = match plan.descriptors.divide(hard) {
        Ok(division) => division,
        Err(error) => {
            return too_low(
                host,
                Level::Fault,
                error.to_string(),
                Worth::Plain("Weir starts"),
            )
        }
    };
    if hard < NOFILE_LEAST {
        let says = format!("few descriptors, then emitters are turned away: {division}");
        let worth = Worth::Plain("connections: the stage allows 1,048,576");
        return too_low(host, Level::Warning, says, worth);
    }
    good(match hard >= NOFILE_MIN {
        true => division.to_string(),
        false => format!("{division} (the stage limits gives {NOFILE_MIN})"),
    })
}

/// The process's control group and those above it, without a slash at the end.
fn groups(host: &Host) -> Vec<String> {
    let text = host.of_process("cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(own) = own.filter(|_| host.has("/sys/fs/cgroup/cgroup.controllers")) else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    let mut path = own;
    while !path.is_empty() {
        paths.push(format!("/sys/fs/cgroup/{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    paths
}

pub fn cpu_quota(host: &Host, plan: &Plan) -> Outcome {
    let groups = groups(host);
    for group in &groups {
        let Some(max) = host.text(&format!("{group}/cpu.max")) else {
            continue;
        };
        let mut words = max.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (Some(Some(quota)), Some(Some(period))) = (words.next(), words.next()) else {
            continue;
        };
        let needed = plan.cores.len() as u64;
        if quota < needed * period {
            let cores = quota as f64 / period.max(1) as f64;
            return found(
                Level::Warning,
                format!("{group} may use {cores:.2} cores, and Weir has {needed}: when the quota is used up, all shards stand still until the next period ({} ms)", period / 1000),
                Mend::Advice("take the quota away (CPUQuota= of the unit, --cpus of the container), or give Weir fewer --cores".into()),
                Worth::Sourced("scheduler/sched-bwc.rst: a throttled group waits for its next period; that is latency for every connection"),
            );
        }
    }
    match groups.is_empty() {
        true => Outcome::Unknown("not in a control group of version 2"),
        false => good("none below the cores"),
    }
}

pub fn memory(host: &Host, plan: &Plan) -> Outcome {
    let needed = plan.memory_bytes();
    let mend = || Mend::Advice("lower --arena (per shard), or run fewer shards".into());
    for group in groups(host) {
        let Some(max) = host.number(&format!("{group}/memory.max")) else {
            continue;
        };
        if max < needed {
            let says = format!(
                "{group} may use {}, and {} shards take {}",
                mib(max),
                plan.shards,
                mib(needed)
            );
            return found(
                Level::Fault,
                says,
                mend(),
                Worth::Plain("Weir is not killed for its memory"),
            );
        }
    }
    let info = host.text("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
            .map(|kib| kib << 10)
    };
    let (Some(total), Some(free)) = (bytes("MemTotal:"), bytes("MemAvailable:")) else {
        return Outcome::Unknown("no /proc/meminfo");
    };
    if total < needed || free < needed {
        let says = format!(
            "{} shards take {}: {} are free, of {}",
            plan.shards,
            mib(needed),
            mib(free),
            mib(total)
        );
        let level = if total < needed {
            Level::Fault
        } else {
            Level::Warning
        };
        return found(
            level,
            says,
            mend(),
            Worth::Plain("Weir is not killed for its memory"),
        );
    }
    good(format!("{} of {} free", mib(needed), mib(free)))
}

/// What the interface must be able to do for a send to reach it without a copy.
pub fn zero_copy(host: &Host, plan: &Plan) -> Outcome {
    if !plan.is_zero_copy_wanted {
        return good("not wanted");
    }
    let nics = host.nics();
    if nics.is_empty() {
        return Outcome::Unknown("no network interface with a device: nothing but copies");
    }
    for nic in &nics {
        let Some(features) = host.ethtool("-k", nic) else {
            return Outcome::Unknown("ethtool is not installed");
        };
        for name in ["scatter-gather", "tx-checksumming"] {
            if features
                .lines()
                .any(|line| line.starts_with(&format!("{name}: off")))
            {
                return found(
                    Level::Warning,
                    format!("{nic} cannot send without a copy: {name} is off"),
                    Mend::Command(format!("sudo ethtool -K {nic} sg on tx on")),
                    Worth::Sourced("published for SEND_ZC on a NIC: 26 % of the cycles of a send saved at 8 KiB, 58 % at 64 KiB"),
                );
            }
        }
    }
    good(format!("{} can", nics.join(", ")))
}
