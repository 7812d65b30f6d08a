//! What a host can carry: the highest rate without loss (NDR) and with a little (PDR), then latency at
//! 10, 50 and 90 % of the first. The search is [`crate::search`], what counts as loss stands in
//! [`crate::session`].
//!
//! ```text
//! flood -> a guess x a seeded factor = start
//! start -> trials ... -> NDR in [lower, upper] -> PDR in [lower, upper]      again, from another start
//! ```

mod limits;
mod spread;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::child::System;
use crate::latency::{print_head, print_trial};
use crate::load::LoadArgs;
use crate::progress::Progress;
use crate::report::{median_min_max, Abscissa, Better, Draft, Run, Series, Value};
use crate::search::{start_part, Bounds, Goal, Point, Search, Verdict};
use crate::series::series;
use crate::session::{Session, Trial};
use crate::target::TargetArgs;
use limits::Limit;

/// Length of the flood that tells where to begin.
const FLOOD_SECONDS: f64 = 1.0;
const LATENCY_AT: [f64; 3] = [0.1, 0.5, 0.9];

/// Arguments of `weir-bench capacity`.
#[derive(Debug, Clone, clap::Args)]
pub struct CapacityArgs {
    /// Whole searches, each with a fresh process: their spread is how far the result can be trusted
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    repeat: u32,
    /// NDR: no message may be lost, and the 99th percentile of latency stays within so many milliseconds
    #[arg(long, default_value_t = 20.0, value_name = "MS", value_parser = milliseconds)]
    p99_ms: f64,
    /// PDR: this part of the messages may be lost
    #[arg(long, default_value_t = 0.005, value_name = "RATIO", value_parser = ratio)]
    pdr_loss: f64,
    /// PDR: limit for the 99th percentile of latency
    #[arg(long, default_value_t = 200.0, value_name = "MS", value_parser = milliseconds)]
    pdr_p99_ms: f64,
    /// A message that has not reached an analyzer so long after its intended time is lost
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    late_ms: u64,
    /// The search ends when the bounds are this close to each other
    #[arg(long, default_value_t = 0.02, value_name = "RATIO", value_parser = ratio)]
    width: f64,
    /// Exceed ratio (RFC 9971): part of the time tried at a rate in which p99 (and for the PDR loss) may
    /// miss its limit and the rate still count as held. 0 on a host of your own; above on one that is
    /// shared, where single trials are spoilt by others. It never forgives loss to the NDR
    #[arg(long, default_value_t = 0.4, value_name = "RATIO", value_parser = ratio)]
    exceed: f64,
    /// A trial that missed a limit while the load's own lag (p99, intended to real time of sending) was
    /// above this part of the limit for p99 is invalid: the load was the limit, and not the system
    #[arg(long, default_value_t = 0.5, value_name = "RATIO", value_parser = ratio)]
    load_lag: f64,
    /// Seconds of the shortest trials
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    trial_initial: f64,
    /// Seconds of the trials that decide
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
    trial_final: f64,
    /// Seconds of such trials at one rate that decide about it
    #[arg(long, default_value_t = 9.0, value_name = "SECONDS", value_parser = seconds)]
    duration_sum: f64,
    /// Lowest rate to try
    #[arg(long, default_value_t = 1_000, value_name = "RATE")]
    rate_min: u64,
    /// Highest rate to try, and what the flood offers that gives a search its first guess
    #[arg(long, default_value_t = 20_000_000, value_name = "RATE")]
    rate_max: u64,
    /// Seconds at 10, 50 and 90 % of the NDR; 0: not at all
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    latency_seconds: f64,
    #[command(flatten)]
    target: TargetArgs,
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(r) if (0.0..1.0).contains(&r) => Ok(r),
        _ => Err("a ratio is 0 or more and less than 1".into()),
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ms) if ms > 0.0 && ms <= 60_000.0 => Ok(ms),
        _ => Err("allowed are more than 0 and up to 60000 milliseconds".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.1..=600.0).contains(&s) => Ok(s),
        _ => Err("allowed are 0.1 to 600 seconds".into()),
    }
}

