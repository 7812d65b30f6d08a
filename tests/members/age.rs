//! Connections that are asked to go: at their age, behind a balancer; and one after the other at SIGTERM.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_testkit::http::{packet, Client};
use weir_testkit::process::run;
use weir_testkit::site::Site;
use weir_testkit::{
    socket, stays, until, Analyzer, Dialect, Distributor, Emitter, Forwarder, FrameSink, Options,
    Program, Scratch, PATIENCE,
};

const REPLICAS: usize = 3;
const CONNECTIONS: usize = 60;
const AGE: Duration = Duration::from_secs(3);
/// Of all connections: what each replica has within one age, if chance decides.
const FAIR: std::ops::RangeInclusive<usize> = 12..=28;

/// The sum of a counter of all shards.
fn counted(site: &Site, name: &str) -> u64 {
    let text = String::from_utf8(site.text("/metrics")).expect("text");
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let value = |line: &str| line.rsplit(' ').next().and_then(|text| text.parse().ok());
    lines.map(|line| value(line).unwrap_or(0.0)).sum::<f64>() as u64
}

fn emitters(site: &Site) -> usize {
    counted(site, "weir_shard_emitters") as usize
}

fn replica(report: &str, more: &str) -> Site {
    let flags = format!("--shards 2 --report {report} --max-connection-age 3s {more}");
    Site::start_by(Scratch::new("replica"), "", &flags, Distributor::start)
}

/// Two analyzers for each replica, with weights 1 and 2.
fn analyzers(files: &Scratch, replicas: &[Site]) -> Vec<Program> {
    let start = |(replica, weight): (usize, u32)| {
        let report = files.path(&format!("a{replica}-{weight}.json"));
        Program::start(&format!(
            "analyzer --addr {} --id a{replica}-{weight} --weight {weight} --report {}",
            replicas[replica].distributor.analyzers,
            report.display()
        ))
    };
    let all = (0..replicas.len()).flat_map(|replica| [(replica, 1), (replica, 2)]);
    let programs = all.map(start).collect();
    for replica in replicas {
        replica.distributor.wait_lanes(2);
    }
    programs
}

