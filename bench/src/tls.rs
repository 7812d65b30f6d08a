//! What TLS costs.
//!
//! ```text
//! firehose   records of 16 KiB: CPU per message over plain, and over HAProxy's with TLS on the same sides
//! trickle    a record for each message, many connections: CPU over plain, and the 99th percentile beyond plain's
//! storm      emitters with certificates connect at once: time until all are up, and what the others notice
//! memory     resident memory with many emitters over TLS, beyond that with as many plain ones
//! ```

mod storm;

use std::io;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::child::{System, SystemArgs};
use crate::compare::{self, Column, CompareArgs};
use crate::connections::{self, ConnectionsArgs};
use crate::inputs::judge;
use crate::net::{allow_connections, pin};
use crate::report::{
    bytes, median_min_max, named, sign, Better, Cores, Draft, Latency, OutputArgs, Parameter, Run,
    Series, Value,
};
use crate::rounds::order;
use crate::scenario::{Load, ShapeArgs};
use crate::secured::Pki;
use crate::sink::Dialect;
use storm::{Crowd, Measured, Shape};

/// The measure.
const PLAIN: &str = "weir";
/// Most CPU per message at records of 16 KiB, as a multiple of plain.
const FIREHOSE_AT_MOST: &[(&str, f64)] = &[
    ("weir+tls-in", 1.25),
    ("weir+tls-out", 1.25),
    ("weir+tls", 1.5),
];
/// Most CPU per message as a multiple of HAProxy's with TLS on the same sides.
const HAPROXY_AT_MOST: &[(&str, &str, f64)] = &[
    ("weir+tls-in", "haproxy-tcp+tls-in", 1.0),
    ("weir+tls-out", "haproxy-tcp+tls-out", 1.0),
    ("weir+tls", "haproxy-tcp+tls", 1.0),
];
/// The same with a record for each message.
const TRICKLE_AT_MOST: &[(&str, f64)] = &[("weir+tls-in", 1.15), ("weir+tls", 1.15)];
/// Most that the 99th percentile may lie beyond plain's, in ms.
const TRICKLE_P99_MS: f64 = 0.5;
/// Most memory of all emitters over TLS beyond that of as many plain ones, in MiB.
const MEMORY_MIB: f64 = 50.0;
/// Longest time until all emitters of a storm are up, and until those with tickets are (s).
const STORM_S: [f64; 2] = [6.0, 3.0];
/// Most that the 99th percentile of the others may grow meanwhile (ms).
const STORM_P99_MS: f64 = 2.0;
/// The flow alone, before each storm.
const BEFORE_STORM: Duration = Duration::from_secs(3);
const MIB: f64 = 1024.0 * 1024.0;

/// Different failures of a storm that are told.
const FAILURES_SHOWN: usize = 4;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Messages of 256 B in records of 16 KiB
    Firehose,
    /// A record for each message, 5,000 connections
    Trickle,
    /// 10,000 emitters
    Memory,
    /// 10,000 emitters with certificates that connect at once, while 100,000 messages/s flow
    Storm,
}

/// Arguments of `weir-bench tls`.
#[derive(Debug, Clone, clap::Args)]
pub struct TlsArgs {
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "firehose,trickle,memory,storm"
    )]
    parts: Vec<Part>,
    /// Without HAProxy
    #[arg(long)]
    no_peers: bool,
    /// Rounds that count: A B C, C B A, B C A, ... Six are the fewest in which a sign test can tell
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=sign::RUNS_MAX))]
    rounds: u32,
    /// Rounds before them that do not
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=sign::RUNS_MAX))]
    warm_up: u32,
    /// Rounds of the memory
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    memory_rounds: u32,
    /// Emitters of the memory
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    memory_connections: u32,
    /// Rounds of the storm
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    storm_rounds: u32,
    /// Emitters of the storm
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    storm_connections: u32,
    /// Messages of one write of the flow beside the storm, which are a record
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=64))]
    storm_burst: u32,
    /// What Weir's analyzers speak
    #[arg(long, value_enum, default_value = "native")]
    dialect: Dialect,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Measures, and says which bound is kept. False when one is not, or a message was lost.
