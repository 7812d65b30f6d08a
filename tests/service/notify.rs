//! What the distributor tells its manager.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{clock_gettime, ClockId};

use crate::manager::{distributor, Ear};
use weir_testkit::{Acks, Analyzer, Dialect, Distributor, Emitter, Options, Scratch};

const QUIET: &str = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http off --shards 2";
const WATCHDOG: Duration = Duration::from_millis(1000);

/// A distributor that tells `ear`, with the watchdog on.
fn start(ear: &Ear, flags: &str) -> Distributor {
    start_fed(ear, flags, &WATCHDOG.as_micros().to_string())
}

/// The same with any `WATCHDOG_USEC`.
fn start_fed(ear: &Ear, flags: &str, watchdog_usec: &str) -> Distributor {
    let mut command = distributor(&format!("{QUIET} {flags}"));
    command.env("NOTIFY_SOCKET", &ear.path);
    command.env("WATCHDOG_USEC", watchdog_usec);
    Distributor::start_command(command)
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("after boot");
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).expect("positive") / 1000
}

fn value<'a>(said: &'a str, name: &str) -> &'a str {
    let mut lines = said.lines().filter_map(|line| line.split_once('='));
    let found = lines.find_map(|(key, value)| (key == name).then_some(value));
    found.unwrap_or_else(|| panic!("no {name} in {said:?}"))
}

#[test]
fn it_is_ready_when_it_listens_and_says_how_it_goes() {
    let ear = Ear::new();
    let distributor = start(&ear, "");
    // Nothing comes before it, but a feed of the watchdog may be between.
    let first = ear.next(Duration::from_secs(20)).expect("said something");
    assert!(first.starts_with("READY=1\nSTATUS="), "{first}");
    let analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Compact, 1.0));
    let pause = Duration::from_millis(1);
    let emitter = Emitter::trickle(distributor.emitters, 0..1_000_000, 20, pause);
    weir_testkit::until_read(&[&analyzer], 500);
    let status = ear.wait("1 analyzers, 1 emitters");
    let (rate, _) = value(&status, "STATUS")
        .split_once(" messages/s in")
        .expect("a rate");
    let rate: u32 = rate.parse().expect("a number");
    assert!(
        (1..=1000).contains(&rate),
        "one in a millisecond at most: {status}"
    );
    let sent = emitter.end().expect("the distributor reads");
    weir_testkit::until_read(&[&analyzer], usize::try_from(sent).expect("fits"));
    distributor.stop().assert_clean();
    ear.wait("STOPPING=1");
}

/// Never so late that the manager would end it, and not without need.
/// [`one_shard_that_stands_still_ends_the_feeding`] shows that a shard which does not turn starves it.
#[test]
fn idle_shards_feed_the_watchdog() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let ear = Ear::new();
    let distributor = start_fed(&ear, "", &TIMEOUT.as_micros().to_string());
    ear.wait("READY=1");
    ear.wait("WATCHDOG=1");
    let began = Instant::now();
    for _ in 0..4 {
        let before = Instant::now();
        ear.wait("WATCHDOG=1");
        let pause = before.elapsed();
        assert!(pause < TIMEOUT, "it would have been killed: {pause:?}");
    }
    let took = began.elapsed();
    assert!(took > TIMEOUT, "at half of the time each: {took:?}");
    distributor.stop().assert_clean();
}

/// CPU time of a process, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
    let fields = stat.rsplit(')').next().expect("behind the name");
    let times = fields.split_whitespace().skip(11).take(2);
    times
        .map(|time| time.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn a_watchdog_time_that_cannot_be_kept_is_named_and_does_not_spin() {
    let ear = Ear::new();
    for (usec, word, is_fed) in [
        ("7", "fed as if it were 500000", true),
        ("1s", "not fed", false),
    ] {
        let distributor = start_fed(&ear, "", usec);
        let warning = distributor.wait_log("WATCHDOG_USEC");
        assert!(
            warning.contains(usec) && warning.contains(word),
            "{warning}"
        );
        assert!(warning.contains("allowed: 500000"), "{warning}");
        ear.wait("READY=1");
        let before = ticks(distributor.pid());
        let said = ear.listen(Duration::from_secs(2));
        let spent = ticks(distributor.pid()) - before;
        let fed = said
            .iter()
            .filter(|said| said.contains("WATCHDOG=1"))
            .count();
        assert_eq!((2..=9).contains(&fed), is_fed, "{said:?}");
        assert!(spent < 30, "{spent} ticks of 200: it spins");
        distributor.stop().assert_clean();
    }
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let ear = Ear::new();
    let mut command = distributor(QUIET);
    command.env("NOTIFY_SOCKET", &ear.path);
    command
        .env("WATCHDOG_USEC", "1000000")
        .env("WATCHDOG_PID", "1");
    let distributor = Distributor::start_command(command);
    ear.wait("READY=1");
    let said = ear.listen(Duration::from_secs(2));
    let fed = said.iter().any(|said| said.contains("WATCHDOG"));
    assert!(!fed, "{said:?}");
    distributor.stop().assert_clean();
}

/// Holds one thread still, from outside.
struct Held(Child);

impl Held {
    /// None, with a line that says so, when this is not permitted here.
    fn thread(tid: u32) -> Option<Held> {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/scripts/systemd/hold-thread.py"
        );
        let spawned = Command::new("python3")
            .args([script, &tid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            println!("SKIPPED: a held shard: python3 is missing");
            return None;
        };
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("text");
        if line == "held\n" {
            return Some(Held(child));
        }
        let mut why = String::new();
        let err = child.stderr.take().expect("piped");
        BufReader::new(err).read_to_string(&mut why).expect("text");
        assert!(why.contains("not permitted"), "{why}");
        println!("SKIPPED: a held shard: {}", why.trim());
        let _ = child.wait();
        None
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("a child");
    }
}

fn thread_named(pid: u32, name: &str) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("runs");
    let tids = tasks.map(|task| task.expect("readable").file_name());
    let tids = tids.map(|tid| tid.to_string_lossy().parse::<u32>().expect("a number"));
    let is_it = |tid: &u32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
        comm.is_ok_and(|comm| comm.starts_with(name))
    };
    // A shard has a helper of the same name, which it starts itself.
    tids.filter(is_it).min().expect("a thread of this name")
}

