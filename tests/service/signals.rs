//! What signals mean: while it starts, while it runs, while its configuration hangs; reloads that would open what
//! is closed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{mknodat, FileType, Mode, CWD};

use crate::manager::distributor;
use weir_testkit::process::{signal, weir};
use weir_testkit::{
    until, until_read, Acks, Analyzer, Dialect, Distributor, Emitter, Options, Scratch, PATIENCE,
};

const LISTEN: &str = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http off --shards 1";
/// Signals that end a process that does not handle them, and that other daemons have a meaning for.
const OTHERS: [&str; 10] = [
    "-USR1", "-USR2", "-ALRM", "-VTALRM", "-PROF", "-IO", "-PWR", "-STKFLT", "-34", "-37",
];

/// As the log names it: 34 is the first of the real-time signals, on Linux with glibc.
fn named(option: &str) -> String {
    match option[1..].parse::<u32>() {
        Ok(number) => format!("SIGRTMIN+{}: ignored", number - 34),
        Err(_) => format!("SIG{}: ignored", &option[1..]),
    }
}

#[test]
fn signals_of_other_daemons_lose_nothing() {
    let distributor = Distributor::start("--shards 1");
    let options = Options::new(Dialect::Compact, 1.0).acks(Acks::Never);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    let emitter = Emitter::start(distributor.emitters, 0..100, 40);
    until_read(&[&analyzer], 100);
    emitter.join();
    for name in OTHERS {
        distributor.signal(name);
        distributor.wait_log(&named(name));
    }
    analyzer.set_acks(Acks::All);
    // As nginx is asked to end when it has done what it has begun.
    distributor.signal("-QUIT");
    let ended = distributor.wait();
    assert_eq!(ended.assert_clean().received, 100);
}

/// The same for the programs beside it; there a hang-up is the end of their terminal.
#[test]
fn clients_heed_the_same_signals() {
    let distributor = Distributor::start("--shards 1");
    let start = |line: String| {
        let mut command = Command::new(weir());
        command.args(line.split_whitespace()).stdin(Stdio::null());
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        child.expect("starts")
    };
    for (program, end) in [("analyzer", "-QUIT"), ("emitter --rate 100", "-HUP")] {
        let at = match program {
            "analyzer" => distributor.analyzers,
            _ => distributor.emitters,
        };
        let mut child = start(format!("{program} --addr {at}"));
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        until("it has its handlers", || has_thread(&child, "signals"));
        for name in OTHERS {
            signal(name, child.id());
            let wanted = named(name);
            let mut line = String::new();
            while !line.contains(&wanted) {
                line.clear();
                assert!(
                    stderr.read_line(&mut line).expect("text") > 0,
                    "{program} {name}"
                );
            }
        }
        signal(end, child.id());
        assert_eq!(ended(&mut child), Some(0), "{program}");
        let mut report = String::new();
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_to_string(&mut report).expect("text");
        assert!(!report.is_empty(), "{program}");
    }
    distributor.stop();
}

fn has_thread(child: &Child, name: &str) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", child.id())) else {
        return false;
    };
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.into_iter().any(|comm| comm.trim() == name)
}

fn ended(child: &mut Child) -> Option<i32> {
    let mut status = None;
    until("the end", || {
        status = child.try_wait().expect("a child");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

/// Far more shards than there are cores, so that they are still coming up.
#[test]
fn a_start_can_be_ended() {
    for signals in 1..=2 {
        let mut command = distributor("--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http off --shards 400 --arena 1MiB --batch-bytes 4KiB --ingress 512KiB --max-frame 64KiB --max-connections 100");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        until("shards come up", || has_thread(&child, "shard-5-6"));
        let began = Instant::now();
        for _ in 0..signals {
            signal("-TERM", child.id());
        }
        let status = ended(&mut child);
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        let mut log = String::new();
        let mut stderr = child.stderr.take().expect("piped");
        stderr.read_to_string(&mut log).expect("text");
        assert!(!log.contains(" ready "), "it was not in time: {log}");
        assert!(
            log.contains("nothing was taken in"),
            "{signals} signals, {status:?}: {log}"
        );
        assert!(status == Some(0) || signals == 2, "{status:?}");
    }
}

fn make_fifo(path: &Path) {
    std::fs::remove_file(path).expect("was there");
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
}

#[test]
fn a_configuration_that_hangs_stops_no_signal_and_no_operator() {
    let scratch = Scratch::new("fifo");
    let (file, admin) = (scratch.path("w.toml"), scratch.path("a.sock"));
    std::fs::write(&file, "[delivery]\ndrain_timeout = \"2s\"\n").expect("written");
    let flags = format!(
        "--config {} --admin {} --shards 1",
        file.display(),
        admin.display()
    );
    let distributor = Distributor::start(&flags);
    make_fifo(&file);
    distributor.signal("-HUP");
    let ctl = |action: &str| {
        let mut command = Command::new(weir());
        command
            .arg("ctl")
            .arg("--admin")
            .arg(&admin)
            .args(action.split(' '));
        let output = command.output().expect("runs");
        String::from_utf8(output.stderr).expect("text")
    };
    until("it is being read", || ctl("reload").contains("still reads"));
    assert_eq!(ctl("status"), "", "whoever only looks need not wait");
    let refused =
        distributor.wait_log("not reloaded: the configuration could not be read within 5 s");
    assert!(refused.contains("ERROR"), "{refused}");
    distributor.signal("-HUP");
    let ended = distributor.stop();
    ended.assert_clean();
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
}

/// A manager whose socket is full stops nothing either.
#[test]
fn a_manager_that_does_not_read_stops_no_signal() {
    let scratch = Scratch::new("deaf");
    let path = scratch.path("notify");
    let _manager = UnixDatagram::bind(&path).expect("free");
    let other = UnixDatagram::unbound().expect("a socket");
    other.set_nonblocking(true).expect("option");
    while other.send_to(b"STATUS=full", &path).is_ok() {}
    let mut command = distributor(LISTEN);
    command.env("NOTIFY_SOCKET", &path);
    let distributor = Distributor::start_command(command);
    let analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Compact, 1.0));
    Emitter::start(distributor.emitters, 0..100, 40).join();
    until_read(&[&analyzer], 100);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 100);
}

