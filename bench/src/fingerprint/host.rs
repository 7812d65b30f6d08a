//! Kernel, CPU, memory, limits and settings, out of /proc and /sys.

use super::{put, Section, Tree};

const CPU: &str = "sys/devices/system/cpu";

/// Settings that move the figures of a distributor, or stop it.
const SYSCTLS: [&str; 27] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.numa_balancing",
    "kernel.perf_event_paranoid",
    "kernel.sched_rt_runtime_us",
    "kernel.timer_migration",
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.default_qdisc",
    "net.core.dev_weight",
    "net.core.netdev_budget",
    "net.core.netdev_max_backlog",
    "net.core.optmem_max",
    "net.core.rmem_max",
    "net.core.rps_sock_flow_entries",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_autocorking",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "vm.swappiness",
];

/// Boot parameters that move figures. The others may tell what is nobody's business.
const BOOT_PARAMETERS: [&str; 29] = [
    "amd_pstate",
    "clocksource",
    "cpufreq.default_governor",
    "default_hugepagesz",
    "hugepages",
    "hugepagesz",
    "idle",
    "intel_idle.max_cstate",
    "intel_iommu",
    "intel_pstate",
    "iommu",
    "iommu.passthrough",
    "irqaffinity",
    "isolcpus",
    "kthread_cpus",
    "mitigations",
    "nohz",
    "nohz_full",
    "nosmt",
    "numa_balancing",
    "preempt",
    "processor.max_cstate",
    "rcu_nocbs",
    "skew_tick",
    "spectre_v2",
    "threadirqs",
    "transparent_hugepage",
    "tsc",
    "tuned.non_isolcpus",
];

pub(super) fn kernel(tree: &Tree) -> Section {
    let mut section = Section::new();
    for (name, path) in [
        ("release", "proc/sys/kernel/osrelease"),
        ("version", "proc/sys/kernel/version"),
        (
            "clocksource",
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
        ),
        (
            "clocksources",
            "sys/devices/system/clocksource/clocksource0/available_clocksource",
        ),
    ] {
        section.insert(name.into(), tree.value(path));
    }
    let distribution = tree.text("etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    put(&mut section, "distribution", distribution);
    let command_line = tree.text("proc/cmdline").map(|text| {
        let of_note = |word: &&str| {
            let name = word.split('=').next().unwrap_or_default();
            BOOT_PARAMETERS.contains(&name)
        };
        let words: Vec<&str> = text.split_whitespace().filter(of_note).collect();
        words.join(" ")
    });
    put(&mut section, "boot parameters of note", command_line);
    section
}

pub(super) fn cpu(tree: &Tree) -> Section {
    let mut section = Section::new();
    let info = tree.text("proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| -> Option<String> {
        info.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    put(&mut section, "model", field("model name"));
    put(&mut section, "microcode", field("microcode"));
    put(
        &mut section,
        "MHz of the first at this moment",
        field("cpu MHz"),
    );
    let online = info.lines().filter(|line| line.starts_with("processor"));
    let online = Some(online.count()).filter(|n| *n > 0);
    put(&mut section, "online", online.map(|n| n.to_string()));
    let is_guest = field("flags").map(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let guest = is_guest.map(|is| if is { "yes" } else { "no" }.to_owned());
    put(&mut section, "below a hypervisor", guest);
    for (name, path) in [
        ("governor", "cpu0/cpufreq/scaling_governor"),
        ("frequency driver", "cpu0/cpufreq/scaling_driver"),
        ("boost", "cpufreq/boost"),
        ("intel_pstate/no_turbo", "intel_pstate/no_turbo"),
        ("idle driver", "cpuidle/current_driver"),
        ("SMT", "smt/control"),
        ("threads of core 0", "cpu0/topology/thread_siblings_list"),
        ("isolated", "isolated"),
        ("nohz_full", "nohz_full"),
    ] {
        section.insert(name.into(), tree.value(&format!("{CPU}/{path}")));
    }
    for (name, index) in [("L1d", 0), ("L2", 2), ("L3", 3)] {
        let path = format!("{CPU}/cpu0/cache/index{index}/size");
        section.insert(name.into(), tree.value(&path));
    }
    section
}

/// One for each weakness that the kernel knows.
pub(super) fn mitigations(tree: &Tree) -> Section {
    let directory = format!("{CPU}/vulnerabilities");
    let names = tree.names(&directory);
    let value = |name: String| {
        let value = tree.value(&format!("{directory}/{name}"));
        (name, value)
    };
    names.into_iter().map(value).collect()
}

pub(super) fn memory(tree: &Tree) -> Section {
    let mut section = Section::new();
    let info = tree.text("proc/meminfo").unwrap_or_default();
    for (name, key) in [
        ("total", "MemTotal"),
        ("available", "MemAvailable"),
        ("swap", "SwapTotal"),
        ("huge pages", "HugePages_Total"),
        ("huge page size", "Hugepagesize"),
    ] {
        let value = info.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == key).then(|| value.trim().to_owned())
        });
        put(&mut section, name, value);
    }
    for (name, path) in [
        ("transparent huge pages", "enabled"),
        ("transparent huge pages, defrag", "defrag"),
    ] {
        let path = format!("sys/kernel/mm/transparent_hugepage/{path}");
        section.insert(name.into(), tree.value(&path));
    }
    let nodes = tree.value("sys/devices/system/node/online");
    section.insert("NUMA nodes".into(), nodes);
    section
}

/// Of this process, which the system under test inherits.
pub(super) fn limits(tree: &Tree) -> Section {
    let mut section = Section::new();
    let text = tree.text("proc/self/limits").unwrap_or_default();
    for (name, key) in [
        ("nofile", "Max open files"),
        ("memlock", "Max locked memory"),
        ("nproc", "Max processes"),
        ("rtprio", "Max realtime priority"),
    ] {
        let value = text.lines().find_map(|line| {
            let mut fields = line.strip_prefix(key)?.split_whitespace();
            Some(format!("soft {}, hard {}", fields.next()?, fields.next()?))
        });
        put(&mut section, name, value);
    }
    section
}

pub(super) fn sysctl(tree: &Tree) -> Section {
    let value = |name: &&str| {
        let path = format!("proc/sys/{}", name.replace('.', "/"));
        ((*name).to_owned(), tree.value(&path))
    };
    SYSCTLS.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_in_order_and_once() {
        assert!(SYSCTLS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
