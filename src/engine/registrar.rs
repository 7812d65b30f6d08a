//! The keeper of the roster, on shard 0: links and the operator change it, each change makes a new table.
//!
//! ```text
//! link up, down, weight, drain -> Change -.
//!                                         +-> entries, pins, drains -> Roster, epoch + 1
//! weir ctl, health checks ------> Order --'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::roster::{Change, Entry, Order, OrderError, Reach, Roster, KEPT_MAX};
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
    /// What analyzers that are pinned have said themselves.
    own_weights: BTreeMap<u32, f64>,
    /// Analyzers that lost a link; those without any are forgotten together.
    lost_link: BTreeSet<u32>,
}

impl Registrar {
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
                    self.own_weights
                        .entry(before.analyzer)
                        .or_insert(before.weight);
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
                match self.own_weights.get_mut(&analyzer) {
                    Some(own) => {
                        *own = weight;
                        false
                    }
                    None => self.change_named(&name, |entry| entry.weight = weight)?,
                }
            }
            Order::Unpin { name } => {
                let was_pinned = self.pins.remove(&name).is_some();
                let analyzer = match self.entry_named(&name) {
                    Ok(entry) => entry.analyzer,
                    Err(_) if was_pinned => return Ok(None), // it is away
                    Err(unknown) => return Err(unknown),
                };
                let own = self.own_weights.remove(&analyzer);
                self.change_named(&name, |entry| {
                    entry.weight = own.unwrap_or(entry.weight);
                    entry.pinned = false;
                })?
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
                weight,
                generation,
            } => self.http_up(name, weight, generation),
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

    fn http_up(&mut self, name: Arc<str>, weight: f64, generation: u64) -> bool {
        // Known under another number: the order that took it out has got lost.
        let is_old =
            |entry: &Entry| matches!(entry.reach, Reach::Http { .. }) && entry.name == name;
        let own_weights = &mut self.own_weights;
        self.roster.entries.retain(|entry| {
            let stays = !is_old(entry);
            if !stays {
                own_weights.remove(&entry.analyzer);
            }
            stays
        });
        self.push(name, Sink::Http, weight, Reach::Http { generation });
        true
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

    /// What an analyzer says of its own weight; it waits while the operator has pinned another.
    fn own_weight(&mut self, epoch: LinkEpoch, weight: f64) -> bool {
        let Some(analyzer) = self.links.get(&epoch).copied() else {
            return false;
        };
        if let Some(own) = self.own_weights.get_mut(&analyzer) {
            *own = weight;
            return false;
        }
        self.change(epoch, |entry| entry.weight = weight)
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
        if entry.pinned {
            self.own_weights.insert(entry.analyzer, weight);
        } else {
            entry.weight = weight;
        }
        // Drains belong to the analyzer, not to a link. One that is being ejected loses this link as well.
        self.links.insert(epoch, entry.analyzer);
        true
    }

    /// A new analyzer, and its number.
    fn push(&mut self, name: Arc<str>, sink: Sink, weight: f64, reach: Reach) -> u32 {
        let analyzer = self.analyzers;
        self.analyzers += 1;
        let pin = self.pins.get(&name).copied();
        if pin.is_some() {
            self.own_weights.insert(analyzer, weight);
        }
        self.roster.entries.push(Entry {
            analyzer,
            draining: self.drained.contains(&name),
            name,
            sink,
            weight: pin.unwrap_or(weight),
            pinned: pin.is_some(),
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
mod tests {
    use super::*;

    fn native(shard: u16, count: u64, name: &str, weight: f64) -> Change {
        Change::Up {
            epoch: LinkEpoch::new(shard, count),
            sink: Sink::Native,
            home: shard,
            name: name.into(),
            weight,
        }
    }

    #[test]
    fn a_native_analyzer_is_one_entry_however_many_links_it_has() {
        let mut registrar = Registrar::default();
        registrar.apply(native(0, 1, "a", 0.5));
        let roster = registrar
            .apply(native(1, 1, "a", 0.5))
            .expect("a new table");
        assert_eq!((roster.epoch, roster.entries.len()), (2, 1));
        let roster = registrar.apply(Change::Down {
            epoch: LinkEpoch::new(0, 1),
        });
        assert_eq!(
            roster.expect("a new table").entries.len(),
            1,
            "one link is left"
        );
        let roster = registrar.apply(Change::Down {
            epoch: LinkEpoch::new(1, 1),
        });
        assert!(roster.expect("a new table").entries.is_empty());
    }

    #[test]
    fn analyzers_are_told_apart() {
        let mut registrar = Registrar::default();
        let single = |count: u64, name: &str| Change::Up {
            epoch: LinkEpoch::new(0, count),
            sink: Sink::Compact,
            home: 0,
            name: name.into(),
            weight: 2.0,
        };
        for change in [
            native(0, 1, "a", 0.5),
            native(0, 2, "b", 0.25),
            single(3, "a"),
            single(4, "a"),
            native(1, 1, "a", 0.75),
        ] {
            assert!(registrar.apply(change).is_some());
        }
        let listed = |roster: &Roster| {
            let entries = roster.entries.iter();
            entries
                .map(|entry| (entry.analyzer, entry.effective_weight()))
                .collect::<Vec<_>>()
        };
        let expected = [(0, 0.75), (1, 0.25), (2, 2.0), (3, 2.0)];
        assert_eq!(listed(&registrar.roster), expected);

        let drain = Change::Drain {
            epoch: LinkEpoch::new(0, 1),
        };
        let roster = registrar.apply(drain).expect("changed");
        assert_eq!(listed(&roster)[..2], [(0, 0.0), (1, 0.25)]);
        let roster = registrar.apply(native(2, 1, "a", 0.5)).expect("changed");
        assert_eq!(listed(&roster)[0], (0, 0.0), "a link more of who drains");
        let resume = Order::Resume { name: "a".into() };
        let roster = order(&mut registrar, resume).expect("changed");
        assert_eq!(listed(&roster)[0], (0, 0.5));
        let down = |count: u64| Change::Down {
            epoch: LinkEpoch::new(0, count),
        };
        let roster = registrar.apply(down(3)).expect("changed");
        assert_eq!(listed(&roster), [(0, 0.5), (1, 0.25), (3, 2.0)]);
        let roster = registrar.apply(down(1)).expect("changed");
        assert_eq!(listed(&roster).len(), 3, "it has links on other shards");
    }

    #[test]
    fn many_that_go_at_once_leave_one_table() {
        let mut registrar = Registrar::default();
        for count in 1..=100_u64 {
            registrar.apply(native(0, count, &format!("a{count}"), 1.0));
        }
        let epoch = registrar.epoch();
        let down = |count| Change::Down {
            epoch: LinkEpoch::new(0, count),
        };
        assert!((1..=99).all(|count| registrar.take(down(count))));
        assert!(!registrar.take(down(5)), "it was gone");
        // One that was restarted in the same turn is another one.
        assert!(registrar.take(native(0, 101, "a7", 2.0)));
        let roster = registrar.next_roster();
        assert_eq!(roster.epoch, epoch + 1);
        let left = roster.entries.iter();
        let left: Vec<_> = left.map(|entry| (&*entry.name, entry.weight)).collect();
        assert_eq!(left, [("a100", 1.0), ("a7", 2.0)]);
    }

    fn order(registrar: &mut Registrar, order: Order) -> Option<Arc<Roster>> {
        registrar.order(order).expect("it can be done")
    }

    fn http_up(registrar: &mut Registrar, generation: u64) -> Arc<Roster> {
        let (name, weight) = ("h".into(), 1.0);
        let up = Order::HttpUp {
            name,
            weight,
            generation,
        };
        order(registrar, up).expect("changed")
    }

    #[test]
    fn the_operators_word_outlives_an_analyzer_over_http() {
        let mut registrar = Registrar::default();
        let name: Arc<str> = "h".into();
        http_up(&mut registrar, 1);
        let set = |weight, pin| Order::Weight {
            name: "h".into(),
            weight,
            pin,
        };
        order(&mut registrar, set(5.0, true));
        order(&mut registrar, Order::Drain { name: "h".into() });
        let gone = registrar.apply(Change::HttpDown { generation: 1 });
        assert!(gone.expect("changed").entries.is_empty());
        let roster = http_up(&mut registrar, 2);
        let seen = |roster: &Roster| {
            let entry = &roster.entries[0];
            (entry.weight, entry.pinned, entry.draining)
        };
        assert_eq!(seen(&roster), (5.0, true, true));
        // A weight without a pin moves the pin; what the configuration says waits.
        let roster = order(&mut registrar, set(6.0, false)).expect("changed");
        assert_eq!(seen(&roster), (6.0, true, true));
        let own = Order::OwnWeight {
            name: "h".into(),
            weight: 7.0,
        };
        assert_eq!(order(&mut registrar, own), None);
        registrar.apply(Change::HttpDown { generation: 2 });
        // Resumed while it is away.
        let resume = Order::Resume { name: "h".into() };
        assert_eq!(order(&mut registrar, resume.clone()), None);
        assert_eq!(seen(&http_up(&mut registrar, 3)), (6.0, true, false));
        let roster = order(&mut registrar, Order::Unpin { name }).expect("changed");
        assert_eq!(seen(&roster), (1.0, false, false), "as it came back");
        registrar.apply(Change::HttpDown { generation: 3 });
        let unknown = OrderError::Unknown { name: "h".into() };
        assert_eq!(registrar.order(resume), Err(unknown));
    }

    #[test]
    fn an_analyzer_over_http_has_one_entry() {
        let mut registrar = Registrar::default();
        http_up(&mut registrar, 1);
        // The order that took it out has got lost.
        let roster = http_up(&mut registrar, 2);
        let reaches: Vec<_> = roster.entries.iter().map(|entry| &entry.reach).collect();
        assert_eq!(reaches, [&Reach::Http { generation: 2 }]);
        assert_eq!(registrar.apply(Change::HttpDown { generation: 1 }), None);
        let eject = Order::Eject { name: "h".into() };
        let roster = order(&mut registrar, eject).expect("changed");
        assert!(roster.entries.is_empty());
    }

    #[test]
    fn orders_that_cannot_be_done_change_nothing() {
        let mut registrar = Registrar::default();
        registrar.apply(native(0, 1, "a", 0.5));
        let epoch = registrar.epoch();
        for weight in [-1.0, f64::NAN, f64::INFINITY] {
            for order in [
                Order::Weight {
                    name: "a".into(),
                    weight,
                    pin: true,
                },
                Order::OwnWeight {
                    name: "a".into(),
                    weight,
                },
            ] {
                let refused = registrar.order(order);
                assert!(matches!(refused, Err(OrderError::BadWeight { .. })));
            }
        }
        let unknown = registrar.order(Order::Drain { name: "b".into() });
        assert!(matches!(unknown, Err(OrderError::Unknown { .. })));
        assert_eq!(registrar.epoch(), epoch);
        // A native analyzer that was ejected may come back.
        let eject = Order::Eject { name: "a".into() };
        let roster = order(&mut registrar, eject).expect("changed");
        assert_eq!(roster.entries[0].effective_weight(), 0.0);
        let roster = registrar.apply(native(1, 1, "a", 0.5)).expect("changed");
        assert_eq!(roster.entries[0].effective_weight(), 0.0, "not by a link");
        for (shard, count) in [(0, 1), (1, 1)] {
            let epoch = LinkEpoch::new(shard, count);
            registrar.apply(Change::Down { epoch });
        }
        let roster = registrar.apply(native(0, 2, "a", 0.5)).expect("changed");
        assert_eq!(roster.entries[0].effective_weight(), 0.5);
    }

    #[test]
    fn the_operators_drain_outlives_links_and_lives() {
        let mut registrar = Registrar::default();
        let single = |count| Change::Up {
            epoch: LinkEpoch::new(0, count),
            sink: Sink::Compact,
            home: 0,
            name: "s".into(),
            weight: 1.0,
        };
        registrar.apply(native(0, 1, "a", 0.5));
        registrar.apply(native(1, 1, "a", 0.5));
        registrar.apply(single(7));
        for name in ["a", "s"] {
            order(&mut registrar, Order::Drain { name: name.into() });
        }
        let draining = |roster: &Roster| {
            let entries = roster.entries.iter();
            entries.map(|entry| entry.draining).collect::<Vec<_>>()
        };
        let down = |shard, count| Change::Down {
            epoch: LinkEpoch::new(shard, count),
        };
        registrar.apply(down(1, 1));
        let roster = registrar.apply(native(1, 2, "a", 0.5)).expect("changed");
        assert_eq!(draining(&roster), [true, true], "one link came back");
        for (shard, count) in [(0, 1), (1, 2), (0, 7)] {
            registrar.apply(down(shard, count));
        }
        assert_eq!(registrar.kept(), (0, 2), "of analyzers that are away");
        registrar.apply(native(0, 3, "a", 0.5));
        let roster = registrar.apply(single(8)).expect("changed");
        assert_eq!(draining(&roster), [true, true], "restarted");
        let resume = Order::Resume { name: "a".into() };
        let roster = order(&mut registrar, resume).expect("changed");
        assert_eq!(draining(&roster), [false, true]);
        assert_eq!(registrar.kept(), (0, 1));
    }

    #[test]
    fn the_last_word_of_an_old_life_does_not_bind_the_new_one() {
        let mut registrar = Registrar::default();
        registrar.apply(native(0, 1, "a", 0.5));
        // It was restarted; of its old life a shard that is late has this to tell.
        registrar.apply(native(1, 1, "a", 0.5));
        let old = LinkEpoch::new(0, 1);
        registrar.apply(Change::Drain { epoch: old });
        let roster = registrar.apply(Change::Down { epoch: old });
        assert!(!roster.expect("changed").entries[0].draining);
    }

    #[test]
    fn an_analyzers_own_drain_ends_with_the_links_that_it_had() {
        let mut registrar = Registrar::default();
        let down = |shard, count| Change::Down {
            epoch: LinkEpoch::new(shard, count),
        };
        let is_draining = |roster: Option<Arc<Roster>>| {
            let roster = roster.expect("changed");
            roster.entries[0].draining
        };
        registrar.apply(native(0, 1, "a", 0.5));
        registrar.apply(native(1, 1, "a", 0.5));
        let epoch = LinkEpoch::new(0, 1);
        assert!(is_draining(registrar.apply(Change::Drain { epoch })));
        registrar.apply(down(1, 1));
        assert!(is_draining(registrar.apply(native(1, 2, "a", 0.5))));
        // The last link of those that it had then: what is left is a new life.
        assert!(!is_draining(registrar.apply(down(0, 1))));
        let epoch = LinkEpoch::new(1, 2);
        assert!(is_draining(registrar.apply(Change::Drain { epoch })));
        registrar.apply(down(1, 2));
        assert!(!is_draining(registrar.apply(native(0, 2, "a", 0.5))));
        assert!(registrar.own_drains.is_empty());
    }

    #[test]
    fn as_many_drains_as_are_kept() {
        let mut registrar = Registrar::default();
        for n in 0..=KEPT_MAX as u64 {
            registrar.apply(native(0, n + 1, &n.to_string(), 1.0));
            let name: Arc<str> = n.to_string().into();
            let refused = registrar.order(Order::Drain { name }).err();
            let is_last = n == KEPT_MAX as u64;
            assert_eq!(refused, is_last.then_some(OrderError::TooManyDrains));
            registrar.apply(Change::Down {
                epoch: LinkEpoch::new(0, n + 1),
            });
        }
        assert_eq!(registrar.kept(), (0, KEPT_MAX));
    }

    #[test]
    fn weights_and_drains_change_the_table_once() {
        let mut registrar = Registrar::default();
        let epoch = LinkEpoch::new(2, 7);
        registrar.apply(Change::Up {
            epoch,
            sink: Sink::Typed,
            home: 2,
            name: "1.2.3.4:5".into(),
            weight: 1.0,
        });
        let roster = registrar
            .apply(Change::Weight {
                epoch,
                weight: 0.25,
            })
            .expect("changed");
        assert_eq!(roster.entries[0].effective_weight(), 0.25);
        assert_eq!(
            registrar.apply(Change::Weight {
                epoch,
                weight: 0.25
            }),
            None
        );
        let roster = registrar.apply(Change::Drain { epoch }).expect("changed");
        assert_eq!(roster.entries[0].effective_weight(), 0.0);
        assert_eq!(registrar.apply(Change::Drain { epoch }), None);
        let unknown = LinkEpoch::new(3, 1);
        assert_eq!(
            registrar.apply(Change::Weight {
                epoch: unknown,
                weight: 1.0
            }),
            None
        );
        assert_eq!(registrar.apply(Change::Down { epoch: unknown }), None);
    }
}
