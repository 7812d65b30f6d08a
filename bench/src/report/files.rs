//! `.hgrm` files, one for each series and distribution, and the V2 interval log.

use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::Histogram;

use super::histogram::decode;
use super::model::{Report, Series};
use super::{hgrm, unix_seconds, write};

const NS_A_MS: f64 = 1e6;
/// What the Java library writes first, and its reader and others look for.
const FORMAT_VERSION: &str = "[Histogram log format version 1.3]";
/// Names of the columns, above the first interval.
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

/// Distributions of a series over all its runs, by what they time.
///
/// # Errors
/// A histogram that cannot be read.
pub fn merged(series: &Series) -> io::Result<Vec<(String, Histogram<u64>)>> {
    let mut all: Vec<(String, Histogram<u64>)> = Vec::new();
    for latency in series.runs.iter().flat_map(|run| &run.latencies) {
        let histogram = latency.decode()?;
        match all.iter_mut().find(|(what, _)| *what == latency.what) {
            Some((_, sum)) => sum.add(histogram).map_err(io::Error::other)?,
            None => all.push((latency.what.clone(), histogram)),
        }
    }
    Ok(all)
}

/// `01-trickle-b-weir-latency.hgrm` and so on, in a directory that is made if need be.
///
/// # Errors
/// The directory or a file cannot be written.
pub fn write_hgrm(directory: &Path, report: &Report) -> io::Result<()> {
    let shown = directory.display();
    std::fs::create_dir_all(directory)
        .map_err(|e| io::Error::new(e.kind(), format!("--hgrm {shown}: {e}")))?;
    for (number, series) in report.series.iter().enumerate() {
        for (what, histogram) in merged(series)? {
            let name = format!("{:02}-{}-{}.hgrm", number + 1, name(series), slug(&what));
            write("--hgrm", &directory.join(name), &hgrm::text(&histogram))?;
        }
    }
    Ok(())
}

/// All intervals of all runs in order of time; the tag is the series and the run.
///
/// # Errors
/// A histogram cannot be read or written, or the file cannot be written.
pub fn write_hlog(path: &Path, report: &Report) -> io::Result<()> {
    let mut intervals = Vec::new();
    // A run that does not say when it was follows the one before it; the first of them began when the
    // report did, as far as that can still be told.
    let mut end = unix_seconds() - report.wall_seconds;
    for series in &report.series {
        for (number, run) in series.runs.iter().enumerate() {
            let start = run.started_unix_seconds.unwrap_or(end);
            end = start;
            for sample in &run.samples {
                let at = start + sample.start_seconds;
                end = at + sample.seconds;
                if let Some(text) = &sample.histogram {
                    let tag = format!("{}-{}", name(series), number + 1);
                    intervals.push((at, sample.seconds, tag, decode(text)?));
                }
            }
        }
    }
    intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let base = intervals.first().map_or(0.0, |(at, ..)| *at);
    let base_time = UNIX_EPOCH + Duration::from_secs_f64(base.max(0.0));

    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(FORMAT_VERSION)
        .add_comment(&format!("weir-bench {}: {}", report.kind, report.title))
        .with_base_time(base_time)
        .with_start_time(base_time)
        .with_max_value_divisor(NS_A_MS);
    let mut log = builder.begin_log_with(&mut bytes, &mut serializer)?;
    for (at, seconds, tag, histogram) in &intervals {
        let start = Duration::from_secs_f64((at - base).max(0.0));
        let length = Duration::from_secs_f64(seconds.max(0.0));
        log.write_histogram(histogram, start, length, Tag::new(tag))
            .map_err(|e| io::Error::other(format!("--hlog {}: {e:?}", path.display())))?;
    }
    let head: usize = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take_while(|line| line[0] == b'#')
        .map(<[u8]>::len)
        .sum();
    bytes.splice(head..head, LEGEND.iter().copied());
    std::fs::write(path, bytes)
        .map_err(|e| io::Error::new(e.kind(), format!("--hlog {}: {e}", path.display())))
}

