//! What it costs to deliver to programs that were not written for Weir, beside native analyzers: the same lines of syslog
//! come in, and go out over Forward, Lumberjack, RELP or as requests over HTTP, acked by the receiver.

use std::io;

use crate::child::SystemArgs;
use crate::compare::{self, CompareArgs};
use crate::inputs::judge;
use crate::report::{sign, OutputArgs};
use crate::scenario::{Load, ShapeArgs};
use crate::sink::Dialect;

/// Most CPU per message, as a multiple of [`MEASURE`].
const AT_MOST: &[(&str, f64)] = &[
    ("weir@lf>forward", 1.3),
    ("weir@lf>lumberjack", 1.4),
    ("weir@lf>relp", 2.0),
    ("weir@lf>otlp", 2.0),
    ("weir@lf>bulk", 2.0),
];
/// Native analyzers.
const MEASURE: &str = "weir@lf";

/// Arguments of `weir-bench outlets`.
#[derive(Debug, Clone, clap::Args)]
pub struct OutletsArgs {
    /// Only these protocols, such as forward,ndjson [default: forward, lumberjack, relp, otlp, bulk]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    protocols: Vec<String>,
    /// Rounds that count: A B C, C B A, B C A, ... Six are the fewest in which a sign test can tell
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=sign::RUNS_MAX))]
    rounds: u32,
    /// Rounds before them that do not
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=sign::RUNS_MAX))]
    warm_up: u32,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Measures, and says which bound is kept. False when one is not, or a message was lost.
pub fn run(args: &OutletsArgs) -> io::Result<bool> {
    let named = |protocol: &String| format!("{MEASURE}>{protocol}");
    let mut systems = vec![MEASURE.to_owned()];
    match args.protocols.is_empty() {
        true => systems.extend(AT_MOST.iter().map(|(system, _)| (*system).to_owned())),
        false => systems.extend(args.protocols.iter().map(named)),
    }
    let compare = CompareArgs {
        systems,
        scenario: vec![Load::Firehose],
        rounds: args.rounds,
        warm_up: args.warm_up,
        dialect: Dialect::Native,
        shape: args.shape.clone(),
        system: args.system.clone(),
        output: args.output.clone(),
    };
    let mut is_good = true;
    let is_honest = compare::run_with(&compare, "outlets", "protocols of analyzers", |columns| {
        weir::out!("\nCPU per message, medians of the rounds' ratios:");
        for (system, bound) in AT_MOST {
            let is_kept = |ratio| ratio <= *bound;
            is_good &= judge(columns, system, MEASURE, is_kept, "at most", *bound);
        }
    })?;
    Ok(is_good && is_honest)
}
