//! The roster: all analyzers with their weights, one full table with an epoch. Shard 0 keeps it;
//! every shard gets each new one whole, and the newest wins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::LinkEpoch;

/// Where an analyzer can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Native: each shard sends on a link of its own, if it has one.
    LinkPerShard,
    /// Reference dialects: shard `home` owns the only link, the others hand their batches over.
    SingleLink {
        /// Owner of the link.
        home: u16,
        /// The link.
        epoch: LinkEpoch,
    },
    /// Over HTTP: each shard has connections of its own to it.
    Http {
        /// Number of this time that it is up, never used again in this run.
        generation: u64,
    },
}

/// One analyzer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Number of the analyzer, never used again in this run.
    pub analyzer: u32,
    /// Its id (native) or address (reference dialects).
    pub name: Arc<str>,
    /// Its weight, finite, not below zero.
    pub weight: f64,
    /// It asked to get nothing new, or the operator did.
    pub draining: bool,
    /// The operator set the weight; what the analyzer says of it does not count.
    pub pinned: bool,
    /// The operator threw it out: shards close its links.
    pub ejected: bool,
    /// How to reach it.
    pub reach: Reach,
}

impl Entry {
    /// Weight for routing: none while draining, or on the way out.
    pub fn effective_weight(&self) -> f64 {
        if self.draining || self.ejected {
            0.0
        } else {
            self.weight
        }
    }
}

/// All analyzers at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roster {
    /// Number of the table; a larger one replaces a smaller one.
    pub epoch: u64,
    /// The analyzers, in the order in which they came.
    pub entries: Vec<Entry>,
}

/// What happened to a link.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A native link came up.
    NativeUp {
        /// The link.
        epoch: LinkEpoch,
        /// Id of its analyzer.
        name: Arc<str>,
        /// Weight of its analyzer.
        weight: f64,
    },
    /// A reference client's link came up.
    SingleUp {
        /// The link.
        epoch: LinkEpoch,
        /// Shard that owns it.
        home: u16,
        /// Address of the peer.
        name: Arc<str>,
        /// First weight.
        weight: f64,
    },
    /// A link is gone.
    Down {
        /// The link.
        epoch: LinkEpoch,
    },
    /// An analyzer changed its weight, on any of its links.
    Weight {
        /// The link that said so.
        epoch: LinkEpoch,
        /// The new weight.
        weight: f64,
    },
    /// An analyzer over HTTP cannot be reached any more.
    HttpDown {
        /// Number of the time that it was up.
        generation: u64,
    },
    /// An analyzer asked for nothing new.
    Drain {
        /// The link that said so.
        epoch: LinkEpoch,
    },
}

/// What the operator wants of an analyzer, by its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Another weight: until the analyzer says otherwise, or pinned against that.
    Weight {
        /// Which analyzer.
        name: Arc<str>,
        /// Finite, not below zero.
        weight: f64,
        /// The analyzer's own weights do not count any more, also when it comes back.
        pin: bool,
    },
    /// The analyzer's own weight counts again.
    Unpin {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// Nothing new for it.
    Drain {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// It gets messages again.
    Resume {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// Its links are closed, what it has not ACKed goes to others. It may connect again.
    Eject {
        /// Which analyzer.
        name: Arc<str>,
    },
    /// An analyzer over HTTP can be reached.
    HttpUp {
        /// Its id.
        name: Arc<str>,
        /// Finite, not below zero.
        weight: f64,
        /// Number of this time that it is up.
        generation: u64,
    },
    /// It cannot be reached any more.
    HttpDown {
        /// Number of the time that it was up.
        generation: u64,
    },
}

/// Why an order was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum OrderError {
    /// No analyzer of that name is connected.
    Unknown {
        /// The name.
        name: Arc<str>,
    },
    /// There are as many pinned weights as are kept.
    TooManyPins,
    /// A weight that is none.
    BadWeight {
        /// The weight.
        weight: f64,
    },
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderError::Unknown { name } => {
                write!(f, "analyzer {:?}: not connected", name.as_ref())
            }
            OrderError::TooManyPins => write!(f, "{PINS_MAX} weights are pinned already"),
            OrderError::BadWeight { weight } => {
                write!(f, "weight {weight}: allowed: a finite number, 0 or more")
            }
        }
    }
}

