//! One HTML file that needs nothing else: style, charts as inline SVG, tables; no script.
//!
//! ```text
//! heading, verdict, command      what ran, when, on what
//! a section for each scenario    table | charts, the figures of each behind it
//! a section for each curve       series that have an x
//! fingerprint                    everything that moves figures
//! ```

mod bars;
mod charts;
mod svg;
mod tables;

use std::collections::BTreeMap;
use std::io;

use super::files::merged;
use super::model::{Report, Series};
use super::stats::{columns, median_min_max};
use charts::{by_percentile, capital, curve, over_time, CurveLine};
use svg::{escape, stroke};

const STYLE: &str = include_str!("style.css");
/// Metrics that are drawn as curves, if a series has them.
const CURVES: [&str; 4] = ["CPU per message", "rate", "latency p50", "latency p99"];

/// A picture with the figures behind it.
pub struct Chart {
    title: String,
    svg: String,
    /// Series and their names; empty when the picture names them itself.
    legend: Vec<(usize, String)>,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    note: String,
}

/// The whole page.
///
/// # Errors
/// A histogram of the report cannot be read.
pub fn page(report: &Report) -> io::Result<String> {
    let mut body = tables::heading(report);
    for (scenario, series) in scenarios(report) {
        body += &section(report, &scenario, &series)?;
    }
    for ((scenario, x_name), series) in curves(report) {
        body += &curve_section(report, &scenario, &x_name, &series);
    }
    body += &tables::fingerprint(report);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{} - weir bench {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {body}</main>\n</body>\n</html>\n",
        escape(&report.title),
        escape(&report.kind),
    ))
}

/// Series that are no points of a curve, by scenario in the order of the report.
fn scenarios(report: &Report) -> Vec<(String, Vec<&Series>)> {
    let mut all: Vec<(String, Vec<&Series>)> = Vec::new();
    for series in report.series.iter().filter(|series| series.x.is_none()) {
        match all.iter_mut().find(|(name, _)| *name == series.scenario) {
            Some((_, list)) => list.push(series),
            None => all.push((series.scenario.clone(), vec![series])),
        }
    }
    all
}

type Curves<'a> = Vec<((String, String), Vec<&'a Series>)>;

/// Points of curves by scenario and what varies.
fn curves(report: &Report) -> Curves<'_> {
    let mut all: Curves = Vec::new();
    for series in &report.series {
        let Some(x) = &series.x else { continue };
        let key = (series.scenario.clone(), x.name.clone());
        match all.iter_mut().find(|(found, _)| *found == key) {
            Some((_, list)) => list.push(series),
            None => all.push((key, vec![series])),
        }
    }
    all
}

fn section(report: &Report, scenario: &str, series: &[&Series]) -> io::Result<String> {
    let numbered: Vec<(usize, &Series)> = series.iter().copied().enumerate().collect();
    let mut pictures: Vec<Chart> = Vec::new();
    pictures.extend(bars::cpu(&numbered));
    let mut distributions: Vec<(String, Vec<_>)> = Vec::new();
    for (index, series) in &numbered {
        for (what, histogram) in merged(series)? {
            let line = (*index, series.label.clone(), histogram);
            match distributions.iter_mut().find(|(found, _)| *found == what) {
                Some((_, lines)) => lines.push(line),
                None => distributions.push((what, vec![line])),
            }
        }
    }
    for (what, lines) in &distributions {
        pictures.extend(by_percentile(what, lines));
    }
    pictures.extend(over_time(&numbered));
    pictures.extend(bars::shares(&numbered));
    let mut out = format!("<section>\n<h2>{}</h2>\n", escape(&capital(scenario)));
    out += &tables::summary(report, series);
    out += &grid(&pictures);
    out += &tables::details(series);
    out += "</section>\n";
    Ok(out)
}

fn curve_section(report: &Report, scenario: &str, x_name: &str, series: &[&Series]) -> String {
    let mut labels: Vec<&str> = Vec::new();
    for each in series {
        if !labels.contains(&each.label.as_str()) {
            labels.push(&each.label);
        }
    }
    // Unit and lines by metric.
    let mut metrics: BTreeMap<&str, (String, Vec<CurveLine>)> = BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        for each in series.iter().filter(|s| s.label == **label) {
            let x = each.x.as_ref().map_or(0.0, |x| x.value);
            for (figure, values) in columns(each) {
                let Some(name) = CURVES.iter().find(|name| **name == figure.metric) else {
                    continue;
                };
                let values: Vec<f64> = values.iter().map(|(_, v)| *v).collect();
                let (median, min, max) = median_min_max(&values);
                let (_, lines) = metrics
                    .entry(name)
                    .or_insert_with(|| (figure.unit, Vec::new()));
                let point = (x, [median, min, max]);
                match lines.iter_mut().find(|line| line.index == index) {
                    Some(line) => line.points.push(point),
                    None => lines.push(CurveLine {
                        index,
                        label: (*label).to_owned(),
                        points: vec![point],
                    }),
                }
            }
        }
    }
    let mut pictures = Vec::new();
    for name in CURVES {
        if let Some((unit, lines)) = metrics.get_mut(name) {
            for line in lines.iter_mut() {
                line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
            pictures.extend(curve(name, unit, x_name, lines));
        }
    }
    let title = match scenario.ends_with(x_name) {
        true => capital(scenario),
        false => format!("{}: {x_name}", capital(scenario)),
    };
    let mut out = format!("<section>\n<h2>{}</h2>\n", escape(&title));
    out += &grid(&pictures);
    out += &tables::summary(report, series);
    out += &tables::details(series);
    out += "</section>\n";
    out
}

