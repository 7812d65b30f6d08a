//! Analyzers die or stop, as real processes with real signals. What a dead one had ACKed is in its
//! record file, which it writes before each ACK; everything else must be in the others'.
//!
//! `WEIR_FULL=1 cargo test --release --test failures -- --nocapture --test-threads 1` runs the full
//! size, 2,000,000 messages over 64 connections, and prints its figures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weir_testkit::process::number;
use weir_testkit::{until, Distributor, Ended, Program};

/// Bytes of a record: stream and number.
const RECORD_BYTES: u64 = 16;

#[derive(Clone, Copy)]
struct Size {
    messages: u64,
    connections: u64,
    rate: u64,
    payload: u64,
}

fn size() -> Size {
    if std::env::var_os("WEIR_FULL").is_some() {
        Size {
            messages: 2_000_000,
            connections: 64,
            rate: 200_000,
            payload: 100,
        }
    } else {
        Size {
            messages: 200_000,
            connections: 8,
            rate: 100_000,
            payload: 100,
        }
    }
}

/// An analyzer process and its record file.
struct Recorder {
    program: Program,
    record: PathBuf,
}

impl Recorder {
    fn start(distributor: &Distributor, dir: &Dir, id: &str, flags: &str) -> Recorder {
        let record = dir.0.join(id);
        let program = Program::start(&format!(
            "analyzer --addr {} --id {id} --record {} --reconnect=false {flags}",
            distributor.analyzers,
            record.display()
        ));
        Recorder { program, record }
    }

    fn recorded(&self) -> u64 {
        std::fs::metadata(&self.record).map_or(0, |file| file.len()) / RECORD_BYTES
    }

    /// Stream and number of every message, whole records only: the last may have been cut.
    fn messages(&self) -> Vec<(u64, u64)> {
        let bytes = std::fs::read(&self.record).expect("a record file");
        let word = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
        let records = bytes.chunks_exact(RECORD_BYTES as usize);
        records.map(|r| (word(&r[..8]), word(&r[8..]))).collect()
    }
}

/// A directory of this test; gone when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = format!("{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(dir);
        std::fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn emitter(distributor: &Distributor, size: Size) -> Program {
    let Size {
        messages,
        connections,
        rate,
        payload,
    } = size;
    Program::start(&format!(
        "emitter --addr {} --id e --count {messages} --connections {connections} --rate {rate} --size {payload} --batch 16",
        distributor.emitters
    ))
}

/// Every message of every stream is in some record file; how many are there more than once.
fn assert_all_recorded(recorders: &[Recorder], size: Size) -> u64 {
    let mut all: Vec<(u64, u64)> = recorders.iter().flat_map(Recorder::messages).collect();
    let records = all.len() as u64;
    all.sort_unstable();
    all.dedup();
    let mut last: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (stream, number) in &all {
        let (count, largest) = last.entry(*stream).or_default();
        *count += 1;
        *largest = *number.max(largest);
    }
    for (stream, (count, largest)) in &last {
        let missing = largest - count;
        assert_eq!(missing, 0, "missing in stream {stream:x} of {largest}");
    }
    assert_eq!(last.len() as u64, size.connections, "streams");
    assert_eq!(all.len() as u64, size.messages, "the ends are missing");
    records - all.len() as u64
}

/// Waits until shards that have emitters can reach all analyzers.
fn until_up(distributor: &Distributor, links: usize, lanes: usize) {
    until("all links", || {
        distributor.lines("analyzer up").len() == links
    });
    distributor.wait_lanes(lanes);
}

fn print_reroutes(ended: &Ended) {
    for line in ended.stderr.lines().filter(|l| l.contains(" re-routed ")) {
        let ns = number(line, "last_written_mono_ns") - number(line, "detected_mono_ns");
        let messages = number(line, "messages");
        println!("  {messages} messages re-routed {} us after", ns / 1000);
    }
}

/// One of four analyzers is killed when half of the messages are recorded.
fn one_dies_half_way(name: &str, shards: usize, dialect: &str) {
    let size = size();
    let dir = Dir::new(name);
    let distributor = Distributor::start(&format!("--shards {shards} --arena 32MiB"));
    let flags = format!("--dialect {dialect} --weight 1 --ack-every 10");
    let mut recorders: Vec<Recorder> = ["a", "b", "c", "d"]
        .iter()
        .map(|id| Recorder::start(&distributor, &dir, id, &flags))
        .collect();
    let links_each = if dialect == "native" { shards } else { 1 };
    until_up(&distributor, 4 * links_each, 4);
    let began = Instant::now();
    let mut emitter = emitter(&distributor, size);
    until("half of the messages", || {
        recorders.iter().map(Recorder::recorded).sum::<u64>() >= size.messages / 2
    });
    recorders[0].program.signal("-KILL");
    assert!(emitter.is_running(), "killed too late");
    until("its death", || !recorders[0].program.is_running());
    let of_dead = recorders[0].recorded();
    assert!(of_dead > size.messages / 16, "{of_dead} before its death");

    let said = emitter.wait();
    // Draining waits for the last ACKs, and records come before ACKs.
    let ended = distributor.stop();
    let took = began.elapsed();
    let balance = ended.assert_clean();
    assert_eq!(balance.received, size.messages, "{said}");
    let downs = ended.stderr.matches("analyzer down").count();
    assert_eq!(downs, links_each, "only the dead one's links went down");
    let duplicates = assert_all_recorded(&recorders, size);
    let possible = ended.duplicates_possible();
    assert!(
        duplicates <= possible,
        "{duplicates} of {possible} possible"
    );
    println!(
        "{name}: {} messages in {took:.2?}, {} recorded by the dead one, {} re-routed, {duplicates} duplicates of {possible} possible, 0 missing",
        size.messages, of_dead, ended.rerouted()
    );
    print_reroutes(&ended);
    for recorder in recorders.drain(1..) {
        recorder.program.wait();
    }
}

