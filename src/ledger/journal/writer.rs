//! Writes one journal. One link, one thread.
//!
//! ```text
//! note  -> stream -> page in memory: a bit     dirty from byte lo to byte hi
//! flush -> one positional write for each dirty page, of its dirty bytes; then the ACK may go
//! ```
//!
//! The pages touched last are kept in memory; others are read again when a message needs them.

use super::page::{self, encode_page, Head, Key, BITS, BITS_AT, BYTES_MAX, PAGE_BYTES, PLANES};
use super::reader::scan;
use super::Arrival;
use rustix::fs::{flock, FlockOperation};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Pages in memory: 64 MiB for a link. Enough for 16,384 streams in step, the number whose order an
/// analyzer follows, too.
const CACHED_MAX: usize = 16_384;
/// Journals of one analyzer in one directory: more than it can have links.
const SLOTS_MAX: usize = 4_096;
const DIALECTS: [&str; 1 + page::DIALECT_MAX as usize] = ["native", "typed", "compact", "http"];

/// A journal that is being written.
pub struct Journal {
    file: File,
    path: PathBuf,
    streams: Streams,
    /// Where each page is, in pages from the start of the file.
    index: HashMap<Key, u64>,
    pages: u64,
    cache: Vec<Cached>,
    cached: HashMap<Key, usize>,
    cached_max: usize,
    /// The next page to look at when one must go.
    hand: usize,
    dirty: Vec<usize>,
    unnumbered: u64,
    is_head_dirty: bool,
    /// Why nothing more may be ACKed.
    failed: Option<io::Error>,
}

#[derive(Default)]
struct Streams {
    by_name: HashMap<Box<[u8]>, u32>,
    all: Vec<Stream>,
    /// Stream of the message before: batches bring many of one stream in a row.
    latest: usize,
}

struct Stream {
    name: Box<[u8]>,
    /// Where the page touched last is cached, for each plane; another page may be there by now.
    latest: [usize; PLANES],
}

struct Cached {
    key: Key,
    at: u64,
    bytes: Box<[u8; PAGE_BYTES]>,
    /// Bytes that the file does not have yet; none if `hi` is 0.
    lo: usize,
    hi: usize,
    /// Touched since the hand was here.
    is_recent: bool,
}

