//! Several distributors as one: what `weir top` and `weir ctl --all` say of real processes, some of which cannot be
//! reached or were told something else.

use std::io::{Read, Write};
use std::process::Output;

use serde_json::Value;
use weir_testkit::dns::{Dns, Says};
use weir_testkit::process::run;
use weir_testkit::{until, Distributor, Port, Program, Scratch};

const SHARDS: usize = 2;
const EACH: u64 = 3_000;

struct Fleet {
    scratch: Scratch,
    distributors: Vec<Option<Distributor>>,
    _analyzers: Vec<Program>,
}

impl Fleet {
    /// Three distributors of two shards; two analyzers that have links to each shard of each.
    fn start(name: &str) -> Fleet {
        let scratch = Scratch::new(name);
        let start = |at: usize| {
            let socket = scratch.path(&format!("{at}.sock"));
            let flags = format!("--shards {SHARDS} --admin {}", socket.display());
            Some(Distributor::start(&flags))
        };
        let distributors: Vec<Option<Distributor>> = (0..3).map(start).collect();
        let addrs: Vec<String> = distributors
            .iter()
            .flatten()
            .map(|distributor| distributor.analyzers.to_string())
            .collect();
        let analyzer = |id: &str, weight: f64| {
            let addrs = addrs.join(",");
            Program::start(&format!(
                "analyzer --addr {addrs} --id {id} --weight {weight}"
            ))
        };
        let analyzers = vec![analyzer("a1", 0.4), analyzer("a2", 0.6)];
        for distributor in distributors.iter().flatten() {
            distributor.wait_lanes(2);
        }
        Fleet {
            scratch,
            distributors,
            _analyzers: analyzers,
        }
    }

    fn socket(&self, at: usize) -> String {
        self.scratch
            .path(&format!("{at}.sock"))
            .display()
            .to_string()
    }

    /// All three, as `--admin` takes them.
    fn admin(&self) -> String {
        let sockets: Vec<String> = (0..3).map(|at| self.socket(at)).collect();
        sockets.join(",")
    }

    fn run(&self, words: &[&str]) -> Said {
        let admin = self.admin();
        Said(run(&[words, &["--admin", &admin]].concat()))
    }

    fn json(&self) -> Value {
        let said = self.run(&["ctl", "--all", "--json", "status"]);
        serde_json::from_str(&said.stdout()).expect("JSON")
    }

    /// Messages through each of them.
    fn send(&self) {
        for distributor in self.distributors.iter().flatten() {
            let addr = distributor.emitters;
            let emitter = Program::start(&format!(
                "emitter --addr {addr} --rate 0 --count {EACH} --connections 4 --size 64"
            ));
            emitter.wait();
        }
        until("all ACKed", || {
            let totals = self.json()["totals"].clone();
            totals["acked"] == 3 * EACH
        });
    }

    /// A distributor that is gone without a word; its socket's file stays.
    fn kill(&mut self, at: usize) {
        let killed = self.distributors[at].take().expect("it runs");
        killed.signal("-KILL");
        drop(killed);
    }
}

struct Said(Output);

impl Said {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    #[track_caller]
    fn assert(&self, code: i32, stdout: &[&str], stderr: &[&str]) {
        let (out, err) = (self.stdout(), self.stderr());
        assert_eq!(self.code(), Some(code), "{out}{err}");
        for part in stdout {
            assert!(out.contains(part), "no {part:?} in\n{out}");
        }
        for part in stderr {
            assert!(err.contains(part), "no {part:?} in\n{err}");
        }
    }
}

fn row<'a>(fleet: &'a Value, id: &str) -> &'a Value {
    let rows = fleet["analyzers"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["id"] == id);
    row.unwrap_or_else(|| panic!("no {id} in {fleet}"))
}

