//! `weir doctor`: names what is wrong and nothing else, and agrees with the stages.

use std::process::{Command, Output};

use crate::tree::{said, Tree, WEIR};

/// Checks with this outcome.
fn ids(report: &serde_json::Value, outcomes: &[&str]) -> Vec<String> {
    let checks = report["checks"].as_array().expect("a list");
    let of =
        |check: &&serde_json::Value| outcomes.contains(&check["outcome"].as_str().expect("text"));
    let id = |check: &serde_json::Value| check["id"].as_str().expect("text").to_owned();
    checks.iter().filter(of).map(id).collect()
}

const FOUND: [&str; 3] = ["note", "warning", "fault"];

#[test]
fn a_healthy_host_has_nothing() {
    let tree = Tree::healthy("doctor-healthy");
    let (status, report) = tree.doctor("--cores 2-7");
    assert_eq!(ids(&report, &FOUND), [""; 0], "{report:#}");
    assert_eq!(ids(&report, &["unknown"]), ["ring-features"], "{report:#}");
    assert_eq!(status, Some(0));
    assert_eq!(report["ok"], 36);
}

/// A file of the healthy tree, what is planted there, the check that names it, a word of what it says,
/// the stage that mends it.
const PLANTED: [(&str, &str, &str, &str, Option<&str>); 34] = [
    (
        "proc/net/tcp",
        "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n",
        "ports",
        "8080 already",
        None,
    ),
    (
        "proc/sys/kernel/osrelease",
        "5.15.0-91-generic",
        "kernel",
        "5.15",
        None,
    ),
    (
        "proc/sys/kernel/osrelease",
        "6.1.0-18-amd64",
        "kernel",
        "6.12",
        None,
    ),
    (
        "proc/sys/kernel/io_uring_disabled",
        "2",
        "io-uring",
        "forbidden",
        Some("sysctl"),
    ),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "hpet",
        "clocksource",
        "hpet",
        None,
    ),
    (
        "sys/devices/system/cpu/vulnerabilities/meltdown",
        "Mitigation: PTI",
        "mitigations",
        "page-table",
        None,
    ),
    (
        "proc/self/limits",
        "Max open files  1024  1048576  files\nMax locked memory  65536  65536  bytes",
        "memlock",
        "64 KiB",
        Some("limits"),
    ),
    (
        "proc/self/limits",
        "Max open files  1024  1048576  files\nMax locked memory  8388608  8388608  bytes",
        "memlock",
        "387 MiB",
        Some("limits"),
    ),
    (
        "proc/self/limits",
        "Max open files  1024  4096  files\nMax locked memory  unlimited  unlimited  bytes",
        "nofile",
        "4096",
        Some("limits"),
    ),
    (
        "sys/fs/cgroup/system.slice/cpu.max",
        "250000 100000",
        "cpu-quota",
        "2.50 cores",
        None,
    ),
    (
        "sys/fs/cgroup/system.slice/weir.service/memory.max",
        "268435456",
        "memory",
        "256 MiB",
        None,
    ),
    (
        "proc/meminfo",
        "MemTotal: 200000 kB\nMemAvailable: 100000 kB",
        "memory",
        "424 MiB",
        None,
    ),
    (
        "nic/eth0/features",
        "Features for eth0:\nscatter-gather: off",
        "zero-copy",
        "scatter-gather",
        None,
    ),
    (
        "sys/devices/system/cpu/cpu5/cpufreq/scaling_governor",
        "powersave",
        "governor",
        "cores 5",
        Some("power"),
    ),
    (
        "sys/devices/system/cpu/cpu6/power/pm_qos_resume_latency_us",
        "0",
        "c-states",
        "C6, 133 us",
        Some("power"),
    ),
    (
        "sys/fs/cgroup/weir.slice/cpuset.cpus.partition",
        "member",
        "isolation",
        "2-7",
        Some("isolate"),
    ),
    (
        "proc/irq/41/smp_affinity_list",
        "1-2",
        "interrupts",
        "41 (eth0-TxRx-1)",
        Some("irq"),
    ),
    (
        "proc/irq/50/smp_affinity_list",
        "0-7",
        "interrupts",
        "50 (nvme0q1)",
        Some("irq"),
    ),
    (
        "proc/812/comm",
        "irqbalance",
        "irqbalance",
        "irqbalance runs",
        None,
    ),
    (
        "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
        "2,6",
        "siblings",
        "2,6",
        None,
    ),
    (
        "sys/class/net/eth0/device/numa_node",
        "1",
        "numa",
        "node 1",
        None,
    ),
    (
        "proc/sys/net/core/somaxconn",
        "4096",
        "somaxconn",
        "4096",
        Some("sysctl"),
    ),
    (
        "proc/sys/net/ipv4/tcp_max_syn_backlog",
        "512",
        "syn-backlog",
        "512",
        Some("sysctl"),
    ),
    (
        "proc/sys/net/core/netdev_max_backlog",
        "1000",
        "device-backlog",
        "1000",
        Some("sysctl"),
    ),
    (
        "proc/sys/net/ipv4/tcp_rmem",
        "4096\t131072\t6291456",
        "receive-buffer",
        "6291456",
        Some("sysctl"),
    ),
    (
        "proc/sys/net/ipv4/tcp_wmem",
        "4096\t16384\t4194304",
        "send-buffer",
        "4194304",
        Some("sysctl"),
    ),
    (
        "proc/sys/net/ipv4/tcp_slow_start_after_idle",
        "1",
        "idle-restart",
        "slowly again",
        Some("sysctl"),
    ),
    (
        "proc/sys/net/core/busy_read",
        "50",
        "busy-poll",
        "50 us",
        Some("coalescing"),
    ),
    (
        "nic/eth0/combined",
        "1",
        "queues",
        "1 of its 8",
        Some("irq"),
    ),
    (
        "sys/class/net/eth0/queues/rx-1/rps_cpus",
        "04",
        "steering",
        "rx-1",
        Some("steering"),
    ),
    (
        "nic/eth0/adaptive-rx",
        "off",
        "coalescing",
        "adaptive-rx",
        Some("coalescing"),
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always madvise [never]",
        "huge-pages",
        "off",
        Some("hugepages"),
    ),
    (
        "proc/sys/kernel/numa_balancing",
        "1",
        "numa-balancing",
        "unmaps",
        Some("hugepages"),
    ),
    (
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2",
        "swap",
        "/dev/sda2",
        None,
    ),
];

