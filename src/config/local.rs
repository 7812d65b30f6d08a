//! Analyzers on this host that are no servers: a file, a program on its standard input.
//!
//! ```text
//!   file:///var/log/weir/out.ndjson?rotate_bytes=1GiB&keep=10     an absolute path; %3F stands for ? in it
//!   exec:/usr/bin/prog --flag 'a word'?timeout=5s                 a command as a shell splits it; no shell is there
//! ```

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::delivery::{Delivery, DeliveryOption, Place, Scheme};
use crate::endpoint::Endpoint;
use crate::input::{decoded, encoded};
use crate::values;

/// Words of these schemes.
pub(crate) const FILE: &str = "file";
pub(crate) const EXEC: &str = "exec";
/// Longest path, and longest command, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What such an analyzer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// Lines at the end of a file.
    File(FileOptions),
    /// Lines on a program's standard input.
    Exec(ExecOptions),
}

/// A file that lines are appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// An absolute path.
    pub path: PathBuf,
    /// A file with so many bytes is put aside, and a new one begun; none: never.
    pub rotate_bytes: Option<u64>,
    /// The same after so long; none: never.
    pub rotate_every: Option<Duration>,
    /// Files put aside that are kept; none: all.
    pub keep: Option<u32>,
}

/// A program that is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOptions {
    /// As it was written.
    pub command: String,
    /// Its words: the program, then its arguments.
    pub words: Vec<String>,
    /// How long it may go on when its input has ended; then SIGTERM, and after as long again SIGKILL.
    pub patience: Duration,
}

/// Their options.
pub const LOCAL_OPTIONS: &[DeliveryOption] = &[
    DeliveryOption {
        key: "rotate_bytes",
        default: "256MiB",
        help: "A file that would have more bytes is put aside, and a new one begun: off, or bytes",
        only: &[FILE],
        set: |delivery, text| {
            let bytes = match text {
                "off" => None,
                _ => Some(values::bytes_within::<u64>(1 << 10..=1 << 50)(text)?),
            };
            file(delivery).rotate_bytes = bytes;
            Ok(())
        },
    },
    DeliveryOption {
        key: "rotate_every",
        default: "off",
        help: "The same for a file that was begun so long ago: off, or a time",
        only: &[FILE],
        set: |delivery, text| {
            let range = Duration::from_secs(1)..=DAY * 366;
            let time = match text {
                "off" => None,
                _ => Some(values::duration_within(range)(text)?),
            };
            file(delivery).rotate_every = time;
            Ok(())
        },
    },
    DeliveryOption {
        key: "keep",
        default: "all",
        help: "Files put aside that are kept, the newest; older ones are deleted: all, or a number",
        only: &[FILE],
        set: |delivery, text| {
            let number = || text.parse().ok().filter(|it| (1..=100_000).contains(it));
            let keep = match text {
                "all" => None,
                _ => Some(number().ok_or("allowed: all, or 1 to 100000")?),
            };
            file(delivery).keep = keep;
            Ok(())
        },
    },
    DeliveryOption {
        key: "patience",
        default: "5s",
        help: "How long the program may go on when its input has ended; then SIGTERM, and after as long again SIGKILL",
        only: &[EXEC],
        set: |delivery, text| {
            let range = Duration::from_millis(10)..=Duration::from_secs(600);
            let patience = values::duration_within(range)(text)?;
            if let Some(Local::Exec(exec)) = &mut delivery.local {
                exec.patience = patience;
            }
            Ok(())
        },
    },
];

/// Of a delivery that is a file's: options are only given to those of their scheme.
fn file(delivery: &mut Delivery) -> &mut FileOptions {
    match &mut delivery.local {
        Some(Local::File(file)) => file,
        _ => unreachable!("an option of file:// is given to no other"),
    }
}

/// A place on this host; none: it is another scheme's.
pub(crate) fn place(text: &str) -> Option<Result<Place, String>> {
    let (word, rest) = text.split_once(':')?;
    let scheme = crate::SCHEMES.iter().find(|scheme| scheme.word == word)?;
    let (local, query, shape) = match word {
        FILE => {
            let shape = "allowed: file:///absolute/path[?option=value&...]";
            let (path, query) = cut(rest, rest.find('?'));
            (file_of(path, shape), query, shape)
        }
        EXEC => {
            let shape = "allowed: exec:PROGRAM [ARGUMENT...][?option=value&...]";
            let split = split(rest).map_err(|why| format!("{why}; {shape}"));
            match split {
                Ok((words, end)) => {
                    let (command, query) = cut(rest, end);
                    (exec_of(command, words, shape), query, shape)
                }
                Err(why) => (Err(why), None, shape),
            }
        }
        _ => return None,
    };
    Some(local.and_then(|local| with_options(scheme, local, query, shape)))
}

