//! The public ledger over HTTP: what was posted twice, because an answer was lost, is known to whoever posted it.

use std::io::{copy, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::clients::is_up;
use weir_testkit::process::run;
use weir_testkit::{until, Distributor, Port, Program, Scratch};

const MESSAGES: u64 = 2_000;
const BATCH: u64 = 10;

/// Passes connections on, and breaks one of them instead of passing on the answer to a POST.
struct Proxy {
    addr: SocketAddr,
    swallow: Arc<AtomicBool>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let addr = listener.local_addr().expect("bound");
        let swallow = Arc::new(AtomicBool::new(false));
        let wanted = Arc::clone(&swallow);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                let wanted = Arc::clone(&wanted);
                thread::spawn(move || pass(client, server, &wanted));
            }
        });
        Proxy { addr, swallow }
    }

    /// Loses the answer to the next POST.
    fn lose_an_answer(&self) {
        self.swallow.store(true, Ordering::SeqCst);
        until("an answer is lost", || !self.swallow.load(Ordering::SeqCst));
    }
}

fn pass(mut client: TcpStream, mut server: TcpStream, swallow: &AtomicBool) {
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let is_post = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_post);
    thread::spawn(move || {
        let mut method = [0; 4];
        if from.read_exact(&mut method).is_ok() && to.write_all(&method).is_ok() {
            seen.store(&method == b"POST", Ordering::SeqCst);
            let _ = copy(&mut from, &mut to);
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut bytes = [0; 16 << 10];
    while let Ok(count) = server.read(&mut bytes) {
        let is_lost = is_post.load(Ordering::SeqCst) && swallow.swap(false, Ordering::SeqCst);
        if count == 0 || is_lost || client.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for socket in [client, server] {
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// What a run left behind.
struct Played {
    scratch: Scratch,
    verdict: Value,
}

impl Played {
    fn number(&self, field: &str) -> u64 {
        let value = self.verdict.pointer(field).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no {field} in {}", self.verdict))
    }

    fn assert_balanced(&self) {
        assert_eq!(self.verdict["balanced"], true, "{}", self.verdict);
        assert_eq!(self.number("/delivered"), MESSAGES, "{}", self.verdict);
    }
}

/// One emitter, one distributor, two analyzers, all over HTTP; a proxy before the distributor and one before the first
/// analyzer, and `act` while it runs.
fn play(name: &str, act: impl FnOnce(&Proxy, &Proxy, &mut dyn FnMut())) -> Played {
    let scratch = Scratch::new(name);
    let path = |file: &str| scratch.path(file).display().to_string();
    let held = [Port::hold(), Port::hold()];
    let ports = held.each_ref().map(Port::number);
    let start = |index: usize| {
        let (port, run_report) = (ports[index], path(&format!("a{index}.json")));
        let line = format!("analyzer --http 127.0.0.1:{port} --id a{index} --report {run_report}");
        let analyzer = Program::start(&line);
        until("the analyzer listens", || is_up(port));
        analyzer
    };
    let (first, second) = (start(0), start(1));
    let behind = Proxy::start(([127, 0, 0, 1], ports[0]).into());
    let flags = format!(
        "--http 127.0.0.1:0 --shards 1 --health-interval 100ms --slow-start 0s --http-backoff 100ms --report {} \
         --http-analyzer a0=0.5@http://{} --http-analyzer a1=0.5@http://127.0.0.1:{}",
        path("d.json"),
        behind.addr,
        ports[1],
    );
    let distributor = Distributor::start(&flags);
    distributor.wait_lanes(2);
    let before = Proxy::start(distributor.http.expect("it was asked for"));
    let line = format!(
        "emitter --http http://{} --id e --count {MESSAGES} --rate 1000 --batch {BATCH} --connections 4 --report {}",
        before.addr,
        path("e.json"),
    );
    let emitter = Program::start(&line);
    let mut second = Some(second);
    act(&before, &behind, &mut || {
        let killed = second.take().expect("it runs");
        killed.signal("-KILL");
        drop(killed);
        distributor.wait_log("analyzer down");
        second = Some(start(1));
        until("it is back", || distributor.lines("analyzer up").len() == 3);
    });
    emitter.wait();
    distributor.stop().assert_clean();
    for analyzer in [Some(first), second].into_iter().flatten() {
        analyzer.signal("-TERM");
        analyzer.wait();
    }
    let files = ["d.json", "e.json", "a0.json", "a1.json"].map(path);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = run(&[&["audit", "--json"], &files[..]].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    Played { scratch, verdict }
}

#[test]
fn http_alone_is_audited_also_when_an_analyzer_is_killed() {
    let played = play("ledger-killed", |_, _, kill| {
        thread::sleep(Duration::from_millis(300));
        kill();
    });
    played.assert_balanced();
    assert_eq!(played.number("/maybe_twice"), 0);
    let run_report = std::fs::read_to_string(played.scratch.path("a0.json")).expect("written");
    let run_report: Value = serde_json::from_str(&run_report).expect("JSON");
    assert_eq!(run_report["dialect"], "http");
    assert_eq!(run_report["weight"], Value::Null);
}

#[test]
fn an_emitter_names_what_it_posted_twice() {
    let played = play("ledger-emitter", |before, _, _| before.lose_an_answer());
    played.assert_balanced();
    assert_eq!(played.number("/maybe_twice"), BATCH);
    assert_eq!(played.number("/twice"), BATCH);
    assert_eq!(played.number("/twice_as_said"), BATCH);
    assert_eq!(played.number("/books/received"), MESSAGES + BATCH);
    assert_eq!(played.number("/taken_and_lost"), 0);
}

#[test]
fn a_distributor_counts_what_it_posted_twice() {
    let played = play("ledger-analyzer", |_, behind, _| behind.lose_an_answer());
    played.assert_balanced();
    assert_eq!(played.number("/twice"), BATCH);
    assert_eq!(played.number("/books/duplicates_possible"), BATCH);
    assert_eq!(played.number("/books/received"), MESSAGES);
}