#[test]
fn each_planted_fault_is_named_and_nothing_else() {
    let tree = Tree::healthy("doctor-planted");
    for (path, text, id, word, stage) in PLANTED {
        let was = tree.root().join(path).exists().then(|| tree.read(path));
        tree.write(path, text);
        let (status, report) = tree.doctor("--cores 2-7");
        assert_eq!(ids(&report, &FOUND), [id], "{path}: {text}\n{report:#}");
        let checks = report["checks"].as_array().expect("a list");
        let check = checks
            .iter()
            .find(|check| check["id"] == id)
            .expect("there");
        let says = check["says"].as_str().expect("text");
        assert!(says.contains(word), "{id}: {word} in {says}");
        assert_eq!(check["mend"]["stage"].as_str(), stage, "{check:#}");
        let mend = check["mend"]["text"].as_str().expect("text");
        assert!(
            !mend.is_empty() && check["worth"]["text"] != "",
            "{check:#}"
        );
        if let Some(stage) = stage {
            assert!(
                mend.contains("tuning/tune.sh apply --yes") && mend.contains(stage),
                "{mend}"
            );
        }
        let expected = i32::from(check["outcome"] != "note");
        assert_eq!(status, Some(expected), "{check:#}");
        match was {
            Some(was) => tree.write(path, &was),
            None => std::fs::remove_file(tree.root().join(path)).expect("removed"),
        }
    }
    let (status, _) = tree.doctor("--cores 2-7");
    assert_eq!(status, Some(0), "the tree is healthy again");
}

