//! What is in one report and cannot be compared: it is no regression that was shown, and no proof of none.
//!
//! ```text
//! a                    b
//! weir: 6 runs         weir: failed           FAILED     it ran before: status 1
//! weir: failed         weir: 6 runs           missing    nothing to compare it with: status 3
//! weir: 6 runs         -                      missing
//! weir: latency p99    weir: no latency       missing
//! ```

use super::compare::{name, same_series, Column, Verdict};
use crate::report::{Report, Series};

/// A series, a metric of it, or a whole report that could not be compared.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Scenario, place on a curve and label; "all series" of a report that did not pass.
    pub series: String,
    /// None: all of it.
    pub metric: Option<String>,
    /// [`Verdict::Failed`] or [`Verdict::Missing`].
    pub verdict: Verdict,
    /// In words, with what the failed system said.
    pub why: String,
}

impl Missing {
    /// All of a series, or of what is left of it.
    pub fn whole(series: &Series, why: &str) -> Self {
        Self {
            series: name(series),
            metric: None,
            verdict: Verdict::Missing,
            why: why.into(),
        }
    }

    /// One metric that `a` has in so many runs.
    pub fn metric(series: &Series, (metric, values): &Column) -> Self {
        Self {
            metric: Some(metric.metric.clone()),
            ..Self::whole(
                series,
                &format!("in {} runs of a, in none of b", values.len()),
            )
        }
    }
}

/// What failed: series by series, and the reports as a whole.
pub fn failures(a: &Report, b: &Report) -> Vec<Missing> {
    let mut all = Vec::new();
    for of_a in &a.series {
        let of_b = same_series(b, of_a);
        let runs = |series: &Series| series.runs.len();
        match (&of_a.failed, of_b.and_then(|s| s.failed.as_ref())) {
            (None, None) => {}
            (None, Some(why)) => all.push(Missing {
                verdict: Verdict::Failed,
                ..Missing::whole(
                    of_a,
                    &format!("failed in b after {} runs: {why}", of_b.map_or(0, runs)),
                )
            }),
            (Some(why), None) => {
                let why = format!("failed in a after {} runs: {why}", runs(of_a));
                all.push(Missing::whole(of_a, &why));
            }
            (Some(first), Some(then)) => {
                let why = format!("failed in both: {first} | {then}");
                all.push(Missing::whole(of_a, &why));
            }
        }
    }
    for of_b in b.series.iter().filter(|s| same_series(a, s).is_none()) {
        if let Some(why) = &of_b.failed {
            let why = format!("failed in b, and is not in a: {why}");
            all.push(Missing::whole(of_b, &why));
        }
    }
    if a.passed && !b.passed {
        all.push(Missing {
            series: "all series".into(),
            metric: None,
            verdict: Verdict::Failed,
            why:
                "a passed and b did not: a message was lost, a bound was missed, or a system failed"
                    .into(),
        });
    }
    all
}