fn with_options(
    scheme: &'static Scheme,
    local: Local,
    query: Option<&str>,
    shape: &str,
) -> Result<Place, String> {
    let mut delivery = Delivery::new(scheme);
    delivery.local = Some(local);
    delivery.set_all(query, shape)?;
    Ok(Place {
        endpoint: Endpoint {
            host: String::new(),
            port: 0,
            path: String::new(),
        },
        delivery,
    })
}

/// What is before the sign at `at`, and what is behind it.
fn cut(text: &str, at: Option<usize>) -> (&str, Option<&str>) {
    match at {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn file_of(rest: &str, shape: &str) -> Result<Local, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(format!(
            "path {path:?}: it is not absolute, and no host is asked; {shape}"
        ));
    }
    let path = decoded(path)?;
    let is_name = |name: &str| !matches!(name, "" | "." | "..");
    let name = path.rsplit('/').next().unwrap_or_default();
    let fits = path.len() <= TEXT_BYTES_MAX && !path.chars().any(char::is_control);
    if !fits || !is_name(name) {
        return Err(format!(
            "path {path:?}: no file can have it; allowed: at most {TEXT_BYTES_MAX} bytes without control characters, with a name at its end"
        ));
    }
    Ok(Local::File(FileOptions {
        path: path.into(),
        rotate_bytes: Some(256 << 20),
        rotate_every: None,
        keep: None,
    }))
}

fn exec_of(command: &str, words: Vec<String>, shape: &str) -> Result<Local, String> {
    let command = command.trim();
    let fits = command.len() <= TEXT_BYTES_MAX && !command.chars().any(char::is_control);
    if !fits {
        return Err(format!(
            "the command has {} bytes; allowed: at most {TEXT_BYTES_MAX}, without control characters",
            command.len()
        ));
    }
    if words.first().is_none_or(String::is_empty) {
        return Err(format!("no program is named; {shape}"));
    }
    Ok(Local::Exec(ExecOptions {
        command: command.to_owned(),
        words,
        patience: Duration::from_secs(5),
    }))
}

/// Splits a command into words as a shell does: at white space, but for what is in '...' or "..." or behind a \. Nothing
/// else has a meaning. With where a `?` that is none of it ends the command.
fn split(text: &str) -> Result<(Vec<String>, Option<usize>), String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    let mut signs = text.char_indices();
    let mut end = None;
    while let Some((at, sign)) = signs.next() {
        match (sign, quote) {
            ('\\', None | Some('"')) => {
                let (_, next) = signs.next().ok_or("nothing stands behind the last \\")?;
                let word = word.get_or_insert_default();
                // Within "..." a shell keeps it before what has no meaning there.
                if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(next);
            }
            ('\'' | '"', None) => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (_, Some(mark)) if sign == mark => quote = None,
            ('?', None) => {
                end = Some(at);
                break;
            }
            (_, None) if sign.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(sign),
        }
    }
    match quote {
        Some(mark) => Err(format!("a {mark} is not closed")),
        None => {
            words.extend(word);
            Ok((words, end))
        }
    }
}

impl Local {
    /// Looks for what it names on this host.
    ///
    /// # Errors
    /// The path, and what is wrong with it.
    pub fn check_host(&self) -> Result<(), String> {
        match self {
            Local::File(file) => check_file(&file.path),
            Local::Exec(exec) => check_program(&exec.words[0]),
        }
    }
}

fn check_file(path: &Path) -> Result<(), String> {
    let named = |what: String| format!("{}: {what}", path.display());
    let parent = path.parent().unwrap_or(Path::new("/"));
    let folder = parent.metadata();
    let folder = folder.map_err(|error| format!("folder {}: {error}", parent.display()))?;
    if !folder.is_dir() {
        return Err(format!("folder {}: it is none", parent.display()));
    }
    match path.symlink_metadata() {
        Ok(it) if it.is_file() => Ok(()),
        Ok(it) if it.is_dir() => Err(named("it is a folder; allowed: a file".to_owned())),
        Ok(_) => Err(named("it is no regular file; allowed: a file".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(named(error.to_string())),
    }
}

fn check_program(program: &str) -> Result<(), String> {
    let is_program = |path: &Path| {
        let found = path.metadata();
        found.is_ok_and(|it| {
            it.is_file() && std::os::unix::fs::PermissionsExt::mode(&it.permissions()) & 0o111 != 0
        })
    };
    if program.contains('/') {
        return match is_program(Path::new(program)) {
            true => Ok(()),
            false => Err(format!(
                "program {program:?}: there is no file that can be executed"
            )),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)));
    match found {
        true => Ok(()),
        false => Err(format!(
            "program {program:?}: not found in {}; allowed: a program there, or its path",
            path.display()
        )),
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Local::File(file) => {
                let path = file.path.to_string_lossy();
                write!(f, "file://{}", encoded(&path).replace('?', "%3F"))
            }
            Local::Exec(exec) => write!(f, "exec:{}", exec.command),
        }
    }
}

#[cfg(test)]
mod tests;
