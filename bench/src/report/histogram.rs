//! A distribution of times with the figures that people ask for and the whole histogram behind them.

use std::io;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A distribution of times in nanoseconds. The figures follow from `histogram`; they are there for
/// readers without an HdrHistogram library.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// From what to what.
    pub what: String,
    /// Values.
    pub count: u64,
    /// The least.
    pub min_ns: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Median.
    pub p50_ns: u64,
    /// 90 of 100 are no larger.
    pub p90_ns: u64,
    /// 99 of 100 are no larger.
    pub p99_ns: u64,
    /// 999 of 1,000 are no larger.
    pub p999_ns: u64,
    /// 9,999 of 10,000 are no larger.
    pub p9999_ns: u64,
    /// The greatest.
    pub max_ns: u64,
    /// HdrHistogram V2, compressed, base64.
    pub histogram: String,
}

impl Latency {
    /// `None` when the histogram is empty: nothing was timed.
    ///
    /// # Errors
    /// The library cannot write the histogram; with bounded values that does not happen.
    pub fn of(what: &str, histogram_ns: &Histogram<u64>) -> io::Result<Option<Self>> {
        if histogram_ns.is_empty() {
            return Ok(None);
        }
        let at = |quantile| histogram_ns.value_at_quantile(quantile);
        Ok(Some(Self {
            what: what.into(),
            count: histogram_ns.len(),
            min_ns: histogram_ns.min(),
            mean_ns: histogram_ns.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: histogram_ns.max(),
            histogram: encode(histogram_ns)?,
        }))
    }

    /// The whole distribution.
    ///
    /// # Errors
    /// The text is no base64 or no histogram: a damaged report.
    pub fn decode(&self) -> io::Result<Histogram<u64>> {
        decode(&self.histogram)
    }
}

/// HdrHistogram V2, compressed, base64.
///
/// # Errors
/// As for [`Latency::of`].
pub fn encode(histogram: &Histogram<u64>) -> io::Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|e| io::Error::other(format!("histogram: {e}")))?;
    Ok(STANDARD.encode(bytes))
}

/// The reverse of [`encode`].
///
/// # Errors
/// The text is no base64 or no histogram.
pub fn decode(text: &str) -> io::Result<Histogram<u64>> {
    let damaged = |e: &dyn std::fmt::Display| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no HdrHistogram V2 in base64: {e}"),
        )
    };
    let bytes = STANDARD.decode(text).map_err(|e| damaged(&e))?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|e| damaged(&e))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::nanosecond_histogram;

    #[test]
    fn a_histogram_comes_back_whole() {
        let mut histogram = nanosecond_histogram();
        (1..=10_000u64).for_each(|n| histogram.saturating_record(n * 997));
        let latency = Latency::of("a to b", &histogram).expect("writes");
        let latency = latency.expect("not empty");
        assert_eq!(latency.decode().expect("reads"), histogram);
        assert_eq!(latency.count, 10_000);
        assert_eq!(latency.p99_ns, histogram.value_at_quantile(0.99));
    }

    #[test]
    fn nothing_timed_is_nothing() {
        let latency = Latency::of("a to b", &nanosecond_histogram()).expect("writes");
        assert_eq!(latency, None);
    }

    #[test]
    fn damage_is_an_error() {
        for text in ["?", "", "AAAA", "HISTFAAA"] {
            let error = decode(text).expect_err(text);
            assert!(error.to_string().contains("HdrHistogram V2"), "{error}");
        }
    }
}
