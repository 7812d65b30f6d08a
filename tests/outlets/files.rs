//! Analyzers that are files: every message is on a line of one, whoever is killed and whatever is full.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use weir_testkit::inputs::{marked, Client, Sender};
use weir_testkit::process::run;
use weir_testkit::site::Site;
use weir_testkit::{until, Scratch};

use super::local::{start, start_at};
use super::server::{Habit, Server, Speaks};
use super::{send, taken};

/// Kills in `cargo test`; `WEIR_FILE_KILLS` says another number.
const KILLS: usize = 3;

/// How often each number is in the files whose names begin so. Every line is an object of JSON; what is behind the last
/// line feed counts for nothing.
fn numbers(folder: &Path, name: &str) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for text in texts(folder, name) {
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
            let message = value["message"].as_str().expect("text");
            let number = marked::find(message.as_bytes()).expect("a number");
            *numbers.entry(number).or_default() += 1;
        }
    }
    numbers
}

fn texts(folder: &Path, name: &str) -> Vec<String> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("there")
        .map(|entry| entry.expect("there").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|it| it.to_string_lossy().starts_with(name))
        })
        .collect();
    paths.sort();
    let text = |path: &std::path::PathBuf| fs::read_to_string(path).expect("UTF-8");
    paths.iter().map(text).collect()
}

#[test]
fn every_message_is_in_a_file_once() {
    const MESSAGES: u64 = 100_000;
    let folder = Scratch::new("outlets-file");
    let out = folder.path("out.ndjson");
    let distributor = start(
        &[format!("f=1@file://{}?rotate_bytes=1MiB", out.display())],
        "--shards 2",
    );
    distributor.wait_lanes(1);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let distributor = &distributor;
            scope.spawn(move || send(distributor, part * MESSAGES / 4, MESSAGES / 4));
        }
    });
    let ended = distributor.stop();
    ended.assert_clean();
    let numbers = numbers(folder.folder(), "out.ndjson");
    assert_eq!(numbers.len() as u64, MESSAGES);
    assert!(numbers.values().all(|times| *times == 1));
    let files = texts(folder.folder(), "out.ndjson");
    assert!(files.len() > 20, "{} files", files.len());
    assert!(files
        .iter()
        .all(|text| text.len() <= 1 << 20 && (text.is_empty() || text.ends_with('\n'))));
}

/// A chained sender, and a distributor that is killed: what was acked is in the files.
#[test]
fn what_is_acked_is_in_a_file_whenever_the_distributor_is_killed() {
    let kills = std::env::var("WEIR_FILE_KILLS");
    let kills = kills.map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let folder = Scratch::new("outlets-file-kills");
    let out = folder.path("out.ndjson");
    let begin = |relp: SocketAddr| {
        let analyzer = format!("f=1@file://{}?rotate_bytes=256KiB", out.display());
        let flags = format!("--shards 2 --ack-presume 60s --input relp@{relp}?name=relp");
        let distributor = start_at(&[analyzer], &flags);
        distributor.wait_lanes(1);
        distributor
    };
    let mut distributor = begin(([127, 0, 0, 1], 0).into());
    let relp = distributor.input("relp");
    let sender = Sender::start(relp, Client::librelp(), 0..u64::MAX);
    for _ in 0..kills {
        let before = sender.acked();
        until("messages are acked", || sender.acked() > before + 500);
        distributor.signal("-KILL");
        distributor.wait();
        distributor = begin(relp);
    }
    let before = sender.acked();
    until("messages are acked again", || sender.acked() > before + 500);
    let record = sender.finish();
    assert_eq!(record.fault, None);
    let ended = distributor.stop();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let there = numbers(folder.folder(), "out.ndjson");
    let acked = record.acked.iter();
    let missing = acked.filter(|id| !there.contains_key(id)).count();
    let twice = there.values().filter(|times| **times > 1).count();
    eprintln!(
        "{kills} kills: {} acked, {missing} missing, {} in files, {twice} of them more than once",
        record.acked.len(),
        there.len()
    );
    assert_eq!(missing, 0, "acked, and in no file");
}

