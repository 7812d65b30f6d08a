//! Packets that an analyzer refuses for good.

use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::{until, Scratch};

use crate::rig::Rig;

/// The lines of all files of refused packets below `folder`.
fn refused(folder: &std::path::Path) -> Vec<serde_json::Value> {
    let files = std::fs::read_dir(folder).expect("a folder");
    let text = |file: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(file.expect("a file").path()).expect("text")
    };
    let texts: Vec<String> = files.map(text).collect();
    let lines = texts
        .iter()
        .flat_map(|text| text.lines().filter(|line| *line != "{\"half"));
    let parse = |line| serde_json::from_str(line).expect("a line of JSON");
    lines.map(parse).collect()
}

/// Posts three messages, with line ends between the values of their packet. The picky analyzer refuses those
/// whose first number ends in 5.
fn post(client: &mut Client, first: u64, wait: &str) -> u16 {
    let body = packet("e", first..first + 3).replace(",\"", ",\n \"");
    client
        .post(
            &format!("/logs{wait}"),
            "Content-Type: application/json\r\n",
            &body,
        )
        .status
}

#[test]
fn a_refused_packet_is_set_aside_and_its_analyzer_stays() {
    let scratch = Scratch::new("refused");
    let folder = scratch.folder();
    // A run that was killed while it wrote.
    for shard in 0..2 {
        scratch.write(&format!("refused-{shard}.ndjson"), "{\"half");
    }
    let flags = format!(
        "--shards 2 --http-backoff 20ms --dead-letter-dir {}",
        folder.display()
    );
    let rig = Rig::start(&flags);
    let picky = HttpAnalyzer::start("picky", "picky");
    let generation = rig.up(&picky, 1.0);
    let mut client = Client::connect(rig.http);
    for first in 0..100 {
        assert_eq!(post(&mut client, first * 5, ""), 202);
    }
    assert_eq!(post(&mut client, 505, "?wait=acked"), 422);
    assert_eq!(post(&mut client, 510, "?wait=acked"), 200);
    until("half are dropped", || {
        rig.sum(|report| report.balance.dropped) == 51 * 3
    });
    until("half are ACKed", || {
        rig.sum(|report| report.balance.acked) == 51 * 3
    });
    assert_eq!(rig.sum(|report| report.counters.links_down), 0, "it stays");
    assert_eq!(rig.sum(|report| report.http_analyzers[0].failures), 0);
    let lines = refused(folder);
    assert_eq!(lines.len(), 51);
    for line in &lines {
        assert_eq!(
            (&line["analyzer"], &line["status"]),
            (&"picky".into(), &422.into())
        );
        assert_eq!(
            (&line["messages"], &line["packet"]["emitterId"]),
            (&3.into(), &"e".into())
        );
        assert_eq!(line["packet"]["messages"].as_array().map(Vec::len), Some(3));
    }
    rig.operator.http_down(generation).expect("an order");
    until("it is out", || {
        rig.sum(|report| report.counters.links_down) == 2
    });
    let counted = rig.sum(|report| report.http_analyzers[0].refused);
    assert_eq!(counted, 51, "also when it is gone");
    let reports = rig.stop();
    assert!(reports.iter().all(|report| report.balance.holds()));
}

#[test]
fn only_a_torn_line_is_ended_by_the_next_run() {
    let scratch = Scratch::new("refused-again");
    let folder = scratch.folder();
    let flags = format!("--shards 1 --dead-letter-dir {}", folder.display());
    let file = scratch.path("refused-0.ndjson");
    let run = || {
        let rig = Rig::start(&flags);
        let picky = HttpAnalyzer::start("picky", "picky");
        rig.up(&picky, 1.0);
        for first in [5, 15] {
            let status = post(&mut Client::connect(rig.http), first, "?wait=acked");
            assert_eq!(status, 422);
        }
        rig.stop();
    };
    run();
    run();
    let mut text = std::fs::read_to_string(&file).expect("text");
    text.push_str("{\"half");
    std::fs::write(&file, text).expect("written");
    run();
    run();
    assert_eq!(refused(folder).len(), 8, "and no empty line");
    let text = std::fs::read_to_string(&file).expect("text");
    assert_eq!(text.lines().nth(4), Some("{\"half"));
}

#[test]
fn what_does_not_fit_the_file_is_kept_in_memory() {
    let scratch = Scratch::new("refused-full");
    let folder = scratch.folder();
    let flags = format!(
        "--dead-letter-max 1024 --dead-letter-dir {}",
        folder.display()
    );
    let rig = Rig::start(&format!("--shards 1 --http-backoff 1h {flags}"));
    let picky = HttpAnalyzer::start("picky", "picky");
    rig.up(&picky, 1000.0);
    let mut client = Client::connect(rig.http);
    // Twenty lines do not fit.
    for packet in 0..20 {
        assert_eq!(post(&mut client, packet * 10 + 5, "?wait=acked"), 422);
    }
    let kept = rig.operator.refused().packets.len();
    let lines = refused(folder).len();
    assert!(lines > 0 && kept > 0, "{lines} and {kept}");
    assert_eq!(lines + kept, 20);
    until("all are in the books", || {
        rig.sum(|report| report.balance.dropped) == 60
    });
    assert_eq!(rig.sum(|report| report.counters.links_down), 0);
    rig.stop();
}

/// One analyzer refuses everything, the other has asked for patience: what the first holds in memory finds no other
/// lane for a while. When it does, the lane goes on.
#[test]
fn a_lane_goes_on_when_what_was_refused_has_found_a_home() {
    let rig = Rig::start("--shards 1 --http-pool 1 --http-backoff 20ms");
    let patient = HttpAnalyzer::start("patient", "once=503:2");
    let refuses = HttpAnalyzer::start("refuses", "refuse");
    rig.up(&patient, 1.0);
    let mut client = Client::connect(rig.http);
    assert_eq!(post(&mut client, 0, ""), 202);
    until("it has asked for patience", || {
        rig.sum(|report| report.http_analyzers[0].failures) == 1
    });
    rig.up(&refuses, 1.0);
    for first in 1..10 {
        assert_eq!(post(&mut client, first * 10, ""), 202);
    }
    until("all are ACKed", || {
        rig.sum(|report| report.balance.acked) == 30
    });
    rig.stop();
}
