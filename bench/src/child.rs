//! The system under test: a child process on its own cores, its CPU clock, its memory, its end.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::time::{clock_getcpuclockid, clock_gettime, ClockId};
use nix::unistd::Pid;

use crate::counters::Counters;
use crate::net::{free_port, pin};

/// Time a child has to end after SIGTERM, before SIGKILL.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Lines of stderr kept for the report of a failure.
const STDERR_LINES_MAX: usize = 40;
/// Lines of stdout looked at for counters: the last ones, more than Weir ends with.
const STDOUT_LINES_MAX: usize = 200;
/// Time for the end of stdout after the end of the child.
const STDOUT_PATIENCE: Duration = Duration::from_millis(500);

/// How to find and pin what is measured; shared by the scenarios.
#[derive(Debug, Clone, clap::Args)]
pub struct SystemArgs {
    /// The weir binary [default: beside weir-bench]
    #[arg(long, value_name = "PATH")]
    pub weir: Option<PathBuf>,
    /// More arguments for every `weir distributor`
    #[arg(
        long,
        default_value = "",
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pub weir_args: String,
    /// Cores of the system under test
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "LIST")]
    pub system_cores: Vec<usize>,
    /// Cores of load and sink
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "LIST")]
    pub load_cores: Vec<usize>,
}

/// A command line to measure, with the ports still open.
#[derive(Debug, Clone)]
pub struct System {
    /// As the user wrote it.
    pub spec: String,
    /// It speaks no native protocol.
    pub is_relay: bool,
    program: PathBuf,
    args: Vec<String>,
}

impl System {
    /// `relay ...`, `weir ...`, or any command with `{emitters}` and `{analyzers}` in it.
    pub fn parse(spec: &str, args: &SystemArgs, message_len: usize) -> io::Result<Self> {
        let words: Vec<String> = spec.split_whitespace().map(str::to_owned).collect();
        let Some((first, rest)) = words.split_first() else {
            return Err(io::Error::other(
                "empty system: give relay, weir or a command",
            ));
        };
        let own = std::env::current_exe()?;
        let (program, prefix): (PathBuf, Vec<String>) = match first.as_str() {
            "relay" => {
                let unit = message_len.to_string();
                (
                    own,
                    strings(&[
                        "relay",
                        "--emitters",
                        "{emitters}",
                        "--analyzers",
                        "{analyzers}",
                        "--unit",
                        &unit,
                    ]),
                )
            }
            "weir" => {
                let program = args
                    .weir
                    .clone()
                    .unwrap_or_else(|| own.with_file_name("weir"));
                (program, weir_prefix(args, rest))
            }
            _ if spec.contains("{emitters}") && spec.contains("{analyzers}") => {
                (PathBuf::from(first), Vec::new())
            }
            _ => {
                return Err(io::Error::other(format!(
                    "unknown system '{spec}': allowed are 'relay', 'weir [args]', or a command \
                     with {{emitters}} and {{analyzers}} where the addresses go"
                )))
            }
        };
        let is_relay = first == "relay";
        let args = prefix.into_iter().chain(rest.iter().cloned()).collect();
        Ok(Self {
            spec: spec.to_owned(),
            is_relay,
            program,
            args,
        })
    }

    /// Fails before the first run, not in the middle of it.
    pub fn ensure_exists(&self) -> io::Result<()> {
        let is_path = self.program.components().count() > 1;
        if is_path && !self.program.is_file() {
            let path = self.program.display();
            return Err(io::Error::other(format!(
                "'{}': there is no {path}: build it (cargo build --release --workspace) or name \
                 it with --weir",
                self.spec
            )));
        }
        Ok(())
    }

    /// Starts it on fresh ports. Connecting to them, patiently, is the caller's readiness check.
    pub fn start(&self, cores: &[usize]) -> io::Result<UnderTest> {
        let (emitters, analyzers, http) = (free_port()?, free_port()?, free_port()?);
        let mut command = Command::new(&self.program);
        // By variable: what is compared may be a build that has no such flag.
        command.env("WEIR_HTTP", "off");
        for arg in &self.args {
            let arg = arg.replace("{emitters}", &emitters.to_string());
            let arg = arg.replace("{http}", &http.to_string());
            command.arg(arg.replace("{analyzers}", &analyzers.to_string()));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn_pinned(&mut command, cores)?;
        let stderr = read_lines(&mut child);
        let stdout = Tail::of(child.stdout.take());
        let pid = Pid::from_raw(child.id() as i32);
        let clock = clock_getcpuclockid(pid)?;
        let tail = VecDeque::new();
        Ok(UnderTest {
            child,
            pid,
            clock,
            stderr,
            stdout,
            tail,
            emitters,
            analyzers,
            http,
        })
    }
}

fn weir_prefix(args: &SystemArgs, rest: &[String]) -> Vec<String> {
    let mut prefix = strings(&[
        "distributor",
        "--emitters",
        "{emitters}",
        "--analyzers",
        "{analyzers}",
    ]);
    let extra: Vec<String> = args
        .weir_args
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    if !rest.iter().chain(&extra).any(|a| a.starts_with("--cores")) {
        let cores: Vec<String> = args.system_cores.iter().map(usize::to_string).collect();
        prefix.extend(["--cores".to_owned(), cores.join(",")]);
    }
    prefix.extend(extra);
    prefix
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// Starts a command restricted to `cores`. A child inherits the affinity of the thread that
/// starts it, so a short-lived thread pins itself first; the caller keeps its own cores.
pub fn spawn_pinned(command: &mut Command, cores: &[usize]) -> io::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            pin(cores)?;
            command.spawn()
        });
        starter
            .join()
            .map_err(|_| io::Error::other("the starting thread panicked"))?
    })
    .map_err(|e| io::Error::new(e.kind(), format!("cannot start {name}: {e}")))
}

