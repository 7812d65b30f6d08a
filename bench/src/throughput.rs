//! The highest sustained rate: emitters that write whenever a socket takes more, second by second.

use std::io;
use std::time::Duration;

use crate::child::System;
use crate::cpu::user_share;
use crate::load::LoadArgs;
use crate::net::mono_ns;
use crate::progress::Progress;
use crate::report::{median_min_max, unix_seconds, Better, Cpu, Messages, Run, Series, Value};
use crate::series::series;
use crate::session::Session;
use crate::target::TargetArgs;

const STALL_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `weir-bench throughput`.
#[derive(Debug, Clone, clap::Args)]
pub struct ThroughputArgs {
    /// Runs, each with a fresh process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Seconds before the measured ones
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    #[command(flatten)]
    target: TargetArgs,
}

/// One run: the rate of each second, what it cost, and what came.
struct Found {
    seconds: Vec<f64>,
    cores_used: f64,
    run: Run,
}

impl Found {
    fn is_exact(&self) -> bool {
        let Messages {
            lost,
            twice,
            foreign,
            ..
        } = self.run.messages;
        lost == 0 && twice == 0 && foreign == 0
    }
}

/// All runs and their spread. False when a message was lost, came twice or was foreign.
pub fn run(args: &ThroughputArgs) -> io::Result<bool> {
    if args.target.load.rate.is_some() {
        return Err(io::Error::other(
            "throughput offers what goes through: for --rate see latency",
        ));
    }
    let seconds = args.target.load.seconds.unwrap_or(10.0).max(1.0);
    // The end is said by this program, second by second.
    let load = LoadArgs {
        messages: Some(u64::MAX),
        ..args.target.load.clone()
    };
    let (mut draft, system, load) = args.target.begin("throughput", &load)?;
    weir::out!(
        "{:>4} {:>11} {:>11} {:>11} {:>11} {:>6} {:>12} {:>8} {:>6} {:>7}",
        "run",
        "msg/s",
        "lowest s",
        "highest s",
        "CPU ns/msg",
        "cores",
        "delivered",
        "missing",
        "twice",
        "foreign"
    );
    let mut progress = Progress::new(args.repeat as usize);
    let mut runs = Vec::new();
    for number in 1..=args.repeat {
        progress.step(&format!("{}, {seconds} s", args.target.subject));
        let found = run_one(&system, &load, args, seconds)?;
        progress.wipe();
        let (_, lowest, highest) = median_min_max(&found.seconds);
        let Messages {
            received,
            lost,
            twice,
            foreign,
            ..
        } = found.run.messages;
        weir::out!(
            "{number:>4} {:>11.0} {lowest:>11.0} {highest:>11.0} {:>11.1} {:>6.2} {received:>12} {lost:>8} \
             {twice:>6} {foreign:>7}",
            found.run.messages_per_second.unwrap_or(0.0),
            found.run.cpu.map_or(0.0, |cpu| cpu.ns_per_message),
            found.cores_used,
        );
        runs.push(found);
    }
    let rates: Vec<f64> = runs
        .iter()
        .filter_map(|r| r.run.messages_per_second)
        .collect();
    let (median, lowest, highest) = median_min_max(&rates);
    weir::out!(
        "sustained   {median:.0} msg/s (runs {lowest:.0} to {highest:.0}, spread {:.1} %)",
        (highest - lowest) / median * 100.0
    );
    if runs
        .iter()
        .any(|r| r.cores_used < 0.9 * args.target.system.system_cores.len() as f64)
    {
        let limit =
            "the system did not use its cores up: load and sink were the limit, not the system";
        weir::out!("            {limit}");
        draft.report.notes.push(limit.into());
    }
    let is_exact = runs.iter().all(Found::is_exact);
    draft.report.series.push(Series {
        runs: runs.into_iter().map(|r| r.run).collect(),
        ..series(
            "throughput",
            &args.target.subject,
            &system,
            &load,
            &args.target.sink,
        )
    });
    args.target.output.finish(draft, is_exact)?;
    Ok(is_exact)
}

