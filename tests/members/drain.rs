//! A drain waits for messages to be ACKed: whoever can ACK them may come, also then.

use std::time::Duration;

use weir_testkit::http::{packet, Client, HttpAnalyzer};
use weir_testkit::process::number;
use weir_testkit::site::Site;
use weir_testkit::wire::DIALECTS;
use weir_testkit::{
    assert_none_missing, socket, until, until_read, Acks, Analyzer, Dialect, Distributor, Emitter,
    Options,
};

const MESSAGES: u64 = 1000;

/// One link for each shard of a native analyzer, one link of the others.
fn links(distributor: &Distributor, dialect: Dialect, acks: Acks) -> Vec<Analyzer> {
    let shards = match dialect {
        Dialect::Native => distributor.shards,
        _ => 1,
    };
    let options = Options::new(dialect, 1.0).acks(acks);
    let link = |shard| Analyzer::connect(distributor.analyzers, &options.clone().shard(shard));
    (0..shards).map(link).collect()
}

#[test]
fn an_analyzer_whose_links_break_while_draining_comes_back_and_nothing_is_abandoned() {
    for (dialect, shards) in DIALECTS.into_iter().flat_map(|d| [(d, 1), (d, 2)]) {
        let flags = format!("--shards {shards} --drain-timeout 60s --graceful-close 100ms");
        let distributor = Distributor::start(&flags);
        let silent = links(&distributor, dialect, Acks::Never);
        distributor.wait_lanes(1);
        for ids in [0..MESSAGES / 2, MESSAGES / 2..MESSAGES] {
            Emitter::start(distributor.emitters, ids, 64).join();
        }
        let all: Vec<&Analyzer> = silent.iter().collect();
        until_read(&all, MESSAGES as usize);
        distributor.terminate();
        distributor.wait_log("draining for at most");
        // The farewell is over: native analyzers are asked for their last ACKs then.
        if dialect == Dialect::Native {
            until("DRAIN", || silent.iter().all(Analyzer::drain_heard));
        } else {
            std::thread::sleep(Duration::from_millis(300));
        }
        drop(silent);
        until("the links are down", || {
            distributor.lines("analyzer down").len() == all_links(dialect, shards)
        });
        let back = links_that_ack_together(&distributor, dialect);
        let ended = distributor.wait();
        assert_eq!(ended.assert_clean().received, MESSAGES, "{dialect:?}");
        assert!(!ended.stdout.contains("abandoned"), "{}", ended.stdout);
        let ids = back.iter().flat_map(Analyzer::ids).collect();
        assert_none_missing(ids, 0..MESSAGES);
    }
}

/// The distributor ends when everything is ACKed: no link may do that before the last has connected.
fn links_that_ack_together(distributor: &Distributor, dialect: Dialect) -> Vec<Analyzer> {
    let links = links(distributor, dialect, Acks::Never);
    if dialect == Dialect::Native {
        // Of shards that wait for nothing no DRAIN comes.
        until("DRAIN, as it has messages", || {
            links
                .iter()
                .any(|link| link.read() > 0 && link.drain_heard())
        });
    }
    for link in &links {
        link.set_acks(Acks::All);
    }
    links
}

fn all_links(dialect: Dialect, shards: usize) -> usize {
    match dialect {
        Dialect::Native => shards,
        _ => 1,
    }
}

#[test]
fn a_drain_that_waits_for_nothing_ends_at_once() {
    for flags in ["--shards 1", "--shards 2", "--shards 2 --graceful-close 0s"] {
        let distributor = Distributor::start(&format!("{flags} --drain-timeout 1h"));
        distributor.terminate();
        distributor.wait().assert_clean();
    }
}

#[test]
fn the_first_analyzer_may_come_while_draining() {
    let distributor = Distributor::start("--shards 2 --drain-timeout 60s --graceful-close 100ms");
    Emitter::start(distributor.emitters, 0..MESSAGES, 64).join();
    distributor.terminate();
    distributor.wait_log("draining for at most");
    std::thread::sleep(Duration::from_millis(300));
    let late = links_that_ack_together(&distributor, Dialect::Native);
    let ended = distributor.wait();
    assert_eq!(ended.assert_clean().received, MESSAGES);
    let ids = late.iter().flat_map(Analyzer::ids).collect();
    assert_none_missing(ids, 0..MESSAGES);
}

#[test]
fn emitters_and_http_clients_are_refused_while_draining() {
    let distributor = Distributor::start("--shards 1 --drain-timeout 60s --graceful-close 100ms");
    let silent = links(&distributor, Dialect::Native, Acks::Never);
    distributor.wait_lanes(1);
    Emitter::start(distributor.emitters, 0..10, 64).join();
    until_read(&[&silent[0]], 10);
    distributor.terminate();
    until("no emitter is taken", || {
        std::net::TcpStream::connect(distributor.emitters).is_err()
    });
    drop(socket::connect(distributor.analyzers));
    silent[0].set_acks(Acks::All);
    assert_eq!(distributor.wait().assert_clean().received, 10);
}

#[test]
fn an_analyzer_over_http_that_recovers_while_draining_gets_what_waits() {
    let mut only = HttpAnalyzer::start("only", "fail");
    let flags = format!(
        "--shards 2 --drain-timeout 60s --graceful-close 100ms --health-interval 100ms --slow-start 0s \
         --http-backoff 5s --http-analyzer only=1@http://{}",
        only.address
    );
    let site = Site::start("drain-http", "", &flags);
    site.until_standing("only", "up");
    let mut client = Client::connect(site.http());
    for n in 0..20 {
        assert_eq!(client.post_packet(&packet("e", n..n + 1)).status, 202);
    }
    only.kill();
    until("it is out", || site.analyzer("only")["isOnline"] == false);
    site.distributor.terminate();
    site.distributor.wait_log("draining for at most");
    std::thread::sleep(Duration::from_millis(300));
    only.restart("ok");
    let ended = site.distributor.wait();
    assert_eq!(ended.assert_clean().received, 20);
    assert_eq!(only.messages().len(), 20);
    assert!(number_of_ups(&ended.stderr) >= 2, "{}", ended.stderr);
}

fn number_of_ups(log: &str) -> usize {
    let up = |line: &&str| line.contains("analyzer up link=") && number(line, "link") > 0;
    log.lines().filter(up).count()
}
