//! What each analyzer got and what was due to it, over all tables of weights and all its links.
//!
//! While a table is in force, a lane of weight w is due w / W of every message that is routed, W
//! being the weight of all lanes that can be chosen. A change of either settles what was routed before it:
//!
//! ```text
//!   routed  0 ------ w / W of each ------ change ------ w' / W' of each ------ now
//!   due           += (change - before) x w / W       + (now - change) x w' / W'
//! ```
//!
//! All of it is in integers, see `proportion.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::proportion::{Due, Part, Proportion};
use super::shard::{Engine, LaneSlot, LaneState};
use super::{LaneId, Memory};

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

/// What a lane is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LaneDue {
    /// Of each message from now on; nothing while it cannot be chosen.
    part: Part,
    /// Of what was routed before that was last changed.
    settled: Due,
}

impl LaneDue {
    /// With `messages` more that were routed since.
    fn after(&self, messages: u64) -> Due {
        self.settled + self.part.of(messages)
    }
}

/// An account as it is added up.
#[derive(Clone)]
struct Sum {
    name: Arc<str>,
    assigned: u64,
    acked: u64,
    due: Due,
}

/// Accounts of all analyzers that this shard ever had.
#[derive(Default)]
pub(super) struct Accounts {
    /// Messages routed when dues were settled last.
    routed: u64,
    names: BTreeMap<u32, Arc<str>>,
    /// Analyzers some of whose lanes are gone: what these had.
    closed: BTreeMap<u32, Sum>,
    /// In the order in which they were closed first.
    order: VecDeque<u32>,
    others: Option<Sum>,
    /// Largest certificate that the tree had.
    bound_max: f64,
}

impl Accounts {
    fn add(&mut self, analyzer: u32, part: Sum) {
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
            let others = self.others.get_or_insert_with(|| Sum::new(OTHERS.into()));
            others.add(&oldest);
        }
    }
}

impl Sum {
    fn new(name: Arc<str>) -> Sum {
        Sum {
            name,
            assigned: 0,
            acked: 0,
            due: Due::default(),
        }
    }

    fn add(&mut self, other: &Sum) {
        self.assigned += other.assigned;
        self.acked += other.acked;
        self.due += other.due;
    }

    fn account(self) -> Account {
        Account {
            name: self.name,
            assigned: self.assigned,
            acked: self.acked,
            due: self.due.messages(),
        }
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
        let routed = self.routed();
        let since = routed - self.accounts.routed;
        self.accounts.routed = routed;
        let weight = |slot: &LaneSlot| match slot.state == LaneState::Up && !slot.full {
            true => slot.weight,
            false => 0.0,
        };
        let all = Proportion::of(self.lanes.iter().map(weight));
        for slot in &mut self.lanes {
            slot.due = LaneDue {
                settled: slot.due.after(since),
                part: all.part(weight(slot)),
            };
        }
    }

    /// The tree may have a larger certificate than any before.
    pub(super) fn note_bound(&mut self) {
        self.accounts.bound_max = self.accounts.bound_max.max(self.tree.bound());
    }

    /// Lanes get nothing any more: what they had stays with their analyzers. To be called once, after
    /// [`Engine::settle_dues`].
    pub(super) fn close_accounts(&mut self, down: &[LaneId]) {
        for lane in down {
            let slot = &self.lanes[lane.0 as usize];
            let part = self.part(slot, 0);
            self.accounts.add(slot.analyzer, part);
        }
        let up = self.lanes.iter().filter(|slot| slot.state == LaneState::Up);
        let used: BTreeSet<u32> = up.map(|slot| slot.analyzer).collect();
        for lane in down {
            let analyzer = self.lanes[lane.0 as usize].analyzer;
            if !used.contains(&analyzer) {
                self.accounts.names.remove(&analyzer);
            }
        }
    }

    fn part(&self, slot: &LaneSlot, since: u64) -> Sum {
        let name = self.accounts.names.get(&slot.analyzer);
        Sum {
            name: name.map_or_else(|| slot.analyzer.to_string().into(), Arc::clone),
            assigned: slot.lane.appended(),
            acked: slot.acked(),
            due: slot.due.after(since),
        }
    }

    /// What each analyzer got and what was due to it; one that came back under another number has
    /// several accounts of the same name.
    pub fn accounts(&self) -> Vec<Account> {
        let since = self.routed() - self.accounts.routed;
        let mut lanes: BTreeMap<u32, Sum> = BTreeMap::new();
        for slot in self.lanes.iter().filter(|slot| slot.state == LaneState::Up) {
            let part = self.part(slot, since);
            let account = lanes
                .entry(slot.analyzer)
                .or_insert_with(|| Sum::new(Arc::clone(&part.name)));
            account.add(&part);
        }
        // Ten times a second on the shard's own thread: one list, not a copy of the table.
        let closed = &self.accounts.closed;
        let mut all = Vec::with_capacity(closed.len() + lanes.len() + 1);
        for (analyzer, account) in closed {
            let mut account = account.clone();
            if let Some(part) = lanes.remove(analyzer) {
                account.add(&part);
            }
            all.push(account.account());
        }
        let rest = lanes.into_values().chain(self.accounts.others.clone());
        all.extend(rest.map(Sum::account));
        all
    }

