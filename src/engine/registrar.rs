//! The keeper of the roster, on shard 0: links and the operator change it, each change makes a new table.
//!
//! ```text
//! link up, down, weight, drain -> Change -.
//!                                         +-> entries, pins, drains -> Roster, epoch + 1
//! weir ctl, health checks ------> Order --'
//! ```
//!
//! Of weights, the first that there is counts: the operator's pin, what the configuration wants with a pin, what the
//! analyzer or the operator said last, what the configuration wants, what the analyzer came with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::roster::{
    Change, Entry, Order, OrderError, Reach, Roster, Wanted, KEPT_MAX, WANTED_MAX,
};
use super::LinkEpoch;
use weir_sink::Sink;

/// Keeper of the roster: takes changes one at a time, so that none is lost to another.
#[derive(Default)]
pub struct Registrar {
    roster: Roster,
    /// Analyzer of each link that is up.
    links: BTreeMap<LinkEpoch, u32>,
    analyzers: u32,
    /// Weights that the operator pinned.
    pins: BTreeMap<Arc<str>, f64>,
    /// Analyzers that the operator drained, of every kind, also those that are away.
    drained: BTreeSet<Arc<str>>,
    /// Analyzers that asked for nothing new themselves: the links that they said it on. When the last of them
    /// is gone, whoever has that id is a new life of it.
    own_drains: BTreeMap<u32, BTreeSet<LinkEpoch>>,
    /// Weights that the configuration wants, with their pins.
    wanted: BTreeMap<Arc<str>, (f64, bool)>,
    /// What analyzers said themselves whose weight is pinned or wanted.
    own_weights: BTreeMap<u32, f64>,
    /// Analyzers that lost a link; those without any are forgotten together.
    lost_link: BTreeSet<u32>,
    /// Most analyzers, and what sets this limit; None: any number.
    room: Option<(usize, &'static str)>,
}

impl Registrar {
    /// With the weights that are wanted from the start.
    pub fn new(table: &[Wanted]) -> Registrar {
        let mut registrar = Registrar::default();
        registrar.want(table);
        registrar
    }

    /// Refuses analyzers over HTTP beyond this number, which a shard would have no lane for. Others are refused by the
    /// shard that they connect to.
    pub fn limit(&mut self, max: usize, limit: &'static str) {
        self.room = Some((max, limit));
    }

    /// The next roster, unless the change changes nothing.
    pub fn apply(&mut self, change: Change) -> Option<Arc<Roster>> {
        self.take(change).then(|| self.next_roster())
    }

    /// Takes a change; false: it changes nothing. Many may be taken before [`Registrar::next_roster`].
    pub fn take(&mut self, change: Change) -> bool {
        if !matches!(change, Change::Down { .. }) {
            self.forget_gone();
        }
        match change {
            Change::Up {
                epoch,
                sink,
                home,
                name,
                weight,
            } => {
                let reach = match sink.has_link_per_shard() {
                    true => Reach::LinkPerShard,
                    false => Reach::SingleLink { home, epoch },
                };
                self.up(epoch, sink, name, weight, reach)
            }
            Change::Down { epoch } => self.down(epoch),
            Change::HttpDown { generation } => self.http_down(generation),
            Change::Weight { epoch, weight } => self.own_weight(epoch, weight),
            Change::Drain { epoch } => self.own_drain(epoch),
        }
    }

    /// How much is remembered by name: pinned weights, and drains. 4,096 of each at most; more are
    /// refused, so that nothing that was promised is forgotten.
    pub fn kept(&self) -> (usize, usize) {
        (self.pins.len(), self.drained.len())
    }

    /// Number of the newest roster.
    pub fn epoch(&self) -> u64 {
        self.roster.epoch
    }

    /// The table after all that was taken, with a number of its own.
    pub fn next_roster(&mut self) -> Arc<Roster> {
        self.forget_gone();
        self.roster.epoch += 1;
        Arc::new(self.roster.clone())
    }

