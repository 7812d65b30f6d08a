//! One analyzer of each kind in one pool, emitters of four protocols at once: each analyzer gets its exact share, whoever
//! is killed. Judged by the analyzers' own records, and by the audit. `WEIR_MIXED_MESSAGES=1000000` is the long form.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use weir::ledger::journal::{Arrival, Journal};
use weir_testkit::http::HttpAnalyzer;
use weir_testkit::inputs::{marked, Client, Sender, Speaks as Sends};
use weir_testkit::process::{field, number, run};
use weir_testkit::receiver::Receiver;
use weir_testkit::{reports, until, Analyzer, Dialect, Distributor, Ended, Options, Scratch};

use super::server::{Habit, Server, Speaks};

/// What was ever read from connections, which have other names in audits.
const JOURNAL_DIALECT: u8 = 3;
/// With optimisation figures count: the distributor has core 0 to itself then, and all else is on core 1.
const IS_APART: bool = !cfg!(debug_assertions);
const SHARDS: usize = if IS_APART { 1 } else { 2 };
/// How long 99 of 100 re-routes take at most; without optimisation on a machine with other work, more.
const REROUTED_WITHIN: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 10 });
/// Messages of all senders together.
const PER_SECOND: u32 = if cfg!(debug_assertions) {
    8_000
} else {
    20_000
};

/// Does this, and starts threads and programs, away from the core of the distributor.
fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if !IS_APART {
        return work();
    }
    std::thread::scope(|scope| {
        let work = || {
            core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
            work()
        };
        scope.spawn(work).join().expect("no panic")
    })
}

/// An analyzer, and what it has on record of those of its name before it.
struct Member {
    id: &'static str,
    weight: u32,
    end: End,
    /// All that was read, and what was acked.
    before: (Vec<u64>, Vec<u64>),
    /// Servers that were killed: their last connections may still be on their way out.
    dead: Vec<Server>,
}

/// How it is connected to.
enum End {
    /// A link to each shard.
    Native(Vec<Analyzer>),
    Stream(Server, Speaks),
    Packets(HttpAnalyzer),
    Requests(Receiver),
    /// Killed.
    Gone,
}

/// All but the native one, which connects by itself. None: there is no Python.
fn members(scratch: &Scratch) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    let mut add = |id, weight, end| {
        members.push(Member::new(id, weight, end));
    };
    for (id, weight, speaks) in [
        ("forward", 8, Speaks::Forward),
        ("lumberjack", 7, Speaks::Lumberjack),
        ("relp", 3, Speaks::Relp),
        ("counted", 6, Speaks::Counted),
        ("lines", 2, Speaks::Syslog),
    ] {
        let server = Server::start(speaks, Habit::Acks);
        add(id, weight, End::Stream(server, speaks));
    }
    for (kind, weight) in [
        ("es", 5),
        ("otlp", 6),
        ("loki", 4),
        ("hec", 3),
        ("ndjson", 2),
        ("json", 1),
    ] {
        let receiver = Receiver::start(scratch, kind, &[])?;
        add(kind, weight, End::Requests(receiver));
    }
    let packets = HttpAnalyzer::start("packets", "objects");
    add("packets", 4, End::Packets(packets));
    Some(members)
}

impl Member {
    fn new(id: &'static str, weight: u32, end: End) -> Member {
        Member {
            id,
            weight,
            end,
            before: Default::default(),
            dead: Vec::new(),
        }
    }

    /// As `--analyzer` names it.
    fn flag(&self, scratch: &Scratch) -> String {
        let url = match &self.end {
            End::Stream(server, speaks) => {
                let weak = match speaks {
                    Speaks::Syslog | Speaks::Counted => "?weak_acks=allow&lag=64KiB",
                    _ => "",
                };
                format!("{}://{}{weak}", speaks.scheme(), server.address)
            }
            End::Requests(receiver) => receiver.url(scratch, ""),
            End::Packets(packets) => format!("http://{}", packets.address),
            End::Native(_) | End::Gone => panic!("{} connects by itself", self.id),
        };
        format!("--analyzer {}={}@{url}", self.id, self.weight)
    }

