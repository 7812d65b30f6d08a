//! Cost as work grows: CPU per message over the number of analyzers, and of emitters.

use std::io;

use crate::child::{System, SystemArgs};
use crate::net::pin;
use crate::progress::Progress;
use crate::report::{median_min_max, sign, Abscissa, Cores, OutputArgs, Series};
use crate::rounds::order;
use crate::run::{run_once, Outcome, Scenario};
use crate::scenario::{Load, ShapeArgs};
use crate::series::series;
use crate::sink::{weights_of, Dialect};

/// Weir's defaults for `--arena` and `--batch-bytes`.
const ARENA_MIB: u64 = 64;
const BATCH_KIB: u64 = 128;

/// Arguments of `weir-bench scale`.
#[derive(Debug, Clone, clap::Args)]
pub struct ScaleArgs {
    /// A system, again for each: 'weir [args]', 'relay' or a peer [default: weir and relay]
    #[arg(long = "system", value_name = "SYSTEM")]
    systems: Vec<String>,
    /// Numbers of analyzers, with as many emitters as the load has; 'none' leaves this curve out
    #[arg(id = "over_analyzers", long = "over-analyzers", default_value = "4,16,64,256,1000", value_parser = numbers)]
    analyzers: Numbers,
    /// Numbers of emitters, with as many analyzers as --weights says; 'none' leaves this curve out
    #[arg(long = "over-emitters", default_value = "10,100,1000,10000", value_parser = numbers)]
    emitters: Numbers,
    /// Loads
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "firehose,trickle"
    )]
    scenario: Vec<Load>,
    /// Runs of each point, all points in turn, every second time in reverse, every two from the next point on
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=sign::RUNS_MAX))]
    rounds: u32,
    /// What the analyzers speak
    #[arg(long, value_enum, default_value = "compact")]
    dialect: Dialect,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A list, or nothing.
#[derive(Debug, Clone)]
struct Numbers(Vec<u32>);

fn numbers(text: &str) -> Result<Numbers, String> {
    if text == "none" {
        return Ok(Numbers(Vec::new()));
    }
    let parse = |n: &str| n.trim().parse().ok().filter(|n| (1..=20_000).contains(n));
    let all: Option<Vec<u32>> = text.split(',').map(parse).collect();
    all.map(Numbers)
        .ok_or_else(|| "allowed are numbers of 1 to 20000 with commas between, or none".into())
}

/// One point of one curve.
struct Place {
    /// As asked for: what lies on one curve has one name.
    label: String,
    system: System,
    curve: &'static str,
    value: u32,
    scenario: Scenario,
    outcomes: Vec<Outcome>,
    failed: Option<String>,
}

/// Every point, `rounds` times. False when a message was lost, came twice or was foreign, or a point
/// could not be run.
pub fn run(args: &ScaleArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let mut draft = args
        .output
        .begin("scale", "CPU per message as work grows", cores)?;
    weir::out!("{}", draft.heading());
    pin(&args.system.load_cores)?;
    let systems = match args.systems.is_empty() {
        true => vec!["weir".to_owned(), "relay".to_owned()],
        false => args.systems.clone(),
    };
    let mut is_good = true;
    for load in &args.scenario {
        let mut places = places(args, *load, &systems)?;
        let mut progress = Progress::new(places.len() * args.rounds as usize);
        for round in 0..args.rounds {
            for index in side_by_side(round, places.len(), systems.len()) {
                let place = &mut places[index];
                progress.step(&format!(
                    "{}: {} {} {}",
                    load.name(),
                    place.system.spec,
                    place.value,
                    place.curve
                ));
                if place.failed.is_some() {
                    continue;
                }
                match run_once(&place.system, &place.scenario, &args.system.system_cores) {
                    Ok(outcome) => place.outcomes.push(outcome),
                    Err(e) => place.failed = Some(e.to_string()),
                }
            }
        }
        drop(progress);
        weir::out!(
            "\n{}: {}",
            load.name(),
            places
                .first()
                .map_or(String::new(), |p| p.scenario.load.describe())
        );
        weir::out!(
            "{:<16} {:<10} {:>8} {:>11} {:>21} {:>9} {:>11} {:>9} {:>9} {:>9} {:>6}",
            "system",
            "over",
            "number",
            "CPU ns/msg",
            "lowest..highest",
            "ksoftirqd",
            "msg/s",
            "p50 ms",
            "p99 ms",
            "load p99",
            "lost"
        );
        for place in &places {
            print_place(place);
            is_good &= place.failed.is_none() && place.outcomes.iter().all(Outcome::is_exact);
            let runs = place.outcomes.iter().map(Outcome::to_run);
            draft.report.series.push(Series {
                x: Some(Abscissa {
                    name: place.curve.into(),
                    value: f64::from(place.value),
                }),
                runs: runs.collect::<io::Result<_>>()?,
                failed: place.failed.clone(),
                ..series(
                    &format!("{}, {}", load.name(), place.curve),
                    &place.label,
                    &place.system,
                    &place.scenario.load,
                    &place.scenario.sink,
                )
            });
        }
    }
    args.output.finish(draft, is_good)?;
    Ok(is_good)
}

