//! The system under test: a child process on its own cores, its CPU clock, its memory, its end.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{channel, Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use socket2::Socket;
use weir::runtime::hold_port;

use crate::children::{self, Group};
use crate::counters::Counters;
use crate::cpu::{self, CpuTime};
use crate::load::Format;
use crate::outlet::Speaks;
use crate::peers::{Does, Found, Peer, PeerArgs, Target};
use crate::secured::{Pki, Sides};
use crate::sink::Stream;
use crate::version;

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
    #[command(flatten)]
    pub peers: PeerArgs,
}

/// Who connects to whom behind the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// Analyzers connect, in any dialect.
    Weir,
    /// Analyzers connect; a relay reads their words and knows none.
    Relay,
    /// The system connects to its targets.
    Connects(Stream),
}

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Relay,
    Weir,
    Peer,
    Command,
}

/// A command line to measure, with the ports still open.
#[derive(Debug, Clone)]
pub struct System {
    /// As the user wrote it.
    pub spec: String,
    /// How analyzers come to it.
    pub wiring: Wiring,
    /// It takes HTTP as well.
    pub is_http: bool,
    /// It has an input for this.
    input: Option<&'static str>,
    /// What its emitters speak, where the spec says so.
    format: Option<Format>,
    kind: Kind,
    peer: Option<(Peer, Found)>,
    program: PathBuf,
    args: Vec<String>,
    /// Of its analyzers' URLs.
    options: String,
    sides: Sides,
    pki: Option<Arc<Pki>>,
}