/// A file system of so many bytes; none: only root may mount one.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount(at: &Path, bytes: u64) -> Option<Small<'_>> {
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "weir-test"])
            .arg(at);
        let output = mount.output().ok()?;
        if !output.status.success() {
            eprintln!("skipped: no file system can be mounted: {output:?}");
            return None;
        }
        Some(Small(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_takes_the_file_out_until_there_is_room() {
    let folder = Scratch::new("outlets-full");
    let small = folder.path("small");
    fs::create_dir(&small).expect("made");
    let Some(_mounted) = Small::mount(&small, 1 << 20) else {
        return;
    };
    let filler = small.join("filler");
    fs::write(&filler, vec![0; 700 << 10]).expect("room");
    let good = Server::start(Speaks::Lumberjack, Habit::Acks);
    let analyzers = [
        format!("full=1@file://{}/out", small.display()),
        format!("good=1@lumberjack://{}", good.address),
    ];
    let distributor = start(&analyzers, "--shards 2");
    distributor.wait_lanes(2);
    send(&distributor, 0, 20_000);
    let path = small.join("out").display().to_string();
    let said = distributor.wait_log(&format!("analyzer full: {path}: No space left on device"));
    assert!(said.contains("os error 28"), "{said}");
    let all = || {
        let mut there: Vec<u64> = numbers(&small, "out").into_keys().collect();
        there.extend(taken(&[&good]));
        there.sort_unstable();
        there.dedup();
        there.len() as u64
    };
    until("all are somewhere", || all() == 20_000);
    let before = numbers(&small, "out").len();
    fs::remove_file(&filler).expect("deleted");
    until("the file takes messages again", || {
        send(&distributor, 20_000, 20);
        numbers(&small, "out").len() > before
    });
    let ended = distributor.stop();
    ended.assert_clean();
}

#[test]
fn a_file_is_one_distributors() {
    let folder = Scratch::new("outlets-lock");
    let analyzer = [format!("f=1@file://{}", folder.path("out").display())];
    let first = start(&analyzer, "--shards 1");
    first.wait_lanes(1);
    let second = start(&analyzer, "--shards 1");
    second.wait_log("out: another analyzer or distributor writes to it");
    send(&first, 0, 100);
    first.stop().assert_clean();
    // It is free.
    second.wait_lanes(1);
    send(&second, 100, 100);
    second.stop().assert_clean();
    assert_eq!(numbers(folder.folder(), "out").len(), 200);
}

#[test]
fn what_cannot_be_written_is_refused_at_the_start() {
    let folder = Scratch::new("outlets-refused");
    let here = folder.folder().display().to_string();
    for (place, why) in [
        ("file://out.ndjson".to_owned(), "it is not absolute"),
        (format!("file://{here}"), "it is a folder"),
        (format!("file://{here}/no/out"), "/no: No such file"),
        (
            "exec:/no/such/program".to_owned(),
            "there is no file that can be executed",
        ),
        ("exec:a 'b".to_owned(), "a ' is not closed"),
    ] {
        let analyzer = format!("f=1@{place}");
        let output = run(&["distributor", "--http", "off", "--analyzer", &analyzer]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && said.contains("analyzer"), "{said}");
        let text = format!("[[http_analyzers]]\nid = \"f\"\nweight = 1\nendpoint = \"{place}\"\n");
        let config = folder.write("weir.toml", &text);
        let output = run(&["check", config.to_str().expect("UTF-8")]);
        let said = format!("{output:?}");
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(why) && said.contains("weir.toml"), "{said}");
    }
}

#[test]
fn who_may_change_weights_writes_no_files_and_starts_no_programs() {
    let folder = Scratch::new("outlets-ctl");
    let site = Site::start("outlets-local", "", "--shards 1");
    let file = format!("file://{}", folder.path("out").display());
    for place in [&file, "exec:/bin/cat"] {
        let refused = site.try_weir(&format!("ctl add-http x {place} 1"));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("allowed: in the configuration"),
            "{said}"
        );
    }
    assert!(texts(folder.folder(), "out").is_empty());
    site.stop();
}

#[test]
fn the_worth_of_a_file_is_shown() {
    let folder = Scratch::new("outlets-durable");
    let out = folder.path("out").display().to_string();
    let site = Site::start(
        "outlets-durable",
        "",
        &format!("--shards 2 --analyzer f=1@file://{out}"),
    );
    until("it is up", || site.analyzer("f")["standing"] == "up");
    let row = site.analyzer("f");
    assert_eq!(
        (row["protocol"].as_str(), row["acks"].as_str()),
        (Some("file"), Some("durable"))
    );
    let metrics = String::from_utf8(site.text("/metrics")).expect("text");
    let series = "weir_analyzer_info{analyzer=\"f\",protocol=\"file\",acks=\"durable\"} 1";
    assert!(metrics.contains(series), "{metrics}");
    // Out, and in again, with the same file.
    site.ctl("eject f");
    until("it is out", || site.analyzer("f")["standing"] != "up");
    site.ctl("resume f");
    until("it is back", || site.analyzer("f")["standing"] == "up");
    site.stop();
}
