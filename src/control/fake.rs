//! Reports as shards would send them, for tests of what is made of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::data_plane::DataPlane;
use crate::lock::lock;
use crate::view::state::State;
use weir_engine::{
    Account, Balance, Ended, Entry, LaneReport, LinkEpoch, Order, OrderError, Reach, Reason,
    Roster, Sink,
};
use weir_ledger::run_report::Stamp;
use weir_shard::{HttpTarget, InputReport, OrderRefused, ShardReport};

/// A moment, in milliseconds since the start of the distributor.
pub fn at(ms: u64) -> Stamp {
    Stamp {
        unix_ns: 1_795_305_132_000_000_000 + ms * 1_000_000,
        mono_ns: 1_000_000_000 + ms * 1_000_000,
    }
}

/// A distributor of two shards whose numbers tests set.
pub struct Fake {
    /// Its reports.
    pub reports: Vec<ShardReport>,
}

/// A place that has brought something, and refused somebody.
fn input(name: &str) -> InputReport {
    InputReport {
        name: name.into(),
        connections: 1,
        accepted: 2,
        messages: 3,
        bytes: 40,
        units_open: 5,
        answers: 6,
        lost: (name != "emitters").then_some(8),
        refused: vec![(Reason::AddressLimit, 7)],
    }
}

impl Fake {
    /// Native analyzers `a1`, `a2`, ... with these weights, each with a lane on both shards.
    pub fn new(weights: &[f64]) -> Fake {
        let mut fake = Fake {
            reports: (0..2)
                .map(|shard| ShardReport {
                    shard,
                    buffers: (400, 300, 512),
                    analyzers_max: (85, "the arena serves no more (--arena)"),
                    inputs: ["emitters", "syslog-514"].map(input).to_vec(),
                    ..ShardReport::default()
                })
                .collect(),
        };
        for (index, weight) in weights.iter().enumerate() {
            fake.join(&format!("a{}", index + 1), *weight);
        }
        fake
    }

    /// One more.
    pub fn join(&mut self, name: &str, weight: f64) {
        let known = self.reports[0].roster.entries.iter();
        let ended = self.reports[0].ended.iter().map(|ended| ended.analyzer);
        let highest = known.map(|entry| entry.analyzer).chain(ended).max();
        let analyzer = highest.map_or(0, |highest| highest + 1);
        self.roster(|entries| {
            entries.push(Entry {
                analyzer,
                name: name.into(),
                weight,
                draining: false,
                pinned: false,
                ejected: false,
                sink: Sink::Native,
                reach: Reach::LinkPerShard,
            });
        });
        for report in &mut self.reports {
            report.lanes.push(LaneReport {
                epoch: LinkEpoch::new(report.shard, u64::from(analyzer) + 1),
                analyzer,
                assigned: 0,
                assigned_before: 0,
                acked: 0,
                in_flight: 0,
                queued: 0,
                full: false,
                down: false,
                held_bytes: 0,
                latency_us: Arc::default(),
            });
            report.accounts.push(Account {
                name: name.into(),
                assigned: 0,
                acked: 0,
                due: 0.0,
            });
        }
    }

    /// The roster changes on all shards.
    pub fn roster(&mut self, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut roster = Roster::clone(&self.reports[0].roster);
        change(&mut roster.entries);
        roster.epoch += 1;
        let roster = Arc::new(roster);
        for report in &mut self.reports {
            report.roster = Arc::clone(&roster);
        }
    }

    /// Its links are gone; what it had not ACKed was re-routed to nobody yet.
    pub fn leave(&mut self, name: &str) {
        let entry = self.reports[0]
            .roster
            .entries
            .iter()
            .find(|entry| *entry.name == *name);
        let analyzer = entry.expect("in the roster").analyzer;
        self.roster(|entries| entries.retain(|entry| entry.analyzer != analyzer));
        for report in &mut self.reports {
            for lane in report.lanes.iter().filter(|lane| lane.analyzer == analyzer) {
                report.ended.push(Ended {
                    epoch: lane.epoch,
                    analyzer,
                    assigned: lane.assigned,
                    acked: lane.acked,
                    refused: 0,
                    detected_ns: 1_000_000,
                    rerouted_ns: Some(4_500_000),
                });
                report.balance.in_flight -= lane.in_flight;
                report.balance.queued += lane.in_flight;
            }
            report.lanes.retain(|lane| lane.analyzer != analyzer);
        }
    }

    /// Gives `messages` to an analyzer on every shard; `acked` of them are ACKed after `latency_us`.
    pub fn route(&mut self, name: &str, messages: u64, acked: u64, latency_us: u64) {
        for report in &mut self.reports {
            let entry = report
                .roster
                .entries
                .iter()
                .find(|entry| *entry.name == *name);
            let analyzer = entry.expect("in the roster").analyzer;
            let mut lanes = report.lanes.iter_mut();
            let lane = lanes
                .find(|lane| lane.analyzer == analyzer)
                .expect("a lane");
            lane.assigned += messages;
            lane.acked += acked;
            lane.in_flight += messages - acked;
            lane.held_bytes += 100 * (messages - acked);
            lane.latency_us.record(latency_us, acked);
            let mut accounts = report.accounts.iter_mut();
            let account = accounts
                .find(|account| *account.name == *name)
                .expect("an account");
            account.assigned += messages;
            account.acked += acked;
            account.due += messages as f64 + 0.25;
            report.counters.received += messages;
            report.counters.received_bytes += 100 * messages;
            report.counters.acked += acked;
            report.pace.turns += 1;
            let balance = &mut report.balance;
            *balance = Balance {
                received: balance.received + messages,
                acked: balance.acked + acked,
                in_flight: balance.in_flight + messages - acked,
                ..*balance
            };
        }
    }