/// Scenario, label and place on a curve, for the name of a file.
fn name(series: &Series) -> String {
    let x = series.x.as_ref();
    let x = x.map(|x| format!(" {} {}", x.value, x.name));
    let x = x.unwrap_or_default();
    slug(&format!("{} {}{x}", series.scenario, series.label))
}

/// Small letters, digits and single hyphens; bounded, as names of files are.
fn slug(text: &str) -> String {
    const LENGTH_MAX: usize = 80;
    let mut out = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            _ if out.len() >= LENGTH_MAX => break,
            'a'..='z' | '0'..='9' | '.' => out.push(c),
            _ if !out.is_empty() && !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    out.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_file_for_each_series_has_all_its_runs() {
        let directory = scratch("hgrm");
        let report = report();
        write_hgrm(&directory, &report).expect("writes");
        let path = directory.join("02-firehose-weir-send-to-receipt.hgrm");
        let text = std::fs::read_to_string(path).expect("named so");
        std::fs::remove_dir_all(&directory).expect("own files");
        let back = hgrm::tests::read(&text);
        let runs = &report.series[1].runs;
        assert_eq!(back.len(), 3 * runs[0].latencies[0].count);
        let highest = runs.iter().map(|run| run.latencies[0].max_ns).max();
        assert_eq!(Some(back.max()), highest);
    }

    #[test]
    fn the_interval_log_is_read_by_the_librarys_iterator() {
        let path = scratch("hlog");
        let report = report();
        write_hlog(&path, &report).expect("writes");
        let bytes = std::fs::read(&path).expect("written");
        std::fs::remove_file(&path).expect("own file");
        let text = std::str::from_utf8(&bytes).expect("text");
        assert!(
            text.starts_with("#[Histogram log format version 1.3]\n"),
            "{text}"
        );
        let first = text.lines().find(|line| !line.starts_with('#'));
        assert!(
            first.is_some_and(|line| line.starts_with("\"StartTimestamp\",\"")),
            "{first:?}"
        );
        let (mut tags, mut last) = (Vec::new(), Duration::ZERO);
        let (mut bases, mut values) = (0, 0);
        for entry in IntervalLogIterator::new(&bytes) {
            match entry.expect("well formed") {
                LogEntry::BaseTime(_) => bases += 1,
                LogEntry::StartTime(_) => {}
                LogEntry::Interval(interval) => {
                    assert!(interval.start_timestamp() >= last, "in order of time");
                    last = interval.start_timestamp();
                    assert_eq!(interval.duration(), Duration::from_secs(1));
                    let histogram = decode(interval.encoded_histogram()).expect("a histogram");
                    assert!((interval.max() - histogram.max() as f64 / 1e6).abs() < 0.01);
                    values += histogram.len();
                    let tag = interval.tag().expect("tagged");
                    tags.push(tag.as_str().to_owned());
                }
            }
        }
        assert_eq!(bases, 1);
        // Two series of three runs of two intervals of 1,000.
        assert_eq!((tags.len(), values), (12, 12_000));
        assert_eq!(tags[0], "firehose-weir-2", "the earliest run");
        // Started at +90 s and +300 s.
        assert_eq!(last, Duration::from_secs(211));
    }

    #[test]
    fn runs_that_do_not_say_when_they_were_are_not_of_1970() {
        let path = scratch("hlog-undated");
        let mut report = report();
        for run in report.series.iter_mut().flat_map(|series| &mut series.runs) {
            run.started_unix_seconds = None;
        }
        write_hlog(&path, &report).expect("writes");
        let bytes = std::fs::read(&path).expect("written");
        std::fs::remove_file(&path).expect("own file");
        let start = IntervalLogIterator::new(&bytes).find_map(|entry| match entry {
            Ok(LogEntry::StartTime(start)) => Some(start),
            _ => None,
        });
        let ago = unix_seconds() - start.expect("a start").as_secs_f64();
        assert!(
            (report.wall_seconds - 1.0..report.wall_seconds + 60.0).contains(&ago),
            "{ago} s ago"
        );
    }

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(slug("A: weir --shards 2"), "a-weir-shards-2");
        assert_eq!(slug("../../etc/passwd"), "..-..-etc-passwd");
        assert_eq!(slug(&"x/".repeat(200)).len(), 79);
    }
}
