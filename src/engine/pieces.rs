//! Pieces: messages of packets that came by HTTP and travel as frames, each as the JSON that it is. Frames
//! have no place to say so, but one may be re-routed to an HTTP analyzer, which gets pieces as they are and
//! everything else as text.

use std::collections::VecDeque;

use super::shard::Engine;
use super::{LaneId, Memory};

/// The pieces in one lane of frames or batches, as ranges, oldest first. Bounded by the engine, all lanes
/// together.
#[derive(Default)]
pub(super) struct Pieces {
    kept: VecDeque<(u64, u64)>,
}

impl Pieces {
    /// Messages up to `last`, the newest of the lane, are pieces. False: that takes one more range and there
    /// is no room for it; nothing was noted.
    pub(super) fn keep(&mut self, last: u64, messages: u64, has_room: bool) -> bool {
        let first = last + 1 - messages;
        match self.kept.back_mut() {
            Some(newest) if newest.1 + 1 == first => newest.1 = last,
            _ if has_room => self.kept.push_back((first, last)),
            _ => return false,
        }
        true
    }

    /// A message is a piece.
    pub(super) fn has(&self, message: u64) -> bool {
        let behind = self.kept.partition_point(|(_, last)| *last < message);
        self.kept
            .get(behind)
            .is_some_and(|(first, _)| *first <= message)
    }

    /// Messages up to `message` have left the lane; how many ranges went with them.
    pub(super) fn forget(&mut self, message: u64) -> usize {
        let before = self.kept.len();
        while self.kept.front().is_some_and(|(_, last)| *last <= message) {
            self.kept.pop_front();
        }
        before - self.kept.len()
    }

    /// Ranges.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

impl<M: Memory> Engine<M> {
    /// The newest messages of a lane of frames are pieces. Beyond the bound an HTTP analyzer would get them as
    /// text.
    pub(super) fn note_pieces(&mut self, lane: LaneId, messages: u64) {
        let slot = &mut self.lanes[lane.0 as usize];
        let before = slot.pieces.len();
        let has_room = self.pieces_kept < self.pieces_max;
        if !slot.pieces.keep(slot.lane.appended(), messages, has_room) {
            self.counters.pieces_lost += messages;
        }
        self.pieces_kept += slot.pieces.len() - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range_and_go_with_their_messages() {
        let mut pieces = Pieces::default();
        assert!(pieces.keep(4, 2, true)); // 3, 4
        assert!(pieces.keep(5, 1, false), "it is next to the newest");
        assert!(!pieces.keep(9, 2, false));
        assert!(pieces.keep(12, 3, true)); // 10 to 12
        let has: Vec<u64> = (0..15).filter(|message| pieces.has(*message)).collect();
        assert_eq!(has, [3, 4, 5, 10, 11, 12]);
        assert_eq!(
            (pieces.len(), pieces.forget(4), pieces.has(5)),
            (2, 0, true)
        );
        assert_eq!((pieces.forget(11), pieces.has(5)), (1, false));
        assert_eq!(
            (pieces.has(12), pieces.forget(12), pieces.len()),
            (true, 1, 0)
        );
    }
}
