//! The host that figures were taken on: whatever moves them and can be read without being root.
//!
//! ```text
//! section -> name -> value      "mitigations" -> "spectre_v2" -> "Mitigation: Retpolines; ..."
//! ```
//!
//! All values are text, as the host has them. What a host does not have, or does not show, is
//! [`ABSENT`] and never an error: two fingerprints have the same names wherever they were taken,
//! apart from lists that the host makes (vulnerabilities, interrupts).

mod host;
mod network;
mod software;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use network::interface_of;

/// What is said of a thing that the host does not have.
pub const ABSENT: &str = "not on this host";

type Section = BTreeMap<String, String>;

/// Facts about a host, by section and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint {
    /// Section, name, value.
    pub sections: BTreeMap<String, Section>,
}

impl Fingerprint {
    /// Reads everything. `interface` is the one that the figures go over.
    pub fn of_this_host(interface: &str) -> Self {
        let mut fingerprint = Self::below(Path::new("/"), interface);
        fingerprint.put("zero copy", Section::new());
        fingerprint.set_zero_copy(interface, 0, 0);
        fingerprint.put("software", software::section());
        fingerprint
    }

    /// The part that is files, below `root`.
    fn below(root: &Path, interface: &str) -> Self {
        let tree = Tree {
            root: root.to_path_buf(),
        };
        let mut fingerprint = Self::default();
        fingerprint.put("kernel", host::kernel(&tree));
        fingerprint.put("cpu", host::cpu(&tree));
        fingerprint.put("mitigations", host::mitigations(&tree));
        fingerprint.put("memory", host::memory(&tree));
        fingerprint.put("limits", host::limits(&tree));
        fingerprint.put("network", network::section(&tree, interface));
        fingerprint.put("interrupts", network::interrupts(&tree, interface));
        fingerprint.put("sysctl", host::sysctl(&tree));
        fingerprint
    }

    /// What became of zero-copy sends over `interface`: only sending shows it.
    pub fn set_zero_copy(&mut self, interface: &str, sends: u64, copied: u64) {
        let what = match (interface, sends) {
            ("lo", 0) => "not asked for: the kernel always copies to this host".to_owned(),
            (_, 0) => "not asked for".to_owned(),
            (_, sends) if sends == copied => format!("copied: all {sends} sends"),
            (_, sends) => format!("sent without a copy: {} of {sends} sends", sends - copied),
        };
        let section = self.sections.entry("zero copy".into()).or_default();
        section.clear();
        section.insert(format!("over {interface}"), what);
    }

    fn put(&mut self, name: &str, section: Section) {
        self.sections.insert(name.into(), section);
    }

    /// A fact, or [`ABSENT`].
    pub fn fact(&self, section: &str, name: &str) -> &str {
        let found = self.sections.get(section).and_then(|s| s.get(name));
        found.map_or(ABSENT, String::as_str)
    }
}

