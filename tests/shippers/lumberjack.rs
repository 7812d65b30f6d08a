//! Lumberjack from pylogbeat, python-logstash-async and npm's lumberjack-client: every event comes once, as its JSON and
//! with its severity, and a window is ACKed when analyzers have ACKed its events.

use std::process::Command;

use crate::found;
use crate::kills::{self, Peer};
use crate::site::Site;
use weir_testkit::process::run_command;
use weir_testkit::{stays, until, Scratch};

const EVENTS: usize = 500;

fn peer(name: &str) -> String {
    format!("{}/tests/shippers/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Each number once, with the severity of its level.
fn assert_events(messages: &[(u8, String)]) {
    let mut numbers: Vec<&str> = Vec::new();
    for (severity, text) in messages {
        let event: serde_json::Value = serde_json::from_str(text).expect("the event's JSON");
        assert_eq!(*severity, 1, "{event:#}");
        let at = text.find("message 0").expect("its text");
        numbers.push(&text[at + 8..at + 14]);
    }
    numbers.sort_unstable();
    let expected: Vec<String> = (0..EVENTS).map(|number| format!("{number:06}")).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn pylogbeat_gets_an_ack_for_each_window() {
    let Some(mut python) = found::python("pylogbeat") else {
        return;
    };
    let scratch = Scratch::new("pylogbeat");
    let record = scratch.path("record");
    let site = Site::start("lumberjack");
    let arguments = [
        &peer("lumberjack.py"),
        &site.port(),
        &record.display().to_string(),
    ];
    python
        .args(arguments)
        .args(["0", &EVENTS.to_string(), "50"]);
    run_command(&mut python);
    let acked = std::fs::read_to_string(&record).expect("a record");
    assert_eq!(acked.lines().count(), EVENTS, "all of them");
    assert_events(&site.messages(EVENTS));
}

#[test]
fn a_window_has_no_ack_before_analyzers_have_acked_it() {
    let Some(mut python) = found::python("pylogbeat") else {
        return;
    };
    let scratch = Scratch::new("pylogbeat-held");
    let record = scratch.path("record");
    let site = Site::start("lumberjack");
    site.sink.set_acks(false);
    let arguments = [
        &peer("lumberjack.py"),
        &site.port(),
        &record.display().to_string(),
    ];
    python
        .args(arguments)
        .args(["0", &EVENTS.to_string(), "50"]);
    let mut running = python.spawn().expect("python");
    until("the first window", || site.sink.frames().len() >= 50);
    let is_silent = || std::fs::read_to_string(&record).is_ok_and(|text| text.is_empty());
    // Longer than a sign of life takes, which ACKs nothing.
    stays("no ACK", std::time::Duration::from_secs(4), is_silent);
    site.sink.set_acks(true);
    assert!(running.wait().expect("it ends").success());
    assert_events(&site.messages(EVENTS));
}

#[test]
fn python_logstash_async_and_npm_deliver_each_event_once() {
    let senders: [(&str, Option<Command>); 2] = [
        ("logstash.py", found::python("logstash_async")),
        ("lumberjack.js", found::node("lumberjack-client")),
    ];
    for (script, sender) in senders {
        let Some(mut sender) = sender else {
            continue;
        };
        let site = Site::start("lumberjack");
        sender.args([&peer(script), &site.port(), &EVENTS.to_string()]);
        run_command(&mut sender);
        assert_events(&site.messages(EVENTS));
    }
}

#[test]
fn what_was_acked_is_at_an_analyzer_whoever_is_killed() {
    if found::python("pylogbeat").is_none() {
        return;
    }
    let sender = || found::python("pylogbeat").expect("just found");
    kills::judge(
        "lumberjack",
        &Peer {
            sender: &sender,
            script: peer("lumberjack.py"),
            batch: 20,
        },
    );
}
