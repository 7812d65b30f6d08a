//! Standard streams that nobody reads, that are closed or full: they stop no shard, cost no run report, and
//! change no exit status.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::manager::{activated, listener};
use weir_testkit::process::{signal, weir};
use weir_testkit::{
    socket, until, until_read, wire, Acks, Analyzer, Dialect, Emitter, Options, Scratch, PATIENCE,
};

/// A distributor whose addresses are known without its log; killed when dropped.
struct Mute {
    child: Child,
    emitters: SocketAddr,
    analyzers: SocketAddr,
    http: SocketAddr,
}

impl Mute {
    fn start(flags: &str, streams: impl FnOnce(&mut Command)) -> Mute {
        let kinds = ["emitters", "analyzers", "http"];
        let [emitters, analyzers, http] = kinds.map(|_| listener());
        let at = [emitters.0, analyzers.0, http.0];
        let sockets = [
            (kinds[0], emitters.1),
            (kinds[1], analyzers.1),
            (kinds[2], http.1),
        ];
        let mut command = activated(&sockets, &format!("--shards 2 {flags}"));
        streams(&mut command);
        let child = command.spawn().expect("starts");
        Mute {
            child,
            emitters: at[0],
            analyzers: at[1],
            http: at[2],
        }
    }

    /// Messages go through, and `/health` answers.
    fn assert_serves(&self) {
        let options = Options::new(Dialect::Compact, 1.0);
        let analyzer = Analyzer::connect(self.analyzers, &options);
        let emitter = Emitter::start(self.emitters, 0..500, 40);
        until_read(&[&analyzer], 500);
        emitter.join();
        until("all are ACKed", || analyzer.acked() == 500);
        assert!(self.get("/health").starts_with("HTTP/1.1 200"));
    }

    fn get(&self, path: &str) -> String {
        let mut stream = socket::connect(self.http);
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        String::from_utf8(socket::read_to_close(&mut stream)).expect("text")
    }

    fn terminate(mut self) -> ExitStatus {
        signal("-TERM", self.child.id());
        ended(&mut self.child)
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the end", || {
        status = child.try_wait().expect("a child");
        status.is_some()
    });
    status.expect("just seen")
}

/// A stream that nobody reads and that is full; the other end keeps it open.
fn full() -> (OwnedFd, UnixStream) {
    let (mut ours, theirs) = UnixStream::pair().expect("sockets");
    ours.set_nonblocking(true).expect("option");
    while ours.write(&[b'\n'; 4096]).is_ok() {}
    while ours.write(b"\n").is_ok() {}
    ours.set_nonblocking(false).expect("option");
    (ours.into(), theirs)
}

/// A stream whose reader has gone.
fn deaf() -> OwnedFd {
    UnixStream::pair().expect("sockets").0.into()
}

fn disk_full() -> File {
    File::options()
        .write(true)
        .open("/dev/full")
        .expect("there")
}

fn frames_that_are_none(at: SocketAddr, times: usize) {
    for _ in 0..times {
        let mut stream = TcpStream::connect(at).expect("listens");
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let scratch = Scratch::new("unread");
    let run_report = scratch.path("d.json");
    let (stderr, _nobody) = full();
    let stdout = stderr.try_clone().expect("descriptors");
    let flags = format!("--report {}", run_report.display());
    let distributor = Mute::start(&flags, |command| {
        command.stdout(stdout).stderr(stderr);
    });
    distributor.assert_serves();
    frames_that_are_none(distributor.emitters, 50);
    distributor.assert_serves();
    let began = Instant::now();
    let status = distributor.terminate();
    assert_eq!(status.code(), Some(0), "all is ACKed");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    assert!(text_of(&run_report).contains("\"clean\""));
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).expect("written")
}

#[test]
fn lines_that_do_not_fit_are_counted_and_said_in_their_place() {
    const WEIGHTS: usize = 20_000;
    let mut distributor = Mute::start("", |command| {
        command.env("RUST_LOG", "weir=debug");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    });
    let options = Options::new(Dialect::Typed, 1.0).acks(Acks::All);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    // A line each at this level, and far more than fits.
    let words = wire::weight(Dialect::Typed, 2.0).repeat(WEIGHTS);
    analyzer.write(&words);
    let dropped = |metrics: &str| {
        let mut lines = metrics.lines();
        let found = lines.find_map(|line| line.strip_prefix("weir_log_lines_dropped_total "));
        found.expect("a metric").parse::<u64>().expect("a number")
    };
    until("lines were dropped", || {
        dropped(&distributor.get("/metrics")) > 0
    });
    let emitter = Emitter::start(distributor.emitters, 0..500, 40);
    until_read(&[&analyzer], 500);
    emitter.join();
    let mut stderr = distributor.child.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("text");
        text
    });
    until("the analyzer's weights are read", || {
        let state = distributor.get("/analyzers");
        state.contains("\"weight\":2")
    });
    let counted = dropped(&distributor.get("/metrics"));
    assert_eq!(distributor.terminate().code(), Some(0));
    let log = reader.join().expect("reads");
    let notes: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("log lines were dropped"))
        .collect();
    let told: u64 = notes
        .iter()
        .map(|note| {
            let (before, _) = note.split_once(" log lines").expect("just seen");
            let number = before.rsplit(' ').next().expect("a word");
            number.replace(',', "").parse::<u64>().expect("a number")
        })
        .sum();
    assert!(told >= counted && counted > 1_000, "{counted}: {notes:?}");
    let weights = log
        .lines()
        .filter(|line| line.contains(" weight link="))
        .count();
    assert!(weights < WEIGHTS && weights > 5_000, "{weights}");
    assert!(log.contains("WARN"), "{notes:?}");
}

