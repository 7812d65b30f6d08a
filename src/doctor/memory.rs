//! Pages: huge ones, those on other nodes, those on disk.

use super::{found, good, Host, Level, Mend, Outcome, Plan, Worth};

const THP: &str = "/sys/kernel/mm/transparent_hugepage";

pub fn huge_pages(host: &Host, _: &Plan) -> Outcome {
    match host.choice(&format!("{THP}/enabled")).as_deref() {
        None => Outcome::Unknown("kernel without transparent huge pages"),
        Some("never") => found(
            Level::Warning,
            "huge pages are off, and Weir asks for them for its arena and receive memory".into(),
            Mend::Stage("hugepages"),
            Worth::Sourced(
                "mm/transhuge.rst: one TLB entry for 2 MiB in place of 512; not measured here",
            ),
        ),
        Some(word) => good(word),
    }
}

pub fn huge_page_stalls(host: &Host, _: &Plan) -> Outcome {
    let says = match host.choice(&format!("{THP}/defrag")).as_deref() {
        None => return Outcome::Unknown("kernel without transparent huge pages"),
        Some("always") => "every program waits for memory to be compacted when it touches new pages (defrag always)",
        Some("never") => "no huge page is made when none is free (defrag never): Weir gets small ones",
        Some(word) => return good(word),
    };
    let worth = Worth::Sourced("mm/transhuge.rst, defrag; not measured here");
    found(Level::Warning, says.into(), Mend::Stage("hugepages"), worth)
}

pub fn numa_balancing(host: &Host, _: &Plan) -> Outcome {
    match host.number("/proc/sys/kernel/numa_balancing") {
        None => good("kernel without it"),
        Some(0) => good("off"),
        Some(_) => found(
            Level::Warning,
            "the kernel unmaps pages to see who uses them (kernel.numa_balancing is 1): page faults in the arena".into(),
            Mend::Stage("hugepages"),
            Worth::Sourced("sysctl/kernel.rst: to be switched off for loads that are bound to their nodes; not measured here"),
        ),
    }
}

pub fn swap(host: &Host, _: &Plan) -> Outcome {
    let Some(swaps) = host.text("/proc/swaps") else {
        return Outcome::Unknown("no /proc/swaps");
    };
    let devices: Vec<&str> = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if devices.is_empty() {
        return good("none");
    }
    found(
        Level::Warning,
        format!("swap is on ({}): what is not locked of the arena may go to disk, and a shard waits for it", devices.join(", ")),
        Mend::Advice("sudo swapoff -a; for Weir alone MemorySwapMax=0 in its unit".into()),
        Worth::Sourced("mlock(2): a page fault that reads a disk, in which the shard does nothing else; not measured here"),
    )
}
