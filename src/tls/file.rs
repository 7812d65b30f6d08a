//! Files of certificates, keys and other secrets, as they are read: whole, bounded, and without waiting for anybody.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Reads a file of at most `most` bytes. A pipe, a socket or a device is none: it may never end, or never begin.
///
/// # Errors
/// It cannot be read, is longer, or is no regular file.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let facts = fs::metadata(path)?;
    if !facts.is_file() {
        let what = if facts.is_dir() {
            "a directory"
        } else {
            "a pipe, a socket or a device"
        };
        return Err(io::Error::other(format!("{what}; allowed: a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!(
            "more than the {most} bytes that are allowed"
        ))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_never_end_is_not_read() {
        let refused = |path: &str, most| {
            let read = read_regular(Path::new(path), most);
            read.expect_err(path).to_string()
        };
        for path in ["/dev/zero", "/dev/full"] {
            assert!(
                refused(path, 100).contains("allowed: a regular file"),
                "{path}"
            );
        }
        assert!(refused("/", 100).contains("a directory"));
        let own = std::env::current_exe().expect("a path");
        assert!(refused(&own.to_string_lossy(), 100).contains("more than the 100 bytes"));
    }
}
