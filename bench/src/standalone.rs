//! `load`, `sink` and `load-sink` as programs of their own, against whatever listens.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::drive::Drive;
use crate::load::LoadArgs;
use crate::net::{mono_ns, pin};
use crate::report::{
    lag_warning, load_lag, named, percentiles_line, unix_seconds, Better, Cores, Draft, Latency,
    Messages, OutputArgs, Parameter, Run, Sample, Series, Value,
};
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
    #[command(flatten)]
    output: OutputArgs,
}

impl CommonArgs {
    fn begin(&self, kind: &str, peer: SocketAddr) -> io::Result<Draft> {
        let cores = Cores {
            system: &[],
            load: self.core.as_slice(),
        };
        let title = format!("{kind} beside {peer}");
        let mut draft = self.output.begin(kind, &title, cores)?;
        draft.set_peer(peer.ip());
        weir::out!("{}", draft.heading());
        self.core.map_or(Ok(()), |core| pin(&[core]))?;
        Ok(draft)
    }
}

/// Sends and ends; what arrives is the sink's business.
pub fn run_load(args: &LoadOnlyArgs) -> io::Result<()> {
    let mut draft = args.common.begin("load", args.emitters)?;
    let mut drive = Drive::new()?;
    drive.attach_load(&args.load, args.emitters)?;
    let start_ns = mono_ns();
    drive.start()?;
    drive.run_until(LOAD_PATIENCE, Drive::is_load_finished)?;
    let seconds = (mono_ns() - start_ns) as f64 / 1e9;
    let rate = drive.sent() as f64 / seconds;
    weir::out!(
        "sent        {} in {seconds:.2} s, {rate:.0} msg/s",
        drive.sent()
    );
    if let Some(load) = &drive.load {
        weir::out!(
            "load        connections renewed {}, messages refused {}, late itself p99 {:.3} ms",
            load.churned(),
            load.answers().refused,
            load.lag_ns().value_at_quantile(0.99) as f64 / 1e6
        );
    }
    let mut run = Run {
        wall_seconds: seconds,
        ..Run::default()
    };
    run.messages.sent = drive.sent();
    let rate = Value {
        value: rate,
        unit: "messages/s".into(),
        better: Better::Higher,
    };
    run.values.insert("rate sent".into(), rate);
    let open_loop = drive.load.as_ref().filter(|_| args.load.rate.is_some());
    let lag = open_loop.map(|load| load.lag_ns().value_at_quantile(0.99));
    run.values.extend(lag.map(load_lag));
    draft.report.series.push(Series {
        scenario: "load".into(),
        label: args.emitters.to_string(),
        parameters: load_parameters(&args.load),
        runs: vec![run],
        ..Series::default()
    });
    args.common.output.finish(draft, true)
}

fn load_parameters(load: &LoadArgs) -> BTreeMap<String, Parameter> {
    let rate = load
        .rate
        .map_or(Parameter::Text("unpaced".into()), Parameter::Whole);
    named([
        ("connections", Parameter::Whole(load.connections.into())),
        ("size", Parameter::Text(load.size.to_string())),
        ("load", Parameter::Text(load.describe())),
        ("rate", rate),
    ])
}

/// Receives until all is there, the links close, or nothing comes any more.
pub fn run_sink(args: &SinkOnlyArgs) -> io::Result<bool> {
    let draft = args.common.begin("sink", args.analyzers)?;
    let mut drive = Drive::new()?;
    drive.attach_sink(&args.sink, args.analyzers)?;
    let started_unix_seconds = Some(unix_seconds());
    drive.run_until(Duration::from_secs_f64(args.idle), |d| {
        let is_open = d.sink.as_ref().is_some_and(|s| s.open_links() > 0);
        !is_open || args.expect.is_some_and(|n| d.delivered() >= n)
    })?;
    let series = sink_series("sink", args.analyzers, &args.sink);
    let sink = drive.sink.as_ref().expect("attached above");
    let sent = args.expect.unwrap_or_else(|| sink.tally.set.end());
    let found = Found {
        sink,
        load_lag_p99_ns: None,
        sent,
        seconds: None,
        samples: Vec::new(),
        started_unix_seconds,
    };
    report_sink(found, series, draft, &args.common)
}

