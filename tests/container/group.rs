//! A control group that goes away with its test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const TOP: &str = "/sys/fs/cgroup";

/// A control group of one controller, of version 1 or 2.
pub struct Group {
    path: PathBuf,
    version: u8,
}

impl Group {
    /// Makes one; or says why not.
    pub fn new(controller: &str) -> Result<Group, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-test-{}-{number}", std::process::id());
        let (top, version) = place(controller)?;
        let path = top.join(name);
        std::fs::create_dir(&path)
            .map_err(|error| format!("no control group {}: {error}", path.display()))?;
        let group = Group { path, version };
        if version == 2 && !group.path.join(format!("{controller}.max")).exists() {
            return Err(format!("no {controller} controller below {TOP}"));
        }
        Ok(group)
    }

    /// CPU time: so many hundredths of a core.
    pub fn quota(&self, percent: u32) -> Result<(), String> {
        let quota = percent * 1000;
        match self.version {
            2 => self.write("cpu.max", &format!("{quota} 100000")),
            _ => self
                .write("cpu.cfs_period_us", "100000")
                .and_then(|()| self.write("cpu.cfs_quota_us", &quota.to_string())),
        }
    }

    /// Memory in bytes.
    pub fn memory(&self, bytes: u64) -> Result<(), String> {
        let name = match self.version {
            2 => "memory.max",
            _ => "memory.limit_in_bytes",
        };
        self.write(name, &bytes.to_string())
    }

    /// A script for `sh` that goes into the group and becomes its arguments.
    pub fn script(&self) -> String {
        let procs = self.path.join("cgroup.procs");
        format!("echo $$ > {}; exec \"$0\" \"$@\"", procs.display())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.path.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last process may still be on its way out.
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::remove_dir(&self.path).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where groups of a controller are made, and of which version they are.
fn place(controller: &str) -> Result<(PathBuf, u8), String> {
    let top = PathBuf::from(TOP);
    if top.join("cgroup.controllers").exists() {
        let enable = std::fs::write(top.join("cgroup.subtree_control"), format!("+{controller}"));
        return match enable {
            Ok(()) => Ok((top, 2)),
            Err(error) => Err(format!("{TOP}/cgroup.subtree_control: {error}")),
        };
    }
    let entries = std::fs::read_dir(&top).map_err(|error| format!("{TOP}: {error}"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut all = names.filter(|name| name.split(',').any(|part| part == controller));
    let name = all.next().ok_or(format!("no {controller} in {TOP}"))?;
    Ok((top.join(name), 1))
}
