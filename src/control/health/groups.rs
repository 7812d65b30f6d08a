//! Groups of analyzers over HTTP: members come and go with a name ([`weir_discover`]).
//!
//! ```text
//!   name --Watcher, a thread each--> set --each half second--> appeared: an analyzer like any other, GROUP/MEMBER
//!                                                              left:     weight 0, removed when it has ACKed everything
//!   weight_is = group: the weight, divided among the members that are up
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::checks::Table;
use crate::core::Core;
use crate::executor::bell::News;
use crate::executor::time::sleep;
use crate::executor::Context;
use crate::lock::lock;
use crate::view::row::GroupStatus;
use weir_config::{Discover, HttpAnalyzer, Members, WeightIs, HTTP_ANALYZERS_MAX};
use weir_discover::{Endpoint, Resolver, Targets, Watch, Watcher, ENDPOINTS_MAX};
use weir_tls::SecuredLink;

/// How often groups are looked at.
const STEP: Duration = Duration::from_millis(500);
/// Groups at once: each has a thread.
const GROUPS_MAX: usize = 32;
/// What a member that left holds after that goes to others.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);

/// All groups.
pub struct Groups {
    table: Mutex<BTreeMap<String, Arc<Mutex<Group>>>>,
    /// As of the last look, for who cannot wait for one.
    seen: Mutex<BTreeMap<String, GroupStatus>>,
    /// How TLS is begun with their members, where it is spoken.
    links: Mutex<BTreeMap<String, Arc<SecuredLink>>>,
    resolver: Resolver,
}

struct Group {
    members: Members,
    weight: f64,
    watcher: Watcher,
    /// Of the set that it follows.
    version: u64,
    there: BTreeMap<Arc<str>, Member>,
    /// So many were said to be too many.
    said: usize,
    /// It was removed.
    is_over: bool,
}

#[derive(Default)]
struct Member {
    /// The weight that it was told last.
    told: Option<f64>,
    /// Since when it has left.
    left: Option<Instant>,
    /// Why it could not be added; said once.
    refused: Option<String>,
}

impl Groups {
    /// None yet.
    pub fn new(resolver: Resolver) -> Groups {
        Groups {
            table: Mutex::default(),
            seen: Mutex::default(),
            links: Mutex::default(),
            resolver,
        }
    }

    /// Follows another one.
    ///
    /// # Errors
    /// There are too many, or there is no thread.
    pub fn add(&self, id: &str, weight: f64, members: &Members) -> Result<(), String> {
        let mut table = lock(&self.table);
        if table.len() >= GROUPS_MAX {
            return Err(format!(
                "groups of analyzers over HTTP: {GROUPS_MAX} are configured, which is the most"
            ));
        }
        let targets = Targets::from(members.discover.target.clone());
        let watch = Watch::new(targets, self.resolver.clone());
        let watcher = Watcher::start(watch).map_err(|error| format!("no thread: {error}"))?;
        let group = Group {
            members: members.clone(),
            weight,
            watcher,
            version: 0,
            there: BTreeMap::new(),
            said: 0,
            is_over: false,
        };
        table.insert(id.to_owned(), Arc::new(Mutex::new(group)));
        if let Some(link) = members.discover.delivery.link() {
            lock(&self.links).insert(id.to_owned(), Arc::clone(link));
        }
        Ok(())
    }

    /// Ends one; the ids of its members. None: there is no such group.
    pub fn remove(&self, id: &str) -> Option<Vec<Arc<str>>> {
        let group = lock(&self.table).remove(id)?;
        lock(&self.seen).remove(id);
        lock(&self.links).remove(id);
        let mut group = lock(&group);
        group.is_over = true;
        Some(std::mem::take(&mut group.there).into_keys().collect())
    }

    /// Another weight, from the next step on.
    pub fn set_weight(&self, id: &str, weight: f64) {
        let group = lock(&self.table).get(id).cloned();
        if let Some(group) = group {
            lock(&group).weight = weight;
        }
    }

    /// How they stood at the last look.
    pub fn status(&self) -> Vec<GroupStatus> {
        lock(&self.seen).values().cloned().collect()
    }

    pub(super) fn links(&self) -> Vec<Arc<SecuredLink>> {
        lock(&self.links).values().cloned().collect()
    }

    /// An analyzer of this id is a member of one.
    pub(super) fn has_member(&self, id: &str) -> bool {
        let group = id.split_once('/');
        group.is_some_and(|(group, _)| lock(&self.table).contains_key(group))
    }

    fn is_empty(&self) -> bool {
        lock(&self.table).is_empty()
    }
}

/// Looks at all of them again and again, if there are any.
pub async fn run(context: Context) {
    loop {
        let has_some = || (!context.core.checks.groups.is_empty()).then_some(());
        context.core.bell.until(News::Change, has_some).await;
        let core = Arc::clone(&context.core);
        context.hand.run(move || step(&core)).await;
        sleep(STEP).await;
    }
}