#[test]
fn one_shard_that_stands_still_ends_the_feeding() {
    let ear = Ear::new();
    let distributor = start(&ear, "");
    ear.wait("WATCHDOG=1");
    let shard = thread_named(distributor.pid(), "shard-1");
    let Some(held) = Held::thread(shard) else {
        return;
    };
    // One feed may have been due for what was before.
    ear.listen(WATCHDOG);
    let said = ear.listen(WATCHDOG * 3);
    let fed = said.iter().any(|said| said.contains("WATCHDOG"));
    assert!(!fed, "shard 0 alone is not enough: {said:?}");
    distributor.wait_log("shards [1] have not turned");
    held.release();
    ear.wait("WATCHDOG=1");
    distributor.stop().assert_clean();
}

#[test]
fn reloads_are_told_from_their_begin_to_their_end() {
    let scratch = Scratch::new("reload");
    let config = scratch.path("weir.toml");
    std::fs::write(&config, "[logging]\nlog_level = \"info\"\n").expect("written");
    let ear = Ear::new();
    let distributor = start(&ear, &format!("--config {}", config.display()));
    ear.wait("READY=1");

    std::fs::write(&config, "[logging]\nlog_level = \"debug\"\n").expect("written");
    let before = monotonic_us();
    distributor.signal("-HUP");
    let said = ear.wait("RELOADING=1");
    let at: u64 = value(&said, "MONOTONIC_USEC").parse().expect("a number");
    assert!((before..=monotonic_us()).contains(&at), "{before} {at}");
    let said = ear.wait("READY=1");
    assert_eq!(value(&said, "STATUS"), "reloaded");
    distributor.wait_log("logging.log_level: info -> debug");

    std::fs::write(&config, "[logging]\nlog_level = \"loud\"\n").expect("written");
    distributor.signal("-HUP");
    ear.wait("RELOADING=1");
    let said = ear.wait("READY=1");
    let status = value(&said, "STATUS");
    assert!(status.starts_with("not reloaded: "), "{status}");
    assert!(status.contains("loud"), "{status}");
    // It stays to be seen.
    assert!(ear.wait("messages/s in").contains("not reloaded"));
    distributor.stop().assert_clean();
}

#[test]
fn a_stop_that_waits_for_acks_asks_for_time() {
    let ear = Ear::new();
    let distributor = start(&ear, "--drain-timeout 20s");
    let options = Options::new(Dialect::Compact, 1.0).acks(Acks::Never);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    Emitter::start(distributor.emitters, 0..10, 20).join();
    weir_testkit::until_read(&[&analyzer], 10);
    ear.wait("READY=1");
    distributor.terminate();
    let said = ear.wait("STOPPING=1");
    assert!(value(&said, "STATUS").contains("draining"), "{said}");
    for _ in 0..3 {
        let said = ear.wait("EXTEND_TIMEOUT_USEC");
        let us: u64 = value(&said, "EXTEND_TIMEOUT_USEC")
            .parse()
            .expect("a number");
        assert!(us >= 2_000_000, "more than until the next one: {us}");
    }
    analyzer.set_acks(Acks::All);
    let ended = distributor.wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn a_notify_socket_that_is_not_there_is_no_reason_not_to_run() {
    let mut command = distributor(QUIET);
    command.env("NOTIFY_SOCKET", "/nowhere/notify");
    // With it lines have a form of their own.
    command.env_remove("RUST_LOG");
    let distributor = Distributor::start_command(command);
    distributor.wait_log("NOTIFY_SOCKET=\"/nowhere/notify\"");
    let prefixed = distributor.lines("<6>");
    assert!(prefixed.is_empty(), "not in the journal: {prefixed:?}");
    distributor.stop().assert_clean();
}

#[test]
fn lines_have_priorities_when_stderr_is_the_journal() {
    // A file is as good as the journal's socket: what counts is device and inode.
    let scratch = Scratch::new("journal");
    let path = scratch.path("stderr");
    let file = std::fs::File::create(&path).expect("created");
    let stat = rustix::fs::fstat(&file).expect("there");
    let run = |stream: String, flags: &str| {
        let mut command = distributor(flags);
        command.env("JOURNAL_STREAM", stream).env_remove("RUST_LOG");
        let err = file.try_clone().expect("descriptors");
        let status = command.stderr(err).status().expect("starts");
        assert_eq!(status.code(), Some(2));
        std::fs::read_to_string(&path).expect("text")
    };
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
    let text = run(stream, &format!("{QUIET} --without nothing-such"));
    assert!(text.starts_with("<3>error: invalid value"), "{text}");
    file.set_len(0).expect("truncated");
    let text = run("1:1".into(), &format!("{QUIET} --arena 1KiB"));
    assert!(text.contains("weir: --arena"), "{text}");
    assert!(!text.contains("<3>"), "no journal: {text}");
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
    let text = run(stream, &format!("{QUIET} --arena 1KiB"));
    assert!(text.contains("<3>weir: --arena"), "{text}");
}
