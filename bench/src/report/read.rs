//! Reading a report back: errors name the file and the field.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::model::{Report, SCHEMA_VERSION};

/// A report is some hundred kilobytes; more than this is another file.
const BYTES_MAX: u64 = 256 << 20;

/// Reads what `--json` wrote.
///
/// # Errors
/// The file cannot be read, is no JSON, is no report or one of another version: with its path, and
/// the field where there is one.
pub fn read(path: &Path) -> io::Result<Report> {
    let shown = path.display();
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let length = std::fs::metadata(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{shown}: {e}")))?
        .len();
    if length > BYTES_MAX {
        let what = format!("{shown}: {length} bytes, allowed are {BYTES_MAX}: not a report");
        return Err(invalid(what));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{shown}: {e}")))?;
    let heading: Heading =
        serde_json::from_str(&text).map_err(|e| invalid(format!("{shown}: {e}")))?;
    match heading.schema_version {
        Some(SCHEMA_VERSION) => {}
        Some(other) => {
            return Err(invalid(format!(
                "{shown}: schema_version: {other}, this weir-bench reads {SCHEMA_VERSION}"
            )))
        }
        None => {
            return Err(invalid(format!(
                "{shown}: no field schema_version: not a report of weir-bench --json"
            )))
        }
    }
    let mut json = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let field = e.path().to_string();
        invalid(format!("{shown}: {field}: {}", e.into_inner()))
    })
}

/// What is looked at before all else: a newer report has other fields.
#[derive(Deserialize)]
struct Heading {
    schema_version: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;
    use crate::report::summarize;

    fn read_text(name: &str, text: &str) -> io::Result<Report> {
        let path = std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()));
        std::fs::write(&path, text).expect("writes");
        let result = read(&path);
        std::fs::remove_file(&path).expect("own file");
        result
    }

    #[test]
    fn what_was_written_is_read() {
        let report = report();
        let text = serde_json::to_string_pretty(&report).expect("plain data");
        let mut back = read_text("whole", &text).expect("reads");
        // Ratios may lose their last bit on the way; they follow from what does not.
        assert_eq!(back.summaries.len(), report.summaries.len());
        back.summaries = summarize(&back);
        assert!(back == report, "{text}");
    }

    #[test]
    fn errors_name_file_and_field() {
        let whole = serde_json::to_value(report()).expect("plain data");
        let change = |pointer: &str, value: serde_json::Value| {
            let mut changed = whole.clone();
            *changed.pointer_mut(pointer).expect("a field") = value;
            changed.to_string()
        };
        for (name, text, part) in [
            ("text", "firehose".to_owned(), "line 1"),
            ("list", "[]".to_owned(), "invalid"),
            ("other", "{}".to_owned(), "schema_version"),
            (
                "newer",
                change("/schema_version", 2.into()),
                "schema_version: 2",
            ),
            (
                "count",
                change("/series/1/runs/0/messages/sent", "many".into()),
                "series[1].runs[0].messages.sent: invalid type: string \"many\"",
            ),
            (
                "better",
                change("/summaries/0/better", "larger".into()),
                "summaries[0].better: unknown variant `larger`, expected one of",
            ),
        ] {
            let error = read_text(name, &text).expect_err(name).to_string();
            assert!(error.contains(part), "{error}");
            assert!(
                error.contains(&format!("weir-{name}-")),
                "the file: {error}"
            );
        }
        let error = read(Path::new("/nowhere/a.json")).expect_err("missing");
        assert!(
            error.to_string().starts_with("/nowhere/a.json: "),
            "{error}"
        );
    }
}
