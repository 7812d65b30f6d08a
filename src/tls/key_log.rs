//! Secrets of connections in a file, so that captured packets can be read (Wireshark: `tls.keylog_file`). Whoever reads the
//! file can read all that went over TLS, so it is made for its owner alone, and nothing is written without being asked for.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustls::KeyLog;

use crate::server::{unusable, Unusable};

/// In a file's mode: somebody beside its owner may read or write it.
const OTHERS: u32 = 0o077;

/// See the head of this file. Each handshake appends its lines at once.
pub(crate) struct KeyLogFile(Mutex<File>);

impl std::fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyLogFile(..)")
    }
}

impl KeyLogFile {
    /// Goes on behind what the file has.
    ///
    /// # Errors
    /// It cannot be written, is no file, or others may read it.
    pub(crate) fn open(path: &Path) -> Result<KeyLogFile, Unusable> {
        // A FIFO would wait for a reader.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(unusable(
                path,
                "it is no file; allowed: a file, or none yet",
            ));
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path);
        let file =
            file.map_err(|error| unusable(path, format!("secrets cannot be written: {error}")))?;
        let mode = file.metadata().map_or(0, |found| found.mode());
        if mode & OTHERS != 0 {
            let mode = mode & 0o7777;
            return Err(unusable(path, format!("it is for the secrets of connections, and others than its owner may read or write it (mode {mode:04o}); allowed: chmod 600")));
        }
        Ok(KeyLogFile(Mutex::new(file)))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        for byte in client_random {
            let _ = write!(line, "{byte:02x}"); // into a String
        }
        line.push(' ');
        for byte in secret {
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A disk that is full must not end a connection.
        let _ = file.write_all(line.as_bytes());
    }
}