fn run_one(
    system: &System,
    load: &LoadArgs,
    args: &ThroughputArgs,
    seconds: f64,
) -> io::Result<Found> {
    let mut session = Session::open(
        system,
        load,
        &args.target.sink,
        &args.target.system.system_cores,
    )?;
    session
        .drive
        .start_sampling(Duration::from_secs_f64(seconds + args.warm_up));
    let started_unix_seconds = Some(unix_seconds());
    session.drive.start()?;
    let mut next_ns = mono_ns() + (args.warm_up * 1e9) as u64;
    session
        .drive
        .run_until(STALL_PATIENCE, |_| mono_ns() >= next_ns)?;
    let (begin_ns, cpu_begin, begin) = (mono_ns(), session.child.cpu()?, session.drive.delivered());
    let ticks = session.child.ticks()?;
    let ksoftirqd_begin_ns = session.ksoftirqd.cpu_ns();
    let (mut last_ns, mut last) = (begin_ns, begin);
    let mut rates = Vec::new();
    for _ in 0..seconds as u64 {
        next_ns += 1_000_000_000;
        session
            .drive
            .run_until(STALL_PATIENCE, |_| mono_ns() >= next_ns)?;
        let (now_ns, delivered) = (mono_ns(), session.drive.delivered());
        rates.push((delivered - last) as f64 * 1e9 / (now_ns - last_ns) as f64);
        (last_ns, last) = (now_ns, delivered);
    }
    let cpu_end = session.child.cpu()?;
    let cpu_ns = cpu_end.ns_since(&cpu_begin);
    let ksoftirqd_ns = session.ksoftirqd.cpu_ns().zip(ksoftirqd_begin_ns);
    let each = |ns: u64| ns as f64 / (last - begin).max(1) as f64;
    if let Some(load) = &mut session.drive.load {
        load.finish();
    }
    session
        .drive
        .run_until(STALL_PATIENCE, |d| d.is_all_delivered())?;
    let sent = session.drive.sent();
    let samples = session.drive.take_samples()?;
    let refused = session
        .drive
        .load
        .as_ref()
        .map_or(0, |l| l.answers().refused);
    let Some(sink) = &session.drive.sink else {
        return Err(io::Error::other("a session has a sink"));
    };
    let (tally, frames) = (
        &sink.tally,
        sink.tally.per_analyzer.iter().sum::<u64>().max(1),
    );
    let mut run = Run {
        started_unix_seconds,
        wall_seconds: (last_ns - begin_ns) as f64 / 1e9,
        messages: Messages {
            sent,
            received: tally.set.distinct(),
            lost: tally.set.missing(sent).saturating_sub(refused),
            twice: tally.set.duplicates(),
            foreign: tally.foreign,
        },
        messages_per_second: Some((last - begin) as f64 * 1e9 / (last_ns - begin_ns) as f64),
        shares: tally
            .per_analyzer
            .iter()
            .map(|n| *n as f64 / frames as f64)
            .collect(),
        samples,
        notes: Vec::from_iter(cpu_end.note_since(&cpu_begin)),
        ..Run::default()
    };
    let user_share = user_share(session.child.ticks()?, ticks);
    let ksoftirqd = ksoftirqd_ns.map(|(now, before)| each(now.saturating_sub(before)));
    run.cpu = Some(Cpu::split(each(cpu_ns), user_share).with_ksoftirqd(ksoftirqd));
    let cores_used = cpu_ns as f64 / (last_ns - begin_ns) as f64;
    run.values.insert(
        "cores used".into(),
        Value {
            value: cores_used,
            unit: String::new(),
            better: Better::Neither,
        },
    );
    let stopped = session.close()?;
    if let Some(counters) = &stopped.counters {
        counters.put_into(&mut run);
    }
    Ok(Found {
        seconds: rates,
        cores_used,
        run,
    })
}