impl Journal {
    /// Opens a journal of this analyzer that nobody else writes, or begins one. An earlier one goes
    /// on where it ended.
    ///
    /// # Errors
    /// The directory or a file cannot be written, or a file there is no sound journal: with its path.
    pub fn open(dir: &Path, id: &str, dialect: u8) -> io::Result<Journal> {
        let named = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("journal {}: {error}", path.display()))
        };
        fs::create_dir_all(dir).map_err(|error| named(dir, error))?;
        for slot in 0..SLOTS_MAX {
            let path = dir.join(file_name(id, dialect, slot));
            match Self::open_file(&path, id, dialect) {
                Ok(Some(journal)) => return Ok(journal),
                Ok(None) => {}
                Err(error) => return Err(named(&path, error)),
            }
        }
        Err(named(dir, io::Error::other("all journals are in use")))
    }

    /// None: another link writes this one.
    fn open_file(path: &Path, id: &str, dialect: u8) -> io::Result<Option<Journal>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut length = file.metadata()?.len();
        if length < PAGE_BYTES as u64 {
            // New, or its writer died at the very start.
            let head = Head {
                id: id.to_owned(),
                dialect,
                uuid: uuid()?,
                generation: 0,
                unnumbered: 0,
            };
            file.write_all_at(&head.encode(), 0)?;
            length = PAGE_BYTES as u64;
        }
        // A page that was cut when its writer died was not ACKed.
        let pages = length / PAGE_BYTES as u64;
        file.set_len(pages * PAGE_BYTES as u64)?;
        let mut journal = Journal {
            file,
            path: path.to_owned(),
            streams: Streams::default(),
            index: HashMap::new(),
            pages,
            cache: Vec::new(),
            cached: HashMap::new(),
            cached_max: CACHED_MAX,
            hand: 0,
            dirty: Vec::new(),
            unnumbered: 0,
            is_head_dirty: false,
            failed: None,
        };
        let (streams, index) = (&mut journal.streams, &mut journal.index);
        let head = scan(&journal.file, pages, |plane, page, name, at| {
            let stream = streams.find(name) as u32; // as many as pages at most
            index.insert(
                Key {
                    stream,
                    plane,
                    page,
                },
                at,
            );
        })?;
        if head.id != id || head.dialect != dialect {
            return Err(page::invalid(format!(
                "is a journal of analyzer {:?}",
                head.id
            )));
        }
        journal.unnumbered = head.unnumbered;
        let generation = (head.generation + 1).to_be_bytes();
        journal
            .file
            .write_all_at(&generation, page::GENERATION_AT)?;
        Ok(Some(journal))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes a message; [`Journal::flush`] tells whether that worked.
    #[inline]
    pub fn note(&mut self, stream: &[u8], sequence: u64, arrival: Arrival) {
        let stream = self.streams.find(stream);
        let plane = match arrival {
            Arrival::Plain => 0,
            Arrival::Flagged => 2,
        };
        if let Err(error) = self.set_next(stream, plane, sequence) {
            self.failed.get_or_insert(error);
        }
    }

    /// Notes a message that has no number.
    pub fn note_unnumbered(&mut self) {
        self.unnumbered += 1;
        self.is_head_dirty = true;
    }

    /// Hands everything so far to the kernel: from then on it survives the death of this process. To
    /// be called before the ACK.
    ///
    /// # Errors
    /// Something noted since the last call is not written: nothing more may be ACKed.
    pub fn flush(&mut self) -> io::Result<()> {
        let failed = self.failed.take().map_or(Ok(()), Err);
        failed.and_then(|()| self.write_dirty()).map_err(|error| {
            let path = self.path.display();
            io::Error::new(error.kind(), format!("journal {path}: {error}"))
        })
    }

    fn write_dirty(&mut self) -> io::Result<()> {
        while let Some(&slot) = self.dirty.last() {
            self.write_page(slot)?;
            self.dirty.pop();
        }
        if self.is_head_dirty {
            self.file
                .write_all_at(&self.unnumbered.to_be_bytes(), page::UNNUMBERED_AT)?;
            self.is_head_dirty = false;
        }
        Ok(())
    }

    fn write_page(&mut self, slot: usize) -> io::Result<()> {
        let cached = &mut self.cache[slot];
        if cached.hi > 0 {
            let at = cached.at * PAGE_BYTES as u64 + cached.lo as u64;
            self.file
                .write_all_at(&cached.bytes[cached.lo..cached.hi], at)?;
            (cached.lo, cached.hi) = (PAGE_BYTES, 0);
        }
        Ok(())
    }

    /// Sets the bit of `sequence` in `plane`, or in the next plane if it is set already.
    #[inline]
    fn set_next(&mut self, stream: usize, plane: u8, sequence: u64) -> io::Result<()> {
        if self.set(stream, plane, sequence)? {
            self.set(stream, plane + 1, sequence)?;
        }
        Ok(())
    }

    /// Sets a bit; whether it was set.
    #[inline]
    fn set(&mut self, stream: usize, plane: u8, sequence: u64) -> io::Result<bool> {
        let key = Key {
            stream: stream as u32, // numbered from 0, as many as pages at most
            plane,
            page: sequence / BITS,
        };
        let latest = self.streams.all[stream].latest[usize::from(plane)];
        let slot = match self.cache.get(latest) {
            Some(cached) if cached.key == key => latest,
            _ => self.find(key)?,
        };
        let bit = (sequence % BITS) as usize;
        let (at, mask) = (BITS_AT + bit / 8, 1 << (bit % 8));
        let cached = &mut self.cache[slot];
        cached.is_recent = true;
        if cached.bytes[at] & mask != 0 {
            return Ok(true);
        }
        cached.bytes[at] |= mask;
        if cached.hi == 0 {
            self.dirty.push(slot);
        }
        (cached.lo, cached.hi) = (cached.lo.min(at), cached.hi.max(at + 1));
        Ok(false)
    }

    /// The page in memory.
    fn find(&mut self, key: Key) -> io::Result<usize> {
        let slot = match self.cached.get(&key) {
            Some(slot) => *slot,
            None => self.load(key)?,
        };
        self.streams.all[key.stream as usize].latest[usize::from(key.plane)] = slot;
        Ok(slot)
    }

    fn load(&mut self, key: Key) -> io::Result<usize> {
        let slot = self.free_slot()?;
        let mut page = Cached {
            key,
            at: 0,
            bytes: Box::new([0; PAGE_BYTES]),
            lo: PAGE_BYTES,
            hi: 0,
            is_recent: true,
        };
        if let Some(at) = self.index.get(&key) {
            page.at = *at;
            self.file
                .read_exact_at(&mut page.bytes[..], at * PAGE_BYTES as u64)?;
        } else {
            if (self.pages + 1) * PAGE_BYTES as u64 > BYTES_MAX {
                return Err(io::Error::other(format!("has reached {BYTES_MAX} bytes")));
            }
            page.at = self.pages;
            page.bytes = encode_page(
                key.plane,
                key.page,
                &self.streams.all[key.stream as usize].name,
            );
            (page.lo, page.hi) = (0, PAGE_BYTES);
            self.dirty.push(slot);
            self.index.insert(key, self.pages);
            self.pages += 1;
        }
        self.cached.insert(key, slot);
        if slot == self.cache.len() {
            self.cache.push(page);
        } else {
            self.cache[slot] = page;
        }
        Ok(slot)
    }

    /// Room for a page: the first that was not touched for a whole round has to go.
    fn free_slot(&mut self) -> io::Result<usize> {
        if self.cache.len() < self.cached_max {
            return Ok(self.cache.len());
        }
        while std::mem::take(&mut self.cache[self.hand].is_recent) {
            self.hand = (self.hand + 1) % self.cache.len();
        }
        let slot = self.hand;
        self.hand = (self.hand + 1) % self.cache.len();
        if self.cache[slot].hi > 0 {
            // It stays in the list of dirty ones: writing it again is nothing.
            self.write_page(slot)?;
        }
        self.cached.remove(&self.cache[slot].key);
        Ok(slot)
    }
}

