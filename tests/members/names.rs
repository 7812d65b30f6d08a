//! One name is one analyzer, whatever it is reached by.

use std::time::Duration;

use serde_json::json;

use weir_testkit::http::HttpAnalyzer;
use weir_testkit::process::run_command;
use weir_testkit::site::Site;
use weir_testkit::wire::{self, DIALECTS};
use weir_testkit::{
    assert_exactly_once, socket, stays, until, until_read, Acks, Analyzer, Dialect, Distributor,
    Emitter, Options, Program,
};

/// Says HELLO with this instance; the WELCOME and its reason.
fn hello(
    distributor: &Distributor,
    id: &str,
    instance: Option<u64>,
) -> (std::net::TcpStream, wire::Welcome, String) {
    let mut stream = socket::connect(distributor.analyzers);
    let mut word = wire::hello(1, 1.0, id, None);
    if let Some(instance) = instance {
        word[5] = 2;
        word.extend(instance.to_be_bytes());
    }
    std::io::Write::write_all(&mut stream, &word).expect("writes");
    let (welcome, reason) = socket::read_welcome(&mut stream);
    (stream, welcome, reason)
}

#[test]
fn a_second_analyzer_of_an_id_is_told_and_waits_until_the_first_has_gone() {
    let distributor = Distributor::start("--shards 2");
    let start = |name: &str| {
        Program::start(&format!(
            "analyzer --addr {} --id dup --weight {name}",
            distributor.analyzers
        ))
    };
    let first = start("1");
    until("both links of the first", || {
        distributor.lines("analyzer up").len() == 2
    });
    let mut second = start("2");
    let told = distributor.wait_log("analyzer id \"dup\": 127.0.0.1:");
    assert!(told.contains("WARN"), "{told}");
    assert!(told.contains("another instance at 127.0.0.1:"), "{told}");
    // The first keeps its links, and the log has said enough.
    stays("the first one's", Duration::from_secs(2), || {
        distributor.lines("analyzer down").is_empty()
            && distributor.lines("analyzer id \"dup\"").len() <= 2
    });
    assert!(second.is_running(), "it waits");
    Emitter::start(distributor.emitters, 0..100, 64).join();
    first.signal("-KILL");
    until("the second is let in", || {
        distributor.lines("analyzer up").len() == 4
    });
    until("its turn", || distributor.lines("analyzer down").len() == 2);
    drop((first, second));
    let ended = distributor.stop();
    assert!(ended.count("id_in_use") >= 2, "{}", ended.stdout);
    assert_eq!(ended.count("link_replaced"), 0);
}

#[test]
fn the_second_one_says_why_and_ends_if_it_shall_not_try_again() {
    let distributor = Distributor::start("--shards 1");
    let (_first, welcome, _) = hello(&distributor, "dup", Some(1));
    assert_eq!(welcome.status, 0);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    let addr = distributor.analyzers.to_string();
    command.args([
        "analyzer",
        "--addr",
        &addr,
        "--id",
        "dup",
        "--reconnect=false",
    ]);
    let output = run_command(&mut command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("id \"dup\" is in use by another instance at 127.0.0.1:"),
        "{text}"
    );
    drop(distributor);
}

#[test]
fn the_same_instance_takes_over_from_a_link_that_is_half_dead() {
    let distributor = Distributor::start("--shards 1");
    for n in 0..5 {
        let (_kept_open, welcome, reason) = hello(&distributor, "a", Some(7));
        assert_eq!((welcome.status, reason.as_str()), (0, ""), "{n}");
        std::mem::forget(_kept_open);
    }
    let ended = distributor.stop();
    assert_eq!(ended.count("link_replaced"), 4);
    assert_eq!(ended.count("id_in_use"), 0);
}

