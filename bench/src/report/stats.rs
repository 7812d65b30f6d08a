//! Small statistics over runs, and the summary of each metric.

use super::model::{Better, Ratio, Report, Run, Series, Summary};
use super::sign::sign_test;

/// One figure of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What; equal names are compared.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// The figure, finite.
    pub value: f64,
}

/// Every figure of a run under its name, in the order of the tables.
pub fn measured(run: &Run) -> Vec<Measured> {
    let mut all = Vec::new();
    let mut put = |metric: &str, unit: &str, better, value: Option<f64>| {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            let (metric, unit) = (metric.to_owned(), unit.to_owned());
            all.push(Measured {
                metric,
                unit,
                better,
                value,
            });
        }
    };
    let cpu = run.cpu.map(|cpu| cpu.ns_per_message);
    put("CPU per message", "ns", Better::Lower, cpu);
    let ksoftirqd = run.cpu.and_then(|cpu| cpu.ksoftirqd_ns_per_message);
    put("ksoftirqd per message", "ns", Better::Neither, ksoftirqd);
    let sum = run.cpu.and_then(|cpu| cpu.sum_ns_per_message());
    put("CPU with ksoftirqd", "ns", Better::Lower, sum);
    let rate = run.messages_per_second;
    put("rate", "messages/s", Better::Higher, rate);
    for latency in &run.latencies {
        for (name, ns) in [
            ("p50", latency.p50_ns),
            ("p90", latency.p90_ns),
            ("p99", latency.p99_ns),
            ("p99.9", latency.p999_ns),
            ("max", latency.max_ns),
        ] {
            let metric = format!("{} {name}", latency.what);
            put(&metric, "ns", Better::Lower, Some(ns as f64));
        }
    }
    let lost = Some(run.messages.lost as f64);
    put("lost", "messages", Better::Lower, lost);
    let twice = Some(run.messages.twice as f64);
    put("received twice", "messages", Better::Lower, twice);
    for (metric, unit, value) in [
        ("messages per receive", "", run.messages_per_receive),
        ("bytes per send", "bytes", run.bytes_per_send),
        ("system calls per message", "", run.system_calls_per_message),
    ] {
        put(metric, unit, Better::Neither, value);
    }
    for (name, value) in &run.values {
        put(name, &value.unit, value.better, Some(value.value));
    }
    all
}

/// Median, lowest and highest of a list that is not empty.
pub fn median_min_max(values: &[f64]) -> (f64, f64, f64) {
    assert!(!values.is_empty(), "at least one run");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    };
    (median, sorted[0], sorted[sorted.len() - 1])
}

/// Metrics of a series in order, each with its value in every run that has it, by run number.
pub fn columns(series: &Series) -> Vec<(Measured, Vec<(usize, f64)>)> {
    let mut columns: Vec<(Measured, Vec<(usize, f64)>)> = Vec::new();
    for (number, run) in series.runs.iter().enumerate() {
        for figure in measured(run) {
            let point = (number, figure.value);
            match columns.iter_mut().find(|(m, _)| m.metric == figure.metric) {
                Some((_, values)) => values.push(point),
                None => columns.push((figure, vec![point])),
            }
        }
    }
    columns
}

/// A row for each metric of each series; ratios are to the first series of the same scenario and
/// `x`, by pairs of runs with the same number.
pub fn summarize(report: &Report) -> Vec<Summary> {
    let mut rows = Vec::new();
    for series in &report.series {
        let base = report
            .series
            .iter()
            .find(|other| other.scenario == series.scenario && other.x == series.x)
            .filter(|base| base.label != series.label);
        let base_columns = base.map(|base| (base, columns(base)));
        for (figure, values) in columns(series) {
            let ratio = base_columns.as_ref().and_then(|(base, columns)| {
                let (_, under) = columns.iter().find(|(m, _)| m.metric == figure.metric)?;
                ratio(&base.label, under, &values)
            });
            let plain: Vec<f64> = values.iter().map(|(_, v)| *v).collect();
            let (median, min, max) = median_min_max(&plain);
            rows.push(Summary {
                scenario: series.scenario.clone(),
                label: series.label.clone(),
                x: series.x.clone(),
                metric: figure.metric,
                unit: figure.unit,
                better: figure.better,
                runs: plain.len(),
                median,
                min,
                max,
                ratio,
            });
        }
    }
    rows
}

/// `None` where a base is 0: nothing can be said in multiples of it.
fn ratio(label: &str, base: &[(usize, f64)], values: &[(usize, f64)]) -> Option<Ratio> {
    let mut ratios = Vec::new();
    for (number, value) in values {
        let (_, under) = base.iter().find(|(n, _)| n == number)?;
        ratios.push(value / under);
    }
    let only = |points: &[(usize, f64)]| -> f64 {
        median_min_max(&points.iter().map(|(_, v)| *v).collect::<Vec<_>>()).0
    };
    let of_medians = only(values) / only(base);
    let is_finite = of_medians.is_finite() && ratios.iter().all(|r| r.is_finite());
    let (median, min, max) = median_min_max(&ratios);
    is_finite.then(|| Ratio {
        base: label.to_owned(),
        of_medians,
        pairs: ratios.len(),
        median,
        min,
        max,
        sign_test_p: Some(sign_test(&ratios)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn medians_of_odd_and_even_lists() {
        assert_eq!(median_min_max(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(median_min_max(&[4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let rows = summarize(&report());
        let cpu = |label: &str| {
            let found = rows
                .iter()
                .find(|row| row.metric == "CPU per message" && row.label == label);
            found.expect("a row").clone()
        };
        assert_eq!(cpu("relay").ratio, None, "the base has none");
        let weir = cpu("weir");
        // relay 200, 100, 300; weir 220, 90, 300
        assert_eq!((weir.median, weir.min, weir.max), (220.0, 90.0, 300.0));
        let ratio = weir.ratio.expect("beside the relay");
        assert_eq!((ratio.base.as_str(), ratio.pairs), ("relay", 3));
        assert!((ratio.of_medians - 1.1).abs() < 1e-9);
        assert_eq!((ratio.min, ratio.median), (0.9, 1.0));
        assert!((ratio.max - 1.1).abs() < 1e-9);
        // One above, one below, one equal.
        assert_eq!(ratio.sign_test_p, Some(1.0));
    }

    #[test]
    fn nothing_is_said_in_multiples_of_zero() {
        let rows = summarize(&report());
        let lost = rows
            .iter()
            .find(|row| row.metric == "lost" && row.label == "weir");
        assert_eq!(lost.expect("a row").ratio, None);
    }
}
