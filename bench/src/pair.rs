//! Two systems, A B A B, in one sitting: the machine drifts by more than they differ, so only
//! what ran side by side is compared.

use std::io;

use clap::ValueEnum;

use crate::child::{System, SystemArgs};
use crate::load::{LoadArgs, Sizes};
use crate::net::pin;
use crate::report::{median_min_max, Cores, OutputArgs, Series};
use crate::run::{run_once, Outcome, Scenario};
use crate::series::series;
use crate::sink::{weights_of, Dialect, SinkArgs};

/// Shares in a line: of many analyzers the first.
const SHARES_SHOWN: usize = 8;

/// The load of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// 64 connections, 64 messages a write, as fast as they go, 4 MiB under way at most
    Firehose,
    /// The same, filling every socket buffer: hot or cold caches by chance, up to a factor of 2
    Flood,
    /// 5,000 connections, 40,000 messages/s, one a write
    Trickle,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Firehose => "firehose",
            Self::Flood => "flood",
            Self::Trickle => "trickle",
        }
    }
}

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
    /// Pairs that count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    /// Pairs before them that do not
    #[arg(long, default_value_t = 1)]
    pub warm_up: u32,
    /// Messages of one firehose run
    #[arg(long, default_value_t = 10_000_000)]
    pub firehose_messages: u64,
    /// Messages under way at which the firehose pauses; what is in socket buffers then stays in the
    /// cache, so that two systems are compared and not two fill levels
    #[arg(long, default_value_t = 16_384, value_name = "MESSAGES")]
    pub in_flight: u64,
    /// Connections of the firehose
    #[arg(long, default_value_t = 64)]
    pub firehose_connections: u32,
    /// Seconds of one trickle run
    #[arg(long, default_value_t = 5.0)]
    pub trickle_seconds: f64,
    /// Messages per second of the trickle
    #[arg(long, default_value_t = 40_000)]
    pub trickle_rate: u64,
    /// Connections of the trickle
    #[arg(long, default_value_t = 5_000)]
    pub trickle_connections: u32,
    /// Bytes of a message, its header included; each of a list is compared by itself
    #[arg(long, value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u32).range(25..=1_048_576))]
    pub size: Vec<u32>,
    /// So many analyzers with weights 4, 3, 2, 1 in turn, in the place of --weights; each of a list is
    /// compared by itself
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with = "weights", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub analyzers: Vec<u32>,
    /// What the analyzers of A speak (a relay: always compact)
    #[arg(long, value_enum, default_value = "compact")]
    pub a_dialect: Dialect,
    /// What the analyzers of B speak
    #[arg(long, value_enum, default_value = "compact")]
    pub b_dialect: Dialect,
    /// One analyzer for each weight
    #[arg(long, value_delimiter = ',', default_value = "0.4,0.3,0.2,0.1")]
    pub weights: Vec<f64>,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl PairArgs {
    /// Sizes and weights to compare at.
    fn shapes(&self) -> Vec<(usize, Vec<f64>)> {
        let weights: Vec<Vec<f64>> = match self.analyzers.is_empty() {
            true => vec![self.weights.clone()],
            false => self
                .analyzers
                .iter()
                .map(|n| weights_of(*n as usize))
                .collect(),
        };
        let sizes = self.size.iter().map(|n| *n as usize);
        sizes
            .flat_map(|size| weights.iter().map(move |w| (size, w.clone())))
            .collect()
    }

    /// With sizes or numbers of analyzers to choose from, the scenario says which.
    fn name_of(&self, scenario: &Scenario) -> String {
        let mut name = scenario.name.to_owned();
        if self.size.len() > 1 {
            name += &format!(", {} B", scenario.load.size);
        }
        if self.analyzers.len() > 1 {
            name += &format!(", {} analyzers", scenario.sink.weights.len());
        }
        name
    }

    /// Large messages: as many bytes as 256 B make, but no fewer than a tenth of the messages.
    fn messages_of(&self, size: usize) -> u64 {
        let all = self.firehose_messages;
        (all * 256 / size.max(256) as u64).max(all / 10)
    }

    fn scenario(&self, load: Load, size: usize, weights: &[f64], dialect: Dialect) -> Scenario {
        let sink = SinkArgs {
            weights: weights.to_vec(),
            dialect,
            ..SinkArgs::default()
        };
        let mut shape = LoadArgs {
            connections: self.firehose_connections,
            size: Sizes::Fixed(size),
            in_flight: if load == Load::Firehose {
                self.in_flight
            } else {
                0
            },
            messages: Some(self.messages_of(size)),
            ..LoadArgs::default()
        };
        if load == Load::Trickle {
            shape.connections = self.trickle_connections;
            shape.rate = Some(self.trickle_rate);
            shape.messages = Some((self.trickle_rate as f64 * self.trickle_seconds) as u64);
        }
        Scenario {
            name: load.name(),
            load: shape,
            sink,
        }
    }
}

