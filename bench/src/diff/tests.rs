//! Whole comparisons of made-up reports.

use super::compare::{compare, Comparison, Rules, Status, Verdict};
use super::text;
use crate::report::sample::report;
use crate::report::{Cpu, Report};

/// The sample with `runs` runs of each series, CPU per message from `cpu`.
fn with_cpu(runs: usize, cpu: impl Fn(usize, usize) -> f64) -> Report {
    let mut report = report();
    for (number, series) in report.series.iter_mut().enumerate() {
        let template = series.runs[0].clone();
        series.runs = vec![template; runs];
        for (run, each) in series.runs.iter_mut().enumerate() {
            each.cpu = Some(Cpu::split(cpu(number, run), 0.5));
        }
    }
    report.conditions.load_average_before = Some(0.0);
    report
}

fn rules() -> Rules {
    Rules {
        alpha: 0.05,
        threshold: 0.05,
        metrics: Vec::new(),
        is_relative: false,
    }
}

fn verdicts(comparison: &Comparison) -> Vec<(&str, Verdict)> {
    let rows = comparison.rows.iter();
    rows.map(|row| (row.label.as_str(), row.verdict)).collect()
}

/// As the output has them.
fn missing(comparison: &Comparison) -> Vec<String> {
    let printed = text(comparison, &rules());
    let is_missing = |line: &&str| line.contains(": FAILED: ") || line.contains(": missing: ");
    printed
        .lines()
        .filter(is_missing)
        .map(String::from)
        .collect()
}

/// 200 and a little that differs from run to run.
fn jitter(run: usize) -> f64 {
    200.0 + (run * 7 % 11) as f64 / 10.0
}