pub fn run(args: &TlsArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let mut draft = args.output.begin("tls", "what TLS costs", cores)?;
    weir::out!("{}", draft.heading());
    pin(&args.system.load_cores)?;
    let mut is_good = true;
    for part in &args.parts {
        is_good &= match part {
            Part::Firehose => firehose(args, &mut draft)?,
            Part::Trickle => trickle(args, &mut draft)?,
            Part::Memory => memory(args, &mut draft)?,
            Part::Storm => storm(args, &mut draft)?,
        };
    }
    args.output.finish(draft, is_good)?;
    Ok(is_good)
}

fn compared<'a>(
    args: &TlsArgs,
    load: Load,
    systems: impl Iterator<Item = &'a &'a str>,
) -> CompareArgs {
    CompareArgs {
        systems: systems.map(|system| (*system).to_owned()).collect(),
        scenario: vec![load],
        rounds: args.rounds,
        warm_up: args.warm_up,
        dialect: args.dialect,
        shape: args.shape.clone(),
        system: args.system.clone(),
        output: args.output.clone(),
    }
}

fn firehose(args: &TlsArgs, draft: &mut Draft) -> io::Result<bool> {
    let own = FIREHOSE_AT_MOST.iter().map(|(system, _)| system);
    let peers = HAPROXY_AT_MOST.iter().map(|(_, peer, _)| peer);
    let peers = peers.take(if args.no_peers { 0 } else { usize::MAX });
    let systems = [&PLAIN].into_iter().chain(own).chain(peers);
    let compare = compared(args, Load::Firehose, systems);
    let mut is_good = true;
    let is_honest = compare::measure(&compare, draft, |columns| {
        weir::out!("\nCPU per message, medians of the rounds' ratios:");
        for (system, bound) in FIREHOSE_AT_MOST {
            is_good &= at_most(columns, system, PLAIN, *bound);
        }
        for (system, peer, bound) in HAPROXY_AT_MOST {
            is_good &= at_most(columns, system, peer, *bound);
        }
    })?;
    Ok(is_good && is_honest)
}

fn trickle(args: &TlsArgs, draft: &mut Draft) -> io::Result<bool> {
    let own = TRICKLE_AT_MOST.iter().map(|(system, _)| system);
    let compare = compared(args, Load::Trickle, [&PLAIN].into_iter().chain(own));
    let mut is_good = true;
    let is_honest = compare::measure(&compare, draft, |columns| {
        weir::out!("\nCPU per message, medians of the rounds' ratios:");
        for (system, bound) in TRICKLE_AT_MOST {
            is_good &= at_most(columns, system, PLAIN, *bound);
        }
        weir::out!("99th percentile beyond plain's, ms, medians of the rounds' differences:");
        for (system, _) in TRICKLE_AT_MOST {
            is_good &= is_in_time(columns, system);
        }
    })?;
    Ok(is_good && is_honest)
}

fn at_most(columns: &[Column], system: &str, base: &str, bound: f64) -> bool {
    judge(
        columns,
        system,
        base,
        |ratio| ratio <= bound,
        "at most",
        bound,
    )
}

fn is_in_time(columns: &[Column], system: &str) -> bool {
    let column = |name: &str| columns.iter().find(|column| column.spec == name);
    let (Some(own), Some(plain)) = (column(system), column(PLAIN)) else {
        return true;
    };
    let beyond = own.p99_ms_beyond(plain);
    if beyond.is_empty() {
        return true;
    }
    let (median, lowest, highest) = median_min_max(&beyond);
    let is_kept = median <= TRICKLE_P99_MS;
    let verdict = if is_kept { "kept" } else { "MISSED" };
    weir::out!(
        "  {system}: {median:.3} ({lowest:.3}..{highest:.3}), at most {TRICKLE_P99_MS}: {verdict}"
    );
    is_kept
}

