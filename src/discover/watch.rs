//! What targets stand for, kept: each look says what appeared, what changed and what left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::lookups::{Lookups, Question};
use crate::resolve::{Look, Resolver, Unresolved};
use crate::target::{lines, HostPort, Target, Targets, TARGETS_MAX};

/// Most endpoints of a target, and of all targets together.
pub const ENDPOINTS_MAX: usize = 256;
/// Largest file of targets.
pub const FILE_BYTES_MAX: u64 = 256 << 10;

/// Between two looks at the answers that [`Watch::refresh`] waits for.
const HEAR_PATIENCE: Duration = Duration::from_secs(1);

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
    /// Found at the last look, and not taken: there were too many.
    cut: usize,
    /// Of an SRV record: all of its targets, those without an address included.
    services: Vec<Endpoint>,
    /// Of them: whose lookups go on.
    awaited: BTreeSet<String>,
    /// One of these lookups failed.
    has_failed: bool,
    /// Why the last look brought nothing; it has been said.
    problem: Option<String>,
}

/// Targets, and what they stand for.
pub struct Watch {
    lookups: Lookups,
    given: Targets,
    files: BTreeMap<PathBuf, Vec<Target>>,
    /// As of the last look: no files, each once.
    targets: Vec<Target>,
    known: BTreeMap<Target, Known>,
    set: Vec<Endpoint>,
    found: usize,
    /// So many were said to be too many.
    too_many: usize,
}

impl Watch {
    /// Nothing is known before the first [`Watch::refresh`].
    pub fn new(targets: Targets, resolver: Resolver) -> Watch {
        Watch {
            lookups: Lookups::new(resolver),
            given: targets,
            files: BTreeMap::new(),
            targets: Vec::new(),
            known: BTreeMap::new(),
            set: Vec::new(),
            found: 0,
            too_many: 0,
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

    /// How many were found; more than are in the set when there were too many.
    pub fn found(&self) -> usize {
        self.found
    }

    /// Why targets brought nothing at the last look, a line each.
    pub fn problems(&self) -> Vec<String> {
        let known = self.known.iter();
        let problem = |(target, known): (&Target, &Known)| {
            known.problem.as_ref().map(|why| format!("{target}: {why}"))
        };
        known.filter_map(problem).collect()
    }

    /// Looks at every target, and waits for all answers. What fails, or brings nothing, stays as it was, and is logged
    /// the first time.
    pub fn refresh(&mut self) -> Changes {
        let before = self.set.clone();
        self.look();
        while self.is_waiting() {
            self.hear(HEAR_PATIENCE);
        }
        Changes::between(&before, &self.set)
    }

    /// Looks at every target: files and addresses at once, names each on a thread of its own, unless it is looked up
    /// already. [`Watch::hear`] takes the answers.
    pub fn look(&mut self) {
        self.targets = self.expand();
        for target in self.targets.clone() {
            match target.is_literal() {
                true => {
                    let question = Question::Given(target.clone());
                    let found = self.lookups.answer_here(&question);
                    self.take(&target, found);
                }
                false => self.lookups.ask(Question::Given(target)),
            }
        }
        let is_there: BTreeSet<&Target> =
            self.targets.iter().chain(self.given.as_slice()).collect();
        self.known.retain(|target, _| is_there.contains(target));
        self.settle();
    }

    /// Answers are to come.
    pub fn is_waiting(&self) -> bool {
        !self.lookups.is_idle()
    }

    /// Takes an answer that comes within this time, after which the set may be another one. False: none came.
    pub fn hear(&mut self, patience: Duration) -> bool {
        let Some((question, found)) = self.lookups.hear(patience) else {
            return false;
        };
        match question {
            Question::Given(target) if self.targets.contains(&target) => self.take(&target, found),
            Question::Of(target, at) if self.known.contains_key(&target) => {
                self.take_service(&target, &at.to_string(), found);
            }
            // It is not wanted any more.
            _ => {}
        }
        self.settle();
        true
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

    fn take(&mut self, target: &Target, found: Result<Look, Unresolved>) {
        let found = match found {
            Ok(found) => found,
            Err(Unresolved(why)) => return self.fail(target, why),
        };
        let known = self.known.entry(target.clone()).or_default();
        known.cut = found.cut;
        if let Target::Srv(_) = target {
            return self.take_services(target, found.endpoints);
        }
        known.endpoints = found.endpoints;
        self.well(target);
    }

    /// Targets of an SRV record: those that came without an address are looked up, and are where they were until then.
    fn take_services(&mut self, target: &Target, services: Vec<Endpoint>) {
        let known = self.known.entry(target.clone()).or_default();
        let before = std::mem::replace(&mut known.services, services);
        if known.awaited.is_empty() {
            known.has_failed = false;
        }
        let mut questions = Vec::new();
        for service in &mut known.services {
            let at = service.name.parse::<HostPort>();
            if let (true, Ok(at)) = (service.addrs.is_empty(), at) {
                let was = before.iter().find(|it| it.name == service.name);
                service.addrs = was.map_or_else(Vec::new, |it| it.addrs.clone());
                known.awaited.insert(service.name.clone());
                questions.push(Question::Of(target.clone(), at));
            }
        }
        known.rebuild();
        let is_whole = questions.is_empty() && known.awaited.is_empty();
        for question in questions {
            self.lookups.ask(question);
        }
        if is_whole {
            self.well(target);
        }
    }

    /// Where a target of an SRV record is. One that has no address now is where it was.
    fn take_service(&mut self, target: &Target, name: &str, found: Result<Look, Unresolved>) {
        let Some(known) = self.known.get_mut(target) else {
            return;
        };
        known.awaited.remove(name);
        let mut services = known.services.iter_mut();
        let Some(service) = services.find(|it| it.name == name) else {
            return;
        };
        match found {
            Ok(look) => {
                service.addrs = look.endpoints.into_iter().flat_map(|it| it.addrs).collect();
                known.rebuild();
                if known.awaited.is_empty() && !known.has_failed {
                    self.well(target);
                }
            }
            Err(_) => {
                known.has_failed = true;
                self.fail(target, format!("{name} has no address now"));
            }
        }
    }

    fn well(&mut self, target: &Target) {
        let known = self.known.get_mut(target);
        if known.is_some_and(|known| known.problem.take().is_some()) {
            log::info!("{target}: found again");
        }
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

    /// Makes the set of all that is known. Two targets may find the same.
    fn settle(&mut self) {
        let known = self
            .targets
            .iter()
            .filter_map(|target| self.known.get(target));
        let mut all: Vec<Endpoint> = Vec::new();
        let mut names = BTreeSet::new();
        let mut cut = 0;
        for known in known {
            cut += known.cut;
            for endpoint in &known.endpoints {
                if names.insert(endpoint.name.clone()) {
                    all.push(endpoint.clone());
                }
            }
        }
        self.found = all.len() + cut;
        all.truncate(ENDPOINTS_MAX);
        let (found, taken) = (self.found, all.len());
        if found > taken && found > self.too_many {
            log::warn!(
                "{}: {found} found, {taken} are taken, the most that there can be",
                self.given
            );
        }
        self.too_many = if found > taken {
            self.too_many.max(found)
        } else {
            0
        };
        self.set = all;
    }
}

impl Known {
    /// Services that have an address; those before while none has.
    fn rebuild(&mut self) {
        let placed = self.services.iter().filter(|it| !it.addrs.is_empty());
        let placed: Vec<Endpoint> = placed.cloned().collect();
        if !placed.is_empty() {
            self.endpoints = placed;
        }
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
