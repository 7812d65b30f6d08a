//! Two systems, A B B A, in one sitting: the machine drifts by more than they differ, so only
//! what ran side by side is compared.

use std::io;

use crate::child::{System, SystemArgs};
use crate::fingerprint::ABSENT;
use crate::load::Format;
use crate::net::pin;
use crate::report::{median_min_max, sign, Cores, OutputArgs, Series};
use crate::rounds::order;
use crate::run::{run_once, Outcome, Scenario};
use crate::scenario::{Load, ShapeArgs};
use crate::series::series;
use crate::sink::Dialect;

/// Shares in a line: of many analyzers the first.
const SHARES_SHOWN: usize = 8;

/// Arguments of `weir-bench pair`.
#[derive(Debug, Clone, clap::Args)]
pub struct PairArgs {
    /// First system: 'relay', 'weir [args]', or a command with {emitters} and {analyzers} in it
    #[arg(long, default_value = "relay")]
    pub a: String,
    /// Second system, in the same form
    #[arg(long, default_value = "weir")]
    pub b: String,
    /// Loads to compare under
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "firehose,trickle"
    )]
    pub scenario: Vec<Load>,
    /// Pairs that count; every second one runs B first. Six are the fewest in which a sign test can tell
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=sign::RUNS_MAX))]
    pub pairs: u32,
    /// Pairs before them that do not
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=sign::RUNS_MAX))]
    pub warm_up: u32,
    /// What the analyzers of A speak (a relay: always compact)
    #[arg(long, value_enum, default_value = "compact")]
    pub a_dialect: Dialect,
    /// What the analyzers of B speak
    #[arg(long, value_enum, default_value = "compact")]
    pub b_dialect: Dialect,
    /// Emitters of A want ACKs
    #[arg(long)]
    pub a_acked: bool,
    /// Emitters of B want ACKs
    #[arg(long)]
    pub b_acked: bool,
    #[command(flatten)]
    pub shape: ShapeArgs,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs all pairs and reports. False when a message was lost, duplicated or foreign.
pub fn run(args: &PairArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let title = format!("{} (A) and {} (B), side by side", args.a, args.b);
    let mut draft = args.output.begin("pair", &title, cores)?;
    weir::out!("{}", draft.heading());
    weir::out!("            A = {}\n            B = {}", args.a, args.b);
    pin(&args.system.load_cores)?;

    let mut is_exact = true;
    for (size, weights) in args.shape.variants() {
        let mut a = System::parse(&args.a, &args.system, size)?;
        let mut b = System::parse(&args.b, &args.system, size)?;
        a.ensure_exists()?;
        b.ensure_exists()?;
        for load in &args.scenario {
            let mut scenarios = [args.a_dialect, args.b_dialect]
                .map(|dialect| args.shape.scenario(*load, size, &weights, dialect));
            a.fit(&mut scenarios[0].load);
            b.fit(&mut scenarios[1].load);
            for (scenario, is_acked) in scenarios.iter_mut().zip([args.a_acked, args.b_acked]) {
                if is_acked {
                    scenario.load.format = Format::Acked;
                }
            }
            let [of_a, of_b] = scenarios;
            let sides = [(&a, of_a), (&b, of_b)];
            let pairs = run_pairs(args, &sides)?;
            is_exact &= pairs.iter().flatten().all(Outcome::is_exact);
            summarize(*load, &pairs);
            for (side, (system, scenario)) in sides.iter().enumerate() {
                let runs = pairs.iter().map(|pair| pair[side].to_run());
                let label = format!("{}: {}", ["A", "B"][side], system.spec);
                draft.report.series.push(Series {
                    runs: runs.collect::<io::Result<_>>()?,
                    ..series(
                        &args.shape.name_of(scenario),
                        &label,
                        system,
                        &scenario.load,
                        &scenario.sink,
                    )
                });
            }
        }
    }
    args.output.finish(draft, is_exact)?;
    Ok(is_exact)
}

