//! What each analyzer got and what was due to it, over all tables of weights and all its links.
//!
//! While a table is in force, a lane of weight w is due w / W of every message that is routed, W
//! being the weight of all lanes that can be chosen. So a clock that advances by 1 / W with each message
//! tells any lane's due by its weight times the time that has passed. A change of W changes the pace of
//! the clock and nothing else: no lane need be touched but the one that changed.
//!
//! ```text
//!   clock   0 ----- 1/W each ----- change ------ 1/W' each ------ now
//!   lane          due += w x (change - before)     + w' x (now - change)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::shard::{Engine, LaneSlot, LaneState};
use super::Memory;

/// Analyzers without a lane whose accounts are kept; older ones are added up under [`OTHERS`].
const CLOSED_MAX: usize = 1024;
/// Name of that account.
pub const OTHERS: &str = "(others)";

/// Account of one analyzer on one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Id (native) or address.
    pub name: Arc<str>,
    /// Messages given to it, re-routed ones included.
    pub assigned: u64,
    /// Of those: ACKed.
    pub acked: u64,
    /// What was due to it by the weights in force at each message, in messages.
    pub due: f64,
}

/// A lane's part in the clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// Weight while it can be chosen, else 0.
    weight: f64,
    /// Clock when that was last changed.
    since: f64,
    due: f64,
}

impl Due {
    fn at(&self, clock: f64) -> f64 {
        self.due + self.weight * (clock - self.since)
    }
}

/// Accounts of all analyzers that this shard ever had.
#[derive(Default)]
pub(super) struct Accounts {
    clock: f64,
    weight: f64,
    /// Messages routed when the clock was set last.
    routed: u64,
    names: BTreeMap<u32, Arc<str>>,
    /// Analyzers some of whose lanes are gone: what these had.
    closed: BTreeMap<u32, Account>,
    /// In the order in which they were closed first.
    order: VecDeque<u32>,
    others: Option<Account>,
    /// Largest certificate that the tree had.
    bound_max: f64,
}

impl Accounts {
    fn now(&self, routed: u64) -> f64 {
        if self.weight > 0.0 {
            self.clock + (routed - self.routed) as f64 / self.weight
        } else {
            self.clock
        }
    }

    fn add(&mut self, analyzer: u32, part: Account) {
        if let Some(account) = self.closed.get_mut(&analyzer) {
            account.add(&part);
            return;
        }
        self.closed.insert(analyzer, part);
        self.order.push_back(analyzer);
        if self.order.len() <= CLOSED_MAX {
            return;
        }
        let oldest = self.order.pop_front();
        if let Some(oldest) = oldest.and_then(|oldest| self.closed.remove(&oldest)) {
            let others = self
                .others
                .get_or_insert_with(|| Account::new(OTHERS.into()));
            others.add(&oldest);
        }
    }
}

impl Account {
    fn new(name: Arc<str>) -> Account {
        Account {
            name,
            assigned: 0,
            acked: 0,
            due: 0.0,
        }
    }

    fn add(&mut self, other: &Account) {
        self.assigned += other.assigned;
        self.acked += other.acked;
        self.due += other.due;
    }
}

impl<M: Memory> Engine<M> {
    fn routed(&self) -> u64 {
        self.counters.received + self.counters.rerouted
    }

    pub(super) fn name_account(&mut self, analyzer: u32, name: &Arc<str>) {
        self.accounts.names.insert(analyzer, Arc::clone(name));
    }

    /// Weights, membership or availability have changed: what was routed so far was due by the old.
    pub(super) fn settle_dues(&mut self) {
        let clock = self.accounts.now(self.routed());
        let mut all = 0.0;
        for slot in &mut self.lanes {
            let can_be_chosen = slot.state == LaneState::Up && !slot.full;
            let weight = if can_be_chosen { slot.weight } else { 0.0 };
            all += weight;
            if weight != slot.due.weight {
                slot.due = Due {
                    weight,
                    since: clock,
                    due: slot.due.at(clock),
                };
            }
        }
        self.accounts.clock = clock;
        self.accounts.weight = all;
        self.accounts.routed = self.routed();
    }

    /// The tree may have a larger certificate than any before.
    pub(super) fn note_bound(&mut self) {
        self.accounts.bound_max = self.accounts.bound_max.max(self.tree.bound());
    }

    /// A lane gets nothing any more: what it had stays with its analyzer. To be called once, after
    /// [`Engine::settle_dues`].
    pub(super) fn close_account(&mut self, lane: usize) {
        let part = self.part(&self.lanes[lane], self.accounts.clock);
        let analyzer = self.lanes[lane].analyzer;
        self.accounts.add(analyzer, part);
        let is_used = |slot: &LaneSlot| slot.state == LaneState::Up && slot.analyzer == analyzer;
        if !self.lanes.iter().any(is_used) {
            self.accounts.names.remove(&analyzer);
        }
    }

    fn part(&self, slot: &LaneSlot, clock: f64) -> Account {
        let name = self.accounts.names.get(&slot.analyzer);
        Account {
            name: name.map_or_else(|| slot.analyzer.to_string().into(), Arc::clone),
            assigned: slot.lane.appended(),
            acked: slot.lane.acked(),
            due: slot.due.at(clock),
        }
    }

    /// What each analyzer got and what was due to it; one that came back under another number has
    /// several accounts of the same name.
    pub fn accounts(&self) -> Vec<Account> {
        let clock = self.accounts.now(self.routed());
        let mut all = self.accounts.closed.clone();
        for slot in self.lanes.iter().filter(|slot| slot.state == LaneState::Up) {
            let part = self.part(slot, clock);
            let account = all
                .entry(slot.analyzer)
                .or_insert_with(|| Account::new(Arc::clone(&part.name)));
            account.add(&part);
        }
        all.into_values()
            .chain(self.accounts.others.clone())
            .collect()
    }

    /// The largest that [`Engine::share_bound`] ever was.
    pub fn share_bound_max(&self) -> f64 {
        self.accounts.bound_max.max(self.tree.bound())
    }
}
