//! How long the messages of a dead analyzer are in limbo: analyzers that are processes of their
//! own are killed with SIGKILL, one after the other, under load.
//!
//! ```text
//! kill(2)            distributor sees the end       last un-ACKed message written to another
//!    |------ detected ----->|------------- re-routed ------------->|
//!    '------------------- fail-over time, reported ----------------'
//! ```
//!
//! The two later moments come from the distributor's own log line (CLOCK_MONOTONIC, the same clock
//! as here). What arrived is checked independently, from the analyzers' journals.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::analyzers::Analyzers;
use crate::check::nanosecond_histogram;
use crate::child::{System, SystemArgs, UnderTest};
use crate::drive::Drive;
use crate::load::{LoadArgs, Sizes};
use crate::net::pin;
use crate::report::{
    count, named, percentiles_line, Better, Cores, Latency, Messages, OutputArgs, Parameter, Run,
    Series,
};
use crate::sink::{Dialect, SinkArgs};

/// Arguments of `weir-bench failover`.
#[derive(Debug, Clone, clap::Args)]
pub struct FailoverArgs {
    /// What to measure: 'weir [args]' (a relay runs too, and loses messages)
    #[arg(long, default_value = "weir")]
    pub a: String,
    /// Analyzers killed, in turn
    #[arg(long, default_value_t = 50)]
    pub kills: u32,
    /// Messages per second offered
    #[arg(long, default_value_t = 100_000)]
    pub rate: u64,
    /// Emitter connections
    #[arg(long, default_value_t = 64)]
    pub connections: u32,
    /// Bytes of a message, its header included
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// One analyzer process for each weight
    #[arg(long, value_delimiter = ',', default_value = "0.25,0.25,0.25,0.25")]
    pub weights: Vec<f64>,
    /// What the analyzers speak
    #[arg(long, value_enum, default_value = "compact")]
    pub dialect: Dialect,
    /// Messages an analyzer owes before it ACKs; keeps some un-ACKed whenever it is killed
    #[arg(long, default_value_t = 500)]
    pub ack_every: u64,
    /// Milliseconds after a kill in which its re-route lines are collected, and as long again
    /// after the restart
    #[arg(long, default_value_t = 250, value_name = "MS")]
    pub settle_ms: u64,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl FailoverArgs {
    fn sinks(&self) -> SinkArgs {
        SinkArgs {
            weights: self.weights.clone(),
            dialect: self.dialect,
            ack_every: self.ack_every,
            id_prefix: "a".into(),
            ..SinkArgs::default()
        }
    }
}

/// One line of the distributor: a dead link's messages have all been written to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReRouted {
    pub messages: u64,
    pub detected_ns: u64,
    pub last_written_ns: u64,
}

impl ReRouted {
    /// `... re-routed link=3 analyzer=a1 messages=25 detected_mono_ns=1 last_written_mono_ns=2`,
    /// whatever the log puts before it and whatever fields are added.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.split_once("re-routed ")?;
        let number = |name: &str| -> Option<u64> {
            let value = fields
                .split_whitespace()
                .find_map(|f| f.strip_prefix(name))?;
            value.parse().ok()
        };
        Some(Self {
            messages: number("messages=")?,
            detected_ns: number("detected_mono_ns=")?,
            last_written_ns: number("last_written_mono_ns=")?,
        })
    }
}

/// Times over all kills.
struct Times {
    detected_ns: Histogram<u64>,
    re_routed_ns: Histogram<u64>,
    messages: u64,
    /// Kills after which no line with messages came.
    silent_kills: u32,
}

impl Times {
    /// One kill: the last link counts.
    fn record(&mut self, killed_ns: u64, lines: &[ReRouted]) {
        let full = || {
            lines
                .iter()
                .filter(|l| l.messages > 0 && l.detected_ns >= killed_ns)
        };
        self.messages += full().map(|l| l.messages).sum::<u64>();
        let detected = full().map(|l| l.detected_ns).max();
        let written = full().map(|l| l.last_written_ns).max();
        match detected.zip(written) {
            Some((detected_ns, written_ns)) => {
                self.detected_ns
                    .saturating_record((detected_ns - killed_ns).max(1));
                self.re_routed_ns
                    .saturating_record(written_ns.saturating_sub(killed_ns).max(1));
            }
            None => self.silent_kills += 1,
        }
    }
}

/// The emitters on their own thread, because this one kills and waits.
struct Emitters {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Emitters {
    fn start(args: &FailoverArgs, emitters: SocketAddr) -> io::Result<Self> {
        let load = LoadArgs {
            connections: args.connections,
            size: Sizes::Fixed(args.size),
            rate: Some(args.rate),
            // Sleeps between bursts: a spinning load would take the core from the analyzers.
            tick_us: 500,
            messages: Some(u64::MAX),
            ..LoadArgs::default()
        };
        let mut drive = Drive::new()?;
        drive.attach_load(&load, emitters)?;
        drive.start()?;
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopping, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                drive.turn(Duration::from_millis(1))?;
                counted.store(drive.sent(), Ordering::Relaxed);
            }
            // What is stamped but not yet taken by a socket still goes.
            if let Some(load) = &mut drive.load {
                load.finish();
            }
            drive
                .run_until(Duration::from_secs(5), Drive::is_load_finished)
                .map(|_| ())
        });
        Ok(Self { stop, sent, thread })
    }

    /// Messages sent in all.
    fn finish(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| io::Error::other("the emitter thread panicked"))??;
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

