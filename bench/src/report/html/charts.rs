//! Lines: latency by percentile, rate over time, cost as work grows.

use hdrhistogram::Histogram;

use super::super::figures::{human, tick};
use super::super::model::{Run, Series};
use super::super::stats::median_min_max;
use super::svg::{Drawing, Scale, HEIGHT};
use super::Chart;

/// A logarithmic y axis when the greatest is so many times the least.
const LOG_FROM: f64 = 20.0;
/// Powers of ten of the axis: up to 99.9999 %.
const NINES_MAX: f64 = 6.0;
/// Percentiles of the table behind the chart.
const QUANTILES: [(f64, &str); 7] = [
    (0.0, "least"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (1.0, "100 %"),
];

/// The distributions of one kind, one line each, all runs together.
pub fn by_percentile(what: &str, lines: &[(usize, String, Histogram<u64>)]) -> Option<Chart> {
    let most = lines.iter().map(|(.., h)| h.len()).max()?;
    // 1 in 10, in 100 and so on: as many nines as values can tell.
    let nines = (most as f64).log10().floor().clamp(1.0, NINES_MAX);
    let x = Scale::log_exact(1.0, 10f64.powf(nines)).across();
    let quantile_at = |part: f64| 1.0 - 10f64.powf(-part * nines);

    const POINTS: usize = 160;
    let curve = |histogram: &Histogram<u64>| -> Vec<(f64, f64)> {
        let parts = (0..=POINTS).map(|n| n as f64 / POINTS as f64);
        let point = |part| {
            let ns = histogram.value_at_quantile(quantile_at(part));
            (10f64.powf(part * nines), ns as f64 / 1e6)
        };
        parts.map(point).collect()
    };
    let curves: Vec<(usize, Vec<(f64, f64)>)> = lines
        .iter()
        .map(|(index, _, histogram)| (*index, curve(histogram)))
        .collect();
    let all = || curves.iter().flat_map(|(_, c)| c).map(|(_, y)| *y);
    let (least, greatest) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let is_log = greatest > LOG_FROM * least.max(1e-6);
    let y = if is_log {
        Scale::log(least.max(1e-6), greatest).upwards()
    } else {
        Scale::linear(greatest).upwards()
    };

    let mut drawing = Drawing::new();
    let name = if is_log { "ms, logarithmic" } else { "ms" };
    drawing.y_axis(&y, name, tick);
    let labels: Vec<(f64, String)> = (0..=nines as i32)
        .map(|n| {
            let text = match n {
                0 => "0".to_owned(),
                1 => "90".to_owned(),
                2 => "99".to_owned(),
                n => format!("99.{}", "9".repeat(n as usize - 2)),
            };
            (x.place(10f64.powi(n)), text)
        })
        .collect();
    drawing.x_axis(&labels, "percentile");
    for (index, curve) in &curves {
        let points: Vec<(f64, f64)> = curve
            .iter()
            .map(|(a, b)| (x.place(*a), y.place(*b)))
            .collect();
        drawing.line(*index, "", &points);
    }
    let title = format!("{} by percentile", capital(what));
    let table = lines
        .iter()
        .map(|(_, label, histogram)| {
            let figure = |(quantile, _): &(f64, &str)| {
                human(histogram.value_at_quantile(*quantile) as f64, "ns")
            };
            let count = human(histogram.len() as f64, "messages");
            let figures = QUANTILES.iter().map(figure).chain([count]);
            [label.clone()].into_iter().chain(figures).collect()
        })
        .collect();
    let head = ["".to_owned()]
        .into_iter()
        .chain(QUANTILES.iter().map(|(_, name)| (*name).to_owned()))
        .chain(["values".to_owned()])
        .collect();
    Some(Chart {
        svg: drawing.finish(
            HEIGHT,
            &title,
            "Lines, one for each system, all runs together. Lower is better; the figures are in \
             the table below.",
        ),
        title,
        legend: lines.iter().map(|(i, l, _)| (*i, l.clone())).collect(),
        head,
        rows: table,
        note: String::new(),
    })
}

/// Rate of every run over time, thin lines in the colour of the series.
pub fn over_time(series: &[(usize, &Series)]) -> Option<Chart> {
    // One interval is no course.
    let has_course = |run: &&Run| run.samples.len() >= 3;
    let shown: Vec<&(usize, &Series)> = series
        .iter()
        .filter(|(_, s)| s.runs.iter().any(|run| has_course(&run)))
        .collect();
    let points_of = |run: &Run| -> Vec<(f64, f64)> {
        run.samples
            .iter()
            .filter(|sample| sample.seconds > longest(run) / 2.0)
            .map(|s| {
                (
                    s.start_seconds + s.seconds / 2.0,
                    s.received as f64 / s.seconds,
                )
            })
            .collect()
    };
    let all: Vec<(f64, f64)> = shown
        .iter()
        .flat_map(|(_, s)| s.runs.iter().filter(has_course).flat_map(points_of))
        .collect();
    let greatest = all.iter().map(|p| p.1).fold(0.0, f64::max);
    let end = all.iter().map(|p| p.0).fold(0.0, f64::max);
    if greatest <= 0.0 {
        return None;
    }
    let (x, y) = (
        Scale::linear(end).across(),
        Scale::linear(greatest).upwards(),
    );
    let mut drawing = Drawing::new();
    drawing.y_axis(&y, "messages/s", tick);
    let labels: Vec<(f64, String)> = x.ticks().iter().map(|t| (x.place(*t), tick(*t))).collect();
    drawing.x_axis(&labels, "seconds since the load started");
    let mut rows = Vec::new();
    for (index, series) in &shown {
        for (number, run) in series
            .runs
            .iter()
            .enumerate()
            .filter(|(_, r)| has_course(r))
        {
            let points = points_of(run);
            let rates: Vec<f64> = points.iter().map(|p| p.1).collect();
            let (median, min, max) = median_min_max(&rates);
            rows.push(vec![
                series.label.clone(),
                (number + 1).to_string(),
                run.samples.len().to_string(),
                human(min, "messages/s"),
                human(median, "messages/s"),
                human(max, "messages/s"),
            ]);
            let placed: Vec<(f64, f64)> = points
                .iter()
                .map(|(a, b)| (x.place(*a), y.place(*b)))
                .collect();
            drawing.line(*index, "thin", &placed);
        }
    }
    let title = "Rate over time".to_owned();
    Some(Chart {
        svg: drawing.finish(
            HEIGHT,
            &title,
            "Messages received in each interval over its length: a line for each run. A dip is a \
             stall.",
        ),
        title,
        legend: shown.iter().map(|(i, s)| (*i, s.label.clone())).collect(),
        head: ["", "run", "intervals", "lowest", "median", "highest"]
            .map(String::from)
            .into(),
        rows,
        note: "Every run is a line. A last interval that the end of the run cut short is left out."
            .into(),
    })
}

fn longest(run: &Run) -> f64 {
    let lengths = run.samples.iter().map(|sample| sample.seconds);
    lengths.fold(0.0, f64::max)
}

/// One system on a curve.
pub struct CurveLine {
    /// Its colour.
    pub index: usize,
    /// Its name.
    pub label: String,
    /// In order of x: x, then median, lowest and highest.
    pub points: Vec<(f64, [f64; 3])>,
}

/// Median of a metric over what varies, with lowest and highest as a band.
pub fn curve(name: &str, unit: &str, x_name: &str, lines: &[CurveLine]) -> Option<Chart> {
    let all = || lines.iter().flat_map(|line| &line.points);
    if all().count() == 0 {
        return None;
    }
    let scale = |values: &dyn Fn() -> Vec<f64>| {
        let values = values();
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let greatest = values.iter().copied().fold(0.0, f64::max);
        (least, greatest)
    };
    // Times in the unit that keeps the labels short.
    let (divisor, unit_shown) = match unit {
        "ns" => time_unit(all().map(|(_, y)| y[2]).fold(0.0, f64::max)),
        unit => (1.0, unit),
    };
    let (x_least, x_most) = scale(&|| all().map(|(x, _)| *x).collect());
    let (least, greatest) = scale(&|| all().flat_map(|(_, y)| *y).map(|y| y / divisor).collect());
    let x = if x_least > 0.0 {
        Scale::log(x_least, x_most).across()
    } else {
        Scale::linear(x_most).across()
    };
    let is_log = least > 0.0 && greatest > LOG_FROM * least;
    let y = if is_log {
        Scale::log(least, greatest).upwards()
    } else {
        Scale::linear(greatest).upwards()
    };
    let mut drawing = Drawing::new();
    let suffix = if is_log { ", logarithmic" } else { "" };
    drawing.y_axis(&y, &format!("{unit_shown}{suffix}"), tick);
    // Labels where something was measured, as far as they do not touch.
    let mut at: Vec<f64> = all().map(|(x, _)| *x).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    let mut labels: Vec<(f64, String)> = Vec::new();
    for value in at {
        let place = x.place(value);
        if labels.last().is_none_or(|(last, _)| place - last > 38.0) {
            labels.push((place, tick(value)));
        }
    }
    drawing.x_axis(&labels, x_name);
    let mut rows = Vec::new();
    for CurveLine {
        index,
        label,
        points,
    } in lines
    {
        let place = |pick: usize| {
            points
                .iter()
                .map(move |(a, b)| (x.place(*a), y.place(b[pick] / divisor)))
        };
        let band: Vec<(f64, f64)> = place(2)
            .chain(place(1).collect::<Vec<_>>().into_iter().rev())
            .collect();
        drawing.area(*index, &band);
        let middle: Vec<(f64, f64)> = place(0).collect();
        drawing.line(*index, "", &middle);
        middle.iter().for_each(|(a, b)| drawing.dot(*index, *a, *b));
        for (at, [median, min, max]) in points {
            rows.push(vec![
                label.clone(),
                tick(*at),
                human(*median, unit),
                human(*min, unit),
                human(*max, unit),
            ]);
        }
    }
    let title = format!("{} by {x_name}", capital(name));
    Some(Chart {
        svg: drawing.finish(
            HEIGHT,
            &title,
            "A line through the medians, and a band from the lowest to the highest run.",
        ),
        title,
        legend: lines.iter().map(|l| (l.index, l.label.clone())).collect(),
        head: ["", x_name, "median", "lowest", "highest"]
            .map(String::from)
            .into(),
        rows,
        note: "Band: lowest to highest run.".into(),
    })
}

/// What to divide nanoseconds by, and what they are then.
fn time_unit(greatest_ns: f64) -> (f64, &'static str) {
    match greatest_ns {
        ns if ns >= 2e6 => (1e6, "ms"),
        ns if ns >= 2e3 => (1e3, "us"),
        _ => (1.0, "ns"),
    }
}

/// The first letter made large.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A curve of two points at these nanoseconds.
    fn drawn(least_ns: f64, greatest_ns: f64) -> Chart {
        let line = CurveLine {
            index: 0,
            label: "weir".into(),
            points: vec![(4.0, [least_ns; 3]), (64.0, [greatest_ns; 3])],
        };
        curve("latency p50", "ns", "analyzers", &[line]).expect("points")
    }

    #[test]
    fn an_axis_of_times_is_in_the_unit_that_people_read() {
        for (least, greatest, axis) in [
            (1e6, 3e6, ">ms<"),
            (20_000.0, 90_000.0, ">us<"),
            (100.0, 700.0, ">ns<"),
            (10_000.0, 40e6, ">ms, logarithmic<"),
        ] {
            let chart = drawn(least, greatest);
            assert!(chart.svg.contains(axis), "{axis}: {}", chart.svg);
            // No label of an axis has a prefix: 2M ns is what this is against.
            assert!(!chart.svg.contains("M</text>") && !chart.svg.contains("k</text>"));
            // Both points lie on the scale: what is beyond it is drawn at its end.
            let points = chart.svg.split("class=\"line s0 d0 \" points=\"").nth(1);
            let points = points.and_then(|p| p.split('"').next()).unwrap_or_default();
            let y: Vec<f64> = points
                .split(' ')
                .filter_map(|pair| pair.split(',').nth(1)?.parse().ok())
                .collect();
            assert!(y.len() == 2 && y[0] > y[1] + 20.0, "{points}");
        }
    }
}