    /// Ends as a process that is killed does: with a reset of what it has not read, and nobody listens.
    fn kill(&mut self, analyzers: SocketAddr) -> Restart {
        match std::mem::replace(&mut self.end, End::Gone) {
            End::Native(links) => {
                for link in links {
                    let (read, acked) = link.reset();
                    self.before.0.extend(read);
                    self.before.1.extend(acked);
                }
                Box::new(move |_| native(analyzers))
            }
            End::Stream(mut server, speaks) => {
                server.kill();
                let address = server.address;
                self.dead.push(server);
                Box::new(move |_| End::Stream(Server::at(address, speaks, Habit::Acks), speaks))
            }
            End::Packets(mut packets) => {
                packets.kill();
                Box::new(move |_| {
                    packets.restart("objects");
                    End::Packets(packets)
                })
            }
            End::Requests(mut receiver) => {
                receiver.kill();
                Box::new(move |scratch| {
                    receiver.restart(scratch);
                    End::Requests(receiver)
                })
            }
            End::Gone => panic!("{} is dead", self.id),
        }
    }

    /// What it and those before it have read, as often as they have, and what they acked of it.
    fn record(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut read, mut acked) = self.before.clone();
        let (more_read, more_acked) = match &self.end {
            End::Native(links) => (
                links.iter().flat_map(Analyzer::ids).collect(),
                links.iter().flat_map(Analyzer::acked_ids).collect(),
            ),
            End::Stream(server, _) => (server.read(), server.acked()),
            End::Packets(packets) => both(packets.messages().iter().map(String::as_str)),
            End::Requests(receiver) => both(receiver.texts().iter().map(String::as_str)),
            End::Gone => Default::default(),
        };
        read.extend(more_read);
        acked.extend(more_acked);
        for server in &self.dead {
            read.extend(server.read());
            acked.extend(server.acked());
        }
        (read, acked)
    }
}

/// How one that was killed begins again.
type Restart = Box<dyn FnOnce(&Scratch) -> End + Send>;

/// These write down a message before they ack it, and nothing that they do not ack.
fn both<'a>(texts: impl Iterator<Item = &'a str>) -> (Vec<u64>, Vec<u64>) {
    let marks = texts.map(|text| marked::find(text.as_bytes()).expect("a mark"));
    let marks: Vec<u64> = marks.collect();
    (marks.clone(), marks)
}

struct Pool {
    scratch: Scratch,
    distributor: Distributor,
    members: Vec<Member>,
    senders: Vec<(&'static str, Sender)>,
    /// Messages of each sender; the numbers of the nth begin at n times that.
    each: u64,
}

fn native(address: SocketAddr) -> End {
    let options = Options::new(Dialect::Native, 9.0).id("native").marked();
    let link = |shard| Analyzer::connect(address, &options.clone().shard(shard));
    End::Native((0..SHARDS).map(link).collect())
}

impl Pool {
    /// So many messages at a rate at which no analyzer's window fills.
    fn start(name: &str, messages: u64) -> Option<Pool> {
        let scratch = Scratch::new(name);
        let mut members = beside(|| members(&scratch))?;
        let flags: Vec<String> = members.iter().map(|it| it.flag(&scratch)).collect();
        let cores = if IS_APART { "--cores 0" } else { "" };
        let distributor = Distributor::start(&format!(
            "--shards {SHARDS} {cores} --arena 128MiB --ack-presume 60s --health-interval 100ms --slow-start 0s --http 127.0.0.1:0 --report {} \
             --input syslog@127.0.0.1:0?name=syslog --input forward@127.0.0.1:0?name=forward --input lumberjack@127.0.0.1:0?name=lumberjack {}",
            scratch.path("d.json").display(),
            flags.join(" ")
        ));
        let native = beside(|| native(distributor.analyzers));
        members.push(Member::new("native", 9, native));
        distributor.wait_lanes(members.len());
        // In flight is more than what those without acks lag behind.
        let inputs = [
            ("frames", Client::frames()),
            ("syslog", Client::syslog(Sends::Counted)),
            ("forward", Client::fluentd().window(32)),
            ("lumberjack", Client::beats().unit(512).window(16)),
        ];
        let each = messages / inputs.len() as u64;
        let senders = (0..).zip(inputs).map(|(n, (input, client))| {
            let address = match input {
                "frames" => distributor.emitters,
                _ => distributor.input(input),
            };
            let every = Duration::from_secs(4 * client.unit as u64) / PER_SECOND;
            let ids = n * each..(n + 1) * each;
            (input, Sender::start(address, client.every(every), ids))
        });
        let senders = beside(|| senders.collect());
        Some(Pool {
            scratch,
            distributor,
            members,
            senders,
            each,
        })
    }