/// 1 is not 2: the kernel asks for CAP_SYS_ADMIN of the first user namespace, or for a group.
#[test]
fn io_uring_for_some_is_no_fault_for_them() {
    let tree = Tree::healthy("doctor-io-uring");
    tree.write("proc/sys/kernel/io_uring_disabled", "1");
    let none = "0000000000000000";
    let all = "000001ffffffffff";
    // Without CAP_SYS_ADMIN, bit 21.
    let but_one = "000001ffffdfffff";
    let (whole, part) = ("0 0 4294967295", "0 100000 65536");
    for (caps, map, group, gids, groups, outcome, word) in [
        (
            none,
            whole,
            "-1",
            "5 5 5 5",
            "5 6",
            "fault",
            "forbidden to this process",
        ),
        (
            none,
            whole,
            "7",
            "5 5 5 5",
            "5 6",
            "fault",
            "not in the group",
        ),
        (none, whole, "6", "5 5 5 5", "5 6", "note", "group 6"),
        (none, whole, "8", "5 5 5 8", "", "note", "group 8"),
        (none, whole, "9", "9 9 9 5", "", "fault", "not in the group"),
        (all, whole, "-1", "0 0 0 0", "0", "note", "CAP_SYS_ADMIN"),
        (
            but_one,
            whole,
            "-1",
            "0 0 0 0",
            "0",
            "fault",
            "no CAP_SYS_ADMIN",
        ),
        (all, part, "-1", "0 0 0 0", "0", "fault", "no CAP_SYS_ADMIN"),
    ] {
        let what = format!("{caps} {map} {group} {gids} {groups}");
        let status = format!("Name:\tweir\nGid:\t{gids}\nGroups:\t{groups}\nCapEff:\t{caps}");
        tree.write("proc/self/status", &status);
        tree.write("proc/self/uid_map", map);
        tree.write("proc/sys/kernel/io_uring_group", group);
        let (status, report) = tree.doctor("--cores 2-7");
        assert_eq!(ids(&report, &FOUND), ["io-uring"], "{what}: {report:#}");
        let check = report["checks"].as_array().expect("a list").iter();
        let check = check.filter(|check| check["id"] == "io-uring");
        let check: Vec<_> = check.collect();
        assert_eq!(check[0]["outcome"], outcome, "{what}: {report:#}");
        let says = check[0]["says"].as_str().expect("text");
        assert!(says.contains(word), "{what}: {says}");
        assert_eq!(status, Some(i32::from(outcome == "fault")), "{what}");
    }
}

#[test]
fn connections_of_emitters_and_http_are_added() {
    let tree = Tree::healthy("doctor-connections");
    let file = tree.root().parent().expect("has one").join("weir.toml");
    // 1,048,576 descriptors; 88 are Weir's own with six shards, 48 are for links of analyzers at least.
    for (emitters, http, listens, is_fault) in [
        (1_048_440_u64, 0_u64, false, false),
        (1_048_441, 0, false, true),
        // HTTP clients take what is left.
        (1_048_439, 0, true, false),
        (1_048_440, 0, true, true),
        (1_000_000, 48_440, true, false),
        (1_000_000, 48_441, true, true),
        (1_000_000, 48_441, false, false),
        (0, 1_048_439, true, false),
        (0, 1_048_440, true, true),
    ] {
        let listen = if listens { "127.0.0.1:3000" } else { "off" };
        let text = format!(
            "[sockets]\nmax_connections = {emitters}\nhttp = \"{listen}\"\n[http]\nmax_http_connections = {http}\n"
        );
        std::fs::write(&file, &text).expect("written");
        let (_, report) = tree.doctor(&format!("--cores 2-7 --config {}", file.display()));
        let wanted = if is_fault { vec!["nofile"] } else { vec![] };
        assert_eq!(ids(&report, &["fault"]), wanted, "{text}{report:#}");
        if is_fault && listens {
            let said = report.to_string();
            let needed = emitters + http + 136 + u64::from(emitters == 0 || http == 0);
            for part in [
                "--max-http-connections",
                "RLIMIT_NOFILE",
                &needed.to_string(),
            ] {
                assert!(said.contains(part), "{part}: {text}{said}");
            }
        }
    }
}

