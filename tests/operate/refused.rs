//! The file of refused packets when its disk is full, or a file may not grow: what is not in it is kept in
//! memory, and what is written behind a line that was cut short is whole. And the other file that a
//! distributor writes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::process::namespaces;
use weir_testkit::site::Site;
use weir_testkit::{until, Distributor, Scratch};

/// The first messages of the packets that are in the file, and the lines that are no JSON.
fn read(file: &Path) -> (BTreeSet<u64>, Vec<String>) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (mut packets, mut torn) = (BTreeSet::new(), Vec::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            torn.push(line.to_owned());
            continue;
        };
        let first = line["packet"]["messages"][0]["message"].as_str();
        let number = first.and_then(|number| number.parse().ok());
        packets.insert(number.expect("a number"));
    }
    (packets, torn)
}

fn dropped(site: &Site) -> u64 {
    site.get("/stats")["dropped"].as_u64().expect("a number")
}

/// `start` makes a distributor whose `file` has no room for all refused packets, until `make_room`.
fn fills_up(
    name: &str,
    start: impl FnOnce(&Path, &str) -> Distributor,
    file: impl FnOnce(&Site) -> PathBuf,
    make_room: impl FnOnce(&Site),
) {
    let picky = HttpAnalyzer::start("picky", "picky");
    let scratch = Scratch::new(name);
    let folder = scratch.path("refused");
    std::fs::create_dir(&folder).expect("a folder");
    let flags = format!(
        "--shards 1 --http-backoff 10ms --http-retries 1 --health-interval 100ms --slow-start 0s \
         --http-request-timeout 1s --http-analyzer picky=1@http://{} --dead-letter-dir {}",
        picky.address,
        folder.display()
    );
    let site = Site::start_by(scratch, "", &flags, |flags| start(&folder, flags));
    let file = file(&site);
    site.until_standing("picky", "up");

    // Some forty lines; a third of them fit.
    let mut client = Client::connect(site.http());
    let mut taken = BTreeSet::new();
    for first in (5..405).step_by(10) {
        if client.post_packet(&packet("e", first..first + 3)).status == 202 {
            taken.insert(first);
        }
    }
    let log = site.distributor.wait_log("cannot be written to ");
    let path = folder.join("refused-0.ndjson");
    assert!(log.contains(path.to_str().expect("plain")), "{log}");
    assert_eq!(taken.len(), 40, "nobody is held up");
    until("all are set aside", || dropped(&site) == 3 * 40);
    assert_eq!(
        site.get("/stats")["analyzers"]["picky"]["isOnline"],
        true,
        "it stays"
    );
    let (written, torn) = read(&file);
    assert!(!written.is_empty() && written.len() < 40, "{written:?}");
    assert_eq!(torn.len(), 1, "{torn:?}");
    let in_memory = || {
        let kept = site.ctl("refused --limit 1000");
        let kept = kept["packets"].as_array().expect("a list").clone();
        let first = |packet: &Value| packet["packet"]["messages"][0]["message"].clone();
        let number = |text: Value| text.as_str().and_then(|text| text.parse().ok());
        let numbers = kept.iter().map(|packet| number(first(packet)));
        numbers.map(|number| number.expect("a number")).collect()
    };
    let kept: BTreeSet<u64> = in_memory();
    assert_eq!(&written | &kept, taken, "all are somewhere");
    assert!(written.is_disjoint(&kept));
    until("/metrics has them", || {
        let metrics = String::from_utf8(site.text("/metrics")).expect("text");
        let messages = format!("weir_refused_messages {}", 3 * kept.len());
        metrics.lines().any(|line| line == messages)
    });

    make_room(&site);
    for first in (1005..1105).step_by(10) {
        let json = "Content-Type: application/json\r\n";
        let last = packet("e", first..first + 3);
        let answer = Client::connect(site.http()).post("/logs?wait=acked", json, &last);
        assert_eq!(answer.status, 422, "{answer:?}");
        taken.insert(first);
    }
    let (written, still_torn) = read(&file);
    assert_eq!(still_torn, torn);
    let in_file = (1005..1105)
        .step_by(10)
        .all(|first| written.contains(&first));
    assert!(in_file, "every line behind the torn one is whole");
    assert_eq!(&written | &in_memory(), taken);
    let ended = site.stop();
    let balance = ended.balance();
    assert_eq!((ended.code, balance.acked), (Some(0), 0), "{ended:#?}");
    assert_eq!(balance.received, balance.dropped, "{}", ended.stdout);
    assert_eq!(ended.count("refused_by_analyzer"), taken.len() as u64);
    assert_eq!(ended.count("not_set_aside"), kept.len() as u64);
}

#[test]
fn a_file_that_may_not_grow_tears_no_line_but_one() {
    // 4 KiB; the hard limit stays, so that the soft one can be raised again.
    let start = |_: &Path, flags: &str| {
        Distributor::start_in(&[], "ulimit -S -f 8; exec \"$0\" \"$@\"", flags)
    };
    let make_room = |site: &Site| {
        let pid = site.distributor.pid().to_string();
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--fsize=unlimited:", "--pid", &pid]);
        assert!(prlimit.status().expect("prlimit runs").success());
    };
    let file = |site: &Site| site.scratch.path("refused/refused-0.ndjson");
    fills_up("refused-limit", start, file, make_room);
}

#[test]
fn a_run_report_that_may_not_grow_is_an_error_with_words() {
    // 512 bytes. The kernel signals whoever writes more by himself: without a handler that is the end.
    let scratch = Scratch::new("report-limit");
    let path = scratch.path("d.json");
    let flags = format!("--shards 1 --report {}", path.display());
    let script = "ulimit -S -f 1; exec \"$0\" \"$@\"";
    let ended = Distributor::start_in(&[], script, &flags).stop();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let error = "File too large";
    assert!(ended.stderr.contains(error), "{}", ended.stderr);
    assert!(
        ended.balance().received == 0,
        "the closing report is printed"
    );
}

#[test]
fn a_full_disk_tears_no_line_but_one() {
    // A disk of sixteen pages, two of them free.
    let disk = "mount -t tmpfs -o size=64k none";
    let unshare = match namespaces(&["--mount"], &format!("{disk} /tmp")) {
        Ok(unshare) => unshare,
        Err(why) => return println!("SKIPPED: no disk of its own here: {why}"),
    };
    let start = |folder: &Path, flags: &str| {
        let folder = folder.display();
        let script = format!(
            "{disk} {folder}; head -c 57344 /dev/zero >{folder}/filler; exec \"$0\" \"$@\""
        );
        Distributor::start_in(&unshare, &script, flags)
    };
    // The disk is seen by that process alone.
    let inside = |site: &Site, name: &str| {
        let folder = site.scratch.path("refused");
        let folder = folder.strip_prefix("/").expect("absolute").join(name);
        PathBuf::from(format!("/proc/{}/root", site.distributor.pid())).join(folder)
    };
    let file = |site: &Site| inside(site, "refused-0.ndjson");
    let make_room = |site: &Site| std::fs::remove_file(inside(site, "filler")).expect("there");
    fills_up("refused-disk", start, file, make_room);
}