impl Streams {
    #[inline]
    fn find(&mut self, name: &[u8]) -> usize {
        match self.all.get(self.latest) {
            Some(stream) if *stream.name == *name => return self.latest,
            _ => {}
        }
        self.latest = match self.by_name.get(name) {
            Some(stream) => *stream as usize,
            None => self.add(name),
        };
        self.latest
    }

    fn add(&mut self, name: &[u8]) -> usize {
        let at = self.all.len();
        self.by_name.insert(name.into(), at as u32); // as many as pages at most
        self.all.push(Stream {
            name: name.into(),
            latest: [usize::MAX; PLANES],
        });
        at
    }
}

/// Analyzer id, dialect and a number; what a file name should not have is written as %XX.
fn file_name(id: &str, dialect: u8, slot: usize) -> String {
    let mut name = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    // A file name has 255 bytes at most. Ids that differ only behind that share their names, and
    // the second analyzer is refused: its id is not the one in the head.
    name.truncate(200);
    let dialect = DIALECTS[usize::from(dialect)];
    format!("{name}.{dialect}.{slot}.journal")
}

/// Random, from the kernel.
fn uuid() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, Union};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let name = format!("weir-journal-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            Dir(path)
        }

        fn files(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(&self.0).expect("a directory");
            let mut files: Vec<_> = entries
                .map(|entry| entry.expect("readable").path())
                .collect();
            files.sort();
            files
        }

        fn union(&self) -> Union {
            let readers = self
                .files()
                .iter()
                .map(|path| Reader::open(path).expect("sound"))
                .collect();
            Union::new(readers)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// How often a message came: plain, flagged; each 2 at most.
    fn expected(notes: &[(u8, u64, bool)]) -> BTreeMap<(u8, u64), (u64, u64)> {
        let mut all: BTreeMap<(u8, u64), (u64, u64)> = BTreeMap::new();
        for (stream, sequence, flagged) in notes {
            let (plain, flags) = all.entry((*stream, *sequence)).or_default();
            let count = if *flagged { flags } else { plain };
            *count = (*count + 1).min(2);
        }
        all
    }

    fn note(journal: &mut Journal, (stream, sequence, flagged): (u8, u64, bool)) {
        let arrival = if flagged {
            Arrival::Flagged
        } else {
            Arrival::Plain
        };
        journal.note(format!("e/{stream}").as_bytes(), sequence, arrival);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn says_what_was_noted_whatever_the_cache(
            notes in proptest::collection::vec((0u8..5, 0u64..4 * BITS, any::<bool>(), 0u8..30), 1..400),
            cached_max in 1usize..9,
        ) {
            let dir = Dir::new("model");
            let mut journal = Journal::open(&dir.0, "a1", 0).expect("opened");
            journal.cached_max = cached_max;
            let mut plain_notes = Vec::new();
            for (stream, sequence, flagged, action) in notes {
                let sequence = if action < 15 { sequence % 3 + BITS - 1 } else { sequence };
                let one = (stream, sequence, flagged);
                note(&mut journal, one);
                plain_notes.push(one);
                if action % 10 == 0 {
                    journal.flush().expect("written");
                }
                if action == 11 {
                    journal.flush().expect("written");
                    drop(journal);
                    journal = Journal::open(&dir.0, "a1", 0).expect("opened again");
                    journal.cached_max = cached_max;
                }
            }
            journal.flush().expect("written");
            let expected = expected(&plain_notes);
            let union = dir.union();
            let summary = union.summary().expect("readable");
            let count = |f: fn(u64, u64) -> u64| expected.values().map(|(p, f_)| f(*p, *f_)).sum::<u64>();
            prop_assert_eq!(summary.messages, expected.len() as u64);
            prop_assert_eq!(summary.twice, count(|p, f| u64::from(p + f > 1)));
            prop_assert_eq!(summary.unrecognised, count(|p, _| u64::from(p > 1)));
            prop_assert_eq!(summary.flagged, count(|_, f| f));
            for (stream, sequence) in expected.keys() {
                let name = format!("e/{stream}");
                let bits = union.page(name.as_bytes(), sequence / BITS).expect("readable");
                let bit = (sequence % BITS) as usize;
                prop_assert!(bits.once[bit / 64] & 1 << (bit % 64) != 0);
            }
        }
    }

    #[test]
    fn what_was_flushed_survives_a_writer_that_dies() {
        let dir = Dir::new("dies");
        let mut journal = Journal::open(&dir.0, "a/1 ü", 0).expect("opened");
        (1..=1000).for_each(|sequence| note(&mut journal, (0, sequence, false)));
        journal.flush().expect("written");
        note(&mut journal, (0, 1001, false));
        note(&mut journal, (1, 1, false));
        // Never flushed; and a page at the end was cut.
        let path = journal.path().to_owned();
        drop(journal);
        let file = OpenOptions::new().append(true).open(&path).expect("there");
        io::Write::write_all(&mut &file, &[1; 100]).expect("written");
        let mut journal = Journal::open(&dir.0, "a/1 ü", 0).expect("opened");
        assert_eq!(journal.path(), path, "the same journal goes on");
        note(&mut journal, (0, 1, true));
        note(&mut journal, (0, 2, false));
        journal.note_unnumbered();
        journal.flush().expect("written");
        let summary = dir.union().summary().expect("readable");
        assert_eq!((summary.messages, summary.twice), (1000, 2));
        assert_eq!((summary.unrecognised, summary.unnumbered), (1, 1));
    }

    #[test]
    fn two_links_never_write_the_same_journal() {
        let dir = Dir::new("two");
        let mut first = Journal::open(&dir.0, "a1", 0).expect("opened");
        let mut second = Journal::open(&dir.0, "a1", 0).expect("opened");
        assert_ne!(first.path(), second.path());
        note(&mut first, (0, 7, false));
        note(&mut second, (0, 7, false));
        first.flush().expect("written");
        second.flush().expect("written");
        let summary = dir.union().summary().expect("readable");
        assert_eq!((summary.twice, summary.unrecognised), (1, 1));
    }

    #[test]
    fn strange_files_are_refused_with_their_path() {
        let dir = Dir::new("strange");
        fs::create_dir_all(&dir.0).expect("a directory");
        let path = dir.0.join(file_name("a1", 0, 0));
        fs::write(&path, vec![1; PAGE_BYTES]).expect("written");
        let error = Journal::open(&dir.0, "a1", 0)
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.contains("a1.native.0.journal") && error.contains("WEIRJRNL"),
            "{error}"
        );
        let error = Journal::open(&path, "a1", 0)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains("a1.native.0.journal"), "{error}");
    }

    /// One bit a message, and every message is read again.
    #[test]
    fn a_million_messages_take_a_bit_each() {
        const MESSAGES: u64 = 1_000_000;
        const STREAMS: u64 = 8;
        let dir = Dir::new("million");
        let mut journal = Journal::open(&dir.0, "a1", 0).expect("opened");
        let names: Vec<String> = (0..STREAMS).map(|stream| format!("e/{stream}")).collect();
        for message in 0..MESSAGES {
            // In runs, as batches bring them.
            let stream = message / 10 % STREAMS;
            let sequence = message / (10 * STREAMS) * 10 + message % 10 + 1;
            journal.note(names[stream as usize].as_bytes(), sequence, Arrival::Plain);
            if message % 10 == 9 {
                journal.flush().expect("written");
            }
        }
        let union = dir.union();
        let summary = union.summary().expect("readable");
        assert_eq!((summary.messages, summary.twice), (MESSAGES, 0));
        let bytes: u64 = union.readers().iter().map(|reader| reader.bytes).sum();
        // Whole pages of each stream, and one of names.
        let pages = STREAMS * ((MESSAGES / STREAMS).div_ceil(BITS) + 1) + 1;
        assert!(bytes <= pages * PAGE_BYTES as u64, "{bytes} bytes");
    }

    /// An ACK writes only what it covers, not whole pages.
    #[test]
    fn an_ack_writes_a_few_bytes() {
        let dir = Dir::new("small");
        let mut journal = Journal::open(&dir.0, "a1", 0).expect("opened");
        note(&mut journal, (0, 1, false));
        journal.flush().expect("written");
        (100..164).for_each(|sequence| note(&mut journal, (0, sequence, false)));
        assert_eq!(journal.dirty.len(), 1);
        let cached = &journal.cache[journal.dirty[0]];
        assert!(cached.hi - cached.lo <= 9, "{}..{}", cached.lo, cached.hi);
    }
}
