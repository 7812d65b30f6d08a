//! A distributor as a child process on free ports.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::process::{field, number, signal, weir};
use crate::until;

/// A running distributor; killed when dropped.
pub struct Distributor {
    child: Child,
    /// Where emitters connect.
    pub emitters: SocketAddr,
    /// Where analyzers connect.
    pub analyzers: SocketAddr,
    /// Where HTTP clients connect, if it listens for them.
    pub http: Option<SocketAddr>,
    /// Shards that it runs.
    pub shards: usize,
    log: Arc<Mutex<Vec<String>>>,
    readers: Option<(JoinHandle<()>, JoinHandle<String>)>,
}

/// What a distributor left behind.
#[derive(Debug)]
pub struct Ended {
    /// Exit status; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
    /// From the signal to the exit.
    pub took: Duration,
}

/// The conservation line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Messages taken in.
    pub received: u64,
    /// Messages ACKed.
    pub acked: u64,
    /// Messages sent and not ACKed.
    pub in_flight: u64,
    /// Messages not sent.
    pub queued: u64,
    /// Messages given up.
    pub dropped: u64,
}

impl Distributor {
    /// Starts one with `flags`, separated by white space, and waits until it is ready.
    pub fn start(flags: &str) -> Distributor {
        Distributor::start_by(verbose(Command::new(weir())), flags)
    }

    /// The same with the log level that is configured. What waits for rosters needs `debug`.
    pub fn start_as_configured(flags: &str) -> Distributor {
        let mut command = Command::new(weir());
        command.env_remove("RUST_LOG");
        Distributor::start_by(command, flags)
    }

    /// The same with at most so many descriptors.
    pub fn start_limited(descriptors: u32, flags: &str) -> Distributor {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        Distributor::start_in(&[], &script, flags)
    }

    /// The same out of a shell script that ends with `exec "$0" "$@"`, run by `runner` if there is one.
    pub fn start_in(runner: &[String], script: &str, flags: &str) -> Distributor {
        let mut command = match runner {
            [] => Command::new("sh"),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg("sh");
                command
            }
        };
        command.args(["-ec", script, weir()]);
        Distributor::start_by(verbose(command), flags)
    }

    fn start_by(mut command: Command, flags: &str) -> Distributor {
        command.arg("distributor");
        for flag in ["--emitters", "--analyzers"] {
            if !flags.contains(flag) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        if !flags.split_whitespace().any(|flag| flag == "--http") {
            command.args(["--http", "off"]);
        }
        if !flags.contains("--arena") {
            command.args(["--arena", "16MiB"]);
        }
        command.args(flags.split_whitespace());
        Distributor::start_command(command)
    }

    /// A whole command that becomes a distributor.
    pub fn start_command(mut command: Command) -> Distributor {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the distributor starts");

        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let lines = Arc::clone(&log);
        let log_reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().expect("no panic while held").push(line);
            }
        });
        let mut stdout = child.stdout.take().expect("piped");
        let out_reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("text");
            text
        });

        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut distributor = Distributor {
            child,
            emitters: nowhere,
            analyzers: nowhere,
            http: None,
            shards: 0,
            log,
            readers: Some((log_reader, out_reader)),
        };
        distributor.wait_ready();
        distributor
    }

    fn wait_ready(&mut self) {
        let mut ready = None;
        until("the ready line", || {
            let exited = self.child.try_wait().expect("a child").is_some();
            ready = self.lines("ready emitters=").pop();
            assert!(!exited || ready.is_some(), "ended: {:#?}", self.lines(""));
            ready.is_some()
        });
        let ready = ready.expect("just seen");
        self.emitters = field(&ready, "emitters").parse().expect("an address");
        self.analyzers = field(&ready, "analyzers").parse().expect("an address");
        self.http = field(&ready, "http").parse().ok();
        self.shards = field(&ready, "shards").parse().expect("a number");
    }

    /// Where emitters connect to an input.
    pub fn input(&self, name: &str) -> SocketAddr {
        let line = self.wait_log(&format!("input {name} at "));
        let address = line.rsplit(' ').next();
        address.and_then(|it| it.parse().ok()).expect("an address")
    }

    /// Log lines so far that contain `text`.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().expect("no panic while held");
        log.iter().filter(|l| l.contains(text)).cloned().collect()
    }

    /// Waits for a log line that contains `text`.
    pub fn wait_log(&self, text: &str) -> String {
        until(text, || !self.lines(text).is_empty());
        self.lines(text).swap_remove(0)
    }

    /// Waits until every shard routes to this many lanes, by the newest roster that it logged.
    pub fn wait_lanes(&self, lanes: usize) {
        until(&format!("{lanes} lanes on every shard"), || {
            let lines = self.lines(" roster ");
            (0..self.shards).all(|shard| {
                let shard = shard.to_string();
                let mut of_shard = lines.iter().filter(|l| field(l, "shard") == shard);
                of_shard
                    .next_back()
                    .is_some_and(|line| field(line, "lanes") == lanes.to_string())
            })
        });
    }

    /// Newest roster of each shard: its number and the time when it was applied.
    pub fn rosters(&self) -> Vec<(u64, u64)> {
        let lines = self.lines(" roster ");
        let newest = |shard: usize| {
            let shard = shard.to_string();
            let line = lines.iter().rfind(|l| field(l, "shard") == shard)?;
            Some((number(line, "epoch"), number(line, "mono_ns")))
        };
        (0..self.shards)
            .map(|shard| newest(shard).unwrap_or_default())
            .collect()
    }

    /// Waits until every shard has applied a newer roster than `before`.
    pub fn wait_newer_rosters(&self, before: u64) {
        until("newer rosters on every shard", || {
            self.rosters().iter().all(|(epoch, _)| *epoch > before)
        });
    }

    /// Memory that it says it took at start, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        number(&self.wait_log(" ready "), "memory_bytes")
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// Resident memory in bytes, the program's text left out: in a debug build that is most of it.
    pub fn rss(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let kib = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name));
            let kib = line.and_then(|l| l.split_whitespace().nth(1));
            kib.and_then(|n| n.parse::<u64>().ok()).expect("a number")
        };
        (kib("VmRSS:") - kib("RssFile:")) * 1024
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A signal, to this process only.
    pub fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// SIGTERM, to this process only.
    pub fn terminate(&self) {
        signal("-TERM", self.child.id());
    }

    /// SIGTERM, then what it left behind.
    pub fn stop(self) -> Ended {
        self.terminate();
        self.wait()
    }

    /// What it leaves behind, when it has ended.
    pub fn wait(mut self) -> Ended {
        let began = Instant::now();
        let mut status = None;
        until("the distributor's end", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        let took = began.elapsed();
        let (log_reader, out_reader) = self.readers.take().expect("taken once");
        log_reader.join().expect("reads");
        let stdout = out_reader.join().expect("reads");
        Ended {
            code: status.and_then(|status| status.code()),
            stdout,
            stderr: self.lines("").join("\n"),
            took,
        }
    }
}