impl CapacityArgs {
    fn limits(&self) -> [Limit; 2] {
        let ns = |ms: f64| (ms * 1e6) as u64;
        [
            Limit {
                name: "NDR",
                loss_max: 0.0,
                p99_ns_max: ns(self.p99_ms),
                load_lag_max: self.load_lag,
            },
            Limit {
                name: "PDR",
                loss_max: self.pdr_loss,
                p99_ns_max: ns(self.pdr_p99_ms),
                load_lag_max: self.load_lag,
            },
        ]
    }

    fn goal(&self) -> Goal {
        Goal {
            final_trial_s: self.trial_final,
            initial_trial_s: self.trial_initial.min(self.trial_final),
            duration_sum_s: self.duration_sum.max(self.trial_final),
            exceed_ratio: self.exceed,
            width: self.width.max(0.001),
        }
    }

    fn check(&self) -> io::Result<()> {
        let refuse = |why: String| Err(io::Error::other(why));
        if self.rate_min == 0 || self.rate_min >= self.rate_max {
            return refuse(format!(
                "--rate-min {} --rate-max {}: allowed is 1 or more, and the second above the first",
                self.rate_min, self.rate_max
            ));
        }
        if self.target.load.rate.is_some() || self.target.load.messages.is_some() {
            return refuse("--rate and --messages: capacity chooses both".into());
        }
        Ok(())
    }
}

/// Trials on one session, which is replaced when something is missing in it.
struct Prober<'a> {
    args: &'a CapacityArgs,
    system: &'a System,
    load: &'a LoadArgs,
    session: Option<Session>,
    trials: Vec<Trial>,
    /// Trials so far, the flood and warm-ups too: each has a seed of its own.
    count: u64,
    progress: Progress,
    /// Sessions in which something was missing or came twice.
    broken: u32,
}

impl Prober<'_> {
    fn trial(&mut self, what: &str, rate: f64, seconds: f64) -> io::Result<Trial> {
        self.progress
            .step(&format!("{what}: {rate:.0}/s for {seconds:.1} s"));
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::open(
                self.system,
                self.load,
                &self.args.target.sink,
                &self.args.target.system.system_cores,
            )?,
        };
        let seed = self.load.seed + self.count;
        self.count += 1;
        let late = Duration::from_millis(self.args.late_ms);
        let trial = session.trial(rate as u64, seconds, late, seed)?;
        if trial.is_exact() {
            self.session = Some(session);
        } else {
            self.broken += 1;
            self.progress.wipe();
            weir::out!(
                "broken      {rate:.0}/s: missing {}, twice {}, foreign {}: the system is started anew",
                trial.missing, trial.duplicates, trial.foreign
            );
            session.close()?;
        }
        Ok(trial)
    }

    /// What comes through a flood: where to look, and no trial of a search.
    fn flood(&mut self) -> io::Result<f64> {
        let rate = self.args.rate_max as f64;
        let trial = self.trial("flood", rate, FLOOD_SECONDS)?;
        Ok(trial
            .delivered_per_second
            .clamp(self.args.rate_min as f64, rate))
    }

    /// The rates just above the bound failed while the system had time left.
    fn is_system_idle(&self, limit: Limit, bounds: Bounds) -> Option<String> {
        let (lower, cores) = (
            bounds.lower?,
            self.args.target.system.system_cores.len() as f64,
        );
        let above = |t: &&Trial| {
            t.rate as f64 > lower
                && (t.rate as f64) < lower * 1.1
                && limit.verdict(t) != Verdict::Good
        };
        let used: Vec<f64> = self
            .trials
            .iter()
            .filter(above)
            .map(|t| t.cores_used)
            .collect();
        if used.is_empty() || used.iter().any(|u| *u > 0.9 * cores) {
            return None;
        }
        let (median, ..) = median_min_max(&used);
        Some(format!(
            "above it the system used {median:.2} of {cores:.0} cores: load and sink were the limit, or waiting was"
        ))
    }

    /// Bounds of one limit; trials of the search before count as well.
    fn search(&mut self, limit: Limit, start: f64) -> io::Result<Bounds> {
        let (rate_min, rate_max) = (self.args.rate_min as f64, self.args.rate_max as f64);
        let search = Search {
            goal: self.args.goal(),
            rate_min,
            rate_max,
            start,
        };
        let point = |t: &Trial| Point {
            rate: t.rate as f64,
            seconds: t.seconds,
            verdict: limit.verdict(t),
        };
        let mut known: Vec<Point> = self.trials.iter().map(point).collect();
        search.run(&mut known, |rate, seconds| {
            // What is known is found again by its rate, a whole number.
            let trial = self.trial(limit.name, rate, seconds)?;
            let point = point(&trial);
            self.trials.push(trial);
            Ok(point)
        })
    }
}

