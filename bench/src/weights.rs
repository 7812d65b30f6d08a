//! How long a change of weight takes to reach the tree of every shard.
//!
//! ```text
//! analyzer writes a weight (t0) -> its shard -> shard 0 -> roster -> every shard's tree (t1)
//! ```
//!
//! The distributor runs in this process, so that both times are from one clock. The analyzer that
//! changes its weight has next to none, so that it need not read messages.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use weir::clock::monotonic_ns;
use weir::runtime::Distributor;
use weir::sink::Dialect;
use weir::sink::{encode_first_weight, encode_weight};

use crate::check::nanosecond_histogram;
use crate::children::{self, Group};
use crate::report::{named, percentiles_line, Cores, Latency, OutputArgs, Parameter, Run, Series};

/// A change that has not reached every shard by then is a failure.
const PATIENCE: Duration = Duration::from_secs(2);
/// A weight that earns no message in a run of this length.
const NEXT_TO_NOTHING: f64 = 1e-9;

#[derive(Debug, clap::Args)]
pub struct WeightsArgs {
    /// Shards; when there are more than cores, none is pinned
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Changes of weight
    #[arg(long, default_value_t = 500)]
    changes: u32,
    /// Beside a firehose from another process, not idle
    #[arg(long)]
    busy: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Parser)]
struct DistributorLine {
    #[command(flatten)]
    args: weir::cli::distributor::Args,
}

/// Runs the scenario; false when a change did not reach every shard.
pub fn run(args: &WeightsArgs) -> io::Result<bool> {
    let title = format!("A changed weight on its way to {} shards", args.shards);
    let mut draft = args.output.begin("weights", &title, Cores::default())?;
    weir::out!("{}", draft.heading());
    let shards = args.shards.to_string();
    let line = DistributorLine::parse_from([
        "weir",
        "--emitters=127.0.0.1:0",
        "--analyzers=127.0.0.1:0",
        "--http=off",
        "--shards",
        &shards,
    ]);
    let config = line.args.config().map_err(io::Error::other)?;
    let distributor = Distributor::start(config).map_err(io::Error::other)?;
    let load = args.busy.then(|| Load::start(&distributor)).transpose()?;
    let times_ns = measure(&distributor, args.changes);
    drop(load);
    distributor.stopper().stop_now();
    distributor.join()?;
    let times_ns = times_ns?;
    weir::out!(
        "weights     {} changes, {} shards, {}: {} until the last shard routes by it",
        times_ns.len(),
        args.shards,
        if args.busy {
            "under a firehose"
        } else {
            "idle"
        },
        percentiles_line(&times_ns),
    );
    draft.report.series.push(Series {
        scenario: if args.busy { "busy" } else { "idle" }.into(),
        label: "weir".into(),
        parameters: named([
            ("shards", Parameter::Whole(args.shards.into())),
            ("changes", Parameter::Whole(args.changes.into())),
            ("busy", Parameter::Flag(args.busy)),
        ]),
        runs: vec![Run {
            latencies: Vec::from_iter(Latency::of("weight to last tree", &times_ns)?),
            ..Run::default()
        }],
        notes: vec!["the distributor runs in the process of the bench".into()],
        ..Series::default()
    });
    args.output.finish(draft, true)?;
    Ok(true)
}

fn measure(distributor: &Distributor, changes: u32) -> io::Result<Histogram<u64>> {
    let mut link = TcpStream::connect(distributor.analyzers)?;
    link.set_nodelay(true)?;
    let before = newest_epoch(distributor);
    let first = encode_first_weight(Dialect::Typed, NEXT_TO_NOTHING * 1e4);
    link.write_all(first.as_bytes())?;
    wait_for_epoch(distributor, before + 1)?;
    let mut times_ns = nanosecond_histogram();
    for change in 0..changes {
        // Not in step with anything periodic.
        std::thread::sleep(Duration::from_micros(3_000 + u64::from(change % 17) * 331));
        let epoch = newest_epoch(distributor);
        let weight = NEXT_TO_NOTHING * f64::from(change % 2 + 1);
        let sent_ns = monotonic_ns();
        link.write_all(encode_weight(Dialect::Typed, weight).as_bytes())?;
        let applied_ns = wait_for_epoch(distributor, epoch + 1)?;
        times_ns.saturating_record(applied_ns.saturating_sub(sent_ns).max(1));
    }
    Ok(times_ns)
}

fn newest_epoch(distributor: &Distributor) -> u64 {
    let reports = distributor.reports();
    reports
        .iter()
        .map(|report| report.roster.epoch)
        .max()
        .unwrap_or(0)
}

/// When the last shard applied the roster `epoch`.
fn wait_for_epoch(distributor: &Distributor, epoch: u64) -> io::Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reports = distributor.reports();
        if reports.iter().all(|report| report.roster.epoch >= epoch) {
            return Ok(reports
                .iter()
                .map(|report| report.roster_applied_ns)
                .max()
                .unwrap_or(0));
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "roster {epoch} did not reach every shard"
            )));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A firehose in another process, ended with this value.
struct Load {
    _child: Group,
}

impl Load {
    fn start(distributor: &Distributor) -> io::Result<Load> {
        let address = |at: SocketAddr| at.to_string();
        let mut command = children::command(Path::new(children::SELF), &[])?;
        command
            .args([
                "load-sink",
                "--core",
                "1",
                "--dialect",
                "native",
                "--seconds",
                "600",
            ])
            .args(["--emitters", &address(distributor.emitters)])
            .args(["--analyzers", &address(distributor.analyzers)])
            .args(["--in-flight", "16384"])
            .stdout(Stdio::null());
        let load = Load {
            _child: Group::spawn(&mut command)?,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let received = || -> u64 {
            distributor
                .reports()
                .iter()
                .map(|report| report.balance.received)
                .sum()
        };
        while received() < 100_000 {
            if Instant::now() > deadline {
                return Err(io::Error::other("the load did not start"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(load)
    }
}
