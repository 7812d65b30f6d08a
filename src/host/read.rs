//! What the host shows: files of /proc and /sys, and what `ethtool` says. Nothing is changed.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Most that is read of a file; those of /proc and /sys that are asked for are far below. Bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Times that one open is tried.
const OPENS_MAX: usize = 100;

/// A host, or a tree that looks like one.
#[derive(Debug)]
pub struct Host {
    /// In place of `/`.
    root: Option<PathBuf>,
    /// Below /proc: a process number, or `self`.
    process: String,
    /// Whether programs of the tree are run.
    are_tools_run: bool,
}

impl Host {
    /// The host below `root` (none: this one), and in it the process whose limits count (none: this one).
    /// `are_tools_run`: whether `ethtool` of another root is run, which may be anybody's program.
    pub fn new(root: Option<PathBuf>, pid: Option<u32>, are_tools_run: bool) -> Host {
        let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        Host {
            root,
            process,
            are_tools_run,
        }
    }

    /// This host, and this process.
    pub fn here() -> Host {
        Host::new(None, None, false)
    }

    /// Whether it is the host that this runs on.
    pub fn is_this(&self) -> bool {
        self.root.is_none()
    }

    /// Opens a path. With another root links begin and end there, as for a process that has it as its root:
    /// nothing outside is reached.
    fn open(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let Some(root) = &self.root else {
            return rustix::fs::open(path, flags, Mode::empty()).ok();
        };
        let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, place, Mode::empty()).ok()?;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // A rename anywhere while `..` is resolved: the kernel does not know then, and asks to be asked again.
        let open = || rustix::fs::openat2(&root, path, flags, Mode::empty(), within);
        (0..OPENS_MAX)
            .map(|_| open())
            .find(|opened| !matches!(opened, Err(Errno::AGAIN)))?
            .ok()
    }

    /// Whether there is such a file or directory.
    pub fn has(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH).is_some()
    }

    /// A file without the white space around it; none if it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let file = File::from(self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// A file of the process in question.
    pub fn of_process(&self, name: &str) -> Option<String> {
        self.text(&format!("/proc/{}/{name}", self.process))
    }

    /// Nothing below /proc/sys can be written, not even by root: containers have it like that.
    pub fn is_sysctl_read_only(&self) -> bool {
        // What was mounted last lies on top.
        let mounts = self.text("/proc/self/mounts").unwrap_or_default();
        let is_below = |line: &&str| matches!(line.split(' ').nth(1), Some("/proc" | "/proc/sys"));
        let top = mounts.lines().rfind(is_below);
        let options = top.and_then(|line| line.split(' ').nth(3));
        options.is_some_and(|options| options.split(',').any(|option| option == "ro"))
    }

    /// A file with one number.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The last of the numbers in a file.
    pub fn last_number(&self, path: &str) -> Option<u64> {
        self.text(path)?.split_whitespace().last()?.parse().ok()
    }

    /// The word in brackets of `always [madvise] never`.
    pub fn choice(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let chosen = text
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        Some(chosen.map_or(text.clone(), |(word, _)| word.to_owned()))
    }

    /// A file with a list of CPUs, `0-3,8`.
    pub fn cpus(&self, path: &str) -> Option<Vec<usize>> {
        cpus_of_list(&self.text(path)?)
    }

    /// A file with a mask of CPUs, `f,0000000f`.
    pub fn mask(&self, path: &str) -> Option<Vec<usize>> {
        cpus_of_mask(&self.text(path)?)
    }

    /// Names in a directory, numbers in their order; none if there is no such directory.
    pub fn names(&self, path: &str) -> Vec<String> {
        let dir = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY);
        let entries = dir.and_then(|dir| Dir::new(dir).ok()).into_iter().flatten();
        let names =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str().ok()?.to_owned()));
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort_by_key(|name| (name.parse::<u64>().unwrap_or(u64::MAX), name.clone()));
        names
    }

    /// CPUs that run.
    pub fn online(&self) -> Vec<usize> {
        self.cpus("/sys/devices/system/cpu/online")
            .unwrap_or_default()
    }

    /// Network interfaces with a device behind them that are not down.
    pub fn nics(&self) -> Vec<String> {
        let mut names = self.names("/sys/class/net");
        names.retain(|name| {
            let dir = format!("/sys/class/net/{name}");
            let down = self
                .text(&format!("{dir}/operstate"))
                .is_some_and(|s| s == "down");
            self.has(&format!("{dir}/device")) && !down
        });
        names
    }

    /// Interrupts of an interface; those of virtio belong to the device above.
    pub fn irqs_of(&self, nic: &str) -> Vec<String> {
        let own = self.names(&format!("/sys/class/net/{nic}/device/msi_irqs"));
        match own.is_empty() {
            false => own,
            true => self.names(&format!("/sys/class/net/{nic}/device/../msi_irqs")),
        }
    }

    /// Where a program of the tree is, if they are run.
    fn tool(&self, path: &str) -> Option<PathBuf> {
        let file = self
            .open(path, OFlags::PATH)
            .filter(|_| self.are_tools_run)?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::read_link(link).ok().filter(|_| is_file)
    }

    /// What `ethtool` answers; none if it is not installed, or has no answer. With another root none is asked,
    /// unless its tools shall be run: this host's own would show this host.
    pub fn ethtool(&self, flag: &str, nic: &str) -> Option<String> {
        let program = match self.is_this() {
            true => installed("ethtool")?,
            false => self.tool("/usr/sbin/ethtool")?,
        };
        let output = Command::new(program)
            .args([flag, nic])
            .env("LC_ALL", "C")
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    }
}

/// A program of this host.
fn installed(name: &str) -> Option<PathBuf> {
    let mut dirs = vec![PathBuf::from("/usr/sbin")];
    if let Some(path) = std::env::var_os("PATH") {
        dirs.extend(std::env::split_paths(&path));
    }
    let programs = dirs.into_iter().map(|dir| dir.join(name));
    programs.into_iter().find(|program| program.is_file())
}

/// `0-2,5` as numbers in order.
pub fn cpus_of_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // No Linux has more.
        if first > last || last > 8192 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Words of 32 bits, the lowest last.
fn cpus_of_mask(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for (word, digits) in text.split(',').rev().enumerate() {
        let bits = u32::from_str_radix(digits, 16).ok()?;
        cpus.extend(
            (0..32)
                .filter(|bit| bits >> bit & 1 == 1)
                .map(|bit| word * 32 + bit),
        );
    }
    Some(cpus)
}

/// `[0, 1, 2, 5]` as `0-2,5`.
pub fn list_of_cpus(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if cpu == *last + 1 => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text = |&(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks() {
        assert_eq!(cpus_of_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpus_of_list(""), Some(vec![]));
        for bad in ["x", "3-1", "0-", "0-99999"] {
            assert_eq!(cpus_of_list(bad), None, "{bad}");
        }
        assert_eq!(cpus_of_mask("2,00000003"), Some(vec![0, 1, 33]));
        assert_eq!(cpus_of_mask("0"), Some(vec![]));
        assert_eq!(cpus_of_mask("g"), None);
        assert_eq!(list_of_cpus(&[0, 1, 2, 5]), "0-2,5");
        assert_eq!(list_of_cpus(&[]), "");
    }
}
