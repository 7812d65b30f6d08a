//! What targets stand for, kept: each look says what appeared, what changed and what left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::endpoint::Endpoint;
use crate::resolve::{Resolver, Unresolved};
use crate::target::{lines, Target, Targets, TARGETS_MAX};

/// Most endpoints of a target, and of all targets together.
pub const ENDPOINTS_MAX: usize = 256;
/// Largest file of targets.
pub const FILE_BYTES_MAX: u64 = 256 << 10;

/// What a look found to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Not there before.
    pub appeared: Vec<Endpoint>,
    /// There before under the same name, with other addresses, priority or weight.
    pub moved: Vec<Endpoint>,
    /// There before and not now.
    pub left: Vec<Endpoint>,
}

impl Changes {
    /// From one set to another.
    pub fn between(old: &[Endpoint], new: &[Endpoint]) -> Changes {
        let is_in = |set: &[Endpoint], name: &str| set.iter().any(|it| it.name == name);
        let of = |set: &[Endpoint], keep: &dyn Fn(&Endpoint) -> bool| {
            let kept = set.iter().filter(|it| keep(it));
            kept.cloned().collect::<Vec<_>>()
        };
        Changes {
            appeared: of(new, &|it| !is_in(old, &it.name)),
            moved: of(new, &|it| is_in(old, &it.name) && !old.contains(it)),
            left: of(old, &|it| !is_in(new, &it.name)),
        }
    }

    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.moved.is_empty() && self.left.is_empty()
    }
}

/// What is known of one target.
#[derive(Default)]
struct Known {
    endpoints: Vec<Endpoint>,
    /// Why the last look brought nothing; it has been said.
    problem: Option<String>,
}

/// Targets, and what they stand for.
pub struct Watch {
    resolver: Resolver,
    given: Targets,
    files: BTreeMap<PathBuf, Vec<Target>>,
    known: BTreeMap<Target, Known>,
    set: Vec<Endpoint>,
    is_full: bool,
}

impl Watch {
    /// Nothing is known before the first [`Watch::refresh`].
    pub fn new(targets: Targets, resolver: Resolver) -> Watch {
        Watch {
            resolver,
            given: targets,
            files: BTreeMap::new(),
            known: BTreeMap::new(),
            set: Vec::new(),
            is_full: false,
        }
    }

    /// What it watches.
    pub fn targets(&self) -> &Targets {
        &self.given
    }

    /// What is there, in the order of the targets; at most [`ENDPOINTS_MAX`].
    pub fn set(&self) -> &[Endpoint] {
        &self.set
    }

    /// Why targets brought nothing at the last look, a line each.
    pub fn problems(&self) -> Vec<String> {
        let known = self.known.iter();
        let problem = |(target, known): (&Target, &Known)| {
            known.problem.as_ref().map(|why| format!("{target}: {why}"))
        };
        known.filter_map(problem).collect()
    }

    /// Looks at every target, on this thread. What fails, or brings nothing, stays as it was, and is logged the first
    /// time.
    pub fn refresh(&mut self) -> Changes {
        self.refresh_telling(|_| ())
    }

    /// The same, and tells what is there before it waits for a nameserver again: a name that nobody answers for holds
    /// up no other target. Addresses come first, which nobody is asked for.
    pub fn refresh_telling(&mut self, mut tell: impl FnMut(&[Endpoint])) -> Changes {
        let targets = self.expand();
        let (mut in_turn, names): (Vec<&Target>, Vec<&Target>) =
            targets.iter().partition(|target| target.is_literal());
        in_turn.extend(names);
        for target in in_turn {
            if !target.is_literal() {
                tell(&self.collect(&targets));
            }
            let found = self.resolver.resolve(target);
            self.take(target, found);
        }
        let is_there: BTreeSet<&Target> = targets.iter().chain(self.given.as_slice()).collect();
        self.known.retain(|target, _| is_there.contains(target));
        let set = self.collect(&targets);
        let changes = Changes::between(&self.set, &set);
        self.set = set;
        changes
    }

    /// Targets that are no files, each once.
    fn expand(&mut self) -> Vec<Target> {
        let mut all = Vec::new();
        for target in self.given.as_slice().to_vec() {
            let Target::File(path) = &target else {
                all.push(target);
                continue;
            };
            match read_file(path) {
                Ok(lines) => {
                    self.files.insert(path.clone(), lines);
                    self.known.entry(target.clone()).or_default().problem = None;
                }
                Err(why) => self.fail(&target, why),
            }
            all.extend(self.files.get(path).into_iter().flatten().cloned());
        }
        let mut seen = BTreeSet::new();
        all.retain(|target| seen.insert(target.clone()));
        all.truncate(TARGETS_MAX);
        all
    }

    fn take(&mut self, target: &Target, found: Result<Vec<Endpoint>, Unresolved>) {
        let found = match found {
            Ok(found) => found,
            Err(Unresolved(why)) => return self.fail(target, why),
        };
        let known = self.known.entry(target.clone()).or_default();
        let mut endpoints = Vec::new();
        let mut without = None;
        for mut endpoint in found {
            if endpoint.addrs.is_empty() {
                // Its record is there, its address is not known now: where it was.
                let before = known.endpoints.iter().find(|it| it.name == endpoint.name);
                endpoint.addrs = before.map_or_else(Vec::new, |it| it.addrs.clone());
                without = Some(endpoint.name.clone());
            }
            if !endpoint.addrs.is_empty() {
                endpoints.push(endpoint);
            }
        }
        if let Some(name) = without {
            if endpoints.is_empty() {
                return self.fail(target, format!("{name} has no address"));
            }
            known.endpoints = endpoints;
            return self.fail(target, format!("{name} has no address now"));
        }
        if known.problem.take().is_some() {
            log::info!("{target}: found again");
        }
        known.endpoints = endpoints;
    }

