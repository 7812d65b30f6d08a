//! Secrets of connections in a file, so that captured packets can be read (Wireshark: `tls.keylog_file`). Whoever reads the
//! file can read all that went over TLS, so it is made for its owner alone, and nothing is written without being asked for.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::KeyLog;

use crate::pem::{unusable, Unusable};

/// In a file's mode: somebody beside its owner may read or write it.
const OTHERS: u32 = 0o077;

/// See the head of this file. Each handshake appends its lines at once. It is made with the first of them: who only checks
/// a configuration leaves nothing behind.
pub(crate) struct KeyLogFile {
    path: PathBuf,
    file: Mutex<Opened>,
}

/// A file that the secrets of links go to; several share it.
#[derive(Clone, Debug)]
pub struct KeyLogger(pub(crate) Arc<KeyLogFile>);

impl KeyLogger {
    /// Goes on behind what the file has; it is opened with the first secret.
    ///
    /// # Errors
    /// It is no file, cannot be written, or others may read it; its folder is not there.
    pub fn new(path: &Path) -> Result<KeyLogger, Unusable> {
        KeyLogFile::new(path).map(Arc::new).map(KeyLogger)
    }
}

enum Opened {
    NotYet,
    Yes(File),
    /// It was said why.
    Never,
}

impl std::fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyLogFile(..)")
    }
}

impl KeyLogFile {
    /// Goes on behind what the file has.
    ///
    /// # Errors
    /// It is no file, cannot be written, or others may read it; its folder is not there.
    pub(crate) fn new(path: &Path) -> Result<KeyLogFile, Unusable> {
        let refused = |why: String| unusable(path, why);
        match fs::metadata(path) {
            // A FIFO would wait for a reader.
            Ok(found) if !found.is_file() => {
                return Err(refused(
                    "it is no file; allowed: a file, or none yet".into(),
                ));
            }
            Ok(_) => drop(open(path, false).map_err(refused)?),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(refused(error.to_string()));
            }
            Err(_) => {
                let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
                if folder.is_some_and(|folder| !folder.is_dir()) {
                    return Err(refused(
                        "its folder is not there; allowed: a file in a folder that is".into(),
                    ));
                }
            }
        }
        Ok(KeyLogFile {
            path: path.to_owned(),
            file: Mutex::new(Opened::NotYet),
        })
    }

    fn append(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Opened::NotYet = *file {
            *file = match open(&self.path, true) {
                Ok(file) => Opened::Yes(file),
                Err(why) => {
                    log::error!(
                        "--tls-key-log {}: {why}; no secrets are written",
                        self.path.display()
                    );
                    Opened::Never
                }
            };
        }
        if let Opened::Yes(file) = &mut *file {
            // A disk that is full must not end a connection.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

fn open(path: &Path, creates: bool) -> Result<File, String> {
    let mut options = OpenOptions::new();
    let file = options.create(creates).append(true).mode(0o600).open(path);
    let file = file.map_err(|error| format!("secrets cannot be written: {error}"))?;
    let mode = file.metadata().map_or(OTHERS, |found| found.mode());
    match mode & OTHERS {
        0 => Ok(file),
        _ => {
            let mode = mode & 0o7777;
            Err(format!("it is for the secrets of connections, and others than its owner may read or write it (mode {mode:04o}); allowed: chmod 600"))
        }
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
        self.append(&line);
    }
}
