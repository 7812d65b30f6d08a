//! A report for tests: two systems, three pairs, every kind of field in use.

use super::*;
use crate::check::nanosecond_histogram;

/// The relay as base and Weir beside it.
pub fn report() -> Report {
    let mut report = OutputArgs::default()
        .begin("pair", "A test", Cores::default())
        .expect("nothing to write")
        .report;
    report.series = vec![
        series("relay", &[200.0, 100.0, 300.0]),
        series("weir", &[220.0, 90.0, 300.0]),
    ];
    report.series[1].notes = vec!["a note with <angles> & \"quotes\"".into()];
    report.summaries = summarize(&report);
    report
}

fn series(label: &str, cpu_ns: &[f64]) -> Series {
    Series {
        scenario: "firehose".into(),
        label: label.into(),
        parameters: [
            ("connections".to_owned(), Parameter::Whole(64)),
            ("rate".to_owned(), Parameter::Text("unpaced".into())),
            ("weights".to_owned(), Parameter::Number(0.5)),
            ("http".to_owned(), Parameter::Flag(false)),
        ]
        .into(),
        x: None,
        target_shares: vec![0.75, 0.25],
        runs: cpu_ns.iter().map(|ns| run(*ns)).collect(),
        failed: None,
        notes: Vec::new(),
    }
}

fn run(cpu_ns: f64) -> Run {
    let mut histogram = nanosecond_histogram();
    (1..=1000).for_each(|n| histogram.saturating_record(n * cpu_ns as u64 * 100));
    let encoded = encode(&histogram).expect("writes");
    let sample = |second: u32| Sample {
        start_seconds: f64::from(second),
        seconds: 1.0,
        received: 1000,
        histogram: Some(encoded.clone()),
    };
    Run {
        started_unix_seconds: Some(1_700_000_000.5 + cpu_ns),
        wall_seconds: 2.0,
        messages: Messages {
            sent: 2000,
            received: 2000,
            ..Messages::default()
        },
        messages_per_second: Some(1000.0),
        shares: vec![0.7501, 0.2499],
        cpu: Some(Cpu::split(cpu_ns, 0.25).with_ksoftirqd(Some(2.0))),
        messages_per_receive: Some(64.0),
        bytes_per_send: Some(65536.0),
        system_calls_per_message: Some(0.03),
        zero_copy: Some(ZeroCopy {
            sends: 10,
            copied: 10,
        }),
        latencies: Latency::of("send to receipt", &histogram)
            .expect("writes")
            .into_iter()
            .collect(),
        samples: vec![sample(0), sample(1)],
        values: [(
            "resident memory".to_owned(),
            Value {
                value: 1e6,
                unit: "bytes".into(),
                better: Better::Lower,
            },
        )]
        .into(),
        notes: vec!["balanced".into()],
    }
}
