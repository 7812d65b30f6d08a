//! The other processes: started from this very binary, stopped by closing their standard input, gone
//! when their handle is.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Lines of a program's log that are shown when it fails: the last ones say why.
const LOG_LINES_MAX: usize = 3;

/// A child process.
pub struct Program {
    /// Its id on the command line.
    pub name: &'static str,
    child: Child,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its id on the command line.
    pub name: &'static str,
    /// As the kernel has it.
    pub status: ExitStatus,
    /// Its summary, one line of JSON.
    pub summary: String,
    /// Last lines of its log.
    log: String,
}

/// The log filter of this process was asked for: then children's logs are wanted as well.
pub fn is_log_wanted() -> bool {
    std::env::var_os("RUST_LOG").is_some_and(|filter| !filter.is_empty())
}

impl Program {
    /// Starts `weir <program> --id <name> <args>`.
    ///
    /// # Errors
    /// The kernel's, with the path of the binary.
    pub fn start(program: &str, name: &'static str, args: &[String]) -> io::Result<Program> {
        let first = [program, "--id", name, "--json", "--stop-on-eof"].map(str::to_owned);
        Program::start_as(name, &[&first, args].concat())
    }

    /// Starts `weir <args>`; `name` is what it is called here.
    ///
    /// # Errors
    /// The kernel's, with the path of the binary.
    pub fn start_as(name: &'static str, args: &[String]) -> io::Result<Program> {
        let binary = std::env::current_exe()?;
        let mut command = Command::new(&binary);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the demonstration, which then stops its programs in order.
            .process_group(0);
        if !is_log_wanted() {
            command.env("RUST_LOG", "warn").stderr(Stdio::piped());
        }
        let child = command.spawn().map_err(|error| {
            let binary = binary.display();
            io::Error::new(
                error.kind(),
                format!("cannot start {binary} for {name}: {error}"),
            )
        })?;
        Ok(Program { name, child })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; returns when the process is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to stop; it stops in its own way.
    pub fn ask_to_stop(&mut self) {
        self.child.stdin = None;
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Its end, or `None` when it does not come in time; then it is killed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn end(mut self, patience: Duration) -> io::Result<Option<Ended>> {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        };
        // A summary and a few warnings fit the pipes, so nothing was waiting to be read meanwhile.
        let (mut summary, mut log) = (String::new(), Vec::new());
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut summary)?;
        }
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_end(&mut log)?;
        }
        Ok(Some(Ended {
            name: self.name,
            status,
            summary,
            log: last_lines(&String::from_utf8_lossy(&log)),
        }))
    }
}

impl Drop for Program {
    /// Nothing is left behind, whatever happens; killing one that has ended does nothing.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// A number out of its summary.
    pub fn number(&self, key: &str) -> Option<u64> {
        let (_, after) = self.summary.split_once(&format!("\"{key}\":"))?;
        let end = after.find(|c: char| !c.is_ascii_digit())?;
        after[..end].parse().ok()
    }
}

impl fmt::Display for Ended {
    /// How it ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended with {}", self.name, self.status)?;
        if !self.log.is_empty() {
            write!(f, ": {}", self.log)?;
        }
        Ok(())
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn numbers_come_out_of_summaries() {
        let ended = Ended {
            name: "e1",
            status: ExitStatus::from_raw(0),
            summary: r#"{"id":"e1","messages":1234,"seconds":1.5,"lost_max":0}"#.into(),
            log: last_lines("one\n\ntwo\nthree\nfour\n"),
        };
        assert_eq!(ended.number("messages"), Some(1234));
        assert_eq!(ended.number("lost_max"), Some(0));
        assert_eq!((ended.number("lost"), ended.number("id")), (None, None));
        assert_eq!(
            ended.to_string(),
            "e1 ended with exit status: 0: two / three / four"
        );
    }
}
