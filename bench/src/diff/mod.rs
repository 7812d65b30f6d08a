//! `weir-bench diff`: did it become faster or slower, and is that more than chance?
//!
//! ```text
//! a.json, b.json -> series of equal scenario and label -> values of each metric, run by run
//!     -> Mann-Whitney U (rank.rs) -> Holm over all tests, ratio of medians (effect.rs) -> verdict
//! what failed, or is in a alone -> missing.rs -> a verdict as well: not compared is not the same
//! ```

mod compare;
mod effect;
mod json;
mod missing;
mod rank;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use crate::report::{human, read};
pub use compare::Status;
use compare::{compare, median, Comparison, Row, Rules, Verdict};

/// Warnings printed; the last line says how many more there are.
const WARNINGS_MAX: usize = 20;

/// Arguments of `weir-bench diff`.
#[derive(Debug, Clone, clap::Args)]
pub struct DiffArgs {
    /// The report before the change, from --json
    #[arg(value_name = "A.json")]
    pub a: PathBuf,
    /// The report after it
    #[arg(value_name = "B.json")]
    pub b: PathBuf,
    /// Exit with 1 when a median is significantly worse by more than this part (0.05: 5 %)
    #[arg(long, default_value_t = 0.05, value_parser = part)]
    pub threshold: f64,
    /// Level of significance: how often chance alone may raise a false alarm, over all metrics
    #[arg(long, default_value_t = 0.05, value_parser = level)]
    pub alpha: f64,
    /// Compare this metric only (may be given more than once); without it all that have a
    /// direction, except p90, p99.9 and max
    #[arg(long, value_name = "NAME")]
    pub metric: Vec<String>,
    /// Compare each series as a multiple of the first of its scenario in the same report, pair by
    /// pair: takes out what hits both alike, as a slower machine does, and no more
    #[arg(long)]
    pub relative: bool,
    /// Write what is printed here as JSON: verdict, runs_needed, each test
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.0..=100.0).contains(&part) => Ok(part),
        _ => Err("allowed is a number from 0 to 100; 0.05 is 5 %".into()),
    }
}

fn level(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(level) if level > 0.0 && level < 1.0 => Ok(level),
        _ => Err("allowed is a number between 0 and 1".into()),
    }
}

/// Compares and prints.
///
/// # Errors
/// A file that cannot be read as a report, nothing to compare, or --json cannot be written.
pub fn run(args: &DiffArgs) -> io::Result<Status> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let rules = Rules {
        alpha: args.alpha,
        threshold: args.threshold,
        metrics: args.metric.clone(),
        is_relative: args.relative,
    };
    let comparison = compare(&a, &b, &rules)?;
    weir::out!("a: {}  {} ({})", args.a.display(), a.title, a.started);
    weir::out!("b: {}  {} ({})", args.b.display(), b.title, b.started);
    weir::streams::out(format_args!("{}", text(&comparison, &rules)));
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", json::json(&comparison, args, &rules));
        std::fs::write(path, text)
            .map_err(|e| io::Error::new(e.kind(), format!("--json {}: {e}", path.display())))?;
    }
    Ok(comparison.status())
}

/// Warnings, the table, and one line that says what it comes to.
fn text(comparison: &Comparison, rules: &Rules) -> String {
    let mut out = String::new();
    for warning in comparison.warnings.iter().take(WARNINGS_MAX) {
        out += &format!("note: {warning}\n");
    }
    if comparison.warnings.len() > WARNINGS_MAX {
        let more = comparison.warnings.len() - WARNINGS_MAX;
        out += &format!("note: and {more} more\n");
    }
    let mut table = vec![[
        "metric",
        "a",
        "b",
        "b / a",
        "95 % interval",
        "runs",
        "p",
        "p (Holm)",
        "verdict",
    ]
    .map(String::from)];
    let mut before = String::new();
    let mut headings = Vec::new();
    for row in &comparison.rows {
        let heading = format!("{}, {}", row.scenario, row.label);
        if heading != before {
            headings.push((table.len(), heading.clone()));
            before = heading;
        }
        table.push(cells(row, rules));
    }
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..9).filter_map(width).collect();
    for (number, row) in table.iter().enumerate() {
        if let Some((_, heading)) = headings.iter().find(|(at, _)| *at == number) {
            out += &format!("{heading}\n");
        }
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            line += &match column {
                0 => format!("  {cell:<width$}"),
                8 => format!("  {cell}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        out += line.trim_end();
        out.push('\n');
    }
    for row in &comparison.missing {
        let metric = row.metric.iter().map(|metric| format!(", {metric}"));
        let what = row.series.clone() + &metric.collect::<String>();
        out += &format!("{what}: {}: {}\n", row.verdict.name(), row.why);
    }
    let count = |verdict| comparison.count(verdict);
    out += &format!(
        "{} tests: {} regressions beyond {:.1} %, {} slightly worse, {} better, {} not told apart, {} with too few \
         runs; {} failed, {} missing\n",
        comparison.rows.len(),
        count(Verdict::Regression),
        100.0 * rules.threshold,
        count(Verdict::SlightlyWorse),
        count(Verdict::Better),
        count(Verdict::Same),
        count(Verdict::TooFewRuns),
        count(Verdict::Failed),
        count(Verdict::Missing),
    );
    match comparison.status() {
        Status::Failed => out += "FAILED: what ran in a failed in b (exit status 1)\n",
        Status::Incomplete => {
            out += "NOT SHOWN EITHER WAY: not all of a could be compared (exit status 3)\n";
        }
        _ => {}
    }
    let is_known = comparison.status().code() != 3;
    if let (false, Some(runs)) = (is_known, comparison.runs_needed) {
        out +=
            &format!("NOT SHOWN EITHER WAY: too few runs, take {runs} of each (exit status 3)\n");
    }
    out
}

fn cells(row: &Row, rules: &Rules) -> [String; 9] {
    let number = |value| match rules.is_relative {
        true => format!("{value:.4}"),
        false => human(value, &row.metric.unit),
    };
    let p = |p: f64| match p {
        p if p < 0.0001 => "<0.0001".to_owned(),
        p => format!("{p:.4}"),
    };
    let effect = &row.effect;
    [
        row.metric.metric.clone(),
        number(median(&row.a)),
        number(median(&row.b)),
        format!("{:.3}", effect.ratio),
        format!("{:.3}..{:.3}", effect.low, effect.high),
        format!("{}, {}", row.a.len(), row.b.len()),
        p(row.p),
        p(row.p_holm),
        row.verdict.name().to_owned(),
    ]
}
