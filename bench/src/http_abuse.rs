//! What abuse over HTTP costs the TCP path of the same shard.
//!
//! ```text
//! distributor, core 0    <- emitters at a constant rate -> analyzers      core 1
//!                        <- one kind of abuse in every second span        core 1, threads of its own
//! spans:  A quiet | B abuse | A | B | ...      the rate delivered and the CPU used in each
//! ```

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flate2::write::GzEncoder;
use flate2::Compression;

use crate::child::{System, SystemArgs, UnderTest};
use crate::drive::Drive;
use crate::http::{post, post_whole, HttpClient};
use crate::load::LoadArgs;
use crate::net::{allow_connections, mono_ns, pin};
use crate::report::{
    median_min_max, named, sign, Better, Cores, OutputArgs, Parameter, Run, Series, Value,
};
use crate::run::settle;
use crate::sink::SinkArgs;

const MIB: usize = 1 << 20;
/// Not measured at the begin of a span: connections come and go.
const LEAD: Duration = Duration::from_millis(1000);
const STALL_PATIENCE: Duration = Duration::from_secs(5);
/// A rate below this part of the quiet one fails.
const RATE_LEAST: f64 = 0.95;

/// Arguments of `weir-bench http-abuse`.
#[derive(Debug, Clone, clap::Args)]
pub struct HttpAbuseArgs {
    /// Kinds of abuse
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "idle,loris,head,long,chunk,utf8,depth,gzip,smuggle,deaf"
    )]
    pub kinds: Vec<Kind>,
    /// Requests per second of each kind; idle and loris: connections, one byte a second of each
    #[arg(long, default_value_t = 20)]
    pub per_second: u64,
    /// Connections of idle and loris
    #[arg(long, default_value_t = 5_000)]
    pub connections: usize,
    /// Pairs of spans for each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=sign::RUNS_MAX))]
    pub pairs: u32,
    /// Seconds of a span
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Messages per second by TCP; 0: as many as there can be
    #[arg(long, default_value_t = 40_000)]
    pub rate: u64,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What clients may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Connections that say nothing
    Idle,
    /// Heads that come a byte a second
    Loris,
    /// A header of 1 MiB
    Head,
    /// A body of 2 MiB where 1 MiB is allowed, sent to its end
    Long,
    /// A chunk longer than it said
    Chunk,
    /// 256 KiB that are not UTF-8 at their end
    Utf8,
    /// 450,000 brackets
    Depth,
    /// 64 MiB in 64 KiB of gzip
    Gzip,
    /// Content-Length and Transfer-Encoding, a request hidden behind
    Smuggle,
    /// Requests without reading an answer
    Deaf,
}

/// What came of requests: by status, or by what was done where no answer is awaited.
#[derive(Default)]
struct Outcomes(Mutex<BTreeMap<String, u64>>);