#[test]
fn two_that_do_not_say_their_instance_do_not_put_each_other_out_for_ever() {
    let distributor = Distributor::start("--shards 1");
    let mut taken = 0;
    let mut open = Vec::new();
    for _ in 0..20 {
        let (stream, welcome, reason) = hello(&distributor, "old", None);
        taken += usize::from(welcome.status == 0);
        if welcome.status != 0 {
            assert!(reason.contains("in use by 127.0.0.1:"), "{}", reason);
        }
        open.push(stream);
    }
    // One that lives, and one that may have taken over from a link that was dead.
    assert_eq!(taken, 2);
    let warned = distributor.lines("takes it over from 127.0.0.1:");
    assert_eq!(warned.len(), 1, "{warned:?}");
    let ended = distributor.stop();
    assert_eq!(
        (ended.count("link_replaced"), ended.count("id_in_use")),
        (1, 18)
    );
}

#[test]
fn ids_are_one_namespace_over_tcp_and_http() {
    let analyzers = ["h", "g"].map(|name| HttpAnalyzer::start(name, "ok"));
    let flags = format!(
        "--shards 1 --health-interval 100ms --http-analyzer h=1@http://{}",
        analyzers[0].address
    );
    let site = Site::start("names-http", "", &flags);
    site.until_standing("h", "up");
    // Over TCP with the id of one over HTTP.
    let (_, welcome, reason) = hello(&site.distributor, "h", Some(1));
    assert_eq!(welcome.status, 1);
    let endpoint = format!("analyzer over HTTP at http://{}", analyzers[0].address);
    assert!(reason.contains(&endpoint), "{reason}");
    let (_, welcome, _) = hello(&site.distributor, "(others)", Some(1));
    assert_eq!(welcome.status, 1);
    // Over HTTP with the id of one over TCP.
    let (native, welcome, _) = hello(&site.distributor, "g", Some(1));
    assert_eq!(welcome.status, 0);
    site.until_standing("g", "up");
    let add = format!("ctl add-http g http://{} 1", analyzers[1].address);
    let refused = site.try_weir(&add);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("native analyzer at 127.0.0.1:"),
        "{text}"
    );
    // What is said of "h" is said of the one that is called so.
    site.ctl("drain h");
    site.until_standing("h", "draining");
    site.until_standing("g", "up");
    // The name is free when its holder is gone.
    drop(native);
    until("it is gone", || {
        site.analyzer("g") == json!(null) || site.analyzer("g")["isOnline"] == false
    });
    site.weir(&add);
    site.until_standing("g", "up");
    let (_, welcome, _) = hello(&site.distributor, "g", Some(2));
    assert_eq!(welcome.status, 1);
    site.weir("ctl remove-http g");
    let (_, welcome, _) = hello(&site.distributor, "g", Some(2));
    assert_eq!(welcome.status, 0);
    assert_eq!(site.stop().code, Some(0));
}

#[test]
fn a_reference_client_is_called_the_same_when_it_comes_back() {
    for dialect in DIALECTS.into_iter().filter(|d| *d != Dialect::Native) {
        let site = Site::start("names-reference", "", "--shards 2");
        let options = Options::new(dialect, 1.0).acks(Acks::All);
        let sink = Analyzer::connect(site.distributor.analyzers, &options);
        site.until_standing("127.0.0.1-1", "up");
        let other = Analyzer::connect(site.distributor.analyzers, &options);
        site.until_standing("127.0.0.1-2", "up");
        Emitter::start(site.distributor.emitters, 0..100, 64).join();
        until_read(&[&sink, &other], 100);
        assert_exactly_once(&[&sink, &other], 0..100);
        drop(sink);
        for n in 1..=5 {
            until("one is down", || {
                site.distributor.lines("analyzer down").len() == n
            });
            let sink = Analyzer::connect(site.distributor.analyzers, &options);
            until("it is up", || {
                site.distributor.lines("analyzer up").len() == 2 + n
            });
            drop(sink);
        }
        let metrics = String::from_utf8(site.text("/metrics")).expect("text");
        let mut labels: Vec<&str> = metrics
            .lines()
            .filter(|line| line.starts_with("weir_analyzer_"))
            .filter_map(|line| line.split("analyzer=\"").nth(1)?.split('"').next())
            .collect();
        labels.retain(|label| !["127.0.0.1-1", "127.0.0.1-2"].contains(label));
        assert!(labels.is_empty(), "{dialect:?}: {labels:?}");
        drop(other);
        let ended = site.stop();
        assert_eq!(ended.balance().received, 100);
    }
}