fn run_pairs(args: &PairArgs, sides: &[(&System, Scenario); 2]) -> io::Result<Vec<[Outcome; 2]>> {
    let load = &sides[0].1.load;
    weir::out!(
        "\n{}: {}, {} analyzers, {} messages a run",
        sides[0].1.name,
        load.describe(),
        sides[0].1.sink.weights.len(),
        load.messages.unwrap_or(0),
    );
    weir::out!(
        "{:>6} {:>2} {:>13} {:>9} {:>6} {:>11} {:>9} {:>9} {:>9} {:>10} {:>6} {:>6}  shares",
        "pair",
        "",
        "CPU ns/msg",
        "ksoftirqd",
        "user",
        "msg/s",
        "p50 ms",
        "p99 ms",
        "load p99",
        "delivered",
        "lost",
        "twice"
    );
    let mut pairs = Vec::new();
    for number in 0..args.warm_up + args.pairs {
        let is_warm_up = number < args.warm_up;
        let label = if is_warm_up {
            "warm".into()
        } else {
            (number - args.warm_up + 1).to_string()
        };
        let run_side = |side: usize| -> io::Result<Outcome> {
            let (system, scenario) = &sides[side];
            let outcome = run_once(system, scenario, &args.system.system_cores)?;
            print_run(&label, ["A", "B"][side], &outcome);
            Ok(outcome)
        };
        let mut pair = [None, None];
        for side in order(number, 2) {
            pair[side] = Some(run_side(side)?);
        }
        if let ([Some(a), Some(b)], false) = (pair, is_warm_up) {
            pairs.push([a, b]);
        }
    }
    Ok(pairs)
}

fn print_run(label: &str, side: &str, o: &Outcome) {
    let shares: Vec<String> = o
        .shares
        .iter()
        .take(SHARES_SHOWN)
        .map(|s| format!("{:.2}", s * 100.0))
        .collect();
    let ms = |ns: u64| {
        if ns == 0 {
            "-".into()
        } else {
            format!("{:.3}", ns as f64 / 1e6)
        }
    };
    weir::out!(
        "{label:>6} {side:>2} {:>13.1} {:>9} {:>5.0}% {:>11.0} {:>9} {:>9} {:>9} {:>10} {:>6} {:>6}  {} %",
        o.cpu_ns_per_message,
        o.ksoftirqd_ns_per_message
            .map_or("-".into(), |ns| format!("{ns:.1}")),
        o.user_share * 100.0,
        o.messages_per_second,
        ms(o.p50_ns),
        ms(o.p99_ns),
        ms(o.load_lag_p99_ns.unwrap_or(0)),
        o.delivered,
        o.lost,
        o.duplicates,
        shares.join("/"),
    );
    for warning in o.lag_warning().iter().chain(&o.notes) {
        weir::out!("          {warning}");
    }
    if !o.ended_cleanly || o.foreign > 0 {
        weir::out!(
            "          foreign frames {}, did not end with 0: {}",
            o.foreign,
            o.last_line
        );
    }
}

/// Medians per side, and B over A twice: of the medians, and of each pair.
fn summarize(load: Load, pairs: &[[Outcome; 2]]) {
    let column = |side: usize, value: fn(&Outcome) -> f64| -> Vec<f64> {
        pairs.iter().map(|p| value(&p[side])).collect()
    };
    let median = |side, value| median_min_max(&column(side, value)).0;
    let cpu: fn(&Outcome) -> f64 = |o| o.cpu_ns_per_message;
    let (a_cpu, b_cpu) = (median(0, cpu), median(1, cpu));
    let ratios: Vec<f64> = pairs.iter().map(|p| cpu(&p[1]) / cpu(&p[0])).collect();
    let (ratio, lowest, highest) = median_min_max(&ratios);

    let ns = |side, value: fn(&Outcome) -> f64| median(side, value) / 1e6;
    let side_line = |side: usize, cpu_ns: f64| {
        let mut line = format!(
            "median {}: CPU {:.1} ns/msg, {:.0} msg/s",
            ["A", "B"][side],
            cpu_ns,
            median(side, |o| o.messages_per_second)
        );
        if load == Load::Trickle {
            let p50 = ns(side, |o| o.p50_ns as f64);
            let p99 = ns(side, |o| o.p99_ns as f64);
            line += &format!(", p50 {p50:.3} ms, p99 {p99:.3} ms");
        }
        line
    };
    weir::out!("{}\n{}", side_line(0, a_cpu), side_line(1, b_cpu));
    weir::out!(
        "CPU per message, B / A: {:.3} (medians); {ratio:.3} (median of pairs, {lowest:.3}..{highest:.3}); sign test {}",
        b_cpu / a_cpu,
        sign::told(ratios.len(), sign::sign_test(&ratios))
    );
    let sums: Option<Vec<f64>> = pairs
        .iter()
        .map(|[a, b]| Some(b.cpu_with_ksoftirqd_ns()? / a.cpu_with_ksoftirqd_ns()?))
        .collect();
    match sums {
        Some(sums) => {
            let (ratio, lowest, highest) = median_min_max(&sums);
            weir::out!(
                "  with ksoftirqd:       {ratio:.3} (median of pairs, {lowest:.3}..{highest:.3}); sign test {}",
                sign::told(sums.len(), sign::sign_test(&sums))
            )
        }
        None => weir::out!("  with ksoftirqd:       {ABSENT}"),
    };
}