/// Runs all pairs and reports. False when a message was lost, duplicated or foreign.
pub fn run(args: &PairArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let title = format!("{} (A) and {} (B), side by side", args.a, args.b);
    let mut draft = args.output.begin("pair", &title, cores)?;
    println!("{}", draft.heading());
    println!("            A = {}\n            B = {}", args.a, args.b);
    pin(&args.system.load_cores)?;

    let mut is_exact = true;
    for (size, weights) in args.shapes() {
        let a = System::parse(&args.a, &args.system, size)?;
        let b = System::parse(&args.b, &args.system, size)?;
        a.ensure_exists()?;
        b.ensure_exists()?;
        for load in &args.scenario {
            let sides = [
                (&a, args.scenario(*load, size, &weights, args.a_dialect)),
                (&b, args.scenario(*load, size, &weights, args.b_dialect)),
            ];
            let pairs = run_pairs(args, &sides)?;
            is_exact &= pairs.iter().flatten().all(Outcome::is_exact);
            summarize(*load, &pairs);
            for (side, (system, scenario)) in sides.iter().enumerate() {
                let runs = pairs.iter().map(|pair| pair[side].to_run());
                let label = format!("{}: {}", ["A", "B"][side], system.spec);
                draft.report.series.push(Series {
                    runs: runs.collect::<io::Result<_>>()?,
                    ..series(
                        &args.name_of(scenario),
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
    println!(
        "\n{}: {}, {} analyzers, {} messages a run",
        sides[0].1.name,
        load.describe(),
        sides[0].1.sink.weights.len(),
        load.messages.unwrap_or(0),
    );
    println!(
        "{:>6} {:>2} {:>13} {:>6} {:>11} {:>9} {:>9} {:>10} {:>6} {:>6}  shares",
        "pair", "", "CPU ns/msg", "user", "msg/s", "p50 ms", "p99 ms", "delivered", "lost", "twice"
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
        let pair = [run_side(0)?, run_side(1)?];
        if !is_warm_up {
            pairs.push(pair);
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
    println!(
        "{label:>6} {side:>2} {:>13.1} {:>5.0}% {:>11.0} {:>9} {:>9} {:>10} {:>6} {:>6}  {} %",
        o.cpu_ns_per_message,
        o.user_share * 100.0,
        o.messages_per_second,
        ms(o.p50_ns),
        ms(o.p99_ns),
        o.delivered,
        o.lost,
        o.duplicates,
        shares.join("/"),
    );
    if !o.ended_cleanly || o.foreign > 0 {
        println!(
            "          foreign frames {}, did not end with 0: {}",
            o.foreign, o.last_line
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
    println!("{}\n{}", side_line(0, a_cpu), side_line(1, b_cpu));
    println!(
        "CPU per message, B / A: {:.3} (medians); {ratio:.3} (median of pairs, {lowest:.3}..{highest:.3})",
        b_cpu / a_cpu
    );
}
