//! ACKs that prove little are called so, and answer no emitter that wants to know more.

use std::io::{Read, Write};

use weir_testkit::process::run;
use weir_testkit::site::Site;
use weir_testkit::{until, Distributor, Program};

use super::server::{Habit, Server, Speaks};

#[test]
fn the_worth_of_acks_is_shown() {
    let (relp, syslog) = (
        Server::start(Speaks::Relp, Habit::Acks),
        Server::start(Speaks::Syslog, Habit::Acks),
    );
    let flags = format!(
        "--shards 1 --analyzer r=1@relp://{} --analyzer s=1@syslog://{}",
        relp.address, syslog.address
    );
    let site = Site::start("outlets-worth", "", &flags);
    until("both are up", || {
        ["r", "s"]
            .iter()
            .all(|id| site.analyzer(id)["standing"] == "up")
    });
    let worth = |id: &str| {
        let row = site.analyzer(id);
        let text = |name: &str| row[name].as_str().expect("text").to_owned();
        (text("protocol"), text("acks"))
    };
    assert_eq!(worth("r"), ("relp".to_owned(), "acked".to_owned()));
    assert_eq!(worth("s"), ("syslog".to_owned(), "weak".to_owned()));
    let metrics = String::from_utf8(site.text("/metrics")).expect("text");
    for series in [
        "weir_analyzer_info{analyzer=\"r\",protocol=\"relp\",acks=\"acked\"} 1",
        "weir_analyzer_info{analyzer=\"s\",protocol=\"syslog\",acks=\"weak\"} 1",
    ] {
        assert!(metrics.contains(series), "{metrics}");
    }
    let top = site.weir("top --once");
    assert!(top.contains("up, weak"), "{top}");
    site.stop();
}

#[test]
fn a_chain_over_weak_acks_is_refused_at_the_start_and_later() {
    let input = "--input forward@127.0.0.1:0?name=f --ack-presume 1s";
    let analyzer = "--analyzer s=1@syslog://127.0.0.1:9";
    let flags = format!(
        "distributor --emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http off {input} {analyzer}"
    );
    let words: Vec<&str> = flags.split_whitespace().collect();
    let output = run(&words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for what in [
        "--input forward@",
        "analyzer s (syslog://127.0.0.1:9)",
        "weak_acks=allow",
    ] {
        assert!(said.contains(what), "{said}");
    }
    let syslog = Server::start(Speaks::Syslog, Habit::Acks);
    let site = Site::start("outlets-chain", "", &format!("--shards 1 {input}"));
    let place = format!("syslog://{}", syslog.address);
    let refused = site.try_weir(&format!("ctl add-http s {place} 1"));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("weak_acks=allow"),
        "{said}"
    );
    let chained = format!("--http 127.0.0.1:0 --shards 1 --analyzer s=1@{place}");
    let distributor = Distributor::start(&chained);
    distributor.wait_lanes(1);
    let http = distributor.http.expect("it was asked for");
    let post = |query: &str| {
        let body = r#"{"emitterId":"e","messages":[{"message":"x"}]}"#;
        let head = format!(
            "POST /logs{query} HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut stream = weir_testkit::socket::connect(http);
        stream.write_all((head + body).as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    };
    let refused = post("?wait=acked");
    assert!(refused.starts_with("HTTP/1.1 409 "), "{refused}");
    assert!(refused.contains("weak_acks=allow"), "{refused}");
    let taken = post("");
    assert!(taken.starts_with("HTTP/1.1 202 "), "{taken}");
    let emitter = Program::start(&format!(
        "emitter --addr {} --acked --count 1",
        distributor.emitters
    ));
    distributor.wait_log("closed: who wants ACKs is told");
    drop(emitter);
    assert!(distributor.stop().count("weak_acks") > 0);
    site.ctl(&format!("add-http s {place}?weak_acks=allow 1"));
    until("it is up", || site.analyzer("s")["standing"] == "up");
    site.stop();
}
