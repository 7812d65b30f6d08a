//! Limits of the control group that the process is in, and of those above it: the least one holds.
//!
//! ```text
//!   /proc/self/cgroup     0::/kubepods/pod1/abc              version 2, one tree
//!                         4:memory:/docker/abc               version 1, a tree for each controller
//!   /proc/self/mountinfo  where a tree is mounted, and which of its groups is the top one there
//!   <mount>/<path>        cpu.max, memory.max                version 2
//!                         cpu.cfs_quota_us, memory.limit_in_bytes
//! ```
//!
//! A container often sees its own group as the top of the mount, whatever path /proc/self/cgroup has for it.

use std::fmt;

use crate::Host;

/// Version 1 says "no limit" with a number of about 2^63.
const NO_LIMIT_BYTES: u64 = 1 << 60;
/// Deeper than any tree; bounds the walk upwards.
const DEPTH_MAX: usize = 64;

/// CPU time that a control group may use: `quota_us` of every `period_us`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// The file that says so.
    pub file: String,
    /// Microseconds of CPU time in a period.
    pub quota_us: u64,
    /// The period in microseconds.
    pub period_us: u64,
}

impl CpuQuota {
    /// In cores.
    pub fn cores(&self) -> f64 {
        self.quota_us as f64 / self.period_us as f64
    }

    /// Rounded up, one at least.
    pub fn whole_cores(&self) -> usize {
        let whole = self.quota_us.div_ceil(self.period_us).max(1);
        usize::try_from(whole).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a CPU quota of {:.2} cores ({})",
            self.cores(),
            self.file
        )
    }
}

/// Memory that a control group may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The file that says so.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
}

/// The smallest CPU quota of the process's group and those above it.
pub fn cpu_quota(host: &Host) -> Option<CpuQuota> {
    let quotas = groups(host, "cpu").into_iter().filter_map(|group| {
        let (file, quota_us, period_us) = match group.version {
            2 => {
                let file = format!("{}/cpu.max", group.path);
                let text = host.text(&file)?;
                let mut words = text.split_whitespace();
                let quota = words.next()?.parse().ok()?; // "max" is none
                (file, quota, words.next()?.parse().ok()?)
            }
            _ => {
                let file = format!("{}/cpu.cfs_quota_us", group.path);
                let quota = host.number(&file)?; // -1 is none
                let period = host.number(&format!("{}/cpu.cfs_period_us", group.path))?;
                (file, quota, period)
            }
        };
        (period_us > 0 && quota_us > 0).then_some(CpuQuota {
            file,
            quota_us,
            period_us,
        })
    });
    quotas.min_by(|a, b| a.cores().total_cmp(&b.cores()))
}

/// The smallest memory limit of the process's group and those above it.
pub fn memory_limit(host: &Host) -> Option<MemoryLimit> {
    let limits = groups(host, "memory").into_iter().filter_map(|group| {
        let name = match group.version {
            2 => "memory.max",
            _ => "memory.limit_in_bytes",
        };
        let file = format!("{}/{name}", group.path);
        let bytes = host.number(&file).filter(|bytes| *bytes < NO_LIMIT_BYTES)?;
        Some(MemoryLimit { file, bytes })
    });
    limits.min_by_key(|limit| limit.bytes)
}

/// A control group, as a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its directory, without a slash at the end.
    pub path: String,
    /// 1 or 2: which files are in it.
    pub version: u8,
}

/// The groups of a controller that the process is in: its own, then those above it as far as they are mounted. Where
/// both versions are mounted, that of version 1 has the controller, if it has one.
pub fn groups(host: &Host, controller: &str) -> Vec<Group> {
    let text = host.of_process("cgroup").unwrap_or_default();
    let mounts = Mount::all(host);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let is_first = names.split(',').any(|name| name == controller);
        let version = match (names.is_empty(), is_first) {
            (true, _) => 2,
            (_, true) => 1,
            _ => continue,
        };
        let has = |mount: &&Mount| mount.version == version && mount.has(controller);
        let Some(mount) = mounts.iter().find(has) else {
            continue;
        };
        let above = mount.paths(path).into_iter();
        found.extend(above.map(|path| Group { path, version }));
    }
    found
}

/// Paths of the process in all trees, as /proc has them.
pub(crate) fn own_paths(host: &Host) -> Vec<String> {
    let text = host.of_process("cgroup").unwrap_or_default();
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    text.lines().filter_map(path).collect()
}

/// A tree of control groups, as it is mounted.
struct Mount {
    /// Where.
    at: String,
    /// The group that is the top there.
    root: String,
    version: u8,
    /// Of version 1.
    controllers: String,
}

impl Mount {
    fn all(host: &Host) -> Vec<Mount> {
        let text = host.of_process("mountinfo").unwrap_or_default();
        let mounts: Vec<Mount> = text.lines().filter_map(Mount::of_line).collect();
        match mounts.is_empty() {
            false => mounts,
            true => Mount::usual(host),
        }
    }

