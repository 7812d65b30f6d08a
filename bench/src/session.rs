//! A running system with load and sink connected to it, and one trial on it.
//!
//! ```text
//! open: start the child, connect, wait until it rests
//! trial:  |start ...... schedule ends|... late ...|... drain ...|
//!         '- CPU, rate delivered ----'
//!         '---- what came by now is in time -----'
//!                                                  whatever was sent has to come at last
//! ```
//!
//! **Loss.** A distributor that delivers at least once over TCP drops nothing when it has too much to do:
//! it stops reading, and the emitters wait. So a message that is due counts as lost when it has not reached
//! an analyzer within `late` of its *intended* time, whatever the reason: it was never written because the
//! emitter's socket stayed full, it was refused (HTTP 503), it came too late, or it never came. A
//! message that was written and never came is besides that an error of the system, and reported apart
//! as missing.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::child::{Stopped, System, UnderTest, Wiring};
use crate::cpu::user_share;
use crate::drive::Drive;
use crate::ksoftirqd::Ksoftirqd;
use crate::load::{Format, LoadArgs};
use crate::net::{allow_connections, mono_ns};
use crate::report::{
    lag_warning, load_lag, named, unix_seconds, Better, Cpu, Latency, Messages, Run, Sample, Value,
};
use crate::run::settle;
use crate::sink::{Dialect, Sink, SinkArgs, Stream};

/// Nothing moved for so long: what is under way does not come.
const STALL_PATIENCE: Duration = Duration::from_secs(5);

/// What runs, until [`Session::close`]. Dropping it kills the system.
pub struct Session {
    pub child: UnderTest,
    pub drive: Drive,
    /// The kernel's network threads on the system's cores.
    pub ksoftirqd: Ksoftirqd,
}

/// One trial: offered, delivered, how late, at what cost.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Offered messages per second, and for how long.
    pub rate: u64,
    /// When its schedule began, seconds since 1970.
    pub started_unix_seconds: f64,
    pub seconds: f64,
    /// Messages that the schedule wanted sent.
    pub due: u64,
    /// Of these in time at an analyzer.
    pub in_time: u64,
    /// Written by the load; the rest of `due` found its socket full to the end.
    pub sent: u64,
    /// HTTP: in packets that were not taken.
    pub refused: u64,
    /// Connections closed and opened again.
    pub renewed: u64,
    /// Written (and taken), but never came.
    pub missing: u64,
    pub duplicates: u64,
    pub foreign: u64,
    /// Delivered per second while the schedule ran.
    pub delivered_per_second: f64,
    /// Intended time to first read, of all that came.
    pub latency_ns: Histogram<u64>,
    /// 99th percentile of how late the load itself was: above the limit for latency the trial says
    /// nothing about the system.
    pub lag_p99_ns: u64,
    /// CPU time of the system per message delivered, and of one core.
    pub cpu_ns_per_message: f64,
    /// Of ksoftirqd on its cores, where it can be seen.
    pub ksoftirqd_ns_per_message: Option<f64>,
    pub cores_used: f64,
    /// Of it in user mode, 0 to 1.
    pub user_share: f64,
    /// Part of the messages that each analyzer got.
    pub shares: Vec<f64>,
    /// The trial over time.
    pub samples: Vec<Sample>,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
}

impl Trial {
    /// Part of the due messages that were not in time.
    pub fn loss(&self) -> f64 {
        self.due.saturating_sub(self.in_time) as f64 / self.due.max(1) as f64
    }

    pub fn p99_ns(&self) -> u64 {
        self.latency_ns.value_at_quantile(0.99)
    }

    /// All that was written came, once, and nothing else did.
    pub fn is_exact(&self) -> bool {
        self.missing == 0 && self.duplicates == 0 && self.foreign == 0
    }