/// Both, in one loop.
pub fn run_load_sink(args: &LoadSinkArgs) -> io::Result<bool> {
    let draft = args.common.begin("load-sink", args.analyzers)?;
    let mut drive = Drive::new()?;
    drive.attach_sink(&args.sink, args.analyzers)?;
    drive.attach_load(&args.load, args.emitters)?;
    std::thread::sleep(HELLO_SILENCE);
    let start_ns = mono_ns();
    drive.start_sampling(Duration::from_secs_f64(args.load.seconds.unwrap_or(0.0)));
    let started_unix_seconds = Some(unix_seconds());
    drive.start()?;
    drive.run_until(Duration::from_secs_f64(args.idle), Drive::is_all_delivered)?;
    let seconds = (mono_ns() - start_ns) as f64 / 1e9;
    let samples = drive.take_samples()?;
    let mut series = sink_series("load-sink", args.analyzers, &args.sink);
    series.parameters.extend(load_parameters(&args.load));
    let sink = drive.sink.as_ref().expect("attached above");
    let open_loop = drive.load.as_ref().filter(|_| args.load.rate.is_some());
    let found = Found {
        sink,
        load_lag_p99_ns: open_loop.map(|load| load.lag_ns().value_at_quantile(0.99)),
        sent: drive.sent(),
        seconds: Some(seconds),
        samples,
        started_unix_seconds,
    };
    report_sink(found, series, draft, &args.common)
}

fn sink_series(scenario: &str, analyzers: SocketAddr, sink: &SinkArgs) -> Series {
    let total: f64 = sink.weights.iter().sum();
    let dialect = format!("{:?}", sink.dialect).to_lowercase();
    Series {
        scenario: scenario.into(),
        label: analyzers.to_string(),
        parameters: [("dialect".to_owned(), Parameter::Text(dialect))].into(),
        target_shares: sink.weights.iter().map(|w| w / total).collect(),
        ..Series::default()
    }
}

/// What a sink has at the end.
struct Found<'a> {
    sink: &'a Sink,
    /// Of a load in the same process, in an open loop.
    load_lag_p99_ns: Option<u64>,
    sent: u64,
    seconds: Option<f64>,
    samples: Vec<Sample>,
    started_unix_seconds: Option<f64>,
}

/// `series` has what was asked for; the run is added.
fn report_sink(
    found: Found,
    mut series: Series,
    mut draft: Draft,
    common: &CommonArgs,
) -> io::Result<bool> {
    let Found {
        sink,
        load_lag_p99_ns,
        sent,
        seconds,
        samples,
        started_unix_seconds,
    } = found;
    let tally = &sink.tally;
    let (lost, twice) = (tally.set.missing(sent), tally.set.duplicates());
    let frames: u64 = tally.per_analyzer.iter().sum();
    let shares: Vec<f64> = tally
        .per_analyzer
        .iter()
        .map(|n| *n as f64 / frames.max(1) as f64)
        .collect();
    weir::out!(
        "messages    sent {sent}, delivered {}, lost {lost}, twice {twice}, foreign {}, flagged \
         redelivered {}",
        tally.set.distinct(),
        tally.foreign,
        sink.redelivered()
    );
    if let Some(seconds) = seconds {
        weir::out!(
            "rate        {:.0} msg/s over {seconds:.2} s",
            frames as f64 / seconds
        );
    }
    let percent: Vec<String> = shares.iter().map(|s| format!("{:.3}", s * 100.0)).collect();
    weir::out!("shares      {} %", percent.join(" / "));
    weir::out!("latency     {}", percentiles_line(&tally.latency_ns));
    if let Some(ns) = load_lag_p99_ns {
        weir::out!("load        late itself p99 {:.3} ms", ns as f64 / 1e6);
    }
    let p99_ns = tally.latency_ns.value_at_quantile(0.99);
    let warning = load_lag_p99_ns.and_then(|lag| lag_warning(lag, p99_ns));
    if let Some(warning) = &warning {
        weir::out!("            {warning}");
    }
    let is_exact = lost == 0 && twice == 0 && tally.foreign == 0;
    series.runs.push(Run {
        started_unix_seconds,
        wall_seconds: seconds.unwrap_or(0.0),
        messages: Messages {
            sent,
            received: tally.set.distinct(),
            lost,
            twice,
            foreign: tally.foreign,
        },
        messages_per_second: seconds.map(|seconds| frames as f64 / seconds),
        shares,
        latencies: Vec::from_iter(Latency::of("latency", &tally.latency_ns)?),
        samples,
        values: load_lag_p99_ns.map(load_lag).into_iter().collect(),
        notes: Vec::from_iter(warning),
        ..Run::default()
    });
    draft.report.series.push(series);
    common.output.finish(draft, is_exact)?;
    Ok(is_exact)
}
