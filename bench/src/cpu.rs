//! CPU time of a system under test: of the process that was started and of those below it, a master's
//! workers.
//!
//! ```text
//! at one moment   child 5 ms + worker 1 7 ms + worker 2 9 ms      each by its own CPU clock
//! at a later one  child 6 ms + worker 1 8 ms                      worker 2 ended and took its time along:
//!                                                                 too little, and said to be
//! ```

use std::io;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Readings of the CPU clocks at one moment.
#[derive(Debug, Clone)]
pub struct CpuTime {
    /// User and system time of all threads, ended ones too, of all processes that live (ns).
    ns: u64,
    below: Vec<Pid>,
}

impl CpuTime {
    /// Of `pid`, to the nanosecond, and of the processes below it.
    ///
    /// # Errors
    /// There is no such process. A worker that ends meanwhile is none.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let mut ns = process_cpu_ns(pid)?;
        let below = descendants(pid);
        for worker in &below {
            ns += process_cpu_ns(*worker).unwrap_or(0);
        }
        Ok(Self { ns, below })
    }

    /// Nanoseconds used since `before`; 0 where workers ended and took more along than was used since.
    pub fn ns_since(&self, before: &Self) -> u64 {
        self.ns.saturating_sub(before.ns)
    }

    /// What a reader must know of [`CpuTime::ns_since`]: a worker that lived at `before` has ended.
    pub fn note_since(&self, before: &Self) -> Option<String> {
        let is_gone = |pid: &&Pid| !self.below.contains(pid);
        match before.below.iter().filter(is_gone).count() {
            0 => None,
            n => Some(format!(
                "{n} of the system's processes ended in the measured part, and took their CPU time along: the \
                 CPU figures are too low"
            )),
        }
    }
}

/// (user, system) of `pid` and of the processes below it in clock ticks of 10 ms: good for the proportion only.
///
/// # Errors
/// There is no such process.
pub fn ticks(pid: Pid) -> io::Result<(u64, u64)> {
    let mut sum = process_ticks(pid)?;
    for pid in descendants(pid) {
        let (user, system) = process_ticks(pid).unwrap_or_default();
        sum = (sum.0 + user, sum.1 + system);
    }
    Ok(sum)
}

/// Part of the time between two readings of [`ticks`] that was spent in user mode.
pub fn user_share(now: (u64, u64), before: (u64, u64)) -> f64 {
    let (user, system) = (
        now.0.saturating_sub(before.0),
        now.1.saturating_sub(before.1),
    );
    user as f64 / (user + system).max(1) as f64
}

fn process_cpu_ns(pid: Pid) -> io::Result<u64> {
    let t = clock_gettime(clock_getcpuclockid(pid)?)?;
    Ok(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

fn process_ticks(pid: Pid) -> io::Result<(u64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = after_name
        .split_whitespace()
        .skip(11)
        .map(|f| f.parse().unwrap_or(0));
    Ok((fields.next().unwrap_or(0), fields.next().unwrap_or(0)))
}

/// Processes below `pid`, as they are now: a master's workers.
fn descendants(pid: Pid) -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for task in tasks.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|p| p.parse().ok()) {
            all.push(Pid::from_raw(child));
            all.extend(descendants(Pid::from_raw(child)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{kill, Signal};
    use std::process::Command;
    use std::time::{Duration, Instant};

    /// The inner shell works, the outer one waits for it and for an end.
    #[test]
    fn time_of_processes_below_counts_and_one_that_ends_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'while :; do :; done'; read -r line"]);
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh starts");
        let pid = Pid::from_raw(child.id() as i32);
        let deadline = Instant::now() + Duration::from_secs(20);
        let wait_for = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                assert!(Instant::now() < deadline, "{:?}", CpuTime::of(pid));
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let read = || CpuTime::of(pid).expect("lives");
        let first = read();
        // The waiting shell alone needs a millisecond or two in all.
        wait_for(&|| read().ns_since(&first) > 100_000_000);
        let worker = descendants(pid)[0];
        let before = read();
        assert_eq!(read().note_since(&before), None);
        kill(worker, Signal::SIGKILL).expect("ours");
        wait_for(&|| descendants(pid).is_empty());
        let after = read();
        assert!(after.ns < before.ns, "{after:?} {before:?}");
        assert_eq!(after.ns_since(&before), 0);
        let note = after.note_since(&before).expect("a worker ended");
        assert!(note.starts_with("1 of the system's processes"), "{note}");
        assert_eq!(user_share((1, 1), (5, 0)), 0.0, "ticks go along as well");
        drop(child.stdin.take());
        child.wait().expect("ends with its stdin");
    }
}
