//! What each protocol of emitters costs beside Weir's own frames, and the same syslog stream through others.
//!
//! ```text
//! weir@text      the measure: frames with the text of the lines, so that load and sinks do the same work for a message
//! weir@FORMAT    at most so many times that
//! a peer         at least so many times the cost of weir@lf, which gets the same bytes
//! ```

use std::io;

use crate::child::SystemArgs;
use crate::compare::{self, Column, CompareArgs};
use crate::report::{median_min_max, sign, OutputArgs};
use crate::scenario::{Load, ShapeArgs};
use crate::sink::Dialect;

/// Most CPU per message, as a multiple of frames.
const AT_MOST: &[(&str, f64)] = &[
    ("weir@lf", 1.25),
    ("weir@octet", 1.1),
    ("weir@forward", 1.5),
    ("weir@lumberjack", 1.5),
    ("weir@relp", f64::INFINITY),
];
/// Least CPU per message of others, as a multiple of [`SAME_STREAM`].
const AT_LEAST: &[(&str, f64)] = &[("haproxy-log", 6.0), ("rsyslog", 10.0), ("syslog-ng", 15.0)];
const SAME_STREAM: &str = "weir@lf";
/// Where load and sinks do less for a message, the distributor is given more at a time, and that is what is measured then:
/// frames with stamps of 20 bytes cost 0.84 of frames with stamps as text.
const MEASURE: &str = "weir@text";

/// Arguments of `weir-bench inputs`.
#[derive(Debug, Clone, clap::Args)]
pub struct InputsArgs {
    /// Only these protocols, such as lf,forward [default: lf, octet, forward, lumberjack, relp]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    formats: Vec<String>,
    /// Without HAProxy, rsyslog and syslog-ng
    #[arg(long)]
    no_peers: bool,
    /// Rounds that count: A B C, C B A, B C A, ... Six are the fewest in which a sign test can tell
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=sign::RUNS_MAX))]
    rounds: u32,
    /// Rounds before them that do not
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=sign::RUNS_MAX))]
    warm_up: u32,
    /// What Weir's analyzers speak
    #[arg(long, value_enum, default_value = "native")]
    dialect: Dialect,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl InputsArgs {
    fn systems(&self) -> Vec<String> {
        let all = AT_MOST.iter().map(|(system, _)| (*system).to_owned());
        let named = self.formats.iter().map(|format| format!("weir@{format}"));
        let mut systems = vec![MEASURE.to_owned()];
        match self.formats.is_empty() {
            true => systems.extend(all),
            false => systems.extend(named),
        }
        if !self.no_peers {
            systems.extend(AT_LEAST.iter().map(|(peer, _)| (*peer).to_owned()));
        }
        systems
    }
}

/// Measures, and says which bound is kept. False when one is not, or a message was lost.
pub fn run(args: &InputsArgs) -> io::Result<bool> {
    let compare = CompareArgs {
        systems: args.systems(),
        scenario: vec![Load::Firehose],
        rounds: args.rounds,
        warm_up: args.warm_up,
        dialect: args.dialect,
        shape: args.shape.clone(),
        system: args.system.clone(),
        output: args.output.clone(),
    };
    let mut is_good = true;
    let is_honest = compare::run_with(&compare, "inputs", "protocols of emitters", |columns| {
        weir::out!("\nCPU per message, medians of the rounds' ratios:");
        for (system, bound) in AT_MOST {
            is_good &= judge(
                columns,
                system,
                MEASURE,
                |ratio| ratio <= *bound,
                "at most",
                *bound,
            );
        }
        for (peer, bound) in AT_LEAST {
            let is_kept = |ratio| ratio >= *bound;
            is_good &= judge(columns, peer, SAME_STREAM, is_kept, "at least", *bound);
        }
    })?;
    Ok(is_good && is_honest)
}

/// A line about one system. One that was not asked for or did not run says nothing.
pub fn judge(
    columns: &[Column],
    system: &str,
    base: &str,
    is_kept: impl Fn(f64) -> bool,
    word: &str,
    bound: f64,
) -> bool {
    let column = |name: &str| columns.iter().find(|column| column.spec == name);
    let (Some(own), Some(other)) = (column(system), column(base)) else {
        return true;
    };
    let ratios = own.ratios_to(other);
    if ratios.is_empty() {
        return true;
    }
    let (median, lowest, highest) = median_min_max(&ratios);
    let verdict = match is_kept(median) {
        _ if bound.is_infinite() => "no bound".to_owned(),
        true => format!("{word} {bound}: kept"),
        false => format!("{word} {bound}: MISSED"),
    };
    weir::out!("  {system} / {base}: {median:.3} ({lowest:.3}..{highest:.3}), {verdict}");
    is_kept(median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::System;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        system: SystemArgs,
    }

    #[test]
    fn every_bound_is_of_a_format_that_there_is() {
        let args = Cli::parse_from(["x"]).system;
        for (system, _) in AT_MOST {
            let parsed = System::parse(system, &args, 256).map(|_| ());
            assert!(parsed.is_ok(), "{system}: {parsed:?}");
        }
        let error = System::parse("weir@gelf", &args, 256).map(|_| ());
        let error = error.expect_err("unknown").to_string();
        assert!(error.contains("lumberjack"), "{error}");
    }
}
