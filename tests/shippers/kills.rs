//! Sender, analyzer or distributor is killed (SIGKILL) between an element and its ack, again and again. Judged from what
//! the sender knows: all that was acked to it is in the record that an analyzer writes before it ACKs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::site::flags;
use weir_testkit::{until, Distributor, Program, Random, Scratch};

/// Kills, of each in turn; `WEIR_SHIPPER_KILLS` says another number.
const KILLS: usize = 10;
const ANALYZERS: usize = 2;
/// Far more than are sent until the last kill.
const END: usize = 900_000;

/// `examples/analyzer.py`, which takes its time: what was acked too early is still on its way when somebody is killed.
const SLOW_ANALYZER: &str = "
import sys, time
sys.path.insert(0, sys.argv[1])
import analyzer
process = analyzer.process
analyzer.process = lambda severity, payload: (time.sleep(0.002), process(severity, payload))
analyzer.main(*sys.argv[2:])
";

/// A client with a record of what was acked to it.
pub struct Peer<'a> {
    /// A new one.
    pub sender: &'a dyn Fn() -> Command,
    pub script: String,
    /// Messages in flight.
    pub batch: usize,
}

struct Stage<'a> {
    scratch: Scratch,
    peer: &'a Peer<'a>,
    distributor: Option<Distributor>,
    flags: String,
    analyzers: Vec<Program>,
    sender: Option<Program>,
    started: usize,
}

impl Stage<'_> {
    fn file(&mut self, kind: &str) -> PathBuf {
        self.started += 1;
        self.scratch.path(&format!("{kind}-{}", self.started))
    }

    fn start_analyzer(&mut self) {
        let file = self.file("analyzer");
        let mut command = Command::new("python3");
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        let address = self.distributor.as_ref().expect("it runs").analyzers;
        let id = format!("a{}", self.started);
        // Unbuffered: a message is in the file before its ACK is sent.
        command.args(["-u", "-c", SLOW_ANALYZER, examples]);
        command.args([&address.to_string(), &id, "0.5"]);
        self.analyzers.push(program(command, &file));
    }

    fn start_distributor(&mut self) {
        let distributor = Distributor::start(&self.flags);
        self.distributor = Some(distributor);
        for _ in 0..ANALYZERS {
            self.start_analyzer();
        }
        self.lanes();
    }

    fn lanes(&self) {
        let distributor = self.distributor.as_ref().expect("it runs");
        distributor.wait_lanes(self.analyzers.len());
    }

    /// Numbers from `first` on.
    fn start_sender(&mut self, port: u16, first: usize, end: usize) {
        let record = self.file("sender");
        let mut command = (self.peer.sender)();
        command.args([
            &self.peer.script,
            &port.to_string(),
            &record.display().to_string(),
        ]);
        command.args([first, end, self.peer.batch].map(|number| number.to_string()));
        self.sender = Some(program(command, &self.file("errors")));
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for number in 0..=self.started {
                let errors = fs::read_to_string(self.scratch.path(&format!("errors-{number}")));
                eprintln!("sender {number}: {}", errors.unwrap_or_default());
            }
        }
    }
}

/// A program whose output is a file. Its errors are those that a test expects.
fn program(mut command: Command, output: &Path) -> Program {
    let name = output.display().to_string();
    let output = File::create(output).expect("a file");
    command.stderr(output.try_clone().expect("a file"));
    Program::start_into(command, output, &name)
}

/// Numbers of messages in the files of a kind, and how often each is there.
fn numbers(folder: &Path, kind: &str) -> BTreeMap<u32, u32> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(kind))
        {
            continue;
        }
        let text = fs::read_to_string(path).expect("text");
        for line in text.lines() {
            let number = match line.split_once("message ") {
                Some((_, rest)) => rest.get(..6),
                None if kind == "sender" => Some(line),
                None => None,
            };
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                *all.entry(number).or_default() += 1;
            }
        }
    }
    all
}

/// Kills them in turn, and compares the records.
pub fn judge(protocol: &str, peer: &Peer) {
    let kills = std::env::var("WEIR_SHIPPER_KILLS");
    let kills = kills.map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let mut stage = Stage {
        scratch: Scratch::new(&format!("kills-{protocol}")),
        peer,
        distributor: None,
        flags: flags(protocol, "127.0.0.1:0"),
        analyzers: Vec::new(),
        sender: None,
        started: 0,
    };
    stage.start_distributor();
    let distributor = stage.distributor.as_ref().expect("it runs");
    let input = distributor.input("shippers");
    let analyzers = distributor.analyzers;
    // The next ones are where the first one was.
    stage.flags = format!(
        "{} --analyzers {analyzers}",
        flags(protocol, &input.to_string())
    );
    stage.start_sender(input.port(), 0, END);

    let mut random = Random::new(7);
    for kill in 0..kills {
        // Those after the one before are on their way.
        let before = numbers(stage.scratch.folder(), "sender").len();
        until("acks after a kill", || {
            numbers(stage.scratch.folder(), "sender").len() > before
        });
        std::thread::sleep(Duration::from_millis(random.below(100)));
        println!("{protocol}: kill {kill}");
        match kill % 3 {
            0 => drop(stage.sender.take()),
            1 => {
                drop(stage.analyzers.remove(0));
                stage.start_analyzer();
            }
            _ => {
                drop(stage.distributor.take());
                stage.analyzers.clear();
                stage.start_distributor();
            }
        }
        if stage.sender.is_none() {
            // A shipper that starts again knows what was acked, and sends the rest.
            let acked = numbers(stage.scratch.folder(), "sender");
            let first = acked
                .keys()
                .next_back()
                .map_or(0, |last| *last as usize + 1);
            stage.start_sender(input.port(), first, END);
        }
    }
    drop(stage.sender.take());
    let acked = numbers(stage.scratch.folder(), "sender");
    let arrived = numbers(stage.scratch.folder(), "analyzer");
    let missing: BTreeSet<&u32> = acked
        .keys()
        .filter(|number| !arrived.contains_key(number))
        .collect();
    let again: u32 = arrived.values().map(|times| times - 1).sum();
    println!(
        "{protocol}: {kills} kills, {} acked, {} arrived, {again} duplicates, {} missing",
        acked.len(),
        arrived.len(),
        missing.len()
    );
    assert!(missing.is_empty(), "acked and nowhere: {missing:?}");
}
