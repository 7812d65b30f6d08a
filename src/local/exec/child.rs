//! One program.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{kill_process_group, pidfd_open, Pid, PidfdFlags, Signal};
use weir_config::ExecOptions;
use weir_protocol::text::Quoted;

use super::launch;

/// Of a line on its standard error: what is logged; more is left out.
const LINE_BYTES_MAX: usize = 1024;
/// Reads of it at once: who writes on and on holds up nobody.
const READS_MAX: usize = 16;
/// What a service manager has told this process alone.
const NOT_PASSED: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// See the head of this file.
pub(super) struct Child {
    analyzer: Arc<str>,
    shard: usize,
    process: process::Child,
    pid: Pid,
    /// Readable when it has exited.
    exit: OwnedFd,
    has_exited: bool,
    has_failed: bool,
    errors: Option<ChildStderr>,
    /// The beginning of a line.
    line: Vec<u8>,
}

impl Child {
    /// Starts it, with this as its standard input and output.
    pub(super) fn start(
        options: &ExecOptions,
        analyzer: &Arc<str>,
        shard: usize,
        stream: OwnedFd,
    ) -> Result<Child, String> {
        let named = |error: std::io::Error| format!("program {:?}: {error}", options.words[0]);
        let output = stream.try_clone().map_err(named)?;
        let mut command = Command::new(launch::PROGRAM);
        launch::give(&mut command, options.words.iter().map(OsString::from));
        NOT_PASSED.iter().for_each(|name| {
            command.env_remove(name);
        });
        if std::env::var_os("SHLVL").is_none() {
            // A bash whose input is a socket reads .bashrc, unless it is within another shell.
            command.env("SHLVL", "1");
        }
        let mut process = command
            .stdin(Stdio::from(stream))
            .stdout(Stdio::from(output))
            .stderr(Stdio::piped())
            // What a terminal sends to us is not for it: it shall finish what it has.
            .process_group(0)
            .spawn()
            .map_err(named)?;
        let errors = process.stderr.take();
        let pid = Pid::from_child(&process);
        let exit = pidfd_open(pid, PidfdFlags::empty());
        let exit = exit.map_err(|error| {
            let _ = process.kill();
            let _ = process.wait();
            named(error.into())
        })?;
        if let Some(errors) = &errors {
            rustix::io::ioctl_fionbio(errors, true).map_err(|error| named(error.into()))?;
        }
        log::info!(
            "analyzer {analyzer}: started {} shard={shard} pid={}",
            Quoted(&options.command),
            process.id()
        );
        Ok(Child {
            analyzer: Arc::clone(analyzer),
            shard,
            process,
            pid,
            exit,
            has_exited: false,
            has_failed: false,
            errors,
            line: Vec::new(),
        })
    }

    /// What is to be looked at when it can be read.
    pub(super) fn waited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let errors = self.errors.iter().map(AsFd::as_fd);
        errors.chain([self.exit.as_fd()])
    }

    /// How it ended; none: it has not.
    pub(super) fn exited(&mut self) -> Option<String> {
        if !self.has_exited {
            // Its number is its group's as long as nobody has waited for it: what it has started goes with it.
            let is_over = crate::wait::readable(&[self.exit.as_fd()], std::time::Duration::ZERO);
            if !is_over.is_ok_and(|ready| ready[0]) {
                return None;
            }
            self.signal(Signal::KILL);
        }
        self.has_exited = true;
        let ended = match self.process.wait() {
            Ok(status) => {
                self.has_failed = !status.success();
                in_words(status)
            }
            Err(error) => error.to_string(),
        };
        self.log_what_it_says();
        Some(format!(
            "its program of shard {} has ended: {ended}",
            self.shard
        ))
    }

    /// It has ended otherwise than with status 0.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// To it, and to what it has started.
    pub(super) fn signal(&mut self, signal: Signal) {
        if !self.has_exited {
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// What is on its standard error, a line each, and no more of a line than it is worth.
    pub(super) fn log_what_it_says(&mut self) {
        let mut some = [0; 4096];
        for _ in 0..READS_MAX {
            let Some(errors) = &mut self.errors else {
                return;
            };
            match errors.read(&mut some) {
                Ok(0) => {
                    self.errors = None;
                    self.log_line();
                }
                Ok(read) => {
                    for part in some[..read].split_inclusive(|byte| *byte == b'\n') {
                        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
                        let text = part.strip_suffix(b"\n").unwrap_or(part);
                        self.line.extend_from_slice(&text[..text.len().min(room)]);
                        if text.len() < part.len() {
                            self.log_line();
                        }
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => self.errors = None,
            }
        }
    }

    fn log_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            let line = String::from_utf8_lossy(&line);
            log::info!("analyzer {} says: {}", self.analyzer, Quoted(&line));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.has_exited {
            self.signal(Signal::KILL);
            let _ = self.process.wait();
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}