    /// Messages that were begun to be sent.
    fn made(&self) -> u64 {
        let made = (0..).zip(&self.senders);
        made.map(|(n, (_, sender))| sender.made() - n * self.each)
            .sum()
    }

    /// Kills a member, and begins it again when all shards have noticed.
    fn kill_and_restart(&mut self, at: usize) {
        let id = self.members[at].id;
        let names = [format!("={id} "), format!("\"{id}\"")];
        let is_about = |line: &&String| names.iter().any(|name| line.contains(name));
        let lines = |text: &str| self.distributor.lines(text).iter().filter(is_about).count();
        let (down, up) = (lines("analyzer down"), lines("analyzer up"));
        let restart = self.members[at].kill(self.distributor.analyzers);
        until(&format!("{id} is down"), || {
            lines("analyzer down") >= down + SHARDS
        });
        self.members[at].end = beside(|| restart(&self.scratch));
        until(&format!("{id} is up"), || {
            lines("analyzer up") >= up + SHARDS
        });
    }

    /// All is sent and acked; the distributor has ended, with balanced books and nothing left.
    fn finish(self) -> Outcome {
        let sent = self.each * self.senders.len() as u64;
        for (input, sender) in self.senders {
            let record = sender.join();
            assert_eq!(record.fault, None, "{input}");
            assert_eq!(record.reconnects, 0, "{input}");
        }
        let ended = self.distributor.stop();
        let balance = ended.assert_clean();
        assert_eq!(balance.received, sent);
        Outcome {
            scratch: self.scratch,
            members: self.members,
            ended,
            each: self.each,
            sent,
        }
    }
}

struct Outcome {
    scratch: Scratch,
    members: Vec<Member>,
    ended: Ended,
    each: u64,
    sent: u64,
}

impl Outcome {
    /// Nothing is missing at those who acked it; how often messages were read more than once.
    fn copies(&self) -> u64 {
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        let mut acked = Vec::new();
        for member in &self.members {
            let (read, acked_by) = member.record();
            for id in read {
                *times.entry(id).or_default() += 1;
            }
            acked.extend(acked_by);
        }
        acked.sort_unstable();
        acked.dedup();
        let is_missing = |id: &u64| acked.binary_search(id).is_err();
        let missing: Vec<u64> = (0..self.sent).filter(is_missing).collect();
        assert!(
            missing.is_empty(),
            "{} at nobody: {missing:?}",
            missing.len()
        );
        assert_eq!(times.len() as u64, self.sent, "strangers");
        times.values().map(|times| times - 1).sum()
    }

    /// Each analyzer's own count is its weight's part of all messages, and not farther from it than the bound.
    fn assert_weights(&self) {
        let all: u32 = self.members.iter().map(|member| member.weight).sum();
        let text = fs::read_to_string(self.scratch.path("d.json")).expect("a run report");
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let shards = report["ledger"]["shards"].as_array().expect("shards");
        let bound = |shard: &serde_json::Value| shard["share_bound"].as_f64().expect("a number");
        // All were there before the first message, and stayed: docs/SHARES.md, Theorem 2.
        let bound: f64 = shards.iter().map(bound).sum();
        for member in &self.members {
            let due = self.sent as f64 * f64::from(member.weight) / f64::from(all);
            let own = member.record().0.len() as f64;
            let (id, weight, off) = (member.id, member.weight, own - due);
            eprintln!("{id:<10} weight {weight}: {own} by its own count, off by {off:+.2}, bound {bound:.2}");
            assert!(off.abs() <= bound, "{id} has {own}, {due} were due");
        }
    }