#[test]
fn peers_do_not_fill_the_log() {
    let mut distributor = Mute::start("", |command| {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    });
    distributor.assert_serves();
    // From one address: said once, then counted.
    frames_that_are_none(distributor.emitters, 500);
    // Analyzers that come and go are news each time, up to a limit.
    let first_weight = 0.5_f64.to_be_bytes();
    let metric = "weir_log_lines_not_repeated_total";
    until("lines are counted instead of written", || {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(distributor.analyzers).expect("listens");
            let _ = stream.write_all(&first_weight);
        }
        let metrics = distributor.get("/metrics");
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(metric));
        values.any(|value| value.trim() != "0")
    });
    let mut stderr = distributor.child.stderr.take().expect("piped");
    assert_eq!(distributor.terminate().code(), Some(0));
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("text");
    let strangers = log.lines().filter(|line| line.contains("HTTP"));
    assert!((1..5).contains(&strangers.count()), "{log}");
    assert!(log.contains("more like this"), "{log}");
    assert!(log.lines().count() < 2_000, "{log}");
}

/// Closed, and on a disk that is full: at the end of a run, where the report and the run report come.
#[test]
fn streams_that_cannot_be_written_cost_no_run_report() {
    for name in ["deaf", "full"] {
        let stream = || -> Stdio {
            match name {
                "deaf" => deaf().into(),
                _ => disk_full().into(),
            }
        };
        let scratch = Scratch::new(name);
        let run_report = |who: &str| scratch.path(who);
        let flags = format!("--report {}", run_report("d").display());
        let distributor = Mute::start(&flags, |command| {
            command.stdout(stream()).stderr(stream());
        });
        let client = |line: String| {
            let mut command = Command::new(weir());
            command.args(line.split_whitespace());
            command
                .stdin(Stdio::null())
                .stdout(stream())
                .stderr(stream());
            command.spawn().expect("starts")
        };
        let mut analyzer = client(format!(
            "analyzer --addr {} --report {} --count 300",
            distributor.analyzers,
            run_report("a").display()
        ));
        frames_that_are_none(distributor.emitters, 20);
        let mut emitter = client(format!(
            "emitter --addr {} --report {} --rate 1000 --count 300",
            distributor.emitters,
            run_report("e").display()
        ));
        assert_eq!(ended(&mut emitter).code(), Some(0), "{name}");
        assert_eq!(ended(&mut analyzer).code(), Some(0), "{name}");
        assert_eq!(distributor.terminate().code(), Some(0), "{name}");
        for who in ["a", "d", "e"] {
            assert!(
                text_of(&run_report(who)).contains("\"certificate\""),
                "{name} {who}"
            );
        }
    }
}

/// Every program that prints and ends, with a reader that has gone and on a disk that is full.
#[test]
fn tools_end_quietly_without_a_reader_and_say_that_a_disk_is_full() {
    let scratch = Scratch::new("tools");
    let admin = scratch.path("a.sock");
    let file = scratch.path("weir.toml");
    std::fs::write(&file, "[cores]\nshards = 1\n").expect("written");
    let flags = format!("--admin {}", admin.display());
    let distributor = Mute::start(&flags, |command| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    });
    distributor.assert_serves();
    let (admin, file) = (admin.display(), file.display());
    let lines = [
        format!("ctl --admin {admin} status"),
        format!("ctl --admin {admin} --json status"),
        format!("top --admin {admin} --once"),
        "sim --seed 1".to_owned(),
        "config --default".to_owned(),
        "config --schema".to_owned(),
        "config --effective".to_owned(),
        format!("check {file}"),
        "completions bash".to_owned(),
        "man".to_owned(),
        "--help".to_owned(),
        "--version".to_owned(),
        "distributor --help".to_owned(),
    ];
    let run = |line: &str, stdout: Stdio| {
        let mut command = Command::new(weir());
        command.args(line.split_whitespace()).stdout(stdout);
        let ended = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
        let ended = ended.expect("runs");
        let said = String::from_utf8(ended.stderr).expect("text");
        (ended.status.code(), said)
    };
    for line in &lines {
        let (status, said) = run(line, deaf().into());
        assert_eq!((status, said.as_str()), (Some(0), ""), "{line}");
        let (status, said) = run(line, disk_full().into());
        assert_eq!(status, Some(1), "{line}: {said}");
        assert!(
            said.contains("standard output: No space left"),
            "{line}: {said}"
        );
    }
    // As long as there is something to look at, or the time is over.
    let _emitter = Emitter::trickle(
        distributor.emitters,
        0..1_000_000,
        20,
        Duration::from_millis(1),
    );
    let _analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Compact, 1.0));
    let tap = format!("tap --admin {admin} --seconds 20");
    assert_eq!(run(&tap, deaf().into()).0, Some(0));
    let (status, said) = run(&tap, disk_full().into());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("No space left"), "{said}");
}

/// What is wrong with a command line, without anybody to tell.
#[test]
fn usage_keeps_its_status_without_a_stderr() {
    for line in [
        "--nonsense",
        "check /nowhere",
        "ctl --admin /nowhere status",
        "audit /nowhere",
    ] {
        let run = |stderr: Stdio| {
            let mut command = Command::new(weir());
            command.args(line.split_whitespace()).stderr(stderr);
            let ended = command.stdout(Stdio::null()).stdin(Stdio::null()).status();
            ended.expect("runs").code()
        };
        let deserved = run(Stdio::null());
        assert!(matches!(deserved, Some(1 | 2)), "{line}: {deserved:?}");
        assert_eq!(run(deaf().into()), deserved, "{line}");
        assert_eq!(run(disk_full().into()), deserved, "{line}");
        let (stderr, _nobody) = full();
        assert_eq!(run(stderr.into()), deserved, "{line}");
    }
}