    /// The next roster, unless the order changes nothing.
    ///
    /// # Errors
    /// What cannot be done; the roster stays as it is.
    pub fn order(&mut self, order: Order) -> Result<Option<Arc<Roster>>, OrderError> {
        self.forget_gone();
        let changed = match order {
            Order::Weight { name, weight, pin } => {
                let weight =
                    weir_protocol::valid_weight(weight).ok_or(OrderError::BadWeight { weight })?;
                if pin && !self.pins.contains_key(&name) && self.pins.len() >= KEPT_MAX {
                    return Err(OrderError::TooManyPins);
                }
                let before = self.entry_named(&name)?.clone();
                if pin {
                    self.pins.insert(Arc::clone(&name), weight);
                    let own = self.own_weights.entry(before.analyzer);
                    own.or_insert(before.weight);
                }
                if let Some(pinned) = self.pins.get_mut(&name) {
                    *pinned = weight;
                }
                self.change_named(&name, |entry| {
                    entry.weight = weight;
                    entry.pinned |= pin;
                })?
            }
            Order::OwnWeight { name, weight } => {
                let weight =
                    weir_protocol::valid_weight(weight).ok_or(OrderError::BadWeight { weight })?;
                let analyzer = self.entry_named(&name)?.analyzer;
                self.says(analyzer, weight)
            }
            Order::Wanted { table } => self.want(&table),
            Order::Unpin { name } => {
                let was_pinned = self.pins.remove(&name).is_some();
                match self.entry_named(&name) {
                    Ok(entry) => {
                        let analyzer = entry.analyzer;
                        self.settle(analyzer)
                    }
                    Err(_) if was_pinned => return Ok(None), // it is away
                    Err(unknown) => return Err(unknown),
                }
            }
            Order::Drain { name } => self.drain(&name)?,
            Order::Resume { name } => {
                let was_drained = self.drained.remove(&name);
                if let Ok(entry) = self.entry_named(&name) {
                    let analyzer = entry.analyzer;
                    self.own_drains.remove(&analyzer);
                }
                match self.change_named(&name, |entry| entry.draining = false) {
                    Err(_) if was_drained => false, // it is away
                    other => other?,
                }
            }
            Order::Eject { name } => self.eject(&name)?,
            Order::HttpUp {
                name,
                sink,
                weight,
                generation,
            } => self.http_up(name, sink, weight, generation)?,
            Order::HttpDown { generation } => self.http_down(generation),
        };
        Ok(changed.then(|| self.next_roster()))
    }

    fn entry_named(&mut self, name: &Arc<str>) -> Result<&mut Entry, OrderError> {
        let mut entries = self.roster.entries.iter_mut();
        let found = entries.find(|entry| entry.name == *name);
        found.ok_or_else(|| OrderError::Unknown {
            name: Arc::clone(name),
        })
    }

    fn change_named(
        &mut self,
        name: &Arc<str>,
        change: impl FnOnce(&mut Entry),
    ) -> Result<bool, OrderError> {
        let entry = self.entry_named(name)?;
        let before = entry.clone();
        change(entry);
        Ok(*entry != before)
    }

    fn drain(&mut self, name: &Arc<str>) -> Result<bool, OrderError> {
        self.entry_named(name)?;
        if !self.drained.contains(name) && self.drained.len() >= KEPT_MAX {
            return Err(OrderError::TooManyDrains);
        }
        self.drained.insert(Arc::clone(name));
        self.change_named(name, |entry| entry.draining = true)
    }

    fn eject(&mut self, name: &Arc<str>) -> Result<bool, OrderError> {
        match self.entry_named(name)?.reach {
            Reach::Http { generation } => Ok(self.http_down(generation)),
            _ => self.change_named(name, |entry| entry.ejected = true),
        }
    }

