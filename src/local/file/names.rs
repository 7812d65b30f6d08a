//! Names of files that were put aside: when, so that they sort.
//!
//! ```text
//! out.ndjson                                  lines go here
//! out.ndjson.20261130T023000.123Z             put aside then
//! out.ndjson.20261130T023000.123Z-000001      the next, by a clock that has not moved on
//! ```

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use weir_protocol::iso8601;

/// Of `20261130T023000.123Z`.
const TIME_BYTES: usize = 20;

/// What stands behind the name of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    time: String,
    number: u32,
}

impl Mark {
    /// Of this time, behind `last`.
    pub(super) fn next(last: Option<&Mark>, unix_ms: u64) -> Mark {
        let text = iso8601(unix_ms);
        let signs = text.iter().filter(|sign| !matches!(sign, b'-' | b':'));
        let now = Mark {
            time: signs.map(|sign| char::from(*sign)).collect(),
            number: 0,
        };
        match last {
            Some(last) if *last >= now => Mark {
                time: last.time.clone(),
                number: last.number + 1,
            },
            _ => now,
        }
    }

    /// As it is written.
    pub(super) fn text(&self) -> String {
        match self.number {
            0 => self.time.clone(),
            number => format!("{}-{number:06}", self.time),
        }
    }

    /// Back from [`Mark::text`].
    fn parse(text: &str) -> Option<Mark> {
        let (time, number) = match text.split_once('-') {
            Some((time, number)) if number.len() >= 6 => (time, number.parse().ok()?),
            Some(_) => return None,
            None => (text, 0),
        };
        let bytes = time.as_bytes();
        let is_digit = |at: usize| bytes[at].is_ascii_digit();
        let fits = bytes.len() == TIME_BYTES
            && (0..bytes.len()).all(|at| match at {
                8 => bytes[at] == b'T',
                15 => bytes[at] == b'.',
                19 => bytes[at] == b'Z',
                _ => is_digit(at),
            });
        fits.then(|| Mark {
            time: time.to_owned(),
            number,
        })
    }
}

/// Files of this one that were put aside, the oldest first.
pub(super) fn put_aside(folder: &Path, name: &OsStr) -> io::Result<Vec<Mark>> {
    let mut marks = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let rest = entry.as_bytes().strip_prefix(name.as_bytes());
        let rest = rest.and_then(|rest| rest.strip_prefix(b"."));
        let mark = rest.and_then(|rest| std::str::from_utf8(rest).ok());
        marks.extend(mark.and_then(Mark::parse));
    }
    marks.sort_unstable();
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_sort_and_come_back() {
        let mut marks: Vec<Mark> = Vec::new();
        // The clock stands, goes on, and goes back.
        for unix_ms in [1_000, 1_000, 1_000, 2_000, 500, 3_000] {
            let mark = Mark::next(marks.last(), unix_ms);
            assert_eq!(Mark::parse(&mark.text()), Some(mark.clone()));
            marks.push(mark);
        }
        let texts: Vec<String> = marks.iter().map(Mark::text).collect();
        let mut sorted = texts.clone();
        sorted.sort();
        assert_eq!(texts, sorted, "as `ls` sorts them");
        let expected = [
            "19700101T000001.000Z",
            "19700101T000001.000Z-000001",
            "19700101T000001.000Z-000002",
            "19700101T000002.000Z",
            "19700101T000002.000Z-000001",
            "19700101T000003.000Z",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn other_files_are_none_of_it() {
        for text in [
            "1",
            "gz",
            "20261130T023000.123Z.gz",
            "20261130T023000.123",
            "20261130T023000.123Z-1",
            "",
        ] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