    /// For a report. `lost` is what never came; what came too late is a figure of its own.
    pub fn to_run(&self) -> io::Result<Run> {
        let number = |value: f64, unit: &str, better| Value {
            value,
            unit: unit.into(),
            better,
        };
        Ok(Run {
            started_unix_seconds: Some(self.started_unix_seconds),
            wall_seconds: self.seconds,
            messages: Messages {
                sent: self.sent,
                received: self.latency_ns.len(),
                lost: self.missing,
                twice: self.duplicates,
                foreign: self.foreign,
            },
            messages_per_second: Some(self.delivered_per_second),
            shares: self.shares.clone(),
            cpu: Some(
                Cpu::split(self.cpu_ns_per_message, self.user_share)
                    .with_ksoftirqd(self.ksoftirqd_ns_per_message),
            ),
            latencies: Vec::from_iter(Latency::of("latency", &self.latency_ns)?),
            samples: self.samples.clone(),
            values: named([
                (
                    "offered",
                    number(self.rate as f64, "messages/s", Better::Neither),
                ),
                (
                    "not in time",
                    number(self.loss() * 100.0, "%", Better::Lower),
                ),
                (
                    "refused",
                    number(self.refused as f64, "messages", Better::Lower),
                ),
                ("cores used", number(self.cores_used, "", Better::Neither)),
            ])
            .into_iter()
            .chain([load_lag(self.lag_p99_ns)])
            .collect(),
            notes: lag_warning(self.lag_p99_ns, self.p99_ns())
                .into_iter()
                .chain(self.notes.iter().cloned())
                .collect(),
            ..Run::default()
        })
    }
}

impl Session {
    /// Starts a fresh child of `system` and connects everything. Pins nothing but the child.
    pub fn open(
        system: &System,
        load: &LoadArgs,
        sink: &SinkArgs,
        cores: &[usize],
    ) -> io::Result<Self> {
        // Before the child starts: it inherits the limit. A proxy of bytes opens two for each emitter, and
        // the sink has the other end of one of them; a log system has one connection to each target.
        let each = match system.wiring {
            Wiring::Connects(Stream::Frames) => 3,
            _ => 1,
        };
        allow_connections(load.connections as usize * each + sink.weights.len())?;
        let (mut load, mut sink) = (load.clone(), sink.clone());
        system.secure(&mut load, &mut sink);
        let (load, sink) = (&load, &sink);
        let mut drive = Drive::new()?;
        let targets = match system.wiring {
            Wiring::Connects(stream) => drive.attach_listening_sink(sink, stream)?,
            _ => Vec::new(),
        };
        let mut child =
            system.start_for(cores, &targets, &sink.weights, load.connections as usize)?;
        match Self::connect(system, load, sink, &child, &mut drive) {
            Ok(()) => Ok(Self {
                child,
                drive,
                ksoftirqd: Ksoftirqd::of(cores),
            }),
            Err(e) => {
                let said = child.last_words();
                Err(io::Error::new(
                    e.kind(),
                    format!("{}: {e}{said}", system.spec),
                ))
            }
        }
    }

    fn connect(
        system: &System,
        load: &LoadArgs,
        sink: &SinkArgs,
        child: &UnderTest,
        drive: &mut Drive,
    ) -> io::Result<()> {
        match system.wiring {
            Wiring::Weir => drive.attach_sink(sink, child.analyzers)?,
            Wiring::Relay => {
                let sink = SinkArgs {
                    dialect: Dialect::Compact,
                    ..sink.clone()
                };
                drive.attach_sink(&sink, child.analyzers)?;
            }
            Wiring::Connects(_) => {}
        }
        let emitters = match load.format() {
            Format::Http => child.http,
            _ => child.emitters,
        };
        drive.attach_load(load, emitters)?;
        settle(child, drive)?;
        match drive.sink.as_ref().map_or(0, Sink::closed_links) {
            0 => Ok(()),
            // Whoever connects looks first whether somebody listens, and closes that connection.
            _ if matches!(system.wiring, Wiring::Connects(_)) => Ok(()),
            closed => Err(io::Error::other(format!(
                "{closed} of {} analyzer links were closed at once: the system serves fewer (weir: a larger --arena)",
                sink.weights.len()
            ))),
        }
    }

