//! Analyzers that are programs: in Python and in a shell, with habits good and bad.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_testkit::inputs::marked;
use weir_testkit::process::{field, signal};
use weir_testkit::{until, Distributor, Ended, Scratch};

use super::local::start;
use super::send;
use super::server::{Habit, Server, Speaks};

const PYTHON: &str = r#"
import os, sys
with open(sys.argv[1] + f"/py-{os.getpid()}", "w") as out:
    for done, line in enumerate(sys.stdin, 1):
        out.write(line)
        out.flush()
        print(done, flush=True)
"#;

const SHELL: &str = r#"
n=0
while IFS= read -r line; do
    printf '%s\n' "$line"
    n=$((n+1))
    echo $n >&3
done 3>&1 > "$1/sh-$$"
"#;

/// How often each number is in files whose names begin so.
fn numbers(folder: &Path, name: &str) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("there") {
        let path = entry.expect("there").path();
        if path
            .file_name()
            .is_some_and(|it| it.to_string_lossy().starts_with(name))
        {
            let text = fs::read(path).expect("a file");
            for line in text.split(|byte| *byte == b'\n') {
                if let Some(number) = marked::find(line) {
                    *numbers.entry(number).or_default() += 1;
                }
            }
        }
    }
    numbers
}

/// A program of `sh`, in a file.
fn shell(folder: &Scratch, name: &str, script: &str) -> String {
    let path = folder.write(name, script);
    format!(
        "exec:/bin/sh {} {}",
        path.display(),
        folder.folder().display()
    )
}

#[test]
fn each_program_has_its_exact_share() {
    const MESSAGES: u64 = 8000;
    let folder = Scratch::new("outlets-exec");
    let python = folder.write("prog.py", PYTHON);
    let analyzers = [
        format!(
            "py=1@exec:python3 {} '{}'",
            python.display(),
            folder.folder().display()
        ),
        format!("sh=3@{}", shell(&folder, "prog.sh", SHELL)),
    ];
    let distributor = start(&analyzers, "--shards 2");
    distributor.wait_lanes(2);
    send(&distributor, 0, MESSAGES);
    let ended = distributor.stop();
    ended.assert_clean();
    let (py, sh) = (
        numbers(folder.folder(), "py-"),
        numbers(folder.folder(), "sh-"),
    );
    let all: u64 = py.values().chain(sh.values()).sum();
    assert_eq!(all, MESSAGES, "each once");
    let off = py.len().abs_diff(2000);
    assert!(off <= 6, "{} of 2000", py.len());
    let mut both = py.keys().chain(sh.keys()).copied().collect::<Vec<_>>();
    both.sort_unstable();
    assert!(both.into_iter().eq(0..MESSAGES));
    // They ended when their input did.
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
}

/// A program with this habit beside a server without one: all messages are with one or the other, and the log has this.
fn beside(script: &str, options: &str, said: &[&str]) -> (Scratch, Vec<String>, Ended) {
    let folder = Scratch::new("outlets-exec-bad");
    let good = Server::start(Speaks::Lumberjack, Habit::Acks);
    let analyzers = [
        format!("bad=1@{}{options}", shell(&folder, "bad.sh", script)),
        format!("good=1@lumberjack://{}", good.address),
    ];
    let distributor = start(&analyzers, "--shards 1");
    distributor.wait_lanes(2);
    send(&distributor, 0, 1000);
    let all = || {
        let mut all = numbers(folder.folder(), "out-");
        all.extend(good.acked().into_iter().map(|number| (number, 1)));
        all.len()
    };
    until("all are somewhere", || all() == 1000);
    for text in said {
        distributor.wait_log(text);
    }
    let pids = pids(&distributor);
    let ended = distributor.stop();
    ended.assert_clean();
    (folder, pids, ended)
}

/// Of all programs that were started.
fn pids(distributor: &Distributor) -> Vec<String> {
    let lines = distributor.lines(": started ");
    lines
        .iter()
        .map(|line| field(line, "pid").to_owned())
        .collect()
}

fn lives(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|it| {
        it.rsplit(')')
            .next()
            .is_some_and(|it| !it.trim_start().starts_with('Z'))
    })
}

#[test]
fn a_program_that_ends_is_started_again() {
    let script = "n=0; while IFS= read -r line; do
        n=$((n+1)); echo \"$line\" >> \"$1/out-\"; echo $n; [ $n = 50 ] && { echo enough >&2; exit 3; }
    done";
    let (_, pids, _) = beside(
        script,
        "",
        &[
            "its program of shard 0 has ended: exit status 3",
            "says: \"enough\"",
        ],
    );
    assert!(!pids.is_empty());
    assert!(pids.iter().all(|pid| !lives(pid)), "{pids:?}");
    let folder = Scratch::new("outlets-exec-again");
    let analyzer = format!("p=1@{}", shell(&folder, "p.sh", script));
    let distributor = start(&[analyzer], "--shards 1");
    distributor.wait_lanes(1);
    send(&distributor, 0, 120);
    until("all are done, by three programs", || {
        numbers(folder.folder(), "out-").len() == 120
    });
    assert!(distributor.lines(": started ").len() >= 3);
    distributor.stop();
}

