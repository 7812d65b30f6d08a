//! What Prometheus reads, by the judgement of Prometheus' own tool: the page of metrics, and the rules of alerts.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use weir_testkit::http::Client;
use weir_testkit::numbered::numbered;
use weir_testkit::{peers, until, Analyzer, Authority, Dialect, Distributor, Options};

fn of_promtool(mut promtool: Command, input: &str) -> Output {
    promtool.stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads all");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn assert_content(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{out}{said}");
}

/// Names, units and help of every row, with TLS and traffic.
#[test]
fn the_page_of_metrics_is_as_prometheus_wants_it() {
    let Some(mut promtool) = peers::program("promtool") else {
        return;
    };
    let authority = Authority::new("metrics");
    let distributor = Distributor::start(&format!(
        "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http 127.0.0.1:0 --shards 1 --emitters-tls optional {}",
        authority.pair("localhost").flags()
    ));
    let options = Options::new(Dialect::Native, 1.0).id("a1");
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    let mut emitter = weir_testkit::socket::connect(distributor.emitters);
    emitter.write_all(&numbered(0, 100)).expect("taken");
    until("it is there", || analyzer.read() == 1);
    let page = || {
        let mut client = Client::connect(distributor.http.expect("a port"));
        client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.answer().body
    };
    // The control side looks at the shards once in a while.
    until("it counts what was given", || {
        let page = page();
        page.contains("weir_tls_handshakes_total{") && page.contains("weir_ready 1")
    });
    promtool.args(["check", "metrics"]);
    assert_content(&of_promtool(promtool, &page()));
}

#[test]
fn the_rules_of_alerts_are_rules() {
    let Some(mut promtool) = peers::program("promtool") else {
        return;
    };
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/alerts.yml");
    promtool.args(["check", "rules", rules]);
    assert_content(&of_promtool(promtool, ""));
}
