//! Who takes the connection of an acked emitter and says no WELCOME: it goes to the next one, and says so.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use weir_testkit::process::run;
use weir_testkit::{Distributor, Program};

/// How long the emitter waits for a WELCOME.
const WELCOME_PATIENCE: Duration = Duration::from_secs(3);

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn number(json: &serde_json::Value, name: &str) -> u64 {
    let number = json[name].as_u64();
    number.unwrap_or_else(|| panic!("{name}: {json}"))
}

/// A server that accepts, and neither reads nor answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = listener.local_addr().expect("an address").to_string();
    (listener, addr)
}

#[test]
fn a_silent_server_is_left_for_the_next_distributor() {
    let (_silent, addr) = silent();
    let distributor = Distributor::start("--cores 0 --shards 1");
    let _analyzer = Program::start(&format!(
        "analyzer --addr {} --id a1",
        distributor.analyzers
    ));
    distributor.wait_lanes(1);
    let began = Instant::now();
    // Half of the connections begin at the silent one.
    let output = run(&[
        "emitter",
        "--acked",
        "--json",
        "--connections",
        "4",
        "--rate",
        "400",
        "--count",
        "400",
        "--id",
        "e1",
        "--addr",
        &format!("{addr},{}", distributor.emitters),
    ]);
    let took = began.elapsed();
    let said = json(&String::from_utf8_lossy(&output.stdout));
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said} {log}");
    assert_eq!((number(&said, "acked"), number(&said, "unacked")), (400, 0));
    assert_eq!(number(&said, "welcome_timeouts"), 2, "{said}");
    assert!(took < WELCOME_PATIENCE * 3, "{took:?}: {said}");
    let blocked = said["blocked_seconds"].as_f64().expect("a number");
    let waited = 2.0 * WELCOME_PATIENCE.as_secs_f64();
    assert!(blocked >= waited && blocked < waited * 1.5, "{said}");
    assert!(
        log.contains(&addr) && log.contains("did not say WELCOME within 3 s"),
        "{log}"
    );
    assert_eq!(distributor.stop().assert_clean().received, 400);
}

/// Its memory is full of what nobody takes: it reads no HELLO.
#[test]
fn a_distributor_that_takes_nothing_in_is_left_for_one_that_does() {
    let full = Distributor::start("--cores 0 --shards 1 --arena 8MiB --batch-bytes 64KiB");
    let mut filler = Program::start(&format!(
        "emitter --addr {} --id filler --rate 0 --count 60000 --size 1000 --duration 0 --batch 8",
        full.emitters
    ));
    full.wait_log("memory");
    let other = Distributor::start("--cores 0 --shards 1");
    let _analyzer = Program::start(&format!("analyzer --addr {} --id a1", other.analyzers));
    other.wait_lanes(1);
    let output = run(&[
        "emitter",
        "--acked",
        "--json",
        "--connections",
        "2",
        "--rate",
        "400",
        "--count",
        "400",
        "--id",
        "e1",
        "--addr",
        &format!("{},{}", full.emitters, other.emitters),
    ]);
    let said = json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(number(&said, "acked"), 400, "{said}");
    assert_eq!(number(&said, "welcome_timeouts"), 1, "{said}");
    assert!(filler.is_running());
    filler.signal("-KILL");
}

#[test]
fn what_was_due_and_never_sent_is_no_success() {
    let (_silent, addr) = silent();
    let output = run(&[
        "emitter",
        "--acked",
        "--addr",
        &addr,
        "--rate",
        "100",
        "--duration",
        "1",
        "--size",
        "100",
        "--json",
        "--id",
        "e1",
    ]);
    let said = json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        (number(&said, "messages"), number(&said, "unsent")),
        (0, 100)
    );
    assert!(said["blocked_seconds"].as_f64() > Some(1.0), "{said}");
}

#[test]
fn a_distributor_that_does_not_come_back_leaves_messages_unsent_which_is_no_success() {
    let distributor = Distributor::start("--cores 0 --shards 1");
    let analyzer = Program::start(&format!(
        "analyzer --addr {} --id a1",
        distributor.analyzers
    ));
    distributor.wait_lanes(1);
    let line = format!(
        "emitter --acked --addr {} --id e1 --rate 100 --duration 3 --size 100 --json",
        distributor.emitters
    );
    let emitter = std::thread::spawn(move || {
        let args: Vec<&str> = line.split_whitespace().collect();
        run(&args)
    });
    std::thread::sleep(Duration::from_secs(1));
    distributor.stop();
    drop(analyzer);
    let output = emitter.join().expect("it ran");
    let said = json(&String::from_utf8_lossy(&output.stdout));
    // All that was sent is ACKed, and no connection is left half.
    assert_eq!(
        (number(&said, "unacked"), number(&said, "unconfirmed")),
        (0, 0)
    );
    assert_eq!(
        number(&said, "messages") + number(&said, "unsent"),
        300,
        "{said}"
    );
    assert!(number(&said, "unsent") > 0, "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}
