//! One run of one system: start it, connect, load, measure its CPU clock over the steady part,
//! check what arrived, stop it.
//!
//! ```text
//! connect  settle |start ...ramp... |10 % delivered ===== CPU clock ===== 95 %| ...drain... | SIGTERM
//! ```

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::child::{System, UnderTest};
use crate::counters::Counters;
use crate::cpu::{user_share, CpuTime};
use crate::drive::{Drive, Ended};
use crate::ksoftirqd::Ksoftirqd;
use crate::load::LoadArgs;
use crate::net::mono_ns;
use crate::report::{lag_warning, load_lag, unix_seconds, Cpu, Latency, Messages, Run, Sample};
use crate::session::Session;
use crate::sink::SinkArgs;

/// The CPU clock is read between these shares of the messages: neither start nor drain counts.
const STEADY_FROM: f64 = 0.10;
const STEADY_TO: f64 = 0.95;
/// No progress for so long, and what is missing is lost.
const STALL_PATIENCE: Duration = Duration::from_secs(5);
/// The child is quiet when it used less than a tenth of this span; the reference dialects need
/// 50 ms of silence to be told apart, so never less than two spans.
const QUIET_SPAN: Duration = Duration::from_millis(100);
const QUIET_SPANS_MAX: usize = 20;

/// A load, the sink for it, and a name.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub load: LoadArgs,
    pub sink: SinkArgs,
}

/// What one run gave.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub cpu_ns_per_message: f64,
    /// CPU time of ksoftirqd on the system's cores over the same messages, where it can be seen.
    pub ksoftirqd_ns_per_message: Option<f64>,
    /// Share of user time, from 10 ms ticks.
    pub user_share: f64,
    pub messages_per_second: f64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    /// Open loop: 99th percentile of how late the load itself was, over the same part as the latency.
    pub load_lag_p99_ns: Option<u64>,
    pub sent: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicates: u64,
    pub foreign: u64,
    /// Share of the messages each analyzer got.
    pub shares: Vec<f64>,
    /// Exit code 0 after SIGTERM, or a relay, which only ever dies of it.
    pub ended_cleanly: bool,
    /// Its last line on stderr.
    pub last_line: String,
    /// What it counted itself.
    pub counters: Option<Counters>,
    /// The measured part.
    pub wall_seconds: f64,
    /// Intended send to read, over the measured part and the drain.
    pub latency_ns: Histogram<u64>,
    /// When the load started.
    pub started_unix_seconds: f64,
    /// The whole run over time.
    pub samples: Vec<Sample>,
    /// What a reader of the figures must know: a stall, a worker that ended.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Every message exactly once, and nothing else.
    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.foreign == 0
    }

    /// CPU of the process and of ksoftirqd together (ns a message).
    pub fn cpu_with_ksoftirqd_ns(&self) -> Option<f64> {
        self.ksoftirqd_ns_per_message
            .map(|ns| ns + self.cpu_ns_per_message)
    }

    /// What a reader of its latency must know.
    pub fn lag_warning(&self) -> Option<String> {
        lag_warning(self.load_lag_p99_ns?, self.p99_ns)
    }

    /// For a report.
    ///
    /// # Errors
    /// As for [`Latency::of`].
    pub fn to_run(&self) -> io::Result<Run> {
        let mut run = Run {
            started_unix_seconds: Some(self.started_unix_seconds),
            wall_seconds: self.wall_seconds,
            messages: Messages {
                sent: self.sent,
                received: self.delivered,
                lost: self.lost,
                twice: self.duplicates,
                foreign: self.foreign,
            },
            messages_per_second: Some(self.messages_per_second),
            shares: self.shares.clone(),
            cpu: Some(
                Cpu::split(self.cpu_ns_per_message, self.user_share)
                    .with_ksoftirqd(self.ksoftirqd_ns_per_message),
            ),
            latencies: Vec::from_iter(Latency::of("latency", &self.latency_ns)?),
            samples: self.samples.clone(),
            ..Run::default()
        };
        if let Some(counters) = &self.counters {
            counters.put_into(&mut run);
        }
        run.values.extend(self.load_lag_p99_ns.map(load_lag));
        run.notes.extend(self.lag_warning());
        run.notes.extend(self.notes.iter().cloned());
        if !self.ended_cleanly {
            let what = format!("did not end with exit status 0: {}", self.last_line);
            run.notes.push(what);
        } else if self.counters.is_some() {
            run.notes.push(self.last_line.clone());
        }
        Ok(run)
    }
}