    /// Offers `rate` for `seconds`; what comes within `late` is in time. The session can go on with the
    /// next trial if nothing is missing.
    pub fn trial(
        &mut self,
        rate: u64,
        seconds: f64,
        late: Duration,
        seed: u64,
    ) -> io::Result<Trial> {
        let (load, sink) = match (&mut self.drive.load, &mut self.drive.sink) {
            (Some(load), Some(sink)) => (load, sink),
            _ => return Err(io::Error::other("a trial needs load and sink")),
        };
        load.rearm(rate, seconds, seed);
        sink.forget();
        let due = load.total();
        self.drive.start_sampling(Duration::from_secs_f64(seconds));
        let (start_ns, cpu_start, ticks) = (mono_ns(), self.child.cpu()?, self.child.ticks()?);
        let ksoftirqd_start_ns = self.ksoftirqd.cpu_ns();
        let started_unix_seconds = unix_seconds();
        self.drive.start()?;
        let end_ns = start_ns + (seconds * 1e9) as u64;
        self.run_to(end_ns)?;
        let (now_ns, cpu_end) = (mono_ns(), self.child.cpu()?);
        let cpu_ns = cpu_end.ns_since(&cpu_start);
        let (delivered, user_share) = (
            self.drive.delivered(),
            user_share(self.child.ticks()?, ticks),
        );
        let ksoftirqd_ns = self
            .ksoftirqd
            .cpu_ns()
            .zip(ksoftirqd_start_ns)
            .map(|(now, start)| now.saturating_sub(start));
        self.run_to(end_ns + late.as_nanos() as u64)?;
        if let Some(load) = &mut self.drive.load {
            load.finish();
        }
        self.drive
            .run_until(STALL_PATIENCE, Drive::is_all_delivered)?;
        let samples = self.drive.take_samples()?;

        let (load, sink) = match (&self.drive.load, &self.drive.sink) {
            (Some(load), Some(sink)) => (load, sink),
            _ => return Err(io::Error::other("a trial needs load and sink")),
        };
        let (tally, refused) = (&sink.tally, load.answers().refused);
        let frames = tally.per_analyzer.iter().sum::<u64>().max(1);
        Ok(Trial {
            rate,
            started_unix_seconds,
            seconds,
            due,
            in_time: tally.within(late.as_nanos() as u64),
            sent: load.sent(),
            refused,
            renewed: load.churned(),
            missing: tally.set.missing(load.sent()).saturating_sub(refused),
            duplicates: tally.set.duplicates(),
            foreign: tally.foreign,
            delivered_per_second: delivered as f64 * 1e9 / (now_ns - start_ns) as f64,
            latency_ns: tally.latency_ns.clone(),
            lag_p99_ns: load.lag_ns().value_at_quantile(0.99),
            cpu_ns_per_message: cpu_ns as f64 / delivered.max(1) as f64,
            ksoftirqd_ns_per_message: ksoftirqd_ns.map(|ns| ns as f64 / delivered.max(1) as f64),
            cores_used: cpu_ns as f64 / (now_ns - start_ns) as f64,
            user_share,
            shares: tally
                .per_analyzer
                .iter()
                .map(|n| *n as f64 / frames as f64)
                .collect(),
            samples,
            notes: Vec::from_iter(cpu_end.note_since(&cpu_start)),
        })
    }

    /// Until a moment, or until all is there.
    fn run_to(&mut self, end_ns: u64) -> io::Result<()> {
        let patience = Duration::from_nanos(end_ns.saturating_sub(mono_ns())) + STALL_PATIENCE;
        self.drive
            .run_until(patience, |d| mono_ns() >= end_ns || d.is_all_delivered())?;
        Ok(())
    }

    /// SIGTERM, with the sink answering until the system has ended.
    pub fn close(self) -> io::Result<Stopped> {
        let Self {
            child, mut drive, ..
        } = self;
        drive.load = None;
        child.stop(|| {
            // A reset by the ending child is no failure of the run.
            let _ = drive.turn(Duration::from_millis(5));
        })
    }
}
