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
    let chain = |hook: &str| {
        format!(
            "add chain ip cut {hook} {{ type filter hook {hook} priority 0; }}\n\
             add rule ip cut {hook} ip saddr {address} drop\nadd rule ip cut {hook} ip daddr {address} drop\n"
        )
    };
    let rules = format!("add table ip cut\n{}{}", chain("input"), chain("output"));
    let mut nft = Command::new(&inside[0]);
    nft.args(&inside[1..]).args(["nft", &rules]);
    let output = nft.output().expect("nft runs");
    assert!(output.status.success(), "{output:?}");
}

fn script(network: &str) -> String {
    format!("{network}exec \"$0\" \"$@\"")
}

/// Of a distributor at this address.
fn flags(ip: &str) -> String {
    format!("--shards 2 --peer-timeout 4s --emitters {ip}:8080 --analyzers {ip}:8081")
}

#[test]
fn clients_notice_a_host_that_vanishes() {
    let Some(unshare) = network() else { return };
    let stays_there = Distributor::start_in(&unshare, &script(NETWORK), &flags("127.0.0.2"));
    let inside = enter(stays_there.pid());
    let vanishes = Distributor::start_in(&inside, &script(""), &flags("127.0.0.3"));
    let cut = || cut(&inside, "127.0.0.3");
    notice(
        &inside,
        ("127.0.0.2", stays_there),
        ("127.0.0.3", vanishes),
        &cut,
    );
}

/// Two named namespaces and the cable between them, as two hosts have it.
struct TwoHosts {
    names: [String; 2],
}

impl TwoHosts {
    const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

    fn new() -> Result<TwoHosts, String> {
        let pid = std::process::id();
        let hosts = TwoHosts {
            names: ["a", "b"].map(|host| format!("weir-{pid}-{host}")),
        };
        let [a, b] = &hosts.names;
        let [at_a, at_b] = TwoHosts::ADDRESSES;
        let script = format!(
            "ip netns add {a}\nip netns add {b}\n\
             ip -n {a} link add cable type veth peer name cable netns {b}\n\
             ip -n {a} addr add {at_a}/24 dev cable\nip -n {b} addr add {at_b}/24 dev cable\n\
             for host in {a} {b}; do ip -n $host link set lo up; ip -n $host link set cable up; done\n\
             ip netns exec {b} nft add table ip trial\n"
        );
        let output = Command::new("sh").args(["-ec", &script]).output();
        match output {
            Ok(output) if output.status.success() => Ok(hosts),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn inside(&self, host: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.names[host]]
            .map(str::to_owned)
            .into()
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

#[test]
fn clients_notice_when_another_host_vanishes() {
    let hosts = match TwoHosts::new() {
        Ok(hosts) => hosts,
        Err(why) => return println!("SKIPPED: needs root, ip netns and nft: {why}"),
    };
    let [here, there] = TwoHosts::ADDRESSES;
    let (inside, outside) = (hosts.inside(0), hosts.inside(1));
    let stays_there = Distributor::start_in(&inside, &script(""), &flags(here));
    let vanishes = Distributor::start_in(&outside, &script(""), &flags(there));
    let cut = || cut(&outside, there);
    notice(&inside, (here, stays_there), (there, vanishes), &cut);
}

/// Clients of two distributors, all of whose packets of one are dropped: emitters are on the other within the peer
/// time-out and 2 s, what is lost is at most that time's and is told, and the analyzer says that a link is lost.
fn notice(
    inside: &[String],
    (here, stays_there): (&str, Distributor),
    (there, vanishes): (&str, Distributor),
    cut: &dyn Fn(),
) {
    let analyzer = Client::start(
        inside,
        &format!("analyzer --addr {here}:8081,{there}:8081 --id a1 --peer-timeout 4s"),
    );
    stays_there.wait_lanes(1);
    vanishes.wait_lanes(1);
    let emitter = Client::start(
        inside,
        &format!(
            "emitter --addr {here}:8080,{there}:8080 --id e1 --peer-timeout 4s --connections 8 --rate {RATE} \
             --duration 15 --size 100 --json"
        ),
    );
    std::thread::sleep(Duration::from_secs(3));
    cut();
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
        let lines = analyzer.lines(&format!("{there}:8081"));
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
