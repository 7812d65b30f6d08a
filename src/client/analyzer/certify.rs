//! The analyzer's run report: its counts, and its journals with their digests.

use super::{Options, Report};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use weir_ledger::journal::{is_journal, Reader, Union};
use weir_ledger::run_report::{
    self, Analyzer, Heading, JournalFile, Journaled, Kind, Received, Run, Stamp,
};

/// Refuses paths that cannot be written, before anything is received.
pub(super) fn check_paths(options: &Options) -> io::Result<Stamp> {
    if let Some(path) = &options.report {
        run_report::check_writable("--report", path)?;
    }
    if let Some(dir) = options.journal_dir() {
        let flag = if options.journal.is_some() {
            "--journal"
        } else {
            "--report"
        };
        // The links open their files when they start; the directory must be there and writable.
        fs::create_dir_all(&dir).map_err(|error| {
            let text = format!("{flag} {}: cannot be made: {error}", dir.display());
            io::Error::new(error.kind(), text)
        })?;
        run_report::check_writable(flag, &dir.join("probe"))?;
    }
    Ok(Stamp::now())
}

/// Writes the run report, if one is wanted.
pub(super) fn write(options: &Options, report: &Report, started: Stamp) -> io::Result<()> {
    let (Some(path), Some(dir)) = (&options.report, options.journal_dir()) else {
        return Ok(());
    };
    let union = Union::new(open_journals(&dir, &options.id)?);
    let summary = union.summary()?;
    let base = absolute(path.parent().unwrap_or(Path::new("")))?;
    let journals = union.readers().iter().map(|reader| describe(reader, &base));
    let counts = &report.counts;
    let analyzer = Analyzer {
        heading: Heading::new(Kind::Analyzer),
        run: Run::until_now(started),
        id: options.id.clone(),
        dialect: if options.http {
            "http"
        } else {
            options.dialect.as_str()
        }
        .to_owned(),
        weight: report.weight,
        received: Received {
            messages: counts.messages,
            bytes: counts.bytes,
            redelivered: counts.redelivered,
            unnumbered: counts.unnumbered,
            order_violations: counts.order_violations,
            reconnects: report.reconnects,
        },
        journaled: Journaled {
            messages: summary.messages,
            twice: summary.twice,
            unrecognised: summary.unrecognised,
            flagged: summary.flagged,
            unnumbered: summary.unnumbered,
            streams: summary.streams,
        },
        journals: journals.collect::<io::Result<_>>()?,
    };
    run_report::write(path, &analyzer)
}

/// The journals of this id, whatever their dialect.
fn open_journals(dir: &Path, id: &str) -> io::Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_candidate = path.extension().is_some_and(|ending| ending == "journal");
        if is_candidate && path.is_file() && is_journal(&path)? {
            let reader = Reader::open(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("journal {}: {error}", path.display()))
            })?;
            if reader.head.id == id {
                readers.push(reader);
            }
        }
    }
    readers.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(readers)
}

fn describe(reader: &Reader, base: &Path) -> io::Result<JournalFile> {
    let path = absolute(&reader.path)?;
    let file = path.strip_prefix(base).unwrap_or(&path);
    Ok(JournalFile {
        file: file.to_string_lossy().into_owned(),
        uuid: reader.head.uuid_hex(),
        generation: reader.head.generation,
        bytes: reader.bytes,
        sha256: run_report::sha256_hex(&mut reader.contents()?)?,
    })
}

fn absolute(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return std::env::current_dir();
    }
    std::path::absolute(path)
}