#[test]
fn one_that_is_not_reached_and_one_with_other_weights_are_said_and_orders_name_who_missed_them() {
    let mut fleet = Fleet::start("fleet-must-show");
    fleet.send();
    let view = fleet.json();
    let (mut assigned, mut due) = (0, 0.0);
    for (id, share) in [("a1", 0.4), ("a2", 0.6)] {
        let row = row(&view, id);
        assert_eq!(row["lanes"], 3 * SHARDS, "{row}");
        assert_eq!(row["lanesOf"], 3 * SHARDS, "{row}");
        let error = row["shareError"].as_f64().expect("a number");
        let bound = row["shareBound"].as_f64().expect("a number");
        assert!(error.abs() <= bound, "{row}");
        let due_share = row["dueShare"].as_f64().expect("a number");
        assert!((due_share - share).abs() < 1e-9, "{row}");
        assigned += row["assigned"].as_u64().expect("a number");
        due += row["assigned"].as_f64().expect("a number") - error;
    }
    assert_eq!(assigned, 3 * EACH);
    assert!((due - assigned as f64).abs() < 1e-6, "{due}");
    assert_eq!(view["findings"], Value::Array(Vec::new()), "{view}");
    let same = fleet.run(&["ctl", "--all", "status"]);
    same.assert(0, &["3 of 3 distributors  6 shards"], &[]);

    // One has another weight, and one is gone.
    let other = fleet.socket(2);
    Said(run(&["ctl", "--admin", &other, "weight", "a1", "0.9"])).assert(0, &["0.9"], &[]);
    fleet.kill(1);
    let gone = fleet.socket(1);
    let differ = format!(
        "weights differ: a1 is 0.4 on {}; 0.9 on {other}",
        fleet.socket(0)
    );
    let missing = format!("{gone} not reached: ");
    let all_said = [
        "2 of 3 distributors  4 shards",
        "0.4-0.9",
        &differ,
        &missing,
        "Connection refused",
    ];
    until("the other weight is in force", || {
        fleet.json()["analyzers"][0]["weights"].is_array()
    });
    let named = format!("1 of 3 distributors did not take it: {gone}");
    let status = fleet.run(&["ctl", "--all", "status"]);
    status.assert(1, &all_said, &[&named]);
    let top = fleet.run(&["top", "--once"]);
    top.assert(1, &all_said, &[&format!("not reached: {gone}")]);

    // An order reaches those that are there, and says who missed it.
    let order = fleet.run(&["ctl", "--all", "weight", "a1", "0.5"]);
    order.assert(
        1,
        &[&format!("{other}:\n  ")],
        &[&named, "Connection refused"],
    );
    until("the weight that was ordered", || {
        row(&fleet.json(), "a1")["weight"] == 0.5
    });
    let found = fleet.json()["findings"].to_string();
    assert!(!found.contains("weights differ"), "{found}");
    let order = fleet.run(&["ctl", "--all", "--json", "drain", "a2"]);
    let answer: Value = serde_json::from_str(&order.stdout()).expect("JSON");
    assert_eq!(order.code(), Some(1));
    assert_eq!((&answer["asked"], &answer["taken"]), (&3.into(), &2.into()));
    assert_eq!(answer["replicas"][1]["taken"], false, "{answer}");
    // What one of them refuses is said with its reason.
    let refused = fleet.run(&["ctl", "--all", "drain", "nobody"]);
    refused.assert(1, &[], &["nobody", "(status 404)", "3 of 3 distributors"]);
}

#[test]
fn distributors_come_out_of_a_file_and_the_token_is_checked_by_each() {
    let scratch = Scratch::new("fleet-file");
    let token = scratch.write("token", "0123456789abcdef");
    let start = || {
        let (port, token) = (Port::hold(), token.display());
        let admin = port.address();
        let flags = format!("--shards 1 --admin {admin} --admin-token-file {token}");
        (Distributor::start(&flags), port)
    };
    let ((_first, one), (_second, two)) = (start(), start());
    let (one, two) = (one.number(), two.number());
    let list = scratch.write(
        "replicas",
        &format!("# both\n127.0.0.1:{one}\n127.0.0.1:{two}\n"),
    );
    let admin = format!("file+{}", list.display());
    let ask = |token: &str, words: &[&str]| {
        Said(run(
            &[words, &["--admin", &admin, "--token-file", token]].concat()
        ))
    };
    let token = token.display().to_string();
    let both = ask(&token, &["ctl", "--all", "log-level"]);
    both.assert(
        0,
        &[
            &format!("127.0.0.1:{one}:\n"),
            &format!("127.0.0.1:{two}:\n"),
        ],
        &[],
    );
    ask(&token, &["top", "--once"]).assert(0, &["2 of 2 distributors", "not ready: "], &[]);
    let wrong = scratch
        .write("wrong", "fedcba9876543210")
        .display()
        .to_string();
    let refused = ask(&wrong, &["ctl", "--all", "status"]);
    refused.assert(
        1,
        &["no distributor was reached"],
        &["(status 401)", "2 of 2"],
    );
    // The same distributor under two names is counted once.
    let twice = format!("127.0.0.1:{one},localhost:{one}");
    let once = run(&["top", "--once", "--admin", &twice, "--token-file", &token]);
    Said(once).assert(0, &["1 of 1 distributors", "are one distributor"], &[]);
    // A file that is not there is one that was not reached.
    let nowhere = scratch.path("nowhere").display().to_string();
    let none = run(&[
        "ctl",
        "--all",
        "status",
        "--admin",
        &format!("file+{nowhere}"),
    ]);
    Said(none).assert(1, &["not reached"], &[&nowhere]);
}

