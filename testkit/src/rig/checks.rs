//! What holds at every moment, and turns in which everything works until nothing is left.

use weir_engine::Rerouted;

use super::Rig;

impl Rig {
    /// What holds at every moment.
    pub fn check(&self) {
        let balance = self.engine.balance();
        assert!(balance.holds(), "{balance}");
        assert_eq!(
            (balance.received, balance.acked),
            (self.received, self.acked)
        );
        assert_eq!(self.engine.check(), Ok(()));
    }

    /// What holds at every moment, too, but takes longer to see.
    pub fn check_windows(&self) {
        let frame_bytes = u64::from(self.config.frame_bytes_max) + 40;
        let frame_buffers = frame_bytes.div_ceil(u64::from(self.config.buffer_bytes));
        let frame_room = frame_buffers * u64::from(self.config.buffer_bytes);
        // No window is smaller than two buffers.
        let buffer = u64::from(self.config.buffer_bytes);
        let small = (self.config.window_bytes / 2).max(2 * buffer) + buffer + frame_room;
        let most = self.config.window_bytes.max(small);
        for lane in self.engine.lane_reports() {
            let held = lane.held_bytes;
            assert!(held <= most, "{held} bytes in one lane");
            if !lane.down {
                let open = lane.in_flight + lane.queued;
                assert!(
                    open <= self.config.window_messages,
                    "{open} messages in one lane"
                );
            }
        }
    }

    /// Reports of re-routes that are over.
    pub fn rerouted(&mut self) -> Vec<Rerouted> {
        let mut all = Vec::new();
        while let Some(report) = self.engine.next_rerouted() {
            let due = self.reports_due.remove(&report.epoch);
            assert_eq!(
                due,
                Some(report.messages),
                "reported once, with its messages"
            );
            all.push(report);
        }
        all
    }

    /// A turn in which everything works: all is released, offered, sent, written and ACKed.
    pub fn turn(&mut self) {
        self.engine.reroute();
        for source in 0..self.sources.len() {
            self.offer(source, usize::MAX);
        }
        self.collect_dirty();
        for peer in 0..self.peers.len() {
            if self.peers[peer].ready {
                self.transmit_all(peer, true);
            } else if self.peers[peer].up {
                self.engine.written(self.peers[peer].lane);
            }
            self.release_all(peer);
            self.ack_all(peer);
        }
    }

    /// Turns until every message is ACKed; then nothing must be left anywhere.
    pub fn finish(&mut self) {
        let state = |rig: &Rig| {
            let unsent: usize = rig.sources.iter().map(|source| source.unsent.len()).sum();
            let held: usize = rig.peers.iter().map(|peer| peer.held.len()).sum();
            let free = rig.engine.buffers().0;
            let rerouted = rig.engine.counters.rerouted;
            (unsent, held, free, rig.received, rig.acked, rerouted)
        };
        loop {
            let before = state(self);
            self.turn();
            let after = state(self);
            if after.0 == 0 && self.engine.balance().open() == 0 {
                break;
            }
            assert_ne!(before, after, "no progress: {}", self.describe());
        }
        self.check_nothing_left();
    }

    fn describe(&mut self) -> String {
        let mut text = format!(
            "{}, buffers {:?}",
            self.engine.balance(),
            self.engine.buffers()
        );
        for lane in self.engine.lane_reports() {
            let (epoch, in_flight, queued) = (lane.epoch.0, lane.in_flight, lane.queued);
            let (full, down, held) = (lane.full, lane.down, lane.held_bytes);
            text += &format!("\nlane {epoch:x}: in flight {in_flight} queued {queued}");
            text += &format!(" held bytes {held} full {full} down {down}");
        }
        text
    }

    fn check_nothing_left(&mut self) {
        assert!(self.open.is_empty(), "each message was ACKed exactly once");
        for source in 0..self.sources.len() {
            assert!(self.sources[source].frames.is_empty());
        }
        let (free, _, total) = self.engine.buffers();
        assert_eq!(free, total, "every buffer is free again");
        for lane in self.engine.lane_reports() {
            assert!(!lane.full && !lane.down, "{lane:?}");
        }
        self.rerouted();
        assert!(
            self.reports_due.is_empty(),
            "every re-route was reported: {:?}",
            self.reports_due
        );
    }
}