impl Outcomes {
    fn count(&self, what: impl ToString, n: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.to_string()).or_default() += n;
    }

    fn line(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = counts.iter().map(|(what, n)| format!("{what}: {n}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// One span.
struct Span {
    rate: f64,
    cpu_share: f64,
}

impl Span {
    fn to_run(&self, seconds: f64) -> Run {
        let cpu_share = Value {
            value: 100.0 * self.cpu_share,
            unit: "%".into(),
            better: Better::Lower,
        };
        Run {
            wall_seconds: seconds,
            messages_per_second: Some(self.rate),
            values: [("CPU of the core".to_owned(), cpu_share)].into(),
            ..Run::default()
        }
    }
}

/// Runs all kinds. False when one took more than a twentieth of the rate, or a message was lost.
pub fn run(args: &HttpAbuseArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let title = "What abuse over HTTP costs the TCP path";
    let mut draft = args.output.begin("http-abuse", title, cores)?;
    weir::out!("{}", draft.heading());
    weir::out!(
        "            {} messages/s by TCP; abuse: {} requests/s, or {} connections; {} pairs of {} s",
        args.rate, args.per_second, args.connections, args.pairs, args.seconds
    );
    weir::out!(
        "kind        rate quiet  beside   ratio (lowest)    CPU quiet  beside  lost  answers"
    );
    allow_connections(2 * args.connections + 256)?;
    pin(&args.system.load_cores)?;
    let mut all_held = true;
    for kind in &args.kinds {
        let (both, held) = measure(args, *kind)?;
        draft.report.series.extend(both);
        all_held &= held;
    }
    args.output.finish(draft, all_held)?;
    Ok(all_held)
}

fn measure(args: &HttpAbuseArgs, kind: Kind) -> io::Result<([Series; 2], bool)> {
    let most = args.connections + 100;
    let spec = format!("weir --http {{http}} --max-http-connections {most} --max-connections 100");
    let system = System::parse(&spec, &args.system, 256)?;
    system.ensure_exists()?;
    let mut child = system.start(&args.system.system_cores)?;
    let mut drive = Drive::new()?;
    let sink = SinkArgs::default();
    drive.attach_sink(&sink, child.analyzers)?;
    drive.attach_load(&load(args), child.emitters)?;
    settle(&child, &mut drive)?;
    drive.start()?;

    let outcomes = Outcomes::default();
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..args.pairs {
        quiet.push(span(args, &child, &mut drive)?);
        let stop = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            let abuser = scope.spawn(|| abuse(kind, args, child.http, &stop, &outcomes));
            let measured = span(args, &child, &mut drive);
            stop.store(true, Ordering::Relaxed);
            abuser
                .join()
                .map_err(|_| io::Error::other("the abuser panicked"))??;
            measured
        });
        beside.push(measured.map_err(|e| {
            io::Error::new(e.kind(), format!("{kind:?}: {e}{}", child.last_words()))
        })?);
    }
    if let Some(load) = &mut drive.load {
        load.finish();
    }
    drive.run_until(STALL_PATIENCE, Drive::is_all_delivered)?;
    let lost = drive.sent() - drive.delivered();
    drive.load = None;
    child.stop(|| drop(drive.turn(Duration::from_millis(5))))?;

    let median = |spans: &[Span], of: fn(&Span) -> f64| {
        median_min_max(&spans.iter().map(of).collect::<Vec<_>>()).0
    };
    let ratios: Vec<f64> = beside
        .iter()
        .zip(&quiet)
        .map(|(beside, quiet)| beside.rate / quiet.rate)
        .collect();
    let (ratio, lowest, _) = median_min_max(&ratios);
    let rates = (median(&quiet, |s| s.rate), median(&beside, |s| s.rate));
    let cpu = (
        median(&quiet, |s| s.cpu_share),
        median(&beside, |s| s.cpu_share),
    );
    let outcomes = outcomes.line();
    weir::out!(
        "{:<10} {:>10.0}  {:>8.0}  {ratio:.3} ({lowest:.3})     {:>6.1} %  {:>5.1} %    {lost}  {outcomes}",
        format!("{kind:?}").to_lowercase(), rates.0, rates.1, 100.0 * cpu.0, 100.0 * cpu.1,
    );
    let held = ratio >= RATE_LEAST && lost == 0;
    let series = |label: &str, spans: &[Span], notes: Vec<String>| Series {
        scenario: format!("{kind:?}").to_lowercase(),
        label: label.into(),
        parameters: named([
            ("rate", Parameter::Whole(args.rate)),
            ("abusive requests/s", Parameter::Whole(args.per_second)),
            (
                "connections of idle and loris",
                Parameter::Whole(args.connections as u64),
            ),
        ]),
        runs: spans.iter().map(|span| span.to_run(args.seconds)).collect(),
        notes,
        ..Series::default()
    };
    let answers = vec![
        format!("answers: {outcomes}"),
        format!("messages lost: {lost}"),
    ];
    let both = [
        series("quiet", &quiet, Vec::new()),
        series("beside abuse", &beside, answers),
    ];
    Ok((both, held))
}

fn load(args: &HttpAbuseArgs) -> LoadArgs {
    LoadArgs {
        connections: 16,
        per_write: 16,
        rate: (args.rate > 0).then_some(args.rate),
        tick_us: 1000,
        in_flight: if args.rate > 0 { 0 } else { 16_384 },
        seconds: Some(3600.0),
        ..LoadArgs::default()
    }
}

/// Runs load and sink for a span; what came through in it.
fn span(args: &HttpAbuseArgs, child: &UnderTest, drive: &mut Drive) -> io::Result<Span> {
    let turn_for = |drive: &mut Drive, time: Duration| {
        let end_ns = mono_ns() + time.as_nanos() as u64;
        while mono_ns() < end_ns {
            drive.turn(Duration::from_millis(5))?;
        }
        Ok::<(), io::Error>(())
    };
    turn_for(drive, LEAD)?;
    let before = (drive.delivered(), child.cpu()?, mono_ns());
    turn_for(drive, Duration::from_secs_f64(args.seconds))?;
    let after = (drive.delivered(), child.cpu()?, mono_ns());
    let wall_ns = (after.2 - before.2) as f64;
    Ok(Span {
        rate: (after.0 - before.0) as f64 * 1e9 / wall_ns,
        cpu_share: after.1.ns_since(&before.1) as f64 / wall_ns,
    })
}

/// Abuses until `stop`. Whatever the distributor does to these connections is well done.
fn abuse(
    kind: Kind,
    args: &HttpAbuseArgs,
    http: SocketAddr,
    stop: &AtomicBool,
    outcomes: &Outcomes,
) -> io::Result<()> {
    let is_over = || stop.load(Ordering::Relaxed);
    match kind {
        Kind::Idle | Kind::Loris => crowd(kind, args, http, stop, outcomes),
        Kind::Deaf => {
            let request = post_whole("", b"x").repeat(200);
            while !is_over() {
                let mut client = HttpClient::connect(http)?;
                client
                    .stream
                    .set_write_timeout(Some(Duration::from_millis(100)))?;
                while !is_over() && client.stream.write_all(&request).is_ok() {
                    outcomes.count("sent", 200);
                }
                while !is_over() && client.stream.write(b"P").is_err() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Ok(())
        }
        _ => {
            let request = request_of(kind)?;
            let pause = Duration::from_secs(1) / u32::try_from(args.per_second).unwrap_or(u32::MAX);
            let mut due_ns = mono_ns();
            while !is_over() {
                match HttpClient::connect(http)?.ask(&request) {
                    Ok(status) => outcomes.count(status, 1),
                    Err(_) => outcomes.count("no answer", 1),
                }
                due_ns += pause.as_nanos() as u64;
                let wait_ns = due_ns.saturating_sub(mono_ns());
                std::thread::sleep(Duration::from_nanos(wait_ns));
            }
            Ok(())
        }
    }
}

/// Many connections at once.
fn crowd(
    kind: Kind,
    args: &HttpAbuseArgs,
    http: SocketAddr,
    stop: &AtomicBool,
    outcomes: &Outcomes,
) -> io::Result<()> {
    let connect = |_| TcpStream::connect(http);
    let mut streams: Vec<TcpStream> = (0..args.connections)
        .map(connect)
        .collect::<Result<_, _>>()?;
    outcomes.count("connections", streams.len() as u64);
    let pause = Duration::from_secs(1) / u32::try_from(streams.len().max(1)).unwrap_or(u32::MAX);
    while !stop.load(Ordering::Relaxed) {
        for stream in &mut streams {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if kind == Kind::Loris {
                let _ = stream.write(b"P");
                outcomes.count("bytes", 1);
            }
            std::thread::sleep(pause);
        }
    }
    Ok(())
}

fn request_of(kind: Kind) -> io::Result<Vec<u8>> {
    let packet = br#"{"emitterId":"e","messages":[{}]}"#;
    Ok(match kind {
        Kind::Head => post(&format!("X: {}\r\n", "x".repeat(MIB)), b""),
        Kind::Long => post_whole("", &vec![b' '; 2 * MIB]),
        Kind::Chunk => post("Transfer-Encoding: chunked\r\n", b"5\r\nhello world\r\n"),
        Kind::Utf8 => {
            let mut body = vec![b' '; MIB / 4];
            body.push(0xFF);
            post_whole("", &body)
        }
        Kind::Depth => {
            let deep = format!("{}{}", "[".repeat(450_000), "]".repeat(450_000));
            let body = format!("{{\"emitterId\":\"e\",\"messages\":[],\"x\":{deep}}}");
            post_whole("", body.as_bytes())
        }
        Kind::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(&vec![b' '; 64 * MIB])?;
            post_whole("Content-Encoding: gzip\r\n", &gzip.finish()?)
        }
        Kind::Smuggle => {
            let hidden = [b"0\r\n\r\n", post_whole("", packet).as_slice()].concat();
            post_whole("Transfer-Encoding: chunked\r\n", &hidden)
        }
        Kind::Idle | Kind::Loris | Kind::Deaf => Vec::new(),
    })
}