/// Resident memory of two systems in turn, each time of a fresh process.
fn memory(args: &TlsArgs, draft: &mut Draft) -> io::Result<bool> {
    let connections = args.memory_connections;
    allow_connections(connections as usize)?;
    let labels = [PLAIN, "weir+tls-in"];
    let mut used: [Vec<f64>; 2] = Default::default();
    let mut runs: [Vec<Run>; 2] = Default::default();
    let mut is_exact = true;
    for round in 0..args.memory_rounds {
        for place in order(round, labels.len()) {
            let of_one = ConnectionsArgs {
                a: labels[place].to_owned(),
                connections,
                dialect: args.dialect,
                system: args.system.clone(),
                output: OutputArgs::default(),
                per_connection: 3,
                rate: 20_000,
                size: 256,
                arena_mib: 0.0,
                weights: args.shape.weights.clone(),
            };
            let system = System::parse(labels[place], &args.system, of_one.size)?;
            system.ensure_exists()?;
            let (drive, memory, sent, _) = connections::run_one(&of_one, &system)?;
            let tally = drive.sink.as_ref().map(|sink| &sink.tally);
            is_exact &= tally.is_some_and(|tally| {
                tally.set.missing(sent) == 0 && tally.set.duplicates() == 0 && tally.foreign == 0
            });
            used[place].push(memory.used as f64);
            runs[place].push(Run {
                values: named([
                    ("resident without emitters", bytes(memory.without as f64)),
                    ("resident, all idle", bytes(memory.idle as f64)),
                    ("resident, used", bytes(memory.used as f64)),
                ]),
                ..Run::default()
            });
        }
    }
    let pairs = used[1].iter().zip(&used[0]);
    let beyond: Vec<f64> = pairs.map(|(tls, plain)| (tls - plain) / MIB).collect();
    let (median, lowest, highest) = median_min_max(&beyond);
    let is_kept = median <= MEMORY_MIB;
    let verdict = if is_kept { "kept" } else { "MISSED" };
    let [plain, tls] = used.map(|used| median_min_max(&used).0 / MIB);
    weir::out!("\nmemory: {connections} emitters, after some messages of each");
    weir::out!("  resident {tls:.1} MiB with TLS, {plain:.1} plain");
    weir::out!(
        "  beyond plain: {median:.1} MiB ({lowest:.1}..{highest:.1}), at most {MEMORY_MIB}: {verdict}; a connection {:.0} B",
        median * MIB / f64::from(connections)
    );
    for (label, runs) in labels.into_iter().zip(runs) {
        draft.report.series.push(Series {
            scenario: "memory".into(),
            label: label.into(),
            parameters: named([("connections", Parameter::Whole(connections.into()))]),
            runs,
            ..Series::default()
        });
    }
    Ok(is_kept && is_exact)
}