    fn http_up(
        &mut self,
        name: Arc<str>,
        sink: Sink,
        weight: f64,
        generation: u64,
    ) -> Result<bool, OrderError> {
        // Known under another number: the order that took it out has got lost.
        let is_old =
            |entry: &Entry| matches!(entry.reach, Reach::Http { .. }) && entry.name == name;
        let others = self.roster.entries.iter().filter(|entry| !is_old(entry));
        let count = others.count();
        if let Some((max, limit)) = self.room.filter(|(max, _)| count >= *max) {
            return Err(OrderError::TooManyAnalyzers { max, limit });
        }
        let own_weights = &mut self.own_weights;
        self.roster.entries.retain(|entry| {
            let stays = !is_old(entry);
            if !stays {
                own_weights.remove(&entry.analyzer);
            }
            stays
        });
        self.push(name, sink, weight, Reach::Http { generation });
        Ok(true)
    }

    fn http_down(&mut self, gone: u64) -> bool {
        let before = self.roster.entries.len();
        let own_weights = &mut self.own_weights;
        self.roster.entries.retain(|entry| {
            let stays = !matches!(entry.reach, Reach::Http { generation } if generation == gone);
            if !stays {
                own_weights.remove(&entry.analyzer);
            }
            stays
        });
        self.roster.entries.len() < before
    }

    /// What an analyzer says of its own weight on one of its links.
    fn own_weight(&mut self, epoch: LinkEpoch, weight: f64) -> bool {
        match self.links.get(&epoch).copied() {
            Some(analyzer) => self.says(analyzer, weight),
            None => false,
        }
    }

    /// An analyzer's own word; it waits while another weight is pinned.
    fn says(&mut self, analyzer: u32, weight: f64) -> bool {
        if let Some(own) = self.own_weights.get_mut(&analyzer) {
            *own = weight;
        }
        let mut entries = self.roster.entries.iter_mut();
        let Some(entry) = entries.find(|entry| entry.analyzer == analyzer) else {
            return false;
        };
        let is_another = !entry.pinned && entry.weight != weight;
        if is_another {
            entry.weight = weight;
        }
        is_another
    }

    /// What the configuration wants of an analyzer. Of one over HTTP it says the weight itself when it comes up, unless
    /// that is pinned.
    fn wants(&self, name: &Arc<str>, sink: Sink) -> Option<(f64, bool)> {
        let wanted = self.wanted.get(name).copied();
        wanted.filter(|(_, pin)| !sink.facts().links.are_made_here() || *pin)
    }

    /// Another table of wanted weights; whether that changes the roster.
    fn want(&mut self, table: &[Wanted]) -> bool {
        let valid = table.iter().filter_map(|one| {
            let weight = weir_protocol::valid_weight(one.weight)?;
            Some((Arc::clone(&one.name), (weight, one.pin)))
        });
        let new: BTreeMap<_, _> = valid.take(WANTED_MAX).collect();
        let old = std::mem::replace(&mut self.wanted, new);
        let entries = self.roster.entries.iter();
        let is_another = |entry: &&Entry| old.get(&entry.name) != self.wanted.get(&entry.name);
        let others: Vec<u32> = entries.filter(is_another).map(|e| e.analyzer).collect();
        let changed = others.into_iter().map(|analyzer| self.settle(analyzer));
        changed.fold(false, |any, changed| any | changed)
    }

    /// An analyzer's weight by what holds besides what was said since: the operator's pin, the configuration, its own.
    fn settle(&mut self, analyzer: u32) -> bool {
        let mut entries = self.roster.entries.iter();
        let Some(at) = entries.position(|entry| entry.analyzer == analyzer) else {
            return false;
        };
        let (name, sink) = {
            let entry = &self.roster.entries[at];
            (Arc::clone(&entry.name), entry.sink)
        };
        let pin = self.pins.get(&name).map(|weight| (*weight, true));
        let held = pin.or_else(|| self.wants(&name, sink));
        let entry = &mut self.roster.entries[at];
        let before = (entry.weight, entry.pinned);
        (entry.weight, entry.pinned) = match held {
            Some(held) => {
                self.own_weights.entry(analyzer).or_insert(entry.weight);
                held
            }
            None => {
                let own = self.own_weights.remove(&analyzer);
                (own.unwrap_or(entry.weight), false)
            }
        };
        before != (entry.weight, entry.pinned)
    }