    /// Who died, how many of its messages others got, and how long after its death was noticed the last was written.
    fn reroutes(&self) -> Vec<(String, u64, Duration)> {
        let lines = self.ended.stderr.lines();
        let lines = lines.filter(|line| line.contains(" re-routed "));
        let read = |line: &str| {
            let ns = number(line, "last_written_mono_ns") - number(line, "detected_mono_ns");
            let analyzer = field(line, "analyzer").to_owned();
            (analyzer, number(line, "messages"), Duration::from_nanos(ns))
        };
        lines.map(read).collect()
    }

    /// The audit joins what the analyzers have, message by message, with what was sent and the distributor's books.
    fn audit(&self) {
        let path = |name: &str| self.scratch.path(name).display().to_string();
        let mut files = vec![path("d.json"), path("journals")];
        for n in 0..self.sent / self.each {
            let id = format!("s{n}");
            let text = reports::emitter(&id, self.each, true);
            fs::write(path(&id), text).expect("own file");
            files.push(path(&id));
        }
        for member in &self.members {
            let folder = self.scratch.path("journals");
            let journal = Journal::open(&folder, member.id, JOURNAL_DIALECT);
            let mut journal = journal.expect("own file");
            for id in member.record().0 {
                let stream = format!("s{}/0", id / self.each);
                journal.note(stream.as_bytes(), id % self.each + 1, Arrival::Plain);
            }
            journal.flush().expect("own file");
        }
        let mut args = vec!["audit"];
        args.extend(files.iter().map(String::as_str));
        let output = run(&args);
        let verdict = String::from_utf8_lossy(&output.stdout);
        eprintln!("{verdict}");
        let faults = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{verdict}{faults}");
        let line = format!("received     {0} = acked {0} ", self.sent);
        assert!(verdict.contains(&line), "{verdict}");
    }
}

fn messages(default: u64) -> u64 {
    let messages = std::env::var("WEIR_MIXED_MESSAGES");
    messages.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn each_kind_gets_its_exact_share() {
    let Some(pool) = Pool::start("outlets-mixed", messages(24_000)) else {
        return;
    };
    let outcome = pool.finish();
    assert_eq!(outcome.copies(), 0, "nothing twice");
    assert_eq!(outcome.ended.rerouted(), 0);
    outcome.assert_weights();
    outcome.audit();
}

#[test]
fn one_of_each_kind_is_killed_and_nothing_is_missing() {
    let messages = messages(40_000);
    let Some(mut pool) = Pool::start("outlets-mixed-kills", messages) else {
        return;
    };
    let kinds = pool.members.len();
    for at in 0..kinds {
        let due = messages * (at as u64 + 1) / (kinds as u64 + 2);
        while pool.made() < due {
            std::thread::sleep(Duration::from_millis(2));
        }
        pool.kill_and_restart(at);
    }
    let outcome = pool.finish();
    let copies = outcome.copies();
    let possible = outcome.ended.duplicates_possible();
    let mut reroutes = outcome.reroutes();
    for (analyzer, messages, took) in &reroutes {
        eprintln!("{analyzer:<10} {messages} messages re-routed within {took:?}");
    }
    reroutes.sort_by_key(|(_, _, took)| *took);
    let slow = reroutes[(reroutes.len() * 99).div_ceil(100) - 1].2;
    eprintln!(
        "{copies} of {possible} possible duplicates; p99 of {} re-routes {slow:?}",
        reroutes.len()
    );
    assert!(copies <= possible);
    assert!(outcome.ended.rerouted() > 0);
    assert!(slow <= REROUTED_WITHIN, "{slow:?}");
    outcome.audit();
}
