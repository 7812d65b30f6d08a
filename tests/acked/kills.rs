//! SIGKILL of one of three replicas under load, again and again; SIGTERM; a connection that breaks. All of it with TLS
//! and client certificates as well.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use weir_testkit::process::run;
use weir_testkit::{until, Authority, Distributor, Program};

/// Kills in `cargo test`; `WEIR_ACKED_KILLS` says another number.
const KILLS: u32 = 3;
const REPLICAS: usize = 3;
/// Analyzers of each replica.
const ANALYZERS: usize = 2;

/// Three replicas, each with analyzers of its own, and the files that they leave.
struct Replicas {
    dir: PathBuf,
    running: Vec<Distributor>,
    analyzers: Vec<(String, Program)>,
    started: usize,
    reports: Vec<String>,
    tls: Option<Tls>,
}

/// What is said of TLS to distributors, and to their peers.
struct Tls {
    served: String,
    shown: String,
    authority: Authority,
}

impl Tls {
    fn new(name: &str) -> Tls {
        let authority = Authority::new(name);
        let (ca, client) = (authority.ca(), authority.pair("client"));
        let ca = ca.display();
        let served = authority.pair("localhost").flags();
        Tls {
            served: format!(
                "--emitters-tls required --analyzers-tls required --tls-client-ca {ca} {served}"
            ),
            shown: format!("--tls --tls-ca {ca} {}", client.flags()),
            authority,
        }
    }
}

impl Replicas {
    fn start(name: &str) -> Replicas {
        Replicas::start_over(name, None)
    }

    fn start_over(name: &str, tls: Option<Tls>) -> Replicas {
        let dir = format!("acked-{name}-{}", std::process::id());
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(dir);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory");
        let mut replicas = Replicas {
            dir,
            running: Vec::new(),
            analyzers: Vec::new(),
            started: 0,
            reports: Vec::new(),
            tls,
        };
        for replica in 0..REPLICAS {
            let distributor =
                replicas.distributor("--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0");
            for analyzer in 0..ANALYZERS {
                let id = format!("a{analyzer}-{replica}");
                let report = replicas.path(&format!("{id}.json"));
                let program = Program::start(&format!(
                    "analyzer --addr {} --id {id} --report {report} {}",
                    distributor.analyzers,
                    replicas.shown_of(&id)
                ));
                replicas.analyzers.push((report, program));
            }
            distributor.wait_lanes(ANALYZERS);
            replicas.running.push(distributor);
        }
        replicas
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn distributor(&mut self, flags: &str) -> Distributor {
        self.started += 1;
        let report = self.path(&format!("d{}.json", self.started));
        let served = self.tls.as_ref().map_or("", |tls| &tls.served);
        let flags = format!("--cores 0 --shards 1 --report {report} {served} {flags}");
        self.reports.push(report);
        Distributor::start(&flags)
    }

    /// An analyzer's id is a name of its certificate.
    fn shown_of(&self, id: &str) -> String {
        self.tls.as_ref().map_or_else(String::new, |tls| {
            let pair = tls.authority.pair(id).flags();
            format!("--tls --tls-ca {} {pair}", tls.authority.ca().display())
        })
    }

    fn shown(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.shown)
    }

    fn emitter(&self, flags: &str) -> Program {
        let addrs = self
            .running
            .iter()
            .map(|replica| replica.emitters.to_string());
        let addrs: Vec<String> = addrs.collect();
        Program::start(&format!(
            "emitter --acked --addr {} --id e1 --size 100 --json --report {} {} {flags}",
            addrs.join(","),
            self.path("e1.json"),
            self.shown()
        ))
    }

    /// Ends a replica by a signal, and starts another in its place.
    fn replace(&mut self, replica: usize, signal: &str) {
        let victim = self.running.remove(replica);
        let (emitters, analyzers) = (victim.emitters, victim.analyzers);
        victim.signal(signal);
        let ended = victim.wait();
        assert!(signal == "-KILL" || ended.code == Some(0), "{ended:#?}");
        let flags = format!("--emitters {emitters} --analyzers {analyzers}");
        let next = self.distributor(&flags);
        next.wait_lanes(ANALYZERS);
        self.running.insert(replica, next);
    }

