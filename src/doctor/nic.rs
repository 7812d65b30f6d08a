//! Network interfaces: queues, who does the TCP, how often they interrupt.

use super::thresholds::RFS_ENTRIES_MIN;
use super::{found, good, Host, Level, Mend, Outcome, Plan, Worth};
use weir_host::list_of_cpus;

const NO_NIC: Outcome = Outcome::Unknown("no network interface with a device");
const NO_ETHTOOL: Outcome =
    Outcome::Unknown("ethtool is not installed, or the driver does not say");
/// What an interface should do itself, and how `ethtool -K` calls it.
const OFFLOADS: [(&str, &str); 3] = [
    ("tcp-segmentation-offload", "tso"),
    ("generic-segmentation-offload", "gso"),
    ("generic-receive-offload", "gro"),
];

/// Number of receive queues.
fn receive_queues(host: &Host, nic: &str) -> usize {
    let names = host.names(&format!("/sys/class/net/{nic}/queues"));
    names.iter().filter(|name| name.starts_with("rx-")).count()
}

/// Combined channels: most, and now. None if the driver has none.
fn channels(host: &Host, nic: &str) -> Option<(usize, usize)> {
    let text = host.ethtool("-l", nic)?;
    let mut combined = text
        .lines()
        .filter_map(|line| line.strip_prefix("Combined:"));
    let mut next = || combined.next()?.trim().parse().ok();
    Some((next()?, next()?))
}

pub fn queues(host: &Host, plan: &Plan) -> Outcome {
    let wanted = plan.housekeeping(host).len();
    let mut known = Vec::new();
    for nic in host.nics() {
        let Some((most, is)) = channels(host, &nic) else {
            continue;
        };
        if is < most.min(wanted) {
            return found(
                Level::Warning,
                format!("{nic} uses {is} of its {most} queues, and {wanted} cores could serve them"),
                Mend::Stage("irq"),
                Worth::Sourced("scaling.rst, RSS: a queue for each core that takes interrupts; not measured here"),
            );
        }
        known.push(format!("{nic} {is} of {most}"));
    }
    match known.is_empty() {
        true => NO_ETHTOOL,
        false => good(known.join(", ")),
    }
}

pub fn steering(host: &Host, plan: &Plan) -> Outcome {
    let nics = host.nics();
    if nics.is_empty() {
        return NO_NIC;
    }
    let others = plan.others(host);
    let wanted = plan.housekeeping(host);
    for nic in &nics {
        let queues = receive_queues(host, nic);
        for queue in 0..queues {
            let path = format!("/sys/class/net/{nic}/queues/rx-{queue}/rps_cpus");
            let Some(cpus) = host.mask(&path) else {
                continue;
            };
            let says = if queues < wanted.len() && cpus.is_empty() {
                format!("{nic} has {queues} receive queue(s) for {} cores, and RPS is off: one core does the TCP of all connections of a queue", wanted.len())
            } else if queues >= wanted.len() && !cpus.is_empty() {
                format!("{nic} has a queue for each core, and RPS moves packets all the same (rx-{queue}: cores {})", list_of_cpus(&cpus))
            } else if !others.is_empty() && cpus.iter().any(|cpu| plan.cores.contains(cpu)) {
                format!(
                    "{nic} gives packets to Weir's cores by a hash (rx-{queue}: cores {})",
                    list_of_cpus(&cpus)
                )
            } else {
                continue;
            };
            let worth =
                Worth::Sourced("scaling.rst, RPS, suggested configuration; not measured here");
            return found(Level::Warning, says, Mend::Stage("steering"), worth);
        }
    }
    good(format!("{} as its queues need it", nics.join(", ")))
}

pub fn flow_steering(host: &Host, plan: &Plan) -> Outcome {
    if !plan.others(host).is_empty() {
        return good("not wanted: TCP runs on other cores than Weir's");
    }
    let nics = host.nics();
    let nics: Vec<&String> = nics
        .iter()
        .filter(|nic| receive_queues(host, nic) > 0)
        .collect();
    let Some(nic) = nics.first() else {
        return NO_NIC;
    };
    let Some(entries) = host.number("/proc/sys/net/core/rps_sock_flow_entries") else {
        return Outcome::Unknown("kernel without RFS, or a network namespace");
    };
    let of_queue = host.number(&format!("/sys/class/net/{nic}/queues/rx-0/rps_flow_cnt"));
    if entries >= RFS_ENTRIES_MIN && of_queue.is_some_and(|entries| entries > 0) {
        return good(format!("{entries} entries"));
    }
    found(
        Level::Note,
        format!("packets of {nic} are not taken to the core whose shard reads them (RFS: {entries} entries, {RFS_ENTRIES_MIN} wanted)"),
        Mend::Stage("steering"),
        Worth::Sourced("scaling.rst, RFS: more hits in the caches; not measured here"),
    )
}

pub fn coalescing(host: &Host, _: &Plan) -> Outcome {
    let nics = host.nics();
    if nics.is_empty() {
        return NO_NIC;
    }
    let mut known = Vec::new();
    for nic in &nics {
        let text = host.ethtool("-c", nic).unwrap_or_default();
        let Some(line) = text
            .lines()
            .find_map(|line| line.strip_prefix("Adaptive RX:"))
        else {
            continue;
        };
        match line.split_whitespace().next() {
            Some("off") => {
                return found(
                    Level::Note,
                    format!("{nic} does not adapt its interrupts to the traffic (adaptive-rx off)"),
                    Mend::Stage("coalescing"),
                    Worth::Sourced("net_dim.rst; not measured here, and not every driver can (tune.sh says `kept` then)"),
                )
            }
            Some("on") => known.push(nic.as_str()),
            _ => {}
        }
    }
    match known.is_empty() {
        true => NO_ETHTOOL,
        false => good(format!("{} adaptive", known.join(", "))),
    }
}

pub fn offloads(host: &Host, _: &Plan) -> Outcome {
    let nics = host.nics();
    if nics.is_empty() {
        return NO_NIC;
    }
    for nic in &nics {
        let Some(features) = host.ethtool("-k", nic) else {
            return NO_ETHTOOL;
        };
        let is_off = |name: &str| features.lines().any(|line| line == format!("{name}: off"));
        let off: Vec<(&str, &str)> = OFFLOADS
            .into_iter()
            .filter(|(name, _)| is_off(name))
            .collect();
        if !off.is_empty() {
            let names: Vec<&str> = off.iter().map(|(name, _)| *name).collect();
            let flags: Vec<String> = off.iter().map(|(_, flag)| format!("{flag} on")).collect();
            return found(
                Level::Warning,
                format!("{nic} leaves work to the CPU: {} off", names.join(", ")),
                Mend::Command(format!("sudo ethtool -K {nic} {}", flags.join(" "))),
                Worth::Sourced("networking/segmentation-offloads.rst: one pass through the stack for up to 64 KiB in place of one for each packet of 1,448 bytes"),
            );
        }
    }
    good(format!(
        "{}: segmentation and receive offload on",
        nics.join(", ")
    ))
}