/// One of three replicas behind a balancer is restarted: within one age it has its part of the connections again,
/// and nothing is lost or comes twice.
#[test]
fn a_replica_that_was_restarted_gets_connections_within_one_age() {
    let files = Scratch::new("age");
    let report = |name: &str| files.path(&format!("{name}.json")).display().to_string();
    let start = |index: usize| replica(&report(&format!("d{index}")), "");
    let mut replicas: Vec<Site> = (0..REPLICAS).map(start).collect();
    let programs = analyzers(&files, &replicas);
    let targets: Vec<SocketAddr> = replicas.iter().map(|r| r.distributor.emitters).collect();
    let balancer = Forwarder::start(&targets, 7);
    let emitter = Program::start(&format!(
        "emitter --addr {} --connections {CONNECTIONS} --rate 6000 --duration 12s --size 100 --id e --report {}",
        balancer.address,
        report("e")
    ));
    until("all are connected", || {
        replicas.iter().map(emitters).sum::<usize>() == CONNECTIONS
    });

    balancer.set_targets(&targets[1..]);
    let first = replicas.remove(0);
    let ports = format!(
        "--emitters {} --analyzers {}",
        first.distributor.emitters, first.distributor.analyzers
    );
    let ended = first.stop();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    replicas.insert(0, replica(&report("d0-again"), &ports));
    replicas[0].distributor.wait_lanes(2);
    assert_eq!(emitters(&replicas[0]), 0, "connections stay where they are");
    balancer.set_targets(&targets);
    let back = Instant::now();
    let mut counts = Vec::new();
    let mut is_fair = || {
        counts = replicas.iter().map(emitters).collect();
        counts.iter().all(|count| FAIR.contains(count))
    };
    // An age has a tenth more, its end is seen within a second, and an emitter comes back after a moment.
    let patience = AGE.mul_f64(1.1) + Duration::from_millis(1_500);
    while !is_fair() && back.elapsed() < patience {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(is_fair(), "{counts:?} after {:?}", back.elapsed());

    let summary = emitter.wait();
    assert!(summary.contains("left as asked"), "{summary}");
    for replica in replicas {
        let aged = counted(&replica, "weir_shard_farewells_at_age_total");
        assert!(aged > 0, "nobody was asked to go");
        let ended = replica.stop();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
    for program in programs {
        program.signal("-TERM");
        program.wait();
    }
    let mut names: Vec<String> = ["d0", "d1", "d2", "d0-again", "e"].map(report).to_vec();
    names
        .extend((0..REPLICAS).flat_map(|r| [1, 2].map(|weight| report(&format!("a{r}-{weight}")))));
    let mut arguments = vec!["audit", "--strict", "--json"];
    arguments.extend(names.iter().map(String::as_str));
    let verdict = run(&arguments);
    let verdict: Value = serde_json::from_slice(&verdict.stdout).expect("JSON");
    assert_eq!(verdict["balanced"], true, "{verdict:#}");
    let sent = verdict["sent"].as_u64().expect("a number");
    assert!(sent > 60_000, "{sent}");
    let rest = ["delivered", "twice", "maybe_lost"].map(|name| verdict[name].as_u64());
    assert_eq!(rest, [sent, 0, 0].map(Some), "{verdict:#}");
}

/// Who does not understand is never cut off for its age.
#[test]
fn an_emitter_that_does_not_understand_is_read_on() {
    let flags = "--max-connection-age 1s --shards 1";
    let site = Site::start("read-on", "", flags);
    let options = Options::new(Dialect::Native, 1.0);
    let analyzer = Analyzer::connect(site.distributor.analyzers, &options);
    let started = Instant::now();
    let pause = Duration::from_millis(20);
    let emitter = Emitter::trickle(site.distributor.emitters, 0..200, 64, pause);
    until("it is asked to go", || {
        counted(&site, "weir_shard_farewells_total") == 1
    });
    let asked = started.elapsed();
    assert!(
        asked >= Duration::from_millis(900) && asked < Duration::from_millis(2_500),
        "{asked:?}"
    );
    assert_eq!(emitters(&site), 1);
    emitter.join();
    assert!(started.elapsed() > Duration::from_millis(3_900));
    until("all is there", || analyzer.ids().len() == 200);
    assert_eq!(site.stop().code, Some(0));
}

/// The next answer says `Connection: close`; a client between two requests is closed.
#[test]
fn http_clients_are_asked_to_go_with_their_next_answer() {
    let site = Site::start("http-age", "", "--max-connection-age 1s --shards 1");
    let _analyzer = FrameSink::of(site.distributor.analyzers, 1.0);
    let mut idle = Client::connect(site.http());
    let mut busy = Client::connect(site.http());
    let began = Instant::now();
    until("the analyzer is there", || {
        idle.post_packet(&packet("e", 0..1)).status == 202
    });
    let mut answers = 0;
    let last = loop {
        let answer = busy.post_packet(&packet("e", 0..1));
        assert_eq!(answer.status, 202, "{answer:?}");
        assert!(began.elapsed() < PATIENCE, "it goes on and on");
        answers += 1;
        if answer.head.contains("\r\nConnection: close\r\n") {
            break began.elapsed();
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert!(
        last >= Duration::from_millis(900) && last < Duration::from_millis(2_500),
        "{last:?}"
    );
    assert!(answers > 20, "{answers}");
    busy.assert_closed();
    idle.assert_closed();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    until("both are counted", || {
        counted(&site, "weir_http_farewells_at_age_total") == 2
    });
    drop((busy, idle));
    site.stop();
}

/// A reload gives and takes ages.
#[test]
fn an_age_is_given_and_taken_while_it_runs() {
    let site = Site::start("age-reload", "", "--shards 1");
    let mut quiet = socket::connect(site.distributor.emitters);
    until("it is there", || emitters(&site) == 1);
    stays(
        "nobody is asked to go",
        Duration::from_millis(1_500),
        || counted(&site, "weir_shard_farewells_total") == 0,
    );
    site.rewrite("[delivery]\nmax_connection_age = \"1s\"\n");
    let changes = site.ctl("reload");
    assert_eq!(changes["changes"][0]["live"], true, "{changes}");
    // It is older than that already.
    assert_eq!(quiet.read(&mut [0; 1]).expect("the half-close"), 0);
    site.rewrite("[delivery]\nmax_connection_age = \"0s\"\n");
    site.ctl("reload");
    let _second = socket::connect(site.distributor.emitters);
    stays("no other is", Duration::from_millis(1_500), || {
        counted(&site, "weir_shard_farewells_total") == 1
    });
    drop(quiet);
    assert_eq!(site.stop().code, Some(0));
}

/// 5,000 emitters that come back at once when they are asked to go, which the kernel's farewell to each says.
#[test]
fn farewells_at_sigterm_are_even() {
    const EMITTERS: usize = 5_000;
    const SPREAD: Duration = Duration::from_secs(5);
    let flags = "--shards 2 --max-connections 6000 --farewell-spread 5s --drain-timeout 30s";
    let site = Site::start("spread", "", flags);
    let connect = |_| {
        let stream = socket::connect(site.distributor.emitters);
        stream.set_nonblocking(true).expect("an option");
        stream
    };
    let mut emitters_here: Vec<TcpStream> = (0..EMITTERS).map(connect).collect();
    until("all are there", || emitters(&site) == EMITTERS);
    let other = Other::start();
    site.distributor.terminate();
    let mut back = Vec::new();
    let began = Instant::now();
    while !emitters_here.is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{} wait",
            emitters_here.len()
        );
        emitters_here.retain(|emitter| {
            let mut emitter = emitter;
            match emitter.read(&mut [0; 1]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                outcome => assert_eq!(outcome.expect("a half-close, no reset"), 0),
            }
            back.push(TcpStream::connect(other.address).expect("the other takes it"));
            false
        });
        thread::sleep(Duration::from_millis(5));
    }
    let came = other.stop();
    assert_eq!(came.len(), EMITTERS);
    let took = came[EMITTERS - 1] - came[0];
    assert!(
        took > SPREAD.mul_f64(0.9) && took < SPREAD.mul_f64(1.2),
        "{took:?}"
    );
    let span = Duration::from_millis(500);
    let most = came
        .iter()
        .enumerate()
        .map(|(first, at)| came[first..].partition_point(|other| *other - *at < span))
        .max();
    let mean = EMITTERS as f64 / 10.0;
    let most = most.expect("many") as f64;
    assert!(most <= 1.3 * mean, "{most} in 500 ms, {mean} in the mean");
    assert_eq!(site.distributor.wait().code, Some(0));
}

/// Where emitters go.
struct Other {
    address: SocketAddr,
    thread: thread::JoinHandle<Vec<Instant>>,
    ends: std::sync::Arc<AtomicBool>,
}

impl Other {
    fn start() -> Other {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ends = std::sync::Arc::new(AtomicBool::new(false));
        let is_over = std::sync::Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let (mut came, mut kept) = (Vec::new(), Vec::new());
            for stream in listener.incoming() {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                came.push(Instant::now());
                kept.push(stream);
            }
            came
        });
        Other {
            address,
            thread,
            ends,
        }
    }

    /// When each came.
    fn stop(self) -> Vec<Instant> {
        // What has connected before is accepted before.
        self.ends.store(true, Ordering::Release);
        drop(TcpStream::connect(self.address));
        self.thread.join().expect("no panic")
    }
}

#[test]
fn a_spread_that_does_not_fit_is_refused_by_name() {
    let files = Scratch::new("spread");
    let check = |spread: &str| {
        let text = format!(
            "[delivery]\nfarewell_spread = \"{spread}\"\ngraceful_close = \"1s\"\ndrain_timeout = \"10s\"\n"
        );
        let file = files.write("weir.toml", &text);
        run(&["check", file.to_str().expect("plain")])
    };
    let refused = check("10s");
    let text = format!("{refused:?}");
    assert_eq!(refused.status.code(), Some(1), "{text}");
    let why = "--farewell-spread 10s: with --graceful-close 1s it does not fit into --drain-timeout 10s; allowed: at most 9s";
    assert!(text.contains(why) && text.contains("weir.toml:2"), "{text}");
    let taken = check("9s");
    assert_eq!(taken.status.code(), Some(0), "{taken:?}");
}
