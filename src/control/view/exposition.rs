//! Writes metrics in the Prometheus text format 0.0.4 and in OpenMetrics 1.0.
//!
//! ```text
//! family   # HELP weir_shard_turns_total ...      the same name in the one format, in the
//!          # TYPE weir_shard_turns_total counter  other without the suffix of its samples
//! sample   weir_shard_turns_total{shard="0"} 17
//! ```

use std::fmt::Write;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that the Accept header prefers; the old one when it says nothing of either.
    pub fn accepted(header: Option<&str>) -> Format {
        let quality = |kind: &str| {
            let parts = header.unwrap_or_default().split(',');
            let part = parts.map(str::trim).find(|part| part.starts_with(kind))?;
            let mut parameters = part.split(';').map(str::trim);
            let q = parameters.find_map(|p| p.strip_prefix("q="));
            q.map_or(Some(1.0), |q| q.parse::<f64>().ok())
        };
        let open = quality("application/openmetrics-text").unwrap_or(0.0);
        if open > 0.0 && open >= quality("text/plain").unwrap_or(0.0) {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }

    /// Media type of what is written.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Kinds of families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Always 1; what it says is in its labels, its name ends in `_info`.
    Info,
    /// Counts by upper limit.
    Histogram,
}

/// Labels of a sample, in order.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text, while it is being written.
pub struct Exposition {
    out: String,
    format: Format,
    name: &'static str,
}

impl Exposition {
    /// Empty.
    pub fn new(format: Format) -> Exposition {
        Exposition {
            out: String::with_capacity(64 * 1024),
            format,
            name: "",
        }
    }

    /// Begins a family: once for each name, all its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let open = self.format == Format::OpenMetrics;
        let (suffix, word) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Info if open => ("_info", "info"),
            Kind::Info => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
        };
        let family = match open {
            true => name.strip_suffix(suffix).unwrap_or(name),
            false => name,
        };
        // Writing to a string cannot fail.
        let _ = write!(self.out, "# HELP {family} {help}\n# TYPE {family} {word}\n");
        if open {
            for unit in ["seconds", "bytes"] {
                let before = family.strip_suffix(unit);
                if before.is_some_and(|before| before.ends_with('_')) {
                    let _ = writeln!(self.out, "# UNIT {family} {unit}");
                }
            }
        }
        self.name = name;
    }

    /// A sample of the family that was begun last, a whole number.
    pub fn count(&mut self, labels: Labels, value: u64) {
        self.series("", labels);
        let _ = writeln!(self.out, " {value}");
    }

    /// As [`Exposition::count`], any number. What is none (NaN, infinite) has no sample: sums and alerts over
    /// all series would be none as well.
    pub fn number(&mut self, labels: Labels, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.series("", labels);
        self.value(value);
    }

    /// A histogram: counts by upper limit in seconds, not cumulative, the last one without limit.
    pub fn histogram(&mut self, labels: Labels, limits: &[f64], counts: &[u64], sum: f64) {
        let mut count = 0;
        for (index, more) in counts.iter().enumerate() {
            count += more;
            // "1.0", not "1": canonical in OpenMetrics.
            let limit = limits
                .get(index)
                .map_or("+Inf".to_owned(), |limit| format!("{limit:?}"));
            let all = [labels, &[("le", limit.as_str())]].concat();
            self.series("_bucket", &all);
            let _ = writeln!(self.out, " {count}");
        }
        self.series("_sum", labels);
        self.value(sum);
        self.series("_count", labels);
        let _ = writeln!(self.out, " {count}");
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn series(&mut self, suffix: &str, labels: Labels) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.out.push(if index == 0 { '{' } else { ',' });
            self.out.push_str(name);
            self.out.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
    }

    fn value(&mut self, value: f64) {
        let _ = match value == 0.0 || (1e-5..1e15).contains(&value.abs()) {
            true => writeln!(self.out, " {value}"),
            false => writeln!(self.out, " {value:e}"),
        };
    }
}