impl System {
    /// `relay ...`, `weir ...`, a peer's name, or any command with `{emitters}` and `{analyzers}` in it.
    pub fn parse(spec: &str, args: &SystemArgs, message_len: usize) -> io::Result<Self> {
        let words: Vec<String> = spec.split_whitespace().map(str::to_owned).collect();
        let Some((first, rest)) = words.split_first() else {
            return Err(io::Error::other(
                "empty system: give relay, weir or a command",
            ));
        };
        let (sides, first) = sides_of(first)?;
        let pki = sides.is_any().then(Pki::shared).transpose()?;
        let (first, outlet) = match first.split_once('>') {
            Some((first, name)) => {
                let (name, options) = name.split_once('?').unwrap_or((name, ""));
                let outlet = (outlet_called(name)?, options.to_owned());
                (first.to_owned(), Some(outlet))
            }
            None => (first.to_owned(), None),
        };
        let (first, format) = match first.split_once('@') {
            Some(("weir", format)) => ("weir", Some(format_called(format)?)),
            _ => (first.as_str(), None),
        };
        if let Some(peer) = Peer::named(first) {
            let found = peer.find(&args.peers)?;
            return Ok(Self {
                spec: spec.to_owned(),
                wiring: Wiring::Connects(peer.stream()),
                is_http: false,
                input: None,
                format: None,
                kind: Kind::Peer,
                program: found.binary.clone(),
                args: rest.to_vec(),
                options: String::new(),
                sides,
                pki,
                peer: Some((peer, found)),
            });
        }
        let own = std::env::current_exe()?;
        let (program, prefix): (PathBuf, Vec<String>) = match first {
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
                    "unknown system '{spec}': allowed are 'relay', 'weir [args]', 'weir@FORMAT [args]', 'weir[@FORMAT]>PROTOCOL[?OPTIONS]', {}, or a command \
                     with {{emitters}} and {{analyzers}} where the addresses go",
                    Peer::ALL.map(|p| format!("'{}'", p.name())).join(", ")
                )))
            }
        };
        let wiring = match (first, &outlet) {
            ("relay", _) => Wiring::Relay,
            (_, Some((speaks, _))) => Wiring::Connects(Stream::Outlet(*speaks)),
            _ => Wiring::Weir,
        };
        let args = prefix.into_iter().chain(rest.iter().cloned()).collect();
        Ok(Self {
            spec: spec.to_owned(),
            wiring,
            is_http: false,
            input: None,
            format,
            kind: match first {
                "relay" => Kind::Relay,
                "weir" => Kind::Weir,
                _ => Kind::Command,
            },
            peer: None,
            program,
            args,
            options: outlet.map_or_else(String::new, |(_, options)| options),
            sides,
            pki,
        })
    }

    /// Gives load and sink the TLS that it has on their sides.
    pub fn secure(&self, load: &mut crate::load::LoadArgs, sink: &mut crate::sink::SinkArgs) {
        let of = |is_on: bool| self.pki.clone().filter(|_| is_on);
        load.pki = of(self.sides.emitters);
        sink.pki = of(self.sides.analyzers);
    }

    /// It ends by the signal itself and says nothing: only Weir reports and exits 0.
    pub fn is_weir(&self) -> bool {
        matches!(self.kind, Kind::Weir | Kind::Command) && self.wiring != Wiring::Relay
    }

    /// Software of others.
    pub fn is_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// The binary that runs.
    pub fn binary(&self) -> &Path {
        &self.program
    }

    /// What it says of itself; `unknown` for a command of the user's, which is asked nothing.
    pub fn version(&self) -> String {
        match (&self.peer, self.kind) {
            (Some((peer, found)), _) => peer.version(&found.binary),
            (None, Kind::Weir) => version::printed(&self.program, &["--version"]),
            (None, Kind::Relay) => crate::VERSION.to_owned(),
            (None, _) => "unknown".into(),
        }
    }

    /// What its emitters have to speak.
    pub fn format(&self) -> Format {
        let of_peer = self.peer.as_ref().map(|(peer, _)| peer.format());
        of_peer.or(self.format).unwrap_or_default()
    }

    /// Gives a load the format that it reads, and asks for HTTP or an input if the load speaks that.
    pub fn fit(&mut self, load: &mut crate::load::LoadArgs) {
        if self.peer.is_some() || self.format.is_some() {
            load.format = self.format();
        }
        self.is_http = load.format() == Format::Http;
        self.input = match self.kind {
            Kind::Weir => load.format().input(),
            _ => None,
        };
    }

    /// What it is made to do.
    pub fn does(&self) -> Does {
        match (&self.peer, self.wiring) {
            (Some((peer, _)), _) => peer.does(),
            (None, Wiring::Relay) => Does {
                unit: "connection",
                has_weights: false,
                has_acks: false,
            },
            (None, _) => Does {
                unit: "message",
                has_weights: true,
                has_acks: true,
            },
        }
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
        self.start_for(cores, &[], &[], 0)
    }

    /// The same for a system that connects to `targets`, with at most so many emitter connections.
    pub fn start_for(
        &self,
        cores: &[usize],
        targets: &[SocketAddr],
        weights: &[f64],
        connections: usize,
    ) -> io::Result<UnderTest> {
        // All at once: what is held is not given out a second time.
        let ((emitters, held_0), (analyzers, held_1), (http, held_2), (input, held_3)) =
            (hold_port()?, hold_port()?, hold_port()?, hold_port()?);
        let ports = [held_0, held_1, held_2, held_3];
        let program = match self.kind {
            // The program that runs, though its file may have been replaced.
            Kind::Relay => Path::new(children::SELF),
            _ => &self.program,
        };
        let mut command = children::command(program, cores)?;
        // By variable: what is compared may be a build that has no such flag.
        match self.is_http {
            true => command.env("WEIR_HTTP", http.to_string()),
            false => command.env("WEIR_HTTP", "off"),
        };
        let scratch = match &self.peer {
            Some((peer, found)) => {
                let scratch = Scratch::new()?;
                let to = Target {
                    emitters,
                    analyzers: targets.to_vec(),
                    weights: weights.to_vec(),
                    connections,
                    sides: self.sides,
                    pki: self.pki.clone(),
                };
                command.args(peer.configure(found, &scratch.0, &to)?);
                command.current_dir(&scratch.0);
                Some(scratch)
            }
            None => None,
        };
        for arg in &self.args {
            let arg = arg.replace("{emitters}", &emitters.to_string());
            let arg = arg.replace("{http}", &http.to_string());
            command.arg(arg.replace("{analyzers}", &analyzers.to_string()));
        }
        if let (Some(pki), Kind::Weir) = (&self.pki, self.kind) {
            command.args(pki.flags(self.sides));
        }
        if let Wiring::Connects(Stream::Outlet(speaks)) = self.wiring {
            for ((number, target), weight) in targets.iter().enumerate().zip(weights) {
                let (scheme, options) = (speaks.scheme(), &self.options);
                let mark = if options.is_empty() { "" } else { "?" };
                let url = format!("a{number}={weight}@{scheme}://{target}{mark}{options}");
                command.args(["--http-analyzer", &url]);
            }
        }
        if let Some(name) = self.input {
            command.args(["--input", &format!("{name}@{input}")]);
            // The bench's analyzers ACK what they read, whatever they speak: nothing is presumed.
            command.args(["--ack-presume", "60s"]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Weir, the relay and the peers set SO_REUSEADDR and can listen beside the holders; of another command
        // nobody knows.
        let ports = match self.kind {
            Kind::Command => {
                drop(ports);
                None
            }
            Kind::Relay | Kind::Weir | Kind::Peer => Some(ports),
        };
        let mut child = Group::spawn(&mut command)?;
        let stderr = read_lines(child.take_stderr());
        let stdout = Tail::of(child.take_stdout());
        let pid = child.pid();
        let tail = VecDeque::new();
        Ok(UnderTest {
            child,
            pid,
            stderr,
            stdout,
            tail,
            _scratch: scratch,
            _ports: ports,
            emitters: self.input.map_or(emitters, |_| input),
            analyzers,
            http,
        })
    }
}

/// The sides with TLS that a system's first word names, and the word without them.
fn sides_of(word: &str) -> io::Result<(Sides, &str)> {
    let name = word.split(['+', '@', '>', '?']).next().unwrap_or_default();
    let is_known = name == "weir" || Peer::named(name).is_some();
    if !is_known || !word.contains('+') {
        return Ok((Sides::default(), word));
    }
    let (sides, rest) = Sides::cut(word)?;
    match rest {
        "weir" => Ok((sides, rest)),
        "haproxy-tcp" if !sides.is_asked => Ok((sides, rest)),
        _ => Err(io::Error::other(format!(
            "'{word}': TLS is for frames here: allowed are weir+tls and haproxy-tcp+tls"
        ))),
    }
}

fn outlet_called(name: &str) -> io::Result<Speaks> {
    let mut all = Speaks::ALL.into_iter();
    all.find(|speaks| speaks.name() == name).ok_or_else(|| {
        let all = Speaks::ALL.map(Speaks::name).join(", ");
        io::Error::other(format!(
            "unknown protocol '{name}' in 'weir>{name}': allowed are {all}"
        ))
    })
}

fn format_called(name: &str) -> io::Result<Format> {
    Format::from_str(name, false).map_err(|_| {
        let all = Format::value_variants().iter();
        let names =
            all.filter_map(|format| Some(format.to_possible_value()?.get_name().to_owned()));
        let names: Vec<String> = names.collect();
        io::Error::other(format!(
            "unknown format '{name}' in 'weir@{name}': allowed are {}",
            names.join(", ")
        ))
    })
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

/// Reads stderr on a thread, so that a talkative child never blocks on a full pipe.
fn read_lines(stderr: Option<ChildStderr>) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stderr) = stderr {
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

/// A running child. Dropping it kills it and what it started.
pub struct UnderTest {
    child: Group,
    pid: Pid,
    stderr: Receiver<String>,
    stdout: Tail,
    tail: VecDeque<String>,
    _scratch: Option<Scratch>,
    /// Keep its ports from all others, and before it listens from being the near end of a connection.
    _ports: Option<[Socket; 4]>,
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
    /// The CPU clocks of it and of the processes below it.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> io::Result<CpuTime> {
        CpuTime::of(self.pid)
    }

    /// (user, system) in clock ticks of 10 ms: good for the proportion only.
    ///
    /// # Errors
    /// It has ended.
    pub fn ticks(&self) -> io::Result<(u64, u64)> {
        cpu::ticks(self.pid)
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
        self.child.signal(Signal::SIGTERM)?;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(self.stopped(Some(status), false));
            }
            self.drain_lines();
            turn();
        }
        let status = self.child.kill()?;
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

/// A directory for one run of a peer: its configuration, its pid file. Removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-bench-peer-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        children::remove_at_end(&path);
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is small and in the directory for such.
        let _ = std::fs::remove_dir_all(&self.0);
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
            peers: PeerArgs::default(),
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
        let secured = System::parse("weir+tls-in --shards 2", &args(), 256).expect("valid");
        assert!(secured.sides.emitters && !secured.sides.analyzers && secured.is_weir());
        let plus = System::parse("c++/x {emitters} {analyzers}", &args(), 256);
        assert!(!plus.expect("a command").sides.is_any());
        for wrong in ["weir+ssl", "weir@lf+tls", "nginx+tls"] {
            let error = System::parse(wrong, &args(), 256).map(|_| ());
            let error = error.expect_err(wrong).to_string();
            assert!(error.contains("allowed are"), "{error}");
        }
        let relay = System::parse("relay", &args(), 256).expect("valid");
        assert_eq!(relay.wiring, Wiring::Relay);
        assert!(System::parse("other -l {emitters} -t {analyzers}", &args(), 256).is_ok());
        assert!(System::parse("other", &args(), 256).is_err());
    }
}
