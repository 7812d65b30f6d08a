//! CPU time of the kernel's own network threads on the cores of the system under test.
//!
//! Interrupt work that does not fit into its budget is moved to `ksoftirqd/N`, a thread of core N's own: no
//! process's clock has that time, though a process caused it.
//!
//! ```text
//! /proc/<pid>/comm  "ksoftirqd/0"     /proc/<pid>/schedstat  "<ns on a CPU> <ns waiting> <slices>"
//!                                     /proc/<pid>/stat       utime, stime in ticks of 10 ms
//! ```

use std::path::{Path, PathBuf};

use crate::fingerprint::ABSENT;

/// The threads of some cores. Found once: their process ids stay while the host runs.
#[derive(Debug, Clone, Default)]
pub struct Ksoftirqd {
    /// Their directories in /proc; `None` when one of the cores has none to be seen.
    threads: Option<Vec<PathBuf>>,
}

impl Ksoftirqd {
    /// Looks for those of `cores`. In most containers there are none to be seen.
    pub fn of(cores: &[usize]) -> Self {
        Self::below(Path::new("/proc"), cores)
    }

    fn below(proc: &Path, cores: &[usize]) -> Self {
        let mut names: Vec<String> = cores.iter().map(|n| format!("ksoftirqd/{n}")).collect();
        names.sort();
        names.dedup();
        let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
        let threads: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let comm = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
                names.iter().any(|name| name == comm.trim_end())
            })
            .collect();
        let are_all_there = !names.is_empty() && threads.len() == names.len();
        Self {
            threads: are_all_there.then_some(threads),
        }
    }

    /// Nanoseconds of CPU since the host started, of all of them; `None` when they cannot be read.
    pub fn cpu_ns(&self) -> Option<u64> {
        let threads = self.threads.as_ref()?;
        threads.iter().map(|path| cpu_ns(path)).sum()
    }

    /// How fine the figure is, for the fingerprint.
    pub fn told(&self) -> String {
        match &self.threads {
            None => ABSENT.into(),
            Some(threads) if threads.iter().all(|path| schedstat_ns(path).is_some()) => {
                "seen, in nanoseconds (schedstat)".into()
            }
            Some(_) => "seen, in ticks of 10 ms (stat)".into(),
        }
    }
}

fn cpu_ns(thread: &Path) -> Option<u64> {
    schedstat_ns(thread).or_else(|| ticks_ns(thread))
}

/// All zeros where the kernel keeps no such statistics.
fn schedstat_ns(thread: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(thread.join("schedstat")).ok()?;
    let mut fields = text.split_whitespace().map(|f| f.parse::<u64>().ok());
    let (on_cpu, _, slices) = (fields.next()??, fields.next()??, fields.next()??);
    (on_cpu > 0 || slices > 0).then_some(on_cpu)
}

fn ticks_ns(thread: &Path) -> Option<u64> {
    const TICK_NS: u64 = 10_000_000;
    let stat = std::fs::read_to_string(thread.join("stat")).ok()?;
    // The name in parentheses comes second; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A /proc with a thread for each core of the list, and a process that is none.
    fn proc(name: &str, cores: &[usize], schedstat: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("weir-proc-{name}-{}", std::process::id()));
        let write = |pid: usize, file: &str, text: &str| {
            let dir = root.join(pid.to_string());
            std::fs::create_dir_all(&dir).expect("a directory");
            std::fs::write(dir.join(file), text).expect("writes");
        };
        write(1, "comm", "init\n");
        for core in cores {
            write(10 + core, "comm", &format!("ksoftirqd/{core}\n"));
            write(10 + core, "schedstat", schedstat);
            let stat = format!("{core} (ksoftirqd/{core}) S 2 0 0 0 -1 69238848 0 0 0 0 3 4 0 0");
            write(10 + core, "stat", &stat);
        }
        root
    }

    #[test]
    fn time_of_the_systems_cores_is_read() {
        let root = proc("fine", &[0, 1, 11], "1500 7 3\n");
        let one = Ksoftirqd::below(&root, &[1]);
        let two = Ksoftirqd::below(&root, &[0, 1]);
        let missing = Ksoftirqd::below(&root, &[0, 2]);
        let (one, two, told) = (one.cpu_ns(), two.cpu_ns(), one.told());
        std::fs::remove_dir_all(&root).expect("own files");
        assert_eq!((one, two), (Some(1500), Some(3000)));
        assert_eq!((missing.cpu_ns(), missing.told().as_str()), (None, ABSENT));
        assert!(told.contains("nanoseconds"), "{told}");
    }

    #[test]
    fn ticks_do_where_there_is_no_schedstat() {
        let root = proc("ticks", &[0], "0 0 0\n");
        let found = Ksoftirqd::below(&root, &[0]);
        let (ns, told) = (found.cpu_ns(), found.told());
        std::fs::remove_dir_all(&root).expect("own files");
        assert_eq!(ns, Some(70_000_000), "3 + 4 ticks");
        assert!(told.contains("10 ms"), "{told}");
    }

    #[test]
    fn a_host_without_them_is_no_error() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(Ksoftirqd::below(nowhere, &[0]).cpu_ns(), None);
        assert_eq!(Ksoftirqd::below(nowhere, &[]).told(), ABSENT);
    }
}
