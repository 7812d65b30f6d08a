//! RELP from rsyslog's omrelp and from relppy: every message comes once, with its text and its severity, and is answered
//! when an analyzer has ACKed it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use crate::found;
use crate::kills::{self, Peer};
use crate::site::Site;
use weir_testkit::process::run_command;
use weir_testkit::{until, Program, Scratch};

const MESSAGES: usize = 500;

fn peer() -> String {
    format!(
        "{}/tests/shippers/peers/relp.py",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// Each number once, as an error.
fn assert_messages(messages: &[(u8, String)]) {
    let mut numbers: Vec<&str> = Vec::new();
    for (severity, text) in messages {
        assert!(
            *severity == 1 && text.starts_with("<11>"),
            "{severity} {text}"
        );
        numbers.push(&text[text.len() - 6..]);
    }
    numbers.sort_unstable();
    let expected: Vec<String> = (0..MESSAGES).map(|number| format!("{number:06}")).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn relppy_gets_an_answer_for_each_message() {
    let Some(mut python) = found::python("relppy") else {
        return;
    };
    let scratch = Scratch::new("relppy");
    let record = scratch.path("record");
    let site = Site::start("relp");
    let arguments = [&peer(), &site.port(), &record.display().to_string()];
    python
        .args(arguments)
        .args(["0", &MESSAGES.to_string(), "100"]);
    run_command(&mut python);
    let acked = std::fs::read_to_string(&record).expect("a record");
    assert_eq!(acked.lines().count(), MESSAGES, "all of them");
    assert_messages(&site.messages(MESSAGES));
}

#[test]
fn rsyslog_delivers_each_message_and_ends_in_good_order() {
    let Some(mut rsyslog) = found::rsyslog() else {
        return;
    };
    let scratch = Scratch::new("omrelp");
    let site = Site::start("relp");
    let folder = scratch.folder().display();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let configuration = format!(
        "global(workDirectory=\"{folder}\")\nmodule(load=\"imptcp\")\nmodule(load=\"omrelp\")\n\
         input(type=\"imptcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         action(type=\"omrelp\" target=\"127.0.0.1\" port=\"{}\" timeout=\"60\")\n",
        site.port()
    );
    let file = scratch.path("rsyslog.conf");
    std::fs::write(&file, configuration).expect("a file");
    rsyslog.args(["-n", "-f", &file.display().to_string()]);
    rsyslog.args(["-i", &scratch.path("pid").display().to_string()]);
    rsyslog.stderr(Stdio::inherit());
    let running = Program::start_command(rsyslog, "rsyslogd");

    let mut input = None;
    until("rsyslog listens", || {
        input = TcpStream::connect(("127.0.0.1", port)).ok();
        input.is_some()
    });
    let mut input = input.expect("just connected");
    for number in 0..MESSAGES {
        writeln!(input, "<11>Nov 29 10:00:00 host app: message {number:06}").expect("it reads");
    }
    drop(input);
    until("all messages", || site.sink.frames().len() >= MESSAGES);
    // It closes its session, and gets an answer.
    running.signal("-TERM");
    running.wait();
    assert_messages(&site.messages(MESSAGES));
}

#[test]
fn what_was_answered_is_at_an_analyzer_whoever_is_killed() {
    if found::python("relppy").is_none() {
        return;
    }
    let sender = || found::python("relppy").expect("just found");
    kills::judge(
        "relp",
        &Peer {
            sender: &sender,
            script: peer(),
            batch: 20,
        },
    );
}