    /// A state that has seen these reports every 500 ms of five seconds.
    pub fn state(&self) -> State {
        let mut state = State::new(at(0), 131_072);
        for half in 0..=10 {
            self.note(&mut state, half * 500);
        }
        state
    }

    /// The state sees the reports now; shards turn in between.
    pub fn note(&self, state: &mut State, ms: u64) {
        let mut reports = self.reports.clone();
        for report in &mut reports {
            report.pace.turns += ms;
        }
        state.note(at(ms), reports);
    }
}

/// Takes orders and remembers them.
#[derive(Default)]
pub struct FakeDataPlane {
    /// What [`DataPlane::reports`] gives.
    pub reports: Mutex<Vec<ShardReport>>,
    /// What was ordered; analyzers over HTTP as their generation.
    pub orders: Mutex<Vec<String>>,
    /// In the roster, by generation.
    pub up: Mutex<BTreeMap<u64, (HttpTarget, f64)>>,
    /// Who has the id of every analyzer over HTTP, if anybody does.
    pub holder: Mutex<Option<String>>,
    /// That holder, each time that one was refused for it.
    pub refused_ups: Mutex<Vec<String>>,
}

impl DataPlane for Arc<FakeDataPlane> {
    fn reports(&self) -> Vec<ShardReport> {
        let mut reports = lock(&self.reports).clone();
        let up = lock(&self.up);
        for report in &mut reports {
            let mut roster = Roster::clone(&report.roster);
            for (generation, (target, weight)) in up.iter() {
                roster.entries.push(Entry {
                    analyzer: 1000 + u32::try_from(*generation).expect("few"),
                    name: Arc::clone(&target.name),
                    weight: *weight,
                    draining: false,
                    pinned: false,
                    ejected: false,
                    sink: Sink::Http,
                    reach: Reach::Http {
                        generation: *generation,
                    },
                });
            }
            report.roster = Arc::new(roster);
        }
        reports
    }

    fn order(&self, order: Order) -> Result<u64, OrderRefused> {
        let name = match &order {
            Order::Weight { name, .. }
            | Order::Unpin { name }
            | Order::OwnWeight { name, .. }
            | Order::Drain { name }
            | Order::Resume { name }
            | Order::Eject { name } => name,
            Order::Wanted { table } => {
                let texts = table.iter().map(|one| {
                    let pin = if one.pin { " pin" } else { "" };
                    format!("{} {}{pin}", one.name, one.weight)
                });
                let mut orders = lock(&self.orders);
                orders.push(format!("wanted {}", texts.collect::<Vec<_>>().join(", ")));
                return Ok(orders.len() as u64);
            }
            Order::HttpUp { .. } | Order::HttpDown { .. } => panic!("there are calls for these"),
        };
        let reports = DataPlane::reports(self);
        let known = reports[0]
            .roster
            .entries
            .iter()
            .any(|entry| entry.name == *name);
        if !known {
            let name = Arc::clone(name);
            return Err(OrderRefused::Order(OrderError::Unknown { name }));
        }
        let text = match &order {
            Order::Weight { name, weight, pin } => format!("weight {name} {weight} {pin}"),
            Order::OwnWeight { name, weight } => format!("own weight {name} {weight}"),
            other => format!("{other:?}"),
        };
        let mut orders = lock(&self.orders);
        orders.push(text);
        Ok(orders.len() as u64)
    }

    fn http_up(&self, target: HttpTarget, weight: f64) -> Result<u64, OrderRefused> {
        if let Some(holder) = lock(&self.holder).clone() {
            lock(&self.refused_ups).push(holder.clone());
            return Err(OrderRefused::InUse(holder));
        }
        let mut orders = lock(&self.orders);
        orders.push(format!("up {} {weight}", target.name));
        let generation = orders.len() as u64;
        lock(&self.up).insert(generation, (target, weight));
        Ok(generation)
    }

    fn http_move(&self, generation: u64, target: HttpTarget) {
        let address = target.at.address();
        lock(&self.orders).push(format!("move {} {address}", target.name));
        if let Some(entry) = lock(&self.up).get_mut(&generation) {
            entry.0 = target;
        }
    }

    fn http_down(&self, generation: u64) -> Result<u64, OrderRefused> {
        let mut orders = lock(&self.orders);
        let down = lock(&self.up).remove(&generation);
        let name = down.map_or("nobody".into(), |(target, _)| target.name);
        orders.push(format!("down {name}"));
        Ok(orders.len() as u64)
    }
}