/// Storms of fresh clients, and of clients with tickets, each time upon a fresh process.
fn storm(args: &TlsArgs, draft: &mut Draft) -> io::Result<bool> {
    let count = args.storm_connections;
    let shape = Shape {
        count,
        burst: args.storm_burst,
        before: BEFORE_STORM,
        weights: args.shape.weights.clone(),
        system_cores: args.system.system_cores.clone(),
        load_cores: args.system.load_cores.clone(),
    };
    let pki = Pki::shared()?;
    let crowd = Crowd::new(&pki)?;
    weir::out!("\nstorm: {count} emitters with certificates connect at once, beside 100,000 messages/s over TLS");
    for (word, is_resumed) in [("full", false), ("resumed", true)] {
        let (client_us, server_us) = crowd.floor(&pki, is_resumed)?;
        weir::out!(
            "  a handshake in memory, {word}: server {server_us:.0} us, client {client_us:.0} us"
        );
    }
    let system = System::parse("weir+tls-asked", &args.system, 256)?;
    system.ensure_exists()?;
    let mut rounds = Vec::new();
    for _ in 0..args.storm_rounds {
        let both = crowd.storms(&system, &shape)?;
        for (word, measured) in ["full", "resumed"].into_iter().zip(&both) {
            say_storm(word, measured);
        }
        rounds.push(both);
    }
    let mut is_good = true;
    for (nth, (word, bound)) in ["full", "resumed"].into_iter().zip(STORM_S).enumerate() {
        let of = |value: &dyn Fn(&Measured) -> f64| -> Vec<f64> {
            rounds.iter().map(|both| value(&both[nth])).collect()
        };
        let (up_s, p99_ms) = (of(&|m| m.up_s), of(&Measured::p99_ms_beyond));
        let is_whole = rounds.iter().all(|both| both[nth].is_whole(count));
        let mut check = |what: &str, values: &[f64], bound: f64| {
            let (median, lowest, highest) = median_min_max(values);
            let is_kept = median <= bound;
            is_good &= is_kept;
            let verdict = if is_kept { "kept" } else { "MISSED" };
            weir::out!("  {word}: {what} {median:.2} ({lowest:.2}..{highest:.2}), at most {bound}: {verdict}");
        };
        check("all up after s", &up_s, bound);
        check("p99 of the others grows by ms", &p99_ms, STORM_P99_MS);
        is_good &= is_whole;
        weir::out!(
            "  {word}: {}",
            if is_whole {
                "nobody was refused"
            } else {
                "NOT ALL CAME IN"
            }
        );
        let runs = rounds.iter().map(|both| storm_run(&both[nth]));
        draft.report.series.push(Series {
            scenario: "storm".into(),
            label: word.into(),
            parameters: named([("connections", Parameter::Whole(count.into()))]),
            runs: runs.collect::<io::Result<_>>()?,
            ..Series::default()
        });
    }
    Ok(is_good)
}

fn say_storm(word: &str, measured: &Measured) {
    let ms = |ns: &Histogram<u64>, q: f64| ns.value_at_quantile(q) as f64 / 1e6;
    let (before, during) = (&measured.before_ns, &measured.during_ns);
    weir::out!(
        "  {word:<7} up {} in {:.2} s, resumed {}; others p50 {:.2} -> {:.2}, p99 {:.2} -> {:.2}, max {:.1} -> {:.1} ms; an emitter \
         {:.0} us of the system, {:.0} us of its client; flow {:.2} of a core, lost {}",
        measured.up,
        measured.up_s,
        measured.outcome.resumed,
        ms(before, 0.5),
        ms(during, 0.5),
        ms(before, 0.99),
        ms(during, 0.99),
        ms(before, 1.0),
        ms(during, 1.0),
        measured.cpu_us,
        measured.outcome.cpu_ns as f64 / 1e3 / measured.outcome.established.max(1) as f64,
        measured.rest_share,
        measured.lost,
    );
    for (why, many) in measured.outcome.failures.iter().take(FAILURES_SHOWN) {
        weir::out!("          {many} failed: {why}");
    }
}

fn storm_run(measured: &Measured) -> io::Result<Run> {
    let number = |value: f64, unit: &str| Value {
        value,
        unit: unit.into(),
        better: Better::Lower,
    };
    let failed: u64 = measured.outcome.failures.values().sum();
    let before = Latency::of("before", &measured.before_ns)?;
    Ok(Run {
        latencies: before
            .into_iter()
            .chain(Latency::of("during", &measured.during_ns)?)
            .collect(),
        values: named([
            ("all up", number(measured.up_s, "s")),
            ("refused", number(failed as f64, "connections")),
            ("CPU of an emitter", number(measured.cpu_us, "us")),
        ]),
        ..Run::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        system: SystemArgs,
    }

    #[test]
    fn every_bound_is_of_a_system_that_there_is() {
        let mut args = Cli::parse_from(["x"]).system;
        args.peers.haproxy = Some("/bin/sh".into());
        let own = FIREHOSE_AT_MOST.iter().chain(TRICKLE_AT_MOST);
        let own = own.map(|(system, _)| *system);
        let peers = HAPROXY_AT_MOST
            .iter()
            .flat_map(|(own, peer, _)| [*own, *peer]);
        for system in own.chain(peers) {
            let parsed = System::parse(system, &args, 256).map(|_| ());
            assert!(parsed.is_ok(), "{system}: {parsed:?}");
        }
    }
}
