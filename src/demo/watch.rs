//! Makes rows and events of the shards' reports. Nothing here is known from anywhere else: a row says
//! what the distributor counted, an event what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use hdrhistogram::Histogram;

use weir_engine::{Balance, Counters, Ended, LinkEpoch};
use weir_shard::ShardReport;

/// How an analyzer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has a link to every shard.
    Up,
    /// It has links to some shards: it is coming or going.
    Partly,
    /// It asked for nothing new.
    Draining,
    /// It has no link.
    Down,
}

/// One analyzer, now.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its id.
    pub name: Arc<str>,
    /// How it stands.
    pub state: State,
    /// Its weight; none while it is down.
    pub weight: Option<f64>,
    /// Messages that it ACKed, over all its links and lives.
    pub acked: u64,
    /// Messages given to it and not ACKed, queued ones included.
    pub in_flight: u64,
    /// Messages that were taken from it when a link ended, and given to others.
    pub rerouted: u64,
    /// Median and 99th percentile of the ACK latency since the last table, in microseconds.
    pub ack_us: Option<(u64, u64)>,
}

/// What happened, as the shards saw it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Every link of an analyzer is gone and what it had not ACKed is with others.
    Down {
        /// Analyzer.
        name: Arc<str>,
        /// Messages re-routed.
        messages: u64,
        /// When its end was seen first.
        detected_ns: u64,
        /// When the last of the messages was written to another socket.
        rerouted_ns: u64,
    },
    /// It has links to every shard again.
    Back {
        /// Analyzer.
        name: Arc<str>,
    },
    /// Another weight.
    Weight {
        /// Analyzer.
        name: Arc<str>,
        /// Before.
        from: f64,
        /// From now on.
        to: f64,
    },
}

/// Everything seen so far.
#[derive(Default)]
pub struct Watch {
    shards: BTreeMap<u16, ShardReport>,
    lanes: BTreeMap<(u16, LinkEpoch), Lane>,
    /// Names by number of the analyzer, those that are gone included.
    names: BTreeMap<u32, Arc<str>>,
    /// In order of name. Analyzers that were ever up on all shards.
    known: BTreeMap<Arc<str>, Known>,
    /// Latencies at the last table.
    latencies: BTreeMap<(u16, LinkEpoch), Histogram<u64>>,
}

struct Lane {
    name: Arc<str>,
    acked: u64,
    in_flight: u64,
    ended: Option<Ended>,
    is_told: bool,
}

struct Known {
    weight: f64,
    is_up: bool,
}

impl Watch {
    /// Takes the newest report of a shard.
    pub fn note(&mut self, report: ShardReport) {
        for entry in &report.roster.entries {
            self.names
                .entry(entry.analyzer)
                .or_insert_with(|| Arc::clone(&entry.name));
        }
        let name = |analyzer: u32| {
            let known = self.names.get(&analyzer);
            known.map_or_else(|| analyzer.to_string().into(), Arc::clone)
        };
        for lane in report.lanes.iter().filter(|lane| !lane.down) {
            let key = (report.shard, lane.epoch);
            let seen = self
                .lanes
                .entry(key)
                .or_insert_with(|| Lane::new(name(lane.analyzer)));
            (seen.acked, seen.in_flight) = (lane.acked, lane.in_flight + lane.queued);
        }
        for ended in &report.ended {
            let key = (report.shard, ended.epoch);
            let seen = self
                .lanes
                .entry(key)
                .or_insert_with(|| Lane::new(name(ended.analyzer)));
            (seen.acked, seen.in_flight) = (ended.acked, 0);
            seen.ended = Some(*ended);
        }
        self.shards.insert(report.shard, report);
    }