/// One look. Waits for the shards.
fn step(core: &Arc<Core>) {
    let groups: Vec<_> = {
        let table = lock(&core.checks.groups.table);
        let each = table.iter();
        each.map(|(id, group)| (id.clone(), Arc::clone(group)))
            .collect()
    };
    for (id, group) in groups {
        let mut group = lock(&group);
        if !group.is_over {
            group.follow(core, &id);
            group.let_go(core);
            group.weigh(core);
            group.note(core, &id);
        }
    }
}

impl Group {
    /// Members for what is there; what is not there any more gets nothing new.
    fn follow(&mut self, core: &Arc<Core>, id: &str) {
        let version = self.watcher.version();
        let is_refused = |member: &Member| member.refused.is_some() && member.left.is_none();
        if version == self.version && !self.there.values().any(is_refused) {
            return;
        }
        self.version = version;
        let set = self.watcher.set();
        let name = |found: &Endpoint| -> Arc<str> {
            let member = self.members.discover.member(found);
            format!("{id}/{member}").into()
        };
        let found: BTreeMap<Arc<str>, &Endpoint> = set.iter().map(|it| (name(it), it)).collect();
        for (id, member) in &mut self.there {
            match (found.contains_key(id), member.left) {
                (true, Some(_)) => {
                    // It is back before it was gone.
                    *member = Member::default();
                }
                (false, None) => {
                    member.left = Some(Instant::now());
                    log::info!("analyzer {id} is not found any more: it gets nothing new");
                    core.checks.set_weight(id, 0.0);
                    core.own_weight(id, 0.0);
                }
                _ => {}
            }
        }
        let parts = Parts::new(self.weight, self.members.weight_is, 0, found.len());
        for (id, found) in found {
            let member = self.there.entry(Arc::clone(&id)).or_default();
            if !core.checks.has(&id) {
                appear(
                    core,
                    &id,
                    &self.members.discover,
                    found,
                    parts.coming,
                    member,
                );
            }
        }
    }

    /// Removes those that left and hold nothing any more.
    fn let_go(&mut self, core: &Core) {
        let leaving = self
            .there
            .iter()
            .filter_map(|(id, member)| Some((id, member.left?)));
        let leaving: Vec<(Arc<str>, Instant)> =
            leaving.map(|(id, at)| (Arc::clone(id), at)).collect();
        for (id, since) in leaving {
            // A step later, so that the shards have heard of its weight.
            let is_heard = since.elapsed() >= STEP;
            let is_late = since.elapsed() >= LEAVE_PATIENCE;
            if is_late || (is_heard && holds_nothing(core, &id)) {
                super::remove_one(core, &id);
                self.there.remove(&id);
                log::info!("analyzer {id} has gone");
            }
        }
    }

    /// How it stands, for all to see. That there are more members than have a place is said, and again when there are
    /// more.
    fn note(&mut self, core: &Core, id: &str) {
        let is_taken = |member: &&Member| member.left.is_none() && member.refused.is_none();
        let taken = self.there.values().filter(is_taken).count();
        let up = {
            let table = lock(&core.checks.table);
            self.there.keys().filter(|id| is_up(&table, id)).count()
        };
        let reports = core.data_plane.reports();
        let room = reports.first().map(|report| report.analyzers_max);
        let Some((analyzers_max, limit)) = room.filter(|(max, _)| *max > 0) else {
            return; // The shards have said nothing yet.
        };
        let found = self.watcher.found().max(taken);
        let problem = too_many(found, taken, up, analyzers_max, limit);
        let status = GroupStatus {
            id: id.into(),
            found,
            taken,
            up,
            analyzers_max,
            problem,
        };
        match &status.problem {
            Some(problem) if found > self.said => {
                self.said = found;
                log::warn!("group {id}: {problem}");
                core.tell("bad", &status.id, problem.clone());
            }
            Some(_) => {}
            None => self.said = 0,
        }
        // Unless it was removed meanwhile.
        if lock(&core.checks.groups.table).contains_key(id) {
            lock(&core.checks.groups.seen).insert(id.to_owned(), status);
        }
    }

