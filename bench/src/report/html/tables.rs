//! Tables and texts of the page.

use super::super::figures::human;
use super::super::model::{Parameter, Report, Series, Summary};
use super::super::sign::PAIRS_MIN;
use super::svg::escape;

/// Metrics of the table of a scenario, in this order; those without a figure are left out.
const FIRST: [&str; 4] = ["CPU per message", "rate", "lost", "received twice"];

/// A table with a heading of columns; the first column is the name of the row.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
    for cell in head {
        out += &format!("<th scope=\"col\">{}</th>", escape(cell));
    }
    out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        out += "<tr>";
        for (place, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            out += &match place {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td>{cell}</td>"),
            };
        }
        out += "</tr>\n";
    }
    out + "</tbody></table></div>\n"
}

/// Title, verdict, conditions, command.
pub fn heading(report: &Report) -> String {
    let fact = |section, name| escape(report.fingerprint.fact(section, name));
    let (class, verdict) = if report.passed {
        ("passed", "passed: exit status 0")
    } else {
        (
            "failed",
            "failed: exit status 1, a bound was missed or a message was lost",
        )
    };
    let conditions = &report.conditions;
    let cores = |list: &[usize]| match list {
        [] => "not pinned".to_owned(),
        list => list
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    let load = conditions.load_average_before;
    let load = load.map_or("unknown".to_owned(), |load| format!("{load:.2}"));
    let command = report.command.iter().map(|word| quoted(word));
    let command = command.collect::<Vec<_>>().join(" ");
    let mut out = format!(
        "<header>\n<p class=\"kind\">weir bench {}</p>\n<h1>{}</h1>\n\
         <p class=\"verdict {class}\">{verdict}</p>\n<dl>\n",
        escape(&report.kind),
        escape(&report.title)
    );
    let started = report.started.get(..19).unwrap_or(&report.started);
    let rows = [
        (
            "when",
            format!(
                "{} UTC, {:.0} s",
                escape(&started.replace('T', " ")),
                report.wall_seconds
            ),
        ),
        (
            "host",
            format!(
                "Linux {}, {} x {}",
                fact("kernel", "release"),
                fact("cpu", "online"),
                fact("cpu", "model")
            ),
        ),
        (
            "cores",
            format!(
                "system under test {}; load and analyzers {}; load average before {load}",
                cores(&conditions.system_cores),
                cores(&conditions.load_cores)
            ),
        ),
        ("path", escape(&conditions.network)),
        (
            "build",
            format!(
                "weir-bench {}, commit {}, {}",
                fact("software", "weir-bench"),
                fact("software", "commit"),
                fact("software", "weir-bench profile")
            ),
        ),
    ];
    for (name, value) in rows {
        out += &format!("<dt>{name}</dt><dd>{value}</dd>\n");
    }
    out += &format!(
        "</dl>\n<pre class=\"command\" tabindex=\"0\">{}</pre>\n",
        escape(&command)
    );
    for note in &report.notes {
        out += &format!("<p class=\"note\">{}</p>\n", escape(note));
    }
    out + "</header>\n"
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Median (lowest to highest), and the ratio to the first, of each series of a scenario.
pub fn summary(report: &Report, series: &[&Series]) -> String {
    let of = |each: &Series| -> Vec<&Summary> {
        report
            .summaries
            .iter()
            .filter(|row| {
                row.scenario == each.scenario && row.label == each.label && row.x == each.x
            })
            .collect()
    };
    let mut metrics: Vec<&str> = Vec::new();
    let known: Vec<&Summary> = series.iter().flat_map(|each| of(each)).collect();
    let is_known = |name: &str| known.iter().any(|row| row.metric == name);
    metrics.extend(FIRST[..2].iter().filter(|name| is_known(name)));
    for row in &known {
        let is_shown =
            metrics.contains(&row.metric.as_str()) || FIRST.contains(&row.metric.as_str());
        let is_detail = row.metric.ends_with(" p90") || row.metric.ends_with(" p99.9");
        if !is_shown && !is_detail {
            metrics.push(&row.metric);
        }
    }
    metrics.extend(FIRST[2..].iter().filter(|name| is_known(name)));

    let mut head = vec![String::new()];
    head.extend(metrics.iter().map(|name| {
        let found = known.iter().find(|row| row.metric == *name);
        match found.map(|row| row.unit.as_str()) {
            Some(unit) if is_in_head(unit) => format!("{name}, {unit}"),
            _ => (*name).to_owned(),
        }
    }));
    let mut rows = Vec::new();
    for each in series {
        let x = each.x.as_ref();
        let x = x.map(|x| format!(", {} {}", human(x.value, ""), x.name));
        let mut row = vec![format!("{}{}", each.label, x.unwrap_or_default())];
        if let Some(reason) = &each.failed {
            row.push(format!("failed: {reason}"));
            rows.push(row);
            continue;
        }
        let all = of(each);
        row.extend(metrics.iter().map(|name| {
            let found = all.iter().find(|summary| summary.metric == *name);
            found.map_or("-".to_owned(), |summary| cell(summary))
        }));
        rows.push(row);
    }
    table(&head, &rows).replacen("<table>", "<table class=\"summary\">", 1)
        + "<p class=\"note\">Median of the runs (lowest to highest); x: ratio to the first row, \
           median of the pairs [lowest, highest]; p: two-sided sign test over the pairs, which \
           takes 6 to tell anything. If the range holds 1, or p is 0.05 or more, the two are not \
           told apart.</p>\n"
}

/// Units that numbers are not scaled by: named once, above.
fn is_in_head(unit: &str) -> bool {
    !matches!(unit, "" | "ns" | "bytes" | "messages")
}

/// Median, range and ratio, a line each.
fn cell(summary: &Summary) -> String {
    let number = |value| {
        let text = human(value, &summary.unit);
        match is_in_head(&summary.unit) {
            true => text.trim_end_matches(&summary.unit).trim_end().to_owned(),
            false => text,
        }
    };
    let mut text = number(summary.median);
    if summary.max > summary.min {
        let (least, most) = (number(summary.min), number(summary.max));
        // The unit once, where it is the same.
        let unit = |t: &str| t.split_once(' ').map(|(_, unit)| unit.to_owned());
        let shortened = match unit(&least) {
            Some(of) if unit(&most).as_ref() == Some(&of) => {
                least.trim_end_matches(&of).trim_end().to_owned()
            }
            _ => least,
        };
        text += &format!("\n({shortened} to {most})");
    }
    if let Some(ratio) = &summary.ratio {
        text += &format!(
            "\nx {:.3} [{:.3}, {:.3}]",
            ratio.median, ratio.min, ratio.max
        );
        if let Some(p) = ratio.sign_test_p {
            text += &match ratio.pairs < PAIRS_MIN {
                true => "\ntoo few rounds".to_owned(),
                false => format!("\np {p:.3}"),
            };
        }
    }
    text
}

/// Parameters and notes of each series, what happened in its runs.
pub fn details(series: &[&Series]) -> String {
    let mut out = String::new();
    let mut told: Vec<(&str, String)> = Vec::new();
    for each in series {
        let notes = (each.label.as_str(), each.notes.join("; "));
        // The points of a curve say the same.
        if notes.1.is_empty() || told.contains(&notes) {
            continue;
        }
        let (label, text) = (escape(notes.0), escape(&notes.1));
        out += &format!("<p class=\"note\"><b>{label}</b>: {text}</p>\n");
        told.push(notes);
    }
    out += "<details><summary>Parameters and runs</summary>\n";
    for each in series {
        let x = each.x.as_ref();
        let x = x.map(|x| format!(", {} {}", human(x.value, ""), x.name));
        let name = format!("{}{}", each.label, x.unwrap_or_default());
        out += &format!("<h3>{}</h3>\n<p>", escape(&name));
        let parameters = each.parameters.iter().map(|(name, value)| {
            let value = match value {
                Parameter::Flag(is) => if *is { "yes" } else { "no" }.to_owned(),
                Parameter::Whole(n) => n.to_string(),
                Parameter::Number(n) => n.to_string(),
                Parameter::Text(text) => text.clone(),
            };
            format!("{} {}", escape(name), escape(&value))
        });
        out += &parameters.collect::<Vec<_>>().join("; ");
        out += "</p>\n";
        let head = [
            "run",
            "seconds",
            "sent",
            "received",
            "lost",
            "twice",
            "what happened",
        ];
        let rows = each.runs.iter().enumerate().map(|(number, run)| {
            let messages = &run.messages;
            let mut notes = run.notes.clone();
            if let Some(sent) = run.zero_copy.filter(|z| z.sends > 0) {
                notes.push(format!(
                    "zero-copy sends {}, {} of them copied",
                    sent.sends, sent.copied
                ));
            }
            if messages.foreign > 0 {
                notes.push(format!("foreign frames {}", messages.foreign));
            }
            vec![
                (number + 1).to_string(),
                format!("{:.3}", run.wall_seconds),
                messages.sent.to_string(),
                messages.received.to_string(),
                messages.lost.to_string(),
                messages.twice.to_string(),
                notes.join("; "),
            ]
        });
        out += &table(&head.map(String::from), &rows.collect::<Vec<_>>());
    }
    out + "</details>\n"
}

/// Everything about the host, closed; what it does not have is left out and counted.
pub fn fingerprint(report: &Report) -> String {
    let mut out = String::from(
        "<section>\n<h2>Host</h2>\n<details><summary>Fingerprint: what moves figures</summary>\n",
    );
    for (name, section) in &report.fingerprint.sections {
        let rows: Vec<Vec<String>> = section
            .iter()
            .map(|(name, value)| vec![name.clone(), value.clone()])
            .collect();
        out += &format!("<h3>{}</h3>\n", escape(name));
        out += &match rows.is_empty() {
            true => "<p class=\"note\">none</p>\n".to_owned(),
            false => table(&["".to_owned(), "value".to_owned()], &rows),
        };
    }
    out + "</details>\n</section>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_wants_them() {
        assert_eq!(quoted("--pairs"), "--pairs");
        assert_eq!(quoted("weir --shards 2"), "'weir --shards 2'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