#[test]
fn a_name_stands_for_each_of_its_addresses_and_one_that_stands_for_nothing_is_named() {
    let scratch = Scratch::new("fleet-dns");
    let token = scratch
        .write("token", "0123456789abcdef")
        .display()
        .to_string();
    let held = Port::hold();
    let port = held.number();
    let start = |last: u8| {
        let admin = format!("127.0.0.{last}:{port}");
        Distributor::start(&format!(
            "--shards 1 --admin {admin} --admin-token-file {token}"
        ))
    };
    let _distributors = [start(2), start(3)];
    let dns = Dns::start();
    // The third is a replica that is in DNS and does not run.
    dns.says_local("weir-replicas.test", &[2, 3, 4]);
    dns.says("empty.test", Says::Empty);
    let server = dns.addr.to_string();
    let ask = |admin: &str, words: &[&str]| {
        let reach = [
            "--admin",
            admin,
            "--token-file",
            &token,
            "--nameserver",
            &server,
        ];
        Said(run(&[words, &reach].concat()))
    };
    let name = format!("dns+weir-replicas.test:{port}");
    let gone = format!("127.0.0.4:{port}");
    let named = format!("1 of 3 distributors did not take it: {gone}");
    let level = ask(&name, &["ctl", "--all", "log-level", "debug"]);
    let both = [2, 3].map(|last| format!("127.0.0.{last}:{port}:\n"));
    level.assert(1, &[&both[0], &both[1]], &[&named, "Connection refused"]);
    let top = ask(&name, &["top", "--once"]);
    top.assert(
        1,
        &["2 of 3 distributors", &format!("! {gone} not reached: ")],
        &[&gone],
    );
    // A name beside it that stands for nothing.
    let two = format!("{name},dns+empty.test:{port}");
    let status = ask(&two, &["ctl", "--all", "status"]);
    let empty = format!("dns+empty.test:{port}");
    status.assert(
        1,
        &["2 of 4 distributors", &format!("! {empty} not reached: ")],
        &["2 of 4 distributors did not take it", &empty],
    );
    assert!(!status.stderr().contains("WARN"), "{}", status.stderr());
}

#[test]
fn what_is_for_one_distributor_asks_for_one() {
    for words in [&["ctl", "status"][..], &["tap"]] {
        let said = Said(run(&[words, &["--admin", "/x.sock,/y.sock"]].concat()));
        said.assert(2, &[], &["more than one distributor", "allowed: "]);
        let said = Said(run(
            &[words, &["--admin", "dns+weir-replicas:3000"]].concat()
        ));
        said.assert(2, &[], &["more than one distributor"]);
    }
    // clap would ask the last one alone.
    let around = [
        "ctl", "--admin", "/x.sock", "--all", "status", "--admin", "/y.sock",
    ];
    Said(run(&around)).assert(2, &[], &["before and behind the verb", "allowed: "]);
    for (admin, why) in [
        ("dns+weir", "a host and a port"),
        ("dnssrv+weir:3000", "has its ports itself"),
        ("ftp://weir", "dns+HOST:PORT"),
        ("/x.sock,", "path of a Unix socket"),
    ] {
        let said = Said(run(&["ctl", "--all", "status", "--admin", admin]));
        said.assert(2, &[], &["--admin", why]);
    }
}

#[test]
fn json_of_somebody_else_is_no_distributors_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.expect("accepted");
            // The request, whole: closing on unread bytes would reset the answer away.
            let _ = socket.read(&mut [0; 4096]);
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"hello\":\"world\"}";
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    let admin = format!("--admin=http://{at}");
    for words in [
        &["ctl", "weight", "a1", "0.5"][..],
        &["ctl", "--all", "weight", "a1", "0.5"],
        &["ctl", "--all", "status"],
    ] {
        let said = Said(run(&[words, &[&admin]].concat()));
        said.assert(1, &[], &["not that of a distributor"]);
    }
}