/// Files of a host: `/`, or a tree made for a test.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Contents without white space at the ends; `None` when it cannot be read or is empty.
    fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Contents as a value: white space is one blank each, absence is said.
    fn value(&self, path: &str) -> String {
        let text = self.text(path).unwrap_or_else(|| ABSENT.into());
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Name of what a link leads to.
    fn link_name(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Names in a directory, in order.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Puts a value or its absence.
fn put(section: &mut Section, name: &str, value: Option<String>) {
    section.insert(name.into(), value.unwrap_or_else(|| ABSENT.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty host has every name and no value, and nothing fails.
    #[test]
    fn what_is_missing_is_said() {
        let empty = std::env::temp_dir().join(format!("weir-no-host-{}", std::process::id()));
        std::fs::create_dir_all(&empty).expect("a directory");
        let fingerprint = Fingerprint::below(&empty, "eth9");
        std::fs::remove_dir(&empty).expect("nothing was written into it");
        for (section, name) in [
            ("kernel", "release"),
            ("cpu", "model"),
            ("cpu", "governor"),
            ("memory", "total"),
            ("network", "driver"),
            ("limits", "memlock"),
            ("sysctl", "net.core.somaxconn"),
        ] {
            assert_eq!(fingerprint.fact(section, name), ABSENT, "{section} {name}");
            assert!(fingerprint.sections[section].contains_key(name));
        }
        assert!(fingerprint.sections["mitigations"].is_empty());
    }

    #[test]
    fn this_host_has_a_kernel_and_a_loopback() {
        let fingerprint = Fingerprint::of_this_host("lo");
        for (section, name) in [
            ("kernel", "release"),
            ("cpu", "online"),
            ("memory", "total"),
            ("limits", "nofile"),
            ("network", "mtu"),
            ("sysctl", "net.core.somaxconn"),
            ("software", "weir-bench"),
        ] {
            assert_ne!(fingerprint.fact(section, name), ABSENT, "{section} {name}");
        }
        assert_eq!(fingerprint.fact("network", "interface"), "lo");
    }

    #[test]
    fn zero_copy_is_what_sends_showed() {
        let mut fingerprint = Fingerprint::default();
        for (interface, sends, copied, what) in [
            (
                "lo",
                0,
                0,
                "not asked for: the kernel always copies to this host",
            ),
            ("lo", 7, 7, "copied: all 7 sends"),
            ("eth9", 10, 1, "sent without a copy: 9 of 10 sends"),
            ("eth9", 0, 0, "not asked for"),
        ] {
            fingerprint.set_zero_copy(interface, sends, copied);
            let name = format!("over {interface}");
            assert_eq!(fingerprint.fact("zero copy", &name), what);
            assert_eq!(fingerprint.sections["zero copy"].len(), 1);
        }
    }

    /// A server with a NIC, out of files.
    #[test]
    fn a_nic_its_queues_and_interrupts_are_found() {
        let root = std::env::temp_dir().join(format!("weir-host-{}", std::process::id()));
        let file = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        };
        file("sys/class/net/eth9/mtu", "9000\n");
        file("sys/class/net/eth9/speed", "100000\n");
        file("sys/class/net/eth9/queues/rx-0/rps_cpus", "00\n");
        file("sys/class/net/eth9/queues/rx-1/rps_cpus", "03\n");
        file("sys/class/net/eth9/queues/tx-0/xps_cpus", "01\n");
        file("sys/bus/pci/drivers/mlx5_core/x", "");
        std::fs::create_dir_all(root.join("sys/class/net/eth9/device")).expect("a directory");
        let driver = root.join("sys/class/net/eth9/device/driver");
        std::os::unix::fs::symlink("../../../../bus/pci/drivers/mlx5_core", driver)
            .expect("a link");
        file(
            "proc/interrupts",
            "      CPU0 CPU1\n 24:  10 20 PCI-MSI 524288-edge  eth9-rx-0\n 25: 1 2 PCI-MSI 1-edge  eth90-tx\n 99: 5 5 x  other\n",
        );
        file("proc/irq/24/smp_affinity_list", "1\n");
        file(
            "sys/devices/system/cpu/vulnerabilities/meltdown",
            "Not affected\n",
        );
        file("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n");
        file("proc/self/limits", "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files     \nMax locked memory         8388608              unlimited            bytes     \n");
        let fingerprint = Fingerprint::below(&root, "eth9");
        std::fs::remove_dir_all(&root).expect("own files");
        for (section, name, value) in [
            ("network", "driver", "mlx5_core"),
            ("network", "speed", "100000 Mbit/s"),
            ("network", "receive queues", "2"),
            ("network", "rps_cpus", "rx-0=00 rx-1=03"),
            ("network", "xps_cpus", "tx-0=01"),
            ("interrupts", "24 eth9-rx-0", "CPUs 1"),
            ("mitigations", "meltdown", "Not affected"),
            ("sysctl", "net.ipv4.tcp_rmem", "4096 131072 6291456"),
            ("limits", "nofile", "soft 1024, hard 524288"),
            ("limits", "memlock", "soft 8388608, hard unlimited"),
        ] {
            assert_eq!(fingerprint.fact(section, name), value, "{section} {name}");
        }
        assert_eq!(
            fingerprint.sections["interrupts"].len(),
            1,
            "eth90 is another"
        );
    }
}