    /// What happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let names: BTreeSet<Arc<str>> = self.names.values().cloned().collect();
        for name in names {
            let (state, weight) = self.standing(&name);
            let Some(known) = self.known.get_mut(&name) else {
                if let (State::Up, Some(weight)) = (state, weight) {
                    self.known.insert(
                        name,
                        Known {
                            weight,
                            is_up: true,
                        },
                    );
                }
                continue;
            };
            match weight {
                Some(weight) if known.weight != weight => {
                    let from = std::mem::replace(&mut known.weight, weight);
                    let name = Arc::clone(&name);
                    let to = weight;
                    events.push(Event::Weight { name, from, to });
                }
                _ => {}
            }
            if state == State::Up && !known.is_up {
                known.is_up = true;
                events.push(Event::Back { name });
            } else if state == State::Down && known.is_up {
                if let Some(down) = self.down(&name) {
                    if let Some(known) = self.known.get_mut(&name) {
                        known.is_up = false;
                    }
                    events.push(down);
                }
            }
        }
        events
    }

    /// The event of an analyzer's end, once all its re-routes are over.
    fn down(&mut self, name: &Arc<str>) -> Option<Event> {
        let ended = || {
            let lanes = self.lanes.values();
            lanes
                .filter(|lane| lane.name == *name && !lane.is_told)
                .filter_map(|lane| lane.ended)
        };
        let messages = ended().map(|ended| ended.left()).sum();
        let detected_ns = ended().map(|ended| ended.detected_ns).min()?;
        let rerouted: Option<Vec<u64>> = ended().map(|ended| ended.rerouted_ns).collect();
        let rerouted_ns = rerouted?.into_iter().max()?;
        for lane in self.lanes.values_mut().filter(|lane| lane.name == *name) {
            lane.is_told |= lane.ended.is_some();
        }
        Some(Event::Down {
            name: Arc::clone(name),
            messages,
            detected_ns,
            rerouted_ns,
        })
    }

    /// State and weight of an analyzer, from all shards.
    fn standing(&self, name: &str) -> (State, Option<f64>) {
        let newest = self
            .shards
            .values()
            .max_by_key(|report| report.roster.epoch);
        let entry = newest.and_then(|report| {
            let mut entries = report.roster.entries.iter();
            entries.find(|entry| &*entry.name == name)
        });
        let links = self.shards.values().filter(|report| {
            let mut lanes = report.lanes.iter().filter(|lane| !lane.down);
            lanes.any(|lane| self.names.get(&lane.analyzer).is_some_and(|n| &**n == name))
        });
        let links = links.count();
        let state = match entry {
            _ if links == 0 => State::Down,
            Some(entry) if entry.draining => State::Draining,
            _ if links < self.shards.len() => State::Partly,
            _ => State::Up,
        };
        let weight = entry.map(|entry| entry.weight);
        (state, weight.filter(|_| links > 0))
    }

    /// All analyzers, in order of name.
    pub fn rows(&self) -> Vec<Row> {
        let rows = self.known.keys().map(|name| {
            let (state, weight) = self.standing(name);
            let lanes = || self.lanes.values().filter(|lane| lane.name == *name);
            let rerouted = lanes()
                .filter_map(|lane| lane.ended)
                .map(|ended| ended.left());
            Row {
                name: Arc::clone(name),
                state,
                weight,
                acked: lanes().map(|lane| lane.acked).sum(),
                in_flight: lanes().map(|lane| lane.in_flight).sum(),
                rerouted: rerouted.sum(),
                ack_us: self.ack_us(name),
            }
        });
        rows.collect()
    }

    /// ACK latencies start anew: what [`Watch::rows`] shows is since this call.
    pub fn forget_latencies(&mut self) {
        self.latencies = self
            .shards
            .values()
            .flat_map(|report| {
                let key = move |epoch| (report.shard, epoch);
                let lanes = report.lanes.iter();
                lanes.map(move |lane| (key(lane.epoch), lane.latency_us.histogram()))
            })
            .collect();
    }

    /// ACK latencies are those of each link's whole life.
    pub fn all_latencies(&mut self) {
        self.latencies.clear();
    }

    fn ack_us(&self, name: &str) -> Option<(u64, u64)> {
        let mut all: Option<Histogram<u64>> = None;
        for (shard, report) in &self.shards {
            for lane in &report.lanes {
                if self.names.get(&lane.analyzer).is_none_or(|n| &**n != name) {
                    continue;
                }
                let mut fresh = lane.latency_us.histogram();
                if let Some(before) = self.latencies.get(&(*shard, lane.epoch)) {
                    // Cannot fail: a lane's histogram only grows and keeps its bounds.
                    let _ = fresh.subtract(before);
                }
                match &mut all {
                    Some(all) => drop(all.add(&fresh)),
                    None => all = Some(fresh),
                }
            }
        }
        let all = all.filter(|all| !all.is_empty())?;
        Some((all.value_at_quantile(0.5), all.value_at_quantile(0.99)))
    }

    /// Both sides of the conservation law, all shards.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for report in self.shards.values() {
            balance.add(&report.balance);
        }
        balance
    }

    /// Counters of all shards.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for report in self.shards.values() {
            counters.add(&report.counters);
        }
        counters
    }

    /// What links that are gone had ACKed: nobody is left who could confirm it.
    pub fn acked_by_ended(&self) -> u64 {
        let ended = self.lanes.values().filter_map(|lane| lane.ended);
        ended.map(|ended| ended.acked).sum()
    }

    /// Whether exactly these analyzers are up, with these weights.
    pub fn are_up(&self, wanted: &[(&str, f64)]) -> bool {
        let is_up =
            |(name, weight): &(&str, f64)| self.standing(name) == (State::Up, Some(*weight));
        wanted.iter().all(is_up)
    }
}

