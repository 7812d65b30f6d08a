//! `.hgrm`: HdrHistogram's own percentile text, which its plotter
//! (<https://hdrhistogram.github.io/HdrHistogram/plotFiles.html>) reads.
//!
//! ```text
//!        Value     Percentile TotalCount 1/(1-Percentile)
//!
//!     0.127231 0.000000000000         12           1.00
//!     ...
//! #[Mean    =     0.201234, StdDeviation   =     0.012345]
//! ```
//!
//! Form: `AbstractHistogram.outputPercentileDistribution` of the Java library with 5 ticks for each
//! halving. Values are milliseconds with six decimals, so that no nanosecond is lost.

use hdrhistogram::Histogram;

/// Rows for each halving of the distance to 100 %, as the Java library has it.
const TICKS_A_HALVING: u32 = 5;
const NS_A_MS: f64 = 1e6;

/// The text of one distribution.
pub fn text(histogram_ns: &Histogram<u64>) -> String {
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in histogram_ns.iter_quantiles(TICKS_A_HALVING) {
        total += step.count_since_last_iteration();
        let value_ms = step.value_iterated_to() as f64 / NS_A_MS;
        let quantile = step.quantile_iterated_to();
        out += &format!("{value_ms:12.6} {quantile:14.12} {total:10}");
        // The last row has no fourth column: it would be infinite.
        if quantile < 1.0 {
            out += &format!(" {:14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let ms = |ns: f64| ns / NS_A_MS;
    out += &format!(
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n",
        ms(histogram_ns.mean()),
        ms(histogram_ns.stdev())
    );
    out += &format!(
        "#[Max     = {:12.6}, Total count    = {:12}]\n",
        ms(histogram_ns.max() as f64),
        histogram_ns.len()
    );
    out += &format!(
        "#[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram_ns.buckets(),
        sub_buckets(histogram_ns)
    );
    out
}

/// Linear buckets in each power of two: the power of two that holds two values for each step of the
/// precision (3 digits: 2048), as the constructor of the Java library chooses it.
fn sub_buckets(histogram: &Histogram<u64>) -> u64 {
    (2 * 10u64.pow(histogram.sigfig().into())).next_power_of_two()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::check::nanosecond_histogram;

    /// Rows of a file: value, quantile, count up to there.
    pub fn rows(text: &str) -> Vec<(u64, f64, u64)> {
        let is_row = |line: &&str| {
            let first = line.trim_start().chars().next();
            first.is_some_and(|c| c.is_ascii_digit())
        };
        let row = |line: &str| {
            let columns: Vec<f64> = line
                .split_whitespace()
                .map(|column| column.parse().expect("a number"))
                .collect();
            assert_eq!(
                columns.len(),
                if columns[1] < 1.0 { 4 } else { 3 },
                "{line}"
            );
            let value_ns = (columns[0] * NS_A_MS).round() as u64;
            (value_ns, columns[1], columns[2] as u64)
        };
        text.lines().filter(is_row).map(row).collect()
    }

    /// What the file says, as a histogram of the library.
    pub fn read(text: &str) -> Histogram<u64> {
        let mut histogram = nanosecond_histogram();
        let mut before = 0;
        for (value_ns, _, total) in rows(text) {
            let count = total - before;
            histogram.record_n(value_ns, count).expect("in bounds");
            before = total;
        }
        histogram
    }

    #[test]
    fn the_library_finds_the_same_percentiles_in_what_was_written() {
        let mut histogram = nanosecond_histogram();
        // A body around 200 us and a tail to 2 s.
        for n in 1..=100_000u64 {
            histogram.saturating_record(150_000 + n);
        }
        for n in 1..=200u64 {
            histogram.saturating_record(n * 10_000_000);
        }
        let text = text(&histogram);
        let back = read(&text);
        assert_eq!(back.len(), histogram.len());
        let rows = rows(&text);
        assert!(rows.len() > 50, "{text}");
        for (value_ns, quantile, _) in rows {
            // At 0 the library answers with the lower end of the bucket, in files is the upper.
            let at = |of: &Histogram<u64>| of.highest_equivalent(of.value_at_quantile(quantile));
            assert_eq!(value_ns, at(&histogram), "at {quantile}");
            assert_eq!(at(&back), at(&histogram), "at {quantile}");
        }
        assert_eq!(back.max(), histogram.max());
    }

    #[test]
    fn the_form_is_the_java_librarys() {
        let mut histogram = nanosecond_histogram();
        [1_000_000, 1_000_000, 2_000_000, 4_000_000]
            .into_iter()
            .for_each(|ns| histogram.saturating_record(ns));
        let text = text(&histogram);
        let mut lines = text.lines();
        let heading = "       Value     Percentile TotalCount 1/(1-Percentile)";
        assert_eq!(lines.next(), Some(heading));
        assert_eq!(lines.next(), Some(""));
        let first = lines.next().expect("a row");
        assert_eq!(
            first,
            "    1.000447 0.000000000000          2           1.00"
        );
        assert!(
            text.contains("    4.001791 1.000000000000          4\n"),
            "{text}"
        );
        assert!(text.contains("#[Mean    =     2.0"), "{text}");
        assert!(text.contains("Total count    =            4]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }
}
