//! Weir's cores: how fast they are there, and who else wants them.

use super::thresholds::EXIT_LATENCY_US_MAX;
use super::{found, good, Host, Level, Mend, Outcome, Plan, Worth};
use weir_host::list_of_cpus;

/// Most interrupts that are listed.
const LISTED_MAX: usize = 6;

fn cpu_dir(cpu: usize) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}")
}

pub fn governor(host: &Host, plan: &Plan) -> Outcome {
    let of = |cpu: &usize| host.text(&format!("{}/cpufreq/scaling_governor", cpu_dir(*cpu)));
    let mut slow = plan.cores.clone();
    slow.retain(|cpu| of(cpu).is_some_and(|governor| governor != "performance"));
    let Some(governor) = slow.first().and_then(of) else {
        let known = plan.cores.iter().find_map(of);
        return known.map_or(
            Outcome::Unknown("no cpufreq: a virtual machine, or a fixed clock"),
            good,
        );
    };
    found(
        Level::Warning,
        format!("cores {} change their clock rate (governor {governor}): a core that sleeps between batches looks idle", list_of_cpus(&slow)),
        Mend::Stage("power"),
        Worth::Sourced("pm/cpufreq.rst: performance keeps the highest frequency; not measured here"),
    )
}

/// The deepest state that a core may enter.
fn deepest(host: &Host, cpu: usize) -> Option<(String, u64)> {
    let dir = cpu_dir(cpu);
    let limit = host.text(&format!("{dir}/power/pm_qos_resume_latency_us"));
    let limit = match limit.as_deref() {
        Some("n/a") => Some(0),
        Some(text) => text.parse().ok().filter(|limit| *limit > 0),
        None => None,
    };
    let states = host.names(&format!("{dir}/cpuidle")).into_iter();
    let states = states.filter_map(|state| {
        let state = format!("{dir}/cpuidle/{state}");
        let latency = host.number(&format!("{state}/latency"))?;
        let is_off = host.number(&format!("{state}/disable")) == Some(1);
        let is_allowed = limit.is_none_or(|limit: u64| latency <= limit);
        (!is_off && is_allowed).then_some((host.text(&format!("{state}/name"))?, latency))
    });
    states.max_by_key(|(_, latency)| *latency)
}

pub fn c_states(host: &Host, plan: &Plan) -> Outcome {
    let mut known = None;
    let mut worst: Option<(String, u64)> = None;
    let mut cores = Vec::new();
    for &cpu in &plan.cores {
        let Some((name, latency)) = deepest(host, cpu) else {
            continue;
        };
        known = Some(format!("{name}, {latency} us"));
        if latency > EXIT_LATENCY_US_MAX {
            cores.push(cpu);
            if worst.as_ref().is_none_or(|(_, most)| latency > *most) {
                worst = Some((name, latency));
            }
        }
    }
    let Some((name, latency)) = worst else {
        return known.map_or(
            Outcome::Unknown("no idle states: a virtual machine, or idle=poll"),
            good,
        );
    };
    found(
        Level::Warning,
        format!("cores {} may sleep in {name}, {latency} us to wake up ({EXIT_LATENCY_US_MAX} allowed: a tenth of the latency budget)", list_of_cpus(&cores)),
        Mend::Stage("power"),
        Worth::Sourced("pm/cpuidle.rst: up to that time for the first message after a pause; not measured here"),
    )
}

pub fn isolation(host: &Host, plan: &Plan) -> Outcome {
    if plan.others(host).is_empty() {
        let says = "all cores are Weir's: interrupts, the control thread and everything else run on them as well";
        let mend = Mend::Advice(
            "on a host of its own with more than two cores, leave one or two out of --cores".into(),
        );
        let worth = Worth::Sourced("perftune.py of Seastar (issue 729): cores for interrupts alone, for the high percentiles");
        return found(Level::Note, says.into(), mend, worth);
    }
    let mut isolated = Vec::new();
    for file in [
        "/sys/devices/system/cpu/isolated",
        "/sys/fs/cgroup/cpuset.cpus.isolated",
    ] {
        isolated.extend(host.cpus(file).unwrap_or_default());
    }
    let group = "/sys/fs/cgroup/weir.slice";
    if host
        .text(&format!("{group}/cpuset.cpus.partition"))
        .as_deref()
        == Some("isolated")
    {
        isolated.extend(
            host.cpus(&format!("{group}/cpuset.cpus"))
                .unwrap_or_default(),
        );
    }
    let mut shared = plan.cores.clone();
    shared.retain(|cpu| !isolated.contains(cpu));
    if shared.is_empty() {
        return good(format!("cores {} are isolated", list_of_cpus(&plan.cores)));
    }
    let controllers = host
        .text("/sys/fs/cgroup/cgroup.controllers")
        .unwrap_or_default();
    let mend = match controllers.split_whitespace().any(|name| name == "cpuset") {
        true => Mend::Stage("isolate"),
        false => Mend::Advice(format!(
            "this host has no cpuset of control group v2: boot with isolcpus={}",
            list_of_cpus(&plan.cores)
        )),
    };
    found(
        Level::Note,
        format!(
            "cores {} are shared: the scheduler may put any other process there (isolate is opt-in: Weir must run in weir.slice then, examples/isolate.conf)",
            list_of_cpus(&shared)
        ),
        mend,
        Worth::Sourced("cgroup-v2.rst: an isolated partition keeps others off; not measured here"),
    )
}

/// Who handles an interrupt.
fn handler(host: &Host, irq: &str) -> Option<String> {
    let names = host.names(&format!("/proc/irq/{irq}"));
    names
        .into_iter()
        .find(|name| host.has(&format!("/proc/irq/{irq}/{name}/.")))
}

