//! Files into evidence. A file that cannot be used is named, with what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::{is_journal, Reader, Union};
use crate::run_report::{
    sha256_hex, Analyzer, Distributor, Emitter, Fault, JournalFile, RunReport,
};

/// Everything that an audit goes by.
pub struct Evidence {
    /// Run reports of distributors, and where they were.
    pub distributors: Vec<(PathBuf, Distributor)>,
    /// Run reports of emitters.
    pub emitters: Vec<(PathBuf, Emitter)>,
    /// Run reports of analyzers; one that was killed has none.
    pub analyzers: Vec<(PathBuf, Analyzer)>,
    /// Journals of analyzers.
    pub journals: Union,
}

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    /// The file; empty: the files together.
    pub path: PathBuf,
    /// Field, value, and what is allowed; or what the kernel said.
    pub why: String,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_os_str().is_empty() {
            return f.write_str(&self.why);
        }
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

#[derive(Default)]
struct Loader {
    distributors: Vec<(PathBuf, Distributor)>,
    emitters: Vec<(PathBuf, Emitter)>,
    analyzers: Vec<(PathBuf, Analyzer)>,
    journals: BTreeMap<[u8; 16], Reader>,
    bad: Vec<BadFile>,
}

/// Reads run reports and journals; for a directory, the journals in it; for an analyzer's
/// run report, the journals that it names.
///
/// # Errors
/// All files that cannot be used, or kinds of run reports without which nothing can be joined.
pub fn load(paths: &[PathBuf]) -> Result<Evidence, Vec<BadFile>> {
    let mut loader = Loader::default();
    for path in paths {
        if let Err(why) = loader.add(path) {
            loader.refuse(path, why);
        }
    }
    loader.check_once();
    loader.check_named_journals();
    if loader.bad.is_empty() {
        loader.check_complete();
    }
    if !loader.bad.is_empty() {
        return Err(loader.bad);
    }
    Ok(Evidence {
        distributors: loader.distributors,
        emitters: loader.emitters,
        analyzers: loader.analyzers,
        journals: Union::new(loader.journals.into_values().collect()),
    })
}

impl Loader {
    fn refuse(&mut self, path: &Path, why: impl ToString) {
        self.bad.push(BadFile {
            path: path.to_owned(),
            why: why.to_string(),
        });
    }

    fn add(&mut self, path: &Path) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        if path.is_dir() {
            return self.add_directory(path);
        }
        if is_journal(path).map_err(text)? {
            return self.add_journal(path).map(drop);
        }
        let bytes = fs::read(path).map_err(text)?;
        let report = RunReport::parse(&bytes).map_err(|fault| fault.to_string())?;
        let path = path.to_owned();
        match report {
            RunReport::Distributor(it) => self.distributors.push((path, *it)),
            RunReport::Emitter(it) => self.emitters.push((path, *it)),
            RunReport::Analyzer(it) => self.analyzers.push((path, *it)),
        }
        Ok(())
    }

    fn add_directory(&mut self, path: &Path) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let entries = fs::read_dir(path).map_err(text)?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(text)?;
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "journal"));
        paths.sort();
        if paths.is_empty() {
            return Err("this directory has no files named *.journal".into());
        }
        for path in paths {
            if let Err(why) = self.add_journal(&path) {
                self.refuse(&path, why);
            }
        }
        Ok(())
    }

    /// Opens a journal, unless it is open already; its uuid.
    fn add_journal(&mut self, path: &Path) -> Result<[u8; 16], String> {
        let reader = Reader::open(path).map_err(|error| error.to_string())?;
        let uuid = reader.head.uuid;
        if let Some(known) = self.journals.get(&uuid) {
            if !is_same_file(&known.path, path) {
                let field = Fault::new(
                    "uuid",
                    format!("{}, as in {}", reader.head.uuid_hex(), known.path.display()),
                    "each journal once, and no copies",
                );
                return Err(field.to_string());
            }
            return Ok(uuid);
        }
        self.journals.insert(uuid, reader);
        Ok(uuid)
    }

    /// Nothing may be counted twice.
    fn check_once(&mut self) {
        let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut bad = Vec::new();
        let mut once = |key: String, field: String, value: &str, path: &PathBuf| {
            if let Some(first) = seen.insert(key, path.clone()) {
                let value = format!("{value}, as in {}", first.display());
                let fault = Fault::new(field, value, "what no other run report has");
                bad.push((path.clone(), fault.to_string()));
            }
        };
        for (path, it) in &self.distributors {
            let key = format!("instance {}", it.instance);
            once(key, "instance".into(), &it.instance, path);
        }
        for (path, it) in &self.emitters {
            for (index, stream) in it.streams.iter().enumerate() {
                let key = format!("stream {}", stream.stream);
                once(
                    key,
                    format!("streams[{index}].stream"),
                    &stream.stream,
                    path,
                );
            }
        }
        for (path, why) in bad {
            self.refuse(&path, why);
        }
    }

    /// The journals that analyzers' run reports name are there, and are what they were.
    fn check_named_journals(&mut self) {
        let named: Vec<(PathBuf, usize, JournalFile)> = self
            .analyzers
            .iter()
            .flat_map(|(path, it)| {
                let journals = it.journals.iter().cloned().enumerate();
                journals.map(|(index, journal)| (path.clone(), index, journal))
            })
            .collect();
        for (path, index, journal) in named {
            if let Err(why) = self.check_named(&path, index, &journal) {
                self.refuse(&path, why);
            }
        }
    }

    fn check_named(
        &mut self,
        report: &Path,
        index: usize,
        named: &JournalFile,
    ) -> Result<(), String> {
        let field = |name: &str| format!("journals[{index}].{name}");
        let base = report.parent().unwrap_or(Path::new(""));
        let path = base.join(&named.file);
        let by_uuid = self
            .journals
            .values()
            .find(|reader| reader.head.uuid_hex() == named.uuid);
        let uuid = match by_uuid {
            Some(reader) => reader.head.uuid,
            None => self.add_journal(&path).map_err(|why| {
                Fault::new(field("file"), format!("{:?}: {why}", named.file), "").to_string()
            })?,
        };
        let reader = &self.journals[&uuid];
        let found = reader.head.uuid_hex();
        if found != named.uuid {
            return Err(Fault::new(field("uuid"), &named.uuid, found).to_string());
        }
        let generation = reader.head.generation;
        if generation > named.generation {
            return Ok(()); // The analyzer ran again: the journal has more than the run report says.
        }
        if generation < named.generation {
            let allowed = format!("{generation} or less, as the journal has");
            return Err(Fault::new(field("generation"), named.generation, allowed).to_string());
        }
        let digest = reader
            .contents()
            .and_then(|mut contents| sha256_hex(&mut contents));
        let digest = digest.map_err(|error| format!("{}: {error}", path.display()))?;
        if digest != named.sha256 {
            let allowed = format!("{digest}, the digest of {}", reader.path.display());
            return Err(Fault::new(field("sha256"), &named.sha256, allowed).to_string());
        }
        Ok(())
    }

    fn check_complete(&mut self) {
        let missing = [
            (self.distributors.is_empty(), "distributor's run report"),
            (self.emitters.is_empty(), "emitter's run report"),
            (self.journals.is_empty(), "analyzer's run report or journal"),
        ];
        for (is_missing, what) in missing {
            if is_missing {
                let why = format!("no {what} among the files: at least one of each is needed");
                self.refuse(Path::new(""), why);
            }
        }
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}
