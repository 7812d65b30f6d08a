//! Our own clients on both ends over HTTP: emitter, distributor, analyzers, each a process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use weir_testkit::process::weir;
use weir_testkit::{until, Distributor, Port, Program};

pub fn is_up(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn number(json: &str, key: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {json}"))
}

#[test]
fn messages_go_from_our_emitter_to_our_analyzers_over_http_alone() {
    let held = [Port::hold(), Port::hold()];
    let ports = held.each_ref().map(Port::number);
    let analyzers = ports.map(|port| {
        let line = format!("analyzer --http 127.0.0.1:{port} --id a{port} --json");
        let analyzer = Program::start(&line);
        until("the analyzer listens", || is_up(port));
        analyzer
    });
    let [a, b] = ports.map(|port| format!("--http-analyzer a{port}=W@http://127.0.0.1:{port}"));
    let flags = format!(
        "--http 127.0.0.1:0 --shards 1 {} {}",
        a.replace('W', "0.75"),
        b.replace('W', "0.25")
    );
    let distributor = Distributor::start(&flags);
    distributor.wait_lanes(2);
    let http = distributor.http.expect("it was asked for");
    let line = format!(
        "emitter --http http://{http} --json --count 2000 --rate 0 --batch 10 --connections 4 --checksum \
         --severity 1=1,3=9 --size lognormal:300,0.5"
    );
    let sent = Program::start(&line).wait();
    assert_eq!(
        (number(&sent, "messages"), number(&sent, "refused")),
        (2000, 0)
    );
    distributor.stop().assert_clean();
    let seen = analyzers.map(|analyzer| {
        analyzer.signal("-TERM");
        analyzer.wait()
    });
    let each = seen.each_ref().map(|seen| number(seen, "messages"));
    assert_eq!(each, [1500, 500], "{seen:?}");
    for seen in &seen {
        assert_eq!(number(seen, "sound"), number(seen, "messages"), "{seen}");
        for wrong in ["corrupt", "unnumbered", "duplicates"] {
            assert_eq!(number(seen, wrong), 0, "{seen}");
        }
    }
    let severity = |json: &str, of: &str| {
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        value["severities"][of].as_u64().unwrap_or(0)
    };
    for of in ["1", "3"] {
        let got: u64 = seen.iter().map(|seen| severity(seen, of)).sum();
        assert_eq!(got, severity(&sent, of));
    }
}

#[test]
fn a_changed_payload_is_noticed_and_costs_the_exit_status() {
    let held = Port::hold();
    let port = held.number();
    let mut analyzer = Command::new(weir());
    analyzer
        .args(["analyzer", "--json", "--count", "2", "--http"])
        .arg(format!("127.0.0.1:{port}"));
    analyzer.stdout(std::process::Stdio::piped());
    let child = analyzer.spawn().expect("starts");
    until("the analyzer listens", || is_up(port));
    // The checksum is of a payload with another number.
    let message = "e/0 2 1795305132065000000 #........................8f3c0a9be1d27745";
    let body = format!(
        r#"{{"messages":[{{"level":"info","message":"{message}"}},{{"message":"plain"}}]}}"#
    );
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    let head = format!(
        "POST /logs HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket
        .write_all((head + &body).as_bytes())
        .expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let output = child.wait_with_output().expect("ends");
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        (number(&report, "corrupt"), number(&report, "unnumbered")),
        (1, 1)
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_does_not_go_together_is_refused() {
    for line in [
        "emitter --http http://127.0.0.1:1 --addr 127.0.0.1:2",
        "analyzer --http 127.0.0.1:1 --weight 0.5",
        "analyzer --http 127.0.0.1:1 --dialect compact",
    ] {
        let output = Command::new(weir())
            .args(line.split(' '))
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(text.contains("cannot be used with"), "{line}: {text}");
    }
    let line = "emitter --http http://127.0.0.1:1 --connections 300";
    let output = Command::new(weir())
        .args(line.split(' '))
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("allowed with --http: 1 to 256"),
        "{text}"
    );
}