const WALLS: &str = r#"
[protection]
allow_http = ["127.0.0.0/8", "10.0.0.0/8"]
allow_emitters = ["127.0.0.0/8"]
admin_token_file = "TOKEN"
rate_limit = "100/1s"

[[http_analyzers]]
id = "h"
endpoint = "http://127.0.0.1:9"
weight = 1
"#;

#[test]
fn what_is_closed_is_opened_only_by_force() {
    let scratch = Scratch::new("walls");
    let (file, admin) = (scratch.path("w.toml"), scratch.path("a.sock"));
    let token = scratch.path("token");
    std::fs::write(&token, "0123456789abcdef\n").expect("written");
    let walls = WALLS.replace("TOKEN", &token.display().to_string());
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    write(&walls);
    let flags = format!(
        "--config {} --admin {} --shards 1",
        file.display(),
        admin.display()
    );
    let distributor = Distributor::start(&flags);
    let mut refusals = 0;
    let mut refused = |text: &str, words: &[&str]| {
        write(text);
        distributor.signal("-HUP");
        refusals += 1;
        until("a refusal", || {
            distributor.lines("not reloaded").len() == refusals
        });
        let line = distributor.lines("not reloaded").pop().expect("just seen");
        assert!(line.contains("ERROR"), "{line}");
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
    };
    refused(
        "",
        &[
            "no setting any more",
            "allow_http: 10.0.0.0/8,127.0.0.0/8 -> all",
            "admin_token_file",
            "rate_limit",
            "h",
            "--force",
        ],
    );
    refused(
        &walls.replace("allow_emitters", "#"),
        &["allow_emitters: 127.0.0.0/8 -> all", "0.0.0.0/0"],
    );
    refused(
        &walls.replace("admin_token_file", "#"),
        &["admin_token_file"],
    );
    refused(
        &walls.replace("rate_limit", "#"),
        &["rate_limit: 100/1s -> off"],
    );
    let (without_analyzers, _) = walls.split_once("[[").expect("there");
    refused(without_analyzers, &["no analyzer over HTTP is left of h"]);
    // What is written out is meant, and so is another value.
    write(
        &walls
            .replace("\"127.0.0.0/8\", ", "")
            .replace("[\"127.0.0.0/8\"]", "[\"0.0.0.0/0\"]"),
    );
    distributor.signal("-HUP");
    distributor.wait_log("allow_emitters: 127.0.0.0/8 -> 0.0.0.0/0");
    distributor.wait_log(" reloaded");
    let ctl = |action: &str| {
        let mut command = Command::new(weir());
        command
            .arg("ctl")
            .arg("--admin")
            .arg(&admin)
            .args(action.split(' '));
        command.arg("--token-file").arg(&token);
        let output = command.output().expect("runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    write("");
    let (status, said) = ctl("reload");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("it would open what is closed"), "{said}");
    let (status, said) = ctl("reload --dry-run");
    assert!(
        status == Some(0) && said.contains("no setting any more"),
        "{said}"
    );
    let (status, said) = ctl("reload --force");
    assert_eq!(status, Some(0), "{said}");
    distributor.wait_log("allow_http: 10.0.0.0/8 -> all");
    distributor.stop();
}

#[test]
fn what_is_changed_and_changed_back_needs_no_restart() {
    let scratch = Scratch::new("back");
    let file = scratch.path("w.toml");
    let write = |timeout: &str| {
        let text = format!("[delivery]\ndrain_timeout = \"{timeout}\"\n");
        std::fs::write(&file, text).expect("written");
    };
    write("10s");
    let flags = format!("--config {} --shards 1", file.display());
    let distributor = Distributor::start(&flags);
    write("20s");
    distributor.signal("-HUP");
    let pending = distributor.wait_log("drain_timeout");
    assert!(pending.contains("10s -> 20s, needs a restart"), "{pending}");
    write("10s");
    distributor.signal("-HUP");
    until("both", || distributor.lines(" reloaded").len() == 2);
    assert_eq!(distributor.lines("needs a restart").len(), 1);
    // Still pending is still said.
    for reloads in 3..=4 {
        write("30s");
        distributor.signal("-HUP");
        until("each", || distributor.lines(" reloaded").len() == reloads);
    }
    assert_eq!(distributor.lines("10s -> 30s, needs a restart").len(), 2);
    distributor.stop();
}
