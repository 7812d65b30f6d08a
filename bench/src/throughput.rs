//! The highest sustained rate: emitters that write whenever a socket takes more, second by second.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{json, Value};

use crate::child::{System, SystemArgs};
use crate::load::LoadArgs;
use crate::net::{mono_ns, pin};
use crate::progress::Progress;
use crate::report::{conditions, conditions_line, median_min_max, write_json};
use crate::session::Session;
use crate::sink::SinkArgs;

const STALL_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `weir-bench throughput`.
#[derive(Debug, Clone, clap::Args)]
pub struct ThroughputArgs {
    /// 'weir [args]', 'relay', a peer's name, or a command with {emitters} and {analyzers} in it
    #[arg(long, default_value = "weir")]
    system_under_test: String,
    /// Runs, each with a fresh process
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Seconds before the measured ones
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    sink: SinkArgs,
    #[command(flatten)]
    system: SystemArgs,
    /// Write the report here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One run: the rate of each second, and what it cost.
struct Run {
    seconds: Vec<f64>,
    cpu_ns_per_message: f64,
    cores_used: f64,
    sent: u64,
    delivered: u64,
    missing: u64,
    duplicates: u64,
    foreign: u64,
}

impl Run {
    fn rate(&self) -> f64 {
        self.seconds.iter().sum::<f64>() / self.seconds.len() as f64
    }

    fn is_exact(&self) -> bool {
        self.missing == 0 && self.duplicates == 0 && self.foreign == 0
    }

    fn to_json(&self) -> Value {
        json!({
            "messages_per_second": self.rate(), "each_second": self.seconds,
            "cpu_ns_per_message": self.cpu_ns_per_message, "cores_used": self.cores_used,
            "sent": self.sent, "delivered": self.delivered, "missing": self.missing,
            "duplicates": self.duplicates, "foreign": self.foreign,
        })
    }
}

/// All runs and their spread. False when a message was lost, came twice or was foreign.
pub fn run(args: &ThroughputArgs) -> io::Result<bool> {
    let conditions = conditions();
    println!("{}", conditions_line(&conditions));
    let mut load = args.load.clone();
    if load.rate.is_some() {
        return Err(io::Error::other(
            "throughput offers what goes through: for --rate see latency",
        ));
    }
    let seconds = load.seconds.unwrap_or(10.0).max(1.0);
    // The end is said by this program, second by second.
    load.messages = Some(u64::MAX);
    let size = load.size.to_string().parse().unwrap_or(256);
    let mut system = System::parse(&args.system_under_test, &args.system, size)?;
    system.ensure_exists()?;
    system.fit(&mut load);
    pin(&args.system.load_cores)?;
    println!(
        "load        {}, {} analyzers",
        load.describe(),
        args.sink.weights.len()
    );
    println!(
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
        progress.step(&format!("{}, {seconds} s", args.system_under_test));
        let run = run_one(&system, &load, args, seconds)?;
        progress.wipe();
        let (_, lowest, highest) = median_min_max(&run.seconds);
        println!(
            "{number:>4} {:>11.0} {lowest:>11.0} {highest:>11.0} {:>11.1} {:>6.2} {:>12} {:>8} {:>6} {:>7}",
            run.rate(),
            run.cpu_ns_per_message,
            run.cores_used,
            run.delivered,
            run.missing,
            run.duplicates,
            run.foreign
        );
        runs.push(run);
    }
    let rates: Vec<f64> = runs.iter().map(Run::rate).collect();
    let (median, lowest, highest) = median_min_max(&rates);
    println!(
        "sustained   {median:.0} msg/s (runs {lowest:.0} to {highest:.0}, spread {:.1} %)",
        (highest - lowest) / median * 100.0
    );
    if runs
        .iter()
        .any(|r| r.cores_used < 0.9 * args.system.system_cores.len() as f64)
    {
        println!(
            "            the system did not use its cores up: the load or the sink was the limit"
        );
    }
    write_json(
        args.json.as_deref(),
        &json!({
            "report": "throughput", "conditions": conditions, "system": args.system_under_test,
            "load": load.describe(), "analyzers": args.sink.weights.len(),
            "runs": runs.iter().map(Run::to_json).collect::<Vec<_>>(),
            "messages_per_second": { "median": median, "min": lowest, "max": highest },
        }),
    )?;
    Ok(runs.iter().all(Run::is_exact))
}

fn run_one(
    system: &System,
    load: &LoadArgs,
    args: &ThroughputArgs,
    seconds: f64,
) -> io::Result<Run> {
    let mut session = Session::open(system, load, &args.sink, &args.system.system_cores)?;
    session.drive.start()?;
    let mut next_ns = mono_ns() + (args.warm_up * 1e9) as u64;
    session
        .drive
        .run_until(STALL_PATIENCE, |_| mono_ns() >= next_ns)?;
    let (begin_ns, cpu_ns, begin) = (
        mono_ns(),
        session.child.cpu_ns()?,
        session.drive.delivered(),
    );
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
    let cpu_ns = session.child.cpu_ns()? - cpu_ns;
    if let Some(load) = &mut session.drive.load {
        load.finish();
    }
    session
        .drive
        .run_until(STALL_PATIENCE, |d| d.is_all_delivered())?;
    let sent = session.drive.sent();
    let refused = session
        .drive
        .load
        .as_ref()
        .map_or(0, |l| l.answers().refused);
    let tally = match &session.drive.sink {
        Some(sink) => &sink.tally,
        None => return Err(io::Error::other("no sink")),
    };
    let run = Run {
        seconds: rates,
        cpu_ns_per_message: cpu_ns as f64 / (last - begin).max(1) as f64,
        cores_used: cpu_ns as f64 / (last_ns - begin_ns) as f64,
        sent,
        delivered: tally.set.distinct(),
        missing: tally.set.missing(sent).saturating_sub(refused),
        duplicates: tally.set.duplicates(),
        foreign: tally.foreign,
    };
    session.close()?;
    Ok(run)
}
