//! Child processes: the program under test, other programs, signals.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::until;
use crate::wait::{PATIENCE, POLL};

/// The program under test. Cargo builds it before a test of package `weir` runs, beside that test's folder.
pub fn weir() -> &'static str {
    static WEIR: OnceLock<String> = OnceLock::new();
    WEIR.get_or_init(|| {
        if let Ok(named) = std::env::var("CARGO_BIN_EXE_weir") {
            return named;
        }
        let test = std::env::current_exe().expect("a path");
        let folder = match test.parent() {
            Some(deps) if deps.file_name() == Some(OsStr::new("deps")) => deps.parent(),
            folder => folder,
        };
        let weir = folder.expect("in a folder").join("weir");
        assert!(weir.is_file(), "{} is not built", weir.display());
        weir.into_os_string().into_string().expect("plain")
    })
}

/// Another program of the binary, such as an analyzer; killed when dropped.
pub struct Program {
    child: Child,
    name: String,
    stdout: Option<JoinHandle<Vec<u8>>>,
}

impl Program {
    /// Starts `weir` with arguments separated by white space.
    pub fn start(line: &str) -> Program {
        let mut command = Command::new(weir());
        command
            .args(line.split_whitespace())
            .env("RUST_LOG", "error");
        Program::start_command(command, line)
    }

    /// Starts any command; `name` is what it is called when it fails.
    pub fn start_command(mut command: Command, name: &str) -> Program {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let stdout = Some(read_beside(child.stdout.take().expect("piped")));
        Program {
            child,
            name: name.to_string(),
            stdout,
        }
    }

    /// The same with its output in a file, where it is whoever ends the program.
    pub fn start_into(mut command: Command, output: File, name: &str) -> Program {
        Program {
            child: command.stdout(output).spawn().expect("starts"),
            name: name.to_string(),
            stdout: None,
        }
    }

    /// Writes to its standard input, which was piped.
    pub fn say(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(text.as_bytes()).expect("it reads");
    }

    /// It has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// A signal, to this process only.
    pub fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Waits for its end, which must be a success; what it printed.
    pub fn wait(mut self) -> String {
        let name = self.name.clone();
        until(&name, || !self.is_running());
        let stdout = self.stdout.take().expect("taken once");
        let text = String::from_utf8(stdout.join().expect("reads")).expect("text");
        let status = self.child.wait().expect("a child");
        assert!(status.success(), "{name}: {status} {text}");
        text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `weir` with `args` to its end, which must come by itself.
pub fn run(args: &[&str]) -> Output {
    run_command(Command::new(weir()).args(args))
}

/// Runs a command to its end, which must come by itself.
pub fn run_command(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let stdout = read_beside(child.stdout.take().expect("piped"));
    let stderr = read_beside(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return Output {
                status,
                stdout: stdout.join().expect("reads"),
                stderr: stderr.join().expect("reads"),
            };
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("goes on: {command:?}");
        }
        std::thread::sleep(POLL);
    }
}

/// Reads to the end in a thread, so that a pipe which is full holds up nobody.
fn read_beside(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("reads");
        bytes
    })
}

/// `unshare` with these namespaces, and a user namespace where that takes a root. The error says why
/// `script` does not run in them.
pub fn namespaces(kinds: &[&str], script: &str) -> Result<Vec<String>, String> {
    let mut words = vec!["unshare".to_owned()];
    words.extend(kinds.iter().map(|kind| (*kind).to_owned()));
    let id = Command::new("id").arg("-u").output().expect("id runs");
    if id.stdout != b"0\n" {
        words.push("--map-root-user".to_owned());
    }
    let mut trial = Command::new(&words[0]);
    let output = trial.args(&words[1..]).args(["sh", "-ec", script]).output();
    match output {
        Ok(output) if output.status.success() => Ok(words),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// Sends a signal to one process.
pub fn signal(name: &str, pid: u32) {
    let kill = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(kill.expect("kill runs").success(), "kill {name} {pid}");
}

/// Value of `name=value` in a log line.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let mut words = line.split_whitespace().filter_map(|w| w.split_once('='));
    words
        .find_map(|(n, value)| (n == name).then_some(value))
        .unwrap_or_else(|| panic!("no {name}= in {line}"))
}

/// The same as a number.
pub fn number(line: &str, name: &str) -> u64 {
    field(line, name).parse().expect("a number")
}