    /// Says it once.
    fn fail(&mut self, target: &Target, why: String) {
        let known = self.known.entry(target.clone()).or_default();
        if known.problem.is_none() {
            let count = match target {
                Target::File(path) => self.files.get(path).map_or(0, Vec::len),
                _ => known.endpoints.len(),
            };
            match count {
                0 => log::warn!("{target}: {why}; it is looked for until it is found"),
                count => log::warn!("{target}: {why}; what was found before stays ({count})"),
            }
        }
        known.problem = Some(why);
    }

    /// Two targets may find the same.
    fn collect(&mut self, targets: &[Target]) -> Vec<Endpoint> {
        let known = targets.iter().filter_map(|target| self.known.get(target));
        let mut all: Vec<Endpoint> = Vec::new();
        let mut names = BTreeSet::new();
        for endpoint in known.flat_map(|known| &known.endpoints) {
            if names.insert(endpoint.name.clone()) {
                all.push(endpoint.clone());
            }
        }
        let count = all.len();
        if count > ENDPOINTS_MAX && !self.is_full {
            log::warn!("{}: {count} found, {ENDPOINTS_MAX} are taken", self.given);
        }
        self.is_full = count > ENDPOINTS_MAX;
        all.truncate(ENDPOINTS_MAX);
        all
    }
}

/// # Errors
/// It cannot be read, is too large, names nothing, or has a line that is no target.
fn read_file(path: &Path) -> Result<Vec<Target>, String> {
    let mut bytes = Vec::new();
    // A FIFO would keep whoever opens it.
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no regular file".into());
    }
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is no text in UTF-8".to_owned())?;
    let targets = lines(&text)?;
    match targets.is_empty() {
        true => Err("it names no target".into()),
        false => Ok(targets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_testkit::Scratch;

    fn names(set: &[Endpoint]) -> Vec<&str> {
        set.iter().map(|it| &it.name[..]).collect()
    }

    #[test]
    fn a_file_is_read_again_and_nothing_wrong_with_it_changes_anything() {
        let scratch = Scratch::new("discover-file");
        let path = scratch.path("replicas");
        let write = |text: &str| std::fs::write(&path, text).expect("writes");
        let targets: Targets = format!("file+{},127.0.0.9:1", path.display())
            .parse()
            .expect("targets");
        let mut watch = Watch::new(targets, Resolver::default());
        let changes = watch.refresh();
        assert_eq!(names(&changes.appeared), ["127.0.0.9:1"], "no file yet");
        assert!(
            watch.problems()[0].contains("replicas"),
            "{:?}",
            watch.problems()
        );
        write("127.0.0.1:8081\n127.0.0.2:8081\n");
        let changes = watch.refresh();
        assert_eq!(
            names(&changes.appeared),
            ["127.0.0.1:8081", "127.0.0.2:8081"]
        );
        for wrong in ["", "# nothing\n", "127.0.0.3:8081\nnonsense\n"] {
            write(wrong);
            assert!(watch.refresh().is_empty(), "{wrong:?}");
            assert_eq!(watch.set().len(), 3, "{wrong:?}");
        }
        std::fs::remove_file(&path).expect("removes");
        assert!(watch.refresh().is_empty());
        write("127.0.0.2:8081\n127.0.0.9:1\n");
        let changes = watch.refresh();
        assert_eq!(names(&changes.left), ["127.0.0.1:8081"]);
        assert_eq!(names(watch.set()), ["127.0.0.2:8081", "127.0.0.9:1"]);
        assert!(watch.problems().is_empty());
    }

    #[test]
    fn a_fifo_is_no_file_and_keeps_nobody() {
        let scratch = Scratch::new("discover-fifo");
        let path = scratch.path("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()));
        let targets = format!("file+{},127.0.0.9:1", path.display());
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut watch = Watch::new(targets.parse().expect("targets"), Resolver::default());
            watch.refresh();
            let _ = done.send((watch.problems(), watch.set().len()));
        });
        let patience = std::time::Duration::from_secs(10);
        let (problems, count) = is_done.recv_timeout(patience).expect("it came back");
        assert!(problems[0].contains("no regular file"), "{problems:?}");
        assert_eq!(count, 1, "the others are there");
    }

    #[test]
    fn what_a_look_finds_is_bounded() {
        let scratch = Scratch::new("discover-many");
        let path = scratch.path("replicas");
        let line = |n: usize| format!("127.1.{}.{}:1\n", n / 200, n % 200);
        let text: String = (0..ENDPOINTS_MAX + 5).map(line).collect();
        std::fs::write(&path, text).expect("writes");
        let targets: Targets = format!("file+{}", path.display()).parse().expect("one");
        let mut watch = Watch::new(targets, Resolver::default());
        watch.refresh();
        assert_eq!(watch.set().len(), ENDPOINTS_MAX);
    }

    #[test]
    fn changes_tell_apart_what_moved() {
        let at = |name: &str, port| {
            Endpoint::new(
                name.into(),
                vec![std::net::SocketAddr::from(([127, 0, 0, 1], port))],
            )
        };
        let (old, new) = (
            [at("a", 1), at("b", 1), at("c", 1)],
            [at("b", 1), at("c", 2), at("d", 1)],
        );
        let changes = Changes::between(&old, &new);
        assert_eq!(names(&changes.appeared), ["d"]);
        assert_eq!(names(&changes.moved), ["c"]);
        assert_eq!(names(&changes.left), ["a"]);
    }
}
