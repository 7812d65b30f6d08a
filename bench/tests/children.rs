//! weir-bench is ended by real signals in the middle of a run: nothing that it started stays.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");

/// A master with two workers, as nginx is one: a relay, and a process that takes no notice of SIGTERM. It
/// passes SIGTERM on if it is told to.
const MASTER: &str = "#!/bin/sh
BENCH relay --emitters \"$1\" --analyzers \"$2\" & relay=$!
sh -c 'trap \"\" TERM; echo deaf $$ >>PIDS; while :; do sleep 1; done' & deaf=$!
TRAP
echo master $$ >>PIDS
echo relay $relay >>PIDS
wait
";
const PASS_ON: &str = "trap 'kill $relay; kill -9 $deaf; exit 0' TERM";

struct Run {
    dir: PathBuf,
    bench: Child,
    pids: Vec<i32>,
}

impl Run {
    /// Under way: master and workers have said their ids, and the load runs.
    fn start(name: &str, trap: &str) -> Run {
        Run::start_by(Command::new(BENCH), name, trap)
    }

    /// By a command that becomes weir-bench with the arguments that follow.
    fn start_by(mut command: Command, name: &str, trap: &str) -> Run {
        let dir = std::env::temp_dir().join(format!("weir-children-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let (script, list) = (dir.join("master"), dir.join("pids"));
        let text = MASTER.replace("BENCH", BENCH).replace("TRAP", trap);
        let text = text.replace("PIDS", list.to_str().expect("plain"));
        fs::write(&script, text).expect("writes");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("own file");
        let subject = format!("{} {{emitters}} {{analyzers}}", script.display());
        let bench = command
            .args(["latency", "--rates", "500", "--seconds", "60"])
            .args(["--connections", "2", "--load-cores", "0", "--subject"])
            .arg(subject)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("weir-bench starts");
        let mut run = Run {
            dir,
            bench,
            pids: Vec::new(),
        };
        run.wait_for("three ids", |run| {
            let text = fs::read_to_string(&list).unwrap_or_default();
            let mut lines: Vec<&str> = text.lines().collect();
            // deaf, master, relay
            lines.sort_unstable();
            let ids = lines
                .iter()
                .filter_map(|l| l.split(' ').nth(1)?.parse().ok());
            run.pids = ids.collect();
            run.pids.len() == 3 && run.pids.iter().all(|pid| is_alive(*pid))
        });
        run
    }

    fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&mut Run) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.pids);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end_by(&mut self, signal: Signal) {
        let pid = Pid::from_raw(self.bench.id() as i32);
        kill(pid, signal).expect("our child");
        let status = self.bench.wait().expect("our child");
        assert_eq!(status.signal(), Some(signal as i32), "{status}");
    }
}

impl Drop for Run {
    /// Whatever a failed test left: ids that the script wrote itself.
    fn drop(&mut self) {
        let _ = self.bench.kill();
        let _ = self.bench.wait();
        for pid in self.pids.iter().filter(|pid| is_alive(**pid)) {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// There, and no zombie that only waits for somebody to look at it.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    let stat = stat.unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// The master dies of SIGTERM and leaves its workers, one of which is deaf: the group's SIGKILL ends it.
#[test]
fn workers_end_with_a_bench_that_is_told_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut run = Run::start(signal.as_str(), "");
        run.end_by(signal);
        // At once: the bench dies last.
        let left: Vec<&i32> = run.pids.iter().filter(|pid| is_alive(**pid)).collect();
        assert!(left.is_empty(), "{signal}: {left:?} of {:?}", run.pids);
    }
}

/// Ignored in this process, and so in those that it starts.
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("always there");
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.expect("always there").trim(), 16).expect("a mask");
    mask & 1 != 0
}

#[test]
fn a_hangup_ends_a_bench_that_does_not_ignore_it() {
    if is_hangup_ignored() {
        println!("SKIPPED: SIGHUP is ignored here, and so in all that is started");
        return;
    }
    let mut run = Run::start("hangup", "");
    run.end_by(Signal::SIGHUP);
    assert!(!run.pids.iter().any(|pid| is_alive(*pid)), "{:?}", run.pids);
}

/// As nohup(1) does it: the signal is ignored when the program starts, and that is left so.
#[test]
fn a_bench_below_nohup_goes_on_after_a_hangup() {
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$@\"", "nohup", BENCH]);
    let mut run = Run::start_by(nohup, "nohup", "");
    let pid = Pid::from_raw(run.bench.id() as i32);
    kill(pid, Signal::SIGHUP).expect("our child");
    // A bench that ends tells its children first, at once.
    std::thread::sleep(Duration::from_millis(500));
    assert!(run.pids.iter().all(|pid| is_alive(*pid)), "{:?}", run.pids);
    assert_eq!(run.bench.try_wait().expect("our child"), None);
    run.end_by(Signal::SIGTERM);
}

/// A build puts another file in the place of the binary in the middle of a measurement: what is measured stays.
#[test]
fn a_binary_that_is_replaced_goes_on_with_itself() {
    let dir = std::env::temp_dir().join(format!("weir-replaced-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let own = dir.join("weir-bench");
    fs::copy(BENCH, &own).expect("copies");
    let line = "pair --a relay --b relay --pairs 1 --warm-up 0 --scenario firehose --firehose-messages 50000 \
                --system-cores 0 --load-cores 0";
    let mut bench = Command::new(&own)
        .args(line.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("weir-bench starts");
    let mut said = BufReader::new(bench.stdout.take().expect("a pipe")).lines();
    // The head of the table: everything was looked for, and nothing has run.
    let is_head = |line: &str| line.contains("CPU ns/msg");
    let head = said.find(|line| line.as_ref().is_ok_and(|line| is_head(line)));
    assert!(head.is_some(), "no table");
    fs::remove_file(&own).expect("own file");
    fs::write(&own, "#!/bin/sh\nexit 99\n").expect("writes");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).expect("own file");
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    let output = bench.wait_with_output().expect("our child");
    fs::remove_dir_all(&dir).expect("own files");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{rest:?} {error}");
    assert!(
        rest.iter().any(|line| line.starts_with("median B")),
        "{rest:?}"
    );
}

/// A bench that is killed can do nothing; the kernel tells the master, who knows its workers.
#[test]
fn a_master_is_told_when_the_bench_is_killed() {
    let mut run = Run::start("kill", PASS_ON);
    run.end_by(Signal::SIGKILL);
    run.wait_for("all gone", |run| !run.pids.iter().any(|pid| is_alive(*pid)));
}

/// A run that fails, as its relay is gone, leaves neither the master nor the other worker behind.
#[test]
fn workers_end_with_a_run() {
    let mut run = Run::start("run", "");
    let relay = run.pids[2];
    kill(Pid::from_raw(relay), Signal::SIGKILL).expect("own id");
    let status = run.bench.wait().expect("our child");
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    run.wait_for("all gone", |run| !run.pids.iter().any(|pid| is_alive(*pid)));
}
