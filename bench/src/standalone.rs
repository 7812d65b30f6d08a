//! `load`, `sink` and `load-sink` as programs of their own, against whatever listens.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{json, Value};

use crate::drive::Drive;
use crate::load::LoadArgs;
use crate::net::{mono_ns, pin};
use crate::report::{conditions, conditions_line, percentiles, percentiles_line, write_json};
use crate::sink::{Sink, SinkArgs};

/// A load that no socket takes anything from for so long has failed.
const LOAD_PATIENCE: Duration = Duration::from_secs(30);
/// The reference dialects are told apart by 50 ms of silence after the hello.
const HELLO_SILENCE: Duration = Duration::from_millis(200);

/// Arguments of `weir-bench load`.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadOnlyArgs {
    /// Where the distributor takes emitters
    #[arg(long, default_value = "127.0.0.1:8080")]
    emitters: SocketAddr,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `weir-bench sink`.
#[derive(Debug, Clone, clap::Args)]
pub struct SinkOnlyArgs {
    /// Where the distributor takes analyzers
    #[arg(long, default_value = "127.0.0.1:8081")]
    analyzers: SocketAddr,
    #[command(flatten)]
    sink: SinkArgs,
    /// Messages to expect; without it, one past the highest sequence number seen
    #[arg(long)]
    expect: Option<u64>,
    /// End after so many seconds without a message
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    idle: f64,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `weir-bench load-sink`.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadSinkArgs {
    /// Where the distributor takes emitters
    #[arg(long, default_value = "127.0.0.1:8080")]
    emitters: SocketAddr,
    /// Where the distributor takes analyzers
    #[arg(long, default_value = "127.0.0.1:8081")]
    analyzers: SocketAddr,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    sink: SinkArgs,
    /// What has not come after so many seconds without a message is lost
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    idle: f64,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, clap::Args)]
struct CommonArgs {
    /// Pin to this core
    #[arg(long)]
    core: Option<usize>,
    /// Write the report here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl CommonArgs {
    fn begin(&self) -> io::Result<Value> {
        let conditions = conditions();
        println!("{}", conditions_line(&conditions));
        self.core.map_or(Ok(()), |core| pin(&[core]))?;
        Ok(conditions)
    }
}

/// Sends and ends; what arrives is the sink's business.
pub fn run_load(args: &LoadOnlyArgs) -> io::Result<()> {
    let conditions = args.common.begin()?;
    let mut drive = Drive::new()?;
    drive.attach_load(&args.load, args.emitters)?;
    let start_ns = mono_ns();
    drive.start()?;
    drive.run_until(LOAD_PATIENCE, Drive::is_load_finished)?;
    let seconds = (mono_ns() - start_ns) as f64 / 1e9;
    let rate = drive.sent() as f64 / seconds;
    println!(
        "sent        {} in {seconds:.2} s, {rate:.0} msg/s",
        drive.sent()
    );
    write_json(
        args.common.json.as_deref(),
        &json!({
            "report": "load", "conditions": conditions, "sent": drive.sent(),
            "seconds": seconds, "messages_per_second": rate,
        }),
    )
}

/// Receives until all is there, the links close, or nothing comes any more.
pub fn run_sink(args: &SinkOnlyArgs) -> io::Result<bool> {
    let conditions = args.common.begin()?;
    let mut drive = Drive::new()?;
    drive.attach_sink(&args.sink, args.analyzers)?;
    drive.run_until(Duration::from_secs_f64(args.idle), |d| {
        let is_open = d.sink.as_ref().is_some_and(|s| s.open_links() > 0);
        !is_open || args.expect.is_some_and(|n| d.delivered() >= n)
    })?;
    let sink = drive.sink.as_ref().expect("attached above");
    let sent = args.expect.unwrap_or_else(|| sink.tally.set.end());
    report_sink(sink, sent, None, conditions, &args.common)
}

/// Both, in one loop.
pub fn run_load_sink(args: &LoadSinkArgs) -> io::Result<bool> {
    let conditions = args.common.begin()?;
    let mut drive = Drive::new()?;
    drive.attach_sink(&args.sink, args.analyzers)?;
    drive.attach_load(&args.load, args.emitters)?;
    std::thread::sleep(HELLO_SILENCE);
    let start_ns = mono_ns();
    drive.start()?;
    drive.run_until(Duration::from_secs_f64(args.idle), Drive::is_all_delivered)?;
    let seconds = (mono_ns() - start_ns) as f64 / 1e9;
    let sink = drive.sink.as_ref().expect("attached above");
    report_sink(sink, drive.sent(), Some(seconds), conditions, &args.common)
}

fn report_sink(
    sink: &Sink,
    sent: u64,
    seconds: Option<f64>,
    conditions: Value,
    common: &CommonArgs,
) -> io::Result<bool> {
    let tally = &sink.tally;
    let (lost, twice) = (tally.set.missing(sent), tally.set.duplicates());
    let frames: u64 = tally.per_analyzer.iter().sum();
    let shares: Vec<f64> = tally
        .per_analyzer
        .iter()
        .map(|n| *n as f64 / frames.max(1) as f64)
        .collect();
    println!(
        "messages    sent {sent}, delivered {}, lost {lost}, twice {twice}, foreign {}, flagged \
         redelivered {}",
        tally.set.distinct(),
        tally.foreign,
        sink.redelivered()
    );
    if let Some(seconds) = seconds {
        println!(
            "rate        {:.0} msg/s over {seconds:.2} s",
            frames as f64 / seconds
        );
    }
    let percent: Vec<String> = shares.iter().map(|s| format!("{:.3}", s * 100.0)).collect();
    println!("shares      {} %", percent.join(" / "));
    println!("latency     {}", percentiles_line(&tally.latency_ns));
    write_json(
        common.json.as_deref(),
        &json!({
            "report": "sink", "conditions": conditions, "sent": sent,
            "delivered": tally.set.distinct(), "lost": lost, "duplicates": twice,
            "foreign": tally.foreign, "redelivered": sink.redelivered(), "seconds": seconds,
            "per_analyzer": tally.per_analyzer, "shares": shares,
            "latency": percentiles(&tally.latency_ns),
        }),
    )?;
    Ok(lost == 0 && twice == 0 && tally.foreign == 0)
}
