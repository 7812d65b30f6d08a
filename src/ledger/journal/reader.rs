//! Reads a journal, also one that is being written.

use super::page::{decode_page, invalid, BITS_AT, BYTES_MAX, HEAD_MAGIC, PAGE_BYTES};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use super::page::Head;

/// A page's plane and where it is, in pages from the start of the file.
pub(super) type Place = (u8, u64);

/// A journal and where each of its pages is.
pub struct Reader {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub head: Head,
    /// Length in bytes when it was opened.
    pub bytes: u64,
    pub(super) file: File,
    /// By stream and page.
    pub(super) places: HashMap<Box<[u8]>, HashMap<u64, Vec<Place>>>,
}

impl Reader {
    /// Opens a journal. A page that was cut at the end is left out: its messages were not ACKed.
    ///
    /// # Errors
    /// It cannot be read, or it is no sound journal.
    pub fn open(path: &Path) -> io::Result<Reader> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let pages = bytes.min(BYTES_MAX) / PAGE_BYTES as u64;
        let mut places: HashMap<Box<[u8]>, HashMap<u64, Vec<Place>>> = HashMap::new();
        let head = scan(&file, pages, |plane, page, name, at| {
            if !places.contains_key(name) {
                places.insert(name.into(), HashMap::new());
            }
            if let Some(stream) = places.get_mut(name) {
                stream.entry(page).or_default().push((plane, at));
            }
        })?;
        Ok(Reader {
            path: path.to_owned(),
            head,
            bytes,
            file,
            places,
        })
    }

    /// The file from its start, as it is on disk now.
    ///
    /// # Errors
    /// It cannot be opened again.
    pub fn contents(&self) -> io::Result<impl Read> {
        Ok(File::open(&self.path)?.take(self.bytes))
    }
}

/// Whether a file begins as journals do.
///
/// # Errors
/// It cannot be read.
pub fn is_journal(path: &Path) -> io::Result<bool> {
    let mut start = [0; HEAD_MAGIC.len()];
    match File::open(path)?.read_exact(&mut start) {
        Ok(()) => Ok(&start == HEAD_MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells plane, page, stream name and place of every page of a file that has `pages` pages.
pub(super) fn scan(
    file: &File,
    pages: u64,
    mut found: impl FnMut(u8, u64, &[u8], u64),
) -> io::Result<Head> {
    let mut head = [0; PAGE_BYTES];
    file.read_exact_at(&mut head, 0)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => invalid("is not a journal: it has no head".into()),
            _ => error,
        })?;
    let head = Head::decode(&head)?;
    let mut start = [0; BITS_AT];
    for at in 1..pages {
        file.read_exact_at(&mut start, at * PAGE_BYTES as u64)?;
        let decoded = decode_page(&start)
            .map_err(|error| invalid(format!("byte {}: {error}", at * PAGE_BYTES as u64)))?;
        if let Some((plane, page, name)) = decoded {
            found(plane, page, name, at);
        }
    }
    Ok(head)
}
