//! What the engine's public calls cannot show of a lane.

use super::*;
use crate::LinkEpoch;
use crate::VecMemory;
use weir_protocol::frame;

const BUFFERS: u32 = 16;
const BYTES: u32 = 4096;

struct Bench {
    memory: VecMemory,
    pool: BufferPool,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            memory: VecMemory::new(BUFFERS as usize, BYTES as usize),
            pool: BufferPool::new(BUFFERS, BYTES),
        }
    }

    fn append(&mut self, lane: &mut Lane, frame: &[u8], origin: Option<Origin>) {
        if origin.is_some() || !lane.append_here(&mut self.memory, &[], frame) {
            lane.append(&mut self.memory, &mut self.pool, frame, origin);
        }
    }

    fn transmit(&mut self, lane: &mut Lane, hold: bool) -> Vec<Transmit> {
        let next = || lane.transmit(&mut self.memory, 0, hold);
        std::iter::from_fn(next).collect()
    }

    /// Everything that a dead lane still has.
    fn empty(&mut self, lane: &mut Lane) -> Vec<(Origin, Vec<u8>)> {
        let mut all = Vec::new();
        let mut frame = Vec::new();
        while let Some(origin) = lane.unacked_front(&mut self.memory, &mut frame) {
            all.push((origin, std::mem::take(&mut frame)));
            lane.pop_unacked(&self.memory, &mut self.pool);
        }
        all
    }
}

fn lane(native: bool, link: u64) -> Lane {
    let epoch = LinkEpoch(link);
    Lane::new(LaneSetup {
        described: false,
        shard: 7,
        epoch,
        layout: if native {
            Layout::Batches
        } else {
            Layout::Frames
        },
    })
}

fn frame(bytes: usize, severity: u8) -> Vec<u8> {
    let header = frame::encode_header(u32::try_from(bytes - 5).expect("short"), severity);
    let mut frame = vec![severity; bytes];
    frame[..header.len()].copy_from_slice(&header);
    frame
}

#[test]
fn a_dead_lane_gives_back_exactly_what_is_not_acked() {
    let sizes = [5, 9000, 700, 4096, 5, 5, 3000, 2000, 4064, 20_000, 6];
    for native in [false, true] {
        for sent in [0, 3, sizes.len()] {
            for acked in 0..=sent {
                let (mut bench, mut lane) = (Bench::new(), lane(native, 1));
                for (index, bytes) in sizes.iter().enumerate() {
                    if index == sent {
                        bench.transmit(&mut lane, true);
                    }
                    bench.append(&mut lane, &frame(*bytes, index as u8), None);
                }
                if sent == sizes.len() {
                    bench.transmit(&mut lane, true);
                }
                lane.ack(acked as u64, 0, &mut bench.pool);
                let rest = bench.empty(&mut lane);
                assert_eq!(rest.len(), sizes.len() - acked);
                for (index, (origin, bytes)) in (acked..).zip(rest) {
                    assert_eq!(bytes, frame(sizes[index], index as u8));
                    assert_eq!(origin.sequence, index as u64 + 1);
                    assert_eq!((origin.shard, origin.epoch), (7, LinkEpoch(1)));
                }
                assert_eq!(lane.unacked(), 0);
            }
        }
    }
}

#[test]
fn buffers_go_back_when_acked_and_released_in_either_order() {
    for acked_first in [false, true] {
        let (mut bench, mut lane) = (Bench::new(), lane(false, 1));
        for severity in 0..3 {
            bench.append(&mut lane, &frame(4000, severity), None);
        }
        let ranges = bench.transmit(&mut lane, true);
        assert_eq!(ranges.len(), 3);
        assert_eq!(bench.pool.free(), 13);
        let release = |bench: &mut Bench, lane: &mut Lane| {
            // The last first: buffers go back in order all the same.
            for range in ranges.iter().rev() {
                assert!(lane.front_is_held());
                lane.released(range.segment, &mut bench.pool);
            }
            assert!(!lane.front_is_held());
        };
        if acked_first {
            lane.ack(3, 0, &mut bench.pool);
            assert_eq!(bench.pool.free(), 13);
            release(&mut bench, &mut lane);
        } else {
            release(&mut bench, &mut lane);
            assert_eq!(bench.pool.free(), 13);
            lane.ack(1, 0, &mut bench.pool);
            assert_eq!(bench.pool.free(), 14);
            lane.ack(2, 0, &mut bench.pool);
        }
        assert!(lane.is_empty());
        assert_eq!(bench.pool.free(), 16);
    }
}

#[test]
fn a_tail_that_went_back_is_not_written_to() {
    for native in [false, true] {
        let (mut bench, mut lane) = (Bench::new(), lane(native, 1));
        bench.append(&mut lane, &frame(50, 1), None);
        bench.transmit(&mut lane, false);
        lane.ack(1, 0, &mut bench.pool);
        assert_eq!(bench.pool.free(), 16);
        assert!(!lane.append_here(&mut bench.memory, &[], &frame(50, 2)));
        bench.append(&mut lane, &frame(50, 2), None);
        assert_eq!(bench.pool.free(), 15);
        assert_eq!(bench.transmit(&mut lane, false)[0].messages, 1);
    }
}

