//! `--watch-config`: the files that a reload reads are looked at; when one is another, it is as if SIGHUP had come.
//!
//! ```text
//! every 200 ms: contents of all files --> twice the same, and not what was taken? --> reload
//! after it:     other contents than before it? --> nobody knows which of them were taken: again, once they are still
//! ```
//!
//! The files of certificates are looked at in any case, and alone: what is wrong elsewhere does not keep them waiting.
//!
//! It reads instead of waiting for events: so it sees a link that was swapped anywhere on the way to a file (a ConfigMap
//! is `weir.toml -> ..data/weir.toml`, `..data -> ..2026_11_29`, and the second link is renamed), a mount, and a network
//! file system. A file that somebody is still writing has other contents the next time.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::reload::Reload;
use crate::tls::read_regular;

/// Between two looks. A change is in force two of them later at most, and the time that a reload takes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Files of certificates that were refused are read again after this, though they have not changed: one that was not valid
/// yet may be.
const READ_REFUSED_EVERY: Duration = Duration::from_secs(10);
/// While a reload is under way: what is looked at soon after it is what it has read.
const LOOK_AFTER: Duration = Duration::from_millis(5);
/// A file of more bytes is none: a configuration has no more.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Begins to look, for as long as there is something to reload. What was read at the start is read again once: it may
/// have changed since.
///
/// # Errors
/// There is no thread.
pub(super) fn start(reload: &Arc<Reload>) -> io::Result<()> {
    let files = reload.files();
    let names: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let own = Arc::downgrade(reload);
    std::thread::Builder::new()
        .name("config-watch".into())
        .spawn(move || watch(&own))?;
    log::info!("watching {}", names.join(", "));
    Ok(())
}

/// The same for certificates alone, which are followed without being asked for: whoever renews them shall not have to
/// tell every program.
///
/// # Errors
/// There is no thread.
pub(super) fn start_for_certificates(own: Weak<Reload>) -> io::Result<()> {
    let look = move || {
        let (mut seen, mut read) = (Seen::default(), Instant::now());
        while let Some(reload) = own.upgrade() {
            // Once at the start as well: they may have changed since they were read.
            let is_due = seen.look(fingerprint(&reload.certificate_files()));
            let is_late = read.elapsed() >= READ_REFUSED_EVERY;
            if is_due || is_late && reload.has_refused_certificates() {
                reload.renew_certificates(is_due);
                read = Instant::now();
            }
            drop(reload);
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new()
        .name("tls-watch".into())
        .spawn(look)?;
    Ok(())
}

fn watch(reload: &Weak<Reload>) {
    let mut seen = Seen::default();
    while let Some(reload) = reload.upgrade() {
        let wait = step(&mut seen, &reload);
        drop(reload);
        std::thread::sleep(wait);
    }
}

/// One look; the time to the next.
fn step(seen: &mut Seen, reload: &Reload) -> Duration {
    match seen.request {
        Some(request) if !reload.is_met(request) => return LOOK_AFTER,
        _ => {}
    }
    // Which tokens there are may have changed with the last reload.
    let now = fingerprint(&reload.files());
    if seen.request.take().is_some() {
        seen.was_read(&now);
    }
    if !seen.look(now) {
        return LOOK_EVERY;
    }
    seen.request = Some(reload.request());
    LOOK_AFTER
}

/// Contents of the files, as numbers; none of one that cannot be read.
type Contents = Vec<Option<u64>>;

/// What was seen before.
#[derive(Default)]
struct Seen {
    /// At the last reload.
    taken: Option<Contents>,
    /// At the last look.
    last: Option<Contents>,
    /// A reload that is under way.
    request: Option<u64>,
}

impl Seen {
    /// Whether it is time for a reload.
    fn look(&mut self, now: Contents) -> bool {
        let is_settled = self.last.as_ref() == Some(&now);
        let is_due = is_settled && self.taken.as_ref() != Some(&now);
        if is_due {
            self.taken = Some(now.clone());
        }
        self.last = Some(now);
        is_due
    }

    /// After a reload. It may have read what was there for a moment, or half of something.
    fn was_read(&mut self, now: &Contents) {
        if self.taken.as_ref() != Some(now) {
            self.taken = None;
        }
    }
}

fn fingerprint(files: &[PathBuf]) -> Contents {
    let of_file = |path: &PathBuf| {
        let bytes = read_regular(path, FILE_BYTES_MAX).ok()?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        Some(hasher.finish())
    };
    files.iter().map(of_file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_is_left_alone_until_it_is_still() {
        let mut seen = Seen::default();
        let mut look = |n| seen.look(vec![Some(n)]);
        assert!(!look(1));
        assert!(look(1), "what it was at the start");
        assert!(!look(1));
        assert!(!look(2), "may still be written");
        assert!(!look(3));
        assert!(look(3));
        assert!(!look(3));
        // For a moment it is what it was.
        assert!(!look(4));
        assert!(!look(3));
        assert!(!look(3), "that was taken");
        assert!(!seen.look(vec![None]));
        assert!(seen.look(vec![None]), "gone: that is said once");
        assert!(!seen.look(vec![None]));
    }

    #[test]
    fn what_changed_while_it_was_read_is_read_again() {
        let mut seen = Seen::default();
        let is_due = |seen: &mut Seen, n| seen.look(vec![Some(n)]);
        assert!(!is_due(&mut seen, 1) && is_due(&mut seen, 1));
        seen.was_read(&vec![Some(2)]);
        assert!(!is_due(&mut seen, 2));
        assert!(!is_due(&mut seen, 1), "1 or 2 is in force");
        assert!(is_due(&mut seen, 1));
        seen.was_read(&vec![Some(1)]);
        assert!(!is_due(&mut seen, 1), "it is 1");
    }

    #[test]
    fn a_swapped_link_is_another_content_and_a_fifo_is_none() {
        let dir = std::env::temp_dir().join(format!("weir-watch-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for (version, text) in [("v1", "a"), ("v2", "b")] {
            std::fs::create_dir_all(dir.join(version)).expect("a directory");
            std::fs::write(dir.join(version).join("weir.toml"), text).expect("written");
        }
        let link = |to: &str, at: &str| {
            std::os::unix::fs::symlink(to, dir.join(at)).expect("a link");
        };
        link("v1", "..data");
        link("..data/weir.toml", "weir.toml");
        let files = [dir.join("weir.toml")];
        let before = fingerprint(&files);
        link("v2", "..tmp");
        std::fs::rename(dir.join("..tmp"), dir.join("..data")).expect("renamed");
        let after = fingerprint(&files);
        assert!(before[0].is_some() && after[0].is_some() && before != after);
        assert_eq!(fingerprint(std::slice::from_ref(&dir)), [None]);
        let fifo = dir.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo").success());
        let (looked, at_last) = std::sync::mpsc::channel();
        std::thread::spawn(move || looked.send(fingerprint(&[fifo])));
        let seen = at_last.recv_timeout(Duration::from_secs(20));
        assert_eq!(seen, Ok(vec![None]), "it is not opened");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