    /// Ends everything in good order; what `weir audit --strict` says.
    fn audit(&mut self) -> Output {
        for replica in self.running.drain(..) {
            replica.stop().assert_clean();
        }
        let mut files = vec![self.path("e1.json")];
        files.extend(
            self.reports
                .iter()
                .filter(|path| fs::exists(path).is_ok_and(|is| is))
                .cloned(),
        );
        for (report, program) in self.analyzers.drain(..) {
            program.signal("-TERM");
            program.wait();
            files.push(report);
        }
        let mut args = vec!["audit", "--strict", "--json"];
        args.extend(files.iter().map(String::as_str));
        run(&args)
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn verdict(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {output:?}"))
}

fn number(json: &serde_json::Value, pointer: &str) -> u64 {
    let number = json.pointer(pointer).and_then(serde_json::Value::as_u64);
    number.unwrap_or_else(|| panic!("no {pointer} in {json:#}"))
}

#[test]
fn replicas_are_killed_under_load_and_nothing_is_missing() {
    killed_and_nothing_is_missing(Replicas::start("kills"));
}

#[test]
fn the_same_over_tls() {
    let tls = Tls::new("acked-kills");
    killed_and_nothing_is_missing(Replicas::start_over("kills-tls", Some(tls)));
}

fn killed_and_nothing_is_missing(mut replicas: Replicas) {
    let kills = std::env::var("WEIR_ACKED_KILLS");
    let kills = kills.map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let mut emitter = replicas.emitter("--connections 6 --batch 8 --rate 20000 --duration 0");
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(700));
        assert!(emitter.is_running(), "it gave up before kill {kill}");
        replicas.replace(kill as usize % REPLICAS, "-KILL");
    }
    std::thread::sleep(Duration::from_millis(300));
    emitter.signal("-TERM");
    let said: serde_json::Value = serde_json::from_str(&emitter.wait()).expect("a summary");
    assert_eq!(number(&said, "/unacked"), 0, "{said:#}");
    assert!(
        number(&said, "/resent") > 0,
        "the kills did not bite: {said:#}"
    );

    let output = replicas.audit();
    let verdict = verdict(&output);
    assert_eq!(output.status.code(), Some(0), "{verdict:#}");
    assert_eq!(number(&verdict, "/missing/messages"), 0);
    assert_eq!(number(&verdict, "/lost_on_the_way/messages"), 0);
    assert_eq!(number(&verdict, "/unrecognised/messages"), 0);
    assert_eq!(number(&verdict, "/sent"), number(&verdict, "/delivered"));
    assert_eq!(
        number(&verdict, "/acked_to_emitters"),
        number(&said, "/acked")
    );
    assert!(number(&verdict, "/unreported") >= 1, "{verdict:#}");
    eprintln!(
        "{kills} kills: {} sent, {} sent again, {} came twice, 0 missing",
        number(&verdict, "/sent"),
        number(&said, "/resent"),
        number(&verdict, "/twice")
    );
}

#[test]
fn a_replica_that_drains_acks_what_it_has_and_nothing_is_sent_again() {
    drained_and_nothing_is_sent_again(Replicas::start("drain"));
}

#[test]
fn so_it_does_over_tls() {
    let tls = Tls::new("acked-drain");
    drained_and_nothing_is_sent_again(Replicas::start_over("drain-tls", Some(tls)));
}

fn drained_and_nothing_is_sent_again(mut replicas: Replicas) {
    let mut emitter = replicas.emitter("--connections 6 --batch 8 --rate 5000 --duration 0");
    for replica in 0..REPLICAS {
        std::thread::sleep(Duration::from_millis(300));
        assert!(emitter.is_running());
        replicas.replace(replica, "-TERM");
    }
    emitter.signal("-TERM");
    let said: serde_json::Value = serde_json::from_str(&emitter.wait()).expect("a summary");
    assert_eq!(
        (number(&said, "/unacked"), number(&said, "/resent")),
        (0, 0),
        "{said:#}"
    );
    assert!(number(&said, "/farewells") > 0, "{said:#}");
    let output = replicas.audit();
    let verdict = verdict(&output);
    assert_eq!(output.status.code(), Some(0), "{verdict:#}");
    assert_eq!(
        (number(&verdict, "/unreported"), number(&verdict, "/twice")),
        (0, 0)
    );
}

#[test]
fn without_analyzers_nothing_is_acked_and_the_emitter_waits() {
    let distributor = Distributor::start("--cores 0 --shards 1");
    let mut emitter = Program::start(&format!(
        "emitter --acked --acked-memory 64KiB --addr {} --id e1 --json --rate 0 --count 5000",
        distributor.emitters
    ));
    let until_full = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until_full {
        assert!(emitter.is_running(), "nobody has ACKed anything");
        std::thread::sleep(Duration::from_millis(50));
    }
    let analyzer = Program::start(&format!(
        "analyzer --addr {} --id a1",
        distributor.analyzers
    ));
    until("the emitter's end", || !emitter.is_running());
    let said: serde_json::Value = serde_json::from_str(&emitter.wait()).expect("a summary");
    assert_eq!(
        (number(&said, "/acked"), number(&said, "/unacked")),
        (5000, 0)
    );
    let balance = distributor.stop().assert_clean();
    assert_eq!(balance.received, 5000);
    drop(analyzer);
}
