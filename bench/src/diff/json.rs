//! The comparison as JSON, for a script that wants more than the exit status.

use std::path::Path;

use serde_json::{json, Value};

use super::compare::{median, Comparison, Row, Rules};
use super::missing::Missing;
use super::DiffArgs;

/// Everything that the text says, in figures.
pub fn json(comparison: &Comparison, args: &DiffArgs, rules: &Rules) -> Value {
    let shown = |path: &Path| path.display().to_string();
    json!({
        "a": shown(&args.a),
        "b": shown(&args.b),
        "alpha": rules.alpha,
        "threshold": rules.threshold,
        "relative": rules.is_relative,
        "verdict": comparison.status().name(),
        "exit_status": comparison.status().code(),
        "runs_needed": comparison.runs_needed,
        "tests": comparison.rows.iter().map(row).collect::<Vec<_>>(),
        "missing": comparison.missing.iter().map(missing).collect::<Vec<_>>(),
        "notes": comparison.warnings,
    })
}

/// `metric` is null where it is the whole series.
fn missing(row: &Missing) -> Value {
    json!({
        "series": row.series,
        "metric": row.metric,
        "verdict": row.verdict.name(),
        "why": row.why,
    })
}

/// A ratio from 0 to more is infinite, which JSON has as null.
fn row(row: &Row) -> Value {
    json!({
        "scenario": row.scenario,
        "label": row.label,
        "metric": row.metric.metric,
        "unit": row.metric.unit,
        "a": { "median": median(&row.a), "runs": row.a.len() },
        "b": { "median": median(&row.b), "runs": row.b.len() },
        "ratio": row.effect.ratio,
        "interval_95": [row.effect.low, row.effect.high],
        "p": row.p,
        "p_holm": row.p_holm,
        "verdict": row.verdict.name(),
    })
}