pub fn interrupts(host: &Host, plan: &Plan) -> Outcome {
    let cpus_of = |irq: &str| host.cpus(&format!("/proc/irq/{irq}/smp_affinity_list"));
    if plan.others(host).is_empty() {
        return one_core_serves_all(host);
    }
    let of_nics: Vec<String> = host
        .nics()
        .iter()
        .flat_map(|nic| host.irqs_of(nic))
        .collect();
    let mut here = Vec::new();
    let mut is_nic = false;
    for irq in host.names("/proc/irq") {
        let on_ours =
            cpus_of(&irq).is_some_and(|cpus| cpus.iter().any(|cpu| plan.cores.contains(cpu)));
        let Some(handler) = handler(host, &irq).filter(|_| on_ours) else {
            continue;
        };
        is_nic |= of_nics.contains(&irq);
        here.push(format!("{irq} ({handler})"));
    }
    if here.is_empty() {
        return good("none may come to Weir's cores");
    }
    let more = here.len().saturating_sub(LISTED_MAX);
    here.truncate(LISTED_MAX);
    let and = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    found(
        if is_nic { Level::Warning } else { Level::Note },
        format!("interrupts may come to Weir's cores: {}{and}", here.join(", ")),
        Mend::Stage("irq"),
        Worth::Sourced("perftune.py of Seastar (issue 729): interrupts on cores of their own, for the high percentiles; some are moved by the kernel alone and stay"),
    )
}

/// Without other cores, the queues of an interface should at least not all be on one.
fn one_core_serves_all(host: &Host) -> Outcome {
    for nic in host.nics() {
        let irqs = host.irqs_of(&nic);
        let cpus = irqs
            .iter()
            .filter_map(|irq| host.cpus(&format!("/proc/irq/{irq}/smp_affinity_list")));
        let cpus: Vec<Vec<usize>> = cpus.collect();
        let Some(first) = cpus.first().filter(|first| first.len() == 1) else {
            continue;
        };
        if cpus.len() > 1 && host.online().len() > 1 && cpus.iter().all(|other| other == first) {
            return found(
                Level::Warning,
                format!(
                    "all {} interrupts of {nic} go to core {}",
                    cpus.len(),
                    first[0]
                ),
                Mend::Stage("irq"),
                Worth::Sourced(
                    "scaling.rst: a core for each queue, or one core is the limit of all",
                ),
            );
        }
    }
    good("not all on one core")
}

pub fn irqbalance(host: &Host, plan: &Plan) -> Outcome {
    let is_there = host.names("/proc").iter().any(|name| {
        name.bytes().all(|c| c.is_ascii_digit())
            && host
                .text(&format!("/proc/{name}/comm"))
                .is_some_and(|comm| comm == "irqbalance")
    });
    if !is_there {
        return good("does not run");
    }
    if plan.others(host).is_empty() {
        return good("runs, and no core is to be kept free");
    }
    found(
        Level::Warning,
        "irqbalance runs: it moves interrupts back to Weir's cores".into(),
        Mend::Command("sudo systemctl disable --now irqbalance".into()),
        Worth::Sourced("irqbalance(1): it spreads over all cores that are not banned (IRQBALANCE_BANNED_CPULIST)"),
    )
}

pub fn siblings(host: &Host, plan: &Plan) -> Outcome {
    let of = |cpu: usize| host.cpus(&format!("{}/topology/thread_siblings_list", cpu_dir(cpu)));
    for &cpu in &plan.cores {
        let Some(threads) = of(cpu) else {
            return Outcome::Unknown("no topology in /sys");
        };
        let mut both = threads.clone();
        both.retain(|thread| plan.cores.contains(thread));
        if both.len() > 1 {
            return found(
                Level::Note,
                format!(
                    "CPUs {} are threads of one core: two shards there share its caches and units",
                    list_of_cpus(&both)
                ),
                Mend::Advice(
                    "one CPU of each core in --cores; let interrupts have the others".into(),
                ),
                Worth::Sourced("not measured here: a second thread brings less than a second core"),
            );
        }
    }
    good("each a core of its own")
}

pub fn numa(host: &Host, plan: &Plan) -> Outcome {
    let nodes = host.names("/sys/devices/system/node");
    let nodes = nodes.iter().filter_map(|name| {
        let node = name.strip_prefix("node")?.parse::<i64>().ok()?;
        let cpus = host.cpus(&format!("/sys/devices/system/node/{name}/cpulist"))?;
        cpus.iter()
            .any(|cpu| plan.cores.contains(cpu))
            .then_some(node)
    });
    let nodes: Vec<i64> = nodes.collect();
    for nic in host.nics() {
        let node = host.text(&format!("/sys/class/net/{nic}/device/numa_node"));
        // -1: the device does not say.
        let node = node
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|node| *node >= 0);
        if node.is_some_and(|node| !nodes.is_empty() && !nodes.contains(&node)) {
            return found(
                Level::Warning,
                format!("{nic} is at NUMA node {}, Weir's cores at {nodes:?}: each byte crosses the link between them", node.unwrap_or(-1)),
                Mend::Advice(format!("--cores from /sys/class/net/{nic}/device/local_cpulist")),
                Worth::Sourced("perftune.py and scaling.rst: queues and cores on the interface's node; not measured here"),
            );
        }
    }
    if nodes.len() > 1 {
        return found(
            Level::Note,
            format!("Weir's cores are at NUMA nodes {nodes:?}: batches of analyzers with one link cross between them"),
            Mend::Advice("one distributor for each node, or --cores of one node".into()),
            Worth::Sourced("not measured here"),
        );
    }
    good("one node")
}
