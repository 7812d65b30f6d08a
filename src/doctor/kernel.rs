//! The kernel: its version, io_uring, clock and mitigations.

use super::{found, good, Host, Level, Mend, Outcome, Plan, Worth};
use weir_runtime::uring::{Features, KERNEL_MIN};

/// From here on there is everything that Weir can use.
const KERNEL_WHOLE: (u32, u32) = (6, 12);
/// Bit of CAP_SYS_ADMIN in `CapEff`.
const CAP_SYS_ADMIN: u32 = 21;
/// Clocks that are read without a system call.
const FAST_CLOCKS: [&str; 5] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "timebase",
];

pub fn version(host: &Host, _: &Plan) -> Outcome {
    let Some(release) = host.text("/proc/sys/kernel/osrelease") else {
        return Outcome::Unknown("/proc/sys/kernel/osrelease is not there");
    };
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (part(), part()) else {
        return Outcome::Unknown("the kernel's release is not two numbers");
    };
    let newer =
        |than: (u32, u32)| Mend::Advice(format!("boot Linux {}.{} or later", than.0, than.1));
    if (major, minor) < KERNEL_MIN {
        let says = format!(
            "Linux {release} is too old: Weir needs {}.{}",
            KERNEL_MIN.0, KERNEL_MIN.1
        );
        let worth = Worth::Plain("Weir starts");
        return found(Level::Fault, says, newer(KERNEL_WHOLE), worth);
    }
    if (major, minor) < KERNEL_WHOLE {
        let says = format!("Linux {release} lacks receive buffers that are shared (6.12) and waiting for a minimum time (6.12)");
        let worth = Worth::Measured(
            "prototype: 173 ns a message with shared receive buffers, 290 with buffers of 16 KiB",
        );
        return found(Level::Warning, says, newer(KERNEL_WHOLE), worth);
    }
    good(release)
}

pub fn io_uring(host: &Host, _: &Plan) -> Outcome {
    let forbidden = |says: String| {
        let worth = Worth::Plain("Weir starts");
        found(Level::Fault, says, Mend::Stage("sysctl"), worth)
    };
    match host.text("/proc/sys/kernel/io_uring_disabled").as_deref() {
        Some("0") => good("kernel.io_uring_disabled is 0"),
        Some("1") => match may_use_io_uring(host) {
            Some(why) => found(
                Level::Note,
                format!("kernel.io_uring_disabled is 1: only for CAP_SYS_ADMIN and the group kernel.io_uring_group. This process may use it ({why}); weir.service, which has no capabilities, only if that is its group"),
                Mend::Command("sudo sysctl kernel.io_uring_group=$(getent group weir-admin | cut -d: -f3)".into()),
                Worth::Plain("Weir starts as a service as well"),
            ),
            None => forbidden("io_uring is forbidden to this process: kernel.io_uring_disabled is 1, it has no CAP_SYS_ADMIN, and is not in the group kernel.io_uring_group".into()),
        },
        Some("2") => forbidden("io_uring is forbidden: kernel.io_uring_disabled is 2: to everybody, root too".into()),
        Some(other) => forbidden(format!("kernel.io_uring_disabled is {other}, which is not known here (0: allowed, 1: to a group, 2: to nobody)")),
        None => good("kernel without the switch"),
    }
}

/// Why the process may, when io_uring is for some only: as io_uring_allowed() in io_uring/io_uring.c of Linux
/// asks, CAP_SYS_ADMIN of the first user namespace, or the file system's group or a supplementary one.
fn may_use_io_uring(host: &Host) -> Option<String> {
    let status = host.of_process("status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let caps = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
    let map = host.of_process("uid_map").unwrap_or_default();
    let is_first_namespace = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if caps >> CAP_SYS_ADMIN & 1 == 1 && is_first_namespace {
        return Some("CAP_SYS_ADMIN".into());
    }
    // -1: nobody's.
    let group = host.number("/proc/sys/kernel/io_uring_group")?.to_string();
    let mut groups = field("Gid:")?
        .split_whitespace()
        .skip(3)
        .take(1)
        .chain(field("Groups:").unwrap_or_default().split_whitespace());
    groups
        .any(|one| one == group)
        .then(|| format!("group {group}"))
}

/// Tries them: what the sysctl allows, a seccomp filter may still forbid.
pub fn ring_features(host: &Host, _: &Plan) -> Outcome {
    if !host.is_this() {
        return Outcome::Unknown("tried on this host only, not with --root");
    }
    let features = match Features::probe() {
        Ok(features) => features,
        Err(why) => {
            let mend = Mend::Advice("as the sentence says".into());
            let worth = Worth::Plain("Weir starts");
            return found(Level::Fault, why.to_string(), mend, worth);
        }
    };
    let all = [
        ("defer-taskrun (6.1)", features.defer_taskrun),
        ("shared receive buffers (6.12)", features.incremental),
        ("min-wait (6.12)", features.min_wait),
        ("zero-copy sends (6.0)", features.send_zc),
    ];
    let missing: Vec<&str> = all
        .iter()
        .filter(|(_, has)| !has)
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return good("defer-taskrun, shared receive buffers, min-wait, zero-copy sends");
    }
    found(
        Level::Warning,
        format!("the ring lacks {}: Weir does without", missing.join(", ")),
        Mend::Advice("boot Linux 6.12 or later; in a container, allow io_uring_register".into()),
        Worth::Measured("prototype: 173 ns a message with shared receive buffers, 290 without"),
    )
}

pub fn clocksource(host: &Host, _: &Plan) -> Outcome {
    let dir = "/sys/devices/system/clocksource/clocksource0";
    let Some(current) = host.text(&format!("{dir}/current_clocksource")) else {
        return Outcome::Unknown("no clocksource in /sys");
    };
    if FAST_CLOCKS.contains(&current.as_str()) {
        return good(current);
    }
    let available = host
        .text(&format!("{dir}/available_clocksource"))
        .unwrap_or_default();
    let better = available
        .split_whitespace()
        .find(|name| FAST_CLOCKS.contains(name));
    let mend = match better {
        Some(name) => Mend::Command(format!("echo {name} | sudo tee {dir}/current_clocksource")),
        None => Mend::Advice("look in the kernel's log why the fast clock was given up (dmesg | grep -i clocksource)".into()),
    };
    let says = format!(
        "the clock is {current}: reading it is a system call, and Weir reads it in every turn"
    );
    let worth = Worth::Sourced(
        "vdso(7): a clock that user space can read needs no system call; not measured here",
    );
    found(Level::Warning, says, mend, worth)
}

/// Page-table isolation is the one that makes each kernel entry dearer.
pub fn mitigations(host: &Host, _: &Plan) -> Outcome {
    let dir = "/sys/devices/system/cpu/vulnerabilities";
    if !host.has(dir) {
        return Outcome::Unknown("no vulnerabilities in /sys");
    }
    let meltdown = host.text(&format!("{dir}/meltdown")).unwrap_or_default();
    if !meltdown.contains("PTI") {
        return good("no page-table isolation");
    }
    found(
        Level::Note,
        "page-table isolation is on (meltdown): each kernel entry changes the page table".into(),
        Mend::Advice("a CPU that does not need it; do not switch it off where others run".into()),
        Worth::Sourced("arch/x86/pti.rst: writes of CR3, on the order of a hundred cycles, at each entry and exit; Weir enters seldom under load"),
    )
}