/// All searches, their spread, and latencies below the result. False when a message was lost for
/// good, came twice or was foreign, or when no rate meets the limits.
pub fn run(args: &CapacityArgs) -> io::Result<bool> {
    args.check()?;
    let load = LoadArgs {
        rate: Some(args.rate_max),
        ..args.target.load.clone()
    };
    let (mut draft, system, load) = args.target.begin("capacity", &load)?;
    for limit in args.limits() {
        weir::out!(
            "{:<11} loss of at most {} %, p99 of at most {} ms; lost is what comes {} ms late or not at all",
            limit.name,
            limit.loss_max * 100.0,
            limit.p99_ns_max as f64 / 1e6,
            args.late_ms
        );
        weir::out!(
            "            a trial that fails while the load lags by more than {} ms (p99) is invalid",
            limit.lag_ns_max() / 1e6
        );
    }
    let exceed = format!(
        "exceed      {}: a rate still holds if this part of the time tried at it was bad; NDR: of latency only, \
         never of loss",
        args.exceed
    );
    weir::out!("{exceed}");
    draft.report.notes.push(exceed);
    let mut found: [Vec<Bounds>; 2] = [Vec::new(), Vec::new()];
    let mut broken = 0;
    for round in 1..=args.repeat {
        let (session, trials, progress) = (None, Vec::new(), Progress::new(0));
        let mut prober = Prober {
            args,
            system: &system,
            load: &load,
            session,
            trials,
            count: u64::from(round) << 32,
            progress,
            broken: 0,
        };
        let (flood, part) = (prober.flood()?, start_part(args.target.load.seed, round));
        let mut start = (flood * part)
            .clamp(args.rate_min as f64, args.rate_max as f64)
            .floor();
        let from = format!(
            "search {round}    starts at {start:.0}/s: {part:.3} (by --seed {}) of the {flood:.0}/s that came through a flood",
            args.target.load.seed
        );
        weir::out!("{from}");
        draft.report.notes.push(from);
        for (limit, found) in args.limits().into_iter().zip(&mut found) {
            let bounds = prober.search(limit, start)?;
            prober.progress.wipe();
            weir::out!(
                "  {:<9} {}; {} trials so far",
                limit.name,
                spread::line(&bounds),
                prober.trials.len()
            );
            if let Some(text) = prober.is_system_idle(limit, bounds) {
                weir::out!("            {text}");
                draft.report.notes.push(format!("{}: {text}", limit.name));
            }
            found.push(bounds);
            start = bounds.lower.unwrap_or(start);
            draft.report.series.push(trials_series(
                round, limit, bounds, &prober, &system, &load,
            )?);
        }
        broken += prober.broken;
        if let Some(session) = prober.session.take() {
            session.close()?;
        }
    }
    for (limit, found) in args.limits().iter().zip(&found) {
        let text = spread::summary(limit.name, found);
        weir::out!("{text}");
        draft
            .report
            .notes
            .push(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let mut is_exact = broken == 0;
    let ndr: Vec<f64> = found[0].iter().filter_map(|bounds| bounds.lower).collect();
    if !ndr.is_empty() && args.latency_seconds > 0.0 {
        let (ndr, ..) = median_min_max(&ndr);
        is_exact &= latencies(args, &system, &load, ndr, &mut draft)?;
    }
    let passed = is_exact && found.iter().flatten().all(|b| b.lower.is_some());
    args.target.output.finish(draft, passed)?;
    Ok(passed)
}

/// The bounds that were found; one that was not is absent, and not 0. Where the load was the limit says nothing
/// of the system, and is not judged.
fn values(bounds: Bounds) -> BTreeMap<String, Value> {
    let upper = match bounds.is_load_bound {
        true => ("the load was the limit at", bounds.upper, Better::Neither),
        false => ("upper bound", bounds.upper, Better::Higher),
    };
    let of = |(name, rate, better): (&str, Option<f64>, Better)| {
        let (unit, value) = ("messages/s".to_owned(), rate?);
        Some((
            name.to_owned(),
            Value {
                value,
                unit,
                better,
            },
        ))
    };
    let all = [("lower bound", bounds.lower, Better::Higher), upper];
    all.into_iter().filter_map(of).collect()
}

/// Every trial of a search is in the report, and what they come to.
fn trials_series(
    round: u32,
    limit: Limit,
    bounds: Bounds,
    prober: &Prober,
    system: &System,
    load: &LoadArgs,
) -> io::Result<Series> {
    let summary = Run {
        values: values(bounds),
        ..Run::default()
    };
    let mut series = series(
        limit.name,
        &prober.args.target.subject,
        system,
        load,
        &prober.args.target.sink,
    );
    series.label = format!("search {round}");
    series.runs = vec![summary];
    series.notes.push(spread::line(&bounds));
    for trial in &prober.trials {
        series.notes.push(format!(
            "{}/s for {:.1} s: {:.4} % not in time, p99 {:.3} ms, load late by {:.3} ms (p99): {}",
            trial.rate,
            trial.seconds,
            trial.loss() * 100.0,
            trial.p99_ns() as f64 / 1e6,
            trial.lag_p99_ns as f64 / 1e6,
            limit.told(trial)
        ));
    }
    Ok(series)
}

/// Latency at parts of the NDR, in one fresh process.
fn latencies(
    args: &CapacityArgs,
    system: &System,
    load: &LoadArgs,
    ndr: f64,
    draft: &mut Draft,
) -> io::Result<bool> {
    print_head();
    let (session, trials, progress) = (None, Vec::new(), Progress::new(LATENCY_AT.len() + 1));
    let mut prober = Prober {
        args,
        system,
        load,
        session,
        trials,
        count: 0,
        progress,
        broken: 0,
    };
    prober.trial("warm-up", ndr * LATENCY_AT[0], 1.0)?;
    for part in LATENCY_AT {
        let rate = ndr * part;
        let trial = prober.trial("latency", rate.floor(), args.latency_seconds)?;
        prober.progress.wipe();
        print_trial(&format!("{:.0} % NDR", part * 100.0), &trial);
        let load = LoadArgs {
            rate: Some(trial.rate),
            ..load.clone()
        };
        draft.report.series.push(Series {
            x: Some(Abscissa {
                name: "part of the NDR".into(),
                value: part,
            }),
            runs: vec![trial.to_run()?],
            ..series(
                "latency",
                &args.target.subject,
                system,
                &load,
                &args.target.sink,
            )
        });
    }
    if let Some(session) = prober.session.take() {
        session.close()?;
    }
    Ok(prober.broken == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_not_found_is_absent() {
        let bounds = Bounds {
            lower: Some(98.0),
            upper: Some(100.0),
            is_load_bound: false,
            is_cut_short: false,
        };
        let told = |bounds: Bounds| -> Vec<(String, f64)> {
            let all = values(bounds).into_iter();
            all.map(|(name, value)| (name, value.value)).collect()
        };
        let names =
            |bounds| -> Vec<String> { told(bounds).into_iter().map(|(name, _)| name).collect() };
        let found = [
            ("lower bound".to_owned(), 98.0),
            ("upper bound".to_owned(), 100.0),
        ];
        assert_eq!(told(bounds), found);
        let (no_lower, no_upper) = (
            Bounds {
                lower: None,
                ..bounds
            },
            Bounds {
                upper: None,
                ..bounds
            },
        );
        assert_eq!(names(no_upper), ["lower bound"]);
        assert_eq!(names(no_lower), ["upper bound"]);
        let load_bound = Bounds {
            is_load_bound: true,
            ..bounds
        };
        assert_eq!(
            names(load_bound),
            ["lower bound", "the load was the limit at"]
        );
    }
}