fn verbose(mut command: Command) -> Command {
    command.env("RUST_LOG", "weir=debug");
    command
}

impl Drop for Distributor {
    fn drop(&mut self) {
        if self.readers.is_some() {
            if std::thread::panicking() {
                eprintln!("distributor: {:#?}", self.lines(""));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Ended {
    /// It ended with status 0 and balanced books, and every message was ACKed.
    pub fn assert_clean(&self) -> Balance {
        let balance = self.balance();
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_eq!(balance.received, balance.acked, "{}", self.stdout);
        balance
    }

    /// The conservation line, which must hold.
    pub fn balance(&self) -> Balance {
        let line = self.stdout.lines().find(|l| l.starts_with("conservation"));
        let line = line.unwrap_or_else(|| panic!("no conservation line: {self:#?}"));
        assert!(line.starts_with("conservation holds:"), "{line}");
        let [received, acked, in_flight, queued, dropped] = numbers(line)[..] else {
            panic!("five numbers: {line}");
        };
        assert_eq!(received, acked + in_flight + queued + dropped, "{line}");
        Balance {
            received,
            acked,
            in_flight,
            queued,
            dropped,
        }
    }

    /// How often a reason was counted.
    pub fn count(&self, reason: &str) -> u64 {
        let mut words = self.stdout.lines().filter_map(|l| l.split_once(' '));
        let counted = words.find(|(name, _)| *name == reason);
        counted.map_or(0, |(_, n)| n.parse().expect("a number"))
    }

    /// Messages that were re-routed.
    pub fn rerouted(&self) -> u64 {
        self.links_line()[2]
    }

    /// Messages that were re-routed though the dead analyzer may have seen them.
    pub fn duplicates_possible(&self) -> u64 {
        self.links_line()[3]
    }

    /// Links up, links down, re-routed, duplicates possible, batches forwarded.
    fn links_line(&self) -> Vec<u64> {
        let line = self.stdout.lines().find(|l| l.starts_with("links up"));
        numbers(line.expect("a line about links"))
    }
}

fn numbers(line: &str) -> Vec<u64> {
    let digits = line.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}
