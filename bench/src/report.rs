//! Conditions, small statistics and the JSON file: what every report has in common.

use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{json, Value};

/// The sentence that every number needs beside it.
const LOOPBACK: &str = "loopback: no NIC, no interrupts, never true zero-copy (the kernel copies \
                        anyway), and the receiver's softirq work is charged to the sender's core";

/// Kernel, CPU, load of the machine, and what loopback means.
pub fn conditions() -> Value {
    let kernel = read_trimmed("/proc/sys/kernel/osrelease");
    let cpu_info = read_trimmed("/proc/cpuinfo");
    let model = cpu_info.lines().find(|l| l.starts_with("model name"));
    let model = model
        .and_then(|l| l.split(": ").nth(1))
        .unwrap_or("unknown")
        .to_owned();
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let load_average = read_trimmed("/proc/loadavg");
    let load_average = load_average
        .split(' ')
        .next()
        .unwrap_or("unknown")
        .to_owned();
    json!({
        "kernel": kernel, "cpu": model, "cores": cores,
        "load_average_1m_before": load_average, "network": LOOPBACK,
    })
}

/// One line of conditions for a terminal.
pub fn conditions_line(conditions: &Value) -> String {
    let text = |key: &str| conditions[key].as_str().unwrap_or("?").to_owned();
    format!(
        "conditions: Linux {}, {} x {}, load average before {}\n            {}",
        text("kernel"),
        conditions["cores"],
        text("cpu"),
        text("load_average_1m_before"),
        text("network"),
    )
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_else(|_| "unknown".into())
        .trim()
        .to_owned()
}

/// Writes the report where `--json` asked for it.
pub fn write_json(path: Option<&Path>, report: &Value) -> io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n")
        .map_err(|e| io::Error::new(e.kind(), format!("--json {}: {e}", path.display())))
}

/// Percentiles of a histogram of nanoseconds.
pub fn percentiles(histogram_ns: &Histogram<u64>) -> Value {
    if histogram_ns.is_empty() {
        return Value::Null;
    }
    json!({
        "count": histogram_ns.len(),
        "p50_ns": histogram_ns.value_at_quantile(0.50),
        "p90_ns": histogram_ns.value_at_quantile(0.90),
        "p99_ns": histogram_ns.value_at_quantile(0.99),
        "p999_ns": histogram_ns.value_at_quantile(0.999),
        "max_ns": histogram_ns.max(),
    })
}

/// `p50 0.31  p99 2.40  max 5.12 ms`, or a dash without values.
pub fn percentiles_line(histogram_ns: &Histogram<u64>) -> String {
    if histogram_ns.is_empty() {
        return "-".into();
    }
    let ms = |ns: u64| ns as f64 / 1e6;
    format!(
        "p50 {:.3}  p99 {:.3}  max {:.3} ms ({} values)",
        ms(histogram_ns.value_at_quantile(0.5)),
        ms(histogram_ns.value_at_quantile(0.99)),
        ms(histogram_ns.max()),
        histogram_ns.len()
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_lists() {
        assert_eq!(median_min_max(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(median_min_max(&[4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
    }

    #[test]
    fn conditions_name_kernel_and_loopback() {
        let line = conditions_line(&conditions());
        assert!(
            line.contains("Linux") && line.contains("never true zero-copy"),
            "{line}"
        );
    }
}