/// Runs and reports. False when a message was lost.
pub fn run(args: &FailoverArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let title = format!("Fail-over of {}: {} analyzers killed", args.a, args.kills);
    let mut draft = args.output.begin("failover", &title, cores)?;
    weir::out!("{}\n            system = {}", draft.heading(), args.a);
    let system = System::parse(&args.a, &args.system, args.size)?;
    system.ensure_exists()?;
    pin(&args.system.load_cores)?;
    let mut child = system.start(&args.system.system_cores)?;
    let settle = Duration::from_millis(args.settle_ms);
    let mut analyzers = Analyzers::start(args.sinks(), child.analyzers, &args.system.load_cores)?;
    std::thread::sleep(settle);
    let emitters = Emitters::start(args, child.emitters)
        .map_err(|e| io::Error::new(e.kind(), format!("{e}{}", child.last_words())))?;
    let times = kill_in_turn(args, &mut child, &mut analyzers, settle)?;
    let sent = emitters.finish()?;
    analyzers.wait_for(sent)?;
    let stopped = child.stop(|| std::thread::sleep(Duration::from_millis(5)))?;
    let received = analyzers.received()?;
    let lost = received.missing(sent);

    weir::out!(
        "kills       {} at {} msg/s over {} connections; {} without a re-route line",
        args.kills,
        args.rate,
        args.connections,
        times.silent_kills
    );
    weir::out!("detected    {}", percentiles_line(&times.detected_ns));
    weir::out!(
        "fail-over   {}  SIGKILL to the last un-ACKed message written",
        percentiles_line(&times.re_routed_ns)
    );
    weir::out!(
        "messages    sent {sent}, delivered {}, lost {lost}, re-routed {}, received twice {}",
        received.distinct(),
        times.messages,
        received.duplicates()
    );
    weir::out!("last line   {}", stopped.last_line);
    let mut run = Run {
        messages: Messages {
            sent,
            received: received.distinct(),
            lost,
            twice: received.duplicates(),
            foreign: 0,
        },
        values: named([
            (
                "kills without a re-route line",
                count(times.silent_kills.into(), Better::Neither),
            ),
            ("messages re-routed", count(times.messages, Better::Neither)),
        ]),
        notes: vec![stopped.last_line],
        ..Run::default()
    };
    for (what, histogram_ns) in [
        ("fail-over", &times.re_routed_ns),
        ("detection", &times.detected_ns),
    ] {
        run.latencies.extend(Latency::of(what, histogram_ns)?);
    }
    if let Some(counters) = stopped.counters {
        counters.put_into(&mut run);
    }
    draft.report.series.push(Series {
        scenario: "failover".into(),
        label: args.a.clone(),
        parameters: named([
            ("kills", Parameter::Whole(args.kills.into())),
            ("rate", Parameter::Whole(args.rate)),
            ("connections", Parameter::Whole(args.connections.into())),
            ("message bytes", Parameter::Whole(args.size as u64)),
            ("ACK every", Parameter::Whole(args.ack_every)),
        ]),
        runs: vec![run],
        notes: vec![
            "fail-over: SIGKILL to the last un-ACKed message written to another analyzer".into(),
            "received twice: read by the dead analyzer and not ACKed; at least once, as promised"
                .into(),
        ],
        ..Series::default()
    });
    args.output.finish(draft, lost == 0)?;
    Ok(lost == 0)
}

fn kill_in_turn(
    args: &FailoverArgs,
    child: &mut UnderTest,
    analyzers: &mut Analyzers,
    settle: Duration,
) -> io::Result<Times> {
    let mut times = Times {
        detected_ns: nanosecond_histogram(),
        re_routed_ns: nanosecond_histogram(),
        messages: 0,
        silent_kills: 0,
    };
    for kill in 0..args.kills as usize {
        collect(child, settle);
        let index = kill % args.weights.len();
        let killed_ns = analyzers.kill(index)?;
        times.record(killed_ns, &collect(child, settle));
        analyzers.restart(index)?;
    }
    Ok(times)
}

/// The re-route lines of the next `span`.
fn collect(child: &mut UnderTest, span: Duration) -> Vec<ReRouted> {
    let deadline = Instant::now() + span;
    let mut lines = Vec::new();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match child.next_line(left) {
            Some(line) => lines.extend(ReRouted::parse(&line)),
            // Also when the child closed its stderr: the span is kept.
            None => std::thread::sleep(deadline.saturating_duration_since(Instant::now())),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "[2026-01-01T00:00:00Z INFO weir] re-routed link=3 analyzer=a1 messages=25 \
                        detected_mono_ns=1500 last_written_mono_ns=2000";

    #[test]
    fn the_line_is_found_behind_a_log_prefix() {
        let expected = ReRouted {
            messages: 25,
            detected_ns: 1500,
            last_written_ns: 2000,
        };
        assert_eq!(ReRouted::parse(LINE), Some(expected));
        assert_eq!(ReRouted::parse("accepted link=3"), None);
        assert_eq!(ReRouted::parse("re-routed link=3 messages=many"), None);
    }

    #[test]
    fn the_last_link_of_a_kill_counts_and_empty_ones_do_not() {
        let mut times = Times {
            detected_ns: nanosecond_histogram(),
            re_routed_ns: nanosecond_histogram(),
            messages: 0,
            silent_kills: 0,
        };
        let line = |messages, detected_ns, last_written_ns| ReRouted {
            messages,
            detected_ns,
            last_written_ns,
        };
        times.record(
            1000,
            &[line(5, 1500, 2000), line(7, 1400, 2500), line(0, 9000, 0)],
        );
        times.record(5000, &[line(5, 1500, 2000)]);
        assert_eq!(
            (times.detected_ns.max(), times.re_routed_ns.max()),
            (500, 1500)
        );
        assert_eq!((times.messages, times.silent_kills), (12, 1));
    }
}