impl std::error::Error for OrderError {}

/// Pinned weights kept, also of analyzers that are gone.
const PINS_MAX: usize = 4096;

/// Keeper of the roster: takes changes one at a time, so that none is lost to another.
#[derive(Default)]
pub struct Registrar {
    roster: Roster,
    /// Analyzer of each link that is up.
    links: BTreeMap<LinkEpoch, u32>,
    analyzers: u32,
    /// Weights that the operator pinned.
    pins: BTreeMap<Arc<str>, f64>,
    /// What analyzers that are pinned have said themselves.
    own_weights: BTreeMap<u32, f64>,
}

impl Registrar {
    /// The next roster, unless the change changes nothing.
    pub fn apply(&mut self, change: Change) -> Option<Arc<Roster>> {
        let changed = match change {
            Change::NativeUp {
                epoch,
                name,
                weight,
            } => self.native_up(epoch, name, weight),
            Change::SingleUp {
                epoch,
                home,
                name,
                weight,
            } => self.add(epoch, name, weight, Reach::SingleLink { home, epoch }),
            Change::Down { epoch } => self.down(epoch),
            Change::HttpDown { generation } => self.http_down(generation),
            Change::Weight { epoch, weight } => self.own_weight(epoch, weight),
            Change::Drain { epoch } => self.change(epoch, |entry| entry.draining = true),
        };
        changed.then(|| self.next_roster())
    }

    /// Number of the newest roster.
    pub fn epoch(&self) -> u64 {
        self.roster.epoch
    }

    fn next_roster(&mut self) -> Arc<Roster> {
        self.roster.epoch += 1;
        Arc::new(self.roster.clone())
    }