#[test]
fn what_the_lane_says_it_needs_is_enough() {
    for bytes in [5, 4000, 4056, 4057, 4064, 4096, 8152, 8153, 20_000] {
        for tail in [0, 5, 100, 4000] {
            for native in [false, true] {
                let (mut bench, mut lane) = (Bench::new(), lane(native, 1));
                if tail > 0 {
                    bench.append(&mut lane, &frame(tail, 0), None);
                }
                let free = bench.pool.free();
                let needed = lane.buffers_needed(bytes, BYTES);
                let fits = tail > 0 && bytes + 40 <= (BYTES - lane.at) as usize;
                assert_eq!(needed == 0, fits, "{bytes} behind {tail}");
                let origin = Origin {
                    shard: 1,
                    epoch: LinkEpoch(9),
                    sequence: 5,
                };
                bench.append(&mut lane, &frame(bytes, 1), Some(origin));
                let taken = free - bench.pool.free();
                assert!(taken <= needed && needed <= room::for_message(bytes, BYTES));
                let rest = bench.empty(&mut lane);
                let last = rest.last().expect("it was appended");
                assert_eq!(last.1, frame(bytes, 1));
                assert_eq!(last.0 == origin, native, "only native links know origins");
            }
        }
    }
}

#[test]
fn buffers_are_counted_to_the_last_byte() {
    let needed = [5, 4056, 4057, 8152, 8153].map(|bytes| room::for_message(bytes, BYTES));
    assert_eq!(needed, [1, 1, 2, 2, 3], "40 bytes more than the frame");
}

#[test]
fn buffers_are_filled_to_the_last_byte() {
    let origin = |sequence| Origin {
        shard: 1,
        epoch: LinkEpoch(9),
        sequence,
    };
    // Header, then an origin of 8 and a frame of 1,008 each: 4 x 1,016 and the header are 4,096.
    for (native, bytes) in [(false, 1024), (true, 1008)] {
        let (mut bench, mut lane) = (Bench::new(), lane(native, 1));
        for sequence in 1..=8 {
            bench.append(&mut lane, &frame(bytes, 1), Some(origin(sequence)));
            let buffers = 16 - bench.pool.free();
            assert_eq!(buffers as u64, sequence.div_ceil(4), "message {sequence}");
        }
        assert_eq!(bench.empty(&mut lane).len(), 8);
    }
    // The same the short way, and behind what was sent.
    let (mut bench, mut lane) = (Bench::new(), lane(false, 1));
    for _ in 0..3 {
        bench.append(&mut lane, &frame(1024, 1), None);
    }
    bench.transmit(&mut lane, false);
    bench.append(&mut lane, &frame(1024, 1), None);
    assert_eq!(bench.pool.free(), 15);
    let (mut bench, mut lane) = (Bench::new(), self::lane(true, 1));
    for _ in 0..4 {
        bench.append(&mut lane, &frame(1016, 1), None);
    }
    assert_eq!(bench.pool.free(), 15);
}

#[test]
fn origins_pass_through_any_number_of_native_lanes() {
    let mut bench = Bench::new();
    let mut first = lane(true, 1);
    let mut other = lane(true, 2);
    for severity in 0..4 {
        bench.append(&mut first, &frame(100, severity), None);
        bench.append(&mut other, &frame(100, severity), None);
    }
    let mut messages = bench.empty(&mut first);
    messages.extend(bench.empty(&mut other));
    for link in 3..6 {
        let mut next = lane(true, link);
        bench.append(&mut next, &frame(9, 9), None);
        for (origin, bytes) in &messages {
            bench.append(&mut next, bytes, Some(*origin));
        }
        bench.append(&mut next, &frame(9, 9), None);
        let all = bench.empty(&mut next);
        assert_eq!(all[1..9], messages[..]);
        assert_eq!((all[0].0.sequence, all[9].0.sequence), (1, 10));
    }
    assert_eq!(bench.pool.free(), 16);
}

#[test]
fn the_short_way_ends_before_the_window_does() {
    let (mut bench, mut lane) = (Bench::new(), lane(false, 1));
    lane.set_message_window(3);
    bench.append(&mut lane, &frame(9, 1), None);
    assert!(lane.append_here(&mut bench.memory, &[], &frame(9, 2)));
    assert!(!lane.append_here(&mut bench.memory, &[], &frame(9, 3)));
    assert!(!lane.message_window_full());
    bench.append(&mut lane, &frame(9, 3), None);
    assert!(lane.message_window_full());
}

#[test]
#[should_panic(expected = "released more often than held")]
fn a_segment_cannot_be_released_without_a_hold() {
    let (mut bench, mut lane) = (Bench::new(), lane(false, 1));
    bench.append(&mut lane, &frame(9, 1), None);
    let range = bench.transmit(&mut lane, false)[0];
    lane.released(range.segment, &mut bench.pool);
}
