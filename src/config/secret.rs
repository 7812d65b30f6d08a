//! Secrets that a protocol needs as they are, and not only their digests.

use std::fmt;
use std::path::Path;

use crate::input::{Input, Secrets};

/// Most bytes of a file with secrets.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest key, name or password, in bytes.
const SECRET_BYTES_MAX: usize = 1024;
/// Most users of an input.
const USERS_MAX: usize = 10_000;

/// Bytes that no log line has.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// These bytes.
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(bytes.to_vec())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Input {
    /// Reads the files that it only names.
    ///
    /// # Errors
    /// The option, the path, and what is allowed; never the secret.
    pub(crate) fn resolve(&mut self) -> Result<(), String> {
        let mut secrets = Secrets::default();
        if let Some(path) = &self.shared_key_file {
            let key = first_line(path);
            let key = key.map_err(|why| format!("shared_key_file={}: {why}", path.display()))?;
            secrets.shared_key = Some(key);
        }
        if let Some(path) = &self.users_file {
            let users = read(path).and_then(|text| users(&text));
            secrets.users = users.map_err(|why| format!("users_file={}: {why}", path.display()))?;
        }
        self.secrets = secrets;
        Ok(())
    }
}

/// The first line of a file.
///
/// # Errors
/// Why it cannot be read, or what is allowed.
pub(crate) fn first_line(path: &Path) -> Result<Secret, String> {
    read(path).and_then(|text| shared_key(&text))
}

/// A file of lines.
///
/// # Errors
/// As for [`first_line`].
pub(crate) fn lines(path: &Path) -> Result<Vec<u8>, String> {
    read(path)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    weir_tls::read_regular(path, FILE_BYTES_MAX).map_err(|error| error.to_string())
}

fn shared_key(text: &[u8]) -> Result<Secret, String> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.trim_ascii_end();
    match line.len() {
        1..=SECRET_BYTES_MAX => Ok(Secret::new(line)),
        len => Err(format!(
            "its first line has {len} bytes; allowed: 1 to {SECRET_BYTES_MAX}"
        )),
    }
}

/// `NAME:PASSWORD` on each line; empty lines and lines that begin with # say nothing.
fn users(text: &[u8]) -> Result<Vec<(String, Secret)>, String> {
    let mut users: Vec<(String, Secret)> = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let (line, number) = (line.trim_ascii(), index + 1);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let allowed = || {
            format!("line {number}: allowed: NAME:PASSWORD, each of 1 to {SECRET_BYTES_MAX} bytes in UTF-8")
        };
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, password) = line.split_at(colon.ok_or_else(allowed)?);
        let password = &password[1..];
        let fits = |part: &[u8]| (1..=SECRET_BYTES_MAX).contains(&part.len());
        let name = std::str::from_utf8(name).map_err(|_| allowed())?;
        let is_text = std::str::from_utf8(password).is_ok();
        if !fits(name.as_bytes()) || !fits(password) || !is_text {
            return Err(allowed());
        }
        if users.iter().any(|(other, _)| other == name) {
            return Err(format!(
                "line {number}: a user of this name stands above; allowed: once"
            ));
        }
        if users.len() == USERS_MAX {
            return Err(format!("more than {USERS_MAX} users; allowed: so many"));
        }
        users.push((name.to_owned(), Secret::new(password)));
    }
    match users.is_empty() {
        true => Err("it has no user; allowed: NAME:PASSWORD on each line".to_owned()),
        false => Ok(users),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_never_shown() {
        assert_eq!(
            shared_key(b" key with blanks \r\nx").map(|key| key.0),
            Ok(b" key with blanks".to_vec())
        );
        assert!(shared_key(b"\nx").is_err_and(|why| why.contains("0 bytes; allowed")));
        let read = users(b"# comment\n\nanna:a:b\r\nbob:x").expect("two");
        assert_eq!(
            format!("{read:?}"),
            "[(\"anna\", Secret(..)), (\"bob\", Secret(..))]"
        );
        assert_eq!(read[0].1.bytes(), b"a:b");
        for (bad, why) in [
            (&b"anna"[..], "line 1: allowed"),
            (b":x", "line 1: allowed"),
            (b"a:x\na:y", "line 2: a user"),
            (b"a:", "line 1: allowed"),
            (b"#", "no user"),
        ] {
            assert!(users(bad).is_err_and(|error| error.contains(why)), "{why}");
        }
    }
}