#[test]
fn a_slower_system_is_a_regression_and_the_other_is_not() {
    let a = with_cpu(8, |_, run| jitter(run));
    let b = with_cpu(8, |series, run| {
        jitter(run + 3) * if series == 1 { 1.2 } else { 1.0 }
    });
    let comparison = compare(&a, &b, &rules()).expect("the same series");
    assert_eq!(
        verdicts(&comparison),
        [("relay", Verdict::Same), ("weir", Verdict::Regression)],
        "{}",
        text(&comparison, &rules())
    );
    let row = &comparison.rows[1];
    assert!((row.effect.ratio - 1.2).abs() < 0.01, "{row:?}");
    assert!(row.p_holm >= row.p && row.p < 0.001, "{row:?}");
    let printed = text(&comparison, &rules());
    for part in [
        "firehose, weir",
        "CPU per message",
        "REGRESSION",
        "1 regressions beyond 5.0 %",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn a_threshold_forgives_and_the_other_direction_is_better() {
    let a = with_cpu(8, |_, run| jitter(run));
    let b = with_cpu(8, |_, run| jitter(run) * 1.03);
    let forgiven = compare(&a, &b, &rules()).expect("the same series");
    assert!(forgiven
        .rows
        .iter()
        .all(|row| row.verdict == Verdict::SlightlyWorse));
    let strict = Rules {
        threshold: 0.0,
        ..rules()
    };
    let strict = compare(&a, &b, &strict).expect("the same series");
    assert!(strict
        .rows
        .iter()
        .all(|row| row.verdict == Verdict::Regression));
    let back = compare(&b, &a, &rules()).expect("the same series");
    assert!(back.rows.iter().all(|row| row.verdict == Verdict::Better));
}

#[test]
fn a_machine_that_drifts_is_taken_out() {
    let a = with_cpu(8, |_, run| jitter(run));
    // Everything costs 30 % more on that day.
    let b = with_cpu(8, |_, run| jitter(run) * 1.3);
    let absolute = compare(&a, &b, &rules()).expect("the same series");
    assert!(absolute
        .rows
        .iter()
        .all(|row| row.verdict == Verdict::Regression));
    let a = with_cpu(8, |series, run| {
        jitter(run) * (1.0 + 0.001 * (series * run) as f64)
    });
    let b = with_cpu(8, |series, run| {
        jitter(run) * 1.3 * (1.0 + 0.001 * (series * (7 - run)) as f64)
    });
    let relative = Rules {
        is_relative: true,
        ..rules()
    };
    let relative = compare(&a, &b, &relative).expect("the same series");
    assert_eq!(verdicts(&relative), [("weir", Verdict::Same)]);
}

#[test]
fn three_runs_cannot_show_anything_and_the_output_says_so() {
    let a = with_cpu(3, |_, run| jitter(run));
    let b = with_cpu(3, |_, run| jitter(run) * 2.0);
    let comparison = compare(&a, &b, &rules()).expect("the same series");
    assert!(comparison
        .rows
        .iter()
        .all(|row| row.verdict == Verdict::TooFewRuns));
    assert_eq!(comparison.status(), Status::TooFewRuns);
    assert_eq!(
        (comparison.status().code(), comparison.runs_needed),
        (3, Some(5))
    );
    let printed = text(&comparison, &rules());
    assert!(printed.contains("take 5 of each"), "{printed}");
    let warning = comparison
        .warnings
        .iter()
        .find(|w| w.contains("cannot show"));
    let warning = warning.expect("a warning");
    assert!(
        warning.contains("3 and 3 runs") && warning.contains("take 5 runs each"),
        "{warning}"
    );
}

#[test]
fn what_was_shown_stands_beside_what_could_not_be() {
    let runs = |report: &mut Report, runs: usize| report.series[0].runs.truncate(runs);
    let mut a = with_cpu(8, |_, run| jitter(run));
    let mut b = with_cpu(8, |_, run| jitter(run) * 2.0);
    runs(&mut a, 3);
    runs(&mut b, 3);
    let comparison = compare(&a, &b, &rules()).expect("the same series");
    assert_eq!(
        verdicts(&comparison),
        [
            ("relay", Verdict::TooFewRuns),
            ("weir", Verdict::Regression)
        ]
    );
    assert_eq!(comparison.status(), Status::Regression);
    // Enough runs and no difference: known to be none.
    let same = with_cpu(8, |_, run| jitter(run + 1));
    let comparison = compare(&with_cpu(8, |_, run| jitter(run)), &same, &rules());
    let comparison = comparison.expect("the same series");
    assert_eq!(comparison.status(), Status::NoRegression);
    assert_eq!(comparison.runs_needed, None);
}

#[test]
fn what_differs_besides_the_software_is_named() {
    let a = with_cpu(8, |_, run| jitter(run));
    let mut b = a.clone();
    let kernel = b.fingerprint.sections.get_mut("kernel").expect("there");
    kernel.insert("release".into(), "2.4.0".into());
    b.series[0].label = "nginx".into();
    b.series[1]
        .parameters
        .insert("connections".into(), crate::report::Parameter::Whole(65));
    b.conditions.load_average_before = Some(3.0);
    let comparison = compare(&a, &b, &rules()).expect("one series in both");
    assert_eq!(
        missing(&comparison),
        ["firehose, relay: missing: only in a"]
    );
    assert_eq!(comparison.status(), Status::Incomplete);
    for part in [
        "host, kernel, release: ",
        "only in b: firehose, nginx",
        "connections: 64 | 65",
        "b: the host was busy",
    ] {
        let found = comparison.warnings.iter().any(|w| w.contains(part));
        assert!(found, "{part}: {:?}", comparison.warnings);
    }
}

#[test]
fn nothing_to_compare_is_an_error_that_names_what_there_is() {
    let a = report();
    let mut b = report();
    b.series
        .iter_mut()
        .for_each(|s| s.scenario = "trickle".into());
    let error = compare(&a, &b, &rules()).expect_err("nothing in common");
    let error = error.to_string();
    assert!(
        error.contains("'firehose, relay'") && error.contains("'trickle, weir'"),
        "{error}"
    );
    let wanted = Rules {
        metrics: vec!["speed".into()],
        ..rules()
    };
    let error = compare(&a, &a, &wanted)
        .expect_err("no such metric")
        .to_string();
    assert!(
        error.contains("--metric speed") && error.contains("CPU per message"),
        "{error}"
    );
}

/// A pass for a build that does not start would be the worst answer of all.
#[test]
fn a_series_that_failed_is_no_pass() {
    let good = with_cpu(8, |_, run| jitter(run));
    let broken = |runs: usize| {
        let mut report = good.clone();
        report.series[1].runs.truncate(runs);
        report.series[1].failed = Some("weir: cannot start".into());
        report
    };
    for (a, b, status, told) in [
        (
            &good,
            &broken(0),
            Status::Failed,
            "FAILED: failed in b after 0 runs: weir: cannot start",
        ),
        (
            &good,
            &broken(7),
            Status::Failed,
            "FAILED: failed in b after 7 runs: weir: cannot start",
        ),
        (
            &broken(0),
            &good,
            Status::Incomplete,
            "missing: failed in a after 0 runs: weir: cannot start",
        ),
        (
            &broken(0),
            &broken(0),
            Status::Incomplete,
            "missing: failed in both: weir: cannot start | weir: cannot start",
        ),
    ] {
        let comparison = compare(a, b, &rules()).expect("series in both");
        assert_eq!(missing(&comparison), [format!("firehose, weir: {told}")]);
        assert_eq!(comparison.status(), status);
    }
    // One metric of a series that failed is asked for, and is in a.
    let one = Rules {
        metrics: vec!["CPU per message".into()],
        ..rules()
    };
    let comparison = compare(&good, &broken(0), &one).expect("in a");
    assert_eq!(
        (comparison.status(), comparison.status().code()),
        (Status::Failed, 1)
    );
    // What failed and a does not know is told, and no regression.
    let mut other = broken(0);
    other.series[1].label = "nginx".into();
    other.series.push(good.series[1].clone());
    let comparison = compare(&good, &other, &rules()).expect("series in both");
    let told = "firehose, nginx: missing: failed in b, and is not in a: weir: cannot start";
    assert_eq!(missing(&comparison), [told]);
    assert_eq!(comparison.status().code(), 3);
}

#[test]
fn a_metric_that_is_gone_is_no_pass() {
    let good = with_cpu(8, |_, run| jitter(run));
    let mut b = good.clone();
    b.series[1].runs.iter_mut().for_each(|run| run.cpu = None);
    let comparison = compare(&good, &b, &rules()).expect("series in both");
    let told = "firehose, weir, CPU per message: missing: in 8 runs of a, in none of b";
    assert_eq!(missing(&comparison), [told]);
    assert_eq!(
        (comparison.status(), comparison.status().code()),
        (Status::Incomplete, 3)
    );
    // New ones have nothing to be compared with, and are no loss.
    let back = compare(&b, &good, &rules()).expect("series in both");
    assert_eq!(
        (missing(&back).len(), back.status()),
        (0, Status::NoRegression)
    );
    // Without runs there is nothing at all, with or without a reason.
    b.series[1].runs.clear();
    let comparison = compare(&good, &b, &rules()).expect("series in both");
    assert!(missing(&comparison).len() > 3, "{:?}", missing(&comparison));
    assert_eq!(comparison.status(), Status::Incomplete);
}

#[test]
fn a_regression_stands_beside_what_is_missing() {
    let a = with_cpu(8, |_, run| jitter(run));
    let mut b = with_cpu(8, |_, run| jitter(run) * 2.0);
    b.series[0].label = "other".into();
    let comparison = compare(&a, &b, &rules()).expect("one series in both");
    assert_eq!(comparison.status(), Status::Regression);
    assert_eq!(comparison.count(Verdict::Missing), 1);
}

#[test]
fn a_report_that_did_not_pass_is_no_pass() {
    let mut a = with_cpu(8, |_, run| jitter(run));
    a.passed = true;
    let mut b = a.clone();
    b.passed = false;
    let comparison = compare(&a, &b, &rules()).expect("series in both");
    assert!(missing(&comparison)[0].starts_with("all series: FAILED: a passed and b did not"));
    assert_eq!(comparison.status().code(), 1);
    for (a, b) in [(&b, &a), (&b, &b), (&a, &a)] {
        let comparison = compare(a, b, &rules()).expect("series in both");
        assert_eq!(comparison.status(), Status::NoRegression);
    }
}

#[test]
fn multiples_of_different_bases_are_no_pass() {
    let a = with_cpu(8, |_, run| jitter(run));
    let relative = Rules {
        is_relative: true,
        ..rules()
    };
    let mut b = a.clone();
    b.series.reverse();
    let comparison = compare(&a, &b, &relative).expect("series in both");
    let told = [
        "firehose, relay: missing: a multiple of nothing in a and of weir in b",
        "firehose, weir: missing: a multiple of relay in a and of nothing in b",
    ];
    assert_eq!(missing(&comparison), told);
    assert_eq!(comparison.status(), Status::Incomplete);
    let mut alone = a.clone();
    alone.series.truncate(1);
    let error = compare(&alone, &alone, &relative).expect_err("only the base");
    assert!(
        error.to_string().starts_with("nothing to compare"),
        "{error}"
    );
}