    /// The next roster, unless the order changes nothing.
    ///
    /// # Errors
    /// What cannot be done; the roster stays as it is.
    pub fn order(&mut self, order: Order) -> Result<Option<Arc<Roster>>, OrderError> {
        let changed = match order {
            Order::Weight { name, weight, pin } => {
                let weight = crate::protocol::valid_weight(weight)
                    .ok_or(OrderError::BadWeight { weight })?;
                if pin && !self.pins.contains_key(&name) && self.pins.len() >= PINS_MAX {
                    return Err(OrderError::TooManyPins);
                }
                let before = self.entry_named(&name)?.clone();
                if pin {
                    self.pins.insert(Arc::clone(&name), weight);
                    self.own_weights
                        .entry(before.analyzer)
                        .or_insert(before.weight);
                }
                self.change_named(&name, |entry| {
                    entry.weight = weight;
                    entry.pinned |= pin;
                })?
            }
            Order::Unpin { name } => {
                let analyzer = self.entry_named(&name)?.analyzer;
                self.pins.remove(&name);
                let own = self.own_weights.remove(&analyzer);
                self.change_named(&name, |entry| {
                    entry.weight = own.unwrap_or(entry.weight);
                    entry.pinned = false;
                })?
            }
            Order::Drain { name } => self.change_named(&name, |entry| entry.draining = true)?,
            Order::Resume { name } => self.change_named(&name, |entry| entry.draining = false)?,
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
        self.roster.entries.retain(|entry| !is_old(entry));
        self.push(name, weight, Reach::Http { generation });
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

    fn native_up(&mut self, epoch: LinkEpoch, name: Arc<str>, weight: f64) -> bool {
        let known = self
            .roster
            .entries
            .iter_mut()
            .find(|entry| entry.reach == Reach::LinkPerShard && entry.name == name);
        let Some(entry) = known else {
            return self.add(epoch, name, weight, Reach::LinkPerShard);
        };
        if entry.pinned {
            self.own_weights.insert(entry.analyzer, weight);
        } else {
            entry.weight = weight;
        }
        // The same id again after a drain: the analyzer was restarted.
        entry.draining = false;
        entry.ejected = false;
        self.links.insert(epoch, entry.analyzer);
        true
    }

    fn add(&mut self, epoch: LinkEpoch, name: Arc<str>, weight: f64, reach: Reach) -> bool {
        let analyzer = self.push(name, weight, reach);
        self.links.insert(epoch, analyzer);
        true
    }

    /// A new analyzer, and its number.
    fn push(&mut self, name: Arc<str>, weight: f64, reach: Reach) -> u32 {
        let analyzer = self.analyzers;
        self.analyzers += 1;
        let pin = self.pins.get(&name).copied();
        if pin.is_some() {
            self.own_weights.insert(analyzer, weight);
        }
        self.roster.entries.push(Entry {
            analyzer,
            name,
            weight: pin.unwrap_or(weight),
            draining: false,
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
        if self.links.values().all(|other| *other != analyzer) {
            self.own_weights.remove(&analyzer);
            self.roster
                .entries
                .retain(|entry| entry.analyzer != analyzer);
        }
        true
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

/// Remembered at most; a link's epoch is never used again, so old ones may be forgotten as soon as no
/// roster that is still under way can name them.
const TOMBSTONES_MAX: usize = 4096;

/// Links that went down: a roster that was under way meanwhile must not bring their lanes back.
#[derive(Default)]
pub(super) struct Tombstones {
    down: BTreeSet<LinkEpoch>,
    order: VecDeque<LinkEpoch>,
}

impl Tombstones {
    pub(super) fn insert(&mut self, epoch: LinkEpoch) {
        if !self.down.insert(epoch) {
            return;
        }
        self.order.push_back(epoch);
        if self.order.len() > TOMBSTONES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.down.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, epoch: LinkEpoch) -> bool {
        self.down.contains(&epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(shard: u16, count: u64, name: &str, weight: f64) -> Change {
        Change::NativeUp {
            epoch: LinkEpoch::new(shard, count),
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
        let single = |count: u64, name: &str| Change::SingleUp {
            epoch: LinkEpoch::new(0, count),
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
        assert_eq!(listed(&roster)[0], (0, 0.5), "started again after a drain");
        let down = |count: u64| Change::Down {
            epoch: LinkEpoch::new(0, count),
        };
        let roster = registrar.apply(down(3)).expect("changed");
        assert_eq!(listed(&roster), [(0, 0.5), (1, 0.25), (3, 2.0)]);
        let roster = registrar.apply(down(1)).expect("changed");
        assert_eq!(listed(&roster).len(), 3, "it has links on other shards");
    }

    #[test]
    fn the_oldest_tombstone_goes_when_there_are_too_many() {
        let link = |count: usize| LinkEpoch::new(0, count as u64);
        let mut tombstones = Tombstones::default();
        for count in 1..=TOMBSTONES_MAX {
            tombstones.insert(link(count));
            tombstones.insert(link(count));
        }
        assert!((1..=TOMBSTONES_MAX).all(|count| tombstones.contains(link(count))));
        tombstones.insert(link(TOMBSTONES_MAX + 1));
        assert!(!tombstones.contains(link(1)));
        assert!((2..=TOMBSTONES_MAX + 1).all(|count| tombstones.contains(link(count))));
        assert_eq!(tombstones.order.len(), TOMBSTONES_MAX);
    }

    #[test]
    fn weights_and_drains_change_the_table_once() {
        let mut registrar = Registrar::default();
        let epoch = LinkEpoch::new(2, 7);
        registrar.apply(Change::SingleUp {
            epoch,
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
