//! Links that ended: what each had been given and had ACKed, and how long its re-route took.
//!
//! For whoever adds up per analyzer or shows re-routes; routing does not read it.

use std::collections::VecDeque;

use super::LinkEpoch;

/// The newest so many are kept. Reports go out ten times a second; so many links of one shard do
/// not die in between, except when everything does.
const ENDED_MAX: usize = 16;

/// A link that is gone, as its lane stood at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The link.
    pub epoch: LinkEpoch,
    /// Its analyzer, see `Roster`.
    pub analyzer: u32,
    /// Messages that had been routed to it.
    pub assigned: u64,
    /// Messages that it had ACKed, in order or not.
    pub acked: u64,
    /// Messages that it had refused for good, and that were set aside.
    pub refused: u64,
    /// CLOCK_MONOTONIC when its end was seen.
    pub detected_ns: u64,
    /// CLOCK_MONOTONIC when the last re-routed message was written to its new analyzer's socket;
    /// none until then.
    pub rerouted_ns: Option<u64>,
}

impl Ended {
    /// Messages that go to others: neither ACKed nor refused.
    pub fn left(&self) -> u64 {
        self.assigned - self.acked - self.refused
    }
}

/// The newest ends, oldest first.
#[derive(Default)]
pub(super) struct EndedList(VecDeque<Ended>);

impl EndedList {
    pub(super) fn push(&mut self, ended: Ended) {
        if self.0.len() == ENDED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(ended);
    }

    /// The re-route of a link's messages is over.
    pub(super) fn rerouted(&mut self, epoch: LinkEpoch, now_ns: u64) {
        if let Some(ended) = self.0.iter_mut().find(|ended| ended.epoch == epoch) {
            ended.rerouted_ns = Some(now_ns);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ended> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, EngineConfig, Entry, Ingest, OnSlow, Reach, Roster, Sink, VecMemory};
    use crate::{Port, Window};

    /// A roster of native analyzers, numbered from 0, each with the link of that count.
    fn roster(epoch: u64, weights: &[f64]) -> Roster {
        let entries = (0..).zip(weights).map(|(analyzer, weight)| Entry {
            analyzer,
            name: analyzer.to_string().into(),
            weight: *weight,
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Native,
            reach: Reach::LinkPerShard,
        });
        Roster {
            epoch,
            entries: entries.collect(),
        }
    }

    fn link(analyzer: u32) -> LinkEpoch {
        LinkEpoch::new(0, u64::from(analyzer) + 1)
    }

    #[test]
    fn changes_are_counted_and_ends_are_remembered() {
        let config = EngineConfig {
            shard: 0,
            buffers: 64,
            buffer_bytes: 4096,
            frame_bytes_max: 1024,
            unit_bytes_max: 0,
            window_bytes: 1 << 20,
            window_messages: 1 << 20,
            partial_bytes_max: 4096,
            on_slow: OnSlow::Spill,
        };
        let mut engine = Engine::new(config, VecMemory::new(64, 4096));
        let apply = |engine: &mut Engine<VecMemory>, roster: &Roster| {
            assert!(engine.apply_roster(roster, |entry| Some((link(entry.analyzer), Window::ANY))));
            engine.table_changes().tables
        };
        engine.emitter_opened(0, &Port::emitters().into());
        let ten = [0, 0, 0, 5, 3].repeat(10);
        assert_eq!(apply(&mut engine, &roster(1, &[0.5, 0.5])), 1);
        assert_eq!(engine.ingest(0, &ten), Ingest::Taken);
        assert_eq!(
            apply(&mut engine, &roster(2, &[0.5, 0.5])),
            1,
            "the same weights again"
        );
        let before = |engine: &Engine<VecMemory>| {
            let reports = engine
                .lane_reports()
                .map(|lane| (lane.assigned, lane.assigned_before));
            reports.collect::<Vec<_>>()
        };
        assert_eq!(before(&engine), [(5, 0), (5, 0)]);
        assert_eq!(apply(&mut engine, &roster(3, &[0.5, 1.5])), 2);
        assert_eq!(before(&engine), [(5, 5), (5, 5)]);

        engine.link_down(link(1), 7);
        assert_eq!(engine.table_changes().tables, 3);
        engine.reroute();
        let ended = engine.ended().copied().next().expect("one link ended");
        assert_eq!(
            (ended.epoch, ended.left(), ended.detected_ns),
            (link(1), 5, 7)
        );
        assert_eq!(ended.rerouted_ns, None, "moved, not yet written");
        assert_eq!(before(&engine), [(10, 5)], "re-routed ones count as given");
        assert_eq!(engine.table_changes().availability, 0);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut list = EndedList::default();
        for count in 1..=20 {
            list.push(Ended {
                epoch: LinkEpoch::new(0, count),
                analyzer: 1,
                assigned: 10,
                acked: 4,
                refused: 1,
                detected_ns: count,
                rerouted_ns: None,
            });
        }
        list.rerouted(LinkEpoch::new(0, 1), 99);
        list.rerouted(LinkEpoch::new(0, 20), 99);
        let kept: Vec<_> = list.iter().collect();
        assert_eq!(
            (kept.len(), kept[0].detected_ns, kept[0].left()),
            (ENDED_MAX, 5, 5)
        );
        let times: Vec<_> = kept.iter().filter_map(|ended| ended.rerouted_ns).collect();
        assert_eq!(times, [99]);
    }
}
