//! Which figures of two reports belong together, and what became of each.

use std::io;

use super::effect::{holm, ratio_of_medians, Effect};
use super::missing::{failures, Missing};
use super::rank::{least_p, mann_whitney};
use crate::report::{columns, median_min_max, Better, Measured, Parameter, Report, Series};

/// Told and not judged unless asked for: they follow from others, or from a single message.
const TOLD: [&str; 4] = [" p90", " p99.9", " max", " with ksoftirqd"];

/// A metric of a series in both reports.
#[derive(Debug, Clone)]
pub struct Row {
    /// Scenario, and place on a curve.
    pub scenario: String,
    /// System under test.
    pub label: String,
    /// What was measured; in a relative comparison without its unit.
    pub metric: Measured,
    /// Its values, run by run.
    pub a: Vec<f64>,
    /// As `a`.
    pub b: Vec<f64>,
    /// Change from a to b.
    pub effect: Effect,
    /// Of the test alone.
    pub p: f64,
    /// Corrected for the number of tests.
    pub p_holm: f64,
    /// What it comes to.
    pub verdict: Verdict,
}

/// What a row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No more than chance would make of it.
    Same,
    /// There are too few runs for any difference at all to be significant.
    TooFewRuns,
    /// Significant, and the right way.
    Better,
    /// Significant, the wrong way, and within the threshold.
    SlightlyWorse,
    /// Significant, the wrong way, and beyond the threshold.
    Regression,
    /// It ran in a, and failed in b.
    Failed,
    /// There is nothing to compare it with.
    Missing,
}

impl Verdict {
    /// For the table and for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "not told apart",
            Self::TooFewRuns => "too few runs",
            Self::Better => "better",
            Self::SlightlyWorse => "slightly worse",
            Self::Regression => "REGRESSION",
            Self::Failed => "FAILED",
            Self::Missing => "missing",
        }
    }
}

/// What a whole comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing became significantly worse by more than the threshold, and all of it could have been seen.
    NoRegression,
    /// Something did.
    Regression,
    /// Something ran in a and failed in b.
    Failed,
    /// No regression was shown, and something that is in a could not be compared.
    Incomplete,
    /// None was shown, and of some metric none could have been: nobody knows.
    TooFewRuns,
}

impl Status {
    /// The exit status; 2 is an error.
    pub fn code(self) -> u8 {
        match self {
            Self::NoRegression => 0,
            Self::Regression | Self::Failed => 1,
            Self::Incomplete | Self::TooFewRuns => 3,
        }
    }

    /// For JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRegression => "no regression",
            Self::Regression => "regression",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::TooFewRuns => "too few runs",
        }
    }
}

/// How to judge.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Level of significance.
    pub alpha: f64,
    /// Part by which a median may be worse.
    pub threshold: f64,
    /// Metrics to compare; empty for all that have a direction.
    pub metrics: Vec<String>,
    /// As multiples of the first series of the scenario.
    pub is_relative: bool,
}

/// Everything that two reports say about each other.
#[derive(Debug)]
pub struct Comparison {
    /// Judged metrics.
    pub rows: Vec<Row>,
    /// What would have been judged, had it been in both.
    pub missing: Vec<Missing>,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// Runs of each report with which a difference could be shown, when there are too few.
    pub runs_needed: Option<usize>,
}

impl Comparison {
    /// A regression that was shown stands, whatever else could not be.
    pub fn status(&self) -> Status {
        const WORST_FIRST: [(Verdict, Status); 4] = [
            (Verdict::Regression, Status::Regression),
            (Verdict::Failed, Status::Failed),
            (Verdict::Missing, Status::Incomplete),
            (Verdict::TooFewRuns, Status::TooFewRuns),
        ];
        let worst = WORST_FIRST
            .iter()
            .find(|(verdict, _)| self.count(*verdict) > 0);
        worst.map_or(Status::NoRegression, |(_, status)| *status)
    }

    /// Rows and missing ones with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let rows = self.rows.iter().map(|row| row.verdict);
        let all = rows.chain(self.missing.iter().map(|row| row.verdict));
        all.filter(|v| *v == verdict).count()
    }
}

