//! Who a peer is by its certificate: in logs, tables and taps, as the id of an analyzer, and for limits.

use std::io::Read;
use std::net::SocketAddr;

use serde_json::Value;
use weir_testkit::http::Client;
use weir_testkit::numbered::numbered;
use weir_testkit::process::{run, weir};
use weir_testkit::{until, Authority, Distributor, Pair, Program};

use super::client::{Client as Secured, Manner};

const PORTS: &str = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --shards 1";

fn served(authority: &Authority) -> String {
    let ca = authority.ca();
    let pair = authority.pair("localhost").flags();
    format!("{PORTS} {pair} --tls-client-ca {}", ca.display())
}

/// An analyzer's flags: its id, and the certificate that it shows.
fn analyzer(authority: &Authority, at: SocketAddr, id: &str, shows: &Pair) -> String {
    let (ca, port) = (authority.ca(), at.port());
    let (ca, shows) = (ca.display(), shows.flags());
    format!(
        "analyzer --addr localhost:{port} --id {id} --reconnect=false --tls --tls-ca {ca} {shows}"
    )
}

pub(super) fn ask(distributor: &Distributor, path: &str) -> String {
    let mut client = Client::connect(distributor.http.expect("a port"));
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    client.answer().body
}

fn certificate_of(distributor: &Distributor, id: &str) -> Option<String> {
    let all: Value = serde_json::from_str(&ask(distributor, "/analyzers")).expect("JSON");
    let all = all["analyzers"].as_array().expect("a list");
    let its = all.iter().find(|one| one["id"] == id)?;
    its["certificate"].as_str().map(str::to_owned)
}

#[test]
fn an_analyzer_has_a_name_of_its_certificate_for_an_id() {
    let authority = Authority::new("bound");
    let flags = format!("{} --analyzers-tls required", served(&authority));
    let distributor = Distributor::start(&flags);
    let (a1, spy) = (authority.pair("a1"), authority.pair("spy"));
    let at = distributor.analyzers;
    // Neither is anybody let in without a certificate, nor is it all the same whose it is.
    assert!(distributor
        .lines("whoever reaches this port is given")
        .is_empty());
    let honest = Program::start(&analyzer(&authority, at, "a1", &a1));
    let line = distributor.wait_log("analyzer up");
    assert!(
        line.contains("analyzer=a1 ") && line.ends_with(" certificate=a1"),
        "{line}"
    );
    until("its certificate in /analyzers", || {
        certificate_of(&distributor, "a1").as_deref() == Some("a1")
    });

    let why = "is none of the names of its certificate (spy, 127.0.0.1)";
    let line = analyzer(&authority, at, "a2", &spy);
    let told = run(&line.split(' ').collect::<Vec<_>>());
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains(&format!("id \"a2\" {why}")), "{told}");
    let line = distributor.wait_log(why);
    assert!(
        line.contains("(certificate spy) closed") && line.contains("--analyzers-tls-ids any"),
        "{line}"
    );
    let counted = "weir_shard_refused_total{shard=\"0\",reason=\"id_not_certified\"} 1\n";
    until(counted, || ask(&distributor, "/metrics").contains(counted));
    assert_eq!(certificate_of(&distributor, "a2"), None);

    // Several with one certificate differ behind a sign that no name has; who says no id gets one of these.
    let ca = authority.ca();
    let line = format!(
        "analyzer --addr localhost:{} --tls --tls-ca {} {}",
        at.port(),
        ca.display(),
        a1.flags()
    );
    let _automatic = Program::start(&line);
    distributor.wait_log("analyzer=a1#analyzer-");
    // Who speaks a dialect without ids is called by its certificate.
    let reference = Manner::new(&authority.ca(), Some(&authority.pair("old.example.org")));
    let mut reference = reference.connect(at).expect("let in");
    reference.send(&0.5_f32.to_be_bytes()).expect("sent");
    let line = distributor.wait_log("analyzer=old.example.org#1");
    assert!(line.ends_with(" certificate=old.example.org"), "{line}");
    drop((reference, honest));
}

#[test]
fn where_any_id_is_taken_a_certificate_lets_in_and_no_more() {
    let authority = Authority::new("unbound");
    let flags = served(&authority);
    let distributor = Distributor::start(&format!(
        "{flags} --analyzers-tls required --analyzer-id any"
    ));
    let shared = authority.pair("analyzers");
    let line = analyzer(&authority, distributor.analyzers, "a7", &shared);
    let _analyzer = Program::start(&line);
    let line = distributor.wait_log("analyzer up");
    assert!(
        line.contains("analyzer=a7 ") && line.ends_with(" certificate=analyzers"),
        "{line}"
    );
    until("its certificate in /analyzers", || {
        certificate_of(&distributor, "a7").as_deref() == Some("analyzers")
    });
}