/// Reads stderr on a thread, so that a talkative child never blocks on a full pipe.
fn read_lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// The last lines of a pipe, read on a thread.
struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    thread: JoinHandle<()>,
}

impl Tail {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            let lines = pipe.map(|pipe| BufReader::new(pipe).lines());
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == STDOUT_LINES_MAX {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Self { lines, thread }
    }

    /// What is there when the pipe has ended, or at `deadline`: a grandchild may hold it open.
    fn lines_by(&self, deadline: Instant) -> Vec<String> {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lines).into()
    }
}

/// A running child. Dropping it kills it.
pub struct UnderTest {
    child: Child,
    pid: Pid,
    clock: ClockId,
    stderr: Receiver<String>,
    stdout: Tail,
    tail: VecDeque<String>,
    /// Where it takes emitters.
    pub emitters: SocketAddr,
    /// Where it takes analyzers.
    pub analyzers: SocketAddr,
    /// Where it takes HTTP clients, if `{http}` is among its arguments.
    pub http: SocketAddr,
}

/// How a child ended.
#[derive(Debug)]
pub struct Stopped {
    /// None if even SIGKILL left no status.
    pub status: Option<ExitStatus>,
    /// SIGTERM was not enough.
    pub was_killed: bool,
    /// Weir's conservation law, or the last line of another system on stderr.
    pub last_line: String,
    /// What Weir says of itself on stdout at its end.
    pub counters: Option<Counters>,
}

impl UnderTest {
    /// User and system time of all its threads, ended ones too, to the nanosecond.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        let t = clock_gettime(self.clock)?;
        Ok(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
    }

    /// (user, system) in clock ticks of 10 ms: good for the proportion only.
    pub fn ticks(&self) -> io::Result<(u64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = after_name
            .split_whitespace()
            .skip(11)
            .map(|f| f.parse().unwrap_or(0));
        Ok((fields.next().unwrap_or(0), fields.next().unwrap_or(0)))
    }

    /// VmRSS in bytes.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|l| l.split_whitespace().next())
            .and_then(|n| n.parse::<u64>().ok());
        kib.map(|k| k * 1024)
            .ok_or_else(|| io::Error::other("the child has no VmRSS: it ended"))
    }

    /// The next line of stderr within `patience`.
    pub fn next_line(&mut self, patience: Duration) -> Option<String> {
        let line = self.stderr.recv_timeout(patience).ok()?;
        self.keep(line.clone());
        Some(line)
    }

    fn keep(&mut self, line: String) {
        if self.tail.len() == STDERR_LINES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn drain_lines(&mut self) {
        loop {
            match self.stderr.try_recv() {
                Ok(line) => self.keep(line),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// What it said last, for an error message.
    pub fn last_words(&mut self) -> String {
        self.drain_lines();
        self.tail.iter().map(|l| format!("\n    | {l}")).collect()
    }

    /// SIGTERM, then SIGKILL if it takes too long. `turn` keeps the analyzers answering, so that
    /// the child can drain; it has to return within milliseconds.
    pub fn stop(mut self, mut turn: impl FnMut()) -> io::Result<Stopped> {
        let deadline = Instant::now() + STOP_PATIENCE;
        kill(self.pid, Signal::SIGTERM)?;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(self.stopped(Some(status), false));
            }
            self.drain_lines();
            turn();
        }
        self.child.kill()?;
        let status = self.child.wait().ok();
        Ok(self.stopped(status, true))
    }

    fn stopped(&mut self, status: Option<ExitStatus>, was_killed: bool) -> Stopped {
        // The reading thread ends with the pipe, which ends with the child.
        while let Ok(line) = self.stderr.recv_timeout(Duration::from_millis(200)) {
            self.keep(line);
        }
        let said = self.stdout.lines_by(Instant::now() + STDOUT_PATIENCE);
        let counters = Counters::parse(&said);
        // Weir ends with its conservation law on stdout, others with what they have to say on stderr.
        let last_line = match said.last().filter(|_| counters.is_some()) {
            Some(law) => law.clone(),
            None => self.tail.back().cloned().unwrap_or_default(),
        };
        Stopped {
            status,
            was_killed,
            last_line,
            counters,
        }
    }
}

impl Drop for UnderTest {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Nothing can be done about a failure here; the child is ours and unwanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> SystemArgs {
        SystemArgs {
            weir: Some("w".into()),
            weir_args: "--x 1".into(),
            system_cores: vec![0],
            load_cores: vec![1],
        }
    }

    #[test]
    fn specs_become_command_lines() {
        let weir = System::parse("weir --shards 2", &args(), 256).expect("valid");
        assert_eq!(
            weir.args.join(" "),
            "distributor --emitters {emitters} --analyzers {analyzers} --cores 0 --x 1 --shards 2"
        );
        let pinned = System::parse("weir --cores 0,1", &args(), 256).expect("valid");
        assert!(
            !pinned.args.join(" ").contains("--cores 0 "),
            "the user's own --cores wins"
        );
        assert!(
            System::parse("relay", &args(), 256)
                .expect("valid")
                .is_relay
        );
        assert!(System::parse("other -l {emitters} -t {analyzers}", &args(), 256).is_ok());
        assert!(System::parse("other", &args(), 256).is_err());
    }
}
