//! The file: opened and locked, appended to, synced, put aside.
//!
//! ```text
//! [ on the disk, ACKed | written in this round ]     an error: cut to here --^, and nothing of the round counts
//!                      ^ synced
//! opened again after a kill: what stands behind the last line feed was never ACKed, and is cut off
//! ```

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{flock, renameat_with, FlockOperation, OFlags, RenameFlags, CWD};
use weir_config::FileOptions;

use super::names::{put_aside, Mark};

/// Who may read: the owner and the group.
const MODE: u32 = 0o640;
/// Bytes that are looked through at once for the end of the last line.
const PIECE_BYTES: u64 = 64 << 10;
/// Another may put it in our place between two calls; so often that is believed.
const TRIES: usize = 5;

/// A lock that another has is tried so often, and so long apart.
const LOCK_TRIES: usize = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// See the head of this file.
pub(super) struct Writer {
    options: FileOptions,
    folder: PathBuf,
    name: OsString,
    file: File,
    bytes: u64,
    /// Of them, as the file was then: on the disk.
    synced: u64,
    /// Its first line was written then.
    begun: SystemTime,
    /// Of the file that was put aside last.
    last: Option<Mark>,
}

impl Writer {
    /// Opens it, or makes it, for nobody else.
    pub(super) fn open(options: &FileOptions) -> Result<Writer, String> {
        let path = &options.path;
        let named = |error: io::Error| format!("{}: {error}", path.display());
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let name = path.file_name().unwrap_or_default().to_owned();
        let file = locked(path)?;
        let last = put_aside(&folder, &name).map_err(named)?.pop();
        let mut writer = Writer {
            options: options.clone(),
            folder,
            name,
            file,
            bytes: 0,
            synced: 0,
            begun: SystemTime::now(),
            last,
        };
        writer.measure().map_err(|why| writer.named(why))?;
        Ok(writer)
    }

    fn named(&self, what: impl Display) -> String {
        format!("{}: {what}", self.options.path.display())
    }

    /// How long the file is; cuts off a line that is not whole, and sees to it that the file is there after a crash.
    fn measure(&mut self) -> io::Result<()> {
        let state = self.file.metadata()?;
        let end = end_of_lines(&mut self.file, state.len())?;
        if end < state.len() {
            self.file.set_len(end)?;
            let cut = state.len() - end;
            log::warn!(
                "{}",
                self.named(format!(
                    "cut off {cut} bytes of a line that was not whole, and not ACKed"
                ))
            );
        }
        self.file.sync_all()?;
        File::open(&self.folder)?.sync_all()?;
        (self.bytes, self.synced) = (end, end);
        self.begun = match end {
            0 => SystemTime::now(),
            _ => state.created().or_else(|_| state.modified())?,
        };
        Ok(())
    }

    /// The path still leads to this file. Another has moved or deleted it: lines go to a new one.
    pub(super) fn check_place(&mut self) -> Result<(), String> {
        let path = &self.options.path;
        if is_at(&self.file, path).map_err(|error| self.named(error))? {
            return Ok(());
        }
        log::warn!(
            "{}",
            self.named("it was moved or deleted: a new one is begun")
        );
        self.file = locked(path)?;
        self.measure().map_err(|error| self.named(error))
    }

    /// Appends whole lines. They may be over several files then; none is cut.
    pub(super) fn append(&mut self, mut lines: &[u8]) -> Result<(), String> {
        while !lines.is_empty() {
            let fits = self.fitting(lines);
            if fits == 0 {
                self.rotate()?;
                continue;
            }
            if self.bytes == 0 {
                self.begun = SystemTime::now();
            }
            let (now, later) = lines.split_at(fits);
            let written = self.file.write_all(now);
            written.map_err(|error| self.named(error))?;
            self.bytes += now.len() as u64;
            lines = later;
        }
        Ok(())
    }

    /// Bytes of whole lines that this file has room for: a line at least, if it is empty.
    fn fitting(&self, lines: &[u8]) -> usize {
        let Some(limit) = self.options.rotate_bytes else {
            return lines.len();
        };
        let room = limit.saturating_sub(self.bytes);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if lines.len() <= room {
            return lines.len();
        }
        let end = |at: usize| at + 1;
        match memchr::memrchr(b'\n', &lines[..room]) {
            Some(at) => end(at),
            None if self.bytes == 0 => memchr::memchr(b'\n', lines).map_or(lines.len(), end),
            None => 0,
        }
    }

