//! A host of files: eight CPUs, of which Weir has 2 to 7, and an interface with eight queues. Its
//! `ethtool` keeps what it is told in files of the tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

const ETHTOOL: &str = r#"#!/bin/sh
dir=$(dirname "$0")/../../nic/$2
case $1 in
-l) printf 'Channel parameters for %s:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\nCurrent hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t%s\n' "$2" "$(cat "$dir/combined")" ;;
-c) printf 'Coalesce parameters for %s:\nAdaptive RX: %s  TX: %s\nrx-usecs: 8\n' "$2" "$(cat "$dir/adaptive-rx")" "$(cat "$dir/adaptive-tx")" ;;
-k) cat "$dir/features" ;;
-L | -C)
    if [ -e "$dir/refuses" ]; then echo "netlink error: Operation not supported" >&2; exit 95; fi
    echo "$4" >"$dir/$3"
    ;;
esac
"#;

/// A directory that goes away with it: a tree, and beside it what is no part of it.
pub struct Tree {
    dir: PathBuf,
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Tree {
    pub fn empty(name: &str) -> Tree {
        let dir = std::env::temp_dir().join(format!("weir-tuning-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("root")).expect("a directory");
        Tree { dir }
    }

    /// As a stage and a doctor want it.
    pub fn healthy(name: &str) -> Tree {
        let tree = Tree::empty(name);
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.12.9-amd64"),
            ("proc/sys/kernel/random/boot_id", "boot-1"),
            ("proc/sys/kernel/io_uring_disabled", "0"),
            ("proc/sys/kernel/numa_balancing", "0"),
            ("proc/sys/vm/zone_reclaim_mode", "0"),
            ("proc/sys/fs/nr_open", "1048576"),
            ("proc/sys/net/core/somaxconn", "16384"),
            ("proc/sys/net/core/netdev_max_backlog", "16384"),
            ("proc/sys/net/core/rmem_max", "16777216"),
            ("proc/sys/net/core/wmem_max", "16777216"),
            ("proc/sys/net/core/busy_read", "0"),
            ("proc/sys/net/core/busy_poll", "0"),
            ("proc/sys/net/core/rps_sock_flow_entries", "0"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "16384"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t33554432"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t16777216"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
            (
                "proc/net/netstat",
                "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 0 0",
            ),
            (
                "proc/meminfo",
                "MemTotal:       65000000 kB\nMemAvailable:   60000000 kB",
            ),
            ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority"),
            ("proc/self/cgroup", "0::/system.slice/weir.service"),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            1024                 1048576              files     \n\
                 Max locked memory         unlimited            unlimited            bytes     ",
            ),
            ("proc/1/comm", "systemd"),
            ("proc/irq/default_smp_affinity", "03"),
            ("proc/irq/40/smp_affinity_list", "0"),
            ("proc/irq/41/smp_affinity_list", "1"),
            ("proc/irq/50/smp_affinity_list", "0-1"),
            // Nobody handles it.
            ("proc/irq/60/smp_affinity_list", "0-7"),
            ("etc/security/limits.d/10-other.conf", "* - core 0"),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "tsc",
            ),
            (
                "sys/devices/system/clocksource/clocksource0/available_clocksource",
                "tsc hpet acpi_pm",
            ),
            ("sys/devices/system/cpu/online", "0-7"),
            ("sys/devices/system/cpu/isolated", ""),
            (
                "sys/devices/system/cpu/vulnerabilities/meltdown",
                "Not affected",
            ),
            ("sys/devices/system/node/node0/cpulist", "0-7"),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/defrag",
                "always defer defer+madvise [madvise] never",
            ),
            (
                "sys/fs/cgroup/cgroup.controllers",
                "cpuset cpu io memory pids",
            ),
            (
                "sys/fs/cgroup/cgroup.subtree_control",
                "cpu memory pids cpuset",
            ),
            ("sys/fs/cgroup/weir.slice/cpuset.cpus", "2-7"),
            ("sys/fs/cgroup/weir.slice/cpuset.cpus.partition", "isolated"),
            (
                "sys/fs/cgroup/system.slice/weir.service/cpu.max",
                "max 100000",
            ),
            ("sys/fs/cgroup/system.slice/weir.service/memory.max", "max"),
            ("sys/class/net/lo/operstate", "unknown"),
            ("sys/class/net/eth0/operstate", "up"),
            ("sys/class/net/eth0/device/numa_node", "0"),
            ("sys/class/net/eth0/device/msi_irqs/40", "msix"),
            ("sys/class/net/eth0/device/msi_irqs/41", "msix"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "55"),
            ("sys/class/net/eth0/queues/tx-1/xps_cpus", "aa"),
            // Down: to be left alone.
            ("sys/class/net/eth1/operstate", "down"),
            ("sys/class/net/eth1/device/numa_node", "0"),
            ("sys/class/net/eth1/queues/rx-0/rps_cpus", "00"),
            ("nic/eth0/combined", "2"),
            ("nic/eth0/adaptive-rx", "on"),
            ("nic/eth0/adaptive-tx", "on"),
            (
                "nic/eth0/features",
                "Features for eth0:\ntx-checksumming: on\nscatter-gather: on\n\
                 tcp-segmentation-offload: on\ngeneric-segmentation-offload: on\n\
                 generic-receive-offload: on",
            ),
        ] {
            tree.write(path, text);
        }
        for directory in ["40/eth0-TxRx-0", "41/eth0-TxRx-1", "50/nvme0q1"] {
            fs::create_dir_all(tree.root().join("proc/irq").join(directory)).expect("made");
        }
        for queue in 0..2 {
            let queue = format!("sys/class/net/eth0/queues/rx-{queue}");
            tree.write(&format!("{queue}/rps_cpus"), "00");
            tree.write(&format!("{queue}/rps_flow_cnt"), "0");
        }
        for cpu in 0..8 {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}");
            tree.write(&format!("{dir}/cpufreq/scaling_governor"), "performance");
            tree.write(&format!("{dir}/power/pm_qos_resume_latency_us"), "50");
            tree.write(
                &format!("{dir}/topology/thread_siblings_list"),
                &cpu.to_string(),
            );
            for (state, name, latency) in [(0, "POLL", "0"), (1, "C1E", "10"), (2, "C6", "133")] {
                let state = format!("{dir}/cpuidle/state{state}");
                tree.write(&format!("{state}/name"), name);
                tree.write(&format!("{state}/latency"), latency);
                tree.write(&format!("{state}/disable"), "0");
            }
        }
        let ethtool = tree.root().join("usr/sbin/ethtool");
        tree.write("usr/sbin/ethtool", ETHTOOL);
        fs::set_permissions(ethtool, fs::Permissions::from_mode(0o755)).expect("executable");
        tree
    }

    /// As it comes out of the box: every stage has something to do.
    pub fn stock(name: &str) -> Tree {
        let tree = Tree::healthy(name);
        for (path, text) in [
            ("proc/sys/kernel/io_uring_disabled", "2"),
            ("proc/sys/kernel/numa_balancing", "1"),
            ("proc/sys/net/core/somaxconn", "4096"),
            ("proc/sys/net/core/netdev_max_backlog", "1000"),
            ("proc/sys/net/core/rmem_max", "212992"),
            ("proc/sys/net/core/wmem_max", "212992"),
            ("proc/sys/net/core/busy_read", "50"),
            ("proc/sys/net/core/busy_poll", "50"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            1024                 4096                 files     \n\
                 Max locked memory         8388608              8388608              bytes     ",
            ),
            ("proc/irq/default_smp_affinity", "ff"),
            ("proc/irq/40/smp_affinity_list", "0-7"),
            ("proc/irq/41/smp_affinity_list", "3"),
            ("proc/irq/50/smp_affinity_list", "0-7"),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always madvise [never]",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/defrag",
                "[always] defer defer+madvise madvise never",
            ),
            ("sys/fs/cgroup/cgroup.subtree_control", "cpu memory pids"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "ff"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "01"),
            ("nic/eth0/combined", "1"),
            ("nic/eth0/adaptive-rx", "off"),
            ("nic/eth0/adaptive-tx", "off"),
        ] {
            tree.write(path, text);
        }
        for cpu in 0..8 {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}");
            tree.write(&format!("{dir}/cpufreq/scaling_governor"), "powersave");
            tree.write(&format!("{dir}/power/pm_qos_resume_latency_us"), "0");
        }
        fs::remove_dir_all(tree.root().join("sys/fs/cgroup/weir.slice")).expect("removed");
        tree
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Beside the tree, so that it does not count as a change of it.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A file, with a newline behind it as the kernel has it.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("made");
        fs::write(path, format!("{text}\n")).expect("written");
    }

    pub fn read(&self, path: &str) -> String {
        let text = fs::read_to_string(self.root().join(path));
        text.unwrap_or_else(|error| panic!("{path}: {error}"))
            .trim_end()
            .to_owned()
    }

    /// All that is in it, as it is; when something was changed is not looked at.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Entry> {
        let mut all = BTreeMap::new();
        collect(&self.root(), &mut all);
        all
    }

    /// `tune.sh` on this tree, with Weir on cores 2 to 7.
    pub fn tune(&self, line: &str) -> Output {
        let output = self.tune_command(&format!("{line} --cores 2-7")).output();
        output.expect("tune.sh runs")
    }

    /// The same, with all cores Weir's.
    pub fn tune_all_cores(&self, line: &str) -> Output {
        self.tune_command(line).output().expect("tune.sh runs")
    }

    pub fn tune_command(&self, line: &str) -> Command {
        let mut command = Command::new(script());
        command
            .args(line.split_whitespace())
            .arg("--test-run-tools-of-root");
        command.arg("--root").arg(self.root());
        command.arg("--state").arg(self.state());
        command
    }

    /// `weir doctor` on this tree; its exit status and its JSON.
    pub fn doctor(&self, line: &str) -> (Option<i32>, serde_json::Value) {
        let mut command = Command::new(WEIR);
        command
            .args(["doctor", "--json", "--test-run-tools-of-root", "--root"])
            .arg(self.root())
            .args(line.split_whitespace());
        let output = command.output().expect("weir runs");
        let json = serde_json::from_slice(&output.stdout);
        (
            output.status.code(),
            json.unwrap_or_else(|error| panic!("{error}: {output:?}")),
        )
    }
}

pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/tune.sh")
}

/// What a name of a directory stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// With the bits for its type.
    mode: u32,
    owner: (u32, u32),
    /// The bytes of a file, what a link leads to.
    content: Vec<u8>,
}

fn collect(dir: &Path, all: &mut BTreeMap<PathBuf, Entry>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        let meta = fs::symlink_metadata(&path).expect("there");
        let content = if meta.is_dir() {
            collect(&path, all);
            Vec::new()
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            target.into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).expect("readable")
        };
        let entry = Entry {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            content,
        };
        all.insert(path, entry);
    }
}

/// Standard output of a run that ended with this status.
pub fn said(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:#?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}
