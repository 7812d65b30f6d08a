//! What a connection costs in memory: many emitters open at once, a few messages on each.

use std::io;
use std::time::Duration;

use crate::child::{Stopped, System, SystemArgs, UnderTest, Wiring};
use crate::drive::Drive;
use crate::load::{LoadArgs, Sizes};
use crate::net::pin;
use crate::report::{
    bytes, named, percentiles_line, Cores, Latency, Messages, OutputArgs, Parameter, Run, Series,
};
use crate::run::settle;
use crate::sink::{Dialect, SinkArgs};

const STALL_PATIENCE: Duration = Duration::from_secs(10);
const MIB: f64 = 1024.0 * 1024.0;

/// Arguments of `weir-bench connections`.
#[derive(Debug, Clone, clap::Args)]
pub struct ConnectionsArgs {
    /// What to measure: 'relay', 'weir [args]', or a command with {emitters} and {analyzers}
    #[arg(long, default_value = "weir")]
    pub a: String,
    /// Emitter connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Messages on each
    #[arg(long, default_value_t = 10)]
    pub per_connection: u64,
    /// Messages per second over all
    #[arg(long, default_value_t = 20_000)]
    pub rate: u64,
    /// Bytes of a message, its header included
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// Memory that the system takes at start whatever the number of connections (egress arena and
    /// receive buffers, MiB); reported apart
    #[arg(long, default_value_t = 0.0, value_name = "MIB")]
    pub arena_mib: f64,
    /// What the analyzers speak (a relay: always compact)
    #[arg(long, value_enum, default_value = "compact")]
    pub dialect: Dialect,
    /// One analyzer for each weight
    #[arg(long, value_delimiter = ',', default_value = "0.4,0.3,0.2,0.1")]
    pub weights: Vec<f64>,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// VmRSS at three moments, in bytes.
pub struct Memory {
    /// Before the first emitter.
    pub without: u64,
    /// With all, which have sent nothing.
    pub idle: u64,
    /// After their messages.
    pub used: u64,
}

/// Runs and reports. False when a message was lost, duplicated or foreign.
pub fn run(args: &ConnectionsArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let title = format!("Memory of {} connections to {}", args.connections, args.a);
    let mut draft = args.output.begin("connections", &title, cores)?;
    weir::out!("{}\n            system = {}", draft.heading(), args.a);
    let system = System::parse(&args.a, &args.system, args.size)?;
    system.ensure_exists()?;
    pin(&args.system.load_cores)?;
    // Before the child starts: it inherits the limit.
    crate::net::allow_connections(args.connections as usize)?;
    let (drive, memory, sent, stopped) = run_one(args, &system)?;
    let tally = &drive.sink.as_ref().expect("attached in measure").tally;
    let lost = tally.set.missing(sent);
    let each = |after: u64| (after as f64 - memory.without as f64) / f64::from(args.connections);
    let beyond_arena = memory.used as f64 / MIB - args.arena_mib;

    weir::out!(
        "connections {}, {} messages on each: sent {sent}, delivered {}, lost {lost}, twice {}",
        args.connections,
        args.per_connection,
        tally.set.distinct(),
        tally.set.duplicates()
    );
    weir::out!("latency     {}", percentiles_line(&tally.latency_ns));
    weir::out!(
        "VmRSS       {:.1} MiB without emitters, {:.1} with all idle, {:.1} after the messages",
        memory.without as f64 / MIB,
        memory.idle as f64 / MIB,
        memory.used as f64 / MIB
    );
    weir::out!(
        "            {beyond_arena:.1} MiB beyond the {:.1} MiB configured",
        args.arena_mib
    );
    weir::out!(
        "a connection {:.0} B idle, {:.0} B after its messages (user space; the kernel's socket \
              memory is not in VmRSS)",
        each(memory.idle),
        each(memory.used)
    );
    weir::out!("last line   {}", stopped.last_line);
    let is_exact = lost == 0 && tally.set.duplicates() == 0 && tally.foreign == 0;
    let frames: u64 = tally.per_analyzer.iter().sum();
    let mut run = Run {
        messages: Messages {
            sent,
            received: tally.set.distinct(),
            lost,
            twice: tally.set.duplicates(),
            foreign: tally.foreign,
        },
        shares: tally
            .per_analyzer
            .iter()
            .map(|n| *n as f64 / frames.max(1) as f64)
            .collect(),
        latencies: Vec::from_iter(Latency::of("latency", &tally.latency_ns)?),
        values: named([
            ("resident without emitters", bytes(memory.without as f64)),
            ("resident, all idle", bytes(memory.idle as f64)),
            ("resident, used", bytes(memory.used as f64)),
            ("a connection, idle", bytes(each(memory.idle))),
            ("a connection, used", bytes(each(memory.used))),
        ]),
        notes: vec![stopped.last_line],
        ..Run::default()
    };
    if let Some(counters) = stopped.counters {
        counters.put_into(&mut run);
    }
    draft.report.series.push(Series {
        scenario: "connections".into(),
        label: args.a.clone(),
        parameters: named([
            ("connections", Parameter::Whole(args.connections.into())),
            ("messages on each", Parameter::Whole(args.per_connection)),
            ("rate", Parameter::Whole(args.rate)),
            ("message bytes", Parameter::Whole(args.size as u64)),
            ("MiB configured", Parameter::Number(args.arena_mib)),
        ]),
        runs: vec![run],
        notes: vec!["the kernel's socket memory is not in resident memory".into()],
        ..Series::default()
    });
    args.output.finish(draft, is_exact)?;
    Ok(is_exact)
}

/// A fresh system, and what its emitters take.
///
/// # Errors
/// It does not start, or does not take them.
pub fn run_one(
    args: &ConnectionsArgs,
    system: &System,
) -> io::Result<(Drive, Memory, u64, Stopped)> {
    let mut child = system.start(&args.system.system_cores)?;
    let (mut drive, memory) = measure(args, system, &child)
        .map_err(|e| io::Error::new(e.kind(), format!("{e}{}", child.last_words())))?;
    let sent = drive.sent();
    drive.load = None;
    let stopped = child.stop(|| {
        // A reset by the ending child is no failure of the run.
        let _ = drive.turn(Duration::from_millis(5));
    })?;
    Ok((drive, memory, sent, stopped))
}

fn measure(
    args: &ConnectionsArgs,
    system: &System,
    child: &UnderTest,
) -> io::Result<(Drive, Memory)> {
    let mut drive = Drive::new()?;
    let dialect = if system.wiring == Wiring::Relay {
        Dialect::Compact
    } else {
        args.dialect
    };
    let mut sink = SinkArgs {
        weights: args.weights.clone(),
        dialect,
        ..SinkArgs::default()
    };
    let mut load = LoadArgs {
        connections: args.connections,
        size: Sizes::Fixed(args.size),
        rate: Some(args.rate),
        messages: Some(args.per_connection * u64::from(args.connections)),
        ..LoadArgs::default()
    };
    system.secure(&mut load, &mut sink);
    drive.attach_sink(&sink, child.analyzers)?;
    settle(child, &mut drive)?;
    let without = child.resident_bytes()?;

    drive.attach_load(&load, child.emitters)?;
    settle(child, &mut drive)?;
    let idle = child.resident_bytes()?;

    drive.start()?;
    drive.run_until(STALL_PATIENCE, Drive::is_all_delivered)?;
    Ok((
        drive,
        Memory {
            without,
            idle,
            used: child.resident_bytes()?,
        },
    ))
}
