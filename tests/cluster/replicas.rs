//! Replicas behind one name of a nameserver: every analyzer reaches every shard of each, and what comes and goes is
//! followed.

use std::time::{Duration, Instant};

use weir::ledger::run_report::Distributor as RunReport;
use weir_testkit::dns::{Dns, Says};
use weir_testkit::http::Client as HttpClient;
use weir_testkit::process::run;
use weir_testkit::{stays, until, Distributor, Ended, Scratch};

use crate::places::{ports, replica, Client, Late};

/// What theorem 2 of docs/SHARES.md allows a tree.
const BOUND: f64 = 2.68;
/// A refresh, and as long again for everything else.
const FOUND_WITHIN: Duration = Duration::from_secs(7);

struct Cluster {
    dns: Dns,
    ports: (u16, u16),
    scratch: Scratch,
}

impl Cluster {
    fn new(name: &str) -> Cluster {
        Cluster {
            dns: Dns::start(),
            ports: ports(),
            scratch: Scratch::new(name),
        }
    }

    fn replica(&self, last: u8) -> Distributor {
        let report = self.report(&format!("d{last}"));
        replica(last, self.ports, &format!("--report {report}"))
    }

    fn report(&self, name: &str) -> String {
        let path = self.scratch.path(&format!("{name}.json"));
        path.display().to_string()
    }

    fn client(&self, program: &str, id: &str, flags: &str) -> Client {
        let port = match program {
            "emitter" => self.ports.0,
            _ => self.ports.1,
        };
        let (dns, report) = (self.dns.addr, self.report(id));
        Client::start(
            &[],
            &format!(
                "{program} --addr dns+replicas.test:{port} --nameserver {dns} --id {id} --report {report} {flags}"
            ),
        )
    }
}

fn shares(cluster: &Cluster, names: &[&str], analyzers: &[&str]) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); analyzers.len()];
    for name in names {
        let text = std::fs::read_to_string(cluster.report(name)).expect("a run report");
        let report: RunReport = serde_json::from_str(&text).expect("a run report");
        for share in &report.ledger.analyzers {
            let at = analyzers.iter().position(|id| *id == share.analyzer);
            let sum = &mut sums[at.expect("one of ours")];
            sum.0 += share.target;
            sum.1 += share.error;
        }
    }
    sums
}

#[test]
fn cluster_shares_stay_exact_over_a_killed_analyzer_and_a_changed_weight() {
    let cluster = Cluster::new("cluster-shares");
    cluster.dns.says_local("replicas.test", &[2, 3, 4]);
    let replicas: Vec<Distributor> = [2, 3, 4].map(|last| cluster.replica(last)).into();
    let weights = [("a1", 0.4), ("a2", 0.3), ("a3", 0.2), ("a4", 0.1)];
    let start = |(id, weight): &(&str, f64)| {
        let change = match *id {
            "a2" => "--weight-after 1s=0.6",
            _ => "",
        };
        let flags = format!("--weight {weight} --ack-every 100 {change}");
        cluster.client("analyzer", id, &flags)
    };
    let mut analyzers: Vec<Client> = weights.iter().map(start).collect();
    for replica in &replicas {
        replica.wait_lanes(4); // on each of its two shards
    }
    let flags = "--connections 12 --batch 16 --size 100 --count 1000000 --rate 80000 --duration 0";
    let emitter = cluster.client("emitter", "e1", flags);
    std::thread::sleep(Duration::from_secs(3));
    analyzers[3].signal("-KILL");
    for replica in &replicas {
        replica.wait_lanes(3);
    }
    analyzers[3] = start(&weights[3]);
    for replica in &replicas {
        replica.wait_lanes(4);
    }
    let (code, text) = emitter.wait();
    assert_eq!(code, Some(0), "{text}");
    let ended: Vec<Ended> = replicas.into_iter().map(Distributor::stop).collect();
    let received: Vec<u64> = ended.iter().map(|it| it.assert_clean().received).collect();
    assert_eq!(received.iter().sum::<u64>(), 1_000_000, "{received:?}");
    let least = received.iter().min().expect("three");
    assert!(*least > 300_000, "connections go round: {received:?}");
    for analyzer in &analyzers {
        analyzer.signal("-TERM");
    }
    for analyzer in analyzers {
        assert_eq!(analyzer.wait().0, Some(0));
    }
    let ids = weights.map(|(id, _)| id);
    let sums = shares(&cluster, &["d2", "d3", "d4"], &ids);
    for (id, (target, error)) in ids.iter().zip(&sums) {
        println!("{id}: due {target:.2}, off by {error:.2}");
        assert!(
            error.abs() <= 3.0 * 2.0 * BOUND,
            "{id}: {error} of {target}"
        );
    }
    let files = ["d2", "d3", "d4", "e1", "a1", "a2", "a3", "a4"].map(|name| cluster.report(name));
    let mut args = vec!["audit"];
    args.extend(files.iter().map(String::as_str));
    let audited = run(&args);
    assert!(
        audited.status.success(),
        "{}",
        String::from_utf8_lossy(&audited.stdout)
    );
}

