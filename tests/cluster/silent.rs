//! A host that vanishes: its packets are dropped, and nobody resets a connection. In a network namespace.

use std::process::Command;
use std::time::{Duration, Instant};

use weir_testkit::process::namespaces;
use weir_testkit::{stays, until, Distributor};

use crate::places::{Client, Late};

const NETWORK: &str = "ip link set lo up\n";
const PEER_TIMEOUT: Duration = Duration::from_secs(4);
const RATE: u64 = 4_000;

/// A namespace with loopback, kept by the distributor that was started in it; none where there cannot be one.
fn network() -> Option<Vec<String>> {
    let trial = format!("{NETWORK}nft add table ip t");
    match namespaces(&["--net"], &trial) {
        Ok(unshare) if !unshare.contains(&"--map-root-user".to_owned()) => Some(unshare),
        Ok(_) => {
            println!("SKIPPED: needs root");
            None
        }
        Err(why) => {
            println!("SKIPPED: no network of its own here: {why}");
            None
        }
    }
}

fn enter(pid: u32) -> Vec<String> {
    let words = ["nsenter", "--target", &pid.to_string(), "--net"];
    words.map(str::to_owned).into()
}

/// Drops every packet from and to an address.
fn cut(inside: &[String], address: &str) {
    let rules = format!(
        "add table ip cut\nadd chain ip cut in {{ type filter hook input priority 0; }}\n\
         add rule ip cut in ip saddr {address} drop\nadd rule ip cut in ip daddr {address} drop\n"
    );
    let mut nft = Command::new(&inside[0]);
    nft.args(&inside[1..]).args(["nft", &rules]);
    let output = nft.output().expect("nft runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn clients_notice_a_host_that_vanishes() {
    let Some(unshare) = network() else { return };
    let flags = |last: u8| {
        format!(
            "--shards 2 --peer-timeout 4s --emitters 127.0.0.{last}:8080 --analyzers 127.0.0.{last}:8081"
        )
    };
    let script = |network: &str| format!("{network}exec \"$0\" \"$@\"");
    let stays_there = Distributor::start_in(&unshare, &script(NETWORK), &flags(2));
    let inside = enter(stays_there.pid());
    let vanishes = Distributor::start_in(&inside, &script(""), &flags(3));
    let analyzer = Client::start(
        &inside,
        "analyzer --addr 127.0.0.2:8081,127.0.0.3:8081 --id a1 --peer-timeout 4s",
    );
    stays_there.wait_lanes(1);
    vanishes.wait_lanes(1);
    let emitter = Client::start(
        &inside,
        &format!(
            "emitter --addr 127.0.0.2:8080,127.0.0.3:8080 --id e1 --peer-timeout 4s --connections 8 --rate {RATE} \
             --duration 15 --size 100 --json"
        ),
    );
    std::thread::sleep(Duration::from_secs(3));
    cut(&inside, "127.0.0.3");
    let (from, late) = (Instant::now(), Late::start());
    until("the emitter notices", || {
        !emitter.lines("has not answered for 4 s").is_empty()
    });
    let (took, late) = (from.elapsed(), late.stop());
    println!("noticed after {took:?}, {late:?} of it this machine stood still");
    assert!(
        took < PEER_TIMEOUT + Duration::from_secs(2) + late,
        "{took:?}"
    );
    until("the analyzer notices", || {
        let lines = analyzer.lines("127.0.0.3:8081");
        lines.iter().any(|line| line.contains("timed out"))
    });
    let (code, text) = emitter.wait();
    println!("{text}");
    assert_eq!(code, Some(0), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |name: &str| {
        json[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert_eq!((number("broken"), number("reconnects")), (4, 4), "{text}");
    // What was given to the dead half, and no more.
    let taken = stays_there.stop().balance().received + vanishes.stop().balance().received;
    let lost = 15 * RATE - taken;
    let silent_max = (RATE / 2) as f64 * (took + Duration::from_secs(1)).as_secs_f64();
    println!("lost: {lost} of at most {silent_max}");
    assert!(
        lost as f64 <= silent_max && lost <= number("lost_max"),
        "{lost}: {text}"
    );
    assert_eq!(number("unsent"), 0, "{text}");
}

/// A distributor whose analyzers are gone takes nothing in: its window is shut, its host answers. Linux's own
/// TCP_USER_TIMEOUT would end such a connection, and what it holds would be lost.
#[test]
fn a_full_window_is_no_dead_host() {
    let distributor = Distributor::start("--shards 1 --arena 8MiB --batch-bytes 64KiB");
    let line = format!(
        "emitter --addr {} --id e1 --peer-timeout 4s --rate 0 --count 60000 --size 1000 --duration 0 --batch 8 --json",
        distributor.emitters
    );
    let emitter = Client::start(&[], &line);
    stays("it waits", PEER_TIMEOUT * 3, || {
        emitter.lines("connecting again").is_empty()
    });
    let analyzer = Client::start(
        &[],
        &format!("analyzer --addr {} --id a1", distributor.analyzers),
    );
    let (code, text) = emitter.wait();
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (code, json["broken"].as_u64()),
        (Some(0), Some(0)),
        "{text}"
    );
    assert!(
        json["blocked_seconds"].as_f64().expect("a number") >= 8.0,
        "{text}"
    );
    assert_eq!(distributor.stop().assert_clean().received, 60_000);
    drop(analyzer);
}

/// Nobody reads: what was blocked to the end is counted.
#[test]
fn time_blocked_at_the_end_counts() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let line = format!(
        "emitter --addr {addr} --id e1 --rate 0 --duration 1 --size 1000 --batch 64 --json"
    );
    let emitter = Client::start(&[], &line);
    let (_held, _) = listener.accept().expect("it comes");
    let (_, text) = emitter.wait();
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let blocked = json["blocked_seconds"].as_f64().expect("a number");
    assert!(
        blocked > 5.0,
        "the end waits 10 s for a peer that reads nothing: {text}"
    );
}
