//! Between the fork and the program: this binary under another name, for what only the new process can do for itself.
//!
//! ```text
//! weir -- posix_spawn --> weir-exec PARENT PROGRAM ARGUMENTS -- SIGKILL when the parent is dead, 1024 descriptors --> PROGRAM
//! ```
//!
//! No code of ours runs between fork and exec: what is spawned so shares nothing of the arenas, not even for a moment.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{
    getppid, getrlimit, set_parent_process_death_signal, setrlimit, Pid, Resource, Rlimit, Signal,
};

/// This binary, also when another has taken its place.
pub(super) const PROGRAM: &str = "/proc/self/exe";
/// The name that it is called by.
const NAME: &str = "weir-exec";
/// Descriptors that programs expect at most; some use select(2), which takes no higher number.
const DESCRIPTORS: u64 = 1024;

/// To be launched: the program and its arguments.
pub(super) fn give(command: &mut Command, words: impl Iterator<Item = OsString>) {
    command.arg0(NAME);
    command.arg(std::process::id().to_string());
    command.args(words);
}

/// Becomes a program, if it was called for that. `pass_standard_streams_alone` keeps all other descriptors from it.
/// Comes back if it was not, or with why it cannot.
pub fn launched(
    args: impl IntoIterator<Item = OsString>,
    pass_standard_streams_alone: impl FnOnce() -> io::Result<()>,
) -> Option<String> {
    let mut args = args.into_iter();
    let name = args.next()?;
    if Path::new(&name).file_name() != Some(OsStr::new(NAME)) {
        return None;
    }
    let parent = args.next().and_then(|it| it.to_str()?.parse::<i32>().ok());
    let Some(program) = args.next() else {
        return Some(format!("{NAME} is called by weir distributor only"));
    };
    // SIGKILL: it shall not outlive the distributor, whatever it does with signals.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Some(format!("PR_SET_PDEATHSIG: {error}"));
    }
    if getppid().map(Pid::as_raw_pid) != parent {
        return Some("the distributor is dead already".to_owned());
    }
    let limit = getrlimit(Resource::Nofile);
    let current = limit
        .maximum
        .map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(current),
            ..limit
        },
    );
    // What was open when the distributor was started is open here as well.
    if let Err(error) = pass_standard_streams_alone() {
        return Some(format!("close_range: {error}"));
    }
    let error = Command::new(&program).args(args).exec();
    Some(format!("program {}: {error}", program.display()))
}