/// What `/health/ready` says.
fn ready(distributor: &Distributor) -> (u16, String) {
    let mut client = HttpClient::connect(distributor.http.expect("it listens"));
    client.send(b"GET /health/ready HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
    let answer = client.answer();
    (answer.status, answer.body)
}

#[test]
fn a_replica_that_appears_is_linked_and_one_that_leaves_is_not_hung_up() {
    let cluster = Cluster::new("cluster-members");
    cluster.dns.says_local("replicas.test", &[2, 3]);
    let (two, three) = (cluster.replica(2), cluster.replica(3));
    let analyzers = ["a1", "a2"].map(|id| cluster.client("analyzer", id, "--weight 1"));
    two.wait_lanes(2);
    three.wait_lanes(2);
    let four = replica(4, cluster.ports, "--http 127.0.0.4:0");
    let ready = || ready(&four);
    let (status, text) = ready();
    assert_eq!(status, 503, "nobody has linked to it: {text}");
    let (appeared, late) = (Instant::now(), Late::start());
    cluster.dns.says_local("replicas.test", &[2, 3, 4]);
    // The other way round it would be ready before anybody takes its messages.
    until("it is ready", || ready().0 == 200);
    let (took, late) = (appeared.elapsed(), late.stop());
    println!("ready {took:?} after its address appeared, {late:?} of it this machine stood still");
    assert!(took < FOUND_WITHIN + late, "{took:?}");
    let links = four.rosters();
    assert!(
        links.iter().all(|(epoch, _)| *epoch > 0),
        "ready without links: {links:?}"
    );
    four.wait_lanes(2);

    // One leaves, while messages are on their way to it.
    let emitter = cluster.client(
        "emitter",
        "e1",
        "--connections 6 --rate 3000 --count 45000 --size 100 --duration 0",
    );
    cluster.dns.says_local("replicas.test", &[3, 4]);
    let left = "127.0.0.2:";
    for analyzer in &analyzers {
        until("its address has left", || {
            let lines = analyzer.lines("is not found any more");
            lines.iter().any(|line| line.contains(left))
        });
    }
    stays("links of one that left", Duration::from_secs(1), || {
        two.lines(" roster ")
            .last()
            .is_some_and(|line| line.contains("lanes=2"))
    });
    let ended = two.stop();
    ended.assert_clean();
    assert_eq!((ended.rerouted(), ended.duplicates_possible()), (0, 0));
    for analyzer in &analyzers {
        until("it is forgotten", || !analyzer.lines("has gone").is_empty());
    }
    let (code, text) = emitter.wait();
    assert_eq!(code, Some(0), "{text}");
    for replica in [three, four] {
        replica.stop().assert_clean();
    }
}

#[test]
fn a_replica_that_is_killed_and_comes_back_is_linked_again() {
    let cluster = Cluster::new("cluster-killed");
    cluster.dns.says_local("replicas.test", &[2, 3]);
    let (two, three) = (cluster.replica(2), cluster.replica(3));
    let analyzers = ["a1", "a2"].map(|id| cluster.client("analyzer", id, "--weight 1"));
    two.wait_lanes(2);
    three.wait_lanes(2);
    let emitter = cluster.client(
        "emitter",
        "e1",
        "--connections 6 --rate 3000 --count 30000 --size 100 --duration 0",
    );
    std::thread::sleep(Duration::from_secs(2));
    three.signal("-KILL");
    drop(three);
    for analyzer in &analyzers {
        let lost = || {
            !analyzer
                .lines("127.0.0.3")
                .iter()
                .all(|line| line.contains("INFO"))
        };
        until("the analyzer says so", lost);
    }
    let three = cluster.replica(3);
    three.wait_lanes(2);
    let (code, text) = emitter.wait();
    assert_eq!(code, Some(0), "{text}");
    // One that connected again to a listener that was closing with its process broke once more.
    let reconnects = text.split(" reconnects").next().unwrap_or_default();
    let reconnects = reconnects.rsplit(' ').next().unwrap_or_default();
    let reconnects: u64 = reconnects.parse().expect("a number");
    assert!((3..=6).contains(&reconnects), "{text}");
    for replica in [two, three] {
        let ended = replica.stop();
        ended.assert_clean();
        assert_eq!(ended.rerouted(), 0);
    }
}

#[test]
fn answers_that_say_nothing_change_nothing() {
    let cluster = Cluster::new("cluster-answers");
    cluster.dns.says_local("replicas.test", &[2, 3]);
    let replicas = [cluster.replica(2), cluster.replica(3)];
    let analyzer = cluster.client("analyzer", "a1", "--weight 1");
    replicas.iter().for_each(|it| it.wait_lanes(1));
    for says in [Says::ServFail, Says::Empty, Says::NoName] {
        cluster.dns.says("replicas.test", says.clone());
        let (asked, _) = cluster.dns.asked();
        // A and AAAA, twice.
        until("it has asked twice", || cluster.dns.asked().0 >= asked + 4);
        assert!(
            analyzer.lines("is not found any more").is_empty(),
            "{says:?}"
        );
    }
    cluster.dns.says_local("replicas.test", &[2, 3]);
    cluster.dns.cuts(true);
    let (_, over_tcp) = cluster.dns.asked();
    until("it has asked over TCP", || {
        cluster.dns.asked().1 > over_tcp + 1
    });
    let said = analyzer.lines("what was found before stays (2)");
    assert_eq!(said.len(), 1, "once: {said:?}");
    for replica in replicas {
        assert!(replica.lines("link down").is_empty());
        let ended = replica.stop();
        ended.assert_clean();
    }
}

#[test]
fn two_addresses_of_one_distributor_are_one() {
    let dns = Dns::start();
    let distributor = Distributor::start("--shards 2 --analyzers 0.0.0.0:0");
    dns.says_local("twice.test", &[2, 3]);
    let port = distributor.analyzers.port();
    let line = format!(
        "analyzer --addr dns+twice.test:{port} --nameserver {} --id a1",
        dns.addr
    );
    let analyzer = Client::start(&[], &line);
    distributor.wait_lanes(1);
    until("it says so", || {
        !analyzer.lines("it is the same distributor as").is_empty()
    });
    stays("one link to each shard", Duration::from_secs(2), || {
        analyzer.lines("connected to").len() == 2
    });
    analyzer.signal("-TERM");
    assert_eq!(analyzer.wait().0, Some(0));
    distributor.stop().assert_clean();
}

/// Names, weights and priorities of a service, for emitters; a file that changes, for an analyzer.
#[test]
fn services_and_files_are_followed() {
    let cluster = Cluster::new("cluster-services");
    let (emitters, analyzers) = cluster.ports;
    let replicas = [2, 3, 4].map(|last| cluster.replica(last));
    for (name, last) in [("a.test", 2), ("b.test", 3), ("c.test", 4)] {
        cluster.dns.says_local(name, &[last]);
    }
    let at = |priority, weight, name: &str| (priority, weight, emitters, name.to_owned());
    let records = vec![at(1, 3, "a.test"), at(1, 1, "b.test"), at(2, 1, "c.test")];
    cluster
        .dns
        .says("_weir-frames._tcp.test", Says::Srv(records));

    let list = cluster.scratch.path("replicas");
    let line = |last: u8| format!("127.0.0.{last}:{analyzers}\n");
    std::fs::write(&list, format!("# two\n{}{}", line(2), line(3))).expect("written");
    let analyzer = Client::start(
        &[],
        &format!("analyzer --addr file+{} --id a1 --weight 1", list.display()),
    );
    replicas[0].wait_lanes(1);
    replicas[1].wait_lanes(1);
    std::fs::write(&list, "nonsense\n").expect("written");
    until("it says so", || {
        !analyzer.lines("line 1: \"nonsense\"").is_empty()
    });
    std::fs::write(&list, [2, 3, 4].map(line).concat()).expect("written");
    replicas[2].wait_lanes(1);

    let emitter = Client::start(
        &[],
        &format!(
            "emitter --addr dnssrv+_weir-frames._tcp.test --nameserver {} --id e1 --connections 8 --rate 800 \
             --count 4000 --duration 0 --size 100",
            cluster.dns.addr
        ),
    );
    let (code, text) = emitter.wait();
    assert_eq!(code, Some(0), "{text}");
    let received = replicas.map(|it| it.stop().assert_clean().received);
    assert_eq!(
        received,
        [3_000, 1_000, 0],
        "weights 3 and 1, the third in reserve"
    );
}

/// Whoever asks for no shard learns who is there; nothing is wrong with that, and nobody loses a place.
#[test]
fn a_distributor_says_who_it_is_to_who_wants_no_link() {
    use std::io::{Read, Write};
    use weir::protocol::native::{Hello, Welcome, SHARD_NONE};

    let distributor = Distributor::start("--shards 3");
    let ask = || {
        let mut bytes = Vec::new();
        let hello = Hello {
            shard: Some(SHARD_NONE),
            weight: 1.0,
            window_bytes: 0,
            window_messages: 0,
            id: "a1",
            token: b"",
            instance: Some(1),
            forms: false,
        };
        hello.encode(&mut bytes).expect("encodes");
        let mut socket = std::net::TcpStream::connect(distributor.analyzers).expect("connects");
        socket.write_all(&bytes).expect("sent");
        let mut answer = Vec::new();
        socket
            .read_to_end(&mut answer)
            .expect("closed by the other side");
        let (welcome, _) = Welcome::decode(&answer).expect("good").expect("whole");
        assert!(welcome.refused.is_some());
        (welcome.instance, welcome.shard_count)
    };
    let (instance, shards) = ask();
    assert_eq!((shards, ask()), (3, (instance, 3)), "the same each time");
    assert!(
        distributor.lines("WARN").is_empty(),
        "{:?}",
        distributor.lines("WARN")
    );
    let ended = distributor.stop();
    ended.assert_clean();
    assert_eq!(ended.count("handshake_invalid"), 0);
}