impl Lane {
    fn new(name: Arc<str>) -> Lane {
        Lane {
            name,
            acked: 0,
            in_flight: 0,
            ended: None,
            is_told: false,
        }
    }
}

impl State {
    /// As the table shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Partly => "partly",
            State::Draining => "draining",
            State::Down => "down",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Down {
                name,
                messages,
                detected_ns,
                rerouted_ns,
            } => {
                let took_ms = rerouted_ns.saturating_sub(*detected_ns) as f64 / 1e6;
                write!(
                    f,
                    "{name} down: {messages} messages re-routed in {took_ms:.2} ms"
                )
            }
            Event::Back { name } => write!(f, "{name} back"),
            Event::Weight { name, from, to } => write!(f, "{name} weight {from} -> {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{ended, lane, report};

    #[test]
    fn an_analyzer_goes_and_comes_back() {
        let mut watch = Watch::default();
        let mut all = report(&[("a", 0.6), ("b", 0.4)]);
        all.lanes = vec![lane(0, 60, 0), lane(1, 40, 0)];
        watch.note(all.clone());
        assert!(watch.events().is_empty(), "the first time is no event");

        let mut without = report(&[("a", 0.6)]);
        without.lanes = vec![lane(0, 70, 60)];
        without.ended = vec![ended(1, 50, 43)];
        watch.note(without.clone());
        assert!(
            watch.events().is_empty(),
            "its messages are not yet re-routed"
        );
        without.ended[0].rerouted_ns = Some(3_500_000);
        watch.note(without);
        let events: Vec<_> = watch.events().iter().map(Event::to_string).collect();
        assert_eq!(events, ["b down: 7 messages re-routed in 2.50 ms"]);
        let b = &watch.rows()[1];
        assert_eq!((b.state, b.weight), (State::Down, None));
        assert_eq!((b.acked, b.in_flight, b.rerouted), (43, 0, 7));

        all.lanes[1] = lane(1, 5, 0);
        all.lanes[1].epoch = LinkEpoch::new(0, 3);
        watch.note(all);
        assert_eq!(watch.events(), [Event::Back { name: "b".into() }]);
        assert!(watch.events().is_empty(), "once");
        assert_eq!(watch.rows()[1].acked, 48, "both lives");
        assert_eq!(watch.acked_by_ended(), 43);
    }

    #[test]
    fn a_weight_that_changes_is_an_event() {
        let mut watch = Watch::default();
        for weight in [0.2, 0.2, 0.5] {
            let mut all = report(&[("a", weight)]);
            all.lanes = vec![lane(0, 60, 0)];
            watch.note(all);
            let events: Vec<_> = watch.events().iter().map(Event::to_string).collect();
            let changed = if weight == 0.5 {
                &["a weight 0.2 -> 0.5"][..]
            } else {
                &[]
            };
            assert_eq!(events, changed);
        }
        assert!(watch.are_up(&[("a", 0.5)]) && !watch.are_up(&[("a", 0.2)]));
    }

    #[test]
    fn an_analyzer_without_a_link_to_some_shard_is_partly_up() {
        let mut watch = Watch::default();
        let mut first = report(&[("a", 1.0)]);
        first.lanes = vec![lane(0, 60, 0)];
        let mut second = report(&[("a", 1.0)]);
        second.shard = 1;
        watch.note(first);
        watch.note(second);
        assert_eq!(watch.standing("a"), (State::Partly, Some(1.0)));
        assert_eq!(watch.standing("b"), (State::Down, None));
    }

    #[test]
    fn latencies_are_those_since_the_last_table() {
        let mut watch = Watch::default();
        let mut all = report(&[("a", 1.0)]);
        all.lanes = vec![lane(0, 60, 0)];
        all.lanes[0].latency_us.record(5_000, 100);
        watch.note(all.clone());
        watch.events();
        watch.forget_latencies();
        assert_eq!(watch.rows()[0].ack_us, None);
        all.lanes[0].latency_us.record(100, 10);
        watch.note(all);
        assert_eq!(watch.rows()[0].ack_us, Some((100, 100)));
    }
}
