//! Re-route: what a dead lane has not seen ACKed goes back through the tree to the living.
//!
//! ```text
//! link_down -> jobs (oldest first) -> one message at a time: tree, append to a living lane
//!                                       nobody living, or no room: wait, emitters feel it
//!           -> written              -> reported when every message is on another socket
//! ```
//!
//! While a job is open nothing new is taken in, so re-routed messages overtake fresh ones.

use std::collections::VecDeque;

use super::lane::Lane;
use super::shard::{Engine, LaneState, Rerouted};
use super::{LaneId, Memory};

struct Job {
    lane: LaneId,
    report: Rerouted,
    /// Messages that the dead analyzer had been sent.
    sent_before: u64,
}

/// All moved, not yet all written: what each living lane must have written.
struct Moved {
    report: Rerouted,
    targets: Vec<(LaneId, u64)>,
}

/// Re-routes under way. At most one per lane.
#[derive(Default)]
pub(super) struct Rerouting {
    jobs: VecDeque<Job>,
    moved: VecDeque<Moved>,
    scratch: Vec<u8>,
}

impl Rerouting {
    /// Every message has found its new lane.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl<M: Memory> Engine<M> {
    pub(super) fn start_reroute(&mut self, lane: LaneId, now_ns: u64) {
        let slot = &self.lanes[lane.0 as usize];
        let unacked = slot.lane.unacked();
        if unacked == 0 {
            return;
        }
        let report = Rerouted {
            epoch: slot.lane.setup().epoch,
            analyzer: slot.analyzer,
            messages: unacked,
            detected_ns: now_ns,
        };
        let sent_before = slot.lane.submitted() - slot.lane.acked();
        self.rerouting.jobs.push_back(Job {
            lane,
            report,
            sent_before,
        });
    }

    /// Moves messages of dead lanes to living ones, as far as these have room. Cheap when there is
    /// nothing to do.
    pub fn reroute(&mut self) {
        while let Some(job) = self.rerouting.jobs.front() {
            let (lane, report, sent_before) = (job.lane, job.report, job.sent_before);
            if !self.empty_lane(lane) {
                return;
            }
            self.rerouting.jobs.pop_front();
            self.counters.duplicates_possible += sent_before;
            let living = self.lanes.iter().enumerate();
            let targets = living
                .filter(|(_, slot)| slot.state == LaneState::Up)
                .filter_map(|(index, slot)| {
                    Some((LaneId(u32::try_from(index).ok()?), slot.lane.appended()))
                })
                .collect();
            self.rerouting.moved.push_back(Moved { report, targets });
            self.settle(lane);
        }
    }

    /// A re-route whose last message has been written to its new analyzer's socket.
    pub fn next_rerouted(&mut self) -> Option<Rerouted> {
        let moved = self.rerouting.moved.front()?;
        let lanes = &self.lanes;
        let written = moved.targets.iter().all(|(lane, sequence)| {
            let slot = &lanes[lane.0 as usize];
            slot.state != LaneState::Up || slot.written >= *sequence
        });
        if !written {
            return None;
        }
        self.rerouting.moved.pop_front().map(|moved| moved.report)
    }

    /// Moves a dead lane's messages. False: no room, or nobody alive.
    fn empty_lane(&mut self, dead: LaneId) -> bool {
        let mut scratch = std::mem::take(&mut self.rerouting.scratch);
        let emptied = loop {
            let lane = &mut self.lanes[dead.0 as usize].lane;
            let Some(origin) = lane.unacked_front(&mut self.memory, &mut scratch) else {
                break true;
            };
            let needed = Lane::buffers_for(scratch.len(), self.config.buffer_bytes);
            if self.pool.free() < needed {
                break false;
            }
            let Some(leaf) = self.tree.route(1) else {
                break false;
            };
            let target = &mut self.lanes[leaf as usize].lane;
            target.append(&mut self.memory, &mut self.pool, &scratch, Some(origin));
            self.mark_dirty(LaneId(leaf));
            self.check_full(LaneId(leaf));
            self.lanes[dead.0 as usize]
                .lane
                .pop_unacked(&self.memory, &mut self.pool);
            self.counters.rerouted += 1;
        };
        if scratch.capacity() > 64 * 1024 {
            scratch = Vec::new();
        }
        self.rerouting.scratch = scratch;
        emptied
    }
}