/// Compares series of equal scenario, label and x.
///
/// # Errors
/// There is nothing to compare: no series in both, none of the metrics that were asked for in a, or none that
/// is judged.
pub fn compare(a: &Report, b: &Report, rules: &Rules) -> io::Result<Comparison> {
    let mut warnings = differences(a, b);
    let mut missing = failures(a, b);
    let mut rows = Vec::new();
    let mut known = Vec::new();
    let (mut matched, mut compared) = (0, 0);
    for series in &a.series {
        let Some(other) = same_series(b, series) else {
            missing.push(Missing::whole(series, "only in a"));
            continue;
        };
        matched += 1;
        known.extend(columns(series).into_iter().map(|(metric, _)| metric.metric));
        let sides = match sides((a, series), (b, other), rules) {
            Ok(sides) => sides,
            Err(why) => {
                missing.push(Missing::whole(series, &why));
                continue;
            }
        };
        let Some([of_a, of_b]) = sides else {
            continue;
        };
        // Why there are no runs is told by failures().
        let is_told = of_b.is_empty() && (series.failed.is_some() || other.failed.is_some());
        for column in of_a
            .into_iter()
            .filter(|(metric, _)| is_judged(metric, rules))
        {
            let metric = &column.0.metric;
            let Some((_, others)) = of_b.iter().find(|(m, _)| m.metric == *metric) else {
                if !is_told {
                    missing.push(Missing::metric(series, &column));
                }
                continue;
            };
            compared += 1;
            rows.extend(row(series, column, others));
        }
    }
    for series in b.series.iter().filter(|s| same_series(a, s).is_none()) {
        warnings.push(format!("only in b: {}", name(series)));
    }
    if matched == 0 {
        return Err(io::Error::other(format!(
            "no series is in both: a has {}; b has {}",
            names(a),
            names(b)
        )));
    }
    known.sort();
    known.dedup();
    let unknown = rules.metrics.iter().find(|wanted| !known.contains(wanted));
    if let Some(wanted) = unknown {
        return Err(io::Error::other(format!(
            "--metric {wanted}: no series of both reports has it in a; there are: {}",
            known.join(", ")
        )));
    }
    if compared == 0 && missing.is_empty() {
        let what = "nothing to compare: no metric that is judged is in both (--relative leaves the first series of \
                    each scenario out)";
        return Err(io::Error::other(what));
    }
    judge(&mut rows, rules);
    let (warning, runs_needed) = lacks_power(&rows, rules).unzip();
    warnings.extend(warning);
    Ok(Comparison {
        rows,
        missing,
        warnings,
        runs_needed,
    })
}

/// Columns of a series in both reports, relative if asked for; none for a base, of which there are no
/// multiples.
///
/// # Errors
/// Why it cannot be compared.
fn sides(
    (a, of_a): (&Report, &Series),
    (b, of_b): (&Report, &Series),
    rules: &Rules,
) -> Result<Option<[Vec<Column>; 2]>, String> {
    let (columns_a, columns_b) = (columns(of_a), columns(of_b));
    if !rules.is_relative {
        return Ok(Some([columns_a, columns_b]));
    }
    match (base(a, of_a), base(b, of_b)) {
        (None, None) => Ok(None),
        (Some(base_a), Some(base_b)) if base_a.label == base_b.label => Ok(Some([
            relative(columns_a, base_a),
            relative(columns_b, base_b),
        ])),
        (base_a, base_b) => {
            let label =
                |base: Option<&Series>| base.map_or("nothing", |s| s.label.as_str()).to_owned();
            let (base_a, base_b) = (label(base_a), label(base_b));
            Err(format!("a multiple of {base_a} in a and of {base_b} in b"))
        }
    }
}

/// The same value in every run of both, as 0 lost: nothing to test, and no test to count.
fn row(series: &Series, (metric, values): Column, others: &[(usize, f64)]) -> Option<Row> {
    let plain = |values: &[(usize, f64)]| values.iter().map(|(_, v)| *v).collect();
    let (values, others): (Vec<f64>, Vec<f64>) = (plain(&values), plain(others));
    let first = values[0];
    let is_equal = values.iter().chain(&others).all(|value| *value == first);
    (!is_equal).then(|| Row {
        scenario: place(series),
        label: series.label.clone(),
        effect: ratio_of_medians(&values, &others),
        p: mann_whitney(&values, &others).p,
        p_holm: 1.0,
        verdict: Verdict::Same,
        metric,
        a: values,
        b: others,
    })
}

fn is_judged(metric: &Measured, rules: &Rules) -> bool {
    if !rules.metrics.is_empty() {
        return rules.metrics.contains(&metric.metric);
    }
    metric.better != Better::Neither && !TOLD.iter().any(|end| metric.metric.ends_with(end))
}

fn judge(rows: &mut [Row], rules: &Rules) {
    let tests = rows.len();
    let p_values: Vec<f64> = rows.iter().map(|row| row.p).collect();
    for (row, p_holm) in rows.iter_mut().zip(holm(&p_values)) {
        row.p_holm = p_holm;
        if p_holm >= rules.alpha {
            if !has_power(row, tests, rules) {
                row.verdict = Verdict::TooFewRuns;
            }
            continue;
        }
        let ratio = row.effect.ratio;
        // The medians can be equal while the lists differ: neither way.
        let worse_by = match row.metric.better {
            Better::Lower => ratio - 1.0,
            Better::Higher => 1.0 - ratio,
            Better::Neither => continue,
        };
        row.verdict = match worse_by {
            by if by > rules.threshold => Verdict::Regression,
            by if by > 0.0 => Verdict::SlightlyWorse,
            by if by < 0.0 => Verdict::Better,
            _ => Verdict::Same,
        };
    }
}

/// The largest difference there is would be significant.
fn has_power(row: &Row, tests: usize, rules: &Rules) -> bool {
    least_p(row.a.len(), row.b.len()) * (tests as f64) < rules.alpha
}