#[test]
fn an_analyzer_dies_one_shard() {
    one_dies_half_way("dies-1-native", 1, "native");
}

#[test]
fn an_analyzer_dies_one_shard_compact() {
    one_dies_half_way("dies-1-compact", 1, "compact");
}

#[test]
fn an_analyzer_dies_four_shards_native() {
    one_dies_half_way("dies-4-native", 4, "native");
}

#[test]
fn an_analyzer_dies_four_shards_compact() {
    one_dies_half_way("dies-4-compact", 4, "compact");
}

/// One of four analyzers stops for three seconds: the others take at least nine tenths of what
/// they took before, and it goes on afterwards.
fn one_stops_for_a_while(name: &str, shards: usize, dialect: &str) {
    const STOPPED: Duration = Duration::from_secs(3);
    const BEFORE: Duration = Duration::from_millis(1500);
    let mut size = size();
    // Long enough for all three phases, at a rate that a busy machine keeps up with.
    size.rate = size.messages / 8;
    size.payload = 400;
    let dir = Dir::new(name);
    // A window that is full long before the three seconds are over.
    let flags = format!("--shards {shards} --arena 32MiB --window 2MiB");
    let distributor = Distributor::start(&flags);
    let flags = format!("--dialect {dialect} --weight 1 --ack-every 10");
    let recorders: Vec<Recorder> = ["a", "b", "c", "d"]
        .iter()
        .map(|id| Recorder::start(&distributor, &dir, id, &flags))
        .collect();
    let links_each = if dialect == "native" { shards } else { 1 };
    until_up(&distributor, 4 * links_each, 4);
    let mut emitter = emitter(&distributor, size);
    until("a start", || recorders[1].recorded() > 1_000);

    let others = || recorders[1..].iter().map(Recorder::recorded).sum::<u64>();
    let rate = |time: Duration| {
        let (began, before) = (Instant::now(), others());
        std::thread::sleep(time);
        (others() - before) as f64 / began.elapsed().as_secs_f64()
    };
    let rate_before = rate(BEFORE);
    recorders[0].program.signal("-STOP");
    let rate_stopped = rate(STOPPED);
    let of_stopped = recorders[0].recorded();
    recorders[0].program.signal("-CONT");
    assert!(emitter.is_running(), "it stopped too late");
    assert!(
        rate_stopped >= 0.9 * rate_before,
        "{rate_stopped:.0} messages/s, before {rate_before:.0}"
    );
    emitter.wait();
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, size.messages);
    assert!(!ended.stderr.contains("analyzer down"), "{}", ended.stderr);
    assert_eq!(assert_all_recorded(&recorders, size), 0, "duplicates");
    assert!(recorders[0].recorded() > of_stopped, "it went on");
    println!(
        "{name}: the others took {rate_before:.0} messages/s, {rate_stopped:.0} while one was stopped, 0 missing, 0 duplicates"
    );
    for recorder in recorders {
        recorder.program.wait();
    }
}

#[test]
fn an_analyzer_stops_for_three_seconds_one_shard() {
    one_stops_for_a_while("stops-1-compact", 1, "compact");
}

#[test]
fn an_analyzer_stops_for_three_seconds_four_shards() {
    one_stops_for_a_while("stops-4-native", 4, "native");
}

/// Nobody is left to take anything: intake stops, and what the dead had not ACKed waits for those who
/// come back.
fn all_die_at_once(name: &str, shards: usize, dialect: &str) {
    let size = Size {
        rate: 50_000,
        ..size()
    };
    let dir = Dir::new(name);
    let distributor = Distributor::start(&format!("--shards {shards} --arena 32MiB"));
    let flags = format!("--dialect {dialect} --weight 1 --ack-every 100");
    let start = |id: &&str| Recorder::start(&distributor, &dir, id, &flags);
    let mut recorders: Vec<Recorder> = ["a", "b", "c"].iter().map(start).collect();
    let links_each = if dialect == "native" { shards } else { 1 };
    until_up(&distributor, 3 * links_each, 3);
    let mut emitter = emitter(&distributor, size);
    until("a quarter of the messages", || {
        recorders.iter().map(Recorder::recorded).sum::<u64>() >= size.messages / 4
    });
    for recorder in &mut recorders {
        recorder.program.signal("-KILL");
        until("its death", || !recorder.program.is_running());
    }
    assert!(emitter.is_running(), "killed too late");
    until("the distributor to see it", || {
        distributor.lines("analyzer down").len() == 3 * links_each
    });
    recorders.extend(["d", "e", "f"].iter().map(start));
    emitter.wait();
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, size.messages);
    assert!(ended.rerouted() > 0, "nobody held anything: killed in vain");
    let duplicates = assert_all_recorded(&recorders, size);
    assert!(duplicates <= ended.duplicates_possible(), "{duplicates}");
    for recorder in recorders.drain(3..) {
        recorder.program.wait();
    }
}

#[test]
fn all_analyzers_die_one_shard_compact() {
    all_die_at_once("all-die-1-compact", 1, "compact");
}

#[test]
fn all_analyzers_die_two_shards_native() {
    all_die_at_once("all-die-2-native", 2, "native");
}