#[test]
fn where_ids_are_those_of_certificates_who_shows_none_is_refused() {
    let authority = Authority::new("without");
    let flags = served(&authority);
    let distributor = Distributor::start(&format!(
        "{flags} --analyzers-tls optional --tls-clients optional --analyzers-tls-ids certificate"
    ));
    let line = format!(
        "analyzer --addr {} --id a1 --reconnect=false",
        distributor.analyzers
    );
    let told = run(&line.split(' ').collect::<Vec<_>>());
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let why = "it has shown no certificate, and ids are those of certificates (--analyzers-tls-ids certificate)";
    assert!(told.contains(why), "{told}");
    let mut reference = std::net::TcpStream::connect(distributor.analyzers).expect("connected");
    std::io::Write::write_all(&mut reference, &0.5_f32.to_be_bytes()).expect("sent");
    let patience = Some(std::time::Duration::from_secs(10));
    reference.set_read_timeout(patience).expect("a time");
    assert!(matches!(reference.read(&mut [0; 8]), Ok(0)), "it is closed");
    until("both are counted", || {
        let counted = "weir_shard_refused_total{shard=\"0\",reason=\"id_not_certified\"} 2\n";
        ask(&distributor, "/metrics").contains(counted)
    });
}

/// Connects and sends a message; whether it is let in.
fn comes(manner: &Manner, at: SocketAddr, number: u64) -> Option<Secured> {
    let mut client = manner.connect(at).ok()?;
    client.send(&numbered(number, 20)).ok()?;
    let patience = std::time::Duration::from_millis(500);
    client
        .0
        .sock
        .set_read_timeout(Some(patience))
        .expect("a time");
    match client.0.read(&mut [0; 8]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(client),
        _ => None,
    }
}

#[test]
fn limits_are_of_those_whose_certificate_and_address_are_the_same() {
    let authority = Authority::new("limits");
    let (web1, web2) = (authority.pair("web1"), authority.pair("web2"));
    let manner = |pair: &Pair| Manner::new(&authority.ca(), Some(pair));
    // By what is counted; whether another certificate behind the address comes in beside the first.
    for (by, is_let_in) in [("both", true), ("certificate", true), ("address", false)] {
        let flags = served(&authority);
        let distributor = Distributor::start(&format!(
            "{flags} --emitters-tls required --max-per-address 1 --limit-by {by}"
        ));
        let at = distributor.emitters;
        let first = comes(&manner(&web1), at, 1).expect("the first");
        assert!(
            comes(&manner(&web1), at, 2).is_none(),
            "{by}: web1 has its one"
        );
        let other = comes(&manner(&web2), at, 3);
        assert_eq!(other.is_some(), is_let_in, "{by}");
        let refused = if is_let_in { 1 } else { 2 };
        let counted =
            format!("weir_shard_refused_total{{shard=\"0\",reason=\"address_limit\"}} {refused}\n");
        until(&counted, || {
            ask(&distributor, "/metrics").contains(&counted)
        });
        drop((first, other));
        until("its place is free again", || {
            comes(&manner(&web1), at, 4).is_some()
        });
    }
}

#[test]
fn a_tap_and_the_log_say_whose_certificate_an_emitter_has_shown() {
    let authority = Authority::new("tapped");
    let flags = served(&authority);
    let scratch = weir_testkit::Scratch::new("tapped-admin");
    let socket = scratch.path("admin.sock").display().to_string();
    let distributor =
        Distributor::start(&format!("{flags} --emitters-tls required --admin {socket}"));
    let _analyzer = weir_testkit::Analyzer::connect(
        distributor.analyzers,
        &weir_testkit::Options::new(weir_testkit::Dialect::Native, 1.0).id("a1"),
    );
    let manner = Manner::new(&authority.ca(), Some(&authority.pair("web1")));
    let mut client = manner.connect(distributor.emitters).expect("let in");
    let tap = std::process::Command::new(weir())
        .args(["tap", "--admin", &socket, "--rate", "100", "--seconds", "2"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a tap");
    for number in 0..150 {
        client.send(&numbered(number, 20)).expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let output = tap.wait_with_output().expect("it ends");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(lines.contains(r#""certificate":"web1""#), "{lines}");
    client
        .send(b"GET / HTTP/1.1\r\n\r\n\xff\xff\xff\xff")
        .expect("sent");
    let line = distributor.wait_log("(certificate web1) closed: ");
    assert!(line.contains("emitter 127.0.0.1:"), "{line}");
    for what in ["up", "down"] {
        let line = distributor.wait_log(&format!("emitter {what} shard=0 input=emitters"));
        assert!(line.ends_with(" certificate=web1"), "{line}");
    }
}