/// Runs `scenario` against a fresh child of `system`. The caller's thread plays load and sink.
pub fn run_once(system: &System, scenario: &Scenario, cores: &[usize]) -> io::Result<Outcome> {
    let mut session = Session::open(system, &scenario.load, &scenario.sink, cores)?;
    let steady = measure(
        &mut session,
        scenario,
        system.does().has_acks || !system.is_peer(),
    )
    .map_err(|e| {
        let said = session.child.last_words();
        io::Error::new(e.kind(), format!("{}: {e}{said}", system.spec))
    })?;
    let Session {
        child, mut drive, ..
    } = session;
    let sent = drive.sent();
    let lag = drive.load.as_ref().filter(|_| scenario.load.rate.is_some());
    let load_lag_p99_ns = lag.map(|load| load.lag_ns().value_at_quantile(0.99));
    let samples = drive.take_samples()?;
    drive.load = None;
    let stopped = child.stop(|| {
        // A reset by the ending child is no failure of the run.
        let _ = drive.turn(Duration::from_millis(5));
    })?;
    let tally = &drive.sink.as_ref().expect("attached by the session").tally;
    let frames: u64 = tally.per_analyzer.iter().sum();
    let share = |n: &u64| *n as f64 / frames.max(1) as f64;
    Ok(Outcome {
        cpu_ns_per_message: steady.cpu_ns as f64 / steady.messages.max(1) as f64,
        ksoftirqd_ns_per_message: steady
            .ksoftirqd_ns
            .map(|ns| ns as f64 / steady.messages.max(1) as f64),
        load_lag_p99_ns,
        user_share: steady.user_share,
        messages_per_second: steady.messages as f64 * 1e9 / steady.wall_ns.max(1) as f64,
        p50_ns: tally.latency_ns.value_at_quantile(0.5),
        p99_ns: tally.latency_ns.value_at_quantile(0.99),
        latency_ns: tally.latency_ns.clone(),
        wall_seconds: steady.wall_ns as f64 / 1e9,
        started_unix_seconds: steady.started_unix_seconds,
        samples,
        notes: steady.notes,
        counters: stopped.counters,
        sent,
        delivered: tally.set.distinct(),
        lost: tally.set.missing(sent),
        duplicates: tally.set.duplicates(),
        foreign: tally.foreign,
        shares: tally.per_analyzer.iter().map(share).collect(),
        ended_cleanly: !system.is_weir() || stopped.status.is_some_and(|s| s.success()),
        last_line: if stopped.was_killed {
            format!("(SIGKILL needed) {}", stopped.last_line)
        } else {
            stopped.last_line
        },
    })
}

/// Differences over the steady part of a run.
struct Steady {
    messages: u64,
    cpu_ns: u64,
    ksoftirqd_ns: Option<u64>,
    wall_ns: u64,
    user_share: f64,
    started_unix_seconds: f64,
    notes: Vec<String>,
}

fn measure(session: &mut Session, scenario: &Scenario, is_lossless: bool) -> io::Result<Steady> {
    let Session {
        child,
        drive,
        ksoftirqd,
    } = session;
    let total = scenario.load.messages.expect("scenarios count messages");
    let (from, to) = (
        (total as f64 * STEADY_FROM) as u64,
        (total as f64 * STEADY_TO) as u64,
    );
    let rate = scenario.load.rate.unwrap_or(u64::MAX).max(1);
    drive.start_sampling(Duration::from_secs(total / rate));
    drive.start()?;
    let started_unix_seconds = unix_seconds();
    // Of a system that loses messages nobody knows how many will come: there the sent ones tell.
    let is_at = |d: &Drive, mark: u64| match is_lossless {
        true => d.delivered() >= mark,
        false => d.sent() >= mark,
    };
    reach(drive, |d| is_at(d, from))?;
    if let Some(sink) = &mut drive.sink {
        sink.tally.latency_ns.reset();
    }
    if let Some(load) = &mut drive.load {
        load.forget_lag();
    }
    let before = Reading::take(child, drive, ksoftirqd)?;
    let ended = drive.run_until(STALL_PATIENCE, |d| is_at(d, to))?;
    let mut steady = Reading::take(child, drive, ksoftirqd)?.since(&before);
    if ended == Ended::Stalled {
        let (delivered, sent) = (drive.delivered(), drive.sent());
        steady.notes.push(format!(
            "stalled at {delivered} delivered of {sent} sent, before 95 % of {total}: the measured part is shorter, \
             and {} s of waiting are in its rate",
            STALL_PATIENCE.as_secs()
        ));
    }
    steady.started_unix_seconds = started_unix_seconds;
    drive.run_until(STALL_PATIENCE, Drive::is_all_delivered)?;
    Ok(steady)
}

/// A system that delivers nothing has nothing to be measured.
fn reach(drive: &mut Drive, reached: impl Fn(&Drive) -> bool) -> io::Result<()> {
    match drive.run_until(STALL_PATIENCE, reached)? {
        Ended::Reached => Ok(()),
        Ended::Stalled => Err(io::Error::other(format!(
            "stalled at {} delivered of {} sent",
            drive.delivered(),
            drive.sent()
        ))),
    }
}

/// Waits until the child has accepted everyone and rests, so that accepts are not measured.
pub fn settle(child: &UnderTest, drive: &mut Drive) -> io::Result<()> {
    let mut last = child.cpu()?;
    for span in 0..QUIET_SPANS_MAX {
        let end_ns = mono_ns() + QUIET_SPAN.as_nanos() as u64;
        while mono_ns() < end_ns {
            drive.turn(Duration::from_millis(10))?;
        }
        let now = child.cpu()?;
        if span > 0 && now.ns_since(&last) < QUIET_SPAN.as_nanos() as u64 / 10 {
            return Ok(());
        }
        last = now;
    }
    Ok(())
}

struct Reading {
    messages: u64,
    cpu: CpuTime,
    ksoftirqd_ns: Option<u64>,
    wall_ns: u64,
    ticks: (u64, u64),
}

impl Reading {
    fn take(child: &UnderTest, drive: &Drive, ksoftirqd: &Ksoftirqd) -> io::Result<Self> {
        Ok(Self {
            messages: drive.delivered(),
            cpu: child.cpu()?,
            ksoftirqd_ns: ksoftirqd.cpu_ns(),
            wall_ns: mono_ns(),
            ticks: child.ticks()?,
        })
    }

    fn since(&self, before: &Self) -> Steady {
        Steady {
            messages: self.messages - before.messages,
            cpu_ns: self.cpu.ns_since(&before.cpu),
            ksoftirqd_ns: self
                .ksoftirqd_ns
                .zip(before.ksoftirqd_ns)
                .map(|(now, before)| now.saturating_sub(before)),
            wall_ns: self.wall_ns - before.wall_ns,
            user_share: user_share(self.ticks, before.ticks),
            started_unix_seconds: 0.0,
            notes: Vec::from_iter(self.cpu.note_since(&before.cpu)),
        }
    }
}
