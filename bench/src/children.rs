//! Children end with this program, however it ends, and theirs with them.
//!
//! ```text
//! weir-bench --fork--> weir-bench contain --exec--> the child, leader of a group of its own -> workers
//!     |                    own cores, PR_SET_PDEATHSIG
//!     |- SIGTERM, SIGINT, SIGHUP   a thread ends every group by its id, SIGKILL after a while, and then
//!     |                            lets the signal do what it would have done; not SIGHUP below nohup
//!     '- SIGKILL                   the kernel sends each leader SIGTERM, which takes its workers along
//! ```
//!
//! PR_SET_PDEATHSIG has to be asked for in the child, after fork and before exec; between the two only
//! async-signal-safe code may run, so that the standard library wants `unsafe` there. A second exec
//! does without. The kernel means the *thread* that forked: only threads that live as long as the
//! program, in practice the first one, may start children.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{kill, killpg, Signal};
use nix::sys::wait::{waitid, waitpid, Id, WaitPidFlag, WaitStatus};
use nix::unistd::{getppid, Pid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::net::pin;

/// Time that groups have after SIGTERM, when the program itself was told to end.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// Time that SIGKILL gets to take effect: the call returns before the process is gone.
const KILL_PATIENCE: Duration = Duration::from_millis(500);

/// What lives: groups by the ids of their leaders, and directories to remove.
struct Living {
    groups: Vec<Pid>,
    directories: Vec<PathBuf>,
}

static LIVING: Mutex<Living> = Mutex::new(Living {
    groups: Vec::new(),
    directories: Vec::new(),
});
/// A signal was taken; the program is about to die of it.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

fn living() -> MutexGuard<'static, Living> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program that runs now, though its file may have been replaced or removed: a build beside a measurement
/// does not change what is measured.
pub const SELF: &str = "/proc/self/exe";

/// A command that will run `program` on `cores` (none: where this program runs), to be given arguments
/// and pipes and then to [`Group::spawn`].
///
/// # Errors
/// There is no such program: with its name.
pub fn command(program: &Path, cores: &[usize]) -> io::Result<Command> {
    let found = find(program).ok_or_else(|| {
        let what = format!(
            "cannot start {}: there is no such program",
            program.display()
        );
        io::Error::new(io::ErrorKind::NotFound, what)
    })?;
    let mut command = Command::new(SELF);
    command.arg0("weir-bench");
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    command.args(["contain", "--parent", &std::process::id().to_string()]);
    if !cores.is_empty() {
        command.args(["--cores", &cores.join(",")]);
    }
    command.arg("--").arg(found).process_group(0);
    Ok(command)
}

/// As a shell would: on PATH when there is no slash in it.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|place| place.is_file())
}

/// Arguments of the hidden `weir-bench contain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ContainArgs {
    /// Who shall be outlived by nothing
    #[arg(long)]
    parent: i32,
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the command; returns only if that fails.
///
/// # Errors
/// Whatever was in the way, with the command's name.
pub fn contain(args: &ContainArgs) -> io::Result<bool> {
    set_pdeathsig(Signal::SIGTERM)?;
    if getppid().as_raw() != args.parent {
        return Err(io::Error::other("the measuring program has ended"));
    }
    if !args.cores.is_empty() {
        pin(&args.cores)?;
    }
    let (program, rest) = args
        .command
        .split_first()
        .map_or((OsStr::new(""), &[][..]), |(p, rest)| (p.as_os_str(), rest));
    let error = Command::new(program).args(rest).exec();
    let what = format!("cannot start {}: {error}", program.to_string_lossy());
    Err(io::Error::new(error.kind(), what))
}

/// A directory that goes when the program is ended by a signal; removing it earlier is the owner's affair.
pub fn remove_at_end(directory: &Path) {
    let mut living = living();
    living.directories.retain(|d| d.exists());
    living.directories.push(directory.to_path_buf());
}