    /// A link more of an analyzer that is known, or a new analyzer.
    fn up(
        &mut self,
        epoch: LinkEpoch,
        sink: Sink,
        name: Arc<str>,
        weight: f64,
        reach: Reach,
    ) -> bool {
        // One with a single link is a new analyzer each time, whatever it is called.
        let is_known = |entry: &&mut Entry| {
            reach == Reach::LinkPerShard && entry.reach == reach && entry.name == name
        };
        let Some(entry) = self.roster.entries.iter_mut().find(is_known) else {
            let analyzer = self.push(name, sink, weight, reach);
            self.links.insert(epoch, analyzer);
            return true;
        };
        // Of what a link comes with, a wanted weight takes the place.
        match self.own_weights.get_mut(&entry.analyzer) {
            Some(own) => *own = weight,
            None => entry.weight = weight,
        }
        // Drains belong to the analyzer, not to a link. One that is being ejected loses this link as well.
        self.links.insert(epoch, entry.analyzer);
        true
    }

    /// A new analyzer, and its number.
    fn push(&mut self, name: Arc<str>, sink: Sink, weight: f64, reach: Reach) -> u32 {
        let analyzer = self.analyzers;
        self.analyzers += 1;
        let pin = self.pins.get(&name).map(|weight| (*weight, true));
        let held = pin.or_else(|| self.wants(&name, sink));
        if held.is_some() {
            self.own_weights.insert(analyzer, weight);
        }
        let (weight, pinned) = held.unwrap_or((weight, false));
        self.roster.entries.push(Entry {
            analyzer,
            draining: self.drained.contains(&name),
            name,
            sink,
            weight,
            pinned,
            ejected: false,
            reach,
        });
        analyzer
    }

    fn down(&mut self, epoch: LinkEpoch) -> bool {
        let Some(analyzer) = self.links.remove(&epoch) else {
            return false;
        };
        self.lost_link.insert(analyzer);
        if let Some(links) = self.own_drains.get_mut(&analyzer) {
            links.remove(&epoch);
            if links.is_empty() {
                self.end_own_drain(analyzer);
            }
        }
        true
    }

    /// Analyzers that lost their last link leave the table: one pass, however many they are.
    fn forget_gone(&mut self) {
        if self.lost_link.is_empty() {
            return;
        }
        let mut gone = std::mem::take(&mut self.lost_link);
        for analyzer in self.links.values() {
            gone.remove(analyzer);
        }
        self.own_weights
            .retain(|analyzer, _| !gone.contains(analyzer));
        self.own_drains
            .retain(|analyzer, _| !gone.contains(analyzer));
        let entries = &mut self.roster.entries;
        entries.retain(|entry| !gone.contains(&entry.analyzer));
    }

    /// An analyzer asks for nothing new. The other links that it has now need not be of the same life: this
    /// may be the last word of an old one, on its way from a shard that is late.
    fn own_drain(&mut self, epoch: LinkEpoch) -> bool {
        let Some(analyzer) = self.links.get(&epoch).copied() else {
            return false;
        };
        self.own_drains.entry(analyzer).or_default().insert(epoch);
        self.change(epoch, |entry| entry.draining = true)
    }

    /// The analyzer that asked for it is gone; what the operator said stays.
    fn end_own_drain(&mut self, analyzer: u32) {
        self.own_drains.remove(&analyzer);
        let drained = &self.drained;
        let mut entries = self.roster.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.analyzer == analyzer) {
            entry.draining = drained.contains(&entry.name);
        }
    }

    fn change(&mut self, epoch: LinkEpoch, change: impl FnOnce(&mut Entry)) -> bool {
        let Some(analyzer) = self.links.get(&epoch) else {
            return false;
        };
        let Some(entry) = self
            .roster
            .entries
            .iter_mut()
            .find(|entry| entry.analyzer == *analyzer)
        else {
            return false;
        };
        let before = entry.clone();
        change(entry);
        *entry != before
    }
}

#[cfg(test)]
mod tests;