/// With few runs and many tests no difference at all can be significant, and silence says nothing: what to
/// say, and how many runs it takes.
fn lacks_power(rows: &[Row], rules: &Rules) -> Option<(String, usize)> {
    const RUNS_MAX: usize = 200;
    let tests = rows.len();
    let row = rows
        .iter()
        .filter(|row| row.verdict == Verdict::TooFewRuns)
        .min_by_key(|row| row.a.len().min(row.b.len()))?;
    let (a, b) = (row.a.len(), row.b.len());
    let least = least_p(a, b) * tests as f64;
    let enough = (2..RUNS_MAX).find(|n| least_p(*n, *n) * (tests as f64) < rules.alpha);
    let enough = enough.unwrap_or(RUNS_MAX);
    let text = format!(
        "{a} and {b} runs cannot show any difference over {tests} tests at {} (least p {:.4}, \
         corrected {:.3}): take {enough} runs each, or fewer metrics with --metric",
        rules.alpha,
        least_p(a, b),
        least.min(1.0)
    );
    Some((text, enough))
}

/// The one of equal scenario, label and x.
pub fn same_series<'a>(report: &'a Report, series: &Series) -> Option<&'a Series> {
    report
        .series
        .iter()
        .find(|s| s.scenario == series.scenario && s.label == series.label && s.x == series.x)
}

/// What the series is a multiple of; `None` for the base itself.
fn base<'a>(report: &'a Report, series: &Series) -> Option<&'a Series> {
    report
        .series
        .iter()
        .find(|s| s.scenario == series.scenario && s.x == series.x)
        .filter(|base| base.label != series.label)
}

/// A metric and its values by the number of the run.
pub type Column = (Measured, Vec<(usize, f64)>);

/// Each value over that of the base in the run of the same number.
fn relative(columns_of: Vec<Column>, base: &Series) -> Vec<Column> {
    let bases = columns(base);
    let relative = |(mut metric, values): Column| -> Option<Column> {
        let (_, under) = bases.iter().find(|(m, _)| m.metric == metric.metric)?;
        let ratio = |(number, value): (usize, f64)| {
            let (_, of) = under.iter().find(|(n, _)| *n == number)?;
            Some((number, value / of)).filter(|(_, ratio)| ratio.is_finite())
        };
        let ratios: Vec<(usize, f64)> = values.into_iter().filter_map(ratio).collect();
        metric.unit = String::new();
        (!ratios.is_empty()).then_some((metric, ratios))
    };
    columns_of.into_iter().filter_map(relative).collect()
}

fn place(series: &Series) -> String {
    match &series.x {
        Some(x) => format!("{}, {} {}", series.scenario, x.value, x.name),
        None => series.scenario.clone(),
    }
}

/// Scenario, place on a curve and label.
pub fn name(series: &Series) -> String {
    format!("{}, {}", place(series), series.label)
}

fn names(report: &Report) -> String {
    let names: Vec<String> = report
        .series
        .iter()
        .map(|series| format!("'{}'", name(series)))
        .collect();
    names.join("; ")
}

/// What may explain a difference other than the software.
fn differences(a: &Report, b: &Report) -> Vec<String> {
    /// Facts that change from minute to minute.
    const FLEETING: [(&str, &str); 2] = [
        ("cpu", "MHz of the first at this moment"),
        ("memory", "available"),
    ];
    let mut found = Vec::new();
    for (section, facts) in &a.fingerprint.sections {
        for (name, value) in facts {
            let other = b.fingerprint.fact(section, name);
            if value != other && !FLEETING.contains(&(section.as_str(), name.as_str())) {
                found.push(format!("host, {section}, {name}: {value} | {other}"));
            }
        }
    }
    for series in &a.series {
        // One that failed may have no parameters at all.
        let Some(other) = same_series(b, series).filter(|s| s.failed.is_none()) else {
            continue;
        };
        for (parameter, value) in &series.parameters {
            let value = shown(Some(value));
            let changed = shown(other.parameters.get(parameter));
            if value != changed {
                let series = name(series);
                found.push(format!("{series}: {parameter}: {value} | {changed}"));
            }
        }
    }
    for (what, report) in [("a", a), ("b", b)] {
        let busy = report.conditions.load_average_before.filter(|l| *l > 0.5);
        if let Some(load) = busy {
            found.push(format!(
                "{what}: the host was busy before the first run (load average {load:.2}): what \
                 differs may be that"
            ));
        }
    }
    found
}

fn shown(parameter: Option<&Parameter>) -> String {
    match parameter {
        Some(Parameter::Flag(is)) => is.to_string(),
        Some(Parameter::Whole(n)) => n.to_string(),
        Some(Parameter::Number(n)) => n.to_string(),
        Some(Parameter::Text(text)) => text.clone(),
        None => "not given".into(),
    }
}

/// Median of a list, for the table.
pub fn median(values: &[f64]) -> f64 {
    median_min_max(values).0
}