    /// `31 23 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`
    fn of_line(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup2" => 2,
            "cgroup" => 1,
            _ => return None,
        };
        let mut fields = before.split(' ').skip(3);
        Some(Mount {
            root: fields.next()?.to_owned(),
            at: fields.next()?.to_owned(),
            version,
            controllers: after.nth(1)?.to_owned(),
        })
    }

    /// Where they are when nobody says: a /proc of a tree, or one that hides its mounts.
    fn usual(host: &Host) -> Vec<Mount> {
        let top = "/sys/fs/cgroup";
        let mount = |at: String, version, controllers: &str| Mount {
            at,
            root: "/".into(),
            version,
            controllers: controllers.to_owned(),
        };
        if host.has(&format!("{top}/cgroup.controllers")) {
            return vec![mount(top.into(), 2, "")];
        }
        let names = host.names(top).into_iter();
        names
            .map(|name| mount(format!("{top}/{name}"), 1, &name))
            .collect()
    }

    fn has(&self, controller: &str) -> bool {
        self.version == 2 || self.controllers.split(',').any(|name| name == controller)
    }

    /// The directory of a group and those above it, up to the mount.
    fn paths(&self, path: &str) -> Vec<String> {
        let root = self.root.trim_end_matches('/');
        // Of another namespace: then the top of the mount is its own.
        let below = path.strip_prefix(root).unwrap_or_default();
        let is_below = below.starts_with('/') || below.is_empty();
        let mut below = if is_below { below } else { "" }.trim_end_matches('/');
        let mut paths = Vec::new();
        for _ in 0..DEPTH_MAX {
            paths.push(format!("{}{below}", self.at));
            match below.rsplit_once('/') {
                Some((above, _)) => below = above,
                None => break,
            }
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    struct Tree(PathBuf);

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn tree(name: &str, files: &[(&str, &str)]) -> (Tree, Host) {
        let dir = std::env::temp_dir().join(format!("weir-host-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            fs::write(path, text).expect("written");
        }
        let host = Host::new(Some(dir.clone()), None, false);
        (Tree(dir), host)
    }

    #[test]
    fn the_least_limit_of_version_2_holds_wherever_it_is() {
        let (_tree, host) = tree(
            "v2",
            &[
                ("proc/self/cgroup", "0::/kubepods.slice/pod1.slice/abc\n"),
                ("sys/fs/cgroup/cgroup.controllers", "cpu memory"),
                ("sys/fs/cgroup/kubepods.slice/cpu.max", "max 100000"),
                (
                    "sys/fs/cgroup/kubepods.slice/pod1.slice/cpu.max",
                    "150000 100000\n",
                ),
                (
                    "sys/fs/cgroup/kubepods.slice/pod1.slice/abc/cpu.max",
                    "400000 100000\n",
                ),
                (
                    "sys/fs/cgroup/kubepods.slice/pod1.slice/abc/memory.max",
                    "max\n",
                ),
                ("sys/fs/cgroup/kubepods.slice/memory.max", "104857600\n"),
            ],
        );
        let quota = cpu_quota(&host).expect("a quota");
        assert_eq!((quota.cores(), quota.whole_cores()), (1.5, 2));
        let pod = "/sys/fs/cgroup/kubepods.slice/pod1.slice/cpu.max";
        assert_eq!(quota.file, pod);
        assert_eq!(
            quota.to_string(),
            format!("a CPU quota of 1.50 cores ({pod})")
        );
        let limit = memory_limit(&host).expect("a limit");
        let file = "/sys/fs/cgroup/kubepods.slice/memory.max".to_owned();
        let bytes = 104_857_600;
        assert_eq!(limit, MemoryLimit { file, bytes });
    }

    #[test]
    fn version_1_has_a_tree_for_each_controller() {
        let (_tree, host) = tree(
            "v1",
            &[
                (
                    "proc/self/cgroup",
                    "5:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/docker/abc\n",
                ),
                // The container's own group is the top of what it sees.
                (
                    "proc/self/mountinfo",
                    "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                     35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                     41 31 0:38 /docker/abc /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n",
                ),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        let quota = cpu_quota(&host).expect("a quota");
        assert_eq!((quota.cores(), quota.whole_cores()), (0.5, 1));
        assert_eq!(memory_limit(&host), None, "that number means none");
    }

    #[test]
    fn parents_of_version_1_count_and_no_quota_is_minus_one() {
        let (_tree, host) = tree(
            "v1-parents",
            &[
                ("proc/self/cgroup", "4:memory:/a/b\n1:cpu:/a/b\n0::/\n"),
                ("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1"),
                ("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000"),
                ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "250000"),
                ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000"),
                ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "2000"),
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000"),
            ],
        );
        assert_eq!(cpu_quota(&host).map(|quota| quota.whole_cores()), Some(3));
        assert_eq!(memory_limit(&host).map(|limit| limit.bytes), Some(1000));
    }

    #[test]
    fn a_path_of_another_namespace_is_the_top_of_the_mount() {
        let mount = Mount {
            at: "/sys/fs/cgroup".into(),
            root: "/docker/abc".into(),
            version: 2,
            controllers: String::new(),
        };
        let top = ["/sys/fs/cgroup".to_owned()];
        for path in ["/docker/abc", "/", "/docker/abcdef", "/other"] {
            assert_eq!(mount.paths(path), top, "{path}");
        }
        assert_eq!(
            mount.paths("/docker/abc/x/y"),
            ["/sys/fs/cgroup/x/y", "/sys/fs/cgroup/x", "/sys/fs/cgroup"]
        );
    }

    #[test]
    fn without_groups_there_is_no_limit() {
        let (_tree, host) = tree("none", &[("proc/self/status", "Name:\tx\n")]);
        assert_eq!((cpu_quota(&host), memory_limit(&host)), (None, None));
    }
}
