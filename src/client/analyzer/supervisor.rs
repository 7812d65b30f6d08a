//! The supervisor: a group of links for each distributor that there is.
//!
//! ```text
//!   discovery: appeared --> a group, its first link
//!              left     --> nobody hangs up: what is to be ACKed is ACKed; the group goes when its links have ended
//!   group: shard without a link --> a link
//! ```

use super::group::Group;
use super::link::Link;
use super::{Options, Shared};
use crate::analyzer::Counts;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use weir_discover::{Endpoint, Resolver, Targets, Watch, Watcher};
use weir_protocol::WeightText;

/// How often the supervisor looks at its links.
const SUPERVISE_EVERY: Duration = Duration::from_millis(10);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
const PROGRESS_EVERY_VERBOSE: Duration = Duration::from_secs(1);
/// More shards than any machine has; what a WELCOME says is bounded by it.
const SHARDS_MAX: u16 = 1_024;
/// Links of all groups: each is a thread, with a read buffer of 256 KiB.
const LINKS_MAX: usize = 4_096;

/// See the head of this file.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    groups: Vec<Attended>,
    /// Of the set that the groups are made of.
    version: u64,
    groups_so_far: u64,
    peak: usize,
    is_full: bool,
    counts: Counts,
}

/// A group and its threads.
struct Attended {
    group: Arc<Group>,
    /// By shard; `None` is the first link, which takes the shard it is given.
    links: BTreeMap<Option<u16>, JoinHandle<Counts>>,
    /// Shards that had a link: without `reconnect` they get no second one.
    opened: BTreeSet<u16>,
    /// So for the first one.
    had_first: bool,
}

impl Attended {
    fn new(group: Group) -> Attended {
        Attended {
            group: Arc::new(group),
            links: BTreeMap::new(),
            opened: BTreeSet::new(),
            had_first: false,
        }
    }

    /// Takes the links out whose threads have ended.
    fn take_ended(&mut self) -> Vec<JoinHandle<Counts>> {
        let links = self.links.iter();
        let ended = links.filter(|(_, link)| link.is_finished());
        let ended: Vec<_> = ended.map(|(shard, _)| *shard).collect();
        let take = |shard| self.links.remove(&shard);
        ended.into_iter().filter_map(take).collect()
    }
}