    /// Tells each member its weight when that is another.
    fn weigh(&mut self, core: &Core) {
        let ramping: Vec<Arc<str>> = {
            let now_ns = weir_ledger::run_report::Stamp::now().mono_ns;
            let ramps = lock(&core.ramps).status(now_ns);
            ramps.into_iter().map(|ramp| ramp.analyzer).collect()
        };
        let is_there = |member: &Member| member.left.is_none() && member.refused.is_none();
        let there = self.there.iter().filter(|(_, member)| is_there(member));
        let (there, up) = {
            let table = lock(&core.checks.table);
            let ids: BTreeSet<Arc<str>> = there.map(|(id, _)| Arc::clone(id)).collect();
            let up = ids.iter().filter(|id| is_up(&table, id)).cloned();
            (ids.len(), up.collect::<BTreeSet<_>>())
        };
        let parts = Parts::new(self.weight, self.members.weight_is, up.len(), there);
        for (id, member) in &mut self.there {
            let weight = match up.contains(id) {
                true => parts.up,
                false => parts.coming,
            };
            if !is_there(member) || member.told == Some(weight) {
                continue;
            }
            // That it comes up with, if it is not.
            core.checks.set_weight(id, weight);
            if !ramping.contains(id) {
                core.own_weight(id, weight);
                member.told = Some(weight);
            }
        }
    }
}

/// What is wrong when more members were found than have a place.
fn too_many(
    found: usize,
    taken: usize,
    up: usize,
    analyzers_max: usize,
    limit: &str,
) -> Option<String> {
    if found <= taken && taken <= analyzers_max {
        return None;
    }
    let mut text = format!("{found} members found, {taken} taken");
    if found > taken {
        text.push_str(&format!(
            " (at most {ENDPOINTS_MAX} of a name, and {HTTP_ANALYZERS_MAX} analyzers over HTTP)"
        ));
    }
    if taken > analyzers_max {
        text.push_str(&format!(
            ", {up} up: a shard serves {analyzers_max} analyzers, {limit}"
        ));
    }
    Some(text)
}

/// Weights of members.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Parts {
    /// Of one that is up.
    up: f64,
    /// Of one that is not, which it comes up with. All of a group may come up between two looks, and are not to have
    /// more than the group's weight then.
    coming: f64,
}

impl Parts {
    /// `up` of `there` members are up.
    fn new(weight: f64, weight_is: WeightIs, up: usize, there: usize) -> Parts {
        let among = |count: usize| match weight_is {
            WeightIs::Member => weight,
            WeightIs::Group => weight / count.max(1) as f64,
        };
        Parts {
            up: among(up),
            coming: among(there),
        }
    }
}

fn appear(
    core: &Arc<Core>,
    id: &Arc<str>,
    discover: &Discover,
    found: &Endpoint,
    weight: f64,
    member: &mut Member,
) {
    let analyzer = discover
        .place(found)
        .and_then(|endpoint| HttpAnalyzer::new(id, endpoint, weight));
    let added = analyzer.and_then(|analyzer| super::add_one(core, &analyzer, true));
    match added {
        Ok(()) => {
            log::info!("analyzer {id} was found");
            *member = Member::default();
        }
        Err(why) => {
            if member.refused.is_none() {
                log::warn!("analyzer {id} was found, and cannot be taken in: {why}");
            }
            member.refused = Some(why);
        }
    }
}

fn is_up(table: &Table, id: &str) -> bool {
    table.checked.get(id).is_some_and(|one| one.up.is_some())
}

/// Nothing is on its way to it, and nothing waits for it.
fn holds_nothing(core: &Core, id: &str) -> bool {
    let state = core.state();
    let mut rows = state.rows.iter().filter(|row| *row.id == *id);
    rows.all(|row| row.in_flight == 0 && row.queued == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_without_a_place_are_said_with_what_allows_more() {
        let arena = "the arena serves no more (--arena)";
        let say = |found, taken, up, max| too_many(found, taken, up, max, arena);
        assert_eq!(say(85, 85, 85, 85), None);
        let text = say(300, 256, 85, 85).expect("too many");
        assert_eq!(
            text,
            "300 members found, 256 taken (at most 256 of a name, and 256 analyzers over HTTP), 85 up: a shard serves \
             85 analyzers, the arena serves no more (--arena)"
        );
        let text = say(90, 90, 85, 85).expect("too many");
        assert_eq!(
            text,
            "90 members found, 90 taken, 85 up: a shard serves 85 analyzers, the arena serves no more (--arena)"
        );
        let text = say(300, 256, 256, 500).expect("too many");
        assert!(text.ends_with("256 analyzers over HTTP)"), "{text}");
    }

    #[test]
    fn members_that_come_up_together_have_no_more_than_the_groups_weight() {
        let parts = Parts::new(0.6, WeightIs::Group, 0, 3);
        assert!((parts.coming * 3.0 - 0.6).abs() < 1e-9, "{parts:?}");
        let parts = Parts::new(0.6, WeightIs::Group, 2, 3);
        assert!((parts.up * 2.0 - 0.6).abs() < 1e-9, "{parts:?}");
        assert!((parts.coming - 0.2).abs() < 1e-9, "{parts:?}");
        let parts = Parts::new(0.6, WeightIs::Member, 2, 3);
        assert_eq!((parts.up, parts.coming), (0.6, 0.6));
    }
}
