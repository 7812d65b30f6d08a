//! What a process may use: descriptors, locked memory, CPU time, memory. They are those of the process that
//! asks, or of `--pid`.

use weir_host::{
    cpu_quota as quota_of, groups, locked_by_others, may_lock_anything, memlock_limit,
    memory_limit, Locked,
};

use super::thresholds::{NOFILE_LEAST, NOFILE_MIN};
use super::{found, good, mib, Host, Level, Mend, Outcome, Plan, Worth};

/// What glommio asks of the limit before it makes a ring, in bytes.
const MEMLOCK_LEAST: u64 = 512 << 10;
/// From this kernel on, what rings lock is counted against the limit.
const RINGS_COUNT_FROM: (u32, u32) = (6, 14);
/// What the stage `limits` writes.
const LIMITS_FILE: &str = "/etc/security/limits.d/90-weir.conf";

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
    let Some(soft) = memlock_limit(host) else {
        return Outcome::Unknown("no limits in /proc");
    };
    if may_lock_anything(host) {
        return good("CAP_IPC_LOCK: any amount");
    }
    let locked = Locked {
        shards: plan.shards as u64,
        others: locked_by_others(host),
    };
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = weir_runtime::uring::parse_release(&release);
    let do_rings_count = kernel.is_none_or(|version| version >= RINGS_COUNT_FROM);
    if soft < MEMLOCK_LEAST || do_rings_count && soft < locked.bytes() {
        let says = format!(
            "only {} may be locked, and the rings need {locked}: the kernel counts all processes of a user id on this host together, those of other containers too",
            mib(soft)
        );
        let worth = Worth::Plain("Weir starts");
        return too_low(host, Level::Fault, says, worth);
    }
    let needed = plan.arenas_bytes() + locked.bytes();
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
        bytes => format!("{}, the rings need {locked}", mib(bytes)),
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

pub fn cpu_quota(host: &Host, plan: &Plan) -> Outcome {
    let Some(quota) = quota_of(host) else {
        return match groups(host, "cpu").is_empty() {
            true => Outcome::Unknown("not in a control group"),
            false => good("none"),
        };
    };
    if quota.whole_cores() >= plan.shards {
        return good(format!("{quota}, for {} shards", plan.shards));
    }
    found(
        Level::Warning,
        format!(
            "{quota}, and Weir has {} shards: when the quota is used up, all of them stand still until the next period ({} ms)",
            plan.shards,
            quota.period_us / 1000
        ),
        Mend::Advice(
            "take the quota away, or leave --shards and --cores out: there are as many shards as it allows then".into(),
        ),
        Worth::Sourced("scheduler/sched-bwc.rst: a throttled group waits for its next period; that is latency for every connection"),
    )
}

pub fn memory(host: &Host, plan: &Plan) -> Outcome {
    let needed = plan.memory.bytes();
    let mend = || Mend::Advice("lower --arena (per shard), or run fewer shards".into());
    if let Some(limit) = memory_limit(host).filter(|limit| limit.bytes < needed) {
        let says = format!(
            "{} allows {}, and Weir takes {}, connections left out",
            limit.file,
            mib(limit.bytes),
            plan.memory
        );
        let worth = Worth::Plain("Weir starts");
        return found(Level::Fault, says, mend(), worth);
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