impl Supervisor {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// `options.addr` is no target, or a thread cannot be started.
    pub(super) fn new(options: &Options, stop: &Arc<AtomicBool>) -> io::Result<Supervisor> {
        let targets: Targets = options.addr.parse().map_err(io::Error::other)?;
        let resolver = Resolver::new(options.nameservers.clone());
        let (watcher, groups) = match targets.single().cloned() {
            Some(at) => (None, vec![Attended::new(Group::plain(at, resolver))]),
            None => {
                let watcher = Watcher::start(Watch::new(targets, resolver))?;
                (Some(watcher), Vec::new())
            }
        };
        Ok(Supervisor {
            shared: Arc::new(Shared::new(options, watcher)),
            stop: Arc::clone(stop),
            groups,
            version: 0,
            groups_so_far: 0,
            peak: 0,
            is_full: false,
            counts: Counts::default(),
        })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Links open at the same time, at most.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Until it is over, and every link has ended.
    ///
    /// # Errors
    /// A link's thread panicked or cannot be started.
    pub(super) fn run(&mut self) -> io::Result<Counts> {
        self.watch()?;
        for attended in std::mem::take(&mut self.groups) {
            for (_, link) in attended.links {
                self.counts.add(&joined(link)?);
            }
        }
        Ok(self.counts)
    }

    /// Until it is over: links to every shard of every distributor, progress in the log.
    fn watch(&mut self) -> io::Result<()> {
        let every = match self.shared.options.verbose {
            true => PROGRESS_EVERY_VERBOSE,
            false => PROGRESS_EVERY,
        };
        let (mut next_progress, mut logged) = (Instant::now() + every, 0);
        while !self.stop.load(Ordering::Acquire) && !self.shared.over.load(Ordering::Acquire) {
            self.follow_discovery();
            for index in 0..self.groups.len() {
                for link in self.groups[index].take_ended() {
                    self.counts.add(&joined(link)?);
                }
                self.open_missing(index)?;
            }
            self.forget_gone();
            if self.is_spent() {
                break;
            }
            if Instant::now() >= next_progress {
                logged = self.log_progress(logged, every);
                next_progress += every;
            }
            thread::sleep(SUPERVISE_EVERY);
        }
        Ok(())
    }

    /// Without `reconnect`: every link has ended, or discovery found nothing.
    fn is_spent(&self) -> bool {
        if self.shared.options.reconnect {
            return false;
        }
        let has_looked = match &self.shared.watcher {
            Some(watcher) => watcher.looks() > 0 && watcher.version() == self.version,
            None => true,
        };
        has_looked && self.groups.iter().all(|it| it.links.is_empty())
    }

    /// Groups for what appeared; what left is only marked.
    fn follow_discovery(&mut self) {
        let Some(watcher) = &self.shared.watcher else {
            return;
        };
        let version = watcher.version();
        if version == self.version {
            return;
        }
        self.version = version;
        let set = watcher.set();
        for attended in &self.groups {
            let group = &attended.group;
            let found = set.iter().find(|it| it.name == group.name);
            let had_left = group.set_left(found.is_none());
            match found {
                Some(endpoint) => group.moved(endpoint),
                None if !had_left => log::info!(
                    "{}: {} is not found any more; its links stay until they end",
                    self.shared.options.id,
                    group.name
                ),
                None => {}
            }
        }
        for endpoint in set.iter() {
            self.appeared(endpoint);
        }
    }

    fn appeared(&mut self, endpoint: &Endpoint) {
        let is_known = |attended: &Attended| attended.group.name == endpoint.name;
        if self.groups.iter().any(is_known) {
            return;
        }
        self.groups_so_far += 1;
        log::info!("{}: found {endpoint}", self.shared.options.id);
        let group = Group::found(self.groups_so_far, endpoint);
        self.groups.push(Attended::new(group));
    }

    /// The first link, and one to each shard that has none once a WELCOME told how many there are.
    fn open_missing(&mut self, index: usize) -> io::Result<()> {
        let reconnect = self.shared.options.reconnect;
        let attended = &self.groups[index];
        let group = Arc::clone(&attended.group);
        if group.has_left() {
            return Ok(());
        }
        let had_first = attended.had_first && !reconnect;
        if !attended.links.contains_key(&None) && !had_first {
            group.first_shard.store(u64::MAX, Ordering::Release);
            self.spawn(index, None)?;
        }
        let first = group.first_shard.load(Ordering::Acquire);
        let shard_count = group.shard_count.load(Ordering::Acquire);
        let shard_count = u16::try_from(shard_count)
            .unwrap_or(SHARDS_MAX)
            .min(SHARDS_MAX);
        for shard in 0..shard_count {
            let attended = &self.groups[index];
            let has_link = u64::from(shard) == first || attended.links.contains_key(&Some(shard));
            let had_link = attended.opened.contains(&shard) && !reconnect;
            // Before the first one knows its shard, it may be this one.
            if !has_link && !had_link && first != u64::MAX {
                self.spawn(index, Some(shard))?;
            }
        }
        Ok(())
    }

    fn spawn(&mut self, index: usize, shard: Option<u16>) -> io::Result<()> {
        let count: usize = self.groups.iter().map(|it| it.links.len()).sum();
        if count >= LINKS_MAX {
            if !std::mem::replace(&mut self.is_full, true) {
                let id = &self.shared.options.id;
                log::warn!(
                    "{id}: {LINKS_MAX} links are open, which is the most; no more are opened"
                );
            }
            return Ok(());
        }
        let group = Arc::clone(&self.groups[index].group);
        let mut link = Link::new(
            shard,
            Arc::clone(&self.shared),
            group,
            Arc::clone(&self.stop),
        )?;
        let name = shard.map_or("link".into(), |shard| format!("link-{shard}"));
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || link.run())?;
        let attended = &mut self.groups[index];
        attended.links.insert(shard, thread);
        attended.had_first = true;
        attended.opened.extend(shard);
        self.peak = self.peak.max(count + 1);
        Ok(())
    }

    /// Groups that discovery does not find any more, and whose links have ended.
    fn forget_gone(&mut self) {
        let id = &self.shared.options.id;
        self.groups.retain(|attended| {
            let is_gone = attended.group.has_left() && attended.links.is_empty();
            if is_gone {
                log::info!("{id}: {} has gone", attended.group.name);
            }
            !is_gone
        });
    }

    fn log_progress(&self, logged: u64, every: Duration) -> u64 {
        let messages = self.shared.messages.load(Ordering::Relaxed);
        if messages > logged || self.shared.options.verbose {
            let rate = (messages - logged) as f64 / every.as_secs_f64();
            let (id, weight) = (&self.shared.options.id, WeightText(self.shared.weight()));
            let delays = self.shared.take_delays();
            log::info!("{id}: Processed {messages} messages, {rate:.0}/s, weight {weight}{delays}");
        }
        messages
    }
}

fn joined(link: JoinHandle<Counts>) -> io::Result<Counts> {
    link.join()
        .map_err(|_| io::Error::other("a link thread panicked"))
}