/// Every complaint that names a stage is gone when that stage was applied.
#[test]
fn doctor_and_stages_agree() {
    let tree = Tree::stock("doctor-agrees");
    let (status, report) = tree.doctor("--cores 2-7");
    assert_eq!(status, Some(1));
    let mended = |report: &serde_json::Value| -> Vec<String> {
        let checks = report["checks"].as_array().expect("a list").iter();
        checks
            .filter_map(|check| {
                Some(format!(
                    "{} by {}",
                    check["id"],
                    check["mend"]["stage"].as_str()?
                ))
            })
            .collect()
    };
    let complaints = mended(&report);
    assert!(complaints.len() >= 19, "{complaints:#?}");
    said(&tree.tune("apply --yes"), 0);
    // A note only: who has not named the stage has not asked for it.
    let (status, report) = tree.doctor("--cores 2-7");
    assert_eq!(mended(&report), ["\"isolation\" by isolate"], "{report:#}");
    assert_eq!(status, Some(0), "{report:#}");
    said(&tree.tune("apply --yes isolate"), 0);
    let (status, report) = tree.doctor("--cores 2-7");
    assert_eq!(mended(&report), [""; 0], "{report:#}");
    assert_eq!(ids(&report, &["warning", "fault"]), [""; 0], "{report:#}");
    assert_eq!(status, Some(0));
    // Limits count from the next login on.
    assert_eq!(ids(&report, &["note"]), ["memlock", "nofile"], "{report:#}");

    // Without cores of its own as well.
    let run = |line: &str| said(&tree.tune_all_cores(line), 0);
    run("revert --yes");
    let (_, report) = tree.doctor("");
    assert!(mended(&report).len() >= 15, "{report:#}");
    run("apply --yes");
    let (_, report) = tree.doctor("");
    assert_eq!(mended(&report), [""; 0], "{report:#}");
}

fn doctor(tree: &Tree, line: &str) -> Output {
    let mut command = Command::new(WEIR);
    command
        .args(["doctor", "--root"])
        .arg(tree.root())
        .args(line.split_whitespace());
    command.output().expect("weir runs")
}

