//! Latency at rates that are offered whatever happens.

use std::io;
use std::time::Duration;

use crate::load::LoadArgs;
use crate::progress::Progress;
use crate::report::{lag_warning, Abscissa, Series};
use crate::series::series;
use crate::session::{Session, Trial};
use crate::target::TargetArgs;

/// A rate at which connections and memory are touched before anything is measured, as part of the
/// first rate asked for.
const WARM_UP: f64 = 1.0;

/// Arguments of `weir-bench latency`.
#[derive(Debug, Clone, clap::Args)]
pub struct LatencyArgs {
    /// Messages per second to offer, over all connections; each of a list by itself
    #[arg(long, value_delimiter = ',', required = true, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rates: Vec<u64>,
    /// Times that all rates are run, in turn, in one process each time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// What has not reached an analyzer so many milliseconds after its intended time is not in time
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    late_ms: u64,
    #[command(flatten)]
    target: TargetArgs,
}

/// Each rate, its percentiles. False when a message was lost, came twice or was foreign; lateness is a
/// result, not a failure.
pub fn run(args: &LatencyArgs) -> io::Result<bool> {
    let load = LoadArgs {
        rate: args.rates.first().copied(),
        ..args.target.load.clone()
    };
    let (mut draft, system, load) = args.target.begin("latency", &load)?;
    print_head();
    let seconds = load.seconds.unwrap_or(5.0);
    let late = Duration::from_millis(args.late_ms);
    let mut progress = Progress::new(args.rates.len() * args.repeat as usize);
    let mut trials: Vec<Vec<Trial>> = vec![Vec::new(); args.rates.len()];
    for round in 0..args.repeat {
        let mut session = Session::open(
            &system,
            &load,
            &args.target.sink,
            &args.target.system.system_cores,
        )?;
        let seed = args.target.load.seed + u64::from(round);
        session.trial(args.rates[0], WARM_UP, late, seed)?;
        for (rate, trials) in args.rates.iter().zip(&mut trials) {
            progress.step(&format!("{rate}/s for {seconds} s"));
            let trial = session.trial(*rate, seconds, late, seed)?;
            progress.wipe();
            print_trial("", &trial);
            trials.push(trial);
        }
        session.close()?;
    }
    let is_exact = trials.iter().flatten().all(Trial::is_exact);
    for (rate, trials) in args.rates.iter().zip(&trials) {
        let load = LoadArgs {
            rate: Some(*rate),
            ..load.clone()
        };
        draft.report.series.push(Series {
            x: Some(Abscissa {
                name: "offered rate".into(),
                value: *rate as f64,
            }),
            runs: trials
                .iter()
                .map(Trial::to_run)
                .collect::<io::Result<_>>()?,
            ..series(
                "latency",
                &args.target.subject,
                &system,
                &load,
                &args.target.sink,
            )
        });
    }
    args.target.output.finish(draft, is_exact)?;
    Ok(is_exact)
}

/// Column names for [`print_trial`].
pub fn print_head() {
    weir::out!(
        "{:<10} {:>9} {:>5} {:>8} {:>8} {:>8} {:>8} {:>9} {:>12} {:>8} {:>10} {:>6} {:>9}",
        "",
        "offered/s",
        "s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "not in time",
        "missing",
        "CPU ns/msg",
        "cores",
        "load p99"
    );
}

/// One line; the last column is how late the load itself was.
pub fn print_trial(label: &str, trial: &Trial) {
    let ms = |q: f64| trial.latency_ns.value_at_quantile(q) as f64 / 1e6;
    weir::out!(
        "{label:<10} {:>9} {:>5.1} {:>8.3} {:>8.3} {:>8.3} {:>8.3} {:>9.3} {:>10.4} % {:>8} {:>10.0} {:>6.2} {:>6.2} ms",
        trial.rate,
        trial.seconds,
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        trial.latency_ns.max() as f64 / 1e6,
        trial.loss() * 100.0,
        trial.missing,
        trial.cpu_ns_per_message,
        trial.cores_used,
        trial.lag_p99_ns as f64 / 1e6,
    );
    if let Some(warning) = lag_warning(trial.lag_p99_ns, trial.p99_ns()) {
        weir::out!("           {warning}");
    }
    if trial.duplicates + trial.foreign + trial.refused + trial.renewed > 0 {
        weir::out!(
            "           twice {}, foreign {}, refused {}, connections renewed {}",
            trial.duplicates,
            trial.foreign,
            trial.refused,
            trial.renewed
        );
    }
}