/// Called before the exit: a program that is being ended by a signal waits for that, and the failures
/// that follow from its children's end are not told.
pub fn await_end() {
    while IS_ENDING.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A child and everything below it that stayed in its group. Dropping it kills them.
pub struct Group {
    child: Child,
    pid: Pid,
    has_ended: bool,
}

impl Group {
    /// Starts what [`command`] made.
    ///
    /// # Errors
    /// It cannot be started, or the program is being ended.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        watch_signals()?;
        // Held over the fork: a signal finds the child in the list or is asked first.
        let mut living = living();
        if IS_ENDING.load(Ordering::SeqCst) {
            return Err(io::Error::other("ended by a signal"));
        }
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id() as i32);
        living.groups.push(pid);
        Ok(Self {
            child,
            pid,
            has_ended: false,
        })
    }

    /// Of the leader, and of the group.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its pipe, once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its pipe, once.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// A signal to the leader alone, which knows what to do with its workers.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid, signal)?)
    }

    /// Its status if the leader has ended; what it left behind in its group is killed.
    ///
    /// # Errors
    /// Those of waitid(2).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.has_ended {
            return self.child.try_wait();
        }
        // Looked at and not yet taken: until then nobody else can have its id.
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid), peek)? {
            WaitStatus::StillAlive => Ok(None),
            _ => self.take(),
        }
    }

    /// SIGKILL to all of it.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn kill(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.has_ended {
            return self.child.try_wait();
        }
        self.take()
    }

    fn take(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut living = living();
        // The leader is there, alive or not yet taken: the id is its own. None left is no error.
        let _ = killpg(self.pid, Signal::SIGKILL);
        let status = self.child.wait();
        living.groups.retain(|pid| *pid != self.pid);
        self.has_ended = true;
        status.map(Some)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the child is ours and unwanted.
        let _ = self.kill();
    }
}

/// Once: a thread that waits for the signals which end programs.
fn watch_signals() -> io::Result<()> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let mut watched = vec![SIGTERM, SIGINT];
        if !is_hangup_ignored()? {
            watched.push(SIGHUP);
        }
        let signals = Signals::new(watched);
        let mut signals = signals.map_err(|e| e.to_string())?;
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                IS_ENDING.store(true, Ordering::SeqCst);
                end_all();
                // Dies here, with the status that the signal gives.
                let _ = emulate_default_handler(signal);
            }
        });
        Ok(())
    });
    started.clone().map_err(io::Error::other)
}

/// Started by nohup(1) or the like: a handler would undo that. The mask SigIgn of /proc/self/status has a bit
/// for each ignored signal, that of signal 1 the lowest (proc_pid_status(5)).
fn is_hangup_ignored() -> Result<bool, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.ok_or("/proc/self/status has no SigIgn")?;
    Ok(mask & 1 << (SIGHUP - 1) != 0)
}

/// SIGTERM to every group, SIGKILL to those that stay; then the directories.
fn end_all() {
    let living = living();
    for group in &living.groups {
        let _ = killpg(*group, Signal::SIGTERM);
    }
    await_gone(&living.groups, END_PATIENCE);
    for group in living.groups.iter().filter(|group| !is_gone(**group)) {
        let _ = killpg(*group, Signal::SIGKILL);
    }
    await_gone(&living.groups, KILL_PATIENCE);
    for directory in &living.directories {
        let _ = std::fs::remove_dir_all(directory);
    }
    crate::say(format_args!(
        "weir-bench: ended by a signal, and its {} children with it",
        living.groups.len()
    ));
}

/// Until nobody is left in any of them, or the time is over.
fn await_gone(groups: &[Pid], patience: Duration) {
    let deadline = Instant::now() + patience;
    while !groups.iter().all(|group| is_gone(*group)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_gone(group: Pid) -> bool {
    // A leader that nobody waits for would stay as a zombie and keep the group.
    let _ = waitpid(group, Some(WaitPidFlag::WNOHANG));
    killpg(group, None) == Err(Errno::ESRCH)
}