/// Pictures beside each other where there is room.
fn grid(pictures: &[Chart]) -> String {
    let mut out = String::from("<div class=\"charts\">\n");
    for chart in pictures {
        out += &format!(
            "<figure>\n<figcaption>{}</figcaption>\n",
            escape(&chart.title)
        );
        if !chart.legend.is_empty() {
            out += "<ul class=\"legend\">";
            for (index, label) in &chart.legend {
                out += &format!(
                    "<li><svg class=\"key\" viewBox=\"0 0 26 8\" aria-hidden=\"true\"><line \
                     class=\"line {}\" x1=\"1\" x2=\"25\" y1=\"4\" y2=\"4\"/></svg>{}</li>",
                    stroke(*index),
                    escape(label)
                );
            }
            out += "</ul>\n";
        }
        out += &chart.svg;
        if !chart.note.is_empty() {
            out += &format!("<p class=\"note\">{}</p>\n", escape(&chart.note));
        }
        out += "<details><summary>Figures</summary>\n";
        out += &tables::table(&chart.head, &chart.rows);
        out += "</details>\n</figure>\n";
    }
    out + "</div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Abscissa;
    use crate::report::sample::report;
    use crate::report::summarize;

    #[test]
    fn a_page_has_everything_and_needs_nothing() {
        let report = report();
        let page = page(&report).expect("histograms are whole");
        for part in [
            "CPU per message",
            "Send to receipt by percentile",
            "Shares: due and real",
            "a note with &lt;angles&gt; &amp; &quot;quotes&quot;",
            report.fingerprint.fact("kernel", "release"),
            "99.9",
            "<title>CPU per message</title><desc>",
            "prefers-color-scheme: dark",
            "@media print",
        ] {
            assert!(page.contains(part), "no {part}");
        }
        // Nothing is fetched: no address but what a text may name, no script, no import.
        for fetched in ["<script", "<link", "src=", "url(", "@import", "href=\"http"] {
            assert!(!page.contains(fetched), "{fetched}");
        }
        let charts = page.matches("role=\"img\"").count();
        assert!(charts >= 3);
        assert_eq!(page.matches("<summary>Figures</summary>").count(), charts);
        for tag in [
            "section", "figure", "table", "details", "svg", "ul", "div", "tr", "td",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(
            !page.contains("NaN") && !page.contains("inf"),
            "a figure without a value"
        );
    }

    #[test]
    fn points_of_a_curve_are_drawn_in_order() {
        let mut report = report();
        let template = report.series[1].clone();
        report.series.clear();
        for analyzers in [1000.0, 4.0, 64.0] {
            let mut point = template.clone();
            point.x = Some(Abscissa {
                name: "analyzers".into(),
                value: analyzers,
            });
            report.series.push(point);
        }
        report.summaries = summarize(&report);
        let page = page(&report).expect("histograms are whole");
        assert!(page.contains("CPU per message by analyzers"));
        assert!(page.contains("<h2>Firehose: analyzers</h2>"));
        let notes = page.matches("<b>weir</b>: a note with").count();
        assert_eq!(notes, 1, "once for all three points");
        let line = page
            .split("<polyline class=\"line s0 d0 \" points=\"")
            .nth(1);
        let points = line.and_then(|l| l.split('"').next()).expect("a line");
        let x: Vec<f64> = points
            .split(' ')
            .map(|p| p.split(',').next().expect("x").parse().expect("a number"))
            .collect();
        assert_eq!(x.len(), 3);
        assert!(x.windows(2).all(|pair| pair[0] < pair[1]), "{points}");
    }

    #[test]
    fn a_series_that_failed_says_so() {
        let mut report = report();
        report.series[1].runs.clear();
        report.series[1].failed = Some("cannot start <peer>".into());
        report.summaries = summarize(&report);
        let page = page(&report).expect("histograms are whole");
        assert!(page.contains("cannot start &lt;peer&gt;"));
    }
}