/// Weir serves one analyzer for every six batch buffers of its arena: 85 by default.
fn with_arena(spec: &str, curve: &str, number: u32) -> String {
    let needed_mib = (u64::from(number) * 6 * BATCH_KIB).div_ceil(1024);
    let is_weir = spec.split_whitespace().next() == Some("weir");
    if curve != "analyzers" || !is_weir || spec.contains("--arena") || needed_mib <= ARENA_MIB {
        return spec.to_owned();
    }
    format!("{spec} --arena {needed_mib}MiB")
}

/// Places in the order of `round`: points in the order of [`order`], and at each point its systems, which stay
/// side by side.
fn side_by_side(round: u32, places: usize, systems: usize) -> Vec<usize> {
    let points = order(round, places / systems);
    let place = |point: usize| {
        order(round, systems)
            .into_iter()
            .map(move |s| point * systems + s)
    };
    points.into_iter().flat_map(place).collect()
}

/// Systems next to each other at each point, so that their ratio drifts least.
fn places(args: &ScaleArgs, load: Load, systems: &[String]) -> io::Result<Vec<Place>> {
    let size = args.shape.size.first().map_or(256, |n| *n as usize);
    let mut places = Vec::new();
    for (curve, numbers) in [("analyzers", &args.analyzers), ("emitters", &args.emitters)] {
        for value in &numbers.0 {
            for label in systems {
                let spec = with_arena(label, curve, *value);
                let mut system = System::parse(&spec, &args.system, size)?;
                system.ensure_exists()?;
                let weights = match curve {
                    "analyzers" => weights_of(*value as usize),
                    _ => args.shape.weights.clone(),
                };
                let mut scenario = args.shape.scenario(load, size, &weights, args.dialect);
                if curve == "emitters" {
                    scenario.load.connections = *value;
                }
                // Otherwise a connection each would leave analyzers of a relay without any.
                scenario.load.connections = scenario.load.connections.max(1);
                system.fit(&mut scenario.load);
                let (outcomes, failed) = (Vec::new(), None);
                places.push(Place {
                    label: label.clone(),
                    system,
                    curve,
                    value: *value,
                    scenario,
                    outcomes,
                    failed,
                });
            }
        }
    }
    Ok(places)
}

fn print_place(place: &Place) {
    let (spec, curve, value) = (&place.label, place.curve, place.value);
    if let Some(failed) = &place.failed {
        weir::out!("{spec:<16} {curve:<10} {value:>8} failed: {failed}");
    }
    if place.outcomes.is_empty() {
        return;
    }
    let of = |value: fn(&Outcome) -> f64| {
        let values: Vec<f64> = place.outcomes.iter().map(value).collect();
        median_min_max(&values)
    };
    let seen: Option<Vec<f64>> = place
        .outcomes
        .iter()
        .map(|o| o.ksoftirqd_ns_per_message)
        .collect();
    let ksoftirqd = seen.map_or("-".to_owned(), |ns| format!("{:.1}", median_min_max(&ns).0));
    let (cpu, lowest, highest) = of(|o| o.cpu_ns_per_message);
    weir::out!(
        "{spec:<16} {curve:<10} {value:>8} {cpu:>11.1} {:>21} {ksoftirqd:>9} {:>11.0} {:>9.3} {:>9.3} {:>9.3} {:>6}",
        format!("{lowest:.1}..{highest:.1}"),
        of(|o| o.messages_per_second).0,
        of(|o| o.p50_ns as f64).0 / 1e6,
        of(|o| o.p99_ns as f64).0 / 1e6,
        of(|o| o.load_lag_p99_ns.unwrap_or(0) as f64).0 / 1e6,
        place.outcomes.iter().map(|o| o.lost).sum::<u64>(),
    );
    if let Some(warning) = place.outcomes.iter().find_map(Outcome::lag_warning) {
        weir::out!("{:<16} {warning}", "");
    }
    for note in place.outcomes.iter().flat_map(|o| &o.notes) {
        weir::out!("{:<16} {note}", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_of_a_point_stay_side_by_side() {
        assert_eq!(side_by_side(0, 6, 2), [0, 1, 2, 3, 4, 5]);
        assert_eq!(side_by_side(1, 6, 2), [5, 4, 3, 2, 1, 0]);
        assert_eq!(side_by_side(2, 6, 2), [2, 3, 4, 5, 0, 1]);
        assert_eq!(side_by_side(3, 6, 2), [1, 0, 5, 4, 3, 2]);
        assert!(side_by_side(1, 0, 2).is_empty());
    }

    #[test]
    fn an_arena_has_room_for_the_analyzers() {
        assert_eq!(with_arena("weir", "analyzers", 64), "weir");
        assert_eq!(with_arena("weir", "emitters", 10_000), "weir");
        assert_eq!(
            with_arena("weir --shards 2", "analyzers", 1000),
            "weir --shards 2 --arena 750MiB"
        );
        assert_eq!(with_arena("relay", "analyzers", 1000), "relay");
        assert_eq!(
            with_arena("weir --arena 1GiB", "analyzers", 1000),
            "weir --arena 1GiB"
        );
    }
}