    /// What was appended is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), String> {
        self.file
            .sync_data()
            .map_err(|error| self.named(format!("fdatasync: {error}")))?;
        // Others may have appended to it, or cut it, whatever the lock says.
        let state = self.file.metadata();
        self.bytes = state.map_err(|error| self.named(error))?.len();
        self.synced = self.bytes;
        Ok(())
    }

    /// After an error: what is not known to be on the disk goes. It was not ACKed. The kernel forgets what it could not
    /// write, so that a second sync would succeed without it.
    pub(super) fn forget_unsynced(&mut self) {
        let cut = self.file.metadata().and_then(|state| {
            match state.len() > self.synced {
                true => self.file.set_len(self.synced),
                false => Ok(()), // somebody has cut it: to set its length would make zeros
            }
        });
        if let Err(error) = cut {
            log::debug!("{}", self.named(format!("cannot be cut: {error}")));
        }
    }

    /// Puts the file aside if it is old enough.
    pub(super) fn rotate_in_time(&mut self) -> Result<(), String> {
        let Some(every) = self.options.rotate_every.filter(|_| self.bytes > 0) else {
            return Ok(());
        };
        let age = self.begun.elapsed().unwrap_or(Duration::ZERO);
        match age >= every {
            true => self.rotate(),
            false => Ok(()),
        }
    }

    /// Puts the file aside, and begins a new one.
    fn rotate(&mut self) -> Result<(), String> {
        self.sync()?;
        let path = self.options.path.clone();
        if !is_at(&self.file, &path).map_err(|error| self.named(error))? {
            return self.check_place();
        }
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = unix_ms.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let mark = Mark::next(self.last.as_ref(), unix_ms);
        let aside = self.aside(&mark);
        let moved = rename_to_new(&path, &aside);
        moved.map_err(|error| self.named(format!("to {}: {error}", aside.display())))?;
        self.last = Some(mark);
        self.file = locked(&path)?;
        self.measure().map_err(|error| self.named(error))?;
        log::info!(
            "{}",
            self.named(format!("put aside as {}", aside.display()))
        );
        self.delete_oldest();
        Ok(())
    }

    fn aside(&self, mark: &Mark) -> PathBuf {
        let mut name = self.name.clone();
        name.push(".");
        name.push(mark.text());
        self.folder.join(name)
    }

    /// Files put aside beyond those that are kept. What cannot be deleted stays.
    fn delete_oldest(&self) {
        let Some(keep) = self.options.keep else {
            return;
        };
        let marks = match put_aside(&self.folder, &self.name) {
            Ok(marks) => marks,
            Err(error) => return log::warn!("{}", self.named(error)),
        };
        let old = marks.len().saturating_sub(keep as usize);
        for mark in &marks[..old] {
            let path = self.aside(mark);
            match fs::remove_file(&path) {
                Ok(()) => log::info!("{}: deleted, keep={keep}", path.display()),
                Err(error) => log::warn!("{}: cannot be deleted: {error}", path.display()),
            }
        }
    }
}

/// A regular file at this path, made if there is none, and locked: the lock is the file's, so it must still be there then.
fn locked(path: &Path) -> Result<File, String> {
    let named = |what: &dyn Display| format!("{}: {what}", path.display());
    // A FIFO without a reader must not hold up who opens it.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    for _ in 0..TRIES {
        let mut how = OpenOptions::new();
        how.read(true).append(true).create(true).mode(MODE);
        how.custom_flags(i32::from_ne_bytes(flags.to_ne_bytes()));
        let file = how.open(path).map_err(|error| named(&error))?;
        if !file.metadata().map_err(|error| named(&error))?.is_file() {
            return Err(named(&"it is no regular file"));
        }
        if !lock(&file).map_err(|error| named(&format!("flock: {error}")))? {
            return Err(named(&"another analyzer or distributor writes to it"));
        }
        if is_at(&file, path).map_err(|error| named(&error))? {
            return Ok(file);
        }
    }
    Err(named(&"others put files there again and again"))
}

/// False: another has it. One that a reload has taken out ends soon, and is waited for.
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            done => return Ok(done.map(|()| true)?),
        }
    }
    Ok(false)
}

/// The path leads to this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let ours = file.metadata()?;
    Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino()))
}

/// Renames it, and overwrites nothing.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot say so; nobody else makes such names.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => {
            fs::rename(from, to)
        }
        done => Ok(done?),
    }
}

/// Where the last whole line ends.
///
/// # Errors
/// What stands behind it was not written by us.
fn end_of_lines(file: &mut File, len: u64) -> io::Result<u64> {
    let mut piece = Vec::new();
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(PIECE_BYTES);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        file.take(end - start).read_to_end(&mut piece)?;
        if let Some(at) = memchr::memrchr(b'\n', &piece) {
            let at = start + at as u64 + 1;
            return check_torn(file, at, len).map(|()| at);
        }
        end = start;
    }
    check_torn(file, 0, len).map(|()| 0)
}

/// What is behind the last line may be the beginning of one of ours, or zeros after a crash of the host.
fn check_torn(file: &mut File, at: u64, len: u64) -> io::Result<()> {
    if at == len {
        return Ok(());
    }
    let mut first = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut first)?;
    match first[0] {
        b'{' | b' ' | b'\t' | b'\r' | 0 => Ok(()),
        _ => Err(io::Error::new(
            ErrorKind::InvalidData,
            "its last line is not whole, and is no object of JSON; allowed: a new file, or one of lines of JSON",
        )),
    }
}

#[cfg(test)]
mod tests;
