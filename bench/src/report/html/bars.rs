//! Bars: CPU per message with its spread, shares beside what was due.

use super::super::figures::{human, tick};
use super::super::model::Series;
use super::super::stats::median_min_max;
use super::svg::{Drawing, Scale, BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH};
use super::Chart;

/// Height of a bar with its name above it.
const ROW: f64 = 38.0;
/// Analyzers shown; the table has them all.
const ANALYZERS_MAX: usize = 16;

/// A bar for each system: system time, user time, whisker from lowest to highest run.
pub fn cpu(series: &[(usize, &Series)]) -> Option<Chart> {
    let mut bars = Vec::new();
    for (index, series) in series {
        let of = |pick: fn(&super::super::model::Cpu) -> f64| -> Vec<f64> {
            series
                .runs
                .iter()
                .filter_map(|run| run.cpu.as_ref().map(pick))
                .collect()
        };
        let all = of(|cpu| cpu.ns_per_message);
        if !all.is_empty() {
            let user = median_min_max(&of(|cpu| cpu.user_ns_per_message)).0;
            bars.push((*index, *series, median_min_max(&all), user, all.len()));
        }
    }
    let greatest = bars
        .iter()
        .map(|(_, _, (_, _, max), ..)| *max)
        .fold(0.0, f64::max);
    if greatest <= 0.0 {
        return None;
    }
    const LABEL: f64 = 70.0;
    let scale = Scale::linear(greatest);
    let (left, right) = (8.0, WIDTH - LABEL);
    let place = |value: f64| left + value / (greatest * 1.05) * (right - left);
    let height = TOP + bars.len() as f64 * ROW + 40.0;
    let mut drawing = Drawing::new();
    for value in scale.ticks() {
        let x = place(value);
        drawing.straight("grid", (x, TOP), (x, height - 36.0));
        drawing.text("tick middle", x, height - 22.0, &tick(value));
    }
    drawing.text(
        "axis",
        (left + right) / 2.0,
        height - 6.0,
        "ns per delivered message",
    );
    let base = bars.first().map_or(0.0, |(_, _, (median, ..), ..)| *median);
    let mut rows = Vec::new();
    for (row, (index, series, (median, min, max), user, runs)) in bars.iter().enumerate() {
        let top = TOP + row as f64 * ROW;
        let (bar, thick) = (top + 15.0, 14.0);
        drawing.text("name", left, top + 10.0, &series.label);
        let colour = index % COLOURS;
        let system = (median - user).max(0.0);
        drawing.rectangle(
            &format!("f{colour}"),
            left,
            bar,
            place(system) - left,
            thick,
        );
        if *user > 0.0 {
            let class = format!("f{colour} user");
            drawing.rectangle(
                &class,
                place(system),
                bar,
                place(*median) - place(system),
                thick,
            );
        }
        let middle = bar + thick / 2.0;
        drawing.straight("whisker", (place(*min), middle), (place(*max), middle));
        for end in [*min, *max] {
            drawing.straight(
                "whisker",
                (place(end), middle - 4.0),
                (place(end), middle + 4.0),
            );
        }
        let text = human(*median, "ns");
        drawing.text("value", place(*max) + 6.0, middle + 4.0, &text);
        rows.push(vec![
            series.label.clone(),
            text,
            human(*min, "ns"),
            human(*max, "ns"),
            human(*user, "ns"),
            human(system, "ns"),
            format!("{:.3}", median / base),
            runs.to_string(),
        ]);
    }
    let title = "CPU per message".to_owned();
    Some(Chart {
        svg: drawing.finish(
            height,
            &title,
            "A bar for each system: the median of its runs. The whisker goes from the lowest to \
             the highest run. Lower is better.",
        ),
        title,
        legend: Vec::new(),
        head: [
            "",
            "median",
            "lowest",
            "highest",
            "user",
            "system",
            "of the first",
            "runs",
        ]
        .map(String::from)
        .into(),
        rows,
        note:
            "Full colour: in the kernel; paler: user mode (the split is by 10 ms ticks, a hint). \
               Whisker: lowest to highest run."
                .into(),
    })
}

/// For each analyzer a bar for each system, and a mark at what was due.
pub fn shares(series: &[(usize, &Series)]) -> Option<Chart> {
    let mut lines = Vec::new();
    for (index, series) in series.iter().filter(|(_, s)| !s.target_shares.is_empty()) {
        let analyzers = series.target_shares.len();
        let real: Vec<f64> = (0..analyzers)
            .filter_map(|n| {
                let of_runs: Vec<f64> = series
                    .runs
                    .iter()
                    .filter_map(|run| run.shares.get(n).copied())
                    .collect();
                (!of_runs.is_empty()).then(|| median_min_max(&of_runs).0)
            })
            .collect();
        if real.len() == analyzers {
            lines.push((*index, *series, real));
        }
    }
    let analyzers = lines.iter().map(|(.., real)| real.len()).max()?;
    let shown = analyzers.min(ANALYZERS_MAX);
    let greatest = lines
        .iter()
        .flat_map(|(_, s, real)| s.target_shares.iter().chain(real))
        .copied()
        .fold(0.0, f64::max);
    let y = Scale::linear(100.0 * greatest).upwards();
    let mut drawing = Drawing::new();
    drawing.y_axis(&y, "% of the messages", tick);
    let slot = (WIDTH - RIGHT - LEFT) / shown as f64;
    let width = (slot * 0.8 / lines.len() as f64).min(44.0);
    let mut labels = Vec::new();
    for n in 0..shown {
        let centre = LEFT + (n as f64 + 0.5) * slot;
        let label = if shown > 8 && n % 2 == 1 {
            String::new()
        } else {
            (n + 1).to_string()
        };
        labels.push((centre, label));
    }
    for (x, label) in &labels {
        drawing.text("tick middle", *x, HEIGHT - BOTTOM + 16.0, label);
    }
    drawing.text(
        "axis",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0,
        "analyzer",
    );
    let mut rows = Vec::new();
    for (place, (index, series, real)) in lines.iter().enumerate() {
        for n in 0..real.len() {
            let (due, got) = (100.0 * series.target_shares[n], 100.0 * real[n]);
            rows.push(vec![
                series.label.clone(),
                (n + 1).to_string(),
                format!("{due:.4} %"),
                format!("{got:.4} %"),
                format!("{:+.4}", got - due),
            ]);
            if n >= shown {
                continue;
            }
            let left = labels[n].0 - width * lines.len() as f64 / 2.0 + place as f64 * width;
            let top = y.place(got);
            let class = format!("f{}", index % COLOURS);
            drawing.rectangle(&class, left + 1.0, top, width - 2.0, HEIGHT - BOTTOM - top);
            let line = y.place(due);
            drawing.straight("due", (left - 1.0, line), (left + width + 1.0, line));
        }
    }
    let title = "Shares: due and real".to_owned();
    let note = if analyzers > shown {
        format!("Bar: median of the runs; black line: what was due. The first {shown} of {analyzers} analyzers; the table has all.")
    } else {
        "Bar: median of the runs; line across: what was due.".into()
    };
    Some(Chart {
        svg: drawing.finish(
            HEIGHT,
            &title,
            "A bar for each analyzer and system, and a line across at the share that it was due.",
        ),
        title,
        legend: lines
            .iter()
            .map(|(i, s, _)| (*i, s.label.clone()))
            .collect(),
        head: ["", "analyzer", "due", "real", "difference"]
            .map(String::from)
            .into(),
        rows,
        note,
    })
}