#[test]
fn the_report_reads_well() {
    let tree = Tree::stock("doctor-text");
    let text = said(&doctor(&tree, "--cores 2-7 --all"), 1);
    let fault = text
        .find("FAULT    io_uring is forbidden")
        .expect("the fault");
    let warning = text
        .find("warning  net.core.somaxconn is 4096")
        .expect("a warning");
    let fine = text.find("ok       kernel").expect("what is fine");
    assert!(fault < warning && warning < fine, "worst first\n{text}");
    assert!(
        text.contains("mend   sudo tuning/tune.sh apply --yes power --cores 2-7"),
        "{text}"
    );
    assert!(text.contains("worth  sourced: "), "{text}");
    let is_command = |line: &str| line.trim_start().starts_with("mend ");
    let long = text
        .lines()
        .filter(|line| line.chars().count() > 100 && !is_command(line));
    assert_eq!(long.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn what_the_distributor_will_do_counts() {
    let tree = Tree::healthy("doctor-plan");
    let file = tree.root().parent().expect("has one").join("weir.toml");
    std::fs::write(
        &file,
        "[memory]\narena = \"32GiB\"\n[sockets]\nmax_connections = 2000000\n",
    )
    .expect("written");
    let (status, report) = tree.doctor(&format!("--cores 2-7 --config {}", file.display()));
    assert_eq!(ids(&report, &["fault"]), ["nofile", "memory"], "{report:#}");
    assert_eq!(status, Some(1));
    // Limits of somebody else.
    tree.write(
        "proc/77/limits",
        "Max open files  1024  1024  files\nMax locked memory  unlimited  unlimited  bytes",
    );
    let (_, report) = tree.doctor("--cores 2-7 --pid 77");
    assert_eq!(
        ids(&report, &["warning", "fault"]),
        ["nofile"],
        "{report:#}"
    );
}

#[test]
fn usage_is_status_2() {
    let tree = Tree::healthy("doctor-usage");
    for (line, word) in [
        ("--cores 9", "no core 9"),
        ("--cores x", "numbers and ranges"),
        ("--config /nowhere/weir.toml", "/nowhere/weir.toml"),
        ("--pid 4242", "--pid 4242"),
        ("--fast", "--fast"),
    ] {
        let output = doctor(&tree, line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(word), "{line}: {text}");
    }
}

/// On whatever this runs on: it answers, and its answer is JSON.
#[test]
fn this_host_is_looked_at() {
    let output = Command::new(WEIR)
        .args(["doctor", "--json"])
        .output()
        .expect("weir runs");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["checks"].as_array().map(Vec::len), Some(37));
    let page = Command::new(WEIR)
        .args(["man"])
        .output()
        .expect("weir runs");
    assert!(String::from_utf8_lossy(&page.stdout).contains("doctor"));
}

#[test]
fn a_container_is_sent_to_its_host() {
    let tree = Tree::healthy("doctor-container");
    let somaxconn = tree.root().join("proc/sys/net/core/somaxconn");
    std::fs::write(somaxconn, "4096\n").expect("written");
    let own = tree.root().join("proc/self");
    std::fs::create_dir_all(&own).expect("a directory");
    for (mounts, is_sent) in [
        ("proc /proc proc rw,nosuid 0 0\n", false),
        (
            "proc /proc proc rw 0 0\nproc /proc/sys proc ro,nosuid 0 0\n",
            true,
        ),
    ] {
        std::fs::write(own.join("mounts"), mounts).expect("written");
        let (_, report) = tree.doctor("--cores 2-7");
        let checks = report["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["id"] == "somaxconn");
        let mend = check.expect("there")["mend"]["text"]
            .as_str()
            .expect("text");
        assert_eq!(mend.starts_with("on the host"), is_sent, "{mend}");
    }
}

/// A finding that the host mends, one that the limits of a process make, and one of its control group.
#[test]
fn each_advice_says_whose_knob_it_is() {
    const TOO_LITTLE: &str =
        "Max open files  1024  1048576  files\nMax locked memory  65536  65536  bytes";
    type Case<'a> = (
        &'a str,
        Option<&'a str>,
        &'a str,
        [&'a str; 3],
        [&'a str; 3],
    );
    let cases: [Case<'_>; 3] = [
        (
            "host",
            None,
            "0::/system.slice/weir.service",
            [
                "this host's",
                "the unit's or the login's",
                "the unit's or the login's",
            ],
            [
                "sudo tuning/tune.sh",
                "sudo tuning/tune.sh",
                "lower --arena",
            ],
        ),
        (
            "container",
            Some(".dockerenv"),
            "0::/system.slice/weir.service",
            ["the host's", "the container's", "the container's"],
            [
                "on the host: sudo",
                "--ulimit memlock=-1",
                "--cpus, --memory",
            ],
        ),
        (
            "pod",
            None,
            "0::/system.slice/weir.service/kubepods/pod1/abc",
            ["the node's", "the node's", "the pod's"],
            [
                "on the node: sudo",
                "containerd.service",
                "resources.limits",
            ],
        ),
    ];
    for (place, mark, group, owners, mends) in cases {
        let tree = Tree::healthy(&format!("doctor-in-{place}"));
        tree.write("proc/sys/net/core/somaxconn", "4096");
        tree.write("proc/self/limits", TOO_LITTLE);
        tree.write("proc/self/cgroup", group);
        let max = "sys/fs/cgroup/system.slice/weir.service/memory.max";
        tree.write(max, "104857600");
        if let Some(mark) = mark {
            tree.write(mark, "");
        }
        let (_, report) = tree.doctor("--cores 2-7");
        assert_eq!(report["place"], place, "{report:#}");
        let checks = report["checks"].as_array().expect("a list");
        for (n, id) in ["somaxconn", "memlock", "memory"].into_iter().enumerate() {
            let check = checks.iter().find(|check| check["id"] == id);
            let mend = &check.expect("there")["mend"];
            assert_eq!(mend["whose"], owners[n], "{place} {id}: {mend}");
            let text = mend["text"].as_str().expect("text");
            assert!(text.contains(mends[n]), "{place} {id}: {text}");
        }
        let text = said(&doctor(&tree, "--cores 2-7"), 1);
        assert!(text.contains(&format!("this is a {place}")), "{text}");
        assert!(text.contains(&format!("whose  {}", owners[0])), "{text}");
    }
}

/// Version 1 of control groups has its limits in trees of their own.
#[test]
fn limits_of_control_groups_of_version_1_are_seen() {
    let tree = Tree::healthy("doctor-v1");
    tree.write(
        "proc/self/cgroup",
        "5:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc",
    );
    tree.write(
        "proc/self/mountinfo",
        "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
         35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
    );
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000");
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000");
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600");
    let (_, report) = tree.doctor("--cores 2-7");
    assert_eq!(
        ids(&report, &["fault", "warning"]),
        ["cpu-quota", "memory"],
        "{report:#}"
    );
    // With nobody's word about cores there are as many shards as the quota allows.
    let (_, report) = tree.doctor("");
    assert_eq!(report["shards"], 1, "{report:#}");
    assert!(
        !ids(&report, &["fault", "warning"]).contains(&"cpu-quota".to_owned()),
        "{report:#}"
    );
}