#[test]
fn a_program_that_never_comes_up_takes_nothing() {
    let (_, pids, ended) = {
        let folder = Scratch::new("outlets-exec-never");
        let good = Server::start(Speaks::Lumberjack, Habit::Acks);
        let analyzers = [
            format!("bad=1@{}", shell(&folder, "bad.sh", "exit 7")),
            format!("good=1@lumberjack://{}", good.address),
        ];
        let distributor = start(&analyzers, "--shards 1");
        distributor.wait_lanes(1);
        distributor.wait_log("analyzer bad: its program of shard 0 has ended: exit status 7");
        send(&distributor, 0, 500);
        until("the other has all", || good.acked().len() == 500);
        std::thread::sleep(Duration::from_secs(2));
        (folder, pids(&distributor), distributor.stop())
    };
    ended.assert_clean();
    assert_eq!(ended.rerouted(), 0, "it was never up");
    // 0.1 s, and each time twice as long: 0.1, 0.2, 0.4, 0.8 s.
    assert!((3..8).contains(&pids.len()), "{} in 2 s", pids.len());
}

#[test]
fn nonsense_is_quoted_and_takes_the_analyzer_down() {
    beside(
        "while read -r line; do echo ok; done",
        "",
        &["analyzer bad: its answer is \"ok\"; allowed: a line with how many messages are done"],
    );
    beside(
        "while read -r line; do echo 1000000; done",
        "",
        &["analyzer bad: it says that 1000000 messages are done; allowed: 0 to "],
    );
}

#[test]
fn who_never_reads_or_never_answers_is_late_and_ended() {
    for script in ["exec sleep 1000", "cat > /dev/null; exec sleep 1000"] {
        let said = ["analyzer bad: no ack within 1s"];
        let (_, pids, _) = beside(script, "?timeout=1s&patience=100ms", &said);
        assert!(pids.iter().all(|pid| !lives(pid)), "{pids:?}");
    }
}

#[test]
fn a_sign_of_life_holds_the_clock() {
    let script = "read -r line; echo \"$line\" > \"$1/out-\"
        for i in 1 2 3 4 5 6 7 8; do sleep 0.4; echo 0; done
        n=1; echo $n; while IFS= read -r line; do n=$((n+1)); echo \"$line\" >> \"$1/out-\"; echo $n; done";
    let (folder, pids, ended) = beside(script, "?timeout=1s", &[]);
    assert_eq!(pids.len(), 1, "it was never late");
    assert_eq!(ended.rerouted(), 0);
    assert_eq!(numbers(folder.folder(), "out-").len(), 500);
}

/// Ends processes when a test is over, however it ends.
struct Ending(Vec<String>);

impl Drop for Ending {
    fn drop(&mut self) {
        for pid in self.0.iter().filter(|pid| lives(pid)) {
            signal("-KILL", pid.parse().expect("a number"));
        }
    }
}

/// It takes no hint, has started another, and both are gone: when the distributor ends, and when it is killed.
#[test]
fn no_program_outlives_its_distributor() {
    let script = "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 0.2; done) &
        echo $! > \"$1/other\"; while :; do sleep 0.2; done";
    for how in ["-TERM", "-KILL"] {
        let folder = Scratch::new("outlets-exec-ends");
        let place = shell(&folder, "stubborn.sh", script);
        let distributor = start(&[format!("p=1@{place}?patience=200ms")], "--shards 1");
        distributor.wait_lanes(1);
        let pids = pids(&distributor);
        let other = || fs::read_to_string(folder.path("other")).unwrap_or_default();
        until("it has started another", || other().ends_with('\n'));
        let other = other().trim().to_owned();
        let _ending = Ending([pids.clone(), vec![other.clone()]].concat());
        assert!(lives(&pids[0]) && lives(&other));
        let began = Instant::now();
        distributor.signal(how);
        distributor.wait();
        until("it is gone", || !lives(&pids[0]));
        eprintln!("{how}: gone after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(3));
        if how == "-TERM" {
            until("the other as well", || !lives(&other));
        }
    }
}

#[test]
fn a_program_has_nothing_of_the_distributor_but_its_input_and_output() {
    let python = r#"
import os, resource, sys
with open(sys.argv[1] + "/seen", "w") as out:
    own = out.fileno()
    print(sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd) and int(fd) != own), file=out)
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], file=out)
    print("NOTIFY_SOCKET" in os.environ, file=out)
    print(os.getpgid(0) == os.getpid(), file=out)
sys.stderr.write("a\x1b[31m\n" + "x" * 5000 + "\n")
sys.stderr.flush()
for done, line in enumerate(sys.stdin, 1):
    print(done, flush=True)
"#;
    let folder = Scratch::new("outlets-exec-seen");
    let path = folder.write("seen.py", python);
    let place = format!(
        "exec:python3 {} {}",
        path.display(),
        folder.folder().display()
    );
    let distributor = start(&[format!("p=1@{place}")], "--shards 1");
    distributor.wait_lanes(1);
    let said = distributor.wait_log("analyzer p says: \"a");
    assert!(said.contains("\\u{1b}"), "{said}");
    let long = distributor.wait_log("says: \"xxx");
    assert!((1024..1200).contains(&long.len()), "{}", long.len());
    let seen = || fs::read_to_string(folder.path("seen")).unwrap_or_default();
    until("it has looked", || seen().lines().count() == 4);
    // The listing has a descriptor of its own while it is made.
    assert_eq!(seen(), "[0, 1, 2]\n1024\nFalse\nTrue\n");
    distributor.stop().assert_clean();
}