    /// The largest that [`Engine::share_bound`] ever was.
    pub fn share_bound_max(&self) -> f64 {
        self.accounts.bound_max.max(self.tree.bound()) * f64::from(self.tree.unit_max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Port;
    use crate::{EngineConfig, Entry, LinkEpoch, OnSlow, Reach, Roster, Sink, VecMemory, Window};

    const FRAME: [u8; 5] = [0, 0, 0, 5, 3];

    fn engine() -> Engine<VecMemory> {
        let config = EngineConfig {
            shard: 0,
            buffers: 64,
            buffer_bytes: 4096,
            frame_bytes_max: 1024,
            unit_bytes_max: 0,
            window_bytes: 1 << 20,
            window_messages: 900,
            partial_bytes_max: 4096,
            on_slow: OnSlow::Spill,
        };
        let mut engine = Engine::new(config, VecMemory::new(64, 4096));
        engine.emitter_opened(0, &Port::emitters().into());
        engine
    }

    fn link(analyzer: u32) -> LinkEpoch {
        LinkEpoch::new(0, u64::from(analyzer) + 1)
    }

    fn set(engine: &mut Engine<VecMemory>, weights: &[(u32, f64)]) {
        let entries = weights.iter().map(|(analyzer, weight)| Entry {
            analyzer: *analyzer,
            name: format!("a{analyzer}").into(),
            weight: *weight,
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Native,
            reach: Reach::LinkPerShard,
        });
        let roster = Roster {
            epoch: engine.roster_epoch() + 1,
            entries: entries.collect(),
        };
        engine.apply_roster(&roster, |entry| Some((link(entry.analyzer), Window::ANY)));
    }

    /// What is due by definition: of each message, w / W to each lane that can be chosen.
    #[derive(Default)]
    struct Model(BTreeMap<u32, f64>);

    impl Model {
        fn messages(&mut self, engine: &Engine<VecMemory>, weights: &[(u32, f64)], count: u64) {
            let open = |analyzer: u32| {
                let mut lanes = engine.lane_reports();
                lanes.any(|lane| lane.analyzer == analyzer && !lane.full && !lane.down)
            };
            let open: Vec<_> = weights
                .iter()
                .filter(|(analyzer, _)| open(*analyzer))
                .collect();
            let all: f64 = open.iter().map(|(_, weight)| weight).sum();
            for (analyzer, weight) in open {
                *self.0.entry(*analyzer).or_default() += count as f64 * weight / all;
            }
        }
    }

    fn ingest(
        engine: &mut Engine<VecMemory>,
        model: &mut Model,
        weights: &[(u32, f64)],
        count: u64,
    ) {
        for _ in 0..count {
            model.messages(engine, weights, 1);
            let before = engine.counters.received;
            engine.ingest(0, &FRAME);
            assert_eq!(engine.counters.received, before + 1, "room for all");
        }
    }

    fn assert_agree(engine: &Engine<VecMemory>, model: &Model) {
        let accounts = engine.accounts();
        let given: u64 = accounts.iter().map(|account| account.assigned).sum();
        assert_eq!(given, engine.counters.received + engine.counters.rerouted);
        for (analyzer, due) in &model.0 {
            let name = format!("a{analyzer}");
            let mine: Vec<_> = accounts
                .iter()
                .filter(|account| *account.name == name)
                .collect();
            assert_eq!(mine.len(), 1, "{accounts:?}");
            assert!(
                (mine[0].due - due).abs() < 1e-6,
                "{name}: {due} in {accounts:?}"
            );
            let off = (mine[0].assigned as f64 - due).abs();
            let bound = 2.0 * engine.share_bound_max() * (1 + engine.table_changes().tables) as f64;
            assert!(off <= bound, "{name} is off by {off}, bound {bound}");
        }
    }

    #[test]
    fn names_are_kept_of_those_that_are_there() {
        let mut engine = engine();
        set(&mut engine, &[(0, 1.0), (1, 1.0)]);
        engine.link_down(link(0), 1);
        let names: Vec<_> = engine.accounts.names.keys().collect();
        assert_eq!(names, [&1]);
        let accounts = engine.accounts().into_iter();
        let named: Vec<_> = accounts.map(|account| account.name.to_string()).collect();
        assert_eq!(named, ["a0", "a1"]);
    }

    #[test]
    fn dues_follow_weights_windows_and_deaths() {
        let (mut engine, mut model) = (engine(), Model::default());
        let weights = [(0, 1.0), (1, 3.0), (2, 0.0)];
        set(&mut engine, &weights);
        ingest(&mut engine, &mut model, &weights, 1001);
        assert_agree(&engine, &model);
        // a1 has a full window from its 900th message on, then a0 gets everything.
        ingest(&mut engine, &mut model, &weights, 400);
        assert!(
            engine.lane_reports().any(|lane| lane.full),
            "a window is full"
        );
        assert_agree(&engine, &model);
        let lane = engine.lane_of(link(1)).expect("up");
        while engine.transmit(lane, 1, false).is_some() {}
        engine.acked(lane, 500, 2);
        assert!(!engine.lane_reports().any(|lane| lane.full));
        ingest(&mut engine, &mut model, &weights, 100);
        let weights = [(0, 1.0), (1, 0.5), (2, 0.25)];
        set(&mut engine, &weights);
        ingest(&mut engine, &mut model, &weights, 200);
        assert_agree(&engine, &model);
        while engine.transmit(lane, 2, false).is_some() {}
        let unacked = engine.lane_reports().find(|lane| lane.analyzer == 1);
        let unacked = unacked.map_or(0, |lane| lane.assigned - lane.acked);
        engine.acked(lane, unacked, 3);
        // What a0 had not ACKed is due to the living.
        engine.link_down(link(0), 3);
        let open = [(1, 0.5), (2, 0.25)];
        let before = engine.counters.rerouted;
        let unacked = engine.balance().queued;
        assert!(unacked > 0);
        let mut preview = Model::default();
        preview.messages(&engine, &open, 1);
        engine.reroute();
        let moved = engine.counters.rerouted - before;
        assert!(moved > 500, "{moved}");
        for (analyzer, part) in preview.0 {
            *model.0.entry(analyzer).or_default() += part * moved as f64;
        }
        assert!(
            !engine.lane_reports().any(|lane| lane.full),
            "the model assumes it"
        );
        assert_agree(&engine, &model);
        ingest(&mut engine, &mut model, &open, 10);
        assert_agree(&engine, &model);
    }

    fn due(engine: &Engine<VecMemory>) -> Vec<f64> {
        let accounts = engine.accounts().into_iter();
        accounts.map(|account| account.due).collect()
    }

    #[test]
    fn dues_survive_weights_of_any_size_and_their_changes() {
        let mut engine = engine();
        let routed = |engine: &mut Engine<VecMemory>, weights: &[(u32, f64)], count: usize| {
            set(engine, weights);
            for _ in 0..count {
                assert_eq!(engine.ingest(0, &FRAME), crate::Ingest::Taken);
            }
        };
        // The sum is infinite; a light one is alone; the heaviest beside the lightest.
        routed(&mut engine, &[(0, 1e308), (1, 1e308)], 100);
        assert_eq!(due(&engine), [50.0, 50.0]);
        routed(&mut engine, &[(0, 1e-320)], 20);
        assert_eq!(due(&engine)[0], 70.0);
        routed(&mut engine, &[(0, 1e-15)], 30);
        routed(&mut engine, &[(2, 1.0), (3, 3.0)], 40);
        assert_eq!(due(&engine)[2..], [10.0, 30.0]);
        routed(&mut engine, &[(2, 0.4), (3, 0.6)], 100);
        routed(&mut engine, &[(2, 4e14), (3, 6e14)], 100);
        let after = due(&engine);
        assert!(
            (after[2] - 90.0).abs() < 1e-9 && (after[3] - 150.0).abs() < 1e-9,
            "{after:?}"
        );
        routed(&mut engine, &[(2, f64::MAX), (3, 5e-324)], 10);
        routed(&mut engine, &[(2, 0.0), (3, 0.0)], 0);
        assert!((due(&engine).iter().sum::<f64>() - 400.0).abs() < 1e-9);
    }

    #[test]
    #[cfg_attr(miri, ignore = "a thousand analyzers take Miri an hour")]
    fn accounts_of_the_gone_are_bounded_and_none_is_lost() {
        let mut engine = engine();
        let guests = CLOSED_MAX as u32 + 50;
        for analyzer in 0..guests {
            set(&mut engine, &[(analyzer, 1.0)]);
            engine.ingest(0, &FRAME);
            let lane = engine.lane_of(link(analyzer)).expect("up");
            while engine.transmit(lane, 1, false).is_some() {}
            engine.acked(lane, 1, 2);
            engine.link_down(link(analyzer), 3);
        }
        let accounts = engine.accounts();
        assert_eq!(accounts.len(), CLOSED_MAX + 1);
        let others = accounts
            .iter()
            .find(|account| &*account.name == OTHERS)
            .expect("there");
        assert_eq!((others.assigned, others.acked), (50, 50));
        assert!((others.due - 50.0).abs() < 1e-9);
        assert_eq!(engine.accounts.names.len(), 0);
    }
}
