//! Run reports as files: never half written, and known to be writable before the run begins.

use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `value` as JSON to `path`. Whoever reads the path finds the old file or the whole new one:
/// it is written beside it, synced, and renamed.
///
/// # Errors
/// The file cannot be written, with its path.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    let temporary = temporary(path);
    let written = write_new(&temporary, &json).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // There is nothing better to do with what may be left of it.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| named(path, &error))
}

/// Tells at start whether [`write()`] will be able to write, as far as that can be told.
///
/// # Errors
/// It cannot: names `flag`, path and cause.
pub fn check_writable(flag: &str, path: &Path) -> io::Result<()> {
    let temporary = temporary(path);
    let outcome = if path.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else if path.file_name().is_none() {
        Err(io::Error::other("this names no file"))
    } else {
        write_new(&temporary, b"").and_then(|()| fs::remove_file(&temporary))
    };
    outcome.map_err(|error| {
        let path = path.display();
        io::Error::new(
            error.kind(),
            format!("{flag} {path}: cannot be written: {error}"),
        )
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// In the same directory, so that the rename stays within one file system; hidden, and different for
/// each process.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// SHA-256 as 64 lower-case hexadecimal digits.
pub fn sha256_hex(reader: &mut impl io::Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_beside_it() {
        let dir = dir("run-report");
        let path = dir.join("a.json");
        check_writable("--report", &path).expect("writable");
        assert!(!path.exists(), "a check leaves nothing behind");
        write(&path, &[1, 2]).expect("written");
        write(&path, &[3]).expect("written again");
        let read = fs::read_to_string(&path).expect("a file");
        assert_eq!(read.split_whitespace().collect::<String>(), "[3]");
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1);
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named_with_flag_and_cause() {
        let dir = dir("unwritable");
        for (path, cause) in [
            (dir.join("none/a.json"), "No such file"),
            (dir.clone(), "directory"),
            (PathBuf::from("/proc/a.json"), "cannot be written"),
        ] {
            let error = check_writable("--report", &path).expect_err("not writable");
            let error = error.to_string();
            assert!(error.contains(cause), "{error}");
            assert!(error.contains("--report") && error.contains(path.to_str().expect("plain")));
        }
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn digest_of_nothing_and_of_abc() {
        let hex = |mut bytes: &[u8]| sha256_hex(&mut bytes).expect("memory");
        assert!(hex(b"").starts_with("e3b0c44298fc1c14"));
        assert!(hex(b"abc").starts_with("ba7816bf8f01cfea"));
    }
}
